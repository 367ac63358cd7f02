"""Lists and removes folders that a task filled, without recursion, however deep they are. Standard library only.

A path may be longer than the system accepts, so each name is looked up relative to a descriptor of its folder, and no
link is followed. Two descriptors are open at a time, not one per level: the way back up is ``..``, which is checked to
be the expected folder.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from contextlib import suppress
from typing import NamedTuple

MAX_DEPTH = 100  # levels of folders in a list
MAX_ENTRIES = 100_000  # files and folders in a list
MAX_NAMES = 16 << 20  # bytes of all paths in a list together

_DEEP = 500  # levels below which a folder is moved to the top before it is removed: the way down takes time
_AT_ONCE = 1000  # folders of one folder that are collected before they are removed
_NAMED = 20  # paths that can't be removed that are reported
_GIVE_UP = 10_000  # paths that can't be removed after which the removal ends

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = getattr(os, "O_PATH", None)


class Removal(NamedTuple):
    """The result of a removal: whether all is gone, and the paths that could not be removed, each with the reason.

    Where ``gone`` is false and ``stuck`` is empty, the time was up; the next removal goes on.
    """

    gone: bool
    stuck: list[tuple[str, str]]


class _Place:
    """A folder below another one, by its descriptor."""

    def __init__(self, fd: int, open_up: bool = False) -> None:
        self.fd = fd
        self._open_up = open_up  # whether to chmod our own folders that we can't read or change
        self.above: list[tuple[str, tuple[int, int]]] = []  # the names down to here, each with its parent's identity

    def enter(self, name: str) -> None:
        """Go into a folder of this one."""
        inner = self._open(name)
        self.above.append((name, _identity(self.fd)))
        os.close(self.fd)
        self.fd = inner

    def _open(self, name: str) -> int:
        if not self._open_up:
            return os.open(name, _OPEN, dir_fd=self.fd)
        return _opened_up(name, self.fd)

    def leave(self) -> str:
        """Go back up and return the name of the folder that was left; raise OSError where that was moved meanwhile."""
        name, identity = self.above[-1]
        outer = os.open("..", _OPEN, dir_fd=self.fd)
        if _identity(outer) != identity:
            os.close(outer)
            raise OSError(errno.ESTALE, "it was moved elsewhere meanwhile")
        self.above.pop()
        os.close(self.fd)
        self.fd = outer
        return name

    def path(self, *names: str) -> str:
        """Return a path below where this began."""
        return "/".join([*(name for name, _ in self.above), *names])

    def close(self) -> None:
        os.close(self.fd)


def files(folder: str | os.PathLike[str]) -> tuple[list[tuple[str, os.stat_result]], str | None]:
    """List the regular files below a folder: relative path and ``lstat`` of each, and a sentence where it was cut.

    The bounds are :data:`MAX_DEPTH`, :data:`MAX_ENTRIES` and :data:`MAX_NAMES`. Links are left out. The list is empty
    where the folder is missing or a link.
    """
    try:
        place = _Place(os.open(folder, _OPEN))
    except OSError:
        return [], None
    listing = _Listing(place)
    try:
        listing.run()
    except OSError as error:  # moved, or no descriptor left
        listing.cut = listing.cut or f"not all files are listed: {error.strerror}"
    finally:
        place.close()
    return listing.found, listing.cut


class _Listing:
    def __init__(self, place: _Place) -> None:
        self.place = place
        self.found: list[tuple[str, os.stat_result]] = []
        self.cut: str | None = None
        self.entries = self.names = 0

    def run(self) -> None:
        todo = [self._read("")]  # folders that are to be entered, of each one that we are in
        while todo:
            if not todo[-1]:
                todo.pop()
                if todo:
                    self.place.leave()
            elif self.entries > MAX_ENTRIES or self.names > MAX_NAMES:
                return
            else:
                name = todo[-1].pop()
                path = self.place.path(name)
                if len(todo) > MAX_DEPTH:
                    self._note(f"what lies more than {MAX_DEPTH} folders deep is not listed: {_shown(path)}")
                    continue
                try:
                    self.place.enter(name)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # removed or replaced just now
                        self._note(f"the folder {_shown(path)} is not listed: {error.strerror}")
                    continue
                todo.append(self._read(f"{path}/"))

    def _read(self, prefix: str) -> list[str]:
        """Add the files of the current folder; return its folders."""
        folders = []
        with os.scandir(self.place.fd) as entries:
            for entry in entries:
                self.entries += 1
                self.names += len(prefix) + len(entry.name)
                if self.entries > MAX_ENTRIES or self.names > MAX_NAMES:
                    self._note(
                        f"only {len(self.found):,} files are listed: there are more than {MAX_ENTRIES:,} files and "
                        "folders, or their paths are too long"
                    )
                    break
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        self.found.append((prefix + entry.name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:  # the task has just removed it
                    continue
        return folders

    def _note(self, text: str) -> None:
        self.cut = self.cut or text


def remove(path: str | os.PathLike[str], until: float = math.inf) -> Removal:
    """Remove a file, a link, or a folder with all that is below it; raise nothing.

    A path that can't be removed does not stop the rest. At ``until`` (``time.monotonic``) the rest is left to the next
    call. A folder that is a mount point stays as it is.
    """
    path = os.path.abspath(path)
    above, name = os.path.split(path)
    try:
        fd = os.open(above, _OPEN & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return Removal(True, [])
    except OSError as error:
        return Removal(False, [(path, _why(error.errno))])
    try:
        found = _unlink(name, fd)
        if found is None:
            return Removal(True, [])
        if found != errno.ENOTEMPTY:
            return Removal(False, [(path, _why(found))])
        inner = _Removing(_Place(_opened_up(name, fd), True), path, until)
        try:
            inner.run()
        finally:
            inner.place.close()
            os.close(inner.top)
        found = None if inner.stuck or time.monotonic() > until else _unlink(name, fd)
        if found is not None and found != errno.ENOTEMPTY:  # else somebody puts more into it
            inner.note("", found)
        return Removal(not os.path.lexists(path), inner.stuck)
    except OSError as error:
        return Removal(False, [(path, _why(error.errno))])
    finally:
        os.close(fd)


class _Removing:
    def __init__(self, place: _Place, path: str, until: float) -> None:
        self.place, self.root, self.until = place, path, until
        self.top = os.dup(place.fd)
        self.stuck: list[tuple[str, str]] = []
        self.failed = self.moved = 0

    def run(self) -> None:
        """Remove the folder's content, or as much as possible until the time is up."""
        stays: list[set[str]] = [set()]  # of each folder that we are in, what can't be removed
        todo = [self._clear(stays[-1])]  # and what is to be entered
        while not self._over():
            if todo[-1]:
                name = todo[-1].pop()
                if len(todo) > _DEEP and self._move_up(name):
                    continue
                try:
                    self.place.enter(name)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        self.note(name, error.errno)
                        stays[-1].add(name)
                    continue
                stays.append(set())
                todo.append(self._clear(stays[-1]))
                continue
            todo[-1] = self._clear(stays[-1])  # what there is now: also what was moved here, or made meanwhile
            if todo[-1]:
                continue
            if not self.place.above:
                return
            is_empty = not stays.pop()
            todo.pop()
            name = self.place.leave()
            error_ = _unlink(name, self.place.fd)
            if error_ is not None:
                if is_empty and error_ != errno.ENOTEMPTY:
                    self.note(name, error_)
                stays[-1].add(name)

    def _over(self) -> bool:
        return self.failed > _GIVE_UP or time.monotonic() > self.until

    def _clear(self, stays: set[str]) -> list[str]:
        """Remove the files and empty folders of the current folder; return some of its other folders."""
        others: list[str] = []
        with os.scandir(self.place.fd) as entries:
            for entry in entries:
                if self._over() or len(others) >= _AT_ONCE:
                    break
                if entry.name in stays:
                    continue
                error = _unlink(entry.name, self.place.fd)
                if error == errno.ENOTEMPTY:
                    others.append(entry.name)
                elif error is not None:
                    self.note(entry.name, error)
                    stays.add(entry.name)
        return others

    def _move_up(self, name: str) -> bool:
        """Move a folder to the top of the tree; False where that fails, and it is removed where it is."""
        self.moved += 1
        try:
            os.rename(name, f".{time.time_ns():x}-{self.moved}", src_dir_fd=self.place.fd, dst_dir_fd=self.top)
        except OSError:
            return False
        return True

    def note(self, name: str, error: int | None) -> None:
        self.failed += 1
        if len(self.stuck) < _NAMED:
            below = self.place.path(*filter(None, [name]))
            self.stuck.append((f"{self.root}/{_shown(below)}" if below else self.root, _why(error)))


