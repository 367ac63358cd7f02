"""The wire model: a msgspec Struct for every body.

The wire is Cortex's (tags v0.28.0 and v0.42.0); docs/contract.md lists the differences. Times are RFC 3339
text in UTC with microseconds and ``Z``; sizes and offsets are bytes; ``timeout`` is whole seconds since submission.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from . import decoding, nesting
from .errors import BadRequest, TooLarge, size
from .states import JobCode

MAX_BITS = 14_000  # of a whole number; Python does not write longer ones as text
MAX_BODY = 10 << 20  # bytes; Cortex's limit for a submission, inclusive
MAX_PAGE = 1000  # jobs
MAX_PAGE_BYTES = 1 << 20  # of a page of jobs on the wire; a single job may have more
MAX_LISTED_CONFIG = 2 << 10  # bytes of a config, as JSON, up to which lists show it
MAX_SEARCH = 500  # characters
MAX_UPLOAD = 512 << 20  # bytes of a pickled callable that a server accepts by default
NOT_LET_IN = "you are not let in"  # a server's refusal begins so when credentials are missing; clients look for it
MAX_PREVIEW = 256 << 10  # bytes
#: Media types of a preview, the best first.
PREVIEWS = (
    *("text/html", "image/png", "image/jpeg", "image/svg+xml", "text/markdown", "text/latex"),
    "text/plain",
)
BOM = b"\xef\xbb\xbf"  # some editors and shells begin a UTF-8 file with it
KIND = "TaskAPI"

_FRAME = 2 << 10  # bytes of a page beside its jobs: its counts, its cursor

#: Optional keys and formats since 0.1.0 that this server accepts; a client sends none that its server lacks.
FEATURES = (
    "after",
    "api_id",
    "counts",
    "cuda_visible_devices",
    "exception",
    "groups",
    "main",
    "metrics",
    "notebook",
    "notebooks",
    "notifications",
    "only_pending",
    "packages",
    "parameters",
    "preview",
    "rerun_same",
    "results",
    "retries",
    "run_timeout",
    "schedules",
    "search",
    "sys_path",
    "transient",
    "upload",
    "warm",
)

Timeout = Annotated[int, Meta(ge=1, le=10**9)]
Point = Annotated[list[int | float], Meta(min_length=3, max_length=3)]

_DEFINITION = {
    "path": {"type": "string"},
    "kernel": {"type": "string", "description": "The kernel that runs a notebook, where it is not the notebook's own."},
    "parameters": {
        "type": "array",
        "description": "What the task takes, where it is not called with `config`.",
        "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}
#: A specification; what readers look for in it is described.
Spec = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"properties": {"definition": {"type": "object", "properties": _DEFINITION}}}),
]

T = TypeVar("T")


class Body(msgspec.Struct, omit_defaults=False):
    """Base of all bodies; ``UNSET`` fields are left out on the wire."""


class Attempts(Body, kw_only=True):
    """When a job that failed is submitted again, and its place in line; ``null`` means absent."""

    retries: int | None = None  # further attempts at most, 0 to 100
    retry_on: list[str] | None = None  # statuses after which there is one; absent: all failures but `stopped`
    retry_delay: float | None = None  # seconds before the second attempt; twice as many before each later one
    priority: int | None = None  # -100 to 100, higher ones start first; absent: 0, in a group -1


class Submission(Attempts):
    """``POST tasks/{api}``; unknown keys are ignored, ``null`` means absent."""

    config: dict[str, Any] | None = None
    timeout: Timeout | None = None
    workers: Literal[1] | None = 1
    notebook: Annotated[str, Meta(max_length=4096)] | None = None
    api_id: str | None = None  # the version to run; None: the one that is deployed
    run_timeout: Timeout | None = None  # seconds from the start of the task
    cuda_visible_devices: Annotated[str, Meta(max_length=4096)] | None = (
        None  # of the submitting process; None: the server's
    )
    group: str | None = None  # the id of a group that the job joins
    after: list[str] | None = None  # ids of jobs and groups that must have ended before it may start
    after_any: bool = False  # however they ended; false: they must have succeeded, else the job ends `stopped`
    results: dict[str, str] | None = None  # keys of the config that get these jobs' results, as if they were in `after`
    notify: list[str] | None = None  # names of notifications, and `browser`; whatever they say of when


class Rerun(Body):
    """``POST jobs/{id}/rerun``; an empty body means ``{}``."""

    same: bool = False  # run the job's own version, not the one that is deployed


class GroupRequest(Attempts, kw_only=True):
    """``POST groups``: one job for each of ``configs``, or for each combination of the lists in ``sweep``.

    With ``zip``, lists of one length are paired instead. ``fixed`` goes into each config; ``repeat`` runs each so many
    times, with its number as ``repeat`` in the config.
    """

    api: str
    configs: list[Any] | None = None
    sweep: dict[str, Any] | None = None
    fixed: dict[str, Any] | None = None
    zip: bool = False
    repeat: int | None = None
    timeout: Timeout | None = None
    run_timeout: Timeout | None = None
    name: str | None = None
    max_running: int | None = None  # jobs of the group that may run at the same time
    api_id: str | None = None  # the version to run
    notebook: Annotated[str, Meta(max_length=4096)] | None = None
    cuda_visible_devices: Annotated[str, Meta(max_length=4096)] | None = None
    notify: list[str] | None = None  # of each job, as in a submission


class GroupRerun(Body):
    """``POST groups/{group}/rerun``; an empty body means ``{}``."""

    failed: bool = True  # only jobs that ended otherwise than `succeeded`; false: all that have ended


class Progress(Body):
    """What the task last reported with ``progress(done, total, message)``."""

    done: float
    total: float | None = None
    message: str | None = None


class Cell(Body):
    """The cell of a notebook that runs, or that ended its job: ``failed``, ``stopped`` or ``timed out``."""

    index: Annotated[int, Meta(ge=0)]  # among all cells of the notebook as it is saved, from 0
    id: str
    status: str


class Usage(Body):
    """What a job's processes use together, as last measured; of an ended job, what they have used."""

    cpu_seconds: float | UnsetType = UNSET
    memory: int | UnsetType = UNSET  # bytes that are resident; absent of an ended job
    memory_peak: int | UnsetType = UNSET
    memory_limit: int | UnsetType = UNSET  # absent where there is none


