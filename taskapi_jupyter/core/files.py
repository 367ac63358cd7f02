"""Reading of regular files only, and writing of files that only their owner may use. Standard library only.

Files that a task leaves are not to be trusted: in place of a file there may be a link that leads outside, a FIFO that
would block its reader for ever, or a device.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

#: Errors that go away once somebody frees disk space, quota, descriptors, processes or memory, or remounts a disk.
PASSING = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE),
        *(errno.ENFILE, errno.EAGAIN, errno.ENOMEM),
    )
)
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)  # whether a file exists is then unknown

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO"}


def kind(mode: int) -> str:
    """Return the kind of a file for a message, such as ``a folder``."""
    return _KINDS.get(stat.S_IFMT(mode), "a socket" if stat.S_ISSOCK(mode) else "a device")


def owner(uid: int) -> str:
    """Return a user's name for a message."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def open_plain(path: str | os.PathLike[str], dir_fd: int | None = None) -> int:
    """Return a descriptor to read a file from; raise OSError where it is not a regular file."""
    about = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    fd = None
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if stat.S_ISREG(about.st_mode):  # checked before: opening a device may have an effect
        try:
            fd = os.open(path, _READ, dir_fd=dir_fd)
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link that took its place just now
                raise
    if fd is not None and stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    if fd is not None:
        os.close(fd)
    raise FileNotFoundError(errno.ENOENT, "not a plain file", os.fspath(path))


def open_below(folder: str | os.PathLike[str], parts: Sequence[str]) -> int:
    """Open a regular file below a folder without following any link, even if one is put in the way meanwhile."""
    fd = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        return open_plain(parts[-1], fd)
    finally:
        os.close(fd)


def read(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the first ``limit`` bytes of a regular file; raise OSError where there is none."""
    with open(open_plain(path), "rb") as file:
        return file.read(limit)


def read_end(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the last ``limit`` bytes of a regular file; raise OSError where there is none."""
    with open(open_plain(path), "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - limit, 0))
        return file.read(limit)


def read_own(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """Return the content of a file of ours; None where it is missing.

    Raise OSError, with a ``strerror`` for people, where it is not a regular file, another user's or larger than
    ``limit``.
    """
    try:
        fd = open_plain(path)
    except (FileNotFoundError, IsADirectoryError):
        if not os.path.lexists(path):
            return None
        raise _other(path) from None
    with open(fd, "rb") as file:
        _check_ours(fd, path)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB", os.fspath(path))
    return data


def create(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file for writing, created where it is missing, with mode 0600 regardless of the umask.

    Raise OSError, with a ``strerror`` for people, and change nothing where it is a link, a FIFO or another user's file.
    """
    wanted = flags & ~os.O_TRUNC | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, wanted, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            raise _other(path) from None
        raise
    try:
        if stat.S_IMODE(_check_ours(fd, path).st_mode) != 0o600:
            os.fchmod(fd, 0o600)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_ours(fd: int, path: str | os.PathLike[str]) -> os.stat_result:
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind(about.st_mode)}, not a file", os.fspath(path))
    if about.st_uid != os.geteuid():  # or a hard link to that user's file
        raise PermissionError(errno.EPERM, f"it belongs to {owner(about.st_uid)}", os.fspath(path))
    return about


def _other(path: str | os.PathLike[str]) -> OSError:
    """Return the error for something that is not a regular file."""
    try:
        return OSError(errno.EINVAL, f"it is {kind(os.lstat(path).st_mode)}, not a file", os.fspath(path))
    except OSError as error:
        return error


def create_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and missing ones above it, with mode 0700 regardless of the umask."""
    missing = []
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        try:
            os.mkdir(one, 0o700)
        except FileExistsError:
            if not os.path.isdir(one):
                raise
        else:
            if stat.S_IMODE(os.stat(one).st_mode) != 0o700:
                os.chmod(one, 0o700)


def write_atomic(
    path: str | os.PathLike[str], data: bytes, *, sync: bool, before_rename: Callable[[], None] | None = None
) -> None:
    """Write a file whole or not at all: under a temporary name beside it, then renamed.

    With ``sync`` it survives a power failure. ``before_rename`` is called in between.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        write(temporary, data, sync=sync)
        if before_rename is not None:
            before_rename()
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_folder(folder)


def write(path: str | os.PathLike[str], data: bytes, *, sync: bool = False, over: bool = False) -> None:
    """Write a file; raise OSError where not all of it could be (a disk that fills up takes part of a write).

    ``over``: into the room that the file has already.
    """
    fd = create(path, os.O_WRONLY if over else os.O_WRONLY | os.O_TRUNC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if over:
            os.ftruncate(fd, len(data))
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def link_synced(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Hard-link a file, or copy it where that is not possible; fsync the content."""
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without hard links
        with open(source, "rb") as old, open(create(path, os.O_WRONLY | os.O_EXCL), "wb") as new:
            while piece := old.read(1 << 20):
                new.write(piece)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked_folder(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock on a folder itself: a lock on a file in it would be lost when that is replaced."""
    fd = os.open(path, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Fsync a folder, so that the names in it are on disk."""
    fd = os.open(path, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
