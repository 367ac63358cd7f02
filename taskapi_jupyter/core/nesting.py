"""Nested values: the depth limit for all JSON and YAML from outside, and how configs are merged. Standard library only.

Python and msgspec decode JSON by recursion, and what is decoded is encoded, copied and compared by recursion again. At
which depth they raise RecursionError, which no ``except ValueError`` catches, depends on Python's version and on the
caller's stack. So the depth is counted first, in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

MAX_DEPTH = 64  # levels of lists and mappings in a value: a config's, a result, a specification
ENVELOPE = 8  # further levels, of our own bodies and files around such values

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class TooDeep(ValueError):
    """JSON or YAML with more levels than may be."""

    def __init__(self, most: int = MAX_DEPTH) -> None:
        super().__init__(f"nested deeper than {most} levels")


def check(text: str | bytes, most: int = MAX_DEPTH) -> None:
    """Raise :class:`TooDeep` for JSON with more than ``most`` levels, well-formed or not."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if data.count(b"[") + data.count(b"{") <= most:
        return
    brackets = _STRING.sub(b"", data).translate(None, _OTHERS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > most:
        raise TooDeep(most)


def loads(text: str | bytes | bytearray, most: int = MAX_DEPTH + ENVELOPE) -> Any:
    """Decode JSON; raise ValueError if it is invalid or nested too deeply."""
    if isinstance(text, bytes | bytearray):
        text = text.decode("utf-8-sig")
    elif not isinstance(text, str):
        raise TypeError(f"JSON is text, not {type(text).__name__}")
    check(text, most)
    return json.loads(text)


def merge(defaults: Mapping[str, Any], submitted: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``defaults`` with ``submitted`` merged in, also within mappings; neither argument is changed."""
    merged = dict(defaults)
    for key, value in (submitted or {}).items():
        mine = merged.get(key)
        both = isinstance(mine, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(mine, value) if both else value  # type: ignore[arg-type]
    return merged
