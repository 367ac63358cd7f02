"""TaskAPI over HTTP: the client of a Jupyter server with this extension, by the protocol of a Cortex operator."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from msgspec import UNSET, structs

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.contract import (
    MAX_BODY,
    Delivery,
    DeployRequest,
    DeployResult,
    EnvironmentsResponse,
    FileList,
    FilesResponse,
    JobResponse,
    JobsPage,
    JobSpec,
    JobStatus,
    KeptKernel,
    KernelEntry,
    KernelsResponse,
    LogChunk,
    Message,
    MetricsResponse,
    NotificationsResponse,
    NotifyRequest,
    PackagesResponse,
    PreviewResponse,
    Rerun,
    UsageResponse,
    encode,
    without_large_config,
)
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    JobNotFound,
    NotFound,
    TaskAPIError,
    TooLarge,
    Unavailable,
    size,
)
from taskapi_jupyter.deploy import notebook as notebooks
from taskapi_jupyter.deploy.prepare import asks_for_packages
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.node.storage import RESULTS
from taskapi_jupyter.runner.gpus import VARIABLE as VISIBLE

from . import chains, log_reader, results
from .fallback import GONE, Home, changes, reads
from .groups.configs import check_attempts
from .groups.rest import RestGroups
from .headers import EARLY, ENDED_HEADER, KERNEL_HEADER, VERSION_HEADER, kernel_id, notebook_here, of_wait
from .http import JSON, Multipart, Transport, media_type
from .packages import PackagesList, check_digits
from .schedules.rest import RestSchedules
from .taskapi import API, Job, JobList, TaskAPI

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from .groups.group import Group

PICKLE = "application/octet-stream"
SERVER_KNOWN = 5.0  # seconds for which a server's description of itself is reused
LOG_HOLD = 10.0  # seconds for which a server holds an answer while a log is followed
SMALL = 1 << 20  # bytes of a deploy up to which it is sent as JSON


class Client(RestGroups, RestSchedules, TaskAPI):
    """The TaskAPI at ``base_url``, which is the URL of ``…/taskapi/{env}``.

    ``timeout`` is how many seconds the server may be silent. A change is never sent twice; a read is sent once more if
    the connection broke. ``home`` is used when the server is gone: see :mod:`.fallback`.
    """

    provider = "local"
    home_of_server: Home | None = None

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        environment: str = "local",
        verify: bool | str = True,
        timeout: float = 30.0,
        server: EnvironmentsResponse | None = None,
        home: Home | None = None,
    ) -> None:
        self._http = Transport(base_url, token, headers, verify=verify, timeout=timeout)
        self.environment = environment
        self._server = server  # its last description of itself
        self._asked_at = time.monotonic()
        self.home_of_server = home

    @property
    def base_url(self) -> str:
        """The URL of the environment that this client speaks to."""
        return self._http.base_url

    @property
    def bell(self) -> Path | None:
        """The home of its server, if that is also this process's."""
        return None if self.home_of_server is None else self.home_of_server.bell

    def __repr__(self) -> str:
        return f"<Client of {self.base_url}>"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        if self.home_of_server is not None:
            self.home_of_server.close()

    def lacks(self, feature: str) -> str | None:
        """Return the sentence to show where the server is too old for a feature; it is asked each time."""
        if self._server is None or feature not in self._server.features:
            self._server = self.environments()
        if feature in self._server.features:
            return None
        return f"restart the Jupyter server: it runs taskapi_jupyter {self._server.version}"

    def _needs(self, feature: str, value: object) -> None:
        """Raise :class:`Unavailable` where this server is too old for a value."""
        if value and (too_old := self.lacks(feature)):
            raise Unavailable(too_old)

    # Deploying and submitting

    def more_variables(self) -> list[str]:
        """Return the names of the environment variables that the server's config.yaml adds to each deploy."""
        return self._known_server().environ

    def real_provider(self) -> str:
        there = self._known_server().environments
        return next((one.provider for one in there if one.name == self.environment), self.provider)

    def _known_server(self) -> EnvironmentsResponse:
        """Return the server's description of itself, at most ``SERVER_KNOWN`` old."""
        if self._server is None or time.monotonic() - self._asked_at > SERVER_KNOWN:
            self._server, self._asked_at = self.environments(), time.monotonic()
        return self._server

    @changes
    def deploy_request(self, request: DeployRequest) -> list[DeployResult]:
        """Deploy one prepared API; what an older server would ignore is left out, with a warning."""
        self._needs("run_timeout", request.spec.get("run_timeout"))
        definition = request.spec.get("definition")
        self._needs("notebooks", notebooks.is_task(request.spec))
        self._needs("transient", request.transient)
        self._needs("warm", isinstance(definition, dict) and definition.get("warm") is not None)
        # An older server would deploy for a dry run, and ignore the others.
        self._needs("packages", request.dry_run or request.upgrade or asks_for_packages(request.spec))
        if not notebooks.is_task(request.spec):
            self._needs("packages", isinstance(definition, dict) and definition.get("kernel") is not None)
        dropped = {
            feature: None for feature in ("notebook", "sys_path") if getattr(request, feature) and self.lacks(feature)
        }
        sent = structs.replace(self._without_parameters(request), **dropped)
        if request.build_environ is not None and self.lacks("packages"):  # a block says what it needs
            dropped, sent = {"packages": None, **dropped}, structs.replace(sent, build_environ=None)
        results = self._http.read(self._post_deploy(sent), list[DeployResult])
        if dropped and results:
            results[0].warnings = [*(results[0].warnings or ()), str(self.lacks(next(iter(dropped))))]
        return results

    def _without_parameters(self, request: DeployRequest) -> DeployRequest:
        """Leave out what an older server refuses. Only a callable needs it: for others the server reads it again."""
        definition = request.spec.get("definition")
        if not isinstance(definition, dict) or "parameters" not in definition or not self.lacks("parameters"):
            return request
        self._needs("parameters", request.pickle)
        known = {key: value for key, value in definition.items() if key != "parameters"}
        return structs.replace(request, spec={**request.spec, "definition": known})

    def _post_deploy(self, request: DeployRequest) -> requests.Response:
        """Send a deploy: as JSON if it is small or the server takes nothing else, as a multipart form if large."""
        pickle, source = request.pickle or b"", request.source or ""
        if len(pickle) + len(source) > SMALL:
            too_old = self.lacks("upload")
            if too_old is None:
                return self._upload(request)
            if len(pickle) * 4 // 3 + len(source) > MAX_BODY:
                raise Unavailable(f"{too_old}, which takes no more than 10 MiB")
        patient = request.build_environ is not None  # resolving takes its time
        return self._http.send("POST", "deploy", body=encode(request), patient=patient)

    def _upload(self, request: DeployRequest) -> requests.Response:
        count, most = len(request.pickle or b""), self._server.max_upload if self._server else None
        if most and count > most:
            raise TooLarge(
                f"{request.spec.get('name')} is {size(count)} when pickled, and the server takes "
                f"{size(most)} (its TaskAPIApp.max_upload)"
            )
        parts = {"request": encode(structs.replace(request, source=None, pickle=None))}
        if request.source is not None:
            parts["source"] = request.source.encode("utf-8", "surrogatepass")
        if request.pickle is not None:
            parts["pickle"] = request.pickle
        return self._http.send("POST", "deploy", body=Multipart(parts), patient=True)

    @reads
    def kernels(self) -> list[KernelEntry]:
        """Return the kernelspecs that the server finds: see :class:`TaskAPI`."""
        self._needs("packages", True)
        return self._http.read(self._http.send("GET", "kernels"), KernelsResponse).kernels

    @changes
    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,
        api_id: str | None = None,
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
        """Submit a job; it is on the server's disk when this returns."""
        self._needs("api_id", api_id)
        self._needs("run_timeout", run_timeout)
        self._needs("groups", group)
        self._needs("notifications", notify)
        attempts = check_attempts(retries, retry_on, retry_delay, priority)
        self._needs("retries", attempts)
        waiting = chains.waits(self, config, after, after_any, results=results, group=group)
        self._needs("after", waiting.fields)
        given = {
            "config": None if waiting.config is None else plain_config(waiting.config),
            "timeout": timeout,
            "notebook": notebook or notebook_here(),
        }
        more = {"api_id": api_id, "run_timeout": run_timeout, "cuda_visible_devices": self.visible_devices()}
        answer = self._post_job(api, {**given, **more, **attempts, **waiting.fields, "group": group, "notify": notify})
        return self._submitted(self._http.read(answer, JobSpec))

    def from_kernel(self) -> dict[str, str]:
        """Return the header that names the submitting kernel, which the server then does not cull."""
        kernel = kernel_id()
        return {KERNEL_HEADER: kernel} if kernel else {}

    def visible_devices(self) -> str | None:
        """Return the list of GPUs of this process, from which its jobs get theirs; None where there is none to say."""
        visible = os.environ.get(VISIBLE)
        return None if visible is None or self.lacks("cuda_visible_devices") else visible

    def _post_job(self, api: str, given: Mapping[str, Any]) -> requests.Response:
        """Send a submission, without the values that are None."""
        try:
            body = json.dumps({name: value for name, value in given.items() if value is not None}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadRequest(f"the submission can't be written as JSON: {error}") from None
        return self._http.send("POST", f"tasks/{api_segment(api)}", body=body.encode(), headers=self.from_kernel())

    @changes
    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job's config and timeouts again: to the API as it is now, or (``same``) to the job's own version."""
        self._needs("rerun_same", same)
        body = encode(Rerun(same)) if same else None
        answer = self._http.send("POST", f"{self._path(job)}/rerun", body=body, headers=self.from_kernel())
        return self._submitted(self._http.read(answer, JobSpec))

    def _submitted(self, spec: JobSpec) -> Job:
        fields = {name: getattr(spec, name) for name in JobSpec.__struct_fields__}
        url = f"{self.base_url}/tasks/{api_segment(spec.api_name)}?jobID={spec.job_id}"
        return Job(self, JobStatus(**fields, status="pending"), url)

    # Reading

    @reads
    def get(self, api: str | None = None, job_id: str | None = None) -> Any:
        """Return all APIs, one API with its recent jobs, or one job."""
        if api is None:
            return self._http.read(self._http.send("GET", "get"), list[API])
        if job_id is None:
            return self._one(self._http.read(self._http.send("GET", f"get/{api_segment(api)}"), list[API]), api)
        answer = self._http.send("GET", f"tasks/{api_segment(api)}", {"jobID": job_id})
        response = self._http.read(answer, JobResponse)
        return Job(self, response.job_status, response.endpoint)

    @reads
    def get_version(self, api: str, api_id: str) -> API:
        """Return one version of an API, current or older."""
        answer = self._http.send("GET", f"get/{api_segment(api)}/{api_segment(api_id)}")
        return self._one(self._http.read(answer, list[API]), api)

    def _one(self, apis: list[API], name: str) -> API:
        if not apis:
            raise APINotDeployed(name)
        return apis[0]

    @reads
    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it."""
        return self._http.read(self._http.send("GET", self._path(job_id)), JobResponse)

    @reads
    def held_response(
        self, job_id: str, api: str | None, since: str | None, seconds: float
    ) -> tuple[JobResponse, str | None]:
        """Return one job, and its version, once it has another than ``since``: see :class:`TaskAPI`."""
        answer = self._http.send("GET", self._path(job_id), self._hold(since, seconds), headers=of_wait())
        return self._http.read(answer, JobResponse), answer.headers.get(VERSION_HEADER)

    def held_jobs(self, since: str | None, seconds: float) -> str | None:
        """Return the version of the newest jobs in progress: see :class:`TaskAPI`."""
        query = {"status": ["pending", "running"], **self._hold(since, seconds)}
        return self._http.send("GET", "jobs", query).headers.get(VERSION_HEADER)

    def _hold(self, since: str | None, seconds: float) -> dict[str, Any]:
        """Return the query that has the server hold its answer, for less than the time it may be silent."""
        return {} if since is None else {"wait": f"{min(seconds, self._http.timeout / 2):.3f}", "since": since}

    @reads
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
        """Return a page of jobs, newest first."""
        search = search if search and search.strip() else None
        self._needs("search", search)
        self._needs("groups", group)
        self._needs("results", ids or results)
        self._needs("schedules", schedule)
        groups = "closed" if closed else None  # which an older server does not know, and lists all jobs
        more: dict[str, Any] = {"limit": limit, "cursor": cursor, "search": search, "group": group, "groups": groups}
        if schedule is not None:
            more["schedule"] = schedule
        if ids is not None:
            more = {"ids": ",".join(ids)}
        page = self._jobs(api, status, more | ({"results": "true"} if results else {}))
        listed = JobList(
            [Job(self, one if ids else without_large_config(one)) for one in page.jobs],
            page.next_cursor,
            searched=None if page.searched is UNSET else page.searched,
        )
        listed.groups = None if page.groups is UNSET else page.groups
        return listed

    @reads
    def counts(self, api: str | None = None, status: str | Sequence[str] | None = None) -> dict[str, int]:
        """Count jobs by status."""
        self._needs("counts", True)
        return self._jobs(api, status, {"limit": 1, "counts": "true"}).counts or {}

    def _jobs(self, api: str | None, status: str | Sequence[str] | None, more: Mapping[str, Any]) -> JobsPage:
        statuses = [status] if isinstance(status, str) else list(status or ())
        return self._http.read(self._http.send("GET", "jobs", {"api": api, "status": statuses, **more}), JobsPage)

    # Ending

    @changes
    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; return when nothing of it is left."""
        return self._delete_job(job, api, patient=True)

    @changes
    def cancel(self, job: Job | str) -> str:
        """Stop a job only if it has not started."""
        self._needs("only_pending", True)
        return self._delete_job(job, None, only="pending")

    def _delete_job(self, job: Job | str, api: str | None, *, only: str | None = None, patient: bool = False) -> str:
        job_id = self.job_id(job)
        name = api or (self.job_response(job_id).job_status.api_name if isinstance(job, str) else job.api_name)
        query = {"jobID": job_id, "only": only}
        answer = self._http.send("DELETE", f"tasks/{api_segment(name)}", query, patient=patient)
        return self._http.read(answer, Message).message

    @changes
    def delete(self, api: str) -> str:
        """Delete an API; its jobs in progress are stopped."""
        return self._http.read(self._http.send("DELETE", f"delete/{api_segment(api)}", patient=True), Message).message

    @changes
    def forget(self, job: Job | str) -> str:
        """Delete an ended job, its log, result and files."""
        return self._http.read(self._http.send("DELETE", self._path(job)), Message).message

    @changes
    def purge(
        self, api: str | None = None, status: str | Sequence[str] | None = None, older_than: float | None = None
    ) -> str:
        """Delete all ended jobs, or those of one API, in some terminal states, or that ended so many days ago."""
        query = {"api": api, "status": [status] if isinstance(status, str) else list(status or ())}
        answer = self._http.send("DELETE", "jobs", {**query, "older_than": older_than}, patient=True)
        return self._http.read(answer, Message).message

    @reads
    def packages(self) -> PackagesList:
        """Return the environments that were built from requirements."""
        self._needs("packages", True)
        return PackagesList(self._http.read(self._http.send("GET", "packages"), PackagesResponse).environments)

    @changes
    def delete_packages(self, key: str) -> str:
        """Delete one of them, by its key or the first digits of that."""
        self._needs("packages", True)
        path = f"packages/{check_digits(key)}"
        return self._http.read(self._http.send("DELETE", path, patient=True), Message).message

    @reads
    def notifications(self, name: str | None = None, limit: int = 50) -> NotificationsResponse:
        """Return the names that the server's config.yaml has, and the newest deliveries."""
        self._needs("notifications", True)
        query = {"name": name, "limit": limit}
        return self._http.read(self._http.send("GET", "notifications", query), NotificationsResponse)

    @changes
    def test_notification(self, name: str) -> Delivery:
        """Have the server send one test under a name, and return what came back."""
        self._needs("notifications", True)
        path = f"notifications/test/{api_segment(name)}"
        return self._http.read(self._http.send("POST", path, patient=True), Delivery)

    @changes
    def notify(self, job: Job | str, names: Sequence[str]) -> str:
        """Set who is told when a job in progress ends."""
        self._needs("notifications", True)
        answer = self._http.send("POST", f"{self._path(job)}/notify", body=encode(NotifyRequest(list(names))))
        return self._http.read(answer, Message).message

    def environments(self) -> EnvironmentsResponse:
        """Return the environments of the server; if it is gone, those that it last reported."""
        try:
            return self.ask_server()
        except GONE:
            if self.home_of_server is None or self._server is None:
                raise
            return self._server

    def ask_server(self) -> EnvironmentsResponse:
        """Ask the server for its description of itself."""
        return self._http.read(self._http.send("GET", "../environments"), EnvironmentsResponse)

    def try_to_change(self) -> None:
        """Raise where the server accepts no changes from this client. What is sent is invalid, and changes nothing."""
        try:
            self._http.send("POST", "tasks/-", body=b"[]")
        except BadRequest:
            pass

    # What a job left

    @reads
    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Return part of the log; a negative offset counts from the end."""
        query = {"offset": offset, "limit": limit}
        answer = self._http.send("GET", f"{self._path(job)}/log", query, headers=of_wait())
        try:
            begin, after, size = (int(answer.headers[f"X-Log-{name}"]) for name in ("Offset", "Next", "Size"))
        except (KeyError, ValueError):
            raise self._http.foreign(answer) from None
        return LogChunk(answer.content, begin, after, size)

    @contextmanager
    def log_pauses(self, job_id: str) -> Iterator[Callable[[int, float], None]]:
        """Have the server hold a request meanwhile."""

        def hold(offset: int, waited: float) -> None:
            # Short at first: whoever draws lines ten times a second has some that wait.
            seconds = log_reader.INTERVAL if waited < 1 else min(LOG_HOLD, self._http.timeout / 2)
            query, began = {"offset": offset, "limit": 1, "wait": seconds}, time.monotonic()
            with suppress(TaskAPIError):  # what is wrong, the next read of the log says
                answer = self._http.send("GET", f"{self._path(job_id)}/log", query, headers=of_wait())
                if answer.content or answer.headers.get(ENDED_HEADER):
                    return
            if time.monotonic() - began < EARLY:
                time.sleep(log_reader.pause(waited, self.poll_ceiling))

        yield hold

    @reads
    def result(self, job: Job | str) -> Any:
        """Return what the task returned. A pickle is loaded, which runs code: for jobs of your own only."""
        answer = self._ask_result(job, f"{JSON}, {PICKLE}")
        if media_type(answer) != PICKLE:
            try:
                return nesting.loads(answer.content)
            except ValueError:
                raise self._http.foreign(answer) from None
        return results.load(answer.content, self.job_id(job))

    @reads
    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Return the name of the file that holds a job's result, and its content."""
        answer = self._ask_result(job, "*/*" if view else f"{JSON}, {PICKLE}")
        return RESULTS[media_type(answer) == PICKLE], BytesIO(answer.content)

    def _ask_result(self, job: Job | str, accept: str) -> requests.Response:
        return self._http.send("GET", f"{self._path(job)}/result", accept=accept)

    @reads
    def open_exception(self, job: Job | str) -> IO[bytes]:
        """Return what a job's task raised, pickled."""
        self._needs("exception", True)
        return BytesIO(self._http.send("GET", f"{self._path(job)}/exception", accept=PICKLE).content)

    @reads
    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder."""
        answer = self._http.read(self._http.send("GET", f"{self._path(job)}/files"), FilesResponse)
        return FileList(answer.files, answer.truncated or None)

    @reads
    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Return the content of one of those files, to be read."""
        if {"", ".", ".."} & set(path.split("/")):  # HTTP clients resolve dots, and would ask another route
            raise NotFound(f"the job has no file {path!r}")
        return BytesIO(self._http.send("GET", f"{self._path(job)}/files/{quote(path)}", accept="*/*").content)

    @reads
    def open_notebook(self, job: Job | str) -> tuple[str, IO[bytes]]:
        """Return the notebook that a job runs, as it was last saved."""
        self._needs("notebooks", True)
        answer = self._http.send("GET", f"{self._path(job)}/notebook", accept="*/*")
        return "notebook.ipynb", BytesIO(answer.content)

    @reads
    def kernel(self, job: Job | str) -> KeptKernel:
        """Return the kernel that a job keeps after a cell of its notebook failed."""
        self._needs("notebooks", True)
        return self._http.read(self._http.send("GET", f"{self._path(job)}/kernel"), KeptKernel)

    @changes
    def ask_kernel(self, job: Job | str, what: Literal["resume", "end"]) -> str:
        """Ask for what is to be done with it."""
        self._needs("notebooks", True)
        path = f"{self._path(job)}/{'resume' if what == 'resume' else 'end-kernel'}"
        return self._http.read(self._http.send("POST", path), Message).message

    def metrics(self, job: Job | str, names: Sequence[str] = (), since: int = 0) -> MetricsResponse:
        """Return points that the task has recorded: see :class:`TaskAPI`."""
        self._needs("metrics", True)
        query = {"names": list(names), "since": since}
        return self._http.read(self._http.send("GET", f"{self._path(job)}/metrics", query), MetricsResponse)

    @reads
    def usage(self, job: Job | str) -> UsageResponse:
        """Return what a job used over time: see :class:`TaskAPI`."""
        self._needs("metrics", True)
        return self._http.read(self._http.send("GET", f"{self._path(job)}/usage"), UsageResponse)

    @reads
    def preview(self, job: Job | str) -> PreviewResponse:
        """Return what a pickled result looks like: see :class:`TaskAPI`."""
        self._needs("preview", True)
        return self._http.read(self._http.send("GET", f"{self._path(job)}/preview"), PreviewResponse)

    def _path(self, job: Job | str) -> str:
        job_id = self.job_id(job)
        if not re.fullmatch(r"[\w-]+", job_id):
            raise JobNotFound(job_id[:100])
        return f"jobs/{quote(job_id, safe='')}"


def api_segment(name: str) -> str:
    """Return an API's name as a segment of a path; a name of dots would lead to another path."""
    if name in ("", ".", ".."):
        raise APINotDeployed(repr(name))
    return quote(name, safe="")
