"""The HTML of a panel, every value escaped, and its style sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from taskapi_jupyter.client.taskapi import API
from taskapi_jupyter.core.contract import FileEntry, JobStatus
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.states import IN_PROGRESS
from taskapi_jupyter.display.ansi import ansi_html
from taskapi_jupyter.display.facts import created, fraction, left_words, note, parameter_words, parameters, took
from taskapi_jupyter.display.formats import clean, duration, local, utc
from taskapi_jupyter.display.html import headline_html, job_facts_html, job_id_html, status_html
from taskapi_jupyter.display.style import STYLE

MAX_SHOWN = 64 << 10  # characters of a config or a result

HEADS = (
    '<div class="taskapi"><div class="ta-row ta-heads"><span>Status</span><span>API, job</span>'
    '<span>Progress, reason</span><span class="ta-nb">Notebook</span><span class="ta-took">Took</span>'
    '<span class="ta-age">Submitted</span></div></div>'
)


def style_sheet() -> str:
    """Return the rules of a panel with those of the views that it shows."""
    rules = Path(__file__).with_name("panel.css").read_text("utf-8")
    return f"{STYLE}<style>{rules}</style>"


def said(text: str, look: str = "ta-dim") -> str:
    """Return a sentence that screen readers announce; nothing for an empty one."""
    return f'<div class="taskapi"><div class="{look}" role="status">{escape(text)}</div></div>' if text else ""


def title(text: str, name: str = "") -> str:
    """Return the title of a part, with an optional name at its end."""
    named = f" <b>{escape(clean(name, 80))}</b>" if name else ""
    return f'<div class="taskapi ta-title" role="heading" aria-level="4">{escape(text)}{named}</div>'


def parameter_table(api: API) -> str:
    """Return the parameters of an API's task, one a line; nothing where they are unknown."""
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(parameter_words(one))}</code></th>'
        f'<td><span class="ta-dim" dir="auto">{escape(_parameter_note(one))}</span></td></tr>'
        for one in parameters(api) or ()
    )
    heading = '<table class="ta-kv ta-parameters" aria-label="Parameters"><tbody>'
    return f'<div class="taskapi">{heading}{rows}</tbody></table></div>' if rows else ""


def _parameter_note(one: Mapping[str, Any]) -> str:
    return " · ".join(filter(None, ["required" if one.get("required") else "", clean(one.get("help") or "", 200)]))


def row(job: JobStatus, now: datetime) -> str:
    """Return a job as a row of the list."""
    done, when = fraction(job.progress or None), created(job)
    bar, words = "", note(job, 200)
    if job.code in IN_PROGRESS and done is not None:
        bar = (
            f'<progress max="1" value="{done:.4f}" aria-label="progress of job {escape(clean(job.job_id))}"></progress>'
        )
        words = " · ".join(filter(None, (note(job, 120), left_words(job, now))))
    notebook = clean(job.notebook or "", 300)
    return (
        '<div class="taskapi"><div class="ta-row">'
        f"{status_html(job.code)}"
        f'<span class="ta-who"><b>{escape(clean(job.api_name, 80))}</b>{job_id_html(job.job_id)}</span>'
        f'<span class="ta-say">{bar}<span dir="auto">{escape(words)}</span></span>'
        f'<span class="ta-nb ta-dim" dir="auto">{escape(notebook.rpartition("/")[2])}</span>'
        f'<span class="ta-took">{escape(duration(took(job, now)))}</span>'
        f'<span class="ta-age ta-dim">{escape(local(when, now) if when else "")}</span>'
        "</div></div>"
    )


def pointed_at(job: JobStatus) -> str:
    """Return the tooltip of a row."""
    when, notebook = created(job), clean(job.notebook or "", 200)
    lines = [f"{clean(job.api_name, 80)} {clean(job.job_id, 40)}: {job.code.label}", note(job, 200)]
    lines += [f"submitted {utc(when)}" if when else "", f"from {notebook}" if notebook else ""]
    return "\n".join(line for line in lines if line)


def empty(text: str) -> str:
    """Return a text in the place of an empty list."""
    return f'<div class="taskapi"><div class="ta-empty ta-dim">{escape(text)}</div></div>'


def headline(job: JobStatus, now: datetime) -> str:
    """Return the chosen job's headline."""
    return f'<div class="taskapi">{headline_html(job, now, spans=True)}</div>'


def facts(job: JobStatus, now: datetime, endpoint: str | None) -> str:
    """Return the chosen job's facts."""
    known = {"config", "took"} | ({"reason"} if len(job.reason or "") <= 80 else set())  # the headline has these
    return f'<div class="taskapi">{job_facts_html(job, now, endpoint, leave_out=known)}</div>'


def log(text: str) -> str:
    """Return a log, in its colours."""
    return f"<pre>{ansi_html(text)}</pre>" if text else ""


def value(anything: Any) -> str:
    """Return a config or a result: as JSON where it is that, else as Python shows it."""
    try:
        text = json.dumps(anything, indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(anything)
    return plain(text)


def plain(text: str) -> str:
    """Return text as it is, at most ``MAX_SHOWN`` characters of it."""
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}\n… ({len(text) - MAX_SHOWN:,} more characters)"
    return f"<pre>{ansi_html(text)}</pre>"


def files(entries: Iterable[tuple[FileEntry, str, str]], more: int = 0, truncated: str | None = None) -> str:
    """Return files with their sizes, each with a link or its place; then how many more there are."""
    cells = []
    for entry, link, words in entries:
        name = clean(entry.path, 300)
        shown = escape(name)
        if link:
            base = escape(clean(entry.path.rpartition("/")[2], 200))
            shown = f'<a href="{escape(link)}" download="{base}" title="Download {shown}">{shown}</a>'
        where = f' <span class="ta-dim">{escape(words)}</span>' if words else ""
        cells.append(f'<span dir="auto">{shown}{where}</span><span class="ta-dim">{escape(size(entry.size))}</span>')
    notes = [f"and {more:,} more"] if more else []
    notes += [clean(truncated, 400)] if truncated else []
    rest = "".join(f'<div class="ta-dim">{escape(note)}</div>' for note in notes)
    return f'<div class="taskapi"><div class="ta-files">{"".join(cells)}</div>{rest}</div>'
