"""The processes of a job: found below its watcher, measured, held still, signalled. Standard library only.

A process is signalled by its pid and start time, through a pidfd where there are any, so that one that got the same
number meanwhile never is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Container, Iterable
from typing import NamedTuple

from taskapi_jupyter.core import host

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CPUS = os.cpu_count() or 1
#: The kernel keeps a process's page counts for each processor, and adds up only so many at a time.
_IMPRECISION = _CPUS * max(32, 2 * _CPUS) * _PAGE
_FREEZE = 0.1  # seconds that processes get to stand still
_SHARE = 20  # proportional sizes are read at most a 20th of the time, while nothing says that they have grown


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


def below(root: int, but: Container[int] = ()) -> list[Process]:
    """Return the living processes below ``root``, parents first, ``but`` for some and what is below these."""
    if not host.LINUX:
        return _by_psutil(host.descendants(root))
    try:
        found: list[Process] = []
        queue = [(root, host.start_time(root))]
        for parent, start_time in queue:
            children = host.children(parent)
            if host.start_time(parent) != start_time:
                continue  # these are children of whoever got its number
            for pid in children:
                process = _read(pid)
                if process is not None and process.parent == parent and pid not in but:
                    found.append(process)
                    queue.append((pid, process.start_time))
        return found
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [one for one in map(_read, host.descendants(root)) if one is not None]


def _by_psutil(pids: Iterable[int]) -> list[Process]:
    import psutil

    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                started = repr(process.create_time())
                found.append(Process(pid, process.ppid(), started, "", process.memory_info().rss, 0, "", pid))
        except psutil.Error:
            continue
    return found


def _read(pid: int, shown_by: int = 0) -> Process | None:
    try:
        fields = host.stat(pid)
        if fields[0] in "ZX":
            if int(fields[17]) <= 1:
                return None
            return _read_by_thread(pid, fields)
        image = " ".join((fields[23], fields[25], fields[45]))  # where its code, stack and arguments begin: random
        faults = int(fields[7]) + int(fields[9])
        return Process(pid, int(fields[1]), fields[19], fields[0], int(fields[21]) * _PAGE, faults, image, pid)
    except (OSError, IndexError):
        return None


def _read_by_thread(pid: int, fields: list[str]) -> Process:
    """Read a process whose first thread has left; the others go on."""
    for name in os.listdir(f"/proc/{pid}/task"):
        thread = host.stat(f"{pid}/task/{name}")
        if thread[0] not in "ZX":
            rss = int(thread[21]) * _PAGE
            return Process(pid, int(fields[1]), fields[19], thread[0], rss, 0, "", int(name))
    return Process(pid, int(fields[1]), fields[19], "R")


def send(process: Process, number: int) -> None:
    """Signal a process, unless it is gone or not ours to signal."""
    host.send(process.pid, process.start_time, number)


def kill(root: int) -> None:
    """Kill what is below this process, which is ``root``; what forks meanwhile takes another call."""
    if host.LINUX:
        # First our own children: no number of theirs is used again before we have reaped them, so that this needs no
        # look at who they are, and overtakes those that fork. What they leave behind are our children next.
        try:
            for pid in host.children(root):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
        except FileNotFoundError:
            pass
    for process in below(root):
        send(process, signal.SIGKILL)


def freeze(root: int, stopped: dict[tuple[int, str], Process]) -> list[Process]:
    """Have all below ``root`` stand still; return them. ``stopped`` gets those that have to be told to go on."""
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


class MemoryLimit:
    """Says whether a tree holds more than it may, shared pages counted once.

    Sizes are read one after the other, and what one process frees another may take meanwhile, or inherit: what looks
    like too much is counted again while the tree stands still, and only that decides.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: dict[tuple[int, str], Process] = {}  # the tree when its proportional sizes were read last
        self.known_size = 0
        self.known_until = 0.0

    def passed(self, root: int) -> int | None:
        """Return the bytes that the tree below ``root`` holds where that is over the limit; it then stands still."""
        found = below(root)
        if sum(one.rss for one in found) <= self.limit or self._can_not_have_passed(found):
            return None
        used = self._used(found)
        if used <= self.limit or not host.LINUX:
            return used if used > self.limit else None
        stopped: dict[tuple[int, str], Process] = {}
        try:
            used = self._used(freeze(root, stopped))
        finally:
            if used <= self.limit:
                for one in stopped.values():
                    send(one, signal.SIGCONT)
        return used if used > self.limit else None

    def _used(self, found: list[Process]) -> int:
        """Return what processes hold together; where it is over the limit, no more than says so."""
        if not host.LINUX:
            return sum(one.rss for one in found)
        at_least = self._at_least(found)
        if at_least > self.limit:
            return at_least
        began = time.monotonic()
        total = 0
        for one in sorted(_with_memory_of_their_own(found), key=lambda one: -one.rss):
            total += _proportional(one.shown_by)
            if total > self.limit:
                return total
        now = time.monotonic()
        self.known = {(one.pid, one.start_time): one for one in found}
        self.known_size = total
        self.known_until = now + _SHARE * (now - began)
        return total

    def _at_least(self, found: list[Process]) -> int:
        """Return what processes hold for sure, from counters that cost nothing to read.

        Anonymous pages are shared only by processes of one image, by fork: of each image, the largest process counts.
        """
        largest: dict[str, int] = {}
        for one in found:
            largest[one.image] = max(largest.get(one.image, 0), _anonymous(one.shown_by) - _IMPRECISION)
        return sum(largest.values())

    def _can_not_have_passed(self, found: list[Process]) -> bool:
        """Say whether growth since the proportional sizes were read, which is dear, can't have led over the limit."""
        if time.monotonic() >= self.known_until:
            return False
        images = {one.image for one in self.known.values()}
        now = {(one.pid, one.start_time): one for one in found}
        if not self.known.keys() <= now.keys():
            return False  # what it had taken since, children may have inherited
        growth = 0
        for key, one in now.items():
            before = self.known.get(key)
            if before is not None and before.image == one.image:
                growth += max(one.rss - before.rss, 0) + (one.faults - before.faults) * _PAGE
            else:
                growth += min(one.rss, one.faults * _PAGE) if one.image in images else one.rss
        return self.known_size + growth <= self.limit


def _with_memory_of_their_own(found: list[Process]) -> list[Process]:
    """Leave out children of vfork, which run in their waiting parent's memory until they execute a program."""
    by_pid = {one.pid: one for one in found}
    own = []
    for one in found:
        parent = by_pid.get(one.parent)
        lent = parent is not None and parent.state == "D" and (parent.image, parent.rss) == (one.image, one.rss)
        if not lent:
            own.append(one)
    return own


def _anonymous(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            _, resident, shared = file.read(256).split()[:3]
        return (int(resident) - int(shared)) * _PAGE
    except (OSError, ValueError):
        return 0


def _proportional(pid: int) -> int:
    for name in ("smaps_rollup", "smaps"):  # the first is not there before Linux 4.14
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
        except FileNotFoundError:
            continue
        except OSError:  # it hides its memory from its own user
            break
    return _anonymous(pid)
