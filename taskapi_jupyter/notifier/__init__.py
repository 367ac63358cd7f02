"""Sends what waits in a home's outbox: a process of its own, which the supervisor starts when something is due."""

from __future__ import annotations


def main(home: str) -> None:
    """Send what is due in a home, then exit."""
