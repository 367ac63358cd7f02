"""TaskAPI of a Ray cluster: a home of its own below this machine's, whose supervisor has the Ray engine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from taskapi_jupyter.client.environments_file import Entry
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import files, folders, guard, nesting
from taskapi_jupyter.core.contract import DeployRequest, FileEntry, FileList, JobStatus
from taskapi_jupyter.core.errors import NotFound, NotKept, TaskAPIError, Unavailable
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.core.storage import Storage
from taskapi_jupyter.cortex.form import project_of
from taskapi_jupyter.cortex.operator import Upstream
from taskapi_jupyter.deploy import api_spec
from taskapi_jupyter.service import engine_settings, retention, servers
from taskapi_jupyter.service.outputs import files_in, open_left, open_within
from taskapi_jupyter.service.records import rfc3339
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.connection import Row

from .engine import NOTE, UNREACHABLE
from .job import ENDED, submission_id
from .rest import RayCluster, Refused

FOLDER = "ray"  # of a home, in which each Ray environment has its own

_LOOK_AFTER = 30.0  # seconds from one time to the next
_AT_MOST = 10.0  # seconds that something of it may take


class RayService(Service):
    """Implements ``contract.TaskAPI`` for one Ray cluster.

    ``home_`` is the environment's own home; ``address`` the URL of the cluster's dashboard; ``headers`` let us in;
    ``storage`` is where jobs leave results and files: an absolute path or a URL that fsspec knows, None for nowhere.
    """

    provider = "ray"
    poll_ceiling = 0.1

    def __init__(
        self,
        home_: Path,
        *,
        environment: str,
        address: str,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        storage: str | None = None,
        endpoint: Callable[[str], str | None] | None = None,
    ) -> None:
        guard.enter(home_)
        try:
            self._settings = _settle(
                home_,
                {"provider": "ray", "address": address.rstrip("/"), "headers": dict(headers or {}), "verify": verify},
                storage,
            )
        except OSError as error:
            raise Unavailable(f"can't use {home_} for jobs: {error.strerror}; set TASKAPI_HOME") from None
        self._cluster = RayCluster(self._settings)
        self._storage = Storage(self._settings["storage"]) if storage else None
        self._look_after_at = 0.0
        self._off_list: set[str] = set()  # deleted jobs that the cluster's list is known not to have
        super().__init__(home_, environment=environment, endpoint=endpoint)

    # What is different

    def _build(self, request: DeployRequest, pickle: Path | None) -> api_spec.APISpec:
        """Check a request; the task runs with the variables of a node, not with this machine's."""
        path = os.environ.get("PATH", os.defpath)
        request = msgspec.structs.replace(request, environ={"PATH": path})
        built = api_spec.build(request, files=project_of(request), pickle=pickle, looks_up=False)
        built.launch["env"].pop("PATH", None)
        return built

    def _check_fits(self, built: api_spec.APISpec) -> list[str]:
        """A cluster may grow: what it has not now, a job waits for."""
        return []

    def _visible(self, api: str, version: Row, given: str | None) -> str | None:
        """Ray says which GPUs a job has."""
        return None

    def _before_submit(self) -> None:
        """Raise :class:`Unreachable` where a job would not get anywhere now."""
        self._vouch()

    def _vouch(self) -> None:
        """Have the supervisor use our headers, as the cluster lets in who has them."""
        try:
            self._cluster.session()
        except Refused as error:
            raise Unavailable(f"the Ray cluster at {self._cluster.address} refuses: {error.text[:200]}") from None
        try:
            with files.locked_folder(self.home):
                there = engine_settings.read(str(self.home))
                if there.get("address") != self._cluster.address:
                    raise Unavailable(
                        f"environment {self.environment} is at {there.get('address')} by now, not at "
                        f"{self._cluster.address}: connect to it again"
                    )
                if there["headers"] != self._settings["headers"]:
                    engine_settings.write(str(self.home), {**there, "headers": self._settings["headers"]})
        except OSError as error:
            raise Unavailable(f"can't write to {self.home}: {error.strerror}") from None

    def look_after(self) -> None:
        """See to it that a supervisor is there for jobs in progress. Do, now and then, what it can't do itself.

        It has nobody's variables, by which a cluster and a storage let in: where its headers are good no more it is
        given ours, and what deleted jobs left in the storage and in the cluster's list is removed. May take long, and
        raise :class:`TaskAPIError`.
        """
        self.in_progress()
        now = time.monotonic()
        if now < self._look_after_at:
            return
        self._look_after_at = now + _LOOK_AFTER
        self.renew()
        self._take_off_list()
        retention.finish_forgetting(self.store, self.home, self._storage, {}, _AT_MOST)

    def renew(self) -> None:
        """Where a cluster is away, see whether it is so for who has our headers; it may take some seconds to say."""
        with suppress(TaskAPIError):
            if (
                self._away() is not None
                and engine_settings.read(str(self.home))["headers"] != self._settings["headers"]
            ):
                self._vouch()

    def _patience(self) -> float:
        return super()._patience() + 15.0

    def _tell_what_they_wait_for(self, rows: Sequence[Row]) -> None:
        """A cluster has a line of its own, and says so of what waits in it."""

    def _status(self, row: Row) -> JobStatus:
        status = super()._status(row)
        if status.code in IN_PROGRESS:
            away = self._away()
            if away is not None:
                status.stale = rfc3339(int(away["since"]))
                status.reason = f"as last seen: {away['why']}"
            elif row["status"] == JobCode.RUNNING.value:
                with suppress(OSError):
                    status.reason = files.read(self._folder(row["id"]) / NOTE, 500).decode("utf-8", "replace")
        return status

    def _away(self) -> dict[str, Any] | None:
        try:
            found = nesting.loads(files.read(self.home / UNREACHABLE, 4096))
            return {"since": int(found["since"]), "why": str(found["why"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # What a job left

    def _kept(self) -> Storage:
        if self._storage is None:
            raise NotKept(
                f"environment {self.environment} has no storage, so results and files of its jobs are not kept: "
                "give it one in environments.yaml (storage: a shared folder, s3://…, gs://…)"
            )
        return self._storage

    def output_dir(self, job: Job | str) -> Path:
        """Return the folder that holds what the task left; raise :class:`NotKept` where it is none of this machine."""
        folder = self._kept().folder(self._row(job)["id"])
        if folder is None:
            raise NotKept(f"what jobs of {self.environment} leave is in {self._kept().url}")
        return folder / "files"

    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder; it is there when the job has ended."""
        job_id, kept = self._row(job)["id"], self._kept()
        folder = kept.folder(job_id)
        if folder is not None:
            return files_in(folder / "files")
        found = kept.files(job_id)
        most = folders.MAX_ENTRIES
        return FileList(
            [FileEntry(path, size, rfc3339(int(when * 1e6))) for path, size, when in found[:most]],
            f"only {most:,} of {len(found):,} files are listed" if len(found) > most else None,
        )

    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Open one of those files."""
        job_id, kept = self._row(job)["id"], self._kept()
        folder = kept.folder(job_id)
        if folder is not None:
            return open_within(folder / "files", path)
        if any(name == path for name, _, _ in kept.files(job_id)):
            file = kept.open(job_id, f"files/{path}")
            if file is not None:
                return file
        raise NotFound(f"the job has no file {path!r}")

    def _open_left(self, job_id: str, name: str) -> IO[bytes] | None:
        kept = self._kept()
        folder = kept.folder(job_id)
        return kept.open(job_id, name) if folder is None else open_left(folder.parent, job_id, name)

    def forget(self, job: Job | str) -> str:
        """Delete an ended job, what it left, and it in the cluster's list."""
        job_id = self.job_id(job)
        said = super().forget(job)
        with suppress(TaskAPIError, Refused):
            if self._away() is None:
                self._cluster.delete(submission_id(job_id, self._settings))
                self._off_list.add(job_id)
        return said

    def purge(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        older_than: float | None = None,
    ) -> str:
        """Delete ended jobs, what they left, and them in the cluster's list."""
        said = super().purge(api, status, older_than)
        self._take_off_list()
        return said

    def _take_off_list(self) -> None:
        """Delete in the cluster's list, which grows with it, what was deleted here; what has not ended there, later."""
        with suppress(TaskAPIError, Refused):
            deleted, until = set(self.store.forgotten()), time.monotonic() + _AT_MOST
            self._off_list &= deleted
            deleted -= self._off_list
            if not deleted or self._away() is not None:
                return
            listed = self._cluster.jobs()
            for job_id in deleted:
                name = submission_id(job_id, self._settings)
                if name in listed:
                    if listed[name].get("status") not in ENDED or time.monotonic() > until:
                        continue
                    try:
                        self._cluster.delete(name)
                    except Refused:
                        continue
                self._off_list.add(job_id)


def headers(entry: Entry) -> dict[str, str]:
    """Return what lets us into an environment's cluster, as it is now.

    Raises :class:`Unavailable` where a variable or a file that a header is read from is not there.
    """
    return Upstream(entry.name, entry.address or "", headers=entry.headers).configured()


def connect(home: Path, entry: Entry, endpoint: Callable[[str], str | None] | None = None) -> RayService:
    """Return the service of an environment, whose home is below this machine's; raise as :func:`headers`."""
    assert entry.address is not None
    return RayService(
        home / FOLDER / entry.name,
        environment=entry.name,
        address=entry.address,
        headers=headers(entry),
        verify=str(Path(entry.verify).expanduser()) if isinstance(entry.verify, str) else entry.verify,
        storage=entry.storage,
        endpoint=endpoint or servers.Endpoints(home, entry.name),  # servers are known in this machine's home
    )


def forget_headers(home: Path, name: str) -> None:
    """Have nothing left that lets in, of an environment that was deleted."""
    there = home / FOLDER / name
    if (there / engine_settings.NAME).exists():
        with suppress(OSError, TaskAPIError), files.locked_folder(there):
            engine_settings.write(str(there), {**engine_settings.read(str(there)), "headers": {}})


def _settle(home: Path, settings: dict[str, Any], storage: str | None) -> dict[str, Any]:
    """Write down, where it is not so already, what the supervisor needs of the environment; return ours.

    Headers that others wrote stay until ours were seen to let in: they come from variables of whoever connects.
    """
    with files.locked_folder(home):  # two who come first must not give it two ids
        there = engine_settings.read(str(home))
        home_id = there.get("home_id") or secrets.token_hex(4)
        settings = {**settings, "home_id": home_id, "storage": f"{storage.rstrip('/')}/{home_id}" if storage else None}
        same = there.get("address") == settings["address"]
        written = {**settings, "headers": there.get("headers") or settings["headers"]} if same else settings
        if written != there:
            engine_settings.write(str(home), written)
    return settings
