"""The part of ``Service`` that reads: APIs, jobs, and what jobs left."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from taskapi_jupyter.client import results
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.contract import (
    MAX_PAGE,
    MAX_SEARCH,
    APIVersion,
    FileList,
    JobResponse,
    JobStatus,
    LogChunk,
    cut_to_page,
    without_large_config,
)
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    JobNotFound,
    NotFound,
    ResultNotStored,
    Unavailable,
)
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import MOVES, JobCode, values
from taskapi_jupyter.node.storage import RESULTS, VIEW
from taskapi_jupyter.runner import log_file

from . import servers
from .config import ConfigFile
from .home import prepare, warn_of_network
from .limits import ThisMachine
from .outputs import Outputs
from .records import metadata_of, search_of, spec_of
from .store import readable
from .store.connection import Row
from .store.schema import READ
from .store.store import Store
from .supervisor.wake import Waker

IN_PROGRESS = [code.value for code in sorted(MOVES)]

_COMPARED = 500  # deployed names among which a similar one is looked for
_LONGEST_ID = 100  # characters
_LONGEST_NAME = 63  # characters
_LISTED_WITH_API = 10  # jobs: one API shows so many at least (in progress, then recent), the list of all at most


class Reading(TaskAPI):
    """A ``TaskAPI`` over a home, as far as it only reads."""

    home: Path
    provider = "local"
    poll_ceiling = 0.05  # one poll costs 50 µs here

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        environment: str = "local",
        endpoint: Callable[[str], str | None] | None = None,
        placement: Callable[[Path, Store], ThisMachine] = ThisMachine,
        outputs: Outputs | None = None,
    ) -> None:
        self.environment = environment
        self.home = prepare(home)
        self.paths = HomePaths(self.home)
        self._endpoint = endpoint or servers.Endpoints(self.home, environment)
        self.waker = Waker(str(self.home))
        self.waker.check()
        warn_of_network(self.home)
        self.store = Store(self.paths.database)
        self.waker.replace_older()
        self._config = ConfigFile(self.paths.config, self.store)
        self._placement = placement(self.home, self.store)
        self._outputs = outputs or Outputs(self.paths.jobs)

    def close(self) -> None:
        """Close the database; jobs go on."""
        self.store.close()

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
        self._keep_supervisor()
        rows = self.store.jobs(api, IN_PROGRESS, MAX_PAGE, columns=READ)  # whole configs, as Cortex has them here
        if len(rows) < _LISTED_WITH_API:
            recent = self.store.jobs(api, [], _LISTED_WITH_API, columns=READ)
            known = {job["seq"] for job in rows}
            rows += [job for job in recent if job["seq"] not in known][: _LISTED_WITH_API - len(rows)]
        return API(
            spec=spec_of(row),
            metadata=metadata_of(row),
            endpoint=self._endpoint(api),
            task_job_statuses=self._placement.statuses(rows),
            api_versions=[
                APIVersion(api_id=one["api_id"], last_updated=one["updated"] // 1_000_000)
                for one in self.store.versions(api)
            ],
        )

    def _apis(self) -> list[API]:
        self._keep_supervisor()
        apis, counts = self.store.apis(), self.store.counts_by_api()
        busy = [row["name"] for row in apis if counts.get(row["name"], {}).keys() & set(IN_PROGRESS)]
        shown: dict[str, list[JobStatus]] = {}
        for status in self._placement.statuses(self.store.newest_in_progress(busy, _LISTED_WITH_API)):
            shown.setdefault(status.api_name, []).append(without_large_config(status))
        return [
            API(
                spec=spec_of(row),
                metadata=metadata_of(row),
                endpoint=self._endpoint(row["name"]),
                task_job_statuses=shown.get(row["name"], []),
                job_counts=counts.get(row["name"], {}),
            )
            for row in apis
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
        (status,) = self._placement.statuses([row])
        version = self.store.version(status.api_id) if status.api_id else None
        return JobResponse(
            job_status=status,
            endpoint=self._job_endpoint(status.api_name, status.job_id),
            api_spec=spec_of(version) if version else {},
        )

    def page(
        self,
        api: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        search: str | None = None,
    ) -> JobList:
        """Return a page of jobs, newest first."""
        wanted = named_states(status, JobCode)
        if not 1 <= limit <= MAX_PAGE:
            raise BadRequest(f"limit must be from 1 to {MAX_PAGE}, not {limit}")
        before = None
        if cursor:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
                raise BadRequest(f"invalid cursor {cursor[:40]!r}: use next_cursor of the previous page")
            before = int(cursor)
        if search is not None and len(search) > MAX_SEARCH:
            raise BadRequest(f"search must have at most {MAX_SEARCH} characters, not {len(search)}")
        self._keep_supervisor()
        searched: int | None = None
        if search and search.strip():
            rows, searched, more = self.store.search(search_of(search, self.paths.jobs), api, wanted, limit, before)
        else:
            rows = self.store.jobs(api, wanted, limit + 1, before)
            more = rows[limit - 1]["seq"] if len(rows) > limit else None
        found = [without_large_config(record) for record in self._placement.statuses(rows[:limit])]
        records = cut_to_page(found)
        if len(records) < len(found):
            last = rows[len(records) - 1]
            more, searched = last["seq"], last.get("searched")
        return JobList([self._job(one) for one in records], None if more is None else str(more), searched=searched)

    def counts(self, api: str | None = None, status: str | Sequence[str] | None = None) -> dict[str, int]:
        """Count jobs by status."""
        return self.store.counts(api, named_states(status, JobCode))

    def in_progress(self) -> int:
        """Count the jobs that are pending or running."""
        self._keep_supervisor()
        return self.store.count_in_progress()

    # What a job left

    def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20, api: str | None = None) -> LogChunk:
        """Return part of the log; a negative offset counts from the end."""
        row = self._row(job)
        try:
            return LogChunk(*log_file.read(str(self.paths.job(row["id"]).folder), offset, limit))
        except OSError as error:
            raise Unavailable(f"the log of {row['id']} can't be read: {error.strerror}") from None

    def open_result(self, job: Job | str, view: bool = False) -> tuple[str, IO[bytes]]:
        """Return the name of the file that holds a job's result, and the file.

        With ``view``, the JSON form of a pickled result, where there is one. Raises :class:`NotFound` where the job has
        no result, :class:`ResultNotStored` where it should have one.
        """
        row = self._row(job)
        for name in (RESULTS[0], *([VIEW] if view else []), RESULTS[1]):
            file = self._outputs.open_result(row["id"], name)
            if file is not None:
                return name, file
        whole = self.store.whole_job(row["id"])
        what = f"{row['id']} ({row['api_name']} api)"
        if row["status"] != JobCode.SUCCEEDED.value or whole is None or _is_command(whole["launch"]):
            raise NotFound(f"{what} has no result")
        raise ResultNotStored(f"{what}: {row['reason'] or 'its result is gone'}")

    def result(self, job: Job | str) -> Any:
        """Return what the task returned. This may load a pickle: call it only for your own jobs, never in a server."""
        row = self._row(job)
        name, file = self.open_result(row["id"])
        with file:
            data = file.read()
        if name == RESULTS[0]:
            try:
                return nesting.loads(data)
            except ValueError as error:  # a task may have written one itself
                raise ResultNotStored(f"the result of job {row['id']} can't be read: {error}") from None
        return results.load(data, row["id"], self.paths.version(row["api_id"]))

    def output_dir(self, job: Job | str) -> Path:
        """Return the folder that the task has as ``TASKAPI_OUTPUT_DIR``."""
        return self._outputs.folder(self._row(job)["id"])

    def files(self, job: Job | str) -> FileList:
        """List what the task left in its output folder, links aside."""
        return self._outputs.files(self._row(job)["id"])

    def open_file(self, job: Job | str, path: str) -> IO[bytes]:
        """Open one of those files; raise :class:`NotFound` for a path that leads outside by dots or links."""
        return self._outputs.open_file(self._row(job)["id"], path)

    # Helpers

    def _not_deployed(self, api: str) -> APINotDeployed:
        """Return the error for an API that isn't deployed, with a similar name that is."""
        near = difflib.get_close_matches(api[:_LONGEST_NAME], self.store.api_names(_COMPARED), 1)
        return APINotDeployed(api, *near)

    def _row(self, job: Job | str, api: str | None = None) -> Row:
        job_id = self.job_id(job)
        self._keep_supervisor()
        row = self.store.job(job_id) if len(job_id) <= _LONGEST_ID and readable.is_utf8(job_id) else None
        if row is None or (api is not None and row["api_name"] != api):
            raise JobNotFound(job_id, api)
        return row

    def _job(self, status: JobStatus) -> Job:
        return Job(self, status, self._job_endpoint(status.api_name, status.job_id))

    def _job_endpoint(self, api: str, job_id: str) -> str | None:
        endpoint = self._endpoint(api)
        return None if endpoint is None else f"{endpoint}?jobID={job_id}"

    def _keep_supervisor(self) -> None:
        """Start a supervisor where jobs are in progress and none is running."""
        if self.store.any_in_progress() and not self.waker.alive():
            self.waker.check_place()
            self.waker.wake()


def _is_command(launch: Any) -> bool:
    """Whether a version's tasks are commands, which return nothing."""
    try:
        return readable.mapping(launch).get("kind") == "command"
    except ValueError:
        return False


def named_states(given: str | Sequence[str] | None, among: Iterable[JobCode]) -> list[str]:
    """Return the given states as a list; raise :class:`BadRequest` for one that is not in ``among``."""
    statuses = [given] if isinstance(given, str) else list(given or ())
    known = values(among)
    for one in statuses:
        if one not in known:
            raise BadRequest(f"unknown status {one!r}: use {', '.join(known)}")
    return statuses
