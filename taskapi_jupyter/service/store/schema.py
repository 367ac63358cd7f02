"""The tables of the store: every schema since the first, and the change counter that each write raises. No msgspec."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

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
    # job_counts: kept by triggers, so that processes of older versions keep it, too. jobs_large: which jobs' configs
    # lists leave out, known without reading these.
    1004: """
CREATE TABLE job_counts (
  api_name TEXT NOT NULL, status TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (api_name, status)
) WITHOUT ROWID;
INSERT INTO job_counts (api_name, status, n) SELECT api_name, status, count(*) FROM jobs GROUP BY api_name, status;
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
  INSERT OR IGNORE INTO job_counts (api_name, status, n) VALUES (new.api_name, new.status, 0);
  UPDATE job_counts SET n = n + 1 WHERE api_name = new.api_name AND status = new.status;
END;
CREATE TRIGGER job_deleted AFTER DELETE ON jobs BEGIN
  UPDATE job_counts SET n = n - 1 WHERE api_name = old.api_name AND status = old.status;
  DELETE FROM job_counts WHERE api_name = old.api_name AND status = old.status AND n <= 0;
END;
CREATE TRIGGER job_moved AFTER UPDATE OF status, api_name ON jobs
WHEN old.status IS NOT new.status OR old.api_name IS NOT new.api_name BEGIN
  UPDATE job_counts SET n = n - 1 WHERE api_name = old.api_name AND status = old.status;
  DELETE FROM job_counts WHERE api_name = old.api_name AND status = old.status AND n <= 0;
  INSERT OR IGNORE INTO job_counts (api_name, status, n) VALUES (new.api_name, new.status, 0);
  UPDATE job_counts SET n = n + 1 WHERE api_name = new.api_name AND status = new.status;
END;
CREATE INDEX jobs_large ON jobs (seq) WHERE length(CAST(config AS BLOB)) > 8192
""",
    # Groups, order and further attempts. A job that may not start yet (before `due`, or for its group's max_running)
    # has a negative seq: supervisors of older versions start jobs from seq 1 on (`withheld.py`).
    1005: """
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN group_id TEXT;
ALTER TABLE jobs ADD COLUMN group_index INTEGER;
ALTER TABLE jobs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN retry_on TEXT;
ALTER TABLE jobs ADD COLUMN retry_delay REAL;
ALTER TABLE jobs ADD COLUMN retry_of TEXT;
ALTER TABLE jobs ADD COLUMN retried_by TEXT;
ALTER TABLE jobs ADD COLUMN due REAL;
CREATE TABLE job_groups (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT, api_name TEXT NOT NULL,
  created INTEGER NOT NULL, size INTEGER NOT NULL, max_running INTEGER, withholds INTEGER NOT NULL DEFAULT 0,
  notebook TEXT
);
CREATE INDEX groups_by_name ON job_groups (name, seq) WHERE name IS NOT NULL;
CREATE INDEX groups_withholding ON job_groups (id) WHERE withholds = 1;
CREATE INDEX jobs_in_line ON jobs (priority DESC, seq) WHERE status = 'pending' AND seq > 0;
CREATE INDEX jobs_of_group ON jobs (group_id, retried_by, status, ended, seq) WHERE group_id IS NOT NULL;
CREATE INDEX jobs_in_group ON jobs (group_id, group_index, attempt) WHERE group_id IS NOT NULL;
CREATE INDEX jobs_delayed ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX jobs_to_retry ON jobs (seq)
WHERE retries >= attempt AND retried_by IS NULL AND stop = 0 AND status NOT IN ('pending', 'running', 'succeeded');
CREATE TRIGGER group_emptied AFTER DELETE ON jobs WHEN old.group_id IS NOT NULL BEGIN
  DELETE FROM job_groups WHERE id = old.group_id AND NOT EXISTS (SELECT 1 FROM jobs WHERE group_id = old.group_id);
END
""",
    # jobs.metrics: the last values of an ended job's metrics. jobs.usage: its CPU seconds and peak memory.
    1006: """
ALTER TABLE jobs ADD COLUMN metrics TEXT;
ALTER TABLE jobs ADD COLUMN usage TEXT
""",
    # apis.transient: 1 where the API is deleted with its last job, whichever version deletes that. The indexes are for
    # lists in which a group is one entry: its jobs are not read, however many there are.
    1007: """
CREATE INDEX jobs_single ON jobs (status, seq) WHERE group_id IS NULL;
CREATE INDEX jobs_single_of_api ON jobs (api_name, status, seq) WHERE group_id IS NULL;
ALTER TABLE apis ADD COLUMN transient INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER api_emptied AFTER DELETE ON jobs BEGIN
  DELETE FROM apis WHERE name = old.api_name AND transient = 1
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE api_name = old.api_name);
END
""",
    # jobs.after: for which jobs a job waits and whose results it gets, as JSON, as it was submitted; such a job has a
    # negative seq until then, and `allowed` says since when (µs) it could begin. predecessors: the last attempts of
    # these jobs, with the states in which they ended: kept by triggers, so that supervisors of older versions, and
    # deletions, leave them right. unsettled: jobs that may have nothing left to wait for. schedules.due: when (µs) the
    # schedule is looked at next. outbox: what is to be sent.
    1008: """
