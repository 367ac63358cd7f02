"""The processes of a TASKAPI_HOME, and how all of them are ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from support import until
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor.lock import holder


def processes(home: Path, idle: bool = False) -> list[psutil.Process]:
    """Return the processes that belong to a home: its supervisor, watchers and tasks; no zombies.

    Watchers that have no job, each with a process that waits to be a task, only where ``idle``.
    """
    found = []
    for pid in psutil.pids():
        try:
            if pid == os.getpid() or (host.LINUX and not mentions(pid, os.fsencode(home))):
                continue
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            belongs = str(home) in process.cmdline() or process.environ().get("TASKAPI_JOB_SPEC", "").startswith(
                f"{home}/"
            )
        except (OSError, psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if belongs and (idle or not is_idle(process, home)):
            found.append(process)
    return found


def is_idle(process: psutil.Process, home: Path) -> bool:
    """Whether a process is a watcher, or what one has forked ahead, that has nothing of a job open."""
    try:
        files = f"/proc/{process.pid}/fd"
        return process.name() == "taskapi-watcher" and not any(
            os.readlink(f"{files}/{fd}").startswith(f"{home}/jobs/") for fd in os.listdir(files)
        )
    except (OSError, psutil.NoSuchProcess):
        return False


def commands(home: Path) -> list[str]:
    """Return the command lines of a home's processes; of one that ends meanwhile none."""
    found = []
    for one in processes(home):
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(one.cmdline()))
    return found


def mentions(pid: int, text: bytes) -> bool:
    """Say whether a text stands in a process's command or environment; asking psutil takes ten times as long."""
    for name in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            if text in file.readall():
                return True
    return False


def clean(home: Path) -> None:
    """Stop a home's jobs and its supervisor, and see that no process is left."""
    if (home / "taskapi.db").exists():
        service = Service(home)
        with suppress(TaskAPIError):  # one that is active keeps a supervisor, also one that is only just coming
            for schedule in service.schedules():
                schedule.delete()
        while jobs := service.jobs(status=["pending", "running"], limit=1000):
            for job in jobs:
                with suppress(TaskAPIError):  # it ended by itself
                    service.stop(job)
        service.close()

    def gone() -> bool:
        stop_supervisor(home)  # each time: one that is only just coming would wait for work
        return not processes(home)

    if not gone():
        until(gone, f"the processes of {home} to be gone: {processes(home)}")


def stop_supervisor(home: Path, number: int = signal.SIGTERM) -> None:
    """Have a home's supervisor leave, and wait until it did; one whose jobs run stays, as a newer one."""
    pid = holder(home).get("pid")
    if pid is None:  # there was none yet, or one is writing down that it has come
        return
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        if str(home) in supervisor.cmdline():  # else its number is another's by now
            supervisor.send_signal(number)
            until(lambda: not alive(supervisor), "the supervisor to leave")


@contextmanager
def configured(home: Path, text: str) -> Iterator[None]:
    """Give a home that several tests share another config.yaml for a while."""
    file = home / "config.yaml"
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


def has_ended(pid: int) -> bool:
    """True for a process that there is not, or that is a zombie."""
    try:
        return not alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def alive(process: psutil.Process) -> bool:
    """Say whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def supervisor_of(home: Path) -> int:
    """Return the number of the process that a home's supervisor.lock names; waits while it is being written."""
    return int(until(lambda: holder(home).get("pid"), "a supervisor"))


def watcher_of(home: Path, job: Job) -> int:
    return int(json.loads((home / "jobs" / job.id / "claim").read_bytes())["pid"])
