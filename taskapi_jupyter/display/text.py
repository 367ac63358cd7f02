"""Text for terminals: aligned, cut to the terminal's width, with no control sequences but our colours."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .facts import fraction, group_words, progress_words, result_lines, spans_of
from .formats import clean, cut, local, moment, table, terminal_width, utc_now
from .views import (
    Cell,
    Fact,
    Table,
    api_card,
    apis_table,
    environments_table,
    files_table,
    job_card,
    jobs_table,
    plan_card,
)

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import API
    from taskapi_jupyter.core.contract import DeployResult, Environment, FileEntry, JobStatus, KeptKernel

E = TypeVar("E", bound=BaseException)

_GREEN, _RED, _YELLOW, _BLUE, _DIM = "32", "31", "33", "34", "2"
_COLOURS = {
    JobCode.PENDING: _YELLOW,
    JobCode.ENQUEUING: _YELLOW,
    JobCode.RUNNING: _BLUE,
    JobCode.SUCCEEDED: _GREEN,
    JobCode.STOPPED: _DIM,
    JobCode.UNKNOWN: _DIM,
}  # all others are failures: red


def jobs_text(
    jobs: Iterable[JobStatus],
    more: bool = False,
    searched: int | None = None,
    *,
    colour: bool = False,
    short: bool = False,
    width: int | None = None,
) -> str:
    """Return a table of jobs as wide as the terminal, or ``width``; with ``short``, ids are their last digits."""
    return table_text(jobs_table(jobs, more, searched, short), colour, width)


def files_text(files: Iterable[FileEntry], width: int | None = None) -> str:
    """Return a table of a job's files."""
    return table_text(files_table(files), width=width)


def job_text(
    record: JobStatus, endpoint: str | None = None, *, colour: bool = False, last_seen: datetime | None = None
) -> str:
    """Return one job, one fact a line; ``last_seen`` is when it was last read, where it can't be read now."""
    title = f"job {clean(record.job_id)} of {clean(record.api_name)}"
    return card_text(title, job_card(record, endpoint, last_seen, utc_now()), colour)


def kernel_text(job_id: str, kernel: KeptKernel) -> str:
    """Return how to work in the kernel that a job keeps, and how to go on from there."""
    until = moment(kernel.until or None)
    kept = f" until {local(until, utc_now())}" if until else ""
    listed = [f"JupyterLab lists it as kernel {clean(kernel.kernel_id)}."] if kernel.kernel_id else []
    hint = [clean(line) for line in (kernel.hint or "").splitlines()]
    return "\n".join(
        [
            f"job {clean(job_id)} keeps its kernel{kept}. In a terminal of the job's machine, with jupyter-console:",
            f"    jupyter console --existing {clean(shlex.quote(kernel.connection_file))}",
            *listed,
            *hint,
            f"Then go on from the cell that failed: %taskapi resume {clean(job_id)}, or end it with --end.",
        ]
    )


def api_text(api: API, *, colour: bool = False, short: bool = False, width: int | None = None) -> str:
    """Return one API with its recent jobs."""
    jobs = jobs_text(api.task_job_statuses, colour=colour, short=short, width=width)
    return f"{card_text(clean(api.name), api_card(api))}\n\n{jobs}"


def apis_text(apis: Iterable[API], *, colour: bool = False, short: bool = False, width: int | None = None) -> str:
    """Return a table of APIs."""
    return table_text(apis_table(apis, short), colour, width)


def deploy_text(results: Iterable[DeployResult], warnings: Iterable[str] = (), *, colour: bool = False) -> str:
    """Return the results of a deploy, with warnings on lines of their own."""
    error, warning = _painted("error:", _RED, colour), _painted("warning:", _YELLOW, colour)
    lines = []
    for result in results:
        message, its = result_lines(result)
        head = f"{error} {message}" if result.error else message
        shown = card_text(head, plan_card(result.plan)) if result.plan else head
        lines += [shown, *(f"  {warning} {text}" for text in its)]
    return "\n".join([*lines, *(f"  {warning} {clean(text)}" for text in warnings)])


def environments_text(environments: Iterable[Environment], default: str, facts: Mapping[str, str] | None = None) -> str:
    """Return a table of environments, in which ``*`` marks the default one, and lines of facts below it."""
    there = list(environments)
    shown = environments_table(there)
    rows = [(Cell("*" if one.name == default else ""), *row) for one, row in zip(there, shown.rows, strict=True)]
    listed = table_text(replace(shown, heads=("", *shown.heads), rows=rows))
    return "\n".join([listed, *(f"{clean(what)}: {clean(value, 500)}" for what, value in (facts or {}).items())])


def progress_text(record: JobStatus, now: datetime | None = None, width: int | None = None) -> str:
    """Return a job that is waited for on one line, with a bar where the task reports its progress."""
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
    """Return jobs that are waited for together on one line: how many have ended, and the progress of the others."""
    ended, done, counts, since = group_words(records, now)
    going = [
        f"{clean(record.job_id)[-6:]} {words}"
        for record in records
        if record.code in IN_PROGRESS and (words := progress_words(record, 30))
    ]
    parts = [ended, f"[{'#' * int(done * 20):<20}]", ", ".join(counts), since, *going]
    line = "  ".join(filter(None, parts))
    return cut(line, (terminal_width() if width is None else width) - 1)


def in_short(error: E) -> E:
    """Make IPython show an error as one line, without a traceback through this package."""
    words = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    line = f"{type(error).__name__}: " + "\n".join(clean(line) for line in words.splitlines())
    vars(error)["_render_traceback_"] = lambda: [line]
    return error


def table_text(shown: Table, colour: bool = False, width: int | None = None) -> str:
    """Return a table as wide as the terminal, or ``width``."""
    more = f"\n({shown.more})" if shown.more else ""
    if not shown.rows:
        return shown.empty + more
    text = table(
        [head.lower() for head in shown.heads],
        [[cut(cell.text, cell.width) for cell in row] for row in shown.rows],
        width,
        whole=(shown.whole.lower(),),
        least=shown.least,
        paint=lambda row, column, printed: _status(shown.rows[row][column], printed, colour),
    )
    return text + more


def card_text(title: str, facts: Sequence[Fact], colour: bool = False) -> str:
    """Return facts below a title, one a line."""
    facts = [(f"{head}:", cell) for head, cell in facts if cell.text]
    width = max((len(head) for head, _ in facts), default=0)
    return "\n".join([title, *(f"  {head:<{width}} {_status(cell, cell.text, colour)}" for head, cell in facts)])


def _status(cell: Cell, printed: str, colour: bool) -> str:
    """Colour the status at the beginning of a cell."""
    if cell.code is None:
        return printed
    label = cell.code.label
    end = len(label) if printed.startswith(label) else len(printed.rstrip())
    return _painted(printed[:end], _COLOURS.get(cell.code, _RED), colour) + printed[end:]


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
