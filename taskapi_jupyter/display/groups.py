"""Groups as text and as HTML: a card, a table, and the line of a wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core.states import IN_PROGRESS, JobCode

from .formats import clean, cut, duration, local, moment, short_ids, short_json, terminal_width, utc_now
from .html import card_html, lab_link, page, table_html
from .style import COLOURS, GREY
from .text import card_text, table_text
from .views import Cell, Fact, Table

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import GroupStatus


_WORST = (JobCode.UNEXPECTED_ERROR, JobCode.WORKER_ERROR, JobCode.WORKER_OOM, JobCode.TIMED_OUT, JobCode.STOPPED)

#: The parts of a group's bar, in their order, and the state whose colour each has.
_KINDS = {
    "succeeded": JobCode.SUCCEEDED,
    "failed": JobCode.WORKER_ERROR,
    "stopped": JobCode.STOPPED,
    "running": JobCode.RUNNING,
    "pending": JobCode.PENDING,
}
_OPACITY = {"pending": 0.4}  # stopped ones are grey, too


def ended_of(record: GroupStatus) -> tuple[int, int]:
    """Return how many of a group's jobs have ended, and how many it has."""
    states = [(JobCode.read(status), count) for status, count in record.counts.items()]
    return sum(count for code, count in states if code not in IN_PROGRESS), sum(count for _, count in states)


def counts_words(record: GroupStatus, now: datetime | None = None) -> str:
    """Return how far a group is: ``9/12 · 2 running · 1 failed · about 40 s left``."""
    over, total = ended_of(record)
    counts = {JobCode.read(status): count for status, count in record.counts.items()}
    fine = (JobCode.PENDING, JobCode.RUNNING, JobCode.SUCCEEDED, JobCode.STOPPED)
    failed = sum(count for code, count in counts.items() if code not in fine)
    parts = [f"{over}/{total}"]
    for count, words in ((counts.get(JobCode.RUNNING, 0), "running"), (failed, "failed")):
        if count:
            parts.append(f"{count} {words}")
    if stopped := counts.get(JobCode.STOPPED, 0):
        parts.append(f"{stopped} stopped")
    if left := _left(record, now):
        parts.append(left)
    return " · ".join(parts)


def _left(record: GroupStatus, now: datetime | None) -> str:
    begun = moment(record.created_time)
    if begun is None or not 0 < record.progress < 1:
        return ""
    spent = max(((now or utc_now()) - begun).total_seconds(), 0.0)
    return f"about {duration(spent * (1 - record.progress) / record.progress)} left"


def code_of(record: GroupStatus) -> JobCode:
    """Return the state that a group as a whole is shown in: that of what runs or waits, else the worst of its ends."""
    there = {JobCode.read(status) for status in record.counts}
    for code in (JobCode.RUNNING, JobCode.PENDING, *_WORST):
        if code in there:
            return code
    return JobCode.SUCCEEDED


def seconds_of(record: GroupStatus, now: datetime | None = None) -> float | None:
    """Return how long a group has taken, from its submission to its end, or so far."""
    begun, ended = moment(record.created_time), moment(record.end_time or None)
    return None if begun is None else max(((ended or now or utc_now()) - begun).total_seconds(), 0.0)


def tally(record: GroupStatus) -> dict[str, tuple[JobCode, int]]:
    """Return how many jobs succeeded, failed, were stopped, run and wait, each with the state whose colour it has."""
    counts = dict.fromkeys(_KINDS, 0)
    for status, count in record.counts.items():
        code = JobCode.read(status)
        counts[code.label if code.label in counts else "failed"] += count
    return {kind: (_KINDS[kind], count) for kind, count in counts.items() if count}


def stack_html(record: GroupStatus) -> str:
    """Return these counts as a bar with a part for each; its text says them."""
    parts = tally(record)
    words = ", ".join(f"{count} {kind}" for kind, (_, count) in parts.items())
    inner = "".join(
        f'<i style="flex-grow:{count};background:{COLOURS.get(code, GREY)};opacity:{_OPACITY.get(kind, 1)}"></i>'
        for kind, (code, count) in parts.items()
    )
    return f'<span class="ta-stack" role="img" aria-label="{escape(words)}">{inner}</span>'


def name_words(record: GroupStatus) -> str:
    """Return what a group is called: its name, else its id."""
    return clean(record.name or record.id, 80)


