"""Jobs on a Ray cluster, through its REST API; each runs our watcher and harness as its entry point.

A job's submission id is made of its job id, and Ray refuses an id that it has: a submission that may not have arrived
is sent once more. A job that arrived and that the cluster does not list is one that it forgot. :func:`advance` decides
what to do for a job; this module asks the cluster, and does it.
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
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.runner.outcome import too_late, vanished
from taskapi_jupyter.service import engine_settings

from . import package
from .advance import Action, Seen, advance
from .job import ENDED, Phase, RayJob, submission_id
from .logs import Logs
from .rest import RayCluster, Refused, last_line

UNREACHABLE = "unreachable"  # a file of the home that says since when, and why
NOTE = "note"  # a file of a job's folder: what is to be said of it while it runs

_POLL = 1.0  # seconds from one list of the cluster's jobs to the next
_SHARE = 10  # a list is asked for after ten times as long as it takes: it holds all users' jobs, ended ones too
_POLL_AWAY = 2.0  # seconds, while the cluster can't be reached
_RESOURCES = 15.0  # seconds that what the cluster has is believed
_STOP_EVERY = 5.0  # seconds from one request to stop a job to the next
_SMALL = 1 << 20  # bytes of a package that is sent at once
_UPLOADS = 4  # of larger ones at a time: each is in memory
_ORPHANED = 15.0  # seconds after which a job that runs there and is none of ours any more is stopped

#: What is handed over at a time to a cluster that does not say what it has.
_UNKNOWN: dict[str, Any] = {"cpus": 8000, "mem": 1 << 50, "gpus": 8}


class RayEngine:
    """Implements :class:`~taskapi_jupyter.service.supervisor.engines.Engine`.

    Threads read logs and send large packages; all else happens in the supervisor's own thread.
    """

    elastic = True
    templates = None

    def __init__(self, home: str, limits: Callable[[], Mapping[str, Any]], wake: Callable[[], None]) -> None:
        self.home = home
        self.limits = limits
        self.wake = wake
        self.jobs: dict[str, RayJob] = {}
        self.finished: dict[str, Mapping[str, Any]] = {}
        self.next_poll = 0.0
        self.suspect = False  # whether something did not get through, of a cluster that was there when last seen
        self.away = os.path.exists(os.path.join(home, UNREACHABLE))
        self.reached_since = time.monotonic()
        self.found: dict[str, Any] = {}
        self.found_until = 0.0
        self.logs = Logs(lambda: self.cluster, lambda: int(limits()["log_max_bytes"]), wake)
        self.orphans: dict[str, float] = {}  # jobs of ours that run there and that nobody knows, since when
        self.settings: dict[str, Any] = {}
        self.settings_read: object = None  # of which file
        self._read_settings()

    def _read_settings(self) -> None:
        """Read the cluster's address and credentials again, where they have changed."""
        try:
            about = os.stat(HomePaths(self.home).engine)
        except OSError:
            return
        stamp = (about.st_mtime_ns, about.st_ino)
        if stamp != self.settings_read:
            self.settings = engine_settings.read(self.home)
            self.cluster = RayCluster(self.settings)
            self.settings_read = stamp
            self.next_poll = 0.0

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
            self.found_until = time.monotonic() + (_RESOURCES if has else _POLL_AWAY)
            if has:
                self.found = {
                    "cpus": int(has.get("CPU", 0) * 1000),
                    "mem": int(has.get("memory", 0)),
                    "gpus": int(has.get("GPU", 0)),
                }
        return self.found or _UNKNOWN

    def accepts_jobs(self) -> bool:
        """Whether the cluster can be reached, and has said what it has."""
        return not self.away and not self.suspect and bool(self.found)

    def adopt(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Take over what an earlier supervisor marked running, on this machine's boot or an earlier one."""
        for row in jobs:
            self._know(row).read_claim()
        self.next_poll = 0.0

    def hand_over(self) -> dict[str, Any]:
        """Return nothing: what the next supervisor must know is in the jobs' folders."""
        return {}

    def take_over(self, handed: Mapping[str, Any]) -> None:
        """Take nothing."""

    def start(self, job: Mapping[str, Any]) -> None:
        """Submit a job, now or as soon as the cluster can be reached."""
        known = self._know(job)
        if not self.away and not self.suspect:
            self._submit(known)

    def stop(self, job_id: str, hurry: bool = False) -> None:
        """Ask the cluster to stop a job; ``hurry`` has no effect, as Ray passes on the first stop of a job only."""
        job = self.jobs.get(job_id)
        if job is not None:
            job.stop_asked = True
            self._send_stop(job)

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the jobs that ended since the last call, with their outcomes."""
        self._read_settings()
        self.suspect = self.suspect and bool(self.jobs)
        missing, session = set[str](), ""
        if (self.jobs or self.away) and time.monotonic() >= self.next_poll:
            missing, session = self._poll()
        grace = float(self.limits()["stop_grace"])
        for job_id, job in self.jobs.items():
            if job_id not in self.finished:
                self._advance(job, job_id in missing, session, grace)
        over, self.finished = self.finished, {}
        for job_id in over:
            job = self.jobs.pop(job_id)
            job.log.over = True
            job.log.wake_event.set()
            job.log.shut()
            with suppress(OSError):
                os.unlink(os.path.join(job.folder, NOTE))
        return list(over.items())

    def keep_ahead(self, wanted: bool) -> None:
        """Prepare nothing: a job's processes are on its node."""

    def recorded(self, job_id: str) -> None:
        """Keep what is here of a job: most of it was on the node."""

    def _advance(self, job: RayJob, missing: bool, session: str, grace: float) -> None:
        """Carry out what follows for a job."""
        seen = Seen(missing, session, self.cluster.address, self.away, self.suspect, self.reached_since, grace)
        job.phase, action, outcome = advance(job, seen, time.monotonic())
        if outcome is not None:
            self._finish(job, outcome)
        elif action is Action.SHUT:
            job.log.shut()
        elif action in (Action.STOP, Action.TIME_OUT):
            if action is Action.TIME_OUT:
                job.ending, job.stop_asked = (JobCode.TIMED_OUT, too_late(job.job)), True
            self._send_stop(job)
        elif action is not None:
            if action is Action.SUBMIT_ANEW:
                job.marker = ""
            self._submit(job)

    def filenos(self) -> list[int]:
        """Return nothing: threads write to the supervisor's FIFO."""
        return []

    def interval(self) -> float | None:
        """Return the seconds until the next list of the cluster's jobs."""
        if not self.jobs:
            return None
        hearing_out = any(job.ended_at is not None for job in self.jobs.values())
        return max(min(self.next_poll - time.monotonic(), 0.3 if hearing_out else _POLL_AWAY), 0.0)

    # Submitting

    def _know(self, row: Mapping[str, Any]) -> RayJob:
        folder = HomePaths(self.home).job(row["id"]).folder
        job = self.jobs[row["id"]] = RayJob(row, folder, submission_id(row["id"], self.settings))
        return job

    def _submit(self, job: RayJob) -> None:
        """Submit a job; where no answer says whether it arrived, the next list does."""
        before = job.phase, job.unsure_at
        try:
            files.create_folder(job.folder)
            if not job.marker:
                job.session = self.cluster.session()  # asked now: the last list may be of an earlier session
                job.marker, job.address, job.package.uri = secrets.token_hex(8), self.cluster.address, ""
                try:
                    job.write_claim()
                except OSError:
                    job.marker = ""  # nothing was sent, so no claim stands for it
                    raise
            fault_point("ray.claimed")
            if not job.package.uri and not self._upload(job):
                return
            fault_point("ray.uploaded")
            job.phase, job.unsure_at = Phase.UNSURE, time.monotonic()
            limits, uri = self.limits(), job.package.uri
            self.cluster.submit(package.request(self.home, job.job, job.submission_id, uri, limits, left=job.left()))
            fault_point("ray.submitted")
        except Refused as error:
            if "already exists" not in error.text:
                job.problem = f"Ray says: {last_line(error.text)}"
                if error.status < 500:  # else it may be coming up, or have taken it
                    job.refused += 1
                    job.phase, job.unsure_at = before
                return
        except Unreachable as error:  # whether the cluster is away for all, the next list tells
            job.problem = str(error)
            job.put_off()
            self._suspect()
            return
        except Exception as error:  # of the job's files: other jobs go on
            self._finish(job, vanished(f"could not be started: {type(error).__name__}: {error}"))
            return
        job.has_arrived()
        job.status = "PENDING"
        fault_point("ray.arrived")
        self.logs.follow(job)
        if job.job["timeout"] is not None:
            self.next_poll = min(self.next_poll, time.monotonic() + _POLL)

    def _upload(self, job: RayJob) -> bool:
        """Upload a job's package, once: Ray keeps a package that no job has used. Return whether it is there.

        A thread sends a large one, so that other jobs need not wait for it.
        """
        its = job.package
        error, its.error = its.error, None
        if error is not None:
            job.put_off()
            raise error
        if its.uploading or (its.large and self._not_its_turn(job)):
            return False
        storage = self.settings.get("storage")
        packed = package.pack(self.home, job.job, self.limits(), marker=job.marker, storage=storage)
        name = f"_ray_pkg_{hashlib.sha256(packed).hexdigest()[:32]}.zip"
        cluster, marker = self.cluster, job.marker
        its.large = len(packed) > _SMALL
        if not its.large:
            its.uri = cluster.upload(name, packed)
            return True
        if self._not_its_turn(job):
            return False

        def upload() -> None:
            try:
                uri = cluster.upload(name, packed)
                if job.marker == marker:  # else it goes to another session by now
                    its.uri, job.unseen_since = uri, None
            except Exception as error:  # `_submit` raises it
                its.error = error
            its.uploading, self.next_poll = False, 0.0  # which submits it
            self.wake()

        its.uploading = True
        threading.Thread(target=upload, daemon=True).start()
        return False

    def _not_its_turn(self, job: RayJob) -> bool:
        if sum(one.package.uploading for one in self.jobs.values()) < _UPLOADS:
            return False
        job.unseen_since = None
        return True

    def _send_stop(self, job: RayJob) -> None:
        now = time.monotonic()
        if self.away or self.suspect or now - job.stop_sent < _STOP_EVERY or job.phase is Phase.UNSENT:
            return
        job.stop_sent = now
        try:
            self.cluster.stop(job.submission_id)
            self.next_poll = min(self.next_poll, now + 0.2)
        except Unreachable:  # whether the cluster is away for all, the next list tells
            self._suspect()
        except Refused as error:
            if error.status != 404:
                job.problem = last_line(error.text)

    def _suspect(self) -> None:
        self.suspect, self.next_poll = True, 0.0

    # Looking

    def _poll(self) -> tuple[set[str], str]:
        """Ask the cluster for all jobs, with one request; return those of ours that it does not list, and its session.

        The session is asked for where one is missing: another one is a cluster that forgot them.
        """
        self.next_poll = time.monotonic() + _POLL
        session = ""
        try:
            began = time.monotonic()
            there = self.cluster.jobs()
            took = time.monotonic() - began
            missing = {job_id for job_id, job in self.jobs.items() if job.submission_id not in there}
            if missing:
                session = self.cluster.session()
        except Unreachable as error:
            self._is_away(error)
            return set(), ""
        except Refused as error:  # a head that is starting
            self._is_away(
                Unreachable(f"the Ray cluster at {self.cluster.address} answers with an error: {last_line(error.text)}")
            )
            return set(), ""
        self._is_back()
        self.next_poll = time.monotonic() + max(_POLL, _SHARE * took)
        self._stop_orphans(there)
        for job_id, job in self.jobs.items():
            if job_id not in self.finished:
                job.observe(there.get(job.submission_id), began, time.monotonic())
                if job_id not in missing:
                    self._note(job)
                    if job.log.thread is None:
                        self.logs.follow(job)
        return missing, session

    def _stop_orphans(self, there: Mapping[str, Mapping[str, Any]]) -> None:
        """Stop jobs that run there under our name and that nobody knows: a submission that arrived late, say."""
        now, known = time.monotonic(), {job.submission_id for job in self.jobs.values()}
        orphans = {
            one
            for one, entry in there.items()
            if one.endswith(f"-{self.settings['home_id']}") and one not in known and entry.get("status") not in ENDED
        }
        self.orphans = {one: self.orphans.get(one, now) for one in orphans}
        for one, since in self.orphans.items():
            if now - since > _ORPHANED:
                self.orphans[one] = now
                with suppress(Unreachable, Refused):
                    self.cluster.stop(one)

    def _finish(self, job: RayJob, how: Mapping[str, Any]) -> None:
        self.finished.setdefault(job.job["id"], how)

    # Away and back

    def _is_away(self, error: Unreachable) -> None:
        self.next_poll = time.monotonic() + _POLL_AWAY
        for job in self.jobs.values():
            job.lose_sight()
        if not self.away:
            self.away = True
            since = {"since": host.now_us(), "why": str(error)}
            with suppress(OSError):
                files.write_atomic(os.path.join(self.home, UNREACHABLE), json.dumps(since).encode(), sync=False)

    def _is_back(self) -> None:
        self.suspect = False
        if self.away:
            self.away = False
            self.reached_since = time.monotonic()
            self.found_until = 0.0
            with suppress(OSError):
                os.unlink(os.path.join(self.home, UNREACHABLE))

    def _note(self, job: RayJob) -> None:
        """Write a note for a job that waits in the cluster's own queue, which its readers show."""
        path = os.path.join(job.folder, NOTE)
        with suppress(OSError):
            if job.status == "PENDING":
                if not os.path.exists(path):
                    files.write_atomic(path, b"waiting for the Ray cluster to have room for it", sync=False)
            elif os.path.exists(path):
                os.unlink(path)
