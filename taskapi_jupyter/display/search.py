"""Which jobs a search means: each of its words occurs in a job, or names a key of its config and that key's value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import nesting

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import JobStatus

#: A word ends at a space, one like ``name="two words"`` at the second quotation mark.
_WORD = re.compile(r'[^\s"=:]+[=:]"(?:[^"\\]|\\.)*"(?!\S)|\S+')
_SETTING = re.compile(r"([^=:]+)[=:](.+)", re.DOTALL)


class Setting:
    """``lr=0.078`` or ``lr:0.078``: a key of a config, at any depth, with a value as JSON has it, or as plain text.

    Numbers are compared as numbers (``1e-3`` is ``0.001``); of texts a part is enough, unless it is in quotation marks.
    ``optim.lr`` is a key of a key.
    """

    def __init__(self, key: str, value: str) -> None:
        self._key, self._end = key, f".{key}"
        self._text: str = value
        try:
            self._values = [_plain(value), _plain(nesting.loads(value, nesting.MAX_DEPTH))]
        except ValueError:
            self._values = [_plain(value), None] if value == "none" else [_plain(value)]
        self._last = _json(key.rsplit(".", 1)[-1])[1:]

    def fits(self, config: str) -> bool:
        """Whether a config, as JSON, has it; the end of a long one may be missing."""
        folded = config.casefold()
        if self._last not in folded:
            return False
        try:
            known = nesting.loads(config)
        except ValueError:  # its end is missing
            value = f"(?:{re.escape(self._text)}|{re.escape(_json(self._text))})"
            return re.search(rf'(?<!\\)"{re.escape(self._last)}\s*:\s*{value}\s*[,}}]', folded) is not None
        return any(
            value in self._values or (isinstance(value, str) and self._text in value)
            for path, value in _settings(known, "")
            if path == self._key or path.endswith(self._end)
        )


class Search:
    """A search, as somebody typed it."""

    def __init__(self, text: str) -> None:
        self._words = sorted({one.group().casefold() for one in _WORD.finditer(text)}, key=len, reverse=True)
        found = {word: _SETTING.fullmatch(word) for word in self._words}
        self._settings = {word: Setting(*match.groups()) for word, match in found.items() if match}

    def fits(self, text: str, config: Callable[[], str], more: Callable[[], str] = str) -> bool:
        """Whether every word is in a casefolded text, or is a setting of the config, or is in ``more``."""
        missing = [word for word in self._words if word not in text]
        if not missing:
            return True
        known = config() if any(word in self._settings for word in missing) else ""
        missing = [word for word in missing if not (word in self._settings and self._settings[word].fits(known))]
        return not missing or all(word in said for said in [more()] for word in missing)


def mentions(job: JobStatus, text: str) -> bool:
    """Whether a search finds a job."""
    said = job.progress.message if job.progress else None
    config = json.dumps(job.config, ensure_ascii=False, default=str) if job.config else ""
    known = [job.api_name, job.job_id, job.code.label, job.notebook, job.reason, said, config]
    return Search(text).fits("\n".join(str(one) for one in known if one).casefold(), lambda: config)


def _settings(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield all keys in a config, as paths in lower case, with their values in a form that can be compared."""
    if isinstance(value, list):
        for one in value:
            yield from _settings(one, path)
    elif isinstance(value, dict):
        for key, one in value.items():
            below = f"{path}.{key.casefold()}" if path else key.casefold()
            yield below, _plain(one)
            yield from _settings(one, below)


def _plain(value: Any) -> Any:
    """Return a value of JSON such that equal ones are equal in Python: True is not 1 here, and case is folded."""
    if isinstance(value, bool):
        return (value,)
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key.casefold(): _plain(one) for key, one in value.items()}
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
