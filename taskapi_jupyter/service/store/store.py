"""APIs, jobs, wishes and moves in one SQLite file. Plain rows: the supervisor imports this and no msgspec.

Every transaction that changes something raises one counter and stamps it on the rows it touched, so that a reader
learns with one cheap query whether anything changed, and with another what. A job changes its state by
compare-and-set alone. Commits are synced: what was acknowledged is on disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from _thread import RLock, _local, allocate_lock  # `threading` makes each fork of the supervisor twice as slow
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

from taskapi_jupyter.core import files, guard, host, nesting
from taskapi_jupyter.core.errors import APIIDNotFound, APINotDeployed, Damaged, TooNew
from taskapi_jupyter.core.fault_points import point
from taskapi_jupyter.core.states import MOVES, JobCode, may_move

from . import database, readable

Row = dict[str, Any]

#: Thousands are the major version. Within one, migrations only add, so that two versions of the package share a home:
#: statements name the columns they write. Each has a file in tests/schemas.
MIGRATIONS: dict[int, str] = {
    1000: """
CREATE TABLE counter (n INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE apis (
  name TEXT PRIMARY KEY, api_id TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  change INTEGER NOT NULL
);
CREATE TABLE versions (
  api_id TEXT PRIMARY KEY, name TEXT NOT NULL, spec_id TEXT NOT NULL, updated INTEGER NOT NULL, timeout INTEGER,
  cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, spec TEXT NOT NULL, config TEXT NOT NULL,
  launch TEXT NOT NULL
);
CREATE INDEX versions_of ON versions (name, updated);
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, api_name TEXT NOT NULL, api_id TEXT NOT NULL,
  spec_id TEXT NOT NULL, status TEXT NOT NULL, change INTEGER NOT NULL, created INTEGER NOT NULL, timeout INTEGER,
  boot TEXT NOT NULL, deadline REAL, started INTEGER, started_boot TEXT, ended INTEGER, reason TEXT,
  exit_code INTEGER, progress TEXT, notebook TEXT, cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, gpus TEXT,
  stop INTEGER NOT NULL DEFAULT 0, config TEXT, merged TEXT
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_api ON jobs (api_name, status, seq);
CREATE INDEX jobs_of_api ON jobs (api_name, seq);
CREATE INDEX jobs_by_change ON jobs (change);
CREATE INDEX jobs_due ON jobs (deadline) WHERE status = 'pending' AND deadline IS NOT NULL;
CREATE INDEX jobs_to_stop ON jobs (seq) WHERE stop = 1 AND status IN ('pending', 'running');
CREATE TABLE forgotten (change INTEGER NOT NULL, id TEXT NOT NULL);
CREATE INDEX forgotten_by_change ON forgotten (change);
""",
    1001: "ALTER TABLE forgotten ADD COLUMN api_name TEXT NOT NULL DEFAULT ''",
    # apis.notebook: the notebook or file that deployed last. jobs.hurry: 1 where a second stop ends the grace period.
    1002: """
ALTER TABLE apis ADD COLUMN notebook TEXT;
ALTER TABLE versions ADD COLUMN run_timeout INTEGER;
ALTER TABLE jobs ADD COLUMN run_timeout INTEGER;
ALTER TABLE jobs ADD COLUMN hurry INTEGER NOT NULL DEFAULT 0
""",
    # jobs.visible: CUDA_VISIBLE_DEVICES of whoever submitted. jobs.devices: the task's, of the GPUs in `gpus`.
    1003: """
ALTER TABLE jobs ADD COLUMN visible TEXT;
ALTER TABLE jobs ADD COLUMN devices TEXT
""",
}

SCHEMA = max(MIGRATIONS)

_WAL_KEPT = 4 << 20  # bytes that the log of writes keeps when all of it stands in the database
_NOTED = 10_000  # changes for which it is noted that a job was deleted; until its folder is gone, however long that is
IN_LINE = 1000  # pending jobs of which it is said how far they are from the first
_WORTH_VACUUM = 1 << 20  # bytes
_VACUUM_PAGES = 256
_ODD = 10  # states that no version writes that are told apart
_UNREMOVED = 100  # things that can't be removed that are noted

#: Columns that a list needs. ``merged`` is left out: it may be 10 MiB and only starting a job needs it.
LISTED = (
    "seq, id, api_name, api_id, spec_id, status, change, created, timeout, run_timeout, started, ended, reason, "
    "exit_code, progress, notebook, stop, cpu, mem, gpu, visible, config"
)

#: Of a row ``v`` of ``versions``: whether no API needs it. ?1 is how many of an API's are kept, ?2 since when all are.
_UNUSED = (
    "(NOT EXISTS (SELECT 1 FROM apis WHERE name = v.name) OR v.updated < ?2 "
    "AND NOT EXISTS (SELECT 1 FROM apis WHERE api_id = v.api_id) "
    "AND (SELECT count(*) FROM versions n WHERE n.name = v.name AND n.updated > v.updated) >= ?1)"
)

_PROGRESSING = tuple(sorted(code.value for code in MOVES))

#: Of a row of ``jobs``: whether its id is one. The supervisor leaves others alone.
_IS_JOB = "id GLOB '" + 16 * "[0-9a-f]" + "'"


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


class Store:
    """The database of one home. One object serves all threads of a process; each gets its own connection.

    Whatever SQLite can't do is raised as :class:`Unavailable`. A damaged database is set aside, which whoever notices
    is told by :class:`Damaged`; the next call works on a new one, unless ``follow`` is false: then every call from
    there on raises. ``wal`` says whether to write ahead; None: unless the file lies on a network file system.
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
        self._writing = allocate_lock()  # threads that wait in SQLite sleep, for longer and longer
        self._migrate()
        if not follow:
            self._only = self._held().identity

    def identity(self) -> database.Identity | None:
        """Return which file the database is now: another one where it was set aside."""
        return database.look(self.path)

    def _held(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and held.open:
            if database.look(self.path) == held.identity:
                return held
            held.close()  # another file is there now, or none: what was written to this one would be seen by nobody
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
            if os.listdir(os.path.join(folder, "jobs")):
                text = f"taskapi: there was no {self.path}, although jobs left folders in jobs/: a new one is made\n"
                log = files.create(os.path.join(folder, "supervisor.log"), os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(log, text.encode("utf-8", "replace"))
                finally:
                    os.close(log)
        try:
            database.make(self.path, _fill, wal=self._wal, patience=self._patience)
        except sqlite3.Error as error:
            raise (database.explain(error, self.path, self._patience) or error) from error

    def _explained(self, error: sqlite3.Error, identity: database.Identity) -> Exception:
        """Return what SQLite says as one of our errors, having set a damaged file aside; or the error itself: a bug."""
        if database.is_damage(error):
            return database.set_aside(self.path, identity, str(error), self._patience)
        return database.explain(error, self.path, self._patience) or error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend this thread's connection; nobody closes it meanwhile."""
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
        """Close the connections of all threads, each after what it is doing; whoever asks later opens another."""
        with self._lock:
            held = list(self._all)
            self._all.clear()
        for one in held:
            one.close()

    def _migrate(self) -> None:
        version = self._one("PRAGMA user_version")[0]
        if version // 1000 > SCHEMA // 1000:
            raise TooNew(
                f"{self.path} was written by a newer taskapi_jupyter (schema {version}, this one reads up to "
                f"{SCHEMA}): upgrade this one, or set TASKAPI_HOME to another folder"
            )
        if version < SCHEMA:
            with self.write() as transaction:
                _fill(transaction)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that holds the writer's place from its first line on."""
        with self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                point("store.written")
                connection.execute("COMMIT")
                point("store.committed")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise
        held: _Held = self._local.held
        if database.look(self.path) != held.identity:  # set aside while we wrote: what we wrote is not there
            raise Damaged(f"{self.path} was set aside while it was written to; try again")

    def _one(self, sql: str, *values: Any) -> Any:
        with self._connection() as connection:
            return connection.execute(sql, tuple(map(_bound, values))).fetchone()

    def _rows(self, sql: str, *values: Any) -> list[Row]:
        with self._connection() as connection:
            return [dict(row) for row in connection.execute(sql, tuple(map(_bound, values)))]

    # What changed

    def counter(self) -> int:
        """Return the change counter; whoever saw this number has seen everything."""
        return int(self._one("SELECT n FROM counter")[0])

    def news(self, since: int) -> list[Row]:
        """Return ``id``, ``api_name``, ``status`` and ``change`` of what changed after the counter was at ``since``.

        Oldest change first, and all of them: one transaction may have moved any number under one value of the counter.
        The status of a job that was forgotten is ``deleted``.
        """
        return self._rows(
            "SELECT id, api_name, status, change FROM jobs WHERE change > ?1 UNION ALL "
            "SELECT id, api_name, 'deleted', change FROM forgotten WHERE change > ?1 ORDER BY change",
            since,
        )

    # Settings: what the supervisor needs of config.yaml, which it doesn't read itself

    def settings(self) -> Row:
        """Return the limits that were last read from config.yaml."""
        return self._setting("limits")

    def set_settings(self, values: Mapping[str, Any]) -> None:
        """Keep the limits for the supervisor."""
        with self.write() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES ('limits', ?)", (json.dumps(dict(values)),)
            )

    def unremoved(self) -> dict[str, str]:
        """Return what of deleted jobs and versions could not be removed, by its path, and why."""
        return self._setting("unremoved")

    def set_unremoved(self, stuck: Mapping[str, str]) -> None:
        """Note that, for whoever asks what is wrong with the home; of more than a hundred, the first."""
        text = json.dumps(dict(list(stuck.items())[:_UNREMOVED]))
        with self.write() as transaction:
            transaction.execute("INSERT OR REPLACE INTO settings (name, value) VALUES ('unremoved', ?)", (text,))

    def made(self) -> float:
        """Return when this database was made, in seconds since the epoch; 0 where that was not noted."""
        row = self._one("SELECT value FROM settings WHERE name = 'made'")
        try:
            return float(row[0]) if row else 0.0
        except (ValueError, TypeError):
            return 0.0

    def _setting(self, name: str) -> Row:
        """Return a setting; what no version wrote is as good as none."""
        row = self._one("SELECT value FROM settings WHERE name = ?", name)
        try:
            return dict(nesting.loads(row[0])) if row else {}
        except (ValueError, TypeError):
            return {}

    # APIs

    def put_api(self, version: Row, now: int, notebook: str | None = None) -> tuple[str, Row]:
        """Deploy a version; return ``created``, ``updated`` or ``unchanged``, and what was there.

        That is the row of ``apis``, empty where there was none. ``notebook`` is the notebook or file that deploys.
        """
        columns = (
            "api_id", "name", "spec_id", "updated", "timeout", "run_timeout", "cpu", "mem", "gpu", "spec", "config",
            "launch",
        )  # fmt: skip
        with self.write() as transaction:
            found = transaction.execute("SELECT * FROM apis WHERE name = ?", (version["name"],)).fetchone()
            old = dict(found) if found else {}
            unchanged = old.get("api_id") == version["api_id"]
            known = transaction.execute("SELECT launch FROM versions WHERE api_id = ?", (version["api_id"],)).fetchone()
            if unchanged and notebook != old["notebook"]:
                transaction.execute("UPDATE apis SET notebook = ? WHERE name = ?", (notebook, version["name"]))
            if unchanged and known and known[0] == version["launch"]:
                return "unchanged", old
            transaction.execute(
                f"INSERT OR REPLACE INTO versions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [{"updated": now, "run_timeout": None, **version}[column] for column in columns],
            )
            if unchanged:
                return "unchanged", old  # the same content under another environment
            change = _raise(transaction)
            transaction.execute(
                "INSERT INTO apis (name, api_id, created, updated, change, notebook) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET api_id = excluded.api_id, updated = excluded.updated, "
                "change = excluded.change, notebook = excluded.notebook",
                (version["name"], version["api_id"], now, now, change, notebook),
            )
            return ("updated" if old else "created"), old

    def delete_api(self, name: str) -> list[str] | None:
        """Take an API away and wish its jobs stopped; return their ids, None where there is no such API."""
        with self.write() as transaction:
            if not transaction.execute("DELETE FROM apis WHERE name = ?", (name,)).rowcount:
                return None
            change = _raise(transaction)
            jobs = transaction.execute(
                "SELECT id FROM jobs WHERE api_name = ? AND status IN (?, ?)", (name, *_PROGRESSING)
            ).fetchall()
            transaction.executemany(
                "UPDATE jobs SET stop = 1, change = ? WHERE id = ?", [(change, row["id"]) for row in jobs]
            )
            return [row["id"] for row in jobs]

    def unused_versions(
        self, dropping: Callable[[str], None] = lambda api_id: None, *, keep: int = 5, before: int = 0
    ) -> list[str]:
        """Take away versions that no job refers to and that are not deployed; return their ids.

        Of an API that is deployed, the newest ``keep`` versions stay, and those deployed since ``before`` (in µs): who
        deployed one may be about to submit to it. ``dropping`` is called with each while nobody can deploy it again.
        """
        last = self.last()
        # All jobs are looked through before anybody has to wait for it, and but those since then again.
        found = self._rows(
            f"SELECT api_id FROM versions v WHERE {_UNUSED} AND api_id NOT IN (SELECT api_id FROM jobs)", keep, before
        )
        if not found:
            return []
        with self.write() as transaction:
            unused = []
            for row in found:
                values = (keep, before, row["api_id"], last)
                still = transaction.execute(
                    f"SELECT 1 FROM versions v WHERE {_UNUSED} AND api_id = ?3 "
                    "AND NOT EXISTS (SELECT 1 FROM jobs WHERE seq > ?4 AND api_id = ?3)",
                    values,
                ).fetchone()
                if still:
                    dropping(row["api_id"])
                    transaction.execute("DELETE FROM versions WHERE api_id = ?", (row["api_id"],))
                    unused.append(row["api_id"])
            return unused

    def api(self, name: str) -> Row | None:
        """Return a deployed API with its current version's columns."""
        row = self._one(
            "SELECT a.created, a.updated AS last_updated, v.* FROM apis a JOIN versions v USING (api_id) "
            "WHERE a.name = ?",
            name,
        )
        return dict(row) if row else None

    def apis(self) -> list[Row]:
        """Return the deployed APIs by name, without what starts them."""
        return self._rows(
            "SELECT a.created, a.updated AS last_updated, v.updated, v.api_id, v.name, v.spec_id, v.spec "
            "FROM apis a JOIN versions v USING (api_id) ORDER BY a.name"
        )

    def deployed(self) -> dict[str, int]:
        """Return the names of the deployed APIs, each with the change that deployed it."""
        return {row["name"]: row["change"] for row in self._rows("SELECT name, change FROM apis")}

    def api_names(self, limit: int) -> list[str]:
        """Return the names of deployed APIs, as many as ``limit``."""
        return [row["name"] for row in self._rows("SELECT name FROM apis LIMIT ?", limit)]

    def launches(self) -> list[str]:
        """Return what starts each version that is kept, as JSON."""
        return [row["launch"] for row in self._rows("SELECT launch FROM versions")]

    def version(self, api_id: str) -> Row | None:
        """Return one version of an API, deployed still or not."""
        row = self._one("SELECT * FROM versions WHERE api_id = ?", api_id)
        return dict(row) if row else None

    def versions(self, name: str) -> list[Row]:
        """Return the ids of an API's versions, newest first."""
        return self._rows("SELECT api_id, updated FROM versions WHERE name = ? ORDER BY updated DESC, rowid DESC", name)

    # Jobs

    def add_job(self, job: Mapping[str, Any], first_id: int) -> str:
        """Write a pending job and return its id: ``first_id`` as 16 hex digits, or less where that isn't the newest.

        Raises :class:`APINotDeployed` or :class:`APIIDNotFound` where the API or the version was deleted meanwhile.
        """
        with self.write() as transaction:
            if not transaction.execute("SELECT 1 FROM apis WHERE name = ?", (job["api_name"],)).fetchone():
                raise APINotDeployed(job["api_name"])
            if not transaction.execute("SELECT 1 FROM versions WHERE api_id = ?", (job["api_id"],)).fetchone():
                raise APIIDNotFound(job["api_name"], job["api_id"])
            last = transaction.execute(f"SELECT id FROM jobs WHERE {_IS_JOB} ORDER BY seq DESC LIMIT 1").fetchone()
            number = min(first_id, int(last[0], 16) - 1) if last else first_id
            job = {
                **job,
                "id": f"{number:016x}",
                "status": JobCode.PENDING.value,
                "change": _raise(transaction),
            }
            transaction.execute(
                f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})",
                list(job.values()),
            )
            return str(job["id"])

    def job(self, job_id: str) -> Row | None:
        """Return one job as a list shows it."""
        row = self._one(f"SELECT {LISTED} FROM jobs WHERE id = ?", job_id)
        return dict(row) if row else None

    def whole_job(self, job_id: str) -> Row | None:
        """Return all that starting a job needs: its row with its version's ``launch``."""
        row = self._one("SELECT j.*, v.launch FROM jobs j JOIN versions v USING (api_id) WHERE j.id = ?", job_id)
        return dict(row) if row else None

    def jobs(self, api: str | None, statuses: Sequence[str], limit: int, before: int | None = None) -> list[Row]:
        """Return a page, newest first; ``before`` is the ``seq`` that the last page ended with.

        The cost does not depend on how many jobs there are: each of these walks one index backwards.
        """
        where = ["seq < ?"]
        values: list[Any] = [before if before is not None else 1 << 62]
        if api is not None:
            where.append("api_name = ?")
            values.append(api)
        found: list[Row] = []
        for status in statuses or [None]:  # type: ignore[list-item]
            only = [*where, "status = ?"] if status else where
            found += self._rows(
                f"SELECT {LISTED} FROM jobs WHERE {' AND '.join(only)} ORDER BY seq DESC LIMIT ?",
                *values,
                *([status] if status else []),
                limit,
            )
        return sorted(found, key=lambda row: -row["seq"])[:limit]

    def count_in_progress(self) -> int:
        """Count the jobs that are pending or running."""
        return int(self._one(f"SELECT count(*) FROM jobs WHERE status IN (?, ?) AND {_IS_JOB}", *_PROGRESSING)[0])

    def any_in_progress(self) -> bool:
        """Say whether any job is pending or running."""
        sql = f"SELECT EXISTS (SELECT 1 FROM jobs WHERE status IN (?, ?) AND {_IS_JOB})"
        return bool(self._one(sql, *_PROGRESSING)[0])

    def running(self) -> list[Row]:
        """Return the jobs marked running, in the order of their submission."""
        return self._rows(f"SELECT * FROM jobs WHERE status = 'running' AND {_IS_JOB} ORDER BY seq")

    def next_pending(self, after: int = 0) -> Row | None:
        """Return what admission looks at of the pending job that is first in line behind ``after`` (a ``seq``)."""
        row = self._one(
            f"SELECT id, seq, cpu, mem, gpu, visible FROM jobs WHERE status = 'pending' AND seq > ? AND {_IS_JOB} "
            "ORDER BY seq LIMIT 1",
            after,
        )
        return dict(row) if row else None

    def line(self, last: int) -> list[int]:
        """Return the ``seq`` of the pending jobs up to one, first in line first, at most :data:`IN_LINE`."""
        rows = self._rows(
            "SELECT seq FROM jobs WHERE status = 'pending' AND seq <= ? ORDER BY seq LIMIT ?", last, IN_LINE
        )
        return [row["seq"] for row in rows]

    def held(self) -> Row:
        """Return what the running jobs hold together: ``jobs`` (how many), ``cpu``, ``mem``, ``gpus`` (numbers)."""
        return dict(
            self._one(
                "SELECT count(*) AS jobs, total(cpu) AS cpu, total(mem) AS mem, "
                "group_concat(CASE WHEN gpus GLOB '*[^0-9,]*' THEN NULL ELSE gpus END) AS gpus "
                "FROM jobs WHERE status = 'running'"
            )
        )

    def to_stop(self) -> list[Row]:
        """Return the jobs in progress that somebody wishes stopped."""
        return self._rows(
            "SELECT id, status, hurry FROM jobs INDEXED BY jobs_to_stop "  # sqlite would look at all that are pending
            f"WHERE stop = 1 AND status IN ('pending', 'running') AND {_IS_JOB} ORDER BY seq"
        )

    def pending_deadlines(self, boot: str) -> list[Row]:
        """Return the pending jobs whose deadline counts by this boot's clock, soonest first, at most 100."""
        return self._rows(
            "SELECT id, deadline, timeout FROM jobs INDEXED BY jobs_due "
            "WHERE status = 'pending' AND deadline IS NOT NULL AND boot = ? AND typeof(deadline) != 'text' "
            f"AND typeof(deadline) != 'blob' AND {_IS_JOB} ORDER BY deadline LIMIT 100",
            boot,
        )

    def rebase_deadlines(self, boot: str, boottime: float, now: float) -> None:
        """Have deadlines of earlier boots count by this one's clock; only the wall clock spans a restart.

        It may be wrong by then: from here on a job has no more than its whole timeout.
        """
        old = "status = 'pending' AND deadline IS NOT NULL AND boot != ?1"
        if self._one(f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {old})", boot)[0]:
            with self.write() as transaction:
                transaction.execute(
                    "UPDATE jobs SET deadline = ?2 + min(timeout, created / 1e6 + timeout - ?3), boot = ?1 "
                    f"WHERE {old}",
                    (boot, boottime, now),
                )

    def wish_stop(self, job_id: str) -> bool:
        """Note that a job is to be stopped, and at once where that was wished before; False where it has ended."""
        with self.write() as transaction:
            done = transaction.execute(
                "UPDATE jobs SET hurry = stop, stop = 1, change = ? WHERE id = ? AND status IN (?, ?)",
                (_raise(transaction), job_id, *_PROGRESSING),
            )
            return done.rowcount == 1

    def odd(self, limit: int) -> list[Row]:
        """Return jobs that the supervisor skips: in states that no version writes, or in progress under a wrong id.

        The cost does not depend on how many jobs there are: it walks the index from one state to the next.
        """
        found = self._rows(
            f"SELECT id, status FROM jobs WHERE status IN (?, ?) AND NOT {_IS_JOB} LIMIT ?", *_PROGRESSING, limit
        )
        for status in self.odd_states():
            found += self._rows("SELECT id, status FROM jobs WHERE status = ? LIMIT ?", status, limit)
        return found[:limit]

    def odd_states(self) -> list[Any]:
        """Return the states of jobs that no version writes, at most ten."""
        odd: list[Any] = []
        row = self._one("SELECT min(status) FROM jobs")
        while row[0] is not None and len(odd) < _ODD:
            status = _bound(row[0])
            if row[0] not in readable.WRITTEN:
                odd.append(status)
            row = self._one("SELECT min(status) FROM jobs WHERE status > ?", status)
        return odd

    def forget(self, job_id: str, force: bool = False) -> bool:
        """Delete a job that has ended, or any with ``force``; False where it is in progress or not there."""
        with self.write() as transaction:
            return bool(
                _forget(
                    transaction,
                    transaction.execute(
                        "SELECT seq, id, api_name FROM jobs WHERE id = ? AND (status NOT IN (?, ?) OR ?)",
                        (job_id, *_PROGRESSING, force),
                    ).fetchall(),
                )
            )

    def forget_some(
        self, api: str | None, status: str, until: int, limit: int, ended_before: int | None = None
    ) -> list[str]:
        """Delete the oldest jobs in a terminal state, of those up to ``until`` (a ``seq``); return their ids."""
        only, values = "", list[Any]()
        if api is not None:
            only, values = only + " AND api_name = ?", [*values, api]
        if ended_before is not None:
            only, values = only + " AND ended < ?", [*values, ended_before]
        with self.write() as transaction:
            return _forget(
                transaction,
                transaction.execute(
                    f"SELECT seq, id, api_name FROM jobs WHERE status = ? AND seq <= ?{only} ORDER BY seq LIMIT ?",
                    (status, until, *values, limit),
                ).fetchall(),
            )

    def forget_beyond(self, keep: int, limit: int) -> list[str]:
        """Delete the oldest of the ended jobs that are more than ``keep``; return their ids."""
        ended = "status NOT IN (?, ?)"
        with self.write() as transaction:
            return _forget(
                transaction,
                transaction.execute(
                    f"SELECT seq, id, api_name FROM jobs WHERE {ended} AND seq <= "
                    f"(SELECT seq FROM jobs WHERE {ended} ORDER BY seq DESC LIMIT 1 OFFSET ?) ORDER BY seq LIMIT ?",
                    (*_PROGRESSING, *_PROGRESSING, keep, limit),
                ).fetchall(),
            )

    def forgotten(self) -> list[str]:
        """Return the ids of deleted jobs that are still noted as such."""
        return [row["id"] for row in self._rows("SELECT id FROM forgotten")]

    def drop_forgotten(self, keep: Container[str]) -> None:
        """Drop the notes of jobs that were deleted long ago, but for some."""
        old = self._rows("SELECT rowid, id FROM forgotten WHERE change < ?", self.counter() - _NOTED)
        gone = [(row["rowid"],) for row in old if row["id"] not in keep]
        if gone:
            with self.write() as transaction:
                transaction.executemany("DELETE FROM forgotten WHERE rowid = ?", gone)

    def give_space_back(self) -> None:
        """Make the file smaller where a good part of it is empty."""
        with self._connection() as connection:

            def ask(what: str) -> int:
                return int(connection.execute(f"PRAGMA {what}").fetchone()[0])

            free, pages = ask("freelist_count"), ask("page_count")
            if free * ask("page_size") < _WORTH_VACUUM or free * 4 < pages:
                return
            if ask("auto_vacuum") == 2:
                while free > 0:  # piece by piece: others write in between
                    # `execute` would take one step of it, which is one page.
                    connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                    point("store.vacuumed")
                    free -= _VACUUM_PAGES
            else:  # made by a version that did not prepare for this: all at once, and by pieces from then on
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def last(self) -> int:
        """Return the ``seq`` of the newest job."""
        return int(self._one("SELECT coalesce(max(seq), 0) FROM jobs")[0])

    def move(self, moves: Sequence[tuple[str, JobCode, JobCode, Mapping[str, Any]]]) -> list[bool]:
        """Move jobs from one state to another, all in one transaction: ``(id, from, to, other columns)``.

        Each is a compare-and-set; False where the job was not in the state named.
        """
        with self.write() as transaction:
            change = _raise(transaction)
            done = []
            for job_id, old, new, columns in moves:
                if not may_move(old, new):
                    raise ValueError(f"a job can't go from {old} to {new}")
                fields = {**columns, "status": new.value, "change": change}
                done.append(
                    transaction.execute(
                        f"UPDATE jobs SET {', '.join(f'{name} = {_value(name)}' for name in fields)} "
                        "WHERE id = ? AND status = ?",
                        [*fields.values(), job_id, old.value],
                    ).rowcount
                    == 1
                )
            return done


