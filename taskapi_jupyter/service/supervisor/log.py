"""``supervisor.log``, which is a supervisor's standard error. Standard library only."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from taskapi_jupyter.core import files
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.service.store import database

_BOUND = 1 << 20  # bytes of supervisor.log, and as many of the one before


def say(text: str) -> None:
    """Write a line."""
    with suppress(OSError):  # no room for it: the supervisor goes on
        print(f"taskapi supervisor: {text}", file=sys.stderr, flush=True)  # noqa: T201


class Teller:
    """Writes a problem once, however often it is reported in a row."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, text: str) -> None:
        """Write a line, unless it is the one that was written last."""
        if self._said != text:
            self._said = text
            say(text)

    def forget(self) -> None:
        """Note that the problem is over: the next one is written, even if it is the same."""
        self._said = ""


def bound(home: str) -> None:
    """Begin a new supervisor.log where it has grown long; the one before is kept."""
    path = HomePaths(home).log
    try:
        if os.lstat(path).st_size <= _BOUND:
            return
        os.rename(path, f"{path}.1")
        log = files.create(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 2)
        os.close(log)
    except OSError:
        pass


def warn_of_network(home: str) -> None:
    """Write once, where a home lies on a network file system, what that means."""
    text = database.of_network(home)
    if text is None:
        return
    try:
        if text.encode("utf-8", "replace") in files.read(HomePaths(home).log, 2 * _BOUND):
            return
    except OSError:
        pass
    say(text)
