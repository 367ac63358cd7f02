"""The results of jobs as values in the configs of others, which waited for them. Standard library only.

A supervisor reads small ones that are in its home. Large ones, and those of a cluster's storage, are read by a process
of its own: a supervisor is to stay small, and a storage may take long, and need packages that it does not import.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.errors import TaskAPIError, size
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.node.storage import RESULTS, Storage, folder_of
from taskapi_jupyter.service import engine_settings
from taskapi_jupyter.service.store.chains import Given, tail
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.store import Store

MOST = 10 << 20  # bytes of the results that one job gets, together
_SMALL = 1 << 18  # bytes of the results that the supervisor itself reads for one job
_ELEMENTS = 1 << 17  # beyond which results are pickled (the harness's LARGE)
_TRIES = 3  # to read a storage

Open = Callable[[str, str], "IO[bytes] | None"]


class _Wrong(Exception):
    """Why a job can't get a result; ``str()`` is the rest of the sentence."""


class _Large(Exception):
    """The results of one job are more than are to be read here."""


def small(home: str, store: Store, job_ids: list[str]) -> dict[str, Given]:
    """Return what :func:`fill` does, without those jobs whose results are large or in a storage."""
    return {} if engine_settings.read(home).get("storage") else fill(home, store, job_ids, most=_SMALL)


def fill(
    home: str, store: Store, job_ids: list[str], opened: Open | None = None, *, most: int = MOST
) -> dict[str, Given]:
    """Return the configs of some jobs with the results that they get, or why they can't have them.

    Jobs are left out whose results have more than ``most`` bytes together, if that is less than a job may get.
    """
    opened = opened or (lambda job_id, name: _in_folder(HomePaths(home).jobs, job_id, name))
    found = {}
    for row in filter(None, map(store.to_fill, job_ids)):
        with suppress(_Large):
            found[row["id"]] = _filled(store, row, opened, most)
    return found


def _filled(store: Store, row: Row, opened: Open, most: int) -> Given:
    found: dict[str, Any] = {}
    left = most
    for key, job_id in json.loads(row["after"])["results"].items():
        try:
            data = _data(store.last_attempt(job_id), job_id, opened, left)
            if len(data) > left:
                if most < MOST:
                    raise _Large
                raise _Wrong(f"the results that it gets are larger than {size(MOST)}")
            left -= len(data)
            found[key] = nesting.loads(data, nesting.MAX_DEPTH)
        except (_Wrong, ValueError) as error:  # a task may have written anything
            why = error if isinstance(error, _Wrong) else f"the result of job {tail(job_id)} can't be read: {error}"
            return Given(None, f"can't get {key[:100]}: {why}")
    try:
        before = nesting.loads(row["merged"] or row["config"] or "{}")
    except (ValueError, TypeError):
        return Given(None, "its config can't be read")
    return Given(json.dumps(nesting.merge(before, found)))


def _data(last: Mapping[str, Any] | None, job_id: str, opened: Open, most: int) -> bytes:
    """Return the JSON that is the result of a job's last attempt; of a larger one ``most`` bytes and one."""
    if last is None:
        raise _Wrong(f"job {tail(job_id)} was deleted before its result was read")
    called = f"job {tail(last['id'])}"
    if last["status"] != JobCode.SUCCEEDED.value:
        raise _Wrong(f"{called} has no result, its status is {last['status']}")
    file = opened(last["id"], RESULTS[0])
    if file is None:
        file = opened(last["id"], RESULTS[1])
        if file is None:
            raise _Wrong(": ".join(filter(None, (f"{called} has left no result", last["reason"]))))
        file.close()
        raise _Wrong(f"the result of {called} was pickled: a job can get what JSON keeps, up to {_ELEMENTS:,} elements")
    with file:
        return file.read(most + 1)


def _in_folder(folder: str | os.PathLike[str], job_id: str, name: str) -> IO[bytes] | None:
    try:
        return os.fdopen(files.open_below(folder, (job_id, name)), "rb")
    except OSError as error:
        if error.errno in files.PASSING:
            raise  # tried again
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise _Wrong(f"the result of job {tail(job_id)} can't be read: {error.strerror}") from None


def main(home: str) -> None:
    """Let the jobs into the line whose results the supervisor does not read itself."""
    store = Store(HomePaths(home).database, follow=False)
    job_ids = [row["id"] for row in store.unsettled() if row["fill"]]
    url = engine_settings.read(home).get("storage")
    store.settle(fill(home, store, job_ids, _storage(url) if url else None))
    store.close()


def _storage(url: str) -> Open:
    folder = folder_of(url)

    def opened(job_id: str, name: str) -> IO[bytes] | None:
        if folder is not None:
            return _in_folder(folder, job_id, name)
        for attempt in range(_TRIES):
            time.sleep(attempt)
            try:
                return Storage(url).open(job_id, name)
            except TaskAPIError as error:
                wrong = str(error)
        raise _Wrong(wrong[:1000])

    return opened
