"""One trivial task through this package and through what else one would pick, in one run: ``make bench``.

Each way answers in a process of its own (``ways.py``), peers under the interpreter of ``.venv-peers``, which ``make``
sets up; task-spooler is used where it is installed (Debian: ``apt-get install task-spooler``). One round of each way
follows the other; those that take seconds come last. All times are multiples of the floor of the same run:
``Popen([python, "-c", "print(1)"])`` to its first line. Writes the table in docs/speed.md and docs/images/speed.svg;
exits 1 where a limit of ours is passed.
"""

import compileall
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from chart import chart, multiple

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / "bin" / "python"
PAGE, FIGURE = ROOT / "docs" / "speed.md", ROOT / "docs" / "images" / "speed.svg"
BEGIN, END = "<!-- written by bench/peers.py -->\n", "<!-- until here -->\n"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "30"))


class Limits(NamedTuple):
    """Multiples of the floor at most; jobs/s as a multiple of those of xargs at least."""

    first: float
    result: float | None = None
    rate: float | None = None


class Row(NamedTuple):
    """One way; ``less`` is what it does less than this package."""

    name: str
    label: str
    less: str
    jobs: int = 100  # for jobs/s
    is_slow: bool = False
    is_peer: bool = True  # in an environment of its own
    limits: Limits | None = None


ROWS = (
    Row("popen", "bare `Popen`", "no queue, limit, log or record", is_peer=False),
    Row("here", "taskapi_jupyter", "", is_peer=False, limits=Limits(1.5, 2.2, 0.6)),
    Row("there", "taskapi_jupyter, through a server", "", is_peer=False, limits=Limits(1.7, 2.8)),
    Row("warm", "taskapi_jupyter, warm", "", is_peer=False, limits=Limits(0.8, rate=1.3)),
    Row("tsp", "task-spooler", "nothing durable; an exit code for a result", is_peer=False),
    Row("ipyparallel", "ipyparallel", "jobs share processes; nothing durable; no limits", 500),
    Row("submitit", "submitit, `LocalExecutor`", "no queue; polls; no limit but a timeout", 6, is_slow=True),
    Row("papermill", "papermill", "blocks its caller; no queue, no limits", 4, is_slow=True),
    Row("scheduler", "jupyter-scheduler", "whole notebooks; is polled; no limits", 4, is_slow=True),
)


class Way:
    """The process of one way, and its figures in milliseconds."""

    def __init__(self, row: Row, folder: Path) -> None:
        self.row = row
        self.firsts: list[float] = []
        self.results: list[float] = []
        self.backs: list[float] = []
        self.rates: list[float] = []
        self.process = None
        self.missing = "not installed"
        python = str(PEERS) if row.is_peer else sys.executable
        if not Path(python).exists():
            return
        folder.mkdir(mode=0o700)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKAPI_", "JPY_", "JUPYTER"))}
        self.log = Path(f"{folder}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [python, str(ROOT / "bench" / "ways.py"), row.name, str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environ, text=True, bufsize=1,
            )  # fmt: skip
        self.missing = self.answer().get("missing")

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.row.label}: {self.log.read_text()[-2000:]}")
        return json.loads(line)

    def ask(self, what):
        self.process.stdin.write(f"{what}\n")
        return self.answer()

    def once(self):
        begin, first, returned, seen = self.ask("once")
        self.firsts.append((first - begin) / 1e6)
        self.results.append((seen - begin) / 1e6)
        self.backs.append((seen - returned) / 1e6)

    def many(self):
        self.rates.append(self.row.jobs / self.ask(self.row.jobs))

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(60)


def measure() -> list[Way]:
    """Return all ways with their figures."""
    with tempfile.TemporaryDirectory() as folder:
        ways: list[Way] = []
        try:
            for is_slow, rounds, times in ((False, ROUNDS, max(ROUNDS // 10, 1)), (True, max(ROUNDS // 6, 1), 1)):
                begun = [Way(row, Path(folder, row.name)) for row in ROWS if row.is_slow == is_slow]
                ways += begun
                there = [way for way in begun if way.missing is None]
                for _ in range(rounds):
                    for way in there:
                        time.sleep(0.1)  # what the one before has left to do is no part of this one's time
                        way.once()
                for _ in range(times):
                    for way in there:
                        way.many()
        finally:
            for way in ways:
                way.close()
    return ways


def main() -> int:
    compileall.compile_dir(ROOT / "taskapi_jupyter", quiet=1)  # as pip does
    ways = measure()
    floor, xargs = median(ways[0].firsts), median(ways[0].rates)
    lines = [
        "| | first line | result | return to result | jobs/s at two | what it does less |",
        "|---|---|---|---|---|---|",
    ]
    bars, beyond = [], []
    for way in ways:
        label, less, limits = way.row.label, way.row.less, way.row.limits
        if way.missing is not None:
            if way.row.name == "warm":
                continue
            lines.append(f"| {label} | {way.missing} | | | | {less} |")
            continue
        first, result, back = (median(times) / floor for times in (way.firsts, way.results, way.backs))
        rate = median(way.rates) / xargs
        bars.append((label.replace("`", ""), first, result))
        lines.append(f"| {label} | {' | '.join(map(multiple, (first, result, back, rate)))} | {less} |")
        if limits and first > limits.first:
            beyond.append(f"{label}: first line {first:.2f} x, at most {limits.first} x")
        if limits and limits.result and result > limits.result:
            beyond.append(f"{label}: result {result:.2f} x, at most {limits.result} x")
        if limits and limits.rate and rate < limits.rate:
            beyond.append(f"{label}: jobs/s {rate:.2f} x, at least {limits.rate} x")
    lines += ["", f"Medians of {ROUNDS} rounds, Python {platform.python_version()}, {os.cpu_count()} cores. 1 × is"]
    lines.append(f"{floor:.1f} ms, and {xargs:.0f} jobs/s for `xargs -P 2 python -c pass`.")
    print("\n".join([*lines, *(f"TOO MUCH: {one}" for one in beyond)]))
    before, after = PAGE.read_text("utf-8").split(BEGIN)[0], PAGE.read_text("utf-8").split(END)[1]
    PAGE.write_text("\n".join([before + BEGIN, *lines, "", END]) + after, "utf-8")
    FIGURE.write_text(chart(bars), "utf-8")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
