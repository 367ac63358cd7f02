"""Environments of packages: what one that is there adds to a job's first line, and how long building one takes.

``python bench/packages.py`` (part of ``make bench``) needs PyPI the first time. Without a server; medians, each beside
a floor that is measured in turn: the same interpreter without an environment, and the builder by itself. Exits 1 where
a limit is passed.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from support.packages import UV, deploy_packaged, packages
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.service.service import Service

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "60"))
BUILDS = 5
ADDED = 3.0  # ms that an environment which is there may add
BUILT = 1.0  # seconds from a lock and a warm cache to numpy and pandas
LINE = "import time\nprint(time.monotonic_ns())\ndef task(config):\n    pass\n"


def first_line(service: Service, api: str) -> float:
    """Return the milliseconds from a job's submission to the first line that its task prints."""
    begin = time.monotonic_ns()
    job = service.submit(api)
    time.sleep(0.05)  # a look at the job would take a core from it
    job.wait(120)
    return (next(int(line) for line in job.logs().splitlines() if line.isdigit()) - begin) / 1e6


def seconds(call: Callable[[], Any]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def locked(folder: Path, *wanted: str) -> list[str]:
    """Return the lines of a lock for this interpreter."""
    (folder / "wanted.in").write_text("\n".join(wanted))
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"]
    command += ["--python", sys.executable, str(folder / "wanted.in")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.replace("\\\n", " ").splitlines()


def cache_hit(service: Service, folder: Path) -> bool:
    lock = locked(folder, "six")
    about = packages(lock)
    deploy_packaged(service, "in-environment", LINE, lock, about)
    first_line(service, "in-environment")  # which builds it
    python = str(service.home / "packages" / about["key"] / "bin" / "python")
    spec = {"name": "without", "kind": "TaskAPI", "definition": {"path": "task.py"}}
    service.deploy_request(DeployRequest(spec=spec, source=LINE, python=python))
    found: dict[str, list[float]] = {"without": [], "in-environment": []}
    for api in found:
        first_line(service, api)
    for _ in range(ROUNDS):
        for api, some in found.items():
            some.append(first_line(service, api))
    floor, there = (statistics.median(some) for some in found.values())
    print(f"first line, the same interpreter as it is   {floor:8.1f} ms")
    print(
        f"first line, an environment that is there    {there:8.1f} ms  {there / floor:.2f} x floor, "
        f"{there - floor:+.2f} ms (at most {ADDED:g})",
        flush=True,
    )
    return there - floor <= ADDED


def build(service: Service, folder: Path, builder: str, lock: list[str], times: int) -> tuple[float, float]:
    """Return the medians of a builder by itself, and of a job's start that builds, in seconds."""
    about = packages(lock, builder=builder)
    deploy_packaged(service, builder, LINE, lock, about)
    (folder / "lock").write_text("\n".join(lock))
    place, alone = service.home / "packages" / about["key"], folder / "alone"
    if builder == "uv":
        commands = [
            [UV, "venv", "--quiet", "--python", sys.executable, str(alone)],
            [UV, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--python", str(alone), "-r"],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", "--without-pip", str(alone)],
            [sys.executable, "-m", "pip", "--quiet", "--python", str(alone), "install", "--require-hashes"],
        ]
        commands[1] += ["--no-deps", "--disable-pip-version-check", "-r"]
    commands[1].append(str(folder / "lock"))
    env = {**os.environ, "PIP_CONSTRAINT": os.devnull, "UV_LINK_MODE": "hardlink"}
    floors, jobs = [], []
    for number in range(times + (builder == "uv")):
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(alone, ignore_errors=True)
        floor = seconds(lambda: [subprocess.run(one, check=True, env=env) for one in commands])
        took = first_line(service, builder) / 1e3
        if number or builder == "pip":  # uv's cache is warm from the second on
            floors.append(floor)
            jobs.append(took)
    facts = json.loads((place / "taskapi.json").read_text())
    print(f"{builder}: {facts['records']} packages, {facts['size'] >> 20} MiB", flush=True)
    return statistics.median(floors), statistics.median(jobs)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="packages-", dir=Path.home()) as name:  # beside uv's cache: hard links
        folder, home = Path(name), Path(name, "home")
        home.mkdir(mode=0o700)
        (home / "config.yaml").write_text("cpus: 2\n")
        os.environ["TASKAPI_HOME"] = str(home)
        with closing(Service(home)) as service:
            good = cache_hit(service, folder)
            lock = locked(folder, "numpy", "pandas")
            found = {}
            for builder, times in (("uv", BUILDS), ("pip", 1)):
                floor, found[builder] = build(service, folder, builder, lock, times)
                print(f"numpy and pandas from a lock, {builder} by itself  {floor:8.2f} s")
                took = found[builder]
                print(
                    f"submit to first line, built by {builder:<12} {took:8.2f} s  {took / floor:.2f} x floor",
                    flush=True,
                )
            good = good and found["uv"] <= BUILT
            print(f"uv: at most {BUILT:g} s; pip takes {found['pip'] / found['uv']:.0f} x as long")
            for api in service.get():
                service.delete(api.name)
            time.sleep(4)  # the supervisor leaves
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
