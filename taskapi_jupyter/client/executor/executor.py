"""An executor of ``concurrent.futures`` whose calls are jobs."""

from __future__ import annotations

import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.client.groups import configs
from taskapi_jupyter.client.headers import notebook_here
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.core.contract import MAX_PAGE, GroupRequest
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    Conflict,
    GroupNotFound,
    NotKept,
    Unavailable,
)
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .calls import Call, chunked
from .futures import JobFuture
from .watch import Watch

if TYPE_CHECKING:
    from types import TracebackType

    from taskapi_jupyter.client.taskapi import TaskAPI

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]{0,38}[A-Za-z0-9_])?")
_TRIES = 3  # to submit to an API that is deleted at the same time


class Executor(futures.Executor):
    """Runs calls as jobs, each in a process of its own that outlives the kernel.

    It is what ``ThreadPoolExecutor`` is for threads: whatever takes a ``concurrent.futures.Executor`` takes this one.
    A call takes a Python's start, so it is for work of a second or more.

    A function is pickled, with what it uses of the notebook, and deployed once as the API ``NAME-FUNCTION``, which is
    deleted with its last job; one that has changed is deployed again. Arguments, at most 1 MiB a call, go along as JSON
    where that keeps them exactly, else pickled. All jobs of an executor are one group.

    Leaving ``with`` waits for all calls; by an exception, it does not, and the jobs go on. The end of this process
    stops none either: :meth:`attach` gives their futures again.

    Parameters
    ----------
    tasks
        The environment; None (default): that of :func:`taskapi_jupyter.connect`.
    cpu, mem, gpu
        What each call has: cores (also ``"500m"``), bytes (also ``"2Gi"``), a number of GPUs; None: 1 core.
    timeout
        The most seconds of a call, from its submission to its end; None (default): any.
    retries
        How many further attempts a call has that fails, 0 (default) to 100.
    name
        A letter, then letters, digits, ``-`` or ``_``, at most 40, no ``-`` at the end. None (default): one is made.
    requirements
        What its jobs run with, in an environment of their own: a list such as ``["numpy", "pandas<3"]``, the path of a
        requirements file, or ``"auto"`` for the project's; None (default): in this interpreter.

    Raises
    ------
    BadRequest
        The name or a number is out of bounds.
    NotKept
        The environment is a Cortex cluster, which keeps no results.

    Examples
    --------
    >>> with taskapi_jupyter.Executor(mem="2Gi", name="fits") as executor:
    ...     futures = [executor.submit(fit, seed) for seed in range(20)]
    >>> [future.result() for future in futures]
    """

    def __init__(
        self,
        tasks: TaskAPI | None = None,
        *,
        cpu: str | float | None = None,
        mem: str | int | None = None,
        gpu: int | None = None,
        timeout: int | None = None,
        retries: int = 0,
        name: str | None = None,
        requirements: str | Sequence[str] | None = None,
    ) -> None:
        if name is None:
            name = f"executor-{secrets.token_hex(3)}"
        configs.check_name(name)
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"invalid name of an executor {name[:80]!r}: a letter, then letters, digits, '-' and '_', "
                "at most 40, no '-' at the end"
            )
        configs.check_attempts(retries, None, None, None)
        # By name: environments is a layer above, and needed only where none is given.
        self._tasks: TaskAPI = tasks or import_module("taskapi_jupyter.environments").connect()
        if self._tasks.provider == "cortex":
            raise NotKept(
                f"environment {self._tasks.environment} is a Cortex cluster, which keeps no results that an executor "
                "could return: submit jobs there"
            )
        if too_old := self._tasks.lacks("transient"):
            raise Unavailable(too_old)
        self.name = name
        self.futures: list[JobFuture] = []  #: those that :meth:`attach` found, in the order of their submission
        self._options = {"cpu": cpu, "mem": mem, "gpu": gpu, "requirements": requirements}
        self._timeout, self._retries = timeout, retries or None
        self.max_running: int | None = None  #: how many of its jobs may run at a time, if set before the first
        self._watch: Watch | None = None
        self._versions: dict[bytes, str] = {}  # what is deployed, by the content of the call
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def attach(cls, name: str, tasks: TaskAPI | None = None, **options: Any) -> Executor:
        """Return an executor of an earlier kernel, or of another process, with its futures.

        Parameters
        ----------
        name
            The executor's name.
        tasks, **options
            As for a new one: they are those of further calls.

        Returns
        -------
        Executor
            Its :attr:`futures`, and a loop over it, are the futures of all its jobs that were not deleted, in the
            order of their submission.

        Raises
        ------
        GroupNotFound
            There is no executor of that name, or all of its jobs were deleted.

        Examples
        --------
        >>> [future.result() for future in taskapi_jupyter.Executor.attach("fits")]
        """
        executor = cls(tasks, name=name, **options)
        api = executor._tasks
        executor._watch = watch = Watch(api, api.group_status(name).id, name)
        cursor: str | None = None
        while True:
            page = api.group_page(watch.group, MAX_PAGE, cursor)
            executor.futures += [JobFuture(Job(api, record)) for record in page.jobs]
            if (cursor := page.next_cursor) is None:
                break
        watch.add(executor.futures)
        return executor

    def __iter__(self) -> Iterator[JobFuture]:
        return iter(self.futures)

    def __repr__(self) -> str:
        count = len(self._watch.futures()) if self._watch else 0
        return f"<Executor {self.name}: {count} call{'' if count == 1 else 's'} in progress>"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> JobFuture:
        """Submit ``fn(*args, **kwargs)`` as a job, which is on disk when this returns, and return its future.

        Raises
        ------
        RuntimeError
            The executor was shut down.
        BadRequest
            The function or an argument can't be pickled (the message says which, and why), or the arguments have more
            than 1 MiB (``TooLarge``), or no job could ever have what the executor asks for.
        Conflict
            Another executor of this name has calls in progress.
        """
        self._check_open()
        call = fn if isinstance(fn, Call) else self.prepare(fn)
        config = call.config(args, kwargs)
        with self._lock:
            self._check_open()
            future = JobFuture(self._submitted(call, config))
            assert self._watch is not None
            self._watch.add([future])
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[Any]:
        """Submit a call for each item, or for each set of items of several iterables; return the results in order.

        ``chunksize`` calls are one job; ``timeout`` is in seconds from now. ``options`` are those of the base class.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        self._check_open()
        if chunksize == 1:
            return super().map(self.prepare(fn), *iterables, timeout=timeout, **options)
        calls = (list(one) for one in zip(*iterables, strict=False))
        chunks = iter(lambda: list(islice(calls, chunksize)), [])
        return _flat(super().map(self.prepare(chunked(fn)), chunks, timeout=timeout, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; with ``wait``, return when all are done. Jobs go on, waited for or not.

        ``cancel_futures`` stops those that are pending.
        """
        with self._lock:
            self._closed = True
        if self._watch is None:
            return
        if cancel_futures:
            for future in reversed(self._watch.futures()):  # those that would start first come last
                future.cancel()
        if wait:
            self._watch.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Wait for all calls, but after an exception leave at once: the jobs go on."""
        self.shutdown(wait=kind is None)
        if kind is not None and self._watch is not None and (count := len(self._watch.futures())):
            go = "1 job goes" if count == 1 else f"{count} jobs go"
            said = (
                f"taskapi: {go} on; Executor.attach({self.name!r}) gives the futures, %taskapi stop {self.name} stops"
            )
            print(said, file=sys.stderr)  # noqa: T201
        return None

    @property
    def is_here(self) -> bool:
        """Whether its jobs run on this machine, and find files where this process has them."""
        return self._tasks.bell is not None and self._tasks.real_provider() == "local"

    def stop(self) -> None:
        """Accept no more calls, and stop all jobs; return when no process of any is left."""
        self.shutdown(wait=False)
        if self._watch is not None:
            self._tasks.stop_group(self._watch.group)

    # How a call becomes a job

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def prepare(self, fn: Callable[..., Any]) -> Any:
        """Return a function pickled, as :meth:`submit` takes it, too: for many calls."""
        options = {"environ_extra": self._tasks.more_variables(), **self._options}
        return Call(fn, self.name, options)

    def _submitted(self, call: Call, config: dict[str, Any]) -> Job:
        if self._watch is None:
            self._check_free()
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                version = self._deployed(call)
                if self._watch is None:
                    return self._first(call.api, version, config)
                return self._tasks.submit(
                    call.api,
                    config,
                    self._timeout,
                    api_id=version,
                    retries=self._retries,
                    group=self._watch.group,
                )
            except (APINotDeployed, APIIDNotFound):  # it was deleted with its last job
                self._versions.pop(call.key, None)
                if not tries_left:
                    raise
            except GroupNotFound:  # so was the group
                self._watch = None
                if not tries_left:
                    raise
        raise AssertionError

    def _check_free(self) -> None:
        """Raise :class:`Conflict` where a group of this name has not ended, before anything is deployed."""
        try:
            group = self._tasks.group_status(self.name)
        except GroupNotFound:
            return
        if any(JobCode.read(status) in IN_PROGRESS for status in group.counts):
            raise Conflict(
                f"the name {self.name} is in use by group {group.id}, which has not ended: choose another name, or use "
                f"Executor.attach({self.name!r})"
            )

    def _deployed(self, call: Call) -> str:
        """Return the id of a call's version, which is deployed unless it was before."""
        version = self._versions.get(call.key)
        if version is None:
            (result,) = call.deploy(self._tasks)
            if result.error or result.api is None:
                raise BadRequest(result.error)
            version = self._versions[call.key] = str(result.api.spec["id"])
        return version

    def _first(self, api: str, version: str, config: dict[str, Any]) -> Job:
        """Submit the first job, and the group with it."""
        request = GroupRequest(
            api=api,
            configs=[config],
            name=self.name,
            api_id=version,
            max_running=self.max_running,
            notebook=notebook_here(),
            timeout=self._timeout,
            retries=self._retries,
        )
        made = self._tasks.create_group(request)
        self._watch = Watch(self._tasks, made.group.id, self.name)
        response = self._tasks.job_response(made.job_ids[0], api)
        return Job(self._tasks, response.job_status, response.endpoint)


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()  # nobody holds a result but its user
