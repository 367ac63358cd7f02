"""A kernel that is kept after a failure: its place among those of the home, and what is asked of it. Standard library
only.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import Any

RESUME, END = "resume", "end"


class Kept:
    """The connection file that others find while a kernel is kept; the lock on it says that its runner lives."""

    def __init__(self, home: str, job_id: str) -> None:
        self.folder = os.path.join(home, "kernels")
        self.path = os.path.join(self.folder, f"kernel-{job_id}.json")
        self.lock: int | None = None

    def take(self, connection: dict[str, Any], most: int) -> bool:
        """Put the file there, unless ``most`` kernels of the home are kept already; raise OSError where it can't be."""
        with suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # one runner counts at a time
            if sum(map(self._is_kept, os.listdir(folder))) >= most:
                return False
            part = os.path.join(self.folder, "." + os.path.basename(self.path))
            with suppress(FileNotFoundError):
                os.unlink(part)
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self.lock = fd
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, json.dumps(connection).encode())
            os.rename(part, self.path)
            return True
        finally:
            os.close(folder)

    def _is_kept(self, name: str) -> bool:
        """Whether a file is that of a living runner; that of a dead one is removed."""
        path = os.path.join(self.folder, name)
        if not name.startswith("kernel-"):
            return False
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def leave(self) -> None:
        """Take the file away."""
        with suppress(OSError):
            os.unlink(self.path)
        if self.lock is not None:
            os.close(self.lock)
        self.lock = None


def asked(path: str) -> str:
    """Return what is asked of a kept kernel, ``resume`` or ``end``, and forget it; nothing where nothing is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        word = file.read(64).decode("ascii", "replace").strip()
    if not word:  # it is being written
        return ""
    with suppress(OSError):
        os.unlink(path)
    return word if word in (RESUME, END) else ""