class Interpreter(Body, kw_only=True):
    """The Python that runs a task: an interpreter as it is, or that of an environment built from requirements."""

    path: str
    version: str | UnsetType = UNSET  # such as 3.11.7
    key: str | UnsetType = UNSET  # of the environment in ``packages``
    built: str | UnsetType = UNSET  # when that was built; absent where the next job builds it
    seconds: float | UnsetType = UNSET  # how long that took


class NotificationState(Body):
    """What became of what is sent of a job under one name."""

    name: str
    state: str  # `waiting`, `sent` or `failed`


class JobSpec(Body, kw_only=True):
    """The answer to a submission."""

    job_id: str
    api_name: str
    kind: str = KIND
    workers: int = 1
    config: dict[str, Any] | None = None
    api_id: str = ""
    timeout: int | None = None
    created_time: str | UnsetType = UNSET
    spec_id: str | UnsetType = UNSET


class JobStatus(JobSpec, kw_only=True):
    """A job as every reader sees it. ``start_time`` and ``end_time`` are absent until they are known.

    In lists, a config of more than 2 KiB is absent, and ``config_truncated`` true: the job itself has it.
    """

    config: dict[str, Any] | UnsetType | None = None  # type: ignore[assignment]
    config_truncated: bool | UnsetType = UNSET
    status: str
    start_time: str | UnsetType | None = UNSET
    end_time: str | UnsetType | None = UNSET
    worker_counts: dict[str, Any] | UnsetType | None = UNSET
    notebook: str | UnsetType = UNSET
    python: Interpreter | UnsetType = UNSET  # of a single job, not in lists
    reason: str | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    cell: Cell | UnsetType = UNSET  # of a job that runs a notebook
    metrics: dict[str, float] | UnsetType = UNSET  # the last values, of 20 names at most
    usage: Usage | UnsetType = UNSET
    results: dict[str, Any] | UnsetType = UNSET  # scalars of its result, 20 at most, in a list that was asked for them
    run_timeout: int | UnsetType = UNSET  # seconds from the start of its task
    group: str | UnsetType = UNSET  # the id of the group that it belongs to
    index: int | UnsetType = UNSET  # its place there, from 0 on
    attempt: int | UnsetType = UNSET  # from 1 on, of a job with retries
    retry_of: str | UnsetType = UNSET  # the attempt before
    retried_by: str | UnsetType = UNSET  # the next attempt
    after: list[str] | UnsetType = UNSET  # jobs and groups that had to end before, those in `inputs` among them
    after_any: bool | UnsetType = UNSET
    inputs: dict[str, str] | UnsetType = UNSET  # keys of its config that get the results of these jobs
    schedule: str | UnsetType = UNSET  # the schedule that submitted it
    scheduled_time: str | UnsetType = UNSET  # for which it did
    notify: list[str] | UnsetType = UNSET  # who is told, as it was submitted
    notifications: list[NotificationState] | UnsetType = UNSET  # of a single job, not in lists
    stale: str | UnsetType = UNSET  # since when its cluster is unreachable; other fields are as last seen

    @property
    def code(self) -> JobCode:
        """Return the status as a :class:`JobCode`, whichever version wrote it."""
        return JobCode.read(self.status)


