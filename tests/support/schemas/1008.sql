BEGIN TRANSACTION;
CREATE TABLE apis (
  name TEXT PRIMARY KEY, api_id TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  change INTEGER NOT NULL
, notebook TEXT, transient INTEGER NOT NULL DEFAULT 0);
INSERT INTO "apis" VALUES('kept','v2',1700000000000000,1700000001000000,3,NULL,0);
CREATE TABLE counter (n INTEGER NOT NULL);
INSERT INTO "counter" VALUES(20);
CREATE TABLE forgotten (change INTEGER NOT NULL, id TEXT NOT NULL, api_name TEXT NOT NULL DEFAULT '');
INSERT INTO "forgotten" VALUES(19,'00000000deadbeef','kept');
CREATE TABLE job_counts (
  api_name TEXT NOT NULL, status TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (api_name, status)
) WITHOUT ROWID;
INSERT INTO "job_counts" VALUES('gone','stopped',1);
INSERT INTO "job_counts" VALUES('kept','pending',1);
INSERT INTO "job_counts" VALUES('kept','running',1);
INSERT INTO "job_counts" VALUES('kept','succeeded',1);
INSERT INTO "job_counts" VALUES('kept','timed_out',1);
INSERT INTO "job_counts" VALUES('kept','unexpected_error',1);
INSERT INTO "job_counts" VALUES('kept','worker_error',1);
INSERT INTO "job_counts" VALUES('kept','worker_oom',1);
CREATE TABLE job_groups (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT, api_name TEXT NOT NULL,
  created INTEGER NOT NULL, size INTEGER NOT NULL, max_running INTEGER, withholds INTEGER NOT NULL DEFAULT 0,
  notebook TEXT
);
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, api_name TEXT NOT NULL, api_id TEXT NOT NULL,
  spec_id TEXT NOT NULL, status TEXT NOT NULL, change INTEGER NOT NULL, created INTEGER NOT NULL, timeout INTEGER,
  boot TEXT NOT NULL, deadline REAL, started INTEGER, started_boot TEXT, ended INTEGER, reason TEXT,
  exit_code INTEGER, progress TEXT, notebook TEXT, cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, gpus TEXT,
  stop INTEGER NOT NULL DEFAULT 0, config TEXT, merged TEXT
