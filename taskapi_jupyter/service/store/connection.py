"""Connections to the store's database: one a thread, each to the file that has the database's name. No msgspec."""

from __future__ import annotations

import os
import sqlite3
from _thread import RLock, _local, allocate_lock  # `threading` makes each fork of the supervisor twice as slow
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

from taskapi_jupyter.core import files, guard, host
from taskapi_jupyter.core.errors import Damaged, TooNew
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths

from . import bell, database, readable, schema

Row = dict[str, Any]

_WAL_KEPT = 4 << 20  # bytes to which the write-ahead log is cut once all of it is in the database


class _Held:
    """A thread's connection, closed when the thread has ended."""

    def __init__(self, connection: sqlite3.Connection, identity: database.Identity) -> None:
        self.connection = connection
        self.identity = identity  # of the file that it has open
        self.in_use = RLock()  # SQLite ends the process where a connection is closed that another thread works with
        self.open = True

    def close(self) -> None:
        self.open = False  # first, or a thread that asks again and again would never let us in
        with self.in_use:
            self.connection.close()

    def __del__(self) -> None:
        with self.in_use:  # a store that is being closed may still have found this
            self.connection.close()


class Connections:
    """The database of one home. One object serves all threads of a process; each gets its own connection.

    An error of SQLite is raised as :class:`Unavailable`. A damaged database is renamed, and the call that found the
    damage raises :class:`Damaged`. The next call uses a new database, unless ``follow`` is false: then each later call
    raises. ``wal`` chooses the write-ahead log; None: used unless the file is on a network file system.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, patience: float = 30.0, follow: bool = True, wal: bool | None = None
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        guard.check(os.path.dirname(self.path))
        self._patience = patience  # seconds to wait for others who write
        self._wal = host.network_filesystem(os.path.dirname(self.path)) is None if wal is None else wal
        self._only: database.Identity | None = None
        self._local = _local()
        self._all: WeakSet[_Held] = WeakSet()
        self._lock = allocate_lock()
        self._writing = allocate_lock()  # threads that wait in SQLite sleep for longer and longer
        self._migrate()
        if not follow:
            self._only = self._held().identity

    def identity(self) -> database.Identity | None:
        """Return the identity of the file that has the database's name now; it changes when that is replaced."""
        return database.look(self.path)

    def _held(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and held.open:
            if database.look(self.path) == held.identity:
                return held
            held.close()  # another file has the name now, or none: nobody would see what is written to this one
        if self._only is not None and database.look(self.path) != self._only:
            raise Damaged(f"{self.path} is no longer the database that this process had open")
        held = self._open()
        self._local.held = held
        with self._lock:
            self._all.add(held)
        return held

    def _open(self) -> _Held:
        while True:
            if database.look(self.path) is None and not os.path.lexists(self.path):
                self._make()
            try:
                seen = os.lstat(self.path)
            except FileNotFoundError:
                continue  # another process has just set it aside
            identity = (seen.st_dev, seen.st_ino)
            if database.was_emptied(self.path):
                raise database.set_aside(self.path, identity, "it was emptied", self._patience)
            try:
                connection = database.connect(self.path, self._patience)
                held = _Held(connection, identity)
                connection.row_factory = sqlite3.Row
                connection.text_factory = _text
                database.set_journal(connection, "wal" if self._wal else "truncate", self._patience)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
                is_short = database.is_short(connection, self.path)
            except sqlite3.Error as error:
                if not os.path.exists(self.path):
                    continue  # another process has just set it aside
                raise self._explained(error, identity) from error
            if is_short:
                raise database.set_aside(self.path, identity, "part of it is missing", self._patience)
            if database.look(self.path) in (identity, None):  # else it was set aside while we opened it
                return held
            held.close()

    def _make(self) -> None:
        folder = os.path.dirname(self.path)
        with suppress(OSError):
            if os.listdir(HomePaths(folder).jobs):
                text = f"taskapi: there was no {self.path}, although jobs left folders in jobs/: a new one is made\n"
                log = files.create(HomePaths(folder).log, os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(log, text.encode("utf-8", "replace"))
                finally:
                    os.close(log)
        try:
            database.make(self.path, schema.migrate, wal=self._wal, patience=self._patience)
        except sqlite3.Error as error:
            raise (database.explain(error, self.path, self._patience) or error) from error

    def _explained(self, error: sqlite3.Error, identity: database.Identity) -> Exception:
        """Return our error for one of SQLite's, a damaged file renamed; the error itself where it is a bug."""
        if database.is_damage(error):
            return database.set_aside(self.path, identity, str(error), self._patience)
        if "no such table" in str(error) and (database.was_emptied(self.path) or database.look(self.path) != identity):
            return database.set_aside(self.path, identity, "it was emptied", self._patience)
        return database.explain(error, self.path, self._patience) or error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Give this thread's connection; nobody closes it meanwhile."""
        while True:
            held = self._held()
            with held.in_use:
                if held.open:
                    try:
                        yield held.connection
                    except sqlite3.Error as error:
                        raise self._explained(error, held.identity) from error
                    return

    def close(self) -> None:
        """Close the connections of all threads once their current call is done; a later call opens a new one."""
        with self._lock:
            held = list(self._all)
            self._all.clear()
        for one in held:
            one.close()

    def _migrate(self) -> None:
        version = self._one("PRAGMA user_version")[0]
        if version // 1000 > schema.SCHEMA // 1000:
            raise TooNew(
                f"{self.path} was written by a newer taskapi_jupyter (schema {version}, this one reads up to "
                f"{schema.SCHEMA}): upgrade this one, or set TASKAPI_HOME to another folder"
            )
        if version < schema.SCHEMA:
            with self.write() as transaction:
                schema.migrate(transaction)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that holds SQLite's write lock from its first line on."""
        with self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                fault_point("store.written")
                connection.execute("COMMIT")
                fault_point("store.committed")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise
        held: _Held = self._local.held
        if database.look(self.path) != held.identity:  # set aside while we wrote: what we wrote is not there
            raise Damaged(f"{self.path} was set aside while it was written to; try again")
        bell.ring(os.path.dirname(self.path))

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction whose statements all see the same state: a job that moves between two is seen once."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    def counter(self) -> int:
        """Return the change counter: it is the same as long as nothing has changed."""
        return int(self._one("SELECT n FROM counter")[0])

    def _one(self, sql: str, *values: Any) -> Any:
        with self._connection() as connection:
            return connection.execute(sql, tuple(map(bindable, values))).fetchone()

    def _rows(self, sql: str, *values: Any) -> list[Row]:
        with self._connection() as connection:
            return [dict(row) for row in connection.execute(sql, tuple(map(bindable, values)))]


def _text(data: bytes) -> str:
    """Decode text of the database. Bytes that are not UTF-8 must not keep other rows from being read."""
    return data.decode("utf-8", "surrogateescape")


def bindable(value: Any) -> Any:
    """Return a value that was read in the form that SQLite accepts as a parameter."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and not readable.is_utf8(value) else value
