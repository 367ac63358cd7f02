"""The routes for groups: submit, list, read, stop, delete, submit again. A Cortex cluster has none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from msgspec.structs import replace
from tornado.iostream import StreamClosedError

from taskapi_jupyter.client.groups.api import no_groups
from taskapi_jupyter.client.groups.rest import ROWS
from taskapi_jupyter.client.headers import KERNEL_HEADER, WAITS_HEADER
from taskapi_jupyter.core.contract import (
    BOM,
    MAX_PAGE,
    GroupRequest,
    GroupRerun,
    GroupSubmitted,
    Message,
    decode,
    encode,
)
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.service.service import Service

from .base import Errors, Handler
from .body import BodyHandler
from .held import HeldHandler, without_usage

_ROWS = 500  # that are sent at once


class Groups(Errors):
    """Base of the routes for groups."""

    def environment(self, env: str) -> Service:
        """Return the service of an environment; raise :class:`NotKept` for a Cortex cluster."""
        if self.backends.clusters.find(env) is not None:
            raise no_groups(env)
        return self.backends.environment(env)

    def tell(self, env: str, made: GroupSubmitted, kernel: str | None) -> None:
        """Have the kernel that submits kept alive while jobs of its group are in progress."""
        for job_id in made.job_ids:
            self.activity.submitted(env, job_id, kernel)


class GroupsHandler(Groups, BodyHandler):
    """All groups."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer one page."""
        limit, cursor = self.integer("limit", 20, 1, MAX_PAGE), self.text("cursor")
        self.finish(encode(await self.quick(self.environment(env).groups_page, limit, cursor)))

    @guarded
    async def post(self, env: str) -> None:
        """Submit a group."""
        body, environment = self.body(), self.environment(env)
        made = await self.backends.run(
            self.backends.submitting(env), lambda: environment.create_group(decode(body, GroupRequest))
        )
        self.tell(env, made, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(made))


class GroupRerunHandler(Groups, BodyHandler):
    """Submit the configs of a group once more."""

    @guarded
    async def post(self, env: str, group: str) -> None:
        """Answer as to a submission."""
        body, environment = self.body(), self.environment(env)
        failed = decode(body, GroupRerun).failed if body.removeprefix(BOM).strip() else True
        made = await self.backends.run(self.backends.submitting(env), environment.rerun_group, group, failed)
        self.tell(env, made, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(made))


class GroupHandler(Groups, HeldHandler):
    """One group."""

    @guarded
    async def get(self, env: str, group: str) -> None:
        """Answer its counts, and a page of its jobs."""
        limit, cursor, self.since = self.integer("limit", 50, 1, MAX_PAGE), self.text("cursor"), self.text("since")
        status, search = self.statuses(JobCode), self.text("search")
        environment = self.environment(env)

        def page() -> tuple[bytes, bytes, bool]:
            found = environment.group_page(group, limit, cursor, status=status, search=search)
            self.restless = JobCode.RUNNING.value in found.group.counts
            lasting = encode(replace(found, jobs=[without_usage(one) for one in found.jobs]))
            return encode(found), lasting, any(JobCode.read(status) in IN_PROGRESS for status in found.group.counts)

        async def look() -> bool:
            self.answer, lasting, goes_on = await self.quick(page)
            return self.differs(lasting) or not goes_on

        with self.backends.waits.asking(env, group, self.request.headers.get(WAITS_HEADER)):
            await self.hold(env, look, None)
        self.finish(self.answer)

    @guarded
    async def delete(self, env: str, group: str) -> None:
        """Stop its jobs; with ``forget``, delete it once it has ended."""
        environment = self.environment(env)
        if self.flag("forget"):
            said = await self.slow(environment.forget_group, group)
        else:
            said = await self.steps(environment, environment.stopping_group(group))
        self.finish(encode(Message(said)))


class GroupRowsHandler(Groups, Handler):
    """The table of a group."""

    @guarded
    async def get(self, env: str, group: str) -> None:
        """Send a row a line; a slow client delays no other."""
        pool, rows = self.backends.keeping(env), self.environment(env).group_rows(group)
        lines = await self.backends.run(pool, _lines, rows)
        self.set_header("Content-Type", ROWS)
        while lines:
            self.write(lines)
            try:
                await self.flush()
            except StreamClosedError:
                return
            lines = await self.backends.run(pool, _lines, rows)
        self.finish()


def _lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return b"".join(encode(row) + b"\n" for row in islice(rows, _ROWS))
