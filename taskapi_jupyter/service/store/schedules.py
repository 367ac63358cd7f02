"""The rows of schedules. The supervisor imports it: no msgspec."""

from __future__ import annotations

from .connection import Connections


class Schedules(Connections):
    """The part of the store that is about schedules."""

    def next_firing(self) -> int | None:
        """Return when (µs) the first active schedule is to be looked at; None where there is none."""
        row = self._one("SELECT min(due) FROM schedules WHERE active = 1 AND due IS NOT NULL")
        return row[0] if isinstance(row[0], int) else None
