"""Views for notebooks of either theme: no script, every value escaped, colour never alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

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
    result_lines,
    spans_of,
    times,
    took,
    updated,
)
from .formats import clean, duration, local, short_json, utc, utc_now
from .style import COLOURS, GREEN, GREY, HOLLOW, RED, STYLE

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployResult, Environment, JobStatus

MAX_ROWS = 200
MAX_GOING = 8  # jobs of a group that have a line of their own


def jobs_html(jobs: Iterable[JobStatus], more: bool = False) -> str:
    """Return a table of jobs."""
    return _page(_jobs_table(list(jobs), more))


def job_html(record: JobStatus, endpoint: str | None = None, last_seen: datetime | None = None) -> str:
    """Return one job as a small card, with when it was seen where it can't be asked for now."""
    now = utc_now()
    return _page(headline_html(record, now), job_facts_html(record, now, endpoint, last_seen=last_seen))


def job_facts_html(
    record: JobStatus,
    now: datetime,
    endpoint: str | None = None,
    leave_out: Container[str] = (),
    last_seen: datetime | None = None,
) -> str:
    """Return what there is to say about a job, a line each."""
    facts = [(head, _time(time, now)) for head, time in times(record)]
    facts.append(("took", escape(duration(took(record, now)))))
    facts += [(head, _fact(head, text)) for head, text in job_facts(record, endpoint)]
    facts += [("as last seen", _time(last_seen, now))] if last_seen else []
    return _facts_html([(head, text) for head, text in facts if head not in leave_out])


def api_html(api: API) -> str:
    """Return one API with its recent jobs."""
    head = f'<div class="ta-head"><b>{escape(clean(api.name))}</b><span class="ta-dim">task API</span></div>'
    facts = [(name, _fact(name, text)) for name, text in api_facts(api)]
    return _page(head, _facts_html(facts), _jobs_table(list(api.task_job_statuses), api_column=False))


def apis_html(apis: Iterable[API]) -> str:
    """Return a table of APIs."""
    return _page(_apis_table(list(apis)))


def overview_html(apis: Iterable[API], jobs: Iterable[JobStatus], more: bool = False) -> str:
    """Return an environment at a glance: its APIs, then its newest jobs."""
    return _page(_apis_table(list(apis)), _jobs_table(list(jobs), more))


def deploy_html(results: Iterable[DeployResult], warnings: Iterable[str] = ()) -> str:
    """Return what a deploy did, with warnings on lines of their own."""
    parts = []
    for result in results:
        message, its = result_lines(result)
        colour = RED if result.error else GREEN
        version = str(result.api.spec.get("id") or "") if result.api else ""
        title = f' title="version {escape(clean(version))}"' if version else ""
        dot = f'<i class="ta-full" style="color:{colour}"></i>'
        words = f"error: {message}" if result.error else message
        parts.append(f'<div class="ta-s"{title}>{dot}{escape(words)}</div>')
        parts += [_warning(text) for text in its]
    return _page(*parts, *(_warning(text) for text in warnings))


