"""What the magic shows and prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from IPython.display import display

from taskapi_jupyter.contract import API, DeployResult, EnvironmentsResponse, TaskAPI
from taskapi_jupyter.display import deploy_html, deploy_text, environments_html, environments_text
from taskapi_jupyter.display.formats import size
from taskapi_jupyter.errors import NotKept
from taskapi_jupyter.jobs import BaseTaskAPI, Job, JobList
from taskapi_jupyter.states import IN_PROGRESS

SHOWN_LOG = 1 << 20  # bytes of a log that are printed unless more lines are asked for
WATCH_PAUSE = 1.0  # seconds between two pictures of --watch


class Deployed(list[DeployResult]):
    """What a deploy did, with warnings of the notebook's own."""

    def __init__(self, results: Iterable[DeployResult], warnings: Iterable[str] = ()) -> None:
        super().__init__(results)
        self.warnings = list(warnings)

    @property
    def has_warnings(self) -> bool:
        """Say whether there is anything to warn of."""
        return bool(self.warnings) or any(result.warnings for result in self)

    def __repr__(self) -> str:
        return deploy_text(self, self.warnings)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        return deploy_html(self, self.warnings)


class EnvironmentList(EnvironmentsResponse):
    """The environments, as a table."""

    def __repr__(self) -> str:
        return environments_text(self.environments, self.default_environment)

    def _repr_html_(self) -> str:
        return environments_html(self.environments, self.default_environment)


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201


def pieces(api: TaskAPI, job: Job, tail: int | None) -> Iterable[str]:
    """Return a log as it grows; a line that is rewritten comes at once where the API can do that."""
    if isinstance(api, BaseTaskAPI):
        return api.stream(job, tail)
    return (line + "\n" for line in api.logs(job, tail, follow=True))


def print_log(api: TaskAPI, job: Job) -> None:
    """Print a log, of a long one the newest part."""
    try:
        chunk = api.log_chunk(job, -SHOWN_LOG, SHOWN_LOG)
    except NotKept:  # a cluster has no parts of logs, but what its job logged
        sys.stdout.write(api.logs(job))
        return
    if chunk.size == 0:
        say([f"({job.id} has written nothing)"])
    elif chunk.offset <= 0:
        sys.stdout.write(api.logs(job))
    else:
        text = chunk.data.decode("utf-8", "replace").partition("\n")[2]
        say([f"(the last {size(SHOWN_LOG)} of {size(chunk.size)}; job.logs() returns all)"])
        sys.stdout.write(text)


def watch(look: Callable[[], Any]) -> None:
    """Show something anew each second until nothing in it is in progress, or until interrupted."""
    handle, drawn = None, ""
    with suppress(KeyboardInterrupt):
        while True:
            view = look()
            if handle is None:
                handle = display(view, display_id=True)
            elif repr(view) != drawn:
                handle.update(view)
            drawn = repr(view)
            if not _moving(view):
                return
            time.sleep(WATCH_PAUSE)


def _moving(view: API | Job | JobList) -> bool:
    if isinstance(view, Job):
        return not view.ended
    records = view.task_job_statuses if isinstance(view, API) else [job.record for job in view]
    return any(record.code in IN_PROGRESS for record in records)
