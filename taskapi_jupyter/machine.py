"""This machine: its boot, its clocks, its processes, what it can bear. Standard library only (psutil off Linux).

A process is known by its pid and its start time within one boot, never by a bare pid, which the kernel uses again.
"""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache

LINUX = sys.platform.startswith("linux")

#: A clock that neither steps nor stops in suspend. macOS's CLOCK_MONOTONIC goes on in suspend, Linux's does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_PAGE = os.sysconf("SC_PAGE_SIZE")


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


def now_us() -> int:
    """Return the wall clock in microseconds since the epoch, as the store keeps times."""
    return time.time_ns() // 1000


# Processes


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (the name before them may hold anything)."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read(4096).decode("utf-8", "replace").rpartition(")")[2].split()


def start_time(pid: int) -> str | None:
    """Return when a process started, as text to compare with; None where there is no such process."""
    if LINUX:
        try:
            return _stat(pid)[19]
        except (OSError, IndexError):
            return None
    import psutil

    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def processes() -> dict[int, tuple[int, int]]:
    """Return the living processes: ``{pid: (parent's pid, session)}``; zombies are left out."""
    found = {}
    if LINUX:
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    fields = _stat(name)
                    if fields[0] not in "ZX":
                        found[int(name)] = (int(fields[1]), int(fields[3]))
                except (OSError, IndexError):
                    continue
        return found
    import psutil

    for process in psutil.process_iter(["pid", "ppid", "status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.pid] = (process.info["ppid"], os.getsid(process.pid))
        except OSError:
            continue
    return found


def descendants(root: int) -> list[int]:
    """Return the living processes below ``root``, parents first."""
    if LINUX:
        try:
            return _children_files(root)
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            pass
    below: dict[int, list[int]] = {}
    for pid, (parent, _) in processes().items():
        below.setdefault(parent, []).append(pid)
    found: list[int] = []
    level = below.get(root, [])
    while level:
        found += level
        level = [pid for parent in level for pid in below.get(parent, ())]
    return found


def _children_files(root: int) -> list[int]:
    found: list[int] = []
    queue = [root]
    for parent in queue:
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{parent}/task/{thread}/children", "rb", buffering=0) as file:
                    children = [int(pid) for pid in file.read().split()]
            except FileNotFoundError:
                if parent == root and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                    raise
                continue
            except OSError:
                continue
            queue += children
            found += children
    return [pid for pid in found if not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    try:
        return _stat(pid)[0] in "ZX"
    except (OSError, IndexError):
        return True


def of_job(job_id: str, session: int | None) -> list[int]:
    """Return the processes that a dead watcher left: those of its session and those that carry the job's id.

    A session's number is not used again while a member lives; where a process of that very number lives, the number
    went to somebody else and its session is not the watcher's.
    """
    everyone = processes()
    if session in everyone:
        session = None
    mark = f"TASKAPI_JOB_ID={job_id}".encode()
    return [
        pid
        for pid, (_, its_session) in everyone.items()
        if pid != os.getpid() and (its_session == session or mark in _environ(pid))
    ]


def _environ(pid: int) -> list[bytes]:
    try:
        if LINUX:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return file.read().split(b"\0")
        import psutil

        return [f"{key}={value}".encode() for key, value in psutil.Process(pid).environ().items()]
    except Exception:  # somebody else's process, or it has gone: psutil's errors are not OSErrors
        return []


def memory_of(pids: list[int], limit: int) -> int:
    """Return the bytes that processes hold together, shared pages counted once.

    Resident sizes count shared pages in each process, and are cheap; only where they are over ``limit`` are the
    proportional ones read, which are dear.
    """
    if not LINUX:
        import psutil

        total = 0
        for pid in pids:
            try:
                total += psutil.Process(pid).memory_info().rss
            except psutil.Error:
                continue
        return total
    resident = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
                resident += int(file.read(256).split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    if resident <= limit:
        return resident
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def oom_kills() -> int | None:
    """Return how often the kernel has killed for want of memory since boot; None where it doesn't say."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


# Capacity


def cores() -> int:
    """Return the cores that processes of this user may use, in thousandths, container limits included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup("cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        return max(1, min(count * 1000, int(quota[0]) * 1000 // int(quota[1])))
    return count * 1000


def memory() -> int:
    """Return the bytes of main memory, a container's limit included."""
    total = os.sysconf("SC_PHYS_PAGES") * _PAGE
    limit = _cgroup("memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def gpus() -> int:
    """Count the GPUs that nvidia-smi lists; 0 where it is not there or does not answer."""
    import shutil
    import subprocess

    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _cgroup(name: str) -> str:
    """Return a control file of our cgroup (v2), '' where there is none."""
    try:
        with open("/proc/self/cgroup") as file:
            own = file.read().strip().rpartition(":")[2]
        with open(f"/sys/fs/cgroup{own.rstrip('/')}/{name}") as file:
            return file.read()
    except OSError:
        return ""
