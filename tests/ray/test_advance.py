"""What follows for a job on a Ray cluster, as a table: what is known of it, and what is done."""

from __future__ import annotations

from typing import Any

import pytest

from taskapi_jupyter.core import host
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.ray.advance import Action, Seen, advance
from taskapi_jupyter.ray.job import JobLog, Package, Phase, RayJob
from taskapi_jupyter.runner.outcome import too_late

NOW = 10_000.0
STOPPED = {"status": "stopped", "reason": None}
LATE = (JobCode.TIMED_OUT, "too late")
UNSENT, UNSURE, ARRIVED, ENDED = Phase.UNSENT, Phase.UNSURE, Phase.ARRIVED, Phase.ENDED
RUNS = {"status": "RUNNING", "node": "n"}


def job_of(phase: Phase, left: float | None = None, **known: Any) -> RayJob:
    """Return a job; ``left`` are the seconds that it has."""
    row = {"id": "j", "timeout": None if left is None else 5, "boot": host.boot_id()}
    row["left"] = left
    known = {"session": "one", "address": "http://one", "marker": "m", **known}
    if phase in (UNSURE, ARRIVED, ENDED):
        known = {"unsure_at": NOW - 5, **known}
    return RayJob(row, "/nowhere", "taskapi-j-h", phase, **known)


def from_now(job: RayJob) -> RayJob:
    """Count a job's seconds from now on, not from when this file was read."""
    left = job.job["left"]
    job.job["deadline"] = None if left is None else host.boottime() + left
    return job


def seen_of(**more: Any) -> Seen:
    """Return what is seen of a cluster that can be reached."""
    return Seen(**{"session": "one", "address": "http://one", "stop_grace": 1.0, **more})


MISSING = seen_of(missing=True)
ANEW = seen_of(missing=True, session="two")

#: What is known, what is seen, and what is to be done.
GOES_ON: dict[str, tuple[RayJob, Seen, Action | None]] = {
    "not listed, as it was never sent": (job_of(UNSENT, unseen_at=NOW), MISSING, Action.SUBMIT),
    "not listed, sent without an answer": (job_of(UNSURE, unseen_at=NOW), MISSING, Action.SUBMIT),
    "no list was read": (job_of(UNSENT), seen_of(), None),
    "put off": (job_of(UNSENT, try_at=NOW + 1), MISSING, None),
    "something did not get through": (job_of(UNSENT), MISSING._replace(suspect=True), None),
    "its package is on its way": (job_of(UNSENT, package=Package(uploading=True)), MISSING, None),
    "another session before it was sent": (job_of(UNSENT), ANEW, Action.SUBMIT_ANEW),
    "refused too often, but may be there": (job_of(UNSURE, refused=5, unseen_at=NOW), MISSING, None),
    "missed once": (job_of(ARRIVED, missed=1, **RUNS), MISSING, None),
    "missed once by another session": (job_of(ARRIVED, missed=1, **RUNS), ANEW, None),
    "missed nine times by the same session": (job_of(ARRIVED, missed=9, **RUNS), MISSING, None),
    "runs": (job_of(ARRIVED, 3, **RUNS), seen_of(), None),
    "to be stopped": (job_of(ARRIVED, stop_asked=True, **RUNS), seen_of(), Action.STOP),
    "to be stopped, may be on its way": (job_of(UNSURE, stop_asked=True, unseen_at=NOW), seen_of(), Action.STOP),
    "late, waits in Ray's line": (job_of(ARRIVED, -1, status="PENDING"), seen_of(), Action.TIME_OUT),
    "late, may say so itself": (job_of(ARRIVED, -1, **RUNS), seen_of(), None),
    "late, its log was heard since": (
        job_of(ARRIVED, -100, log=JobLog(followed_at=NOW - 90, heard_at=NOW - 1), **RUNS),
        seen_of(),
        Action.TIME_OUT,
    ),
    "late, its log is only just caught up with": (
        job_of(ARRIVED, -100, log=JobLog(followed_at=NOW - 3, heard_at=NOW - 1), **RUNS),
        seen_of(reached_since=NOW - 10),
        None,
    ),
    "late, its log was read as a whole since": (
        job_of(ARRIVED, -100, log=JobLog(read_at=NOW - 1), **RUNS),
        seen_of(reached_since=NOW),
        Action.TIME_OUT,
    ),
    "late, nothing is heard": (job_of(ARRIVED, -400, **RUNS), seen_of(), Action.TIME_OUT),
    "late, of a cluster that is just back": (job_of(ARRIVED, -400, **RUNS), seen_of(reached_since=NOW - 9), None),
    "late, of a cluster that is away": (job_of(ARRIVED, -400, **RUNS), seen_of(away=True), None),
    "late, not seen yet by this supervisor": (job_of(ARRIVED, -400), seen_of(), None),
    "late, stores what it left": (job_of(ARRIVED, -400, log=JobLog(storing=True), **RUNS), seen_of(), None),
    "stopped for being late": (job_of(ARRIVED, -400, ending=LATE, stop_asked=True, **RUNS), seen_of(), Action.STOP),
    "ended, its log is read": (job_of(ENDED, ended_at=NOW - 9, status="FAILED"), seen_of(), None),
    "ended, of a cluster that is away": (job_of(ENDED, log=JobLog(done=True)), seen_of(away=True), None),
}


