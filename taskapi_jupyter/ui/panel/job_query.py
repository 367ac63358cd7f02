"""Which jobs a panel shows: a page of them, filtered, searched and sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import MAX_SEARCH, JobStatus
from taskapi_jupyter.core.states import IN_PROGRESS, TERMINAL, JobCode
from taskapi_jupyter.display.facts import took

PAGE = 10  # jobs
SEARCHED = 5000  # jobs that a search looks at before it asks whether to go on
SORTED = 500  # jobs, the newest, that are sorted otherwise

_OWN = [
    JobCode.PENDING,
    JobCode.RUNNING,
    JobCode.SUCCEEDED,
    JobCode.WORKER_ERROR,
    JobCode.WORKER_OOM,
    JobCode.TIMED_OUT,
    JobCode.STOPPED,
    JobCode.UNEXPECTED_ERROR,
]
_FAILED = TERMINAL - {JobCode.SUCCEEDED, JobCode.STOPPED}

#: The choices of the status menu, and the states that each stands for.
STATUSES: dict[str, list[str] | None] = {
    "any": None,
    "in progress": sorted(code.value for code in IN_PROGRESS),
    "failed": sorted(code.value for code in _FAILED),
    **{code.label: [code.value] for code in _OWN},
}
#: The choices of the sort menu, and the key of each; None: as the server lists them.
ORDERS: dict[str, Callable[[JobStatus], Any] | None] = {
    "newest first": None,
    "oldest first": lambda job: _descending(job.job_id),
    "longest first": lambda job: -(took(job) or 0.0),
    "API": lambda job: job.api_name.casefold(),
    "status": lambda job: (job.code not in IN_PROGRESS, job.code.label),
}


@dataclass
class Page:
    """The jobs on view."""

    jobs: list[JobStatus] = field(default_factory=list)
    number: int = 0
    more: bool = False
    note: str = ""


class JobQuery:
    """A filter, and the page that is on view. Pages are read by the server's cursor, as the user turns them."""

    def __init__(self, api: str | None = None) -> None:
        self.api = api
        self.status, self.order, self.text = "any", "newest first", ""
        self.first()

    def first(self) -> None:
        """Go to the first page."""
        self.number = 0
        self._cursors: list[str | None] = [None]

    def turn(self, pages: int) -> None:
        """Go some pages on, or back."""
        self.number = max(self.number + pages, 0)

    @property
    def filtered(self) -> bool:
        """Whether the status or the search may hide jobs."""
        return self.status != "any" or bool(self.text.strip())

    def read(self, api: TaskAPI) -> Page:
        """Read the jobs of the page; where it has become empty, those of the page before it."""
        while True:
            key = ORDERS[self.order]
            page = self._plain(api) if key is None else self._sorted(api, key)
            if page.jobs or page.more or self.number == 0:
                return page
            self.number -= 1

    @property
    def _search(self) -> str | None:
        return self.text.strip()[:MAX_SEARCH] or None

    def _plain(self, api: TaskAPI) -> Page:
        self.number = min(self.number, len(self._cursors) - 1)
        states, cursor = STATUSES[self.status], self._cursors[self.number]
        jobs = api.jobs(self.api, states, limit=PAGE, cursor=cursor, search=self._search)
        while jobs.next_cursor and len(jobs) < PAGE and 0 < (jobs.searched or 0) < SEARCHED:  # on a busy machine
            older = api.jobs(self.api, states, PAGE - len(jobs), jobs.next_cursor, self._search)
            jobs.extend(older)
            jobs.next_cursor, jobs.searched = older.next_cursor, (jobs.searched or 0) + (older.searched or 0)
        more = bool(jobs.next_cursor)
        self._cursors[self.number + 1 :] = [jobs.next_cursor] if more else []
        note = ""
        if jobs.searched is not None:
            note = f"searched {jobs.searched:,} jobs, Next goes on" if more and len(jobs) < PAGE else ""
        elif (more or self.number) and not api.lacks("counts"):
            note = f"of {sum(api.counts(self.api, states).values()):,}"
        return Page([job.record for job in jobs], self.number, more, note)

    def _sorted(self, api: TaskAPI, key: Callable[[JobStatus], Any]) -> Page:
        jobs = api.jobs(self.api, STATUSES[self.status], limit=SORTED, search=self._search)
        found = sorted((job.record for job in jobs), key=key)
        begin = self.number * PAGE
        count = SORTED if jobs.searched is None else jobs.searched
        note = f"among the newest {count:,} jobs" if jobs.next_cursor else ""
        return Page(found[begin : begin + PAGE], self.number, len(found) > begin + PAGE, note)


def _descending(job_id: str) -> int:
    """Return a key that sorts ids from the oldest on: newer ids are smaller."""
    try:
        return -int(job_id, 16)
    except ValueError:
        return 0
