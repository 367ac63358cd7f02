"""A stop means the whole tree, whatever it does; who asks at once with something else gets the answer that the record has."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import PATIENCE, request_for, until
from support.homes import processes, stop_supervisor, supervisor_of, watcher_of
from support.servers import LiveServer
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import JobNotFound, JobNotInProgress
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.core.process import identity
from taskapi_jupyter.runner.reaping import WATCHER
from taskapi_jupyter.service.service import Service

pytestmark = pytest.mark.skipif(not host.LINUX, reason="needs Linux's subreaper")


@pytest.fixture
def home(shared_home: Path) -> Path:
    """Return one home for all of these tests."""
    return shared_home


HYDRA = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.environ.clear()
        while True:  # lives on in its child
            if os.fork(): os._exit(0)
            time.sleep(0.002)
"""

GROWS_WHEN_ASKED_TO_LEAVE = """
def more(*_):
    for _ in range(2):
        if os.fork() == 0: return
signal.signal(signal.SIGTERM, more)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0: break
"""

MANY = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(60):
    if os.fork() == 0:
        if number % 3 == 0: os.setsid()
        while True: time.sleep(1)
"""

#: Twice forked, in a session of its own, under another program's name, without our variables, and not to be continued.
HELD = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execve(sys.executable, ["sleep", "-c", "import time; time.sleep(1000)"], {})
    os._exit(0)
os.wait()
"""

PLAINLY = "print('here', flush=True)\nwhile True: time.sleep(0.01)"


def started(service: Service, name: str, body: str, timeout: int | None = None) -> Job:
    """Return a job that runs, once it has printed its first line; descendants of its own go on without printing."""
    lines = "\n    ".join(["import os, signal, subprocess, sys, time", *body.strip().splitlines()])
    service.deploy_request(request_for(name, f"def task(config):\n    {lines}\n"))
    job = service.submit(name, timeout=timeout)
    until(lambda: job.logs().startswith("here") or job.refresh().ended, "the task's first line")
    return job


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children_of(watcher: psutil.Process) -> list[int]:
    """Return the processes below a watcher, without the one that it has forked ahead for its next job."""
    try:
        return [one.pid for one in watcher.children(recursive=True) if one.name() != WATCHER]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("body", [HYDRA, GROWS_WHEN_ASKED_TO_LEAVE, MANY, HELD])
def test_nothing_is_left_when_a_stop_answers(service: Service, name: str, home: Path, body: str) -> None:
    job = started(service, name, f"{body}\n{PLAINLY}")
    watcher = psutil.Process(watcher_of(home, job))
    until(lambda: len(watcher.children(recursive=True)) > 1, "its descendants")
    below = [one.pid for one in watcher.children(recursive=True)]
    assert job.stop() == f"stopped job {job.id}"
    assert [pid for pid in below if not gone(pid)] == []
    assert [pid for pid in children_of(watcher) if not gone(pid)] == []
    assert (job.status, job.reason) == ("stopped", None)


STOPS_ITS_WATCHER = f"os.kill(os.getppid(), signal.SIGSTOP)\n{PLAINLY}"


@pytest.mark.parametrize("adopted", [False, True])
def test_a_task_that_stops_its_watcher_has_a_deadline_still(
    service: Service, name: str, home: Path, adopted: bool
) -> None:
    if not adopted:
        job = started(service, name, STOPS_ITS_WATCHER, timeout=1)
    else:
        job = started(service, name, PLAINLY, timeout=1)
        supervisor = supervisor_of(home)
        os.kill(supervisor, signal.SIGKILL)
        os.kill(watcher_of(home, job), signal.SIGSTOP)
    job.wait(PATIENCE)
    assert (job.status, job.reason) == ("timed_out", "timed out 1 s after submission")


def test_what_a_killed_watcher_leaves_whatever_it_shed(service: Service, name: str, home: Path) -> None:
    held = HELD.replace("os.kill(os.getpid(), signal.SIGSTOP)", "os.write(told, b'%d' % os.getpid())")
    body = f"heard, told = os.pipe()\n{held}print('here', int(os.read(heard, 20)), flush=True)\n{PLAINLY}"
    job = started(service, name, body)
    until(lambda: job.logs().endswith("\n"), "its descendant's number")
    os.kill(watcher_of(home, job), signal.SIGKILL)
    job.wait(PATIENCE)
    assert (job.status, job.reason) == ("unexpected_error", "its watcher was killed")
    assert gone(int(job.logs().split()[1]))


