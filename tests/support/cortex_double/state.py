"""What a cluster knows, APIs and jobs, in the shapes of its version; no network."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

import yaml

IN_PROGRESS = ("pending", "enqueuing", "running")
LISTED = 10
MAX_BODY = 10 << 20

FIELDS_28 = {
    "": {"name", "kind", "definition", "networking", "compute"},
    "definition": {"path", "config", "python_path", "image", "env", "log_level"},
    "networking": {"endpoint"},
    "compute": {"cpu", "gpu", "inf", "mem"},
}
FIELDS_42 = {
    "": {"name", "kind", "pod", "node_groups", "networking"},
    "pod": {"containers"},
    "networking": {"endpoint"},
}
CONTAINER = {"name", "image", "command", "args", "env", "compute", "liveness_probe"}


class Refusal(Exception):
    """An error as the operator answers it."""

    def __init__(self, message: str, kind: str = "error", status: int = 400) -> None:
        """Keep its parts."""
        super().__init__(message)
        self.status, self.body = status, {"kind": kind, "message": message}


def rfc3339(nanoseconds: int) -> str:
    """Return a time as Go writes it: UTC, nanoseconds, no zeros at the end."""
    seconds, rest = divmod(nanoseconds, 10**9)
    whole = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{whole}{fraction}Z"


def digest(*parts: Any) -> str:
    """Return a short hash of JSON values and bytes."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
    return whole.hexdigest()[:15]


def keys(value: Any, allowed: set[str], where: str) -> dict[str, Any]:
    """Return a mapping none of whose keys is unknown."""
    if not isinstance(value, dict):
        raise Refusal(f"{where}: must be a map")
    for key in value:
        if key not in allowed:
            raise Refusal(f"{where}: key {key!r} is not supported")
    return value


@dataclass
class API:
    """A deployed API."""

    name: str
    spec: dict[str, Any]
    kind: str = "TaskAPI"

    @property
    def id(self) -> str:
        """Return what changes with its specification and its code."""
        return str(self.spec["api_id"])

    @property
    def endpoint(self) -> str:
        """Return its path at the load balancer, without the slash."""
        networking = self.spec.get("networking") or {}
        return str(networking.get("endpoint") or self.name).strip("/")


@dataclass
class Job:
    """A submission; changed in the thread of the operator alone."""

    id: str
    api: API
    config: dict[str, Any] | None
    timeout: int | None
    submitted: int  # nanoseconds since the epoch
    status: str = "pending"
    ended: int | None = None
    lines: list[str] = field(default_factory=list)
    reads: int = 0  # of its status
    script: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def live(self) -> bool:
        """Return whether it is in progress."""
        return self.ended is None

    def change(self, status: str | None = None, line: str | None = None) -> None:
        """Move on, or log a line, and tell who follows."""
        if line is not None:
            self.lines.append(line)
        if status is not None:
            self.status = status
            self.ended = None if status in IN_PROGRESS else time.time_ns()
        self.changed.set()
        self.changed = asyncio.Event()


