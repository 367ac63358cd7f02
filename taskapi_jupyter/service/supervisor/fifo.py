"""The FIFO ``wake`` of a home: writing to it makes the supervisor read the store. Standard library only."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from taskapi_jupyter.core.errors import Damaged
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths

_RETRY = 0.5  # seconds until a FIFO that could not be made is tried again


def poke(home: str, data: bytes = b"w") -> bool:
    """Write to the FIFO; return whether a supervisor has it open. With no data, only ask."""
    path = HomePaths(home).wake
    try:
        about = os.lstat(path)
        if not stat.S_ISFIFO(about.st_mode):  # what a copy of a home may have there; a supervisor replaces it
            return False
        if about.st_mode & 0o600 != 0o600 and about.st_uid == os.geteuid():
            os.chmod(path, 0o600)
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return False  # nobody reads it, or it is gone
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
        os.write(fd, data)
    except BlockingIOError:
        pass  # it has wakeups enough to come
    except BrokenPipeError:
        return False  # it closed it just now: it is leaving
    finally:
        os.close(fd)
    return True


def open_reader(home: str, say: Callable[[str], None]) -> int:
    """Open the supervisor's end of the FIFO, and make the FIFO where there is none; ``say`` gets what prevents it.

    Raise :class:`Damaged` where the home is gone.
    """
    path = HomePaths(home).wake
    while True:
        try:
            if os.path.lexists(path) and not stat.S_ISFIFO(mode := os.lstat(path).st_mode):
                (os.rmdir if stat.S_ISDIR(mode) else os.unlink)(path)
            if not os.path.lexists(path):
                os.mkfifo(path, 0o600)
                os.chmod(path, 0o600)  # whatever the umask is
            # Opened for writing too, so that it does not end when a writer leaves.
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if not os.path.isdir(home):
                raise Damaged(f"{home} is gone") from None
            say(f"can't make {path}: {error.strerror}")
            time.sleep(_RETRY)


def is_replaced(home: str, fd: int) -> bool:
    """Whether somebody removed the FIFO that we have open, or put something else in its place."""
    try:
        return not os.path.samestat(os.fstat(fd), os.lstat(HomePaths(home).wake))
    except FileNotFoundError:
        return os.path.isdir(home)
    except OSError:
        return False


def close_reader(fd: int) -> None:
    """Close the supervisor's end: who pokes from now on finds no reader and starts another supervisor."""
    os.close(fd)
    fault_point("supervisor.closed")


def drain(fd: int) -> None:
    """Read what there is."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
