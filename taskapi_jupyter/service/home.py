"""A home: the folder, TASKAPI_HOME, that holds the jobs of one user, their APIs and their database."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from taskapi_jupyter.core import guard
from taskapi_jupyter.core.errors import Unavailable

from .store import database

_warned: set[Path] = set()  # homes whose network file system was warned of


def default_home() -> Path:
    """Return TASKAPI_HOME, by default ``taskapi/`` in Jupyter's data directory."""
    chosen = os.environ.get("TASKAPI_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "taskapi"


def prepare(home: Path | str | None) -> Path:
    """Return the absolute path of a home, made where it is missing; raise :class:`Unavailable` where it is unsafe."""
    if os.name != "posix":
        raise Unavailable("taskapi_jupyter runs jobs on Linux and macOS only")
    path = default_home() if home is None else Path(home).absolute()  # a supervisor runs in another folder
    guard.enter(path, ("jobs", "apis"))
    return path


def warn_of_network(home: Path) -> None:
    """Warn, once in a process, of a home on a network file system."""
    text = database.of_network(str(home))
    if text is not None and home not in _warned:
        _warned.add(home)
        warnings.warn(
            f"{text}, which is slower, and one host at a time may run jobs in it; set TASKAPI_HOME to a local folder "
            "where there is one",
            RuntimeWarning,
            stacklevel=3,
        )
