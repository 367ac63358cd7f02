"""Facts about jobs, APIs and deploys, in words, for both text and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.states import IN_PROGRESS, TERMINAL, JobCode

from .formats import age, clean, duration, moment, number, short_json, utc_now

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployResult, Interpreter, JobStatus, Progress

#: States that a job reaches by running.
STARTED = {
    JobCode.RUNNING,
    JobCode.SUCCEEDED,
    JobCode.WORKER_ERROR,
    JobCode.WORKER_OOM,
    JobCode.COMPLETED_WITH_FAILURES,
}


def created(record: JobStatus) -> datetime | None:
    """Return when a job was submitted; Cortex's clusters call that ``start_time``."""
    return moment(record.created_time) or moment(record.start_time)


def ended(record: JobStatus) -> bool:
    """Whether a job had ended; where its status is unknown, whether it has an end time."""
    return record.code in TERMINAL or (record.code is JobCode.UNKNOWN and bool(record.end_time))


def took(record: JobStatus, now: datetime | None = None) -> float | None:
    """Return the seconds that a job has run, so far or in all; None where it did not start.

    Counted from its submission on a Cortex cluster, which doesn't say when a job started.
    """
    start, end = moment(record.start_time), moment(record.end_time)
    if start is None and record.code in STARTED:
        start = created(record)
    if start is None or (end is None and record.code not in IN_PROGRESS):
        return None
    seen = moment(record.stale or None)  # how long it has run since then is unknown
    return max(((end or seen or now or utc_now()) - start).total_seconds(), 0.0)


def fraction(progress: Progress | None) -> float | None:
    """Return how much is done, from 0 to 1; None where the task gave no total."""
    if not progress or not progress.total or progress.total <= 0:
        return None
    share = progress.done / progress.total
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else None


def seconds_left(record: JobStatus, now: datetime | None = None) -> float | None:
    """Estimate how long a running job still takes, from its progress so far."""
    done, spent = fraction(record.progress or None), took(record, now)
    if not done or spent is None or record.code is not JobCode.RUNNING or record.stale:
        return None
    return spent * (1 - done) / done


def left_words(record: JobStatus, now: datetime | None = None) -> str:
    """Return that estimate in words; empty where there is none."""
    left = seconds_left(record, now)
    return f"about {duration(left)} left" if left else ""


def note(record: JobStatus, limit: int | None = None) -> str:
    """Return the most important fact beside the status: why a job ended, what it waits for, or its progress."""
    if record.code not in IN_PROGRESS:
        return why(record, limit)
    words = progress_words(record, limit)
    if record.stale:
        return f"as last seen: {words}" if words else "as last seen"
    return clean(record.reason, limit) if record.reason else words


def why(record: JobStatus, limit: int | None = None) -> str:
    """Return why a job ended: its reason, else its exit code; of one that was stopped, what did before it began."""
    if record.code is JobCode.SUCCEEDED:
        return ""
    if record.code is JobCode.STOPPED:
        told = record.reason and record.reason != record.code.label and not record.start_time
        return clean(record.reason, limit) if told else ""
    if record.reason:
        return clean(record.reason.removeprefix(f"{record.code.label}: "), limit)  # the status is shown beside it
    code = record.exit_code or 0
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}" if code else ""


def progress_words(record: JobStatus, limit: int | None = None) -> str:
    """Return progress as ``42 % · 21/50 · message``; of a notebook ``25 % · in cell 4 of 12 · message``."""
    progress = record.progress or None
    if not progress:
        return ""
    done, parts = fraction(progress), []
    if done is not None:
        parts.append(f"{done:.0%}".replace("%", " %"))
    if record.cell and record.cell.status == "running" and record.code in IN_PROGRESS and progress.total:
        parts.append(f"in cell {number(progress.done + 1)} of {number(progress.total)}")
    elif progress.total != 1 and (progress.done or progress.total or not progress.message):
        # of a total of 1, the percentage says it all; before anything is done, the message
        parts.append(number(progress.done) + (f"/{number(progress.total)}" if progress.total else ""))
    if progress.message:
        parts.append(clean(progress.message, limit))
    return " · ".join(parts)


