"""Waits for changes of files: a home's bell, which each commit rings (``service/store/bell``), a job's log or progress.

By inotify on Linux, by nothing elsewhere. One thread and one inotify instance serve all who listen in a process, as a
user has 128 instances. The thread ends a second or two after the last of them: one wait often follows another, and the
kernel takes 15 ms to close an instance. Order of whoever waits: listen, then read, then wait.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import files, guard, host
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.paths import HomePaths

if TYPE_CHECKING:
    import asyncio

LOOK_AGAIN = 1.0  # seconds after which whoever listens looks without a ring, too: a ring may be lost

_NO_LINK, _ONLY_FOLDER, _ADD = 0x2000000, 0x1000000, 0x20000000  # IN_DONT_FOLLOW, IN_ONLYDIR, IN_MASK_ADD
_OF_FILE = 0x2 | 0x4 | 0x400 | 0x800 | _NO_LINK | _ADD  # IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF, IN_MOVE_SELF
_OF_FOLDER = 0x80 | 0x100 | _ONLY_FOLDER | _NO_LINK | _ADD  # IN_MOVED_TO, IN_CREATE
_WRITTEN = 0x2  # IN_MODIFY
_GONE = 0x8000  # IN_IGNORED
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows

_REST = 0.002  # seconds between two rounds: a task may write its log many thousand times a second
_LINGER = 1.0  # seconds without an event after which the thread ends if nobody listens any more

_lock = threading.Lock()
_thread: _Thread | None = None


class Listener:
    """Calls ``woken``, in a thread of its own, at each change from its making until it is closed.

    Changes are rings of the bell of ``home`` or, with ``job_id``, new files in that job's folder whose names begin with
    ``prefix``, or one of several, and what is ``written`` to them; the folder may come later. A prefix that has a slash
    is of a folder in it. ``works`` is false where nobody is notified: off Linux, on a network file system, in a home
    that can't be used, or where no descriptor or inotify instance is left.
    """

    def __init__(
        self,
        home: str | os.PathLike[str],
        woken: Callable[[], Any],
        job_id: str | None = None,
        prefix: str | tuple[str, ...] = "",
        written: bool = False,
    ) -> None:
        global _thread  # noqa: PLW0603
        paths = HomePaths(os.path.abspath(home))
        prefixes = (prefix,) if isinstance(prefix, str) else prefix
        inner = os.path.dirname(prefixes[0])
        self.path = paths.bell if job_id is None else os.path.join(paths.job(job_id).folder, inner).rstrip("/")
        self.mask = _OF_FILE if job_id is None else _OF_FOLDER | (_WRITTEN if written else 0)
        self.prefix = tuple(os.fsencode(os.path.basename(one)) for one in prefixes)
        self.woken = woken
        self.works = False
        with _lock, suppress(OSError, AttributeError, TaskAPIError):  # AttributeError: a C library without inotify
            if not host.LINUX:
                return
            guard.check(paths.folder)
            begun = _thread or _Thread()
            try:
                if not begun.notifies(paths.folder):
                    raise OSError("nobody is notified of what another host writes")
                begun.add(self)
                if begun is not _thread:
                    begun.start()
                    _thread = begun
            except BaseException:
                if begun is not _thread:
                    begun.close()
                raise
            self.works = True

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        with _lock:
            if self.works and _thread is not None and self in _thread.listeners.get(self.path, ()):
                _thread.remove(self)  # else it was closed before, or made before a fork


async def woken(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, at most so many seconds. ``asyncio.wait_for`` may lose a cancellation before 3.12."""
    import asyncio

    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=seconds)
    finally:
        waiting.cancel()


