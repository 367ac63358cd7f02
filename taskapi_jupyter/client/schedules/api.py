"""What a ``TaskAPI`` does with schedules: the verbs that people call, over a few that its environments answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

from msgspec import UNSET

from taskapi_jupyter.client.groups.configs import check_attempts
from taskapi_jupyter.client.headers import notebook_here
from taskapi_jupyter.core.contract import SchedulePreview, ScheduleRequest, SchedulesResponse, ScheduleStatus, convert
from taskapi_jupyter.core.errors import NotKept

from .options import plain_options
from .schedule import Schedule, ScheduleList

if TYPE_CHECKING:
    from taskapi_jupyter.client.job import Job
    from taskapi_jupyter.client.taskapi import TaskAPI


class ScheduleAPI:
    """The part of :class:`TaskAPI` that is about schedules."""

    environment: str

    def schedule(
        self,
        api: str,
        cron: str,
        *,
        config: Mapping[str, Any] | None = None,
        tz: str | None = None,
        name: str | None = None,
        timeout: int | None = None,
        run_timeout: int | None = None,
        retries: int | None = None,
        retry_on: Sequence[str] | str | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        overlap: str = "skip",
        catch_up: str = "last",
        max_late: float | str | timedelta | None = None,
        until: str | date | None = None,
        keep: int | None = None,
        notify: Sequence[str] | str | None = None,
        pin: bool = False,
        active: bool = True,
        replace: bool = False,
        notebook: str | None = None,
    ) -> Schedule:
        """Submit a job of an API at certain times from now on; the schedule is on disk when this returns.

        It fires without a kernel and without a Jupyter server, as long as the machine runs.

        Parameters
        ----------
        api
            The name of a deployed API. Each job runs the version that is deployed when it fires: see ``pin``.
        cron
            Five fields as in cron (six: seconds first), ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``,
            ``@yearly``, ``every 15m`` (10 s or more, counted from now), or ``at 2026-12-24T18:00``, once.
        config
            The config of each job.
        tz
            The name of a time zone, such as ``Europe/Berlin``; None (default): the server's.
        name
            A name that no other schedule has: a letter, then at most 62 letters, digits, ``-``, ``_`` or ``.``; None
            (default): the API's.
        timeout, run_timeout, retries, retry_on, retry_delay, priority
            Of each job: see :meth:`TaskAPI.submit`.
        overlap
            What happens where the last job has not ended: ``"skip"`` (default) submits none, ``"queue"`` one that
            waits for its end (at most one waits), ``"stop"`` stops it first, ``"allow"`` runs both.
        catch_up
            ``"last"`` (default): the newest firing that was missed, as while the machine was off, is made up for by
            one job, unless it is older than ``max_late``; ``"none"``: none is.
        max_late
            Seconds, or text such as ``"1h"``; None (default): one period, at most a day.
        until
            A date or a time in the schedule's zone after which it never fires, as text, ``date`` or ``datetime``; None
            (default): it goes on.
        keep
            How many ended jobs of it are kept, 1 or more; None (default): as config.yaml says for all.
        notify
            Names of notifications in config.yaml for each job: see :meth:`TaskAPI.submit`.
        pin
            True: run the version that is deployed now, also after the API is deployed again.
        active
            False: make it paused.
        replace
            True: replace a schedule of that name; otherwise that is a ``Conflict``.
        notebook
            The path of the notebook that makes it; None (default): this one.

        Returns
        -------
        Schedule
            The schedule.

        Raises
        ------
        APINotDeployed
            There is no API of that name.
        BadRequest
            A value can't be used, which the message names; or it would never fire.
        Conflict
            There is a schedule of that name.

        Examples
        --------
        >>> api.schedule("train", "0 6 * * MON-FRI", config={"lr": 0.1}, tz="Europe/Berlin")
        """
        options = plain_options(
            {
                "config": config,
                "timeout": timeout,
                "run_timeout": run_timeout,
                "max_late": max_late,
                "until": until,
                "notify": notify,
                "overlap": overlap,
                "catch_up": catch_up,
                **check_attempts(retries, retry_on, retry_delay, priority),
            }
        )
        given = {
            "api": api,
            "schedule": cron,
            "timezone": tz,
            "name": name,
            "keep": keep,
            "pin": pin,
            "active": active,
            "replace": replace,
            "notebook": notebook or notebook_here(),
        }
        wanted = {key: value for key, value in {**given, **options}.items() if value is not None}
        return Schedule(cast("TaskAPI", self), self.create_schedule(convert(wanted, ScheduleRequest)))

    def schedules(self) -> ScheduleList:
        """Return all schedules, by name; displayed as a table. ``["train"]`` of it is the one of that name."""
        found = self.schedules_response()
        hint = None if found.hint is UNSET else found.hint
        return ScheduleList([Schedule(cast("TaskAPI", self), one) for one in found.schedules], hint)

    # What environments answer; a Cortex cluster keeps none.

    def create_schedule(self, request: ScheduleRequest) -> ScheduleStatus:
        """Write a schedule; it is on disk when this returns."""
        raise no_schedules(self.environment)

    def schedules_response(self) -> SchedulesResponse:
        """Return all schedules, by name."""
        raise no_schedules(self.environment)

    def schedule_status(self, name: str) -> ScheduleStatus:
        """Return one schedule."""
        raise no_schedules(self.environment)

    def update_schedule(self, name: str, changes: Mapping[str, Any]) -> ScheduleStatus:
        """Change some keys of a schedule, named as in :class:`ScheduleRequest`, and return it."""
        raise no_schedules(self.environment)

    def delete_schedule(self, name: str) -> str:
        """Delete a schedule; its jobs stay. Return a message."""
        raise no_schedules(self.environment)

    def run_schedule(self, name: str) -> Job:
        """Submit a job of a schedule now, whatever its next time is and whether it is paused."""
        raise no_schedules(self.environment)

    def preview_schedule(
        self, schedule: str, timezone: str | None = None, count: int = 5, until: str | None = None
    ) -> SchedulePreview:
        """Return how a schedule reads, and when it would fire next: ``count`` times at most, 1 to 100."""
        raise no_schedules(self.environment)


def no_schedules(environment: str) -> NotKept:
    """Return the error of an environment without schedules."""
    return NotKept(f"environment {environment} is a Cortex cluster, which keeps no schedules: use cron, or another one")
