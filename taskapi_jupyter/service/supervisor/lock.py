"""The lock on ``supervisor.lock``: held by the one supervisor of a home as long as it lives. Standard library only.

The file says who holds it: process, boot, PID namespace, host, version. A home is used by one host at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import files, host, nesting, process
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.host import backoff
from taskapi_jupyter.core.paths import HomePaths, JobPaths

from .fifo import poke

_LONGEST_PAUSE = 0.1  # seconds between looks at a lock that another supervisor holds


def acquire(home: str) -> int | None:
    """Return the locked descriptor of ``supervisor.lock``, None where another supervisor has it.

    Raise :class:`Unavailable` where jobs of another host run in this home.
    """
    path = HomePaths(home).lock
    try:
        fd = files.create(path, os.O_RDWR)
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}") from None
    try:
        for pause in backoff(0.005, _LONGEST_PAUSE, 1.2):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Its holder has its FIFO open and reads the store again, or is coming or leaving: wait for the lock.
                if poke(home):
                    os.close(fd)
                    return None
            refuse_others(home)
            if pause == _LONGEST_PAUSE:
                nudge(_record(os.pread(fd, 4096, 0)))
            time.sleep(pause)
        if not host.is_here(_record(os.pread(fd, 4096, 0))):
            _refuse_claims(home)
    except Unavailable:
        os.close(fd)
        raise
    fault_point("waking.locked")
    _sign(fd)
    return fd


def nudge(record: Mapping[str, Any]) -> None:
    """Signal the supervisor that wrote a record, so that it checks whether ``wake`` is still its FIFO."""
    if process.is_there(record):
        process.send(record["pid"], record["start_time"], signal.SIGCHLD)


def inherit(home: str, fd: object) -> int | None:
    """Return the locked descriptor that this process kept over its exec; None where ``fd`` is not one."""
    if not isinstance(fd, int):
        return None
    try:
        os.set_inheritable(fd, False)
        if not os.path.samestat(os.fstat(fd), os.stat(HomePaths(home).lock)):
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held already: this lets nobody else in between
    except OSError:
        return None
    _sign(fd)
    return fd


def _sign(fd: int) -> None:
    """Write into ``supervisor.lock`` who holds it."""
    me = {**process.identity(os.getpid()), "version": __version__}
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(me).encode(), 0)


# Homes that other hosts use, through a network file system or as a container's volume


def refuse_others(home: str) -> None:
    """Raise :class:`Unavailable` where a supervisor, or a job's watcher, of another host lives.

    What it left when it ended is taken over.
    """
    path = HomePaths(home).lock
    try:
        with open(files.open_plain(path), "rb") as file:
            record = _record(file.read(4096))
            if host.is_here(record):
                return
            if _is_locked(file.fileno()):
                raise _in_use(home, record, "a supervisor")
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"can't read {path}: {error.strerror}") from None
    _refuse_claims(home)


def _refuse_claims(home: str) -> None:
    """Look at all jobs' claims: where a watcher of another host holds one, its job runs."""
    jobs = HomePaths(home).jobs
    try:
        names = os.listdir(jobs)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"can't read {jobs}: {error.strerror}") from None
    for name in names:
        if os.path.exists(JobPaths(os.path.join(jobs, name)).outcome):
            continue
        try:
            with open(files.open_plain(JobPaths(os.path.join(jobs, name)).claim), "rb") as file:
                record = _record(file.read(4096))
                if not host.is_here(record) and _is_locked(file.fileno()):
                    raise _in_use(home, record, f"job {name}")
        except OSError:
            continue


def holder(home: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the supervisor that had a home's lock last wrote down, {} where that can't be read."""
    try:
        return _record(files.read(HomePaths(os.fspath(home)).lock, 4096))
    except OSError:
        return {}


def _record(data: bytes) -> dict[str, Any]:
    try:
        return dict(nesting.loads(data))
    except (ValueError, TypeError):  # being written, or by a version that wrote none
        return {}


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _in_use(home: str, record: Mapping[str, Any], what: str) -> Unavailable:
    name = str(record.get("host", "another host"))[:100]
    where = f"the host {name}" if name != os.uname().nodename else f"another container or an earlier boot of {name}"
    return Unavailable(
        f"{home} is in use by {where}, where {what} runs: one host at a time may run jobs in a folder; "
        "use the other host, wait until its jobs have ended, or set TASKAPI_HOME to a folder of this host's own"
    )
