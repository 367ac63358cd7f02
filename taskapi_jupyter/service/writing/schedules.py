"""Schedules: checked and written here; a process of the supervisor submits their jobs (:mod:`.firing`)."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec.structs import asdict

from taskapi_jupyter.client.groups.configs import check_attempts, check_name
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import (
    SchedulePreview,
    ScheduleRequest,
    SchedulesResponse,
    ScheduleStatus,
    Submission,
    convert,
)
from taskapi_jupyter.core.errors import BadRequest, Conflict, ScheduleNotFound, printable, short
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.deploy.times import Times
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.service import reboot
from taskapi_jupyter.service.records import rfc3339, status_of
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row

from .groups import Groups
from .submissions import Configs

MOST_TIMES = 100  # that a preview has
_LEAST_LATE, _MOST_LATE = 10, 366 * 86_400  # seconds
_MOST_KEPT = 1_000_000
_FIELDS = ScheduleRequest.__struct_fields__
_CHANGEABLE = [name for name in _FIELDS if name not in ("name", "replace")]
_ATTEMPTS = ("retries", "retry_on", "retry_delay", "priority")
_OPTIONS = ("timeout", "run_timeout", *_ATTEMPTS, "notify", "notebook")  # in one column, as JSON
_WHEN = {"schedule", "timezone", "until", "active"}  # what decides on the next time
_CHOICES = {"overlap": ("skip", "queue", "stop", "allow"), "catch_up": ("last", "none")}


class Schedules(Groups):
    """A ``TaskAPI`` over a home that reads, submits jobs, and keeps schedules."""

    def create_schedule(self, request: ScheduleRequest) -> ScheduleStatus:
        """Write a schedule, and have a supervisor look after it; it is on disk when this returns."""
        now = host.now_us()
        row = self._checked(request, now, now)
        self.store.add_schedule({**row, "created": now, "updated": now}, request.replace)
        fault_point("schedule.written")
        self.waker.replace_older()  # which would fire none
        self.waker.wake()
        return self.schedule_status(row["name"])

    def schedules_response(self) -> SchedulesResponse:
        """Return all schedules, by name."""
        self._keep_supervisor()
        found = [self._schedule_status(row) for row in self.store.schedules()]
        return SchedulesResponse(found, reboot.hint(self.home)) if found else SchedulesResponse(found)

    def schedule_status(self, name: str) -> ScheduleStatus:
        """Return one schedule."""
        self._keep_supervisor()
        return self._schedule_status(self._schedule_row(name))

    def update_schedule(self, name: str, changes: Mapping[str, Any]) -> ScheduleStatus:
        """Change some keys of a schedule; one that is resumed goes on with its next time from now."""
        unknown = [key for key in changes if key not in _CHANGEABLE]
        if unknown == ["name"]:
            raise BadRequest("a schedule keeps its name, by which its jobs are known: make another one")
        if unknown:
            raise BadRequest(
                f"a schedule has no {', '.join(short(str(key)) for key in unknown)} that can be changed: "
                f"use {', '.join(_CHANGEABLE)}"
            )
        self.waker.check_place()
        while True:
            row = self._schedule_row(name)
            if dict(changes) == {"active": False}:
                columns: Row = {}
                if row["active"]:
                    columns = {"active": 0, "paused": None, "next": None, "due": None}
            else:
                columns = self._changed(row, changes)
            if not columns or self.store.change_schedule(row, columns):
                break
        fault_point("schedule.changed")
        self.waker.replace_older()
        self.waker.wake()
        return self.schedule_status(name)

    def delete_schedule(self, name: str) -> str:
        """Delete a schedule; its jobs stay."""
        self.waker.check_place()
        if not (readable.is_utf8(name) and self.store.delete_schedule(name)):
            raise self._no_schedule(name)
        self.waker.tell()
        return f"deleted schedule {name}"

    def run_schedule(self, name: str) -> Job:
        """Submit a job of a schedule now; its next time stays as it is."""
        while True:
            row = self._schedule_row(name)
            job_row = self.job_of_schedule(row)
            job_id = self.store.fire(row, {**job_row, "scheduled": None}, {"last": job_row["created"]})
            if job_id is not None:
                break
        fault_point("schedule.run")
        if job_row.get("retries"):
            self.waker.replace_older()
        self.waker.wake()
        written = self.store.job(job_id)
        if written is None:
            raise Conflict(f"job {job_id} of schedule {name} was deleted at once")
        return self._job(status_of(written, self.paths.jobs))

    def preview_schedule(
        self, schedule: str, timezone: str | None = None, count: int = 5, until: str | None = None
    ) -> SchedulePreview:
        """Return how a schedule reads, and when it would fire next."""
        if not (isinstance(count, int) and 1 <= count <= MOST_TIMES):
            raise BadRequest(f"the number of times must be from 1 to {MOST_TIMES}, not {count!r}")
        now = host.now_us()
        times = Times(schedule, timezone, now)
        last = times.until(until)
        times.first(now, last)
        return SchedulePreview(
            schedule=times.schedule,
            timezone=times.timezone,
            explained=times.explained,
            times=times.times(now, count, last),
        )

    def job_of_schedule(self, row: Row) -> Row:
        """Return the columns of a new job of a schedule; raise as a submission does where none can be accepted."""
        api, options = row["api_name"], _options(row)
        version = self._version(api, row["api_id"])
        try:
            config = readable.config(row["config"])
        except ValueError as error:
            raise Conflict(f"the config of schedule {printable(row['name'])} {error}: set it anew") from None
        submitted, merged = Configs(api, version).texts(config)
        given = {"timeout": None, "run_timeout": None, "notebook": None, **options}
        columns, _ = self._columns(api, version, given, None)
        more: Row = {"config": submitted, "merged": merged, "schedule": row["name"]}
        if options.get("notify") is not None:
            more["notify"] = json.dumps(options["notify"])
        return {**columns, **more}

    # Helpers

    def _checked(self, request: ScheduleRequest, created: int, now: int, api_id: str | None = None) -> Row:
        """Return the columns of a schedule; raise where anything of it is invalid. ``api_id``: the version it runs."""
        for key, known in _CHOICES.items():
            if getattr(request, key) not in known:
                raise BadRequest(f"{key} must be {' or '.join(known)}, not {str(getattr(request, key))[:60]!r}")
        request = convert(asdict(request), ScheduleRequest)
        name = request.api if request.name is None else request.name
        check_name(name, "schedule")
        if name == "preview":
            raise BadRequest("a schedule can't be called preview, which a route is called: choose another name")
        config = None if request.config is None else plain_config(request.config)
        convert({"config": config, "timeout": request.timeout, "run_timeout": request.run_timeout}, Submission)
        attempts = check_attempts(request.retries, request.retry_on, request.retry_delay, request.priority)
        _check_number("max_late", request.max_late, _LEAST_LATE, _MOST_LATE, " seconds")
        _check_number("keep", request.keep, 1, _MOST_KEPT)
        if request.notify is not None:
            request.notify = self.names_to_notify(request.notify)
        times = Times(request.schedule, request.timezone, created)
        until = times.until(request.until)
        first = times.first(now, until)
        version = self._version(request.api, api_id)
        submitted, _ = Configs(request.api, version).texts(config)
        options = {**{key: getattr(request, key) for key in _OPTIONS}, **attempts}
        return {
            "name": name,
            "api_name": request.api,
            "api_id": version["api_id"] if request.pin else None,
            "schedule": times.schedule,
            "timezone": times.timezone,
            "config": submitted,
            "options": json.dumps({key: value for key, value in options.items() if value is not None}),
            "overlap": request.overlap,
            "catch_up": request.catch_up,
            "max_late": request.max_late,
            "until": until,
            "keep": request.keep,
            "active": int(request.active),
            "paused": None,
            "next": first if request.active else None,
            "due": first if request.active else None,
        }

    def _changed(self, row: Row, changes: Mapping[str, Any]) -> Row:
        """Return the columns of a schedule after some changes."""
        request = _request_of(row)
        for key, value in changes.items():
            setattr(request, key, value)
        pinned = row["api_id"] if request.pin and not {"pin", "api"} & changes.keys() else None
        columns = self._checked(request, row["created"], host.now_us(), pinned)
        if not row["active"] and not changes.get("active"):
            columns["paused"] = row["paused"]
        elif row["active"] and request.active and not _really_changed(row, columns):
            columns["next"] = columns["due"] = row["next"]
            if row["due"] > row["next"]:  # one that could not be submitted is tried again at once
                columns["due"] = max(row["next"] + 1, host.now_us())
        return columns

    def _schedule_row(self, name: str) -> Row:
        row = self.store.schedule(name) if readable.is_utf8(name) else None
        if row is None:
            raise self._no_schedule(name)
        return row

    def _no_schedule(self, name: str) -> ScheduleNotFound:
        near = difflib.get_close_matches(name[:63], [row["name"] for row in self.store.schedules()], 1)
        return ScheduleNotFound(name, *near)

    def _schedule_status(self, row: Row) -> ScheduleStatus:
        options = _options(row)
        known = {key: options.get(key) for key in _OPTIONS}
        last = self.store.last_attempt(row["last_job"]) if row["last_job"] else None
        try:
            config = readable.config(row["config"])
        except ValueError:
            config = None
        return ScheduleStatus(
            name=row["name"],
            api=row["api_name"],
            schedule=row["schedule"],
            timezone=row["timezone"],
            active=bool(row["active"]),
            explained=_explained(row["schedule"], row["timezone"]),
            config=config,
            **known,
            overlap=row["overlap"],
            catch_up=row["catch_up"],
            max_late=row["max_late"],
            until=_time(row["until"]),
            keep=row["keep"],
            api_id=row["api_id"],
            created_time=rfc3339(row["created"]),
            next_time=_time(row["next"]),
            last_job_id=row["last_job"],
            last_status=last["status"] if last else None,
            last_time=_time(row["last"]),
            misfires=row["misfires"],
            misfire=row["misfire"],
            misfire_time=_time(row["misfired"]),
            paused=row["paused"],
        )


def _really_changed(row: Row, columns: Row) -> bool:
    """Whether a schedule fires at other times than before."""
    return any(row[key] != columns[key] for key in _WHEN if key in row)


def _request_of(row: Row) -> ScheduleRequest:
    """Return what a schedule would be made of, as it is now."""
    return ScheduleRequest(
        api=row["api_name"],
        schedule=row["schedule"],
        name=row["name"],
        timezone=row["timezone"],
        config=readable.config(row["config"]),
        overlap=row["overlap"],
        catch_up=row["catch_up"],
        max_late=row["max_late"],
        until=_time(row["until"]),
        keep=row["keep"],
        pin=row["api_id"] is not None,
        active=bool(row["active"]),
        **_options(row),
    )


def _options(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["options"])
    return {key: value for key, value in found.items() if key in _OPTIONS}


def _time(us: int | None) -> str | None:
    return None if us is None else rfc3339(us)


@lru_cache(maxsize=2000)
def _explained(schedule: str, timezone: str) -> str:
    """Return how a schedule reads; nothing where this machine no longer knows its zone, or a time of it is past."""
    try:
        return Times(schedule, timezone).explained
    except BadRequest:
        return ""


def _check_number(name: str, value: float | None, least: int, most: int, unit: str = "") -> None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise BadRequest(f"{name} must be from {least} to {most}{unit}, not {value!r}")
