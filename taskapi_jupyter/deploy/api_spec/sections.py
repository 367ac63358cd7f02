"""Reading a configuration key by key, so that every complaint names the place in it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import values

MAX_NODES = 100_000  # YAML aliases can make a small file large
MAX_TEXT = 10 << 20  # characters of all texts

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


def wrong(path: str, wanted: str, value: Any) -> BadRequest:
    """Return the error that says what stands at ``path`` in place of what is wanted."""
    if value is None:
        return BadRequest(f"{path} must be {wanted}, and is empty")
    return BadRequest(f"{path} must be {wanted}, not {kind(value)} ({shorten(value)})")


def plain(value: Any, path: str = "") -> Any:
    """Copy a part of a configuration into what JSON has, within bounds."""
    return values.plain(value, path, nodes=MAX_NODES, text=MAX_TEXT)


def scalar_text(value: Any, path: str) -> str:
    """Return a scalar as text, the way YAML would have written it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise wrong(path, "text", value)
    text = str(value)
    if "\0" in text:
        raise BadRequest(f"{path} contains a NUL character")
    return text


class Section:
    """A mapping of the configuration whose keys are known; a key that is null is as good as absent."""

    def __init__(self, value: Any, path: str, known: Sequence[str]) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise wrong(path or "an API configuration", "a mapping", value)
        self.path = path
        for key in value:
            if key not in known:
                raise self._unknown(key, known)
        self.values = {key: one for key, one in value.items() if one is not None}

    def at(self, key: str) -> str:
        """Return where ``key`` stands in the configuration."""
        return f"{self.path}.{key}" if self.path else key

    def given(self, key: str) -> bool:
        """Say whether there is a value."""
        return key in self.values

    def get(self, key: str) -> Any:
        """Return the value as it is, or None."""
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """Return text that is not empty, or None where nothing is given."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong(self.at(key), "text", value)
        if not value.strip() or "\0" in value:
            raise BadRequest(f"{self.at(key)} must not be empty or contain a NUL character")
        return value

    def whole(self, key: str, least: int, most: int = 10**9) -> int | None:
        """Return a whole number of at least ``least``, or None where nothing is given."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(self.at(key), f"a whole number of at least {least}", value)
        if not least <= value <= most:
            raise BadRequest(f"{self.at(key)} must be a whole number between {least} and {most}")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; numbers in it become text."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise wrong(self.at(key), "a list of texts, one for each word", value)
        return [scalar_text(one, f"{self.at(key)}[{index}]") for index, one in enumerate(value)]

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a mapping, empty where nothing is given."""
        value = self.values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise wrong(self.at(key), "a mapping", value)
        return value

    def _unknown(self, key: Any, known: Sequence[str]) -> BadRequest:
        where = f" in {self.path}" if self.path else ""
        near = difflib.get_close_matches(str(key)[:100], known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known)}"
        return BadRequest(f"unknown key {shorten(key)}{where}; {hint}")


def kind(value: Any) -> str:
    """Return what sort of value this is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"
