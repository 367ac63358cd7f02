"""Statements for groups: jobs that were submitted together. No msgspec."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import APIIDNotFound, APINotDeployed, Conflict, GroupNotFound
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import JobCode

from . import outbox, readable, withheld
from .connection import Connections, Row
from .schema import IN_PROGRESS, LISTED, READ, next_change

#: The jobs of a group that count: of each, the last attempt.
_LAST = "group_id = ? AND retried_by IS NULL"


class Groups(Connections):
    """The store's groups."""

    def add_group(
        self, group: Mapping[str, Any], common: Mapping[str, Any], configs: Iterable[tuple[str | None, str | None]]
    ) -> tuple[str, list[str]]:
        """Write a group with its pending jobs, all or nothing; return its id and theirs, which descend.

        ``group`` has ``name``, ``max_running``, ``notebook``; ``common`` are the columns that all jobs share;
        ``configs`` are those of each, as submitted and merged. Raises :class:`APINotDeployed` or
        :class:`APIIDNotFound` where the API or the version was deleted meanwhile, :class:`Conflict` where a group of
        that name has not ended.
        """
        given = list(configs)
        with self.write() as transaction:
            check_deployed(transaction, common)
            self._check_name(transaction, group["name"])
            change = next_change(transaction)
            number = withheld.next_id(transaction, withheld.id_now())
            ids = [f"{number - index:016x}" for index in range(len(given))]
            group_id, seq, most = f"g{ids[0]}", withheld.reserve(transaction, len(given)), group["max_running"]
            transaction.execute(
                "INSERT INTO job_groups (id, name, api_name, created, size, max_running, withholds, notebook) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    group_id,
                    group["name"],
                    common["api_name"],
                    common["created"],
                    len(given),
                    most,
                    int(most is not None and most < len(given)),
                    group["notebook"],
                ),
            )
            fault_point("group.writing")
            columns = {**common, "status": JobCode.PENDING.value, "change": change, "group_id": group_id}
            each = ("seq", "id", "group_index", "config", "merged")
            shared = tuple(columns.values())
            transaction.executemany(
                f"INSERT INTO jobs ({', '.join((*each, *columns))}) VALUES ({', '.join('?' * (5 + len(shared)))})",
                (
                    (
                        seq + index if most is None or index < most else -seq - index,
                        ids[index],
                        index,
                        *given[index],
                        *shared,
                    )
                    for index in range(len(given))
                ),
            )
            return group_id, ids

    def _check_name(self, transaction: sqlite3.Connection, name: str | None) -> None:
        if name is None:
            return
        for row in transaction.execute("SELECT id FROM job_groups WHERE name = ?", (name,)).fetchall():
            going = transaction.execute(
                f"SELECT count(*) FROM jobs WHERE {_LAST} AND status IN (?, ?)", (row["id"], *IN_PROGRESS)
            ).fetchone()[0]
            if going:
                raise Conflict(
                    f"the name {name} is in use by group {row['id']}, which has not ended ({going} in progress): "
                    "choose another name, or stop that group"
                )

    def group(self, group_id: str) -> Row | None:
        """Return one group."""
        row = self._one("SELECT * FROM job_groups WHERE id = ?", group_id)
        return dict(row) if row else None

    def group_of(self, word: str) -> Row | None:
        """Return the group of an id, or else the newest one of a name, or the only one whose id ends so."""
        if not readable.is_utf8(word):
            return None
        if (found := self.group(word)) is not None:
            return found
        named = self._rows("SELECT * FROM job_groups WHERE name = ? ORDER BY seq DESC LIMIT 1", word)
        return named[0] if named else None

    def groups_ending(self, digits: str) -> list[Row]:
        """Return groups whose ids end so, newest first, at most two."""
        like = "%" + "".join(one for one in digits if one in "0123456789abcdef")
        return self._rows("SELECT * FROM job_groups WHERE id LIKE ? ORDER BY seq DESC LIMIT 2", like)

    def groups(self, limit: int, before: int | None = None) -> list[Row]:
        """Return a page of groups, newest first; ``before`` is the ``seq`` that the last page ended with."""
        return self._rows(
            "SELECT * FROM job_groups WHERE seq < ? ORDER BY seq DESC LIMIT ?",
            (1 << 62) if before is None else before,
            limit,
        )

    def group_counts(self, group_id: str) -> dict[str, int]:
        """Count a group's jobs by status, each by its last attempt."""
        rows = self._rows(f"SELECT status, count(*) AS n FROM jobs WHERE {_LAST} GROUP BY status", group_id)
        return {readable.text(row["status"]): row["n"] for row in rows}

    def group_running(self, group_id: str) -> list[Row]:
        """Return the running jobs of a group."""
        return self._rows(f"SELECT {READ} FROM jobs WHERE {_LAST} AND status = 'running'", group_id)

    def group_ended(self, group_id: str) -> int | None:
        """Return when the last of a group's jobs ended (µs)."""
        return max(
            (
                row["ended"]
                for row in self._rows(f"SELECT max(ended) AS ended FROM jobs WHERE {_LAST} GROUP BY status", group_id)
                if isinstance(row["ended"], int)
            ),
            default=None,
        )

    def group_jobs(
        self, group_id: str, limit: int, after: int = -1, *, whole: bool = False, statuses: Sequence[str] = ()
    ) -> list[Row]:
        """Return the last attempts of a group's jobs in order, those behind an index; ``whole``: with any config."""
        only = f"AND +status IN ({', '.join('?' * len(statuses))}) " if statuses else ""
        return self._rows(
            f"SELECT {READ if whole else LISTED} FROM jobs WHERE {_LAST} AND group_index > ? {only}"
            "ORDER BY group_index LIMIT ?",
            group_id,
            after,
            *statuses,
            limit,
        )

    def group_configs(self, group_id: str, statuses: Sequence[str]) -> list[Row]:
        """Return what a rerun of a group needs of its jobs: of all, or of those in some states."""
        only = f" AND status IN ({', '.join('?' * len(statuses))})" if statuses else ""
        return self._rows(f"SELECT {READ} FROM jobs WHERE {_LAST}{only} ORDER BY group_index", group_id, *statuses)

    def group_jobs_in(self, group_id: str, statuses: Sequence[str], limit: int = 1) -> list[Row]:
        """Return jobs of a group in some states, of all attempts, at most ``limit``: ``seq``, ``id``, ``api_name``."""
        marks = ", ".join("?" * len(statuses))
        return self._rows(
            f"SELECT seq, id, api_name FROM jobs WHERE group_id = ? AND status IN ({marks}) LIMIT ?",
            group_id,
            *statuses,
            limit,
        )

    def stop_group(self, group_id: str) -> tuple[int, list[str]]:
        """End a group's pending jobs and request the stop of the running ones, in one transaction.

        Return how many were pending, and the ids of those that run. No job of the group starts after this.
        """
        with self.write() as transaction:
            change = next_change(transaction)
            pending = transaction.execute(
                f"SELECT seq, id FROM jobs WHERE {_LAST} AND status = 'pending'", (group_id,)
            ).fetchall()
            now = host.now_us()
            transaction.executemany(
                "UPDATE jobs SET seq = abs(seq), status = 'stopped', stop = 1, due = NULL, ended = max(?, created), "
                "change = ? WHERE seq = ?",
                [(now, change, row["seq"]) for row in pending],
            )
            outbox.write(transaction, [row["id"] for row in pending])
            running = transaction.execute(
                f"SELECT id FROM jobs WHERE {_LAST} AND status = 'running'", (group_id,)
            ).fetchall()
            transaction.executemany(
                "UPDATE jobs SET hurry = stop, stop = 1, change = ? WHERE id = ?",
                [(change, row["id"]) for row in running],
            )
            transaction.execute("UPDATE job_groups SET withholds = 0 WHERE id = ?", (group_id,))
            return len(pending), [row["id"] for row in running]


def check_deployed(transaction: sqlite3.Connection, job: Mapping[str, Any]) -> None:
    """Raise where the API or the version of a new job was deleted meanwhile."""
    if not transaction.execute("SELECT 1 FROM apis WHERE name = ?", (job["api_name"],)).fetchone():
        raise APINotDeployed(job["api_name"])
    if not transaction.execute("SELECT 1 FROM versions WHERE api_id = ?", (job["api_id"],)).fetchone():
        raise APIIDNotFound(job["api_name"], job["api_id"])


def append(transaction: sqlite3.Connection, job: Mapping[str, Any], change: int) -> dict[str, Any]:
    """Return the columns that a new job of an existing group needs; raise :class:`GroupNotFound` without one."""
    group_id = job["group_id"]
    row = transaction.execute("SELECT size, max_running FROM job_groups WHERE id = ?", (group_id,)).fetchone()
    if row is None:
        raise GroupNotFound(group_id)
    withholds = row["max_running"] is not None
    transaction.execute(
        "UPDATE job_groups SET size = size + 1, withholds = max(withholds, ?) WHERE id = ?", (int(withholds), group_id)
    )
    place = {"seq": -withheld.reserve(transaction, 1)} if withholds else {}
    return {**job, "group_index": row["size"], **place}
