"""This machine: its boot, its clocks, its processes, its mounts. Standard library only (psutil off Linux).

A process is known by its pid and its start time within one boot, never by a bare pid, which the kernel uses again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
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
    """Return what tells this machine's processes from those of a container; '' where there are no such namespaces."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_here(record: Mapping[str, Any]) -> bool:
    """Say whether a record is of this boot and of processes whose numbers mean here what they meant there.

    Never told by the host's name, which changes on laptops. What an older version recorded passes for this machine's.
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


# Processes


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
    """Return what a process is known by, as it is written down: its number, its start, its boot."""
    where = {"boot": boot_id(), "namespace": namespace(), "host": os.uname().nodename}
    return {"pid": pid, "start_time": start_time(pid), **where}


def is_there(who: Mapping[str, Any]) -> bool:
    """Say whether a process that was written down lives, and its number is not another's by now."""
    pid, started = who.get("pid"), who.get("start_time")
    if not isinstance(pid, int) or pid <= 1 or not is_here(who):
        return False
    return started is not None and start_time(pid) == started


def is_stopped(pid: int, started: str | None) -> bool:
    """Say whether a process is held by a stop signal (Linux)."""
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
    """A process as the table of all has it."""

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
    """Say so of a zombie, unless only its first thread has left and others go on."""
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


def mounts(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return what is mounted, a later one may hide an earlier one; nothing where the system doesn't say."""
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
