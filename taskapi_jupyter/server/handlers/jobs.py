"""The routes for jobs of all APIs: list, read, delete and submit again. A Cortex cluster is asked for its own."""

from __future__ import annotations

from collections.abc import Iterable

from taskapi_jupyter.client.headers import KERNEL_HEADER
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import BOM, MAX_PAGE, JobsPage, Message, Rerun, decode, encode, submit_answer
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import TERMINAL, JobCode, values
from taskapi_jupyter.server.authentication import guarded

from .body import BodyHandler
from .held import HeldHandler

MAX_DAYS = 36_525


class JobsHandler(HeldHandler):
    """All jobs, newest first."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer one page."""
        api, cursor = self.text("api"), self.text("cursor")
        limit = self.integer("limit", 50, 1, MAX_PAGE)
        status, self.since = self.statuses(JobCode), self.text("since")

        search, counts = self.text("search"), self.flag("counts")

        def page(environment: TaskAPI) -> bytes:
            jobs = environment.page(api, status, limit, cursor, search)
            self.restless = any(job.record.code is JobCode.RUNNING for job in jobs)
            answer = JobsPage([job.record for job in jobs], jobs.next_cursor)
            if jobs.searched is not None:
                answer.searched = jobs.searched
            if counts:
                answer.counts = environment.counts(api, status)
            return encode(answer)

        async def look() -> bool:
            self.answer = await self.backends.ask(env, page)
            return self.differs(self.answer)

        await self.hold(env, look, None)
        self.finish(self.answer)

    @guarded
    async def delete(self, env: str) -> None:
        """Forget those that have ended."""
        api, status, days = self.text("api"), self.statuses(TERMINAL), self.number("older_than", MAX_DAYS)

        def purge(environment: TaskAPI) -> bytes:
            return encode(Message(environment.purge(api, status, days)))

        self.finish(await self.backends.ask(env, purge, self.backends.slow))

    def statuses(self, among: Iterable[JobCode]) -> list[str] | None:
        """Return the statuses asked for, repeated or with commas between; only some may be."""
        given = [one for text in self.get_query_arguments("status") for one in text.split(",")]
        known = values(among)
        for one in given:
            if one not in known:
                raise BadRequest(f"status must be one of {', '.join(known)}, not {one[:64]!r}")
        return given or None


class JobHandler(HeldHandler):
    """One job."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer its status, as the contract's route does."""
        api, self.since = self.text("api"), self.text("since")

        def response(environment: TaskAPI) -> tuple[bytes, bool]:
            found = environment.job_response(job_id, api)
            return encode(found), found.job_status.code.in_progress

        async def look() -> bool:
            self.answer, goes_on = await self.backends.ask(env, response)
            return self.differs(self.answer) or not goes_on

        await self.hold(env, look, job_id, "progress")
        self.finish(self.answer)

    @guarded
    async def delete(self, env: str, job_id: str) -> None:
        """Forget it: its row, log, result and files."""
        said = await self.backends.ask(env, lambda environment: environment.forget(job_id), self.backends.slow)
        self.finish(encode(Message(said)))


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
