"""Jobs in progress count as activity: of the server, and of the kernels that submitted them; so none is culled.

A schedule that fires soon counts as activity of the server where its operator says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from logging import Logger
from typing import TYPE_CHECKING

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import NotFound, TaskAPIError

from .backends import Backends
from .notebooks import kept_kernels

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

ACTIVITY = "taskapi_jupyter_activity"  # key in the application's settings
INTERVAL = 3.0  # seconds; cullers look once a minute at most
SOON = 3600  # seconds up to the next firing of a schedule that counts


class Activity:
    """Counts the jobs in progress every three seconds.

    ``is_reported`` says whether they are to count as activity: ``"schedules"`` where schedules do, too.
    """

    def __init__(
        self, serverapp: ServerApp, backends: Backends, is_reported: Callable[[], bool | str], log: Logger
    ) -> None:
        self._app = serverapp
        self._backends = backends
        self._is_reported = is_reported
        self._log = log
        self._in_progress = 0
        self._fires_soon = False
        self._submitters: dict[str, list[tuple[str, str]]] = {}  # kernels: environment and id of each of their jobs
        self._looking_after: asyncio.Task[None] | None = None

    @property
    def current(self) -> bool:
        """Whether something counted as activity when last looked at; Jupyter asks before it ends an idle server."""
        return bool(self._is_reported()) and (self._in_progress > 0 or self._fires_soon)

    def submitted(self, env: str, job_id: str, kernel: str | None) -> None:
        """Note a submission and the kernel it came from, in case a culler looks before the next count."""
        self._in_progress = max(self._in_progress, 1)
        if kernel is not None and kernel in self._app.kernel_manager:
            self._submitters.setdefault(kernel, []).append((env, job_id))

    async def watch(self) -> None:
        """Count again and again."""
        said = ""
        while True:
            try:
                await self.count()
                said = ""
            except TaskAPIError as error:
                if str(error) != said:
                    said = str(error)
                    self._log.warning("jobs in progress can't be counted: %s", said)
            await asyncio.sleep(INTERVAL)

    async def count(self) -> None:
        """Count the jobs in progress; the first count also resumes jobs that a restart left waiting."""
        if await self._backends.failing() is not None:
            return
        run, quick = self._backends.run, self._backends.quick
        await run(quick, self._backends.address.announce)  # again, in case somebody removed it
        self._in_progress = await run(quick, self._backends.service.in_progress)
        self._fires_soon = self._is_reported() == "schedules" and await run(quick, self._is_due_soon)
        if self._looking_after is None or self._looking_after.done():  # a storage may delay it
            self._looking_after = self._backends.follower(asyncio.create_task(self._backends.look_after()))
        if self.current:
            # `web_app.last_activity()`, which JupyterHub reads, takes the newest of all `*_last_activity`.
            self._app.web_app.settings["taskapi_last_activity"] = datetime.now(timezone.utc)
        await self._keep_kernels()

    def _is_due_soon(self) -> bool:
        """Whether a schedule fires within the next hour."""
        due = self._backends.service.store.next_firing()
        return due is not None and due < host.now_us() + SOON * 1_000_000

    async def _keep_kernels(self) -> None:
        """Count jobs in progress as activity of the kernels that submitted them."""
        kernels = self._app.kernel_manager
        kept_kernels(kernels)
        for kernel, jobs in list(self._submitters.items()):
            del jobs[: await self._backends.run(self._backends.quick, self._ended, list(jobs))]
            if not jobs or kernel not in kernels:
                del self._submitters[kernel]
            elif self._is_reported():
                kernels.get_kernel(kernel).last_activity = datetime.now(timezone.utc)

    def _ended(self, jobs: list[tuple[str, str]]) -> int:
        """Count the jobs ahead of the first that is in progress."""
        for count, (env, job_id) in enumerate(jobs):
            with suppress(NotFound):  # the job or its environment was deleted
                if self._backends.environment(env).job_response(job_id).job_status.code.in_progress:
                    return count
        return len(jobs)
