"""Load: ``python bench/load.py`` (part of ``make bench``).

8 processes submit 5,000 jobs in parallel, through the Service, then over HTTP, and then over HTTP while 64 clients poll
and follow logs and 200 jobs run at a time. Exits 1 if there was an error, if a job started out of order, if the
server's memory grew, or if one callback blocked the event loop for longer than promised.
"""

import bisect
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import websocket
from latency import Server

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.service.service import Service

JOBS = int(os.environ.get("BENCH_JOBS", "5000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "30"))
SUBMITTERS = 8
CLIENTS = {"get job": 16, "jobs list": 16, "log route": 12, "log websocket": 12, "events": 8}
AT_ONCE = 200  # running jobs
PAUSE = float(os.environ.get("BENCH_PAUSE", "1"))  # seconds between two requests of a client
BLOCKED = 50.0  # ms that one callback may take
PLAIN = 300.0  # submissions a second over HTTP, at least
GROWTH = 8.0  # MiB of the server's memory

TRIVIAL = """
import os, time
def run(config):
    while not os.path.exists(GO):  # the first jobs hold the cores until all are queued
        time.sleep(0.05)
"""
TALKS = """
import os, random, time
def run(config):
    end = time.monotonic() + random.uniform(5, 15)
    while time.monotonic() < end or not os.path.exists(GO):
        print("x" * 80, flush=True)
        time.sleep(0.2)
"""

spawn = multiprocessing.get_context("spawn")
failures: list[str] = []


def say(what: str, text: str, holds: bool = True) -> None:
    print(f"{what:<34} {text}{'' if holds else '   TOO MUCH'}", flush=True)
    if not holds:
        failures.append(what)


# What runs in other processes


def submit_here(home: str, count: int, barrier: Any, results: Any) -> None:
    service = Service(home)
    submit_all(lambda: service.submit("work").id, count, barrier, results)


def submit_there(port: int, token: str, count: int, barrier: Any, results: Any) -> None:
    ask = asker(port, token)
    submit_all(lambda: json.loads(ask("POST", "tasks/work", b"{}"))["job_id"], count, barrier, results)


def submit_all(submit: Callable[[], str], count: int, barrier: Any, results: Any) -> None:
    """Submit; report ``(begin, end, id)`` of each job, in nanoseconds of a clock that all processes share."""
    submitted, errors = [], []
    barrier.wait()
    for _ in range(count):
        begin = time.monotonic_ns()
        try:
            job = submit()
            submitted.append((begin, time.monotonic_ns(), job))
        except Exception as error:
            errors.append(f"submit: {type(error).__name__}: {error}")
    results.put((submitted, errors))


def asker(port: int, token: str) -> Callable[..., bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(method: str, path: str, body: bytes | None = None) -> bytes:
        connection.request(method, f"/taskapi/local/{path}", body, {"Authorization": f"token {token}"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    return ask


class Client:
    """A client that polls or listens, in a thread; ``took`` is in milliseconds."""

    def __init__(self, kind: str, port: int, token: str, over: Any) -> None:
        self.kind, self.port, self.token, self.over = kind, port, token, over
        self.took: list[float] = []
        self.heard = 0
        self.errors: list[str] = []

    def run(self) -> None:
        self.ask = asker(self.port, self.token)
        try:
            {
                "get job": self.poll_job,
                "jobs list": self.poll_list,
                "log route": self.poll_log,
                "log websocket": self.follow_log,
                "events": self.hear_events,
            }[self.kind]()
        except Exception as error:
            self.errors.append(f"{self.kind}: {type(error).__name__}: {error}")

    def timed(self, path: str) -> bytes:
        begin = time.monotonic_ns()
        content = self.ask("GET", path)
        self.took.append((time.monotonic_ns() - begin) / 1e6)
        return content

    def a_running_job(self) -> str:
        while not self.over.is_set():
            jobs = json.loads(self.timed("jobs?status=running&limit=200"))["jobs"]
            if jobs:
                return str(jobs[hash(threading.get_ident()) % len(jobs)]["job_id"])
            time.sleep(PAUSE)
        return ""

    def poll_job(self) -> None:
        job = ""
        while not self.over.is_set():
            job = job or self.a_running_job()
            if job and "end_time" in json.loads(self.timed(f"jobs/{job}"))["job_status"]:
                job = ""
            time.sleep(PAUSE)

    def poll_list(self) -> None:
        cursor = ""
        while not self.over.is_set():
            page = json.loads(self.timed(f"jobs?limit=100{cursor and f'&cursor={cursor}'}"))
            cursor = page["next_cursor"] or ""
            time.sleep(PAUSE)

    def poll_log(self) -> None:
        job, offset = "", 0
        while not self.over.is_set():
            if not job:
                job, offset = self.a_running_job(), 0
            elif data := self.timed(f"jobs/{job}/log?offset={offset}"):
                offset += len(data)
                self.heard += len(data)
            elif "end_time" in json.loads(self.timed(f"jobs/{job}"))["job_status"]:
                job = ""
            time.sleep(PAUSE)

    def connect(self, path: str) -> websocket.WebSocket:
        url = f"ws://127.0.0.1:{self.port}/{path}{'&' if '?' in path else '?'}token={self.token}"
        return websocket.create_connection(url, timeout=5, suppress_origin=True)

    def follow_log(self) -> None:
        while not self.over.is_set() and (job := self.a_running_job()):
            socket = self.connect(f"taskapi/local/streamlogs/work?jobID={job}")
            while not self.over.is_set():
                try:
                    opcode, data = socket.recv_data()
                except websocket.WebSocketTimeoutException:
                    continue
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    if data[:2] != b"\x03\xe8":
                        self.errors.append(f"{self.kind}: closed with {data!r}")
                    break
                self.heard += len(data)
            socket.close()

    def hear_events(self) -> None:
        socket = self.connect("api/events/subscribe")
        while not self.over.is_set():
            try:
                self.heard += bool(socket.recv())
            except websocket.WebSocketTimeoutException:
                continue
        socket.close()


def watch(kinds: list[str], port: int, token: str, over: Any, results: Any) -> None:
    clients = [Client(kind, port, token, over) for kind in kinds]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put([(one.kind, one.took, one.heard, one.errors) for one in clients])


# What is checked


def out_of_order(submitted: list[tuple[int, int, str]], starts: dict[str, str]) -> int:
    """Count the jobs that started before another whose submission was confirmed before theirs began."""
    never = "~"  # after every start
    by_end = sorted((end, starts.get(job, never)) for _, end, job in submitted)
    latest, ends = [], []
    for end, start in by_end:
        latest.append(max(start, latest[-1] if latest else ""))
        ends.append(end)
    count = 0
    for begin, _, job in submitted:
        before = bisect.bisect_left(ends, begin)
        count += bool(before and latest[before - 1] > starts.get(job, never))
    return count


def gather(processes: list[Any], results: Any) -> list[Any]:
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def submit_in_parallel(target: Callable[..., None], *arguments: Any) -> tuple[list[tuple[int, int, str]], list[str]]:
    barrier, results = spawn.Barrier(SUBMITTERS), spawn.Queue()
    share = JOBS // SUBMITTERS
    processes = [spawn.Process(target=target, args=(*arguments, share, barrier, results)) for _ in range(SUBMITTERS)]
    for process in processes:
        process.start()
    found = gather(processes, results)
    return [one for submitted, _ in found for one in submitted], [error for _, errors in found for error in errors]


def rss(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / (1 << 20)


def quantiles(took: list[float]) -> str:
    took = sorted(took)
    return f"p50 {statistics.median(took):.1f} ms, p99 {took[int(len(took) * 0.99)]:.1f} ms, longest {took[-1]:.1f} ms"


def judge(what: str, submitted: list[tuple[int, int, str]], errors: list[str], starts: dict[str, str]) -> None:
    seconds = (max(end for _, end, _ in submitted) - min(begin for begin, _, _ in submitted)) / 1e9
    say(f"{what}: submitted", f"{len(submitted)} in {seconds:.1f} s ({len(submitted) / seconds:.0f}/s)")
    say(f"{what}: a submission", quantiles([(end - begin) / 1e6 for begin, end, _ in submitted]))
    complain(what, errors)
    wrong = out_of_order(submitted, starts)
    say(f"{what}: out of order", f"{wrong} of {len(starts)} that started", not wrong)
    ids = len({job for _, _, job in submitted})
    say(f"{what}: ids", f"{ids} for {len(submitted)} jobs", ids == len(submitted))


def complain(what: str, errors: list[str]) -> None:
    say(f"{what}: errors", str(len(errors)), not errors)
    for error, count in Counter(errors).most_common(5):
        print(f"    {count} x {error}")


def started(service: Service) -> dict[str, str]:
    found, cursor = {}, None
    while True:
        page = service.jobs(limit=1000, cursor=cursor)
        found.update({job.id: job.record.start_time for job in page if job.record.start_time})
        cursor = page.next_cursor
        if cursor is None:
            return found


def here(folder: Path) -> None:
    """Submit through the Service, and wait until all have run."""
    home = folder / "here"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("cpus: 2\n")
    service = Service(home)
    deploy(service, TRIVIAL, "1")
    submitted, errors = submit_in_parallel(submit_here, str(home))
    go(service)
    pid = json.loads((home / "supervisor.lock").read_bytes())["pid"]
    rates, memory = [], [rss(pid)]
    left, moment = service.in_progress(), time.monotonic()
    quarter = max(left // 4, 1)
    while left:
        time.sleep(0.2)
        now = service.in_progress()
        if left - now >= quarter or not now:
            rates.append((left - now) / (time.monotonic() - moment))
            left, moment = now, time.monotonic()
            if now:
                memory.append(rss(pid))
    judge("Service", submitted, errors, started(service))
    ended = Counter(job.status for job in all_jobs(service))
    say("Service: ended", str({str(status): count for status, count in ended.items()}), set(ended) == {"succeeded"})
    slower = rates[0] / max(rates)
    say(
        "supervisor: jobs/s by quarters",
        " ".join(f"{rate:.0f}" for rate in rates) + f"; the first of the best {slower:.2f} (at least 0.7)",
        slower >= 0.7,
    )
    growth = memory[-1] - memory[0]
    say("supervisor: memory by quarters", " ".join(f"{one:.1f}" for one in memory) + " MiB", growth <= GROWTH)
    service.close()


def all_jobs(service: Service) -> list[Any]:
    found, cursor = [], None
    while True:
        page = service.jobs(limit=1000, cursor=cursor)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found


def deploy(service: Service, source: str, cpu: str) -> None:
    spec = {
        "name": "work",
        "kind": "TaskAPI",
        "definition": {"path": "work.py"},
        "compute": {"cpu": cpu},
    }
    source = f"GO = {str(service.home / 'go')!r}\n{source}"
    service.deploy_request(DeployRequest(spec=spec, source=source, python=sys.executable, cwd="/"))


def go(service: Service) -> None:
    say("in line", str(service.in_progress()))
    (service.home / "go").touch()


def probe(server: Server, when: str) -> None:
    figures = json.loads(server.ask("GET", "probe"))
    late, own, callback = figures["late"], figures["own"], figures["callback"]
    say(
        f"loop, {when}",
        f"5 ms late by {late['longest']:.1f} ms at most (p99 {late['p99']:.1f}), without waiting for a core "
        f"{own['longest']:.1f} (p99 {own['p99']:.1f}); the longest callback computed {callback['longest']:.1f} ms",
        callback["longest"] <= BLOCKED,
    )


def alone(folder: Path) -> None:
    """Submit over HTTP while nobody watches and all jobs but two wait in line."""
    (folder / "alone").mkdir()
    server = Server(folder / "alone")
    service = Service(server.home)
    try:
        deploy(service, TRIVIAL, "1")
        submitted, errors = submit_in_parallel(submit_there, server.port, server.token)
        seconds = (max(end for _, end, _ in submitted) - min(begin for begin, _, _ in submitted)) / 1e9
        rate = len(submitted) / seconds
        say("HTTP, nobody watching: submitted", f"{rate:.0f}/s (at least {PLAIN:.0f})", rate >= PLAIN)
        complain("HTTP, nobody watching", errors)
        service.delete("work")
    finally:
        service.close()
        server.process.terminate()
        server.process.wait()


def there(folder: Path) -> None:
    """Submit over HTTP while clients poll and listen, and let them go on."""
    server = Server(folder, more=["probe"])
    service = Service(server.home)
    try:
        deploy(service, TALKS, f"{2000 // AT_ONCE}m")
        memory = {"start": rss(server.process.pid)}
        server.ask("GET", "probe")
        time.sleep(5)
        probe(server, "nobody asking")
        over, results = spawn.Event(), spawn.Queue()
        kinds = [kind for kind, count in CLIENTS.items() for _ in range(count)]
        clients = [
            spawn.Process(target=watch, args=(kinds[number::4], server.port, server.token, over, results))
            for number in range(4)
        ]
        for client in clients:
            client.start()
        time.sleep(3)
        server.ask("GET", "probe")
        submitted, errors = submit_in_parallel(submit_there, server.port, server.token)
        probe(server, "8 submitting, 64 watching")
        memory["all submitted"] = rss(server.process.pid)
        go(service)
        running = []
        for part in range(3):
            time.sleep(SECONDS / 3)
            running.append(service.store._one("SELECT count(*) FROM jobs WHERE status = 'running'")[0])
            memory[f"after {SECONDS / 3 * (part + 1):.0f} s"] = rss(server.process.pid)
        probe(server, f"64 watching {min(running)} to {max(running)} jobs")
        over.set()
        found = [one for client in gather(clients, results) for one in client]
        for kind, count in CLIENTS.items():
            took = [ms for one in found if one[0] == kind for ms in one[1]]
            heard = sum(one[2] for one in found if one[0] == kind)
            say(f"{kind} ({count})", (f"{len(took)}: {quantiles(took)}" if took else f"{heard} heard"))
        errors += [error for one in found for error in one[3]]
        judge("HTTP", submitted, errors, started(service))
        begin = time.monotonic()
        server.ask("DELETE", "taskapi/local/delete/work")
        say("DELETE with all these in progress", f"{time.monotonic() - begin:.1f} s")
        memory["all stopped"] = rss(server.process.pid)
        growth = memory["all stopped"] - memory["all submitted"]
        say(
            "server's memory", ", ".join(f"{when} {mib:.1f}" for when, mib in memory.items()) + " MiB", growth <= GROWTH
        )
        probe(server, "while all stopped")
        say("ended", str(dict(Counter(str(job.status) for job in all_jobs(service)))))
    finally:
        service.close()
        server.process.terminate()
        server.process.wait()


def main() -> int:
    which = sys.argv[1:] or ["here", "alone", "there"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "here" in which:
            here(folder)
        if "alone" in which:
            alone(folder)
        if "there" in which:
            there(folder)
    print(f"over a limit: {', '.join(failures)}" if failures else "all within limits")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
