"""Sends what waits in a home's outbox: a process of its own, which the supervisor starts when something is due."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress

from taskapi_jupyter.core import files, guard
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.paths import HomePaths


def main(home: str, everything: bool = False) -> None:
    """Send what is due in a home, or with ``everything`` all that waits, then exit; nothing where another one does."""
    try:
        guard.check(home)
        fd = lock(home)
        if fd is None:
            return
        os.nice(10)
        from .sending import Sending

        Sending(home).run(everything=everything)
    except (TaskAPIError, OSError) as error:
        print(f"taskapi notifier: {error}", file=sys.stderr, flush=True)  # noqa: T201  (into supervisor.log)
    sys.stderr.flush()
    os._exit(0)  # an attempt that was given up may still wait for its answer


def lock(home: str) -> int | None:
    """Return the descriptor that holds a home's lock, None where another process has it."""
    fd = files.create(HomePaths(home).notifier_lock, os.O_RDWR)
    with suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    os.close(fd)
    return None
