"""TaskAPI of a Cortex cluster: its operator's, or the same through a Jupyter server's proxy.

Reads what 0.28 and 0.42 send, which differs from this project's own answers: statuses with a prefix, the time of
submission as ``start_time``, lists without specifications. A cluster has no route for all jobs, for results, files or
parts of a log; what it doesn't have is :class:`NotKept`, which views show as such.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from taskapi_jupyter.client.http import Transport
from taskapi_jupyter.client.log_reader import SHOWN, check, last_lines, lines, newest_text
from taskapi_jupyter.client.rest import Client, api_segment
from taskapi_jupyter.client.taskapi import API, Job, JobList
from taskapi_jupyter.core.contract import (
    KIND,
    DeployRequest,
    DeployResult,
    Environment,
    EnvironmentsResponse,
    FileList,
    JobResponse,
    JobStatus,
    LogChunk,
)
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest, JobNotFound, NotKept, TaskAPIError
from taskapi_jupyter.core.host import backoff
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.deploy import advice
from taskapi_jupyter.deploy.prepare import DeployOptions, prepare
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.display.screen import rewritten

from . import answers, form
from .log import Log, first, frames
from .operator import Upstream, before

if TYPE_CHECKING:
    import requests

RACE = 8.0  # seconds after a submission in which a cluster may not know the job yet, or call it failed
PODS_SINCE = (0, 36)  # tasks are containers, and their logs at /streamlogs
LOOK_AGAIN = 1.0  # seconds between two tries to reach a log that isn't there yet
QUIET = 1.5  # seconds without a line after which what came of a log counts as all there is now
SILENCE = 15.0  # seconds without a line after which the job itself is looked at

T = TypeVar("T")


class CortexClient(Client):
    """The TaskAPI of a cluster, through a Jupyter server or, by :meth:`direct`, without one."""

    provider = "cortex"
    poll_ceiling = 2.0  # seconds; a cluster looks at its jobs once a minute

    def __init__(self, base_url: str, token: str | None = None, *, environment: Environment) -> None:
        super().__init__(base_url, token, environment=environment.name, timeout=_patience(environment))
        self._begin(environment)

    @classmethod
    def direct(cls, upstream: Upstream, environment: Environment) -> CortexClient:
        """Return one that speaks to the operator itself, with the credentials that this machine has for it."""
        client = cls.__new__(cls)
        client._http = Transport(
            upstream.endpoint,
            verify=upstream.verify,
            timeout=upstream.timeout,
            sign=upstream.headers,
            cluster=upstream.name,
        )
        client.environment = environment.name
        client._begin(environment)
        return client

    def _begin(self, environment: Environment) -> None:
        self._about = environment
        self._server, self._asked_at = None, 0.0
        self._version: str | None = environment.version or None
        self._asked = bool(self._version)
        self._submissions: dict[str, tuple[float, JobStatus]] = {}  # ours, while a cluster may not list them yet
        self._api_of: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<CortexClient of {self.environment} at {self.base_url}>"

    def lacks(self, feature: str) -> str | None:
        """Return None: no newer server would make a cluster take more."""
        return None

    def version(self) -> str | None:
        """Return the cluster's version, None where it does not say."""
        if not self._asked:
            try:
                info = self._json(self._http.send("GET", "info"), dict)
                self._version = str(info["cluster_config"]["api_version"])
            except (TaskAPIError, KeyError, TypeError):
                pass
            self._asked = True
        return self._version

    def cluster_version(self) -> str | None:
        """Return the cluster's version, ``unknown`` where it does not say."""
        return self.version() or "unknown"

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
        """Deploy one prepared API, with no other file than its own."""
        return self._deploy(request, None)

    def _deploy(self, request: DeployRequest, folder: Path | None) -> list[DeployResult]:
        from urllib3 import encode_multipart_formdata

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
        notebook: str | None = None,  # a cluster keeps no such thing
        api_id: str | None = None,  # it runs what is deployed
        run_timeout: int | None = None,
    ) -> Job:
        """Start a job."""
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
        """Submit a job's config and timeout again, where the cluster says what they were."""
        if same:
            raise BadRequest(f"{self.environment} is a Cortex cluster, which runs the version that is deployed")
        answer = self._answer(self.job_id(job), api or self._name(job))
        raw = self._json(answer, dict)["job_status"]
        if "config" not in raw:
            raise NotKept(
                f"{self.environment} does not say what job {self.job_id(job)} was submitted with: submit anew"
            )
        record = self._converted(answer, answers.status, raw)
        return self.submit(record.api_name, record.config, record.timeout)

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

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it; a job of a few seconds ago is read until the cluster knows it."""
        answer = self._answer(job_id, api or self._find_api(job_id))
        return self._converted(answer, answers.response, self._json(answer, dict))

    def _answer(self, job_id: str, api: str) -> requests.Response:
        """Return the cluster's answer about a job, once it is to be believed.

        Right after a submission a cluster may say that there is no such job, or that it failed; both are known races.
        """
        pauses = backoff(0.1, LOOK_AGAIN)
        while True:
            try:
                answer = self._http.send("GET", f"tasks/{api_segment(api)}", {"jobID": job_id})
                status = self._converted(answer, answers.response, self._json(answer, dict)).job_status
                if status.code is not JobCode.UNEXPECTED_ERROR or not self._is_young(job_id):
                    return answer
            except JobNotFound:
                if not self._is_young(job_id):
                    raise
            time.sleep(next(pauses))

    def _is_young(self, job_id: str) -> bool:
        """Say whether a job was submitted moments ago: by us, or as its id has it, which descends with the time."""
        if ours := self._submissions.get(job_id):
            return time.monotonic() - ours[0] < RACE
        try:
            submitted = ((1 << 63) - 1 - int(job_id, 16)) / 1e9
        except ValueError:
            return False
        return abs(time.time() - submitted) < RACE

    def _find_api(self, job_id: str) -> str:
        if job_id not in self._api_of:
            self.jobs()
        if job_id not in self._api_of:
            raise JobNotFound(job_id)
        return self._api_of[job_id]

    def _name(self, job: Job | str) -> str:
        return self._find_api(job) if isinstance(job, str) else job.api_name

    def jobs(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobList:
        """Return the jobs that the cluster lists with its APIs, newest first: those in progress and the last few."""
        wanted = {JobCode.read(one) for one in ([status] if isinstance(status, str) else status or ())}
        found: dict[str, JobStatus] = {}
        for one in self._listed(api, only_in_progress=bool(wanted) and wanted <= IN_PROGRESS):
            found |= {record.job_id: record for record in one.task_job_statuses}
        for job_id, (_, record) in list(self._submissions.items()):
            if not self._is_young(job_id):
                self._submissions.pop(job_id, None)  # another thread may have
            elif api in (None, record.api_name):
                found.setdefault(job_id, record)
        records = [found[job_id] for job_id in sorted(found)]  # ids descend: the newest is the least
        records = [record for record in records if not wanted or record.code in wanted]
        records = [record for record in records if cursor is None or record.job_id > cursor]
        more = records[limit - 1].job_id if len(records) > limit else None
        return JobList([Job(self, record) for record in records[:limit]], more)

    def _listed(self, api: str | None, *, only_in_progress: bool) -> list[API]:
        if api is not None:
            names = [api]
        else:
            apis: list[API] = self.get()
            if only_in_progress:
                return apis
            names = [one.name for one in apis]

        def one(name: str) -> list[API]:
            try:
                return [self.get(name)]
            except APINotDeployed:
                return []

        with ThreadPoolExecutor(8) as pool:
            return [found for some in pool.map(one, names) for found in some]

    def environments(self) -> EnvironmentsResponse:
        """Return this environment: a cluster knows no others."""
        return EnvironmentsResponse(self.environment, [self._about])

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; one that the cluster does not know yet is waited for, since a refusal would leave it running."""
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

    def result(self, job: Job | str) -> Any:
        """Raise :class:`NotKept`: a cluster has no results."""
        raise self._not_kept("result")

    def files(self, job: Job | str) -> FileList:
        """Raise :class:`NotKept`: a cluster has no files."""
        raise self._not_kept("files")

    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Raise :class:`NotKept`: a cluster has no results."""
        raise self._not_kept("result")

    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Raise :class:`NotKept`: a cluster has no files."""
        raise self._not_kept("files")

    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Raise :class:`NotKept`, which says where there may be a log; :meth:`logs` and :meth:`stream` read it."""
        self._explain(self.job_id(job), api or self._name(job), None)
        raise NotKept(f"{self.environment} is a Cortex cluster: its logs can be followed, but not read in parts")

    def _not_kept(self, what: str) -> NotKept:
        return NotKept(
            f"{self.environment} is a Cortex cluster, which keeps no {what} of a job: have the task write to storage "
            "that both can reach"
        )

    # Logs

    @overload
    def logs(self, job: Job | str, tail: int | None = None) -> str: ...
    @overload
    def logs(self, job: Job | str, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, job: Job | str, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return what a job's pod has logged; :class:`NotKept` says where to look once the pod is gone."""
        check(tail)
        if follow:
            return lines(self.stream(job, tail, SHOWN))
        job_id, name = self.job_id(job), self._name(job)
        try:
            socket = self._open_log(job_id, name)
        except TaskAPIError as refusal:
            self._explain(job_id, name, refusal)
            return ""  # its pod has not begun
        text = "".join(frames(socket, QUIET, lambda: True))
        return text if tail is None else rewritten(last_lines(text, tail))

    def log_chunks(self, job: Job | str, tail: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Yield what the cluster sends; it replaces what is not UTF-8."""
        offset = 0
        for piece in self.stream(job, tail) if follow else [self.logs(job, tail)]:
            if data := piece.encode("utf-8", "replace"):
                offset += len(data)
                yield LogChunk(data, offset - len(data), offset, offset)

    def stream(
        self, job: Job | str, tail: int | None = None, most: int | None = None, skip: bool = False
    ) -> Iterator[str]:
        """Yield the log as it is written until the job has ended; a cluster sends all of it, so none is skipped."""
        job_id, name = self.job_id(job), self._name(job)
        while True:
            try:
                socket = self._open_log(job_id, name)
                break
            except TaskAPIError as refusal:
                self._explain(job_id, name, refusal)
            time.sleep(LOOK_AGAIN)

        def has_ended() -> bool:
            return Job(self, self.job_response(job_id, name).job_status).ended

        # A cluster begins at the beginning: what comes in one go is what there was.
        if tail is not None:
            yield last_lines("".join(frames(socket, QUIET, lambda: True, keep=True)), tail)
        elif most is not None:
            yield newest_text("".join(first(frames(socket, QUIET, lambda: True, keep=True), QUIET)), most)
        if socket.connected:
            yield from frames(socket, SILENCE, has_ended)
        if socket.code != 1000 and not has_ended():
            raise NotKept(
                f"{self.environment} ended the log of job {job_id}, which runs on (a very long line does that)"
            )

    def _open_log(self, job_id: str, api: str) -> Log:
        old = before(self.version(), PODS_SINCE)
        for path in ("logs",) if old else ("streamlogs", "logs"):
            try:
                return Log(self._http.websocket(f"{path}/{api_segment(api)}", {"jobID": job_id}))
            except TaskAPIError as error:
                refusal = error
                if getattr(error, "kind", "") != "error":
                    raise  # the route is there, and said why not
        raise refusal

    def _explain(self, job_id: str, api: str, refusal: TaskAPIError | None) -> None:
        """Return where a log may still come; raise what is to be known where it won't."""
        if not Job(self, self.job_response(job_id, api).job_status).ended:
            return
        try:
            answer = self._http.send("GET", f"logs/{api_segment(api)}", {"jobID": job_id})
            url = self._json(answer, dict).get("log_url")
        except TaskAPIError:
            url = None
        where = f"; it has them at {url}" if isinstance(url, str) and url else ""
        raise NotKept(
            f"{self.environment} is a Cortex cluster, which shows the log of a job while it runs, and job {job_id} has "
            f"ended{where}"
        ) from refusal

    # Answers

    def _json(self, answer: requests.Response, type_: type[T]) -> T:
        value: Any = self._http.read(answer, Any)
        if not isinstance(value, type_):
            raise self._http.foreign(answer)
        return value

    def _converted(self, answer: requests.Response, convert: Callable[[dict[str, Any]], T], raw: Any) -> T:
        try:
            return convert(raw)
        except (msgspec.ValidationError, KeyError, TypeError, AttributeError):
            raise self._http.foreign(answer) from None


def _patience(environment: Environment) -> float:
    """Return how long to wait for the proxy, which says itself when the cluster is slow."""
    return (environment.timeout or 30.0) + 5.0
