"""The one thread of a panel: it carries out what the user asked for, polls, waits until woken, and polls again."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from taskapi_jupyter.client.bell import Listener
from taskapi_jupyter.client.headers import EARLY
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.errors import TaskAPIError

PATIENCE = 2.0  # seconds to wait for a thread to end; a query under way then ends by itself
GAP = 0.25  # seconds between two polls at least, however fast the user types
HOLD = 10.0  # seconds for which a server may hold its answer
BLOCKED = 1.5  # seconds without an answer after which a kernel counts as busy

T = TypeVar("T")


class Poller:
    """Calls ``poll`` in a thread of its own, and again after as many seconds as it returns.

    The thread calls what :meth:`do` is given first, so that it alone touches the state of a panel.
    """

    def __init__(self, poll: Callable[[], float]) -> None:
        self._poll = poll
        self._wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._over: threading.Event | None = None  # set, it ends the thread that runs
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._over is not None

    @property
    def idle(self) -> bool:
        """Whether no other thread is left, of those that :meth:`aside` started neither."""
        return not any(one.is_alive() and one is not threading.current_thread() for one in self._threads)

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._over is None:
                self._over = over = threading.Event()
                self._thread("taskapi-panel", lambda: self._run(over))

    def stop(self, *, wait: bool = False) -> None:
        """End the thread; with ``wait``, return when it has ended, or after ``PATIENCE``."""
        with self._lock:
            over, self._over = self._over, None
        if over is not None:
            over.set()
            self.do(lambda: None)
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads if wait else ():
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _thread(self, name: str, run: Callable[[], None]) -> None:
        with self._lock:
            thread = threading.Thread(target=run, daemon=True, name=name)
            thread.start()
            self._threads = [thread, *(one for one in self._threads if one.is_alive())]

    def do(self, what: Callable[[], None]) -> None:
        """Have the thread call something, and then poll."""
        self._wanted.put(what)

    def aside(self, ask: Callable[[], T], then: Callable[[T | TaskAPIError], None]) -> None:
        """Call ``ask``, which may take long, in another thread; then have this one call ``then`` with its answer."""

        def run() -> None:
            answer: T | TaskAPIError
            try:
                answer = ask()
            except TaskAPIError as error:
                answer = error
            except Exception as error:  # a view shows it: nobody else could handle it
                answer = TaskAPIError(f"{type(error).__name__}: {error}")
            self.do(lambda: then(answer))

        self._thread("taskapi-panel-aside", run)

    def _run(self, over: threading.Event) -> None:
        while not over.is_set():
            began = time.monotonic()
            pause = self._poll()
            self._wait(max(began + pause - time.monotonic(), GAP), over)

    def _wait(self, seconds: float, over: threading.Event) -> None:
        """Wait until the time has passed or there is something to do, and do all of it."""
        now = time.monotonic()
        earliest, latest = now + GAP, now + seconds
        until = latest
        while not over.is_set() and (left := until - time.monotonic()) > 0:
            try:
                what = self._wanted.get(timeout=left)
            except queue.Empty:
                return
            if over.is_set():
                self._wanted.put(what)  # for the thread that comes after
                return
            what()
            until = min(until, earliest)


class Changes:
    """Calls ``changed`` when jobs of a TaskAPI change: by the bell of its home, or by answers that its server holds."""

    def __init__(self, api: TaskAPI, changed: Callable[[], None]) -> None:
        self.api, self._changed = api, changed
        self._over = threading.Event()
        self._listener = None if api.bell is None else Listener(api.bell, changed)
        if self._listener is None or not self._listener.works:
            threading.Thread(target=self._hold, daemon=True, name="taskapi-changes").start()

    def _hold(self) -> None:
        version: str | None = None
        while not self._over.is_set():
            before, began = version, time.monotonic()
            try:
                version = self.api.held_jobs(version, HOLD)
            except TaskAPIError:
                version = None  # the panel says what is wrong
            else:
                if version is None:
                    return
            if before != version and before and version:
                self._changed()
            elif time.monotonic() - began < EARLY and before:
                self._over.wait(HOLD)

    def close(self) -> None:
        """Call it no more."""
        self._over.set()
        if self._listener is not None:
            self._listener.close()


class Attention:
    """Whether the kernel's main thread answers: while a cell blocks it, no click is handled."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._asked: float | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # no kernel

    def busy(self) -> bool:
        """Whether the main thread has left a question unanswered for long; ask one if none is open."""
        if self._loop is None:
            return False
        if self._asked is not None:
            return time.monotonic() - self._asked > BLOCKED
        self._asked = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # it was closed: the kernel is on its way out
            self._loop = None
        return False

    def _answer(self) -> None:
        self._asked = None
        self._heard()
