"""Schedules over HTTP: the part of the client of a Jupyter server that is about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import structs

from taskapi_jupyter.client.fallback import changes, reads
from taskapi_jupyter.core.contract import (
    JobSpec,
    Message,
    SchedulePreview,
    ScheduleRequest,
    SchedulesResponse,
    ScheduleStatus,
    encode,
)
from taskapi_jupyter.core.errors import ScheduleNotFound

from .api import ScheduleAPI

if TYPE_CHECKING:
    from taskapi_jupyter.client.http import Transport
    from taskapi_jupyter.client.job import Job


class RestSchedules(ScheduleAPI):
    """What :class:`Client` asks its server about schedules."""

    if TYPE_CHECKING:
        _http: Transport
        _needs: Callable[[str, object], None]
        from_kernel: Callable[[], Mapping[str, str]]
        _submitted: Callable[[JobSpec], Job]

    @changes
    def create_schedule(self, request: ScheduleRequest) -> ScheduleStatus:
        """Write a schedule; it is on the server's disk when this returns."""
        self._needs("schedules", True)
        given = {name: value for name, value in structs.asdict(request).items() if value is not None}
        return self._http.read(self._http.send("POST", "schedules", body=encode(given)), ScheduleStatus)

    @reads
    def schedules_response(self) -> SchedulesResponse:
        """Return all schedules, by name."""
        self._needs("schedules", True)
        return self._http.read(self._http.send("GET", "schedules"), SchedulesResponse)

    @reads
    def schedule_status(self, name: str) -> ScheduleStatus:
        """Return one schedule."""
        self._needs("schedules", True)
        return self._http.read(self._http.send("GET", _path(name)), ScheduleStatus)

    @changes
    def update_schedule(self, name: str, changes: Mapping[str, Any]) -> ScheduleStatus:
        """Change some keys of a schedule; those that are None take their default."""
        self._needs("schedules", True)
        return self._http.read(self._http.send("PATCH", _path(name), body=encode(dict(changes))), ScheduleStatus)

    @changes
    def delete_schedule(self, name: str) -> str:
        """Delete a schedule; its jobs stay."""
        self._needs("schedules", True)
        return self._http.read(self._http.send("DELETE", _path(name)), Message).message

    @changes
    def run_schedule(self, name: str) -> Job:
        """Submit a job of a schedule now."""
        self._needs("schedules", True)
        answer = self._http.send("POST", f"{_path(name)}/run", headers=self.from_kernel())
        return self._submitted(self._http.read(answer, JobSpec))

    @reads
    def preview_schedule(
        self, schedule: str, timezone: str | None = None, count: int = 5, until: str | None = None
    ) -> SchedulePreview:
        """Return how a schedule reads, and when it would fire next."""
        self._needs("schedules", True)
        query = {"cron": schedule, "tz": timezone, "n": count, "until": until}
        return self._http.read(self._http.send("GET", "schedules/preview", query), SchedulePreview)


def _path(name: str) -> str:
    if name in ("", ".", "..", "preview"):  # which would lead to another path
        raise ScheduleNotFound(name)
    return f"schedules/{quote(name, safe='')}"