ALTER TABLE jobs ADD COLUMN after TEXT;
ALTER TABLE jobs ADD COLUMN allowed INTEGER;
ALTER TABLE jobs ADD COLUMN schedule TEXT;
ALTER TABLE jobs ADD COLUMN scheduled INTEGER;
ALTER TABLE jobs ADD COLUMN notify TEXT;
CREATE INDEX jobs_fired ON jobs (schedule, scheduled) WHERE scheduled IS NOT NULL AND attempt = 1;
CREATE INDEX jobs_of_schedule ON jobs (schedule, status, seq) WHERE schedule IS NOT NULL;
CREATE TABLE predecessors (
  job_id TEXT NOT NULL, after_id TEXT NOT NULL, ended TEXT, PRIMARY KEY (job_id, after_id)
) WITHOUT ROWID;
CREATE INDEX predecessors_by_after ON predecessors (after_id);
CREATE INDEX predecessors_by_end ON predecessors (job_id, ended);
CREATE TABLE unsettled (job_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER predecessor_ended AFTER UPDATE OF status ON jobs
WHEN new.status NOT IN ('pending', 'running') AND old.status IN ('pending', 'running') BEGIN
  UPDATE predecessors SET ended = new.status WHERE after_id = new.id;
  INSERT OR IGNORE INTO unsettled (job_id) SELECT job_id FROM predecessors p WHERE after_id = new.id AND (
    new.status IS NOT 'succeeded' OR NOT EXISTS (SELECT 1 FROM predecessors WHERE job_id = p.job_id AND ended IS NULL)
  );
  DELETE FROM predecessors WHERE job_id = new.id;
END;
CREATE TRIGGER predecessor_retried AFTER UPDATE OF retried_by ON jobs WHEN new.retried_by IS NOT NULL BEGIN
  UPDATE predecessors SET after_id = new.retried_by, ended = NULL WHERE after_id = new.id;
END;
CREATE TABLE schedules (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, change INTEGER NOT NULL, created INTEGER NOT NULL,
  updated INTEGER NOT NULL, api_name TEXT NOT NULL, api_id TEXT, schedule TEXT NOT NULL, timezone TEXT NOT NULL,
  config TEXT, options TEXT NOT NULL, overlap TEXT NOT NULL, catch_up TEXT NOT NULL, max_late REAL, until INTEGER,
  keep INTEGER, active INTEGER NOT NULL, paused TEXT, next INTEGER, due INTEGER, last INTEGER, last_job TEXT,
  misfires INTEGER NOT NULL DEFAULT 0, misfired INTEGER, misfire TEXT
);
CREATE INDEX schedules_due ON schedules (due) WHERE active = 1 AND due IS NOT NULL;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, job_id TEXT NOT NULL,
  event TEXT NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', attempts INTEGER NOT NULL DEFAULT 0,
  due INTEGER, sent INTEGER, answer TEXT
);
CREATE INDEX outbox_due ON outbox (due) WHERE state = 'waiting';
CREATE INDEX outbox_of_job ON outbox (job_id);
CREATE TRIGGER job_gone AFTER DELETE ON jobs BEGIN
  DELETE FROM predecessors WHERE job_id = old.id;
  INSERT OR IGNORE INTO unsettled (job_id) SELECT job_id FROM predecessors WHERE after_id = old.id AND ended IS NULL;
  UPDATE predecessors SET ended = 'deleted' WHERE after_id = old.id AND ended IS NULL;
END
""",
}

SCHEMA = max(MIGRATIONS)

_FACTS = (
    "seq, id, api_name, api_id, spec_id, status, change, created, timeout, run_timeout, started, ended, reason, "
    "exit_code, progress, metrics, usage, notebook, stop, cpu, mem, gpu, visible, group_id, group_index, attempt, "
    "retries, retry_on, retry_delay, retry_of, retried_by, due, after, schedule, scheduled, notify"
)
#: Columns that readers of a job need. ``merged`` is left out: it may be 10 MiB and only starting a job needs it.
READ = f"{_FACTS}, config"

_LARGE = (
    "EXISTS (SELECT 1 FROM jobs l INDEXED BY jobs_large "
    "WHERE length(CAST(l.config AS BLOB)) > 8192 AND l.seq = jobs.seq) AND typeof(config) = 'text'"
)
#: Columns that a list needs: a large ``config`` is not read, and ``large`` is 1. Lists show configs up to 2 KiB: larger
#: ones are read all the same, as long as that is cheap, to see whether they are valid.
LISTED = f"{_FACTS}, CASE WHEN {_LARGE} THEN NULL ELSE config END AS config, ({_LARGE}) AS large"

IN_PROGRESS = tuple(sorted(code.value for code in MOVES))  # the two states that a statement below names as ``(?, ?)``

#: Of a row of ``jobs``: whether its id is one. The supervisor leaves others alone.
IS_JOB = "id GLOB '" + 16 * "[0-9a-f]" + "'"


def migrate(transaction: sqlite3.Connection) -> None:
    """Bring a database to this version's schema."""
    version = transaction.execute("PRAGMA user_version").fetchone()[0]
    for step in sorted(MIGRATIONS):
        if step > version:
            for statement in _statements(MIGRATIONS[step]):
                transaction.execute(statement)
            transaction.execute(f"PRAGMA user_version = {step}")
    if not version:
        transaction.execute("INSERT INTO settings (name, value) VALUES ('made', ?)", (str(time.time()),))


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; that of a trigger has others in it."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def next_change(transaction: sqlite3.Connection) -> int:
    """Raise the change counter and return it."""
    transaction.execute("UPDATE counter SET n = n + 1")
    return int(transaction.execute("SELECT n FROM counter").fetchone()[0])
