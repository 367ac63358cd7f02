"""Times, durations, numbers and untrusted text in words; tables as text."""

from __future__ import annotations

import json
import math
import re
import shutil
import unicodedata
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from taskapi_jupyter.core.errors import printable

_ID = re.compile(r"[0-9a-f]{16}")
_NARROW = 12  # the width down to which a table's columns are cut, as long as others can be left out
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?\s*([Zz]|[+-]\d\d:?\d\d)?$")


def clean(text: object, limit: int | None = None) -> str:
    """Return text on one line, with control characters (escapes, direction marks) spelt out.

    Any run of whitespace becomes one space. ``limit`` cuts, in columns, ending in ``…``.
    """
    words = str(text)
    if limit is not None:
        words = words[: 4 * limit + 64]  # no need to process what is cut off anyway
    words = printable(" ".join(words.split()))
    return words if limit is None else cut(words, limit)


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_width(c) for c in text)


def _width(character: str) -> int:
    # Vowels and finals of Hangul (U+1160 to U+11FF) are drawn as part of the syllable before them.
    if unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """Cut text to a number of columns; if anything was cut, it ends in ``…``."""
    if columns(text) <= limit:
        return text
    room, kept = limit - 1, []
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…" if limit > 0 else ""


def moment(text: object) -> datetime | None:
    """Parse an RFC 3339 time; None where it is absent or invalid. A time without a zone is UTC."""
    found = _TIME.match(text) if isinstance(text, str) else None
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    microseconds = ((fraction or ".")[1:] + "000000")[:6]  # a cluster sends nanoseconds
    zone = "+00:00" if zone in (None, "Z", "z") else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{microseconds}{zone}")
    except ValueError:
        return None


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


def local(time: datetime, now: datetime | None = None) -> str:
    """Return a time in this machine's time zone: of today only the time, else with the day.

    A time that occurs twice in one night, when clocks are set back, has its offset from UTC.
    """
    here, today = time.astimezone(), (now or utc_now()).astimezone()
    first, second = (here.replace(tzinfo=None, fold=fold).astimezone().utcoffset() for fold in (0, 1))
    offset = "" if first == second else f" {here:%z}"
    if here.date() == today.date():
        return f"{here:%H:%M:%S}{offset}"
    if here.year == today.year:
        return f"{here:%b} {here.day}, {here:%H:%M}{offset}"
    return f"{here:%Y-%m-%d %H:%M}{offset}"


def utc(time: datetime) -> str:
    """Return a time in UTC, in full."""
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """Return a duration in few words: ``0.42 s``, ``7.1 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = minutes // 60
    return f"{hours // 24} d {hours % 24:02} h"


def age(time: datetime | None, now: datetime | None = None) -> str:
    """Return roughly how long ago a time was: ``just now``, ``5 min ago``, ``3 d ago``."""
    if time is None:
        return ""
    span = (now or utc_now()) - time
    if span < timedelta(seconds=5):
        return "just now"
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return ""


def ahead(time: datetime, now: datetime | None = None) -> str:
    """Return roughly how far ahead a time is: ``now``, ``in 5 min``, ``in 3 d``."""
    seconds = (time - (now or utc_now())).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size - size / 60:  # 59.5 min are an hour
            return f"in {round(seconds / size)} {unit}"
    return "now"


def number(value: float) -> str:
    """Return a count as people write it: ``3``, ``0.25``, ``1200``."""
    whole = abs(value) < 1e15 and value == int(value)
    return str(int(value)) if whole else f"{value:.4g}"


def short_json(value: Any, limit: int = 80) -> str:
    """Return a JSON value on one line; empty for None and for an empty dict."""
    if value is None or value == {}:
        return ""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
    except (ValueError, TypeError, RecursionError):
        text = repr(value)
    return clean(text, limit)


def short_ids(ids: Iterable[str], least: int = 6) -> dict[str, str]:
    """Return for each id its last digits, as many as tell these apart: the beginnings are alike."""
    found = list(dict.fromkeys(ids))
    if not all(_ID.fullmatch(one) for one in found):
        return {one: one for one in found}
    for count in range(least, 16):
        if len({one[-count:] for one in found}) == len(found):
            return {one: one[-count:] for one in found}
    return {one: one for one in found}


def terminal_width() -> int:
    """Return how wide a text table may be."""
    return max(shutil.get_terminal_size((120, 24)).columns, 40)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    *,
    whole: Container[str] = (),
    least: int = 1,
    paint: Callable[[int, int, str], str] = lambda row, column, cell: cell,
) -> str:
    """Align rows under their heads, without empty columns.

    Where that is wider than ``width``, the widest columns are cut; then the last ones are left out, and the first
    ``least`` cut further. Columns whose head is in ``whole`` are not cut. ``paint`` takes the number of a row, that of
    a column and the padded cell, and may add escape sequences to it.
    """
    width = terminal_width() if width is None else width
    kept = [i for i, head in enumerate(heads) if any(row[i] for row in rows)] or list(range(len(heads)))
    widths = {i: max(columns(line[i]) for line in (heads, *rows)) for i in kept}
    yielding = [i for i in kept if heads[i] not in whole]
    while yielding and sum(widths.values()) + 2 * (len(widths) - 1) > width:
        widest = max(yielding, key=lambda i: widths[i])
        if widths[widest] > _NARROW or (len(yielding) <= least and widths[widest] > 1):
            widths[widest] -= 1
        elif len(yielding) > least:
            del widths[yielding.pop()]
        else:
            break
    lines = ["  ".join(_pad(heads[i], room) for i, room in widths.items())]
    for n, row in enumerate(rows):
        lines.append("  ".join(paint(n, i, _pad(row[i], room)) for i, room in widths.items()))
    return "\n".join(line.rstrip() for line in lines)


def _pad(text: str, room: int) -> str:
    text = cut(text, room)
    return text + " " * (room - columns(text))
