"""Whether the kernel killed a task because memory had run out. Standard library only.

The kernel does not report which process it killed, but it counts its kills, for the machine (``/proc/vmstat``) and for
the cgroup of the process. A SIGKILL counts as the kernel's where a counter has gone up within seconds: that of the
task's cgroup, where it has one and the task stayed in one cgroup, else the machine's.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import NamedTuple

from . import capacity

_LATELY = 10.0  # seconds; a large process takes a while from being killed to being gone


class _Counts(NamedTuple):
    machine: int | None
    cgroup: int | None
    folder: str  # of the cgroup; '' where it can't be known whether the task stayed in it


def of_machine() -> int | None:
    """Return how often the kernel has killed for lack of memory since boot; None where it does not count."""
    return _count("/proc/vmstat")


def _count(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), None)
    except OSError:
        return None


def _cgroup(pid: int) -> tuple[str, str]:
    """Return the folder of a process's memory cgroup, '' where it has none, and the file with its counters."""
    with suppress(OSError):
        for version, folders in capacity.groups("memory", pid):
            if folders:
                return folders[0], "memory.oom_control" if version == 1 else "memory.events"
    return "", ""


def _read_counts(pid: int) -> _Counts:
    folder, name = _cgroup(pid)
    count = _count(f"{folder}/{name}") if folder else None
    if name == "memory.oom_control" and os.access(f"{folder}/cgroup.procs", os.W_OK):
        folder = ""  # who may write there may have moved, and what has died in version 1 is in no cgroup
    return _Counts(of_machine(), count, folder)


class OOMKills:
    """What the kernel's counters were some seconds ago, for one process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = self.lately = _read_counts(pid)
        self.at = time.monotonic()

    def poll(self) -> None:
        """Remember the counters; called now and then while the process lives."""
        now = time.monotonic()
        if now - self.at >= _LATELY:
            self.before, self.lately, self.at = self.lately, _read_counts(self.pid), now

    def one_was_ours(self) -> bool:
        """Whether the kernel killed the process, which has died and is not reaped yet, as far as counters show."""
        before = self.before
        if before.machine is not None and before.machine == of_machine():
            return False
        folder, name = _cgroup(self.pid)
        if before.folder and before.cgroup is not None and (name == "memory.oom_control" or folder == before.folder):
            name = name or "memory.events"
            return before.cgroup != _count(f"{before.folder}/{name}")
        return before.machine is not None
