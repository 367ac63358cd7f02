"""What a job's processes use together: memory, whether that is over its limit, CPU time. Standard library only."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from contextlib import suppress

from taskapi_jupyter.core import files, host
from taskapi_jupyter.core.paths import JobPaths

from .process_tree import PAGE, Process, below, freeze, send

_CPUS = os.cpu_count() or 1
#: The kernel keeps a process's page counts for each processor, and adds up only so many at a time.
_IMPRECISION = _CPUS * max(32, 2 * _CPUS) * PAGE
_EVERY = 1.0  # seconds between two entries of a job's usage, at least
_COST = 0.0018  # of a core that measuring it takes: with waking for it no more than 0.2 %
_POINTS = 2000  # that are kept
_LINE = 64  # bytes of each
_MAXRSS = 1024 if host.LINUX else 1  # bytes in the unit of getrusage's ru_maxrss
_SHARE = 20  # proportional sizes are read at most a 20th of the time, while nothing says that they have grown


class MemoryLimit:
    """Measures a process tree against a limit; pages that are shared count once.

    Sizes are read one after the other, and meanwhile one process may take or inherit what another frees: a tree that
    seems over the limit is stopped and counted again, and only the second count decides.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: dict[tuple[int, str], Process] = {}  # the tree when its proportional sizes were read last
        self.known_size = 0
        self.known_until = 0.0

    def passed(self, root: int, found: list[Process] | None = None) -> int | None:
        """Return the bytes that the tree below ``root`` uses, where they are over the limit; it is then stopped.

        ``found`` is that tree, where it was just read.
        """
        found = below(root) if found is None else found
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
        """Return how many bytes processes use together; where that is over the limit, any number above it."""
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
        """Return a lower bound of what processes use, from counters that are cheap to read.

        Anonymous pages are shared only by processes of one image, by fork: of each image, the largest process counts.
        """
        largest: dict[str, int] = {}
        for one in found:
            largest[one.image] = max(largest.get(one.image, 0), _anonymous(one.shown_by) - _IMPRECISION)
        return sum(largest.values())

    def _can_not_have_passed(self, found: list[Process]) -> bool:
        """Whether growth since the proportional sizes were read, which is slow, can't have passed the limit."""
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
                growth += max(one.rss - before.rss, 0) + (one.faults - before.faults) * PAGE
            else:
                growth += min(one.rss, one.faults * PAGE) if one.image in images else one.rss
        return self.known_size + growth <= self.limit


class Usage:
    """Keeps what a job's processes use in ``usage.jsonl``, once a second, or less often where measuring takes longer.

    A line is a point: seconds since the epoch, CPU seconds so far, resident bytes, and the most so far. The last line
    is of the last measurement. When there are as many as are kept, every second one is removed, and from then on each
    point stands for twice the time. All lines have one length, so that readers find the last.
    """

    def __init__(self, folder: str, limit: MemoryLimit | None) -> None:
        self.path = JobPaths(folder).usage
        self.limit = limit
        self.at = time.monotonic() + _EVERY  # when to measure next: what ends before has no such file
        self.cpu = 0.0  # seconds
        self.cpu_of_ended = 0.0  # of it; not getrusage's, which counts the jobs that this watcher had before, too
        self.peak = 0  # bytes
        self.line = 0  # the number of the line that is written next
        self.every, self.count = 1, 0  # measurements for a line, and how many there were for this one

    def ended(self, used: resource.struct_rusage) -> None:
        """Note what a process has used that was waited for, with those that it had waited for itself."""
        self.cpu_of_ended += used.ru_utime + used.ru_stime
        self.peak = max(self.peak, used.ru_maxrss * _MAXRSS)  # of the largest process alone

    def add(self, found: list[Process], began: float) -> None:
        """Note what a tree uses that was read from ``began`` on, by this thread's clock of CPU time."""
        memory = sum(one.rss for one in found)
        if self.limit is not None and memory > self.limit.limit:  # they share pages, as its check has found
            memory = self.limit.known_size or self.limit.limit
        self.peak = max(self.peak, memory)
        self.cpu = max(self.cpu, self.cpu_of_ended + sum(one.cpu for one in found))
        with suppress(OSError):  # no room
            self._write(f"[{time.time():.3f}, {self.cpu:.2f}, {memory}, {self.peak}]")
        self.at = time.monotonic() + max(_EVERY, (time.thread_time() - began) / _COST)

    def _write(self, text: str) -> None:
        if self.line == _POINTS:
            lines = files.read(self.path, _POINTS * _LINE).splitlines(True)[1::2]
            files.write_atomic(self.path, b"".join(lines), sync=False)
            self.line, self.every = len(lines), 2 * self.every
        fd = files.create(self.path, os.O_WRONLY)
        try:
            os.pwrite(fd, f"{text:<{_LINE - 1}}\n".encode(), self.line * _LINE)
        finally:
            os.close(fd)
        self.count = (self.count + 1) % self.every
        self.line += self.count == 0

    def total(self) -> str:
        """Return what was used in all, as JSON, once all processes have been waited for."""
        cpu = round(max(self.cpu, self.cpu_of_ended), 3)
        return json.dumps({"cpu_seconds": cpu, "memory_peak": self.peak})


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
        return (int(resident) - int(shared)) * PAGE
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
