"""What handlers ask: the TaskAPI of each environment, and the thread pools that blocking work runs in.

Handlers find it in the application's settings (``settings[BACKENDS]``).
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from taskapi_jupyter.client.environments_file import LOCAL, Entry, EnvironmentFile
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import EnvironmentsResponse
from taskapi_jupyter.core.errors import Damaged, NotStarted, TaskAPIError
from taskapi_jupyter.environments import PROVIDERS, jobs_home
from taskapi_jupyter.service.service import Service

from .address import Address
from .clusters import Clusters
from .events import Changes
from .notebooks import Versions
from .waits import Waits

if TYPE_CHECKING:
    from taskapi_jupyter.ray.service import RayService

T = TypeVar("T")

BACKENDS = "taskapi_jupyter_backends"  # key in the application's settings
TRY_AGAIN = 1.0  # seconds until a home that could not be used is tried again, at the earliest


class Backends:
    """All that answers for the environments of one home.

    ``opened`` is called when a home that could not be used at first can be used.
    """

    def __init__(
        self, folder: Path, address: Address, max_upload: int, log: Logger, opened: Callable[[], None]
    ) -> None:
        self.folder = folder
        self.address = address
        self.max_upload = max_upload  # bytes of a pickled function
        self._log = log
        self._opened = opened
        self.quick = ThreadPoolExecutor(4, "taskapi")  # each thread more takes turns from the event loop
        # Submissions wait for one another and for other processes that write; reads go on meanwhile.
        self.submits = ThreadPoolExecutor(2, "taskapi-submit")
        # Long work, such as a deploy or a deletion; nothing in here waits for a job.
        self.slow = ThreadPoolExecutor(32, "taskapi-slow")
        self.away = ThreadPoolExecutor(32, "taskapi-away")  # clusters and storages, which may not answer
        self.follow = ThreadPoolExecutor(4, "taskapi-follow")
        self.uploads = ThreadPoolExecutor(2, "taskapi-upload")  # a slow disk delays nothing else
        self.followers: set[asyncio.Task[None]] = set()
        self.changes: dict[Path, Changes] = {}  # by the home
        self.notebooks = Versions()
        self.waits = Waits()
        self.environment_file = EnvironmentFile(folder)
        self.clusters = Clusters(self.environment_file)
        self._clients: dict[str, tuple[object, RayService]] = {}  # with the settings that each was made from
        self._connecting = threading.Lock()
        self._opening = asyncio.Lock()
        self.service: Service  # unless there is a failure
        self.failure: NotStarted | None = NotStarted("TaskAPI has not started")
        self.failure = self._open()
        self._tried = time.monotonic()

    def _open(self) -> NotStarted | None:
        """Open the home; return the error where that fails, which is logged where it is new."""
        try:
            try:
                self.service = Service(self.folder, environment=LOCAL, endpoint=self.address.endpoint)
            except Damaged as error:  # the database was set aside, and a new one takes its place
                self._log.warning("%s", error)
                self.service = Service(self.folder, environment=LOCAL, endpoint=self.address.endpoint)
            return None
        except (TaskAPIError, OSError, sqlite3.Error) as error:
            why = str(error)
        except Exception as error:
            self._log.exception("TaskAPI could not start")
            why = f"{type(error).__name__}: {error}"
        failure = NotStarted(f"TaskAPI could not start: {why}")
        if str(self.failure) != str(failure):
            self._log.error("%s", failure)
        return failure

    async def failing(self) -> NotStarted | None:
        """Return why the home can't be used, None where it can; it is tried again, once a second at most."""
        if self.failure is None:
            return None
        async with self._opening:
            if self.failure is not None and time.monotonic() - self._tried >= TRY_AGAIN:
                self.failure = await self.run(self.quick, self._open)
                self._tried = time.monotonic()
                if self.failure is None:
                    self._log.info("TaskAPI has started, in %s", self.folder)
                    self._opened()
            return self.failure

    async def close(self) -> None:
        """End followers and threads; jobs go on."""
        for task in self.followers:
            task.cancel()
        await asyncio.gather(*self.followers, return_exceptions=True)
        for changes in self.changes.values():
            await changes.stop()
        for pool in (self.slow, self.away):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self.quick, self.submits, self.follow, self.uploads):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        self.clusters.close()
        if self.failure is None:
            self.service.close()
        for _, client in self._clients.values():
            client.close()

    # Environments

    def environment(self, name: str) -> Service:
        """Return the service of an environment whose jobs are in a home here; raise :class:`NotFound` without one.

        Requests for Cortex clusters do not come here: ``proxy`` takes them.
        """
        if name == LOCAL:  # the usual one costs no look into the file
            return self.service
        entry = self.environment_file.read().find(name)
        return self._remote(entry) if PROVIDERS[entry.provider].has_home else self.service

    def _remote(self, entry: Entry) -> RayService:
        """Return the service of an environment with a home of its own; the same as long as its settings are."""
        from taskapi_jupyter.ray.service import connect, headers  # not every server needs what they import

        with self._connecting:
            known, now = self._clients.get(entry.name), (entry, headers(entry))
            if known is None or known[0] != now:
                if known is not None:
                    known[1].close()
                known = (now, connect(self.folder, entry, partial(self.address.endpoint, env=entry.name)))
                self._clients[entry.name] = known
            return known[1]

    def changes_of(self, environment: Service) -> Changes:
        """Return what tells the changes in an environment's home."""
        if environment.home not in self.changes:
            self.changes[environment.home] = Changes(environment.paths.database, self._log)
        return self.changes[environment.home]

    async def ask(self, env: str, function: Callable[[TaskAPI], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Call a function with the TaskAPI of an environment.

        For a Cortex cluster it runs in one of the cluster's own threads, for all others in ``pool`` (default: the
        quick one).
        """
        cluster = self.clusters.find(env)
        if cluster is not None:
            return await cluster.ask(function)
        return await self.run(pool or self.quick, function, self.environment(env))

    def environments(self) -> EnvironmentsResponse:
        """Return the environments that this server knows."""
        response = self.environment_file.read().response()
        with suppress(TaskAPIError):  # a deploy says what is wrong with config.yaml
            response.environ = self.service.more_variables()
        response.max_upload = self.max_upload
        response.home = host.folder_id(self.folder) or UNSET
        return response

    async def look_after(self) -> None:
        """Have the jobs of Ray clusters followed; the clusters run them without this server."""
        try:
            entries = (await self.run(self.quick, self.environment_file.read)).entries.values()
            await asyncio.gather(*(self.run(self.away, self._look_after_one, one) for one in entries))
        except TaskAPIError:
            pass  # a request for one of them gets the error
        except Exception:  # the jobs there go on, whatever prevents a look
            self._log.exception("jobs of clusters could not be looked after")

    def _look_after_one(self, entry: Entry) -> None:
        if PROVIDERS[entry.provider].has_home and jobs_home(self.folder, entry).is_dir():
            with suppress(TaskAPIError):  # a cluster that can't be used delays no other
                self._remote(entry).look_after()

    # Threads

    async def run(self, pool: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
        """Run blocking work in a thread of a pool, in the context of the request."""
        work = partial(contextvars.copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def discard(self, remove: Callable[[], None]) -> None:
        """Remove files in a thread; where the server is ending, retention does it."""
        with suppress(RuntimeError):
            self.uploads.submit(remove)

    def submitting(self, env: str) -> ThreadPoolExecutor:
        """Return the pool to submit in: a cluster that does not answer must not delay submissions to this machine."""
        return self.submits if env == LOCAL else self.away

    def keeping(self, env: str) -> ThreadPoolExecutor:
        """Return the pool to read results and files in: the storage of a cluster's jobs may not answer."""
        return self.quick if env == LOCAL else self.away

    def follower(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Have a task cancelled when the server ends, unless it has ended by then; return it."""
        self.followers.add(task)
        task.add_done_callback(self.followers.discard)
        return task
