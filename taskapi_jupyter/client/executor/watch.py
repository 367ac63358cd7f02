"""How the futures of executors learn that their jobs have ended: in the thread that waits (``client/waiting/thread``).

It reads groups page by page, from the first job on that may not have ended: the jobs of a group start in the order of
their index.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import wait

from taskapi_jupyter.client import bell, headers
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.client.waiting import thread
from taskapi_jupyter.core.contract import GroupResponse
from taskapi_jupyter.core.errors import GroupNotFound, JobNotFound, TaskAPIError, Unreachable
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .futures import JobFuture

PAGE = 100  # jobs that are read at once


class Watch:
    """The futures of one group that are not done."""

    def __init__(self, api: TaskAPI, group: str, name: str) -> None:
        self.api, self.group, self.name = api, group, name
        self._futures: dict[str, JobFuture] = {}  # by the id of the job, or of a later attempt that was seen
        self._places: dict[str, int] = {}  # of those that were seen, by the same ids
        self._first = 0  # no future that is not done has a job of a lower index
        self._heard = time.monotonic()
        self._looked = float("-inf")
        self._news: object = None  # up to where it is known which jobs have changed
        self._version: str | None = None

    def add(self, futures: Iterable[JobFuture]) -> None:
        """Wait for some more futures."""
        with thread.lock:
            if not self._futures:
                self._heard = time.monotonic()
            self._futures.update((future.job.id, future) for future in futures)
            self._looked = float("-inf")
        thread.begin(self)

    def futures(self) -> list[JobFuture]:
        """Return the futures that are not done, those first that were submitted first."""
        with thread.lock:
            return [future for future in self._futures.values() if not future.done()]

    def wait(self) -> None:
        """Wait until all futures are done."""
        while left := self.futures():
            wait(left)

    # In the thread

    @property
    def waits(self) -> bool:
        """Whether any future is left that may not be done."""
        return bool(self._futures)

    def step(self) -> None:
        """Read what has changed; give up where the server has not answered for a while."""
        began = time.monotonic()
        try:
            with headers.waiting():  # pages show no message: the futures tell
                self._look(began)
            self._heard = time.monotonic()
        except GroupNotFound:
            self._end_all(None)
        except Exception as error:  # a server that is gone, a database that can't be read: it may come back
            if time.monotonic() - self._heard > self.api.patience:
                self._end_all(error)

    def hold(self, seconds: float) -> bool:
        """Have the server answer once something has changed; False where it can't, or has not."""
        before, began = self._version, time.monotonic()
        try:
            with headers.waiting():
                self._version = self.api.held_group(self.group, before, seconds)[1]
        except TaskAPIError:
            return False
        return self._version != before or time.monotonic() - began >= min(headers.EARLY, seconds)

    def _look(self, now: float) -> None:
        with thread.lock:
            waiting = {future: job_id for job_id, future in self._futures.items()}
        if self.api.bell is not None:
            self._news, news = self.api.changed(self._news)
            if news is not None and now - self._looked < bell.LOOK_AGAIN and not {*news} & {*waiting.values()}:
                return
        self._looked, after = now, self._first - 1
        while waiting:
            page = self.api.group_page(self.group, PAGE, str(after) if after >= 0 else None)
            moved = self._read(page, waiting)
            if page.next_cursor is None:
                self._ask_for_missing(waiting)
                break
            after = int(page.next_cursor)
            in_progress = sum(n for status, n in page.group.counts.items() if JobCode.read(status) in IN_PROGRESS)
            if not moved and len(waiting) <= in_progress:  # those behind have not started
                break
        self._forget_done()

    def _read(self, page: GroupResponse, waiting: dict[JobFuture, str]) -> bool:
        """Tell the futures of the jobs of a page; return whether any job there is not pending."""
        moved = False
        for record in page.jobs:
            moved = moved or record.code is not JobCode.PENDING
            known = record.job_id if record.job_id in self._futures else record.retry_of or ""
            future = self._futures.get(known)
            if future is None or future not in waiting:
                continue
            if known != record.job_id:  # its next attempt
                self._rename(known, record.job_id)
                waiting[future] = record.job_id
            self._places[record.job_id] = record.index or 0
            if future.see(record):
                del waiting[future]
                with thread.lock:  # nobody holds a result but its user
                    self._futures.pop(record.job_id, None)
            future = None
        return moved

    def _rename(self, job_id: str, now: str) -> None:
        with thread.lock:
            self._futures = {now if key == job_id else key: one for key, one in self._futures.items()}

    def _ask_for_missing(self, waiting: dict[JobFuture, str]) -> None:
        """Ask for jobs that no page had: they were deleted, or several attempts have passed since the last look."""
        for future, job_id in list(waiting.items()):
            try:
                record = self.api.job_response(job_id).job_status
                while record.retried_by:
                    record = self.api.job_response(record.retried_by).job_status
            except JobNotFound:
                future.end_cancelled()
                continue
            if record.job_id != job_id:
                self._rename(job_id, record.job_id)
            if future.see(record):
                with thread.lock:
                    self._futures.pop(record.job_id, None)

    def _forget_done(self) -> None:
        with thread.lock:
            self._futures = {job_id: one for job_id, one in self._futures.items() if not one.done()}
            self._places = {job_id: place for job_id, place in self._places.items() if job_id in self._futures}
            if self._places and next(iter(self._futures)) in self._places:
                self._first = min(self._places.values())

    def _end_all(self, error: Exception | None) -> None:
        for future in self.futures():
            if error is None:
                future.end_cancelled()
            elif isinstance(error, Unreachable):
                hint = f"job {future.job.id} goes on, and Executor.attach({self.name!r}) finds it"
                future.end(type(error)(f"{error.message}; {hint}", kind=error.kind, status=error.status))
            else:
                future.end(error)
        self._forget_done()
