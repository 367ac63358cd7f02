"""Watchers between two jobs: what is used again, what is not, and that nothing of one job is seen by the next."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import PATIENCE, WAITING, request_for, until
from support.homes import has_ended, is_idle, processes, stop_supervisor, supervisor_of
from taskapi_jupyter.service.service import Service

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.cold,
]

#: Its watcher, what it has open, its session and group, its folder and how TERM is handled.
TELLS = """
import os, signal

def task(config):
    links = [f"/proc/self/fd/{fd}" for fd in range(20)]
    open_files = [os.readlink(one).partition(":[")[0] for one in links if os.path.lexists(one)]
    if config.get("shout"):
        os.environ["LOUD"], _ = "yes", os.umask(0)
    about = [one for one in open_files if "/jobs/" not in one]
    umask = os.umask(0o22)
    group = os.getpgid(0) == os.getpid()
    return {
        "watcher": os.getppid(), "files": about, "umask": umask, "loud": os.environ.get("LOUD"), "group": group,
        "blocked": next(line for line in open("/proc/self/status") if line.startswith("SigBlk")),
        "ignored": next(line for line in open("/proc/self/status") if line.startswith("SigIgn")),
        "cwd": os.getcwd(), "job": os.environ["TASKAPI_JOB_ID"], "session": os.getsid(0),
    }
"""

#: Takes CPU time and memory; returns its watcher.
USES = """
import os, time

def task(config):
    held = b"x" * (config["mib"] << 20)
    while time.process_time() < config["seconds"]:
        pass
    return os.getppid()
"""


@pytest.fixture
def tells(service: Service, name: str) -> Any:
    """Return a function that runs a job and returns what its task found."""
    service.deploy_request(request_for(name, TELLS))
    return lambda **config: service.submit(name, config).result(PATIENCE)


def idle(home: Path) -> list[int]:
    """Return the watchers that have no job."""
    supervisor = supervisor_of(home)
    return [one.pid for one in psutil.Process(supervisor).children() if is_idle(one, home)]


def test_the_next_job_has_the_same_watcher_and_nothing_of_the_last_one(tells: Any, home: Path) -> None:
    tells()  # whose watcher was forked for it
    first = tells(shout=True)
    for _ in range(3):
        other = tells()
        assert other["watcher"] == first["watcher"] == other["session"]
        assert other["job"] != first["job"]
        assert {**other, "job": "", "umask": 0} == {**first, "job": "", "umask": 0, "loud": None}
        assert other["umask"] == 0o22
    for watcher in idle(home):
        open_files = [os.readlink(f"/proc/{watcher}/fd/{fd}") for fd in os.listdir(f"/proc/{watcher}/fd")]
        assert not [one for one in open_files if str(home / "jobs") in one or "taskapi.db" in one]


def test_one_that_was_told_to_stop_gets_no_other_job(service: Service, tells: Any, name: str, tmp_path: Path) -> None:
    tells()
    watcher = tells()["watcher"]
    service.deploy_request(request_for("waits", WAITING))
    job = service.submit("waits", {"path": str(tmp_path / "go")})
    until(job.logs, "the task to begin")
    assert json.loads((service.home / "jobs" / job.id / "claim").read_bytes())["pid"] == watcher
    job.stop()
    assert tells()["watcher"] != watcher


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_signal_to_an_idle_one_harms_no_job(tells: Any, home: Path, number: int) -> None:
    tells()
    watcher = tells()["watcher"]
    os.kill(watcher, number)
    assert tells()["watcher"] != watcher
    until(lambda: not psutil.pid_exists(watcher), "it to be gone")


def test_a_killed_task_that_was_forked_ahead_harms_no_job(tells: Any, home: Path) -> None:
    tells()
    watcher = tells()["watcher"]
    (ahead,) = until(lambda: psutil.Process(watcher).children(), "the process to be forked")
    ahead.kill()
    until(lambda: has_ended(ahead.pid), "it to be dead")
    assert tells()["watcher"] == watcher


def test_none_outlives_its_supervisor(tells: Any, home: Path) -> None:
    tells()
    tells()
    os.kill(supervisor_of(home), signal.SIGKILL)
    until(lambda: not processes(home, idle=True), "them to leave")


def test_an_end_that_no_supervisor_has_read_starts_another(service: Service, tells: Any, tmp_path: Path) -> None:
    home, go = service.home, tmp_path / "go"
    tells()
    watcher = psutil.Process(tells()["watcher"])
    service.deploy_request(request_for("waits", WAITING))
    job = service.submit("waits", {"path": str(go)})
    until(job.logs, "the task to begin")
    os.kill(supervisor_of(home), signal.SIGSTOP)
    go.touch()
    until(lambda: is_idle(watcher, home), "the end to be written")
    stop_supervisor(home, signal.SIGKILL)
    until(service.waker.alive, "another supervisor")  # for which nobody else asks
    assert job.wait(PATIENCE).status == "succeeded"
    assert "Traceback" not in (home / "supervisor.log").read_text()


def test_what_a_job_uses_is_not_what_the_jobs_before_it_used(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, USES))

    def used(seconds: float, mib: int) -> tuple[int, Any]:
        job = service.submit(name, {"seconds": seconds, "mib": mib})
        return job.result(PATIENCE), job.refresh().record.usage

    used(0, 0)  # whose watcher was forked for it
    watcher, large = used(3, 300)
    assert large.cpu_seconds >= 3
    assert large.memory_peak >= 300 << 20
    for _ in range(3):
        other, small = used(0, 0)
        assert other == watcher
        assert 0 < small.cpu_seconds < 3
        assert 1 << 20 < small.memory_peak < 200 << 20
