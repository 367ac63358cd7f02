"""Stops of several jobs, for magics and terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import JobNotFound, JobNotInProgress, TaskAPIError
from taskapi_jupyter.core.states import IN_PROGRESS

Say = Callable[[list[str]], None]


def stop(api: TaskAPI, jobs: Iterable[Job], say: Say) -> None:
    """Stop jobs at the same time, and say the messages; raise the first error when all are done."""
    _each(api.stop, jobs, say)


def stop_all(api: TaskAPI, of: str | None, say: Say) -> None:
    """Stop all jobs in progress, of one API where that is given; those that end just then are no errors."""
    if not _each(api.stop, _in_progress(api, of), say, (JobNotInProgress, JobNotFound)):
        say(["no jobs are in progress"])


def _in_progress(api: TaskAPI, of: str | None) -> list[Job]:
    jobs: list[Job] = []
    cursor = None
    while True:
        page = api.jobs(of, [code.value for code in IN_PROGRESS], 1000, cursor)
        jobs += page
        cursor = page.next_cursor
        if not cursor:
            return jobs


def _each(
    do: Callable[[Job], str], jobs: Iterable[Job], say: Say, forgive: tuple[type[Exception], ...] = ()
) -> list[str]:
    def one(job: Job) -> str | TaskAPIError:
        try:
            return do(job)
        except TaskAPIError as error:
            return error

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, jobs))
    said = [answer for answer in answers if isinstance(answer, str)]
    if said:
        say(said)
    for answer in answers:
        if isinstance(answer, TaskAPIError) and not isinstance(answer, forgive):
            raise answer
    return said
