"""The firing of schedules: the process that the supervisor starts once one is due, and that ends when none is.

For each firing it writes one job or says why there is none, in one transaction with the next time of the schedule. Any
number of such processes, and a kill at any point, make no second job of a firing and lose none.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest, TaskAPIError, Unavailable, printable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import OVER
from taskapi_jupyter.deploy.times import US, Due, Times
from taskapi_jupyter.service import engine_settings, retention
from taskapi_jupyter.service.limits import ThisMachine
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.schedules import WRONG, deleted

if TYPE_CHECKING:
    from .schedules import Schedules

_MINUTE = 60 * US
_FIRST_PAUSE, _LONGEST_PAUSE = 5 * US, 600 * US  # until a job that could not be submitted is tried again
_UNREADABLE = 3600 * US  # until a schedule is looked at again whose text or zone this machine does not know
_TRIES = 10  # at a schedule that other processes change all the time
_REMOVING = 5.0  # seconds to remove what jobs left that a schedule no longer keeps; retention goes on
_SERVICE = ("taskapi_jupyter.service.service", "Service")


def main(home: str) -> None:
    """Submit the jobs of the schedules of a home that are due now."""
    try:
        with_engine = engine_settings.read(home)["provider"] != "local"
        module, name = _SERVICE
        service = getattr(importlib.import_module(module), name)(
            Path(home), placement=_Elsewhere if with_engine else ThisMachine
        )
        fire_due(service)
        service.close()
    except (TaskAPIError, OSError) as error:
        _say(str(error))
        sys.exit(1)


class _Elsewhere(ThisMachine):
    """A cluster, which says itself which GPUs a job gets; its supervisor finds out whether it can be reached."""

    def visible(self, api: str, version: Row, given: str | None) -> str | None:
        return None


def fire_due(service: Schedules) -> None:
    """Submit the jobs of the schedules that are due; one that can't be served does not keep others from it."""
    rows = service.store.due_schedules(host.now_us())
    for row in rows:
        _serve(service, row)
        service.waker.tell()
    if rows:
        service.waker.wake()
    for row in rows:
        if row["keep"] is not None:
            _drop_older(service, row["name"], row["keep"])


def _serve(service: Schedules, found: Row) -> None:
    row: Row | None = found
    for _ in range(_TRIES):
        if row is None or not row["active"] or row["due"] is None:
            return
        try:
            if _Firing(service, row).serve():
                return
        except Unavailable as error:  # nothing can be written now: it stays due
            _say(f"schedule {printable(row['name'])}: {error}")
            return
        except (TaskAPIError, ValueError, TypeError, KeyError) as error:  # somebody has changed its row
            why = f"its row in the database can't be read: {error}"
            later = {"misfire": why, "misfired": host.now_us(), "due": host.now_us() + _UNREADABLE}
            service.store.change_schedule(row, later)
            return
        row = service.store.schedule(row["name"])  # somebody else has changed it


