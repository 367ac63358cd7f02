"""Wait for jobs: when to poll them, one bar for all that are waited for at once, and how a wait ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.display import bar as bars
from taskapi_jupyter.display.text import in_short

from . import interrupts, log_reader

if TYPE_CHECKING:
    from .taskapi import Job


def wait(jobs: Iterable[Job], timeout: float | None = None) -> None:
    """Wait until all jobs have ended, in whatever state; raise TimeoutError after ``timeout`` seconds.

    An interrupt leaves the jobs running and prints that.
    """
    jobs = list(dict.fromkeys(jobs))
    clock = _Clock(timeout)
    try:
        with _shown(jobs) as bar:
            while going := [job for job in jobs if not _poll(job, clock)]:
                bar.show(*(job.seen for job in jobs))
                time.sleep(clock.pause(going, jobs))
    except KeyboardInterrupt as error:
        interrupts.say_what_goes_on(jobs)
        in_short(error)
        raise


async def wait_aside(job: Job) -> None:
    """Wait for a job without blocking the event loop; it can be cancelled, as any coroutine."""
    clock = _Clock(None)
    with _shown([job]) as bar, interrupts.listening(job) as listen:
        while not await asyncio.to_thread(_poll, job, clock):
            bar.show(job.seen)
            listen()
            await asyncio.sleep(clock.pause([job], [job]))


@contextmanager
def _shown(jobs: Sequence[Job]) -> Iterator[bars.Bar]:
    """Show the jobs on the bar of all jobs that are waited for now."""
    bar = bars.join([job.seen for job in jobs])
    try:
        yield bar
    finally:
        bars.leave(bar, [job.seen for job in jobs])


def _poll(job: Job, clock: _Clock) -> bool:
    """Read the state unless it is final, and return whether it is; a server may be unreachable for a while."""
    if not job.seen_ended:
        try:
            job.refresh()
            clock.heard[job] = time.monotonic()
        except Unreachable as error:
            if time.monotonic() - clock.heard.get(job, clock.began) > job.patience:
                seen = f"job {job.id} of {job.api_name} was {job.seen.code.label} when last seen"
                raise type(error)(f"{error.message}; {seen}", kind=error.kind, status=error.status) from None
    return job.seen_ended


class _Clock:
    """When to look again: after a quarter of the time waited so far, within bounds, until time is up."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.began = time.monotonic()
        self.heard: dict[Job, float] = {}  # when each was answered for

    def pause(self, going: Sequence[Job], jobs: Sequence[Job]) -> float:
        """Return how long to sleep; raise TimeoutError where no time is left."""
        waited = time.monotonic() - self.began
        pause = log_reader.pause(waited, max(job.poll_ceiling for job in going))
        if self.timeout is None:
            return pause
        if waited >= self.timeout:
            raise TimeoutError(_late(going, len(jobs), self.timeout))
        return min(pause, self.timeout - waited)


def _late(going: Sequence[Job], count: int, timeout: float) -> str:
    if count == 1:
        job = going[0]
        return f"job {job.id} of {job.api_name} is still {job.seen.code.label} after {timeout:g} s"
    which = ", ".join(f"{job.id} ({job.seen.code.label})" for job in going[:10])
    return f"{len(going)} of {count} jobs have not ended after {timeout:g} s: {which}"