class JobResponse(Body):
    """``GET tasks/{api}?jobID=``."""

    job_status: JobStatus
    endpoint: str | None = None
    api_spec: Spec = {}


class Metadata(Body):
    name: str
    kind: str = KIND
    id: str = ""
    last_updated: int = 0  # seconds since the epoch, as in Cortex


class APIVersion(Body):
    api_id: str
    last_updated: int = 0


class API(Body, kw_only=True):
    """A deployed task API: an element of ``GET get`` and of ``GET get/{api}``.

    ``GET get`` shows at most ten jobs in progress of each, and counts all of its jobs by status.
    """

    spec: dict[str, Any] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    endpoint: str | None = None
    task_job_statuses: list[JobStatus] = []
    api_versions: list[APIVersion] | UnsetType = UNSET
    python: Interpreter | UnsetType = UNSET  # of one API, not in the list of all
    job_counts: dict[str, int] | UnsetType = UNSET  # of all its jobs, by status; in the list of all APIs

    @property
    def name(self) -> str:
        """Return the API's name, from whichever part the server sent."""
        if self.metadata:
            return self.metadata.name
        return str(self.spec["name"]) if self.spec else ""

    @property
    def api_id(self) -> str:
        """Return the id of the version that this describes."""
        if self.metadata:
            return self.metadata.id
        return str(self.spec.get("id", "")) if self.spec else ""


class DeployRequest(Body, kw_only=True):
    """JSON body of ``POST deploy``: one API with what it takes to start its task later.

    ``source`` is the text of the file at ``definition.path``; ``pickle`` is a callable pickled by cloudpickle;
    ``python``, ``cwd`` and ``environ`` are the interpreter, the folder and the variables of the kernel that deploys.
    ``notebook`` is the path of the notebook or file that deploys; ``sys_path`` is the kernel's ``sys.path``, with one
    empty text for its interpreter's standard library and one for its packages. With ``main``, ``pickle`` also holds
    what the task finds in ``__main__`` (``deploy.pickling``). With ``name_from_file`` the API's
    name was not chosen, and is refused where an API that was deployed from elsewhere has it. With ``transient`` the API
    is deleted with its last job; the name of one that stays is refused. ``build_environ`` are variables that only the
    building of its packages gets (``UV_*``, ``PIP_*``, ``NETRC``). With ``upgrade`` its requirements are resolved anew.
    With ``dry_run`` nothing is deployed, and the answer has a ``plan``.
    """

    spec: dict[str, Any]
    source: str | None = None
    pickle: bytes | None = None  # base64 on the wire
    python: str | None = None
    cwd: str | None = None
    environ: dict[str, str] | None = None
    notebook: Annotated[str, Meta(max_length=4096)] | None = None
    sys_path: Annotated[list[str], Meta(max_length=100)] | None = None
    main: bool = False
    name_from_file: bool = False
    transient: bool = False
    build_environ: dict[str, str] | None = None
    upgrade: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.source:
            self.source = self.source.removeprefix(BOM.decode())


class DeployedAPI(Body):
    spec: dict[str, Any]
    endpoint: str | None = None


class DeployPlan(Body, kw_only=True):
    """What a deploy with ``dry_run`` would have done."""

    python: Interpreter | UnsetType = UNSET  # absent for a command, a kernel of another language, and on a cluster
    kernel: str | UnsetType = UNSET  # the kernelspec that was named
    requirements: list[str] = []  # as they were given
    packages: list[str] | UnsetType = UNSET  # ``name==version``, where an environment is built of them
    files: dict[str, int] = {}  # what travels, with its bytes
    variables: list[str] = []  # names of the environment variables that a task gets
    folder: str = ""  # in which it runs