def environments_html(environments: Iterable[Environment], default: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a table of environments, and lines of facts below it."""
    rows = []
    for env in environments:
        mark = '<span class="ta-dim">default</span>' if env.name == default else ""
        name, *texts = (escape(clean(text, 120)) for text in (env.name, env.provider, *cluster(env)))
        rows.append((name, mark, *texts))
    heads = ("Environment", "", "Provider", "Version", "Endpoint")
    listed = _table(heads, rows) if rows else _dim("No environments.")
    return _page(listed, *(_dim(f"{clean(what)}: {clean(value, 500)}") for what, value in (facts or {}).items()))


def progress_html(record: JobStatus, now: datetime | None = None) -> str:
    """Return a waiting job on one line, with a bar."""
    return _page(headline_html(record, now or utc_now(), spans=True))


def group_html(records: Sequence[JobStatus], now: datetime | None = None) -> str:
    """Return jobs that are waited for together: how many have ended, and a line for each that runs."""
    now = now or utc_now()
    ended, done, counts, since = group_words(records, now)
    bar = f'<progress max="1" value="{done:.4f}" aria-label="{escape(ended)}"></progress>'
    rest = " · ".join(filter(None, [", ".join(counts), since]))
    head = f'<div class="ta-head"><b>{escape(ended)}</b>{bar}<span class="ta-dim">{escape(rest)}</span></div>'
    going = [record for record in records if record.code is JobCode.RUNNING]
    lines = [headline_html(record, now, spans=True) for record in going[:MAX_GOING]]
    if len(going) > MAX_GOING:
        lines.append(_dim(f"and {len(going) - MAX_GOING} more that run"))
    return _page(head, *lines)


def status_html(record: JobStatus) -> str:
    """Return a status as a coloured dot and a word."""
    code = record.code
    full = "" if code in HOLLOW else ' class="ta-full"'
    dot = f'<i{full} style="color:{COLOURS.get(code, GREY)}"></i>'
    return f'<span class="ta-s">{dot}{escape(code.label)}</span>'


def _page(*parts: str) -> str:
    return f'{STYLE}<div class="taskapi">{"".join(parts)}</div>'


def headline_html(record: JobStatus, now: datetime, spans: bool = False) -> str:
    """Return status, name and id of a job, its bar while it runs, and how far it is."""
    done = fraction(record.progress or None)
    words = [status_html(record), f"<b>{escape(clean(record.api_name, 80))}</b>", job_id_html(record.job_id)]
    if record.code in IN_PROGRESS and (spans or done is not None):
        value = "" if done is None else f' value="{done:.4f}"'
        words.append(f'<progress max="1"{value} aria-label="job {escape(clean(record.job_id))}"></progress>')
    further = spans_of(record, now) if spans else [note(record, 120) if record.code in IN_PROGRESS else ""]
    rest = " · ".join(text for text in further if text)
    if rest:
        words.append(f'<span class="ta-dim" dir="auto">{escape(rest)}</span>')
    if record.code in IN_PROGRESS and not spans:
        # The picture stays when the job moves on.
        words.append(f'<span class="ta-dim">as of {_time(now, now)}</span>')
    return f'<div class="ta-head">{"".join(words)}</div>'


def _jobs_table(jobs: Sequence[JobStatus], more: bool = False, api_column: bool = True) -> str:
    if not jobs:
        return _dim("No jobs yet.")
    now, rows = utc_now(), []
    for job in jobs[:MAX_ROWS]:
        when = created(job)
        row = [
            job_id_html(job.job_id),
            _cell(job.api_name),
            status_html(job),
            _time(when, now) if when else "",
            escape(duration(took(job, now))),
            _cell(note(job, 300)),
            _cell(short_json(job.config, 300), code=True),
        ]
        rows.append(row if api_column else [row[0], *row[2:]])
    heads = ["Job", "API", "Status", "Submitted", "Took", "Note", "Config"]
    if not api_column:
        heads.remove("API")
    shown = _table(heads, rows, numbers=("Took",))
    left = len(jobs) - MAX_ROWS
    if left > 0 or more:
        shown += _dim(f"and {left} more" if left > 0 else "There are older ones.")
    return shown


def _apis_table(apis: Sequence[API]) -> str:
    if not apis:
        return _dim("No task APIs are deployed yet.")
    rows = []
    for api in apis:
        latest, when = latest_job(api), updated(api)
        rows.append(
            (
                f"<b>{_cell(api.name)}</b>",
                escape(busy(api)),
                f"{status_html(latest)} {job_id_html(latest.job_id)}" if latest else "",
                _time(when) if when else "",
                _cell(api.endpoint or "", code=True),
            )
        )
    return _table(("API", "In progress", "Latest job", "Deployed", "Endpoint"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Return a table of cells that are HTML already; columns that nobody filled are left out."""
    kept = [i for i, head in enumerate(heads) if any(row[i] for row in rows)]
    classes = [' class="ta-n"' if heads[i] in numbers else "" for i in kept]
    head = "".join(f"<th{c}>{heads[i]}</th>" for i, c in zip(kept, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{row[i]}</td>" for i, c in zip(kept, classes, strict=True)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _facts_html(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{head}</th><td>{text}</td></tr>" for head, text in facts if text)
    return f'<table class="ta-kv"><tbody>{rows}</tbody></table>' if rows else ""


def _fact(head: str, text: str) -> str:
    if not text:
        return ""
    tag = "code" if head in {"config", "version", "endpoint", "task", "parameters"} else "span"
    return f'<{tag} dir="auto">{escape(text)}</{tag}>'


def _cell(text: str, code: bool = False) -> str:
    """Return a cell that is cut by the browser and shows all of it when pointed at."""
    text = clean(text, 300)
    if not text:
        return ""
    tag, safe = "code" if code else "span", escape(text)
    title = f' title="{safe}"' if len(text) > 24 else ""
    return f'<{tag} class="ta-c" dir="auto"{title}>{safe}</{tag}>'


def job_id_html(job_id: str) -> str:
    """Return an id whose last digits, which are all one needs to type, stand out."""
    text = clean(job_id, 64)
    return f'<code><span class="ta-id">{escape(text[:-6])}</span>{escape(text[-6:])}</code>'


def _time(time: datetime, now: datetime | None = None) -> str:
    return f'<span title="{escape(utc(time))}">{escape(local(time, now))}</span>'


def _warning(text: str) -> str:
    return f'<div class="ta-warn"><span>Warning:</span> {escape(clean(text))}</div>'


def _dim(text: str) -> str:
    return f'<div class="ta-dim">{escape(text)}</div>'
