"""Statements for deployed APIs, their versions and the settings. No msgspec."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from taskapi_jupyter.core import nesting

from . import schedules
from .connection import Connections, Row
from .schema import IN_PROGRESS, next_change


class APIs(Connections):
    """The store's settings, APIs and their versions."""

    # Settings: the supervisor reads the limits of config.yaml here, as it has no YAML

    def settings(self) -> Row:
        """Return the limits that were last read from config.yaml."""
        return self._setting("limits")

    def set_settings(self, values: Mapping[str, Any]) -> None:
        """Keep the limits for the supervisor."""
        with self.write() as transaction:
            transaction.execute(
                "INSERT OR REPLACE INTO settings (name, value) VALUES ('limits', ?)", (json.dumps(dict(values)),)
            )

    def made(self) -> float:
        """Return when this database was made, in seconds since the epoch; 0 where that was not noted."""
        row = self._one("SELECT value FROM settings WHERE name = 'made'")
        try:
            return float(row[0]) if row else 0.0
        except (ValueError, TypeError):
            return 0.0

    def _setting(self, name: str) -> Row:
        """Return a setting, {} where it is missing or can't be read."""
        row = self._one("SELECT value FROM settings WHERE name = ?", name)
        try:
            return dict(nesting.loads(row[0])) if row else {}
        except (ValueError, TypeError):
            return {}

    # APIs

    def put_api(self, version: Row, now: int, notebook: str | None = None, transient: bool = False) -> tuple[str, Row]:
        """Deploy a version; return ``created``, ``updated`` or ``unchanged``, and what was there.

        That is the row of ``apis``, empty where there was none. ``notebook`` is the notebook or file that deploys. A
        ``transient`` API is deleted with its last job.
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
            if unchanged and (notebook, transient) != (old["notebook"], old["transient"]):
                transaction.execute(
                    "UPDATE apis SET notebook = ?, transient = ? WHERE name = ?",
                    (notebook, transient, version["name"]),
                )
            if unchanged and known and known[0] == version["launch"]:
                return "unchanged", old
            transaction.execute(
                f"INSERT OR REPLACE INTO versions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [{"updated": now, "run_timeout": None, **version}[column] for column in columns],
            )
            if unchanged:
                return "unchanged", old  # the same content under another environment
            change = next_change(transaction)
            transaction.execute(
                "INSERT INTO apis (name, api_id, created, updated, change, notebook, transient) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET api_id = excluded.api_id, updated = excluded.updated, "
                "change = excluded.change, notebook = excluded.notebook, transient = excluded.transient",
                (version["name"], version["api_id"], now, now, change, notebook, transient),
            )
            return ("updated" if old else "created"), old

    def delete_api(self, name: str) -> list[str] | None:
        """Delete an API, stop its jobs, pause its schedules; return the ids of the jobs, None where it is missing."""
        with self.write() as transaction:
            if not transaction.execute("DELETE FROM apis WHERE name = ?", (name,)).rowcount:
                return None
            change = next_change(transaction)
            schedules.pause_of(transaction, name, change)
            jobs = transaction.execute(
                "SELECT id FROM jobs WHERE api_name = ? AND status IN (?, ?)", (name, *IN_PROGRESS)
            ).fetchall()
            transaction.executemany(
                "UPDATE jobs SET stop = 1, change = ? WHERE id = ?", [(change, row["id"]) for row in jobs]
            )
            return [row["id"] for row in jobs]

    def api(self, name: str) -> Row | None:
        """Return a deployed API with its current version's columns."""
        row = self._one(
            "SELECT a.created, a.updated AS last_updated, a.notebook AS deployed_from, a.transient, v.* FROM apis a "
            "JOIN versions v USING (api_id) WHERE a.name = ?",
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

    def deployed_of(self, api_ids: Collection[str]) -> list[str]:
        """Return which of some versions are deployed."""
        marks = ", ".join("?" * len(api_ids))
        return [row["api_id"] for row in self._rows(f"SELECT api_id FROM apis WHERE api_id IN ({marks})", *api_ids)]

    def api_names(self, limit: int) -> list[str]:
        """Return the names of deployed APIs, as many as ``limit``."""
        return [row["name"] for row in self._rows("SELECT name FROM apis LIMIT ?", limit)]

    def launches(self) -> list[str]:
        """Return what starts each version that is kept, as JSON."""
        return [row["launch"] for row in self._rows("SELECT launch FROM versions")]

    def with_packages(self) -> list[Row]:
        """Return the versions that run in an environment of packages: ``name``, ``api_id``, ``launch``.

        Also whether each is ``deployed``, and how many ``jobs`` of it are in progress.
        """
        return self._rows(
            "SELECT name, api_id, launch, EXISTS (SELECT 1 FROM apis a WHERE a.api_id = v.api_id) AS deployed, "
            "(SELECT count(*) FROM jobs INDEXED BY jobs_by_api WHERE api_name = v.name AND status IN (?, ?) "
            "AND api_id = v.api_id) AS jobs FROM versions v WHERE instr(launch, '\"packages\"') ORDER BY name",
            *IN_PROGRESS,
        )

    def in_progress_of(self, api: str, api_id: str, limit: int) -> list[str]:
        """Return the ids of jobs of a version that are in progress, as many as ``limit``."""
        rows = self._rows(
            "SELECT id FROM jobs INDEXED BY jobs_by_api WHERE api_name = ? AND status IN (?, ?) AND api_id = ? LIMIT ?",
            api,
            *IN_PROGRESS,
            api_id,
            limit,
        )
        return [row["id"] for row in rows]

    def version(self, api_id: str) -> Row | None:
        """Return one version of an API, deployed still or not."""
        row = self._one("SELECT * FROM versions WHERE api_id = ?", api_id)
        return dict(row) if row else None

    def versions(self, name: str) -> list[Row]:
        """Return the ids of an API's versions, newest first."""
        return self._rows("SELECT api_id, updated FROM versions WHERE name = ? ORDER BY updated DESC, rowid DESC", name)
