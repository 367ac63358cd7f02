"""Refuses a home that another user can write to or replace. Standard library only.

A task has all rights of its user, so a home is used only where no other user, except root, can put something into it.
Everything that opens a home calls this first: the service, the store, the supervisor, retention, ``environments.yaml``
and ``jupyter taskapi doctor``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from . import files, room
from .errors import Unavailable

#: SQLite accepts paths of up to 512 bytes, ``-journal`` included; our longest is that of a database in the making.
_LONGEST = 512 - len("/taskapi.db.new-4194304-journal")
_LINKS = 40  # on the way to a home; as many as Linux follows
_FOLDERS = ("apis", "jobs", "projects", "ray", "servers")
_FILES = ("bell", "engine.json", "retention.lock", "successor.json", "supervisor.lock", "supervisor.log")
_DATABASE = "taskapi.db"  # and what SQLite has beside it
_ELSEWHERE = "set TASKAPI_HOME to a folder of your own"

_checked: dict[str, tuple[int, ...]] = {}  # homes that passed, each with its identity then


def enter(home: str | os.PathLike[str], folders: Sequence[str] = ()) -> None:
    """Make a home and folders in it where they are missing; raise :class:`Unavailable` where it is not ours alone."""
    home = os.path.abspath(home)
    check(home)  # before anything is made: a folder above may be another user's
    try:
        files.create_folder(home)
        check(home)
        for name in folders:
            files.create_folder(os.path.join(home, name))
    except OSError as error:
        if error.errno in files.PASSING:
            raise room.cannot_write(home, error) from None
        what = f"it is {files.kind(os.lstat(home).st_mode)}" if _is_no_folder(home) else error.strerror
        raise Unavailable(f"{home} can't be used for jobs: {what}; {_ELSEWHERE}") from None


def check(home: str | os.PathLike[str], again: bool = False) -> None:
    """Raise :class:`Unavailable`, which says what to do, where a home, a file in it or a folder above is unsafe.

    Where the group may write to our home, that right is removed; nothing else is changed. A missing home is fine. Once
    a home has passed, a check costs one ``stat`` as long as it is the same folder, unless ``again``.
    """
    home = os.path.abspath(home)
    try:
        about = os.stat(home)
        if not again and _checked.get(home) == _identity(about):
            return
    except OSError:
        pass
    for complaint in _complaints(home):
        raise Unavailable(complaint)
    try:
        _close_to_group(home)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in files.PASSING:
            raise room.cannot_write(home, error) from None
        raise Unavailable(f"{home} can't be used for jobs: {error.strerror}; {_ELSEWHERE}") from None


def check_place(home: str) -> None:
    """Raise :class:`Unavailable` where something in a home keeps jobs from starting; called before one is accepted."""
    for complaint in _in_the_way(home, ("apis", "jobs", "supervisor.lock", "wake")):
        raise Unavailable(complaint)


def problems(home: str | os.PathLike[str]) -> list[str]:
    """Return everything that this module finds wrong with a home, a sentence each; nothing is changed."""
    home = os.path.abspath(home)
    found = list(_complaints(home))
    try:
        names = os.listdir(home)
    except OSError:
        return found
    databases = [name for name in names if name.startswith(_DATABASE)]
    return found + list(_in_the_way(home, sorted({*_FOLDERS, *_FILES, "wake", *databases})))


def _identity(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_uid, about.st_mode


def _is_no_folder(path: str) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def _complaints(home: str) -> Iterator[str]:
    """Yield what is wrong with a home's place, its permissions and the owners of its files."""
    length = max(len(os.fsencode(home)), len(os.fsencode(os.path.realpath(home))))
    if length > _LONGEST:
        yield (
            f"{home[:100]}… is too long for the path of a home: it has {length} bytes, and SQLite can use up to "
            f"{_LONGEST}; set TASKAPI_HOME to a shorter one"
        )
        return
    try:
        above = list(_way(home))
        own = above.pop() if os.path.lexists(home) else None
    except OSError as error:
        yield f"{home} can't be used for jobs: {error.strerror}; {_ELSEWHERE}"
        return
    me, is_ours = os.geteuid(), True
    if own is not None and own[1].st_uid != me:
        is_ours = False
        yield (
            f"{home} belongs to {files.owner(own[1].st_uid)}, and you are {files.owner(me)}, whose rights its "
            f"jobs would have: {_ELSEWHERE}"
        )
    for path, about in above:
        if complaint := _above(path, about):
            yield f"{home} can't be used for jobs: {complaint}; {_ELSEWHERE}, or have that mended"
    if own is None or not is_ours or not stat.S_ISDIR(own[1].st_mode):
        return  # what makes it says why it can't
    mode = own[1].st_mode
    if mode & stat.S_IWOTH:
        mend = "" if mode & stat.S_ISVTX else f"if all in it is yours, `chmod 700 {home}`, else "
        yield f"every user may write to {home} (its mode is {stat.S_IMODE(mode):04o}): {mend}{_ELSEWHERE}"
    try:
        yield from _others_in(home, bool(mode & stat.S_IXOTH))
    except OSError as error:
        yield f"can't read {home}: {error.strerror}; make it yours (`chmod 700 {home}`), or {_ELSEWHERE}"


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each folder and link on the way to a path, up to the first that is missing; the path itself is last."""
    here, links = "/", 0
    yield here, os.lstat(here)
    left = path.split("/")[::-1]
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, part)
        try:
            about = os.lstat(there)
        except (FileNotFoundError, NotADirectoryError):
            return
        yield there, about
        if not stat.S_ISLNK(about.st_mode):
            here = there
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(there)
        left += target.split("/")[::-1]
        if target.startswith("/"):
            here = "/"


def _above(path: str, about: os.stat_result) -> str | None:
    """Return what is wrong with a folder or link above a home: a user who may change it could replace the home."""
    if about.st_uid not in (0, os.geteuid()) and not _is_unmapped(about.st_uid):
        what = "the link" if stat.S_ISLNK(about.st_mode) else "the folder"
        return f"{what} {path} belongs to {files.owner(about.st_uid)}, who could put another in its place"
    if stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_IWOTH and not about.st_mode & stat.S_ISVTX:
        return (
            f"every user may write to {path} (its mode is {stat.S_IMODE(about.st_mode):04o}) and replace what is there"
        )
    return None


def _is_unmapped(uid: int) -> bool:
    """True for the number that stands for all users that this user namespace does not know.

    In a container without root's rights (Apptainer, rootless Docker or Podman) that is how the machine's root shows,
    who owns `/` and `/home`. Taken for root above a home only; in the first namespace it is the user ``nobody``.
    """
    try:
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            if uid != int(file.read()):
                return False
        with open("/proc/self/uid_map", "rb") as file:
            return file.read().split() != [b"0", b"0", b"4294967295"]
    except (OSError, ValueError):
        return False


def _others_in(home: str, is_open: bool) -> Iterator[str]:
    """Yield which files of a home belong to other users, or are links or writable by everybody."""
    with os.scandir(home) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith(".") or entry.name == "lost+found":
                continue  # a file system's, or ours, whose owner is checked when it is opened
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if about.st_uid != os.geteuid():
                name = files.owner(os.geteuid())
                yield (
                    f"{entry.path} belongs to {files.owner(about.st_uid)}: give it to you (`sudo chown -R {name} "
                    f"{entry.path}`), delete it, or {_ELSEWHERE}"
                )
            elif stat.S_ISLNK(about.st_mode):
                if entry.name in _FOLDERS:
                    yield f"{entry.path} is a link: put the folder itself there, or {_ELSEWHERE}"
            elif is_open and about.st_mode & stat.S_IWOTH and not stat.S_ISSOCK(about.st_mode):
                yield (
                    f"every user may write to {entry.path} (its mode is {stat.S_IMODE(about.st_mode):04o}): see that "
                    f"it is as you left it, then `chmod go-w {entry.path}`"
                )


def _close_to_group(home: str) -> None:
    """Remove the group's right to write to a home or its content; record that the home has passed."""
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        mode = about.st_mode
        if mode & stat.S_IWGRP or (mode & stat.S_IXGRP and _group_may_write(fd)):
            if about.st_uid != os.geteuid():  # another has taken its place just now
                raise PermissionError(errno.EPERM, f"it belongs to {files.owner(about.st_uid)}", home)
            os.fchmod(fd, 0o700)
            about = os.fstat(fd)
            if about.st_mode & stat.S_IWGRP:
                raise PermissionError(errno.EPERM, "its group may write to it, and its file system keeps no other mode")
        _checked[home] = _identity(about)
    finally:
        os.close(fd)


