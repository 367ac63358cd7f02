"""Waits for the bell of a home, which each commit rings (``service/store/bell``): inotify on Linux, nothing elsewhere.

One thread and one inotify instance serve all who listen in a process to one home, as a user has 128 instances; the
thread ends with the last of them. Order of whoever waits: listen, then read, then wait.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, guard, host
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.paths import HomePaths

LOOK_AGAIN = 0.25  # seconds after which whoever listens looks without a ring, too: progress rings no bell

_MASK = 0x2 | 0x4 | 0x400 | 0x800 | 0x2000000  # IN_MODIFY, _ATTRIB, _DELETE_SELF, _MOVE_SELF, _DONT_FOLLOW

_PATIENCE = 1.0  # seconds to wait for the thread to end

_lock = threading.Lock()
_watches: dict[str, _Watch] = {}


class Listener:
    """Calls ``woken``, in a thread of its own, at each ring of a home's bell, from its making until it is closed.

    ``works`` is false where nobody is notified: off Linux, on a network file system, in a home that can't be used, or
    where no descriptor or inotify instance is left.
    """

    def __init__(self, home: str | os.PathLike[str], woken: Callable[[], Any]) -> None:
        self._home, self._woken = os.path.abspath(home), woken
        with _lock:
            watch = _watches.get(self._home)
            if watch is None:
                with suppress(OSError, AttributeError, TaskAPIError):  # AttributeError: a C library without inotify
                    watch = _watches[self._home] = _Watch(self._home)
            self.works = watch is not None
            if watch is not None:
                watch.listeners.append(woken)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        with _lock:
            watch = _watches.get(self._home)
            if not self.works or watch is None or self._woken not in watch.listeners:
                return  # closed before, or made before a fork
            watch.listeners.remove(self._woken)
            if watch.listeners:
                return
            del _watches[self._home]
        watch.end()  # without the lock, which its thread may wait for


class _Watch:
    """The thread that is told of a home's rings."""

    def __init__(self, home: str) -> None:
        if not host.LINUX or host.network_filesystem(home) is not None:
            raise OSError("nobody would be notified")
        import ctypes  # only who waits needs it

        guard.check(home)
        self._errno = ctypes.get_errno
        self.listeners: list[Callable[[], Any]] = []
        self._path = HomePaths(home).bell
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            raise OSError(self._errno(), "inotify_init1")
        try:
            self._ended, self._end = os.pipe()
        except OSError:
            os.close(self._inotify)
            raise
        try:
            self._add()
            self._thread = threading.Thread(target=self._run, name="taskapi-bell", daemon=True)
            self._thread.start()
        except BaseException:
            self.close()
            raise

    def _add(self) -> None:
        """Watch the file, which is made where it is missing; again where another one has its name now."""
        if not os.path.lexists(self._path):
            os.close(files.create(self._path, os.O_WRONLY))
        if self._libc.inotify_add_watch(self._inotify, os.fsencode(self._path), _MASK) < 0:
            raise OSError(self._errno(), "inotify_add_watch")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        poll.register(self._ended, select.POLLHUP)
        while self._ended not in dict(poll.poll()):
            with suppress(BlockingIOError):
                os.read(self._inotify, 1 << 16)
            with suppress(OSError):  # the home is gone, or the disk is full: whoever listens still looks now and then
                self._add()
            with _lock:
                listeners = list(self.listeners)
            for woken in listeners:
                with suppress(RuntimeError):  # of an event loop that has ended
                    woken()
        os.close(self._inotify)
        os.close(self._ended)

    def end(self) -> None:
        """End the thread; nothing of it is left on return."""
        os.close(self._end)
        self._thread.join(_PATIENCE)

    def close(self) -> None:
        """Close the descriptors where no thread does."""
        for fd in (self._end, self._ended, self._inotify):
            os.close(fd)


def _forget() -> None:
    """Begin anew in a forked child: its parent's thread is not there."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for watch in _watches.values():
        with suppress(OSError):
            watch.close()
    _watches.clear()


os.register_at_fork(after_in_child=_forget)
