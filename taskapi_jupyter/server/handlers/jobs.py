"""The routes for jobs of all APIs: list, read, delete and submit again. A Cortex cluster is asked for its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import ensure_async
from msgspec.structs import replace

from taskapi_jupyter.client.headers import KERNEL_HEADER, WAITS_HEADER
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import (
    BOM,
    MAX_PAGE,
    JobsPage,
    KernelEntry,
    KernelsResponse,
    Message,
    NotifyRequest,
    Rerun,
    WaitsResponse,
    decode,
    encode,
    submit_answer,
)
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import TERMINAL, JobCode
from taskapi_jupyter.server.authentication import guarded

from .base import Handler
from .body import BodyHandler
from .held import HeldHandler, without_usage

MAX_DAYS = 36_525
MAX_IDS = 200


class JobsHandler(HeldHandler):
    """All jobs, newest first."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer one page."""
        api, cursor = self.text("api"), self.text("cursor")
        limit = self.integer("limit", 50, 1, MAX_PAGE)
        status, self.since = self.statuses(JobCode), self.text("since")

        search, counts, group = self.text("search"), self.flag("counts"), self.text("group")
        groups, schedule = self.text("groups"), self.text("schedule")
        if groups not in (None, "closed"):
            raise BadRequest(f"groups must be closed, not {groups[:64]!r}")
        closed, ids, results = groups == "closed", self.ids(), self.flag("results")
        pool = self.backends.keeping(env) if results and self.backends.clusters.find(env) is None else None

        def page(environment: TaskAPI) -> tuple[bytes, bytes]:
            which: dict[str, Any] = {"group": group, "schedule": schedule, "closed": closed}
            jobs = environment.page(api, status, limit, cursor, search, ids=ids, results=results, **which)
            self.restless = any(job.record.code is JobCode.RUNNING for job in jobs)
            answer = JobsPage([job.record for job in jobs], jobs.next_cursor)
            if jobs.searched is not None:
                answer.searched = jobs.searched
            if jobs.groups is not None:
                answer.groups = jobs.groups
                self.restless |= any(JobCode.RUNNING.value in one.counts for one in jobs.groups)
            if counts:
                answer.counts = environment.counts(api, status)
            return encode(answer), encode(replace(answer, jobs=[without_usage(one) for one in answer.jobs]))

        async def look() -> bool:
            self.answer, lasting = await self.backends.ask(env, page, pool)
            return self.differs(lasting)

        await self.hold(env, look, None)
        self.finish(self.answer)

    def ids(self) -> list[str] | None:
        """Return the ids asked for, with commas between, None where none are."""
        text = self.text("ids")
        if text is None:
            return None
        given = list(dict.fromkeys(text.split(",")))
        if len(given) > MAX_IDS:
            raise BadRequest(f"ids must be at most {MAX_IDS}, not {len(given)}")
        others = ("api", "cursor", "group", "groups", "schedule", "search", "status")
        if also := [name for name in others if self.get_query_argument(name, None) is not None]:
            raise BadRequest(f"ids goes without {also[0]}: it asks for these jobs alone")
        return given

    @guarded
    async def delete(self, env: str) -> None:
        """Forget those that have ended."""
        api, status, days = self.text("api"), self.statuses(TERMINAL), self.number("older_than", MAX_DAYS)

        def purge(environment: TaskAPI) -> bytes:
            return encode(Message(environment.purge(api, status, days)))

        self.finish(await self.backends.ask(env, purge, self.backends.slow))


class JobHandler(HeldHandler):
    """One job."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer its status, as the contract's route does."""
        api, self.since = self.text("api"), self.text("since")

        def response(environment: TaskAPI) -> tuple[bytes, bytes, bool]:
            found = environment.job_response(job_id, api)
            lasting = replace(found, job_status=without_usage(found.job_status))
            return encode(found), encode(lasting), found.job_status.code.in_progress

        async def look() -> bool:
            self.answer, lasting, goes_on = await self.backends.ask(env, response)
            return self.differs(lasting) or not goes_on

        with self.backends.waits.asking(env, job_id, self.request.headers.get(WAITS_HEADER)):
            await self.hold(env, look, job_id, ("progress", "metrics.json"))
        self.finish(self.answer)

    @guarded
    async def delete(self, env: str, job_id: str) -> None:
        """Forget it: its row, log, result and files."""
        said = await self.backends.ask(env, lambda environment: environment.forget(job_id), self.backends.slow)
        self.finish(encode(Message(said)))


class WaitsHandler(Handler):
    """What the cells of this server's kernels wait for."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer which of some jobs and groups that is so of."""
        if self.backends.clusters.find(env) is None:
            self.backends.environment(env)  # or there is none
        ids = [one for text in self.get_query_arguments("ids") for one in text.split(",")][:MAX_PAGE]
        self.finish(encode(WaitsResponse(self.backends.waits.among(env, ids))))


class KernelsHandler(Handler):
    """The kernelspecs that this server finds."""

    @guarded
    async def get(self, env: str) -> None:
        """List them, each with what prevents a job from being started with it."""
        found = await self.backends.ask(env, lambda environment: environment.kernels(), self.backends.slow)
        others = await self._others({one.name for one in found})
        self.finish(encode(KernelsResponse(sorted([*found, *others], key=lambda one: one.name))))

    async def _others(self, known: Collection[str]) -> list[KernelEntry]:
        """Return the kernelspecs that only a manager of the server's own finds, as one that looks into conda does.

        Jupyter lists them, and starts kernels of them; a job is started without that manager.
        """
        manager = self.kernel_spec_manager
        if type(manager) is KernelSpecManager:
            return []
        try:
            specs = await ensure_async(manager.get_all_specs())
        except Exception:  # of whatever it is; Jupyter's own list of kernels shows that something is wrong
            self.log.warning("%s could not list kernels", type(manager).__name__, exc_info=True)
            return []
        problem = (
            f"only this server's {type(manager).__name__} finds this kernel, and jobs start without it: give the path "
            "of its Python as python, or install it by a kernelspec of its own"
        )
        return [
            KernelEntry(
                name=name,
                display_name=str(spec.get("display_name") or name),
                language=str(spec.get("language") or ""),
                problem=problem,
            )
            for name, one in specs.items()
            if name not in known and isinstance(spec := one.get("spec"), dict)
        ]


class NotifyHandler(BodyHandler):
    """Who is told when a job in progress ends."""

    @guarded
    async def post(self, env: str, job_id: str) -> None:
        """Set the names."""
        body = self.body()

        def notify(environment: TaskAPI) -> bytes:
            return encode(Message(environment.notify(job_id, decode(body, NotifyRequest).names)))

        self.finish(await self.backends.ask(env, notify, self.backends.submitting(env)))


class RerunHandler(BodyHandler):
    """Submit a job's config once more."""

    @guarded
    async def post(self, env: str, job_id: str) -> None:
        """Answer as to a submission."""
        body = self.body()
        same = bool(body.removeprefix(BOM).strip()) and decode(body, Rerun).same
        api = self.text("api")
        pool = self.backends.submitting(env)
        job = await self.backends.ask(env, lambda environment: environment.rerun(job_id, same, api), pool)
        self.activity.submitted(env, job.id, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(submit_answer(job.record)))
