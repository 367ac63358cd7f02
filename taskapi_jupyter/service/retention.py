"""Deletes ended jobs that config.yaml does not keep, unused versions and packages, and what was left half deleted.

The supervisor starts it as a process of its own, so that its loop never waits. Killed at any point, it leaves nothing
that the next run does not finish. Standard library only. The row is deleted first, so that nobody sees a job without
its folder. A folder is removed only where the store says that its job or version was deleted, and after what the job
left in a cluster's storage.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from taskapi_jupyter.core import files, folders, guard, nesting
from taskapi_jupyter.core.errors import TaskAPIError, Unavailable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import TERMINAL, values
from taskapi_jupyter.node.storage import Storage, folder_of
from taskapi_jupyter.runner import reaping

from . import engine_settings, packages
from .store.store import Store

AT_ONCE = 100  # jobs that are deleted in one transaction, while others wait to write
_PAUSE = 0.01  # seconds between two of them: SQLite hands its lock to whoever tries at that moment, in no order
_YOUNG = 600.0  # seconds; a younger folder may belong to a deploy in progress
_DAY = 86_400
_VERSIONS = 5  # newest versions that a deployed API keeps even if no job refers to them
NEW = ".new-"  # how the name of a version's folder begins while it is written
_OLD = ".old-"  # and how it begins while it is removed
SLICE = 60.0  # seconds to remove one folder; the next run goes on with it
_PARTS = 100  # files of a half-written version whose age is checked; it has fewer

Stuck = dict[str, str]  # path that could not be removed -> reason


def purge(
    store: Store,
    home: Path,
    api: str | None,
    statuses: Iterable[str],
    ended_before: int | None,
    *,
    storage: Storage | None,
    stuck: Stuck,
    until: float = math.inf,
) -> int:
    """Delete the jobs in the given terminal states, optionally only those that ended before a time (µs); count them."""
    last = store.last()
    return sum(
        _delete(home, partial(store.forget_some, api, status, last, AT_ONCE, ended_before), storage, stuck, until)
        for status in statuses
    )


def forget_group(
    store: Store, home: Path, group_id: str, *, storage: Storage | None, stuck: Stuck, until: float
) -> int:
    """Delete the ended jobs of a group, of all attempts; count them."""
    return _delete(home, partial(store.forget_of_group, group_id, AT_ONCE), storage, stuck, until)


def drop_of_schedule(
    store: Store, home: Path, name: str, keep: int, *, stuck: Stuck | None = None, until: float = math.inf
) -> None:
    """Delete the ended jobs of a schedule beyond its newest ``keep``."""
    forget = partial(store.forget_of_schedule, name, keep, AT_ONCE)
    _delete(home, forget, storage_of(home), {} if stuck is None else stuck, until)


def storage_of(home: Path) -> Storage | None:
    """Return where jobs leave results and files, as far as this process can remove these; None: in the home."""
    kept_at = engine_settings.read(str(home)).get("storage")
    return None if not kept_at else Storage(kept_at) if folder_of(kept_at) else _Elsewhere(kept_at)


def _delete(
    home: Path,
    forget: Callable[[], Sequence[str]],
    storage: Storage | None,
    stuck: Stuck,
    until: float = math.inf,
) -> int:
    """Delete jobs for as long as ``forget`` finds some, with a pause for whoever waits to write; count them."""
    count = 0
    while some := forget():
        fault_point("purge.forgotten")
        count += len(some)
        remove_jobs(home, some, storage, stuck, until)
        time.sleep(_PAUSE)
    return count


def remove_jobs(
    home: Path, job_ids: Iterable[str], storage: Storage | None, stuck: Stuck, until: float = math.inf
) -> None:
    """Remove the folders of jobs that the store no longer has, and what they left in ``storage``.

    Each folder gets :data:`SLICE` seconds, and all have to be done by ``until`` (``time.monotonic``): the next run goes
    on with the rest. Paths that can't be removed go into ``stuck``. Where the storage can't be reached, the job's
    folder stays, as a sign for the next run, and no other job is tried: each attempt may take long.
    """
    for job_id in job_ids:
        now = time.monotonic()
        if now > until:
            break
        if not is_name(job_id):  # of a row that no version wrote: it may lead anywhere
            continue
        folder, deadline = HomePaths(home).job(job_id).folder, min(until, now + SLICE)
        if storage is not None:
            try:
                there = storage.remove(job_id, os.path.lexists(folder / "log"), deadline)
            except TaskAPIError:
                return
            stuck.update(there.stuck)
            if not there.gone:
                continue
            fault_point("forget.unstored")
        stuck.update(folders.remove(folder, deadline).stuck)
        fault_point("forget.removed")


def is_name(text: object) -> bool:
    """Whether this is the name of an entry of a folder, not a path to elsewhere."""
    return isinstance(text, str) and text not in ("", ".", "..") and not {"/", "\0"} & set(text)


def words(stuck: Stuck) -> str:
    """Return the end of the message after "deleted" that names what could not be removed."""
    some = [f"{path} ({why})" for path, why in list(stuck.items())[:3]]
    more = f" and {len(stuck) - len(some)} more" if len(stuck) > len(some) else ""
    return f"; not all could be removed: {', '.join(some)}{more}" if some else ""


def drop_unused_versions(store: Store, home: Path, stuck: Stuck) -> None:
    """Remove unused versions, their files, and project folders that came with a form.

    A version is unused where no job refers to it and its API is not deployed or has enough newer versions.
    """
    paths = HomePaths(home)
    apis = paths.apis

    def dropping(api_id: str) -> None:
        # Renamed before a deploy of the same content can look: it then writes the files again.
        if is_name(api_id):
            with suppress(OSError):
                (apis / api_id).rename(apis / f"{_OLD}{api_id}-{time.time_ns()}")
        fault_point("versions.renamed")

    young = int((time.time() - _YOUNG) * 1e6)
    store.drop_idle(young)
    store.unused_versions(dropping, keep=_VERSIONS, before=young)
    fault_point("versions.dropped")
    for folder in apis.glob(f"{_OLD}*"):
        _remove(folder, stuck)
    projects = paths.projects
    if projects.is_dir():
        used, made = set(filter(None, map(_folder_of, store.launches()))), store.made()
        for folder in projects.iterdir():
            # Nothing is known of older folders: this database may have replaced a damaged one.
            if made < _changed(folder) < time.time() - _YOUNG and not any(
                Path(cwd).is_relative_to(folder) for cwd in used
            ):
                _remove(folder, stuck)


def _folder_of(launch: str) -> str | None:
    """Return the folder that a version's tasks run in; None where its row can't be read, so that it has no tasks."""
    try:
        return str(nesting.loads(launch)["cwd"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _remove(folder: Path, stuck: Stuck) -> None:
    stuck.update(folders.remove(folder, time.monotonic() + SLICE).stuck)


def tidy(home: Path) -> None:
    """Do all steps of retention for a home; a step that fails does not stop the others."""
    store = Store(HomePaths(home).database, follow=False)
    limits, stuck = store.settings(), dict[str, str]()
    storage = storage_of(home)

    def delete_old() -> None:
        if limits.get("keep_days") is not None:
            before = int((time.time() - limits["keep_days"] * _DAY) * 1e6)
            purge(store, home, None, values(TERMINAL), before, storage=storage, stuck=stuck)

    def delete_beyond() -> None:
        if limits.get("keep_jobs") is not None:
            # Searched once, and outside the transactions, since it passes all jobs that are kept.
            last = store.newest_beyond(limits["keep_jobs"])
            _delete(home, partial(store.forget_until, last, AT_ONCE), storage, stuck)

    def delete_of_schedules() -> None:
        for name, keep in store.schedules_keeping():
            drop_of_schedule(store, home, name, keep, stuck=stuck)

    for what, step in (
        ("delete jobs past keep_days", delete_old),
        ("delete jobs beyond keep_jobs", delete_beyond),
        ("delete jobs that schedules do not keep", delete_of_schedules),
        ("delete old notifications", lambda: store.drop_deliveries(limits.get("keep_days"))),
        ("remove what deleted jobs left", lambda: finish_forgetting(store, home, storage, stuck)),
        ("remove versions that nobody needs", lambda: drop_unused_versions(store, home, stuck)),
        ("remove what deploys left", lambda: _sweep_apis(home, stuck)),
        ("remove unused packages", lambda: packages.prune(store, home, limits.get("packages"), stuck)),
        ("make the database smaller", store.give_space_back),
    ):
        try:
            step()
        except Unavailable:  # the database, which every step needs
            raise
        except Exception as error:
            _say(f"can't {what}: {type(error).__name__}: {error}")
    before = store.unremoved()
    for path, why in stuck.items():
        if before.get(path) != why:
            _say(f"can't remove {path}: {why}")
    if stuck != before:
        store.set_unremoved(stuck)
    store.close()


def _say(text: str) -> None:
    """Write a line into supervisor.log."""
    print(f"taskapi retention: {text}", file=sys.stderr, flush=True)  # noqa: T201


def finish_forgetting(
    store: Store, home: Path, storage: Storage | None, stuck: Stuck, seconds: float = math.inf
) -> None:
    """Remove folders that a process left after it had deleted the job's row.

    It ends after ``seconds``, and where a storage can't be reached. The order is random, so that the next call reaches
    other folders.
    """
    there, until = set(os.listdir(HomePaths(home).jobs)), time.monotonic() + seconds
    left = [job_id for job_id in store.forgotten() if job_id in there]
    random.shuffle(left)
    remove_jobs(home, left, storage, stuck, until)
    there = set(os.listdir(HomePaths(home).jobs))
    store.drop_forgotten(keep=there)


class _Elsewhere(Storage):
    """A storage that needs fsspec and the user's credentials: a Jupyter server removes what jobs left there instead."""

    def remove(self, job_id: str, left: bool = False, until: float = math.inf) -> folders.Removal:
        raise Unavailable("not from here")


def _sweep_apis(home: Path, stuck: Stuck) -> None:
    """Remove folders of deploys that were killed: those in which nothing was written for a while."""
    for folder in HomePaths(home).apis.glob(f"{NEW}*"):
        with suppress(OSError):
            inside = islice(folder.iterdir(), _PARTS) if stat.S_ISDIR(folder.lstat().st_mode) else ()
            if max(one.lstat().st_mtime for one in (folder, *inside)) < time.time() - _YOUNG:
                _remove(folder, stuck)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except OSError:
        return math.inf


def main(home: str) -> None:
    """Tidy a home, unless another process is doing it. A full disk is no error here."""
    reaping.call_itself(reaping.RETENTION)
    with suppress(OSError, Unavailable):
        guard.check(home)
        fd = files.create(HomePaths(home).retention_lock, os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.nice(10)
        tidy(Path(home))
    sys.exit(0)
