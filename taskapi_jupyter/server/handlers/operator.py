"""The routes of Cortex's operator: submit, look at and stop jobs; list and delete APIs."""

from __future__ import annotations

from taskapi_jupyter.client.chains import check_whole
from taskapi_jupyter.client.headers import KERNEL_HEADER
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.contract import Message, Submission, decode, encode, submit_answer
from taskapi_jupyter.core.errors import BadRequest, GroupNotFound, JobNotFound, QueryParamRequired, TaskAPIError
from taskapi_jupyter.server.authentication import guarded

from .base import Handler
from .body import BodyHandler


class ContractHandler(Handler):
    """Base of the operator's routes that read no body."""

    contract = True


class VerifyHandler(ContractHandler):
    """Health, as the Cortex client asks for it."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer an empty object."""
        self.backends.environment(env)
        self.finish(b"{}")


class TasksHandler(BodyHandler):
    """Submit, look at and stop jobs."""

    contract = True
    waits = False  # whether a submission names jobs to wait for, which Cortex's do not

    def status_of(self, error: TaskAPIError) -> int:
        """Return the HTTP status of an error: 404 where what a new job is to wait for does not exist."""
        return 404 if self.waits and isinstance(error, JobNotFound | GroupNotFound) else super().status_of(error)

    def job_id(self) -> str:
        """Return the job that the query names."""
        job_id: str = self.get_query_argument("jobID", "")
        if not job_id:
            raise QueryParamRequired("jobID")
        return job_id

    @guarded
    async def post(self, env: str, api: str) -> None:
        """Submit a job."""
        environment = self.backends.environment(env)
        body = self.body()

        def submit() -> Job:
            submission = decode(body, Submission)
            others = [*(submission.after or ()), *(submission.results or {}).values()]
            self.waits = bool(others)
            check_whole(others)
            return environment.submit(
                api,
                submission.config,
                submission.timeout,
                notebook=submission.notebook,
                api_id=submission.api_id,
                run_timeout=submission.run_timeout,
                cuda_visible_devices=submission.cuda_visible_devices,
                retries=submission.retries,
                retry_on=submission.retry_on,
                retry_delay=submission.retry_delay,
                priority=submission.priority,
                group=submission.group,
                after=submission.after,
                after_any=submission.after_any,
                results=submission.results,
                notify=submission.notify,
            )

        job = await self.backends.run(self.backends.submitting(env), submit)
        self.activity.submitted(env, job.id, self.request.headers.get(KERNEL_HEADER))
        self.finish(encode(submit_answer(job.record)))

    @guarded
    async def get(self, env: str, api: str) -> None:
        """Answer a job's status."""
        environment, job_id = self.backends.environment(env), self.job_id()
        self.finish(encode(await self.quick(environment.job_of, api, job_id)))

    @guarded
    async def delete(self, env: str, api: str) -> None:
        """Stop a job, with ``only=pending`` only if it has not started; answered once nothing of it is left."""
        environment, job_id, only = self.backends.environment(env), self.job_id(), self.text("only")
        if only is not None:
            if only != "pending":
                raise BadRequest(f"only must be pending, not {only[:64]!r}")
            self.finish(encode(Message(await self.quick(environment.cancel, job_id, api))))
            return
        self.finish(encode(Message(await self.steps(environment, environment.stopping(job_id, api)))))


class APIsHandler(ContractHandler):
    """All APIs."""

    @guarded
    async def get(self, env: str) -> None:
        """List them."""
        environment = self.backends.environment(env)
        self.finish(await self.quick(lambda: encode(environment.get())))


class OneAPIHandler(ContractHandler):
    """One API, with its recent jobs."""

    @guarded
    async def get(self, env: str, api: str) -> None:
        """Answer a list of one, as Cortex does."""
        environment = self.backends.environment(env)
        self.finish(await self.quick(lambda: encode([environment.get(api)])))


class VersionHandler(ContractHandler):
    """An API as it was deployed once."""

    @guarded
    async def get(self, env: str, api: str, api_id: str) -> None:
        """Answer a list of one, as Cortex does."""
        environment = self.backends.environment(env)
        self.finish(await self.quick(lambda: encode([environment.get_version(api, api_id)])))


class DeleteHandler(ContractHandler):
    """Delete an API."""

    @guarded
    async def delete(self, env: str, api: str) -> None:
        """Stop its jobs and delete it; ``keepCache`` is Cortex's and changes nothing here."""
        environment = self.backends.environment(env)
        self.flag("keepCache")
        self.finish(encode(Message(await self.steps(environment, environment.deleting(api)))))