def bar_text(record: GroupStatus, now: datetime | None = None, width: int | None = None) -> str:
    """Return a group that is waited for on one line."""
    line = f"{name_words(record)}  [{'#' * int(record.progress * 20):<20}]  {counts_words(record, now)}"
    return cut(line, (terminal_width() if width is None else width) - 1)


def bar_html(record: GroupStatus, now: datetime | None = None) -> str:
    """Return a group that is waited for on one line, with a bar."""
    return page(_head(record, counts_words(record, now)))


def _head(record: GroupStatus, words: str, link: str = "") -> str:
    name = escape(name_words(record))
    bar = f'<progress max="1" value="{record.progress:.4f}" aria-label="group {name}"></progress>'
    return (
        f'<div class="ta-head"><b>{escape(clean(record.api_name, 80))}</b><code>{name}</code>{bar}'
        f'<span class="ta-dim">{escape(words)}</span>{link}</div>'
    )


def _card(record: GroupStatus, now: datetime) -> list[Fact]:
    counts = ", ".join(f"{count} {JobCode.read(status).label}" for status, count in record.counts.items())
    times = {"submitted": moment(record.created_time), "ended": moment(record.end_time or None)}
    return [
        ("jobs", Cell(counts)),
        *((head, Cell(local(time, now), time=time)) for head, time in times.items() if time is not None),
        ("at most", Cell(f"{record.max_running} running" if record.max_running else "")),
        ("notebook", Cell(clean(record.notebook or "", 200))),
        ("id", Cell(clean(record.id, 40), "code")),
    ]


def group_text(record: GroupStatus) -> str:
    """Return one group, one fact a line."""
    now = utc_now()
    title = f"group {name_words(record)} of {clean(record.api_name)}: {counts_words(record, now)}"
    return card_text(title, _card(record, now))


def group_html(record: GroupStatus, environment: str | None = None) -> str:
    """Return one group as a card."""
    now = utc_now()
    words, link = counts_words(record, now), ""
    if ended_of(record)[0] < ended_of(record)[1]:  # the output stays as it is when the group goes on
        words, link = f"{words} · as of {local(now, now)}", lab_link(environment, record.id)
    return page(_head(record, words, link), card_html(_card(record, now)))


def _table(records: Iterable[GroupStatus], more: bool, short: bool = False) -> Table:
    now, rows, records = utc_now(), [], list(records)
    ids = short_ids(record.id.removeprefix("g") for record in records) if short else {}
    for record in records:
        known = ids.get(record.id.removeprefix("g"))
        shown = f"g{known}" if known and record.id.startswith("g") else record.id
        when = moment(record.created_time)
        rows.append(
            (
                Cell(clean(record.name or shown, 80), "name", 30 if short else 63),
                Cell(clean(record.api_name, 300), width=40),
                Cell(counts_words(record, now), width=60),
                Cell(local(when, now) if when else "", time=when),
                Cell(clean(shown, 40), "code"),
            )
        )
    heads = ("Group", "API", "Jobs", "Submitted", "Id")
    return Table(heads, rows, "no groups", "there are older ones" if more else "", whole="Group", least=3)


def groups_text(
    records: Iterable[GroupStatus], more: bool = False, short: bool = False, width: int | None = None
) -> str:
    """Return a table of groups as wide as the terminal, or ``width``; with ``short``, ids are their last digits."""
    return table_text(_table(records, more, short), width=width)


def groups_html(records: Iterable[GroupStatus], more: bool = False) -> str:
    """Return a table of groups."""
    return page(table_html(_table(records, more)))


def configs_text(configs: Sequence[Mapping[str, Any] | None], most: int = 50) -> str:
    """Return the jobs that would be submitted with these configs, the first ``most`` of them."""
    return table_text(_configs(configs, most))


def configs_html(configs: Sequence[Mapping[str, Any] | None], most: int = 50) -> str:
    """Return the same as HTML."""
    return page(table_html(_configs(configs, most)))


def _configs(configs: Sequence[Mapping[str, Any] | None], most: int) -> Table:
    shown = [config or {} for config in configs[:most]]
    keys = list(dict.fromkeys(key for config in shown for key in config))
    rows = [
        (
            Cell(str(index), "number"),
            *(Cell(short_json(config[key], 60) if key in config else "", "code", 40) for key in keys),
        )
        for index, config in enumerate(shown)
    ]
    more = f"and {len(configs) - most:,} more" if len(configs) > most else ""
    return Table(("index", *(clean(key, 40) for key in keys)), rows, "no jobs", more)
