"""A notebook as a task: its text without outputs, the name of its API, its cells and the kernel that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.contract import MAX_BODY, MAX_UPLOAD, DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge, printable, size

ENDING = ".ipynb"
MAX_FILE = MAX_UPLOAD  # bytes, outputs included; without them it is MAX_BODY
MINOR = 5  # of nbformat 4, the newest that is known
_MAX_NAME = 200  # bytes of a file's name, so that there is room for the ending of a temporary one

# What running a notebook leaves in it beside its outputs, some of it from extensions and other programs.
_LEFT = ("language_info", "orig_nbformat", "orig_nbformat_minor", "papermill", "signature", "widgets")
_LEFT_IN_CELL = ("ExecuteTime", "execution", "papermill", "trusted")
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS = ("code", "markdown", "raw")
_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Notebook:
    """A checked notebook: the text that is stored, its cells, and the name and language of the kernel it names."""

    text: bytes
    cells: list[dict[str, Any]]
    kernel: str | None
    language: str | None
    warnings: list[str] = field(default_factory=list)

    @property
    def parameter_cells(self) -> list[str]:
        """The texts of the code cells that are tagged ``parameters``."""
        return [one["source"] for one in self.cells if one["cell_type"] == "code" and "parameters" in tags(one)]


def is_notebook(path: object) -> bool:
    """Whether ``definition.path`` is that of a notebook."""
    return isinstance(path, str) and path.endswith(ENDING)


def is_task(spec: Mapping[str, Any]) -> bool:
    """Whether the task of an API configuration is a notebook."""
    definition = spec.get("definition")
    return isinstance(definition, Mapping) and is_notebook(definition.get("path"))


def refuse_on(request: DeployRequest, what: str) -> None:
    """Raise :class:`BadRequest` where a notebook is to be deployed to what can't run it."""
    if is_task(request.spec):
        raise BadRequest(
            f"{request.spec.get('name')}: notebooks run on `local` environments, not on {what}: choose a local one"
        )


def api_name(stem: str) -> str:
    """Return the name of a notebook's API: its file's stem in lower case, other characters than Cortex's as ``-``."""
    name = re.sub(r"[^a-z0-9_]+", "-", stem.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"notebook-{name}"
    return name[:63].strip("-")


def stripped(data: bytes, path: str) -> str:
    """Return a notebook's text without outputs; the same for notebooks that differ only in what running them leaves.

    It is checked where it is deployed; here, one that can't be read is refused.
    """
    return _text(_load(data, path), path)


def check(data: bytes, path: str) -> Notebook:
    """Check a notebook that is to be deployed, and bring one of an old format into format 4."""
    content, warnings = _load(data, path), list[str]()
    try:
        version, minor = content.get("nbformat"), content.get("nbformat_minor", 0)
        if not isinstance(version, int) or not isinstance(minor, int) or isinstance(version, bool):
            raise _Wrong("it has no nbformat, a whole number, such as 4")
        if version > 4:
            raise _Wrong(f"its format is nbformat {version}.{minor}, and the newest that is known is 4.{MINOR}")
        if version < 4:
            content = _upgraded(content)
            warnings.append(f"{path} is in an old format (nbformat {version}): its cells run as in nbformat 4")
        content.setdefault("nbformat_minor", 0)
        if minor > MINOR:
            warnings.append(
                f"{path} is in a format newer than is known here (nbformat 4.{minor}): it runs as one of 4.{MINOR}"
            )
        cells = _cells(content)
        _give_ids(cells, has_ids=content["nbformat_minor"] >= 5)
        kernelspec = _mapping(content["metadata"], "kernelspec", "metadata.")
        named = {key: _optional_text(kernelspec, key) for key in ("name", "language")}
    except _Wrong as error:
        raise BadRequest(f"{path} can't be run as a notebook: {error}") from None
    if not any(cell["cell_type"] == "code" for cell in cells):
        raise BadRequest(f"{path} has no code cell: there is nothing to run")
    return Notebook(_text(content, path).encode(), cells, named["name"], named["language"], warnings)


def code_cells(text: str) -> list[str]:
    """Return the texts of the code cells of a notebook that was checked, as :func:`stripped` returned it."""
    cells = json.loads(text).get("cells", ())  # older formats have others
    return [cell["source"] for cell in cells if cell["cell_type"] == "code" and "source" in cell]


def tags(cell: Mapping[str, Any]) -> list[str]:
    """Return the tags of a checked cell."""
    found: list[str] = cell["metadata"].get("tags") or []
    return found


def check_file_name(name: str) -> None:
    """Raise :class:`BadRequest` where a notebook's file has a name that its jobs could not give their own files."""
    if name == ENDING or len(name.encode("utf-8", "replace")) > _MAX_NAME:
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise BadRequest(f"the notebook's file name must have 1 to {_MAX_NAME} bytes before {ENDING}, not {shown!r}")


class _Wrong(ValueError):
    """What is wrong with a notebook, to be put after its path."""


def _load(data: bytes, path: str) -> dict[str, Any]:
    """Return a notebook's content without what running it leaves; what is malformed stays, for :func:`check`."""
    path = printable(path)
    try:
        content = nesting.loads(data)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not a notebook: it is not UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        why = f"it is not JSON: {error}" if data.strip() else "it is empty"
        raise BadRequest(f"{path} is not a notebook: {why}") from None
    if not isinstance(content, dict):
        raise BadRequest(f"{path} is not a notebook: it must be a mapping with cells, not {_shown(content)}")
    sheets = content.get("worksheets")  # of formats before 4
    for part in [content, *(sheets if isinstance(sheets, list) else ())]:
        if isinstance(part, dict) and isinstance(part.get("cells"), list):
            for cell in part["cells"]:
                _strip(cell)
    if isinstance(metadata := content.get("metadata"), dict):
        for key in _LEFT:
            metadata.pop(key, None)
    return content


def _strip(cell: Any) -> None:
    if not isinstance(cell, dict):
        return
    if cell.get("cell_type") == "code":
        cell["outputs"] = []
        if cell.pop("prompt_number", None) is None:
            cell["execution_count"] = None
    if isinstance(source := cell.get("source"), list) and all(isinstance(line, str) for line in source):
        cell["source"] = "".join(source)
    if isinstance(metadata := cell.get("metadata"), dict):
        for key in _LEFT_IN_CELL:
            metadata.pop(key, None)


def _text(content: Mapping[str, Any], path: str) -> str:
    path = printable(path)
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True)
        length = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{path} has text that is not valid Unicode (half of a surrogate pair)") from None
    except ValueError:
        raise BadRequest(f"{path} has NaN or an infinity in its metadata, which JSON can't carry") from None
    if length > MAX_BODY:
        raise TooLarge(f"{path} is larger than {size(MAX_BODY)} without its outputs: keep data in files beside it")
    return text


