"""The claim of a job: the first watcher to link its locked file to ``jobs/<id>/claim`` runs the job; others exit.

The lock on it says whether that watcher lives. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress

from taskapi_jupyter.core import files, folders, process
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths, JobPaths

GIVEN_BACK = "claim.given-back"  # the name of a claim whose watcher could not begin, and left

_EMPTY = "claim.empty"

_SPENT = ("job.json", "report", "outcome.json", "progress.json", "metrics.json")  # once a job's end is recorded


def take(folder: str) -> int | None:
    """Claim a job; return the locked descriptor, None where another watcher was first.

    Not synced: a claim counts within one boot only, and the row that says ``running`` was synced before the fork.
    """
    path = os.path.join(folder, f"claim.{os.getpid()}")
    try:
        os.unlink(path)  # a dead watcher of this number may have left it, and it may be the claim itself
    except FileNotFoundError:
        pass
    fd = files.create(path, os.O_RDWR | os.O_EXCL)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        who = json.dumps(process.identity(os.getpid())).encode()
        if os.write(fd, who) != len(who):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fault_point("watcher.claiming")
        os.link(path, JobPaths(folder).claim)
        fault_point("watcher.linked")
        if os.path.lexists(JobPaths(folder).log):  # the job has run: its claim was removed after its end was recorded
            os.close(fd)
            return None
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, GIVEN_BACK))
    except FileExistsError:
        os.close(fd)
        return None
    finally:
        os.unlink(path)
    fault_point("watcher.claimed")
    return fd


def give_back(folder: str) -> None:
    """Give a claim back where no process of the task was started: a supervisor may start the job again."""
    for name in ("job.json", "report", "log"):
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
    os.rename(JobPaths(folder).claim, os.path.join(folder, GIVEN_BACK))


def clear(folder: str, *, seen: bool, alone: bool) -> None:
    """Remove what nobody reads once a job's end is recorded: log, result and files stay.

    ``seen``: a watcher saw that end; where none did, the claim stays, as it says which one was killed. ``alone``: no
    other watcher can come that was forked for this job. Where one can (it may be of an older package and know the
    claim alone), an empty file takes the claim's place. What can't be removed stays until the job is deleted.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # deleted meanwhile, or the task put something else there
        return
    try:
        fault_point("engine.clearing")
        with suppress(OSError):
            if seen and alone:
                os.stat("log", dir_fd=fd, follow_symlinks=False)  # tells `take`: without it the claim stays
                os.unlink("claim", dir_fd=fd)
            elif seen:
                os.close(os.open(_EMPTY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
                os.rename(_EMPTY, "claim", src_dir_fd=fd, dst_dir_fd=fd)
        fault_point("engine.unclaimed")
        for name in _SPENT:
            with suppress(OSError):
                os.unlink(name, dir_fd=fd)
        with suppress(OSError):  # the task left files
            os.rmdir("files", dir_fd=fd)
        kernel = not seen and os.access("kernel", os.F_OK, dir_fd=fd, follow_symlinks=False)
    finally:
        os.close(fd)
    if kernel:  # which its watcher would have removed
        clear_kernel(folder)


def clear_kernel(folder: str) -> None:
    """Remove what a notebook's kernel was reached by, sockets and connection files, and what it was asked."""
    paths = JobPaths(folder)
    folders.remove(paths.kernel)
    home = os.path.dirname(os.path.dirname(folder))
    for one in (paths.ending, paths.kernel_request, HomePaths(home).kept_kernel(os.path.basename(folder))):
        with suppress(OSError):
            os.unlink(one)


def is_free(folder: str) -> bool:
    """Whether no living watcher holds a job's claim."""
    try:
        fd = os.open(JobPaths(folder).claim, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:  # no descriptor to be had: not known is not free, or a living job would be swept away
        return error.errno == errno.ELOOP
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(fd)