class DeployResult(Body):
    """One element of the answer to a deploy. ``message`` repeats the ``warnings``, a line each."""

    api: DeployedAPI | None = None
    message: str = ""
    error: str = ""
    warnings: list[str] | UnsetType = UNSET
    plan: DeployPlan | UnsetType = UNSET


class Message(Body):
    message: str


class ErrorBody(Body):
    kind: str
    message: str


class JobsPage(Body):
    """``GET jobs``: newest first; ``next_cursor`` is null on the last page.

    A page has fewer jobs than asked for where more would pass 1 MiB, or where a search has looked at as many jobs as it
    may. ``searched`` is how many jobs a search looked at for this page; ``counts`` those of the filter, by status,
    whatever was searched for. ``groups`` are, with ``?groups=closed``, the groups of the page, newest first: their jobs
    are not in ``jobs``, and both together are at most as many as were asked for.
    """

    jobs: list[JobStatus]
    next_cursor: str | None = None
    searched: int | UnsetType = UNSET
    counts: dict[str, int] | UnsetType = UNSET
    groups: list[GroupStatus] | UnsetType = UNSET


class NotebookChanges(Body):
    """``GET jobs/{id}/notebook?since=``: the cells that another version has not, or not in the same form."""

    version: str
    total: int  # how many cells the notebook has
    cells: list[tuple[int, dict[str, Any]]]  # index from 0, and the cell as nbformat has it


class KeptKernel(Body):
    """``GET jobs/{id}/kernel``: the kernel that a notebook's job keeps after a cell failed."""

    connection_file: str  # a path on the machine of the job
    until: str | UnsetType = UNSET  # when it ends
    kernel_id: str | UnsetType = UNSET  # under which the server lists it, at ``api/kernels``
    hint: str | UnsetType = UNSET  # what to do so that the server lists it, where it does not


class GroupStatus(Body, kw_only=True):
    """A group: jobs that were submitted together. Of each job its last attempt counts."""

    id: str
    api_name: str
    created_time: str
    size: int  # jobs that were submitted
    counts: dict[str, int]  # by status, without states that no job is in
    progress: float  # mean of the jobs' fractions, 0 to 1; a job that has ended counts 1
    name: str | UnsetType = UNSET
    max_running: int | UnsetType = UNSET
    notebook: str | UnsetType = UNSET
    end_time: str | UnsetType = UNSET  # of the last job, once all have ended


class GroupSubmitted(Body):
    """The answer to ``POST groups``; ids in the order of the configs."""

    group: GroupStatus
    job_ids: list[str]


class GroupResponse(Body):
    """``GET groups/{group}``: with a page of its jobs in the order of their index, each as its last attempt.

    ``next_cursor`` is the index that the page ends with.
    """

    group: GroupStatus
    jobs: list[JobStatus]
    next_cursor: str | None = None
    searched: int | UnsetType = UNSET  # how many jobs a search looked at for this page


class GroupsPage(Body):
    """``GET groups``: newest first; ``next_cursor`` is null on the last page."""

    groups: list[GroupStatus]
    next_cursor: str | None = None


class MetricsResponse(Body):
    """``GET jobs/{id}/metrics``: the points of each name, each a step, a time (seconds since the epoch) and a value.

    ``next`` is the ``since`` that goes on from here; no more points are there where it is the one that was given.
    """

    metrics: dict[str, list[Point]]
    next: int


class UsageResponse(Body):
    """``GET jobs/{id}/usage``: time (seconds since the epoch), CPU seconds so far, resident bytes; oldest first."""

    points: list[Point]


class PreviewResponse(Body):
    """``GET jobs/{id}/preview``: what a pickled result looks like, by media type; images as base64.

    Empty where there is none, as of a result that has a JSON form. It is what the task made of it, so not to be
    trusted: see :data:`PREVIEWS` for the media types.
    """

    data: dict[str, str]


class WaitsResponse(Body):
    """``GET waits``: those of the jobs and groups asked for that a cell of one of the server's kernels waits for."""

    ids: list[str]


class BuiltEnvironment(Body, kw_only=True):
    """An environment that was built from requirements."""

    key: str
    python: str  # the interpreter that it was made with
    version: str  # of that, such as 3.11.7
    builder: str  # uv or pip
    built: str
    seconds: float  # that building took
    size: int  # bytes
    last_used: str
    jobs: int  # in progress that need it
    apis: list[str]  # deployed APIs that need it
    requirements: list[str]  # as they were given; credentials are ***
    packages: list[str]  # ``name==version``
    problem: str | UnsetType = UNSET  # why nothing is known of it, or little


