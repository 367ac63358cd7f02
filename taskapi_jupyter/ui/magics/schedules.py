"""What ``%taskapi schedule`` does: make a schedule, or show, change, run or delete one."""

from __future__ import annotations

from typing import Any

from taskapi_jupyter.client.job_lookup import shorten
from taskapi_jupyter.client.schedules.schedule import Schedule
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.contract import SchedulePreview
from taskapi_jupyter.core.errors import BadRequest, NotKept
from taskapi_jupyter.display.schedules import times_html, times_text
from taskapi_jupyter.ui.verbs import ACTIONS, NEXT, OF_ATTEMPTS, OF_SCHEDULES, WAIT

from .line import Line, LineError
from .show import say

_MADE = (*(one.key for one in (*OF_ATTEMPTS, *OF_SCHEDULES)), "timeout", "run_timeout")


class Times:
    """Times of a schedule, one a line."""

    def __init__(self, preview: SchedulePreview) -> None:
        self.preview = preview

    def __repr__(self) -> str:
        return times_text(self.preview)

    def _repr_html_(self) -> str:
        return times_html(self.preview)


def is_about_one(read: Line) -> bool:
    """Whether a line names a schedule that there is; it makes one where it says when that is to fire."""
    if not read.words:
        raise LineError("schedule needs an API and when, or the name of a schedule", read.verb)
    if len(read.words) > 1:
        if given := [one.name for one in (*ACTIONS, WAIT) if one.key in read.options]:
            raise LineError(f"{given[0]} is for a schedule that there is: give its name alone", read.verb)
        return False
    given = [
        one.name for one in read.verb.every_option if one.key in read.options and one not in (*ACTIONS, NEXT, WAIT)
    ]
    if given or read.config:
        what = given[0] if given else next(iter(read.config))
        raise LineError(f'{what} goes with when it fires, such as "0 6 * * *", @daily or every 15m', read.verb)
    return True


def when_of(read: Line) -> str:
    """Return when a line says that a schedule fires, quoted or as words of their own."""
    return " ".join(str(word) for word in read.words[1:])


def preview(api: TaskAPI, read: Line) -> Times | None:
    """Return the next times of a schedule that a line would make; None where it makes one."""
    count, options = read.options.get(NEXT.key), read.options
    if count is None:
        return None
    return Times(api.preview_schedule(when_of(read), options.get("tz"), count, options.get("until")))


def make(api: TaskAPI, name: str, read: Line, config: dict[str, Any] | None, notebook: str | None) -> Schedule:
    """Make the schedule of a line."""
    options = {key: read.options[key] for key in _MADE if key in read.options}
    try:
        return api.schedule(name, when_of(read), config=config, notebook=notebook, **options)
    except NotKept as error:  # where nothing was made, that is a failure
        raise BadRequest(str(error)) from None


def act(api: TaskAPI, read: Line) -> Schedule | Job | Times | None:
    """Do what a line says with a schedule that there is, or show it."""
    name, options = str(read.words[0]), read.options
    given = [one for one in (*ACTIONS, NEXT) if one.key in options]
    if len(given) > 1:
        raise LineError(f"give one of {' and '.join(one.name for one in given)}", read.verb)
    if WAIT.key in options and "run" not in options:
        raise LineError("--wait goes with --run", read.verb)
    schedule = Schedule(api, api.schedule_status(name))
    if "next" in options:
        return Times(schedule.preview(options["next"]))
    if "delete" in options:
        say([schedule.delete()])
        return None
    if "run" in options:
        job = schedule.run()
        return job.wait().check() if options.get("wait") else job
    if "pause" in options:
        return schedule.pause()
    return schedule.resume() if "resume" in options else schedule


def check_words(read: Line) -> None:
    """Raise where ``schedules`` is given more than it takes."""
    if read.words:
        raise LineError(f"unexpected {shorten(read.words[0])}; one schedule: %taskapi schedule NAME", read.verb)
