"""The routes: those of the contract, then our own; the list of all is at the end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tornado import web

from taskapi_jupyter.client.headers import KERNEL_HEADER
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.contract import BOM, JobsPage, Message, Rerun, Submission, decode, encode, submit_answer
from taskapi_jupyter.core.errors import BadRequest, QueryParamRequired
from taskapi_jupyter.core.states import TERMINAL, JobCode, values

from .base import MAX_DAYS, MAX_PAGE, BodyHandler, Handler, guarded
from .deploy import DeployHandler
from .files import FileHandler, FilesHandler, LogHandler, ResultHandler
from .log_stream import LogStream


class ContractHandler(Handler):
    """Base of the operator's routes that read no body."""

    contract = True


class VerifyHandler(ContractHandler):
    """Health, as the Cortex client asks for it."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer an empty object."""
        self.environment(env)
        self.finish(b"{}")


class TasksHandler(BodyHandler):
    """Submit, look at and stop jobs."""

    contract = True

    def job_id(self) -> str:
        """Return the job that the query names."""
        job_id: str = self.get_query_argument("jobID", "")
        if not job_id:
            raise QueryParamRequired("jobID")
        return job_id

    @guarded
    async def post(self, env: str, api: str) -> None:
        """Submit a job."""
        environment = self.environment(env)
        body = self.body()

        def submit() -> Job:
            submission = decode(body, Submission)
            return environment.submit(
                api,
                submission.config,
                submission.timeout,
                notebook=submission.notebook,
                api_id=submission.api_id,
                run_timeout=submission.run_timeout,
                cuda_visible_devices=submission.cuda_visible_devices,
            )

        job = await self.extension.run(self.extension.submitting(env), submit)
        self.extension.submitted(env, job.id, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(submit_answer(job.record)))

    @guarded
    async def get(self, env: str, api: str) -> None:
        """Answer a job's status."""
        environment, job_id = self.environment(env), self.job_id()
        self.finish(encode(await self.quick(environment.job_of, api, job_id)))

    @guarded
    async def delete(self, env: str, api: str) -> None:
        """Stop a job; the answer comes once nothing of it is left."""
        environment, job_id = self.environment(env), self.job_id()
        self.finish(encode(Message(await self.steps(environment.stopping, job_id, api))))


class APIsHandler(ContractHandler):
    """All APIs."""

    @guarded
    async def get(self, env: str) -> None:
        """List them."""
        environment = self.environment(env)
        self.finish(await self.quick(lambda: encode(environment.get())))


class OneAPIHandler(ContractHandler):
    """One API, with its recent jobs."""

    @guarded
    async def get(self, env: str, api: str) -> None:
        """Answer a list of one, as Cortex does."""
        environment = self.environment(env)
        self.finish(await self.quick(lambda: encode([environment.get(api)])))


class VersionHandler(ContractHandler):
    """An API as it was deployed once."""

    @guarded
    async def get(self, env: str, api: str, api_id: str) -> None:
        """Answer a list of one, as Cortex does."""
        environment = self.environment(env)
        self.finish(await self.quick(lambda: encode([environment.get_version(api, api_id)])))


class DeleteHandler(ContractHandler):
    """Delete an API."""

    @guarded
    async def delete(self, env: str, api: str) -> None:
        """Stop its jobs and delete it; ``keepCache`` is Cortex's and changes nothing here."""
        environment = self.environment(env)
        self.flag("keepCache")
        self.finish(encode(Message(await self.steps(environment.deleting, api))))


class JobsHandler(Handler):
    """All jobs, newest first."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer one page."""
        api, cursor = self.text("api"), self.text("cursor")
        limit = self.integer("limit", 50, 1, MAX_PAGE)
        status = self.statuses(JobCode)

        def page(environment: TaskAPI) -> bytes:
            jobs = environment.jobs(api, status, limit, cursor)
            return encode(JobsPage([job.record for job in jobs], jobs.next_cursor))

        self.finish(await self.ask(env, page))

    @guarded
    async def delete(self, env: str) -> None:
        """Forget those that have ended."""
        api, status, days = self.text("api"), self.statuses(TERMINAL), self.number("older_than", MAX_DAYS)

        def purge(environment: TaskAPI) -> bytes:
            return encode(Message(environment.purge(api, status, days)))

        self.finish(await self.ask(env, purge, self.extension.slow))

    def statuses(self, among: Iterable[JobCode]) -> list[str] | None:
        """Return the statuses asked for, repeated or with commas between; only some may be."""
        given = [one for text in self.get_query_arguments("status") for one in text.split(",")]
        known = values(among)
        for one in given:
            if one not in known:
                raise BadRequest(f"status must be one of {', '.join(known)}, not {one[:64]!r}")
        return given or None


