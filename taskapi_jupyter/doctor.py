"""What is wrong with a home, in sentences: ``jupyter taskapi doctor``. It reads, and changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from . import capacity, conditions, config, envfile, guard, machine, nesting, plainfile, room
from ._version import __version__
from .errors import TaskAPIError, Unavailable, size

Check = Callable[[Path], Iterable[str]]


def facts(home: Path) -> dict[str, str]:
    """Return what a report begins with: which home, and which versions answer for it."""
    has = capacity.here()
    return {
        "home": str(home),
        "version": __version__,
        "machine": f"{has.cores / 1000:g} cores, {size(has.memory)} of memory",
    }


def problems(home: Path) -> list[str]:
    """Return what is wrong with a home, a sentence each; a check that fails is a problem, too."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found += check(home)
        except (TaskAPIError, OSError) as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _config(home: Path) -> list[str]:
    config.read(home / "config.yaml")
    return []


def _environments(home: Path) -> list[str]:
    envfile.EnvironmentFile(home).parse()
    return []


def _supervisor(home: Path) -> list[str]:
    """Compare the living supervisor with this process: jobs have what their supervisor has."""
    try:
        record = json.loads(plainfile.read(home / "supervisor.lock", 4096))
        if not machine.LINUX or not isinstance(record, dict) or not machine.is_there(record):
            return []
        found = list(conditions.worse(record["pid"]))
    except (OSError, ValueError):  # none lives, or it is another user's
        return []
    why = f"the supervisor (process {record['pid']}) has no more from what started it"
    return [f"jobs have {one}: {why}; it leaves 3 s after the last job, and the next submission starts another"
            for one in found]  # fmt: skip


def _unremoved(home: Path) -> list[str]:
    """Return what of deleted jobs and versions could not be removed when that was last tried, and is there still."""
    return [
        f"{path} can't be removed: {why}; remove it by hand"
        for one in _homes(home)
        for value in _read(one, "SELECT value FROM settings WHERE name = 'unremoved'")
        for path, why in nesting.loads(value[0]).items()
        if "…" in path or os.path.lexists(path)  # else it was removed since
    ]


def _homes(home: Path) -> list[Path]:
    """Return the home and those of Ray environments below it."""
    return [home, *sorted(home.glob("ray/*/"))]


def _read(home: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read from the database as it is; raise :class:`Unavailable` where that can't be."""
    path = home / "taskapi.db"
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.Error as error:
        raise Unavailable(f"{path} can't be read: {error}") from None


def _room(home: Path) -> list[str]:
    for folder in filter(Path.exists, (home, home / "jobs")):
        room.check_room(str(folder))
    return []


CHECKS: tuple[Check, ...] = (guard.problems, _config, _environments, _room, _supervisor, _unremoved)
