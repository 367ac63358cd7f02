"""What is deleted, when and how: ended jobs beyond what config.yaml keeps, and what an interrupted deletion left.

A process that the supervisor starts now and then does it, so that its loop is never held up; killed anywhere, it
leaves nothing that the next one doesn't finish. Standard library only. Each deletion takes the row first: nobody sees a
job without its folder. A folder goes only where the store says that its job, or its version, was deleted, and after
what its job left in a cluster's storage.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from . import enginefile, guard, plainfile
from .errors import TaskAPIError, Unavailable
from .faults import point
from .states import TERMINAL, values
from .storage import Storage, folder_of
from .store import Store

AT_ONCE = 100  # jobs that are deleted in one transaction, while others wait to write
_YOUNG = 600.0  # seconds; what is younger may belong to a deploy that is under way
_DAY = 86_400
_VERSIONS = 5  # of each deployed API that are kept, also where no job refers to them
NEW = ".new-"  # how the name of a version's folder begins while it is written
_OLD = ".old-"  # and when it is to be removed


def purge(
    store: Store,
    home: Path,
    api: str | None,
    statuses: Iterable[str],
    ended_before: int | None,
    *,
    storage: Storage | None,
) -> int:
    """Delete the jobs in some terminal states, those that ended before a time (in µs) where one is given."""
    until, count = store.last(), 0
    for status in statuses:
        while some := store.forget_some(api, status, until, AT_ONCE, ended_before):
            point("purge.forgotten")
            count += len(some)
            remove_jobs(home, some, storage)
    return count


def remove_jobs(home: Path, job_ids: Iterable[str], storage: Storage | None) -> bool:
    """Remove the folders of jobs that the store no longer has, and what they left in ``storage``.

    A folder stays where the storage can't be reached: it says to the next that tidies that there is more to remove. To
    try that for one job is enough: it may take long. Return whether all went.
    """
    for job_id in job_ids:
        if storage is not None:
            try:
                storage.remove(job_id, left=(home / "jobs" / job_id / "log").exists())
            except TaskAPIError:
                return False
            point("forget.unstored")
        shutil.rmtree(home / "jobs" / job_id, ignore_errors=True)
        point("forget.removed")
    return True


def drop_unused_versions(store: Store, home: Path) -> None:
    """Remove what nobody needs: versions, their files, project folders that came with a form.

    No job refers to them, and their API is not deployed, or has as many that are newer.
    """
    apis = home / "apis"

    def dropping(api_id: str) -> None:
        # Out of the way before a deploy of the same may look: it then writes the files again.
        with suppress(OSError):
            (apis / api_id).rename(apis / f"{_OLD}{api_id}-{time.time_ns()}")
        point("versions.renamed")

    store.unused_versions(dropping, keep=_VERSIONS, before=int((time.time() - _YOUNG) * 1e6))
    point("versions.dropped")
    for folder in apis.glob(f"{_OLD}*"):
        shutil.rmtree(folder, ignore_errors=True)
    projects = home / "projects"
    if projects.exists():
        used, made = {json.loads(launch)["cwd"] for launch in store.launches()}, store.made()
        for folder in projects.iterdir():
            # Of what was there before this database nothing is known: it may take the place of a damaged one.
            if made < _changed(folder) < time.time() - _YOUNG and not any(
                Path(cwd).is_relative_to(folder) for cwd in used
            ):
                shutil.rmtree(folder, ignore_errors=True)


def tidy(home: Path) -> None:
    """Do all that is due in a home."""
    store = Store(home / "taskapi.db", follow=False)
    limits = store.settings()
    kept_at = enginefile.read(str(home)).get("storage")
    storage = None if not kept_at else Storage(kept_at) if folder_of(kept_at) else _Elsewhere(kept_at)
    if limits.get("keep_days") is not None:
        purge(
            store, home, None, values(TERMINAL), int((time.time() - limits["keep_days"] * _DAY) * 1e6), storage=storage
        )
    if limits.get("keep_jobs") is not None:
        while some := store.forget_beyond(limits["keep_jobs"], AT_ONCE):
            point("purge.forgotten")
            remove_jobs(home, some, storage)
    finish_forgetting(store, home, storage)
    drop_unused_versions(store, home)
    _sweep_apis(home)
    store.give_space_back()
    store.close()


def finish_forgetting(store: Store, home: Path, storage: Storage | None, seconds: float = math.inf) -> None:
    """Remove folders whose job's row was deleted by a process that died before it removed them, or could not.

    It ends after some seconds, and where a storage can't be reached; it goes on another time, with others first.
    """
    there, until = set(os.listdir(home / "jobs")), time.monotonic() + seconds
    left = [job_id for job_id in store.forgotten() if job_id in there]
    random.shuffle(left)
    for job_id in left:
        if not remove_jobs(home, [job_id], storage) or time.monotonic() > until:
            break
    there = set(os.listdir(home / "jobs"))
    store.drop_forgotten(keep=there)


class _Elsewhere(Storage):
    """What takes fsspec, and somebody's variables and keys: a server removes what jobs left there, this does not."""

    def remove(self, job_id: str, left: bool = False) -> None:
        raise Unavailable("not from here")


def _sweep_apis(home: Path) -> None:
    """Remove what a deploy that was killed left half-written; an upload that goes on writes again and again."""
    for folder in (home / "apis").glob(f"{NEW}*"):
        with suppress(OSError):
            if max(one.stat().st_mtime for one in (folder, *folder.iterdir())) < time.time() - _YOUNG:
                shutil.rmtree(folder, ignore_errors=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except OSError:
        return math.inf


def main(home: str) -> None:
    """Tidy a home, unless another process is at it; a disk without room is no reason to complain."""
    with suppress(OSError, Unavailable):
        guard.check(home)
        fd = plainfile.create(os.path.join(home, "retention.lock"), os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.nice(10)
        tidy(Path(home))
    sys.exit(0)
