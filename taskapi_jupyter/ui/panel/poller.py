"""The one thread of a panel: it does what people asked for, looks, waits, and looks again."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from taskapi_jupyter.core.errors import TaskAPIError

PATIENCE = 2.0  # seconds that an end is waited for; a query under way then ends by itself
GAP = 0.25  # seconds between two looks at least, however fast somebody types
BLOCKED = 1.5  # seconds without an answer after which a kernel counts as busy

T = TypeVar("T")


class Pulse:
    """Calls ``look`` in a thread of its own, and again after as many seconds as it returns.

    What is handed to :meth:`do` is done in that thread first: so all that a panel knows is touched by it alone.
    """

    def __init__(self, look: Callable[[], float]) -> None:
        self._look = look
        self._wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._over: threading.Event | None = None  # set, it ends the thread that runs
        self._threads: list[threading.Thread] = []

    @property
    def runs(self) -> bool:
        """Say whether the thread is there."""
        return self._over is not None

    @property
    def rests(self) -> bool:
        """Say whether no other thread is left, none that :meth:`aside` started either."""
        return not any(one.is_alive() and one is not threading.current_thread() for one in self._threads)

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._over is None:
                self._over = over = threading.Event()
                self._thread("taskapi-panel", lambda: self._run(over))

    def stop(self, *, wait: bool = False) -> None:
        """End the thread; with ``wait``, return when nothing is left of it or a query holds it up."""
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
        """Have something done in the thread, and a look after it."""
        self._wanted.put(what)

    def aside(self, ask: Callable[[], T], then: Callable[[T | TaskAPIError], None]) -> None:
        """Ask for what may take long without holding up the looks; ``then`` is done as by :meth:`do`."""

        def run() -> None:
            answer: T | TaskAPIError
            try:
                answer = ask()
            except TaskAPIError as error:
                answer = error
            except Exception as error:  # of a thread; a view says what it was
                answer = TaskAPIError(f"{type(error).__name__}: {error}")
            self.do(lambda: then(answer))

        self._thread("taskapi-panel-aside", run)

    def _run(self, over: threading.Event) -> None:
        while not over.is_set():
            began = time.monotonic()
            pause = self._look()
            self._wait(max(began + pause - time.monotonic(), GAP), over)

    def _wait(self, seconds: float, over: threading.Event) -> None:
        """Wait for the time to pass or for something to do, and do all there is to do."""
        now = time.monotonic()
        earliest, latest = now + GAP, now + seconds
        until = latest
        while not over.is_set() and (left := until - time.monotonic()) > 0:
            try:
                what = self._wanted.get(timeout=left)
            except queue.Empty:
                return
            if over.is_set():
                self._wanted.put(what)  # for who comes after
                return
            what()
            until = min(until, earliest)


class Attention:
    """Whether the kernel's main thread listens: a cell that blocks it holds up every click."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._asked: float | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # no kernel

    def busy(self) -> bool:
        """Say whether a question has been without an answer for long; ask one where none is open."""
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
