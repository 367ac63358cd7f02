"""Statements for lists of jobs: pages, searches and counts, whose cost does not depend on how many jobs there are.

No msgspec.
"""

from __future__ import annotations

import heapq
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

from . import readable
from .connection import Connections, Row, bindable
from .schema import IN_PROGRESS, LISTED, READ

SEARCHED = 10_000  # jobs that one search looks at
_SEARCHING = 0.05  # seconds of a core after which one search ends: configs may be large
_SEARCHING_AT_MOST = 0.25  # seconds after which it ends on a busy machine
_CONFIG = 1 << 16  # characters of a config that are searched
LAST = 1 << 59  # above every seq, and short enough for a cursor

#: What a search looks at: the progress (JSON), and all other texts, a line each. SQLite gives bytes faster than text.
_GROUP = (
    "CASE WHEN group_id IS NULL THEN '' ELSE "
    "group_id || char(10) || coalesce((SELECT g.name FROM job_groups g WHERE g.id = group_id), '') END"
)
_TEXTS = (
    "seq, group_id, group_index, attempt, progress, "
    "CAST(status || char(10) || id || char(10) || api_name || char(10) || coalesce(notebook, '') || char(10) || "
    f"coalesce(reason, '') || char(10) || {_GROUP} || char(10) || coalesce(schedule, '') || char(10) || "
    f"coalesce(substr(config, 1, {_CONFIG}), '') AS BLOB)"
)
_ATTEMPTS = 128  # more than a job can have: with an index of a group's, they make one number
_AT_A_TIME = 200  # jobs that are read before a search looks at the clock


class Texts(NamedTuple):
    """What of a job can be searched."""

    seq: int
    group_id: str | None
    group_index: int | None
    attempt: int
    progress: str | None
    text: bytes  # status, id, API, notebook, reason, group, its name, schedule and config, a line each

    def place(self, group: str | None) -> int:
        """Return the place in a list, of a group or of all."""
        return abs(self.seq) if group is None else (self.group_index or 0) * _ATTEMPTS + self.attempt


class Found(NamedTuple):
    """What a search found: rows for a list, and how many jobs it looked at."""

    rows: list[Row]  # each has in ``searched`` how many jobs had been looked at then
    searched: int
    before: int | None  # the place to go on before; None: no older jobs are left
    groups: list[str]  # where groups are closed: the ids of those that have a job that fits


class Entries(NamedTuple):
    """A page of a list in which groups are closed."""

    jobs: list[Row]  # those of no group, newest first
    groups: list[Row]  # newest first


Places = tuple[int, int]  # in such a list: the place of a job, and the ``seq`` of a group


