"""Schedules as text and as HTML: a table, and a card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from taskapi_jupyter.core.states import OVER, JobCode

from .formats import ahead, clean, duration, local, moment, number, short_json, utc_now
from .html import card_html, page, table_html
from .text import card_text, table_text
from .views import Cell, Fact, Table

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import SchedulePreview, ScheduleStatus

_OVERLAP = {
    "skip": "submits none while the last job goes on",
    "queue": "one waits for the end of the last job",
    "stop": "stops the last job first",
    "allow": "runs beside the last job",
}


def when_words(record: ScheduleStatus | SchedulePreview) -> str:
    """Return when a schedule fires: ``At 06:00 on Monday through Friday (Europe/Berlin)``."""
    return clean(f"{record.explained or record.schedule} ({record.timezone})", 300)


def next_words(record: ScheduleStatus, now: datetime | None = None) -> str:
    """Return when it fires next: ``next in 3 h``, ``paused``, or ``over`` where it does not fire again."""
    when = moment(record.next_time)
    if when is not None and record.active:
        return f"next {ahead(when, now)}"
    return "over" if is_over(record) else "paused"


def is_over(record: ScheduleStatus) -> bool:
    """Whether an inactive schedule has come to its end: nobody paused it."""
    return not record.active and record.paused == OVER


def misfires_words(record: ScheduleStatus, limit: int = 300) -> str:
    """Return how many firings no job came from, and why none came from the last of these."""
    if not record.misfires:
        return ""
    why = f": {record.misfire}" if record.misfire else ""
    return clean(f"{number(record.misfires)}{why}", limit)


def schedules_text(
    records: Iterable[ScheduleStatus], hint: str | None = None, short: bool = False, width: int | None = None
) -> str:
    """Return a table as wide as the terminal, or ``width``; below it whether they survive a reboot."""
    return table_text(_table(records, hint, short), width=width)


def schedules_html(records: Iterable[ScheduleStatus], hint: str | None = None) -> str:
    """Return a table, and whether they survive a reboot."""
    shown = _table(records, None)
    below = f'<div class="ta-dim">{escape(clean(hint, 300))}</div>' if hint and shown.rows else ""
    return page(table_html(shown), below)


def schedule_text(record: ScheduleStatus) -> str:
    """Return one schedule, one fact a line."""
    now = utc_now()
    return card_text(f"schedule {clean(record.name, 80)} of {clean(record.api, 80)}", _card(record, now))


def schedule_html(record: ScheduleStatus) -> str:
    """Return one schedule as a card."""
    now = utc_now()
    head = (
        f'<div class="ta-head"><b>{escape(clean(record.name, 80))}</b>'
        f'<span class="ta-dim">schedule of {escape(clean(record.api, 80))}</span>'
        f"<span>{escape(_state(record, now))}</span></div>"
    )
    return page(head, card_html([fact for fact in _card(record, now) if fact[0] != "state"]))  # the head has it


def times_text(shown: SchedulePreview) -> str:
    """Return when a schedule would fire: what it means, then a time a line, in its zone."""
    lines = [clean(text.replace("T", " "), 60) for text in shown.times]
    return "\n".join([when_words(shown), *(f"  {line}" for line in lines or ["never again"])])


def times_html(shown: SchedulePreview) -> str:
    """Return the same as HTML."""
    rows = "".join(f"<tr><td>{escape(clean(text.replace('T', ' '), 60))}</td></tr>" for text in shown.times)
    head = f'<div class="ta-head"><span>{escape(when_words(shown))}</span></div>'
    return page(head, f"<table><tbody>{rows}</tbody></table>" if rows else "<div>never again</div>")


def _state(record: ScheduleStatus, now: datetime) -> str:
    """Return whether it fires, and why it does not where nobody paused it."""
    words = next_words(record, now)
    why = None if record.active or is_over(record) else record.paused
    return clean(f"{words}: {why}" if why else words, 300)


def _last(record: ScheduleStatus) -> Cell:
    """Return the last job, with its state where that is known."""
    if not record.last_job_id:
        return Cell("")
    job_id = clean(record.last_job_id, 40)
    if not record.last_status:
        return Cell(job_id, "id")
    code = JobCode.read(record.last_status)
    return Cell(f"{code.label} {job_id}", code=code)


def _table(records: Iterable[ScheduleStatus], hint: str | None, short: bool = False) -> Table:
    now, rows = utc_now(), []
    for record in records:
        last = _last(record)
        if short and record.last_job_id and last.code:
            last = Cell(f"{last.code.label} {clean(record.last_job_id[-6:])}", code=last.code)
        rows.append(
            (
                Cell(clean(record.name, 80), "name", 40),
                Cell(when_words(record), "plain", 70),
                Cell(_state(record, now).removeprefix("next "), width=60),
                last,
                Cell(misfires_words(record), width=60),
                Cell(clean(record.api, 80), width=40),
                Cell("" if short else short_json(record.config, 300), "code", 60),  # for which a terminal has no room
            )
        )
    heads = ("Schedule", "When", "Next", "Last job", "Missed", "API", "Config")
    more = clean(hint, 300) if hint and rows else ""
    return Table(heads, rows, "no schedules", more, whole="Schedule", least=3)


def _attempts(record: ScheduleStatus) -> str:
    parts: Sequence[str] = [
        f"{record.retries} more" if record.retries else "",
        f"after {', '.join(record.retry_on)}" if record.retry_on else "",
    ]
    return clean(" ".join(filter(None, parts)), 200)


def _card(record: ScheduleStatus, now: datetime) -> list[Fact]:
    due, last, missed = moment(record.next_time), moment(record.last_time), moment(record.misfire_time)
    made, until = moment(record.created_time), moment(record.until)
    late = "no job" if record.catch_up == "none" else "one job"
    if record.catch_up != "none" and record.max_late is not None:
        late += f", if at most {duration(record.max_late)} late"
    return [
        ("when", Cell(when_words(record))),
        ("as written", Cell(clean(record.schedule, 200), "code")),
        ("state", Cell(_state(record, now))),
        *((("next", Cell(local(due, now), time=due)),) if due is not None else ()),
        ("last job", _last(record)),
        *((("last time", Cell(local(last, now), time=last)),) if last is not None else ()),
        ("missed", Cell(misfires_words(record, 400))),
        *((("missed last", Cell(local(missed, now), time=missed)),) if missed is not None else ()),
        ("overlap", Cell(f"{record.overlap}: {_OVERLAP[record.overlap]}" if record.overlap in _OVERLAP else "")),
        ("after a miss", Cell(late)),
        *((("until", Cell(local(until, now), time=until)),) if until is not None else ()),
        ("config", Cell(short_json(record.config, 400), "code")),
        ("timeout", Cell(_timeouts(record))),
        ("retries", Cell(_attempts(record))),
        ("keeps", Cell(f"{record.keep} ended jobs" if record.keep is not None else "")),
        ("notify", Cell(clean(", ".join(record.notify or ()), 200))),
        ("version", Cell(clean(record.api_id or "", 80), "code")),
        ("notebook", Cell(clean(record.notebook or "", 200))),
        *((("made", Cell(local(made, now), time=made)),) if made is not None else ()),
    ]


def _timeouts(record: ScheduleStatus) -> str:
    parts = [
        f"{duration(record.run_timeout)} from its start" if record.run_timeout else "",
        f"{duration(record.timeout)} from its submission" if record.timeout else "",
    ]
    return ", ".join(filter(None, parts))
