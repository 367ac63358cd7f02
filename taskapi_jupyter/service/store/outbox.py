"""What is to be sent of jobs, to whom, and what became of it. The supervisor imports it: no msgspec."""

from __future__ import annotations

from .connection import Connections


class Outbox(Connections):
    """The part of the store that is about notifications."""

    def next_delivery(self) -> int | None:
        """Return when (µs) something is to be sent next; None where nothing waits."""
        row = self._one("SELECT min(due) FROM outbox WHERE state = 'waiting'")
        return row[0] if isinstance(row[0], int) else None
