"""How many cores and how much memory jobs may use: the machine's, within its control groups. Standard library only.

A limit of a control group (of a container, a Slurm step, a systemd slice, a Kubernetes pod) holds for all groups below
it: the smallest on the way up counts, in each hierarchy of version 1 and in that of version 2.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from taskapi_jupyter.core import files, host

_BELIEVED = 10  # seconds that what was read holds: a limit may be changed while a process lives

_CPUSETS = {1: ("cpuset.effective_cpus", "cpuset.cpus"), 2: ("cpuset.cpus.effective",)}
#: Above ``memory.high`` a group's processes are slowed down until they hardly move: no job has use of that memory.
_SIZES = {1: ("memory.limit_in_bytes",), 2: ("memory.max", "memory.high")}


class Capacity(NamedTuple):
    """What there is for jobs."""

    cores: int  # in thousandths
    memory: int  # in bytes


class Limits(NamedTuple):
    """What control groups allow; None: as much as there is."""

    cores: int | None
    memory: int | None


_last: deque[tuple[float, Capacity]] = deque(maxlen=1)  # when it was read, and what there was


def here(age: float = _BELIEVED) -> Capacity:
    """Return what there is, as it was at some moment of the last ``age`` seconds.

    Where it can't be read (no descriptor is free) it is what it was before: what waits for a job to end, or to be
    stopped, must not wait for that.
    """
    with suppress(IndexError):
        read, has = _last[-1]
        if time.monotonic() - read < age:
            return has
    try:
        has = count()
    except OSError:
        if not _last:
            raise
        return _last[-1][1]
    _last.append((time.monotonic(), has))
    return has


def count() -> Capacity:
    """Return what there is now: of the machine, less what control groups forbid this process."""
    allowed = limits()
    cores = len(host.cpus())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Capacity(
        cores * 1000 if allowed.cores is None else min(cores * 1000, allowed.cores),
        memory if allowed.memory is None else min(memory, allowed.memory),
    )


def limits(root: str = "", pid: int | str = "self") -> Limits:
    """Return the limits of a process's control groups, as a rule this one's; ``root`` is a folder to take for ``/``."""
    cores, sizes = list[int](), list[int]()
    for version, folders in groups("cpu", pid, root):
        for folder in folders:
            if version == 1:
                quota, period = _read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us")
            else:
                quota, _, period = _read(folder, "cpu.max").partition(" ")
            if quota.isdigit() and period.isdigit() and int(period):
                cores.append(max(int(quota) * 1000 // int(period), 1))
    for version, folders in groups("cpuset", pid, root):
        for folder in folders:
            cpus = next(filter(None, (_read(folder, name) for name in _CPUSETS[version])), "")
            if cpus:
                cores.append(_how_many(cpus) * 1000)
    for version, folders in groups("memory", pid, root):
        found = [_read(folder, name) for folder in folders for name in _SIZES[version]]
        if version == 1:  # the kernel's own sum, which knows of groups above a container that it doesn't see
            stat = _read(folders[0], "memory.stat") if folders else ""
            found.append(f"\n{stat}\n".partition("\nhierarchical_memory_limit ")[2].partition("\n")[0])
        sizes += [int(text) for text in found if text.isdigit()]
    return Limits(min(cores, default=None), min(sizes, default=None))


def groups(controller: str, pid: int | str = "self", root: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yield the version and the folders of each control group that a process is in for a controller's sake.

    Its own folder first, then those above it up to the mount's, as far as they can be seen: a container often has its
    own group in the mount's place, and is told a path that is not there.
    """
    try:
        with open(f"{root}/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError as error:
        _raise_unknown(error)
        return
    mounts = host.mounts(f"{root}/proc/self/mountinfo", "cgroup")
    for number, controllers, path in lines:
        version = 1 if controller in controllers.split(",") else 2
        if version == 2 and number != "0":
            continue
        for mount in mounts:
            if mount.kind == "cgroup2" if version == 2 else controller in mount.options:
                yield version, [f"{root}{folder}" for folder in _upwards(path, mount) if os.path.isdir(root + folder)]


def _upwards(path: str, mount: host.Mount) -> Iterator[str]:
    """Yield the folders of a group and of those above it."""
    top = mount.root.rstrip("/")
    parts = path[len(top) :].split("/")[1:] if f"{path}/".startswith(f"{top}/") else []
    if ".." in parts:  # it is above what this process may see
        parts = []
    for length in range(len(parts), -1, -1):
        if not length or parts[length - 1]:
            yield os.path.join(mount.point, *parts[:length])


def _read(folder: str, name: str) -> str:
    """Return what a group's file says, '' where there is none."""
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read().strip()
    except OSError as error:
        _raise_unknown(error)
        return ""


def _raise_unknown(error: OSError) -> None:
    """Raise the error of a process without a descriptor: a limit that could not be read is not one that isn't there."""
    if error.errno in files.NO_DESCRIPTOR:
        raise error


def _how_many(cpus: str) -> int:
    """Count a list such as ``0-3,8``."""
    count = 0
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += int(last) - int(first) + 1 if last.isdigit() else 1
    return max(count, 1)