class PackagesResponse(Body):
    """``GET packages``: the environments that were built, those used last first."""

    environments: list[BuiltEnvironment]


class KernelEntry(Body, kw_only=True):
    """A kernelspec that the server finds. ``problem`` says why no job could be started with it."""

    name: str
    display_name: str
    language: str
    python: Interpreter | UnsetType = UNSET  # of a kernel of Python
    problem: str | UnsetType = UNSET


class KernelsResponse(Body):
    """``GET kernels``."""

    kernels: list[KernelEntry]


class ScheduleRequest(Attempts, kw_only=True):
    """``POST schedules``: submit a job of an API again and again."""

    api: str
    schedule: str  # cron of five or six fields, `@daily` and the like, `every 15m`, or `at 2026-12-24T18:00`
    name: str | None = None  # absent: the API's
    timezone: str | None = None  # a name of the time zone database; absent: the server's
    config: dict[str, Any] | None = None
    timeout: Timeout | None = None
    run_timeout: Timeout | None = None
    notify: list[str] | None = None
    overlap: Literal["skip", "queue", "stop", "allow"] = "skip"  # where the last job has not ended
    catch_up: Literal["last", "none"] = "last"  # whether the newest firing that was missed is made up for
    max_late: float | None = None  # seconds; absent: a period, at most a day
    until: str | None = None  # a date or a time in the schedule's zone after which it never fires
    keep: int | None = None  # ended jobs of this schedule that are kept; absent: what config.yaml says
    pin: bool = False  # run the version that is deployed now, not the one that is when it fires
    active: bool = True
    replace: bool = False  # a schedule of that name
    notebook: Annotated[str, Meta(max_length=4096)] | None = None


class ScheduleStatus(Body, kw_only=True):
    """A schedule as every reader sees it; times are RFC 3339 in UTC."""

    name: str
    api: str
    schedule: str
    timezone: str
    active: bool
    explained: str = ""  # such as "At 06:00 on Monday through Friday"
    config: dict[str, Any] | None = None
    timeout: int | None = None
    run_timeout: int | None = None
    retries: int | None = None
    retry_on: list[str] | None = None
    retry_delay: float | None = None
    priority: int | None = None
    notify: list[str] | None = None
    overlap: str = "skip"
    catch_up: str = "last"
    max_late: float | None = None
    until: str | None = None
    keep: int | None = None
    api_id: str | None = None  # the version that it runs, where it is pinned
    notebook: str | None = None
    created_time: str = ""
    next_time: str | None = None  # null: it is paused, or does not fire again
    last_job_id: str | None = None
    last_status: str | None = None  # of that job
    last_time: str | None = None  # for which that job was scheduled, or when it was run by hand
    misfires: int = 0  # firings from which no job came
    misfire: str | None = None  # why none came from the last of these
    misfire_time: str | None = None
    paused: str | None = None  # why it is, where nobody paused it


class SchedulesResponse(Body):
    """``GET schedules``, by name. ``hint`` says whether they survive a reboot of this machine, and what to do."""

    schedules: list[ScheduleStatus]
    hint: str | UnsetType = UNSET


class SchedulePreview(Body, kw_only=True):
    """``GET schedules/preview``: when it would fire next."""

    schedule: str
    timezone: str
    explained: str
    times: list[str]  # RFC 3339 in the schedule's zone, with its offset


class Delivery(Body, kw_only=True):
    """One notification of one job under one name; at least once, with this ``id`` in each attempt."""

    id: str
    name: str
    job_id: str
    event: str  # `started`, or the status in which the job ended; `test`
    time: str
    state: str  # `waiting`, `sent` or `failed`
    attempts: int = 0
    next_time: str | None = None
    answer: str | None = None  # what came back last, at most 1 kB, or why nothing could be sent


class NotifyRequest(Body):
    """``POST jobs/{job_id}/notify``: who is told of its end; nobody where the list is empty."""

    names: list[str]


class NotificationName(Body, kw_only=True):
    """A name in config.yaml's ``notify``; its URL without what is secret in it."""

    name: str
    url: str
    on: list[str]
    apis: list[str] | UnsetType = UNSET  # absent: all
    problem: str | UnsetType = UNSET  # why nothing can be sent now
    switched_off: str | UnsetType = UNSET  # what the receiver answered that wants no more
    last: Delivery | UnsetType = UNSET


class NotificationsResponse(Body):
    """``GET notifications``: the names, and the newest deliveries first."""

    names: list[NotificationName]
    deliveries: list[Delivery]


