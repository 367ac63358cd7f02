"""What a round's jobs are told of: whether each end arrives, once and as it was, whoever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from support.receiver import SECRET, Receiver
from taskapi_jupyter.client.taskapi import Job


def rules(hook: Receiver) -> str:
    """Return what config.yaml says where each end is to arrive."""
    names = {name: {"url": hook.url, "secret": SECRET} for name in ("first", "second")}
    return f"notify: {json.dumps({'retries': [1] * 20, **names})}\n"


def undelivered(jobs: dict[str, Job], hook: Receiver) -> Iterator[str]:
    """Yield the ends of a round's jobs that did not arrive."""
    for job in jobs.values():
        count = len({one.id for one in hook.got if one.data["job_id"] == job.id})
        if count < 2 and not job.record.retried_by:
            yield f"{job.id} ({job.status}): its end arrived under {count} of two names"


def untruths(jobs: dict[str, Job], hook: Receiver) -> Iterator[str]:
    """Yield what was told of a round's jobs, and is not so."""
    for job in jobs.values():
        got = [one for one in hook.got if one.data["job_id"] == job.id]
        if len({one.id for one in got}) > 2:
            yield f"{job.id} ({job.status}): its end was told several times, each as another one"
        for said in {one.json["type"].rpartition(".")[2] for one in got} - {job.status}:
            yield f"{job.id} ({job.status}): it was told that it is {said}"
        if got and job.record.retried_by:
            yield f"{job.id} ({job.status}): it was told of, and tried again"
