"""The deploy form of a Cortex cluster: a configuration, and before 0.36 a project that holds the tasks' files."""

from __future__ import annotations

import base64
import copy
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import yaml

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.deploy.api_spec import task_source
from taskapi_jupyter.deploy.api_spec.build import check_name
from taskapi_jupyter.deploy.packages import BLOCK, NONE
from taskapi_jupyter.deploy.project import project_files, read_file, zipped

MAX_ARGUMENT = 120 << 10  # bytes; Linux accepts 128 KiB
_PACKAGE = Path(PACKAGE)
#: Keys that Cortex does not know, each with what to do instead
_OURS = {
    "timeout": "give it to the job",
    "run_timeout": "give the job a timeout, which includes its time in the queue",
    "python": "the image's Python runs the task",
}
_LEFT_OUT = {
    "warm": "there is no warm start on a Cortex cluster",
    "kernel": "the image's Python runs the task",
}
_OURS_IN_DEFINITION = ("function", "parameters", "python_version", "script_metadata")


def with_project(request: DeployRequest, folder: Path | None) -> tuple[dict[str, bytes], list[str]]:
    """Return the parts of the form for a cluster before 0.36, and warnings.

    ``folder`` is the project's; None for a cell, which is sent alone with ``requirements.txt``.
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
        files |= {name: read_file(folder / name) for name in project_files(folder)}
    elif (cwd / "requirements.txt").is_file():
        files["requirements.txt"] = read_file(cwd / "requirements.txt")
    path = definition.get("path")
    if request.source is not None and isinstance(path, str):
        if "function" in (request.spec.get("definition") or {}):
            raise BadRequest(
                f"{api['name']}: Cortex has no definition.function: on this cluster the task must be named Task"
            )
        _find_task(api, request, path)
        files.setdefault(path, task_source.encode(request.source, path))
        if "taskapi_jupyter" in request.source:
            files.setdefault("taskapi_jupyter/__init__.py", b"")
            files.setdefault("taskapi_jupyter/job.py", read_file(_PACKAGE / "job.py"))
    return {"config": _yaml(api), "project.zip": zipped(files)}, warnings


def with_container(request: DeployRequest) -> tuple[dict[str, bytes], list[str]]:
    """Return the parts of the form for a cluster of 0.36 or later, which runs containers and accepts no files.

    A cell's text is an argument of the container; the image's own Python runs it.
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
        warnings.append(f"definition.image is missing: the task runs in {image}, with the packages of that image")
    given = {
        "source": request.source,
        "name": os.path.basename(str(definition.get("path") or "task.py")),
        "attr": _find_task(api, request, str(definition.get("path") or "task.py")),
        "config": definition.get("config") or {},
        "job": read_file(_PACKAGE / "job.py").decode(),
    }
    argument = base64.b64encode(zlib.compress(json.dumps(given).encode(), 9)).decode()
    if len(argument) > MAX_ARGUMENT:
        raise TooLarge(
            f"{api['name']}: its source is too long for a container's arguments: build an image that holds it"
        )
    container: dict[str, Any] = {
        "name": "task",
        "image": image,
        "command": ["python", "-u", "-c", read_file(_PACKAGE / "worker" / "container.py").decode()],
        "args": [argument],
    }
    if definition.get("env"):
        container["env"] = {name: str(value) for name, value in definition["env"].items()}
    if api.get("compute"):
        container["compute"] = api.pop("compute")
    api["pod"] = {"containers": [container]}
    return {"config": _yaml(api)}, warnings


def _without_ours(request: DeployRequest) -> tuple[dict[str, Any], list[str]]:
    """Return the API without the keys that Cortex would refuse, and a warning for each of them."""
    api = copy.deepcopy(dict(request.spec))
    check_name(api.get("name"))
    warnings = [
        f"Cortex APIs have no {key}: {instead}" for key, instead in _OURS.items() if api.pop(key, None) is not None
    ]
    definition = api.get("definition")
    if isinstance(definition, dict):
        if definition.pop("requirements", None) not in (None, NONE):
            raise BadRequest(
                f"{api['name']}: a Cortex cluster builds no environment from requirements: definition.image says what "
                "its tasks run in"
            )
        if BLOCK in (request.source or "") and definition.get("script_metadata") is not False:
            warnings.append(f"the block {BLOCK} is not read: definition.image says what tasks run in on a cluster")
        for key in _OURS_IN_DEFINITION:
            definition.pop(key, None)
        for key, why in _LEFT_OUT.items():
            if definition.pop(key, None) is not None:
                warnings.append(f"definition.{key} is left out: {why}")
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
            f"{api['name']}: a Cortex cluster calls a task with config alone and without await, but {found['attr']} "
            f"{how}: deploy a function def {found['attr']}(config)"
        )
    return str(found["attr"])


def _no_pickle(api: dict[str, Any]) -> str:
    return f"{api['name']}: Cortex clusters run no pickled callable: deploy the cell that defines it, or a file"


def _yaml(api: dict[str, Any]) -> bytes:
    return yaml.safe_dump([api], sort_keys=False, allow_unicode=True).encode()
