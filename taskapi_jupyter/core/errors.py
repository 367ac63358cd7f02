"""All errors, each with its kind (Cortex's where it has one), its HTTP status and its sentence.

This package's own routes answer with ``status``; Cortex's routes answer 400 for all of them, as its operator does.
"""

from __future__ import annotations


def short(name: str) -> str:
    """Return a name for use in a sentence: at most 100 characters, control characters spelt out."""
    return printable(name if len(name) <= 100 else f"{name[:100]}...")


def printable(text: str, but: str = "") -> str:
    """Return text with control characters (escapes, direction marks) spelt out, except for those in ``but``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


def size(count: int | None) -> str:
    """Return a number of bytes with a suitable unit, such as ``1.5 GiB``."""
    if count is None:
        return ""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


class TaskAPIError(Exception):
    """Base of all errors that people read; ``str()`` is the sentence they read."""

    kind = "error"
    status = 400

    def __init__(self, message: str, *, kind: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if kind is not None:
            self.kind = kind
        if status is not None:
            self.status = status


class BadRequest(TaskAPIError):
    """An invalid body, specification or argument."""


class QueryParamRequired(BadRequest):
    kind = "endpoints.query_param_required"

    def __init__(self, name: str = "jobID") -> None:
        super().__init__(f"query param required: {name}")


class TooLarge(BadRequest):
    status = 413


class UnsupportedEncoding(BadRequest):
    status = 415


class NotFound(TaskAPIError):
    """A result, a file or an environment that does not exist."""

    status = 404


class ResultNotStored(NotFound):
    """A task succeeded, but its result could not be stored, or can't be loaded here."""

    kind = "result.not_stored"


class NoNotebook(NotFound):
    """The job runs no notebook, or ended before it saved one."""

    kind = "job.no_notebook"


class NoNotebookYet(NotFound):
    """The job runs a notebook and has not saved it yet."""

    kind = "job.no_notebook_yet"


class APINotDeployed(NotFound):
    kind = "resources.api_not_deployed"

    def __init__(self, api_name: str, near: str | None = None) -> None:
        super().__init__(f"{short(api_name)} is not deployed" + (f"; did you mean {near}?" if near else ""))
        self.api_name = api_name


class APIIDNotFound(NotFound):
    kind = "resources.api_id_not_found"

    def __init__(self, api_name: str, api_id: str) -> None:
        super().__init__(f"{short(api_name)} with id {short(api_id)} has never been deployed")


class JobNotFound(NotFound):
    kind = "job.not_found"

    def __init__(self, job_id: str, api_name: str | None = None) -> None:
        of = f" ({short(api_name)} api)" if api_name else ""
        super().__init__(f"failed to get job state: unable to find TaskAPI job {short(job_id)}{of}")


class GroupNotFound(NotFound):
    kind = "group.not_found"

    def __init__(self, group: str) -> None:
        super().__init__(f"no group {short(group)}: give its id or its name")


class ScheduleNotFound(NotFound):
    kind = "schedule.not_found"

    def __init__(self, name: str, near: str | None = None) -> None:
        super().__init__(f"no schedule {short(name)}" + (f"; did you mean {near}?" if near else ""))


class NotAcceptable(TaskAPIError):
    status = 406


class Conflict(TaskAPIError):
    """The request does not fit the state of the job."""

    status = 409


class JobNotInProgress(Conflict):
    kind = "job.job_is_not_in_progress"

    def __init__(self, job_id: str, api_name: str) -> None:
        super().__init__(f"{job_id} ({api_name} api): cannot stop TaskAPI job because it is not in progress")


class JobIsRunning(Conflict):
    """Only a pending job was to be stopped, and it has started."""

    kind = "job.job_is_running"

    def __init__(self, job_id: str, api_name: str) -> None:
        super().__init__(f"{job_id} ({api_name} api): it is running, and only a pending job was to be stopped")


class StopTimeout(TaskAPIError):
    """The job's processes did not end in time; the job is still being stopped."""

    kind = "job.stop_timeout"
    status = 504

    def __init__(self, job_id: str, api_name: str, seconds: float) -> None:
        super().__init__(
            f"{job_id} ({api_name} api): its processes have not ended after {seconds:g} s; it is still being stopped"
        )


class NoKernel(Conflict):
    """The job keeps no kernel that could be attached to, resumed or ended."""

    kind = "job.no_kernel"


class Forbidden(TaskAPIError):
    status = 403


class Unavailable(TaskAPIError):
    """This machine can't do it now: the disk is full, or the home is read-only or another host's."""

    status = 503


class NotStarted(Unavailable):
    """The server extension did not start: its home can't be used."""

    kind = "extension.not_started"


class TooNew(Unavailable):
    """The database was written by a newer major version of this package."""


class Damaged(Unavailable):
    """The database was damaged and set aside, or its file was replaced while it was open."""


class Unreachable(TaskAPIError):
    """An upstream (a Jupyter server, a cluster) did not answer, or its answer is not of this protocol."""

    status = 502
    sent = True  #: whether the upstream may have received the request


class UpstreamTimeout(Unreachable):
    """An upstream accepted the connection and did not answer in time."""

    kind = "environment.timeout"
    status = 504


class NotKept(NotFound):
    """Something that a cluster does not keep, such as results: shown as missing, not as a failure."""

    kind = "environment.not_kept"


class JobFailed(TaskAPIError):
    """``Job.result()`` or a waiting magic found that a job ended without success."""

    def __init__(self, message: str, job_id: str, status_code: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.job_status = status_code
