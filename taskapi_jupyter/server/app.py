"""The server extension itself: traits, what handlers share, and what keeps cullers from running jobs."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jupyter_server import CallContext
from jupyter_server.extension.application import ExtensionApp
from msgspec import UNSET
from traitlets import Bool, Int, Unicode, default

from taskapi_jupyter.client import environments_file
from taskapi_jupyter.client.environments_file import LOCAL
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import MAX_UPLOAD
from taskapi_jupyter.core.errors import Damaged, NotFound, NotStarted, TaskAPIError
from taskapi_jupyter.service import service
from taskapi_jupyter.service.home import default_home

from .address import Address, SlashRouter
from .base import NAME
from .events import Events
from .handlers import handlers
from .openapi import document
from .proxy.clusters import Clusters
from .proxy.handler import ClusterRouter

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import EnvironmentsResponse
    from taskapi_jupyter.ray.service import RayService

T = TypeVar("T")

TRY_AGAIN = 1.0  # seconds until a home that could not be used is tried again, at the earliest
ACTIVITY_INTERVAL = 3.0  # seconds; cullers look once a minute at most


class TaskAPIApp(ExtensionApp):  # type: ignore[misc]
    """Cortex's TaskAPI for this server: deploy, submit, watch and stop jobs that run beside the kernels."""

    name = NAME
    app_name = "taskapi-jupyter"
    description = __doc__

    home = Unicode(
        help="Folder that holds APIs and jobs (default: the environment variable TASKAPI_HOME, "
        "else `taskapi` in Jupyter's data directory).",
    ).tag(config=True)

    report_activity = Bool(
        True,
        help="Count jobs in progress as activity of this server, so that neither "
        "`ServerApp.shutdown_no_activity_timeout` nor JupyterHub's culler ends it while they run, and of the kernels "
        "that submitted them, so that `MappingKernelManager.cull_idle_timeout` does not. "
        "(Jobs outlive the server, but not a container that ends with it.)",
    ).tag(config=True)

    max_upload = Int(
        MAX_UPLOAD,
        min=1,
        help="Bytes that a pickled function may have which is deployed (by multipart; by JSON, a body has 10 MiB).",
    ).tag(config=True)

    @default("home")  # type: ignore[untyped-decorator]
    def _default_home(self) -> str:
        return str(default_home())

    def initialize_settings(self) -> None:
        """Make what handlers share: the threads for blocking work, and the service of this machine.

        What :meth:`stop_extension` uses comes first: a server whose extension can't be stopped does not end.
        """
        self.services: dict[str, tuple[object, RayService]] = {}  # with what each was made of
        self.connecting = threading.Lock()
        self.quick = ThreadPoolExecutor(4, "taskapi")  # each one more takes turns from the event loop
        # Submissions wait for one another and for other processes that write: reading goes on meanwhile.
        self.submits = ThreadPoolExecutor(2, "taskapi-submit")
        # What takes long, such as a deploy or a deletion, holds up neither; nothing in here waits for a job.
        self.slow = ThreadPoolExecutor(32, "taskapi-slow")
        self.away = ThreadPoolExecutor(32, "taskapi-away")  # clusters and storages, which may not answer
        self.follow = ThreadPoolExecutor(4, "taskapi-follow")
        self.uploads = ThreadPoolExecutor(2, "taskapi-upload")  # a disk that is slow holds up nothing else
        self.followers: set[asyncio.Task[None]] = set()
        self.events: Events | None = None
        self._in_progress = 0
        self._submitters: dict[str, list[tuple[str, str]]] = {}  # kernels, and environment and id of each of their jobs
        self._watch: asyncio.Task[None] | None = None
        self._looking_after: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.folder = Path(os.path.expanduser(self.home)).absolute()
        self.address = Address(self.serverapp, self.folder, self.log)
        self.environment_file = environments_file.EnvironmentFile(self.folder)
        self.clusters = Clusters(self.environment_file)
        self.document = document(self.serverapp.base_url)
        self.service: service.Service  # unless there is a failure
        self.failure: NotStarted | None = NotStarted("TaskAPI has not started")
        self.failure = self._open()
        self._tried = time.monotonic()

    def _open(self) -> NotStarted | None:
        """Begin to use the home; return what keeps us from it, which is logged where it is new."""
        try:
            self.events = self.events or Events(self.folder / "taskapi.db", self.serverapp.event_logger, self.log)
            try:
                self.service = service.Service(self.folder, environment=LOCAL, endpoint=self.endpoint)
            except Damaged as error:  # it was set aside, and a new database takes its place
                self.log.warning("%s", error)
                self.service = service.Service(self.folder, environment=LOCAL, endpoint=self.endpoint)
            return None
        except (TaskAPIError, OSError, sqlite3.Error) as error:
            why = str(error)
        except Exception as error:
            self.log.exception("TaskAPI could not start")
            why = f"{type(error).__name__}: {error}"
        failure = NotStarted(f"TaskAPI could not start: {why}")
        if str(self.failure) != str(failure):
            self.log.error("%s", failure)
        return failure

    async def failing(self) -> NotStarted | None:
        """Return why this extension could not start, None where it has; it is tried again, once a second at most."""
        if self.failure is None:
            return None
        async with self._opening:
            if self.failure is not None and time.monotonic() - self._tried >= TRY_AGAIN:
                self.failure = await self.run(self.quick, self._open)
                self._tried = time.monotonic()
                if self.failure is None:
                    self.log.info("TaskAPI has started, in %s", self.folder)
                    self._begin()
            return self.failure

    def _begin(self) -> None:
        """Begin to tell of changes, once the server runs and there is something to tell of."""
        if self._watch is not None and self.events is not None and self.failure is None:
            self.events.start()

    def initialize_handlers(self) -> None:
        """Add the routes; those of clusters come first, and leave what is not theirs to the handlers."""
        base = self.serverapp.base_url
        routers = [(".*//taskapi/.*", SlashRouter(base)), (re.escape(f"{base}taskapi/") + ".*", ClusterRouter(self))]
        self.serverapp.web_app.add_handlers(".*$", routers)
        self.handlers.extend(handlers())

    async def _start_jupyter_server_extension(self, serverapp: object) -> None:
        self.address.hand_over()  # now that the port is known
        self._watch = asyncio.create_task(self._watch_activity())
        self._begin()
        # A full collection looks at all that Jupyter has loaded, and blocks the event loop for 0.2 s meanwhile.
        gc.freeze()

    async def stop_extension(self) -> None:
        """End followers and threads; jobs go on."""
        gc.unfreeze()
        if self.events is not None:
            await self.events.stop()
        tasks = [*self.followers, *(one for one in (self._watch, self._looking_after) if one)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pool in (self.slow, self.away):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self.quick, self.submits, self.follow, self.uploads):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        self.address.withdraw()  # once no thread can announce it again
        self.clusters.close()
        if self.failure is None:
            self.service.close()
        for _, one in self.services.values():
            one.close()

    def environment(self, name: str) -> service.Service:
        """Return what answers for an environment; raise :class:`NotFound` for one that isn't served here."""
        if name == LOCAL:  # the usual one costs no look into the file
            return self.service
        entry = self.environment_file.read().find(name)
        return self.ray(entry) if entry.provider == "ray" else self.service

    def ray(self, entry: environments_file.Entry) -> RayService:
        """Return the service of a Ray cluster, the same as long as its environment is."""
        from taskapi_jupyter.ray.service import connect, headers  # what it brings is not for every server

        with self.connecting:
            there, now = self.services.get(entry.name), (entry, headers(entry))
            if there is None or there[0] != now:
                if there is not None:
                    there[1].close()
                there = (now, connect(self.folder, entry, partial(self.endpoint, env=entry.name)))
                self.services[entry.name] = there
            return there[1]

    def environments(self) -> EnvironmentsResponse:
        """Return the environments that this server knows."""
        response = self.environment_file.read().response()
        with suppress(TaskAPIError):  # a deploy says what is wrong with config.yaml
            response.environ = self.service.more_variables()
        response.max_upload = self.max_upload
        response.home = host.folder_id(self.folder) or UNSET
        return response

    def endpoint(self, api: str, env: str = LOCAL) -> str:
        """Return the URL that an API's jobs are submitted to; it carries no token."""
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        return f"{self.address.public(handler and handler.request)}taskapi/{env}/tasks/{api}"

    async def run(self, pool: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
        """Run blocking work in a thread of a pool, which knows whose request it is for."""
        work = partial(contextvars.copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def discard(self, remove: Callable[[], None]) -> None:
        """Have files removed in a thread; where the server is ending, retention does it."""
        with suppress(RuntimeError):
            self.uploads.submit(remove)

    def submitting(self, env: str) -> ThreadPoolExecutor:
        """Return the pool to submit in: a cluster that does not answer must not hold up what is for this machine."""
        return self.submits if env == LOCAL else self.away

    def keeping(self, env: str) -> ThreadPoolExecutor:
        """Return the pool to read in what jobs left: the storage of a cluster's jobs may not answer."""
        return self.quick if env == LOCAL else self.away

    def current_activity(self) -> bool:
        """Say whether jobs were in progress when last counted; Jupyter asks before it ends an idle server."""
        return self.report_activity and self._in_progress > 0

    def submitted(self, env: str, job_id: str, kernel: str | None) -> None:
        """Note a submission, and the kernel it came from, so that a culler that looks before we look again sees it."""
        self._in_progress = max(self._in_progress, 1)
        if kernel is not None and kernel in self.serverapp.kernel_manager:
            self._submitters.setdefault(kernel, []).append((env, job_id))

    async def look(self) -> None:
        """Count the jobs in progress; a first look also resumes those that a restart left waiting."""
        if await self.failing() is not None:
            return
        await self.run(self.quick, self.address.announce)  # again where somebody removed it
        self._in_progress = await self.run(self.quick, self.service.in_progress)
        if self._looking_after is None or self._looking_after.done():  # which a storage may keep waiting
            self._looking_after = asyncio.create_task(self._look_after())
        if self.report_activity and self._in_progress:
            # `web_app.last_activity()`, which JupyterHub is told, takes the newest of all `*_last_activity`.
            self.serverapp.web_app.settings["taskapi_last_activity"] = datetime.now(timezone.utc)
        await self._keep_kernels()

    async def _keep_kernels(self) -> None:
        """Count jobs in progress as activity of the kernels that submitted them."""
        kernels = self.serverapp.kernel_manager
        for kernel, jobs in list(self._submitters.items()):
            del jobs[: await self.run(self.quick, self._ended, list(jobs))]
            if not jobs or kernel not in kernels:
                del self._submitters[kernel]
            elif self.report_activity:
                kernels.get_kernel(kernel).last_activity = datetime.now(timezone.utc)

    def _ended(self, jobs: list[tuple[str, str]]) -> int:
        """Count the jobs ahead of the first that is in progress."""
        for count, (env, job_id) in enumerate(jobs):
            with suppress(NotFound):  # it was deleted, or its environment was
                if self.environment(env).job_response(job_id).job_status.code.in_progress:
                    return count
        return len(jobs)

    async def _look_after(self) -> None:
        """See to it that jobs of Ray clusters are followed; the clusters run them without this server."""
        try:
            entries = (await self.run(self.quick, self.environment_file.read)).entries.values()
            clusters = [one for one in entries if one.provider == "ray"]
            await asyncio.gather(*(self.run(self.away, self._look_after_one, one) for one in clusters))
        except TaskAPIError:
            pass  # who asks for one of them is told
        except Exception:  # what runs there goes on, whatever keeps us from looking
            self.log.exception("jobs of clusters could not be looked after")

    def _look_after_one(self, entry: environments_file.Entry) -> None:
        from taskapi_jupyter.ray.service import FOLDER

        if (self.folder / FOLDER / entry.name).is_dir():
            with suppress(TaskAPIError):  # one that can't be used holds no other up
                self.ray(entry).look_after()

    async def _watch_activity(self) -> None:
        said = ""
        with suppress(asyncio.CancelledError):
            while True:
                try:
                    await self.look()
                    said = ""
                except TaskAPIError as error:
                    if str(error) != said:
                        said = str(error)
                        self.log.warning("jobs in progress can't be counted: %s", said)
                await asyncio.sleep(ACTIVITY_INTERVAL)
