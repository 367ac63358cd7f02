"""A job that is handed to a Ray cluster, and its claim.

``jobs/<id>/claim`` says, before anything is sent, to which session of the cluster, by which word its output is taken
apart, and afterwards that it arrived.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, host, nesting
from taskapi_jupyter.core.states import JobCode, may_move
from taskapi_jupyter.runner.outcome import outcome

_BACK_OFF = 6  # times that the seconds are doubled between two submissions of a job that do not get through

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # Ray's words for it


class Flight:
    """A job that is handed to the cluster."""

    def __init__(self, job: Mapping[str, Any], folder: str, submission_id: str) -> None:
        self.job = job
        self.folder = folder
        self.submission_id = submission_id
        self.address = ""  # of the cluster, when it was sent
        self.session = ""
        self.word = ""
        self.uri = ""  # of its package there
        self.node: str | None = None  # that it runs on
        self.arrived = False
        self.status = ""  # Ray's, as last seen
        self.message = ""
        self.missed = 0
        self.refused = 0
        self.problem = ""
        self.unseen_since: float | None = None  # by lists, of a cluster that can be reached; it may be on its way
        self.unseen_at = float("-inf")  # the last of those lists
        self.unsure_at = float("-inf")  # when it was sent last without an answer that says what became of it
        self.storing = False  # the task has ended, what it left is being stored
        self.large = False  # whether its package is, so that
        self.uploading = False  # a thread sends it
        self.upload_error: Exception | None = None  # how that ended, where not well
        self.failed = 0  # submissions that did not get through
        self.try_at = float("-inf")  # when it is sent again at the earliest
        self.followed_at: float | None = None  # since when its log is followed
        self.heard_at = float("-inf")  # when that brought something
        self.overdue_at: float | None = None  # since when it is past its deadline, of a cluster that can be reached
        self.read_at = float("-inf")  # when the last reading of its log as a whole began
        self.waited = 0.0  # seconds, for a log that does not come to its end
        self.cut = 0  # how often that was tried
        self.stop_asked = False
        self.stop_sent = float("-inf")
        self.ending: tuple[JobCode, str] | None = None  # why it is stopped from here
        self.outcome: dict[str, Any] | None = None  # as it said itself
        self.log: threading.Thread | None = None
        self.hurry = threading.Event()  # its thread is to look again now: it has ended
        self.stream: socket.socket | None = None  # its log's, while that is followed
        self.whole = False  # whether its log can be had as a whole only
        self.log_done = False  # whether all of its output was read that there will be
        self.ended_at: float | None = None
        self.over = False

    @property
    def sent(self) -> bool:
        """Say whether it may have been sent: the cluster has not said that it did not take it."""
        return self.unsure_at != float("-inf")

    def left(self) -> float | None:
        """Return the seconds until its deadline; the clock of the boot that it was submitted in, else the wall's."""
        job = self.job
        if job["timeout"] is None:
            return None
        if job["boot"] == host.boot_id():
            return float(job["deadline"]) - host.boottime()
        return float(job["created"]) / 1e6 + float(job["timeout"]) - time.time()

    def put_off(self) -> None:
        """Note that it did not get through: it is sent again later, and each time later still."""
        self.failed += 1
        self.try_at = time.monotonic() + 2.0 ** min(self.failed, _BACK_OFF)

    def read_claim(self) -> None:
        """Take over what an earlier supervisor wrote down."""
        try:
            claim = nesting.loads(files.read(os.path.join(self.folder, "claim"), 4096))
            session, word, arrived = str(claim["session"]), str(claim["word"]), bool(claim["arrived"])
            self.address = str(claim.get("address", ""))  # which older versions did not write
        except (OSError, ValueError, KeyError, TypeError):
            return
        self.session, self.word, self.arrived = session, word, arrived
        self.unsure_at = time.monotonic()  # it may have sent it just before it went

    def write_claim(self) -> None:
        """Write down, so that it stands after a power failure too, where it goes, and whether it arrived."""
        claim = {"address": self.address, "session": self.session, "word": self.word, "arrived": self.arrived}
        files.write_synced(os.path.join(self.folder, "claim"), json.dumps(claim).encode())

    def has_arrived(self) -> None:
        """Note that the cluster has it."""
        self.arrived = True
        with suppress(OSError):
            self.write_claim()

    def shut(self) -> None:
        """Have the thread that follows its log stop waiting for more."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)  # TLS's own would let its reader on to the bare socket


def submission_id(job_id: str, settings: Mapping[str, Any]) -> str:
    """Return what the cluster knows a job by; the home's own id tells it from those of other homes."""
    return f"taskapi-{job_id}-{settings['home_id']}"


def valid(told: Any) -> dict[str, Any] | None:
    """Return an outcome as a job told it, None where it can't be one; when it ended counts by this machine's clock."""
    try:
        status, reason, code, progress = (told.get(key) for key in ("status", "reason", "exit_code", "progress"))
        if not may_move(JobCode.RUNNING, JobCode(status)):
            return None
        return outcome(
            JobCode(status),
            None if reason is None else str(reason)[:2000],
            None if code is None else int(code),
            None if progress is None else str(progress),
        )
    except (TypeError, ValueError, AttributeError):
        return None
