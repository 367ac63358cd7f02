"""Schedules of an environment that keeps none, though its client speaks a protocol that has them."""

from __future__ import annotations

from .api import ScheduleAPI


class UnkeptSchedules(ScheduleAPI):
    """Refuses each with a sentence; it stands before a class that would ask a server."""

    create_schedule = ScheduleAPI.create_schedule
    schedules_response = ScheduleAPI.schedules_response
    schedule_status = ScheduleAPI.schedule_status
    update_schedule = ScheduleAPI.update_schedule
    delete_schedule = ScheduleAPI.delete_schedule
    run_schedule = ScheduleAPI.run_schedule
    preview_schedule = ScheduleAPI.preview_schedule
