"""A job on a Ray cluster: its claim, what Ray says of it, what its log says.

``jobs/<id>/claim`` says, before anything is sent, to which session of the cluster the job goes and which marker its
frames begin with, and afterwards that it arrived.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from taskapi_jupyter.core import files, host, nesting
from taskapi_jupyter.core.host import backoff
from taskapi_jupyter.core.paths import JobPaths
from taskapi_jupyter.core.states import JobCode, may_move
from taskapi_jupyter.runner.outcome import json_object, outcome

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # Ray's words for it

NEVER = float("-inf")  # a moment of the monotonic clock


class Phase(Enum):
    """How far a job is on its way to the cluster and back."""

    UNSENT = "unsent"  # nothing of it is at the cluster, its package aside
    UNSURE = "unsure"  # it was sent, and whether it arrived is not known
    ARRIVED = "arrived"  # the cluster has it: it waits there, or runs
    ENDED = "ended"  # the cluster says that it ended; its log is read to the end
    OVER = "over"  # how it ended is known


@dataclass
class Package:
    """A job's package of files, while it is uploaded and afterwards."""

    uri: str = ""  # where it is there
    large: bool = False  # so that a thread sends it
    uploading: bool = False
    error: Exception | None = None  # how the thread ended, where not well


@dataclass
class JobLog:
    """What a job's log says; the thread that reads it writes here."""

    thread: threading.Thread | None = None
    wake_event: threading.Event = field(default_factory=threading.Event)  # the thread is to read again now
    stream: socket.socket | None = None  # while the log is followed
    followed_at: float | None = None  # since when it is
    heard_at: float = NEVER  # when that brought something last
    whole: bool = False  # whether it can be had as a whole only
    read_at: float = NEVER  # when the last reading as a whole began
    failed: int = 0  # readings to the end that were cut, of a cluster that can be reached
    waited: float = 0.0  # seconds that these took
    storing: bool = False  # the task has ended, what it left is being stored
    outcome: dict[str, Any] | None = None  # as the job itself said
    done: bool = False  # whether all of the output was read that there will be
    over: bool = False  # nobody wants it any more

    def shut(self) -> None:
        """Have the thread that follows the log stop waiting for more."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)  # TLS's own would let its reader on to the bare socket


@dataclass
class RayJob:
    """A job that is handed to the cluster; times are of the monotonic clock."""

    job: Mapping[str, Any]
    folder: str
    submission_id: str
    phase: Phase = Phase.UNSENT
    address: str = ""  # of the cluster, when it was sent
    session: str = ""
    marker: str = ""  # what its frames begin with; '' before its claim is written
    status: str = ""  # Ray's, as last seen
    message: str = ""
    node: str | None = None  # that it runs on
    problem: str = ""  # what went wrong last
    unsure_at: float = NEVER  # when it was sent last without an answer that says what became of it
    unseen_at: float = NEVER  # the last list of the cluster's jobs without it
    unseen_since: float | None = None  # since when they are, of a cluster that can be reached
    missed: int = 0  # lists without it since it arrived
    refused: int = 0  # submissions
    pauses: Iterator[float] = field(default_factory=lambda: backoff(2.0, 64.0, 2.0))
    try_at: float = NEVER  # when it is sent again at the earliest
    stop_asked: bool = False
    stop_sent: float = NEVER
    ending: tuple[JobCode, str] | None = None  # why it is stopped from here
    ended_at: float | None = None  # when the cluster that can be reached said so first
    package: Package = field(default_factory=Package)
    log: JobLog = field(default_factory=JobLog)

    @property
    def arrived(self) -> bool:
        """Whether the cluster has it, or had it."""
        return self.phase in (Phase.ARRIVED, Phase.ENDED)

    def left(self) -> float | None:
        """Return the seconds until its deadline; the clock of the boot that it was submitted in, else the wall's."""
        job = self.job
        if job["timeout"] is None:
            return None
        if job["boot"] == host.boot_id():
            return float(job["deadline"]) - host.boottime()
        return float(job.get("allowed") or job["created"]) / 1e6 + float(job["timeout"]) - time.time()

    def put_off(self) -> None:
        """Note that it did not get through: it is sent again later, and each time later still."""
        self.try_at = time.monotonic() + next(self.pauses)

    def observe(self, entry: Mapping[str, Any] | None, listed_at: float, now: float) -> None:
        """Note a job's entry in a list of the cluster's jobs, requested at ``listed_at``; None: it is not listed."""
        if entry is None:
            if self.arrived:
                self.missed += 1
            else:
                self.unseen_at = listed_at
                if not (self.stop_asked or self.package.uploading):
                    self.unseen_since = self.unseen_since or now
            return
        self.missed = 0
        node = entry.get("driver_node_id")
        self.node = node if isinstance(node, str) else self.node
        if not self.arrived:
            self.has_arrived()
        self.status, self.message = str(entry.get("status")), str(entry.get("message") or "")
        if self.status in ENDED:
            self.phase = Phase.ENDED
            self.ended_at = self.ended_at or now
            self.log.wake_event.set()

    def lose_sight(self) -> None:
        """Note that the cluster can't be reached: time limits count from when it can be again."""
        self.unseen_since = self.ended_at = None
        self.log.failed, self.log.waited = 0, 0.0

    # The claim

    def read_claim(self) -> None:
        """Take over what an earlier supervisor wrote down."""
        try:
            claim = nesting.loads(files.read(JobPaths(self.folder).claim, 4096))
            session, marker, arrived = str(claim["session"]), str(claim["word"]), bool(claim["arrived"])
            self.address = str(claim.get("address", ""))  # which older versions did not write
        except (OSError, ValueError, KeyError, TypeError):
            return
        self.session, self.marker = session, marker
        self.phase = Phase.ARRIVED if arrived else Phase.UNSURE
        self.unsure_at = time.monotonic()  # it may have been sent just before that supervisor went

    def write_claim(self) -> None:
        """Write the claim, synced: where the job is sent, and whether it arrived."""
        where = {"address": self.address, "session": self.session, "word": self.marker}
        claim = json.dumps({**where, "arrived": self.arrived})
        files.write_atomic(JobPaths(self.folder).claim, claim.encode(), sync=True)

    def has_arrived(self) -> None:
        """Note that the cluster has it."""
        self.phase = Phase.ARRIVED
        with suppress(OSError):
            self.write_claim()


def submission_id(job_id: str, settings: Mapping[str, Any]) -> str:
    """Return the id of a job in the cluster; the home's id keeps it apart from those of other homes."""
    return f"taskapi-{job_id}-{settings['home_id']}"


def valid(told: Any) -> dict[str, Any] | None:
    """Return an outcome as a job told it, None where it can't be one; when it ended counts by this machine's clock."""
    try:
        status, reason, code = (told.get(key) for key in ("status", "reason", "exit_code"))
        if not may_move(JobCode.RUNNING, JobCode(status)):
            return None
        return outcome(
            JobCode(status),
            None if reason is None else str(reason)[:2000],
            None if code is None else int(code),
            **{key: json_object(told.get(key)) for key in ("progress", "metrics", "usage")},
        )
    except (TypeError, ValueError, AttributeError):
        return None
