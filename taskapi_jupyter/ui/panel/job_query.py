"""Which jobs a panel shows: a page of them, filtered, searched and sorted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import JobStatus
from taskapi_jupyter.core.states import IN_PROGRESS, TERMINAL, JobCode
from taskapi_jupyter.display.facts import took

PAGE = 10  # jobs
SCANNED = 500  # jobs, the newest, that are searched and sorted

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
            page = self._scanned(api) if self.text.strip() or ORDERS[self.order] else self._plain(api)
            if page.jobs or self.number == 0:
                return page
            self.number -= 1

    def _plain(self, api: TaskAPI) -> Page:
        self.number = min(self.number, len(self._cursors) - 1)
        jobs = api.jobs(self.api, STATUSES[self.status], limit=PAGE, cursor=self._cursors[self.number])
        self._cursors[self.number + 1 :] = [jobs.next_cursor] if jobs.next_cursor else []
        return Page([job.record for job in jobs], self.number, bool(jobs.next_cursor))

    def _scanned(self, api: TaskAPI) -> Page:
        jobs = api.jobs(self.api, STATUSES[self.status], limit=SCANNED)
        found = [job.record for job in jobs if fits(job.record, self.text)]
        key = ORDERS[self.order]
        if key is not None:
            found.sort(key=key)
        begin = self.number * PAGE
        note = f"among the newest {SCANNED} jobs" if jobs.next_cursor else ""
        return Page(found[begin : begin + PAGE], self.number, len(found) > begin + PAGE, note)


def fits(job: JobStatus, text: str) -> bool:
    """Whether every word of a text occurs somewhere in a job."""
    words = text.casefold().split()
    if not words:
        return True
    said = job.progress.message if job.progress else None
    known = [job.api_name, job.job_id, job.code.label, job.notebook, job.reason, said]
    if job.config:
        known.append(json.dumps(job.config, ensure_ascii=False, default=str))
    whole = "\n".join(str(one) for one in known if one).casefold()
    return all(word in whole for word in words)


def _descending(job_id: str) -> int:
    """Return a key that sorts ids from the oldest on: newer ids are smaller."""
    try:
        return -int(job_id, 16)
    except ValueError:
        return 0
