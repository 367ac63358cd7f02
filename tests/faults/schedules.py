"""Schedules in a round: what is done, and whether each firing has one job."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from taskapi_jupyter.client.taskapi import Job

from .plan import Facts, Round


def use(
    ask: Callable[..., Any],
    configure: Callable[[str], dict[str, Any]],
    chance: random.Random,
    facts: Facts,
    round_: Round,
) -> None:
    """Make a schedule that fires each second, have it fire, change it, and delete it, or not."""
    name = f"round-{round_.number}"
    known = {"firing.missed": "asleep", "firing.kept": "returns"}
    kind = known.get(round_.point or "") or chance.choice(["asleep", "returns"])
    options = {"name": name, "schedule": "* * * * * *", "overlap": chance.choice(["skip", "queue", "allow"])}
    if kind == "asleep":
        options["overlap"] = "skip"
    if kind == "returns" and (round_.point == "firing.kept" or chance.random() < 0.5):
        options["keep"] = 1
    if not ask("schedule", "work", configure(kind), options):
        return
    if "keep" not in options and (job_id := ask("run_schedule", name)):
        facts.acknowledged[job_id] = kind
    time.sleep(chance.choice([1.1, 2.2]))
    ask("change_schedule", name, {"max_late": 30})
    if chance.random() < 0.5:
        ask("unschedule", name)


def untruths(jobs: dict[str, Job]) -> Iterator[str]:
    """Yield the firings that have several jobs; ``jobs`` are those of the round."""
    fired = Counter(
        (job.record.schedule, job.record.scheduled_time)
        for job in jobs.values()
        if job.record.scheduled_time and not job.record.retry_of
    )
    for (name, when), count in fired.items():
        if count > 1:
            yield f"schedule {name} has {count} jobs for {when}"
