"""Conversion of Python's values into plain ones that JSON can carry."""

from __future__ import annotations

import datetime
import math
import numbers
import re
import reprlib
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from taskapi_jupyter.core.contract import MAX_BITS, MAX_BODY
from taskapi_jupyter.core.errors import BadRequest, TooLarge, short, size
from taskapi_jupyter.core.nesting import MAX_DEPTH


def plain(value: Any, where: str = "", *, nodes: int = MAX_BODY, text: int = MAX_BODY) -> Any:
    """Copy a value into JSON's types, without loss; raise :class:`BadRequest` that names the place of anything else.

    Scalars of NumPy and the like become numbers, subclasses (enumerations too) what they are made of, tuples lists;
    dates become ISO 8601 text and paths text. ``nodes`` and ``text`` are how many values and characters it may have.
    """
    return _Plain(where or "the configuration", nodes, text).of(value, where, 0)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a submission's config in JSON's types; errors name the key, such as ``config.lr``."""
    if not isinstance(config, Mapping):
        raise BadRequest(f"config must be a mapping of names to values, not a {type(config).__name__}")
    result: dict[str, Any] = _Plain("config", MAX_BODY, MAX_BODY).of(config, "config", -1)
    return result


class _Plain:
    """The conversion of one value."""

    def __init__(self, what: str, nodes: int, text: int) -> None:
        self.what, self.most_nodes, self.most_text = what, nodes, text
        self.nodes = self.text = 0

    def of(self, value: Any, where: str, depth: int) -> Any:
        if hasattr(value, "dtype") and getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
            value = _scalar(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise BadRequest(f"{where or self.what} is a number of more than 4000 digits")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise BadRequest(f"{where or self.what} is {float(value)}, which JSON can't carry")
            return float(value)
        if isinstance(value, Mapping | list | tuple):
            return self._container(value, where, depth + 1)
        if isinstance(value, datetime.date) and str(value) != "NaT":  # of pandas, which is a date, too
            return value.isoformat()
        if isinstance(value, PurePath):
            return self._text(str(value), where)
        raise BadRequest(f"{where or self.what} is {_shown(value)}, which JSON can't carry{_hint(value)}")

    def _container(self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], where: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise BadRequest(
                f"{short(where or self.what)} is nested deeper than {MAX_DEPTH} levels, or contains itself"
            )
        self.nodes += 1 + len(value)
        if self.nodes > self.most_nodes:
            raise TooLarge(f"{self.what} is too large: it has more than {self.most_nodes} values")
        if not isinstance(value, Mapping):
            return [
                one if _is_simple(one) else self.of(one, f"{where}[{index}]", depth) for index, one in enumerate(value)
            ]
        result = {}
        for key, one in value.items():
            if not isinstance(key, str):
                raise BadRequest(f"the key {_shown(key)} in {where or self.what} is not text; put it in quotes")
            name = self._text(key, where)
            result[name] = self.of(one, f"{where}.{name[:60]}" if where else name[:60], depth)
        return result

    def _text(self, text: str, where: str) -> str:
        self.text += len(text)
        if self.text > self.most_text:
            raise TooLarge(f"{self.what} is larger than {size(self.most_text)}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"{where or self.what} is not valid Unicode text") from None
        return str.__str__(text)  # of a subclass, an enumeration say, the text itself


def _is_simple(value: Any) -> bool:
    """Whether this is a number that needs no conversion; a shortcut for long lists."""
    kind = type(value)
    return (kind is int and -(2**63) <= value < 2**63) or (kind is float and math.isfinite(value))


def _scalar(value: Any) -> Any:
    """Return a scalar of NumPy, PyTorch and the like as a value of Python."""
    if getattr(value.dtype, "kind", "") == "M":  # item() of one with nanoseconds is a number
        return value if str(value) == "NaT" else str(value)
    found = value.item()
    return float(found) if isinstance(found, numbers.Real) and not isinstance(found, int | float) else found


def _shown(value: Any) -> str:
    if isinstance(value, int | float | tuple) or value is None:
        try:
            return repr(value)[:60]
        except ValueError:  # a number that is too long to be written
            pass
    return f"a {type(value).__name__}"


def _hint(value: Any) -> str:
    if isinstance(value, Enum):
        return "; its .value may do"
    if isinstance(value, set | frozenset):
        return "; write a list"
    return "; .tolist() makes it a list" if hasattr(value, "tolist") else ""


HIDDEN = "***"  # stands for a value that is not shown
_USERINFO = re.compile(r"(?<=://)[^/\s?#'\"`]*(@|\.\.\.)")  # to its end, or to where a message was cut
_SECRET = re.compile(r"(?<=[?&])([^=&#\s]*(?:token|key|secret|passw|signature)[^=&#\s]*=)[^&#\s'\"`]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Return text without the credentials in its URLs."""
    return _SECRET.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"{HIDDEN}\1", text))


_REPR = reprlib.Repr()
_REPR.maxlevel = 4
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 30
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100


def shorten(value: Any, limit: int = 60) -> str:
    """Return ``repr(value)``, cut to a length that fits into a sentence."""
    try:  # of a list no more than is shown: YAML aliases can make it endless
        shown = repr(value[: limit + 1]) if isinstance(value, str | bytes) else _REPR.repr(value)
    except ValueError:  # a number that is too long to be written
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
