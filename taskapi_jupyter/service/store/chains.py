"""Jobs that wait for others: what they wait for, and what becomes of them once that has ended. No msgspec.

A job whose row has ``after`` begins with a negative ``seq`` and without ``due`` and ``deadline``: no supervisor of any
version starts it or times it out. Triggers keep the table ``predecessors``, and name in ``unsettled`` each job that may
have nothing left to wait for; only a supervisor that knows of this lets it into the line, or ends it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import GroupNotFound, JobNotFound
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import JobCode

from . import outbox, readable, withheld
from .connection import Connections, Row
from .schema import next_change

#: A job that has not been let into the line yet.
WAITS = "after IS NOT NULL AND seq < 0 AND due IS NULL AND allowed IS NULL AND attempt = 1 AND status = 'pending'"

_ATTEMPTS = (
    "WITH RECURSIVE attempts (id, status, reason, next) AS ("
    "SELECT id, status, reason, retried_by FROM jobs WHERE id = ?1 "
    "UNION SELECT j.id, j.status, j.reason, j.retried_by FROM jobs j JOIN attempts a ON j.id = a.next)"
)
_LAST = "FROM attempts WHERE next IS NULL OR NOT EXISTS (SELECT 1 FROM jobs WHERE id = next) LIMIT 1"
_ADD = (
    "INSERT OR IGNORE INTO predecessors (job_id, after_id, ended) "
    "SELECT ?2, id, CASE WHEN status IN ('pending', 'running') THEN NULL ELSE CAST(status AS TEXT) END"
)
_ADD_JOB = f"{_ATTEMPTS} {_ADD} {_LAST}"
_ADD_GROUP = f"{_ADD} FROM jobs WHERE group_id = ?1 AND retried_by IS NULL"
_FEW = 100  # jobs that are asked about in one statement


class Given(NamedTuple):
    """The config that a job gets with the results of others in it, as JSON; or why it can't have them."""

    merged: str | None
    wrong: str | None = None


class Left(NamedTuple):
    """What a job still waits for."""

    number: int
    first: str  # the id of the one that was submitted first


class Chains(Connections):
    """The statements about jobs that wait for others."""

    def unsettled(self) -> list[Row]:
        """Return the jobs that may have nothing left to wait for.

        Each with ``id``, and with ``fill``: whether that is so, and it gets results, which have to be read first.
        """
        if not self._one("SELECT EXISTS (SELECT 1 FROM unsettled)")[0]:
            return []
        rows = self._rows(
            f"SELECT u.job_id AS id, after, coalesce({WAITS} AND NOT EXISTS "
            "(SELECT 1 FROM predecessors p WHERE p.job_id = u.job_id AND p.ended IS NULL), 0) AS ready "
            "FROM unsettled u LEFT JOIN jobs ON jobs.id = u.job_id"
        )
        return [{"id": row["id"], "fill": bool(row["ready"] and _wants(row).get("results"))} for row in rows]

    def to_fill(self, job_id: str) -> Row | None:
        """Return what is needed of a job to fill its config: ``id``, ``after``, ``config``, ``merged``."""
        row = self._one(f"SELECT id, after, config, merged FROM jobs WHERE id = ? AND {WAITS}", job_id)
        return dict(row) if row else None

    def settle(self, filled: Mapping[str, Given]) -> None:
        """Let the jobs into the line that have nothing left to wait for; end those whose predecessors failed them.

        ``filled`` has the configs of those that get results: one that is missing there is settled next time. What
        waits for a job that ends here ends in the same transaction.
        """
        with self.write() as transaction:
            change = next_change(transaction)
            later: set[str] = set()
            while True:
                found = [row["job_id"] for row in transaction.execute("SELECT job_id FROM unsettled").fetchall()]
                jobs = [job_id for job_id in found if job_id not in later]
                if not jobs:
                    break
                for job_id in jobs:
                    if _settle(transaction, job_id, filled.get(job_id), change):
                        transaction.execute("DELETE FROM unsettled WHERE job_id = ?", (job_id,))
                    else:
                        later.add(job_id)
            fault_point("chain.settled")
        fault_point("chain.released")

    def last_attempt(self, job_id: str) -> Row | None:
        """Return the last attempt of a job: ``id``, ``status``, ``reason``; None where it was deleted."""
        row = self._one(f"{_ATTEMPTS} SELECT id, status, reason {_LAST}", job_id)
        return dict(row) if row else None

    def left(self, job_ids: Sequence[str]) -> dict[str, Left]:
        """Return what each of some jobs still waits for; those that wait for none are missing."""
        found = {}
        for at in range(0, len(job_ids), _FEW):
            few = job_ids[at : at + _FEW]
            rows = self._rows(
                "SELECT job_id, count(*) AS n, max(after_id) AS first FROM predecessors "
                f"WHERE job_id IN ({', '.join('?' * len(few))}) AND ended IS NULL GROUP BY job_id",
                *few,
            )
            found.update({row["job_id"]: Left(row["n"], row["first"]) for row in rows})
        return found


