"""The file of the store: how it is made, checked and, where it is damaged, renamed; SQLite's errors as sentences.

Standard library only. SQLite neither checkpoints into nor removes the ``-wal`` of a file that was renamed under it, so
a process that still has a damaged database open can't harm the one that took its place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from taskapi_jupyter.core import files, host, room
from taskapi_jupyter.core.errors import Damaged, Unavailable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths

Identity = tuple[int, int]  # device and inode

_TRIED = 1 << 16  # bytes that are written to find out why SQLite could not write

_BESIDE = ("-wal", "-shm", "-journal")

#: SQLite's result codes that are no bug of ours, by what it says (Python 3.10 doesn't tell the code).
_SAID = {
    "database is locked": 5,
    "database table is locked": 6,
    "attempt to write a readonly": 8,
    "disk I/O error": 10,
    "database disk image is malformed": 11,
    "malformed database schema": 11,
    "database or disk is full": 13,
    "unable to open database": 14,
    "file is not a database": 26,
    "file is encrypted or is not": 26,
}


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 1 where it has none that matters here."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF
    return next((code for said, code in _SAID.items() if str(error).startswith(said)), 1)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file is damaged or not a database."""
    return code_of(error) in (11, 26)


def explain(error: sqlite3.Error, path: str, patience: float) -> Unavailable | None:
    """Return an error of SQLite as an error for people; None for one that is a bug of ours."""
    code, folder = code_of(error), os.path.dirname(path) or "."
    if code in (5, 6):
        return Unavailable(f"{path} was kept busy by other processes for more than {patience:g} s; try again")
    if code == 13:
        return room.no_space(folder)
    may = os.R_OK | os.W_OK
    if code in (8, 14) and os.path.exists(path) and not os.access(path, may) and os.access(folder, os.W_OK):
        return Unavailable(f"you may not read and write {path}: `chmod 600 {path}`, or set TASKAPI_HOME anew")
    if code in (8, 10, 14):
        found = _try(folder)
        if found is not None and found.errno in files.PASSING - {errno.EROFS}:
            return room.cannot_write(folder, found)
    if code == 8 or (code == 14 and not os.access(folder, os.W_OK)):
        return Unavailable(
            f"can't write {path}: {folder} is read-only or belongs to somebody else; make it writable, or set "
            "TASKAPI_HOME to another folder"
        )
    if code in (10, 14):
        return Unavailable(f"can't use {path}: {error}; see whether {folder} and its disk are in order")
    if code == 1 and isinstance(error, sqlite3.OperationalError) and not os.path.exists(path):
        return Unavailable(f"{path} is gone")
    return None


def of_network(folder: str) -> str | None:
    """Return a warning for a folder on a network file system, without a full stop; None for a local folder."""
    kind = host.network_filesystem(folder)
    if kind is None:
        return None
    return f"{folder} lies on a network file system ({kind}): SQLite's write-ahead log is not used there"


def _try(folder: str) -> OSError | None:
    """Write a file and remove it; return the error: SQLite does not tell that a quota or inodes are used up."""
    path = os.path.join(folder, f".try-{os.getpid()}-{time.monotonic_ns()}")
    try:
        fd = files.create(path, os.O_WRONLY | os.O_EXCL)
        try:
            os.write(fd, bytes(_TRIED))
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(path)
    except OSError as error:
        return error
    return None


def look(path: str) -> Identity | None:
    """Return the identity of the file; None where it is missing or empty."""
    found = _plain(path)
    return (found.st_dev, found.st_ino) if found and found.st_size else None


