"""A job as people hold it, and what every :class:`~taskapi_jupyter.core.contract.TaskAPI` does in the same way."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, overload

from msgspec import UNSET, UnsetType

from taskapi_jupyter import display
from taskapi_jupyter.core import contract
from taskapi_jupyter.core.contract import (
    DeployRequest,
    DeployResult,
    FileList,
    JobResponse,
    JobStatus,
    LogChunk,
    Progress,
)
from taskapi_jupyter.core.errors import (
    BadRequest,
    JobFailed,
    JobNotFound,
    NotFound,
    NotKept,
    ResultNotStored,
    TaskAPIError,
    TooLarge,
)
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display.facts import created, ended, why
from taskapi_jupyter.display.formats import utc_now

from . import log_reader, waiting

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

POLL_CEILING = 0.25  # seconds; over HTTP nobody is asked more often than that for long
GLANCE = 0.3  # seconds that drawing a job may spend on asking how it is
FIRST_GLANCE = 2.0  # where nothing is known of it yet, and a connection has to be made

T = TypeVar("T")


class Job:
    """One submission of a task API. What it knows is as of the last :meth:`refresh`.

    A job can be pickled and copied. A pickle holds its id, its API's name and its environment, and no credentials;
    unpickled, it connects at its first use.
    """

    def __init__(self, api: TaskAPI, record: JobStatus, endpoint: str | None = None) -> None:
        self._api: TaskAPI | None = api
        self._record: JobStatus | None = record
        self._stored: dict[str, str] = {}
        self._seen_at = utc_now()
        self._unanswered = False  # whether it was asked for since then in vain
        self.endpoint = endpoint

    @property
    def api(self) -> TaskAPI:
        """Return the environment's TaskAPI; one that was unpickled connects, and raises where it can't."""
        if self._api is None:
            # By name: it is above this file, and only a job that was unpickled needs it.
            environments = import_module("taskapi_jupyter.environments")
            try:
                self._api = environments.reconnect(self._stored["environment"], self._stored.get("home"))
            except NotFound as error:
                raise NotFound(f"job {self.id} of {self.api_name}: {error}") from None
        return self._api

    @property
    def record(self) -> JobStatus:
        """Return the job as the wire has it; of one that was unpickled it is read first."""
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
        """Return the job as last seen; nothing is asked for it."""
        return self._record or JobStatus(job_id=self.id, api_name=self.api_name, status=JobCode.UNKNOWN.value)

    @property
    def seen_ended(self) -> bool:
        """Say whether it is known to have ended; nothing is asked for it."""
        return ended(self.seen)

    @property
    def poll_ceiling(self) -> float:
        """Return how many seconds there are between two looks at it at most."""
        return POLL_CEILING if self._api is None else self._api.poll_ceiling

    @property
    def environment(self) -> str:
        """Return the name of the environment that it runs in."""
        return self._stored["environment"] if self._api is None else self._api.environment

    @property
    def id(self) -> str:
        """Return the job's id, 16 hexadecimal digits."""
        return self._stored["job_id"] if self._record is None else self._record.job_id

    @property
    def api_name(self) -> str:
        """Return the name of the API that it was submitted to."""
        return self._stored["api_name"] if self._record is None else self._record.api_name

    @property
    def status(self) -> str:
        """Return the status code, such as ``running``."""
        return str(self.record.code)

    @property
    def config(self) -> dict[str, Any] | None:
        """Return the configuration as it was submitted."""
        return self.record.config

    @property
    def created_time(self) -> datetime | None:
        """Return when it was submitted."""
        return created(self.record)

    @property
    def start_time(self) -> datetime | None:
        """Return when its task started; None while it has not."""
        return display.moment(self.record.start_time)

    @property
    def end_time(self) -> datetime | None:
        """Return when it ended; None while it has not."""
        return display.moment(self.record.end_time)

    @property
    def reason(self) -> str | None:
        """Return why it ended, where there is more to say than its status."""
        return _known(self.record.reason)

    @property
    def exit_code(self) -> int | None:
        """Return its process's exit code; negative for a signal."""
        return _known(self.record.exit_code)

    @property
    def progress(self) -> Progress | None:
        """Return what the task last said with ``progress()``."""
        return _known(self.record.progress)

    @property
    def notebook(self) -> str | None:
        """Return the path of the notebook that it was submitted from."""
        return _known(self.record.notebook)

    @property
    def ended(self) -> bool:
        """Say whether it had ended when it was last looked at."""
        return ended(self.record)

    def refresh(self) -> Job:
        """Read the job's state again."""
        response = self.api.job_response(self.id, self.api_name)
        self.record = response.job_status
        self.endpoint = response.endpoint or self.endpoint
        return self

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended, whatever the end; raise TimeoutError after ``timeout`` seconds.

        Interrupting leaves the job running. What is waited for at the same time below one cell shares one bar.
        """
        waiting.wait([self], timeout)
        return self

    def __await__(self) -> Generator[Any, None, Job]:
        """Wait like :meth:`wait`, leaving the event loop, and so the kernel, free."""
        yield from waiting.wait_aside(self).__await__()
        return self

    def result(self, timeout: float | None = None) -> Any:
        """Wait, then return what the task returned, in the types that it had.

        ``timeout`` is in seconds, None for any time. A result that is pickled is loaded, which runs code of its
        classes, but nothing of the cell. None where the environment keeps no results, which it then says on standard
        error. Raises :class:`JobFailed` unless the job succeeded, :class:`ResultNotStored` where its result could not
        be stored or another Python pickled it, TimeoutError.
        """
        try:
            return self.kept_result(timeout)
        except NotKept as note:
            return _said(note, None)

    def kept_result(self, timeout: float | None = None) -> Any:
        """Do as :meth:`result`, but raise :class:`NotKept` where the environment keeps no results."""
        self.wait(timeout).check()
        try:
            return self.api.result(self)
        except (JobNotFound, NotKept, ResultNotStored):
            raise
        except NotFound:
            return None  # the task had nothing to return, as a command

    def check(self) -> Job:
        """Raise :class:`JobFailed` if the job, as last seen, ended otherwise than ``succeeded``."""
        code = self.record.code
        if self.ended and code is not JobCode.SUCCEEDED:
            reason = why(self.record, 500)
            what = f"job {self.id} of {self.api_name}: {code.label}" + (f", {reason}" if reason else "")
            raise JobFailed(f"{what}; its log: %taskapi logs {self.id}", self.id, str(code))
        return self

    @overload
    def logs(self, tail: int | None = None) -> str: ...
    @overload
    def logs(self, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return what the job wrote, or follow it.

        Parameters
        ----------
        tail
            How many lines from the end, 0 or more; None (default): all. A line ends at ``\\n``, ``\\r\\n`` or ``\\r``;
            a line that rewrites itself by ``\\r``, such as a progress bar, counts as one and comes in its last state.
            They are looked for in the newest 32 MiB at most, and no further than a bar of more than a MiB.
        follow
            Return an iterator of lines, which ends when the job has ended, instead of what there is now.

        Returns
        -------
        str or iterator of str
            Without arguments the whole log as it was written (of one larger than ``log_max_bytes``, its head and its
            newest part). With ``tail`` those lines. With ``follow`` lines without their ends, of a bar its states as
            they come, ten a second at most, the last one always; it begins with the newest MiB (after ``tail`` lines,
            with those of it), and with a line that says how much was left out before. What is not UTF-8 is replaced.
            Empty, with a note on standard error, where the environment has no log any more.

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

    def stop(self) -> str:
        """Stop the job; nothing of it is left when this returns."""
        message = self.api.stop(self)
        with suppress(TaskAPIError):
            self.refresh()
        return message

    def rerun(self, same: bool = False) -> Job:
        """Submit its config and timeouts again: to the API as it is now, or (``same``) to the job's own version."""
        return self.api.rerun(self, same)

    def forget(self) -> str:
        """Delete the ended job, with its log, result and files."""
        return self.api.forget(self)

    def files(self) -> FileList:
        """List what the task left in its output folder, links aside: ``path``, ``size`` in bytes and ``modified``.

        Of more than 100,000 files and folders, or more than 100 folders within each other, the list's ``truncated`` is
        a sentence that says where it was cut; else it is None. A file that is not listed can be read all the same.
        """
        try:
            return self.api.files(self)
        except NotKept as note:
            return _said(note, FileList())

    def read_file(self, path: str) -> bytes:
        """Return one of those files."""
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
        _glance(job for job in [self] if job._record is None)
        printer.text(display.job_text(self.seen, self.endpoint, last_seen=self._last_seen))

    def _repr_html_(self) -> str:
        _glance(job for job in [self] if not job.seen_ended)
        return display.job_html(self.seen, self.endpoint, last_seen=self._last_seen)

    @property
    def _last_seen(self) -> datetime | None:
        """Return when it was seen last, if it was asked for in vain since."""
        return self._seen_at if self._unanswered and self._record is not None else None

    # Copies share the connection; pickles hold none, and no credentials.

    def __copy__(self) -> Job:
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Job:
        copied = self.__copy__()
        copied._record = deepcopy(self._record, memo)
        return copied

    def __getstate__(self) -> dict[str, str]:
        state = {"job_id": self.id, "api_name": self.api_name, "environment": self.environment}
        home = self._stored.get("home")
        if self._api is not None and self._api.provider == "local":
            home = getattr(self._api, "home", None)  # where it goes through no server
        return state if home is None else {**state, "home": str(home)}

    def __setstate__(self, state: dict[str, str]) -> None:
        self._api = self._record = self.endpoint = None
        self._seen_at, self._unanswered = utc_now(), False
        self._stored = state