, run_timeout INTEGER, hurry INTEGER NOT NULL DEFAULT 0, visible TEXT, devices TEXT, priority INTEGER NOT NULL DEFAULT 0, group_id TEXT, group_index INTEGER, attempt INTEGER NOT NULL DEFAULT 1, retries INTEGER NOT NULL DEFAULT 0, retry_on TEXT, retry_delay REAL, retry_of TEXT, retried_by TEXT, due REAL, metrics TEXT, usage TEXT, after TEXT, allowed INTEGER, schedule TEXT, scheduled INTEGER, notify TEXT);
INSERT INTO "jobs" VALUES(1,'68686301c9d5ffff','kept','v1','s','succeeded',4,1700000002000000,NULL,'an earlier boot',NULL,1700000003000000,'an earlier boot',1700000004000000,NULL,0,'{"done": 1, "total": 2}','a notebook.ipynb',1000,NULL,0,NULL,0,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,'{"loss": 0.25}','{"cpu_seconds": 1.5, "memory_peak": 14049280}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'68686301c9d5fffe','kept','v1','s','worker_error',5,1700000002000001,60,'an earlier boot',100.0,1700000003000000,'an earlier boot',1700000004000000,'it''s a reason',NULL,NULL,NULL,1000,NULL,0,NULL,0,'{"lr": 0.1}',NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'68686301c9d5fffd','kept','v1','s','worker_oom',6,1700000002000002,NULL,'an earlier boot',NULL,1700000003000000,'an earlier boot',1700000004000000,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,0,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'68686301c9d5fffc','kept','v1','s','timed_out',7,1700000002000003,60,'an earlier boot',100.0,1700000003000000,'an earlier boot',1700000004000000,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,0,'{"lr": 0.1}',NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'68686301c9d5fffb','gone','v3','s','stopped',8,1700000002000004,NULL,'an earlier boot',NULL,1700000003000000,'an earlier boot',1700000004000000,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,1,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(6,'68686301c9d5fffa','kept','v1','s','unexpected_error',9,1700000002000005,60,'an earlier boot',100.0,1700000003000000,'an earlier boot',1700000004000000,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,0,'{"lr": 0.1}',NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(7,'68686301c9d5fff9','kept','v1','s','running',10,1700000002000006,NULL,'an earlier boot',NULL,1700000003000000,'an earlier boot',NULL,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,0,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(8,'68686301c9d5fff8','kept','v1','s','pending',11,1700000002000007,60,'an earlier boot',100.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1000,NULL,0,NULL,0,'{"lr": 0.1}',NULL,NULL,0,NULL,NULL,0,NULL,NULL,1,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, job_id TEXT NOT NULL,
  event TEXT NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', attempts INTEGER NOT NULL DEFAULT 0,
  due INTEGER, sent INTEGER, answer TEXT
);
CREATE TABLE predecessors (
  job_id TEXT NOT NULL, after_id TEXT NOT NULL, ended TEXT, PRIMARY KEY (job_id, after_id)
) WITHOUT ROWID;
CREATE TABLE unsettled (job_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE schedules (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, change INTEGER NOT NULL, created INTEGER NOT NULL,
  updated INTEGER NOT NULL, api_name TEXT NOT NULL, api_id TEXT, schedule TEXT NOT NULL, timezone TEXT NOT NULL,
  config TEXT, options TEXT NOT NULL, overlap TEXT NOT NULL, catch_up TEXT NOT NULL, max_late REAL, until INTEGER,
  keep INTEGER, active INTEGER NOT NULL, paused TEXT, next INTEGER, due INTEGER, last INTEGER, last_job TEXT,
  misfires INTEGER NOT NULL DEFAULT 0, misfired INTEGER, misfire TEXT
);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "settings" VALUES('limits','{"cpus": null, "mem": null, "gpus": 0, "stop_grace": 10.0, "log_max_bytes": 67108864}');
CREATE TABLE versions (
  api_id TEXT PRIMARY KEY, name TEXT NOT NULL, spec_id TEXT NOT NULL, updated INTEGER NOT NULL, timeout INTEGER,
  cpu INTEGER NOT NULL, mem INTEGER, gpu INTEGER NOT NULL, spec TEXT NOT NULL, config TEXT NOT NULL,
  launch TEXT NOT NULL
, run_timeout INTEGER);
INSERT INTO "versions" VALUES('v1','kept','s',1700000000000000,NULL,1000,NULL,0,'{}','{}','{"kind": "module", "cwd": "/nowhere"}',NULL);
INSERT INTO "versions" VALUES('v2','kept','s',1700000000000000,60,1000,NULL,0,'{}','{}','{"kind": "module", "cwd": "/nowhere"}',NULL);
INSERT INTO "versions" VALUES('v3','gone','s',1700000000000000,NULL,1000,NULL,0,'{}','{}','{"kind": "module", "cwd": "/nowhere"}',NULL);
CREATE INDEX versions_of ON versions (name, updated);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_api ON jobs (api_name, status, seq);
CREATE INDEX jobs_of_api ON jobs (api_name, seq);
CREATE INDEX jobs_by_change ON jobs (change);
CREATE INDEX jobs_due ON jobs (deadline) WHERE status = 'pending' AND deadline IS NOT NULL;
CREATE INDEX jobs_to_stop ON jobs (seq) WHERE stop = 1 AND status IN ('pending', 'running');
CREATE INDEX forgotten_by_change ON forgotten (change);
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
;
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
END;
CREATE INDEX jobs_single ON jobs (status, seq) WHERE group_id IS NULL;
CREATE INDEX jobs_single_of_api ON jobs (api_name, status, seq) WHERE group_id IS NULL;
CREATE TRIGGER api_emptied AFTER DELETE ON jobs BEGIN
  DELETE FROM apis WHERE name = old.api_name AND transient = 1
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE api_name = old.api_name);
END;
CREATE INDEX jobs_fired ON jobs (schedule, scheduled) WHERE scheduled IS NOT NULL AND attempt = 1;
CREATE INDEX jobs_of_schedule ON jobs (schedule, status, seq) WHERE schedule IS NOT NULL;
CREATE INDEX predecessors_by_after ON predecessors (after_id);
CREATE INDEX predecessors_by_end ON predecessors (job_id, ended);
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
CREATE INDEX schedules_due ON schedules (due) WHERE active = 1 AND due IS NOT NULL;
CREATE INDEX outbox_due ON outbox (due) WHERE state = 'waiting';
CREATE INDEX outbox_of_job ON outbox (job_id);
CREATE TRIGGER job_gone AFTER DELETE ON jobs BEGIN
  DELETE FROM predecessors WHERE job_id = old.id;
  INSERT OR IGNORE INTO unsettled (job_id) SELECT job_id FROM predecessors WHERE after_id = old.id AND ended IS NULL;
  UPDATE predecessors SET ended = 'deleted' WHERE after_id = old.id AND ended IS NULL;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',8);
COMMIT;
PRAGMA user_version = 1008;
