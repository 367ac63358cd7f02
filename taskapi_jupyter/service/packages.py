"""The environments of packages that were built in a home: what is known of each, who needs it, and how it is removed.

An environment is ``packages/KEY``. Removing one never breaks a deployed API, whose next job builds it again from its
lock. Whoever removes one holds both of its locks, so that no job runs in it and none is building it, and renames it
first: half an environment is never seen. Killed at any point, it leaves nothing that the next run of retention does not
finish. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from taskapi_jupyter.core import files, folders, nesting
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths, PackagesPaths

from .store import readable
from .store.store import Store

KEEP_DAYS = 30.0  # days after its last use that an environment is kept, where config.yaml says nothing
MAX_SIZE = 20 << 30  # bytes that all may take together, likewise
SHOWN = 8  # digits of a key that people see
SLICE = 60.0  # seconds to remove one; the next run goes on with it

_KEY = re.compile(r"[0-9a-f]{32}")
_LEFT = re.compile(r"([0-9a-f]{32})\.(tmp|old)-.+", re.S)  # what a build or a removal that was killed left
_MAX_FACTS = 8 << 20  # bytes of taskapi.json
_DAY = 86_400
_LAST = 253_402_300_799.0  # seconds since the epoch: the end of the year 9999

Stuck = dict[str, str]  # path that could not be removed -> reason


class Built(NamedTuple):
    """One environment. ``facts`` is empty where ``problem`` says why they can't be read."""

    key: str
    facts: Mapping[str, Any]
    problem: str
    built: float  # seconds since the epoch, as is ``last_used``
    last_used: float
    size: int  # bytes

    @property
    def seconds(self) -> float:
        """How long building took."""
        return float(self.facts.get("seconds", 0))


class Need(NamedTuple):
    """A version whose tasks run in an environment."""

    api: str
    api_id: str
    deployed: bool
    jobs: int  # of it in progress


def keys(home: Path) -> list[str]:
    """Return the keys of the environments of a home."""
    try:
        with os.scandir(HomePaths(home).packages) as entries:
            return sorted(one.name for one in entries if _KEY.fullmatch(one.name) and one.is_dir(follow_symlinks=False))
    except OSError:  # nothing was built yet
        return []


def listed(home: Path) -> list[Built]:
    """Return the environments of a home, those used last first."""
    found = [one for key in keys(home) if (one := _read(HomePaths(home).packages_of(key), key))]
    return sorted(found, key=lambda one: (-one.last_used, one.key))


def facts(home: Path, key: str) -> Mapping[str, Any] | None:
    """Return what a build wrote into an environment; None where it is not there, or its file can't be read.

    Nothing else of it is looked at: each status of a job that runs in it asks.
    """
    if not _KEY.fullmatch(key):
        return None
    try:
        return _checked(files.read(HomePaths(home).packages_of(key).facts, _MAX_FACTS))
    except (OSError, ValueError):
        return None


def _read(paths: PackagesPaths[Path], key: str) -> Built | None:
    """Return what is known of one; None where it has just been removed."""
    facts: Mapping[str, Any] = {}
    problem = ""
    try:
        made = paths.folder.lstat().st_mtime
    except OSError:
        return None
    try:
        facts = _checked(files.read(paths.facts, _MAX_FACTS))
    except OSError as error:
        problem = f"its taskapi.json can't be read: {error.strerror}"
    except ValueError as error:
        problem = f"its taskapi.json is damaged: {error}"
    if problem:
        problem += "; the next job that needs it builds it again"
    built = float(facts.get("built", made))
    try:
        used = paths.used.lstat().st_mtime
    except OSError:
        used = built
    size = facts["size"] if facts else sum(about.st_size for _, about in folders.files(paths.folder)[0])
    return Built(key, facts, problem, built, used, size)


def _checked(data: bytes) -> dict[str, Any]:
    """Return the facts of an environment; raise ValueError where they are not those that a build writes."""
    facts = nesting.loads(data)
    if not isinstance(facts, dict):
        raise ValueError("it is no object")
    for name, good in _GOOD.items():
        if not good(facts.get(name)):
            raise ValueError(f"it has no valid {name}")
    return facts


