"""The bell of a home: a file that is written after each commit, which wakes whoever waits for a change.

Standard library only. A ring may be lost (its writer was killed after the commit, or is of a version before 0.4.0), so
whoever waits also looks now and then.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from taskapi_jupyter.core.paths import HomePaths

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def ring(home: str) -> None:
    """Wake everybody who listens in ``home``. What prevents it, such as a full disk or a FIFO there, is ignored."""
    with suppress(OSError):
        fd = os.open(HomePaths(home).bell, _FLAGS, 0o600)
        try:
            about = os.fstat(fd)
            if stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid():
                os.pwrite(fd, b"!", 0)
        finally:
            os.close(fd)