def test_stops_that_race_with_the_end_the_timeout_and_each_other(service: Service, name: str, home: Path) -> None:
    other = Service(home)
    seen = set()
    for number in range(5):
        job = started(service, name, f"print('here', flush=True)\ntime.sleep({number} * 0.004)\nreturn 1")
        told: list[str] = []

        def stop(through: Service, job: Job = job, told: list[str] = told) -> None:
            try:
                told.append(through.stop(job.id))
            except JobNotInProgress:
                told.append("not in progress")

        threads = [threading.Thread(target=stop, args=(one,)) for one in (service, other, service)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        status = job.wait(PATIENCE).status
        seen.add(status)
        expected = f"stopped job {job.id}" if status == "stopped" else "not in progress"
        assert expected in told
        assert set(told) <= {expected, "not in progress"}  # who asked when all was over
        assert status in ("stopped", "succeeded")
    other.close()


def test_stops_from_three_processes_race_with_the_delete_of_the_api(
    live_server: LiveServer, name: str, tmp_path: Path
) -> None:
    """One outcome, the same to all who ask: here, through a server, from a terminal, and by deleting the API."""
    service = Service(live_server.home)
    with closing(service):
        for _ in range(4):
            job = started(service, name, PLAINLY)
            told: dict[str, Any] = {}

            def stop_here(job: Job = job, told: dict[str, Any] = told) -> None:
                try:
                    told["here"] = service.stop(job.id)
                except (JobNotInProgress, JobNotFound) as error:
                    told["here"] = error.kind

            def stop_there(job: Job = job, told: dict[str, Any] = told) -> None:
                answer = live_server.fetch("DELETE", f"tasks/{name}?jobID={job.id}").json()
                told["there"] = answer.get("kind") or answer["message"]

            def delete(told: dict[str, Any] = told) -> None:
                told["api"] = live_server.fetch("DELETE", f"delete/{name}").json()["message"]

            threads = [threading.Thread(target=one) for one in (stop_here, stop_there, delete)]
            for thread in threads:
                thread.start()
            command = [sys.executable, "-m", "taskapi_jupyter.ui.cli", "delete", name, job.id]
            environ = {**os.environ, "TASKAPI_HOME": str(live_server.home)}
            terminal = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
            for thread in threads:
                thread.join(PATIENCE)
            assert told.pop("api") == f"deleted {name}"
            stopped, late = f"stopped job {job.id}", {"job.job_is_not_in_progress", "resources.api_not_deployed"}
            assert set(told.values()) <= {stopped, *late}, told
            assert (
                terminal.stdout == f"{stopped}\n"
                or "not in progress" in terminal.stderr
                or "not deployed" in terminal.stderr
            )
            assert job.refresh().status == "stopped"
            assert not [one for one in processes(live_server.home) if job.id in str(one.environ())]


def test_a_stop_before_the_watcher_has_its_claim(
    service: Service, name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "watcher.claiming").write_text("pause")
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    stop_supervisor(home)
    service.deploy_request(request_for(name, "def task(config):\n    print('here')\n    return 1\n"))
    job = service.submit(name)
    held = faults / "watcher.claiming.held"
    until(held.exists, "the watcher")
    thread = threading.Thread(target=job.stop)
    thread.start()
    until(service.store.to_stop, "the wish")
    until(lambda: pending_term(int(held.read_text() or 0)), "the supervisor to tell it")
    held.unlink()
    thread.join(PATIENCE)
    assert job.wait(PATIENCE).status == "stopped"


def pending_term(pid: int) -> bool:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["ShdPnd"], 16) & (1 << (signal.SIGTERM - 1)))


# Who is meant


def test_a_strangers_process_that_has_the_watchers_number(service: Service, name: str, home: Path) -> None:
    """A claim names a pid that somebody else has by now; the lock on it is held, as while its watcher goes."""
    version = service.deploy_request(request_for(name, "def task(config):\n    return 1\n")) and service.store.api(name)
    assert version is not None
    row: dict[str, Any] = {key: version[key] for key in ("api_id", "spec_id", "cpu", "mem", "gpu")}
    now = host.now_us()
    row.update(api_name=name, created=now, timeout=None, boot=host.boot_id(), deadline=None)
    stop_supervisor(home)  # one that an earlier test left would start it
    job_id = service.store.add_job(row, 1 << 60)
    with service.store.write() as transaction:
        values = (now, host.boot_id(), job_id)
        transaction.execute("UPDATE jobs SET status = 'running', started = ?, started_boot = ? WHERE id = ?", values)
    folder = home / "jobs" / job_id
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            who = {**identity(stranger.pid), "start_time": "1"}
            (folder / "claim").write_text(json.dumps(who))
            with (folder / "claim").open("rb") as claim:
                fcntl.flock(claim, fcntl.LOCK_EX)
                service.store.request_stop(job_id)
                service.waker.wake()
                until(lambda: processes(home) and service.waker.alive(), "the supervisor")
            service.waker.wake()
            job = service.get(name, job_id).wait(PATIENCE)
            assert (job.status, job.reason) == ("unexpected_error", "its watcher was killed")
            assert stranger.poll() is None
        finally:
            stranger.kill()


REUSED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from taskapi_jupyter.core import process
from taskapi_jupyter.runner import process_tree

def sleeper():
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    return pid

first = sleeper()
who = process.identity(first)
sleeping = process_tree.Process(first, os.getpid(), who["start_time"], "S")
assert process.is_there(who)
os.kill(first, signal.SIGKILL)
os.waitpid(first, 0)
time.sleep(0.03)  # a start time counts in hundredths
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(first - 1))
assert sleeper() == first
assert not process.is_there(who)
assert not process.send(first, who["start_time"], signal.SIGKILL)
process_tree.send(sleeping, signal.SIGKILL)
assert os.waitpid(first, os.WNOHANG) == (0, 0)
assert process.of_job("no-such-job", first, who["start_time"]) == {}
assert process.send(first, process.start_time(first), signal.SIGKILL)
os.waitpid(first, 0)
print("done")
"""


def test_a_number_that_was_used_again() -> None:
    package = str(Path(PACKAGE).parent)
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSED, package]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if "unshare" in told.stderr or "ns_last_pid" in told.stderr:
        pytest.skip(f"no pid namespace to be had: {told.stderr.strip().splitlines()[-1]}")
    assert (told.stdout, told.stderr) == ("done\n", "")
