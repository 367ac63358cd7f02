"""Notifications: ``python bench/notifications.py``. What they cost the jobs that they are about.

500 jobs of ``true`` are submitted at once and end, with no name and with three names of a receiver here, in turns;
meanwhile one job at a time is stopped. Prints jobs a second, the supervisor's CPU time a job, and how long a stop took.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.service.service import Service

JOBS = int(os.environ.get("BENCH_JOBS", "500"))
TURNS = int(os.environ.get("BENCH_TURNS", "3"))


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def command(*words: str) -> dict:
    return {"containers": [{"name": "task", "command": list(words), "compute": {"cpu": "10m"}}]}


def turn(port: int, names: int) -> tuple[float, float, float, float]:
    """Return jobs a second, the supervisor's CPU milliseconds a job, the median stop in milliseconds, and seconds
    until all was sent.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        entries = {f"n{n}": {"url": f"http://127.0.0.1:{port}/{n}"} for n in range(names)}
        (home / "config.yaml").write_text(f"cpus: 8\nstop_grace: 1\nnotify: {json.dumps(entries)}\n")
        service = Service(home)
        for name, words in (("true", ("true",)), ("sleep", ("sleep", "600"))):
            service.deploy_request(DeployRequest(spec={"name": name, "kind": "TaskAPI", "pod": command(*words)}))
        stops: list[float] = []
        over = threading.Event()

        def stop_some() -> None:
            while not over.is_set():
                job = service.submit("sleep", priority=100)
                while job.refresh().status == "pending":
                    time.sleep(0.005)
                begin = time.perf_counter()
                service.stop(job)
                stops.append((time.perf_counter() - begin) * 1000)

        stopping = threading.Thread(target=stop_some)
        stopping.start()
        begin = time.perf_counter()
        group = service.map("true", [{}] * JOBS)
        while group.refresh().counts.keys() & {"pending", "running"}:
            time.sleep(0.02)
        seconds = time.perf_counter() - begin
        over.set()
        stopping.join()
        pid = json.loads((home / "supervisor.lock").read_bytes())["pid"]
        used = psutil.Process(pid).cpu_times()
        while service.store.next_delivery() is not None:
            time.sleep(0.02)
        sent = time.perf_counter() - begin
        assert all(one.state == "sent" for one in service.notifications(limit=1000).deliveries)
        service.close()
        while (home / "wake").exists() and psutil.pid_exists(pid):
            time.sleep(0.1)
        return JOBS / seconds, (used.user + used.system) * 1000 / JOBS, statistics.median(stops), sent


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: dict[int, list[tuple[float, float, float, float]]] = {0: [], 3: []}
    for _ in range(TURNS):
        for names, turns in found.items():
            turns.append(turn(server.server_port, names))
            print(names, " ".join(f"{one:.2f}" for one in turns[-1]), file=sys.stderr, flush=True)
    for names, turns in found.items():
        rate, cpu, stop, sent = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"{names} names: {rate:.1f} jobs/s, supervisor {cpu:.2f} ms a job, stop {stop:.0f} ms, sent {sent:.1f} s")


if __name__ == "__main__":
    main()
