"""A job as people hold it, and what every :class:`~taskapi_jupyter.contract.TaskAPI` does in the same way."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from msgspec import UNSET, UnsetType

from . import display, logs
from .contract import API, DeployResult, FileEntry, JobStatus, LogChunk, Progress, TaskAPI
from .display.bar import Bar
from .display.words import created, why
from .errors import (
    BadRequest,
    JobFailed,
    JobNotFound,
    NotFound,
    NotKept,
    ResultNotStored,
    TaskAPIError,
    TooLarge,
    Unreachable,
)
from .states import TERMINAL, JobCode

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

POLL_CEILING = 0.25  # seconds; over HTTP nobody is asked more often than that for long
PATIENCE = 15.0  # seconds that a server may be away while a job is waited for
GLANCE = 0.3  # seconds that drawing a job may spend on asking how it is

T = TypeVar("T")


class Job:
    """One submission of a task API. What it knows is as of the last :meth:`refresh`."""

    def __init__(self, api: TaskAPI, record: JobStatus, endpoint: str | None = None) -> None:
        self.api = api
        self.record = record
        self.endpoint = endpoint

    @property
    def id(self) -> str:
        """Return the job's id, 16 hexadecimal digits."""
        return self.record.job_id

    @property
    def api_name(self) -> str:
        """Return the name of the API that it was submitted to."""
        return self.record.api_name

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
        code = self.record.code
        return code in TERMINAL or (code is JobCode.UNKNOWN and bool(self.record.end_time))

    def refresh(self) -> Job:
        """Read the job's state again."""
        # A cluster knows jobs by their API alone; elsewhere a job can be read when its API is deleted.
        response = self.api.job_response(self.id, self.api_name if self.api.provider == "cortex" else None)
        self.record = response.job_status
        self.endpoint = response.endpoint or self.endpoint
        return self

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended, whatever the end; raise TimeoutError after ``timeout`` seconds.

        Interrupting leaves the job running.
        """
        clock = _Clock(self, timeout)
        with self._watched() as bar:
            while not self._look(clock):
                bar.show(self.record)
                time.sleep(clock.pause())
        return self

    def __await__(self) -> Generator[Any, None, Job]:
        """Wait like :meth:`wait`, leaving the event loop, and so the kernel, free."""
        return self._wait_aside().__await__()

    async def _wait_aside(self) -> Job:
        clock = _Clock(self, None)
        with self._watched() as bar:
            while not await asyncio.to_thread(self._look, clock):
                bar.show(self.record)
                await asyncio.sleep(clock.pause())
        return self

    def _look(self, clock: _Clock) -> bool:
        """Read the state unless it is final; a server that is away for a moment is forgiven."""
        if not self.ended:
            try:
                self.refresh()
                clock.answered()
            except Unreachable:
                if clock.silence() > PATIENCE:
                    raise
        return self.ended

    @contextmanager
    def _watched(self) -> Iterator[Bar]:
        """Show a bar meanwhile; tell who interrupts that the job goes on."""
        bar, known = Bar(), self.ended
        try:
            yield bar
        except KeyboardInterrupt:
            bar.show(self.record, last=True)
            print(  # noqa: T201
                f"job {self.id} still runs; to stop it: %taskapi stop {self.id[-6:]}", file=sys.stderr
            )
            raise
        except BaseException:
            bar.show(self.record, last=True)
            raise
        if not known:
            bar.show(self.record, last=True)

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

    def files(self) -> list[FileEntry]:
        """List what the task left in its output folder."""
        try:
            return self.api.files(self)
        except NotKept as note:
            return _said(note, [])

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
        return self.id, self.api.environment

    def __repr__(self) -> str:
        return f"<Job {display.clean(self.id)} of {display.clean(self.api_name)}: {self.record.code.label}>"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(display.job_text(self.record, self.endpoint))

    def _repr_html_(self) -> str:
        if not self.ended:
            # Aside, so that a server which does not answer can't hold up the notebook.
            asking = threading.Thread(target=self._glance, daemon=True)
            asking.start()
            asking.join(GLANCE)
        return display.job_html(self.record, self.endpoint)

    def _glance(self) -> None:
        with suppress(Exception):
            self.refresh()


class JobList(list[Job]):
    """Jobs, newest first; where there are older ones, ``next_cursor`` goes on with them.

    ``apis`` is for the overview of an environment: they are shown above the jobs.
    """

    def __init__(self, jobs: Iterable[Job] = (), next_cursor: str | None = None, apis: list[API] | None = None) -> None:
        super().__init__(jobs)
        self.next_cursor = next_cursor
        self.apis = apis

    def __repr__(self) -> str:
        text = display.jobs_text([job.record for job in self], bool(self.next_cursor))
        return text if self.apis is None else f"{display.apis_text(self.apis)}\n\n{text}"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        records, more = [job.record for job in self], bool(self.next_cursor)
        if self.apis is None:
            return display.jobs_html(records, more)
        return display.overview_html(self.apis, records, more)


class BaseTaskAPI(TaskAPI):
    """The part of :class:`TaskAPI` that is the same wherever jobs are."""

    poll_ceiling = POLL_CEILING  #: seconds between two looks at a job at most

    def lacks(self, feature: str) -> str | None:
        """Return None: what runs in this process has all that this package has."""
        return None

    def job_id(self, job: Job | str) -> str:
        """Return the id of a job, or an id itself."""
        return job if isinstance(job, str) else job.id

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy a file, a specification or a callable; raise where one of them can't be."""
        from .deployment import add_warnings, prepare

        too_old = self.lacks("main") if callable(target) else None
        results = []
        for request in prepare(target, name=name, main=not too_old, **options):
            try:
                answer = self.deploy_request(request)
            except TooLarge as error:
                from .deployment.variables import too_large

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
        logs.check(tail)
        if follow:
            return logs.lines(self.stream(job, tail, logs.SHOWN))
        fetch = partial(self.log_chunk, self.job_id(job))
        if tail is None:
            return logs.read(fetch)[0].decode("utf-8", "replace")
        return logs.text(logs.tail(fetch, tail)[0])

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
        logs.check(tail)
        job_id = self.job_id(job)
        fetch = partial(self.log_chunk, job_id)
        return logs.stream(fetch, self._has_ended(job_id), tail, self.poll_ceiling, most=most, skip=skip)

    def log_chunks(self, job: Job | str, tail: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Yield the log's bytes exactly as they were written; where an offset jumps, output was dropped.

        ``tail`` and ``follow`` are those of :meth:`Job.logs`.
        """
        logs.check(tail)
        job_id = self.job_id(job)
        fetch, has_ended = partial(self.log_chunk, job_id), self._has_ended(job_id)
        offset = 0
        if tail is not None:
            data, _, end = logs.tail(fetch, tail)
            offset = max(end - len(data), 0)
        for chunk in logs.follow(fetch, has_ended if follow else lambda: True, offset, self.poll_ceiling):
            if chunk is not None:
                begin = len(chunk.data) - (chunk.next - chunk.offset)  # after the line that says what was dropped
                yield LogChunk(chunk.data[begin:], chunk.offset, chunk.next, chunk.size)

    def _has_ended(self, job_id: str) -> Callable[[], bool]:
        return lambda: Job(self, self.job_response(job_id).job_status).ended


class _Clock:
    """When to look again: after a quarter of the time waited so far, within bounds, until time is up."""

    def __init__(self, job: Job, timeout: float | None) -> None:
        self.job, self.timeout = job, timeout
        self.began = self.heard = time.monotonic()
        self.ceiling = getattr(job.api, "poll_ceiling", POLL_CEILING)

    def answered(self) -> None:
        self.heard = time.monotonic()

    def silence(self) -> float:
        return time.monotonic() - self.heard

    def pause(self) -> float:
        """Return how long to sleep; raise TimeoutError where no time is left."""
        waited = time.monotonic() - self.began
        pause = logs.pause(waited, self.ceiling)
        if self.timeout is None:
            return pause
        if waited >= self.timeout:
            job = self.job
            raise TimeoutError(
                f"job {job.id} of {job.api_name} is still {job.record.code.label} after {self.timeout:g} s"
            )
        return min(pause, self.timeout - waited)


def _said(note: NotKept, instead: T) -> T:
    """Say that something is not had here, which is no failure, and return what stands in for it."""
    print(f"taskapi: {note}", file=sys.stderr)  # noqa: T201
    return instead


def _known(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value
