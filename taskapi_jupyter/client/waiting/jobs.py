"""Wait for jobs: when to poll them, one bar for all that are waited for at once, and how a wait ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from taskapi_jupyter.client import bell, log_reader
from taskapi_jupyter.client.headers import waiting
from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display import bar as bars
from taskapi_jupyter.display.text import in_short

from . import interrupts

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import Job, TaskAPI

HOLD = 20.0  # seconds for which a server holds an answer at most; proxies give up on silent ones after 30 to 60
ASIDE = 2.0  # the same where an event loop goes on: its thread can't be interrupted
LISTEN_AGAIN = 0.25  # seconds until an awaiting cell takes over interrupts from a cell that has begun meanwhile
PROGRESS = 20  # jobs whose progress wakes a wait


def wait(jobs: Iterable[Job], timeout: float | None = None, *, follow: bool = True) -> list[Job]:
    """Wait until all jobs have ended, in whatever state, and return them; raise TimeoutError after ``timeout`` seconds.

    A job that failed and is tried again is waited for until its last attempt has ended, which is then returned in its
    place; not so without ``follow``. An interrupt leaves the jobs running and prints that.
    """
    jobs = list(dict.fromkeys(jobs))
    clock, changed = _Clock(timeout), threading.Event()
    try:
        with _shown(jobs) as bar, _listening(jobs, changed.set, bar.draws) as clock.heard_homes:
            while going := _look(jobs, clock, bar if follow else None):
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
    return jobs


async def wait_aside(job: Job) -> Job:
    """Wait for a job without blocking the event loop, and return its last attempt; it can be cancelled."""
    import asyncio

    clock, changed, loop = _Clock(None), asyncio.Event(), asyncio.get_running_loop()
    jobs = [job]

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    with (
        _shown(jobs) as bar,
        interrupts.listening(job) as listen,
        _listening([job], wake, bar.draws),
    ):
        while await asyncio.to_thread(_look, jobs, clock, bar):
            job = jobs[0]
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
    return jobs[0]


@contextmanager
def _shown(jobs: Sequence[Job]) -> Iterator[bars.Bar]:
    """Show the jobs on the bar of all jobs that are waited for now."""
    bar = bars.join([job.seen for job in jobs])
    try:
        yield bar
    finally:
        bars.leave(bar, [job.seen for job in jobs])  # as they are then, attempts that took their place among them


@contextmanager
def _listening(jobs: Sequence[Job], woken: Callable[[], None], progress: bool) -> Iterator[set[Path]]:
    """Call ``woken`` at changes in the jobs' homes that are on this machine; give those where that works.

    ``progress``: also when one of the first jobs says how far it is, which each file in their folders takes a look for.
    """
    with ExitStack() as stack:
        here = [(job.bell, job.id) for job in jobs if not job.seen_ended and job.bell is not None]
        for home, job_id in here[:PROGRESS] if progress else ():
            stack.enter_context(bell.Listener(home, woken, job_id, "progress"))
        homes = {home for home, _ in here}
        yield {home for home in homes if stack.enter_context(bell.Listener(home, woken)).works}


def _look(jobs: list[Job], clock: _Clock, follows: bars.Bar | None) -> list[Job]:
    """Read the state of all jobs, pending ones that are known to have stayed so aside; return those that go on.

    Those that are tried again are replaced by their next attempts, also on the bar ``follows``.
    """
    began = time.monotonic()
    going = [job for job in jobs if not job.seen_ended]
    changed: dict[TaskAPI, Collection[str] | None] = {}
    if len(going) > 1:
        for api in {job.api for job in going if job.bell is not None}:
            clock.news[api], changed[api] = api.changed(clock.news.get(api))
    for index, job in enumerate(jobs):
        news = changed.get(job.api) if job.bell is not None else None
        recent = began - clock.heard.get(job, -bell.LOOK_AGAIN) < bell.LOOK_AGAIN
        if news is None or job.id in news or not recent or job.seen.code is not JobCode.PENDING:
            _poll(job, clock)
        last = job
        while last.seen_ended and follows is not None and (attempt := last.next_attempt()) is not None:
            follows.drop(last.id)
            jobs[index] = last = attempt
            _poll(last, clock)
    clock.looked = time.monotonic()
    clock.took = clock.looked - began
    return [job for job in jobs if not job.seen_ended]


def _hold(job: Job, clock: _Clock, seconds: float) -> bool:
    """Let the server answer when the job has changed; False where it can't, or where that is no reason not to pause."""
    before = clock.heard.get(job)
    return _poll(job, clock, seconds) or clock.heard.get(job) != before


def _poll(job: Job, clock: _Clock, hold: float = 0) -> bool:
    """Read the state unless it is final, and return whether it is; a server may be unreachable for a while."""
    if not job.seen_ended:
        try:
            with waiting():
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
        self.news: dict[TaskAPI, object] = {}  # up to where each was asked which jobs have changed
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
