"""What is to be sent of jobs, to whom, and what became of it. The supervisor imports it: no msgspec.

A row is written in the transaction that ends a job, or that marks it running, so that none is lost. Which names hear
of a job is decided then; where these lead is read when it is sent.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from taskapi_jupyter.core import host, nesting
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import TERMINAL, values

from . import readable
from .connection import Connections, Row

STARTED = "started"  # an event; the others are the states that end a job
BROWSER = "browser"  # a name that is for pages alone: nothing is sent

_ENDS = frozenset(values(TERMINAL))
_KEPT_DAYS = 7  # that failed deliveries are kept at least
_DAY_US = 86_400_000_000
_PER_NAME = 200  # deliveries that are read at once
_STATES = "notifier"  # the setting that says, by name, until when it waits, and whether it was switched off

Result = tuple[int, str, int, "int | None", str]  # seq, state, attempts, when it is due next (µs), what came back


class Outbox(Connections):
    """The part of the store that is about notifications."""

    def next_delivery(self) -> int | None:
        """Return when (µs) something is to be sent next; None where nothing waits."""
        row = self._one("SELECT min(due) FROM outbox WHERE state = 'waiting'")
        return row[0] if isinstance(row[0], int) else None

    def deliveries(self, name: str | None, limit: int) -> list[Row]:
        """Return the newest deliveries, of one name or of all."""
        only, values = ("WHERE name = ? ", [name]) if name is not None else ("", [])
        return self._rows(f"SELECT * FROM outbox {only}ORDER BY seq DESC LIMIT ?", *values, limit)

    def deliveries_of(self, job_id: str) -> list[Row]:
        """Return the deliveries of one job, oldest first."""
        return self._rows("SELECT name, state FROM outbox WHERE job_id = ? ORDER BY seq", job_id)

    def names_due(self, now: int) -> list[str]:
        """Return the names under which something is to be sent now."""
        rows = self._rows("SELECT DISTINCT name FROM outbox WHERE state = 'waiting' AND due <= ?", now)
        return [row["name"] for row in rows]

    def waiting(self, name: str) -> list[Row]:
        """Return what waits under a name, in the order in which it is to be sent; the first hundreds of it."""
        return self._rows(
            "SELECT * FROM outbox INDEXED BY outbox_due WHERE state = 'waiting' AND name = ? ORDER BY seq LIMIT ?",
            name,
            _PER_NAME,
        )

    def note_deliveries(self, results: Sequence[Result]) -> None:
        """Record what became of deliveries."""
        with self.write() as transaction:
            transaction.executemany(
                "UPDATE outbox SET state = ?, attempts = ?, due = ?, answer = ?, sent = ? WHERE seq = ?",
                [(state, tries, due, answer, host.now_us(), seq) for seq, state, tries, due, answer in results],
            )

    def hold_name(self, name: str, until: int) -> None:
        """Let nothing be sent under a name before a time (µs): what waits, and what is written until then."""
        with self.write() as transaction:
            transaction.execute("UPDATE outbox SET due = ? WHERE state = 'waiting' AND name = ?", (until, name))
            _set_state(transaction, name, until=until)

    def fail_waiting(self, name: str, why: str) -> None:
        """End all that waits under a name as failed."""
        with self.write() as transaction:
            transaction.execute(
                "UPDATE outbox SET state = 'failed', due = NULL, answer = ? WHERE state = 'waiting' AND name = ?",
                (why, name),
            )
            _set_state(transaction, name, until=None)

    def name_state(self, name: str) -> Row:
        """Return ``off`` of a name that was switched off: a mark of the URL that did so, and ``why``."""
        return self.name_states().get(name, {})

    def name_states(self) -> dict[str, Row]:
        """Return the states of all names that have one."""
        row = self._one("SELECT value FROM settings WHERE name = ?", _STATES)
        return _states(row)

    def switch(self, name: str, off: str | None, why: str | None = None) -> None:
        """Switch a name off for the URL of this mark, or on again (None)."""
        with self.write() as transaction:
            _set_state(transaction, name, off=off, why=why)

    def set_notify(self, job_id: str, names: Sequence[str]) -> bool:
        """Set whom a job notifies when it ends; False where it has ended."""
        with self.write() as transaction:
            transaction.execute("UPDATE counter SET n = n + 1")
            done = transaction.execute(
                "UPDATE jobs SET notify = ?, change = (SELECT n FROM counter) "
                "WHERE id = ? AND status IN ('pending', 'running')",
                (json.dumps(list(names)), job_id),
            )
            return done.rowcount == 1

    def drop_deliveries(self, keep_days: float | None) -> None:
        """Delete deliveries of jobs that are gone: those that were sent, and those that failed long ago."""
        before = host.now_us() - int(max(keep_days or 0, _KEPT_DAYS) * _DAY_US)
        gone = "state != 'waiting' AND (state = 'sent' OR at < ?) AND job_id NOT IN (SELECT id FROM jobs)"
        if self._one(f"SELECT EXISTS (SELECT 1 FROM outbox WHERE {gone})", before)[0]:
            with self.write() as transaction:
                transaction.execute(f"DELETE FROM outbox WHERE {gone}", (before,))


# Steps of a transaction that somebody else has begun


def write(transaction: sqlite3.Connection, job_ids: Iterable[str]) -> None:
    """Write what is to be sent of jobs that have just begun or ended, each by the state that it is in now.

    Whoever moves a job calls it, after the job's next attempt was written: one that has such does not notify.
    """
    rules = _rules(transaction)
    if rules is None:
        return
    now, until = host.now_us(), _states(_setting(transaction, _STATES))
    for job_id in dict.fromkeys(job_ids):
        row = transaction.execute(
            "SELECT j.id, j.api_name, j.status, j.started, j.ended, j.retried_by, j.notify, "
            "CASE WHEN instr(v.spec, '\"notify\"') THEN v.spec END AS spec "
            "FROM jobs j LEFT JOIN versions v ON v.api_id = j.api_id WHERE j.id = ?",
            (job_id,),
        ).fetchone()
        if row is None or row["retried_by"] or readable.fault(dict(row)):
            continue
        event = STARTED if row["status"] == "running" else row["status"]
        for name in _names(rules, dict(row), event):
            held = until.get(name, {}).get("until")
            transaction.execute(
                "INSERT INTO outbox (id, name, job_id, event, at, due) VALUES (?, ?, ?, ?, ?, ?)",
                (f"d{os.urandom(12).hex()}", name, row["id"], event, now, max(now, held) if held else now),
            )
    fault_point("outbox.written")


def forget(transaction: sqlite3.Connection, job_ids: Sequence[str]) -> None:
    """Delete the deliveries of jobs that are deleted: what failed stays, and what waited has failed."""
    ids = [(job_id,) for job_id in job_ids]
    transaction.executemany("DELETE FROM outbox WHERE job_id = ? AND state = 'sent'", ids)
    transaction.executemany(
        "UPDATE outbox SET state = 'failed', due = NULL, answer = 'the job was deleted before it could be sent' "
        "WHERE job_id = ? AND state = 'waiting'",
        ids,
    )


def _rules(transaction: sqlite3.Connection) -> Mapping[str, Any] | None:
    """Return what config.yaml says of notifications; None where it names none."""
    row = _setting(transaction, "limits")
    if row is None or '"notify"' not in str(row[0]):
        return None
    found = _mapping(row).get("notify")
    return found if isinstance(found, dict) and isinstance(found.get("names"), dict) else None


def _names(rules: Mapping[str, Any], job: Row, event: str) -> Iterator[str]:
    """Yield the names that are told of an event of a job."""
    asked = None if job["notify"] is None else [name for name in json.loads(job["notify"]) if isinstance(name, str)]
    if asked == [BROWSER]:
        asked = None  # a page tells somebody; beyond that, config.yaml says who is told
    is_end = event in _ENDS
    if asked is None:
        ran = 0 if job["started"] is None or job["ended"] is None else job["ended"] - job["started"]
        if is_end and ran < rules.get("after", 0) * 1e6:
            return
        named = _named_by_api(job["spec"])
        for name, rule in rules["names"].items():
            apis = rule.get("apis")
            fits = apis is None or any(fnmatchcase(job["api_name"], pattern) for pattern in apis)
            if event in rule.get("on", ()) and (fits or name in named):
                yield name
        return
    for name in dict.fromkeys(asked):
        on = rules["names"].get(name, {}).get("on", ())
        if name != BROWSER and (is_end or event in on):  # an end whatever it says of when: this job was asked for
            yield name


def _named_by_api(spec: str | None) -> list[str]:
    with suppress(ValueError, TypeError):
        found = nesting.loads(spec).get("notify") if spec else None
        return found if isinstance(found, list) else []
    return []


def _setting(transaction: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = transaction.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return row


def _mapping(row: sqlite3.Row | None) -> dict[str, Any]:
    try:
        return dict(nesting.loads(row[0])) if row else {}
    except (ValueError, TypeError):
        return {}


def _states(row: sqlite3.Row | None) -> dict[str, Row]:
    return {name: one for name, one in _mapping(row).items() if isinstance(one, dict)}


def _set_state(transaction: sqlite3.Connection, name: str, **changes: Any) -> None:
    states = _states(_setting(transaction, _STATES))
    was = states.get(name, {})
    now = {key: value for key, value in {**was, **changes}.items() if value is not None}
    if now == was:
        return
    states = {**states, name: now}
    text = json.dumps({one: state for one, state in states.items() if state})
    transaction.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (_STATES, text))
