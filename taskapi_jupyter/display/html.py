"""HTML for notebooks, in light and dark themes: no script, every value escaped, no meaning by colour alone."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .facts import fraction, group_words, note, result_lines, spans_of
from .formats import clean, local, utc, utc_now
from .style import COLOURS, GREEN, GREY, HOLLOW, RED, STYLE
from .views import Cell, Fact, Table, api_card, apis_table, environments_table, job_card, jobs_table, plan_card

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployResult, Environment, JobStatus

MAX_ROWS = 200
_LINKED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}/g?[0-9a-f]{16}")
MAX_GOING = 8  # running jobs of a group that get a line of their own


def jobs_html(jobs: Iterable[JobStatus], more: bool = False, searched: int | None = None) -> str:
    """Return a table of jobs."""
    return page(table_html(jobs_table(jobs, more, searched)))


def job_html(
    record: JobStatus,
    endpoint: str | None = None,
    last_seen: datetime | None = None,
    environment: str | None = None,
) -> str:
    """Return one job as a card; ``last_seen`` is when it was last read, where it can't be read now.

    With an ``environment``, a job in progress has a link that opens it in JupyterLab's sidebar.
    """
    now = utc_now()
    return page(
        headline_html(record, now, environment=environment), job_facts_html(record, now, endpoint, last_seen=last_seen)
    )


def job_facts_html(
    record: JobStatus,
    now: datetime,
    endpoint: str | None = None,
    leave_out: Container[str] = (),
    last_seen: datetime | None = None,
    *,
    more: Sequence[Fact] = (),
) -> str:
    """Return the facts of a job, one a line."""
    known = job_card(record, endpoint, last_seen, now)
    # The headline has the first two.
    return card_html([*((head, cell) for head, cell in known[2:] if head not in leave_out), *more])


def api_html(api: API) -> str:
    """Return one API with its recent jobs."""
    head = f'<div class="ta-head"><b>{escape(clean(api.name))}</b><span class="ta-dim">task API</span></div>'
    jobs = jobs_table(api.task_job_statuses)
    return page(head, card_html(api_card(api)), table_html(jobs, leave_out=("API",)))


def apis_html(apis: Iterable[API]) -> str:
    """Return a table of APIs."""
    return page(table_html(apis_table(apis)))


def overview_html(apis: Iterable[API], jobs: Iterable[JobStatus], more: bool = False) -> str:
    """Return an environment at a glance: its APIs, then its newest jobs."""
    return page(table_html(apis_table(apis)), table_html(jobs_table(jobs, more)))


def deploy_html(results: Iterable[DeployResult], warnings: Iterable[str] = ()) -> str:
    """Return the results of a deploy, with warnings on lines of their own."""
    parts = []
    for result in results:
        message, its = result_lines(result)
        colour = RED if result.error else GREEN
        version = str(result.api.spec.get("id") or "") if result.api else ""
        title = f' title="version {escape(clean(version))}"' if version else ""
        dot = f'<i class="ta-full" style="color:{colour}"></i>'
        words = f"error: {message}" if result.error else message
        parts.append(f'<div class="ta-s"{title}>{dot}{escape(words)}</div>')
        parts += [card_html(plan_card(result.plan))] if result.plan else []
        parts += [_warning(text) for text in its]
    return page(*parts, *(_warning(text) for text in warnings))


def environments_html(environments: Iterable[Environment], default: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a table of environments, and lines of facts below it."""
    there = list(environments)
    shown = environments_table(there)
    marks = [Cell("default" if one.name == default else "", "dim") for one in there]
    rows = [(name, mark, *rest) for (name, *rest), mark in zip(shown.rows, marks, strict=True)]
    listed = table_html(replace(shown, heads=(shown.heads[0], "", *shown.heads[1:]), rows=rows))
    return page(listed, *(_dim(f"{clean(what)}: {clean(value, 500)}") for what, value in (facts or {}).items()))


def progress_html(record: JobStatus, now: datetime | None = None) -> str:
    """Return a waiting job on one line, with a bar."""
    return page(headline_html(record, now or utc_now(), spans=True))


def group_html(records: Sequence[JobStatus], now: datetime | None = None) -> str:
    """Return jobs that are waited for together: how many have ended, and a line for each running one."""
    now = now or utc_now()
    ended, done, counts, since = group_words(records, now)
    bar = f'<progress max="1" value="{done:.4f}" aria-label="{escape(ended)}"></progress>'
    rest = " · ".join(filter(None, [", ".join(counts), since]))
    head = f'<div class="ta-head"><b>{escape(ended)}</b>{bar}<span class="ta-dim">{escape(rest)}</span></div>'
    going = [record for record in records if record.code is JobCode.RUNNING]
    lines = [headline_html(record, now, spans=True) for record in going[:MAX_GOING]]
    if len(going) > MAX_GOING:
        lines.append(_dim(f"and {len(going) - MAX_GOING} more that run"))
    return page(head, *lines)


def status_html(code: JobCode) -> str:
    """Return a status as a coloured dot and a word."""
    full = "" if code in HOLLOW else ' class="ta-full"'
    dot = f'<i{full} style="color:{COLOURS.get(code, GREY)}"></i>'
    return f'<span class="ta-s">{dot}{escape(code.label)}</span>'


