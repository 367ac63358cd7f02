"""What people hold of a group: its counts, its jobs in order, their results and a table of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from taskapi_jupyter.client import on_done
from taskapi_jupyter.client.headers import EARLY
from taskapi_jupyter.client.job import Job, JobList
from taskapi_jupyter.core.contract import MAX_PAGE, GroupStatus
from taskapi_jupyter.core.errors import BadRequest, JobNotFound, TaskAPIError
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.display import bar, clean
from taskapi_jupyter.display import groups as display

from . import rows as tables
from . import waiting

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

    from taskapi_jupyter.client.taskapi import TaskAPI

OnError = Literal["raise", "return", "skip"]


class Group:
    """Jobs that were submitted together, one for each config.

    Its counts are as of the last read: :meth:`refresh` reads them again, :meth:`wait` until all jobs have ended.
    ``len(group)`` is how many jobs it has, ``group[3]`` the one of config 3, and a loop goes through them in order. Of
    a job that was tried again, the last attempt counts. Displayed in a notebook, a group is a card with its counts.

    All methods raise :class:`~taskapi_jupyter.core.errors.TaskAPIError` or a subclass: ``GroupNotFound`` for a group
    that was deleted with its last job, ``Unreachable`` where its server does not answer.

    Examples
    --------
    >>> group = taskapi_jupyter.connect().sweep("train", {"lr": [0.1, 0.01]}, fixed={"epochs": 3})
    >>> group.wait().counts
    {'succeeded': 2}
    >>> group.results()
    [{'loss': 0.03}, {'loss': 0.05}]
    """

    def __init__(self, api: TaskAPI, record: GroupStatus) -> None:
        self.api = api
        self.record = record  #: the group as the wire has it, as last read
        self._version: str | None = None

    @property
    def id(self) -> str:
        """Its id: ``g``, then the id of its first job."""
        return self.record.id

    @property
    def name(self) -> str | None:
        """The name that it was given; None where it has none."""
        return self.record.name or None

    @property
    def api_name(self) -> str:
        """The name of the API that its jobs were submitted to."""
        return self.record.api_name

    @property
    def counts(self) -> dict[str, int]:
        """How many of its jobs are in each state, without states that none is in."""
        return dict(self.record.counts)

    @property
    def progress(self) -> float:
        """The mean of its jobs' progress, from 0 to 1; a job that has ended counts 1."""
        return self.record.progress

    @property
    def ended(self) -> bool:
        """Whether all of its jobs had ended when it was last read."""
        return self.seen_ended

    @property
    def seen_ended(self) -> bool:
        """Whether all of its jobs are known to have ended, without asking the server."""
        return not any(JobCode.read(status) in IN_PROGRESS for status in self.record.counts)

    @property
    def called(self) -> str:
        """What sentences call it."""
        return f"group {self.name or self.id}"

    @property
    def short(self) -> str:
        """The word that ``%taskapi stop`` takes."""
        return self.name or self.id

    @property
    def summary(self) -> str:
        """Its counts in words."""
        return display.counts_words(self.record)

    def refresh(self) -> Group:
        """Read its counts again, and return the group."""
        self.record, self._version = self.api.held_group(self.id, None, 0)
        return self

    def hold(self, seconds: float) -> bool:
        """Read its counts once they have changed, or after so many seconds; False where its server can't wait."""
        before = self._version
        if before is None:
            return False
        began = time.monotonic()
        self.record, self._version = self.api.held_group(self.id, before, seconds)
        return self._version != before or time.monotonic() - began >= EARLY

    # Its jobs

    def __len__(self) -> int:
        return self.record.size

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> JobList: ...
    def __getitem__(self, index: int | slice) -> Job | JobList:
        """Return the last attempt of one of its jobs, as it is now, or several."""
        if isinstance(index, slice):
            return JobList(list(self)[index])
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"{self.called} has {len(self)} jobs: no job {index}")
        page = self.api.group_page(self.id, 1, str(number - 1) if number else None)
        if not page.jobs or page.jobs[0].index != number:
            raise JobNotFound(f"{number} of {self.called}", self.api_name)
        return Job(self.api, page.jobs[0])

    def __iter__(self) -> Iterator[Job]:
        yield from self._from(0)

    def _from(self, index: int) -> Iterator[Job]:
        """Yield the last attempts of its jobs, as they are now, from an index on."""
        cursor: str | None = str(index - 1) if index else None
        while True:
            page = self.api.group_page(self.id, MAX_PAGE, cursor)
            yield from (Job(self.api, record) for record in page.jobs)
            cursor = page.next_cursor
            if not cursor:
                return

    # Waiting

    def wait(self, timeout: float | None = None) -> Group:
        """Wait until all of its jobs have ended, in whatever states, with one progress bar for all.

        Interrupting the wait leaves the jobs running. ``await group`` does the same, and leaves the kernel free.

        Parameters
        ----------
        timeout
            The most seconds to wait, 0 or more; None (default): any time.

        Returns
        -------
        Group
            This group: :meth:`results` raises unless all jobs succeeded.

        Raises
        ------
        TimeoutError
            It has not ended after ``timeout`` seconds; its jobs go on.
        Unreachable
            The server has not answered for 15 seconds.
        """
        for _ in waiting.steps(self, timeout):
            pass
        return self

    def __await__(self) -> Generator[Any, None, Group]:
        """Wait like :meth:`wait`, leaving the event loop, and so the kernel, free."""
        yield from self._waited().__await__()
        return self

    async def _waited(self) -> None:
        async for _ in waiting.steps_aside(self):
            pass

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """Yield each job when its last attempt has ended, those first that ended first, with one bar for all.

        Raises TimeoutError where not all have ended ``timeout`` seconds after the first was asked for.
        """
        completed = _Completed(self)
        for _ in waiting.steps(self, timeout):
            yield from completed.new()

    async def __aiter__(self) -> AsyncIterator[Job]:
        """Yield jobs as :meth:`as_completed` does, without blocking the event loop."""
        import asyncio  # not above: a terminal does without

        completed = _Completed(self)
        async for _ in waiting.steps_aside(self):
            for job in await asyncio.to_thread(completed.new):
                yield job

    def on_done(self, function: Callable[[Group], object]) -> on_done.Callback:
        """Have ``function(group)`` called once, when all of its jobs have ended; see :meth:`Job.on_done`."""
        return on_done.register(self, function)

    # What came of it

    def results(self, on_error: OnError = "raise", timeout: float | None = None) -> list[Any]:
        """Wait, then return what the tasks returned, in the order of the configs.

        Parameters
        ----------
        on_error
            What to do about a job without a result: ``"raise"`` its error, ``"return"`` the error in its place, or
            ``"skip"`` it.
        timeout
            The most seconds to wait, 0 or more; None (default): any time.
        """
        if on_error not in ("raise", "return", "skip"):
            raise BadRequest(f"on_error must be 'raise', 'return' or 'skip', not {on_error!r}")
        found: list[Any] = []
        for job in self.wait(timeout):
            try:
                found.append(job.kept_result(follow=False))
            except TaskAPIError as error:
                if on_error == "raise":
                    raise
                if on_error == "return":
                    found.append(error)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return a table of its jobs as they are now: a dict each, in the order of the configs.

        The keys are ``index``, ``job_id``, ``status``, ``attempt``, ``seconds`` (how long it ran), ``reason``, then one
        for each key of the configs, and one for each number, text or truth value in results that are dicts; a result
        that is itself one of these is ``result``. A key that is taken gets ``config.`` or ``result.`` before it.
        """
        return list(self.api.group_rows(self.id))

    def frame(self) -> Any:
        """Return :meth:`rows` as a pandas DataFrame; :class:`BadRequest` where pandas is not installed."""
        return tables.frame(self.rows())

    def chart(self, x: str, y: str, color: str | None = None) -> tables.Chart:
        """Return a chart of two columns of :meth:`rows`, coloured by a third; JupyterLab draws it.

        Raises :class:`BadRequest` for a column that is not there.
        """
        return tables.Chart(self.rows(), x, y, color)

    def log_lines(self, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines of its jobs' logs, one job after the other, each as ``[3] line`` for the job of config 3.

        ``tail`` and ``follow`` are as in :meth:`Job.logs`.
        """
        for job in self:
            lines = job.logs(tail, follow=True) if follow else job.logs(tail).splitlines()
            yield from (f"[{job.record.index}] {line}" for line in lines)

    # What is done to it

    def stop(self) -> str:
        """Stop all of its jobs, and return the server's message once no process of any is left.

        Pending jobs are stopped first, and none starts after that. Raises ``StopTimeout`` where a process does not end
        in time.
        """
        message = self.api.stop_group(self.id)
        self.refresh()
        return message

    def rerun(self, failed: bool = True) -> Group:
        """Submit the configs of its jobs again, as a new group: of those that failed, or (``failed=False``) of all
        that have ended. It runs the API as it is deployed now."""
        return Group(self.api, self.api.rerun_group(self.id, failed).group)

    def forget(self) -> str:
        """Delete the group, which must have ended, with its jobs, their logs, results and files."""
        return self.api.forget_group(self.id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return (self.id, self.api.environment) == (other.id, other.api.environment)

    def __hash__(self) -> int:
        return hash((self.id, self.api.environment))

    def __repr__(self) -> str:
        return f"<Group {display.name_words(self.record)} of {clean(self.api_name)}: {self.summary}>"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(display.group_text(self.record))

    def _repr_html_(self) -> str:
        return display.group_html(self.record, self.api.environment)

    def _ipython_display_(self) -> None:
        bar.show_in_place(self, [self.id])


class _Completed:
    """Which jobs of a group have ended and were not yielded yet."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._yielded: set[int] = set()
        self._first = 0  # all before it were yielded

    def new(self) -> list[Job]:
        """Return the jobs that have ended since the last call, those first that ended first."""
        counts = self._group.record.counts.items()
        ended = sum(count for status, count in counts if JobCode.read(status) not in IN_PROGRESS)
        found: list[Job] = []
        if len(self._yielded) < ended:
            for job in self._group._from(self._first):
                index = job.record.index or 0
                if job.seen_ended and index not in self._yielded:
                    self._yielded.add(index)
                    found.append(job)
                    if len(self._yielded) >= ended:
                        break
        while self._first in self._yielded:
            self._first += 1
        return sorted(found, key=lambda job: str(job.record.end_time or ""))


class GroupList(list[Group]):
    """Groups, newest first, displayed as a table."""

    def __init__(self, groups: Iterable[Group] = (), next_cursor: str | None = None) -> None:
        super().__init__(groups)
        self.next_cursor = next_cursor

    def __repr__(self) -> str:
        return display.groups_text([group.record for group in self], bool(self.next_cursor))

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def _ipython_display_(self) -> None:
        bar.show_in_place(self, [group.id for group in self])

    def _repr_html_(self) -> str:
        return display.groups_html([group.record for group in self], bool(self.next_cursor))