def _upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notebook of format 1 to 3 in format 4, without ids, which would be others each time."""
    nbformat: Any = import_module("nbformat")  # takes long to import, and is needed for old notebooks alone
    try:
        text = nbformat.writes(nbformat.convert(nbformat.reader.reads(json.dumps(content)), 4))
    except Exception as error:  # what conversions stumble over differs
        raise _Wrong(f"it can't be brought into nbformat 4 ({type(error).__name__}: {error})") from None
    upgraded: dict[str, Any] = nesting.loads(text)
    upgraded["nbformat_minor"] = 4
    for cell in upgraded["cells"]:
        cell.pop("id", None)
        _strip(cell)
    return upgraded


def _cells(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Check cells; metadata that is missing or null becomes empty."""
    content["metadata"] = _mapping(content, "metadata")
    cells = content.get("cells")
    if not isinstance(cells, list):
        raise _Wrong(f"its cells must be a list, not {_shown(cells)}")
    for number, cell in enumerate(cells, 1):
        at = f"cell {number}: "
        if not isinstance(cell, dict):
            raise _Wrong(f"{at}it must be a mapping, not {_shown(cell)}")
        if (kind := cell.get("cell_type")) not in _KINDS:
            raise _Wrong(f"{at}cell_type must be one of {', '.join(_KINDS)}, not {_shown(kind)}")
        if not isinstance(source := cell.get("source"), str):
            raise _Wrong(f"{at}source must be text, or a list of lines, not {_shown(source)}")
        metadata = cell["metadata"] = _mapping(cell, "metadata", at)
        found = metadata.get("tags")
        if found is None:
            metadata.pop("tags", None)
        elif not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
            raise _Wrong(f"{at}metadata.tags must be a list of texts, not {_shown(found)}")
    return cells


def _give_ids(cells: list[dict[str, Any]], has_ids: bool) -> None:
    """Give cells ids where their format has them and they lack one that is their own; the same at each deploy."""
    seen = set()
    for number, cell in enumerate(cells, 1):
        found = cell.pop("id", None)
        if has_ids:
            usable = isinstance(found, str) and _ID.fullmatch(found) and found not in seen
            cell["id"] = found if usable else f"cell-{number}-of-{len(cells)}"
            seen.add(cell["id"])


def _mapping(part: Mapping[str, Any], key: str, at: str = "") -> dict[str, Any]:
    value = part.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Wrong(f"{at}{key} must be a mapping, not {_shown(value)}")
    return value


def _optional_text(part: Mapping[str, Any], key: str) -> str | None:
    value = part.get(key)
    if value is not None and not isinstance(value, str):
        raise _Wrong(f"metadata.kernelspec.{key} must be text, not {_shown(value)}")
    return value or None


def _shown(value: object) -> str:
    """Return a value for a sentence: a short one as JSON, others by their kind."""
    text = json.dumps(value) if value is None or isinstance(value, str | bool | int | float) else ""
    return text if text and len(text) <= 40 else _WORDS.get(type(value), "a number")