class API(contract.API):
    """A deployed task API, as people see it."""

    def __repr__(self) -> str:
        return display.api_text(self)

    def _repr_html_(self) -> str:
        return display.api_html(self)


class JobList(list[Job]):
    """Jobs, newest first; where there are older ones, ``next_cursor`` goes on with them.

    ``apis`` is for the overview of an environment: they are shown above the jobs.
    """

    def __init__(self, jobs: Iterable[Job] = (), next_cursor: str | None = None, apis: list[API] | None = None) -> None:
        super().__init__(jobs)
        self.next_cursor = next_cursor
        self.apis = apis

    def __repr__(self) -> str:
        text = display.jobs_text([job.seen for job in self], bool(self.next_cursor))
        return text if self.apis is None else f"{display.apis_text(self.apis)}\n\n{text}"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        _glance(job for job in self if job._record is None)
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        _glance(job for job in self if job._record is None)
        records, more = [job.seen for job in self], bool(self.next_cursor)
        if self.apis is None:
            return display.jobs_html(records, more)
        return display.overview_html(self.apis, records, more)


class TaskAPI(ABC):
    """What magics, panel and terminal are handed: an environment, whatever stands behind it.

    ``job`` arguments take a :class:`Job` or an id. All methods raise
    :class:`~taskapi_jupyter.core.errors.TaskAPIError`.
    """

    environment: str
    provider: str
    poll_ceiling = POLL_CEILING  #: seconds between two looks at a job at most

    @abstractmethod
    def close(self) -> None:
        """Close connections and files; jobs go on."""

    @abstractmethod
    def deploy_request(self, request: DeployRequest) -> list[DeployResult]:
        """Deploy one prepared API."""

    @abstractmethod
    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,
        api_id: str | None = None,
        run_timeout: int | None = None,
    ) -> Job:
        """Start a job; it is on disk when this returns.

        ``config`` becomes JSON: tuples lists, scalars of NumPy numbers, dates ISO 8601 text, paths text. Anything else
        that JSON can't carry (NaN, sets, what nests deeper than 64 levels) raises ``BadRequest``, which names its key.
        ``timeout`` is in seconds since the submission, ``run_timeout`` since the task's start; ``api_id`` names the
        version to run instead of the one that is deployed.
        """

    @overload
    @abstractmethod
    def get(self) -> list[API]: ...
    @overload
    @abstractmethod
    def get(self, api: str) -> API: ...
    @overload
    @abstractmethod
    def get(self, api: str, job_id: str) -> Job: ...
    @abstractmethod
    def get(self, api: str | None = None, job_id: str | None = None) -> list[API] | API | Job:
        """Return all APIs, one API with its recent jobs, or one job."""

    @abstractmethod
    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it; ``api``, the name of its API, spares a Cortex cluster a search."""

    @abstractmethod
    def jobs(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobList:
        """Return jobs, newest first; ``next_cursor`` of the list goes on."""

    @abstractmethod
    def stop(self, job: Job | str) -> str:
        """Stop a job and return what the server says once nothing of it is left."""

    @abstractmethod
    def delete(self, api: str) -> str:
        """Delete an API; its jobs in progress are stopped."""

    @abstractmethod
    def forget(self, job: Job | str) -> str:
        """Delete an ended job, its log, result and files."""

    @abstractmethod
    def purge(
        self, api: str | None = None, status: str | Sequence[str] | None = None, older_than: float | None = None
    ) -> str:
        """Delete all ended jobs, with what they left, or some: of one API, in some terminal states, of some age.

        ``older_than`` is a number of days since they ended.
        """

    @abstractmethod
    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job's config and timeouts again: to the API as it is now, or (``same``) to the job's own version.

        ``api``, as for :meth:`job_response`, spares a Cortex cluster a search.
        """

    @abstractmethod
    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Return part of the log; a negative offset counts from the end. ``api`` is as for :meth:`job_response`."""

    @abstractmethod
    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Return the name of the file that holds a job's result, and the file.

        With ``view``, for a pickled result, its JSON form where there is one.
        """

    @abstractmethod
    def result(self, job: Job | str) -> Any:
        """Return what the task returned; :class:`~taskapi_jupyter.core.errors.NotFound` where there is nothing."""

    @abstractmethod
    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder, links aside; ``truncated`` of the list says where it was cut.

        It is cut at 100,000 files and folders, and below 100 folders within each other.
        """

    @abstractmethod
    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Open one of those files, to be read."""

    def read_file(self, job: Job | str, path: str) -> bytes:
        """Return the content of one of those files."""
        with self.open_file(job, path) as file:
            return file.read()

    def cluster_version(self) -> str | None:
        """Return the version of the Cortex cluster that answers; None where another provider does."""
        return None

    def lacks(self, feature: str) -> str | None:
        """Return None: what runs in this process has all that this package has."""
        return None

    def job_id(self, job: Job | str) -> str:
        """Return the id of a job, or an id itself."""
        return job if isinstance(job, str) else job.id

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy a file, a specification or a callable; raise where one of them can't be."""
        from taskapi_jupyter.deploy.advice import add_warnings
        from taskapi_jupyter.deploy.prepare import DeployOptions, prepare

        too_old = self.lacks("main") if callable(target) else None
        results = []
        for request in prepare(target, DeployOptions(name=name, main=not too_old, **options)):
            try:
                answer = self.deploy_request(request)
            except TooLarge as error:
                from taskapi_jupyter.deploy.pickle_size import too_large

                raise TooLarge(too_large(error.message, target)) from None
            add_warnings(answer, target, request, provider=self._provider(), environ=options.get("environ"))
            results += answer
        if too_old and too_old not in (results[0].warnings or ()):
            results[0].warnings = [*(results[0].warnings or ()), too_old]
        for result in results:
            if result.error:
                raise BadRequest(result.error)
        return results

    def _provider(self) -> str:
        """Return the provider of the environment, which of a server's is not always this class's own."""
        return self.provider

    @overload
    def logs(self, job: Job | str, tail: int | None = None) -> str: ...
    @overload
    def logs(self, job: Job | str, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, job: Job | str, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return the log, or its last ``tail`` lines; or an iterator of lines: see :meth:`Job.logs`."""
        log_reader.check(tail)
        if follow:
            return log_reader.lines(self.stream(job, tail, log_reader.SHOWN))
        fetch = partial(self.log_chunk, self.job_id(job))
        if tail is None:
            return log_reader.read(fetch)[0].decode("utf-8", "replace")
        return log_reader.text(log_reader.tail(fetch, tail)[0])

    def stream(
        self, job: Job | str, tail: int | None = None, most: int | None = None, skip: bool = False
    ) -> Iterator[str]:
        """Yield the log as it is written, in pieces that cut no character, until the job has ended.

        Parameters
        ----------
        job
            The job or its id.
        tail
            Lines of what is there already to begin with; None: all.
        most
            Bytes of what is there already to begin with at most; a line says how much was left out. None: no bound.
        skip
            Whether a reader that falls behind by more than ``most`` goes on with the newest, after such a line.

        Yields
        ------
        str
            Text as it was written, carriage returns included; empty each time that there was nothing new.
        """
        log_reader.check(tail)
        job_id = self.job_id(job)
        fetch = partial(self.log_chunk, job_id)
        return log_reader.stream(fetch, self._has_ended(job_id), tail, self.poll_ceiling, most=most, skip=skip)

    def log_chunks(self, job: Job | str, tail: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Yield the log's bytes exactly as they were written; where an offset jumps, output was dropped.

        ``tail`` and ``follow`` are those of :meth:`Job.logs`.
        """
        log_reader.check(tail)
        job_id = self.job_id(job)
        fetch, has_ended = partial(self.log_chunk, job_id), self._has_ended(job_id)
        offset = 0
        if tail is not None:
            data, _, end = log_reader.tail(fetch, tail)
            offset = max(end - len(data), 0)
        for chunk in log_reader.follow(fetch, has_ended if follow else lambda: True, offset, self.poll_ceiling):
            if chunk is not None:
                begin = len(chunk.data) - (chunk.next - chunk.offset)  # after the line that says what was dropped
                yield LogChunk(chunk.data[begin:], chunk.offset, chunk.next, chunk.size)

    def _has_ended(self, job_id: str) -> Callable[[], bool]:
        return lambda: Job(self, self.job_response(job_id).job_status).ended


def _glance(jobs: Iterable[Job]) -> None:
    """Look at jobs, aside, so that a server which does not answer can't hold up the notebook."""

    def look() -> None:
        with suppress(Exception):  # of a thread; what is drawn is then as last seen
            for job in asked:
                job.refresh()

    if asked := list(jobs):
        for job in asked:
            job._unanswered = True  # until it is answered for
        asking = threading.Thread(target=look, daemon=True)
        asking.start()
        asking.join(FIRST_GLANCE if any(job._record is None for job in asked) else GLANCE)


def _said(note: NotKept, instead: T) -> T:
    """Say that something is not had here, which is no failure, and return what stands in for it."""
    print(f"taskapi: {note}", file=sys.stderr)  # noqa: T201
    return instead


def _known(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
