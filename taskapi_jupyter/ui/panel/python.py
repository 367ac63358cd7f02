"""Which Python runs a job, and the environment that it has its packages from: facts of an API and of a job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskapi_jupyter.client.taskapi import API, TaskAPI
from taskapi_jupyter.core.contract import BuiltEnvironment, Interpreter, JobStatus
from taskapi_jupyter.core.errors import APINotDeployed, TaskAPIError
from taskapi_jupyter.deploy.packages import NONE
from taskapi_jupyter.display.facts import absent_words, created, environment_words, updated
from taskapi_jupyter.display.formats import clean
from taskapi_jupyter.display.views import Cell, Fact


@dataclass(frozen=True)
class Runs:
    """What runs a task: a Python, its environment where that was built, and the version's ``spec``."""

    python: Interpreter
    built: BuiltEnvironment | None
    spec: Mapping[str, Any]

    def facts(self, since: datetime | None, absent: str, now: datetime) -> list[Fact]:
        """Return them as facts; ``absent`` is said of an environment that is not there."""
        python, built = self.python, self.built
        count = None if built is None else len(built.packages)
        words = environment_words(python, count, since, absent, now)
        version = clean(python.version or python.path, 200)
        needs = _requirements(self.spec) if built is None else built.requirements
        return [
            ("Python", Cell(f"{version} · {words}" if words else version, hint=clean(python.path, 300))),
            ("requirements", Cell(clean(", ".join(needs), 400) if python.key else "", "code")),
        ]


class RunsOfAPI:
    """Reads what runs the jobs of an API, which lists leave out: again after each deploy, and when its jobs move."""

    def __init__(self) -> None:
        self._seen: Any = None
        self._runs: Runs | None = None

    def read(self, api: TaskAPI, one: API) -> None:
        """Read it for an API as a list has it."""
        seen = (api, one.name, one.metadata, one.job_counts)
        if seen == self._seen:
            return
        with suppress(APINotDeployed):
            record = api.get(one.name)
            self._runs = _runs(api, record.python or None, record.spec or {})
        self._seen = seen

    def facts(self, one: API, now: datetime) -> list[Fact]:
        """Return the facts of the API that was read last; none for another one."""
        if self._runs is None or self._seen[1] != one.name:
            return []
        return self._runs.facts(updated(one), "built when its next job starts", now)


class RunsOfJob:
    """Reads what runs a job: again where its environment may have been built since."""

    def __init__(self) -> None:
        self._stage: Any = None
        self._runs: Runs | None = None

    def read(self, api: TaskAPI, job: JobStatus) -> None:
        """Read it for a job as a list has it."""
        progress = job.progress or None
        stage = (job.status, progress.message if progress else None)
        waits = self._runs is not None and self._runs.python.key and not self._runs.python.built
        if self._stage is None or (waits and stage != self._stage):
            self._stage = stage
            response = api.job_response(job.job_id, job.api_name)
            self._runs = _runs(api, response.job_status.python or None, response.api_spec)

    def facts(self, job: JobStatus, now: datetime) -> list[Fact]:
        """Return the facts of a job."""
        return [] if self._runs is None else self._runs.facts(created(job), absent_words(job), now)


def _runs(api: TaskAPI, python: Interpreter | None, spec: Mapping[str, Any]) -> Runs | None:
    if python is None:
        return None
    built = None
    if python.key and python.built:
        with suppress(TaskAPIError):  # what is known without is shown
            built = next((one for one in api.packages() if one.key == python.key), None)
    return Runs(python, built, spec)


def _requirements(spec: Mapping[str, Any]) -> list[str]:
    """Return the requirements of a version, as they were given."""
    definition = spec.get("definition")
    given = definition.get("requirements") if isinstance(definition, Mapping) else None
    return [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str) and one != NONE]