def environment_words(
    python: Interpreter, packages: int | None, since: datetime | None, absent: str, now: datetime | None = None
) -> str:
    """Return ``environment 1a2b3c4d · 12 packages · from the cache``; nothing for an interpreter as it is.

    ``since`` is when it was asked for: one that was built before comes from the cache. ``absent`` is said of one that
    is not there.
    """
    if not python.key:
        return ""
    span = duration(python.seconds or None)
    when = _built_words(python, since, absent, lambda built: age(built, now) + (f" in {span}" if span else ""))
    count = "" if packages is None else f"{packages} package" + ("" if packages == 1 else "s")
    return " · ".join(filter(None, [f"environment {clean(python.key)[:8]}", count, when]))


def _built_words(python: Interpreter, since: datetime | None, absent: str, words: Callable[[datetime], str]) -> str:
    """Return when an environment was built, in ``words`` for one that was built since it was asked for."""
    built = moment(python.built or None)
    if built is None:
        return absent
    return "from the cache" if since is not None and built < since else f"built {words(built)}"


def absent_words(record: JobStatus) -> str:
    """Return why a job's environment is not there."""
    waits = {JobCode.PENDING: "built when the job starts", JobCode.RUNNING: "being built"}
    return waits.get(record.code, "not kept")


def metrics_words(record: JobStatus, limit: int | None = None) -> str:
    """Return the last values of a job's metrics as ``loss 0.25 · accuracy 0.9``."""
    return clean(" · ".join(f"{name} {number(value)}" for name, value in (record.metrics or {}).items()), limit)


def memory_words(record: JobStatus) -> str:
    """Return what memory a job uses, or has used at most: ``1.2 GiB of 8 GiB, peak 1.5 GiB``."""
    used = record.usage
    if not used:
        return ""
    peak, most = used.memory_peak, f" of {size(used.memory_limit)}" if used.memory_limit else ""
    if isinstance(used.memory, int):
        return f"{size(used.memory)}{most}" + (f", peak {size(peak)}" if peak else "")
    return f"peak {size(peak)}{most}" if peak else ""


def cpu_words(record: JobStatus) -> str:
    """Return what CPU time a job has used: ``2.5 s``."""
    return duration(record.usage.cpu_seconds) if record.usage and record.usage.cpu_seconds else ""


def python_words(python: Interpreter | None, since: datetime | None, now: datetime | None = None) -> str:
    """Return which Python runs a task: ``3.11.7  /bin/python, environment 1a2b3c4d, built 1.4 s ago``.

    An environment that is older than ``since``, a deploy or a submission, comes from the cache.
    """
    if not python:
        return ""
    words = "  ".join(filter(None, (clean(python.version or "", 40), clean(python.path, 300))))
    if not python.key:
        return words
    absent = "built when its next job starts"
    how = _built_words(
        python, since, absent, lambda built: f"{duration(((now or utc_now()) - built).total_seconds())} ago"
    )
    return f"{words}, environment {clean(python.key[:8])}, {how}"


def after_words(record: JobStatus, limit: int | None = None) -> str:
    """Return for which jobs one waits, or had to: ``68…1a2b (as input), 68…3c4d``."""
    inputs = record.inputs or {}
    keys = {job_id: [key for key, one in inputs.items() if one == job_id] for job_id in record.after or ()}
    words = [f"{job_id} (as {', '.join(names)})" if names else job_id for job_id, names in keys.items()]
    return clean(", ".join(words) + (", however they end" if words and record.after_any else ""), limit)


def busy(api: API) -> str:
    """Count an API's jobs in progress."""
    counts = [(_count(api, code), code.label) for code in (JobCode.RUNNING, JobCode.PENDING)]
    return ", ".join(f"{count} {label}" for count, label in counts if count)


def _count(api: API, code: JobCode) -> int:
    """Return how many jobs of an API are in a state: as its server counted them, else those that are listed."""
    if api.job_counts:
        return api.job_counts.get(code.value, 0)
    return sum(job.code is code for job in api.task_job_statuses)


def lists_all_in_progress(api: API) -> bool:
    """Whether all of an API's jobs in progress are listed with it: of many, a server lists some and counts all."""
    return sum(job.code in IN_PROGRESS for job in api.task_job_statuses) >= sum(_count(api, c) for c in IN_PROGRESS)


