"""How a supervisor that gets TERM while jobs run becomes the newer one: by exec, in the same process.

The process stays: it keeps the lock, remains the parent of the watchers, and inherits what a killed watcher leaves.
Before a newer package sends TERM, it writes into the home which command to execute; a file in that folder is as trusted
as the database beside it. Standard library only.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import files, nesting, process
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths

_HANDED = "TASKAPI_SUPERVISOR_HANDED"  # the variable with what the new program must know; it drops it at once
_MOST = 1 << 16  # bytes of either


def propose(home: str, holder: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write down what the supervisor that holds the lock is to execute; where that fails, it executes its own files."""
    said = {"replaces": _who(holder), "version": __version__, "command": list(command)}
    with suppress(OSError):
        files.write_atomic(HomePaths(home).successor, json.dumps(said).encode(), sync=False)


def _who(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("pid", "start_time", "version")}


def _proposed(home: str) -> list[str] | None:
    """Return the command that a newer package wrote down for this very process, None where there is none."""
    try:
        with open(files.open_plain(HomePaths(home).successor), "rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o022:
                return None
            said = nesting.loads(file.read(_MOST))
        me = {**process.identity(os.getpid()), "version": __version__}
        command = said["command"]
        # After an exec this process has another version: what was written down for the one before is over.
        if said["replaces"] == _who(me) and command and all(isinstance(word, str) for word in command):
            return list(command)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def become(home: str, own: Sequence[str], handed: Mapping[str, Any]) -> None:
    """Execute the newer package's supervisor, else ``own``, as the files are now; return where neither can be.

    ``handed`` tells it what this process holds, ``lock`` among it. SIGTERM is to be blocked: one that comes meanwhile
    is the new program's.
    """
    sys.stderr.flush()
    lock = handed["lock"]
    environ = {**os.environ, _HANDED: json.dumps(handed)}
    for command in (_proposed(home), own if os.path.isfile(__file__) else None):
        if command is None:
            continue
        try:
            os.set_inheritable(lock, True)
            fault_point("supervisor.becoming")
            os.execve(command[0], list(command), environ)  # noqa: S606
        except (OSError, ValueError):  # ValueError: a NUL in a word
            os.set_inheritable(lock, False)


def handed() -> dict[str, Any]:
    """Return what the program that this process was before handed over; nothing where it was none."""
    try:
        return dict(json.loads(os.environ.pop(_HANDED, "{}")))
    except (ValueError, TypeError):
        return {}
