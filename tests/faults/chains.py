"""Jobs of a round that wait for others: what is done, and whether what came of it is true."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from taskapi_jupyter.client.taskapi import Job

from .plan import Facts
from .verdict import short


def use(
    ask: Callable[..., Any], configure: Callable[[str], dict[str, Any]], chance: random.Random, facts: Facts
) -> None:
    """Submit jobs that wait for one that succeeds and for one that fails, some with results, some for any end."""

    def submit(kind: str, **options: Any) -> str | None:
        job_id: str | None = ask("chain", "work", configure(kind), options)
        if job_id:
            facts.acknowledged[job_id] = kind
            waits = [*options.get("after", ()), *options.get("results", {}).values()]
            facts.chains[job_id] = waits, options.get("after_any", False)
        return job_id

    good, bad = submit("returns"), submit("raises")
    if good and bad:
        second = submit("returns", results={"before": good})
        ended = submit("returns", after=[bad, good])
        if second and ended:
            submit("returns", after=[second, ended], after_any=True)
            submit("returns", after=[ended], results={"before": second})
            if chance.random() < 0.5:
                submit("returns", after=[second], results={"before": good})


def fails(job: Job, jobs: dict[str, Job], facts: Facts) -> bool:
    """Whether a job had to end because one that it waited for did not succeed."""
    others, whatever = facts.chains.get(job.id, ([], False))
    return not whatever and any(one in jobs and jobs[one].status != "succeeded" for one in others)


def untruths(jobs: dict[str, Job], facts: Facts, begun: Callable[[list[str]], int]) -> Iterator[str]:
    """Yield what is not true of the jobs of a round that waited for others."""
    for job_id, (others, _) in facts.chains.items():
        job = jobs.get(job_id)
        if job is None or not others:
            continue
        failed = fails(job, jobs, facts)
        if failed and (begun([job_id]) or job.status != "stopped"):
            yield f"{job_id} ({job.status}) waited for one that did not succeed"
        if job.status == "stopped" and not failed and job_id not in facts.stops and not short(job, facts):
            yield f"{job_id} was stopped ({job.reason}), and what it waited for succeeded"
        for other in others:
            ended = jobs[other].end_time if other in jobs else None
            if job.start_time and ended and job.start_time < ended:
                yield f"{job_id} began before {other} had ended"
