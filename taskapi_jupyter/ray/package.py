"""The package of files that a job on a Ray cluster needs, and the request that submits it. Standard library only."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.paths import PACKAGE, TASK_PATH, HomePaths
from taskapi_jupyter.runner import launch

#: The modules of this package that a node needs: all that ``node`` imports, standard library only.
_MODULES = (
    *("__init__.py", "_version.py", "job.py", "node/__init__.py", "node/__main__.py", "node/frames.py"),
    "node/storage.py",
    *("worker/__init__.py", "worker/harness.py", "worker/package_builder.py"),
    *(f"core/{name}.py" for name in ("__init__", "errors", "fault_points", "files", "folders", "host", "nesting")),
    *(f"core/{name}.py" for name in ("paths", "process", "room", "states")),
    *(f"runner/{name}.py" for name in ("__init__", "capacity", "claim", "engine", "gpus", "launch", "log_file")),
    *(f"runner/{name}.py" for name in ("memory", "oom_kills", "outcome", "packages", "process_tree", "reaping")),
    *(f"runner/{name}.py" for name in ("warm", "watcher")),
)

#: Columns of a job's row that go along.
_CARRIED = (
    *("id", "api_name", "api_id", "spec_id", "timeout", "run_timeout", "boot", "deadline", "cpu", "mem", "gpu"),
    *("config", "merged", "launch", "allowed", "scheduled", "timezone"),
)


def pack(
    home: str,
    job: Mapping[str, Any],
    limits: Mapping[str, Any],
    *,
    marker: str,
    storage: str | None,
) -> bytes:
    """Return a zip of all files that a job needs; it also holds its config and variables, which no command line shows.

    ``marker`` is what its frames begin with.
    """
    start = nesting.loads(job["launch"])
    given = {
        "word": marker,  # by the name that older engines and entry points know
        "job": {**{key: job.get(key) for key in _CARRIED}, "gpus": None},  # Ray says which
        "limits": {"stop_grace": limits["stop_grace"], "log_max_bytes": limits["log_max_bytes"], "gpus": 0},
        "storage": f"{storage.rstrip('/')}/{job['id']}" if storage else None,
        "python": start.get("python_version"),
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name in _MODULES:
            archive.write(os.path.join(PACKAGE, name), f"taskapi_jupyter/{name}")
        _add_folder(archive, TASK_PATH, "taskapi_jupyter/worker/path")
        api = HomePaths(home).version(job["api_id"])
        _add_folder(archive, api, "api", but="project.zip")
        with suppress(FileNotFoundError), zipfile.ZipFile(os.path.join(api, "project.zip")) as project:
            for name in project.namelist():
                archive.writestr(f"project/{name}", project.read(name))
        if start.get("cloudpickle"):
            _add_folder(archive, os.path.join(start["cloudpickle"], "cloudpickle"), "cloudpickle")
        archive.writestr("project/.keep", b"")
        archive.writestr("job.json", json.dumps(given))
    return target.getvalue()


def request(
    home: str,
    job: Mapping[str, Any],
    submission_id: str,
    uri: str,
    limits: Mapping[str, Any],
    *,
    left: float | None,
) -> dict[str, Any]:
    """Return the body of a job's submission: ``uri`` is where its package is, ``left`` how many seconds it has."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(int(limits["stop_grace"] + 60))}
    if left is not None:
        variables[launch.SECONDS_LEFT] = str(left)
    runtime: dict[str, Any] = {"working_dir": uri, "env_vars": variables}
    if (own := nesting.loads(job["launch"]).get("runtime_env")) is not None:  # of an API that has requirements
        runtime |= own
    else:
        runtime |= _of_project(HomePaths(home).version(job["api_id"]))
    body: dict[str, Any] = {
        "entrypoint": "exec python -m taskapi_jupyter.node",
        "submission_id": submission_id,
        "runtime_env": runtime,
        "metadata": {"job_submission_id": submission_id, "name": f"{job['api_name']} {job['id']}"},
        "entrypoint_num_cpus": job["cpu"] / 1000,
    }
    if job["gpu"]:
        body["entrypoint_num_gpus"] = job["gpu"]
    if job["mem"]:
        body["entrypoint_memory"] = job["mem"]
    return body


def _of_project(folder: str) -> dict[str, Any]:
    """Return what has Ray install the ``requirements.txt`` of a version, where there is one."""
    try:
        wanted = files.read(os.path.join(folder, "requirements.txt"), 1 << 20)
    except FileNotFoundError:
        return {}
    lines = [line.strip() for line in wanted.decode("utf-8-sig", "replace").splitlines()]
    return {"pip": {"packages": [one for one in lines if one and not one.startswith("#")], "pip_check": False}}


def _add_folder(archive: zipfile.ZipFile, folder: str, name: str, but: str = "") -> None:
    for where, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one != "__pycache__"]
        for one in names:
            if one != but:
                path = os.path.join(where, one)
                archive.write(path, os.path.join(name, os.path.relpath(path, folder)))
