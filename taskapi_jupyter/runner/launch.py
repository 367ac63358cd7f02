"""What a task is started with: its command, its variables, its job file. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from taskapi_jupyter.core.paths import TASK_PATH, WORKER, HomePaths, JobPaths

VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Tells a cluster's entry point how long its job may still take; the task does not see it.
SECONDS_LEFT = "TASKAPI_SECONDS_LEFT"

#: Imports the harness by path, so that its compiled form is cached, and leaves no trace of that for the task to see.
START_HARNESS = "import sys;sys.path[0]=sys.argv[1];from harness import main;sys.modules.pop('harness');main();"


def task_command(job: Mapping[str, Any], launch: Mapping[str, Any], apis: str) -> list[str]:
    """Return what is executed: a command as given, or the API's interpreter on the harness."""
    if launch["kind"] == "command":
        return [str(word) for word in launch["argv"]]
    return [
        launch["python"],
        "-c",
        START_HARNESS,
        WORKER,
        os.path.join(apis, job["api_id"]),
        launch["kind"],
        launch["file"],
        launch.get("module") or "",
        launch.get("attr") or "",
        launch.get("cloudpickle") or "",
        launch.get("origin") or "",
        *launch.get("sys_path", ()),
    ]


def task_environment(
    job: Mapping[str, Any], launch: Mapping[str, Any], home: str, machine_has_gpus: bool
) -> dict[str, str]:
    """Return the task's environment variables: those of its deploy, and those that identify the job."""
    environment = dict(launch["env"])
    folder = HomePaths(home).job(job["id"]).folder
    environment.update(
        TASKAPI_HOME=home,  # a task that submits jobs finds the APIs among which it was deployed
        TASKAPI_JOB_SPEC=JobPaths(folder).job,
        TASKAPI_JOB_ID=job["id"],
        TASKAPI_API_NAME=job["api_name"],
        TASKAPI_OUTPUT_DIR=JobPaths(folder).files,
        PYTHONUNBUFFERED="1",
    )
    if "TASKAPI_FAULTS" in os.environ:  # only where a test looks into what dying at some moment does
        environment["TASKAPI_FAULTS"] = os.environ["TASKAPI_FAULTS"]
    if job["gpus"] is not None or machine_has_gpus:
        environment[VISIBLE] = job.get("devices") or job["gpus"] or ""
    if launch["kind"] == "command":
        # Found before installed packages this way; the modules in it give way to installed ones of their names.
        paths = [environment.get("PYTHONPATH", ""), TASK_PATH]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def job_file(job: Mapping[str, Any]) -> bytes:
    """Return what the task finds at ``TASKAPI_JOB_SPEC``: Cortex's job specification with the merged config."""
    known = {
        "job_id": job["id"],
        "api_name": job["api_name"],
        "kind": "TaskAPI",
        "workers": 1,
        "api_id": job["api_id"],
        "spec_id": job["spec_id"],
        "timeout": job["timeout"],
    }
    merged = job["merged"] or job["config"] or "{}"
    return json.dumps(known)[:-1].encode() + b', "config": ' + merged.encode() + b"}"
