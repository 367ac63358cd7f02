"""This machine: its boot, its clocks, its mounts, its CPUs. Standard library only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from . import files

LINUX = sys.platform.startswith("linux")

#: A clock that neither steps nor stops in suspend. macOS's CLOCK_MONOTONIC goes on in suspend, Linux's does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_MOST_CPUS = 8192  # that Linux can have


def boottime() -> float:
    """Return the seconds since this boot, suspended ones included."""
    return time.clock_gettime(_CLOCK)


def backoff(first: float, longest: float, factor: float = 1.5) -> Iterator[float]:
    """Yield pauses in seconds without end: ``first``, each next one ``factor`` times as long, at most ``longest``."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, longest)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return a text that is the same until the machine restarts."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        import subprocess

        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or f"since-{int(time.time() - boottime())}"


@lru_cache(maxsize=1)
def namespace() -> str:
    """Return the PID namespace, which is another in a container; '' where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_here(record: Mapping[str, Any]) -> bool:
    """Whether a record is of this boot and this PID namespace, so that its pids are valid here.

    The host's name does not count: it changes on laptops. A record of an older version counts as this machine's.
    """
    return bool(record.get("boot", boot_id()) == boot_id() and record.get("namespace", namespace()) == namespace())


def folder_id(path: str | os.PathLike[str]) -> str | None:
    """Return an opaque text that is the same for all processes here which see the same folder, None if it is gone."""
    import hashlib  # only servers and their clients ask

    try:
        there = os.stat(path)
    except OSError:
        return None
    return hashlib.sha256(f"{boot_id()} {namespace()} {there.st_dev} {there.st_ino}".encode()).hexdigest()[:16]


def now_us() -> int:
    """Return the wall clock in microseconds since the epoch, as the store keeps times."""
    return time.time_ns() // 1000


# File systems

#: Types of file systems that other machines may have mounted too. What macOS has mounted is not looked at.
_SHARED = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "ocfs2", "gfs2"),
        *("orangefs", "pvfs2", "afs", "9p", "coda", "virtiofs", "vboxsf", "fuse.sshfs", "fuse.glusterfs"),
        *("fuse.cephfs", "fuse.s3fs", "fuse.rclone", "fuse.vmhgfs-fuse"),
    )
)


class Mount(NamedTuple):
    """A file system where it is mounted."""

    root: str  # which of its folders is
    point: str
    kind: str
    options: list[str]  # of the file system itself


def mounts(path: str = "/proc/self/mountinfo", kinds: str = "") -> list[Mount]:
    """Return what is mounted, a later one may hide an earlier one; nothing where the system doesn't say.

    ``kinds`` is how the types of the file systems that are wanted begin: each watcher reads this, which takes time.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        if error.errno in files.NO_DESCRIPTOR:
            raise
        return []
    found = []
    for line in lines:
        place, _, what = line.partition(" - ")
        if not what.startswith(kinds):
            continue
        fields, about = place.split(" "), what.split(" ")
        if len(fields) > 4 and len(about) > 2:
            found.append(Mount(_unescaped(fields[3]), _unescaped(fields[4]), about[0], about[2].split(",")))
    return found


@lru_cache(maxsize=8)
def network_filesystem(folder: str) -> str | None:
    """Return the type of the network file system that a folder lies on, None where it lies on none."""
    inside = os.path.join(os.path.realpath(folder), "")
    longest, found = 0, ""
    for mount in mounts():
        point = os.path.join(mount.point, "")
        if inside.startswith(point) and len(point) >= longest:  # a later one hides an earlier one
            longest, found = len(point), mount.kind
    return found if found in _SHARED else None


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


# CPUs


def use_all_cpus() -> None:
    """Let this thread, and what it starts, run on all CPUs that its cpuset has, whatever affinity it was given."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) < os.sysconf("SC_NPROCESSORS_ONLN"):
        try:
            os.sched_setaffinity(0, range(_MOST_CPUS))  # the kernel leaves out those that are not in the cpuset
        except OSError:
            pass


def cpus() -> set[int]:
    """Return the CPUs that jobs may run on: the same for each process of a cpuset, whatever its own affinity is."""
    if not hasattr(os, "sched_setaffinity"):
        return set(range(os.cpu_count() or 1))
    mine = os.sched_getaffinity(0)
    use_all_cpus()
    allowed = os.sched_getaffinity(0)
    if allowed != mine:
        os.sched_setaffinity(0, mine)
    return allowed
