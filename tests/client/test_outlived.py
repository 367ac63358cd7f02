"""Processes that outlive the server they belong to: their jobs are found on this machine, and no change is made twice."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import ECHO, PATIENCE, WAITING, request_for, until
from support.kernels import Plain
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter import connect
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Forbidden, JobNotFound, Unreachable
from taskapi_jupyter.service.service import Service

Start = Callable[..., LiveServer]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return what starts a server, the same home each time; this process belongs to the first."""
    started: list[LiveServer] = []
    for variable in ("TASKAPI_URL", "TASKAPI_TOKEN", "TASKAPI_SERVER", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("TASKAPI_HOME", str(tmp_path / "home"))

    def start(**options: object) -> LiveServer:
        server = start_server(tmp_path, **options)  # type: ignore[arg-type]
        if not started:
            monkeypatch.setenv("JPY_PARENT_PID", str(server.process.pid))
            api = connect()
            api.deploy_request(request_for("echo", ECHO))
            api.deploy_request(request_for("waits", WAITING))
        started.append(server)
        return server

    yield start
    for server in started:
        stop_server(server)


def kill(server: LiveServer) -> None:
    """Kill a server: it can say nothing more, and leaves the file behind by which its kernels found it."""
    server.process.kill()
    server.process.wait()


def port_of(server: LiveServer) -> int:
    """Return the port that a server listens on."""
    return int(server.url.split(":")[2].partition("/")[0])


def test_what_is_under_way_goes_on(start: Start, tmp_path: Path) -> None:
    """Waits in threads and coroutines, and a log that is followed, go on when the server is killed under them."""
    server, go, done = start(), tmp_path / "go", []
    api = connect()
    assert isinstance(api, Client)
    jobs = [api.submit("waits", {"path": str(go)}) for _ in range(2)]

    async def gather() -> None:
        await asyncio.gather(*(api.get("waits", job.id) for job in jobs))
        done.append("awaited")

    def follow() -> None:
        for line in jobs[0].logs(follow=True):
            done.append(line)
        done.append("followed")

    def wait(job: object) -> None:
        done.append(job.wait(PATIENCE).status)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=lambda: asyncio.run(gather())), threading.Thread(target=follow)]
    threads += [threading.Thread(target=wait, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    until(lambda: "waiting" in done, "the log")
    kill(server)
    until(lambda: jobs[0].refresh().status == jobs[1].refresh().status == "running", "the jobs to run")
    go.touch()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(done) == ["awaited", "followed", "succeeded", "succeeded", "waiting"]
    assert jobs[0].result() is None
    assert jobs[0].logs() == "waiting\n"
    api.close()


@pytest.mark.parametrize("same_port", [True, False])
def test_a_server_that_comes_back_elsewhere(start: Start, same_port: bool) -> None:
    """At another port, or at the same one with another token, where it refuses who knows the old one."""
    server = start()
    api = connect()
    job = api.submit("echo", {"x": 1}).wait()
    kill(server)
    again = start(port=port_of(server) if same_port else None)
    assert again.token != server.token
    if same_port:
        with pytest.raises(Forbidden):
            Client(server.taskapi, server.token).jobs()
    assert (job.refresh().status, job.result()) == ("succeeded", {"x": 1})
    assert [one.id for one in api.jobs()] == [job.id]
    another = api.submit("echo", {"x": 2})
    assert another.result() == {"x": 2}
    assert [one.id for one in Client(again.taskapi, again.token).jobs()] == [another.id, job.id]
    assert [one.name for one in api.get()] == ["echo", "waits"]
    waits = api.submit("waits", {"path": "/nowhere"})
    assert waits.stop() == f"stopped job {waits.id}"
    assert "deleted job" in api.forget(job)
    with pytest.raises(JobNotFound):
        job.refresh()
    api.close()


def test_a_server_that_was_named_or_has_another_home_is_the_only_way(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    with monkeypatch.context() as patch:
        patch.setenv("TASKAPI_URL", server.url)
        patch.setenv("TASKAPI_TOKEN", server.token)
        named = connect().submit("echo").wait()
    with monkeypatch.context() as patch:
        patch.setenv("TASKAPI_HOME", str(tmp_path / "other"))
        Service(tmp_path / "other").close()
        elsewhere = connect().get("echo", named.id)
    own = connect().get("echo", named.id)
    kill(server)
    for job in (named, elsewhere):
        with pytest.raises(Unreachable):
            job.refresh()
    (tmp_path / "home").rename(tmp_path / "moved")
    (tmp_path / "home").mkdir(mode=0o700)  # one that the server never had
    with pytest.raises(Unreachable):
        own.refresh()
    (tmp_path / "home").rmdir()
    (tmp_path / "moved").rename(tmp_path / "home")
    assert own.refresh().status == "succeeded"


def test_a_change_that_may_have_been_received_is_not_made_again(start: Start) -> None:
    server = start()
    api = connect()
    job = api.submit("echo").wait()
    kill(server)
    asked = []

    def take_and_close() -> None:
        for _ in range(3):
            connection, _ = listener.accept()
            asked.append(connection.recv(65536))
            connection.close()

    with socket.create_server(("127.0.0.1", port_of(server))) as listener:
        taking = threading.Thread(target=take_and_close, daemon=True)
        taking.start()
        with pytest.raises(Unreachable):
            api.submit("echo")
        assert [one.id for one in api.jobs()] == [job.id]  # read twice there, then here
        taking.join(PATIENCE)
    assert [text.split()[0] for text in asked] == [b"POST", b"GET", b"GET"]
    api.close()


KERNEL = """
import os
os.environ.update({environ!r})
%load_ext taskapi_jupyter
job = %taskapi submit waits path={go}
panel = %taskapi panel waits
panel
"""


def test_a_kernel_goes_on(start: Start, tmp_path: Path) -> None:
    server, go = start(), tmp_path / "go"
    kernel = Plain(tmp_path)
    environ = {"JPY_PARENT_PID": str(server.process.pid)}
    kernel.run(KERNEL.format(environ=environ, go=go))
    sees = "import time\nwhile {!r} not in panel.jobs.rows[0].text.value: time.sleep(0.01)\nprint('seen', panel.banner.value)"
    assert kernel.run(sees.format("running")) == "seen \n"
    kill(server)
    assert "running" in kernel.run("%taskapi status {job}")
    go.touch()
    assert "succeeded" in kernel.run("print((await job).status)")
    assert kernel.run(sees.format("succeeded")) == "seen \n"
    start()
    assert kernel.run("again = %taskapi rerun {job}\nprint(again.wait().status)").endswith("succeeded\n")
    assert "waits" in kernel.run("%taskapi status")
    kernel.close()