def _plain(path: str) -> os.stat_result | None:
    """Return the file's status, None where it is missing; raise for a link or a FIFO, which SQLite would use."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"can't use {path}: {error.strerror}; set TASKAPI_HOME to another folder") from None
    if not stat.S_ISREG(found.st_mode):
        what = files.kind(found.st_mode)
        raise Unavailable(f"{path} is {what}, where a file has to be: move it away, or set TASKAPI_HOME anew")
    if found.st_uid != os.geteuid():
        whose = files.owner(found.st_uid)
        raise Unavailable(f"{path} belongs to {whose}: give it to you, delete it, or set TASKAPI_HOME anew")
    return found


def check_files(path: str) -> None:
    """Raise :class:`Unavailable` where a database, or a file that SQLite has beside it, is unsafe to open."""
    for end in ("", *_BESIDE):
        _plain(path + end)


@contextmanager
def _locked(path: str, patience: float) -> Iterator[None]:
    """Hold the lock under which the database is made or renamed."""
    deadline = time.monotonic() + patience
    try:
        fd = files.create(f"{path}.lock", os.O_RDWR)
    except OSError as error:
        raise room.cannot_write(f"{path}.lock", error) from None
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process has been making {path} for {patience:g} s; try again") from None
                time.sleep(0.005)
        yield
    finally:
        os.close(fd)


def connect(path: str, patience: float) -> sqlite3.Connection:
    """Open the existing database. By default SQLite would make a new one in place of a file that was just renamed."""
    check_files(path)
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{escaped}?mode=rw", uri=True, timeout=patience, isolation_level=None, check_same_thread=False
    )


def set_journal(connection: sqlite3.Connection, mode: str, patience: float) -> None:
    """Change the journal mode, unless other processes have the database open: every process can use either mode.

    It does not wait for them: a file that was emptied while open seems to be in another mode, and is locked.
    """
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == mode:
        return
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    except sqlite3.OperationalError as error:
        if code_of(error) != 5:
            raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")


def make(path: str, fill: Callable[[sqlite3.Connection], None], *, wal: bool, patience: float) -> None:
    """Make the database, all of it or nothing, unless there is one."""
    folder = os.path.dirname(path) or "."
    with _locked(path, patience):
        if os.path.exists(path):
            return
        _rename_all(path, _free_name(path), _BESIDE)  # SQLite would take another database's log for this one's
        for name in os.listdir(folder):
            if name.startswith(f"{os.path.basename(path)}.new-"):  # whoever made it was killed
                os.unlink(os.path.join(folder, name))
        temporary = f"{path}.new-{os.getpid()}"
        try:
            # SQLite gives the files beside it the mode of the database.
            os.close(files.create(temporary, os.O_RDWR | os.O_EXCL))
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'TRUNCATE'}")
                connection.execute("BEGIN")
                fill(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()
            fault_point("store.made")
            os.link(temporary, path)
            files.sync_folder(folder)
        except OSError as error:
            raise room.cannot_write(folder, error) from None
        finally:
            for end in ("", *_BESIDE):
                with suppress(OSError):
                    os.unlink(temporary + end)


def was_emptied(path: str) -> bool:
    """Whether the file lost its content: a new database is never empty while there are folders of jobs."""
    try:
        return os.stat(path).st_size == 0 and bool(os.listdir(HomePaths(os.path.dirname(path)).jobs))
    except OSError:
        return False


def is_short(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file ends before its last page, or has none: SQLite only notices when it needs a missing page."""
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    before, times = None, 0
    while times < 3:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        try:
            if pages and os.stat(path).st_size >= pages * size:
                return False
        except FileNotFoundError:
            return False
        times = times + 1 if pages == before else 0  # else somebody made it larger or smaller meanwhile
        if before is not None:
            time.sleep(0.005)
        before = pages
        # Pages that stand in the -wal alone are not missing; once all are in the file, it must have them.
        busy, written, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if busy or written < 0 or written != moved:  # another process is at it, or there is no -wal
            return False
    return True


def set_aside(path: str, damaged: Identity, why: str, patience: float) -> Damaged:
    """Give a damaged database a dated name, unless another process has; return the error to raise.

    ``damaged`` identifies the file in which the damage was seen: a file that took its place is left alone.
    """
    home = os.path.dirname(path)
    try:
        with _locked(path, patience):
            if _identity(path) == damaged:
                aside = _free_name(path)
                fault_point("damage.found")
                # The database first: without its log it would pass for whole.
                _rename_all(path, aside, ("", *_BESIDE))
                files.sync_folder(home)
                _note(home, f"{path} was damaged ({why}) and was set aside as {os.path.basename(aside)}")
            else:
                aside = _by_identity(path, damaged)
    except OSError as error:
        return Damaged(f"{path} is damaged ({why}) and can't be set aside: {error.strerror}; rename it yourself")
    return Damaged(
        f"{path} was damaged ({why}) and was set aside as {aside}. A new, empty one takes its place: deploy APIs "
        f"again. What jobs left is still in {os.path.join(home, 'jobs')}, and jobs that were running run on, unseen. "
        "If there is a backup of the database, put it there instead while nothing runs"
    )


def _identity(path: str) -> Identity | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _free_name(path: str) -> str:
    """Return a dated name that is free."""
    taken = set(os.listdir(os.path.dirname(path) or "."))
    name = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    count = 1
    while any(os.path.basename(name) + end in taken for end in ("", *_BESIDE)):
        count += 1
        name = f"{name.partition('.damaged-')[0]}.damaged-{time.strftime('%Y%m%dT%H%M%S')}.{count}"
    return name


def _by_identity(path: str, damaged: Identity) -> str:
    folder = os.path.dirname(path)
    for name in sorted(os.listdir(folder), reverse=True):
        if name.startswith(f"{os.path.basename(path)}.damaged-"):
            candidate = os.path.join(folder, name)
            if _identity(candidate) == damaged:
                return candidate
    return f"{path}.damaged-…"


def _rename_all(path: str, to: str, ends: tuple[str, ...]) -> None:
    for end in ends:
        with suppress(FileNotFoundError):
            os.rename(path + end, to + end)
        fault_point("damage.renamed")


def _note(home: str, text: str) -> None:
    """Write a line into the supervisor's log."""
    try:
        fd = files.create(HomePaths(home).log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, f"taskapi: {text}\n".encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError:
        pass
