"""What is wrong with a home, in sentences: ``jupyter taskapi doctor``. It reads, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from . import capacity, conditions, config, envfile, guard, machine, plainfile
from ._version import __version__
from .errors import TaskAPIError, size

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


CHECKS: tuple[Check, ...] = (guard.problems, _config, _environments, _supervisor)
