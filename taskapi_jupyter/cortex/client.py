"""TaskAPI of a Cortex cluster: its operator's, or the same through a Jupyter server's proxy.

Reads what 0.28 and 0.42 send, which differs from this project's own answers: statuses with a prefix, the time of
submission as ``start_time``, lists without specifications. A cluster has no route for all jobs, for results, files or
parts of a log: these raise :class:`NotKept`, which views show as a note.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from taskapi_jupyter.client import chains
from taskapi_jupyter.client.groups.api import no_groups
from taskapi_jupyter.client.groups.unkept import UnkeptGroups
from taskapi_jupyter.client.notifications import NotificationAPI
from taskapi_jupyter.client.packages import PackagesList, no_packages
from taskapi_jupyter.client.rest import api_segment
from taskapi_jupyter.client.schedules import no_schedules
from taskapi_jupyter.client.schedules.unkept import UnkeptSchedules
from taskapi_jupyter.client.taskapi import API, Job, JobList
from taskapi_jupyter.core.contract import (
    KIND,
    DeployRequest,
    DeployResult,
    EnvironmentsResponse,
    FileList,
    JobStatus,
    KeptKernel,
    KernelEntry,
    LogChunk,
    MetricsResponse,
    PreviewResponse,
    UsageResponse,
    cut_to_page,
    without_large_config,
)
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest, NotKept
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.deploy import advice
from taskapi_jupyter.deploy.notebook import refuse_on
from taskapi_jupyter.deploy.prepare import DeployOptions, prepare
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.display.facts import lists_all_in_progress
from taskapi_jupyter.display.search import mentions

from . import answers, form
from .logs import PODS_SINCE, Logs
from .operator import before, no_plan

if TYPE_CHECKING:
    import requests

    from taskapi_jupyter.client.groups.group import Group


class CortexClient(UnkeptGroups, UnkeptSchedules, Logs):
    """The TaskAPI of a cluster, through a Jupyter server or, by :meth:`direct`, without one."""

    # Deploying and submitting

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy a file with its project, a specification or a cell, as the cluster's version takes it."""
        results = []
        for request in prepare(target, DeployOptions(name=name, **options)):
            is_file = isinstance(target, str | Path)
            answer = self._deploy(request, Path(request.cwd or ".") if is_file else None)
            advice.add_warnings(answer, target, request, provider=self.provider, environ=options.get("environ"))
            results += answer
        for result in results:
            if result.error:
                raise BadRequest(result.error)
        return results

    def deploy_request(self, request: DeployRequest) -> list[DeployResult]:
        """Deploy one prepared API without its project's files."""
        return self._deploy(request, None)

    def _deploy(self, request: DeployRequest, folder: Path | None) -> list[DeployResult]:
        from urllib3 import encode_multipart_formdata

        refuse_on(request, "a Cortex cluster")
        if request.dry_run:
            raise no_plan(self.environment)

        definition = request.spec.get("definition") is not None
        in_container = definition and not before(self.version() or "0.42", PODS_SINCE)
        parts, warnings = form.with_container(request) if in_container else form.with_project(request, folder)
        body, content_type = encode_multipart_formdata({part: (part, data) for part, data in parts.items()})
        answer = self._http.send(
            "POST",
            "deploy",
            {"force": "false", "configFileName": "cortex.yaml"},
            body=body,
            content_type=content_type,
            patient=True,
        )
        raw = self._json(answer, list)
        results = [self._converted(answer, answers.deployed, one) for one in raw]
        advice.add(results, warnings)
        return results

    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,  # no effect: a cluster does not store it
        api_id: str | None = None,  # no effect: a cluster runs the version that is deployed
        run_timeout: int | None = None,
        retries: int | None = None,
        retry_on: Sequence[str] | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        group: str | None = None,
        after: Job | Group | str | Sequence[Job | Group | str] | None = None,
        after_any: bool = False,
        results: Mapping[str, Job | str] | None = None,
        notify: Sequence[str] | None = None,
    ) -> Job:
        """Start a job."""
        self.refuse_unknown(retries=retries, retry_on=retry_on, retry_delay=retry_delay, priority=priority, group=group)
        self.refuse_unknown(notify=notify)
        chains.refuse(self.environment, config, after, after_any, results)
        if run_timeout is not None:
            raise BadRequest(
                f"{self.environment} is a Cortex cluster, which has no limit on running time: give a timeout, which "
                "counts from the submission"
            )
        given = None if config is None else plain_config(config)
        answer = self._post_job(api, {"workers": 1, "config": given, "timeout": timeout})
        raw = self._json(answer, dict)
        record = self._converted(answer, answers.status, {**raw, "status": raw.get("status") or "pending"})
        self._submissions[record.job_id] = (time.monotonic(), record)
        self._api_of[record.job_id] = record.api_name
        url = f"{self.base_url}/tasks/{api_segment(record.api_name)}?jobID={record.job_id}"
        return Job(self, record, url)

    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job's config and timeout again, if the cluster tells them."""
        if same:
            raise BadRequest(f"{self.environment} is a Cortex cluster, which runs the version that is deployed")
        answer = self._answer(self.job_id(job), api or self._name(job))
        raw = self._json(answer, dict)["job_status"]
        if "config" not in raw:
            raise NotKept(f"{self.environment} does not tell the config of job {self.job_id(job)}: submit it anew")
        record = self._converted(answer, answers.status, raw)
        return self.submit(record.api_name, raw["config"], record.timeout)

    # Reading

    def get(self, api: str | None = None, job_id: str | None = None) -> Any:
        """Return all task APIs, one API with its recent jobs, or one job."""
        if api is not None and job_id is not None:
            response = self.job_response(job_id, api)
            return Job(self, response.job_status, response.endpoint)
        path = "get" if api is None else f"get/{api_segment(api)}"
        apis = self._apis(self._http.send("GET", path))
        return apis if api is None else self._one(apis, api)

    def get_version(self, api: str, api_id: str) -> API:
        """Return one version of an API, current or older."""
        return self._one(self._apis(self._http.send("GET", f"get/{api_segment(api)}/{api_segment(api_id)}")), api)

    def _apis(self, answer: requests.Response) -> list[API]:
        apis = []
        for raw in self._json(answer, list):
            if not isinstance(raw, dict):
                raise self._http.foreign(answer)
            about = raw.get("metadata") or raw.get("spec")
            if isinstance(about, dict) and about.get("kind", KIND) != KIND:
                continue  # a cluster has APIs of other kinds too
            api = self._converted(answer, answers.api, raw)
            if api.endpoint is None and self._about.api_endpoint:
                api.endpoint = self._public_endpoint(api)
            apis.append(api)
            self._api_of |= {job.job_id: job.api_name for job in api.task_job_statuses}
        return apis

    def _public_endpoint(self, api: API) -> str:
        networking = (api.spec or {}).get("networking") or {}
        path = networking.get("endpoint") if isinstance(networking, dict) else None
        return f"{str(self._about.api_endpoint).rstrip('/')}/{str(path or api.name).lstrip('/')}"

    def page(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        search: str | None = None,
        *,
        group: str | None = None,
        ids: Sequence[str] | None = None,
        results: bool = False,
        closed: bool = False,
        schedule: str | None = None,
    ) -> JobList:
        """Return the jobs that the cluster lists with its APIs, newest first: jobs in progress and the last few."""
        if group is not None:
            raise no_groups(self)
        if schedule is not None:
            raise no_schedules(self.environment)
        if ids is not None:
            wanted = set(ids)
            listed = [one for one in self._records(api, status) if one.job_id in wanted]
            return JobList([Job(self, one) for one in cut_to_page(listed)], None)
        records = [one for one in self._records(api, status) if cursor is None or one.job_id > cursor]
        searched = len(records) if search and search.strip() else None
        records = [without_large_config(one) for one in records if not search or mentions(one, search)]
        kept = cut_to_page(records[:limit])
        more = kept[-1].job_id if len(records) > len(kept) else None
        return JobList([Job(self, record) for record in kept], more, searched=searched)

    def counts(self, api: str | None = None, status: str | Sequence[str] | None = None) -> dict[str, int]:
        """Count by status the jobs that the cluster lists."""
        return dict(Counter(record.code.value for record in self._records(api, status)))

    def _records(self, api: str | None, status: str | Sequence[str] | None) -> list[JobStatus]:
        """Return all jobs that the cluster lists, newest first."""
        wanted = {JobCode.read(one) for one in ([status] if isinstance(status, str) else status or ())}
        found: dict[str, JobStatus] = {}
        for one in self._listed(api, only_in_progress=bool(wanted) and wanted <= IN_PROGRESS):
            found |= {record.job_id: record for record in one.task_job_statuses}
        for job_id, (_, record) in list(self._submissions.items()):
            if not self._is_young(job_id):
                self._submissions.pop(job_id, None)  # another thread may have
            elif api in (None, record.api_name):
                found.setdefault(job_id, record)
        records = [found[job_id] for job_id in sorted(found)]  # ids descend with time: the newest job has the smallest
        return [record for record in records if not wanted or record.code in wanted]

    def _listed(self, api: str | None, *, only_in_progress: bool) -> list[API]:
        whole: list[API] = []
        if api is not None:
            names = [api]
        else:
            apis: list[API] = self.get()
            whole = [one for one in apis if only_in_progress and lists_all_in_progress(one)]
            names = [one.name for one in apis if not (only_in_progress and lists_all_in_progress(one))]

        def one(name: str) -> list[API]:
            try:
                return [self.get(name)]
            except APINotDeployed:
                return []

        with ThreadPoolExecutor(8) as pool:
            return [*whole, *(found for some in pool.map(one, names) for found in some)]

    def environments(self) -> EnvironmentsResponse:
        """Return this environment: a cluster knows no other."""
        return EnvironmentsResponse(self.environment, [self._about])

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; one that the cluster does not know yet is waited for: a refusal would leave it running."""
        job_id, name = self.job_id(job), api or self._name(job)
        if self._is_young(job_id):
            self._answer(job_id, name)
        answer = self._http.send("DELETE", f"tasks/{api_segment(name)}", {"jobID": job_id}, patient=True)
        return self._message(answer, f"stopped job {job_id}")

    def delete(self, api: str) -> str:
        """Delete an API; its jobs in progress are stopped."""
        return self._message(
            self._http.send("DELETE", f"delete/{api_segment(api)}", {"keepCache": "false"}, patient=True),
            f"deleted {api}",
        )

    def _message(self, answer: requests.Response, default: str) -> str:
        message = self._json(answer, dict).get("message")
        return message if isinstance(message, str) and message else default

    # What a cluster does not have

    def forget(self, job: Job | str) -> str:
        """Raise :class:`NotKept`: a cluster keeps its records."""
        raise NotKept(
            f"{self.environment} is a Cortex cluster: it keeps the records of its jobs, and none can be deleted"
        )

    def purge(
        self, api: str | None = None, status: str | Sequence[str] | None = None, older_than: float | None = None
    ) -> str:
        """Raise :class:`NotKept`: a cluster keeps its records."""
        return self.forget("")

    notifications = NotificationAPI.notifications  # which raise NotKept, unlike those of a Jupyter server's client
    test_notification = NotificationAPI.test_notification
    notify = NotificationAPI.notify

    def packages(self) -> PackagesList:
        """Raise :class:`NotKept`: a cluster's images have their packages."""
        raise no_packages(self.environment)

    def delete_packages(self, key: str) -> str:
        """Raise :class:`NotKept`: a cluster's images have their packages."""
        raise no_packages(self.environment)

    def result(self, job: Job | str) -> Any:
        """Raise :class:`NotKept`: a cluster has no results."""
        raise self._not_kept("result")

    def files(self, job: Job | str) -> FileList:
        """Raise :class:`NotKept`: a cluster has no files."""
        raise self._not_kept("files")

    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Raise :class:`NotKept`: a cluster has no results."""
        raise self._not_kept("result")

    def open_exception(self, job: Job | str) -> IO[bytes]:
        """Raise :class:`NotKept`: a cluster has no exceptions."""
        raise self._not_kept("exception")

    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Raise :class:`NotKept`: a cluster has no files."""
        raise self._not_kept("files")

    def open_notebook(self, job: Job | str) -> tuple[str, IO[bytes]]:
        """Raise :class:`NotKept`: a cluster runs no notebooks."""
        raise self._no_notebooks()

    def kernels(self) -> list[KernelEntry]:
        """Raise :class:`NotKept`: a cluster's tasks run in images."""
        raise NotKept(f"{self.environment} is a Cortex cluster, whose jobs run in images, without a machine's kernels")

    def kernel(self, job: Job | str) -> KeptKernel:
        """Raise :class:`NotKept`: a cluster runs no notebooks."""
        raise self._no_notebooks()

    def ask_kernel(self, job: Job | str, what: Literal["resume", "end"]) -> str:
        """Raise :class:`NotKept`: a cluster runs no notebooks."""
        raise self._no_notebooks()

    def _no_notebooks(self) -> NotKept:
        return NotKept(f"{self.environment} is a Cortex cluster, which runs no notebooks")

    def metrics(self, job: Job | str, names: Sequence[str] = (), since: int = 0) -> MetricsResponse:
        """Raise :class:`NotKept`: a cluster has no metrics."""
        raise self._not_kept("metrics")

    def usage(self, job: Job | str) -> UsageResponse:
        """Raise :class:`NotKept`: a cluster does not tell what a job uses."""
        raise self._not_kept("use of CPU and memory")

    def preview(self, job: Job | str) -> PreviewResponse:
        """Raise :class:`NotKept`: a cluster has no results."""
        raise self._not_kept("result")

    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Raise :class:`NotKept`, which says where there may be a log; :meth:`logs` and :meth:`stream` read it."""
        self._explain(self.job_id(job), api or self._name(job), None)
        raise NotKept(f"{self.environment} is a Cortex cluster: its logs can be followed, but not read in parts")

    def _not_kept(self, what: str) -> NotKept:
        return NotKept(
            f"{self.environment} is a Cortex cluster, which keeps no {what} of a job: have the task write to storage "
            "that both can reach"
        )
