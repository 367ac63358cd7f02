"""The HTML of a panel, every value escaped, and its style sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from taskapi_jupyter.client.taskapi import API
from taskapi_jupyter.core.contract import FileEntry, GroupStatus, JobStatus
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.states import IN_PROGRESS
from taskapi_jupyter.display.ansi import ansi_html
from taskapi_jupyter.display.facts import created, fraction, left_words, note, parameter_words, parameters, took
from taskapi_jupyter.display.formats import clean, cut, duration, local, moment, short_json, utc
from taskapi_jupyter.display.groups import code_of, counts_words, name_words, seconds_of, stack_html
from taskapi_jupyter.display.html import card_html, headline_html, job_facts_html, job_id_html, status_html
from taskapi_jupyter.display.style import STYLE
from taskapi_jupyter.display.views import Fact

MAX_COMPARED = 2000  # characters of a value
MAX_KEYS = 8  # of a config, in a row
MAX_SHOWN = 64 << 10  # characters of a config or a result

HEADS = (
    '<div class="taskapi"><div class="ta-row ta-heads"><span>Status</span><span>API, job</span>'
    '<span>Config, progress, reason</span><span class="ta-nb">Notebook</span><span class="ta-took">Took</span>'
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


def differing(jobs: Iterable[JobStatus]) -> dict[str, str]:
    """Return by job what of its config is not the same in all jobs of its API among these: ``lr=0.1 seed=2``.

    Of an API that has one job here, this is the whole config.
    """
    configs: dict[str, dict[str, Mapping[str, Any]]] = {}
    for job in jobs:
        if not job.config_truncated:
            configs.setdefault(job.api_name, {})[job.job_id] = job.config or {}
    found = {}
    for of_api in configs.values():
        values: dict[str, set[str]] = {}
        for config in of_api.values():
            for key, value in config.items():
                values.setdefault(key, set()).add(short_json({"": value}, MAX_COMPARED))
        same = {
            key
            for key, seen in values.items()
            if len(of_api) > 1 and len(seen) == 1 and all(key in config for config in of_api.values())
        }
        for job_id, config in of_api.items():
            words = (f"{clean(key, 40)}={_short(value)}" for key, value in config.items() if key not in same)
            found[job_id] = " ".join(islice(words, MAX_KEYS))
    return found


def _short(value: Any) -> str:
    return "None" if value is None else short_json(value, 40) or "{}"


def group_row(group: GroupStatus, now: datetime) -> str:
    """Return a group as a row of the list."""
    when = moment(group.created_time)
    notebook, api = clean(group.notebook or "", 300), clean(group.api_name, 80)
    called, beside = (name_words(group), api) if group.name else (api, f"g{clean(group.id[-4:])}")
    return (
        '<div class="taskapi"><div class="ta-row ta-group">'
        f"{status_html(code_of(group))}"
        f'<span class="ta-who"><b>{escape(called)}</b>'
        f'<span class="ta-dim" dir="auto">{escape(beside)}</span></span>'
        f'<span class="ta-say">{stack_html(group)}<span>{escape(counts_words(group, now))}</span></span>'
        f'<span class="ta-nb ta-dim" dir="auto">{escape(notebook.rpartition("/")[2])}</span>'
        f'<span class="ta-took">{escape(duration(seconds_of(group, now)))}</span>'
        f'<span class="ta-age ta-dim">{escape(local(when, now) if when else "")}</span>'
        "</div></div>"
    )


def group_head(group: GroupStatus, now: datetime) -> str:
    """Return the headline of the group whose jobs are shown."""
    return (
        '<div class="taskapi"><div class="ta-head">'
        f'{status_html(code_of(group))}<b>{escape(name_words(group))}</b><span dir="auto">'
        f"{escape(clean(group.api_name, 80))}</span>{stack_html(group)}"
        f'<span class="ta-dim">{escape(counts_words(group, now))}</span></div></div>'
    )


def row(job: JobStatus, now: datetime, config: str = "") -> str:
    """Return a job as a row of the list; ``config`` is what to show of its config."""
    done, when = fraction(job.progress or None), created(job)
    bar, words = "", note(job, 200)
    if job.code in IN_PROGRESS and done is not None:
        bar = (
            f'<progress max="1" value="{done:.4f}" aria-label="progress of job {escape(clean(job.job_id))}"></progress>'
        )
        words = " · ".join(filter(None, (note(job, 120), left_words(job, now))))
    notebook = clean(job.notebook or "", 300)
    shown = f'<code class="ta-differs" dir="auto">{escape(cut(config, 100))}</code>' if config else ""
    return (
        '<div class="taskapi"><div class="ta-row">'
        f"{status_html(job.code)}"
        f'<span class="ta-who"><b>{escape(clean(job.api_name, 80))}</b>{job_id_html(job.job_id)}</span>'
        f'<span class="ta-say">{shown}{bar}<span dir="auto">{escape(words)}</span></span>'
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


def facts(job: JobStatus, now: datetime, endpoint: str | None, runs: Sequence[Fact] = ()) -> str:
    """Return the chosen job's facts, with what runs it."""
    known = {"config", "took", "Python"}  # the headline has some of these, `runs` another
    known |= {"reason"} if len(job.reason or "") <= 80 else set()
    return f'<div class="taskapi">{job_facts_html(job, now, endpoint, leave_out=known, more=runs)}</div>'


def runs(facts: Sequence[Fact]) -> str:
    """Return what runs the jobs of a form."""
    return f'<div class="taskapi">{card_html(facts)}</div>' if facts else ""


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
