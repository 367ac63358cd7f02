"""The same trivial function through this package and its peers, in one run: ``python bench/peers.py``.

Medians of the time from submission to the task's first line, and until the caller has its result. A peer that is not
installed is skipped: ``pip install submitit``.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))


def stamp(config=None):
    import time

    return time.monotonic_ns()


def bare(folder):
    def once():
        code = "import time; print(time.monotonic_ns(), flush=True)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            return int(process.stdout.readline())

    return once


def ours(folder):
    from taskapi_jupyter.service.service import Service

    service = Service(os.path.join(folder, "taskapi"))
    service.deploy({"name": "stamp", "definition": {"path": "stamp.py"}}, cwd=folder)

    def once():
        job = service.submit("stamp")
        while not job.ended:
            time.sleep(0.002)
            job.refresh()
        return job.result()

    return once


def submitit(folder):
    import submitit as peer

    executor = peer.LocalExecutor(folder=os.path.join(folder, "submitit"))
    executor.update_parameters(timeout_min=5)
    return lambda: executor.submit(stamp).result()


def main():
    print(f"{'':<28}{'first line':>12}{'result':>12}   (medians of {ROUNDS})")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "stamp.py"), "w") as file:
            file.write("import time\ndef run(config):\n    return time.monotonic_ns()\n")
        for name, prepare in (("bare Popen", bare), ("taskapi_jupyter", ours), ("submitit LocalExecutor", submitit)):
            try:
                once = prepare(folder)
            except ImportError as error:
                print(f"{name:<28}{error}")
                continue
            once()
            first, result = [], []
            for _ in range(ROUNDS):
                begin = time.monotonic_ns()
                first.append((once() - begin) / 1e6)
                result.append((time.monotonic_ns() - begin) / 1e6)
            print(f"{name:<28}{statistics.median(first):>9.1f} ms{statistics.median(result):>9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
