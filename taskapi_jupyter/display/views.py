"""The tables and cards that people see, cell by cell; :mod:`.text` and :mod:`.html` draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.states import JobCode

from .facts import (
    after_words,
    busy,
    config_words,
    cpu_words,
    created,
    latest_job,
    memory_words,
    metrics_words,
    note,
    notify_words,
    parameter_words,
    parameters,
    progress_words,
    python_words,
    times,
    took,
    updated,
)
from .formats import age, clean, duration, local, moment, short_ids, short_json, utc_now

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployPlan, Environment, FileEntry, JobStatus

_ID = 40  # columns; longer than any id


@dataclass(frozen=True)
class Cell:
    """One value. ``text`` is what a terminal shows of it, ``width`` how many columns at most."""

    text: str
    kind: Literal["text", "code", "name", "plain", "number", "id", "dim"] = "text"
    width: int = 300
    code: JobCode | None = None  # a job's status, which the text begins with; its id may follow
    time: datetime | None = None  # what HTML shows, with the time in UTC when pointed at
    hint: str = ""  # what HTML shows when pointed at


Fact = tuple[str, Cell]


@dataclass(frozen=True)
class Table:
    """Rows under heads. ``empty`` is said where there are none, ``more`` where there are others."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    empty: str
    more: str = ""
    whole: str = ""  # the head of the column that is never cut
    least: int = 1  # columns that a narrow terminal shows at least


def jobs_table(
    jobs: Iterable[JobStatus], more: bool = False, searched: int | None = None, short: bool = False
) -> Table:
    """Return a table of jobs; ``more`` says that there are older ones, ``searched`` how many a search looked at.

    With ``short``, ids are their last digits.
    """
    now, rows, jobs = utc_now(), [], list(jobs)
    ids = short_ids(job.job_id for job in jobs) if short else {}
    for job in jobs:
        when = created(job)
        rows.append(
            (
                Cell(clean(ids.get(job.job_id, job.job_id), _ID), "id"),
                Cell(clean(job.api_name, 300), width=40),
                Cell(job.code.label, code=job.code),
                Cell(local(when, now) if when else "", time=when),
                Cell(duration(took(job, now)), "number"),
                Cell(note(job, 300), width=60),
                Cell(config_words(job, 300), "code", 60),
            )
        )
    heads = ("Job", "API", "Status", "Submitted", "Took", "Note", "Config")
    older = "" if searched is None else f"searched {searched:,} jobs; "
    return Table(heads, rows, "no jobs", f"{older}there are older ones" if more else "", whole="Job", least=2)


def apis_table(apis: Iterable[API], short: bool = False) -> Table:
    """Return a table of APIs; with ``short``, ids are their last digits."""
    rows, shown = [], [(api, latest_job(api), updated(api)) for api in apis]
    ids = short_ids(latest.job_id for _, latest, _ in shown if latest) if short else {}
    for api, latest, when in shown:
        job_id = clean(ids.get(latest.job_id, latest.job_id), _ID) if latest else ""
        rows.append(
            (
                Cell(clean(api.name, 300), "name", 63),
                Cell(busy(api), "plain"),
                Cell(f"{latest.code.label} {job_id}", code=latest.code) if latest else Cell(""),
                Cell(age(when), time=when),
                Cell(clean(api.endpoint or ""), "code"),
            )
        )
    heads = ("API", "In progress", "Latest job", "Deployed", "Endpoint")
    return Table(heads, rows, "no task APIs are deployed", whole="Latest job")


def environments_table(environments: Iterable[Environment]) -> Table:
    """Return a table of environments."""
    rows = []
    for one in environments:
        texts = (one.name, one.provider, one.version or "", one.operator_endpoint or one.address or "")
        rows.append(tuple(Cell(clean(text, 120), "plain") for text in texts))
    return Table(("Environment", "Provider", "Version", "Endpoint"), rows, "no environments")


def files_table(files: Iterable[FileEntry]) -> Table:
    """Return a table of a job's files."""
    now = utc_now()
    rows = [
        (
            Cell(size(one.size), "number"),
            Cell(local(when, now) if (when := moment(one.modified)) else ""),
            Cell(clean(one.path)),
        )
        for one in files
    ]
    return Table(("Size", "Modified", "File"), rows, "no files", whole="File")