@pytest.mark.parametrize("what", GOES_ON)
def test_goes_on(what: str) -> None:
    job, seen, action = GOES_ON[what]
    assert advance(from_now(job), seen, NOW) == (job.phase, action, None)


def test_a_log_is_followed_a_while_after_the_end() -> None:
    class Stream:
        """Stands for a socket."""

    for ended_at, action in ((NOW - 0.1, None), (NOW - 1, Action.SHUT)):
        job = job_of(ENDED, ended_at=ended_at, log=JobLog(stream=Stream()))  # type: ignore[arg-type]
        assert advance(from_now(job), seen_of(), NOW).action is action


FAILED = {"status": "FAILED", "log": JobLog(done=True)}

#: What is known, what is seen, and how it ended.
IS_OVER: dict[str, tuple[RayJob, Seen, tuple[str, str | None]]] = {
    "said so": (job_of(ARRIVED, log=JobLog(outcome=STOPPED)), seen_of(), ("stopped", None)),
    "said so, stopped for being late": (
        job_of(ARRIVED, ending=LATE, log=JobLog(outcome=STOPPED)),
        seen_of(),
        ("timed_out", "too late"),
    ),
    "said so, late, but succeeded": (
        job_of(ARRIVED, ending=LATE, log=JobLog(outcome={"status": "succeeded", "reason": None})),
        seen_of(),
        ("succeeded", None),
    ),
    "stopped before it was sent": (job_of(UNSENT, stop_asked=True), seen_of(), ("stopped", None)),
    "stopped, and never came": (
        job_of(UNSURE, stop_asked=True, unsure_at=NOW - 30, unseen_at=NOW),
        seen_of(),
        ("stopped", None),
    ),
    "late before it was sent": (job_of(UNSENT, -1), MISSING, ("timed_out", too_late({"timeout": 5}))),
    "deleted in Ray": (
        job_of(ARRIVED, missed=10, **RUNS),
        MISSING,
        ("unexpected_error", "the Ray cluster knows nothing of it any more: it was deleted there"),
    ),
    "forgotten": (
        job_of(ARRIVED, missed=2, **RUNS),
        ANEW,
        ("unexpected_error", "the Ray cluster knows nothing of it any more: its head was restarted"),
    ),
    "elsewhere": (
        job_of(ARRIVED, missed=2, **RUNS),
        ANEW._replace(address="http://two"),
        (
            "unexpected_error",
            "the Ray cluster knows nothing of it any more: it was sent to http://one, where it may still run",
        ),
    ),
    "forgotten before it was known": (
        job_of(UNSURE, unseen_at=NOW),
        ANEW,
        (
            "unexpected_error",
            "the Ray cluster knows nothing of it: its head was restarted before it was known whether it had begun",
        ),
    ),
    "refused": (
        job_of(UNSENT, refused=5, problem="Ray says: no"),
        MISSING,
        ("unexpected_error", "could not be started: Ray says: no"),
    ),
    "refused for too long": (
        job_of(UNSURE, unsure_at=NOW - 30, unseen_at=NOW, unseen_since=NOW - 301),
        MISSING,
        ("unexpected_error", "could not be started: Ray says nothing"),
    ),
    "failed, and could not say how": (
        job_of(ENDED, message="Job failed.\nIts node died.", **FAILED),
        seen_of(),
        ("unexpected_error", "Ray says: Its node died."),
    ),
    "Ray has its last lines": (
        job_of(ENDED, message='x\n\x1em{"outcome": {"status": "stopped"}}', **FAILED),
        seen_of(),
        ("stopped", None),
    ),
    "stopped in Ray": (
        job_of(ENDED, status="STOPPED", log=JobLog(done=True)),
        seen_of(),
        ("stopped", None),
    ),
    "stopped for being late, silently": (job_of(ENDED, ending=LATE, **FAILED), seen_of(), ("timed_out", "too late")),
    "succeeded, silently": (
        job_of(ENDED, status="SUCCEEDED", log=JobLog(done=True)),
        seen_of(),
        ("succeeded", "what it said of its end was lost"),
    ),
}


@pytest.mark.parametrize("what", IS_OVER)
def test_is_over(what: str) -> None:
    job, seen, how = IS_OVER[what]
    phase, action, outcome = advance(from_now(job), seen, NOW)
    assert outcome is not None
    assert (phase, action, (outcome["status"], outcome["reason"])) == (Phase.OVER, None, how)


def test_what_a_list_says() -> None:
    job = job_of(UNSENT)
    job.observe(None, 1.0, 2.0)
    assert (job.phase, job.unseen_at, job.unseen_since, job.missed) == (UNSENT, 1.0, 2.0, 0)
    job.observe({"status": "RUNNING", "driver_node_id": "n"}, 3.0, 4.0)
    assert (job.phase, job.status, job.node, job.ended_at) == (ARRIVED, "RUNNING", "n", None)
    job.observe(None, 5.0, 6.0)
    assert (job.phase, job.missed) == (ARRIVED, 1)
    job.observe({"status": "FAILED", "message": None}, 7.0, 8.0)
    assert (job.phase, job.missed, job.node, job.ended_at) == (ENDED, 0, "n", 8.0)
    assert job.log.wake_event.is_set()
    job.lose_sight()
    assert (job.unseen_since, job.ended_at) == (None, None)
