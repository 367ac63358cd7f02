"""Limits, priorities and signal handlers that a process inherits and passes on. Standard library only.

The first process that needs a supervisor starts it, and jobs of all others run in it. So it sets what it inherited to
fixed values (:func:`settle`); :func:`worse` reports what it could not set.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import suppress

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.runner import capacity

UMASK = 0o022

#: Soft limits; one that is not named is raised to the hard one, which is also what these have at most.
_SOFT = {"CORE": 0, "NOFILE": 1 << 16, "STACK": 8 << 20}
_LIMITS = ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK")

_TIMER_SLACK = 50_000  # nanoseconds, the kernel's own default
_PR_SET_TIMERSLACK, _PR_SET_THP_DISABLE = 29, 41
#: The numbers of ioprio_set and ioprio_get, which the C library has no functions for.
_IOPRIO = {"x86_64": (251, 252), "aarch64": (30, 31)}
_OURS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP)  # ignored here; a task takes them afresh


def settle() -> None:
    """Set what was inherited to fixed values, as docs/configuration.md has them; what is refused stays as it is."""
    os.umask(UMASK)
    for name in _LIMITS:
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            soft, hard = resource.getrlimit(number)
            wanted = _least(_SOFT.get(name, hard), hard)
            if soft != wanted:
                with suppress(OSError, ValueError):
                    resource.setrlimit(number, (wanted, hard))
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, 0) != 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    for one in signal.valid_signals():
        if one not in _OURS and signal.getsignal(one) is signal.SIG_IGN:
            signal.signal(one, signal.SIG_DFL)
    if host.LINUX:
        _settle_linux()


def _settle_linux() -> None:
    import ctypes

    host.use_all_cpus()
    with suppress(OSError):
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        if _number("self", "oom_score_adj"):
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("0")
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK, 0, 0, 0)
    libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)
    if _number("self", "personality", 16):  # addresses that are not random, say
        libc.personality(0)
    calls = _IOPRIO.get(os.uname().machine)
    if calls is not None and libc.syscall(calls[1], 1, 0) > 0:
        libc.syscall(calls[0], 1, 0, 0)


def _number(pid: int | str, name: str, base: int = 10) -> int:
    """Return the number in a file of a process, 0 where it can't be read."""
    try:
        with open(f"/proc/{pid}/{name}") as file:
            return int(file.read(), base)
    except (OSError, ValueError):
        return 0


def _least(one: int, other: int) -> int:
    if resource.RLIM_INFINITY in (one, other):
        return other if one == resource.RLIM_INFINITY else one
    return min(one, other)


#: Hard limits: what a process may have of what, and the option of ``ulimit``.
_WORDS = {
    "AS": ("of address space", "-v"),
    "CPU": ("seconds of CPU time", "-t"),
    "DATA": ("of data", "-d"),
    "FSIZE": ("in a file", "-f"),
    "MEMLOCK": ("of locked memory", "-l"),
    "NOFILE": ("open files", "-n"),
    "NPROC": ("processes", "-u"),
    "STACK": ("of stack", "-s"),
}
_COUNTS = ("CPU", "NOFILE", "NPROC")  # all others are bytes


def worse(pid: int) -> Iterator[str]:
    """Yield in what another process is worse off than this one, each as ``what it has, not what we have`` (Linux)."""
    for name, (what, option) in _WORDS.items():
        number = getattr(resource, f"RLIMIT_{name}")
        theirs, mine = resource.prlimit(pid, number)[1], resource.getrlimit(number)[1]
        if theirs != mine and _least(theirs, mine) == theirs:
            yield f"at most {_amount(name, theirs)} {what}, not {_amount(name, mine)} (ulimit {option})"
    theirs, mine = (os.getpriority(os.PRIO_PROCESS, one) for one in (pid, 0))
    if theirs > mine:
        yield f"nice {theirs}, not {mine}"
    theirs, mine = _number(pid, "oom_score_adj"), _number("self", "oom_score_adj")
    if theirs > mine:
        yield f"an OOM score that is adjusted by {theirs}, not by {mine}"
    theirs, mine = len(os.sched_getaffinity(pid)), len(host.cpus())
    if theirs < mine:
        yield f"{theirs} CPUs, not {mine}"
    limits, ours = capacity.limits(pid=pid), capacity.count()
    if limits.cores is not None and limits.cores < ours.cores:
        yield f"a control group of {limits.cores / 1000:g} cores, not {ours.cores / 1000:g}"
    if limits.memory is not None and limits.memory < ours.memory:
        yield f"a control group of {size(limits.memory)}, not {size(ours.memory)}"
    missing = sorted(set(os.getgroups()) - _groups(pid))
    if missing:
        yield f"no membership in {', '.join(map(_group, missing))}"


def _amount(name: str, value: int) -> str:
    if value == resource.RLIM_INFINITY:
        return "any number" if name in _COUNTS else "any size"
    return str(value) if name in _COUNTS else size(value)


def _groups(pid: int) -> set[int]:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("Groups:"):
                return set(map(int, line.split()[1:]))
    return set()


def _group(number: int) -> str:
    import grp

    try:
        return f"the group {grp.getgrgid(number).gr_name}"
    except KeyError:
        return f"the group {number}"
