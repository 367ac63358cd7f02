"""A Cortex cluster: how it is reached, its version, and its answer about one job, once that can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from taskapi_jupyter.client.http import Transport
from taskapi_jupyter.client.rest import Client, api_segment
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.contract import Environment, JobResponse, JobStatus
from taskapi_jupyter.core.errors import JobNotFound, TaskAPIError
from taskapi_jupyter.core.host import backoff
from taskapi_jupyter.core.states import JobCode

from . import answers
from .operator import RACE, Upstream

if TYPE_CHECKING:
    import requests
    from typing_extensions import Self

LONGEST_PAUSE = 1.0  # seconds between two requests about such a job

T = TypeVar("T")


class Cluster(Client):
    """The part of :class:`.client.CortexClient` that its logs need too."""

    provider = "cortex"
    poll_ceiling = 2.0  # seconds; a cluster looks at its jobs once a minute
    # It holds no answer.
    held_response, held_jobs, log_pauses = TaskAPI.held_response, TaskAPI.held_jobs, TaskAPI.log_pauses

    def __init__(self, base_url: str, token: str | None = None, *, environment: Environment) -> None:
        super().__init__(base_url, token, environment=environment.name, timeout=_patience(environment))
        self._begin(environment)

    @classmethod
    def direct(cls, upstream: Upstream, environment: Environment) -> Self:
        """Return a client of the operator itself, with the credentials that this machine has for it."""
        client = cls.__new__(cls)
        client._http = Transport(
            upstream.endpoint,
            verify=upstream.verify,
            timeout=upstream.timeout,
            sign=upstream.headers,
            cluster=upstream.name,
        )
        client.environment = environment.name
        client._begin(environment)
        return client

    def _begin(self, environment: Environment) -> None:
        self._about = environment
        self._server, self._asked_at = None, 0.0
        self._version: str | None = environment.version or None
        self._asked = bool(self._version)
        self._submissions: dict[str, tuple[float, JobStatus]] = {}  # ours, as long as a cluster may not list them
        self._api_of: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.environment} at {self.base_url}>"

    def lacks(self, feature: str) -> str | None:
        """Return None: what a cluster accepts does not depend on the Jupyter server."""
        return None

    def version(self) -> str | None:
        """Return the cluster's version; None where it does not tell."""
        if not self._asked:
            try:
                info = self._json(self._http.send("GET", "info"), dict)
                self._version = str(info["cluster_config"]["api_version"])
            except (TaskAPIError, KeyError, TypeError):
                pass
            self._asked = True
        return self._version

    def cluster_version(self) -> str | None:
        """Return the cluster's version, ``unknown`` where it does not tell."""
        return self.version() or "unknown"

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        """Return one job as the wire has it; a job submitted seconds ago is read until the cluster knows it."""
        answer = self._answer(job_id, api or self._find_api(job_id))
        return self._converted(answer, answers.response, self._json(answer, dict))

    def _answer(self, job_id: str, api: str) -> requests.Response:
        """Return the cluster's answer about a job, once it can be believed.

        Right after a submission a cluster may say that there is no such job, or that it failed; both are known races.
        """
        pauses = backoff(0.1, LONGEST_PAUSE)
        while True:
            try:
                answer = self._http.send("GET", f"tasks/{api_segment(api)}", {"jobID": job_id})
                status = self._converted(answer, answers.response, self._json(answer, dict)).job_status
                if status.code is not JobCode.UNEXPECTED_ERROR or not self._is_young(job_id):
                    return answer
            except JobNotFound:
                if not self._is_young(job_id):
                    raise
            time.sleep(next(pauses))

    def _is_young(self, job_id: str) -> bool:
        """True if a job was submitted moments ago: by this client, or by its id, which descends with time."""
        if ours := self._submissions.get(job_id):
            return time.monotonic() - ours[0] < RACE
        try:
            submitted = ((1 << 63) - 1 - int(job_id, 16)) / 1e9
        except ValueError:
            return False
        return abs(time.time() - submitted) < RACE

    def _find_api(self, job_id: str) -> str:
        if job_id not in self._api_of:
            self.jobs()
        if job_id not in self._api_of:
            raise JobNotFound(job_id)
        return self._api_of[job_id]

    def _name(self, job: Job | str) -> str:
        return self._find_api(job) if isinstance(job, str) else job.api_name

    # Answers

    def _json(self, answer: requests.Response, type_: type[T]) -> T:
        value: Any = self._http.read(answer, Any)
        if not isinstance(value, type_):
            raise self._http.foreign(answer)
        return value

    def _converted(self, answer: requests.Response, convert: Callable[[dict[str, Any]], T], raw: Any) -> T:
        try:
            return convert(raw)
        except (msgspec.ValidationError, KeyError, TypeError, AttributeError):
            raise self._http.foreign(answer) from None


def _patience(environment: Environment) -> float:
    """Return how long to wait for the proxy, which says itself when the cluster is slow."""
    return (environment.timeout or 30.0) + 5.0
