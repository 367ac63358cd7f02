"""What people hold of a schedule: when it fires, its last job, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from taskapi_jupyter.core.contract import SchedulePreview, ScheduleStatus
from taskapi_jupyter.core.errors import BadRequest, JobNotFound
from taskapi_jupyter.display import clean, moment
from taskapi_jupyter.display import schedules as display

from .options import plain_options

if TYPE_CHECKING:
    from IPython.lib.pretty import PrettyPrinter

    from taskapi_jupyter.client.job import Job, JobList
    from taskapi_jupyter.client.taskapi import TaskAPI

MOST_TIMES = 100  # of one schedule at once

_NAMES = {"cron": "schedule", "tz": "timezone"}  # short names for keys of a request


class Schedule:
    """A schedule, which submits a job of an API at certain times, whether or not a kernel or a server runs.

    What it says is as of the last read: :meth:`refresh` reads it again. Displayed in a notebook, it is a card.

    All methods raise :class:`~taskapi_jupyter.core.errors.TaskAPIError` or a subclass: ``NotFound`` for a schedule that
    was deleted, ``Unreachable`` where its server does not answer.

    Examples
    --------
    >>> nightly = taskapi_jupyter.connect().schedule("train", "0 6 * * MON-FRI", config={"lr": 0.1}, tz="Europe/Berlin")
    >>> nightly.next(2)
    [datetime.datetime(2026, 12, 1, 6, 0, ...), datetime.datetime(2026, 12, 2, 6, 0, ...)]
    """

    def __init__(self, api: TaskAPI, record: ScheduleStatus) -> None:
        self.api = api
        self.record = record  #: the schedule as the wire has it, as last read

    @property
    def name(self) -> str:
        """Its name; by default that of its API."""
        return self.record.name

    @property
    def api_name(self) -> str:
        """The name of the API whose jobs it submits."""
        return self.record.api

    @property
    def cron(self) -> str:
        """When it fires, as it was given: cron, ``@daily``, ``every 15m`` or ``at 2026-12-24T18:00``."""
        return self.record.schedule

    @property
    def tz(self) -> str:
        """The name of the time zone that its times are in."""
        return self.record.timezone

    @property
    def config(self) -> dict[str, Any]:
        """The config of its jobs."""
        return dict(self.record.config or {})

    @property
    def active(self) -> bool:
        """Whether it fires: it is neither paused nor at its end."""
        return self.record.active

    @property
    def explained(self) -> str:
        """When it fires, in words: ``At 06:00 on Monday through Friday (Europe/Berlin)``."""
        return display.when_words(self.record)

    @property
    def state(self) -> str:
        """When it fires next, in words: ``next in 3 h``, ``paused`` or ``over``."""
        return display.next_words(self.record)

    @property
    def last_job(self) -> Job | None:
        """The newest job that it submitted, or that :meth:`run` did; None where there is none, or it was deleted."""
        job_id = self.record.last_job_id
        if not job_id:
            return None
        try:
            return self.api.get(self.record.api, job_id)
        except JobNotFound:
            return None

    def next(self, count: int = 5) -> list[datetime]:
        """Return the next times at which it fires, in its time zone; of a paused one, those that it would fire at.

        Parameters
        ----------
        count
            How many at most, 1 to 100; fewer where it ends before.
        """
        if not 1 <= count <= MOST_TIMES:
            raise BadRequest(f"the number of times must be from 1 to {MOST_TIMES}, not {count!r}")
        record = self.record
        due = moment(record.next_time)
        if due is None and (record.active or display.is_over(record)):
            return []
        if due is not None and record.schedule.lower().startswith("every"):
            return self._every(due, count)
        found = self.api.preview_schedule(record.schedule, record.timezone, count, record.until)
        return [when for text in found.times if (when := moment(text)) is not None]

    def preview(self, count: int = 5) -> SchedulePreview:
        """Return the same as :meth:`next`, as the wire has a preview."""
        record, times = self.record, [when.isoformat() for when in self.next(count)]
        return SchedulePreview(schedule=self.cron, timezone=self.tz, explained=record.explained, times=times)

    def _every(self, due: datetime, count: int) -> list[datetime]:
        """Return times from ``due`` on; a preview counts from now, and this one from its own beginning."""
        from taskapi_jupyter.deploy.times import US, moment_of, zone_of

        zone = zone_of(self.tz)
        found = self.api.preview_schedule(self.cron, self.tz, max(count, 2))
        times = [when for text in found.times if (when := moment(text)) is not None]
        last = None if self.record.until is None else moment_of(self.record.until, zone, "until", whole_day=True) / US
        shifted = [(due + (when - times[0])).astimezone(zone) for when in times[:count]]
        return [when for when in shifted if last is None or when.timestamp() <= last]

    def jobs(self, limit: int = 50, cursor: str | None = None) -> JobList:
        """Return the jobs that it submitted, newest first, at most ``limit``: see :meth:`TaskAPI.jobs`."""
        return self.api.jobs(schedule=self.name, limit=limit, cursor=cursor)

    def refresh(self) -> Schedule:
        """Read it again, and return it."""
        self.record = self.api.schedule_status(self.name)
        return self

    def pause(self) -> Schedule:
        """Have it fire no more, until it is resumed; jobs that it has submitted go on. Return the schedule."""
        return self.update(active=False)

    def resume(self) -> Schedule:
        """Have it fire again from now on; what it missed is not made up for. Return the schedule."""
        return self.update(active=True)

    def run(self) -> Job:
        """Submit a job of it now, whatever its next time is and whether it is paused, and return the job."""
        return self.api.run_schedule(self.name)

    def update(self, **changes: Any) -> Schedule:
        """Change some of what :meth:`TaskAPI.schedule` takes, by the same names, and return the schedule.

        Where the times change, they count from now.

        Raises
        ------
        BadRequest
            A name is unknown, or a value can't be used.

        Examples
        --------
        >>> nightly.update(cron="0 7 * * MON-FRI", max_late="2h")
        """
        given = {_NAMES.get(name, name): value for name, value in changes.items()}
        if len(given) < len(changes):
            raise BadRequest("cron and schedule are one key, as are tz and timezone: give one of them")
        self.record = self.api.update_schedule(self.name, plain_options(given))
        return self

    def delete(self) -> str:
        """Delete it, and return the server's message; its jobs stay."""
        return self.api.delete_schedule(self.name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.name, self.api.environment) == (other.name, other.api.environment)

    def __hash__(self) -> int:
        return hash((self.name, self.api.environment))

    def __repr__(self) -> str:
        return f"<Schedule {clean(self.name, 80)} of {clean(self.api_name, 80)}: {self.explained}, {self.state}>"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(display.schedule_text(self.record))

    def _repr_html_(self) -> str:
        return display.schedule_html(self.record)


class ScheduleList(list[Schedule]):
    """Schedules by name, displayed as a table; a name stands for an index, too: ``schedules["train"]``."""

    def __init__(self, schedules: Iterable[Schedule] = (), hint: str | None = None) -> None:
        super().__init__(schedules)
        self.hint = hint  #: whether they survive a reboot of their machine; None where that is unknown

    @overload
    def __getitem__(self, which: SupportsIndex | str) -> Schedule: ...
    @overload
    def __getitem__(self, which: slice) -> list[Schedule]: ...
    def __getitem__(self, which: SupportsIndex | slice | str) -> Schedule | list[Schedule]:
        if not isinstance(which, str):
            return super().__getitem__(which)
        for one in self:
            if one.name == which:
                return one
        raise KeyError(which)

    def __repr__(self) -> str:
        return display.schedules_text([one.record for one in self], self.hint)

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        return display.schedules_html([one.record for one in self], self.hint)
