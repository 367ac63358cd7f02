"""What a Cortex cluster is sent to deploy: a configuration, and a project where tasks are files (before 0.36)."""

from __future__ import annotations

import base64
import copy
import json
import os
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pathspec
import yaml

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.deploy import api_spec
from taskapi_jupyter.deploy.api_spec import task_source

MAX_PROJECT = 32 << 20  # bytes of the zip: what Cortex takes
MAX_ARGUMENT = 120 << 10  # bytes; Linux takes 128 KiB
#: What is no part of a project: Cortex's own list, and what only this machine knows.
IGNORED = ("__pycache__/", "*.pyc", ".*", "!.env", "!.cortexignore", "*.ipynb", "cortex.yaml")

_PACKAGE = Path(PACKAGE)
#: Keys that Cortex does not know, each with what to do instead.
_OURS = {
    "timeout": "give it to the job",
    "run_timeout": "give the job a timeout, which counts its wait in line, too",
    "python": "the image's Python runs the task",
}
_OURS_IN_DEFINITION = ("function", "parameters", "python_version")


def with_project(request: DeployRequest, folder: Path | None) -> tuple[dict[str, bytes], list[str]]:
    """Return the parts of the form for a cluster before 0.36, and what is to be warned of.

    ``folder`` is the project's, None for a cell: it takes nothing along but itself and ``requirements.txt``.
    """
    api, warnings = _without_ours(request)
    definition = api.get("definition")
    if not isinstance(definition, dict):
        return {"config": _yaml(api)}, warnings
    if request.pickle is not None:
        raise BadRequest(_no_pickle(api))
    files: dict[str, bytes] = {}
    cwd = folder or Path(request.cwd or ".")
    if folder is not None:
        files |= {name: _read(folder / name) for name in project_files(folder)}
    elif (cwd / "requirements.txt").is_file():
        files["requirements.txt"] = _read(cwd / "requirements.txt")
    path = definition.get("path")
    if request.source is not None and isinstance(path, str):
        if "function" in (request.spec.get("definition") or {}):
            raise BadRequest(f"{api['name']}: definition.function is ours; on this cluster the task is called Task")
        _find_task(api, request, path)
        files.setdefault(path, task_source.encode(request.source, path))
        if "taskapi_jupyter" in request.source:
            files.setdefault("taskapi_jupyter/__init__.py", b"")
            files.setdefault("taskapi_jupyter/job.py", _read(_PACKAGE / "job.py"))
    return {"config": _yaml(api), "project.zip": _zip(files)}, warnings


def with_container(request: DeployRequest) -> tuple[dict[str, bytes], list[str]]:
    """Return the parts of the form for a cluster of 0.36 or later, which runs containers and takes no files.

    A cell's text goes along in the container's arguments, run by the image's own Python.
    """
    api, warnings = _without_ours(request)
    definition = api.pop("definition", None)
    if not isinstance(definition, dict):
        return {"config": _yaml(api)}, warnings
    if request.pickle is not None or request.source is None:
        raise BadRequest(_no_pickle(api))
    image = definition.get("image")
    if image is None:
        image = "python:{}.{}-slim".format(*sys.version_info)
        warnings.append(f"definition.image names no image: the task runs in {image}, with the packages that it has")
    given = {
        "source": request.source,
        "name": os.path.basename(str(definition.get("path") or "task.py")),
        "attr": _find_task(api, request, str(definition.get("path") or "task.py")),
        "config": definition.get("config") or {},
        "job": _read(_PACKAGE / "job.py").decode(),
    }
    argument = base64.b64encode(zlib.compress(json.dumps(given).encode(), 9)).decode()
    if len(argument) > MAX_ARGUMENT:
        raise TooLarge(f"{api['name']}: its source is too long to travel in a container's arguments: build an image")
    container: dict[str, Any] = {
        "name": "task",
        "image": image,
        "command": ["python", "-u", "-c", _read(_PACKAGE / "worker" / "container.py").decode()],
        "args": [argument],
    }
    if definition.get("env"):
        container["env"] = {name: str(value) for name, value in definition["env"].items()}
    if api.get("compute"):
        container["compute"] = api.pop("compute")
    api["pod"] = {"containers": [container]}
    return {"config": _yaml(api)}, warnings


