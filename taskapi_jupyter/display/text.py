"""Views for terminals: aligned, cut to the terminal's width, nothing in them that a terminal obeys but our colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .facts import (
    api_facts,
    busy,
    cluster,
    created,
    fraction,
    group_words,
    job_facts,
    latest_job,
    note,
    progress_words,
    result_lines,
    spans_of,
    times,
    took,
    updated,
)
from .formats import age, clean, cut, duration, local, short_json, table, terminal_width, utc_now

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployResult, Environment, JobStatus

E = TypeVar("E", bound=BaseException)

_GREEN, _RED, _YELLOW, _BLUE, _DIM = "32", "31", "33", "34", "2"
_COLOURS = {
    JobCode.PENDING: _YELLOW,
    JobCode.ENQUEUING: _YELLOW,
    JobCode.RUNNING: _BLUE,
    JobCode.SUCCEEDED: _GREEN,
    JobCode.STOPPED: _DIM,
    JobCode.UNKNOWN: _DIM,
}  # what is missing here went wrong
_ID = 40  # columns; longer than any id


def jobs_text(jobs: Iterable[JobStatus], more: bool = False, *, colour: bool = False) -> str:
    """Return a table of jobs as wide as the terminal."""
    now, rows, jobs = utc_now(), [], list(jobs)
    for job in jobs:
        when = created(job)
        rows.append(
            (
                clean(job.job_id, _ID),
                clean(job.api_name, 40),
                job.code.label,
                local(when, now) if when else "",
                duration(took(job, now)),
                note(job, 60),
                short_json(job.config, 60),
            )
        )
    if not rows:
        return "no jobs"
    text = table(
        ("job", "api", "status", "submitted", "took", "note", "config"),
        rows,
        whole=("job",),
        least=2,
        paint=lambda n, head, cell: _status(jobs[n].code, cell, colour and head == "status"),
    )
    return text + "\n(there are older ones)" if more else text


def job_text(
    record: JobStatus, endpoint: str | None = None, *, colour: bool = False, last_seen: datetime | None = None
) -> str:
    """Return one job, a line for each thing that is known, and when that was seen where it can't be asked for now."""
    now = utc_now()
    facts = [
        ("status", _status(record.code, record.code.label, colour)),
        ("progress", progress_words(record.progress or None, 80)),
        *((head, local(time, now)) for head, time in times(record)),
        ("took", duration(took(record, now))),
        *job_facts(record, endpoint),
        ("as last seen", local(last_seen, now) if last_seen else ""),
    ]
    return _facts_text(f"job {clean(record.job_id)} of {clean(record.api_name)}", facts)


def api_text(api: API, *, colour: bool = False) -> str:
    """Return one API with its recent jobs."""
    text = _facts_text(clean(api.name), api_facts(api))
    return f"{text}\n\n{jobs_text(api.task_job_statuses, colour=colour)}"


def apis_text(apis: Iterable[API], *, colour: bool = False) -> str:
    """Return a table of APIs."""
    rows, codes = [], []
    for api in apis:
        latest = latest_job(api)
        codes.append(latest.code if latest else JobCode.UNKNOWN)
        rows.append(
            (
                clean(api.name, 63),
                busy(api),
                f"{latest.code.label} {clean(latest.job_id, _ID)}" if latest else "",
                age(updated(api)),
                clean(api.endpoint or ""),
            )
        )
    if not rows:
        return "no task APIs are deployed"
    return table(
        ("api", "in progress", "latest job", "deployed", "endpoint"),
        rows,
        whole=("latest job",),
        paint=lambda n, head, cell: _status(codes[n], cell, colour and head == "latest job"),
    )


def deploy_text(results: Iterable[DeployResult], warnings: Iterable[str] = (), *, colour: bool = False) -> str:
    """Return what a deploy did, with warnings on lines of their own."""
    error, warning = _painted("error:", _RED, colour), _painted("warning:", _YELLOW, colour)
    lines = []
    for result in results:
        message, its = result_lines(result)
        lines += [f"{error} {message}" if result.error else message, *(f"  {warning} {text}" for text in its)]
    return "\n".join([*lines, *(f"  {warning} {clean(text)}" for text in warnings)])


def environments_text(environments: Iterable[Environment], default: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a table of environments, in which ``*`` marks the default one, and lines of facts below it."""
    rows = [
        ("*" if e.name == default else "", clean(e.name), clean(e.provider), *(clean(part) for part in cluster(e)))
        for e in environments
    ]
    listed = table(("", "environment", "provider", "version", "endpoint"), rows) if rows else "no environments"
    return "\n".join([listed, *(f"{clean(what)}: {clean(value, 500)}" for what, value in (facts or {}).items())])


def progress_text(record: JobStatus, now: datetime | None = None, width: int | None = None) -> str:
    """Return a waiting job on one line, with a bar where the task says how far it is."""
    done = fraction(record.progress or None)
    bar = "" if done is None or record.code not in IN_PROGRESS else f"[{'#' * int(done * 20):<20}]"
    parts = [
        record.code.label,
        f"{clean(record.api_name, 30)} {clean(record.job_id)}",
        bar,
        *spans_of(record, now),
    ]
    line = "  ".join(part for part in parts if part)
    return cut(line, (terminal_width() if width is None else width) - 1)


def group_text(records: Sequence[JobStatus], now: datetime | None = None, width: int | None = None) -> str:
    """Return jobs that are waited for together on one line: how many have ended, and how far the others are."""
    ended, done, counts, since = group_words(records, now)
    going = [
        f"{clean(record.job_id)[-6:]} {words}"
        for record in records
        if record.code in IN_PROGRESS and (words := progress_words(record.progress or None, 30))
    ]
    parts = [ended, f"[{'#' * int(done * 20):<20}]", ", ".join(counts), since, *going]
    line = "  ".join(filter(None, parts))
    return cut(line, (terminal_width() if width is None else width) - 1)


def in_short(error: E) -> E:
    """Have IPython show an error as one line, without the way it took through this package."""
    words = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    line = f"{type(error).__name__}: " + "\n".join(clean(line) for line in words.splitlines())
    vars(error)["_render_traceback_"] = lambda: [line]
    return error


def _facts_text(title: str, facts: Sequence[tuple[str, str]]) -> str:
    width = max((len(head) for head, text in facts if text), default=0) + 1
    return "\n".join([title, *(f"  {head + ':':<{width}} {text}" for head, text in facts if text)])


def _status(code: JobCode, text: str, colour: bool) -> str:
    """Colour the status that a text begins with."""
    end = len(code.label) if text.startswith(code.label) else len(text.rstrip())
    return _painted(text[:end], _COLOURS.get(code, _RED), colour) + text[end:]


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
