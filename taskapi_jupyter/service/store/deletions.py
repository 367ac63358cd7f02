"""What is deleted from the store: ended jobs, versions that nobody needs, empty pages. No msgspec."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from taskapi_jupyter.core.fault_points import fault_point

from . import outbox, readable
from .apis import APIs
from .connection import bindable
from .schema import IN_PROGRESS, next_change

_NOTED = 10_000  # changes for which a deleted job is kept in `forgotten`; one whose folder is still there stays longer
_WORTH_VACUUM = 1 << 20  # bytes
_VACUUM_PAGES = 256
_ODD = 10  # unknown states that are told apart
_UNREMOVED = 100  # paths that could not be removed that are recorded

#: Whether no API needs the row ``v`` of ``versions``. An API keeps its newest ?1, and all since the time ?2 (µs).
_UNUSED = (
    "NOT EXISTS (SELECT 1 FROM schedules WHERE api_id = v.api_id) AND "
    "(NOT EXISTS (SELECT 1 FROM apis WHERE name = v.name) OR v.updated < ?2 "
    "AND NOT EXISTS (SELECT 1 FROM apis WHERE api_id = v.api_id) "
    "AND (SELECT count(*) FROM versions n WHERE n.name = v.name AND n.updated > v.updated) >= ?1)"
)


class Deletions(APIs):
    """The statements of retention and of the verbs that delete."""

    def unremoved(self) -> dict[str, str]:
        """Return the paths of deleted jobs and versions that could not be removed, each with the reason."""
        return self._setting("unremoved")

    def set_unremoved(self, stuck: Mapping[str, str]) -> None:
        """Record them for ``jupyter taskapi doctor``; only the first hundred."""
        text = json.dumps(dict(list(stuck.items())[:_UNREMOVED]))
        with self.write() as transaction:
            transaction.execute("INSERT OR REPLACE INTO settings (name, value) VALUES ('unremoved', ?)", (text,))

    def unused_versions(
        self, dropping: Callable[[str], None] = lambda api_id: None, *, keep: int = 5, before: int = 0
    ) -> list[str]:
        """Delete versions that no job refers to and that are not deployed; return their ids.

        A deployed API keeps its newest ``keep`` versions, and those deployed since ``before`` (µs): somebody may be
        about to submit to one. ``dropping`` is called with each id while nobody can deploy that version again.
        """
        last = self.last()
        # All jobs are searched before the transaction, which blocks writers; in it only the jobs submitted since.
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
                    "AND NOT EXISTS (SELECT 1 FROM jobs WHERE (seq > ?4 OR seq < 0) AND api_id = ?3)",
                    values,
                ).fetchone()
                if still:
                    dropping(row["api_id"])
                    transaction.execute("DELETE FROM versions WHERE api_id = ?", (row["api_id"],))
                    unused.append(row["api_id"])
            return unused

    def drop_idle(self, before: int) -> None:
        """Delete APIs that were to go with their last job, deployed before a time (µs), and never had a job."""
        idle = "transient = 1 AND updated < ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE api_name = apis.name)"
        if self._one(f"SELECT EXISTS (SELECT 1 FROM apis WHERE {idle})", before)[0]:
            with self.write() as transaction:
                next_change(transaction)
                transaction.execute(f"DELETE FROM apis WHERE {idle}", (before,))

    def last(self) -> int:
        """Return the ``seq`` of the newest job."""
        return int(self._one("SELECT coalesce(max(seq), 0) FROM jobs")[0])

    def odd_states(self) -> list[Any]:
        """Return the unknown states that jobs are in, at most ten."""
        odd: list[Any] = []
        row = self._one("SELECT min(status) FROM jobs")
        while row[0] is not None and len(odd) < _ODD:
            status = bindable(row[0])
            if row[0] not in readable.WRITTEN:
                odd.append(status)
            row = self._one("SELECT min(status) FROM jobs WHERE status > ?", status)
        return odd

    def forget(self, job_id: str, force: bool = False) -> bool:
        """Delete a job that has ended, or any job with ``force``; False where it is in progress or missing."""
        with self.write() as transaction:
            return bool(
                _forget(
                    transaction,
                    transaction.execute(
                        "SELECT seq, id, api_name FROM jobs WHERE id = ? AND (status NOT IN (?, ?) OR ?)",
                        (job_id, *IN_PROGRESS, force),
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

    def forget_of_group(self, group_id: str, limit: int) -> list[str]:
        """Delete ended jobs of a group, at most ``limit``; return their ids. The group goes with its last job."""
        with self.write() as transaction:
            return _forget(
                transaction,
                transaction.execute(
                    "SELECT seq, id, api_name FROM jobs WHERE group_id = ? AND status NOT IN (?, ?) LIMIT ?",
                    (group_id, *IN_PROGRESS, limit),
                ).fetchall(),
            )

    def forget_of_schedule(self, name: str, keep: int, limit: int) -> list[str]:
        """Delete ended jobs of a schedule beyond its newest ``keep``, at most ``limit``; return their ids."""
        with self.write() as transaction:
            return _forget(
                transaction,
                transaction.execute(
                    "SELECT seq, id, api_name FROM jobs INDEXED BY jobs_of_schedule WHERE schedule = ? "
                    "AND status NOT IN (?, ?) ORDER BY seq DESC LIMIT ? OFFSET ?",
                    (name, *IN_PROGRESS, limit, keep),
                ).fetchall(),
            )

    def newest_beyond(self, keep: int) -> int:
        """Return the ``seq`` of the newest ended job that is not among the newest ``keep``; 0 where there is none."""
        row = self._one(
            "SELECT seq FROM jobs WHERE status NOT IN (?, ?) ORDER BY seq DESC LIMIT 1 OFFSET ?", *IN_PROGRESS, keep
        )
        return int(row[0]) if row else 0

    def forget_until(self, until: int, limit: int) -> list[str]:
        """Delete the oldest ended jobs, of those up to ``until`` (a ``seq``); return their ids.

        Those stay of which something is still to be sent.
        """
        with self.write() as transaction:
            return _forget(
                transaction,
                transaction.execute(
                    "SELECT seq, id, api_name FROM jobs WHERE status NOT IN (?, ?) AND seq <= ? AND NOT EXISTS "
                    "(SELECT 1 FROM outbox WHERE job_id = jobs.id AND state = 'waiting') ORDER BY seq LIMIT ?",
                    (*IN_PROGRESS, until, limit),
                ).fetchall(),
            )

    def forgotten(self) -> list[str]:
        """Return the ids of deleted jobs that are still recorded."""
        return [row["id"] for row in self._rows("SELECT id FROM forgotten")]

    def drop_forgotten(self, keep: Container[str]) -> None:
        """Drop the records of jobs that were deleted long ago, except those in ``keep``."""
        old = self._rows("SELECT rowid, id FROM forgotten WHERE change < ?", self.counter() - _NOTED)
        gone = [(row["rowid"],) for row in old if row["id"] not in keep]
        if gone:
            with self.write() as transaction:
                transaction.executemany("DELETE FROM forgotten WHERE rowid = ?", gone)

    def give_space_back(self) -> None:
        """Shrink the file where a quarter of it or more is empty."""
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
                    fault_point("store.vacuumed")
                    free -= _VACUUM_PAGES
            else:  # made by a version that did not prepare for this: all at once, and by pieces from then on
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _forget(transaction: sqlite3.Connection, jobs: Sequence[sqlite3.Row]) -> list[str]:
    """Delete jobs and record them as deleted; return their ids."""
    if jobs:
        change = next_change(transaction)
        transaction.executemany("DELETE FROM jobs WHERE seq = ?", [(job["seq"],) for job in jobs])
        transaction.executemany(
            "INSERT INTO forgotten (change, id, api_name) VALUES (?, ?, ?)",
            [(change, bindable(job["id"]), bindable(job["api_name"])) for job in jobs],
        )
        outbox.forget(transaction, [bindable(job["id"]) for job in jobs])
    return [job["id"] for job in jobs]
