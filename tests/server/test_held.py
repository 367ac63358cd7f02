"""Answers that wait for a change: of a job, of its progress, of a list, of a log."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from tornado.httpclient import AsyncHTTPClient
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

from support import PATIENCE, WAITING, request_for, until
from support.routes import deploy, ended, is_error, status, submit, waiting
from support.servers import Answer, LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.waiting import jobs as waiting_for

Call = Callable[..., Awaitable[Answer]]

VERSION = "X-Taskapi-Version"
STEPS = """
import pathlib, time
from taskapi_jupyter.job import progress

def task(config):
    for step in range(3):
        while not pathlib.Path(config["path"], str(step)).exists():
            time.sleep(0.01)
        progress(step, 3)
        print("step", step, flush=True)
"""


@pytest.fixture
def changes(jp_serverapp: Any, home: Path) -> Any:
    """Return what wakes requests to the local environment."""
    return jp_serverapp.web_app.settings["taskapi_jupyter"].backends.changes[home]


async def held(changes: Any, count: int = 1) -> None:
    """Wait until so many requests are held."""
    deadline = time.monotonic() + PATIENCE
    while changes.waiting != count:
        assert time.monotonic() < deadline, changes.waiting
        await asyncio.sleep(0.01)


async def soon(answer: Awaitable[Answer]) -> Answer:
    """Return an answer that must come long before its ``wait`` is over."""
    return await asyncio.wait_for(answer, PATIENCE)


async def test_a_job_is_answered_when_it_ends(call: Call, changes: Any, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    now = await call("GET", f"local/jobs/{job_id}")
    answer = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}?wait=60&since={now.headers[VERSION]}"))
    await held(changes)
    assert not answer.done()
    (tmp_path / "go").touch()
    then = await soon(answer)
    assert then.json["job_status"]["status"] == "succeeded"
    assert then.headers[VERSION] != now.headers[VERSION]
    same = await soon(call("GET", f"local/jobs/{job_id}?wait=60&since={then.headers[VERSION]}"))
    assert (same.json, same.headers[VERSION]) == (then.json, then.headers[VERSION])  # at once: it has ended
    await held(changes, 0)


async def test_progress_and_output_are_changes(call: Call, changes: Any, tmp_path: Path) -> None:
    await deploy(call, "steps", STEPS)
    job_id = await submit(call, {"config": {"path": str(tmp_path)}}, "steps")
    offset = 0
    for step in range(3):
        job = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}?wait=60"))
        log = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}/log?wait=60&offset={offset}"))
        await held(changes, 2)
        (tmp_path / str(step)).touch()
        while "progress" not in (now := (await soon(job)).json["job_status"]) or now["progress"]["done"] != step:
            job = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}?wait=60"))
        assert (await soon(log)).body == f"step {step}\n".encode()
        offset = int((await log).headers["X-Log-Next"])
    await ended(call, job_id)
    end = await soon(call("GET", f"local/jobs/{job_id}/log?wait=60&offset={offset}"))
    assert (end.body, end.headers["X-Log-Ended"]) == (b"", "true")
    assert "X-Log-Ended" not in (await call("GET", f"local/jobs/{job_id}/log?wait=60&limit=1")).headers


async def test_a_list_is_answered_when_it_changes(call: Call, changes: Any) -> None:
    await deploy(call)
    await deploy(call, "other")
    now = await call("GET", "local/jobs?api=hello")
    answer = asyncio.ensure_future(call("GET", f"local/jobs?api=hello&wait=60&since={now.headers[VERSION]}"))
    await held(changes)
    await ended(call, await submit(call, name="other"))
    assert not answer.done()  # nothing in it has changed
    job_id = await submit(call)
    assert [job["job_id"] for job in (await soon(answer)).json["jobs"]] == [job_id]


async def test_a_place_in_line_is_part_of_a_job(call: Call, changes: Any, tmp_path: Path) -> None:
    await deploy(call, "waiting", WAITING, compute={"cpu": os.cpu_count()})
    first, second, third = [await submit(call, {"config": {"path": str(tmp_path / "go")}}, "waiting") for _ in range(3)]
    await status(call, first, lambda job: job["status"] == "running")
    await status(call, third, lambda job: "2nd in line" in job["reason"])
    answer = asyncio.ensure_future(call("GET", f"local/jobs/{third}?wait=60"))
    await held(changes)
    await call("DELETE", f"local/tasks/waiting?jobID={second}")
    assert "1st in line" in (await soon(answer)).json["job_status"]["reason"]


@pytest.mark.parametrize("path", ["jobs", "jobs/{}", "jobs/{}/log"])
async def test_what_does_not_change_is_answered_in_time(call: Call, tmp_path: Path, path: str) -> None:
    job_id = await waiting(call, tmp_path)
    path = f"local/{path.format(job_id)}"
    now = await call("GET", path)
    offset = now.headers.get("X-Log-Next", 0)
    then = await soon(call("GET", f"{path}?wait=0.2&offset={offset}&since={now.headers.get(VERSION, 'x')}"))
    assert then.status == 200
    assert then.headers.get(VERSION) == now.headers.get(VERSION)
    assert (await soon(call("GET", f"{path}?wait=60&since=another&offset=0"))).body == now.body  # it is another one


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "wait=nan", "wait=", "wait=1&since="])
async def test_bad_waits(call: Call, tmp_path: Path, query: str) -> None:
    job_id = await waiting(call, tmp_path)
    for path in ("jobs", f"jobs/{job_id}"):
        is_error(await call("GET", f"local/{path}?{query}"), "error")


@pytest.mark.parametrize("job_id", ["0123456789abcdef", "..", "%2e%2e", "x" * 200])
async def test_a_job_that_is_not_there_is_not_waited_for(call: Call, changes: Any, job_id: str) -> None:
    for path in (f"jobs/{job_id}", f"jobs/{job_id}/log"):
        assert (await soon(call("GET", f"local/{path}?wait=60"))).status == 404
    assert changes.waiting == 0


async def test_a_job_that_is_deleted_meanwhile(call: Call, changes: Any, tmp_path: Path) -> None:
    await deploy(call, "steps", STEPS)
    job_id = await submit(call, {"config": {"path": str(tmp_path)}}, "steps")
    log = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}/log?wait=60&offset=0"))
    await held(changes)
    await call("DELETE", f"local/tasks/steps?jobID={job_id}")
    assert (await soon(log)).status == 200
    await call("DELETE", f"local/jobs/{job_id}")
    assert (await soon(call("GET", f"local/jobs/{job_id}?wait=60"))).status == 404


async def test_hundreds_are_held_without_a_thread_each(
    call: Call, changes: Any, tmp_path: Path, jp_http_port: int, jp_base_url: str, jp_auth_header: Any
) -> None:
    job_id = await waiting(call, tmp_path)
    client = AsyncHTTPClient(force_instance=True, max_clients=300)
    url = f"http://localhost:{jp_http_port}{jp_base_url}taskapi/local/jobs/{job_id}?wait=60"
    await call("GET", f"local/jobs/{job_id}")
    threads = threading.active_count()
    answers = [asyncio.ensure_future(client.fetch(url, headers=jp_auth_header, request_timeout=60)) for _ in range(300)]
    await held(changes, 300)
    assert threading.active_count() < threads + 30
    assert (await soon(call("GET", f"local/jobs/{job_id}"))).status == 200
    (tmp_path / "go").touch()
    for answer in asyncio.as_completed(answers, timeout=PATIENCE):
        assert b'"succeeded"' in (await answer).body
    await held(changes, 0)


async def test_a_client_that_goes_is_not_held_for(
    call: Call, changes: Any, tmp_path: Path, jp_http_port: int, jp_base_url: str, jp_auth_header: Any
) -> None:
    job_id = await waiting(call, tmp_path)
    stream: IOStream = await TCPClient().connect("localhost", jp_http_port)
    headers = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **jp_auth_header}.items())
    path = f"{jp_base_url}taskapi/local/jobs/{job_id}?wait=60"
    await stream.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
    await held(changes)
    stream.close()
    await held(changes, 0)


async def test_where_the_bell_can_not_ring(call: Call, changes: Any, home: Path, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    answer = asyncio.ensure_future(call("GET", f"local/jobs/{job_id}?wait=60"))
    await held(changes)
    os.mkfifo(home / "fifo")
    (home / "fifo").rename(home / "bell")
    (tmp_path / "go").touch()
    assert (await soon(answer)).json["job_status"]["status"] == "succeeded"


def watches_of(pid: int) -> int:
    """Count the paths that a process has inotify watch."""
    return sum(one.read_text().count("inotify wd") for one in Path(f"/proc/{pid}/fdinfo").iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="shown by /proc")
def test_a_server_that_ends_answers_what_it_holds(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    try:
        api = Client(server.taskapi, server.token)
        api.deploy_request(request_for("waits", WAITING))
        job = api.submit("waits", {"path": str(tmp_path / "go")})
        until(lambda: job.refresh().status == "running", "the job to run")
        watches = watches_of(server.process.pid)
        answers: list[requests.Response] = []
        asking = threading.Thread(target=lambda: answers.append(server.fetch("GET", f"jobs/{job.id}?wait=60")))
        asking.start()
        until(lambda: watches_of(server.process.pid) > watches, "the request to be held")
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        asking.join(PATIENCE)
        assert answers[0].json()["job_status"]["status"] == "running"
    finally:
        (tmp_path / "go").touch()
        stop_server(server)


class Counting(Client):
    """Counts its requests for a job."""

    asked = 0

    def held_response(self, job_id: str, api: str | None, since: str | None, seconds: float) -> Any:
        self.asked += 1
        return super().held_response(job_id, api, since, seconds)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_wait_elsewhere_asks_seldom(live_server: LiveServer, tmp_path: Path, awaited: bool) -> None:
    api = Counting(live_server.taskapi, live_server.token)
    api.deploy_request(request_for("waits", WAITING))
    job = api.submit("waits", {"path": str(tmp_path / "go")})
    until(lambda: job.refresh().status == "running", "the job to run")
    api.asked = 0
    threading.Timer(1.5, (tmp_path / "go").touch).start()

    async def wait() -> None:
        await asyncio.wait_for(_of(job), PATIENCE)

    asyncio.run(wait()) if awaited else job.wait(PATIENCE)
    assert job.seen_ended
    assert api.asked <= 6
    assert list(job.logs(follow=True)) == ["waiting"]


async def _of(job: Any) -> Any:
    return await job


def test_several_jobs_elsewhere_are_waited_for_together(live_server: LiveServer, tmp_path: Path) -> None:
    api = Client(live_server.taskapi, live_server.token)
    api.deploy_request(request_for("waits", WAITING))
    jobs = [api.submit("waits", {"path": str(tmp_path / str(n))}) for n in range(2)]
    for n, job in enumerate(jobs):
        until(lambda job=job: job.refresh().status == "running", "the job to run")
        threading.Timer(0.3 * (2 - n), (tmp_path / str(n)).touch).start()
    waiting_for.wait(jobs, PATIENCE)
    assert [job.seen.status for job in jobs] == ["succeeded"] * 2
