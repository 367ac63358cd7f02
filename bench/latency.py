"""Latencies, each beside its floor from the same run: ``python bench/latency.py`` (part of ``make bench``).

Medians over a few dozen rounds. Exits 1 if a figure exceeds the limit that the project promises.
"""

import compileall
import http.client
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "60"))
HERE = Path(__file__).parent
PYTHON = sys.executable
FIRST_LINE = "import time\nprint(time.monotonic_ns())\ndef run(config):\n    pass\n"
TRIVIAL = "def run(config):\n    pass\n"


class Server:
    """A real Jupyter server with the extension, in a home of its own."""

    def __init__(self, folder: Path, more: Sequence[str] = ("bare",)) -> None:
        self.home = folder / "taskapi"
        self.home.mkdir(mode=0o700)
        (self.home / "config.yaml").write_text("cpus: 2\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(16)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JUPYTER"))},
            "TASKAPI_HOME": str(self.home),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_TOKEN": self.token,
            "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
        }
        extensions = dict.fromkeys(("taskapi_jupyter", *more), True)
        self.process = subprocess.Popen(
            [PYTHON, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}", "--allow-root",
             f"--ServerApp.jpserver_extensions={extensions}", "--ServerApp.log_level=ERROR",
             f"--ServerApp.root_dir={folder}"],
            env=environment,
        )  # fmt: skip
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for _ in range(600):
            try:
                self.ask("GET", "taskapi/environments")
                return
            except OSError:
                self.connection.close()
                time.sleep(0.05)
        raise SystemExit("the server did not start")

    def ask(self, method: str, path: str, body=None):
        data = None if body is None else json.dumps(body)
        self.connection.request(method, "/" + path, data, {"Authorization": f"token {self.token}"})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 204):
            raise SystemExit(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content

    def deploy(self, name: str, source: str) -> None:
        spec = {"name": name, "kind": "TaskAPI", "definition": {"path": f"{name}.py"}}
        environ = {"PATH": os.environ["PATH"]}
        body = {"spec": spec, "source": source, "python": PYTHON, "cwd": "/", "environ": environ}
        self.ask("POST", "taskapi/local/deploy", body)

    def submit(self, name: str) -> str:
        return json.loads(self.ask("POST", f"taskapi/local/tasks/{name}", {}))["job_id"]

    def ended(self, job: str, pause: float = 0.005) -> dict:
        while True:
            status = json.loads(self.ask("GET", f"taskapi/local/jobs/{job}"))["job_status"]
            if "end_time" in status:
                assert status["status"] == "succeeded", status
                return status
            time.sleep(pause)

    def first_line(self, job: str) -> int:
        self.ended(job)
        return int(self.ask("GET", f"taskapi/local/jobs/{job}/log"))

    def supervisor(self) -> int:
        return json.loads((self.home / "supervisor.lock").read_bytes())["pid"]

    def end_supervisor(self) -> None:
        """End the supervisor, which has no jobs, so that the next submission starts one."""
        pid = self.supervisor()
        os.kill(pid, signal.SIGTERM)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)


def ms(nanoseconds: float) -> float:
    return nanoseconds / 1e6


def floor_once() -> float:
    code = "import time; print(time.monotonic_ns(), flush=True)"
    begin = time.monotonic_ns()
    with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE) as process:
        return ms(int(process.stdout.readline()) - begin)


def timed(call) -> float:
    begin = time.monotonic_ns()
    call()
    return ms(time.monotonic_ns() - begin)


def private_kib(pid: int) -> int:
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0])
    return fields["Private_Clean"] + fields["Private_Dirty"]


def pages(folder: Path) -> tuple[float, float]:
    """Return the milliseconds for two pages of 50 jobs in a history of 100 and of 100,000 jobs, measured in turn."""
    from taskapi_jupyter.service.service import Service

    services = []
    for count in (100, 100_000):
        service = Service(folder / str(count))
        with service.store.write() as transaction:
            transaction.executemany(
                "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu, config) "
                "VALUES (?, 'api', 'x', 'x', 'succeeded', ?, ?, 'x', 1000, 0, '{\"lr\": 0.1}')",
                ((f"{(1 << 62) - n:016x}", n, n) for n in range(count)),
            )
        services.append(service)
    costs: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for service, cost in zip(services, costs, strict=True):
            cost.append(timed(lambda: [service.jobs(limit=50), service.jobs("api", "succeeded", limit=50)]))  # noqa: B023
    return statistics.median(costs[0]), statistics.median(costs[1])


