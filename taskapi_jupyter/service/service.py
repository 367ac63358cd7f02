"""TaskAPI on this machine: writes jobs and requests into the store and wakes the supervisor, which does the rest."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET

from taskapi_jupyter.client.bell import Listener
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host, room
from taskapi_jupyter.core.contract import MAX_BODY, DeployedAPI, DeployRequest, DeployResult, Submission, convert
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    BadRequest,
    Conflict,
    JobNotFound,
    JobNotInProgress,
    StopTimeout,
    TooLarge,
    Unavailable,
    size,
)
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import TERMINAL, JobCode, values
from taskapi_jupyter.deploy.api_spec.variables import hidden
from taskapi_jupyter.deploy.values import merge, plain_config
from taskapi_jupyter.runner import gpus

from . import retention, versions
from .config import Config
from .reading import IN_PROGRESS, Reading, named_states
from .records import fault_of_api, status_of
from .store import readable
from .store.connection import Row

Steps = Generator[float, None, str]  # yields the seconds until the next step, returns a sentence

_LONGEST_PAUSE = 0.2  # seconds between looks at a job that is being stopped
_REMOVING = 45.0  # seconds that a deletion waits for folders to be removed; retention removes the rest


class Service(Reading):
    """The TaskAPI of one home. One object serves all threads of a process.

    ``endpoint`` returns the URL of an API, or None; by default its URL at the newest Jupyter server of this home.
    ``placement`` is where jobs run, by default this machine; ``outputs`` is where they leave results and files, by
    default in the home.
    """

    # Deploying

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy a file, a specification or a callable, with the variables that config.yaml adds."""
        return super().deploy(target, name=name, **{"environ_extra": self.more_variables(), **options})

    def more_variables(self) -> list[str]:
        """Return the names of the environment variables that config.yaml adds to each deploy."""
        return self._config.read().environ

    def deploy_request(self, request: DeployRequest, pickle: Path | None = None) -> list[DeployResult]:
        """Deploy one API; raise :class:`BadRequest` where it is invalid or could never be started here.

        ``pickle`` is a file with the request's pickle, on the home's disk; it may be removed afterwards.
        """
        self.waker.check_place()
        self._check_room()
        built = self._placement.build(request, self._config.read().environ, pickle)
        told_too = self._placement.check_fits(built)
        versions.write(self.paths.apis, built)
        fault_point("deploy.written")
        now = host.now_us()
        version = {
            "api_id": built.api_id,
            "name": built.name,
            "spec_id": built.spec_id,
            "updated": now,
            "timeout": built.timeout,
            "run_timeout": built.run_timeout,
            "cpu": built.cpu,
            "mem": built.mem,
            "gpu": built.gpu,
            "spec": json.dumps(built.spec),
            "config": _json(built.config),
            "launch": json.dumps(built.launch),
        }
        what, old = self.store.put_api(version, now, request.notebook)
        fault_point("deploy.deployed")
        self.waker.tell()
        versions.write(self.paths.apis, built)  # where retention has just removed them, as those of an unused version
        told = {
            "created": f"created {built.name} (TaskAPI)",
            "updated": f"updated {built.name} (TaskAPI)",
            "unchanged": f"{built.name} (TaskAPI) is up to date",
        }[what]
        warnings = [*built.warnings, *told_too]
        if what == "updated" and old["notebook"] and request.notebook and old["notebook"] != request.notebook:
            other = _unlike(old["notebook"], request.notebook)
            warnings.append(f"{built.name} was deployed from {other} {_ago(now - old['updated'])}; replaced")
        return [
            DeployResult(
                api=DeployedAPI(spec=hidden(built.spec), endpoint=self._endpoint(built.name)),
                message="\n".join([told, *(f"warning: {text}" for text in warnings)]),
                warnings=warnings or UNSET,
            )
        ]

    # Submitting

    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,
        api_id: str | None = None,
        run_timeout: int | None = None,
        cuda_visible_devices: str | None = None,
    ) -> Job:
        """Write a pending job and wake the supervisor; the job is on disk when this returns."""
        config = None if config is None else plain_config(config)
        convert({"config": config, "timeout": timeout, "notebook": notebook, "run_timeout": run_timeout}, Submission)
        self.waker.check_place()
        self._check_room()
        version = self.store.api(api)
        if version is None:
            raise self._not_deployed(api)
        if api_id is not None:
            version = self.store.version(api_id)
            if version is None or version["name"] != api:
                raise APIIDNotFound(api, api_id)
        if wrong := fault_of_api(version):
            raise Unavailable(f"{api} can't be read from the database ({wrong}): deploy it again")
        self._placement.check_reachable()
        self._config.read()
        submitted = None if config is None else _json(config)
        if submitted and len(submitted.encode()) > MAX_BODY:
            raise TooLarge(f"config is larger than {size(MAX_BODY)} as JSON")
        defaults = json.loads(version["config"])
        merged = _json(merge(defaults, config)) if defaults else None
        if '"parameters"' in version["spec"]:
            _check_parameters(api, json.loads(version["spec"]), {**defaults, **(config or {})})
        if timeout is None:
            timeout = version["timeout"]
        if run_timeout is None:
            run_timeout = version["run_timeout"]
        now_ns = time.time_ns()
        row: Row = {
            "api_name": api,
            "api_id": version["api_id"],
            "spec_id": version["spec_id"],
            "created": now_ns // 1000,
            "timeout": timeout,
            "run_timeout": run_timeout,
            "boot": host.boot_id(),
            "deadline": None if timeout is None else host.boottime() + timeout,
            "notebook": notebook,
            "cpu": version["cpu"],
            "mem": version["mem"],
            "gpu": version["gpu"],
            "visible": self._placement.visible(api, version, cuda_visible_devices),
            "config": submitted,
            "merged": merged,
        }
        job_id = self.store.add_job(row, (1 << 63) - 1 - now_ns)
        fault_point("submit.written")
        pending = {
            **row,
            "id": job_id,
            "status": "pending",
            "started": None,
            "ended": None,
            "reason": None,
            "exit_code": None,
            "progress": None,
        }
        job = Job(self, status_of(pending, self.paths.jobs), self._job_endpoint(api, job_id))
        self.waker.wake()  # last: from here on the job competes for the processor
        return job

    def _check_room(self) -> None:
        """Raise :class:`Unavailable` where the disk is known to have no room for a job or a version."""
        for folder in (self.home, self.paths.jobs):
            room.check_room(str(folder))

    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job's config and timeouts again: to the API as it is now, or (``same``) to the job's own version."""
        row = self._row(job)
        if wrong := readable.fault(row):
            raise Conflict(f"job {readable.text(row['id'])} can't be read from the database ({wrong}): submit anew")
        try:
            submitted = readable.config(row["config"])
        except ValueError as error:
            raise Conflict(f"the config of job {row['id']} {error}: submit anew") from None
        api_id = row["api_id"] if same else None
        return self.submit(
            row["api_name"],
            submitted,
            row["timeout"],
            notebook=row["notebook"],
            api_id=api_id,
            run_timeout=row["run_timeout"],
            cuda_visible_devices=os.environ.get(gpus.VARIABLE, row["visible"]),
        )

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; return when none of its processes is left."""
        return self._sleeping(self.stopping(job, api))

    def stopping(self, job: Job | str, api: str | None = None) -> Steps:
        """Stop a job as :meth:`stop` does, in steps: the caller needs no thread between them."""
        row = self._row(job, api)
        job_id, name = row["id"], row["api_name"]
        self.waker.check_place()
        if not self.store.request_stop(job_id):
            now = self.store.job(job_id)
            if row["status"] in IN_PROGRESS and now is not None and now["status"] == JobCode.STOPPED.value:
                return f"stopped job {job_id}"  # by somebody who asked at the same time
            raise JobNotInProgress(job_id, name)
        fault_point("stop.wished")
        self.waker.wake()
        patience = self._patience()
        status = (yield from self._until_ended([job_id], patience))[job_id]
        if status is None:
            raise StopTimeout(job_id, name, patience)
        if status != JobCode.STOPPED.value:  # it ended by itself before the stop reached it
            raise JobNotInProgress(job_id, name)
        return f"stopped job {job_id}"

    def delete(self, api: str) -> str:
        """Delete an API and stop its jobs; ended ones stay readable."""
        return self._sleeping(self.deleting(api))

    def deleting(self, api: str) -> Steps:
        """Delete an API as :meth:`delete` does, in steps."""
        self.waker.check_place()
        jobs = self.store.delete_api(api)
        if jobs is None:
            raise self._not_deployed(api)
        fault_point("delete.written")
        self.waker.tell()
        if jobs:
            self.waker.wake()
            patience = self._patience()
            for job_id, status in (yield from self._until_ended(jobs, patience)).items():
                if status is None:
                    raise StopTimeout(job_id, api, patience)
        fault_point("delete.stopped")
        stuck: retention.Stuck = {}
        retention.drop_unused_versions(self.store, self.home, stuck)
        return f"deleted {api}{self._told(stuck)}"

    def forget(self, job: Job | str) -> str:
        """Delete an ended job, its log, result and files."""
        row = self._row(job)
        if not self.store.forget(row["id"], force=bool(readable.fault({"id": row["id"]}))):
            if self.store.job(row["id"]) is None:
                raise JobNotFound(row["id"], row["api_name"])
            raise Conflict(
                f"{row['id']} ({row['api_name']} api): can't be deleted while it is in progress; stop it first"
            )
        fault_point("forget.forgotten")
        stuck: retention.Stuck = {}
        retention.remove_jobs(self.home, [row["id"]], self._outputs.storage, stuck, time.monotonic() + _REMOVING)
        if self.store.api(row["api_name"]) is None:
            retention.drop_unused_versions(self.store, self.home, stuck)
        self._placement.deleted(row["id"])
        return f"deleted job {row['id']}{self._told(stuck)}"

    def purge(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        older_than: float | None = None,
    ) -> str:
        """Delete ended jobs with what they left: all, or those of one API, in some states, or that ended long ago.

        ``older_than``: only jobs that ended more than so many days ago.
        """
        wanted: list[Any] = named_states(status, TERMINAL) or [*values(TERMINAL), *self.store.odd_states()]
        before = None
        if older_than is not None:
            if not 0 <= older_than < math.inf:
                raise BadRequest(f"older_than must be a number of days from 0 on, not {older_than}")
            before = int(host.now_us() - older_than * 86_400_000_000)
        stuck: retention.Stuck = {}
        until = time.monotonic() + _REMOVING
        count = retention.purge(
            self.store, self.home, api, wanted, before, storage=self._outputs.storage, stuck=stuck, until=until
        )
        if count:
            retention.drop_unused_versions(self.store, self.home, stuck)
        self._placement.deleted()
        return f"deleted {count} job{'' if count == 1 else 's'}{self._told(stuck)}"

    def _told(self, stuck: retention.Stuck) -> str:
        """Record what could not be removed, and return the end of the message that names it."""
        if stuck:
            self.store.set_unremoved({**self.store.unremoved(), **stuck})
        return retention.words(stuck)

    def _sleeping(self, steps: Steps) -> str:
        """Take steps in this thread, which sleeps in between until something changes; return what they return."""
        changed = threading.Event()
        with Listener(self.home, changed.set):
            while True:
                try:
                    changed.wait(next(steps))
                except StopIteration as end:
                    return str(end.value)
                changed.clear()

    def _patience(self) -> float:
        return float(self.store.settings().get("stop_grace", Config().stop_grace)) + self._placement.stop_margin

    def _until_ended(self, job_ids: Iterable[str], patience: float) -> Generator[float, None, dict[str, str | None]]:
        """Wait for jobs to end and return their states: None for one that has not ended after ``patience`` seconds."""
        ended: dict[str, str | None] = dict.fromkeys(job_ids)
        deadline = time.monotonic() + patience
        pauses = host.backoff(0.002, _LONGEST_PAUSE)
        while True:
            for job_id in [job_id for job_id, status in ended.items() if status is None]:
                row = self.store.job(job_id)
                if row is None or row["status"] not in IN_PROGRESS:
                    ended[job_id] = row["status"] if row else JobCode.STOPPED.value
            if all(ended.values()) or time.monotonic() >= deadline:
                return ended
            yield next(pauses)
            self._keep_supervisor()


def _unlike(path: str, other: str) -> str:
    """Return a path's last part, or the whole path where the other one has the same last part."""
    return os.path.basename(path) if os.path.basename(path) != os.path.basename(other) else path


def _ago(us: int) -> str:
    """Return a time span in microseconds as text, such as ``3 minutes ago``."""
    seconds = max(us // 1_000_000, 1)
    size, unit = next(
        one for one in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")) if seconds >= one[0]
    )
    return f"{seconds // size} {unit}{'' if seconds // size == 1 else 's'} ago"


def _check_parameters(api: str, of: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` where a config lacks a parameter of the task or has an unknown key."""
    from taskapi_jupyter.deploy.api_spec import parameters

    known = parameters.of(of)
    if known is not None and (complaint := parameters.complaint(known, config)):
        raise BadRequest(f"{api}: {complaint}")


def _json(value: Any) -> str:
    """Return a plain config as JSON text."""
    return json.dumps(value, ensure_ascii=False)
