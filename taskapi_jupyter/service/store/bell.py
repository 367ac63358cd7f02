"""The bell of a home: a file that is written after each commit, which wakes whoever waits for a change.

Standard library only. A ring may be lost (its writer was killed after the commit, or is of a version before 0.4.0), so
whoever waits also looks now and then.
"""

from __future__ import annotations

import os
from contextlib import suppress

from taskapi_jupyter.core import files
from taskapi_jupyter.core.paths import HomePaths


def ring(home: str) -> None:
    """Wake everybody who listens in ``home``. What prevents it, such as a full disk or a FIFO there, is ignored."""
    with suppress(OSError):
        fd = files.create(HomePaths(home).bell, os.O_WRONLY)
        try:
            os.pwrite(fd, b"!", 0)
        finally:
            os.close(fd)
