"""What a ``TaskAPI`` does with schedules, which submit jobs of an API again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core.contract import SchedulePreview, ScheduleRequest, SchedulesResponse, ScheduleStatus
from taskapi_jupyter.core.errors import NotKept

if TYPE_CHECKING:
    from .job import Job


class ScheduleAPI:
    """The part of :class:`TaskAPI` that is about schedules."""

    environment: str

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
