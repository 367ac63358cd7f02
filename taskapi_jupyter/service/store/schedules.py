"""The rows of schedules, and their firings: of each at most one job. The supervisor imports it: no msgspec.

``next`` is the first time that has not been served, ``due`` when the schedule is looked at next: later, where the job
of ``next`` could not be submitted and is tried again. Each write of a row raises its ``change``, by which a writer sees
that nobody else has written it meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import Conflict
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import JobCode

from . import chains, groups, withheld
from .connection import Connections, Row
from .schema import IN_PROGRESS, next_change

MOST = 1000  # schedules of a home

#: How far (µs) in the future the last firing may be before it is clear that the clock was wrong then.
WRONG = 86_400_000_000

_GONE = "{name} was deleted: deploy it and resume this"


class Schedules(Connections):
    """The part of the store that is about schedules."""

    def next_firing(self) -> int | None:
        """Return when (µs) the first active schedule is to be looked at; None where there is none.

        That is 0 where one has fired at a time that is far in the future: the clock was wrong then.
        """
        row = self._one("SELECT min(due) FROM schedules WHERE active = 1 AND due IS NOT NULL")
        if not isinstance(row[0], int):
            return None
        now = host.now_us()
        if row[0] > now + WRONG and self._one(f"SELECT EXISTS (SELECT 1 FROM schedules WHERE {_AHEAD})", now)[0]:
            return 0
        return int(row[0])

    def schedule(self, name: str) -> Row | None:
        """Return one schedule, with the status of its last job as ``last_status``."""
        row = self._one(f"SELECT {_READ} FROM schedules s WHERE name = ?", name)
        return dict(row) if row else None

    def schedules(self) -> list[Row]:
        """Return all schedules by name, as :meth:`schedule` does."""
        return self._rows(f"SELECT {_READ} FROM schedules s ORDER BY name")

    def due_schedules(self, now: int) -> list[Row]:
        """Return the active schedules that are due, or fired last when the clock was far ahead."""
        return self._rows(
            f"SELECT * FROM schedules WHERE active = 1 AND due IS NOT NULL AND (due <= ?1 OR {_AHEAD}) ORDER BY due",
            now,
        )

    def schedule_news(self) -> list[Row]:
        """Return of all schedules what tells whether they have changed, and how."""
        return self._rows("SELECT name, api_name, change, created, last_job, misfires FROM schedules")

    def schedules_keeping(self) -> list[tuple[str, int]]:
        """Return the names of the schedules that keep a number of their jobs, with that number."""
        rows = self._rows("SELECT name, keep FROM schedules WHERE keep IS NOT NULL")
        return [(row["name"], row["keep"]) for row in rows]

    def add_schedule(self, schedule: Mapping[str, Any], replace: bool = False) -> None:
        """Write a schedule; raise :class:`Conflict` where there is one of the name, unless it is to be replaced."""
        with self.write() as transaction:
            there = transaction.execute("SELECT seq FROM schedules WHERE name = ?", (schedule["name"],)).fetchone()
            if there and not replace:
                raise Conflict(f"there is a schedule {schedule['name']} already: choose another name, or replace it")
            if not there and transaction.execute("SELECT count(*) FROM schedules").fetchone()[0] >= MOST:
                raise Conflict(f"there are {MOST} schedules already, as many as there may be: delete one")
            _check_deployed(transaction, schedule)
            row = {**schedule, "change": next_change(transaction)}
            transaction.execute("DELETE FROM schedules WHERE name = ?", (schedule["name"],))
            transaction.execute(
                f"INSERT INTO schedules ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
            )

    def change_schedule(self, row: Row, columns: Mapping[str, Any]) -> bool:
        """Write some columns of a schedule; False where another process has changed or deleted it since it was read."""
        with self.write() as transaction:
            if columns.get("active"):
                _check_deployed(transaction, {**row, **columns})
            return _set(transaction, row, columns)

    def delete_schedule(self, name: str) -> bool:
        """Delete a schedule; False where there is none. Its jobs stay."""
        with self.write() as transaction:
            next_change(transaction)
            return transaction.execute("DELETE FROM schedules WHERE name = ?", (name,)).rowcount == 1

    def jobs_of_schedule(self, name: str) -> list[Row]:
        """Return the jobs of a schedule that are in progress, oldest first: ``id``, ``seq``, ``status``, ``after``."""
        return self._rows(
            "SELECT id, seq, status, after FROM jobs INDEXED BY jobs_of_schedule "
            "WHERE schedule = ? AND status IN (?, ?) ORDER BY abs(seq)",
            name,
            *IN_PROGRESS,
        )

    def fire(
        self,
        row: Row,
        job: Mapping[str, Any],
        columns: Mapping[str, Any],
        *,
        after: Sequence[str] = (),
        stop: bool = False,
    ) -> str | None:
        """Write the job of a firing, and what its schedule is afterwards, in one transaction; return the job's id.

        ``after`` are the jobs that must have ended before it may start; with ``stop``, they are to be stopped. None
        where another process has changed the schedule since it was read. Where a firing of that time has its job
        already, only the schedule is written, with that job as its last one.
        """
        with self.write() as transaction:
            there = transaction.execute(
                "SELECT id FROM jobs INDEXED BY jobs_fired WHERE schedule = ? AND scheduled = ? AND attempt = 1 "
                "LIMIT 1",
                (row["name"], job["scheduled"]),
            ).fetchone()
            if there:
                job_id = str(there["id"])
                return job_id if _set(transaction, row, {**columns, "last_job": job_id}) else None
            groups.check_deployed(transaction, job)
            job_id = f"{withheld.next_id(transaction, withheld.id_now()):016x}"
            if not _set(transaction, row, {**columns, "last_job": job_id}):
                return None
            fault_point("firing.moved")
            change = next_change(transaction)
            if stop:
                transaction.executemany(
                    "UPDATE jobs SET stop = 1, change = ? WHERE id = ? AND stop = 0 AND status IN (?, ?)",
                    [(change, one, *IN_PROGRESS) for one in after],
                )
            job = {**job, "id": job_id, "status": JobCode.PENDING.value, "change": change}
            if after:
                job = chains.withhold(transaction, {**job, "after": json.dumps({"ids": [*after], "any": True})})
            transaction.execute(
                f"INSERT INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})", list(job.values())
            )
            if after:
                chains.add(transaction, job_id, after)
            return job_id


#: Of an active schedule: it fired last at a time that is far behind ?1.
_AHEAD = f"(active = 1 AND last > ?1 + {WRONG})"
_READ = "s.*, (SELECT j.status FROM jobs j WHERE j.id = s.last_job) AS last_status"


def pause_of(transaction: sqlite3.Connection, api: str, change: int) -> None:
    """Pause the schedules of an API that is being deleted."""
    transaction.execute(
        "UPDATE schedules SET active = 0, paused = ?, next = NULL, due = NULL, change = ?, updated = ? "
        "WHERE api_name = ? AND active = 1",
        (deleted(api), change, host.now_us(), api),
    )


def deleted(api: str) -> str:
    """Return why a schedule is paused whose API was deleted."""
    return _GONE.format(name=api)


def _check_deployed(transaction: sqlite3.Connection, schedule: Mapping[str, Any]) -> None:
    """Raise where the API of a schedule was deleted meanwhile, or the version that it runs."""
    row = transaction.execute("SELECT api_id FROM apis WHERE name = ?", (schedule["api_name"],)).fetchone()
    version = schedule["api_id"] or (row["api_id"] if row else "")
    groups.check_deployed(transaction, {"api_name": schedule["api_name"], "api_id": version})


def _set(transaction: sqlite3.Connection, row: Row, columns: Mapping[str, Any]) -> bool:
    fields = {**columns, "change": next_change(transaction), "updated": host.now_us()}
    done = transaction.execute(
        f"UPDATE schedules SET {', '.join(f'{name} = ?' for name in fields)} WHERE seq = ? AND change = ?",
        [*fields.values(), row["seq"], row["change"]],
    )
    return done.rowcount == 1
