"""Wait for groups: one read tells of all jobs of a group, and one bar shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taskapi_jupyter.client import bell, log_reader
from taskapi_jupyter.client.headers import waiting
from taskapi_jupyter.client.waiting import interrupts
from taskapi_jupyter.client.waiting.jobs import ASIDE, HOLD, LISTEN_AGAIN
from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.display import bar as bars
from taskapi_jupyter.display.text import in_short

if TYPE_CHECKING:
    from .group import Group


def steps(group: Group, timeout: float | None) -> Iterator[None]:
    """Read a group's state and yield, again at each change, until all of its jobs have ended.

    Raises TimeoutError after ``timeout`` seconds. An interrupt leaves the jobs running and prints that.
    """
    clock, changed = _Clock(group, timeout), threading.Event()
    home = group.api.bell
    try:
        with _shown(group) as bar:
            if home is None:
                yield from _steps(clock, bar, changed)
            else:
                with bell.Listener(home, changed.set) as listener:
                    clock.hears = listener.works
                    yield from _steps(clock, bar, changed)
    except KeyboardInterrupt as error:
        interrupts.say_what_goes_on([group])
        in_short(error)
        raise


def _steps(clock: _Clock, bar: bars.Bar, changed: threading.Event) -> Iterator[None]:
    while True:
        clock.look()
        bar.show(clock.group.record)
        yield
        if clock.group.seen_ended:
            return
        pause = clock.pause()
        if not clock.hold(min(clock.left(HOLD), HOLD)):
            changed.wait(pause)
            time.sleep(clock.rest())
            changed.clear()


async def steps_aside(group: Group) -> AsyncIterator[None]:
    """Do as :func:`steps` without blocking the event loop."""
    import asyncio

    clock, changed, loop = _Clock(group, None), asyncio.Event(), asyncio.get_running_loop()
    home = group.api.bell

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    listener = None if home is None else bell.Listener(home, wake)
    with _shown(group) as bar, interrupts.listening(group) as listen:
        if listener is not None:
            listener.__enter__()
            clock.hears = listener.works
        try:
            while True:
                await asyncio.to_thread(clock.look)
                bar.show(group.record)
                yield
                if group.seen_ended:
                    return
                holding = asyncio.ensure_future(asyncio.to_thread(clock.hold, ASIDE))
                while not holding.done():
                    listen()  # often: another cell may begin meanwhile
                    await asyncio.wait({holding}, timeout=LISTEN_AGAIN)
                if not holding.result():
                    listen()
                    await bell.woken(changed, min(clock.pause(), LISTEN_AGAIN))
                    await asyncio.sleep(clock.rest())
                    changed.clear()
        finally:
            if listener is not None:
                listener.__exit__(None, None, None)


@contextmanager
def _shown(group: Group) -> Iterator[bars.Bar]:
    bar = bars.join([group.record])
    try:
        yield bar
    finally:
        bars.leave(bar, [group.record])


class _Clock:
    """When to look again, and for how long a server may be unreachable."""

    def __init__(self, group: Group, timeout: float | None) -> None:
        self.group, self.timeout = group, timeout
        self.began = self.heard = time.monotonic()
        self.looked = self.took = 0.0
        self.hears = False  # whether each change wakes us

    def look(self) -> None:
        self.looked = time.monotonic()
        self._try(self.group.refresh)
        self.took = time.monotonic() - self.looked

    def hold(self, seconds: float) -> bool:
        """Have the server answer once something has changed; False where it can't."""
        if self.group.api.bell is not None:
            return False
        return bool(self._try(lambda: self.group.hold(seconds)))

    def _try(self, ask: object) -> object:
        try:
            with waiting():
                answer = ask()  # type: ignore[operator]
        except Unreachable as error:
            if time.monotonic() - self.heard > self.group.api.patience:
                raise type(error)(
                    f"{error.message}; {self.group.called}: {self.group.summary} when last seen"
                ) from None
            return False
        self.heard = time.monotonic()
        return answer

    def left(self, otherwise: float) -> float:
        return otherwise if self.timeout is None else max(self.began + self.timeout - time.monotonic(), 0.01)

    def pause(self) -> float:
        waited = time.monotonic() - self.began
        if self.timeout is not None and waited >= self.timeout:
            raise TimeoutError(f"{self.group.called} has not ended after {self.timeout:g} s: {self.group.summary}")
        pause = bell.LOOK_AGAIN if self.hears else log_reader.pause(waited, self.group.api.poll_ceiling)
        return min(pause, self.left(pause))

    def rest(self) -> float:
        """Return how long not to look yet, although woken: its jobs may ring many times a second."""
        ceiling = self.group.api.poll_ceiling
        pause = max(log_reader.pause(time.monotonic() - self.began, ceiling), min(3 * self.took, 1.0))
        return max(min(self.looked + pause - time.monotonic(), self.left(pause)), 0)
