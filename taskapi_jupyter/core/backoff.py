"""Pauses that grow from one try to the next. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator


def backoff(first: float, longest: float, factor: float = 1.5) -> Iterator[float]:
    """Yield pauses in seconds without end: ``first``, each next one ``factor`` times as long, at most ``longest``."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, longest)
