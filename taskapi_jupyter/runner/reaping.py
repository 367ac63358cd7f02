"""Reaps processes of ours whose parent has ended. Standard library only.

A supervisor that a terminal started, or a watcher whose supervisor was killed, is inherited by the first process of its
container, or by the next subreaper above. Where that is no ``init`` but a Jupyter server, or a kernel or program that
uses this package, it would stay a zombie for ever. Only processes with our names are reaped: the children of other code
in this process keep their exit status for that code.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from taskapi_jupyter.core import host, process

# 15 bytes at most
SUPERVISOR, WATCHER, RETENTION, TEMPLATE = _NAMES = "taskapi-super", "taskapi-watcher", "taskapi-tidy", "taskapi-warm"

_EVERY = 1.0  # seconds
_PR_GET_CHILD_SUBREAPER = 37

_lock = allocate_lock()
_reaping = set[int]()  # the process in which a thread does


def call_itself(name: str) -> None:
    """Give this process a name, which it keeps as a zombie (Linux)."""
    if host.LINUX:
        try:
            with open("/proc/self/comm", "w") as file:
                file.write(name)
        except OSError:
            pass


def begin() -> None:
    """Reap in a thread from now on, where this process inherits orphans; further calls do nothing."""
    with _lock:
        if os.getpid() in _reaping or not host.LINUX or not _gets_orphans():
            return
        _reaping.add(os.getpid())
    import threading

    threading.Thread(target=_reap_for_ever, name="taskapi-reaping", daemon=True).start()


def _gets_orphans() -> bool:
    if os.getpid() == 1:
        return True
    import ctypes

    collects = ctypes.c_int()
    return ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(collects), 0, 0, 0) == 0 and bool(collects)


def _reap_for_ever() -> None:
    while True:
        try:
            for pid in process.children(os.getpid()):
                _reap(pid)
        except OSError:  # no descriptor to be had, or a kernel that keeps no list of children
            pass
        time.sleep(_EVERY)


def _reap(pid: int) -> None:
    """Reap a child that has ended, if it is ours; by its pidfd, so that it is the process whose name was read."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            name, _, rest = file.read(4096).partition(b" (")[2].rpartition(b") ")
        fields = rest.split()
        if fields[0] == b"Z" and int(fields[1]) == os.getpid() and name.decode("utf-8", "replace") in _NAMES:
            os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    except (OSError, IndexError):
        pass
    finally:
        os.close(fd)


def reap_all(patience: float) -> None:
    """Reap all children that end within ``patience`` seconds, in a process whose children are all ours."""
    until = time.monotonic() + patience
    try:
        while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < until:
            time.sleep(0.001)
    except ChildProcessError:
        pass