def job_card(record: JobStatus, endpoint: str | None, last_seen: datetime | None, now: datetime) -> list[Fact]:
    """Return what there is to say about a job."""
    return [
        ("status", Cell(record.code.label, code=record.code)),
        ("progress", Cell(progress_words(record, 80))),
        ("metrics", Cell(metrics_words(record, 400))),
        *((head, Cell(local(time, now), time=time)) for head, time in times(record)),
        ("took", Cell(duration(took(record, now)), "plain")),
        ("CPU time", Cell(cpu_words(record), "plain")),
        ("memory", Cell(memory_words(record), "plain")),
        ("config", Cell(config_words(record, 400), "code")),
        ("Python", Cell(python_words(record.python or None, created(record), now), "code")),
        ("group", Cell(f"{clean(record.group, 40)}, job {record.index}" if record.group else "")),
        ("schedule", Cell(_schedule_words(record, now))),
        ("after", Cell(after_words(record, 400))),
        ("attempt", Cell(str(record.attempt) if record.attempt else "")),
        ("timeout", Cell(duration(record.timeout))),
        ("run timeout", Cell(duration(record.run_timeout or None))),
        ("reason", Cell(clean(record.reason or "", 400))),
        ("notifies", Cell(notify_words(record))),
        ("as seen until", Cell(clean(record.stale or "", 40))),
        ("exit code", Cell(str(record.exit_code) if record.exit_code else "")),
        ("notebook", Cell(clean(record.notebook or "", 200))),
        ("endpoint", Cell(clean(endpoint or "", 300), "code")),
        ("as last seen", Cell(local(last_seen, now) if last_seen else "", time=last_seen)),
    ]


def _schedule_words(record: JobStatus, now: datetime) -> str:
    """Return which schedule submitted a job, and for when."""
    due = moment(record.scheduled_time or None)
    return clean(record.schedule or "", 80) + (f", for {local(due, now)}" if due and record.schedule else "")


def api_card(api: API) -> list[Fact]:
    """Return what there is to say about an API, beside its name and its jobs."""
    spec: Mapping[str, Any] = api.spec or {}
    definition, compute = spec.get("definition"), spec.get("compute")
    definition = definition if isinstance(definition, Mapping) else {}
    compute = compute if isinstance(compute, Mapping) else {}
    limits = [f"{key} {value}" for key, value in compute.items() if value]
    timeouts = [(key, spec.get(key)) for key in ("timeout", "run_timeout")]
    taken = parameters(api)
    return [
        ("error", Cell(clean(spec.get("error") or "", 400))),
        ("endpoint", Cell(clean(api.endpoint or ""), "code")),
        ("task", Cell(clean(definition.get("path") or "", 200), "code")),
        ("Python", Cell(python_words(api.python or None, updated(api)), "code")),
        ("parameters", Cell("" if taken is None else ", ".join(map(parameter_words, taken)) or "none", "code")),
        ("config", Cell(short_json(definition.get("config"), 400), "code")),
        ("compute", Cell(clean(", ".join(limits), 200))),
        *((key.replace("_", " "), Cell(duration(n) if isinstance(n, int | float) else "")) for key, n in timeouts),
        ("version", Cell(clean(api.api_id), "code")),
    ]


def plan_card(plan: DeployPlan) -> list[Fact]:
    """Return what a deploy would do, beside its message: what runs the task, what travels, what it gets."""
    files = [f"{name} ({size(count)})" for name, count in plan.files.items()]
    own = ["the interpreter's own"] if plan.python else []
    packages = plan.packages if isinstance(plan.packages, list) else own
    return [
        ("Python", Cell(python_words(plan.python or None, None), "code")),
        ("kernel", Cell(clean(plan.kernel or "", 100))),
        ("requirements", Cell(clean(", ".join(plan.requirements), 1000))),
        ("packages", Cell(clean(", ".join(packages), 4000))),
        ("travels", Cell(clean(", ".join(files), 1000) or "nothing")),
        ("variables", Cell(clean(", ".join(plan.variables), 4000))),
        ("folder", Cell(clean(plan.folder, 300), "code")),
    ]
