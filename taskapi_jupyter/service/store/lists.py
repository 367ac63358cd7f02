"""Statements for lists of jobs: pages, searches and counts, whose cost does not depend on how many jobs there are.

No msgspec.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

from . import readable
from .connection import Connections, Row, bindable
from .schema import IN_PROGRESS, LISTED

SEARCHED = 10_000  # jobs that one search looks at
_SEARCHING = 0.05  # seconds of a core after which one search ends: configs may be large
_SEARCHING_AT_MOST = 0.25  # seconds after which it ends on a busy machine
_CONFIG = 1 << 16  # characters of a config that are searched
_LAST = 1 << 62  # above every seq

#: What a search looks at: the progress (JSON), and all other texts, a line each. SQLite gives bytes faster than text.
_TEXTS = (
    "seq, progress, CAST(status || char(10) || id || char(10) || api_name || char(10) || coalesce(notebook, '') || "
    f"char(10) || coalesce(reason, '') || char(10) || coalesce(substr(config, 1, {_CONFIG}), '') AS BLOB)"
)
_AT_A_TIME = 200  # jobs that are read before a search looks at the clock


class Texts(NamedTuple):
    """What of a job can be searched."""

    seq: int
    progress: str | None
    text: bytes  # status, id, API, notebook, reason and config, a line each


class Found(NamedTuple):
    """What a search found: rows for a list, and how many jobs it looked at."""

    rows: list[Row]  # each has in ``searched`` how many jobs had been looked at then
    searched: int
    before: int | None  # the ``seq`` to go on before; None: no older jobs are left


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
    ) -> list[Row]:
        """Return a page, newest first; ``before`` is the ``seq`` that the last page ended with."""
        with self._connection() as connection:
            parts = [
                connection.execute(*_walk(columns, api, status, before, limit)).fetchall()
                for status in statuses or [None]  # type: ignore[list-item]
            ]
        found = [dict(row) for rows in parts for row in rows]
        return sorted(found, key=lambda row: -row["seq"])[:limit]

    def search(
        self,
        fits: Callable[[Texts], bool],
        api: str | None,
        statuses: Sequence[str],
        limit: int,
        before: int | None = None,
    ) -> Found:
        """Return the newest jobs that fit, at most ``limit``, of the newest :data:`SEARCHED` before a ``seq``."""
        found: list[tuple[int, int]] = []
        searched, last = 0, None
        until, latest = time.thread_time() + _SEARCHING, time.monotonic() + _SEARCHING_AT_MOST
        with self._connection() as connection, ExitStack() as open_cursors:
            walks = []
            for status in statuses or [None]:  # type: ignore[list-item]
                cursor = open_cursors.enter_context(closing(connection.cursor()))
                cursor.row_factory = None
                walks.append(map(Texts._make, cursor.execute(*_walk(_TEXTS, api, status, before, SEARCHED + 1))))
            for texts in heapq.merge(*walks, key=lambda texts: -texts.seq):
                late = False
                if searched and (searched % _AT_A_TIME == 0 or len(texts.text) > _CONFIG // 2):
                    late = time.thread_time() > until or time.monotonic() > latest
                if late or len(found) == limit or searched == SEARCHED:
                    break
                searched, last = searched + 1, texts.seq
                if fits(texts):
                    found.append((texts.seq, searched))
            else:
                last = None
            one = f"SELECT {LISTED}, ? AS searched FROM jobs WHERE seq = ?"
            rows = [connection.execute(one, (count, seq)).fetchone() for seq, count in found]
        return Found([dict(row) for row in rows if row], searched, last)  # without those that were just deleted

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


def _walk(
    columns: str, api: str | None, status: str | None, before: int | None, limit: int
) -> tuple[str, Sequence[object]]:
    """Return a statement that walks one index backwards, with its values."""
    where, values = ["seq < ?"], list[object]([_LAST if before is None else before])
    for name, value in (("api_name", api), ("status", status)):
        if value is not None:
            where.append(f"{name} = ?")
            values.append(bindable(value))
    return f"SELECT {columns} FROM jobs WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?", [*values, limit]