def project_of(request: DeployRequest) -> dict[str, bytes]:
    """Return what goes along to another machine: the project, and its requirements.

    A folder is a project where the task is a file in it, or where it has a ``cortex.yaml``; a notebook's is none.
    """
    folder = Path(request.cwd or ".")
    definition = request.spec.get("definition")
    path = definition.get("path") if isinstance(definition, dict) else None
    files: dict[str, bytes] = {}
    if (isinstance(path, str) and (folder / path).is_file()) or (folder / "cortex.yaml").is_file():
        files["project.zip"] = _zip({name: _read(folder / name) for name in project_files(folder)})
    if (folder / "requirements.txt").is_file():
        files["requirements.txt"] = _read(folder / "requirements.txt")
    return files


def project_files(folder: Path) -> list[str]:
    """Return the files of a project, with forward slashes, but for what ``.cortexignore`` and we leave out."""
    lines = list(IGNORED)
    ignore = folder / ".cortexignore"
    if ignore.is_file():
        lines += _read(ignore).decode("utf-8", "replace").splitlines()
    rules = pathspec.GitIgnoreSpec.from_lines(lines)
    found = sorted(_walk(folder, rules))
    size = sum((folder / name).stat().st_size for name in found)
    if size > 8 * MAX_PROJECT:
        raise TooLarge(f"{folder} holds {size >> 20} MiB: name in .cortexignore what is no part of the project")
    return found


def _walk(folder: Path, rules: pathspec.GitIgnoreSpec) -> Iterator[str]:
    todo = [""]  # os.walk recurses before Python 3.12
    while todo:
        base = todo.pop()
        try:
            entries = list(os.scandir(folder / base))
        except OSError:  # not ours to read, or a path that is too long
            continue
        for entry in entries:
            name = base + entry.name
            if entry.is_dir(follow_symlinks=False):
                todo += [] if rules.match_file(f"{name}/") else [f"{name}/"]
            elif not rules.match_file(name) and os.path.isfile(folder / name):
                yield name


def _without_ours(request: DeployRequest) -> tuple[dict[str, Any], list[str]]:
    """Return the API without the keys that Cortex would refuse."""
    api = copy.deepcopy(dict(request.spec))
    api_spec.check_name(api.get("name"))
    warnings = [
        f"{key} is no setting of a Cortex API: {instead}"
        for key, instead in _OURS.items()
        if api.pop(key, None) is not None
    ]
    definition = api.get("definition")
    if isinstance(definition, dict):
        for key in _OURS_IN_DEFINITION:
            definition.pop(key, None)
    return api, warnings


def _find_task(api: dict[str, Any], request: DeployRequest, path: str) -> str:
    function = (request.spec.get("definition") or {}).get("function")
    try:
        found = task_source.find_task(request.source or "", path, function, api["name"])
    except task_source.SourceError as error:
        raise BadRequest(f"{api['name']}: {error}") from None
    if found["call"] == "*" or found["async"]:
        how = "is async" if found["async"] else "takes parameters of its own"
        raise BadRequest(
            f"{api['name']}: a Cortex cluster calls a task with config alone, and awaits none; {found['attr']} {how}: "
            f"deploy a function def {found['attr']}(config)"
        )
    return str(found["attr"])


def _no_pickle(api: dict[str, Any]) -> str:
    return f"{api['name']}: a callable can't be sent to a Cortex cluster: deploy the cell that defines it, or a file"


def _yaml(api: dict[str, Any]) -> bytes:
    return yaml.safe_dump([api], sort_keys=False, allow_unicode=True).encode()


def _zip(files: dict[str, bytes]) -> bytes:
    target = BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(ZipInfo(name), data, ZIP_DEFLATED)  # no times: the same project is the same API
    data = target.getvalue()
    if len(data) > MAX_PROJECT:
        raise TooLarge(
            f"the project is {len(data) >> 20} MiB as a zip, and {MAX_PROJECT >> 20} MiB are taken: name in "
            ".cortexignore what is no part of it"
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror}") from None
