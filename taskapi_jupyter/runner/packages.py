"""The environment of packages that a job runs in: whether it is there, how it is held, how it is built.

Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from typing import Any

from taskapi_jupyter.core import files, folders
from taskapi_jupyter.core.paths import WORKER, HomePaths
from taskapi_jupyter.worker import package_builder

_BUILDER = os.path.join(WORKER, "package_builder.py")


def is_ready(home: str, launch: Mapping[str, Any]) -> bool:
    """Whether a version needs no environment, or its own is there and whole; takes less than a millisecond or two."""
    if "packages" not in launch:
        return True
    key = launch["packages"]["key"]
    try:
        return not package_builder.damage(HomePaths(home).packages_of(key).folder, key)
    except OSError:
        return False


def hold(home: str, launch: Mapping[str, Any], *, wait: bool = True) -> int | None:
    """Note that a version's environment is used, and keep it from being removed until a descriptor is closed.

    Return the descriptor; None where the version needs no environment. A removal holds the lock only while it renames
    the environment; raise BlockingIOError at once where that is so and this is not to ``wait``.
    """
    if "packages" not in launch:
        return None
    paths = HomePaths(home).packages_of(launch["packages"]["key"])
    files.create_folder(HomePaths(home).packages)
    fd = files.create(paths.used, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
        os.utime(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def build_first(
    home: str, job: Mapping[str, Any], launch: Mapping[str, Any], limits: Mapping[str, Any]
) -> tuple[list[str], dict[str, str]]:
    """Return what comes before the command of a task, and a variable of its own, to build its environment first.

    The variable has what is for the build alone, credentials among it; the task does not get it.
    """
    packages = launch["packages"]
    settings = {
        "folder": HomePaths(home).packages,
        "job": job["id"],
        "lock": os.path.join(HomePaths(home).version(job["api_id"]), packages["lock"]),
        "offline": bool((limits.get("packages") or {}).get("offline")),
        "packages": packages,
    }
    return [packages["base"], "-I", _BUILDER], {package_builder.VARIABLE: json.dumps(settings)}


def clear(home: str, job: Mapping[str, Any], launch: Mapping[str, Any]) -> None:
    """Remove what a job has built of an environment, if its build was killed; all its processes have ended."""
    if "packages" in launch:
        folders.remove(f"{HomePaths(home).packages_of(launch['packages']['key']).folder}.tmp-{job['id']}")
