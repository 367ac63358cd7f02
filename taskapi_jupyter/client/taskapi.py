"""TaskAPI: what magics, panel and terminal ask of an environment, and what all of its implementations share."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, overload

from taskapi_jupyter.core.contract import (
    DeployRequest,
    DeployResult,
    FileList,
    JobResponse,
    KeptKernel,
    KernelEntry,
    LogChunk,
    MetricsResponse,
    PreviewResponse,
    UsageResponse,
)
from taskapi_jupyter.core.errors import BadRequest, NotFound, NotKept, TooLarge

from . import bell, log_reader, results
from .groups.api import GroupAPI
from .groups.group import Group
from .job import API, PATIENCE, POLL_CEILING, Job, JobList
from .notifications import NotificationAPI
from .packages import PackagesAPI
from .schedules import ScheduleAPI

REST_SHARE = 4  # a log is looked at in one of so many parts of the time at most, unless it grows

__all__ = ["API", "Job", "JobList", "TaskAPI"]


class TaskAPI(GroupAPI, PackagesAPI, ScheduleAPI, NotificationAPI, ABC):
    """An environment: deploys APIs to it, submits jobs, reads and stops them.

    :func:`taskapi_jupyter.connect` returns one. Where a method takes a ``job``, it takes a :class:`Job` or an id. All
    methods raise :class:`~taskapi_jupyter.core.errors.TaskAPIError` or a subclass, whose text is a sentence for people:
    ``BadRequest`` for an argument that can't be used, ``APINotDeployed`` and ``JobNotFound`` for what is not there,
    ``Unreachable`` where a server or a cluster does not answer.

    Attributes
    ----------
    environment
        Its name.
    provider
        ``local``, ``ray`` or ``cortex``.
    poll_ceiling
        The most seconds between two reads of a job that is waited for.
    patience
        The seconds for which a server may be unreachable while a job is waited for.
    home
        The folder with its database and its jobs, where this process uses it without a server; else None.

    Examples
    --------
    >>> api = taskapi_jupyter.connect()
    >>> api.deploy(train, name="train")
    >>> job = api.submit("train", {"lr": 0.1}, timeout=3600)
    >>> job.result()
    """

    environment: str
    provider: str
    poll_ceiling = POLL_CEILING
    patience = PATIENCE
    home: Path | None = None

    @property
    def bell(self) -> Path | None:
        """The home whose bell rings when its jobs change; None where that is not on this machine, or unknown."""
        return self.home

    @property
    def base_url(self) -> str | None:
        """The URL of its routes, where this process goes through a server; else None."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close connections and files; jobs go on."""

    def output_dir(self, job: Job | str) -> Path | None:
        """Return the folder of a job's files where this process can read it, else None."""
        return None

    @abstractmethod
    def deploy_request(self, request: DeployRequest) -> list[DeployResult]:
        """Deploy one API that :func:`~taskapi_jupyter.deploy.prepare.prepare` has prepared."""

    @abstractmethod
    def kernels(self) -> list[KernelEntry]:
        """Return the kernelspecs that are found where jobs are deployed, by name.

        Each has its ``name``, ``display_name`` and ``language``, a kernel of Python the path and version of its
        interpreter as ``python``. ``problem`` says why no job can be started with it: its program is missing, its
        ``kernel.json`` is broken, its Python is older than 3.8. Takes up to 5 s where interpreters are not known yet.
        Raises ``NotKept`` where jobs run on a cluster.
        """

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
        retries: int | None = None,
        retry_on: Sequence[str] | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        group: str | None = None,
        after: Job | Group | str | Sequence[Job | Group | str] | None = None,
        after_any: bool = False,
        results: Mapping[str, Job | str] | None = None,
        notify: Sequence[str] | None = None,
    ) -> Job:
        """Submit a job. It is on disk when this returns, and no crash can lose it.

        Parameters
        ----------
        api
            The name of a deployed API.
        config
            What the task is called with, merged over the API's own config. It becomes JSON: tuples become lists, NumPy
            scalars numbers, dates ISO 8601 text, paths text.
        timeout
            The most seconds from submission to end, waiting included: 1 to 10**9; None (default): the API's.
        notebook
            The path of the notebook that submits, at most 4096 characters; shown with the job. None (default): in a
            kernel the path of its notebook, else that of the notebook that the job runs, if it runs one.
        api_id
            The version to run; None (default): the one that is deployed.
        run_timeout
            The most seconds from the task's start to its end: 1 to 10**9; None (default): the API's.
        retries
            How many further attempts there are at most where it fails, 0 to 100; None (default): none. Each attempt is
            a job of its own, and ``timeout`` counts for it from its own submission; :meth:`Job.wait` goes on to the
            last one.
        retry_on
            The statuses after which there is another attempt; None (default): all failures, but not ``stopped``.
        retry_delay
            The seconds from a failure to the second attempt, 0 (default) to 3600; twice as many before each later one,
            an hour at most.
        priority
            Pending jobs of a higher priority start first, -100 to 100; None (default): 0, in a group -1.
        group
            The id of a group that it joins; None (default): it is a single job.
        after
            Jobs and groups, or their ids, that must have succeeded before it may start; where one ends otherwise it
            ends ``stopped``. Its ``timeout`` counts from when it may start. None (default): it waits for none.
        after_any
            True: it starts once those have ended, however they did.
        results
            Keys of the config that get the results of jobs, which it then waits for, too; each a job or its id. A
            :class:`Job` as a value in ``config`` means the same. A result must be JSON; together at most 10 MiB.
        notify
            Names of notifications in config.yaml that are sent when it ends, and ``browser``; None (default): as
            config.yaml says.

        Returns
        -------
        Job
            The job, ``pending``.

        Raises
        ------
        APINotDeployed
            There is no API of that name.
        BadRequest
            The config holds what JSON can't carry (NaN, a set, more than 64 levels), which the message names by its
            key, or a number is out of bounds.
        Unavailable
            The job can't be written down: no disk space, a home that can't be used.
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
        """Return all APIs, one API with its recent jobs, or one job.

        Raises ``APINotDeployed`` or ``JobNotFound``.
        """

    @abstractmethod
    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it; ``api``, the name of its API, spares a Cortex cluster a search."""

    def held_response(
        self, job_id: str, api: str | None, since: str | None, seconds: float
    ) -> tuple[JobResponse, str | None]:
        """Return one job, and its version; with a version ``since``, once it has another or ``seconds`` have passed.

        Without a version, and at once, where no server can hold the answer.
        """
        return self.job_response(job_id, api), None

    def held_jobs(self, since: str | None, seconds: float) -> str | None:
        """Return the version of the newest jobs in progress, once it is another than ``since``, as above."""
        return None

    def changed(self, since: object = None) -> tuple[object, Collection[str] | None]:
        """Return a moment, and the ids of the jobs that changed since an earlier one; None where that is unknown."""
        return None, None

    def jobs(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        search: str | None = None,
        *,
        group: str | None = None,
        schedule: str | None = None,
        closed: bool = False,
    ) -> JobList:
        """Return jobs, newest first.

        Parameters
        ----------
        api
            Only jobs of this API; None (default): of all.
        status
            Only jobs in this state, or in one of several, such as ``"running"``; None (default): in any.
        limit
            How many at most: 1 to 1000, by default 50.
        cursor
            The ``next_cursor`` of the list before; None (default): begin with the newest.
        search
            Only jobs in which each word of this text occurs, in either case: in the name of the API, id, status,
            notebook, schedule, reason, message of the progress or config (its first 65,536 characters). ``lr=0.1`` or
            ``lr:0.1`` is a key of the config with that value. At most 500 characters.
            One search looks at some thousands of jobs: ``searched`` of the list is how many, its ``next_cursor`` goes
            on with older ones. None (default): no search.
        group
            Only jobs of this group, all attempts, those with the highest index first; None (default): of all.
        schedule
            Only jobs of the schedule of this name; None (default): of all.
        closed
            True: leave out the jobs of groups, and have a group as one entry in ``groups`` of the list; both together
            are at most ``limit``. A group is listed where the last attempt of one of its jobs passes the filter.

        Returns
        -------
        JobList
            The jobs. Those with a config of more than 2 KiB read it when :attr:`Job.config` is used.

        Raises
        ------
        BadRequest
            A state, the limit, the cursor or the search is invalid.
        """
        of: dict[str, Any] = {"group": group, "schedule": schedule, "closed": closed}
        jobs = self.page(api, status, limit, cursor, search, **of)
        while jobs.searched is None and jobs.next_cursor and 0 < jobs.entries < limit:
            more = self.page(api, status, limit - jobs.entries, jobs.next_cursor, **of)
            jobs.append_page(more)
            if not more.entries:
                break
        return jobs

    @abstractmethod
    def page(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        search: str | None = None,
        *,
        group: str | None = None,
        ids: Sequence[str] | None = None,
        results: bool = False,
        closed: bool = False,
        schedule: str | None = None,
    ) -> JobList:
        """Return jobs as :meth:`jobs` does, but fewer where more would pass 1 MiB; ``next_cursor`` then goes on.

        ``ids`` asks for these jobs alone, with their whole configs, as many as fit; those that are gone are left out.
        ``results`` adds what is scalar in small results, where it is kept.
        ``schedule`` asks for the jobs of one, whether it is there still or not.
        A Cortex cluster has no groups and no schedules.
        """

    @abstractmethod
    def counts(self, api: str | None = None, status: str | Sequence[str] | None = None) -> dict[str, int]:
        """Count jobs by status, without states that no job is in; ``api`` and ``status`` are as in :meth:`jobs`."""

    @abstractmethod
    def stop(self, job: Job | str) -> str:
        """Stop a job; return the server's message once no process of the job is left.

        Raises ``JobNotInProgress`` for a job that has ended, ``StopTimeout`` where a process does not end in time.
        """

    def cancel(self, job: Job | str) -> str:
        """Stop a job only if it has not started; return the server's message.

        Raises ``JobIsRunning`` for a job that has, ``JobNotInProgress`` for one that has ended, ``NotKept`` where the
        environment can't do this.
        """
        raise NotKept(f"environment {self.environment} can't stop a job only as long as it is pending: use stop")

    @abstractmethod
    def delete(self, api: str) -> str:
        """Delete an API and stop its jobs in progress; return the server's message. Jobs that ended stay readable."""

    @abstractmethod
    def forget(self, job: Job | str) -> str:
        """Delete a job that has ended, with its log, result and files; return the server's message."""

    @abstractmethod
    def purge(
        self, api: str | None = None, status: str | Sequence[str] | None = None, older_than: float | None = None
    ) -> str:
        """Delete jobs that have ended, with their logs, results and files; return the server's message.

        Parameters
        ----------
        api
            Only jobs of this API; None (default): of all.
        status
            Only jobs in this terminal state, or in one of several; None (default): in any.
        older_than
            Only jobs that ended more than this many days ago, 0 or more; None (default): whenever they ended.
        """

    @abstractmethod
    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job's config, timeouts and retries again, and return the new job.

        It runs the API as it is deployed now or, with ``same``, the version that the job ran. ``api``, the name of the
        job's API, spares a Cortex cluster a search.
        """

    @abstractmethod
    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Return part of the log, at most ``limit`` bytes from ``offset`` on; a negative offset counts from the end.

        ``api``, the name of the job's API, spares a Cortex cluster a search.
        """

    @abstractmethod
    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Return the name of the file that holds a job's result, and the file.

        With ``view``, for a pickled result, its JSON form where there is one.
        """

    @abstractmethod
    def result(self, job: Job | str) -> Any:
        """Return what the task returned, without waiting; :meth:`Job.result` waits.

        Raises ``NotFound`` where there is no result, ``ResultNotStored`` where it could not be stored or can't be
        loaded here, ``NotKept`` where the environment keeps none.
        """

    def open_exception(self, job: Job | str) -> IO[bytes]:
        """Return the file that holds what a job's task raised, pickled; ``NotFound`` where there is none."""
        raise NotFound(f"job {self.job_id(job)} has left no exception")

    def exception(self, job: Job | str) -> BaseException | None:
        """Return what a job's task raised, with the job's traceback as its cause, without waiting.

        None where it raised nothing, where that could not be kept, or where it can't be loaded here. This loads a
        pickle, which runs code: for jobs of your own only.
        """
        try:
            with self.open_exception(job) as file:
                return results.load_exception(file.read())
        except NotFound:
            return None

    @abstractmethod
    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder: see :meth:`Job.files`."""

    @abstractmethod
    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Open one of those files, to be read; ``NotFound`` where there is none, or the path leads outside."""

    @abstractmethod
    def metrics(self, job: Job | str, names: Sequence[str] = (), since: int = 0) -> MetricsResponse:
        """Return points that the task has recorded with ``metric``, of some names or all, at most 50,000.

        ``since`` is the ``next`` of an earlier answer, which goes on after it, or 0; where an answer's ``next`` is
        ``since``, there is nothing more so far. Raises ``NotKept`` where the environment keeps none.
        """

    @abstractmethod
    def usage(self, job: Job | str) -> UsageResponse:
        """Return CPU time and memory of a job over time; no points where it took less than a second.

        Raises ``NotKept`` where the environment keeps none.
        """

    @abstractmethod
    def preview(self, job: Job | str) -> PreviewResponse:
        """Return what a job's pickled result looks like in a notebook, without loading it: ``data`` by media type.

        Empty where the result has a JSON form, or its classes say nothing of how they look. It is at most 256 KiB, and
        what the task made of it: show HTML and SVG only sanitized. Raises ``NotKept`` where the environment keeps none.
        """

    def read_file(self, job: Job | str, path: str) -> bytes:
        """Return the bytes of one of those files."""
        with self.open_file(job, path) as file:
            return file.read()

    @abstractmethod
    def open_notebook(self, job: Job | str) -> tuple[str, IO[bytes]]:
        """Return the name of the notebook that a job runs, and the file as it was last saved.

        Raises ``NoNotebook`` for other jobs, ``NoNotebookYet`` before the first save.
        """

    def notebook(self, job: Job | str) -> bytes:
        """Return the text of the notebook that a job runs, as it was last saved; raise as :meth:`open_notebook`."""
        with self.open_notebook(job)[1] as file:
            return file.read()

    @abstractmethod
    def kernel(self, job: Job | str) -> KeptKernel:
        """Return the kernel that a job keeps after a cell of its notebook failed; ``NoKernel`` where it keeps none."""

    @abstractmethod
    def ask_kernel(self, job: Job | str, what: Literal["resume", "end"]) -> str:
        """Ask for one of :meth:`resume` and :meth:`end_kernel`."""

    def resume(self, job: Job | str) -> str:
        """Go on with a notebook's job from the cell that failed; return the server's message.

        Its kernel, which must be kept, is in the state that it is in by then. Raises ``NoKernel`` where none is kept.
        """
        return self.ask_kernel(job, "resume")

    def end_kernel(self, job: Job | str) -> str:
        """End the kernel that a notebook's job keeps, and with it the job, as failed; return the server's message.

        Raises ``NoKernel`` where none is kept.
        """
        return self.ask_kernel(job, "end")

    def cluster_version(self) -> str | None:
        """Return the version of the Cortex cluster that answers; None where another provider does."""
        return None

    def lacks(self, feature: str) -> str | None:
        """Return None, or, where the server is too old for a feature, the sentence that says so."""
        return None

    def job_id(self, job: Job | str) -> str:
        """Return the id of a job, or an id itself."""
        return job if isinstance(job, str) else job.id

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy one API or several.

        Parameters
        ----------
        target
            The path of a configuration file, of a folder that has a ``cortex.yaml``, of a Python file or of a notebook
            (``.ipynb``), whose cells a job runs in a kernel of its own; a specification (a dict) or a list of them; a
            class with a method ``__call__(self, config)``, or a function.
        name
            The API's name: a letter, then at most 62 letters, digits, ``-`` or ``_``. Needed where the target has
            none; a function's is its own by default, a notebook's is made from its file's name.
        **options
            What overrides the target's own: ``config`` and ``env`` (dicts, merged into its own), ``cpu`` (cores, or
            text such as ``"200m"``), ``mem`` (bytes, or text such as ``"1Gi"``), ``gpu`` (a number), ``timeout`` and
            ``run_timeout`` (seconds of a job from its submission, and from its start), ``function`` (which one of a
            Python file), ``warm`` (True, or the modules that jobs are to find imported: they start from a process that
            has done so), ``python`` (path of the interpreter) or ``kernel`` (the name of a kernelspec, whose Python is
            the interpreter; of a notebook the kernel that runs it, by default its own), ``requirements`` (a list such
            as ``["numpy", "pandas<3"]``, the path of a requirements file, ``"auto"`` for the project's: jobs run in an
            environment that is built of them), ``python_version`` (of that, such as ``"3.12"``), ``upgrade`` (True
            resolves them anew), ``script_metadata`` (False ignores a PEP 723 block), ``cwd`` (folder of the jobs),
            ``environ`` (variables to take along), ``dry_run`` (True: nothing is deployed, and the results say what
            would be). For a notebook also ``keep_kernel`` (for how long its kernel is kept where a cell fails: seconds,
            or text such as ``"30m"``), ``cell_timeout`` and ``startup_timeout`` (seconds), ``outputs`` (``["html"]``:
            saved in this form, too) and ``allow_unknown`` (whether a job may have parameters that it does not assign).

        Returns
        -------
        list of DeployResult
            One an API: ``api``, ``message``, ``warnings``; after a dry run ``plan``.

        Raises
        ------
        BadRequest
            The target is no valid API, or can't be deployed; ``TooLarge`` where it is more than the server takes.

        Examples
        --------
        >>> api.deploy("cortex.yaml")
        >>> api.deploy(train, name="train", mem="4Gi", timeout=3600)
        """
        from taskapi_jupyter.deploy.advice import add_warnings
        from taskapi_jupyter.deploy.prepare import DeployOptions, prepare

        too_old = self.lacks("main") if callable(target) else None
        deployed = []
        options = {"environ_extra": self.more_variables(), **options}
        for request in prepare(target, DeployOptions(name=name, main=not too_old, **options)):
            try:
                answer = self.deploy_request(request)
            except TooLarge as error:
                from taskapi_jupyter.deploy.pickle_size import too_large

                raise TooLarge(too_large(error.message, target)) from None
            add_warnings(answer, target, request, provider=self.real_provider(), environ=options.get("environ"))
            deployed += answer
        if too_old and too_old not in (deployed[0].warnings or ()):
            deployed[0].warnings = [*(deployed[0].warnings or ()), too_old]
        for result in deployed:
            if result.error:
                raise BadRequest(result.error)
        return deployed

    def more_variables(self) -> list[str]:
        """Return the names, or patterns of names, of the variables that each deploy takes along, beside those that all
        do."""
        return []

    def real_provider(self) -> str:
        """Return the provider of the environment, which the server knows where there is one."""
        return self.provider

    @overload
    def logs(self, job: Job | str, tail: int | None = None) -> str: ...
    @overload
    def logs(self, job: Job | str, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, job: Job | str, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return the log, its last ``tail`` lines, or, with ``follow``, an iterator of lines: see :meth:`Job.logs`."""
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
        """Yield the log as it is written, in pieces that never split a character, until the job has ended.

        Parameters
        ----------
        job
            The job or its id.
        tail
            How many lines of what is there already to begin with, 0 or more; None (default): all.
        most
            How many bytes of what is there already to begin with at most; a line says how much was left out. None
            (default): no bound.
        skip
            True: a reader that falls behind by more than ``most`` goes on with the newest bytes, after such a line.

        Yields
        ------
        str
            Text as it was written, carriage returns included; an empty text each time that nothing new was there.
        """
        log_reader.check(tail)
        job_id = self.job_id(job)
        fetch = partial(self.log_chunk, job_id)
        pauses = self.log_pauses(job_id)
        return log_reader.stream(fetch, self._has_ended(job_id), tail, pauses, most=most, skip=skip)

    def log_chunks(self, job: Job | str, tail: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Yield the log's bytes exactly as they were written; where an offset jumps, output was dropped.

        ``tail`` and ``follow`` are as in :meth:`Job.logs`.
        """
        log_reader.check(tail)
        job_id = self.job_id(job)
        fetch, has_ended = partial(self.log_chunk, job_id), self._has_ended(job_id)
        offset = 0
        if tail is not None:
            data, _, end = log_reader.tail(fetch, tail)
            offset = max(end - len(data), 0)
        pauses = self.log_pauses(job_id)
        for chunk in log_reader.follow(fetch, has_ended if follow else lambda: True, offset, pauses):
            if chunk is not None:
                begin = len(chunk.data) - (chunk.next - chunk.offset)  # after the line that says what was dropped
                yield LogChunk(chunk.data[begin:], chunk.offset, chunk.next, chunk.size)

    @contextmanager
    def log_pauses(self, job_id: str) -> Iterator[Callable[[int, float], None]]:
        """Give what sleeps until a log may have grown beyond an offset or its job has ended: see ``log_reader``."""
        changed, woken = threading.Event(), 0.0
        with ExitStack() as stack:
            ceiling = self.poll_ceiling
            if self.bell is not None:
                of_job = stack.enter_context(bell.Listener(self.bell, changed.set))
                of_log = stack.enter_context(bell.Listener(self.bell, changed.set, job_id, "log", written=True))
                ceiling = bell.LOOK_AGAIN if of_job.works and of_log.works else ceiling

            def sleep(offset: int, waited: float) -> None:
                nonlocal woken
                began = time.monotonic()
                soon = log_reader.INTERVAL if waited < 1 else ceiling  # lines that wait to be drawn are, then
                changed.wait(log_reader.pause(waited, ceiling) if ceiling <= self.poll_ceiling else soon)
                rest = min(REST_SHARE * (began - woken), self.poll_ceiling)  # other jobs may ring many times a second
                time.sleep(max(began + rest - time.monotonic(), 0))
                woken = time.monotonic()
                changed.clear()

            yield sleep

    def _has_ended(self, job_id: str) -> Callable[[], bool]:
        return lambda: Job(self, self.job_response(job_id).job_status).ended
