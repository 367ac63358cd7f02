"""TaskAPI on this machine: writes wishes into the store, reads it, and wakes the supervisor, which does the rest."""

from __future__ import annotations

import difflib
import json
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import UNSET

from taskapi_jupyter.client import results
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.core import files, folders, guard, host, nesting, room
from taskapi_jupyter.core.contract import (
    MAX_BODY,
    APIVersion,
    DeployedAPI,
    DeployRequest,
    DeployResult,
    FileList,
    JobResponse,
    JobStatus,
    LogChunk,
    Submission,
    convert,
)
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    Conflict,
    JobNotFound,
    JobNotInProgress,
    NotFound,
    ResultNotStored,
    StopTimeout,
    TooLarge,
    Unavailable,
    size,
)
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import MOVES, TERMINAL, JobCode, values
from taskapi_jupyter.core.storage import RESULTS, VIEW, Storage
from taskapi_jupyter.deploy import api_spec
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.runner import capacity, gpus, log_file

from . import config, retention, servers
from .outputs import files_in, open_left, open_within
from .records import fault_of_api, metadata_of, spec_of, status_of, waits_for, waits_for_gpus
from .store import database, readable
from .store.connection import Row
from .store.store import Store
from .supervisor.wake import Waker

Steps = Generator[float, None, str]  # yields the seconds until the next step, returns a sentence

_IN_PROGRESS = [code.value for code in sorted(MOVES)]
_COMPARED = 500  # names that one which isn't deployed is compared with
_LONGEST_ID = 100  # characters of a word that may be a job's id
_LONGEST_NAME = 63  # characters
_LONGEST_PAUSE = 0.2  # seconds between looks at a job that is being stopped
_REMOVING = 45.0  # seconds that who deletes waits for folders to be removed; what is left then goes later
_BEGINS = 1_000_000  # microseconds within which a job that was started has a log, as a rule
_LISTED_WITH_API = 10  # jobs that one API shows: those in progress, topped up


