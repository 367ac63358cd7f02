"""The tables of the store: every schema since the first, and the change counter that each write raises. No msgspec."""

from __future__ import annotations

import sqlite3
import time

from taskapi_jupyter.core.states import MOVES

#: Thousands are the major version. Within one, migrations only add, so that two versions of the package share a home:
#: statements name the columns they write. Each has a file in tests/schemas.
MIGRATIONS: dict[int, str] = {
    1000: """
CREATE TABLE counter (n INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE apis (
  name TEXT PRIMARY KEY, api_id TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  change INTEGER NOT NULL
);
CREATE TABLE versions (
  api_id TEXT PRIMARY KEY, name TEXT NOT NULL, spec_id TEXT NOT NULL, updated INTEGER NOT NULL, timeout INTEGER,
  cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, spec TEXT NOT NULL, config TEXT NOT NULL,
  launch TEXT NOT NULL
);
CREATE INDEX versions_of ON versions (name, updated);
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, api_name TEXT NOT NULL, api_id TEXT NOT NULL,
  spec_id TEXT NOT NULL, status TEXT NOT NULL, change INTEGER NOT NULL, created INTEGER NOT NULL, timeout INTEGER,
  boot TEXT NOT NULL, deadline REAL, started INTEGER, started_boot TEXT, ended INTEGER, reason TEXT,
  exit_code INTEGER, progress TEXT, notebook TEXT, cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, gpus TEXT,
  stop INTEGER NOT NULL DEFAULT 0, config TEXT, merged TEXT
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_api ON jobs (api_name, status, seq);
CREATE INDEX jobs_of_api ON jobs (api_name, seq);
CREATE INDEX jobs_by_change ON jobs (change);
CREATE INDEX jobs_due ON jobs (deadline) WHERE status = 'pending' AND deadline IS NOT NULL;
CREATE INDEX jobs_to_stop ON jobs (seq) WHERE stop = 1 AND status IN ('pending', 'running');
CREATE TABLE forgotten (change INTEGER NOT NULL, id TEXT NOT NULL);
CREATE INDEX forgotten_by_change ON forgotten (change);
""",
    1001: "ALTER TABLE forgotten ADD COLUMN api_name TEXT NOT NULL DEFAULT ''",
    # apis.notebook: the notebook or file that deployed last. jobs.hurry: 1 where a second stop ends the grace period.
    1002: """
ALTER TABLE apis ADD COLUMN notebook TEXT;
ALTER TABLE versions ADD COLUMN run_timeout INTEGER;
ALTER TABLE jobs ADD COLUMN run_timeout INTEGER;
ALTER TABLE jobs ADD COLUMN hurry INTEGER NOT NULL DEFAULT 0
""",
    # jobs.visible: CUDA_VISIBLE_DEVICES of whoever submitted. jobs.devices: the task's, of the GPUs in `gpus`.
    1003: """
ALTER TABLE jobs ADD COLUMN visible TEXT;
ALTER TABLE jobs ADD COLUMN devices TEXT
""",
}

SCHEMA = max(MIGRATIONS)

#: Columns that a list needs. ``merged`` is left out: it may be 10 MiB and only starting a job needs it.
LISTED = (
    "seq, id, api_name, api_id, spec_id, status, change, created, timeout, run_timeout, started, ended, reason, "
    "exit_code, progress, notebook, stop, cpu, mem, gpu, visible, config"
)

IN_PROGRESS = tuple(sorted(code.value for code in MOVES))  # the two states that a statement below names as ``(?, ?)``

#: Of a row of ``jobs``: whether its id is one. The supervisor leaves others alone.
IS_JOB = "id GLOB '" + 16 * "[0-9a-f]" + "'"


def migrate(transaction: sqlite3.Connection) -> None:
    """Bring a database to this version's schema."""
    version = transaction.execute("PRAGMA user_version").fetchone()[0]
    for step in sorted(MIGRATIONS):
        if step > version:
            for statement in MIGRATIONS[step].split(";"):
                transaction.execute(statement)
            transaction.execute(f"PRAGMA user_version = {step}")
    if not version:
        transaction.execute("INSERT INTO settings (name, value) VALUES ('made', ?)", (str(time.time()),))


def next_change(transaction: sqlite3.Connection) -> int:
    """Raise the change counter and return it."""
    transaction.execute("UPDATE counter SET n = n + 1")
    return int(transaction.execute("SELECT n FROM counter").fetchone()[0])
