"""Decides what to do next for a job on a Ray cluster, from what is known of it: one pure function.

The engine calls it for each job in each of its steps, and carries out what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.node.frames import Reader, frame
from taskapi_jupyter.runner.outcome import outcome, too_late, vanished

from .job import Phase, RayJob, valid
from .rest import last_line

_TRIES = 5  # of a submission that Ray answers with an error
_MISSED = 2  # lists without a job that arrived, of another session, after which it is forgotten
_MISSED_AND_SAME = 10  # of the same session
_HEARD_OUT = 0.7  # seconds that a log is followed on after Ray has said that its job ended
_GRACE = 2.0  # seconds past a deadline, after which the job is stopped from here
_CAUGHT_UP = 5.0  # seconds after which what was in a log is read that is followed
_UNHEARD = 300.0  # seconds past a deadline, after which a job is stopped whose log can't be had
_UNSURE = 20.0  # seconds that a submission may be underway in Ray which nobody heard back from
_REFUSED = 300.0  # seconds that Ray may answer submissions with errors of its own


class Seen(NamedTuple):
    """What the engine has just learned of the cluster, as far as it concerns one job."""

    missing: bool = False  # whether a list of its jobs was read just now, without this one
    session: str = ""  # of the cluster that sent the list
    address: str = ""  # of the cluster now
    away: bool = False  # whether it can't be reached
    suspect: bool = False  # whether something did not get through since it was last reached
    reached_since: float = 0.0  # when it could be reached again
    stop_grace: float = 0.0  # seconds


class Action(Enum):
    """What the engine is to do for a job."""

    SUBMIT = "submit"
    SUBMIT_ANEW = "submit anew"  # to another session, with another claim
    STOP = "stop"
    TIME_OUT = "time out"  # stop it, for being past its deadline
    SHUT = "shut"  # have its log no longer followed, but read to its end


class Step(NamedTuple):
    """Where a job is now, what is to be done, and how it ended where it is over."""

    phase: Phase
    action: Action | None = None
    outcome: Mapping[str, Any] | None = None


def advance(job: RayJob, seen: Seen, now: float) -> Step:
    """Return a job's phase, what to do next, and its outcome where it is over; changes nothing and does no I/O."""
    if job.log.outcome is not None:
        return _over(_overruled(job, job.log.outcome))
    if seen.missing and job.arrived:
        same = job.session == seen.session
        if job.missed >= (_MISSED_AND_SAME if same else _MISSED):
            why = "it was deleted there" if same else _elsewhere(job, seen) or "its head was restarted"
            return _over(vanished(f"the Ray cluster knows nothing of it any more: {why}"))
    if job.phase is Phase.ENDED:
        return _read_to_the_end(job, seen, now)
    never_came = job.phase is Phase.UNSENT or (not job.arrived and job.unseen_at - job.unsure_at > _UNSURE)
    if job.stop_asked and never_came:
        return _over(outcome(*(job.ending or (JobCode.STOPPED, None))))
    left = job.left()
    if job.ending is None and left is not None and left <= 0 and _is_overdue(job, seen, left, now):
        if job.phase is Phase.UNSENT:
            return _over(outcome(JobCode.TIMED_OUT, too_late(job.job)))
        return Step(job.phase, Action.TIME_OUT)
    if job.stop_asked:
        return Step(job.phase, Action.STOP)
    if seen.missing and not job.arrived and not job.package.uploading:
        return _send_again(job, seen, never_came, now)
    return Step(job.phase)


def _send_again(job: RayJob, seen: Seen, never_came: bool, now: float) -> Step:
    """Decide for a job that the cluster does not list, and that may never have arrived there."""
    moved = job.session not in ("", seen.session)
    if moved and job.phase is Phase.UNSURE:
        why = _elsewhere(job, seen) or "its head was restarted before it was known whether it had begun"
        return _over(vanished(f"the Ray cluster knows nothing of it: {why}"))
    if job.refused >= _TRIES or now - (job.unseen_since or now) > _REFUSED:
        if not never_came:
            return Step(job.phase)
        return _over(vanished(f"could not be started: {job.problem or job.package.error or 'Ray says nothing'}"))
    if seen.suspect or now < job.try_at:
        return Step(job.phase)
    return Step(job.phase, Action.SUBMIT_ANEW if moved else Action.SUBMIT)


def _read_to_the_end(job: RayJob, seen: Seen, now: float) -> Step:
    """Decide for a job that Ray reports as ended: the end of its log may say how."""
    if seen.away:
        return Step(Phase.ENDED)
    if job.log.done:
        return _over(concluded(job))
    heard_out = job.ended_at is not None and now - job.ended_at > _HEARD_OUT
    return Step(Phase.ENDED, Action.SHUT if job.log.stream is not None and heard_out else None)


def _is_overdue(job: RayJob, seen: Seen, left: float, now: float) -> bool:
    """Whether a job is past its deadline and is not storing what its task left.

    One that runs says so in its log, which has to be known up to when it would have.
    """
    if job.phase is Phase.UNSENT:
        return True
    if seen.away or job.log.storing or (job.arrived and not job.status):
        return False  # it may have ended since it was seen last
    if job.status != "RUNNING" and job.node is None:
        return True
    would_have = now + left + _GRACE + seen.stop_grace
    if now < would_have:
        return False
    log = job.log
    followed = log.followed_at is not None and log.heard_at > max(would_have, log.followed_at + _CAUGHT_UP)
    return followed or log.read_at > would_have or now - max(would_have, seen.reached_since) > _UNHEARD


def _elsewhere(job: RayJob, seen: Seen) -> str | None:
    """Return a text where a job was sent to another address than the environment has now, else None."""
    return None if job.address in ("", seen.address) else f"it was sent to {job.address}, where it may still run"


def _overruled(job: RayJob, told: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome in a job's log; where the engine stopped the job, with the engine's reason."""
    if job.ending is not None and told["status"] == JobCode.STOPPED.value:
        return {**told, "status": job.ending[0].value, "reason": job.ending[1]}
    return told


def concluded(job: RayJob) -> dict[str, Any]:
    """Return the outcome of a job whose log has none."""
    for value in Reader(job.marker).feed(frame(job.marker, {"begin": 1}) + job.message.encode() + b"\n"):
        if isinstance(value, dict) and (told := valid(value.get("outcome"))):
            return told
    if job.ending is not None:
        return outcome(*job.ending)
    if job.status == "STOPPED" or (job.stop_asked and job.node is None):
        return outcome(JobCode.STOPPED)
    if job.status == "SUCCEEDED":  # its entry point leaves with 0 for no other end
        return outcome(JobCode.SUCCEEDED, "what it said of its end was lost", 0)
    said = job.message.partition("last available logs")[0].rstrip(", ")  # these are the task's words, not Ray's
    return vanished(f"Ray says: {last_line(said)}")


def _over(how: Mapping[str, Any]) -> Step:
    return Step(Phase.OVER, outcome=how)
