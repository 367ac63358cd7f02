"""Processes that the supervisor starts for what may take long, one of each kind at a time. Standard library only.

Not forks: SQLite's locks do not survive one. Each holds the end of a pipe, which closes when the process ends.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Collection

from .wake import command

_LOOK = 10.0  # seconds between two looks at the clock, which may be set, and stands still in suspend for poll
_DOZE = 600.0  # seconds until everything is looked at again
_SET = 1.0  # seconds by which a clock that was set differs at least
_AGAIN = 1.0  # seconds from a start to the next one for the same, which then double
_LONGEST = 60.0


class Helpers:
    """The helpers of one supervisor, by the module whose ``main(home)`` each runs."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._running: dict[str, int] = {}  # with the descriptor that can be read once it has ended
        self._due: dict[str, int] = {}  # for what
        self._tried: dict[str, tuple[int, float, float]] = {}  # for what, when, and the pause that follows

    @property
    def any_runs(self) -> bool:
        """Whether one is at work."""
        return bool(self._running)

    def runs(self, module: str) -> bool:
        """Whether this one is at work."""
        return module in self._running

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return list(self._running.values())

    def start(self, module: str, *, site: bool = False) -> None:
        """Start one; with ``site`` it may import what is installed. Where none can be started it has ended at once."""
        try:
            mine, theirs = os.pipe()
        except OSError:  # as many descriptors as there may be: next time
            return
        os.set_inheritable(theirs, True)
        try:
            os.posix_spawn(sys.executable, command(module, self._home, site=site), dict(os.environ))
        except OSError:  # as many processes as there may be: next time
            pass
        finally:
            os.close(theirs)
        self._running[module] = mine

    def ended(self, ready: Collection[int]) -> None:
        """Forget those whose descriptor can be read."""
        for module, fd in list(self._running.items()):
            if fd in ready:
                os.close(fd)
                del self._running[module]

    def keep(self, module: str, due: int | None) -> float | None:
        """Start one that does what is due at a time (µs); return the seconds until the next look, None: no need.

        Where the same is still due after it has ended, it is started again after a pause, which doubles.
        """
        if due is None:
            self._tried.pop(module, None)
            self._due.pop(module, None)
            return None
        self._due[module] = due
        if module in self._running:
            return _LOOK
        left = due / 1e6 - time.time()
        if left > 0:
            return min(left, _LOOK)
        last, at, pause = self._tried.get(module, (due, 0.0, 0.0))
        if last != due:
            at, pause = 0.0, 0.0
        now = time.monotonic()
        if at and now < at + pause:
            return at + pause - now
        self._tried[module] = (due, now, min(max(pause * 2, _AGAIN), _LONGEST))
        self.start(module, site=True)
        return _LOOK

    def wait(self, poll: select.poll, seconds: float, dozes: bool) -> list[tuple[int, int]]:
        """Wait until a descriptor can be read, and return which can, or until the time is over.

        Where one ``dozes``, which is nothing but waiting to start a helper, only the clock is looked at meanwhile: that
        costs next to nothing. It ends where the clock was set, or stood still as this machine slept, and where the home
        was removed.
        """
        begun, off = time.monotonic(), time.time() - time.monotonic()
        while True:
            ready = poll.poll(max(0, seconds * 1000) + 1)
            if ready or not dozes or not self._due:
                return ready
            now, passed = time.time(), time.monotonic()
            seconds = min(min(self._due.values()) / 1e6 - now, _LOOK)
            if (
                seconds <= 0
                or not os.path.exists(self._home)
                or abs(now - passed - off) > _SET
                or passed - begun > _DOZE
            ):
                return ready