def _unlink(name: str, fd: int) -> int | None:
    """Remove a file, a link or an empty folder; return the errno, ENOTEMPTY for a folder that isn't empty."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=fd)  # before it is entered: fails for a mount point
        else:
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        return errno.ENOTEMPTY if error.errno == errno.EEXIST else error.errno or errno.EIO
    return None


def _opened_up(name: str, fd: int) -> int:
    """Open a folder, with its mode changed where its content could not be removed otherwise."""
    try:
        inner = os.open(name, _OPEN, dir_fd=fd)
    except PermissionError:
        if _PATH is None:
            raise
        known = os.open(name, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.chmod(f"/proc/self/fd/{known}", 0o700)
        finally:
            os.close(known)
        return os.open(name, _OPEN, dir_fd=fd)
    if stat.S_IMODE(os.fstat(inner).st_mode) & 0o700 != 0o700:
        with suppress(OSError):
            os.fchmod(inner, 0o700)
    return inner


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _why(error: int | None) -> str:
    if error == errno.EBUSY:
        return "something is mounted there"
    return os.strerror(error or errno.EIO)


def _shown(path: str) -> str:
    """Return a path that fits into one line: printable, and shortened in the middle. A task may choose any name."""
    path = "".join(character if character.isprintable() else "\ufffd" for character in path)
    return path if len(path) <= 200 else f"{path[:100]}…{path[-99:]}"
