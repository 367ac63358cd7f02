"""Jobs on a Ray cluster, through its REST API: our harness and watcher go along as each job's entry point.

A job's submission id is made of its job id, and Ray refuses an id that it has: a submission of which it is not
known whether it arrived is sent once more. A job that arrived and that the cluster does not know is one that it forgot.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, host
from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.node.frames import Reader
from taskapi_jupyter.runner.outcome import outcome, too_late, vanished, write_atomically
from taskapi_jupyter.service import engine_settings

from . import package
from .job import ENDED, Flight, submission_id, valid
from .logs import Logs
from .rest import RayCluster, Refused, last_line

UNREACHABLE = "unreachable"  # a file of the home that says since when, and why
NOTE = "note"  # a file of a job's folder: what is to be said of it while it runs

_LOOK = 1.0  # seconds from one list of the cluster's jobs to the next
_SHARE = 10  # times as long as a list takes is waited for the next: it holds everybody's jobs, ended ones too
_LOOK_AWAY = 2.0  # seconds, while the cluster can't be reached
_RESOURCES = 15.0  # seconds that what the cluster has is believed
_TRIES = 5  # of a submission that Ray answers with an error
_MISSED = 2  # lists without a job that arrived, of another session, after which it is forgotten
_MISSED_AND_SAME = 10  # of the same session
_STOP_EVERY = 5.0  # seconds from one request to stop a job to the next
_HEARD_OUT = 0.7  # seconds that a log is followed on after Ray has said that its job ended
_GRACE = 2.0  # seconds past a deadline, after which the job is stopped from here
_CAUGHT_UP = 5.0  # seconds after which what was in a log is read that is followed
_UNHEARD = 300.0  # seconds past a deadline, after which a job is stopped whose log can't be had
_SMALL = 1 << 20  # bytes of a package that is sent at once
_UPLOADS = 4  # of larger ones at a time: each is in memory
_UNSURE = 20.0  # seconds that a submission may be underway in Ray which nobody heard back from
_REFUSED = 300.0  # seconds that Ray may answer submissions with errors of its own
_STRAY = 15.0  # seconds after which a job that runs there and is none of ours any more is stopped

#: What is handed over at a time to a cluster that does not say what it has.
_UNKNOWN: dict[str, Any] = {"cpus": 8000, "mem": 1 << 50, "gpus": 8}


class RayEngine:
    """Implements ``contract.Engine``. Threads read logs; all else happens in the supervisor's own."""

    elastic = True  # what it has not now, a job waits for

    def __init__(self, home: str, limits: Callable[[], Mapping[str, Any]], wake: Callable[[], None]) -> None:
        self.home = home
        self.limits = limits
        self.wake = wake
        self.flights: dict[str, Flight] = {}
        self.fallen: dict[str, Mapping[str, Any]] = {}
        self.next_look = 0.0
        self.session = ""
        self.doubt = False  # whether something did not get through, of a cluster that was there when last seen
        self.listed_at = float("-inf")  # when the list of jobs was asked for last
        self.away = os.path.exists(os.path.join(home, UNREACHABLE))
        self.found: dict[str, Any] = {}
        self.found_until = 0.0
        self.logs = Logs(lambda: self.cluster, lambda: int(limits()["log_max_bytes"]), wake)
        self.strays: dict[str, float] = {}  # jobs of ours that run there and that nobody knows, since when
        self.settings: dict[str, Any] = {}
        self.seen: object = None
        self._read_settings()

    def _read_settings(self) -> None:
        """Read the cluster's address and what lets us in again, where that has changed."""
        try:
            about = os.stat(os.path.join(self.home, engine_settings.NAME))
        except OSError:
            return
        seen = (about.st_mtime_ns, about.st_ino)
        if seen != self.seen:
            self.settings = engine_settings.read(self.home)
            self.cluster = RayCluster(self.settings)
            self.seen = seen
            self.next_look = 0.0

    # The protocol

    def capacity(self) -> dict[str, Any]:
        """Return what jobs may use of the cluster: thousandths of cores, bytes of memory, GPUs."""
        if time.monotonic() >= self.found_until:
            has: Mapping[str, float] = {}
            try:
                has = self.cluster.resources()
            except Unreachable:
                pass
            except Refused:
                self.found = self.found or _UNKNOWN
            self.found_until = time.monotonic() + (_RESOURCES if has else _LOOK_AWAY)
            if has:
                self.found = {
                    "cpus": int(has.get("CPU", 0) * 1000),
                    "mem": int(has.get("memory", 0)),
                    "gpus": int(has.get("GPU", 0)),
                }
        return self.found or _UNKNOWN

    def accepts_jobs(self) -> bool:
        """Say whether the cluster can be reached, and has said what it has."""
        return not self.away and not self.doubt and bool(self.found)

    def adopt(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Take over what an earlier supervisor marked running, on this machine's boot or an earlier one."""
        for job in jobs:
            flight = self._flight(job)
            flight.read_claim()
        self.next_look = 0.0

    def hand_over(self) -> dict[str, Any]:
        """Return nothing: what the next supervisor must know is in the jobs' folders."""
        return {}

    def take_over(self, handed: Mapping[str, Any]) -> None:
        """Take nothing."""

    def start(self, job: Mapping[str, Any]) -> None:
        """Submit a job, or have that done as soon as the cluster can be reached."""
        flight = self._flight(job)
        if not self.away and not self.doubt:
            self._submit(flight)

    def stop(self, job_id: str, hurry: bool = False) -> None:
        """Ask the cluster to stop a job. Ray passes on the first stop of a job alone: none ends its grace period."""
        flight = self.flights.get(job_id)
        if flight is not None:
            flight.stop_asked = True
            self._send_stop(flight)

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the jobs that ended since the last call, with their outcomes."""
        self._read_settings()
        self.doubt = self.doubt and bool(self.flights)
        if (self.flights or self.away) and time.monotonic() >= self.next_look:
            self._look()
        for flight in self.flights.values():
            self._judge(flight)
        over, self.fallen = self.fallen, {}
        for job_id in over:
            flight = self.flights.pop(job_id)
            flight.over = True
            flight.hurry.set()
            flight.shut()
            with suppress(OSError):
                os.unlink(os.path.join(flight.folder, NOTE))
        return list(over.items())

    def filenos(self) -> list[int]:
        """Return nothing: threads write to the supervisor's FIFO."""
        return []

    def interval(self) -> float | None:
        """Return how long until the next look at the cluster."""
        if not self.flights:
            return None
        hearing_out = any(flight.ended_at is not None for flight in self.flights.values())
        return max(min(self.next_look - time.monotonic(), 0.3 if hearing_out else _LOOK_AWAY), 0.0)

    # Submitting

    def _flight(self, job: Mapping[str, Any]) -> Flight:
        folder = os.path.join(self.home, "jobs", job["id"])
        flight = self.flights[job["id"]] = Flight(job, folder, submission_id(job["id"], self.settings))
        return flight

    def _submit(self, flight: Flight) -> None:
        """Send a job; what is not known to have arrived afterwards, the next list tells."""
        job, before = flight.job, flight.unsure_at
        try:
            files.create_folder(flight.folder)
            if not flight.word:
                self.session = self.cluster.session()  # now: who looked last may have looked at another
                flight.session, flight.word, flight.uri = self.session, secrets.token_hex(8), ""
                flight.address = self.cluster.address
                try:
                    flight.write_claim()
                except OSError:
                    flight.word = ""  # nothing was sent that this would be about
                    raise
            fault_point("ray.claimed")
            limits = self.limits()
            if not flight.uri and not self._upload(flight):
                return
            fault_point("ray.uploaded")
            flight.unsure_at = time.monotonic()
            request = package.request(self.home, job, flight.submission_id, flight.uri, limits, left=flight.left())
            self.cluster.submit(request)
            fault_point("ray.submitted")
        except Refused as error:
            if "already exists" not in error.text:
                flight.problem = f"Ray says: {last_line(error.text)}"
                if error.status < 500:  # else it may be coming up, or have taken it
                    flight.refused += 1
                    flight.unsure_at = before
                return
        except Unreachable as error:  # whether that is so for all, the next look tells
            flight.problem = str(error)
            flight.put_off()
            self.doubt, self.next_look = True, 0.0
            return
        except Exception as error:  # of its files: no other job is to wait for this one
            self._fall(flight, vanished(f"could not be started: {type(error).__name__}: {error}"))
            return
        flight.has_arrived()
        flight.status = "PENDING"
        fault_point("ray.arrived")
        self.logs.follow(flight)
        if job["timeout"] is not None:
            self.next_look = min(self.next_look, time.monotonic() + _LOOK)

    def _upload(self, flight: Flight) -> bool:
        """Have its package in the cluster, once: Ray keeps what no job has referred to. Say whether it is there.

        What may take a while to send, a thread does, and who waits for other jobs does not wait for this one.
        """
        error, flight.upload_error = flight.upload_error, None
        if error is not None:
            flight.put_off()
            raise error
        if flight.uploading or (flight.large and self._not_its_turn(flight)):
            return False
        packed = package.pack(
            self.home, flight.job, self.limits(), word=flight.word, storage=self.settings.get("storage")
        )
        name = f"_ray_pkg_{hashlib.sha256(packed).hexdigest()[:32]}.zip"
        cluster, word = self.cluster, flight.word
        flight.large = len(packed) > _SMALL
        if not flight.large:
            flight.uri = cluster.upload(name, packed)
            return True
        if self._not_its_turn(flight):
            return False

        def upload() -> None:
            try:
                uri = cluster.upload(name, packed)
                if flight.word == word:  # else it goes to another session by now
                    flight.uri, flight.unseen_since = uri, None
            except Exception as error:  # whatever it is, `_submit` says it
                flight.upload_error = error
            flight.uploading, self.next_look = False, 0.0  # which submits it
            self.wake()

        flight.uploading = True
        threading.Thread(target=upload, daemon=True).start()
        return False

    def _not_its_turn(self, flight: Flight) -> bool:
        if sum(one.uploading for one in self.flights.values()) < _UPLOADS:
            return False
        flight.unseen_since = None
        return True

    def _send_stop(self, flight: Flight) -> None:
        now = time.monotonic()
        if self.away or self.doubt or now - flight.stop_sent < _STOP_EVERY:
            return
        if not flight.arrived and not flight.sent:
            return  # it never left: `_judge` sees to it
        flight.stop_sent = now
        try:
            self.cluster.stop(flight.submission_id)
            self.next_look = min(self.next_look, now + 0.2)
        except Unreachable:  # whether that is so for all, the next look tells
            self.doubt, self.next_look = True, 0.0
        except Refused as error:
            if error.status != 404:
                flight.problem = last_line(error.text)

    # Looking

    def _look(self) -> None:
        """See with one request what the cluster says of all jobs."""
        self.next_look = time.monotonic() + _LOOK
        try:
            if any(not flight.arrived for flight in self.flights.values()) or self.away:
                self.session = self.cluster.session()
            self.listed_at = time.monotonic()
            there = self.cluster.jobs()
            took = time.monotonic() - self.listed_at
        except Unreachable as error:
            self._is_away(error)
            return
        except Refused as error:  # a head that is only just coming up
            self._is_away(
                Unreachable(f"the Ray cluster at {self.cluster.address} answers with an error: {last_line(error.text)}")
            )
            return
        self._is_back()
        self.doubt = False
        self.next_look = time.monotonic() + max(_LOOK, _SHARE * took)
        self._stop_strays(there)
        for flight in [one for job_id, one in self.flights.items() if job_id not in self.fallen]:
            seen = there.get(flight.submission_id)
            if seen is None:
                try:
                    self._missing(flight)
                except (Unreachable, Refused):
                    return
                continue
            flight.missed = 0
            node = seen.get("driver_node_id")
            flight.node = node if isinstance(node, str) else flight.node
            if not flight.arrived:
                flight.has_arrived()
            flight.status, flight.message = str(seen.get("status")), str(seen.get("message") or "")
            if flight.status in ENDED:
                flight.hurry.set()
            self._note(flight)
            if flight.log is None:
                self.logs.follow(flight)

    def _stop_strays(self, there: Mapping[str, Mapping[str, Any]]) -> None:
        """Stop what runs there as ours and is not: a submission that came after it was given up, say."""
        now, known = time.monotonic(), {flight.submission_id for flight in self.flights.values()}
        strays = {
            one
            for one, seen in there.items()
            if one.endswith(f"-{self.settings['home_id']}") and one not in known and seen.get("status") not in ENDED
        }
        self.strays = {one: self.strays.get(one, now) for one in strays}
        for one, since in self.strays.items():
            if now - since > _STRAY:
                self.strays[one] = now
                with suppress(Unreachable, Refused):
                    self.cluster.stop(one)

    def _missing(self, flight: Flight) -> None:
        """See to a job that the cluster does not list."""
        if flight.arrived:
            flight.missed += 1
            same = flight.session == self.cluster.session()
            if flight.missed >= (_MISSED_AND_SAME if same else _MISSED):
                why = "it was deleted there" if same else self._elsewhere(flight) or "its head was restarted"
                self._fall(flight, vanished(f"the Ray cluster knows nothing of it any more: {why}"))
            return
        now, flight.unseen_at = time.monotonic(), self.listed_at
        if flight.stop_asked or flight.uploading:
            return
        since = flight.unseen_since = flight.unseen_since or now
        if flight.session and flight.session != self.session:
            if flight.sent:
                why = self._elsewhere(flight) or "its head was restarted before it was known whether it had begun"
                self._fall(flight, vanished(f"the Ray cluster knows nothing of it: {why}"))
                return
            flight.word = ""  # it was not sent: its claim is made anew
        if flight.refused >= _TRIES or now - since > _REFUSED:
            if self._never_came(flight):
                self._fall(
                    flight,
                    vanished(f"could not be started: {flight.problem or flight.upload_error or 'Ray says nothing'}"),
                )
            return
        if not self.doubt and now >= flight.try_at:
            self._submit(flight)

    def _elsewhere(self, flight: Flight) -> str | None:
        """Say that a job was sent to another cluster than the environment's address leads to now."""
        there = flight.address
        return None if there in ("", self.cluster.address) else f"it was sent to {there}, where it may still run"

    def _judge(self, flight: Flight) -> None:
        """Conclude a job that has ended, and see to it that one past its deadline does."""
        if flight.outcome is not None:
            told = flight.outcome
            if flight.ending is not None and told["status"] == JobCode.STOPPED.value:
                told = {**told, "status": flight.ending[0].value, "reason": flight.ending[1]}
            self._fall(flight, told)
            return
        left = flight.left()
        if flight.stop_asked and not flight.arrived and (not flight.sent or self._never_came(flight)):
            self._fall(flight, outcome(*(flight.ending or (JobCode.STOPPED, None))))
            return
        if flight.status in ENDED:
            if self.away:  # it may say how it ended when it can be heard again
                flight.ended_at, flight.waited, flight.cut = None, 0.0, 0
                return
            flight.ended_at = flight.ended_at or time.monotonic()
            if flight.stream is not None and time.monotonic() - flight.ended_at > _HEARD_OUT:
                flight.shut()  # it has said its last: the log is read once more, to its end
            if flight.log is None:
                self.logs.follow(flight)
            elif flight.outcome is None and flight.log_done:
                self._fall(flight, self._concluded(flight))
            return
        if self.away:
            flight.overdue_at = None
        if left is not None and left <= 0 and (not flight.sent or self._overdue(flight, left)):
            flight.ending = flight.ending or (JobCode.TIMED_OUT, too_late(flight.job))
            flight.stop_asked = True
        if flight.stop_asked:
            self._send_stop(flight)

    def _overdue(self, flight: Flight, left: float) -> bool:
        """Say whether a job that was sent is past its deadline, and not at storing what it left.

        It says so in its log, which has to be known up to when it would have.
        """
        if self.away or flight.storing or (flight.arrived and not flight.status):
            return False  # it may have ended since it was seen last
        if flight.status != "RUNNING" and flight.node is None:
            return True
        now = time.monotonic()
        would_have = now + left + _GRACE + float(self.limits()["stop_grace"])
        if now < would_have:
            return False
        flight.overdue_at = flight.overdue_at or now
        followed_at = flight.followed_at
        followed = followed_at is not None and flight.heard_at > max(would_have, followed_at + _CAUGHT_UP)
        return followed or flight.read_at > would_have or now - flight.overdue_at > _UNHEARD

    @staticmethod
    def _never_came(flight: Flight) -> bool:
        """Say whether a submission that nobody heard back from would be in the cluster's list by now."""
        return flight.unseen_at - flight.unsure_at > _UNSURE

    def _concluded(self, flight: Flight) -> dict[str, Any]:
        """Return how a job ended that could not say so itself."""
        for value in Reader(flight.word).feed(
            b"\x1e" + flight.word.encode() + b'{"begin": 1}\n' + flight.message.encode() + b"\n"
        ):
            if isinstance(value, dict) and (told := valid(value.get("outcome"))):
                return told
        if flight.ending is not None:
            return outcome(*flight.ending)
        if flight.status == "STOPPED" or (flight.stop_asked and flight.node is None):
            return outcome(JobCode.STOPPED)
        if flight.status == "SUCCEEDED":  # its entry point leaves with 0 for no other end
            return outcome(JobCode.SUCCEEDED, "what it said of its end was lost", 0)
        said = flight.message.partition("last available logs")[0].rstrip(", ")  # these are the task's words, not Ray's
        return vanished(f"Ray says: {last_line(said)}")

    def _fall(self, flight: Flight, how: Mapping[str, Any]) -> None:
        self.fallen.setdefault(flight.job["id"], how)

    # Away and back

    def _is_away(self, error: Unreachable) -> None:
        self.next_look = time.monotonic() + _LOOK_AWAY
        for flight in self.flights.values():
            flight.unseen_since = None
        if not self.away:
            self.away = True
            since = {"since": host.now_us(), "why": str(error)}
            with suppress(OSError):
                write_atomically(os.path.join(self.home, UNREACHABLE), json.dumps(since).encode())

    def _is_back(self) -> None:
        if self.away:
            self.away = False
            self.found_until = 0.0
            with suppress(OSError):
                os.unlink(os.path.join(self.home, UNREACHABLE))

    def _note(self, flight: Flight) -> None:
        """Leave a word on a job that waits in the cluster's own line."""
        path = os.path.join(flight.folder, NOTE)
        with suppress(OSError):
            if flight.status == "PENDING":
                if not os.path.exists(path):
                    write_atomically(path, b"waiting for the Ray cluster to have room for it")
            elif os.path.exists(path):
                os.unlink(path)