class FileEntry(Body):
    path: str  # relative to the job's files, with forward slashes
    size: int
    modified: str


class FilesResponse(Body):
    files: list[FileEntry]
    truncated: str | UnsetType = UNSET  # a sentence that says where the list was cut; absent if it is complete


class FileList(list[FileEntry]):
    """A job's files; ``truncated`` says in a sentence where the list was cut, None if it is complete."""

    def __init__(self, entries: Iterable[FileEntry] = (), truncated: str | None = None) -> None:
        super().__init__(entries)
        self.truncated = truncated

    def __repr__(self) -> str:
        return super().__repr__() + (f"  # {self.truncated}" if self.truncated else "")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.pretty(list(self))
        if self.truncated:
            printer.text(f"  # {self.truncated}")


class Environment(Body):
    """A named place where APIs live, without the credentials for it."""

    name: str
    provider: str
    operator_endpoint: str | UnsetType = UNSET
    api_endpoint: str | UnsetType = UNSET
    version: str | UnsetType = UNSET  # of a Cortex cluster
    timeout: float | UnsetType = UNSET  # seconds for an answer to be complete
    address: str | UnsetType = UNSET  # of a Ray cluster's dashboard
    storage: str | UnsetType = UNSET  # where its jobs leave results and files


class EnvironmentsResponse(Body):
    """``GET environments``: the environments, the ``version`` of the server's package and its :data:`FEATURES`.

    ``environ`` names further variables that a deploy takes along from its kernel, from the server's ``config.yaml``.
    ``max_upload`` is the most bytes that the pickle of a deploy may have. ``home`` is an opaque id of the folder that
    holds the server's jobs: a client on the same machine that finds a folder of this id has found the same folder.
    """

    default_environment: str
    environments: list[Environment]
    version: str = "0.1.0"  # the one version that does not send it
    features: list[str] = []
    environ: list[str] = []
    max_upload: int | UnsetType = UNSET
    home: str | UnsetType = UNSET


class LogChunk(msgspec.Struct, frozen=True):
    """Bytes of a job's log. Offsets count all that the task wrote, kept or not.

    ``data`` begins at ``offset``; ``next`` is where to read on, ``size`` how much the task wrote. ``data`` may contain
    a line of ours that says what was dropped; offsets do not count that line.
    """

    data: bytes
    offset: int
    next: int
    size: int


def decode(body: bytes | str, type_: type[T]) -> T:
    """Decode a JSON body; raise :class:`BadRequest` that names the field (``$.timeout``) if it is malformed."""
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body is larger than {size(MAX_BODY)}")
    body = body.removeprefix(BOM) if isinstance(body, bytes) else body.removeprefix(BOM.decode())
    if not body.strip():
        raise BadRequest("the body is empty: send a JSON object, such as {}")
    try:
        return decoding.decode(body, type_)
    except msgspec.ValidationError as error:
        raise BadRequest(f"malformed body: {error}") from None
    except decoding.TooDeep:
        raise BadRequest(f"the body is nested too deeply: values have at most {nesting.MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


def convert(value: Any, type_: type[T]) -> T:
    """Convert decoded JSON into a Struct, with the errors of :func:`decode`."""
    try:
        return decoding.convert(value, type_)
    except msgspec.ValidationError as error:
        raise BadRequest(f"malformed body: {error}") from None


def submit_answer(status: JobStatus) -> JobSpec:
    """Return the part of a job's status that answers a submission."""
    fields = {field: getattr(status, field) for field in JobSpec.__struct_fields__}
    return JobSpec(**{**fields, "config": None if status.config is UNSET else status.config})


def cut_to_page(records: list[JobStatus]) -> list[JobStatus]:
    """Return the first of some jobs, as many as a page may have: at least one, and no more than 1 MiB together."""
    room = MAX_PAGE_BYTES - _FRAME
    for number, record in enumerate(records):
        room -= len(encode(record)) + 1
        if room < 0 and number:
            return records[:number]
    return records


def without_large_config(record: JobStatus) -> JobStatus:
    """Return a job as a list shows it: without its config where that is large."""
    if record.config_truncated or (record.config and len(encode(record.config)) > MAX_LISTED_CONFIG):
        return msgspec.structs.replace(record, config=UNSET, config_truncated=True)
    return record


def encode(value: Any) -> bytes:
    """Encode a Struct, or plain values, as JSON."""
    return msgspec.json.encode(value)