def _is_text(value: object) -> bool:
    return isinstance(value, str) and readable.is_utf8(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_GOOD = {
    **dict.fromkeys(("python", "version", "builder"), _is_text),
    **dict.fromkeys(("built", "seconds"), _is_number),
    "size": lambda value: type(value) is int and 0 <= value < 1 << 53,
    **dict.fromkeys(("requirements", "packages"), _are_texts),
}


def needs(store: Store) -> dict[str, list[Need]]:
    """Return the versions that run in environments of packages, by the key of these."""
    found: dict[str, list[Need]] = {}
    for row in store.with_packages():
        try:
            key = readable.mapping(row["launch"])["packages"]["key"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(key, str):
            need = Need(readable.text(row["name"]), readable.text(row["api_id"]), bool(row["deployed"]), row["jobs"])
            found.setdefault(key, []).append(need)
    return found


# Removing


def remove(home: Path, key: str, stuck: Stuck) -> str | None:
    """Remove an environment that no process uses.

    Return None where no environment has this key any more; what of it could not be removed is in ``stuck``. Else return
    who uses it, as the end of a sentence. Raises :class:`Unavailable` where a lock or the folder can't be changed.
    """
    paths = HomePaths(home).packages_of(key)
    old = paths.folder.with_name(f"{key}.old-{time.time_ns()}")
    try:
        with _held(paths.used) as unused, _held(paths.lock) as unlocked:
            if not unused:
                return "a process runs in it"
            if not unlocked:
                return f"{_builder(paths.lock)} builds it"
            paths.folder.rename(old)
    except FileNotFoundError:  # somebody else was faster
        return None
    except OSError as error:
        raise Unavailable(f"{error.filename or paths.folder} can't be changed: {error.strerror}") from None
    fault_point("packages.renamed")
    _remove(old, stuck)
    fault_point("packages.removed")
    return None


def _builder(lock: Path) -> str:
    """Return who builds an environment, as its lock says."""
    with suppress(OSError):
        job_id = files.read(lock, 100).decode("ascii", "replace").strip()
        if readable.JOB_ID.fullmatch(job_id):
            return f"job {job_id}"
    return "a process"


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a lock, unless another process does: yield whether it is held."""
    try:
        fd = files.create(path, os.O_RDWR)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        yield True  # there is no room for it, so that no job and no build holds it; deleting makes some
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _remove(path: Path, stuck: Stuck) -> None:
    stuck.update(folders.remove(path, time.monotonic() + SLICE).stuck)


def prune(store: Store, home: Path, settings: object, stuck: Stuck) -> None:
    """Remove environments that were not used for long, then the least recently used ones of too many, and leftovers.

    ``settings`` are those of config.yaml's ``packages``. One that a job in progress needs, or a process uses, stays.
    """
    if not HomePaths(home).packages.is_dir():
        return
    keep_days, max_size = _number(settings, "keep_days", KEEP_DAYS), _number(settings, "max_size", MAX_SIZE)
    before = time.time() - keep_days * _DAY
    _finish(home, stuck)
    needed = needs(store)
    busy = {key for key, versions in needed.items() if any(one.jobs for one in versions)}

    def removed(one: Built) -> bool:
        try:
            return one.key not in busy and remove(home, one.key, stuck) is None
        except Unavailable as error:  # which is no reason to keep the others
            stuck[str(HomePaths(home).packages_of(one.key).folder)] = error.message
            return False

    oldest_first = listed(home)[::-1]
    kept = [one for one in oldest_first if one.last_used >= before or not removed(one)]
    total = sum(one.size for one in kept)
    for one in kept:
        if total <= max_size:
            break
        if removed(one):
            total -= one.size
    _drop_locks(home, needed, before)


def _number(settings: object, name: str, default: float) -> float:
    value = settings.get(name) if isinstance(settings, Mapping) else None
    return float(value) if isinstance(value, int | float) and value >= 0 else default


def _finish(home: Path, stuck: Stuck) -> None:
    """Remove what builds and removals that were killed left; a build in progress holds the lock of its key."""
    for entry in os.listdir(HomePaths(home).packages):
        left = _LEFT.fullmatch(entry)
        if left is None:
            continue
        path = HomePaths(home).packages / entry
        if left[2] == "tmp":
            old = path.with_name(f"{left[1]}.old-{time.time_ns()}")
            try:
                with _held(HomePaths(home).packages_of(left[1]).lock) as unlocked:
                    if not unlocked:
                        continue
                    path.rename(old)  # a build that begins now need not wait until it is removed
            except OSError as error:
                stuck[str(path)] = error.strerror or str(error)
                continue
            path = old
        _remove(path, stuck)


def _drop_locks(home: Path, needed: Mapping[str, object], before: float) -> None:
    """Remove the locks of environments that are gone, and resolved requirements, where unused since a time.

    Only locks of keys that no version names: a process that opened a lock just before would hold one that others
    don't see.
    """
    there = set(os.listdir(HomePaths(home).packages))
    for key in {name[:32] for name in there if _KEY.fullmatch(name[:32]) and name[32:] in (".lock", ".used")}:
        paths = HomePaths(home).packages_of(key)
        if key in there or key in needed or _used(paths.used) >= before or _used(paths.lock) >= before:
            continue
        with suppress(OSError), _held(paths.used) as unused, _held(paths.lock) as unlocked:
            if unused and unlocked and not os.path.lexists(paths.folder):
                paths.lock.unlink()
                paths.used.unlink()
    for path in (HomePaths(home).packages / "locks").glob("*.txt"):
        with suppress(OSError):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and max(about.st_mtime, about.st_atime) < before:
                path.unlink()


def _used(path: Path) -> float:
    """Return when a file was last changed; never, where it is missing."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return -math.inf
