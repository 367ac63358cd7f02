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
    ending = _File("ending")  # how the watcher ends a notebook, whose runner reads it
    files = _File("files")  # the task's output folder
    kernel = _File("kernel")  # of a notebook: sockets, connection file, what its cells say of their progress
    kernel_request = _File("kernel-request")  # what is to be done with a kernel that is kept: `resume` or `end`
    job = _File("job.json")  # what the harness is given
    log = _File("log")  # the beginning of the output; what follows is in `log.OFFSET`
    metrics = _File("metrics.json")  # the last values of the task's metrics
    outcome = _File("outcome.json")  # how it ended
    progress = _File("progress.json")  # what the task last said of its progress
    report = _File("report")  # what the harness says of the task's end
    usage = _File("usage.jsonl")  # its CPU time and memory, once a second


class PackagesPaths(Generic[P]):
    """An environment of packages, ``packages/KEY`` of a home, and the locks beside it."""

    def __init__(self, packages: P, key: str) -> None:
        self.folder: P = _below(packages, key)
        self.python: P = _below(_below(self.folder, "bin"), "python")
        self.facts: P = _below(self.folder, "taskapi.json")  # how it was built
        self.lock: P = _below(packages, f"{key}.lock")  # locked while it is built, or removed; names the job
        self.used: P = _below(packages, f"{key}.used")  # its time is the last use; each job that runs in it holds it


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
    kernels = _File("kernels")  # connection files of the kernels that are kept after a failure
    lock = _File("supervisor.lock")  # held by the supervisor as long as it lives
    log = _File("supervisor.log")
    notifier_lock = _File("notifier.lock")  # held by the process that sends notifications
    packages = _File("packages")  # environments that were built from requirements, by their key
    projects = _File("projects")  # folders that came with a form
    ray = _File("ray")  # the homes of Ray environments, by name
    retention_lock = _File("retention.lock")
    servers = _File("servers")  # a file for each Jupyter server that uses it
    successor = _File("successor.json")  # what the supervisor is to become
    variables = _File("notifier.variables")  # names of those that notifications are read from
    wake = _File("wake")  # the FIFO that the supervisor reads

    def job(self, job_id: str) -> JobPaths[P]:
        """Return the paths of a job."""
        return JobPaths(_below(self.jobs, job_id))

    def kept_kernel(self, job_id: str) -> P:
        """Return the path of the connection file of a job's kernel while that is kept."""
        return _below(self.kernels, f"kernel-{job_id}.json")

    def packages_of(self, key: str) -> PackagesPaths[P]:
        """Return the paths of an environment of packages."""
        return PackagesPaths(self.packages, key)

    def version(self, api_id: str) -> P:
        """Return the folder of a version."""
        return _below(self.apis, api_id)