def withhold(transaction: sqlite3.Connection, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a new job that waits for others: its place in line is kept, its timeout does not run."""
    return {**job, "seq": -withheld.reserve(transaction, 1), "deadline": None}


def add(transaction: sqlite3.Connection, job_id: str, after: Iterable[str]) -> None:
    """Write for which jobs a new job waits: for the last attempts of some jobs, and of the jobs of groups.

    Raises :class:`JobNotFound` or :class:`GroupNotFound` where one of them does not exist.
    """
    for other in after:
        table, sql, missing = (
            ("job_groups", _ADD_GROUP, GroupNotFound) if other.startswith("g") else ("jobs", _ADD_JOB, JobNotFound)
        )
        if not transaction.execute(f"SELECT 1 FROM {table} WHERE id = ?", (other,)).fetchone():
            raise missing(other)
        transaction.execute(sql, (other, job_id))
    transaction.execute(
        "INSERT OR IGNORE INTO unsettled (job_id) SELECT ?1 WHERE "
        "NOT EXISTS (SELECT 1 FROM predecessors WHERE job_id = ?1 AND ended IS NULL) "
        "OR EXISTS (SELECT 1 FROM predecessors WHERE job_id = ?1 AND ended IS NOT NULL AND ended != 'succeeded')",
        (job_id,),
    )


def any_unsettled(transaction: sqlite3.Connection) -> bool:
    """Whether any job may have nothing left to wait for."""
    return transaction.execute("SELECT 1 FROM unsettled LIMIT 1").fetchone() is not None


def tail(job_id: str) -> str:
    """Return the digits of an id that stand for it in a sentence."""
    return job_id[-4:]


def _wants(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job waits for, as it was submitted; nothing where its row can't be read."""
    return {} if readable.fault({"after": row["after"]}) else dict(json.loads(row["after"]))


def _settle(transaction: sqlite3.Connection, job_id: str, given: Given | None, change: int) -> bool:
    """Let one job into the line, end it, or leave it as it is; False where its config is yet to be filled."""
    row = transaction.execute(f"SELECT after FROM jobs WHERE id = ? AND {WAITS}", (job_id,)).fetchone()
    if row is None:
        return True
    if wrong := readable.fault({"after": row["after"]}):
        _end(transaction, job_id, f"its row can't be read: {wrong}", change)
        return True
    after = _wants(row)
    failed = transaction.execute(
        "SELECT after_id, ended FROM predecessors WHERE job_id = ?1 AND ended < ?2 UNION ALL "
        "SELECT after_id, ended FROM predecessors WHERE job_id = ?1 AND ended > ?2 ORDER BY after_id DESC LIMIT 1",
        (job_id, JobCode.SUCCEEDED.value),
    ).fetchone()
    if failed and not after.get("any"):
        _end(transaction, job_id, f"after {tail(failed['after_id'])}: {failed['ended']}", change)
        return True
    if transaction.execute(
        "SELECT 1 FROM predecessors WHERE job_id = ? AND ended IS NULL LIMIT 1", (job_id,)
    ).fetchone():
        return True
    if not after.get("results"):
        _let_in(transaction, job_id, None, change)
    elif given is None:
        return False
    elif given.wrong is not None:
        _end(transaction, job_id, given.wrong, change)
    else:
        _let_in(transaction, job_id, given.merged, change)
    return True


def _end(transaction: sqlite3.Connection, job_id: str, reason: str, change: int) -> None:
    """End a job that never began; what waits for it becomes unsettled. It is not tried again: `stop` is 1."""
    transaction.execute(
        "UPDATE jobs SET seq = abs(seq), status = 'stopped', stop = 1, ended = max(?, created), reason = ?, "
        "change = ? WHERE id = ?",
        (host.now_us(), readable.text(reason), change, job_id),
    )
    outbox.write(transaction, [job_id])


def _let_in(transaction: sqlite3.Connection, job_id: str, merged: str | None, change: int) -> None:
    """Let a job into the line, whose timeout counts from now on."""
    transaction.execute(
        "UPDATE jobs SET seq = -seq, allowed = max(?, created), boot = ?, deadline = ? + timeout, "
        "merged = coalesce(?, merged), change = ? WHERE id = ?",
        (host.now_us(), host.boot_id(), host.boottime(), merged, change, job_id),
    )
