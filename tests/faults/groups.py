"""Groups and further attempts in a round: what is done, and whether what came of it is true."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from taskapi_jupyter.client.taskapi import Job

from .plan import Facts, Round

SIZE = 4
ATTEMPTS = 2  # further ones, of each job of a group that may be tried again


def use(
    ask: Callable[..., Any],
    configure: Callable[[str], dict[str, Any]],
    chance: random.Random,
    facts: Facts,
    begun: Callable[[list[str]], int],
) -> None:
    """Submit a group whose jobs end by themselves, some after further attempts, and one that is stopped."""
    ends = [configure(kind) for kind in ("returns", "raises", "returns", "returns")]
    options = {
        "retries": ATTEMPTS,
        "retry_delay": chance.choice([0, 0, 0.2]),
        "max_running": chance.choice([None, 1, 2]),
    }
    made = ask("map", "work", ends, options)
    if made:
        facts.acknowledged |= dict(zip(made[1], ("returns", "raises", "returns", "returns"), strict=True))
    made = ask("map", "work", [configure("asleep") for _ in range(SIZE)], {"max_running": chance.choice([None, 2])})
    if made:
        group_id, ids = made
        facts.acknowledged |= dict.fromkeys(ids, "asleep")
        facts.stops |= dict.fromkeys(ids, False)
        time.sleep(chance.choice([0, 0.05, 0.3]))
        if ask("stop_group", group_id):
            facts.quiet[group_id] = (ids, begun(ids))


def untruths(jobs: dict[str, Job], round_: Round, facts: Facts, begun: Callable[[list[str]], int]) -> Iterator[str]:
    """Yield what is not true of the groups of a round, and of attempts; ``jobs`` are those of the round."""
    grouped = [job for job in jobs.values() if job.record.group]
    sizes = Counter(job.record.group for job in grouped if not job.record.retry_of)
    for group_id, size in sizes.items():
        if size != SIZE:
            yield f"group {group_id} has {size} of {SIZE} jobs"
    for group_id, (ids, before) in facts.quiet.items():
        if begun(ids) != before:
            yield f"jobs of {group_id} began after its stop was answered"
    after = Counter(job.record.retry_of for job in grouped if job.record.retry_of)
    for job_id, count in after.items():
        if count > 1:
            yield f"{job_id} has {count} next attempts"
    for job in grouped:
        if job.record.attempt is None or not isinstance(job.record.attempt, int):
            continue
        failed = job.status in ("worker_error", "worker_oom", "timed_out", "unexpected_error")
        wanted = failed and job.record.attempt <= ATTEMPTS
        following = job.record.retried_by or None
        if wanted != (following is not None) or (following is not None and following not in jobs):
            yield f"{job.id} ({job.status}, attempt {job.record.attempt}) has as its next attempt {following}"
