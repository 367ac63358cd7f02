"""Many at once, in small; ``bench/load.py`` has thousands."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import websocket

from support import PATIENCE, request_for, until
from support.servers import LiveServer
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.service.service import Service

TALKS = """
def task(config):
    for number in range(config["lines"]):
        print(number, flush=True)
"""

SUBMITS = """
import sys, time
from taskapi_jupyter import connect
api, share = connect(), int(sys.argv[2])
print("ready", flush=True)
input()
for _ in range(share):
    begin = time.monotonic_ns()
    job = api.submit(sys.argv[1], {"lines": 20})
    print(begin, time.monotonic_ns(), job.id, flush=True)
"""

PROCESSES, SHARE = 4, 12


def submitting(server: LiveServer, name: str, through_http: bool) -> subprocess.Popen[str]:
    there = {"TASKAPI_URL": server.url, "TASKAPI_TOKEN": server.token} if through_http else {}
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("TASKAPI_", "JPY_"))}
    return subprocess.Popen(
        [sys.executable, "-c", SUBMITS, name, str(SHARE)],
        env={**environ, **there, "TASKAPI_HOME": str(server.home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_submit_while_clients_watch(live_server: LiveServer, name: str) -> None:
    service = Service(live_server.home)
    service.deploy_request(request_for(name, TALKS, compute={"cpu": "100m"}))
    submitters = [submitting(live_server, name, through_http=bool(number % 2)) for number in range(PROCESSES)]
    ids: list[str] = []
    over, errors, logs = threading.Event(), [], {}

    def watch(number: int) -> None:
        api = Client(live_server.taskapi, token=live_server.token)
        try:
            while not over.is_set():
                page = api.jobs(name, limit=10)
                for job in page[number : number + 1]:
                    assert api.get(name, job.id).id == job.id
        except Exception as error:
            errors.append(error)

    def follow(number: int) -> None:
        try:
            until(lambda: over.is_set() or len(ids) > number, "a job to follow")
            url = f"ws{live_server.taskapi.removeprefix('http')}/streamlogs/{name}?jobID={ids[number]}"
            socket = websocket.create_connection(url, timeout=PATIENCE, header=live_server.auth, suppress_origin=True)
            heard = b""
            while (frame := socket.recv_data())[0] != websocket.ABNF.OPCODE_CLOSE:
                heard += frame[1]
            logs[number] = (heard, frame[1][:2])
            socket.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=act, args=(number,)) for act in (watch, follow) for number in range(4)]
    for submitter in submitters:
        assert submitter.stdout is not None
        assert submitter.stdout.readline() == "ready\n"
    for thread in threads:
        thread.start()
    for submitter in submitters:
        assert submitter.stdin is not None
        submitter.stdin.write("\n")
        submitter.stdin.flush()

    submitted: list[tuple[int, int, str]] = []

    def read(submitter: subprocess.Popen[str]) -> None:
        for line in submitter.stdout or ():
            begin, end, job = line.split()
            submitted.append((int(begin), int(end), job))
            ids.append(job)

    readers = [threading.Thread(target=read, args=(submitter,)) for submitter in submitters]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    for submitter in submitters:
        submitter.communicate()
        assert submitter.returncode == 0
    assert len(set(ids)) == PROCESSES * SHARE

    until(lambda: not service.jobs(name, ["pending", "running"]), "all jobs to end")
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    jobs = {job.id: job for job in service.jobs(name, limit=1000)}
    assert {job.status for job in jobs.values()} == {"succeeded"}
    assert set(jobs) == set(ids)
    assert logs == {number: ("".join(f"{one}\n" for one in range(20)).encode(), b"\x03\xe8") for number in range(4)}
    # Who was acknowledged before another began to submit has started before it.
    starts = {job: jobs[job].record.start_time for job in ids}
    assert not [
        (first, second)
        for _, end, first in submitted
        for begin, _, second in submitted
        if end < begin and starts[first] > starts[second]
    ]
    service.close()


async def test_reading_goes_on_while_submissions_wait_for_another_process(
    call: Any, home: Path, name: str, service: Service
) -> None:
    service.deploy_request(request_for(name, TALKS))
    count = 8  # the tests' client has ten connections
    with closing(sqlite3.connect(home / "taskapi.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            asyncio.create_task(call("POST", f"local/tasks/{name}", {"config": {"lines": 1}})) for _ in range(count)
        ]
        for path in ("jobs", "get", f"get/{name}"):
            assert (await asyncio.wait_for(call("GET", f"local/{path}"), PATIENCE / 2)).status == 200
        assert not any(task.done() for task in waiting)
        other.execute("ROLLBACK")
    answers = await asyncio.gather(*waiting)
    assert [answer.status for answer in answers] == [200] * count
    assert len({answer.json["job_id"] for answer in answers}) == count
