"""Checks that a row of the store is one that this package can have written. Standard library only.

SQLite keeps any value in any column, and somebody may have changed one. An invalid row is shown as such and can be
deleted; the supervisor starts nothing for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.states import MAX_PRIORITY, MAX_RETRIES, MOVES

JOB_ID = re.compile(r"[0-9a-f]{16}")
WRITTEN = frozenset(code.value for code in MOVES).union(code.value for some in MOVES.values() for code in some)

_GPUS = re.compile(r"([0-9]{1,6}(,[0-9]{1,6})*)?")
_LAST = 253_402_300_799_999_999  # µs since the epoch: the end of the year 9999
_MOST = 1 << 53

#: Whole numbers: minimum, maximum, and whether they may be NULL.
_NUMBERS = {
    "created": (0, _LAST, False),
    "started": (0, _LAST, True),
    "ended": (0, _LAST, True),
    "updated": (0, _LAST, False),
    "last_updated": (0, _LAST, False),
    "timeout": (0, _MOST, True),
    "run_timeout": (0, _MOST, True),
    "cpu": (0, _MOST, False),
    "mem": (0, _MOST, True),
    "gpu": (0, 1 << 20, False),
    "exit_code": (-(1 << 31), 1 << 32, True),
    "priority": (-MAX_PRIORITY, MAX_PRIORITY, False),
    "group_index": (0, _MOST, True),
    "attempt": (1, _MOST, False),
    "retries": (0, MAX_RETRIES, False),
    "allowed": (0, _LAST, True),
    "scheduled": (0, _LAST, True),
}
_SECONDS = ("deadline", "due", "retry_delay")
_TEXTS = ("api_name", "spec_id", "name")
_TEXTS_OR_NONE = (
    "reason", "notebook", "boot", "started_boot", "progress", "metrics", "usage", "merged", "visible", "group_id",
    "retry_on", "retry_of", "retried_by", "schedule",
)  # fmt: skip


def fault(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the row of a job or an API, None if nothing is. The row may have only some columns."""
    for name, value in row.items():
        wrong = _fault(name, value)
        if wrong:
            return f"its {name} {wrong}"
    return None


def _fault(name: str, value: Any) -> str | None:
    if name in _NUMBERS:
        least, most, may_lack = _NUMBERS[name]
        good = may_lack if value is None else type(value) is int and least <= value <= most
    elif name in _SECONDS:
        good = value is None or (isinstance(value, int | float) and math.isfinite(value))
    elif name in _JSON:
        good = value is None or _holds(value, _JSON[name])
    elif name == "gpus":
        good = value is None or (isinstance(value, str) and _GPUS.fullmatch(value) is not None)
    elif name == "id":
        good = isinstance(value, str) and JOB_ID.fullmatch(value) is not None
    elif name == "status":
        good = isinstance(value, str) and value in WRITTEN
    elif name == "api_id":
        good = isinstance(value, str) and is_utf8(value) and value not in ("", ".", "..") and not {*value} & {"/", "\0"}
    elif name in _TEXTS or name in _TEXTS_OR_NONE:
        good = (value is None and name in _TEXTS_OR_NONE) or (isinstance(value, str) and is_utf8(value))
    else:
        good = True
    return None if good else f"is {shown(value)}, which is invalid"


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_after(value: Any) -> bool:
    results = value.get("results") or {} if isinstance(value, dict) else None
    return isinstance(results, dict) and _are_texts(value.get("ids")) and _are_texts([*results.values()])


_JSON: dict[str, Callable[[Any], bool]] = {"after": _is_after, "notify": _are_texts}


def _holds(text: Any, what: Callable[[Any], bool]) -> bool:
    try:
        return isinstance(text, str) and is_utf8(text) and what(nesting.loads(text))
    except ValueError:
        return False


def config(text: Any) -> dict[str, Any] | None:
    """Return a row's config; raise ValueError, which says what is wrong, where it can't be read."""
    if text is None:
        return None
    return mapping(text, nesting.MAX_DEPTH + 1)  # the config itself is no level of the values in it


def mapping(text: Any, most: int = nesting.MAX_DEPTH + nesting.ENVELOPE) -> dict[str, Any]:
    """Return a column that holds a JSON object; raise ValueError, which says what is wrong, where it can't be read."""
    if not isinstance(text, str):
        raise ValueError(f"is {shown(text)}, not text")
    if not is_utf8(text):
        raise ValueError("is not valid UTF-8")
    try:
        found = nesting.loads(text, most)
    except nesting.TooDeep as error:
        raise ValueError(f"is {error}") from None
    except ValueError:
        raise ValueError("is not valid JSON") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    return found


def fault_of_job(job: Mapping[str, Any]) -> str | None:
    """Return why a job can't be started, from its row with its version's ``launch``; None where it can."""
    wrong = fault(job)
    for name in ("launch", "merged", "config"):
        if wrong is None and job.get(name) is not None:
            try:
                (mapping if name == "launch" else config)(job[name])
            except ValueError as error:
                wrong = f"its {name} {error}"
    return wrong


def mended(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a running job's row with invalid figures replaced by NULL or 0."""
    return {
        name: (0 if name in _NUMBERS and not _NUMBERS[name][2] else None)
        if name in (*_NUMBERS, *_SECONDS, "gpus") and _fault(name, value)
        else value
        for name, value in job.items()
    }


def text(value: Any) -> str:
    """Return any value of a row as text that can be shown."""
    if isinstance(value, bytes):
        value = value[:400].decode("utf-8", "replace")
    return str(value)[:400].encode("utf-8", "replace").decode()


def shown(value: Any) -> str:
    """Return a value, shortened, for an error message."""
    return repr(text(value)[:60]) if isinstance(value, str | bytes) else repr(value)[:60]


def is_utf8(value: str) -> bool:
    """Whether a text was valid UTF-8 in the database: other bytes were decoded to lone surrogates."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
