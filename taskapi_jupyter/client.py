"""TaskAPI over HTTP: a Jupyter server's that has this extension, spoken to as a Cortex operator would be."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec
import requests

from .contract import (
    API,
    MAX_BODY,
    DeployRequest,
    DeployResult,
    EnvironmentsResponse,
    ErrorBody,
    FileEntry,
    FilesResponse,
    JobResponse,
    JobsPage,
    JobSpec,
    JobStatus,
    LogChunk,
    Message,
    encode,
)
from .errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    Conflict,
    Forbidden,
    JobNotFound,
    JobNotInProgress,
    NotAcceptable,
    NotFound,
    QueryParamRequired,
    StopTimeout,
    TaskAPIError,
    TooLarge,
    Unavailable,
    Unreachable,
)
from .jobs import BaseTaskAPI, Job, JobList

JSON = "application/json"
PICKLE = "application/octet-stream"
STOP_TIMEOUT = 90.0  # seconds; a stop is answered once the job is gone, its grace period included
CONNECT_TIMEOUT = 10.0  # seconds

T = TypeVar("T")

BY_KIND: dict[str, type[TaskAPIError]] = {
    error.kind: error
    for error in (
        APIIDNotFound,
        APINotDeployed,
        JobNotFound,
        JobNotInProgress,
        QueryParamRequired,
        StopTimeout,
    )
}
BY_STATUS: dict[int, type[TaskAPIError]] = {
    error.status: error
    for error in (
        BadRequest,
        Conflict,
        Forbidden,
        NotAcceptable,
        NotFound,
        TooLarge,
        Unavailable,
        Unreachable,
    )
}


class Client(BaseTaskAPI):
    """Implements ``contract.TaskAPI`` against ``base_url``, the URL of ``…/taskapi/{env}``.

    ``timeout`` is seconds that the server may be silent. What changes something is never sent twice; a read is
    sent once more when the connection broke.
    """

    provider = "local"

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        environment: str = "local",
        verify: bool | str = True,
        timeout: float = 30.0,
    ) -> None:
        self.base_url = checked(base_url)
        self.environment = environment
        self.timeout = timeout
        self._session = requests.Session()
        # The environment is read here, not by requests: a netrc entry for the host would replace the token.
        self._session.trust_env = False
        self._session.verify = verify
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # the token says who we are
        if not is_loopback(self.base_url):
            self._session.proxies.update(requests.utils.get_environ_proxies(self.base_url))
        self._session.headers.update(headers or {})
        if token:
            self._session.headers["Authorization"] = f"token {token}"

    def __repr__(self) -> str:
        return f"<Client of {self.base_url}>"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # Deploying and submitting

    def deploy_request(self, request: DeployRequest) -> list[DeployResult]:
        """Deploy one prepared API."""
        return self._read(self._send("POST", "deploy", body=encode(request)), list[DeployResult])

    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,
    ) -> Job:
        """Start a job; it is on the server's disk when this returns."""
        given = {"config": config, "timeout": timeout, "notebook": notebook}
        try:
            body = json.dumps({name: value for name, value in given.items() if value is not None}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"config can't be written as JSON: {error}") from None
        answer = self._send("POST", f"tasks/{api_segment(api)}", body=body.encode())
        return self._submitted(self._read(answer, JobSpec))

    def rerun(self, job: Job | str) -> Job:
        """Submit a job's config and timeout again, to the API as it is now."""
        return self._submitted(self._read(self._send("POST", f"{self._path(job)}/rerun"), JobSpec))

    def _submitted(self, spec: JobSpec) -> Job:
        fields = {name: getattr(spec, name) for name in JobSpec.__struct_fields__}
        url = f"{self.base_url}/tasks/{api_segment(spec.api_name)}?jobID={spec.job_id}"
        return Job(self, JobStatus(**fields, status="pending"), url)

    # Reading

    def get(self, api: str | None = None, job_id: str | None = None) -> Any:
        """Return all APIs, one API with its recent jobs, or one job."""
        if api is None:
            return self._read(self._send("GET", "get"), list[API])
        if job_id is None:
            return self._one(self._read(self._send("GET", f"get/{api_segment(api)}"), list[API]), api)
        response = self.job_response(job_id, api)
        return Job(self, response.job_status, response.endpoint)

    def get_version(self, api: str, api_id: str) -> API:
        """Return one version of an API, current or older."""
        answer = self._send("GET", f"get/{api_segment(api)}/{api_segment(api_id)}")
        return self._one(self._read(answer, list[API]), api)

    def _one(self, apis: list[API], name: str) -> API:
        if not apis:
            raise APINotDeployed(name)
        return apis[0]

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it."""
        if api is None:
            return self._read(self._send("GET", self._path(job_id)), JobResponse)
        query = {"jobID": job_id}
        return self._read(self._send("GET", f"tasks/{api_segment(api)}", query), JobResponse)

    def jobs(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobList:
        """Return a page of jobs, newest first."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        query = {"api": api, "status": statuses, "limit": limit, "cursor": cursor}
        page = self._read(self._send("GET", "jobs", query), JobsPage)
        return JobList([Job(self, record) for record in page.jobs], page.next_cursor)

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; return when nothing of it is left."""
        job_id = self.job_id(job)
        name = api or (self.job_response(job_id).job_status.api_name if isinstance(job, str) else job.api_name)
        path = f"tasks/{api_segment(name)}"
        return self._read(self._send("DELETE", path, {"jobID": job_id}, patient=True), Message).message

    def delete(self, api: str) -> str:
        """Delete an API; its jobs in progress are stopped."""
        return self._read(self._send("DELETE", f"delete/{api_segment(api)}", patient=True), Message).message

    def forget(self, job: Job | str) -> str:
        """Delete an ended job, its log, result and files."""
        return self._read(self._send("DELETE", self._path(job)), Message).message

    def environments(self) -> EnvironmentsResponse:
        """Return the environments of the server, this one among them."""
        return self._read(self._send("GET", "../environments"), EnvironmentsResponse)

    # What a job left

    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """Return part of the log; a negative offset counts from the end."""
        answer = self._send("GET", f"{self._path(job)}/log", {"offset": offset, "limit": limit})
        try:
            begin, after, size = (int(answer.headers[f"X-Log-{name}"]) for name in ("Offset", "Next", "Size"))
        except (KeyError, ValueError):
            raise self._foreign(answer) from None
        return LogChunk(answer.content, begin, after, size)

    def result(self, job: Job | str) -> Any:
        """Return what the task returned. A pickle is loaded, which runs code: for jobs of your own only."""
        answer = self._send("GET", f"{self._path(job)}/result", accept=f"{JSON}, {PICKLE}")
        if media_type(answer) != PICKLE:
            try:
                return json.loads(answer.content)
            except ValueError:
                raise self._foreign(answer) from None
        import cloudpickle

        try:
            return cloudpickle.loads(answer.content)
        except Exception as error:  # whatever the pickled objects' own code raises
            raise TaskAPIError(
                f"the result of {self.job_id(job)} can't be unpickled here: {type(error).__name__}: {error}"
            ) from None

    def files(self, job: Job | str) -> list[FileEntry]:
        """List what the task left in its output folder."""
        return self._read(self._send("GET", f"{self._path(job)}/files"), FilesResponse).files

    def read_file(self, job: Job | str, path: str) -> bytes:
        """Return one of those files."""
        if {"", ".", ".."} & set(path.split("/")):  # HTTP clients resolve dots: another route would answer
            raise NotFound(f"the job has no file {path!r}")
        return self._send("GET", f"{self._path(job)}/files/{quote(path)}", accept="*/*").content

    # HTTP

    def _path(self, job: Job | str) -> str:
        job_id = self.job_id(job)
        if not re.fullmatch(r"[\w-]+", job_id):
            raise JobNotFound(job_id[:100])
        return f"jobs/{quote(job_id, safe='')}"

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: bytes | None = None,
        accept: str = JSON,
        patient: bool = False,
    ) -> requests.Response:
        """Send a request and return the answer; raise the error that it stands for."""
        if body is not None and len(body) > MAX_BODY:
            raise TooLarge(f"the body is larger than {MAX_BODY} bytes (10 MiB)")
        headers = {"Accept": accept, **({"Content-Type": JSON} if body is not None else {})}
        timeout = max(self.timeout, STOP_TIMEOUT) if patient else self.timeout
        for tries_left in (1, 0) if method == "GET" else (0,):
            try:
                answer = self._session.request(
                    method,
                    urljoin(f"{self.base_url}/", path),
                    params=query,
                    data=body,
                    headers=headers,
                    timeout=(min(timeout, CONNECT_TIMEOUT), timeout),
                    allow_redirects=False,
                )
                break
            except requests.Timeout:
                raise self._unreachable(f"did not answer within {timeout:g} s") from None
            except requests.RequestException as error:
                if not tries_left:
                    raise self._unreachable(f"can't be reached ({cause(error)})") from None
        if answer.status_code not in (200, 206):
            raise self._error(answer)
        return answer

    def _read(self, answer: requests.Response, type_: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=type_)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._foreign(answer) from None

    def _error(self, answer: requests.Response) -> TaskAPIError:
        """Return the error that an answer stands for."""
        try:
            body = msgspec.json.decode(answer.content, type=ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if answer.status_code in (401, 403):
                return Forbidden(f"{self.base_url} does not let this client in (HTTP {answer.status_code})")
            return self._foreign(answer)
        kind = BY_KIND.get(body.kind) or BY_STATUS.get(answer.status_code)
        # Without __init__, which would make the sentence anew from what it was made of.
        error = TaskAPIError.__new__(kind or TaskAPIError)
        status = None if kind else answer.status_code
        TaskAPIError.__init__(error, body.message, kind=body.kind, status=status)
        return error

    def _unreachable(self, what: str) -> Unreachable:
        return Unreachable(f"{self.base_url} {what}: see whether the Jupyter server there is running")

    def _foreign(self, answer: requests.Response) -> Unreachable:
        return Unreachable(
            f"{self.base_url} did not answer as a TaskAPI (HTTP {answer.status_code}, "
            f"{media_type(answer) or 'no content type'}): see whether the server extension taskapi_jupyter "
            "is enabled there (`jupyter server extension list`) and whether the URL is right"
        )


def api_segment(name: str) -> str:
    """Return an API's name as a segment of a path; dots alone would lead to another path."""
    if name in ("", ".", ".."):
        raise APINotDeployed(repr(name))
    return quote(name, safe="")


def media_type(answer: requests.Response) -> str:
    """Return an answer's media type without its parameters."""
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def checked(url: str) -> str:
    """Return a base URL without a slash at its end, or raise :class:`BadRequest` for one that can't be used."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest(f"{url!r} is no URL of a server: http://… or https://…")
    if parts.username or parts.password or parts.query or parts.fragment:  # not shown: it may hold a secret
        raise BadRequest(f"the URL for {parts.hostname} must end with its path and hold no password: give a token")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Say whether a URL leads to this machine, where no proxy has a place."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def cause(error: BaseException) -> str:
    """Return what lies under an error of requests, in few words; its own text is long."""
    inner: Any = error
    while True:
        nearer = getattr(inner, "reason", None) or next(
            (arg for arg in getattr(inner, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(nearer, BaseException):
            break
        inner = nearer
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = re.sub(r"\[Errno -?\d+\] ", "", str(inner).rpartition("new connection: ")[2])
    return type(inner).__name__ if "://" in text or not text else text[:200]
