"""The part of ``Service`` that reads: APIs, jobs, and what jobs left."""

from __future__ import annotations

import difflib
import heapq
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from taskapi_jupyter.client import results
from taskapi_jupyter.client.groups.rows import SMALL_RESULT, Flatten, scalars
from taskapi_jupyter.client.packages import PackagesList
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.contract import (
    MAX_PAGE,
    MAX_SEARCH,
    APIVersion,
    BuiltEnvironment,
    FileList,
    GroupResponse,
    GroupsPage,
    GroupStatus,
    JobResponse,
    JobStatus,
    KeptKernel,
    KernelEntry,
    LogChunk,
    MetricsResponse,
    NotificationState,
    PreviewResponse,
    UsageResponse,
    cut_to_page,
    without_large_config,
)
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    GroupNotFound,
    JobNotFound,
    NoKernel,
    NoNotebook,
    NoNotebookYet,
    NotFound,
    ResultNotStored,
    TaskAPIError,
    Unavailable,
)
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import MOVES, JobCode, values
from taskapi_jupyter.deploy.values import masked
from taskapi_jupyter.display.facts import fraction
from taskapi_jupyter.node.storage import EXCEPTION, METRICS, PREVIEW, RESULTS, USAGE, VIEW
from taskapi_jupyter.runner import log_file

from . import packages, servers
from .config import ConfigFile
from .home import prepare, warn_of_network
from .limits import ThisMachine
from .outputs import Outputs, points_of, preview_of, usage_of
from .records import interpreter_of, metadata_of, rfc3339, search_of, spec_of, status_of
from .store import readable
from .store.connection import Row
from .store.lists import LAST, place
from .store.schema import READ
from .store.store import Store
from .supervisor.wake import Waker

IN_PROGRESS = [code.value for code in sorted(MOVES)]

