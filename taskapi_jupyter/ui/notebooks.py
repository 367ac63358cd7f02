"""A notebook's file before it is deployed: its parameters, for Tab and for a submission's check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.deploy.api_spec import cells, parameters, shapes


def parameters_of(path: str) -> list[dict[str, Any]]:
    """Return the parameters of a notebook's file."""
    return _parameters(_read(path))


def check_submission(path: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` for a parameter that a notebook in Python does not assign, before it is deployed.

    ``options`` are those of the line. What another kernel takes is known where it is deployed.
    """
    found = _read(path)
    if (
        options.get("kernel")
        or options.get("allow_unknown")
        or not (found.language or found.kernel or "").lower().startswith("python")
    ):
        return
    known = _parameters(found)
    if wrong := parameters.complaint(known, config):
        hint = parameters.hint({"definition": {"path": path, "parameters": known}})
        raise BadRequest(f"{options.get('name') or notebook.api_name(Path(path).stem)}: {wrong}{hint}")


def _read(path: str) -> notebook.Notebook:
    return notebook.check(shapes.read_task(Path(), str(Path(path).expanduser())), path)


def _parameters(found: notebook.Notebook) -> list[dict[str, Any]]:
    return cells.parameters(next(iter(found.parameter_cells), None), unchecked=False)[0]