def _group_may_write(fd: int) -> bool:
    with os.scandir(fd) as entries:
        return any(
            entry.stat(follow_symlinks=False).st_mode & stat.S_IWGRP for entry in entries if not entry.is_symlink()
        )


def _in_the_way(home: str, names: Sequence[str]) -> Iterator[str]:
    """Yield which of these names are of the wrong kind, or not usable by their owner."""
    for name in names:
        path = os.path.join(home, name)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            yield f"can't use {path}: {error.strerror}"
            continue
        if name == "wake":
            if stat.S_ISDIR(mode) and os.listdir(path):  # all else is replaced
                yield f"{path} is a folder with something in it, where the supervisor has a FIFO: move it away"
            continue
        is_folder = name in _FOLDERS
        if not (stat.S_ISDIR(mode) if is_folder else stat.S_ISREG(mode)):
            what = "a folder" if is_folder else "a file"
            yield f"{path} is {files.kind(mode)}, where {what} has to be: move it away"
        elif not os.access(path, os.R_OK) or (name != "engine.json" and not _may_write(path)):
            yield (
                f"{path} can't be used by you (its mode is {stat.S_IMODE(mode):04o}): "
                f"`chmod {'700' if is_folder else '600'} {path}`"
            )


def _may_write(path: str) -> bool:
    """True where we may change a file or a folder's content, or the whole file system is read-only."""
    may = os.W_OK | (os.X_OK if os.path.isdir(path) else 0)
    return os.access(path, may) or bool(os.statvfs(path).f_flag & os.ST_RDONLY)
