"""Wait for jobs: when to poll them, one bar for all that are waited for at once, and how a wait ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.display import bar as bars
from taskapi_jupyter.display.text import in_short

from . import bell, interrupts, log_reader

if TYPE_CHECKING:
    from .taskapi import Job

HOLD = 20.0  # seconds for which a server holds an answer at most; proxies give up on silent ones after 30 to 60
ASIDE = 2.0  # the same where an event loop goes on: its thread can't be interrupted
LISTEN_AGAIN = 0.25  # seconds until an awaiting cell takes over interrupts from a cell that has begun meanwhile
PROGRESS = 20  # jobs whose progress wakes a wait


def wait(jobs: Iterable[Job], timeout: float | None = None) -> None:
    """Wait until all jobs have ended, in whatever state; raise TimeoutError after ``timeout`` seconds.

    An interrupt leaves the jobs running and prints that.
    """
    jobs = list(dict.fromkeys(jobs))
    clock, changed = _Clock(timeout), threading.Event()
    try:
        with _shown(jobs) as bar, _listening(jobs, changed.set) as clock.heard_homes:
            while going := _look(jobs, clock):
                bar.show(*(job.seen for job in jobs))
                pause = clock.pause(going, jobs)
                if not _hold(going[0], clock, clock.held(going, pause)):
                    changed.wait(pause)
                    time.sleep(clock.rest(going))
                    changed.clear()
    except KeyboardInterrupt as error:
        interrupts.say_what_goes_on(jobs)
        in_short(error)
        raise


async def wait_aside(job: Job) -> None:
    """Wait for a job without blocking the event loop; it can be cancelled, as any coroutine."""
    import asyncio

    clock, changed, loop = _Clock(None), asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    with (
        _shown([job]) as bar,
        interrupts.listening(job) as listen,
        _listening([job], wake),
    ):
        while await asyncio.to_thread(_look, [job], clock):
            bar.show(job.seen)
            holding = asyncio.ensure_future(asyncio.to_thread(_hold, job, clock, ASIDE))
            while not holding.done():
                listen()  # often: another cell may begin meanwhile
                await asyncio.wait({holding}, timeout=LISTEN_AGAIN)
            if not holding.result():
                listen()
                await bell.woken(changed, min(clock.pause([job], [job]), LISTEN_AGAIN))
                await asyncio.sleep(clock.rest([job]))
                changed.clear()


@contextmanager
def _shown(jobs: Sequence[Job]) -> Iterator[bars.Bar]:
    """Show the jobs on the bar of all jobs that are waited for now."""
    bar = bars.join([job.seen for job in jobs])
    try:
        yield bar
    finally:
        bars.leave(bar, [job.seen for job in jobs])


@contextmanager
def _listening(jobs: Sequence[Job], woken: Callable[[], None]) -> Iterator[set[Path]]:
    """Call ``woken`` at changes in the jobs' homes that are on this machine; give those where that works."""
    with ExitStack() as stack:
        here = [(job.bell, job.id) for job in jobs if not job.seen_ended and job.bell is not None]
        for home, job_id in here[:PROGRESS]:
            stack.enter_context(bell.Listener(home, woken, job_id, "progress"))
        homes = {home for home, _ in here}
        yield {home for home in homes if stack.enter_context(bell.Listener(home, woken)).works}


def _look(jobs: Iterable[Job], clock: _Clock) -> list[Job]:
    """Read the state of all jobs; return those that have not ended."""
    began = time.monotonic()
    going = [job for job in jobs if not _poll(job, clock)]
    clock.looked = time.monotonic()
    clock.took = clock.looked - began
    return going


def _hold(job: Job, clock: _Clock, seconds: float) -> bool:
    """Let the server answer when the job has changed; False where it can't, or where that is no reason not to pause."""
    before = clock.heard.get(job)
    return _poll(job, clock, seconds) or clock.heard.get(job) != before


def _poll(job: Job, clock: _Clock, hold: float = 0) -> bool:
    """Read the state unless it is final, and return whether it is; a server may be unreachable for a while."""
    if not job.seen_ended:
        try:
            if not hold:
                job.refresh()
            elif not job.hold(hold):
                return False
            clock.heard[job] = time.monotonic()
        except Unreachable as error:
            if time.monotonic() - clock.heard.get(job, clock.began) > job.patience:
                seen = f"job {job.id} of {job.api_name} was {job.seen.code.label} when last seen"
                raise type(error)(f"{error.message}; {seen}", kind=error.kind, status=error.status) from None
    return job.seen_ended


class _Clock:
    """When to look again unless woken: after a quarter of the time waited so far, within bounds, until time is up."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.began = time.monotonic()
        self.heard: dict[Job, float] = {}  # when each was answered for
        self.looked = self.took = 0.0  # when all were read, and in how many seconds
        self.heard_homes: set[Path] = set()  # of which each change wakes us

    def pause(self, going: Sequence[Job], jobs: Sequence[Job]) -> float:
        """Return how long to sleep; raise TimeoutError where no time is left."""
        waited = time.monotonic() - self.began
        if all(job.bell in self.heard_homes for job in going):
            pause = bell.LOOK_AGAIN
        else:
            pause = log_reader.pause(waited, max(job.poll_ceiling for job in going))
        if self.timeout is None:
            return pause
        if waited >= self.timeout:
            raise TimeoutError(_late(going, len(jobs), self.timeout))
        return min(pause, self.timeout - waited)

    def held(self, going: Sequence[Job], pause: float) -> float:
        """Return for how long a server may hold its answer about the first of some jobs; of others, nothing is seen."""
        left = HOLD if self.timeout is None else self.began + self.timeout - time.monotonic()
        return max(min(left, HOLD), 0.01) if len(going) == 1 else pause

    def rest(self, going: Sequence[Job]) -> float:
        """Return how long not to look yet, although woken: other jobs may ring many times a second."""
        now, ceiling = time.monotonic(), max(job.poll_ceiling for job in going)
        pause = max(log_reader.pause(now - self.began, ceiling / 5), min(self.took, ceiling))
        return max(self.looked + pause - now, 0)


def _late(going: Sequence[Job], count: int, timeout: float) -> str:
    if count == 1:
        job = going[0]
        return f"job {job.id} of {job.api_name} is still {job.seen.code.label} after {timeout:g} s"
    which = ", ".join(f"{job.id} ({job.seen.code.label})" for job in going[:10])
    return f"{len(going)} of {count} jobs have not ended after {timeout:g} s: {which}"
