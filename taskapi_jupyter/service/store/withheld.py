"""Jobs that may not start yet, and the next attempts of jobs that failed. No msgspec.

A job that may not start yet is ``pending`` with a negative ``seq``, which is that of its place in line with a minus
before it. A supervisor looks for jobs to start from ``seq`` 1 on, also one of a version that knows nothing of this; it
times such jobs out and stops them. All here are steps of a transaction that somebody else has begun.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

from taskapi_jupyter.core import host
from taskapi_jupyter.core.states import FAILURES, MAX_RETRY_DELAY, values

from . import readable
from .schema import IS_JOB

#: What an attempt has of the one before.
_SAME = (
    "api_name, api_id, spec_id, timeout, run_timeout, notebook, cpu, mem, gpu, visible, config, merged, priority, "
    "group_id, group_index, retries, retry_on, retry_delay, after, schedule, scheduled, notify"
)

#: Jobs that have failed and may be tried again.
TO_RETRY = (
    "retries >= attempt AND retried_by IS NULL AND stop = 0 AND status NOT IN ('pending', 'running', 'succeeded')"
)


def newest_id(transaction: sqlite3.Connection) -> int | None:
    """Return the number that is the id of the newest job; None where there is none."""
    found = [
        transaction.execute(f"SELECT id FROM jobs WHERE {which} AND {IS_JOB} ORDER BY {order} LIMIT 1").fetchone()
        for which, order in (("seq > 0", "seq DESC"), ("seq < 0", "seq"))
    ]
    return min((int(row[0], 16) for row in found if row), default=None)


def next_id(transaction: sqlite3.Connection, first: int) -> int:
    """Return the number of a new job's id: ``first``, or one below that of the newest job."""
    newest = newest_id(transaction)
    return first if newest is None else min(first, newest - 1)


def id_now() -> int:
    """Return the number of the id of a job that is submitted now; ids descend."""
    return (1 << 63) - 1 - time.time_ns()


def reserve(transaction: sqlite3.Connection, count: int) -> int:
    """Return the first of ``count`` new numbers for ``seq``; no job that is added later gets one of them."""
    row = transaction.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    last = int(row[0]) if row else 0
    if row:
        transaction.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (last + count,))
    else:
        transaction.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (count,))
    return last + 1


def retry(transaction: sqlite3.Connection, job_ids: Iterable[str], change: int) -> bool:
    """Write the next attempts of those jobs that have failed and are to be tried again; return whether any is."""
    any_is = False
    for job_id in job_ids:
        row = transaction.execute(
            "SELECT attempt, retries, retry_on, retry_delay, status, group_id, priority FROM jobs "
            f"WHERE id = ? AND {TO_RETRY}",
            (job_id,),
        ).fetchone()
        if row is None or readable.fault(dict(row)):
            continue
        if row["status"] not in (row["retry_on"].split(",") if row["retry_on"] else values(FAILURES)):
            continue
        any_is = True
        delay = min((row["retry_delay"] or 0.0) * 2 ** (row["attempt"] - 1), MAX_RETRY_DELAY)
        new_id, now = f"{next_id(transaction, id_now()):016x}", host.boottime()
        transaction.execute(
            f"INSERT INTO jobs (seq, id, status, change, created, boot, deadline, attempt, retry_of, due, {_SAME}) "
            f"SELECT ?, ?, 'pending', ?, ?, ?, ? + timeout, attempt + 1, id, ?, {_SAME} FROM jobs WHERE id = ?",
            (
                -reserve(transaction, 1),
                new_id,
                change,
                host.now_us(),
                host.boot_id(),
                now,
                now + delay if delay > 0 else None,
                job_id,
            ),
        )
        transaction.execute("UPDATE jobs SET retried_by = ? WHERE id = ?", (new_id, job_id))
        if row["group_id"] is None:
            _let_in(transaction, "SELECT seq FROM jobs WHERE id = ? AND due IS NULL", (new_id,), change)
        else:
            transaction.execute("UPDATE job_groups SET withholds = 1 WHERE id = ?", (row["group_id"],))
    return any_is


def release(transaction: sqlite3.Connection, change: int) -> bool:
    """Let the jobs into the line that may start now; return whether there are any."""
    now, boot = host.boottime(), host.boot_id()
    singles = _let_in(
        transaction,
        "SELECT seq FROM jobs WHERE due <= ? AND boot = ? AND group_id IS NULL AND seq < 0 AND status = 'pending'",
        (now, boot),
        change,
    )
    transaction.execute("UPDATE jobs SET due = NULL WHERE due <= ? AND boot = ? AND seq < 0", (now, boot))
    of_groups = 0
    for group in transaction.execute("SELECT id, max_running FROM job_groups WHERE withholds = 1").fetchall():
        room = -1  # no limit
        if group["max_running"] is not None:
            begun = transaction.execute(
                "SELECT count(*) FROM jobs WHERE group_id = ? AND retried_by IS NULL "
                "AND status IN ('pending', 'running') AND ended IS NULL AND seq > 0",
                (group["id"],),
            ).fetchone()[0]
            room = max(group["max_running"] - begun, 0)
        of_groups += _let_in(
            transaction,
            "SELECT seq FROM jobs WHERE group_id = ? AND retried_by IS NULL AND status = 'pending' "
            "AND ended IS NULL AND seq < 0 AND due IS NULL ORDER BY seq DESC LIMIT ?",
            (group["id"], room),
            change,
        )
        transaction.execute(
            "UPDATE job_groups SET withholds = 0 WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs "
            "WHERE group_id = ?1 AND retried_by IS NULL AND status = 'pending' AND ended IS NULL AND seq < 0)",
            (group["id"],),
        )
    return bool(singles or of_groups)


def _let_in(transaction: sqlite3.Connection, which: str, given: tuple[object, ...], change: int) -> int:
    rows = transaction.execute(which, given).fetchall()
    transaction.executemany(
        "UPDATE jobs SET seq = -seq, due = NULL, change = ? WHERE seq = ?", [(change, row["seq"]) for row in rows]
    )
    return len(rows)


def rebase(transaction: sqlite3.Connection) -> None:
    """Convert what jobs of earlier boots wait for to this boot's clock, by the wall clock: see `rebase_deadlines`."""
    boot, now = host.boot_id(), host.boottime()
    rows = transaction.execute(
        "SELECT seq, created, attempt, retry_delay FROM jobs WHERE due IS NOT NULL AND boot != ?", (boot,)
    ).fetchall()
    for row in rows:
        delay = 0.0
        if not readable.fault(dict(row)):
            delay = min((row["retry_delay"] or 0.0) * 2 ** max(row["attempt"] - 2, 0), MAX_RETRY_DELAY)
            delay = min(max(row["created"] / 1e6 + delay - time.time(), 0.0), delay)
        transaction.execute("UPDATE jobs SET due = ? WHERE seq = ?", (now + delay, row["seq"]))
    transaction.execute(
        "UPDATE jobs SET boot = ? WHERE due IS NOT NULL AND deadline IS NULL AND boot != ?", (boot, boot)
    )