class Cluster:
    """APIs and jobs of a cluster of one version."""

    def __init__(self, version: str) -> None:
        """Start empty."""
        self.version = version
        self.minor = int(version.split(".")[1])
        self.old = self.minor < 30
        self.balancer_url = ""
        self.apis: dict[str, API] = {}
        self.versions: dict[tuple[str, str], API] = {}
        self.jobs: dict[str, Job] = {}
        self._last = 0

    # Deploying

    def deploy(self, text: bytes, project: bytes | None) -> list[dict[str, Any]]:
        """Deploy the APIs of a configuration."""
        try:
            specs = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Refusal(f"config: {error}") from None
        if not isinstance(specs, list) or not specs:
            raise Refusal("config: must be a list of APIs")
        found = [self.read(spec, project) for spec in specs]
        return [{"api": self.one(api), "message": self.put(api), "error": ""} for api in found]

    def read(self, spec: Any, project: bytes | None) -> API:
        """Return the API that a specification describes, with the fields that this version knows."""
        name = spec.get("name") if isinstance(spec, dict) else None
        if not isinstance(name, str):
            raise Refusal("name: must be defined")
        fields = FIELDS_28 if self.old else FIELDS_42
        for where, allowed in fields.items():
            if not where or where in spec:
                keys(spec[where] if where else spec, allowed, f"{name}: {where}" if where else name)
        if spec.get("kind") != "TaskAPI":
            raise Refusal(f"{name}: kind: {spec.get('kind')!r} is not what this double deploys")
        code = self.check_project(name, spec, project) if self.old else self.check_pod(name, spec)
        part = "predictor_id" if self.old else "pod_id"
        ids = {"api_id": digest(spec, code), "spec_id": digest(spec), part: digest(code)}
        api = API(name, {**spec, **ids})
        api.spec["networking"] = {"endpoint": api.endpoint}
        return api

    @staticmethod
    def check_project(name: str, spec: dict[str, Any], project: bytes | None) -> Any:
        """Return the files of a project, which must hold what the definition names."""
        path = spec.get("definition", {}).get("path")
        if not path:
            raise Refusal(f"{name}: definition: path: must be defined")
        if project is None:
            raise Refusal("request form file must be provided: project.zip")
        try:
            with zipfile.ZipFile(io.BytesIO(project)) as archive:
                files = {one: digest(archive.read(one)) for one in archive.namelist()}
        except zipfile.BadZipFile:
            raise Refusal("project.zip: is not a zip file") from None
        if path not in files:
            raise Refusal(f"{name}: definition: path: {path} does not exist in the project")
        return files

    @staticmethod
    def check_pod(name: str, spec: dict[str, Any]) -> Any:
        """Return a pod, whose containers must have an image."""
        containers = spec.get("pod", {}).get("containers")
        if not isinstance(containers, list) or not containers:
            raise Refusal(f"{name}: pod: containers: must be defined")
        for container in containers:
            if not keys(container, CONTAINER, f"{name}: pod: containers").get("image"):
                raise Refusal(f"{name}: pod: containers: image: must be defined")
        return spec["pod"]

    def put(self, api: API) -> str:
        """Make an API the deployed one of its name, and return what happened."""
        before = self.apis.get(api.name)
        self.apis[api.name] = self.versions[api.name, api.id] = api
        if before is None:
            return f"creating {api.name}"
        return f"{api.name} is up to date" if before.id == api.id else f"updating {api.name}"

    def delete(self, name: str) -> dict[str, Any]:
        """Delete an API and stop its jobs."""
        self.api(name)
        del self.apis[name]
        for job in self.jobs.values():
            if job.api.name == name and job.live:
                self.end(job, "stopped")
        return {"message": f"deleting {name}"}

    # Listing

    def api(self, name: str) -> API:
        """Return a deployed API."""
        if name not in self.apis:
            raise Refusal(f"{name} is not deployed", "resources.api_not_deployed")
        return self.apis[name]

    def metadata(self, api: API) -> dict[str, Any]:
        """Return what 0.42 says of an API in a list."""
        return {"name": api.name, "kind": api.kind, "api_id": api.id}

    def listed(self, api: API) -> dict[str, Any]:
        """Return an API as the list of all has it."""
        head = {"spec": api.spec, "endpoint": self.endpoint(api)} if self.old else {"metadata": self.metadata(api)}
        if api.kind != "TaskAPI":
            return {**head, "status": {"ready": 1}}
        return {**head, "task_job_statuses": [self.view(job) for job in self.newest(api.name) if job.live]}

    def one(self, api: API) -> dict[str, Any]:
        """Return an API as asking for it alone gives it."""
        head = {"spec": api.spec, "endpoint": self.endpoint(api)} | (
            {} if self.old else {"metadata": self.metadata(api)}
        )
        if api.kind != "TaskAPI":
            return {**head, "status": {"ready": 1}}
        jobs = self.newest(api.name)
        live, ended = [job for job in jobs if job.live], [job for job in jobs if not job.live]
        shown = live + ended[: max(0, LISTED - len(live))]
        return {**head, "task_job_statuses": [self.view(job) for job in shown]}

    def one_version(self, name: str, api_id: str) -> dict[str, Any]:
        """Return one version of an API."""
        if (name, api_id) not in self.versions:
            raise Refusal(f"{name} with id {api_id} is not found", "resources.api_id_not_found")
        return {"spec": self.versions[name, api_id].spec}

    def newest(self, name: str) -> list[Job]:
        """Return an API's jobs, newest first."""
        return [self.jobs[one] for one in sorted(self.jobs) if self.jobs[one].api.name == name]

    def endpoint(self, api: API) -> str:
        """Return an API's URL at the load balancer."""
        return f"{self.balancer_url}/{api.endpoint}"

    # Jobs

    def submit(self, name: str, body: bytes) -> Job:
        """Make a pending job."""
        if len(body) > MAX_BODY:
            raise Refusal(f"the request body is larger than {MAX_BODY} bytes")
        api = self.api(name)
        if api.kind != "TaskAPI":
            raise Refusal(f"{name} is a {api.kind}, not a TaskAPI")

        def constant(word: str) -> NoReturn:
            raise ValueError(f"{word} is not JSON")

        try:
            request = json.loads(body, parse_constant=constant)
        except ValueError as error:
            raise Refusal(f"request body: {error}") from None
        if not isinstance(request, dict):
            raise Refusal("request body: must be an object")
        config, timeout = request.get("config"), request.get("timeout")
        if config is not None and not isinstance(config, dict):
            raise Refusal("config: must be an object")
        if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool)):
            raise Refusal("timeout: must be an integer")
        if request.get("workers", 1) != 1:
            raise Refusal("workers: must be 1")
        self._last = max(time.time_ns(), self._last + 1)
        job = Job(f"{2**63 - 1 - self._last:016x}", api, config, timeout, self._last)
        self.jobs[job.id] = job
        return job

    def job(self, name: str, job_id: str) -> Job:
        """Return a job of an API."""
        job = self.jobs.get(job_id)
        if job is None or job.api.name != name:
            raise self.no_job(name, job_id)
        return job

    @staticmethod
    def no_job(name: str, job_id: str) -> Refusal:
        """Return the error of an unknown job."""
        text = f"failed to get job state: unable to find TaskAPI job {job_id} ({name} api)"
        return Refusal(text, "job.not_found")

    def stop(self, name: str, job_id: str) -> dict[str, Any]:
        """Stop a job that is in progress."""
        job = self.job(name, job_id)
        if not job.live:
            text = f"{job_id} ({name} api): cannot stop TaskAPI job because it is not in progress"
            raise Refusal(text, "job.job_is_not_in_progress")
        self.end(job, "stopped")
        return {"message": f"stopped job {job_id}"}

    @staticmethod
    def end(job: Job, status: str) -> None:
        """End a job, and its script with it."""
        job.change(status)
        if job.script is not None:
            job.script.cancel()

    def submitted(self, job: Job) -> dict[str, Any]:
        """Return what is said of a job once it is submitted."""
        part = "predictor_id" if self.old else "pod_id"
        return {
            "job_id": job.id,
            "api_name": job.api.name,
            "kind": "TaskAPI",
            "workers": 1,
            "config": job.config,
            "api_id": job.api.id,
            "spec_id": job.api.spec["spec_id"],
            part: job.api.spec[part],
            "timeout": job.timeout,
            "start_time": rfc3339(job.submitted),
        }

    def view(self, job: Job, status: str | None = None) -> dict[str, Any]:
        """Return a job's status, or what it were if that was another."""
        status, ended = status or job.status, job.ended
        if status not in IN_PROGRESS and ended is None:
            ended = time.time_ns()
        view = {**self.submitted(job), "status": f"status_{status}" if self.old else status}
        if ended is not None:
            view["end_time"] = rfc3339(ended)
        elif self.old:
            view["end_time"] = None
        if status in IN_PROGRESS:
            running = int(status == "running")
            view["worker_counts"] = {"pending": 1 - running, "running": running, "succeeded": 0, "failed": 0}
        return view

    def answer(self, job: Job, status: str | None = None) -> dict[str, Any]:
        """Return the whole answer to a question for a job's status."""
        endpoint = f"{self.endpoint(job.api)}?jobID={job.id}"
        return {"job_status": self.view(job, status), "endpoint": endpoint, "api_spec": job.api.spec}
