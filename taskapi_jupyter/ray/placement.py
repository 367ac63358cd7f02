"""A Ray cluster as the placement of a service: which APIs it accepts, and its jobs while it is unreachable."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.contract import DeployRequest, JobStatus, KernelEntry
from taskapi_jupyter.core.errors import BadRequest, NotKept, TaskAPIError, Unavailable
from taskapi_jupyter.core.states import IN_PROGRESS, JobCode
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.deploy.api_spec.build import APISpec, build
from taskapi_jupyter.deploy.project import project_of
from taskapi_jupyter.deploy.values import masked
from taskapi_jupyter.service import engine_settings
from taskapi_jupyter.service.limits import ThisMachine
from taskapi_jupyter.service.records import rfc3339, status_of
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.store import Store

from .engine import NOTE, UNREACHABLE
from .job import ENDED, submission_id
from .rest import RayCluster, Refused

AT_MOST = 10.0  # seconds that one round of cleaning up may take


class OnRay(ThisMachine):
    """A Ray cluster, for the service of one environment; ``settings`` are those of its engine, with our headers."""

    stop_margin = 20.0

    def __init__(self, environment: str, settings: Mapping[str, Any], home: Path, store: Store) -> None:
        super().__init__(home, store)
        self._environment, self._settings = environment, settings
        self._cluster = RayCluster(settings)
        self._off_list: set[str] = set()  # deleted jobs that are known to be missing in the cluster's list

    def build(self, request: DeployRequest, environ: Sequence[str], pickle: Path | None) -> APISpec:
        """Check a request; the task runs with the variables of a node, not with this machine's."""
        notebook.refuse_on(request, "a Ray cluster")
        definition = request.spec.get("definition")
        if isinstance(definition, Mapping) and definition.get("kernel") is not None:
            raise BadRequest(
                f"{request.spec.get('name')}: definition.kernel is a kernelspec of this machine, and on a Ray cluster "
                "the Python of a node runs the task: leave it out"
            )
        path = os.environ.get("PATH", os.defpath)
        request = msgspec.structs.replace(request, environ={"PATH": path})
        built = build(request, files=project_of(request), pickle=pickle, looks_up=False, packages=self.packages())
        built.launch["env"].pop("PATH", None)
        if (packages := built.launch.pop("packages", None)) is not None:
            built.launch["runtime_env"] = _runtime_env(packages, built)
        return built

    def kernels(self) -> list[KernelEntry]:
        """Raise :class:`NotKept`: the Python of a node runs each task."""
        raise NotKept(f"{self._environment} is a Ray cluster, whose nodes run tasks by a Python of their own")

    def check_fits(self, built: APISpec) -> list[str]:
        """Nothing is refused: a cluster may grow, and until then a job waits."""
        return []

    def visible(self, api: str, version: Row, given: str | None) -> str | None:
        """Return None: Ray chooses the GPUs of a job."""
        return None

    def check_reachable(self) -> None:
        """Have the supervisor use our headers, as the cluster accepts them.

        Raises :class:`Unreachable` where the cluster does not answer, :class:`Unavailable` where it refuses them.
        """
        try:
            self._cluster.session()
        except Refused as error:
            raise Unavailable(f"the Ray cluster at {self._cluster.address} refuses: {error.text[:200]}") from None
        try:
            with files.locked_folder(self._home):
                there = engine_settings.read(self._home)
                if there.get("address") != self._cluster.address:
                    raise Unavailable(
                        f"environment {self._environment} is at {there.get('address')} by now, not at "
                        f"{self._cluster.address}: connect to it again"
                    )
                if there["headers"] != self._settings["headers"]:
                    engine_settings.write(self._home, {**there, "headers": self._settings["headers"]})
        except OSError as error:
            raise Unavailable(f"can't write to {self._home}: {error.strerror}") from None

    def renew(self) -> None:
        """Where the cluster is unreachable for the supervisor, try it with our headers; may take some seconds."""
        with suppress(TaskAPIError):
            if self._outage() and engine_settings.read(self._home)["headers"] != self._settings["headers"]:
                self.check_reachable()

    def statuses(self, rows: Sequence[Row]) -> list[JobStatus]:
        """Return jobs as readers see them, as last seen while the cluster is unreachable."""
        self._tell_withheld([row for row in rows if not readable.fault(row)])
        found = [status_of(row, self._jobs) for row in rows]
        outage = self._outage() if any(status.code in IN_PROGRESS for status in found) else None
        for status in found:
            if status.code not in IN_PROGRESS:
                continue
            if outage is not None:
                status.stale = rfc3339(int(outage["since"]))
                status.reason = f"as last seen: {outage['why']}"
            elif status.code is JobCode.RUNNING:
                with suppress(OSError):
                    status.reason = files.read(self._jobs / status.job_id / NOTE, 500).decode("utf-8", "replace")
        return found

    def _outage(self) -> dict[str, Any] | None:
        """Return since when and why the supervisor can't reach the cluster; None where it can."""
        try:
            found = nesting.loads(files.read(os.path.join(self._home, UNREACHABLE), 4096))
            return {"since": int(found["since"]), "why": str(found["why"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def deleted(self, job_id: str | None = None) -> None:
        """Delete a job, or all that were deleted here, in the cluster's list, which grows with each job.

        Those that have not ended there stay until the next time.
        """
        with suppress(TaskAPIError, Refused):
            if self._outage() is not None:
                return
            if job_id is not None:
                self._cluster.delete(submission_id(job_id, self._settings))
                self._off_list.add(job_id)
                return
            deleted, until = set(self._store.forgotten()), time.monotonic() + AT_MOST
            self._off_list &= deleted
            deleted -= self._off_list
            listed = self._cluster.jobs() if deleted else {}
            for one in deleted:
                name = submission_id(one, self._settings)
                if name in listed:
                    if listed[name].get("status") not in ENDED or time.monotonic() > until:
                        continue
                    try:
                        self._cluster.delete(name)
                    except Refused:
                        continue
                self._off_list.add(one)


def _runtime_env(packages: Mapping[str, Any], built: APISpec) -> dict[str, Any]:
    """Return what has Ray install a lock on the nodes: of pip's, which has the hash of one file alone, the versions."""
    index = packages["index"]
    urls = [index["index_url"], *index["extra_index_urls"], *index["find_links"]]
    if any(url and masked(url) != url for url in urls):
        raise BadRequest(
            f"{built.name}: the URL of an index has credentials, which Ray's dashboard would show: configure the index "
            "on the nodes"
        )
    content = built.files[packages["lock"]]
    assert isinstance(content, bytes)
    lines = content.decode().splitlines()
    if packages["builder"] == "pip":
        lines = [re.sub(r"\s+--hash=\S+", "", line) for line in lines]
    if index["index_url"]:
        lines.insert(0, f"--index-url {index['index_url']}")
    lines = [f"--extra-index-url {url}" for url in index["extra_index_urls"]] + lines
    return {packages["builder"]: {"packages": lines, f"{packages['builder']}_check": False}}
