"""Warm starts beside cold ones and a bare interpreter, in turn: ``python bench/warm.py`` (part of ``make bench``).

Without a server; medians. ``BENCH_PYTHON`` names an interpreter that has this package, numpy, pandas and scikit-learn:
then the same with those imported. Exits 1 where a warm start is not below a cold one.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40"))
COUNT = 120
LINE = "import time\nprint(time.monotonic_ns())\ndef run(config):\n    pass\n"
HEAVY = f"import numpy, pandas, sklearn.ensemble, sklearn.linear_model\n{LINE}"


def floor() -> float:
    begin = time.monotonic_ns()
    code = "import time; print(time.monotonic_ns(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        return (int(process.stdout.readline()) - begin) / 1e6


def first_line(service, api: str) -> float:
    begin = time.monotonic_ns()
    job = service.submit(api)
    time.sleep(0.05)  # a look at the job would take a core from it
    job.wait(120)
    return (next(int(line) for line in job.logs().splitlines() if line.isdigit()) - begin) / 1e6


def rate(service, api: str) -> float:
    """Return trivial jobs a second, two at a time, once all are in line."""
    holding = [service.submit("sleeps") for _ in range(2)]
    jobs = [service.submit(api) for _ in range(COUNT)]
    for job in holding:
        service.stop(job)
    for job in jobs:
        job.wait(120)
    ended = [service.get(api, job.id) for job in jobs]
    return COUNT / (max(job.end_time for job in ended) - min(job.start_time for job in ended)).total_seconds()


def xargs() -> float:
    begin = time.monotonic()
    subprocess.run(f"seq {COUNT} | xargs -P 2 -I X {sys.executable} -c pass", shell=True, check=True)
    return COUNT / (time.monotonic() - begin)


def compare(service, apis: dict[str, str], rounds: int) -> dict[str, float]:
    """Print the median time to the first line of some APIs, and of a bare interpreter, measured in turn."""
    found: dict[str, list[float]] = {"python -c": [], **{what: [] for what in apis}}
    for api in apis.values():
        first_line(service, api)
    for _ in range(rounds):
        found["python -c"].append(floor())
        for what, api in apis.items():
            found[what].append(first_line(service, api))
    medians = {what: statistics.median(some) for what, some in found.items()}
    for what, median in medians.items():
        print(f"first line, {what:<34} {median:8.1f} ms  {median / medians['python -c']:.2f} x floor", flush=True)
    return medians


def main() -> int:
    from taskapi_jupyter.deploy.prepare import Source
    from taskapi_jupyter.service.service import Service

    with tempfile.TemporaryDirectory() as name:
        os.environ["TASKAPI_HOME"] = name
        os.chmod(name, 0o700)
        Path(name, "config.yaml").write_text("cpus: 2\n")
        service = Service(Path(name))
        try:
            for api, warm in (("cold", False), ("warm", True)):
                service.deploy(Source(LINE), name=api, warm=warm)
            light = compare(service, {"cold": "cold", "warm": "warm"}, ROUNDS)
            service.deploy(Source("import time\ndef run(config):\n    time.sleep(600)\n"), name="sleeps")
            rates = {"xargs -P 2": xargs(), "cold": rate(service, "cold"), "warm": rate(service, "warm")}
            for what, figure in rates.items():
                print(f"jobs a second, {what:<31} {figure:8.1f} /s  {figure / rates['xargs -P 2']:.2f} x xargs")
            good = light["warm"] < light["cold"] and rates["warm"] > rates["cold"]
            if python := os.environ.get("BENCH_PYTHON"):
                for api, warm in (("heavy-cold", False), ("heavy-warm", True)):
                    service.deploy(Source(HEAVY), name=api, warm=warm, python=python)
                heavy = compare(service, {"cold, heavy": "heavy-cold", "warm, heavy": "heavy-warm"}, 6)
                print(f"heavy imports: {heavy['cold, heavy'] / heavy['warm, heavy']:.0f} x below cold")
                good = good and heavy["warm, heavy"] < heavy["cold, heavy"]
        finally:
            for api in service.get():
                service.delete(api.name)
            time.sleep(4)  # the supervisor leaves
            service.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