class _Firing:
    """What is due of one schedule."""

    def __init__(self, service: Schedules, row: Row) -> None:
        self._service, self._row = service, row
        self._now = host.now_us()

    def serve(self) -> bool:
        """Submit what is due, or write why nothing is; False where the schedule was changed meanwhile."""
        row, now = self._row, self._now
        try:
            times = Times(row["schedule"], row["timezone"], row["created"])
        except BadRequest as error:
            known = row["misfire"] == str(error)
            return self._write({**self._misfire(str(error), 0 if known else 1), "due": now + _UNREADABLE})
        if row["last"] is not None and row["last"] > now + WRONG:  # the clock was ahead when it fired last
            return self._move(times.next(now, row["until"]), {"last": None})
        if row["due"] > now:
            return True
        due = times.due(row["next"], now, row["until"])
        was_tried = row["due"] > row["next"]  # and is counted among the misfires
        retried = was_tried and due.newest == row["next"]
        missed = due.missed - (was_tried and not retried)
        period = times.period(due.newest)
        limit = period if row["max_late"] is None else int(row["max_late"] * US)
        if row["catch_up"] == "none" and not retried:
            limit = min(limit, period, _MINUTE)
        if now - due.newest > limit:
            said = row["misfire"] if retried else _missed(times, missed + 1, due.newest)
            return self._move(due.next, self._misfire(said, missed + (not retried)))
        return self._submit(times, due, missed, retried, until=due.newest + limit)

    def _submit(self, times: Times, due: Due, missed: int, retried: bool, *, until: int) -> bool:
        """Submit the newest firing; where that fails, it is tried again up to a moment."""
        row, service = self._row, self._service
        uncounted = missed + (not retried)
        after, why = _overlap(row["overlap"], service.store.jobs_of_schedule(row["name"]))
        if why is not None:
            return self._move(due.next, self._misfire(why, uncounted))
        columns = self._misfire(_missed(times, missed, None), missed) if missed else {}
        if retried:  # a job comes of it after all
            columns["misfires"] = row["misfires"] + missed - 1
            if not columns["misfires"]:
                columns.update(misfire=None, misfired=None)
        columns.update(_place(due.next), last=due.newest)
        fault_point("firing.chosen")
        try:
            job = {**service.job_of_schedule(row), "scheduled": due.newest}
            job_id = service.store.fire(row, job, columns, after=after, stop=row["overlap"] == "stop")
        except APINotDeployed as error:
            pause = {"active": 0, "next": None, "due": None, "paused": deleted(row["api_name"])}
            return self._write({**self._misfire(str(error), uncounted), **pause})
        except TaskAPIError as error:
            return self._failed(self._misfire(str(error), uncounted), due, retried, until)
        fault_point("firing.written")
        return job_id is not None

    def _failed(self, misfire: dict[str, Any], due: Due, retried: bool, until: int) -> bool:
        """Write why the job could not be submitted, and when it is tried again, if it is."""
        row, now = self._row, self._now
        pause = _FIRST_PAUSE
        if retried and row["misfired"] is not None:
            pause = min(max(2 * (row["due"] - row["misfired"]), pause), _LONGEST_PAUSE)
        if now + pause > min(until, due.next or math.inf):
            return self._move(due.next, misfire)
        return self._write({**misfire, "next": due.newest, "due": now + pause})

    def _misfire(self, why: str, count: int) -> dict[str, Any]:
        """Return the columns that say why there are no jobs of so many firings more."""
        return {"misfire": why, "misfired": self._now, "misfires": self._row["misfires"] + count}

    def _move(self, later: int | None, columns: dict[str, Any]) -> bool:
        return self._write({**columns, **_place(later)})

    def _write(self, columns: dict[str, Any]) -> bool:
        """Write the row; False where somebody else has."""
        done = self._service.store.change_schedule(self._row, columns)
        fault_point("firing.missed")
        return done


def _place(later: int | None) -> dict[str, Any]:
    """Return the columns of a schedule that fires next at a time, or no more."""
    if later is None:
        return {"next": None, "due": None, "active": 0, "paused": OVER}
    return {"next": later, "due": later}


def _overlap(overlap: str, in_progress: Sequence[Row]) -> tuple[list[str], str | None]:
    """Return for which jobs a new one waits, and why there is none."""
    if not in_progress or overlap == "allow":
        return [], None
    ids = [one["id"] for one in in_progress]
    waits = [one["id"] for one in in_progress if one["seq"] < 0 and one["after"] is not None]
    if overlap == "skip":
        return [], f"skipped: job {ids[-1]} had not ended"
    if overlap == "queue" and waits:
        return [], f"skipped: job {waits[-1]} waits already until the one before it has ended"
    return ids, None


def _missed(times: Times, count: int, newest: int | None) -> str:
    """Say that firings were missed; ``newest``: the time of the last one, None where a job came after them."""
    many = "one firing was" if count == 1 else f"{count} firings were"
    which = (
        "" if newest is None else f", {'that of' if count == 1 else 'the last that of'} {times.times(newest - 1, 1)[0]}"
    )
    return f"{many} missed{which}: this machine was off or asleep, or nothing of taskapi ran"


def _drop_older(service: Schedules, name: str, keep: int) -> None:
    """Delete the ended jobs of a schedule that it no longer keeps."""
    retention.drop_of_schedule(service.store, service.home, name, keep, until=time.monotonic() + _REMOVING)
    fault_point("firing.kept")


def _say(text: str) -> None:
    """Write a line into supervisor.log."""
    print(f"taskapi schedules: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201
