"""The values that a job is submitted with, as a cell of its notebook."""

from __future__ import annotations

import math
import os
import re
import secrets
from typing import Any

from .ends import CannotInject

PARAMETERS = "parameters"
INJECTED = "injected-parameters"

_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\x([0-9a-fA-F]{2})")


def inject(cells: list[dict[str, Any]], values: dict[str, Any], kernel: str, language: str) -> bool:
    """Put a cell that assigns the values below the one tagged ``parameters``, in place of an older injected one.

    Return whether there was one of them; where there is neither, the cell is the first one.
    """
    tagged = {tag: _first_tagged(cells, tag) for tag in (INJECTED, PARAMETERS)}
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": _new_id(cells),
        "metadata": {"tags": [INJECTED]},
        "execution_count": None,
        "outputs": [],
        "source": _source(values, kernel, language),
    }
    older, below = tagged[INJECTED], tagged[PARAMETERS]
    if older is not None:
        cells.pop(older)
        if below is not None and older < below:
            below -= 1
    at = below + 1 if below is not None else older if older is not None else 0
    cells.insert(at, cell)
    return older is not None or below is not None


def offered() -> dict[str, Any]:
    """Return what a notebook may declare as a parameter without being submitted with it."""
    time = os.environ.get("TASKAPI_SCHEDULED_TIME")
    return {} if time is None else {"scheduled_time": time}


def declares(cells: list[dict[str, Any]], name: str) -> bool:
    """Whether the cell tagged ``parameters`` assigns to a name, in any language."""
    at = _first_tagged(cells, PARAMETERS)
    source = "" if at is None else cells[at].get("source", "")
    text = source if isinstance(source, str) else "".join(source)
    return re.search(rf"^\s*(?:(?:const|let|var|val)\s+)?{name}\s*(?::[^=\n]*)?(?:=(?!=)|<-)", text, re.M) is not None


def tags(cell: dict[str, Any]) -> list[Any]:
    """Return a cell's tags."""
    found = cell.get("metadata", {}).get("tags")
    return found if isinstance(found, list) else []


def _first_tagged(cells: list[dict[str, Any]], tag: str) -> int | None:
    return next((at for at, cell in enumerate(cells) if tag in tags(cell)), None)


def _new_id(cells: list[dict[str, Any]]) -> str:
    return secrets.token_hex(4) if any(cell.get("id") == INJECTED for cell in cells) else INJECTED


def _source(values: dict[str, Any], kernel: str, language: str) -> str:
    if language.lower() == "python":
        return "# Parameters\n" + "\n".join(f"{name} = {_python(value)}" for name, value in values.items())
    try:
        from papermill.translators import papermill_translators
    except ImportError:
        raise CannotInject(
            f"parameters for {language} need papermill: pip install 'taskapi-jupyter[notebook]'"
        ) from None
    try:
        text: str = papermill_translators.find_translator(kernel, language).codify(values, "Parameters")
    except Exception as error:  # it knows no such language, or cannot write such a value in it
        raise CannotInject(f"the parameters can't be written in {language}: {error}") from None
    # It writes ü as \xfc, a byte and no character to R, which also takes no text that has \x and \u escapes.
    return _ESCAPE.sub(r"\1\\u00\2", text).rstrip("\n")


def _python(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise CannotInject(f"a parameter can't be {value}")
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        items = ", ".join(f"{key!r}: {_python(one)}" for key, one in value.items())
        return f"{{{items}}}"
    return repr(value)