class JobHandler(Handler):
    """One job."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer its status, as the contract's route does."""
        api = self.text("api")
        self.finish(encode(await self.ask(env, lambda environment: environment.job_response(job_id, api))))

    @guarded
    async def delete(self, env: str, job_id: str) -> None:
        """Forget it: its row, log, result and files."""
        said = await self.ask(env, lambda environment: environment.forget(job_id), self.extension.slow)
        self.finish(encode(Message(said)))


class RerunHandler(BodyHandler):
    """Submit a job's config once more."""

    @guarded
    async def post(self, env: str, job_id: str) -> None:
        """Answer as to a submission."""
        body = self.body()
        same = bool(body.removeprefix(BOM).strip()) and decode(body, Rerun).same
        api = self.text("api")
        pool = self.extension.submitting(env)
        job = await self.ask(env, lambda environment: environment.rerun(job_id, same, api), pool)
        self.extension.submitted(env, job.id, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(submit_answer(job.record)))


class EnvironmentsHandler(Handler):
    """The environments that this server knows."""

    @guarded
    async def get(self) -> None:
        """List them."""
        self.finish(encode(await self.quick(self.extension.environments)))


class DocumentHandler(Handler):
    """The OpenAPI document."""

    @guarded
    async def get(self) -> None:
        """Answer it."""
        self.finish(self.extension.document)


class NothingHandler(BodyHandler):
    """Whatever else is asked for below ``taskapi/``."""

    async def prepare(self) -> None:
        """Answer 404 to who is let in."""
        await super().prepare()
        if self.refused is None and self.request.method != "OPTIONS":
            self.refused = web.HTTPError(404)
            self.current_user = None

    @guarded
    async def get(self) -> None:
        """Answer 404, through :meth:`prepare`."""

    head = post = put = patch = delete = get


#: Path (as the OpenAPI document has it, below Jupyter's base URL) and what answers it.
ROUTES: list[tuple[str, type[Any]]] = [
    ("/taskapi/{env}/tasks/{api}", TasksHandler),
    ("/taskapi/{env}/get", APIsHandler),
    ("/taskapi/{env}/get/{api}", OneAPIHandler),
    ("/taskapi/{env}/get/{api}/{api_id}", VersionHandler),
    ("/taskapi/{env}/deploy", DeployHandler),
    ("/taskapi/{env}/delete/{api}", DeleteHandler),
    ("/taskapi/{env}/streamlogs/{api}", LogStream),
    ("/taskapi/{env}/verifycortex", VerifyHandler),
    ("/taskapi/{env}/jobs", JobsHandler),
    ("/taskapi/{env}/jobs/{job_id}", JobHandler),
    ("/taskapi/{env}/jobs/{job_id}/log", LogHandler),
    ("/taskapi/{env}/jobs/{job_id}/result", ResultHandler),
    ("/taskapi/{env}/jobs/{job_id}/files", FilesHandler),
    ("/taskapi/{env}/jobs/{job_id}/files/{path}", FileHandler),
    ("/taskapi/{env}/jobs/{job_id}/rerun", RerunHandler),
    ("/taskapi/environments", EnvironmentsHandler),
    ("/taskapi/openapi.json", DocumentHandler),
]


def pattern(path: str) -> str:
    """Return a route's path as a regular expression; a file's path holds slashes, all else at most one at its end."""
    parts = re.split(r"{(\w+)}", path)
    groups = [f"(?P<{name}>{'.+?' if name == 'path' else '[^/]+'})" for name in parts[1::2]]
    return "".join(re.escape(text) + group for text, group in zip(parts[::2], [*groups, "/?"], strict=True))


def handlers() -> list[tuple[str, type[Any]]]:
    """Return what a Jupyter extension registers; whatever is left below ``taskapi/`` is 404 in our words."""
    return [(pattern(path), handler) for path, handler in ROUTES] + [(r"/taskapi(?:/.*)?", NothingHandler)]
