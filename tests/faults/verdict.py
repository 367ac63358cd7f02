"""Whether what a job's record says is true."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from taskapi_jupyter.client.taskapi import Job

from .jobs import KINDS
from .plan import Facts


def may_be(job: Job, facts: Facts, ended: bool, cut: bool) -> set[str]:
    """Return the states that a job may have ended in, after what was done to it; ``cut``: another's end ended it."""
    if cut:
        return {"stopped"}
    states = {KINDS[job.config["kind"]][1]}
    states.discard("stopped")
    if job.id in facts.stops or job.api_name == "temp":
        states.add("stopped")
    if job.id in facts.killed_watchers:
        states.add("unexpected_error")
    if killed(job) and (job.id in facts.killed_tasks or (facts.killed_unknown and not ended)):
        states.add("worker_error")
    if short(job, facts):
        states |= {"worker_error", *(["stopped"] if job.id in facts.chains else [])}
    return states


def short(job: Job, facts: Facts) -> bool:
    """Say whether a job's record says that the disk had no room for what it wrote, and that was so."""
    return facts.no_inodes and "No space left on device" in (job.reason or "")


def killed(job: Job) -> bool:
    """Say whether a job's record says that its process was killed."""
    return job.status == "worker_error" and job.record.exit_code == -signal.SIGKILL


def untruths(job: Job, facts: Facts, begun: int, ended: bool, before: str, cut: bool) -> Iterator[str]:
    """Yield what is not true in a job's record; ``before`` is the terminal state in which it was seen first."""
    states = may_be(job, facts, ended, cut)
    if job.status not in states:
        yield f"should be {' or '.join(sorted(states))}"
    if before != job.status:
        yield f"was {before} before"
    if facts.stops.get(job.id) and job.status != "stopped":
        yield "somebody was told that it was stopped"
    if job.status == "succeeded" and not ended:
        yield "it never came to its end"
    elif job.status == "succeeded" and not short(job, facts) and job.result() != {"n": job.config["n"]}:
        yield "its result is another's"
    if not begun and not killed(job) and job.status in ("succeeded", "worker_oom", "worker_error"):
        yield "it never began"
    if job.status == "worker_error" and not killed(job) and not short(job, facts):
        reason = {"raises": "ValueError: told", "command": "exit code 3"}.get(job.config["kind"])
        if job.reason != reason:
            yield f"why is {reason}"
    if job.start_time and job.end_time and job.start_time > job.end_time:
        yield "it ended before it began"
