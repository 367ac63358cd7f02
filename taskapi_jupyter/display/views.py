"""The tables and cards that people see, cell by cell; :mod:`.text` and :mod:`.html` draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from taskapi_jupyter.core.states import JobCode

from .facts import (
    busy,
    config_words,
    created,
    latest_job,
    note,
    parameter_words,
    parameters,
    progress_words,
    times,
    took,
    updated,
)
from .formats import age, clean, duration, local, short_json, utc_now

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import Environment, JobStatus

_ID = 40  # columns; longer than any id


@dataclass(frozen=True)
class Cell:
    """One value. ``text`` is what a terminal shows of it, ``width`` how many columns at most."""

    text: str
    kind: Literal["text", "code", "name", "plain", "number", "id", "dim"] = "text"
    width: int = 300
    code: JobCode | None = None  # a job's status, which the text begins with; its id may follow
    time: datetime | None = None  # what HTML shows, with the time in UTC when pointed at


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


def jobs_table(jobs: Iterable[JobStatus], more: bool = False, searched: int | None = None) -> Table:
    """Return a table of jobs; ``more`` says that there are older ones, ``searched`` how many a search looked at."""
    now, rows = utc_now(), []
    for job in jobs:
        when = created(job)
        rows.append(
            (
                Cell(clean(job.job_id, _ID), "id"),
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


def apis_table(apis: Iterable[API]) -> Table:
    """Return a table of APIs."""
    rows = []
    for api in apis:
        latest, when = latest_job(api), updated(api)
        rows.append(
            (
                Cell(clean(api.name, 300), "name", 63),
                Cell(busy(api), "plain"),
                Cell(f"{latest.code.label} {clean(latest.job_id, _ID)}", code=latest.code) if latest else Cell(""),
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


def job_card(record: JobStatus, endpoint: str | None, last_seen: datetime | None, now: datetime) -> list[Fact]:
    """Return what there is to say about a job."""
    return [
        ("status", Cell(record.code.label, code=record.code)),
        ("progress", Cell(progress_words(record.progress or None, 80))),
        *((head, Cell(local(time, now), time=time)) for head, time in times(record)),
        ("took", Cell(duration(took(record, now)), "plain")),
        ("config", Cell(config_words(record, 400), "code")),
        ("timeout", Cell(duration(record.timeout))),
        ("run timeout", Cell(duration(record.run_timeout or None))),
        ("reason", Cell(clean(record.reason or "", 400))),
        ("as seen until", Cell(clean(record.stale or "", 40))),
        ("exit code", Cell(str(record.exit_code) if record.exit_code else "")),
        ("notebook", Cell(clean(record.notebook or "", 200))),
        ("endpoint", Cell(clean(endpoint or "", 300), "code")),
        ("as last seen", Cell(local(last_seen, now) if last_seen else "", time=last_seen)),
    ]


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
        ("parameters", Cell("" if taken is None else ", ".join(map(parameter_words, taken)) or "none", "code")),
        ("config", Cell(short_json(definition.get("config"), 400), "code")),
        ("compute", Cell(clean(", ".join(limits), 200))),
        *((key.replace("_", " "), Cell(duration(n) if isinstance(n, int | float) else "")) for key, n in timeouts),
        ("version", Cell(clean(api.api_id), "code")),
    ]
