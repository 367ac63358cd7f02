"""Job states, their legal transitions and labels. Standard library only: the supervisor imports this."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class JobCode(str, Enum):
    """Status of a job, in Cortex's words."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    WORKER_ERROR = "worker_error"
    WORKER_OOM = "worker_oom"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    UNEXPECTED_ERROR = "unexpected_error"
    # Read from a cluster, never produced here.
    ENQUEUING = "enqueuing"
    ENQUEUE_FAILED = "enqueue_failed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value

    @property
    def in_progress(self) -> bool:
        """Whether a job in this state may still change."""
        return self in IN_PROGRESS

    @property
    def label(self) -> str:
        """Return how this state is shown to people."""
        return LABELS.get(self, self.value.replace("_", " "))

    @classmethod
    def read(cls, text: str) -> JobCode:
        """Read a status as either Cortex version writes it; any other text is ``unknown``."""
        try:
            return cls(text.removeprefix("status_"))  # 0.28 prefixes each code
        except ValueError:
            return cls.UNKNOWN


def values(among: Iterable[JobCode]) -> list[str]:
    """Return the values of some states, always in the same order."""
    return [code.value for code in JobCode if code in among]


IN_PROGRESS = frozenset({JobCode.PENDING, JobCode.ENQUEUING, JobCode.RUNNING})

TERMINAL = frozenset(JobCode) - IN_PROGRESS - {JobCode.UNKNOWN}

LABELS = {
    JobCode.ENQUEUE_FAILED: "failed while enqueuing",
    JobCode.WORKER_OOM: "out of memory",
}

#: The states that a job here can move to, by the state it is in.
MOVES = {
    JobCode.PENDING: frozenset({JobCode.RUNNING, JobCode.STOPPED, JobCode.TIMED_OUT, JobCode.UNEXPECTED_ERROR}),
    JobCode.RUNNING: frozenset(
        {
            JobCode.SUCCEEDED,
            JobCode.WORKER_ERROR,
            JobCode.WORKER_OOM,
            JobCode.TIMED_OUT,
            JobCode.STOPPED,
            JobCode.UNEXPECTED_ERROR,
        }
    ),
}


#: The states after which a job is tried again, unless it says after which.
FAILURES = MOVES[JobCode.RUNNING] - {JobCode.SUCCEEDED, JobCode.STOPPED}

MAX_RETRIES = 100
MAX_RETRY_DELAY = 3600.0  # seconds; the delay doubles from one attempt to the next
MAX_PRIORITY = 100
GROUP_PRIORITY = -1  # of jobs of a group, behind single ones

MAX_GROUP = 100_000  # jobs


def may_move(old: JobCode, new: JobCode) -> bool:
    """Whether a job may move from one state to another."""
    return new in MOVES.get(old, frozenset())


#: Why a schedule is inactive that does not fire again.
OVER = "it has fired for the last time"
