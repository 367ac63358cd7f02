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
BOM = b"\xef\xbb\xbf"  # some editors and shells begin a UTF-8 file with it
KIND = "TaskAPI"

_FRAME = 2 << 10  # bytes of a page beside its jobs: its counts, its cursor

#: Optional keys and formats since 0.1.0 that this server accepts; a client sends none that its server lacks.
FEATURES = (
    "api_id",
    "counts",
    "cuda_visible_devices",
    "main",
    "notebook",
    "parameters",
    "rerun_same",
    "run_timeout",
    "search",
    "sys_path",
    "upload",
    "warm",
)

Timeout = Annotated[int, Meta(ge=1, le=10**9)]

T = TypeVar("T")


class Body(msgspec.Struct, omit_defaults=False):
    """Base of all bodies; ``UNSET`` fields are left out on the wire."""


class Submission(Body):
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


class Rerun(Body):
    """``POST jobs/{id}/rerun``; an empty body means ``{}``."""

    same: bool = False  # run the job's own version, not the one that is deployed


class Progress(Body):
    """What the task last reported with ``progress(done, total, message)``."""

    done: float
    total: float | None = None
    message: str | None = None


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
    reason: str | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    run_timeout: int | UnsetType = UNSET  # seconds from the start of its task
    stale: str | UnsetType = UNSET  # since when its cluster is unreachable; other fields are as last seen

    @property
    def code(self) -> JobCode:
        """Return the status as a :class:`JobCode`, whichever version wrote it."""
        return JobCode.read(self.status)


class JobResponse(Body):
    """``GET tasks/{api}?jobID=``."""

    job_status: JobStatus
    endpoint: str | None = None
    api_spec: dict[str, Any] = {}


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
    what the task finds in ``__main__`` (``deploy.pickling``).
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

    def __post_init__(self) -> None:
        if self.source:
            self.source = self.source.removeprefix(BOM.decode())


class DeployedAPI(Body):
    spec: dict[str, Any]
    endpoint: str | None = None


class DeployResult(Body):
    """One element of the answer to a deploy. ``message`` repeats the ``warnings``, a line each."""

    api: DeployedAPI | None = None
    message: str = ""
    error: str = ""
    warnings: list[str] | UnsetType = UNSET


class Message(Body):
    message: str


class ErrorBody(Body):
    kind: str
    message: str


class JobsPage(Body):
    """``GET jobs``: newest first; ``next_cursor`` is null on the last page.

    A page has fewer jobs than asked for where more would pass 1 MiB, or where a search has looked at as many jobs as it
    may. ``searched`` is how many jobs a search looked at for this page; ``counts`` those of the filter, by status,
    whatever was searched for.
    """

    jobs: list[JobStatus]
    next_cursor: str | None = None
    searched: int | UnsetType = UNSET
    counts: dict[str, int] | UnsetType = UNSET


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
