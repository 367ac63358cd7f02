"""What the magic shows and prints."""

from __future__ import annotations

import dis
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from IPython.display import display

from taskapi_jupyter.client.groups.group import Group
from taskapi_jupyter.client.headers import waiting
from taskapi_jupyter.client.log_reader import SHOWN, live, newest, newest_text, text
from taskapi_jupyter.client.log_reader import tail as last
from taskapi_jupyter.client.schedules.schedule import Schedule
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.core.contract import BuiltEnvironment, DeployResult, EnvironmentsResponse
from taskapi_jupyter.core.errors import NotKept, size
from taskapi_jupyter.core.states import IN_PROGRESS
from taskapi_jupyter.display import clean, deploy_html, deploy_text, environments_html, environments_text
from taskapi_jupyter.display.packages import environment_html, environment_text
from taskapi_jupyter.display.screen import rewritten

PIECE = 1 << 16  # characters that are printed at once
WATCH_PAUSE = 1.0  # seconds between two refreshes of --watch


class Deployed(list[DeployResult]):
    """The results of a deploy, with warnings on the notebook."""

    def __init__(self, results: Iterable[DeployResult], warnings: Iterable[str] = ()) -> None:
        super().__init__(results)
        self.warnings = list(warnings)

    @property
    def has_warnings(self) -> bool:
        """Whether there is a warning."""
        return bool(self.warnings) or any(result.warnings for result in self)

    def __repr__(self) -> str:
        return deploy_text(self, self.warnings)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        return deploy_html(self, self.warnings)


class EnvironmentList(EnvironmentsResponse):
    """The environments as a table, and below it what this kernel uses."""

    facts: dict[str, str] = {}

    def __repr__(self) -> str:
        return environments_text(self.environments, self.default_environment, self.facts)

    def _repr_html_(self) -> str:
        return environments_html(self.environments, self.default_environment, self.facts)


class EnvironmentCard(BuiltEnvironment):
    """An environment of packages, one fact a line."""

    def __repr__(self) -> str:
        return environment_text(self)

    def _repr_html_(self) -> str:
        return environment_html(self)


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201


def in_lines(value: Any) -> list[str]:
    """Return what is printed of a deploy or a submission whose value is not displayed."""
    if isinstance(value, Group):
        jobs = f"{len(value):,} job{'' if len(value) == 1 else 's'}"
        done = f": {value.summary}" if value.ended else ""
        return [f"submitted {value.called} of {clean(value.api_name)}, {jobs}{done}"]
    if isinstance(value, Schedule):
        return [f"schedule {clean(value.name)} of {clean(value.api_name)}: {value.explained}, {value.state}"]
    if value is None:
        return []
    if not isinstance(value, Job):
        return repr(value).splitlines()
    job = f"job {clean(value.id)} of {clean(value.api_name)}"
    return [f"{job}: {value.seen.code.label}" if value.seen_ended else f"submitted {job}"]


def is_dropped(user_ns: Mapping[str, Any]) -> bool:
    """Whether the statement of the notebook that called this magic drops its value: it is neither displayed nor kept.

    That is so for a statement that is not the last of its cell, and for all in a script that IPython runs. It is read
    from the statement's bytecode, as IPython has no way to ask which statements it displays.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in ("run_line_magic", "run_cell_magic"):
        frame = frame.f_back  # type: ignore[assignment]
    caller = frame.f_back if frame is not None else None
    if caller is None or caller.f_globals is not user_ns:
        return False  # called by other code, which gets the value
    after = (one.opname for one in dis.get_instructions(caller.f_code) if one.offset > caller.f_lasti)
    return next(after, "") == "POP_TOP"


class Printer:
    """Prints slowly enough for a Jupyter server, which drops output of more than 1 MB/s over 3 s."""

    rate = 400_000  # bytes a second that are printed over a long time
    burst = 1_200_000  # bytes that are printed at once after a pause

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room, self._at = float(self.burst), time.monotonic()

    def write(self, text: str) -> None:
        """Print text, with pauses where needed."""
        for begin in range(0, len(text), PIECE):
            piece = text[begin : begin + PIECE]
            time.sleep(self._turn(len(json.dumps(piece, ensure_ascii=False).encode("utf-8", "replace"))))
            sys.stdout.write(piece)
            sys.stdout.flush()

    def _turn(self, size: int) -> float:
        """Return how long to wait before so many bytes are printed."""
        with self._lock:
            now = time.monotonic()
            self._room = min(self._room + (now - self._at) * self.rate, self.burst) - size
            self._at = now
            return max(-self._room / self.rate, 0.0)


printer = Printer()  # of this kernel


def follow_log(api: TaskAPI, job: Job, tail: int | None) -> None:
    """Print a log as it grows, from the newest part on; skip to the newest part where it grows faster than that."""
    with waiting():
        for piece in live(api.stream(job, tail, SHOWN, skip=True)):
            printer.write(piece)


def print_log(api: TaskAPI, job: Job, tail: int | None = None) -> None:
    """Print a log or its last lines; the newest part of a long one, and progress bars in their last state."""
    fetch = partial(api.log_chunk, job)
    try:
        data, missing, end = newest(fetch, SHOWN) if tail is None else last(fetch, tail, SHOWN)
    except NotKept:  # a cluster has no parts of logs
        printer.write(rewritten(newest_text(api.logs(job, tail))))
        return
    if missing:
        say([f"(the last {size(SHOWN)} of {size(end)}; job.logs() returns all)"])
    elif not end and tail is None:
        say([f"(job {job.id} has written nothing)"])
    printer.write(text(data))


def watch(show: Callable[[], Any]) -> None:
    """Refresh something each second until nothing in it is in progress, or until interrupted."""
    handle, drawn = None, ""
    with suppress(KeyboardInterrupt):
        while True:
            view = show()
            if handle is None:
                handle = display(view, display_id=True)
            elif repr(view) != drawn:
                handle.update(view)
            drawn = repr(view)
            if not _moving(view):
                return
            time.sleep(WATCH_PAUSE)


def _moving(view: API | Job | JobList | Group) -> bool:
    if isinstance(view, Job | Group):
        return not view.ended
    records = view.task_job_statuses if isinstance(view, API) else [job.record for job in view]
    return any(record.code in IN_PROGRESS for record in records)
