"""``Executor`` beside ``ProcessPoolExecutor``, with calls that do nothing and calls of a second.

``python bench/executor.py`` prints the figures. Both have two workers' worth of cores, and are measured one after the
other, in turns. A job is a cold Python, a worker of the pool goes on: the ratio says for how short calls the pool is
the better tool. Part of ``make bench``.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

from taskapi_jupyter import Executor
from taskapi_jupyter.service.service import Service

CALLS, ROUNDS = 40, int(os.environ.get("BENCH_ROUNDS", "3"))
SECOND = 6  # calls of a second


def measure(executor: futures.Executor) -> tuple[float, float, float]:
    """Return the seconds that a first call takes, one of many that do nothing, and some of a second."""
    with executor:
        began = time.perf_counter()
        executor.submit(os.getpid).result()
        first = time.perf_counter() - began
        began = time.perf_counter()
        assert len(list(executor.map(abs, range(CALLS)))) == CALLS
        each = (time.perf_counter() - began) / CALLS
        began = time.perf_counter()
        list(executor.map(time.sleep, [1] * SECOND))
        return first, each, time.perf_counter() - began


def floor() -> float:
    """Return the milliseconds that a Python takes to start and to import what a pickled function needs."""
    began = time.perf_counter()
    for _ in range(10):
        subprocess.run([sys.executable, "-c", "import cloudpickle"], check=True)
    return (time.perf_counter() - began) * 100


def main() -> int:
    home = Path(tempfile.mkdtemp(prefix="executor-"))
    (home / "config.yaml").write_text("cpus: 2\n")
    service = Service(home)
    print(f"a Python that imports cloudpickle: {floor():.0f} ms, one at a time")
    rounds = [(measure(Executor(service)), measure(futures.ProcessPoolExecutor(2))) for _ in range(ROUNDS)]
    service.close()
    ours, pools = (
        [statistics.median(one[which][number] for one in rounds) for number in range(3)] for which in range(2)
    )
    shutil.rmtree(home, ignore_errors=True)
    for what, mine, its in zip(
        ("first call", "call that does nothing", f"{SECOND} calls of 1 s"), ours, pools, strict=True
    ):
        print(f"{what}: {mine * 1e3:.1f} ms; ProcessPoolExecutor(2) {its * 1e3:.2f} ms: {mine / its:.1f} times that")
    return 0 if ours[2] < 1.5 * pools[2] else 1


if __name__ == "__main__":
    sys.exit(main())
