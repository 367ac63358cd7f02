"""Notifications as text: the names, and what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .formats import age, clean, duration, moment, utc_now
from .text import table_text
from .views import Cell, Table

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import Delivery, NotificationName, NotificationsResponse


def notifications_text(found: NotificationsResponse, width: int | None = None) -> str:
    """Return the names, and below them what was sent."""
    tables = [names_text(found.names, width)]
    return "\n\n".join([*tables, deliveries_text(found.deliveries, width)] if found.deliveries else tables)


def names_text(names: Iterable[NotificationName], width: int | None = None) -> str:
    """Return a table as wide as the terminal, or ``width``."""
    rows = [
        (
            Cell(clean(one.name, 40)),
            Cell(clean(one.url, 200), width=60),
            Cell(clean(", ".join(one.on), 200)),
            Cell(clean(", ".join(one.apis), 200) if one.apis else "all"),
            Cell(clean(one.problem or _last(one), 400), width=100),
        )
        for one in names
    ]
    heads = ("Name", "URL", "On", "APIs", "Last")
    return table_text(Table(heads, rows, "config.yaml names no notifications", whole="Name", least=3), width=width)


def deliveries_text(deliveries: Iterable[Delivery], width: int | None = None) -> str:
    """Return a table as wide as the terminal, or ``width``."""
    now, rows = utc_now(), []
    for one in deliveries:
        at, then = moment(one.time), moment(one.next_time)
        again = f", again in {duration((then - now).total_seconds())}" if then is not None and then > now else ""
        rows.append(
            (
                Cell(clean(one.name, 40)),
                Cell(clean(one.job_id, 40)),
                Cell(clean(one.event.replace("_", " "), 40)),
                Cell(age(at, now), time=at),
                Cell(f"{one.state}{again}"),
                Cell(str(one.attempts), "number"),
                Cell(clean(one.answer or "", 1000), width=100),
            )
        )
    heads = ("Name", "Job", "Event", "Age", "State", "Attempts", "Answer")
    return table_text(Table(heads, rows, "nothing was sent", whole="Job", least=4), width=width)


def _last(one: NotificationName) -> str:
    return f"{one.last.state}: {one.last.answer or ''}".rstrip(": ") if one.last else ""
