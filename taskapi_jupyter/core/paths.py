"""Every name that this package gives a file: those of a home and of a job, and those it is started with.

Standard library only, and cheap. The names stay as they are: processes of several versions share a home.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORKER = os.path.join(PACKAGE, "worker")  # the harness is imported from there, by path
TASK_PATH = os.path.join(WORKER, "path")  # stand-ins for packages that a task's interpreter need not have
IMPORTING = "importing"  # in a version's folder, while a template imports what its jobs wait for

P = TypeVar("P", str, "Path")


class _Paths(Generic[P]):
    """The files of a folder. Each is an attribute: a path of the folder's own type, text or ``Path``."""

    def __init__(self, folder: P) -> None:
        self.folder: P = folder


class _File:
    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, paths: _Paths[P], _: object = None) -> P:
        return _below(paths.folder, self.name)


def _below(folder: P, name: str) -> P:
    return os.path.join(folder, name) if isinstance(folder, str) else folder / name


class JobPaths(_Paths[P]):
    """``jobs/ID`` of a home: what a job is started with and what it leaves."""

    claim = _File("claim")  # of the watcher that runs it, which holds a lock on it
    files = _File("files")  # the task's output folder
    job = _File("job.json")  # what the harness is given
    log = _File("log")  # the beginning of the output; what follows is in `log.OFFSET`
    outcome = _File("outcome.json")  # how it ended
    progress = _File("progress.json")  # what the task last said of its progress
    report = _File("report")  # what the harness says of the task's end


class HomePaths(_Paths[P]):
    """``TASKAPI_HOME``."""

    apis = _File("apis")  # the files of each version, by its `api_id`
    bell = _File("bell")  # written after each commit, to wake whoever waits
    config = _File("config.yaml")
    database = _File("taskapi.db")
    engine = _File("engine.json")  # which engine it has, and what that is told; without one, this machine's
    environments = _File("environments.yaml")
    gpus = _File("gpus.json")  # what nvidia-smi said
    jobs = _File("jobs")
    lock = _File("supervisor.lock")  # held by the supervisor as long as it lives
    log = _File("supervisor.log")
    projects = _File("projects")  # folders that came with a form
    ray = _File("ray")  # the homes of Ray environments, by name
    retention_lock = _File("retention.lock")
    servers = _File("servers")  # a file for each Jupyter server that uses it
    successor = _File("successor.json")  # what the supervisor is to become
    wake = _File("wake")  # the FIFO that the supervisor reads

    def job(self, job_id: str) -> JobPaths[P]:
        """Return the paths of a job."""
        return JobPaths(_below(self.jobs, job_id))

    def version(self, api_id: str) -> P:
        """Return the folder of a version."""
        return _below(self.apis, api_id)
