"""Environments of packages as text and as HTML: a table, and a card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskapi_jupyter.core.errors import size

from .formats import age, clean, duration, local, moment, utc_now
from .html import card_html, page, table_html
from .text import card_text, table_text
from .views import Cell, Fact, Table

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import BuiltEnvironment

SHORT = 8  # digits of a key that a table shows


def packages_text(records: Iterable[BuiltEnvironment], width: int | None = None) -> str:
    """Return a table as wide as the terminal, or ``width``."""
    return table_text(_table(records), width=width)


def packages_html(records: Iterable[BuiltEnvironment]) -> str:
    """Return a table."""
    return page(table_html(_table(records)))


def environment_text(record: BuiltEnvironment) -> str:
    """Return one environment, one fact a line."""
    return card_text(f"environment {clean(record.key, 40)}", _card(record))


def environment_html(record: BuiltEnvironment) -> str:
    """Return one environment as a card."""
    return page(card_html([("environment", Cell(clean(record.key, 40), "code")), *_card(record)]))


def _table(records: Iterable[BuiltEnvironment]) -> Table:
    now, rows = utc_now(), []
    for one in records:
        used = moment(one.last_used)
        what = one.problem or ", ".join(one.requirements)
        rows.append(
            (
                Cell(clean(one.key[:SHORT]), "code"),
                Cell(clean(one.version, 40), "plain"),
                Cell(size(one.size), "number"),
                Cell(age(used, now), time=used),
                Cell(str(one.jobs), "number"),
                Cell(clean(what, 300), width=100),
            )
        )
    heads = ("Key", "Python", "Size", "Last used", "Jobs", "Requirements")
    return Table(heads, rows, "no environments were built", whole="Key", least=3)


def _card(record: BuiltEnvironment) -> list[Fact]:
    now = utc_now()
    times = {"built": moment(record.built), "last used": moment(record.last_used)}
    known = not record.problem
    return [
        ("problem", Cell(clean(record.problem or "", 400))),
        ("python", Cell(clean(f"{record.version} ({record.python})", 300) if known else "")),
        ("size", Cell(size(record.size))),
        *((head, Cell(local(time, now), time=time)) for head, time in times.items() if time is not None),
        ("took", Cell(f"{duration(record.seconds)}, by {clean(record.builder, 20)}" if known else "")),
        ("jobs", Cell(f"{record.jobs} in progress" if record.jobs else "")),
        ("APIs", Cell(clean(", ".join(record.apis), 400))),
        ("requirements", Cell(clean(", ".join(record.requirements), 2000))),
        ("packages", Cell(clean(", ".join(record.packages), 20_000))),
    ]