def main() -> int:  # noqa: PLR0915
    rows = []
    compileall.compile_dir(HERE.parent / "taskapi_jupyter", quiet=1)  # as pip does: else the first supervisor does it

    def row(what: str, figure: float, unit: str, against: str, limit: float | None) -> None:
        rows.append(limit is None or figure <= limit)
        verdict = "" if limit is None else f"  (at most {limit:.4g})" + ("" if rows[-1] else "  TOO MUCH")
        print(f"{what:<46} {figure:8.2f} {unit:<5} {against}{verdict}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        try:
            server.deploy("first", FIRST_LINE)
            server.deploy("trivial", TRIVIAL)
            firsts_of_all = []
            for _ in range(9):  # each time a supervisor has to be started
                begin = time.monotonic_ns()
                job = server.submit("first")
                time.sleep(0.3)
                firsts_of_all.append(ms(server.first_line(job) - begin))
                server.end_supervisor()
            server.first_line(server.submit("first"))
            floors, lines, posts, bares = [], [], [], []
            for _ in range(ROUNDS):
                floors.append(floor_once())
                begin = time.monotonic_ns()
                job = server.submit("first")
                posts.append(ms(time.monotonic_ns() - begin))
                time.sleep(0.1)  # polling would take a core from the job
                lines.append(ms(server.first_line(job) - begin))
                bares.append(timed(lambda: server.ask("POST", "bare", {})))
            floor, line = statistics.median(floors), statistics.median(lines)
            post, bare = statistics.median(posts), statistics.median(bares)
            row("Popen to first line (the floor)", floor, "ms", "", None)
            row("POST to first line", line, "ms", f"{line / floor:.2f} x floor", 2 * floor + 2)
            first_of_all = statistics.median(firsts_of_all)
            row("first job of all to first line", first_of_all, "ms", f"{first_of_all / floor:.1f} x", 12 * floor)
            row("bare authenticated handler, POST", bare, "ms", "", None)
            row("our POST beyond that", post - bare, "ms", f"{post:.2f} ms in all", 5)

            count = 200
            begin = time.monotonic()
            subprocess.run(f"seq {count} | xargs -P 2 -I X {PYTHON} -c pass", shell=True, check=True)
            xargs = count / (time.monotonic() - begin)
            server.deploy("sleeps", "import time\ndef run(config):\n    time.sleep(600)\n")
            holding = [server.submit("sleeps") for _ in range(2)]  # they hold the cores until all jobs are queued
            ids = [server.submit("trivial") for _ in range(count)]
            for job in holding:
                server.ask("DELETE", f"taskapi/local/tasks/sleeps?jobID={job}")
            server.ended(ids[-1], pause=0.1)  # polling costs the jobs a core
            last = [server.ended(job) for job in ids]
            seconds = max(_s(one["end_time"]) for one in last) - min(_s(one["start_time"]) for one in last)
            rate = count / seconds
            row("xargs -P 2 python -c pass", xargs, "/s", "", None)
            row(f"{count} trivial jobs, two at a time", rate, "/s", f"{rate / xargs:.2f} x xargs (at least 0.5)", None)
            rows.append(rate / xargs >= 0.5)

            folders = [server.home / "jobs" / job for job in ids]
            sizes = [sum(one.lstat().st_blocks for one in (at, *at.rglob("*"))) / 2 for at in folders]
            row("a job's folder on disk", statistics.median(sizes), "KiB", "", 12)

            job = server.submit("sleeps")
            while not (claim := server.home / "jobs" / job / "claim").exists():
                time.sleep(0.01)
            time.sleep(1)
            watcher = private_kib(json.loads(claim.read_bytes())["pid"])
            row("a watcher's own memory", watcher / 1024, "MiB", "", 3)
            row("the supervisor's own memory", private_kib(server.supervisor()) / 1024, "MiB", "", None)
            server.ask("DELETE", f"taskapi/local/tasks/sleeps?jobID={job}")
            pid = server.supervisor()
            begin = time.monotonic()
            while Path(f"/proc/{pid}").exists() and time.monotonic() < begin + 30:
                time.sleep(0.05)
            row("until no process is left when idle", time.monotonic() - begin, "s", "", 10)
        finally:
            server.process.terminate()
            server.process.wait()
        small, large = pages(folder)
        row("two pages of 50 at 100 jobs", small, "ms", "", None)
        row("the same at 100,000 jobs", large, "ms", f"{large / small:.2f} x", 1.5 * small)
    return 0 if all(rows) else 1


def _s(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    sys.exit(main())
