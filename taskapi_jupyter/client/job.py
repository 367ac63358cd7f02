"""What people hold: a job, a list of jobs, an API. A TaskAPI makes them, and they ask it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from msgspec import UNSET, UnsetType

from taskapi_jupyter import display
from taskapi_jupyter.core import contract
from taskapi_jupyter.core.contract import Cell, FileList, GroupStatus, JobStatus, KeptKernel, Progress
from taskapi_jupyter.core.errors import JobFailed, JobNotFound, NotFound, NotKept, ResultNotStored, TaskAPIError
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display import bar
from taskapi_jupyter.display.facts import created, ended, why
from taskapi_jupyter.display.formats import utc_now

from . import on_done, results
from .headers import EARLY
from .waiting import jobs as waiting

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

    from .taskapi import TaskAPI

POLL_CEILING = 0.25  # seconds between two reads of a job at most, for as long as it is waited for
PATIENCE = 15.0  # seconds for which a server may be unreachable while a job is waited for
GLANCE = 0.3  # seconds that displaying a job may spend on reading its state
FIRST_GLANCE = 2.0  # the same where nothing is known of it yet, and a connection has to be made

T = TypeVar("T")


class Job:
    """One submission of a task API.

    Its attributes are as of the last read: :meth:`refresh` reads the state again, :meth:`wait` reads it until the job
    has ended. Displayed in a notebook, a job is a card with its status, progress and times.

    A job can be awaited, copied, compared and pickled. Its pickle holds the job's id, its API's name and its
    environment, and no credentials; unpickled, the job connects when it is first used.

    All methods raise :class:`~taskapi_jupyter.core.errors.TaskAPIError` or a subclass: ``JobNotFound`` for a job that
    was deleted, ``Unreachable`` where its server does not answer.

    Examples
    --------
    >>> job = taskapi_jupyter.connect().submit("train", {"lr": 0.1})
    >>> job.wait(timeout=600).status
    'succeeded'
    >>> job.result()
    {'loss': 0.03}
    """

    def __init__(self, api: TaskAPI, record: JobStatus, endpoint: str | None = None) -> None:
        self._api: TaskAPI | None = api
        self._record: JobStatus | None = record
        self._stored: dict[str, str] = {}
        self._seen_at = utc_now()
        self._version: str | None = None  # of the record, as its server calls it
        self._unanswered = False  # whether a read has failed since
        self.endpoint = endpoint

    @property
    def api(self) -> TaskAPI:
        """The TaskAPI of its environment. A job that was unpickled connects here, and raises where it can't."""
        if self._api is None:
            # Imported by name: environments is a layer above, and only a job that was unpickled needs it.
            environments = import_module("taskapi_jupyter.environments")
            try:
                self._api = environments.reconnect(self._stored["environment"], self._stored.get("home"))
            except NotFound as error:
                raise NotFound(f"job {self.id} of {self.api_name}: {error}") from None
        return self._api

    @property
    def record(self) -> JobStatus:
        """The job as the wire has it, as last read; it is read now if the job was just unpickled."""
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    @record.setter
    def record(self, record: JobStatus) -> None:
        self._record = record
        self._seen_at, self._unanswered = utc_now(), False

    @property
    def seen(self) -> JobStatus:
        """The job as last read, without asking the server."""
        return self._record or JobStatus(job_id=self.id, api_name=self.api_name, status=JobCode.UNKNOWN.value)

    @property
    def seen_ended(self) -> bool:
        """Whether it is known to have ended, without asking the server."""
        return ended(self.seen)

    @property
    def poll_ceiling(self) -> float:
        """The most seconds between two reads of its state while it is waited for."""
        return POLL_CEILING if self._api is None else self._api.poll_ceiling

    @property
    def bell(self) -> Path | None:
        """The home whose bell rings when it changes; None where that is not on this machine, or unknown."""
        return None if self._api is None else self._api.bell

    @property
    def patience(self) -> float:
        """The seconds for which a server may be unreachable while it is waited for."""
        return PATIENCE if self._api is None else self._api.patience

    @property
    def environment(self) -> str:
        """The name of the environment that it runs in."""
        return self._stored["environment"] if self._api is None else self._api.environment

    @property
    def id(self) -> str:
        """The job's id, 16 hexadecimal digits."""
        return self._stored["job_id"] if self._record is None else self._record.job_id

    @property
    def api_name(self) -> str:
        """The name of the API that it was submitted to."""
        return self._stored["api_name"] if self._record is None else self._record.api_name

    @property
    def status(self) -> str:
        """The status code: ``pending``, ``running``, or a terminal one such as ``succeeded`` or ``worker_error``."""
        return str(self.record.code)

    @property
    def config(self) -> dict[str, Any] | None:
        """The configuration as it was submitted; None where none was. Lists leave out a large one: it is read then."""
        if self.record.config_truncated:
            self.refresh()
        return _known(self.record.config)

    @property
    def created_time(self) -> datetime | None:
        """When it was submitted."""
        return created(self.record)

    @property
    def start_time(self) -> datetime | None:
        """When its task started; None while it has not."""
        return display.moment(self.record.start_time)

    @property
    def end_time(self) -> datetime | None:
        """When it ended; None while it has not."""
        return display.moment(self.record.end_time)

    @property
    def reason(self) -> str | None:
        """Why it ended, or what it waits for, where there is more to say than its status."""
        return _known(self.record.reason)

    @property
    def exit_code(self) -> int | None:
        """The exit code of its process; negative for the signal that ended it, None while there is none."""
        return _known(self.record.exit_code)

    @property
    def progress(self) -> Progress | None:
        """What the task last reported with :func:`taskapi_jupyter.job.progress`: ``done``, ``total``, ``message``."""
        return _known(self.record.progress)

    @property
    def cell(self) -> Cell | None:
        """Of a job that runs a notebook, the cell that runs or at which it ended; None before the first, after success.

        ``index`` counts the notebook's cells from 0; ``status`` is ``running``, ``failed``, ``stopped`` or
        ``timed out``.
        """
        return _known(self.record.cell)

    @property
    def notebook(self) -> str | None:
        """The path of the notebook that it was submitted from."""
        return _known(self.record.notebook)

    @property
    def called(self) -> str:
        """What sentences call it."""
        return f"job {self.id}"

    @property
    def short(self) -> str:
        """The word that ``%taskapi stop`` takes."""
        return self.id[-6:]

    @property
    def ended(self) -> bool:
        """Whether it had ended when its state was last read."""
        return ended(self.record)

    def refresh(self) -> Job:
        """Read the job's state again, and return the job."""
        self._read(None, 0)
        return self

    def hold(self, seconds: float) -> bool:
        """Read the state once it has changed since the last read, or after so many seconds.

        False, before that, where its server can't hold the answer, or has not.
        """
        before, began = self._version, time.monotonic()
        if before is None or self.bell is not None:
            return False
        self._read(before, seconds)
        return self._version != before or time.monotonic() - began >= EARLY

    def _read(self, since: str | None, seconds: float) -> None:
        response, self._version = self.api.held_response(self.id, self.api_name, since, seconds)
        self.record = response.job_status
        self.endpoint = response.endpoint or self.endpoint

    def next_attempt(self) -> Job | None:
        """Return the job that is its next attempt; None where it has none, or that was deleted."""
        if not self.seen.retried_by:
            return None
        try:
            response = self.api.job_response(self.seen.retried_by, self.api_name)
        except JobNotFound:
            return None
        return type(self)(self.api, response.job_status, response.endpoint)

    def wait(self, timeout: float | None = None, *, follow: bool = True) -> Job:
        """Wait until the job has ended, with a progress bar; a job with retries, until its last attempt has.

        Interrupting the wait leaves the job running. Jobs that are waited for at the same time below one cell share one
        bar. ``await job`` does the same, and leaves the kernel free.

        Parameters
        ----------
        timeout
            The most seconds to wait, 0 or more; None (default): any time.

        follow
            False: do not wait for further attempts of a job that failed.

        Returns
        -------
        Job
            This job, or its last attempt, in whatever terminal state: :meth:`check` raises unless it succeeded.

        Raises
        ------
        TimeoutError
            The job has not ended after ``timeout`` seconds; it goes on.
        Unreachable
            The server has not answered for 15 seconds.
        """
        return waiting.wait([self], timeout, follow=follow)[0]

    def __await__(self) -> Generator[Any, None, Job]:
        """Wait like :meth:`wait`, leaving the event loop, and so the kernel, free."""
        return (yield from waiting.wait_aside(self).__await__())

    def result(self, timeout: float | None = None, *, follow: bool = True) -> Any:
        """Wait, then return what the task returned, in the types that it had; for a job with retries, the last attempt.

        A result that was pickled is loaded, which runs code of its classes, but nothing of the cell.

        Parameters
        ----------
        timeout
            The most seconds to wait, 0 or more; None (default): any time.
        follow
            False: return what this attempt returned, whether or not others follow.

        Returns
        -------
        object
            What the task returned. None for a command, and, with a note on standard error, where the environment keeps
            no results, as a Cortex cluster.

        Raises
        ------
        JobFailed
            The job ended otherwise than ``succeeded``. Its ``__cause__`` is what the task raised, with the job's
            traceback as cause of that; None where it raised nothing, or where that can't be pickled or loaded here.
        ResultNotStored
            The result could not be stored, or another minor version of Python pickled it.
        TimeoutError
            The job has not ended after ``timeout`` seconds.
        """
        try:
            return self.kept_result(timeout, follow=follow)
        except NotKept as note:
            return _said(note, None)

    def kept_result(self, timeout: float | None = None, *, follow: bool = True) -> Any:
        """Do as :meth:`result`, but raise :class:`NotKept` where the environment keeps no results."""
        last = self.wait(timeout, follow=follow)
        try:
            last.check()
        except JobFailed as failed:
            with suppress(TaskAPIError):  # of a server that is gone, or of an older one
                failed.__cause__ = self.api.exception(last)
            raise
        try:
            return self.api.result(last)
        except (JobNotFound, NotKept, ResultNotStored):
            raise
        except NotFound:
            return None  # the task had nothing to return, as a command

    def on_done(self, function: Callable[[Job], object]) -> on_done.Callback:
        """Have ``function(job)`` called once, when the job has ended; of a job with retries, its last attempt.

        In a kernel it is called in the main thread between cells: after the cell that runs when the job ends, or at
        once where none does. What it prints and shows appears below the cell that called ``on_done``, and so does the
        traceback of what it raises; other functions are called all the same. Where the job has ended already, it is
        called before this returns.

        It is lost with the kernel: after a restart nothing is called. What must arrive is a notification of
        ``config.yaml``: see ``notify`` of :meth:`TaskAPI.submit`. Outside a kernel, in a script or in IPython in a
        terminal, a thread calls it, one function at a time, for as long as the program runs.

        Parameters
        ----------
        function
            Called with this job, as it ended, or with its last attempt. What it returns is ignored; it can't be async.

        Returns
        -------
        Callback
            Its ``cancel()`` has it not called, and returns False where it was called already.

        Raises
        ------
        BadRequest
            ``function`` can't be called, or is async.

        Examples
        --------
        >>> job.on_done(lambda job: print(job.status))
        """
        return on_done.register(self, function)

    def check(self) -> Job:
        """Return the job; raise :class:`JobFailed` if it has ended otherwise than ``succeeded``, as last read."""
        code = self.record.code
        if self.ended and code is not JobCode.SUCCEEDED:
            reason = why(self.record, 500)
            how = reason if reason.startswith(code.label) else ", ".join(filter(None, (code.label, reason)))
            what = f"job {self.id} of {self.api_name}: {how}; its log: %taskapi logs {self.id}"
            raise JobFailed(what, self.id, str(code))
        return self

    @overload
    def logs(self, tail: int | None = None) -> str: ...
    @overload
    def logs(self, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return what the job wrote to standard output and error, or follow it.

        Parameters
        ----------
        tail
            How many lines from the end, 0 or more; None (default): all. A line ends at ``\\n``, ``\\r\\n`` or ``\\r``;
            a line that rewrites itself by ``\\r``, such as a progress bar, counts as one and comes in its last state.
            They are searched for in the newest 32 MiB at most, and not beyond a progress bar of more than 1 MiB.
        follow
            True: return an iterator of lines that ends when the job has ended, instead of what there is now.

        Returns
        -------
        str or iterator of str
            Without arguments the whole log as it was written; of a log larger than ``log_max_bytes`` its head and its
            newest part. With ``tail`` those lines. With ``follow`` lines without their ends; of a progress bar its
            states as they come, ten a second at most, and always the last one. Following begins with the last ``tail``
            lines, or else with the newest MiB and a line that says how much was left out before it. Bytes that are no
            UTF-8 are replaced. Empty, with a note on standard error, where the environment no longer has the log.

        Raises
        ------
        BadRequest
            ``tail`` is negative.
        """
        if follow:
            return self._followed(tail)
        try:
            return self.api.logs(self, tail)
        except NotKept as note:
            return _said(note, "")

    def _followed(self, tail: int | None) -> Iterator[str]:
        try:
            yield from self.api.logs(self, tail, follow=True)
        except NotKept as note:
            _said(note, None)

    def metrics(self, *names: str) -> Any:
        """Return what the task has recorded with :func:`taskapi_jupyter.job.metric`, a row for each point.

        Parameters
        ----------
        *names
            The metrics to return; none (default): all.

        Returns
        -------
        pandas.DataFrame or list of dict
            ``name``, ``step``, ``time`` (seconds since the epoch) and ``value``, for each name in the order in which
            they were recorded; a list of dictionaries where pandas can't be imported. Empty, with a note on standard
            error, where the environment keeps none.

        Examples
        --------
        >>> job.metrics("loss").plot(x="step", y="value")
        >>> job.metrics().pivot_table(index="step", columns="name", values="value")
        """
        found, since, after = dict[str, list[Any]](), -1, 0
        try:
            while after != since:
                since = after
                some = self.api.metrics(self, names, since)
                for name, points in some.metrics.items():
                    found.setdefault(name, []).extend(points)
                after = some.next
        except NotKept as note:
            _said(note, None)
        rows = [(name, *point) for name, points in found.items() for point in points]
        return _rows(("name", "step", "time", "value"), rows)

    def usage(self) -> Any:
        """Return what the processes of the job used, measured once a second, or less often in a job that takes long.

        Returns
        -------
        pandas.DataFrame or list of dict
            ``time`` (seconds since the epoch), ``cpu_seconds`` (so far) and ``memory`` (resident bytes), as
            :meth:`metrics`. The last measurement and the peak are in ``job.record.usage``.
        """
        try:
            points = self.api.usage(self).points
        except NotKept as note:
            points = _said(note, [])
        return _rows(("time", "cpu_seconds", "memory"), points)

    def stop(self) -> str:
        """Stop the job and return the server's message, once no process of the job is left.

        Raises ``JobNotInProgress`` for a job that has ended, ``StopTimeout`` where a process does not end in time.
        """
        message = self.api.stop(self)
        with suppress(TaskAPIError):
            self.refresh()
        return message

    def notebook_node(self) -> Any:
        """Return the notebook that the job runs, as it was last saved, as a node of nbformat (version 4).

        Raises ``NoNotebook`` for a job that runs none, ``NoNotebookYet`` before the first save.
        """
        return results.notebook_node(self.api.notebook(self), self.id)

    def attach(self) -> KeptKernel:
        """Print how to work in the kernel that the job keeps after a cell failed, and return where it is.

        Raises ``NoKernel`` where it keeps none.
        """
        kernel = self.api.kernel(self)
        print(display.kernel_text(self.id, kernel))  # noqa: T201
        return kernel

    def resume(self) -> str:
        """Go on from the cell that failed, in the kernel that the job keeps; return the server's message.

        Raises ``NoKernel`` where it keeps none.
        """
        return self.api.resume(self)

    def end_kernel(self) -> str:
        """End the kernel that the job keeps, and the job as failed; return the server's message.

        Raises ``NoKernel`` where it keeps none.
        """
        return self.api.end_kernel(self)

    def rerun(self, same: bool = False) -> Job:
        """Submit its config, timeouts and retries again, and return the new job; it notifies whom this one was to.

        It runs the API as it is deployed now or, with ``same``, the version that this job ran.
        """
        return self.api.rerun(self, same)

    def forget(self) -> str:
        """Delete the job, which must have ended, with its log, result and files; return the server's message."""
        return self.api.forget(self)

    def files(self) -> FileList:
        """List what the task left in its output folder, without links: ``path``, ``size`` in bytes and ``modified``.

        At most 100,000 files and folders are listed, from at most 100 levels of folders. Where there are more, the
        list's ``truncated`` is a sentence that says where it was cut; else it is None. A file that is not listed can be
        read all the same.
        """
        try:
            return self.api.files(self)
        except NotKept as note:
            return _said(note, FileList())

    def read_file(self, path: str) -> bytes:
        """Return the bytes of one of its files; ``path`` is as in :meth:`files`."""
        return self.api.read_file(self, path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str]:
        return self.id, self.environment

    def __repr__(self) -> str:
        status = "" if self._record is None else f": {self._record.code.label}"
        return f"<Job {display.clean(self.id)} of {display.clean(self.api_name)}{status}>"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        _glance(job for job in [self] if job._record is None or job._record.config_truncated)
        printer.text(display.job_text(self.seen, self.endpoint, last_seen=self._last_seen))

    def _repr_html_(self) -> str:
        _glance(job for job in [self] if not job.seen_ended or job.seen.config_truncated)
        return display.job_html(self.seen, self.endpoint, last_seen=self._last_seen, environment=self.environment)

    def _ipython_display_(self) -> None:
        bar.show_in_place(self, [self.id])

    @property
    def _last_seen(self) -> datetime | None:
        """When it was last read, if a read has failed since."""
        return self._seen_at if self._unanswered and self._record is not None else None

    # Copies share the connection; a pickle has no connection and no credentials.

    def __copy__(self) -> Job:
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Job:
        copied = self.__copy__()
        copied._record = deepcopy(self._record, memo)
        return copied

    def __reduce__(self) -> tuple[Callable[[dict[str, str]], Job], tuple[dict[str, str]]]:
        # A pickle names a function of the package itself, so that this module may be moved.
        return import_module("taskapi_jupyter")._stored_job, (self.__getstate__(),)

    def __getstate__(self) -> dict[str, str]:
        state = {"job_id": self.id, "api_name": self.api_name, "environment": self.environment}
        home: str | Path | None = self._stored.get("home")
        if self._api is not None and self._api.provider == "local":
            home = self._api.home  # None where it goes through a server
        return state if home is None else {**state, "home": str(home)}

    def __setstate__(self, state: dict[str, str]) -> None:
        self._api = self._record = self.endpoint = self._version = None
        self._seen_at, self._unanswered = utc_now(), False
        self._stored = state


class API(contract.API):
    """A deployed task API: ``name``, ``spec``, ``endpoint``, its jobs; displayed as a card."""

    def __repr__(self) -> str:
        return display.api_text(self)

    def _repr_html_(self) -> str:
        return display.api_html(self)


class JobList(list[Job]):
    """Jobs, newest first, displayed as a table.

    Attributes
    ----------
    next_cursor
        What :meth:`TaskAPI.jobs` takes as ``cursor`` to go on with older jobs; None where there are none.
    searched
        How many jobs a search looked at, from the newest (or from the cursor) on; None where nothing was searched.
    groups
        The groups of the page, newest first, where they were asked for as one entry each; None: jobs only.
    apis
        APIs to show above the jobs, as ``%taskapi status`` does; None: only jobs are shown.
    """

    def __init__(
        self,
        jobs: Iterable[Job] = (),
        next_cursor: str | None = None,
        apis: list[API] | None = None,
        *,
        searched: int | None = None,
    ) -> None:
        super().__init__(jobs)
        self.next_cursor = next_cursor
        self.apis = apis
        self.searched = searched
        self.groups: list[GroupStatus] | None = None

    @property
    def entries(self) -> int:
        """How many jobs and groups these are."""
        return len(self) + len(self.groups or ())

    def append_page(self, more: JobList) -> None:
        """Add the page after this one."""
        self.extend(more)
        if more.groups is not None:
            self.groups = [*(self.groups or ()), *more.groups]
        if more.searched is not None:
            self.searched = (self.searched or 0) + more.searched
        self.next_cursor = more.next_cursor

    def __repr__(self) -> str:
        text = display.jobs_text([job.seen for job in self], bool(self.next_cursor), self.searched)
        return text if self.apis is None else f"{display.apis_text(self.apis)}\n\n{text}"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        _glance(job for job in self if job._record is None)
        printer.text(repr(self))

    def _ipython_display_(self) -> None:
        bar.show_in_place(self, [job.id for job in self])

    def _repr_html_(self) -> str:
        _glance(job for job in self if job._record is None)
        records, more = [job.seen for job in self], bool(self.next_cursor)
        if self.apis is None:
            return display.jobs_html(records, more, self.searched)
        return display.overview_html(self.apis, records, more)


def _glance(jobs: Iterable[Job]) -> None:
    """Read the state of jobs in a thread, so that a server which does not answer can't hold up the notebook."""

    def read() -> None:
        with suppress(Exception):  # nobody could handle it; the jobs are then shown as last read
            for job in asked:
                job.refresh()

    if asked := list(jobs):
        for job in asked:
            job._unanswered = True  # until it is answered for
        asking = threading.Thread(target=read, daemon=True)
        asking.start()
        asking.join(FIRST_GLANCE if any(job._record is None for job in asked) else GLANCE)


def _rows(columns: tuple[str, ...], rows: list[Any]) -> Any:
    """Return rows as a DataFrame where pandas can be imported, else as dictionaries."""
    try:
        import pandas
    except ImportError:
        return [dict(zip(columns, row, strict=True)) for row in rows]
    return pandas.DataFrame(rows, columns=list(columns))


def _said(note: NotKept, instead: T) -> T:
    """Say on standard error that this environment does not keep something, and return what takes its place."""
    print(f"taskapi: {note}", file=sys.stderr)  # noqa: T201
    return instead


def _known(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
