"""The table of a group: one flat row a job, with the keys of its config and of its result; and a chart of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskapi_jupyter.core.contract import JobStatus
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.display.facts import took, why

Row = dict[str, Any]

COLUMNS = ("index", "job_id", "status", "attempt", "seconds", "reason")
SMALL_RESULT = 1 << 16  # bytes of a result, as JSON, up to which a table shows what is in it
VEGA = "application/vnd.vegalite.v5+json"  # JupyterLab draws it without an extension

_CHARTED = 5000  # rows of a chart at most


class Flatten:
    """Makes rows; ``keys`` are those of all configs of the group, so that a column means the same in each row."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._configs = {key: _prefixed("config", key) if key in COLUMNS else key for key in sorted(keys)}
        self._taken = {*COLUMNS, *self._configs.values()}

    def row(self, record: JobStatus, result: Any) -> Row:
        """Return the row of a job with that result; of the result, only numbers, text, True, False and None."""
        seconds = took(record)
        found: Row = {
            "index": record.index or 0,
            "job_id": record.job_id,
            "status": record.status,
            "attempt": record.attempt or 1,
            "seconds": None if seconds is None else round(seconds, 3),
            "reason": why(record) or None,
        }
        config = record.config or {}
        for key, column in self._configs.items():
            if key in config:
                found[column] = config[key]
        found |= {_prefixed("metric", name): value for name, value in (record.metrics or {}).items()}
        for key, value in scalars(result).items():
            found[_prefixed("result", key) if key in self._taken else key] = value
        return found


def scalars(result: Any) -> Row:
    """Return the numbers, texts, True, False and None in a result: those of a dict, or a single one as "result"."""
    if isinstance(result, Mapping):
        return {key: value for key, value in result.items() if _is_scalar(value) and _is_scalar(key)}
    return {} if result is None or not _is_scalar(result) else {"result": result}


def _prefixed(prefix: str, key: str) -> str:
    return f"{prefix}.{key}"


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= one <= "\udfff" for one in value)  # half a character can't be sent
    return value is None or isinstance(value, bool | int | float)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the columns of some rows: those that all have, then others in the order in which they come."""
    return list(dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)]))


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a DataFrame; raise :class:`BadRequest` where pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise BadRequest("frame() needs pandas: `pip install pandas`, or use rows(), a list of dicts") from None
    return pandas.DataFrame(rows, columns=columns_of(rows))


class Chart:
    """A chart of a group's rows that JupyterLab draws; elsewhere it is a line of text."""

    def __init__(self, rows: Sequence[Row], x: str, y: str, color: str | None) -> None:
        known = columns_of(rows)
        for name in filter(None, (x, y, color)):
            if name not in known:
                raise BadRequest(f"no column {name[:60]!r} to chart: the group's rows have {', '.join(known)[:300]}")
        self.shown = [{name: row.get(name) for name in filter(None, (x, y, color))} for row in rows[:_CHARTED]]
        self._title = f"{y} over {x}" + (f", by {color}" if color else "")
        fields = {"x": x, "y": y, "color": color}
        self.spec = {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "data": {"values": self.shown},
            "mark": {"type": "point", "filled": True, "tooltip": True},
            "encoding": {
                channel: {"field": _escaped(name), "title": name, "type": self._kind(name, channel)}
                for channel, name in fields.items()
                if name
            },
        }

    def _kind(self, name: str, channel: str) -> str:
        values = [row[name] for row in self.shown if row[name] is not None]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        return "quantitative" if numbers and values else "nominal"

    def __repr__(self) -> str:
        return f"<Chart of {self._title}, {len(self.shown)} jobs>"

    def _repr_mimebundle_(self, **_: Any) -> Row:
        return {VEGA: self.spec, "text/plain": repr(self)}


def _escaped(name: str) -> str:
    """Return a column's name as Vega-Lite has it, where dots and brackets mean something."""
    return "".join(f"\\{one}" if one in ".[]\\'\"" else one for one in name)
