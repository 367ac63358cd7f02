"""Disk space and descriptors: whether a job has enough to begin, and messages. Standard library only."""

from __future__ import annotations

import errno
import os

from . import files
from .errors import Unavailable

#: What a job needs to begin: inodes for its folder and the files in it, and bytes.
_INODES, _BYTES = 8, 32 << 10


def obstacle(folder: str | os.PathLike[str]) -> OSError | None:
    """Return the error that a job beginning in a folder would meet, as far as its file system tells; None for none."""
    try:
        there = os.statvfs(folder)
    except OSError:
        return None
    if there.f_flag & os.ST_RDONLY:
        return OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(folder))
    root = os.geteuid() == 0  # root may use the reserved blocks
    # A file system without a limit reports 0 in total.
    if there.f_files and (there.f_ffree if root else there.f_favail) < _INODES:
        return OSError(errno.ENOSPC, "No inode left on device", os.fspath(folder))
    if there.f_blocks and (there.f_bfree if root else there.f_bavail) * there.f_frsize < _BYTES:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(folder))
    return None


def no_space(folder: str, error: OSError | None = None) -> Unavailable:
    """Return the error for a full disk."""
    found = error or obstacle(folder)
    what = f"no space is left for {folder}"
    if found is not None and found.errno == errno.EDQUOT:
        what = f"no space is left for {folder}: your quota of its disk is used up"
    elif found is not None and found.strerror != os.strerror(errno.ENOSPC):
        what = f"no space is left for {folder}: its disk has bytes, and no inode for another file"
    return Unavailable(
        f"{what}: free some on its disk (`jupyter taskapi jobs purge` deletes ended jobs), or "
        "set TASKAPI_HOME to a folder on another one",
        status=507,
    )


def cannot_write(path: str, error: OSError) -> Unavailable:
    """Return the error for a file or folder that can't be written, or for descriptors or memory that ran out."""
    if error.errno == errno.ENOSPC:
        return no_space(path)
    if error.errno == errno.EDQUOT:
        return no_space(path, error)
    if error.errno in (*files.NO_DESCRIPTOR, errno.EAGAIN, errno.ENOMEM):
        more = " (`ulimit -n` says how many it may)" if error.errno == errno.EMFILE else ""
        return Unavailable(
            f"can't use {path}: {error.strerror} for this process{more}; close some of what runs, try again"
        )
    if error.errno == errno.EROFS:
        return Unavailable(
            f"can't write {path}: its file system is read-only; mount it to be written, or set TASKAPI_HOME to "
            "another folder"
        )
    return Unavailable(f"can't write {path}: {error.strerror}; make it writable, or set TASKAPI_HOME to another folder")


def as_told(error: BaseException | None) -> Unavailable | None:
    """Return a system error that may go away as :class:`Unavailable`; None for any other."""
    if isinstance(error, OSError) and error.errno in files.PASSING:
        return cannot_write(os.fspath(error.filename or "this machine's files"), error)
    return None


def check_room(folder: str) -> None:
    """Raise :class:`Unavailable` where it is known that a job could not begin in a folder."""
    error = obstacle(folder)
    if error is not None:
        raise cannot_write(folder, error)