class _Thread:
    """The thread that is told of changes. All but its loop is called with ``_lock`` held."""

    def __init__(self) -> None:
        import ctypes  # only who waits needs it

        self.listeners: dict[str, set[Listener]] = {}  # by path
        self._watches: dict[int, str] = {}
        self._missing: set[str] = set()  # the paths that were not there yet
        self._notified: set[str] = set()  # homes that are on no network file system
        self._errno = ctypes.get_errno
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            raise OSError(self._errno(), "inotify_init1")

    def start(self) -> None:
        threading.Thread(target=self._run, name="taskapi-bell", daemon=True).start()

    def notifies(self, home: str) -> bool:
        """Whether changes in a home are told of; found out once, as that reads all that is mounted."""
        if home not in self._notified and host.network_filesystem(home) is None:
            self._notified.add(home)
        return home in self._notified

    def add(self, listener: Listener) -> None:
        """Begin to watch for a listener; a folder that is not there yet is watched as soon as it is."""
        if not self._found(listener):
            self._watch(os.path.dirname(listener.path), _OF_FOLDER)
            if not self._found(listener):
                self._missing.add(listener.path)
        self.listeners.setdefault(listener.path, set()).add(listener)

    def _found(self, listener: Listener) -> bool:
        with suppress(FileNotFoundError):
            self._watch(listener.path, listener.mask)
            return True
        return False

    def remove(self, listener: Listener) -> None:
        """Watch a path no longer than somebody listens."""
        those = self.listeners[listener.path]
        those.discard(listener)
        if not those:
            del self.listeners[listener.path]
            self._missing.discard(listener.path)
            self._drop_unused()

    def _drop_unused(self) -> None:
        """Watch nothing that nobody listens to, unless it is where a missing folder will be."""
        parents = {os.path.dirname(path) for path in self._missing}
        for watch, path in list(self._watches.items()):
            if path not in self.listeners and path not in parents:
                del self._watches[watch]
                self._libc.inotify_rm_watch(self._inotify, watch)

    def _watch(self, path: str, mask: int) -> None:
        """Watch a path. A bell is made where it is missing, and where another file has its name, that is watched."""
        if not mask & _ONLY_FOLDER and not os.path.lexists(path):
            os.close(files.create(path, os.O_WRONLY))
        watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(path), mask)
        if watch < 0:
            number = self._errno()
            raise OSError(number, os.strerror(number), path)
        self._watches[watch] = path

    def _run(self) -> None:
        global _thread  # noqa: PLW0603
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        while True:
            ready = poll.poll(_LINGER * 1000)
            with _lock:
                if not ready and not self.listeners:
                    _thread = None
                    break
                woken = self._changed() if ready else ()
            for listener in woken:
                with suppress(RuntimeError):  # of an event loop that has ended
                    listener.woken()
            if woken:
                time.sleep(_REST)
        self.close()

    def _changed(self) -> set[Listener]:
        """Return those whose files have changed."""
        woken: set[Listener] = set()
        again: set[str] = set()
        for watch, mask, name in self._read():
            path = self._watches.get(watch, "")
            for listener in self.listeners.get(path, ()):
                if not name:
                    again.add(path)  # another file may have the bell's name now
                if name.startswith(listener.prefix):
                    woken.add(listener)
            if mask & _GONE and self._watches.pop(watch, None) in self.listeners:
                self._missing.add(path)
        for path in again | self._missing:
            with suppress(OSError):  # not there yet, or the home is gone: whoever listens still looks now and then
                for listener in self.listeners[path]:
                    self._watch(path, listener.mask)
                if path in self._missing:
                    self._missing.discard(path)
                    woken |= self.listeners[path]
                    self._drop_unused()
        return woken

    def _read(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the watch, the mask and the file's name of each event that waits."""
        with suppress(BlockingIOError):
            data = os.read(self._inotify, 1 << 16)
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                yield watch, mask, data[at - length : at].rstrip(b"\0")

    def close(self) -> None:
        """Close what no thread reads."""
        os.close(self._inotify)


def _forget() -> None:
    """Begin anew in a forked child: its parent's thread is not there."""
    global _lock, _thread  # noqa: PLW0603
    _lock = threading.Lock()
    if _thread is not None:
        with suppress(OSError):
            _thread.close()
    _thread = None


os.register_at_fork(after_in_child=_forget)
