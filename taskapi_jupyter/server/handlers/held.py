"""Answers that wait for a change: ``?wait=SECONDS&since=VERSION``. No thread is held meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from hashlib import blake2b

from msgspec import UNSET
from msgspec.structs import replace

from taskapi_jupyter.client.bell import LOOK_AGAIN, woken
from taskapi_jupyter.client.headers import VERSION_HEADER
from taskapi_jupyter.core.contract import JobStatus

from .base import Handler

MAX_WAIT = 60  # seconds
MAX_HELD = 1000  # requests and streams that wait at a time; beyond that, requests are answered at once
REST = 0.005  # seconds between two looks at least
SHARE = 4  # looks take one in so many parts of the time at most, however much changes


class HeldHandler(Handler):
    """Base of the routes that can wait."""

    answer = b""
    since: str | None = None  # the version that the client has
    waits = False  # whether this request may wait
    restless = False  # whether something changes that nobody is notified of, such as the progress of several jobs
    _changed: asyncio.Event | None = None
    _gone = False

    def on_connection_close(self) -> None:
        """Wait no more: the client has gone."""
        super().on_connection_close()
        self._gone = True
        if self._changed is not None:
            self._changed.set()

    def differs(self, answer: bytes) -> bool:
        """Put an answer's version into its header; return whether the client has another one.

        A client that has none waits for the next change.
        """
        version = blake2b(answer, digest_size=8).hexdigest()
        self.set_header(VERSION_HEADER, version)
        self.since = self.since or version
        return version != self.since

    async def hold(
        self,
        env: str,
        look: Callable[[], Awaitable[bool]],
        job_id: str | None,
        prefix: str | tuple[str, ...] = "",
    ) -> None:
        """Call ``look`` at each change until it returns true, ``wait`` is over, or the client has gone.

        Changes are those of one job, and of the files in its folder that begin with ``prefix``, or one of several;
        without a job, all of the home.
        """
        seconds = self.number("wait", MAX_WAIT) or 0.0
        self.waits = seconds > 0 and self.backends.clusters.find(env) is None
        if await look() or not self.waits:
            return
        loop, changes = asyncio.get_running_loop(), self.backends.changes_of(self.backends.environment(env))
        until = loop.time() + seconds
        if changes.waiting >= MAX_HELD:
            return
        with ExitStack() as stack:
            if job_id is None:
                changed = stack.enter_context(changes.watching(None))
            else:
                changed, heard = stack.enter_context(changes.watching_files(job_id, prefix))
                self.restless = not heard
            self._changed = changed
            while not self._gone and not changes.stopping:
                changed.clear()
                count, began = changes.count, loop.time()
                if await look():
                    return
                took = loop.time() - began
                while not changed.is_set():
                    left = until - loop.time()
                    if left <= 0:
                        return
                    await woken(changed, min(left, LOOK_AGAIN))
                    if self.restless or changes.count != count:  # other jobs change a job's place in line
                        break
                await asyncio.sleep(max(began + max(REST, SHARE * took) - loop.time(), 0))


def without_usage(record: JobStatus) -> JobStatus:
    """Return a job as its version counts it: what it uses changes each second, and nobody waits for that."""
    return replace(record, usage=UNSET) if record.usage else record
