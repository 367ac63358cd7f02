"""Processes that may open no more files: a sentence and another try, and no job that was acknowledged is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from support import PATIENCE, WAITING, request_for, until
from support.homes import is_idle, processes, supervisor_of
from support.namespaces import ENGINE, script
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.service.service import Service

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits processes by prlimit")


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """Let a process open nothing: what it has open, it keeps."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowest = min(set(range(len(taken) + 1)) - taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_task_that_uses_up_its_descriptors(service: Service, name: str) -> None:
    body = (
        "def task(config):\n    import os\n    try:\n        while True: os.dup(1)\n"
        "    except OSError:\n        return 'x'\n"
    )
    service.deploy_request(request_for(name, body))
    job = service.submit(name).wait(PATIENCE)
    assert job.status == "succeeded"
    assert "could not be stored" in (job.reason or "")
    assert "Too many open files" in (job.reason or "")


def test_a_task_that_closes_all_descriptors_and_uses_their_numbers(service: Service, name: str, tmp_path: Path) -> None:
    path = tmp_path / "own"
    body = (
        "def task(config):\n    import os\n    os.closerange(3, 100)\n"
        f"    for _ in range(20): os.open({str(path)!r}, os.O_RDWR | os.O_CREAT)\n    raise ValueError('as told')\n"
    )
    service.deploy_request(request_for(name, body))
    job = service.submit(name).wait(PATIENCE)
    assert (job.status, job.reason) == ("worker_error", "ValueError: as told")
    assert path.read_bytes() == b""


FEW = (
    ENGINE
    + """
import resource
folder = Path(sys.argv[1])
evidence = folder / "ran"
for one in (folder / "jobs", evidence):
    one.mkdir(parents=True)
engine = engine_of(folder)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
waited = 0
for few in range(3, 17):
    job = row(few)
    launch = {"kind": "command", "argv": ["mkdir", str(evidence / job["id"])], "env": dict(os.environ), "cwd": "/"}
    job["launch"] = json.dumps(launch)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
    found = []
    try:
        engine.start(job)
        until(lambda: found.extend(engine.ended()) or found or engine.waiting, "it to be settled", 2)
    except AssertionError:
        pass
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    waited += bool(engine.waiting)
    until(lambda: found or found.extend(engine.ended()) or found, "the job to be over")
    ((job_id, how),) = found
    assert (job_id, how["status"], how["reason"]) == (job["id"], "succeeded", None), (few, how)
assert waited >= 5, waited
"""
)


def test_a_job_begins_when_there_are_descriptors_enough(tmp_path: Path) -> None:
    command = [sys.executable, "-c", script(FEW), str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "jobs can't begin yet: Too many open files" in done.stderr


def test_a_supervisor_without_descriptors(service: Service, name: str, home: Path, tmp_path: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 2\n")
    service.deploy_request(request_for(name, WAITING))
    running = service.submit(name, {"path": str(tmp_path / "first")})
    until(running.logs, "the task to begin")
    supervisor = supervisor_of(home)
    with no_descriptors(supervisor):
        for one in processes(home, idle=True):
            if is_idle(one, home):
                one.kill()
        waiting, stopped, overdue = (
            service.submit(name, {"path": str(tmp_path / "go")}, timeout) for timeout in (None, None, 2)
        )
        until(lambda: "can't begin yet" in (home / "supervisor.log").read_text(), "it to say so")
        until(lambda: waiting.refresh().reason, "a reader to be told")
        assert waiting.status == "running"
        assert str(home / "supervisor.log") in (waiting.reason or "")
        assert service.stop(stopped) == f"stopped job {stopped.id}"
        assert overdue.wait(PATIENCE).status == "timed_out"
        (tmp_path / "first").touch()
        (tmp_path / "go").touch()
    for job in (running, waiting):
        assert job.wait(PATIENCE).status == "succeeded", job.reason
    assert supervisor_of(home) == supervisor
    assert "Traceback" not in (home / "supervisor.log").read_text()


def test_a_kernel_without_descriptors(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(name, "def task(config):\n    return 1\n"))
    for _ in range(2):
        service.submit(name).wait(PATIENCE)
    with no_descriptors(os.getpid()):
        for call in (lambda: Service(home), lambda: Service(home).get()):
            with pytest.raises(Unavailable, match="Too many open files"):
                call()
        job = service.submit(name)  # it has the database open
        assert service.jobs()[0].id == job.id
    assert job.result(PATIENCE) == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = start_server(tmp_path)
    yield server
    stop_server(server)


def test_a_server_without_descriptors(server: LiveServer, tmp_path: Path, name: str) -> None:
    client = Client(server.taskapi, server.token)
    client.deploy_request(request_for(name, "def task(config):\n    return 1\n"))
    ended = client.submit(name).wait(PATIENCE)
    with requests.Session() as session:
        session.headers.update(server.auth)
        assert session.get(f"{server.taskapi}/jobs", timeout=PATIENCE).ok
        answers = []
        with no_descriptors(server.process.pid):
            for path in (f"jobs/{ended.id}/log", f"jobs/{ended.id}/result", f"jobs/{ended.id}/files"):
                answers.append(session.get(f"{server.taskapi}/{path}", timeout=PATIENCE))
            submitted = session.post(f"{server.taskapi}/tasks/{name}", json={}, timeout=PATIENCE)
            deployed = session.post(f"{server.taskapi}/deploy", json={"spec": {"name": "x"}}, timeout=PATIENCE)
    told = [(answer.status_code, answer.json()["message"]) for answer in answers if not answer.ok]
    assert told, [answer.text for answer in answers]
    for status, message in told:
        assert status == 503, message
        assert "Too many open files" in message, message
    assert deployed.status_code == 400
    if submitted.ok:
        assert client.get(name, submitted.json()["job_id"]).result(PATIENCE) == 1
    else:
        assert "Too many open files" in submitted.json()["message"]
    assert client.submit(name).result(PATIENCE) == 1
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    client.close()