def home() -> Path:
    """Return TASKAPI_HOME, by default ``taskapi/`` in Jupyter's data directory."""
    chosen = os.environ.get("TASKAPI_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "taskapi"


class Service(TaskAPI):
    """Implements ``contract.TaskAPI`` for the jobs of one home. One object serves all threads of a process.

    ``endpoint`` gives the URL of an API, None where it has none; without it, that is at the newest server of this home.
    """

    provider = "local"
    poll_ceiling = 0.05  # a look costs 50 µs here
    _storage: Storage | None = None  # where a cluster's jobs leave results and files

    def __init__(
        self,
        home_: Path | str | None = None,
        *,
        environment: str = "local",
        endpoint: Callable[[str], str | None] | None = None,
    ) -> None:
        if os.name != "posix":
            raise Unavailable("taskapi_jupyter runs jobs on Linux and macOS only")
        self.environment = environment
        self.home = Path(home_).absolute() if home_ is not None else home()  # a supervisor runs in another folder
        self._jobs = self.home / "jobs"
        self._endpoint = endpoint or servers.Endpoints(self.home, environment)
        guard.enter(self.home, ("jobs", "apis"))
        self.waker = Waker(str(self.home))
        self.waker.check()
        _tell_of_network(self.home)
        self.store = Store(self.home / "taskapi.db")
        self.waker.replace_older()
        self._config = config.Config()
        self._config_seen: object = None
        self._limits: dict[str, Any] = {}

    def close(self) -> None:
        """Close the database; jobs go on."""
        self.store.close()

    # Deploying

    def deploy(self, target: Any, *, name: str | None = None, **options: Any) -> list[DeployResult]:
        """Deploy a file, a specification or a callable, with the variables that config.yaml adds."""
        return super().deploy(target, name=name, **{"environ_extra": self.more_variables(), **options})

    def more_variables(self) -> list[str]:
        """Return the names of the variables that config.yaml adds to what a deploy takes along."""
        self._read_config()
        return self._config.environ

    def deploy_request(self, request: DeployRequest, pickle: Path | None = None) -> list[DeployResult]:
        """Deploy one API; raise :class:`BadRequest` where it can't be used or could never be started here.

        ``pickle`` is a file that holds the request's, on the home's disk; what becomes of it later is no matter.
        """
        self.waker.check_place()
        self._check_room()
        self._read_config()
        built = self._build(request, pickle)
        told_too = self._check_fits(built)
        self._write_files(built)
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
        self._write_files(built)  # where they were removed just now, as those of a version that nothing referred to
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
                api=DeployedAPI(spec=api_spec.hidden(built.spec), endpoint=self._endpoint(built.name)),
                message="\n".join([told, *(f"warning: {text}" for text in warnings)]),
                warnings=warnings or UNSET,
            )
        ]

    def _build(self, request: DeployRequest, pickle: Path | None) -> api_spec.APISpec:
        return api_spec.build(request, environ=self._config.environ, pickle=pickle)

    def _check_fits(self, built: api_spec.APISpec) -> list[str]:
        """Raise where a job could never start here; return what is to be said of it beside that."""
        has, count, told = capacity.here(), self._limits["gpus"], list[str]()
        if built.gpu and count is None:
            there = gpus.learn(str(self.home))
            if there.devices is None:
                told = [
                    f"which GPUs this machine has is not known ({there.why}): jobs wait until it is, or until "
                    "config.yaml says how many (`gpus: N`)"
                ]
            else:
                count = gpus.count(there.devices)
        for what, asked, there_is in (
            ("cores", built.cpu / 1000, (self._limits["cpus"] or has.cores) / 1000),
            ("of memory", built.mem or 0, self._limits["mem"] or has.memory),
            ("GPUs", built.gpu, math.inf if count is None else count),
        ):
            if asked > there_is:
                a, b = (size(int(n)) if what == "of memory" else f"{n:.10g}" for n in (asked, there_is))
                raise BadRequest(
                    f"{built.name} asks for {a} {what}, and this machine has {b} for jobs: it could never start"
                )
        return told

    def _visible(self, api: str, version: Row, given: str | None) -> str | None:
        """Return the list of GPUs from which a job may have some; raise where it could never have enough."""
        if not version["gpu"]:
            return None
        given = os.environ.get(gpus.VARIABLE) if given is None else given
        names = gpus.most(given)
        if given is not None and names is not None:
            limit, there = self.store.settings().get("gpus"), gpus.known(str(self.home)).devices
            choices = gpus.visible(given, there, limit)
            names = names if choices is None else len(choices)
            if version["gpu"] > names:
                raise BadRequest(
                    f"{api} asks for {version['gpu']} GPUs, and {gpus.VARIABLE}={given[:200]!r} of who submits names "
                    f"{names} that may be used: it could never start"
                )
        return given

    def _write_files(self, built: api_spec.APISpec) -> None:
        """Write a version's files whole or not at all; the same content is there already."""
        folder = self.home / "apis" / built.api_id
        if folder.exists():
            return
        temporary = None
        try:
            temporary = Path(tempfile.mkdtemp(dir=self.home / "apis", prefix=retention.NEW))
            temporary.chmod(0o700)
            for name, content in built.files.items():
                if isinstance(content, Path):
                    files.link_synced(content, temporary / name)
                    continue
                with open(files.create(temporary / name, os.O_WRONLY | os.O_EXCL), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            fault_point("deploy.temporary")
            temporary.rename(folder)
        except OSError as error:
            if temporary is not None:
                folders.remove(temporary)
            if not folder.exists():  # else another process wrote the same
                raise room.cannot_write(str(folder), error) from None

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
        self._before_submit()
        self._read_config()
        submitted = None if config is None else _json(config)
        if submitted and len(submitted.encode()) > MAX_BODY:
            raise TooLarge(f"config is larger than {size(MAX_BODY)} as JSON")
        defaults = json.loads(version["config"])
        merged = _json(api_spec.merge(defaults, config)) if defaults else None
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
            "visible": self._visible(api, version, cuda_visible_devices),
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
        job = Job(self, status_of(pending, self._jobs), self._job_endpoint(api, job_id))
        self.waker.wake()  # last: from here on the job wants the processor too
        return job

    def _check_room(self) -> None:
        """Raise :class:`Unavailable` where it is known that there is no room for a job, or for what it runs."""
        for folder in (self.home, self._jobs):
            room.check_room(str(folder))

    def _before_submit(self) -> None:
        """Raise where a job would not get anywhere."""

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

    # Reading

    def get(self, api: str | None = None, job_id: str | None = None) -> Any:
        """Return all APIs, one API with its recent jobs, or one job."""
        if api is not None and job_id is not None:
            response = self.job_of(api, job_id)
            return Job(self, response.job_status, response.endpoint)
        if api is None:
            return self._apis()
        row = self.store.api(api)
        if row is None:
            raise self._not_deployed(api)
        jobs = self.jobs(api, _IN_PROGRESS, limit=1000)
        if len(jobs) < _LISTED_WITH_API:
            recent = self.jobs(api, limit=_LISTED_WITH_API)
            ids = {job.id for job in jobs}
            jobs += [job for job in recent if job.id not in ids][: _LISTED_WITH_API - len(jobs)]
        return API(
            spec=spec_of(row),
            metadata=metadata_of(row),
            endpoint=self._endpoint(api),
            task_job_statuses=[job.record for job in jobs],
            api_versions=[
                APIVersion(api_id=one["api_id"], last_updated=one["updated"] // 1_000_000)
                for one in self.store.versions(api)
            ],
        )

    def _apis(self) -> list[API]:
        in_progress: dict[str, list[JobStatus]] = {}
        for job in self.jobs(status=_IN_PROGRESS, limit=1000):
            in_progress.setdefault(job.api_name, []).append(job.record)
        return [
            API(
                spec=spec_of(row),
                metadata=metadata_of(row),
                endpoint=self._endpoint(row["name"]),
                task_job_statuses=in_progress.get(row["name"], []),
            )
            for row in self.store.apis()
        ]

    def get_version(self, api: str, api_id: str) -> API:
        """Return one version of an API, current or older."""
        row = self.store.version(api_id)
        if row is None or row["name"] != api:
            raise APIIDNotFound(api, api_id)
        return API(
            spec=spec_of(row),
            metadata=metadata_of(row),
            endpoint=self._endpoint(api),
        )

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it; it can be read when its API is deleted."""
        return self._response(self._row(job_id))

    def job_of(self, api: str, job_id: str) -> JobResponse:
        """Return a job of an API as the wire has it; raise where the API is not deployed, or the job another's."""
        if self.store.api(api) is None:
            raise self._not_deployed(api)
        return self._response(self._row(job_id, api))

    def _response(self, row: Row) -> JobResponse:
        self._tell_what_they_wait_for([row])
        status = self._status(row)
        version = self.store.version(status.api_id) if status.api_id else None
        return JobResponse(
            job_status=status,
            endpoint=self._job_endpoint(status.api_name, status.job_id),
            api_spec=spec_of(version) if version else {},
        )

    def jobs(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobList:
        """Return a page of jobs, newest first."""
        wanted = _statuses(status, JobCode)
        if not 1 <= limit <= 1000:
            raise BadRequest(f"limit must be from 1 to 1000, not {limit}")
        before = None
        if cursor:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
                raise BadRequest(f"cursor {cursor[:40]!r} is none that a page ended with")
            before = int(cursor)
        self._look_after()
        rows = self.store.jobs(api, wanted, limit + 1, before)
        more = str(rows[limit - 1]["seq"]) if len(rows) > limit else None
        self._tell_what_they_wait_for(rows)
        return JobList([self._job(row) for row in rows[:limit]], more)

    def in_progress(self) -> int:
        """Count the jobs that are pending or running."""
        self._look_after()
        return self.store.count_in_progress()

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; return when nothing of it is left."""
        return _sleeping(self.stopping(job, api))

    def stopping(self, job: Job | str, api: str | None = None) -> Steps:
        """Stop a job as :meth:`stop` does, in steps: whoever takes them needs no thread in between."""
        row = self._row(job, api)
        job_id, name = row["id"], row["api_name"]
        self.waker.check_place()
        if not self.store.request_stop(job_id):
            now = self.store.job(job_id)
            if row["status"] in _IN_PROGRESS and now is not None and now["status"] == JobCode.STOPPED.value:
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
        return _sleeping(self.deleting(api))

    def deleting(self, api: str) -> Steps:
        """Delete an API as :meth:`delete` does, in steps."""
        self.waker.check_place()
        jobs = self.store.delete_api(api)
        if jobs is None:
            raise self._not_deployed(api)
        fault_point("delete.written")
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
        retention.remove_jobs(self.home, [row["id"]], self._storage, stuck, time.monotonic() + _REMOVING)
        if self.store.api(row["api_name"]) is None:
            retention.drop_unused_versions(self.store, self.home, stuck)
        return f"deleted job {row['id']}{self._told(stuck)}"

    def purge(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        older_than: float | None = None,
    ) -> str:
        """Delete all jobs that have ended by now, or those of one API, in some states, or that ended long ago.

        ``older_than`` is a number of days since they ended. What the jobs left goes with them.
        """
        wanted: list[Any] = _statuses(status, TERMINAL) or [*values(TERMINAL), *self.store.odd_states()]
        before = None
        if older_than is not None:
            if not 0 <= older_than < math.inf:
                raise BadRequest(f"older_than is a number of days that is not negative, not {older_than}")
            before = int(host.now_us() - older_than * 86_400_000_000)
        stuck: retention.Stuck = {}
        until = time.monotonic() + _REMOVING
        count = retention.purge(
            self.store, self.home, api, wanted, before, storage=self._storage, stuck=stuck, until=until
        )
        if count:
            retention.drop_unused_versions(self.store, self.home, stuck)
        return f"deleted {count} job{'' if count == 1 else 's'}{self._told(stuck)}"

    def _told(self, stuck: retention.Stuck) -> str:
        """Note what could not be removed, and return it in words."""
        if stuck:
            self.store.set_unremoved({**self.store.unremoved(), **stuck})
        return retention.words(stuck)

    def _patience(self) -> float:
        return float(self.store.settings().get("stop_grace", config.Config().stop_grace)) + 5.0

    def _until_ended(self, job_ids: Iterable[str], patience: float) -> Generator[float, None, dict[str, str | None]]:
        """Return the states that jobs end in; None for those that have not within ``patience`` seconds."""
        ended: dict[str, str | None] = dict.fromkeys(job_ids)
        deadline = time.monotonic() + patience
        pause = 0.002
        while True:
            for job_id in [job_id for job_id, status in ended.items() if status is None]:
                row = self.store.job(job_id)
                if row is None or row["status"] not in _IN_PROGRESS:
                    ended[job_id] = row["status"] if row else JobCode.STOPPED.value
            if all(ended.values()) or time.monotonic() >= deadline:
                return ended
            yield pause
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            self._look_after()

    # What a job left

    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Return part of the log; a negative offset counts from the end."""
        row = self._row(job)
        try:
            return LogChunk(*log_file.read(str(self._folder(row["id"])), offset, limit))
        except OSError as error:
            raise Unavailable(f"the log of {row['id']} can't be read: {error.strerror}") from None

    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Return the name of the file that holds a job's result, and the file.

        With ``view``, of one that is pickled what JSON has of it, where that is something. Raises :class:`NotFound`
        where the job has no result, :class:`ResultNotStored` where it should have one.
        """
        row = self._row(job)
        for name in (RESULTS[0], *([VIEW] if view else []), RESULTS[1]):
            file = self._open_left(row["id"], name)
            if file is not None:
                return name, file
        whole = self.store.whole_job(row["id"])
        what = f"{row['id']} ({row['api_name']} api)"
        if row["status"] != JobCode.SUCCEEDED.value or whole is None or _is_command(whole["launch"]):
            raise NotFound(f"{what} has no result")
        raise ResultNotStored(f"{what}: {row['reason'] or 'its result is gone'}")

    def _open_left(self, job_id: str, name: str) -> IO[bytes] | None:
        return open_left(self._jobs, job_id, name)

    def result(self, job: Job | str) -> Any:
        """Return what the task returned. A pickle is loaded: call this for jobs of your own only, never in a server."""
        row = self._row(job)
        name, file = self.open_result(row["id"])
        with file:
            data = file.read()
        if name == RESULTS[0]:
            try:
                return nesting.loads(data)
            except ValueError as error:  # a task may have written one itself
                raise ResultNotStored(f"the result of job {row['id']} can't be read: {error}") from None
        return results.load(data, row["id"], self.home / "apis" / row["api_id"])

    def output_dir(self, job: Job | str) -> Path:
        """Return the folder that the task finds as ``TASKAPI_OUTPUT_DIR``."""
        return self._folder(self._row(job)["id"]) / "files"

    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder, links aside."""
        return files_in(self.output_dir(job))

    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Open one of those files; a path that leads outside, by dots or by links, is not found."""
        return open_within(self.output_dir(job), path)

    # Rows into Structs

    def _not_deployed(self, api: str) -> APINotDeployed:
        """Return the error for an API that isn't there, with the one that may be meant."""
        near = difflib.get_close_matches(api[:_LONGEST_NAME], self.store.api_names(_COMPARED), 1)
        return APINotDeployed(api, *near)

    def _folder(self, job_id: str) -> Path:
        return self._jobs / job_id

    def _row(self, job: Job | str, api: str | None = None) -> Row:
        job_id = self.job_id(job)
        self._look_after()
        row = self.store.job(job_id) if len(job_id) <= _LONGEST_ID and readable.is_utf8(job_id) else None
        if row is None or (api is not None and row["api_name"] != api):
            raise JobNotFound(job_id, api)
        return row

    def _job(self, row: Row) -> Job:
        status = self._status(row)
        return Job(self, status, self._job_endpoint(status.api_name, status.job_id))

    def _job_endpoint(self, api: str, job_id: str) -> str | None:
        endpoint = self._endpoint(api)
        return None if endpoint is None else f"{endpoint}?jobID={job_id}"

    def _tell_what_they_wait_for(self, rows: Sequence[Row]) -> None:
        """Give each pending job what it waits for as its reason, by as many queries as one job takes."""
        rows = [row for row in rows if not readable.fault(row)]
        pending = [row for row in rows if row["status"] == JobCode.PENDING.value]
        obstacle = room.obstacle(self.home) or room.obstacle(self._jobs)
        for row in rows:
            late = row["status"] == JobCode.RUNNING.value and host.now_us() - row["started"] > _BEGINS
            if late and not os.path.lexists(self._folder(row["id"]) / "log"):
                log = f"{self.home / 'supervisor.log'} says what for"
                row["reason"] = f"waits to begin: {obstacle.strerror if obstacle else log}"
        if not pending:
            return
        has = capacity.here()
        there = {"cpus": has.cores, "mem": has.memory, "gpus": None}
        limits = {**there, **{key: value for key, value in self.store.settings().items() if value is not None}}
        held, known = self.store.held(), gpus.known(str(self.home))
        places = {seq: index for index, seq in enumerate(self.store.line(max(row["seq"] for row in pending)), 1)}
        for row in pending:
            wanted = waits_for_gpus(row, limits["gpus"], known, held) if row["gpu"] else None
            row["reason"] = waits_for(row, places.get(row["seq"]), held, limits, wanted)
            if obstacle is not None:
                row["reason"] = ", ".join(filter(None, (f"waits for its disk: {obstacle.strerror}", row["reason"])))

    def _status(self, row: Row) -> JobStatus:
        return status_of(row, self._jobs)

    # The supervisor and its limits

    def _read_config(self) -> None:
        """Read config.yaml again where it changed, and leave its limits in the store for the supervisor."""
        path = self.home / "config.yaml"
        try:
            about = path.lstat()
            seen: tuple[int, ...] | None = (about.st_mtime_ns, about.st_ino, about.st_mode)
        except OSError:
            seen = None
        is_as_seen = (seen, self.store.identity())  # another database has no limits yet
        if is_as_seen == self._config_seen:
            return
        self._config = config.read(path)
        limits = self._config.limits()
        if self.store.settings() != limits:
            self.store.set_settings(limits)
        self._limits = limits
        self._config_seen = is_as_seen

    def _look_after(self) -> None:
        """Start a supervisor where jobs are in progress and none lives."""
        if self.store.any_in_progress() and not self.waker.alive():
            self.waker.check_place()
            self.waker.wake()


def _sleeping(steps: Steps) -> str:
    """Take steps in this thread, which sleeps in between; return what they return."""
    while True:
        try:
            time.sleep(next(steps))
        except StopIteration as end:
            return str(end.value)


_told: set[Path] = set()  # homes of which it was said that they lie on a network file system


def _tell_of_network(home_: Path) -> None:
    """Warn, once, of what a network file system means."""
    text = database.of_network(str(home_))
    if text is not None and home_ not in _told:
        _told.add(home_)
        warnings.warn(
            f"{text}, which is slower, and one host at a time may run jobs in it; set TASKAPI_HOME to a local folder "
            "where there is one",
            RuntimeWarning,
            stacklevel=3,
        )


def _unlike(path: str, other: str) -> str:
    """Return a path's last part, or all of it where the other one ends alike."""
    return os.path.basename(path) if os.path.basename(path) != os.path.basename(other) else path


def _ago(us: int) -> str:
    """Say how long ago something was, given in microseconds, such as ``3 minutes ago``."""
    seconds = max(us // 1_000_000, 1)
    size, unit = next(
        one for one in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")) if seconds >= one[0]
    )
    return f"{seconds // size} {unit}{'' if seconds // size == 1 else 's'} ago"


def _is_command(launch: Any) -> bool:
    """Whether a version's tasks are commands, which return nothing."""
    try:
        return readable.mapping(launch).get("kind") == "command"
    except ValueError:
        return False


def _check_parameters(api: str, of: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` where a config lacks a parameter of the task, or has a key that is none."""
    parameters = api_spec.parameters.of(of)
    if parameters is not None and (complaint := api_spec.parameters.complaint(parameters, config)):
        raise BadRequest(f"{api}: {complaint}")


def _statuses(given: str | Sequence[str] | None, among: Iterable[JobCode]) -> list[str]:
    """Return the states that were named; raise :class:`BadRequest` for one that is not among those it may be."""
    statuses = [given] if isinstance(given, str) else list(given or ())
    known = values(among)
    for one in statuses:
        if one not in known:
            raise BadRequest(f"status {one!r} is none of {', '.join(known)}")
    return statuses


def _json(value: Any) -> str:
    """Return a config, which is plain, as JSON text."""
    return json.dumps(value, ensure_ascii=False)
