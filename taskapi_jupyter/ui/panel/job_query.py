"""Which jobs and groups a panel shows: a page of them, filtered, searched and sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskapi_jupyter.client.taskapi import Job, JobList, TaskAPI
from taskapi_jupyter.core.contract import MAX_SEARCH, GroupResponse, GroupStatus, JobStatus
from taskapi_jupyter.core.errors import GroupNotFound
from taskapi_jupyter.core.states import IN_PROGRESS, TERMINAL, JobCode
from taskapi_jupyter.display.facts import took
from taskapi_jupyter.display.groups import code_of, seconds_of

PAGE = 10  # jobs and groups
SEARCHED = 5000  # jobs that a search looks at before it asks whether to go on
SORTED = 500  # jobs and groups, the newest, that are sorted otherwise

Entry = JobStatus | GroupStatus

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
ORDERS: dict[str, Callable[[Entry], Any] | None] = {
    "newest first": None,
    "oldest first": lambda one: _descending(place(one)),
    "longest first": lambda one: -((took(one) if isinstance(one, JobStatus) else seconds_of(one)) or 0.0),
    "API": lambda one: one.api_name.casefold(),
    "status": lambda one: (_code(one) not in IN_PROGRESS, _code(one).label),
}


@dataclass
class Page:
    """What is on view: jobs and groups, or the jobs of a group."""

    entries: list[Entry] = field(default_factory=list)
    number: int = 0
    more: bool = False
    note: str = ""
    group: GroupStatus | None = None  # whose jobs these are

    @property
    def jobs(self) -> list[JobStatus]:
        """The jobs among them."""
        return [one for one in self.entries if isinstance(one, JobStatus)]

    @property
    def moving(self) -> bool:
        """Whether something of this is in progress."""
        of_group = [] if self.group is None else [_code(self.group)]
        return any(code in IN_PROGRESS for code in [*of_group, *map(_code, self.entries)])


class JobQuery:
    """A filter, and the page that is on view. Pages are read by the server's cursor, as the user turns them."""

    def __init__(self, api: str | None = None) -> None:
        self.api = api
        self.group: str | None = None  # the id of the one whose jobs are shown
        self.status, self.order, self.text = "any", "newest first", ""
        self.first()

    def first(self) -> None:
        """Go to the first page."""
        self.number = 0
        self._cursors: list[str | None] = [None]

    def turn(self, pages: int) -> None:
        """Go some pages on, or back."""
        self.number = max(self.number + pages, 0)

    def open(self, group: str | None) -> None:
        """Show the jobs of a group, or all jobs again, where one was before that group was opened."""
        if group is not None and self.group is None:
            self._before = self.number, self._cursors
        self.first()
        if group is None and self.group is not None:
            self.number, self._cursors = self._before
        self.group = group

    @property
    def filtered(self) -> bool:
        """Whether the status or the search may hide jobs."""
        return self.status != "any" or bool(self.text.strip())

    def read(self, api: TaskAPI) -> Page:
        """Read the page; where it has become empty, the page before it; where the group is gone, all jobs."""
        while True:
            key = ORDERS[self.order]
            try:
                page = self._plain(api) if key is None else self._sorted(api, key)
            except GroupNotFound:
                self.open(None)
                continue
            if page.entries or page.more or self.number == 0:
                return page
            self.number -= 1

    @property
    def _search(self) -> str | None:
        return self.text.strip()[:MAX_SEARCH] or None

    def _list(self, api: TaskAPI, limit: int, cursor: str | None = None) -> tuple[JobList, GroupStatus | None]:
        """Read part of the list, or of the jobs of the group that is open, which it returns, too."""
        states = STATUSES[self.status]
        if self.group is None:
            return api.jobs(self.api, states, limit, cursor, self._search, closed=True), None
        answer: GroupResponse = api.group_page(self.group, limit, cursor, status=states, search=self._search)
        jobs = JobList([Job(api, one) for one in answer.jobs], answer.next_cursor, searched=answer.searched or None)
        return jobs, answer.group

    def _plain(self, api: TaskAPI) -> Page:
        self.number = min(self.number, len(self._cursors) - 1)
        jobs, group = self._list(api, PAGE, self._cursors[self.number])
        while jobs.next_cursor and jobs.entries < PAGE and 0 < (jobs.searched or 0) < SEARCHED:  # on a busy machine
            jobs.append_page(self._list(api, PAGE - jobs.entries, jobs.next_cursor)[0])
        more = bool(jobs.next_cursor)
        self._cursors[self.number + 1 :] = [jobs.next_cursor] if more else []
        note = ""
        if jobs.searched is not None:
            note = f"searched {jobs.searched:,} jobs, Next goes on" if more and jobs.entries < PAGE else ""
        elif more or self.number:
            note = self._total(api, group, bool(jobs.groups))
        return Page(_entries(jobs), self.number, more, note, group)

    def _total(self, api: TaskAPI, group: GroupStatus | None, grouped: bool) -> str:
        """Return of how many jobs the page is; in a list with groups, they are counted apart from its entries."""
        states = STATUSES[self.status]
        if group is not None:
            return f"of {sum(n for one, n in group.counts.items() if states is None or one in states):,}"
        if api.lacks("counts"):
            return ""
        count = sum(api.counts(self.api, states).values())
        return f"{count:,} jobs, those of groups too" if grouped else f"of {count:,}"

    def _sorted(self, api: TaskAPI, key: Callable[[Entry], Any]) -> Page:
        jobs, group = self._list(api, SORTED)
        found = sorted(_entries(jobs), key=key)
        begin = self.number * PAGE
        count = SORTED if jobs.searched is None else jobs.searched
        which = "first" if group else "newest"
        note = f"among the {which} {count:,} jobs" if jobs.next_cursor else ""
        return Page(found[begin : begin + PAGE], self.number, len(found) > begin + PAGE, note, group)


def _entries(jobs: JobList) -> list[Entry]:
    """Return the jobs and groups of a list in the order of their submission."""
    records: list[Entry] = [job.record for job in jobs]
    return sorted([*records, *jobs.groups], key=place) if jobs.groups else records


def place(one: Entry) -> str:
    """Return where an entry stands in time: ids descend, and that of a group is a letter and that of its first job."""
    return one.job_id if isinstance(one, JobStatus) else one.id[1:]


def _code(one: Entry) -> JobCode:
    return one.code if isinstance(one, JobStatus) else code_of(one)


def _descending(job_id: str) -> int:
    """Return a key that sorts ids from the oldest on: newer ids are smaller."""
    try:
        return -int(job_id, 16)
    except ValueError:
        return 0
