"""From a task's return to its result, and from a printed line to its readers: ``python bench/waits.py``.

Three ways: without a server, through the server whose home is this process's, and through the same server as from
another machine. The floor is a bare interpreter, from its start to its first line. Exits 1 if a limit is exceeded. Part
of ``make bench``.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import websocket
from latency import Server, ms

import taskapi_jupyter
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.service.service import Service

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
LINE, END = 15.0, 20.0  # ms; medians

RETURNS = """
import time
def task(config):
    time.sleep(config["seconds"])
    return time.monotonic_ns()
"""
PRINTS = """
import time
def task(config):
    for _ in range(20):
        time.sleep(0.15)
        print(time.monotonic_ns(), flush=True)
    return time.monotonic_ns()
"""


def floor() -> float:
    begin = time.monotonic_ns()
    with subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        return ms(time.monotonic_ns() - begin)


def streamed(server: Server, job):
    url = f"ws://127.0.0.1:{server.port}/taskapi/local/streamlogs/prints?jobID={job.id}&token={server.token}"
    socket = websocket.create_connection(url, timeout=30, suppress_origin=True)
    while text := socket.recv():
        yield from text.split()


def main() -> int:
    wrong = False
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        try:
            os.environ |= {
                "TASKAPI_HOME": str(server.home),
                "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{server.port}/",
                "JUPYTERHUB_API_TOKEN": server.token,
            }
            url = f"http://127.0.0.1:{server.port}/taskapi/local"
            ways = {
                "without a server": Service(server.home),
                "through it": taskapi_jupyter.connect(),
                "through it, from elsewhere": Client(url, server.token),
            }
            server.deploy("returns", RETURNS.replace("task", "run"))
            server.deploy("prints", PRINTS.replace("task", "run"))
            results, floors = {way: [] for way in ways}, []
            for number, (way, api) in itertools.product(range(ROUNDS), ways.items()):
                job = api.submit("returns", {"seconds": 0.5 + number * 0.07})
                returned = job.result()
                results[way].append(ms(time.monotonic_ns() - returned))
                floors.append(floor())
            least = statistics.median(floors)
            print(f"{'a bare interpreter until its first line (the floor)':<60} {least:6.1f} ms")
            for way, figures in results.items():
                half = statistics.median(figures)
                print(f"{f'return → result, {way}':<60} {half:6.1f} ms  {half / least:.2f} x")
            readers = {way: lambda job: job.logs(follow=True) for way in ways}
            readers["by websocket"] = lambda job: streamed(server, job)
            for way, read in readers.items():
                lines, ends = [], []
                for _ in range(3):
                    job = ways.get(way, ways["through it"]).submit("prints")
                    lines += [ms(time.monotonic_ns() - int(line)) for line in read(job)]
                    now = time.monotonic_ns()
                    ends.append(ms(now - job.result()))
                half, end = statistics.median(lines), statistics.median(ends)
                print(f"{f'a printed line, followed {way}':<60} {half:6.1f} ms  (at most {LINE:.0f})")
                print(f"{f'return → end of the log, followed {way}':<60} {end:6.1f} ms  (at most {END:.0f})")
                wrong |= half > LINE or end > END
        finally:
            server.process.terminate()
            server.process.wait()
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