def config_words(record: JobStatus, limit: int) -> str:
    """Return a job's config on one line; of one that a list leaves out, that it is large."""
    return "… (over 2 KiB)" if record.config_truncated else short_json(record.config or None, limit)


def latest_job(api: API) -> JobStatus | None:
    """Return the newest of an API's jobs."""
    return min(api.task_job_statuses, key=lambda job: job.job_id, default=None)  # ids descend


def updated(api: API) -> datetime | None:
    """Return when an API was last deployed."""
    if not api.metadata or api.metadata.last_updated <= 0:
        return None
    try:
        return datetime.fromtimestamp(api.metadata.last_updated).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def notify_words(record: JobStatus) -> str:
    """Return whom a job tells of its end, as far as it is known, and what became of that."""
    said = {one.name: f"{one.name} ({one.state})" for one in record.notifications or ()}
    names = {**({name: name for name in record.notify} if record.notify else {}), **said}
    return clean(", ".join(names.values()) or ("nobody" if record.notify == [] else ""), 300)


def parameters(api: API) -> list[Mapping[str, Any]] | None:
    """Return the parameters of an API's task; None where it takes ``config``, or where they are unknown."""
    definition = (api.spec or {}).get("definition")
    found = definition.get("parameters") if isinstance(definition, Mapping) else None
    if not isinstance(found, list):
        return None
    return [one for one in found if isinstance(one, Mapping) and isinstance(one.get("name"), str)]


def parameter_words(one: Mapping[str, Any]) -> str:
    """Return a parameter as in a signature; ``…`` stands for a default that JSON can't represent."""
    kind = clean(one.get("type") or "", 60)
    words = clean(one["name"], 60) + (f": {kind}" if kind else "")
    if one.get("required") or one["name"].startswith("*"):
        return words
    default = clean(repr(one["default"]), 60) if "default" in one else "…"
    return f"{words} = {default}" if kind else f"{words}={default}"


def starting_config(api: API) -> dict[str, Any]:
    """Return the config that a form begins with: the parameters' defaults, updated with the API's own config."""
    definition = (api.spec or {}).get("definition")
    config = definition.get("config") if isinstance(definition, Mapping) else None
    defaults = {one["name"]: one["default"] for one in parameters(api) or () if "default" in one}
    return {**defaults, **(config if isinstance(config, Mapping) else {})}


def result_lines(result: DeployResult) -> tuple[str, list[str]]:
    """Separate the message of a deploy from its warnings, which it contains."""
    warnings = [clean(text) for text in result.warnings or ()]
    lines = [clean(line) for line in (result.error or result.message).splitlines()]
    kept = [line for line in lines if line and line.removeprefix("warning: ") not in warnings]
    return " ".join(kept), warnings


def spans_of(record: JobStatus, now: datetime | None) -> list[str]:
    """Return a job's progress, how long it has taken, and an estimate of the time left."""
    ends = record.code not in IN_PROGRESS
    since = took(record, now)
    if since is None and not ends and (when := created(record)):
        since = max(((now or utc_now()) - when).total_seconds(), 0.0)
    return [note(record, 80), duration(since), left_words(record, now)]


def group_words(records: Sequence[JobStatus], now: datetime | None = None) -> tuple[str, float, list[str], str]:
    """Return for several jobs: how many have ended, the share done, a count of each status, how long they take."""
    over = sum(map(ended, records))
    done = sum(1.0 if ended(record) else fraction(record.progress or None) or 0.0 for record in records)
    states = [record.code for record in records]
    counts = [f"{states.count(code)} {code.label}" for code in JobCode if code in states]
    begun = min((when for record in records if (when := created(record))), default=None)
    if over == len(records):
        now = max((when for record in records if (when := moment(record.end_time))), default=now)
    since = max(((now or utc_now()) - begun).total_seconds(), 0.0) if begun else None
    return f"{over} of {len(records)} jobs ended", done / len(records), counts, duration(since)


def times(record: JobStatus) -> list[tuple[str, datetime]]:
    """Return when a job was submitted, started and ended, as far as it has."""
    named = {
        "submitted": created(record),
        "started": moment(record.start_time),
        "ended": moment(record.end_time),
    }
    return [(head, time) for head, time in named.items() if time is not None]