class Lists(Connections):
    """The store's lists."""

    def jobs(
        self,
        api: str | None,
        statuses: Sequence[str],
        limit: int,
        before: int | None = None,
        *,
        columns: str = LISTED,
        group: str | None = None,
        schedule: str | None = None,
    ) -> list[Row]:
        """Return a page, newest first; ``before`` is the place (:func:`place`) that the last page ended with.

        Of a group, jobs come in the reverse order of their index.
        """
        with self.read() as connection:
            parts = [
                connection.execute(*walk).fetchall()
                for walk in _walks(
                    columns, api, statuses, before, limit, group=group, also=_withheld(connection), schedule=schedule
                )
            ]
        found = [dict(row) for rows in parts for row in rows]
        return sorted(found, key=lambda row: -place(row, group))[:limit]

    def jobs_with(self, ids: Sequence[str]) -> list[Row]:
        """Return the jobs that have these ids, newest first, with their configs."""
        known = list(map(bindable, ids))
        return self._rows(f"SELECT {READ} FROM jobs WHERE id IN ({', '.join('?' * len(known))}) ORDER BY id", *known)

    def entries(self, api: str | None, statuses: Sequence[str], limit: int, before: Places = (LAST, LAST)) -> Entries:
        """Return the newest jobs that are in no group, and the newest groups, at most ``limit`` of each.

        A group is listed under a status where the last attempt of one of its jobs is in it.
        """
        where, values = ["seq < ?"], list[object]([before[1]])
        if api is not None:
            where.append("api_name = ?")
            values.append(bindable(api))
        if statuses:
            marks = ", ".join("?" * len(statuses))
            where.append(
                "EXISTS (SELECT 1 FROM jobs j WHERE j.group_id = g.id AND j.retried_by IS NULL "
                f"AND j.status IN ({marks}))"
            )
            values += map(bindable, statuses)
        sql = f"SELECT * FROM job_groups g WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"
        with self.read() as connection:
            groups = [dict(row) for row in connection.execute(sql, [*values, limit]).fetchall()]
            walks = _single_walks(connection, api, statuses, before[0], limit)
            jobs = [dict(row) for walk in walks for row in connection.execute(*walk).fetchall()]
        return Entries(sorted(jobs, key=lambda row: -place(row))[:limit], groups)

    def search(
        self,
        fits: Callable[[Texts], bool],
        api: str | None,
        statuses: Sequence[str],
        limit: int,
        before: int | None = None,
        *,
        group: str | None = None,
        closed: bool = False,
        schedule: str | None = None,
    ) -> Found:
        """Return the newest jobs that fit, at most ``limit``, of the newest :data:`SEARCHED` before a place.

        ``closed``: of a group's jobs, only the last attempts are looked at, and those that fit stand for the group.
        """
        found: list[tuple[int, int]] = []
        groups = dict[str, None]()
        searched, last = 0, None
        until, latest = time.thread_time() + _SEARCHING, time.monotonic() + _SEARCHING_AT_MOST
        with self.read() as connection, ExitStack() as open_cursors:
            walks = []
            also = _withheld(connection)
            for walk in _walks(
                _TEXTS, api, statuses, before, SEARCHED + 1, group=group, also=also, last=closed, schedule=schedule
            ):
                cursor = open_cursors.enter_context(closing(connection.cursor()))
                cursor.row_factory = None
                walks.append(map(Texts._make, cursor.execute(*walk)))
            for texts in heapq.merge(*walks, key=lambda texts: -texts.place(group)):
                late = False
                if searched and (searched % _AT_A_TIME == 0 or len(texts.text) > _CONFIG // 2):
                    late = _passed(until, latest)
                if late or len(found) + len(groups) == limit or searched == SEARCHED:
                    break
                searched, last = searched + 1, texts.place(group)
                in_group = texts.group_id if closed else None
                if in_group not in groups and fits(texts):
                    if in_group is None:
                        found.append((texts.seq, searched))
                    else:
                        groups[in_group] = None
            else:
                last = None
            rows = _rows(connection, found)
        return Found(rows, searched, last, [*groups])

    def search_group(
        self, fits: Callable[[Texts], bool], group: str, statuses: Sequence[str], limit: int, after: int
    ) -> Found:
        """Return the jobs of a group that fit, in order from behind an index on, each by its last attempt.

        ``before`` of the answer is the index to go on behind.
        """
        found: list[tuple[int, int]] = []
        searched, last = 0, None
        until, latest = time.thread_time() + _SEARCHING, time.monotonic() + _SEARCHING_AT_MOST
        only = f" AND status IN ({', '.join('?' * len(statuses))})" if statuses else ""
        sql = (
            f"SELECT {_TEXTS} FROM jobs INDEXED BY jobs_in_group WHERE group_id = ? AND group_index > ? "
            f"AND retried_by IS NULL{only} ORDER BY group_index LIMIT {SEARCHED + 1}"
        )
        with self._connection() as connection, closing(connection.cursor()) as cursor:
            cursor.row_factory = None
            for texts in map(Texts._make, cursor.execute(sql, [group, after, *statuses])):
                late = searched and searched % _AT_A_TIME == 0 and _passed(until, latest)
                if late or len(found) == limit or searched == SEARCHED:
                    break
                searched, last = searched + 1, texts.group_index
                if fits(texts):
                    found.append((texts.seq, searched))
            else:
                last = None
            rows = _rows(connection, found)
        return Found(rows, searched, last, [])

    def counts(self, api: str | None, statuses: Sequence[str]) -> dict[str, int]:
        """Count the jobs by status."""
        where, values = ["n > 0"], []
        if api is not None:
            where.append("api_name = ?")
            values.append(api)
        if statuses:
            where.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += statuses
        sql = f"SELECT status, sum(n) AS n FROM job_counts WHERE {' AND '.join(where)} GROUP BY status"
        return {readable.text(row["status"]): row["n"] for row in self._rows(sql, *values)}

    def counts_by_api(self) -> dict[str, dict[str, int]]:
        """Count the jobs by API and status."""
        found: dict[str, dict[str, int]] = {}
        for row in self._rows("SELECT api_name, status, n FROM job_counts WHERE n > 0"):
            found.setdefault(row["api_name"], {})[readable.text(row["status"])] = row["n"]
        return found

    def newest_in_progress(self, apis: Sequence[str], limit: int) -> list[Row]:
        """Return the newest jobs in progress of some APIs, at most ``limit`` of each; newest first within an API."""
        found: list[Row] = []
        for api in apis:
            found += self.jobs(api, IN_PROGRESS, limit)
        return found


def place(row: Row, group: str | None = None) -> int:
    """Return a row's place in a list of all jobs, or in one of a group, newest last."""
    return int(abs(row["seq"]) if group is None else (row["group_index"] or 0) * _ATTEMPTS + row["attempt"])


def _withheld(connection: sqlite3.Connection) -> bool:
    """Whether there are jobs that are not in line yet: their ``seq`` is negative."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM jobs WHERE seq < 0)").fetchone()[0])


def _passed(until: float, latest: float) -> bool:
    """Whether a search has taken its time: of a core, or by the clock."""
    return time.thread_time() > until or time.monotonic() > latest


def _rows(connection: sqlite3.Connection, found: list[tuple[int, int]]) -> list[Row]:
    """Return the rows of what a search found, without those that were just deleted."""
    one = f"SELECT {LISTED}, ? AS searched FROM jobs WHERE seq IN (?, -?)"  # it may have come into the line
    rows = [connection.execute(one, (count, seq, seq)).fetchone() for seq, count in found]
    return [dict(row) for row in rows if row]


def _single_walks(
    connection: sqlite3.Connection, api: str | None, statuses: Sequence[str], before: int, limit: int
) -> list[tuple[str, Sequence[object]]]:
    """Return statements for the jobs that are in no group, from the newest on: one for each status that jobs have."""
    if not statuses:
        of, values = ("", []) if api is None else (" AND api_name = ?", [bindable(api)])
        sql = f"SELECT DISTINCT status FROM job_counts WHERE n > 0{of}"
        statuses = [row[0] for row in connection.execute(sql, values).fetchall()]
    index, only = "jobs_single", "status = ?"
    if api is not None:
        index, only = "jobs_single_of_api", "status = ? AND api_name = ?"
    ways = (("0 < seq AND seq < ?", "DESC"), ("-? < seq AND seq < 0", "ASC"))[: 1 + _withheld(connection)]
    return [
        (
            f"SELECT {LISTED} FROM jobs INDEXED BY {index} WHERE group_id IS NULL AND {only} AND {which} "
            f"ORDER BY seq {order} LIMIT ?",
            [bindable(status), *([] if api is None else [bindable(api)]), before, limit],
        )
        for status in statuses
        for which, order in ways
    ]


def _walks(
    columns: str,
    api: str | None,
    statuses: Sequence[str],
    before: int | None,
    limit: int,
    *,
    group: str | None,
    also: bool,
    last: bool = False,
    schedule: str | None = None,
) -> list[tuple[str, Sequence[object]]]:
    """Return statements that walk an index from the newest job on, with their values; the limit holds for each.

    ``also``: look for jobs that are not in line yet, too. ``last``: leave out earlier attempts of groups' jobs.
    """
    latest = LAST if before is None else before
    if group is not None:
        where, values = ["group_id = ?", f"group_index <= ? / {_ATTEMPTS}"], list[object]([group, latest])
        where.append(f"(group_index < ? / {_ATTEMPTS} OR attempt < ? % {_ATTEMPTS})")
        values += [latest, latest]
        if api is not None:
            where.append("+api_name = ?")
            values.append(bindable(api))
        if statuses:
            where.append(f"+status IN ({', '.join('?' * len(statuses))})")
            values += map(bindable, statuses)
        order = "ORDER BY group_index DESC, attempt DESC"
        return [(f"SELECT {columns} FROM jobs WHERE {' AND '.join(where)} {order} LIMIT ?", [*values, limit])]
    walks: list[tuple[str, Sequence[object]]] = []
    table = "jobs"
    if schedule is not None:  # the index has its jobs by status
        table, statuses = "jobs INDEXED BY jobs_of_schedule", statuses or sorted(readable.WRITTEN)
    for status in statuses or [None]:  # type: ignore[list-item]
        only, values = " AND (group_id IS NULL OR retried_by IS NULL)" if last else "", list[object]()
        for name, value in (("api_name", api), ("status", status), ("schedule", schedule)):
            if value is not None:
                only += f" AND {name} = ?"
                values.append(bindable(value))
        for which, order in (("0 < seq AND seq < ?", "DESC"), ("-? < seq AND seq < 0", "ASC"))[: 1 + also]:
            sql = f"SELECT {columns} FROM {table} WHERE {which}{only} ORDER BY seq {order} LIMIT ?"
            walks.append((sql, [latest, *values, limit]))
    return walks