def _value(column: str) -> str:
    """Return what a column is set to: a wall clock that was set back makes no time end before it began."""
    return {"started": "max(?, created)", "ended": "max(?, coalesce(started, created))"}.get(column, "?")


def _forget(transaction: sqlite3.Connection, jobs: Sequence[sqlite3.Row]) -> list[str]:
    """Delete jobs and note that they were; return their ids."""
    if jobs:
        change = _raise(transaction)
        transaction.executemany("DELETE FROM jobs WHERE seq = ?", [(job["seq"],) for job in jobs])
        transaction.executemany(
            "INSERT INTO forgotten (change, id, api_name) VALUES (?, ?, ?)",
            [(change, _bound(job["id"]), _bound(job["api_name"])) for job in jobs],
        )
    return [job["id"] for job in jobs]


def _text(data: bytes) -> str:
    """Read any text that stands in the database: what is not UTF-8 is one row's fault, and no reason to read none."""
    return data.decode("utf-8", "surrogateescape")


def _bound(value: Any) -> Any:
    """Return a value that was read as SQLite takes it."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and not readable.is_utf8(value) else value


def _fill(transaction: sqlite3.Connection) -> None:
    """Bring a database to this version's schema."""
    version = transaction.execute("PRAGMA user_version").fetchone()[0]
    for step in sorted(MIGRATIONS):
        if step > version:
            for statement in MIGRATIONS[step].split(";"):
                transaction.execute(statement)
            transaction.execute(f"PRAGMA user_version = {step}")
    if not version:
        transaction.execute("INSERT INTO settings (name, value) VALUES ('made', ?)", (str(time.time()),))


def _raise(transaction: sqlite3.Connection) -> int:
    """Raise the change counter and return it."""
    transaction.execute("UPDATE counter SET n = n + 1")
    return int(transaction.execute("SELECT n FROM counter").fetchone()[0])
