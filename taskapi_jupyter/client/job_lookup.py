"""Which job a word means: a variable, ``last``, an id, its last digits, or ``API JOB`` in Cortex's order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskapi_jupyter.core.errors import GroupNotFound, JobNotFound, NotKept, Unavailable

from .groups.group import Group
from .taskapi import Job, JobList, TaskAPI

_ID = re.compile(r"[0-9a-f]{16}$")
_SUFFIX = re.compile(r"[0-9a-f]{4,15}$")
_PAGE = 500
SEARCHED = 5000  # jobs, from the newest on, among which the last digits of an id are looked for


class Unclear(ValueError):
    """Words that can't be understood; ``str()`` is the sentence for the user."""


class Unknown(Unclear):
    """A word that means no job."""


class Resolver:
    """Finds jobs in one environment, for one notebook (its path, where that is known)."""

    def __init__(self, api: TaskAPI, variables: Mapping[str, Any], notebook: str | None) -> None:
        self.api = api
        self.variables = variables
        self.notebook = notebook

    def one(self, words: Sequence[Any], api: str | None = None) -> Job:
        """Return the one job that the words mean, of one API where that is said."""
        jobs = self.many(words, api)
        if len(jobs) != 1:
            raise Unclear(f"give one job, not {len(jobs)}")
        return jobs[0]

    def many(self, words: Sequence[Any], api: str | None = None) -> list[Job]:
        """Return the jobs that the words mean, each once; without ``api`` the first word may be an API's name."""
        if not words:
            raise Unclear("which job? Give an id, its last four digits, `last`, or a variable that holds a job")
        first, *rest = words
        try:
            jobs = [job for word in words for job in self._of(word, api)]
        except Unknown:
            if api is not None or not rest or not isinstance(first, str) or self._means_job(first):
                raise
            jobs = [job for word in rest for job in self._of(word, first)]
        return list(dict.fromkeys(jobs))

    def groups(self, words: Sequence[Any]) -> list[Group]:
        """Return the groups that the words mean, each once; nothing where one of them means none."""
        found: list[Group] = []
        for word in words:
            group = self._group(word)
            if group is None:
                return []  # it may be a job; and the word before it, an API of the same name
            found.append(group)
        return list(dict.fromkeys(found))

    def _group(self, word: Any) -> Group | None:
        held = self.variables.get(word) if isinstance(word, str) else word
        if isinstance(held, Group):
            return held.refresh()
        if not isinstance(word, str) or held is not None or word == "last" or _ID.match(word) or _SUFFIX.match(word):
            return None
        try:
            return self.api.group(word)
        except (GroupNotFound, NotKept):
            return None
        except Unavailable:  # an older server, or one that is not at hand: what the word means as a job says so
            return None

    def last(self, api: str | None = None) -> Job:
        """Return the newest job that no other notebook submitted; the newest of all where there is none."""
        jobs = self.api.jobs(api, limit=100)
        if not jobs:
            raise Unclear("no job has been submitted yet" + (f" to {api}" if api else ""))
        return next((job for job in jobs if job.notebook in (None, self.notebook)), jobs[0])

    def _means_job(self, word: str) -> bool:
        try:
            return bool(self._of(word))
        except Unknown:
            return False

    def _of(self, word: Any, api: str | None = None) -> list[Job]:
        """Return the jobs that one word means, of one API if it is given."""
        held = self.variables.get(word) if isinstance(word, str) else word
        jobs = [held] if isinstance(held, Job) else held if isinstance(held, list | tuple) else []
        if isinstance(held, JobList) or (jobs and all(isinstance(job, Job) for job in jobs)):
            for job in jobs:
                if api is not None and job.api_name != api:
                    raise JobNotFound(job.id, api)
            return list(jobs)
        if not isinstance(word, str):
            raise Unclear(f"a value of type {type(word).__name__} is not a job")
        if word == "last":
            return [self.last(api)]
        if _ID.match(word):
            return [self._by_id(word, api)]
        if _SUFFIX.match(word):
            return [self._by_suffix(word, api)]
        raise Unknown(f"no job {shorten(word)}: give an id, its last four digits, or `last`")

    def _by_id(self, job_id: str, api: str | None) -> Job:
        response = self.api.job_response(job_id, api)
        if api is not None and response.job_status.api_name != api:
            raise JobNotFound(job_id, api)
        return Job(self.api, response.job_status, response.endpoint)

    def _by_suffix(self, suffix: str, api: str | None) -> Job:
        found = [job for job in self._newest(api, suffix) if job.id.endswith(suffix)]
        if len(found) > 1:
            raise Unclear(f"{suffix} may be any of {', '.join(job.id for job in found[:8])}; give more digits")
        if not found:
            raise Unknown(f"no job's id ends in {suffix}" + (f" among the jobs of {api}" if api else ""))
        return found[0]

    def _newest(self, api: str | None, text: str) -> Iterator[Job]:
        """Yield the newest jobs: those that mention a text, or, where the server is too old to search, all."""
        search = None if self.api.lacks("search") else text
        cursor, seen = None, 0
        while seen < SEARCHED:
            page = self.api.jobs(api, limit=_PAGE, cursor=cursor, search=search)
            yield from page
            seen, cursor = seen + (len(page) if page.searched is None else page.searched), page.next_cursor
            if not cursor:
                return


def shorten(value: object) -> str:
    """Quote a value for a sentence, on one line and not too long."""
    try:
        text = repr(value)
    except Exception:  # somebody's own __repr__, or a number that is too long to be written
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
