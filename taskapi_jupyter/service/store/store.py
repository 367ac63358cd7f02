"""The store: the APIs and jobs of a home in one SQLite file, as plain rows. The supervisor imports it: no msgspec.

Every transaction that changes something increments one counter and writes it into the rows it changed. A reader learns
with one cheap query whether anything changed, and with another what. A job changes its state only by compare-and-set.
Commits are synced: what was acknowledged is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import TERMINAL, JobCode, may_move

from . import chains, groups, outbox, withheld
from .chains import Chains
from .connection import Row
from .deletions import Deletions
from .groups import Groups
from .lists import Lists
from .outbox import Outbox
from .schedules import Schedules
from .schema import IN_PROGRESS, IS_JOB, READ, next_change

IN_LINE = 1000  # pending jobs whose place in line is shown


class Store(Deletions, Lists, Groups, Chains, Schedules, Outbox):
    """The database of one home: what changed, and its jobs."""

    # What changed

    def news(self, since: int) -> list[Row]:
        """Return the jobs that changed since a value of the counter: id, API, status, ``change``, times and group.

        The oldest change comes first. All are returned: one transaction may have changed any number of jobs under one
        value of the counter. The status of a deleted job is ``deleted``.
        """
        return self._rows(
            "SELECT id, api_name, status, change, created, started, ended, group_id FROM jobs WHERE change > ?1 "
            "UNION ALL SELECT id, api_name, 'deleted', change, 0, NULL, NULL, NULL FROM forgotten WHERE change > ?1 "
            "ORDER BY change",
            since,
        )

    # Jobs

    def add_job(self, job: Mapping[str, Any], first_id: int) -> str:
        """Write a pending job and return its id: ``first_id`` as 16 hex digits, or one below that of the newest job.

        Where it has ``after``, as JSON ``{"ids": [...], "any": bool, "results": {key: id}}``, it waits for these jobs
        and groups: ``chains.py``. Raises :class:`APINotDeployed` or :class:`APIIDNotFound` where the API or the
        version was deleted meanwhile, :class:`JobNotFound` or :class:`GroupNotFound` where one of those was.
        """
        with self.write() as transaction:
            groups.check_deployed(transaction, job)
            change = next_change(transaction)
            waits = job.get("after") is not None
            if waits:
                job = chains.withhold(transaction, job)
            elif job.get("group_id") is not None:
                job = groups.append(transaction, job, change)
            job = {
                **job,
                "id": f"{withheld.next_id(transaction, first_id):016x}",
                "status": JobCode.PENDING.value,
                "change": change,
            }
            transaction.execute(
                f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})",
                list(job.values()),
            )
            if waits:
                after = json.loads(job["after"])
                chains.add(transaction, job["id"], [*after["ids"], *(after.get("results") or {}).values()])
            elif job.get("seq") is not None:
                withheld.release(transaction, change)
            return str(job["id"])

    def job(self, job_id: str) -> Row | None:
        """Return one job with the columns that its readers need."""
        row = self._one(f"SELECT {READ} FROM jobs WHERE id = ?", job_id)
        return dict(row) if row else None

    def whole_job(self, job_id: str) -> Row | None:
        """Return all that starting a job needs: its row with its version's ``launch``."""
        row = self._one(
            "SELECT j.*, v.launch, s.timezone FROM jobs j JOIN versions v USING (api_id) "
            "LEFT JOIN schedules s ON s.name = j.schedule AND j.scheduled IS NOT NULL WHERE j.id = ?",
            job_id,
        )
        return dict(row) if row else None

    def count_in_progress(self) -> int:
        """Count the jobs that are pending or running."""
        return int(self._one(f"SELECT count(*) FROM jobs WHERE status IN (?, ?) AND {IS_JOB}", *IN_PROGRESS)[0])

    def any_in_progress(self) -> bool:
        """Whether any job is pending or running."""
        sql = f"SELECT EXISTS (SELECT 1 FROM jobs WHERE status IN (?, ?) AND {IS_JOB})"
        return bool(self._one(sql, *IN_PROGRESS)[0])

    def anything_to_do(self) -> bool:
        """Whether a supervisor is needed: jobs are in progress, a schedule is active, or something is to be sent."""
        sql = (
            f"SELECT EXISTS (SELECT 1 FROM jobs WHERE status IN (?, ?) AND {IS_JOB}) "
            "OR EXISTS (SELECT 1 FROM schedules WHERE active = 1 AND due IS NOT NULL AND typeof(due) = 'integer') "
            "OR EXISTS (SELECT 1 FROM outbox WHERE state = 'waiting' AND typeof(due) = 'integer')"
        )
        return bool(self._one(sql, *IN_PROGRESS)[0])

    def running(self) -> list[Row]:
        """Return the jobs marked running, in the order of their submission."""
        return self._rows(f"SELECT * FROM jobs WHERE status = 'running' AND {IS_JOB} ORDER BY seq")

    def in_line(self, limit: int, passed: int = 0) -> list[Row]:
        """Return the columns that admission needs of the first pending jobs in line, behind so many that were seen.

        By priority, then in the order of submission; without those that may not start yet.
        """
        return self._rows(
            "SELECT id, seq, cpu, mem, gpu, visible FROM jobs INDEXED BY jobs_in_line "
            f"WHERE status = 'pending' AND seq > 0 AND {IS_JOB} ORDER BY priority DESC, seq LIMIT ? OFFSET ?",
            limit,
            passed,
        )

    def line(self) -> list[int]:
        """Return the ``seq`` of the pending jobs, first in line first, at most :data:`IN_LINE`."""
        rows = self._rows(
            "SELECT seq FROM jobs INDEXED BY jobs_in_line WHERE status = 'pending' AND seq > 0 "
            "ORDER BY priority DESC, seq LIMIT ?",
            IN_LINE,
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
        """Return the jobs in progress that are to be stopped."""
        return self._rows(
            "SELECT id, status, hurry FROM jobs INDEXED BY jobs_to_stop "  # sqlite would look at all that are pending
            f"WHERE stop = 1 AND status IN ('pending', 'running') AND {IS_JOB} ORDER BY seq"
        )

    def pending_deadlines(self, boot: str) -> list[Row]:
        """Return the pending jobs whose deadline counts by this boot's clock, soonest first, at most 100."""
        return self._rows(
            "SELECT id, deadline, timeout, allowed FROM jobs INDEXED BY jobs_due "
            "WHERE status = 'pending' AND deadline IS NOT NULL AND boot = ? AND typeof(deadline) != 'text' "
            f"AND typeof(deadline) != 'blob' AND {IS_JOB} ORDER BY deadline LIMIT 100",
            boot,
        )

    def rebase_deadlines(self, boot: str, boottime: float, now: float) -> None:
        """Convert the deadlines of earlier boots to this boot's clock, by the wall clock, which alone spans a restart.

        The wall clock may be wrong by then, so no job gets more than its whole timeout from now on.
        """
        old = "status = 'pending' AND deadline IS NOT NULL AND boot != ?1"
        if self._one(f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {old})", boot)[0]:
            with self.write() as transaction:
                transaction.execute(
                    "UPDATE jobs SET deadline = ?2 + min(timeout, coalesce(allowed, created) / 1e6 + timeout - ?3), "
                    f"boot = ?1 WHERE {old}",
                    (boot, boottime, now),
                )

    def request_stop(self, job_id: str) -> bool:
        """Request a job's stop; a second request ends its grace period. False where the job has ended."""
        with self.write() as transaction:
            done = transaction.execute(
                "UPDATE jobs SET hurry = stop, stop = 1, change = ? WHERE id = ? AND status IN (?, ?)",
                (next_change(transaction), job_id, *IN_PROGRESS),
            )
            return done.rowcount == 1

    def cancel(self, job_id: str) -> bool:
        """End a pending job, which then never starts; False where it is not pending."""
        with self.write() as transaction:
            change = next_change(transaction)
            done = transaction.execute(
                "UPDATE jobs SET seq = abs(seq), status = 'stopped', stop = 1, due = NULL, ended = max(?, created), "
                "change = ? WHERE id = ? AND status = 'pending'",
                (host.now_us(), change, job_id),
            )
            if done.rowcount:
                outbox.write(transaction, [job_id])
            withheld.release(transaction, change)
            return done.rowcount == 1

    def odd(self, limit: int) -> list[Row]:
        """Return jobs that the supervisor skips: those in an unknown state, or in progress under an invalid id.

        The cost does not depend on how many jobs there are: it walks the index from one state to the next.
        """
        found = self._rows(
            f"SELECT id, status FROM jobs WHERE status IN (?, ?) AND NOT {IS_JOB} LIMIT ?", *IN_PROGRESS, limit
        )
        for status in self.odd_states():
            found += self._rows("SELECT id, status FROM jobs WHERE status = ? LIMIT ?", status, limit)
        return found[:limit]

    def move(self, moves: Sequence[tuple[str, JobCode, JobCode, Mapping[str, Any]]]) -> list[bool]:
        """Move jobs from one state to another in one transaction; each move is ``(id, from, to, other columns)``.

        Each is a compare-and-set: False where the job was not in the state ``from``.
        """
        return self.record(moves)[0]

    def record(self, moves: Sequence[tuple[str, JobCode, JobCode, Mapping[str, Any]]]) -> tuple[list[bool], bool]:
        """Move jobs as :meth:`move` does; write the next attempts of those that failed in the same transaction.

        Return also whether there are jobs in line that were not before: these attempts, and jobs of a group whose
        ``max_running`` allows them now; and whether jobs may have nothing left to wait for.
        """
        with self.write() as transaction:
            change = next_change(transaction)
            done = []
            for job_id, old, new, columns in moves:
                if not may_move(old, new):
                    raise ValueError(f"a job can't go from {old} to {new}")
                fields = {**columns, "status": new.value, "change": change}
                # A job that ends without having started may have been one that was not in line yet.
                place = ", seq = abs(seq), due = NULL" if old is JobCode.PENDING and new in TERMINAL else ""
                done.append(
                    transaction.execute(
                        f"UPDATE jobs SET {', '.join(f'{name} = {_value(name)}' for name in fields)}{place} "
                        "WHERE id = ? AND status = ?",
                        [*fields.values(), job_id, old.value],
                    ).rowcount
                    == 1
                )
            moved = [move for move, won in zip(moves, done, strict=True) if won]
            over = [move[0] for move in moved if move[2] in TERMINAL]
            if not over:
                outbox.write(transaction, [move[0] for move in moved])
                return done, False
            fault_point("attempt.failed")
            again = withheld.retry(transaction, over, change)
            fault_point("attempt.written")
            outbox.write(transaction, [move[0] for move in moved])
            return done, withheld.release(transaction, change) or again or chains.any_unsettled(transaction)

    def next_due(self, boot: str) -> float | None:
        """Return when the first job that waits for its time is due, by this boot's clock; None where none waits."""
        row = self._one("SELECT min(due) FROM jobs WHERE due IS NOT NULL AND boot = ?", boot)
        return float(row[0]) if isinstance(row[0], int | float) else None

    def release(self) -> None:
        """Let the jobs into the line that are due."""
        with self.write() as transaction:
            withheld.release(transaction, next_change(transaction))

    def catch_up(self) -> None:
        """Do what a supervisor of an older version left out: write next attempts, let jobs into the line."""
        sql = f"SELECT id FROM jobs INDEXED BY jobs_to_retry WHERE {withheld.TO_RETRY}"
        missed = [row["id"] for row in self._rows(sql)]
        ended = self._rows("SELECT seq FROM jobs WHERE seq < 0 AND status NOT IN (?, ?)", *IN_PROGRESS)
        waits = self._one("SELECT EXISTS (SELECT 1 FROM jobs WHERE seq < 0)")[0]
        if missed or waits:
            with self.write() as transaction:
                change = next_change(transaction)
                for row in ended:
                    transaction.execute("UPDATE jobs SET seq = abs(seq), due = NULL WHERE seq = ?", (row["seq"],))
                withheld.rebase(transaction)
                withheld.retry(transaction, missed, change)
                withheld.release(transaction, change)


def _value(column: str) -> str:
    """Return the SQL for a column's new value: no time is before the one it follows, even if the clock was set back."""
    return {"started": "max(?, created)", "ended": "max(?, coalesce(started, created))"}.get(column, "?")
