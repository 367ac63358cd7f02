"""Processes of this machine: found, told apart, signalled. Standard library only (psutil off Linux).

A process is known by its pid and its start time within one boot, never by a bare pid, which the kernel uses again.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

from .host import LINUX, boot_id, is_here, namespace

# Those in `signal` make an enum of each of 64 signals, which takes 0.2 ms each time.
mask_signals, valid_signals = _signal.pthread_sigmask, _signal.valid_signals


def stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (the name before them may hold anything)."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read(4096).decode("utf-8", "replace").rpartition(")")[2].split()


def start_time(pid: int) -> str | None:
    """Return when a process started, as text to compare with; None where there is no such process."""
    if LINUX:
        try:
            return stat(pid)[19]
        except (OSError, IndexError):
            return None
    import psutil

    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def identity(pid: int) -> dict[str, Any]:
    """Return what identifies a process across restarts: its pid, start time, boot, PID namespace and host."""
    where = {"boot": boot_id(), "namespace": namespace(), "host": os.uname().nodename}
    return {"pid": pid, "start_time": start_time(pid), **where}


def is_there(who: Mapping[str, Any]) -> bool:
    """Whether the process that :func:`identity` described is alive: its pid may be another's by now."""
    pid, started = who.get("pid"), who.get("start_time")
    if not isinstance(pid, int) or pid <= 1 or not is_here(who):
        return False
    return started is not None and start_time(pid) == started


def is_stopped(pid: int, started: str | None) -> bool:
    """Whether a process is stopped by a signal (Linux)."""
    try:
        fields = stat(pid) if LINUX else []
        return bool(fields) and fields[0] == "T" and fields[19] == started
    except (OSError, IndexError):
        return False


def send(pid: int, started: str | None, number: int) -> bool:
    """Signal a process that started at ``started``; False where it is gone, or not ours to signal.

    Its number may be another's by now: a pidfd is one process for good, so that who it is can be asked first.
    """
    try:
        if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            try:
                if start_time(pid) != started:
                    return False
                signal.pidfd_send_signal(fd, number)
                return True
            finally:
                os.close(fd)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # an old kernel, no descriptor to be had, or a sandbox that forbids it
    if start_time(pid) != started:
        return False
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Seen(NamedTuple):
    """A process in the table of all."""

    parent: int
    session: int
    start_time: str


def processes() -> dict[int, Seen]:
    """Return the living processes by pid; zombies are left out."""
    found = {}
    if LINUX:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = stat(name)
                    if not _has_ended(fields):
                        found[int(name)] = Seen(int(fields[1]), int(fields[3]), fields[19])
                except (OSError, IndexError):
                    continue
        return found
    import psutil

    for process in psutil.process_iter(["pid", "ppid", "status", "create_time"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.pid] = Seen(
                    process.info["ppid"], os.getsid(process.pid), repr(process.info["create_time"])
                )
        except OSError:
            continue
    return found


def _has_ended(fields: list[str]) -> bool:
    """True for a zombie whose other threads have ended, too."""
    return fields[0] in "ZX" and int(fields[17]) <= 1


def descendants(root: int) -> list[int]:
    """Return the living processes below ``root``, parents first."""
    return _below([root], processes())


def _below(roots: list[int], everyone: Mapping[int, Seen]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, seen in everyone.items():
        children.setdefault(seen.parent, []).append(pid)
    found: list[int] = []
    level = [pid for root in roots for pid in children.get(root, ())]
    while level:
        found += level
        level = [pid for parent in level for pid in children.get(parent, ())]
    return found


def open_files() -> set[int]:
    """Return the descriptors that are open; raise OSError where that can't be known."""
    return set(filter(_is_open, map(int, os.listdir("/proc/self/fd" if LINUX else "/dev/fd"))))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # that by which the folder was read
        return False
    return True


def children(parent: int) -> list[int]:
    """Return the children of a process, zombies too; raise FileNotFoundError where the kernel keeps no list of them.

    One may be missing where another ends while the list is read: who must not miss any asks again.
    """
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{parent}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{parent}/task/{thread}/children", "rb", buffering=0) as file:
                found += map(int, file.read().split())
        except FileNotFoundError:
            if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                raise
        except OSError:
            continue
    return found


def of_job(job_id: str, leader: int | None, started: str | None = None) -> dict[int, str]:
    """Return the processes that a dead watcher left, by pid with their start: those of its session, those that carry
    the job's id, and all below these.

    A session's number is not used again while a member lives; where another process than the one that started at
    ``started`` has it, the session is not the watcher's.
    """
    everyone = processes()
    everyone.pop(os.getpid(), None)
    there = everyone.get(leader) if leader is not None else None
    session = None if there is not None and there.start_time != started else leader
    mark = f"TASKAPI_JOB_ID={job_id}".encode()
    found = [pid for pid, seen in everyone.items() if seen.session == session or mark in _environ(pid)]
    return {pid: everyone[pid].start_time for pid in [*found, *_below(found, everyone)]}


def _environ(pid: int) -> list[bytes]:
    try:
        if LINUX:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return file.read().split(b"\0")
        import psutil

        return [f"{key}={value}".encode() for key, value in psutil.Process(pid).environ().items()]
    except Exception:  # somebody else's process, or it has gone: psutil's errors are not OSErrors
        return []
