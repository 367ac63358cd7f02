"""The routes: each path with what answers it and its description; the OpenAPI document is made from the same table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from taskapi_jupyter.client.groups.rest import ROWS
from taskapi_jupyter.client.headers import ENDED_HEADER, VERSION_HEADER
from taskapi_jupyter.core.contract import (
    API,
    MAX_PAGE,
    MAX_SEARCH,
    Delivery,
    DeployRequest,
    DeployResult,
    EnvironmentsResponse,
    FilesResponse,
    GroupRequest,
    GroupRerun,
    GroupResponse,
    GroupsPage,
    GroupSubmitted,
    JobResponse,
    JobsPage,
    JobSpec,
    KeptKernel,
    KernelsResponse,
    Message,
    MetricsResponse,
    NotebookChanges,
    NotificationsResponse,
    NotifyRequest,
    PackagesResponse,
    PreviewResponse,
    Rerun,
    SchedulePreview,
    ScheduleRequest,
    SchedulesResponse,
    ScheduleStatus,
    Submission,
    UsageResponse,
    WaitsResponse,
)
from taskapi_jupyter.core.states import TERMINAL, JobCode, values

from . import openapi
from .export import FORMATS
from .handlers.about import (
    DocumentHandler,
    EnvironmentsHandler,
    NothingHandler,
    NotificationsHandler,
    OnePackagesHandler,
    PackagesHandler,
    TestNotificationHandler,
)
from .handlers.deploy import DeployHandler
from .handlers.files import (
    INT64,
    MAX_CHUNK,
    ExceptionHandler,
    FileHandler,
    FilesHandler,
    LogHandler,
    MetricsHandler,
    PreviewHandler,
    ResultHandler,
    UsageHandler,
)
from .handlers.groups import GroupHandler, GroupRerunHandler, GroupRowsHandler, GroupsHandler
from .handlers.held import MAX_WAIT
from .handlers.jobs import (
    MAX_DAYS,
    MAX_IDS,
    JobHandler,
    JobsHandler,
    KernelsHandler,
    NotifyHandler,
    RerunHandler,
    WaitsHandler,
)
from .handlers.log_stream import LogStream
from .handlers.notebook import NOTEBOOK, EndKernelHandler, KernelHandler, NotebookHandler, ResumeHandler
from .handlers.operator import APIsHandler, DeleteHandler, OneAPIHandler, TasksHandler, VerifyHandler, VersionHandler
from .handlers.schedules import (
    MAX_TIMES,
    ScheduleHandler,
    SchedulePreviewHandler,
    ScheduleRunHandler,
    SchedulesHandler,
)
from .openapi import JSON, Operation, header, query

TEXT = "text/plain"
BINARY = "application/octet-stream"


def _states(among: Iterable[JobCode]) -> dict[str, Any]:
    schema = {"type": "array", "items": {"enum": values(among)}}
    return query("status", schema, "Only jobs in one of these states.")


def _between(least: int, most: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


JOB_ID = query("jobID", {"type": "string", "minLength": 1}, "The job.", required=True)
ONLY_PENDING = query("only", {"enum": ["pending"]}, "Stop it only if it has not started; else `job.job_is_running`.")
OF = query("api", {"type": "string", "minLength": 1}, "The job's API; a Cortex cluster need not be searched then.")
ONLY = query("api", {"type": "string", "minLength": 1}, "Only jobs of this API.")
OF_GROUP = query("group", {"type": "string", "minLength": 1}, "Only jobs of this group, the last one first.")
OF_SCHEDULE = query("schedule", {"type": "string", "minLength": 1}, "Only jobs of this schedule.")
CLOSED = query(
    "groups",
    {"enum": ["closed"]},
    "With `closed`, a group is one entry, in `groups`, and its jobs are left out. It is listed where the last attempt "
    "of one of its jobs passes the filter.",
)
FLAG = {"type": "boolean", "default": False}
LIMIT = query(
    "limit", _between(1, MAX_PAGE, 50), "How many jobs a page has at most; it has fewer where more would pass 1 MiB."
)
DELIVERIES_LIMIT = query("limit", _between(1, MAX_PAGE, 50), "How many deliveries at most.")
ONE_NAME = query("name", {"type": "string", "minLength": 1}, "Only this name and its deliveries.")
GROUPS_LIMIT = query("limit", _between(1, MAX_PAGE, 20), "How many groups a page has at most.")
CURSOR = query("cursor", {"type": "string", "minLength": 1}, "`next_cursor` of the previous page.")
SEARCH = query(
    "search",
    {"type": "string", "minLength": 1, "maxLength": MAX_SEARCH},
    "Only jobs in which each of these words occurs; `searched` says how many jobs were looked at for this page.",
)
IDS = query(
    "ids",
    {"type": "string", "minLength": 1},
    f"Only these jobs, at most {MAX_IDS}, with commas between: with whole configs, as many as fit. No other filter.",
)
WITH_RESULTS = query("results", FLAG, "Also answer what is scalar in small results, as `results` of a job.")
COUNTS = query("counts", FLAG, "Also count the jobs by status, whatever is searched for.")
DAYS = {"type": "number", "minimum": 0, "maximum": MAX_DAYS}
OLDER_THAN = query("older_than", DAYS, "Only jobs that ended at least so many days ago.")
OFFSET = query("offset", _between(-INT64, INT64, 0), "In bytes as written; a negative one counts from the end.")
BYTES_AT_MOST = query("limit", _between(1, MAX_CHUNK, 1 << 20), "How many bytes at most.")
BYTES = {"type": "integer", "minimum": 0}
LOG_HEADERS = {
    "X-Log-Offset": header(BYTES, "Where the piece begins, in bytes as written."),
    "X-Log-Next": header(BYTES, "The offset of the next piece."),
    "X-Log-Size": header(BYTES, "How many bytes were written so far."),
    ENDED_HEADER: header({"const": "true"}, "With `wait`, where the job has ended and this is the end of its log."),
}
WAIT = query(
    "wait",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
    "Seconds for which the answer may be held until something has changed. A Cortex cluster's is never held.",
)
SINCE = query(
    "since",
    {"type": "string", "minLength": 1},
    "`X-Taskapi-Version` of an earlier answer: with `wait`, this one comes as soon as it would be another.",
)
CRON = query("cron", {"type": "string", "minLength": 1}, "When: as `schedule` of a schedule.", required=True)
ZONE = query("tz", {"type": "string", "minLength": 1}, "The name of a time zone; absent: the server's.")
TIMES = query("n", _between(1, MAX_TIMES, 5), "How many times at most.")
UNTIL = query("until", {"type": "string", "minLength": 1}, "After which it never fires: as `until` of a schedule.")
WAITED = query("ids", {"type": "string"}, "Ids of jobs and groups, with commas between.")
CELLS_SINCE = query(
    "since",
    {"type": "string", "minLength": 1},
    "The version that the client has: answer the cells that differ from it, all of them where it is unknown.",
)
FORMAT = query("format", {"enum": list(FORMATS)}, "Another format, as nbconvert makes it; an attachment.")
NAMES = query(
    "names",
    {"type": "array", "items": {"type": "string", "minLength": 1}},
    "Only these metrics; repeated, or with commas between.",
)
POINTS_SINCE = query("since", _between(0, INT64, 0), "`next` of an earlier answer: only points after it.")
VERSION = {VERSION_HEADER: header({"type": "string"}, "What `since` takes; another one for another answer.")}
LOADER = header({"type": "string"}, "What loads a pickle, and which Python wrote it: `cloudpickle; python=3.11`.")
FORM = {
    "type": "object",
    "required": ["config"],
    "properties": {
        "config": {"type": "string", "description": "APIs as YAML, in either Cortex's shape."},
        "project.zip": {"type": "string", "format": "binary", "description": "The project folder (0.28)."},
    },
}
UPLOAD = {
    "type": "object",
    "required": ["request"],
    "properties": {
        "request": {"type": "string", "description": "The JSON body, without what the other parts bring."},
        "source": {"type": "string", "description": "`source` of that body."},
        "pickle": {"type": "string", "format": "binary", "description": "`pickle` of that body, not in base64."},
    },
    "additionalProperties": False,
}


class Route(NamedTuple):
    """What answers a path, and its operations by method."""

    path: str  # below Jupyter's base URL
    handler: type[Any]
    operations: dict[str, Operation]


def _route(path: str, handler: type[Any], **operations: Operation) -> Route:
    return Route(path, handler, operations)


ROUTES = (
    _route(
        "/taskapi/{env}/tasks/{api}",
        TasksHandler,
        post=Operation("Submit a job", JobSpec, body=Submission, errors=(415,)),
        get=Operation("A job's status", JobResponse, (JOB_ID,)),
        delete=Operation("Stop a job", Message, (JOB_ID, ONLY_PENDING)),
    ),
    _route("/taskapi/{env}/get", APIsHandler, get=Operation("All APIs", list[API])),
    _route("/taskapi/{env}/get/{api}", OneAPIHandler, get=Operation("One API and its recent jobs", list[API])),
    _route("/taskapi/{env}/get/{api}/{api_id}", VersionHandler, get=Operation("A version of an API", list[API])),
    _route(
        "/taskapi/{env}/deploy",
        DeployHandler,
        post=Operation(
            "Deploy: one API as JSON or an upload, or several by Cortex's form",
            list[DeployResult],
            (
                query("force", FLAG, "Accepted for Cortex compatibility; no effect."),
                query("configFileName", {"type": "string"}, "What messages call the configuration."),
                query("dryRun", FLAG, "Deploy nothing: each result has the `plan` of a deploy, as with `dry_run`."),
            ),
            body={JSON: DeployRequest, "multipart/form-data": {"anyOf": [UPLOAD, FORM]}},
            errors=(413, 415),  # 413 for an upload alone
        ),
    ),
    _route(
        "/taskapi/{env}/delete/{api}",
        DeleteHandler,
        delete=Operation(
            "Delete an API; its jobs in progress are stopped",
            Message,
            (query("keepCache", FLAG, "Accepted for Cortex compatibility; no effect."),),
        ),
    ),
    _route("/taskapi/{env}/verifycortex", VerifyHandler, get=Operation("Health", {JSON: {"type": "object"}})),
    _route(
        "/taskapi/{env}/streamlogs/{api}",
        LogStream,
        get=Operation(
            "A job's log as it grows: a websocket of newline-terminated text frames, closed with 1000 at the end",
            None,
            (JOB_ID,),
            errors=(426,),
            status=101,
        ),
    ),
    _route(
        "/taskapi/{env}/jobs",
        JobsHandler,
        get=Operation(
            "Jobs, newest first",
            JobsPage,
            (
                ONLY,
                OF_GROUP,
                OF_SCHEDULE,
                CLOSED,
                _states(JobCode),
                LIMIT,
                CURSOR,
                SEARCH,
                IDS,
                WITH_RESULTS,
                COUNTS,
                WAIT,
                SINCE,
            ),
            headers=VERSION,
        ),
        delete=Operation("Delete all ended jobs, or those that match", Message, (ONLY, _states(TERMINAL), OLDER_THAN)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}",
        JobHandler,
        get=Operation("A job's status", JobResponse, (OF, WAIT, SINCE), headers=VERSION),
        delete=Operation("Delete an ended job", Message, errors=(409,)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/log",
        LogHandler,
        get=Operation(
            "A piece of a job's log; with `wait`, once there is one or the job has ended",
            {TEXT: {"type": "string"}},
            (OFFSET, BYTES_AT_MOST, OF, WAIT),
            headers=LOG_HEADERS,
        ),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/result",
        ResultHandler,
        get=Operation(
            "What the task returned: JSON, or a pickle for clients that accept one",
            {JSON: {}, BINARY: {"type": "string", "format": "binary"}},
            headers={"X-Taskapi-Loader": LOADER},
            errors=(406, 416),
        ),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/exception",
        ExceptionHandler,
        get=Operation(
            "What the task raised, pickled; its traceback follows the pickle's end",
            {BINARY: {"type": "string", "format": "binary"}},
            headers={"X-Taskapi-Loader": LOADER},
            errors=(416,),
        ),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/preview",
        PreviewHandler,
        get=Operation("What a pickled result looks like, at most 256 KiB; not sanitized", PreviewResponse),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/metrics",
        MetricsHandler,
        get=Operation("What the task has recorded, at most 50,000 points", MetricsResponse, (NAMES, POINTS_SINCE)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/usage",
        UsageHandler,
        get=Operation("CPU time and memory of a job over time", UsageResponse),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/files",
        FilesHandler,
        get=Operation("The files that a job left", FilesResponse),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/files/{path}",
        FileHandler,
        get=Operation(
            "One of a job's files, or a range of it",
            {media: {"type": "string", "format": "binary"} for media in (BINARY, "*/*")},  # clients read the first
            errors=(416,),
        ),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/notebook",
        NotebookHandler,
        get=Operation(
            "The notebook that a job runs, as it was last saved; with `since`, the cells that have changed",
            {
                NOTEBOOK: {"type": "object"},
                JSON: NotebookChanges,
                **{media.partition(";")[0]: {"type": "string"} for _, _, media in FORMATS.values()},
            },
            (CELLS_SINCE, FORMAT, WAIT),
            headers={"ETag": header({"type": "string"}, "The version in quotes: what `since` takes, without them.")},
            errors=(406, 413, 416),
        ),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/kernel",
        KernelHandler,
        get=Operation("The kernel that a notebook's job keeps after a cell failed", KeptKernel, errors=(409,)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/resume",
        ResumeHandler,
        post=Operation("Go on from the cell that failed, in the kernel that is kept", Message, errors=(409, 415)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/end-kernel",
        EndKernelHandler,
        post=Operation("End the kernel that is kept, and the job", Message, errors=(409, 415)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/rerun",
        RerunHandler,
        post=Operation("Submit a job's config and timeouts again", JobSpec, (OF,), body=Rerun, errors=(413, 415)),
    ),
    _route(
        "/taskapi/{env}/jobs/{job_id}/notify",
        NotifyHandler,
        post=Operation(
            "Set who is told when a job in progress ends", Message, body=NotifyRequest, errors=(409, 413, 415)
        ),
    ),
    _route(
        "/taskapi/{env}/notifications",
        NotificationsHandler,
        get=Operation(
            "Who is notified of jobs, and what was sent, newest first",
            NotificationsResponse,
            (ONE_NAME, DELIVERIES_LIMIT),
        ),
    ),
    _route(
        "/taskapi/{env}/notifications/test/{name}",
        TestNotificationHandler,
        post=Operation("Send a test under a name, and answer what came back", Delivery, errors=(415,)),
    ),
    _route(
        "/taskapi/{env}/groups",
        GroupsHandler,
        post=Operation(
            "Submit a group of jobs, all or none", GroupSubmitted, body=GroupRequest, errors=(409, 413, 415)
        ),
        get=Operation("Groups, newest first", GroupsPage, (GROUPS_LIMIT, CURSOR)),
    ),
    _route(
        "/taskapi/{env}/groups/{group}",
        GroupHandler,
        get=Operation(
            "A group, and a page of its jobs in order",
            GroupResponse,
            (_states(JobCode), LIMIT, CURSOR, SEARCH, WAIT, SINCE),
            headers=VERSION,
        ),
        delete=Operation(
            "Stop all jobs of a group",
            Message,
            (query("forget", FLAG, "Delete the group and its jobs instead; it must have ended."),),
            errors=(409,),
        ),
    ),
    _route(
        "/taskapi/{env}/groups/{group}/rows",
        GroupRowsHandler,
        get=Operation("The table of a group: a JSON object a line", {ROWS: {"type": "string"}}),
    ),
    _route(
        "/taskapi/{env}/groups/{group}/rerun",
        GroupRerunHandler,
        post=Operation(
            "Submit the configs of a group again, as a new one", GroupSubmitted, body=GroupRerun, errors=(409, 413, 415)
        ),
    ),
    _route(
        "/taskapi/{env}/schedules",
        SchedulesHandler,
        post=Operation(
            "Submit a job of an API at certain times", ScheduleStatus, body=ScheduleRequest, errors=(409, 413, 415)
        ),
        get=Operation("Schedules, by name", SchedulesResponse),
    ),
    _route(
        "/taskapi/{env}/schedules/preview",
        SchedulePreviewHandler,
        get=Operation("When a schedule would fire next", SchedulePreview, (CRON, ZONE, TIMES, UNTIL)),
    ),
    _route(
        "/taskapi/{env}/schedules/{name}",
        ScheduleHandler,
        get=Operation("A schedule", ScheduleStatus),
        patch=Operation(
            "Change some keys of a schedule",
            ScheduleStatus,
            body={JSON: {"type": "object", "description": "Keys of `ScheduleRequest`, without `name` and `replace`."}},
            errors=(409, 413, 415),
        ),
        delete=Operation("Delete a schedule; its jobs stay", Message),
    ),
    _route(
        "/taskapi/{env}/schedules/{name}/run",
        ScheduleRunHandler,
        post=Operation("Submit a job of a schedule now, also of a paused one", JobSpec, errors=(415,)),
    ),
    _route(
        "/taskapi/{env}/waits",
        WaitsHandler,
        get=Operation("Which of some jobs and groups a cell waits for", WaitsResponse, (WAITED,)),
    ),
    _route(
        "/taskapi/{env}/kernels",
        KernelsHandler,
        get=Operation("The kernelspecs that the server finds", KernelsResponse),
    ),
    _route(
        "/taskapi/{env}/packages",
        PackagesHandler,
        get=Operation("The environments that were built from requirements, those used last first", PackagesResponse),
    ),
    _route(
        "/taskapi/{env}/packages/{key}",
        OnePackagesHandler,
        delete=Operation(
            "Delete one that no job needs, by its key or the first digits of that", Message, errors=(409,)
        ),
    ),
    _route(
        "/taskapi/environments",
        EnvironmentsHandler,
        get=Operation("The environments", EnvironmentsResponse, errors=(400,)),
    ),
    _route("/taskapi/openapi.json", DocumentHandler, get=Operation("This document", {JSON: {"type": "object"}})),
)


def pattern(path: str) -> str:
    """Return a route's path as a regular expression; a file's path has slashes, all else at most one at its end."""
    parts = re.split(r"{(\w+)}", path)
    groups = [f"(?P<{name}>{'.+?' if name == 'path' else '[^/]+'})" for name in parts[1::2]]
    return "".join(re.escape(text) + group for text, group in zip(parts[::2], [*groups, "/?"], strict=True))


def handlers() -> list[tuple[str, type[Any]]]:
    """Return what a Jupyter extension registers; all other paths below ``taskapi/`` are 404 in this API's form."""
    routes = [(pattern(route.path), route.handler) for route in ROUTES]
    return [*routes, (r"/taskapi(?:/.*)?", NothingHandler)]


def document(base_url: str) -> bytes:
    """Return the OpenAPI document for a server at ``base_url``, as JSON."""
    return openapi.document(base_url, {route.path: route.operations for route in ROUTES})
