"""The processes of a job: kept below its watcher, found there, held still, signalled. Standard library only.

A process is signalled by its pid and start time, through a pidfd where there are any, so that one that got the same
number meanwhile never is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from taskapi_jupyter.core import host, process

PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_TICKS = os.sysconf("SC_CLK_TCK")  # of CPU time, a second

_FREEZE = 0.1  # seconds that processes get to stand still

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: prctl, bound before any fork, so that a child finds it without importing; None off Linux.
_prctl: Callable[..., int] | None = None
if host.LINUX:
    import ctypes

    _prctl = ctypes.CDLL(None).prctl


def collect_orphans(collects: bool = True) -> None:
    """Become, or cease to be, the parent of descendants whose own parent has ended (Linux's subreaper)."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, int(collects), 0, 0, 0)


def bind_to_parent(number: int) -> None:
    """Have the kernel signal this process when the thread that forked it ends (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


class Process(NamedTuple):
    """A living process at one moment."""

    pid: int
    parent: int
    start_time: str
    state: str
    rss: int = 0  # bytes
    faults: int = 0
    image: str = ""  # the same in two processes only where one forked the other and neither executed anything since
    shown_by: int = 0  # the thread whose files show its memory: the first one may have left before the others
    cpu: float = 0.0  # seconds, with those of children that it has waited for


def below(root: int, but: Container[int] = ()) -> list[Process]:
    """Return the living processes below ``root``, parents first, ``but`` for some and what is below these."""
    if not host.LINUX:
        return _by_psutil(process.descendants(root))
    try:
        found: list[Process] = []
        queue = [(root, process.start_time(root))]
        for parent, start_time in queue:
            children = process.children(parent)
            if process.start_time(parent) != start_time:
                continue  # its number was reused: these are another process's children
            for pid in children:
                one = _read(pid)
                if one is not None and one.parent == parent and pid not in but:
                    found.append(one)
                    queue.append((pid, one.start_time))
        return found
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [one for one in map(_read, process.descendants(root)) if one is not None]


def _by_psutil(pids: Iterable[int]) -> list[Process]:
    import psutil

    found = []
    for pid in pids:
        try:
            one = psutil.Process(pid)
            with one.oneshot():
                started = repr(one.create_time())
                cpu = sum(one.cpu_times()[:2])
                found.append(Process(pid, one.ppid(), started, "", one.memory_info().rss, 0, "", pid, cpu))
        except psutil.Error:
            continue
    return found


def _read(pid: int, shown_by: int = 0) -> Process | None:
    try:
        fields = process.stat(pid)
        if fields[0] in "ZX":
            if int(fields[17]) <= 1:
                return None
            return _read_by_thread(pid, fields)
        image = " ".join((fields[23], fields[25], fields[45]))  # where its code, stack and arguments begin: random
        faults = int(fields[7]) + int(fields[9])
        rss = int(fields[21]) * PAGE
        return Process(pid, int(fields[1]), fields[19], fields[0], rss, faults, image, pid, _cpu(fields))
    except (OSError, IndexError):
        return None


def _read_by_thread(pid: int, fields: list[str]) -> Process:
    """Read a process whose first thread has left; the others go on."""
    for name in os.listdir(f"/proc/{pid}/task"):
        thread = process.stat(f"{pid}/task/{name}")
        if thread[0] not in "ZX":
            rss = int(thread[21]) * PAGE
            return Process(pid, int(fields[1]), fields[19], thread[0], rss, 0, "", int(name), _cpu(fields))
    return Process(pid, int(fields[1]), fields[19], "R")


def _cpu(fields: list[str]) -> float:
    return sum(map(int, fields[11:15])) / _TICKS


def send(to: Process, number: int) -> None:
    """Signal a process, unless it is gone or not ours to signal."""
    process.send(to.pid, to.start_time, number)


def kill(root: int) -> None:
    """Kill what is below this process, which is ``root``; what forks meanwhile takes another call."""
    if host.LINUX:
        # First our own children: no number of theirs is used again before we have reaped them, so that this needs no
        # look at who they are, and overtakes those that fork. What they leave behind are our children next.
        try:
            for pid in process.children(root):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
        except FileNotFoundError:
            pass
    for one in below(root):
        send(one, signal.SIGKILL)


def freeze(root: int, stopped: dict[tuple[int, str], Process]) -> list[Process]:
    """Stop all processes below ``root`` and return them; those that this call stopped are added to ``stopped``."""
    until = time.monotonic() + _FREEZE
    while True:
        found = below(root)
        fresh = [one for one in found if one.state not in "Tt" and (one.pid, one.start_time) not in stopped]
        for one in fresh:
            stopped[one.pid, one.start_time] = one
            send(one, signal.SIGSTOP)
        if all(one.state in "Tt" for one in found) or time.monotonic() >= until:
            return found
        time.sleep(0.001)