def page(*parts: str) -> str:
    """Return the parts of an output with the style that they need."""
    return f'{STYLE}<div class="taskapi">{"".join(parts)}</div>'


def headline_html(record: JobStatus, now: datetime, spans: bool = False, environment: str | None = None) -> str:
    """Return a job's status, API and id, and its progress."""
    done = fraction(record.progress or None)
    words = [status_html(record.code), f"<b>{escape(clean(record.api_name, 80))}</b>", job_id_html(record.job_id)]
    if record.code in IN_PROGRESS and (spans or done is not None):
        value = "" if done is None else f' value="{done:.4f}"'
        words.append(f'<progress max="1"{value} aria-label="job {escape(clean(record.job_id))}"></progress>')
    further = spans_of(record, now) if spans else [note(record, 120) if record.code in IN_PROGRESS else ""]
    rest = " · ".join(text for text in further if text)
    if rest:
        words.append(f'<span class="ta-dim" dir="auto">{escape(rest)}</span>')
    if record.code in IN_PROGRESS and not spans:
        # The output stays as it is when the job goes on.
        words.append(f'<span class="ta-dim">as of {_time(now, now)}</span>{lab_link(environment, record.job_id)}')
    return f'<div class="ta-head">{"".join(words)}</div>'


def lab_link(environment: str | None, some_id: str) -> str:
    """Return a link to a job, or to a group's jobs, that JupyterLab's extension shows and answers; hidden elsewhere.

    Nothing where the environment or the id is none that it accepts (``plugins/links.ts``).
    """
    if environment is None or not _LINKED.fullmatch(place := f"{environment}/{some_id}"):
        return ""
    words = "Open its jobs" if some_id.startswith("g") else "Show in sidebar"
    return f'<a hidden class="ta-open" href="#taskapi-job/{place}">{words}</a>'


def table_html(shown: Table, leave_out: Container[str] = ()) -> str:
    """Return a table, without empty columns."""
    if not shown.rows:
        return _dim(" ".join(f"{said[0].upper()}{said[1:]}." for said in (shown.empty, shown.more) if said))
    kept = [
        column
        for column, head in enumerate(shown.heads)
        if head not in leave_out and any(row[column].text for row in shown.rows)
    ]
    classes = [' class="ta-n"' if shown.rows[0][column].kind == "number" else "" for column in kept]
    columns = list(zip(kept, classes, strict=True))
    head = "".join(f"<th{c}>{escape(shown.heads[column])}</th>" for column, c in columns)
    rows = ["".join(f"<td{c}>{_cell(row[column])}</td>" for column, c in columns) for row in shown.rows[:MAX_ROWS]]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    left = len(shown.rows) - MAX_ROWS
    more = f"and {left} more" if left > 0 else f"{shown.more[0].upper()}{shown.more[1:]}." if shown.more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{_dim(more) if more else ''}"


def _cell(cell: Cell) -> str:
    """Return a cell of a table; the browser cuts long text, and shows all of it as a tooltip."""
    text, safe = cell.text, escape(cell.text)
    if not text:
        return ""
    if cell.code is not None:
        job_id = text.removeprefix(cell.code.label).strip()
        return status_html(cell.code) + (f" {job_id_html(job_id)}" if job_id else "")
    if cell.time is not None:
        return _time(cell.time)
    if cell.kind == "id":
        return job_id_html(text)
    if cell.kind in ("plain", "number", "dim"):
        return f'<span class="ta-dim">{safe}</span>' if cell.kind == "dim" else safe
    tag = "code" if cell.kind == "code" else "span"
    title = f' title="{safe}"' if len(text) > 24 else ""
    cut = f'<{tag} class="ta-c" dir="auto"{title}>{safe}</{tag}>'
    return f"<b>{cut}</b>" if cell.kind == "name" else cut


def card_html(facts: Iterable[Fact]) -> str:
    """Return facts, one a line."""
    rows = "".join(f"<tr><th>{head}</th><td>{_fact(cell)}</td></tr>" for head, cell in facts if cell.text)
    return f'<table class="ta-kv"><tbody>{rows}</tbody></table>' if rows else ""


def _fact(cell: Cell) -> str:
    if cell.time or cell.kind == "plain":
        return _time(cell.time) if cell.time else escape(cell.text)
    tag = "code" if cell.kind == "code" else "span"
    title = f' title="{escape(cell.hint)}"' if cell.hint else ""
    return f'<{tag} dir="auto"{title}>{escape(cell.text)}</{tag}>'


def job_id_html(job_id: str) -> str:
    """Return an id with its last digits, which are enough to type, highlighted."""
    text = clean(job_id, 64)
    return f'<code><span class="ta-id">{escape(text[:-6])}</span>{escape(text[-6:])}</code>'


def _time(time: datetime, now: datetime | None = None) -> str:
    return f'<span title="{escape(utc(time))}">{escape(local(time, now))}</span>'


def _warning(text: str) -> str:
    return f'<div class="ta-warn"><span>Warning:</span> {escape(clean(text))}</div>'


def _dim(text: str) -> str:
    return f'<div class="ta-dim">{escape(text)}</div>'
