"""The routes for schedules: make, list, preview, change, run, delete. A Cortex cluster has none."""

from __future__ import annotations

from typing import Any

from taskapi_jupyter.client.headers import KERNEL_HEADER
from taskapi_jupyter.client.schedules import no_schedules
from taskapi_jupyter.core.contract import Message, ScheduleRequest, decode, encode, submit_answer
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.service.service import Service

from .base import Errors, Handler
from .body import BodyHandler

MAX_TIMES = 100  # that one preview lists


class Schedules(Errors):
    """Base of the routes for schedules."""

    def environment(self, env: str) -> Service:
        """Return the service of an environment; raise :class:`NotKept` for a Cortex cluster."""
        if self.backends.clusters.find(env) is not None:
            raise no_schedules(env)
        return self.backends.environment(env)


class SchedulesHandler(Schedules, BodyHandler):
    """All schedules."""

    @guarded
    async def get(self, env: str) -> None:
        """List them."""
        environment = self.environment(env)
        self.finish(encode(await self.quick(environment.schedules_response)))

    @guarded
    async def post(self, env: str) -> None:
        """Make one."""
        body, environment = self.body(), self.environment(env)
        made = await self.backends.run(
            self.backends.submitting(env), lambda: environment.create_schedule(decode(body, ScheduleRequest))
        )
        self.finish(encode(made))


class SchedulePreviewHandler(Schedules, Handler):
    """A schedule that is not made yet."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer what it means, and when it would fire next."""
        environment = self.environment(env)
        cron, zone, until = self.text("cron"), self.text("tz"), self.text("until")
        if cron is None:
            raise BadRequest("cron is missing: when it fires, such as 0 6 * * MON-FRI, @daily or every 15m")
        count = self.integer("n", 5, 1, MAX_TIMES)
        self.finish(encode(await self.quick(environment.preview_schedule, cron, zone, count, until)))


class ScheduleHandler(Schedules, BodyHandler):
    """One schedule."""

    @guarded
    async def get(self, env: str, name: str) -> None:
        """Answer it."""
        environment = self.environment(env)
        self.finish(encode(await self.quick(environment.schedule_status, name)))

    @guarded
    async def patch(self, env: str, name: str) -> None:
        """Change it."""
        body, environment = self.body(), self.environment(env)
        changed = await self.backends.run(
            self.backends.submitting(env), lambda: environment.update_schedule(name, decode(body, dict[str, Any]))
        )
        self.finish(encode(changed))

    @guarded
    async def delete(self, env: str, name: str) -> None:
        """Delete it."""
        environment = self.environment(env)
        self.finish(encode(Message(await self.quick(environment.delete_schedule, name))))


class ScheduleRunHandler(Schedules, BodyHandler):
    """One job more of a schedule."""

    @guarded
    async def post(self, env: str, name: str) -> None:
        """Answer as to a submission."""
        environment = self.environment(env)
        job = await self.backends.run(self.backends.submitting(env), environment.run_schedule, name)
        self.activity.submitted(env, job.id, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(submit_answer(job.record)))
