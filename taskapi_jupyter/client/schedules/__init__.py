"""Schedules: jobs of an API that are submitted again and again."""

from .api import ScheduleAPI, no_schedules

__all__ = ["ScheduleAPI", "no_schedules"]