_NAMES, _CHARACTERS = 20, 256  # of what is scalar in a result, and of a name or a text there, that a list shows
_ROWS = 500  # of a group's table that are read at once
_GROUP_END = re.compile(r"g([0-9a-f]{4,15})")  # the letter, then the last digits of a group's id
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
            python=interpreter_of(row, self.home),
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
            python=interpreter_of(row, self.home),
        )

    def kernels(self) -> list[KernelEntry]:
        """Return the kernelspecs that this process finds: see :class:`TaskAPI`."""
        return self._placement.kernels()

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
        if version is not None:
            status.python = interpreter_of(version, self.home)
        if sent := {one["name"]: one["state"] for one in self.store.deliveries_of(status.job_id)}:
            status.notifications = [NotificationState(name, state) for name, state in sent.items()]
        return JobResponse(
            job_status=status,
            endpoint=self._job_endpoint(status.api_name, status.job_id),
            api_spec=spec_of(version) if version else {},
        )

    def changed(self, since: object = None) -> tuple[object, Collection[str] | None]:
        """Return a moment, and the ids of the jobs that have changed since an earlier one of the same database."""
        database, counter = now = self.store.identity(), self.store.counter()
        if not isinstance(since, tuple) or since[0] != database:
            return now, None
        return now, () if counter == since[1] else {row["id"] for row in self.store.news(since[1])}

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
        if ids is not None:
            found = self._placement.statuses(self.store.jobs_with(ids))
            return JobList([self._job(one) for one in self._page_of(found, results=results)], None)
        wanted = named_states(status, JobCode)
        check_limit(limit)
        _check_search(search)
        if closed and group is not None:
            raise BadRequest("groups=closed lists groups, so it can't be used with a group")
        if group is not None and schedule is not None:
            raise BadRequest("a job of a schedule is in no group: give the one or the other")
        searches = bool(search and search.strip())
        if closed and schedule is None and not searches:
            return self._entries(api, wanted, limit, cursor, results=results)
        before = _cursor(cursor) if cursor else None
        in_group = None if group is None else self._group_row(group)["id"]
        self._keep_supervisor()
        searched: int | None = None
        groups: list[str] = []
        if searches:
            fits = search_of(search or "", self.paths.jobs)
            rows, searched, more, groups = self.store.search(
                fits, api, wanted, limit, before, group=in_group, closed=closed, schedule=schedule
            )
        else:
            rows = self.store.jobs(api, wanted, limit + 1, before, group=in_group, schedule=schedule)
            more = place(rows[limit - 1], in_group) if len(rows) > limit else None
        found = [without_large_config(record) for record in self._placement.statuses(rows[:limit])]
        records = self._page_of(found, results=results)
        if len(records) < len(found):
            last = rows[len(records) - 1]
            more, searched = place(last, in_group), last.get("searched")
        listed = JobList([self._job(one) for one in records], None if more is None else str(more), searched=searched)
        if closed:
            found_groups = [row for one in groups if (row := self.store.group(one))]
            listed.groups = [self._group_status(row) for row in sorted(found_groups, key=lambda row: -row["seq"])]
        return listed

    def _entries(
        self, api: str | None, wanted: Sequence[str], limit: int, cursor: str | None, *, results: bool
    ) -> JobList:
        """Return a page of a list in which groups are closed, in the order of submission: ids descend."""
        before = _places(cursor) if cursor else (LAST, LAST)
        self._keep_supervisor()
        jobs, groups = self.store.entries(api, wanted, limit + 1, before)
        found = [without_large_config(one) for one in self._placement.statuses(jobs)]
        merged = heapq.merge(
            ((one.job_id, index, True) for index, one in enumerate(found)),
            ((row["id"][1:], index, False) for index, row in enumerate(groups)),
        )
        listed = list(islice(merged, limit))
        singles = [found[index] for _, index, is_job in listed if is_job]
        records = self._page_of(singles, results=results)
        kept = len(records)
        if kept < len(singles):
            listed = listed[: next(at for at, one in enumerate(listed) if one[2] and one[1] == kept)]
        shown = [groups[index] for _, index, is_job in listed if not is_job]
        last_job = place(jobs[kept - 1]) if kept else before[0]
        last_group = shown[-1]["seq"] if shown else before[1]
        more = len(listed) < len(jobs) + len(groups)
        answer = JobList([self._job(one) for one in records], f"{last_job}.{last_group}" if more else None)
        answer.groups = [self._group_status(row) for row in shown]
        return answer

    def _page_of(self, records: list[JobStatus], *, results: bool) -> list[JobStatus]:
        """Return as many jobs as a page may have, with what is scalar in their results."""
        if results:
            records = [replace(one, results=self._scalars(one)) for one in records]
        return cut_to_page(records)

    def _scalars(self, record: JobStatus) -> dict[str, Any] | UnsetType:
        found = islice(scalars(self._small_result(record)).items(), _NAMES)
        cut = {key: value[:_CHARACTERS] if isinstance(value, str) else value for key, value in found}
        return {key: value for key, value in cut.items() if len(key) <= _CHARACTERS and _is_finite(value)} or UNSET

    def counts(self, api: str | None = None, status: str | Sequence[str] | None = None) -> dict[str, int]:
        """Count jobs by status."""
        return self.store.counts(api, named_states(status, JobCode))

    def in_progress(self) -> int:
        """Count the jobs that are pending or running."""
        self._keep_supervisor()
        return self.store.count_in_progress()

    # Groups

    def group_status(self, group: str) -> GroupStatus:
        """Return a group, by its id, its name or the end of its id."""
        return self._group_status(self._group_row(group))

    def group_page(
        self,
        group: str,
        limit: int = 50,
        cursor: str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        search: str | None = None,
    ) -> GroupResponse:
        """Return a group with a page of its jobs, in the order of their index: see :class:`TaskAPI`."""
        row = self._group_row(group)
        wanted = named_states(status, JobCode)
        check_limit(limit)
        _check_search(search)
        after = -1 if cursor is None else _cursor(cursor)
        searched: int | None = None
        if search and search.strip():
            fits = search_of(search, self.paths.jobs)
            rows, searched, last, _ = self.store.search_group(fits, row["id"], wanted, limit, after)
        else:
            rows = self.store.group_jobs(row["id"], limit + 1, after, statuses=wanted)
            last = rows[limit - 1]["group_index"] if len(rows) > limit else None
        found = [without_large_config(one) for one in self._placement.statuses(rows[:limit])]
        records = cut_to_page(found)
        if len(records) < len(found):
            last, searched = rows[len(records) - 1]["group_index"], rows[len(records) - 1].get("searched")
        next_cursor = None if last is None else str(last)
        return GroupResponse(self._group_status(row), records, next_cursor, _or_unset(searched))

    def groups_page(self, limit: int = 20, cursor: str | None = None) -> GroupsPage:
        """Return a page of groups, newest first."""
        check_limit(limit)
        rows = self.store.groups(limit + 1, None if cursor is None else _cursor(cursor))
        more = str(rows[limit - 1]["seq"]) if len(rows) > limit else None
        return GroupsPage([self._group_status(row) for row in rows[:limit]], more)

    def group_rows(self, group: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a group's table, in the order of their index: see :meth:`Group.rows`."""
        group_id = self._group_row(group)["id"]
        flatten, after = Flatten(self._config_keys(group_id)), -1
        while rows := self.store.group_jobs(group_id, _ROWS, after, whole=True):
            after = rows[-1]["group_index"]
            for record in self._placement.statuses(rows):
                yield flatten.row(record, self._small_result(record))

    def _config_keys(self, group_id: str) -> set[str]:
        found: set[str] = set()
        for row in self.store.group_configs(group_id, ()):
            with suppress(ValueError):
                found |= (readable.config(row["config"]) or {}).keys()
        return found

    def _small_result(self, record: JobStatus) -> Any:
        """Return the result of a job where it is small, and JSON; else None."""
        if record.code is not JobCode.SUCCEEDED:
            return None
        try:
            file = self._outputs.open_result(record.job_id, RESULTS[0])
            if file is None:
                return None
            with file:
                data = file.read(SMALL_RESULT + 1)
            return nesting.loads(data) if len(data) <= SMALL_RESULT else None
        except (OSError, ValueError, TaskAPIError):  # where nothing is kept, say
            return None

    def _group_row(self, group: str) -> Row:
        self._keep_supervisor()
        row = self.store.group_of(group) if len(group) <= _LONGEST_ID else None
        if row is None and (digits := _GROUP_END.fullmatch(group)):
            ending = self.store.groups_ending(digits[1])
            row = ending[0] if len(ending) == 1 else None
        if row is None:
            raise GroupNotFound(group)
        return row

    def _group_status(self, row: Row) -> GroupStatus:
        counts = self.store.group_counts(row["id"])
        total, done = sum(counts.values()), 0.0
        done += sum(count for status, count in counts.items() if status not in IN_PROGRESS)
        if counts.get(JobCode.RUNNING.value):
            for one in self.store.group_running(row["id"]):
                done += fraction(status_of(one, self.paths.jobs).progress or None) or 0.0
        ended = None if counts.keys() & set(IN_PROGRESS) else self.store.group_ended(row["id"])
        return GroupStatus(
            id=row["id"],
            api_name=row["api_name"],
            created_time=rfc3339(row["created"]),
            size=row["size"],
            counts=counts,
            progress=done / total if total else 1.0,
            name=_or_unset(row["name"]),
            max_running=_or_unset(row["max_running"]),
            notebook=_or_unset(row["notebook"]),
            end_time=UNSET if ended is None else rfc3339(ended),
        )

    def packages(self) -> PackagesList:
        """Return the environments that were built from requirements in this home."""
        needs = packages.needs(self.store)
        return PackagesList(_environment(one, needs.get(one.key, [])) for one in packages.listed(self.home))

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
        if (
            row["status"] != JobCode.SUCCEEDED.value
            or whole is None
            or _launch(whole["launch"]).get("kind") == "command"
        ):
            raise NotFound(f"{what} has no result")
        raise ResultNotStored(f"{what}: {row['reason'] or 'its result is gone'}")

    def open_exception(self, job: Job | str) -> IO[bytes]:
        """Return the file that holds what a job's task raised; :class:`NotFound` where there is none."""
        row = self._row(job)
        file = self._outputs.open_result(row["id"], EXCEPTION)
        if file is None:
            raise NotFound(f"{row['id']} ({row['api_name']} api) has left no exception")
        return file

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

    def open_notebook(self, job: Job | str) -> tuple[str, IO[bytes]]:
        """Return the name of the notebook that a job runs, and the file as it was last saved."""
        row = self._row(job)
        name = self._notebook_of(row)
        try:
            return name, self._outputs.open_file(row["id"], name)
        except NotFound:
            pass
        if row["status"] in IN_PROGRESS:
            raise NoNotebookYet(f"job {row['id']} ({row['api_name']} api) has not saved its notebook yet")
        raise NoNotebook(f"job {row['id']} ({row['api_name']} api) ended before it saved its notebook")

    def kernel(self, job: Job | str) -> KeptKernel:
        """Return the kernel that a job keeps after a cell of its notebook failed."""
        row = self._row(job)
        what = f"job {row['id']} ({row['api_name']} api)"
        try:
            self._notebook_of(row)
        except NoNotebook as error:
            raise NoKernel(f"{error}, so it keeps no kernel") from None
        if row["status"] not in IN_PROGRESS:
            raise NoKernel(f"{what} keeps no kernel: it has ended")
        file = self.paths.kept_kernel(row["id"])
        try:
            fd = files.open_below(self.home, file.relative_to(self.home).parts)
        except OSError as error:
            if error.errno in files.NO_DESCRIPTOR:
                raise
            raise NoKernel(f"{what} keeps no kernel: none of its cells has failed") from None
        with open(fd, "rb"):
            since = os.fstat(fd).st_ctime
        whole = self.store.whole_job(row["id"])
        keep = (_launch(whole["launch"]) if whole else {}).get("notebook", {}).get("keep_kernel")
        until = rfc3339(int((since + keep) * 1e6)) if isinstance(keep, int | float) else UNSET
        return KeptKernel(str(file), until)

    def metrics(self, job: Job | str, names: Sequence[str] = (), since: int = 0) -> MetricsResponse:
        """Return the points that the task has recorded: see :class:`TaskAPI`."""
        if since < 0:
            raise BadRequest(f"since must be 0 or the next of an earlier answer, not {since}")
        file = self._outputs.open_result(self._row(job)["id"], METRICS)
        with file or nullcontext():
            return points_of(file, since, names)

    def usage(self, job: Job | str) -> UsageResponse:
        """Return what the job's processes used over time: see :class:`TaskAPI`."""
        file = self._outputs.open_result(self._row(job)["id"], USAGE)
        with file or nullcontext():
            return usage_of(file)

    def preview(self, job: Job | str) -> PreviewResponse:
        """Return what a pickled result looks like: see :class:`TaskAPI`."""
        file = self._outputs.open_result(self._row(job)["id"], PREVIEW)
        with file or nullcontext():
            return preview_of(file)

    # Helpers

    def _notebook_of(self, row: Row) -> str:
        """Return the name of the file in which a job saves its notebook; raise :class:`NoNotebook` for other jobs."""
        whole = self.store.whole_job(row["id"])
        launch = _launch(whole["launch"]) if whole else {}
        file = launch.get("file")
        if launch.get("kind") != "notebook" or not isinstance(file, str):
            raise NoNotebook(f"job {readable.text(row['id'])} ({readable.text(row['api_name'])} api) runs no notebook")
        return os.path.basename(file)

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
        """Start a supervisor where jobs are in progress, or something is due at a time, and none is running."""
        if self.store.anything_to_do() and not self.waker.alive():
            self.waker.check_place()
            self.waker.wake()


def check_limit(limit: int) -> None:
    """Raise :class:`BadRequest` unless a page may have so many entries."""
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit must be from 1 to {MAX_PAGE}, not {limit}")


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _invalid(text)
    return int(text)


def _is_finite(value: Any) -> bool:
    """Whether JSON has a form for a value: Python reads NaN and infinities from it, too."""
    return not isinstance(value, float) or math.isfinite(value)


def _places(text: str) -> tuple[int, int]:
    """Return what the cursor of a list with closed groups says: the place of a job, and that of a group."""
    job, _, group = text.partition(".")
    try:
        return _cursor(job), _cursor(group)
    except BadRequest:
        raise _invalid(text) from None


def _invalid(cursor: str) -> BadRequest:
    return BadRequest(f"invalid cursor {cursor[:40]!r}: use next_cursor of the previous page")


def _check_search(search: str | None) -> None:
    if search is not None and len(search) > MAX_SEARCH:
        raise BadRequest(f"search must have at most {MAX_SEARCH} characters, not {len(search)}")


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _launch(text: Any) -> dict[str, Any]:
    """Return how a version's tasks are started; empty where its row can't be read."""
    try:
        return readable.mapping(text)
    except ValueError:
        return {}


def _environment(one: packages.Built, needs: Sequence[packages.Need]) -> BuiltEnvironment:
    """Return an environment of packages as the wire has it, without credentials."""

    def texts(name: str) -> list[str]:
        return [masked(text) for text in one.facts.get(name, ())]

    return BuiltEnvironment(
        key=one.key,
        python=one.facts.get("python", ""),
        version=one.facts.get("version", ""),
        builder=one.facts.get("builder", ""),
        built=rfc3339(int(one.built * 1e6)),
        seconds=one.seconds,
        size=one.size,
        last_used=rfc3339(int(one.last_used * 1e6)),
        jobs=sum(need.jobs for need in needs),
        apis=sorted({need.api for need in needs if need.deployed}),
        requirements=texts("requirements"),
        packages=texts("packages"),
        problem=one.problem or UNSET,
    )


def named_states(given: str | Sequence[str] | None, among: Iterable[JobCode]) -> list[str]:
    """Return the given states as a list; raise :class:`BadRequest` for one that is not in ``among``."""
    statuses = [given] if isinstance(given, str) else list(given or ())
    known = values(among)
    for one in statuses:
        if one not in known:
            raise BadRequest(f"unknown status {one!r}: use {', '.join(known)}")
    return statuses
