"""TaskAPI on this machine: writes jobs and requests into the store and wakes the supervisor, which does the rest."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET

from taskapi_jupyter.client.bell import Listener
from taskapi_jupyter.client.packages import chosen
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import files, host
from taskapi_jupyter.core.contract import DeployedAPI, DeployRequest, DeployResult
from taskapi_jupyter.core.errors import (
    BadRequest,
    Conflict,
    JobIsRunning,
    JobNotFound,
    JobNotInProgress,
    NoKernel,
    StopTimeout,
    Unavailable,
    printable,
)
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import TERMINAL, JobCode, values
from taskapi_jupyter.deploy.api_spec.variables import hidden

from . import packages, retention
from .config import Config
from .reading import IN_PROGRESS, named_states
from .records import fault_of_api
from .store import readable
from .store.connection import Row
from .writing import plans, versions
from .writing.schedules import Schedules
from .writing.submissions import as_json

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.api_spec.build import APISpec

Steps = Generator[float, None, str]  # yields the seconds until the next step, returns a sentence

_LONGEST_PAUSE = 0.2  # seconds between looks at a job that is being stopped
_JOBS_NAMED = 5  # in a sentence
_REMOVING = 45.0  # seconds that a deletion waits for folders to be removed; retention removes the rest


class Service(Schedules):
    """The TaskAPI of one home. One object serves all threads of a process.

    ``endpoint`` returns the URL of an API, or None; by default its URL at the newest Jupyter server of this home.
    ``placement`` is where jobs run, by default this machine; ``outputs`` is where they leave results and files, by
    default in the home.
    """

    # Deploying

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
        self.names_to_notify(built.spec.get("notify") or [])
        if request.name_from_file:
            self._check_is_own(built.name, built.launch.get("origin"))
        if request.transient and (there := self.store.api(built.name)) and not there["transient"]:
            raise Conflict(f"{built.name} is already deployed, and was not by an executor: give that another name")
        if request.dry_run:
            return [self._planned(built, told_too)]
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
            "config": as_json(built.config),
            "launch": json.dumps(built.launch),
        }
        what, old = self.store.put_api(version, now, request.notebook, request.transient)
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

    def _planned(self, built: APISpec, warnings: list[str]) -> DeployResult:
        """Return what a deploy would do; nothing is written."""
        there = self.store.api(built.name)
        told = f"would {'create' if there is None else 'update'} {built.name} (TaskAPI)"
        if there is not None and there["api_id"] == built.api_id:
            told = f"{built.name} (TaskAPI) is up to date"
        warnings = [*built.warnings, *warnings]
        return DeployResult(
            api=DeployedAPI(spec=hidden(built.spec), endpoint=self._endpoint(built.name)),
            message="\n".join([told, *(f"warning: {text}" for text in warnings)]),
            warnings=warnings or UNSET,
            plan=plans.plan(built),
        )

    def _check_is_own(self, name: str, path: str | None) -> None:
        """Raise :class:`BadRequest` where an API of that name was deployed from another file than this notebook."""
        there = self.store.api(name)
        if there is None or fault_of_api(there):  # a deploy replaces what can't be read
            return
        origin = json.loads(there["launch"]).get("origin")
        if origin is None or origin != path:
            source = origin or there["deployed_from"]
            where = f" from {printable(source)}" if source else ""
            raise BadRequest(
                f"{name} is already deployed{where}: give this one another name with --name, or --name {name} to "
                "replace it"
            )

    # Ending

    def stop(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job; return when none of its processes is left."""
        return self._sleeping(self.stopping(job, api))

    def stopping(self, job: Job | str, api: str | None = None) -> Steps:
        """Stop a job as :meth:`stop` does, in steps: the caller needs no thread between them."""
        asked = row = self._row(job, api)
        self.waker.check_place()
        while True:
            row = self._last_attempt(row)
            job_id, name = row["id"], row["api_name"]
            if self.store.request_stop(job_id):
                break
            now = self.store.job(job_id)
            if now is not None and now["retried_by"]:
                continue  # it has failed just now, and is tried again
            if row["status"] in IN_PROGRESS and now is not None and now["status"] == JobCode.STOPPED.value:
                break  # by somebody who asked at the same time
            raise JobNotInProgress(job_id, name)
        fault_point("stop.wished")
        self.waker.wake()
        patience = self._patience()
        status = (yield from self._until_ended([job_id], patience))[job_id]
        if status is None:
            raise StopTimeout(job_id, name, patience)
        if status != JobCode.STOPPED.value:  # it ended by itself before the stop reached it
            raise JobNotInProgress(job_id, name)
        return f"stopped job {job_id}" + ("" if row is asked else f", attempt {row['attempt']} of {asked['id']}")

    def cancel(self, job: Job | str, api: str | None = None) -> str:
        """Stop a job, or its last attempt, unless it has started."""
        row = self._row(job, api)
        self.waker.check_place()
        while True:
            row = self._last_attempt(row)
            job_id, name = row["id"], row["api_name"]
            if self.store.cancel(job_id):
                fault_point("cancel.written")
                self.waker.wake()  # another job may start in its place
                return f"stopped job {job_id}"
            now = self.store.job(job_id)
            if now is None or not now["retried_by"]:
                break
        if now is not None and now["status"] in IN_PROGRESS:
            raise JobIsRunning(job_id, name)
        raise JobNotInProgress(job_id, name)

    def _last_attempt(self, row: Row) -> Row:
        """Return the row of a job's last attempt."""
        while row["retried_by"] and (found := self.store.job(row["retried_by"])) is not None:
            row = found
        return row

    def stop_group(self, group: str) -> str:
        """Stop all jobs of a group; return when nothing of any is left."""
        return self._sleeping(self.stopping_group(group))

    def stopping_group(self, group: str) -> Steps:
        """Stop a group as :meth:`stop_group` does, in steps."""
        found = self._group_row(group)
        self.waker.check_place()
        count, running = self.store.stop_group(found["id"])
        fault_point("group.stopped")
        if count or running:
            self.waker.wake()  # jobs may have waited for these
        if running:
            patience = self._patience()
            ended = yield from self._until_ended(running, patience)
            count += sum(status == JobCode.STOPPED.value for status in ended.values())
            for job_id, status in ended.items():
                if status is None:
                    raise StopTimeout(job_id, found["api_name"], patience)
        return f"stopped {count} job{'' if count == 1 else 's'} of group {_called(found)}"

    def forget_group(self, group: str) -> str:
        """Delete a group that has ended, with all attempts of its jobs, their logs, results and files."""
        found = self._group_row(group)
        if self.store.group_jobs_in(found["id"], IN_PROGRESS):
            raise Conflict(f"group {_called(found)} can't be deleted while jobs of it are in progress; stop it first")
        stuck: retention.Stuck = {}
        until = time.monotonic() + _REMOVING
        count = retention.forget_group(
            self.store, self.home, found["id"], storage=self._outputs.storage, stuck=stuck, until=until
        )
        retention.drop_unused_versions(self.store, self.home, stuck)
        self._placement.deleted()
        return f"deleted group {_called(found)}, {count} job{'' if count == 1 else 's'}{self._told(stuck)}"

    def ask_kernel(self, job: Job | str, what: Literal["resume", "end"]) -> str:
        """Leave a request for the runner of a notebook, which looks for it while it keeps a kernel."""
        job_id = self._row(job)["id"]
        self.kernel(job_id)
        self.waker.check_place()
        request = self.paths.job(job_id).kernel_request
        written = request.with_name(f".kernel-request.{os.getpid()}-{time.monotonic_ns()}.tmp")
        try:
            files.write(written, what.encode())
            try:
                os.link(written, request)  # there whole or not at all, and only one at a time
            finally:
                written.unlink()
        except FileExistsError:
            raise NoKernel(f"job {job_id} has been asked already to go on, or to end its kernel") from None
        except OSError as error:
            raise Unavailable(f"can't ask the kernel of job {job_id}: {error.strerror}") from None
        try:
            self.kernel(job_id)
        except NoKernel:  # its time was over just now, and nobody may find this at the next failure
            request.unlink(missing_ok=True)
            raise
        told = {"resume": f"job {job_id} goes on from the cell that failed", "end": f"job {job_id} ends its kernel"}
        return told[what]

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
        if self.store.unsettled():
            self.waker.wake()  # jobs waited for this one, whose row could not be read
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

    def delete_packages(self, key: str) -> str:
        """Delete an environment of packages that nothing needs now, by its key or the first digits of that."""
        whole = chosen(packages.keys(self.home), key)
        what = f"environment {whole[: packages.SHOWN]}"
        if jobs := self._jobs_in(whole):
            raise Conflict(f"{what} can't be deleted while {jobs}; stop them, or wait until they have ended")
        stuck: retention.Stuck = {}
        if user := packages.remove(self.home, whole, stuck):
            raise Conflict(f"{what} can't be deleted while {user}")
        return f"deleted {what}{self._told(stuck)}"

    def _jobs_in(self, key: str) -> str:
        """Say which jobs in progress need an environment of packages; nothing where none does."""
        needs = [one for one in packages.needs(self.store).get(key, []) if one.jobs]
        named = [
            f"{job_id} ({one.api})"
            for one in needs
            for job_id in self.store.in_progress_of(one.api, one.api_id, _JOBS_NAMED)
        ]
        count = sum(one.jobs for one in needs)
        shown = named[:_JOBS_NAMED]
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        return f"jobs in progress need it: {', '.join(shown)}{more}" if shown else ""

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


def _called(group: Row) -> str:
    return f"{group['name']} ({group['id']})" if group["name"] else str(group["id"])


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
