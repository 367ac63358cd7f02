"""Whether an interpreter has what a project's ``requirements.txt`` asks for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from taskapi_jupyter.core.errors import BadRequest

from . import interpreter, kernels

_LOOK = """
import importlib.metadata as m, json, os, platform, sys
found = {}
for one in m.distributions():
    name = one.metadata["Name"]
    if name:
        found.setdefault(name, one.version)
print(json.dumps([found, {
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "python_full_version": platform.python_version(),
    "implementation_name": sys.implementation.name,
    "platform_python_implementation": platform.python_implementation(),
}]))
"""
_MAX_FILES = 20


def unmet_requirements(folder: str | Path, python: str | None = None) -> list[str]:
    """Return the requirements that ``python`` (default: this process's) does not meet, each with what is installed.

    Lines that only pip understands (URLs, local projects, options) are skipped; a missing file means no requirements.
    """
    wanted = list(_wanted(Path(folder, "requirements.txt"), set()))
    if not wanted:
        return []
    installed, environment = _look(python or sys.executable)
    result = []
    for one in wanted:
        try:
            if one.marker is not None and not one.marker.evaluate(environment):
                continue
            version = installed.get(canonicalize_name(one.name))
            if version is None:
                result.append(f"{one.name}{one.specifier} (not installed)")
            elif not one.specifier.contains(version, prereleases=True):
                result.append(f"{one.name}{one.specifier} ({version} is installed)")
        except InvalidVersion:
            continue
    return list(dict.fromkeys(result))


def _wanted(file: Path, seen: set[Path]) -> Iterator[Requirement]:
    """Yield the requirements of a file and of those that it includes."""
    if file in seen or len(seen) >= _MAX_FILES:
        return
    seen.add(file)
    try:
        text = file.read_text("utf-8-sig", "replace")
    except OSError:
        return
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()  # noqa: PLW2901
        if included := re.match(r"(?:-r|--requirement)[\s=]*(\S+)$", line):
            yield from _wanted(file.parent / included[1], seen)
        elif line and not line.startswith("-"):
            try:
                one = Requirement(re.split(r"\s--?[a-z]", line, maxsplit=1)[0])
            except InvalidRequirement:
                continue
            if one.url is None:
                yield one


def _look(python: str) -> tuple[dict[str, str], dict[str, str]]:
    environment: dict[str, Any] = {**default_environment()}
    if interpreter.is_own(python):
        from importlib.metadata import distributions

        found: dict[str, str] = {}
        for one in distributions():
            if name := one.metadata["Name"]:
                found.setdefault(name, one.version)
    else:
        found, differences = interpreter.ask(python, "-c", _LOOK)
        environment.update(differences)
    return {canonicalize_name(name): version for name, version in found.items()}, environment


def requirement_warnings(folder: str | Path, kernel: str | None = None) -> list[str]:
    """Return a warning, or none, about the ``requirements.txt`` of a folder that is deployed.

    ``kernel`` is the kernelspec whose Python runs the task; None: this process's does.
    """
    try:
        python = sys.executable if kernel is None else kernels.find(kernel, os.environ.get("PATH")).python
        missing = unmet_requirements(Path(folder).absolute(), python) if python else []
    except BadRequest:  # a server that runs elsewhere has other kernels; what is wrong with one, the deploy says
        return []
    return [f"requirements.txt is not met by {python}: {', '.join(missing)}"] if missing else []
