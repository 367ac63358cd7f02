"""Rows with values that no version writes, and JSON that nests too deeply: shown as such, in nobody's way."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from support.disks import deep
from support.homes import processes
from support.records import ended, row, tidy
from support.servers import start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.errors import BadRequest, JobFailed, ResultNotStored, Unavailable
from taskapi_jupyter.core.nesting import TooDeep
from taskapi_jupyter.deploy.api_spec.yaml import load
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui import doctor
from taskapi_jupyter.ui.cli import main

DEEP = '{"a":' * 985 + "1" + "}" * 985

#: What somebody may have written into a job's row, as SQL.
ODD = [
    f"config = '{DEEP}'",
    "config = '[1]'",
    "config = 'x'",
    "config = CAST(x'7bff7d' AS TEXT)",
    "config = x'7b7d'",
    "status = 'bogus'",
    "status = x'ff'",
    "status = 'enqueuing'",
    "created = -5",
    "created = 'soon'",
    "ended = 9223372036854775807",
    "started = 1e300",
    "timeout = 'x'",
    "exit_code = 'x'",
    "cpu = 'many'",
    "mem = -1",
    "reason = CAST(x'ff' AS TEXT)",
    "api_name = CAST(x'ff' AS TEXT)",
    "api_id = '../..'",
    "notebook = x'00'",
]


def plant(home: Path, sql: str, *values: Any) -> None:
    """Change the database as nobody of us would."""
    with closing(sqlite3.connect(home / "taskapi.db", timeout=PATIENCE)) as connection, connection:
        connection.execute(sql, values)


def test_rows_that_can_not_be_read(home: Path) -> None:
    """Lists, details, events and deletes take them, in this process and through a server."""
    service = Service(home)
    jobs = ended(service, len(ODD) + 1)
    for job, what in zip(jobs, ODD, strict=False):
        plant(home, f"UPDATE jobs SET {what} WHERE id = ?", job)
    named = [one for one in doctor.problems(home) if "can't be read" in one]
    assert len(named) == len(ODD)
    listed = {job.id: job for job in service.jobs(limit=1000)}
    assert list(listed) == jobs[::-1]
    for job, what in zip(jobs, ODD, strict=False):
        record = listed[job].record
        assert (record.status, listed[job].ended) == ("unknown", True), what
        assert what.partition(" =")[0] in str(record.reason), record.reason
        assert "can't be read" in repr(service.job_response(job).job_status.reason)
        with pytest.raises(JobFailed, match="can't be read"):
            listed[job].check()
    assert listed[jobs[-1]].status == "succeeded"
    assert len(service.get()) == 1
    for job in jobs[: len(ODD) // 2]:
        assert service.forget(job) == f"deleted job {job}"
    assert service.purge() == f"deleted {len(ODD) - len(ODD) // 2 + 1} jobs"
    assert service.jobs() == []
    assert list((home / "jobs").iterdir()) == []
    service.close()


def test_through_a_server(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    service, client = Service(server.home), Client(server.taskapi, server.token)
    jobs = ended(service, len(ODD))
    for job, what in zip(jobs, ODD, strict=True):
        plant(server.home, f"UPDATE jobs SET {what}, change = 1000000 WHERE id = ?", job)
    plant(server.home, "UPDATE counter SET n = 1000000")
    plant(server.home, "UPDATE versions SET spec = ?", DEEP)
    assert [job.id for job in client.jobs(limit=1000)] == jobs[::-1]
    assert {job.status for job in client.jobs(limit=1000)} == {"unknown"}
    (api,) = client.get()
    assert "can't be read" in str(api.spec["error"] if api.spec else "")  # type: ignore[index]
    assert "can't be read" in repr(client.get("a"))
    with pytest.raises((BadRequest, Unavailable), match="deploy it again"):
        client.submit("a")
    for job in jobs:
        assert "can't be read" in str(client.job_response(job).job_status.reason)
        assert client.forget(job) == f"deleted job {job}"
    assert client.jobs() == []
    service.close()
    stop_server(server)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_the_supervisor_skips_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that wait or run under a row that can't be read end; others start and end as ever."""
    service = Service(home)
    service.deploy_request(request_for("fine", "def task(config):\n    return 1\n"))
    version = service.store.api("fine")
    assert version is not None
    told = {}
    for what in (*ODD, "deadline = 'x'", "gpu = 'x'", "merged = 'x'", "id = 'zzzz'", "run_timeout = 'x'"):
        job = service.store.add_job(row("fine", version["api_id"]), (1 << 63) - 1 - time.time_ns())
        plant(home, f"UPDATE jobs SET {what} WHERE id = ?", job)
        told[job] = what
    running = service.store.add_job(row("fine", version["api_id"]), (1 << 63) - 1 - time.time_ns())
    plant(home, "UPDATE jobs SET status = 'running', cpu = 'x', gpus = 'x', started = 1 WHERE id = ?", running)
    assert service.submit("fine").result(PATIENCE) == 1
    until(lambda: not service.store.any_in_progress(), "all to have ended")
    until(lambda: not processes(home), "the supervisor to leave")
    log = (home / "supervisor.log").read_text()
    assert "Traceback" not in log
    assert "can't be read: its status is 'bogus', which is invalid" in log
    assert "zzzz" in log
    assert "can't be read: its cpu is 'many', which is invalid" in log
    states = {job.id: job.record for job in service.jobs(limit=1000)}
    assert states[running].status == "unknown"
    assert main(["doctor"]) == 1
    assert "'zzzz'" in capsys.readouterr().out
    assert service.forget("zzzz") == "deleted job zzzz"
    for job, what in told.items():
        if what != "id = 'zzzz'":
            assert service.forget(job) == f"deleted job {job}", what
    service.close()


def test_ten_thousand_jobs_and_every_trap(roomy: Path) -> None:
    """Tidying ends and goes through, lists answer, and what is to be kept is."""
    home = roomy / "home"
    home.mkdir(mode=0o700)
    service = Service(home)
    (home / "config.yaml").write_text("keep_jobs: 100\n")
    service.deploy_request(request_for("fine", "def task(config):\n    return 1\n"))
    version = service.store.api("fine")
    assert version is not None
    first = (1 << 63) - 1 - time.time_ns()
    columns = {**row("fine", version["api_id"]), "status": "succeeded", "change": 1, "ended": 2}
    with service.store.write() as transaction:
        transaction.executemany(
            f"INSERT INTO jobs ({', '.join(columns)}, id) VALUES ({', '.join('?' * len(columns))}, ?)",
            [(*columns.values(), f"{first - number:016x}") for number in range(10_000)],
        )
    jobs = [f"{first - number:016x}" for number in range(10_000)]
    for job in jobs:
        (home / "jobs" / job).mkdir()
    for at, what in enumerate(ODD):
        for job in (jobs[at], jobs[-1 - at]):
            plant(home, f"UPDATE jobs SET {what} WHERE id = ?", job)
    for job in (jobs[50], jobs[9_950]):
        deep(home / "jobs" / job / "files", 1100)
    (home / "jobs" / jobs[51]).rmdir()
    (home / "jobs" / jobs[51]).symlink_to(roomy)
    os.mkfifo(home / "jobs" / jobs[52] / "log")
    (home / "jobs" / jobs[53]).chmod(0)
    assert [job.id for job in service.jobs(limit=1000)] == jobs[:-1001:-1]
    assert tidy(home) == 0
    assert [job["id"] for job in service.store.jobs(None, [], 1000)] == jobs[:-101:-1]
    assert sorted(path.name for path in (home / "jobs").iterdir()) == sorted(jobs[-100:])
    assert service.submit("fine").result(PATIENCE) == 1
    assert len(service.jobs(limit=1000)) in (100, 101)
    until(lambda: not processes(home), "the supervisor to leave")
    assert "Traceback" not in (home / "supervisor.log").read_text()
    service.close()


# Nesting


@pytest.mark.parametrize("levels", [64, 65, 1000, 1_000_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('["[\\"", ', "]")])
def test_levels(levels: int, begin: str, end: str) -> None:
    text = begin * levels + "1" + end * levels
    if levels > 64:
        with pytest.raises(TooDeep, match="deeper than 64 levels"):
            nesting.loads(text, 64)
        with pytest.raises(TooDeep):
            nesting.loads(text[: len(begin) * levels].encode(), 64)
    else:
        assert nesting.loads(text, 64) == nesting.loads(text.encode(), 64) == json.loads(text)
    assert nesting.loads(json.dumps(["[" * levels] * 100)) == ["[" * levels] * 100
    assert len(nesting.loads("[" + "[[1]]," * 1000 + "1]")) == 1001


def test_yaml_by_aliases() -> None:
    """Each line is one level, and stands for all above it."""
    text = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60))
    assert load(text)["a0"] == [1]
    text += "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(60, 2000))
    with pytest.raises(BadRequest, match="nested deeper than 64 levels"):
        load(text)
    for text in ("[" * 1000, "{a: " * 80 + "1" + "}" * 80, "- " * 5000 + "x", "&a [*a]", "? " * 1000 + "x"):
        with pytest.raises(BadRequest, match=r"nested deeper|not valid"):
            load(text)


def test_a_result_that_a_task_wrote_itself(home: Path) -> None:
    service = Service(home)
    (job,) = ended(service, 1)
    (home / "jobs" / job / "result.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ResultNotStored, match="nested deeper"):
        service.result(job)
    service.close()


@pytest.mark.parametrize("name", ["config.yaml", "engine.json", "environments.yaml"])
def test_files_of_a_home(home: Path, name: str) -> None:
    service = Service(home)
    service.deploy_request(request_for("fine", "def task(config):\n    return 1\n"))
    (home / name).write_text("{a: " * 1000 if name.endswith("yaml") else '{"a":' * 100_000)
    if name == "config.yaml":
        with pytest.raises(BadRequest, match="nested deeper"):
            service.submit("fine")
        assert service.jobs() == []
    assert main(["doctor"]) == (1 if name.endswith("yaml") else 0)
    service.close()


def test_a_database_that_vanished(home: Path) -> None:
    service = Service(home)
    ended(service, 1)
    service.close()
    for path in home.glob("taskapi.db*"):
        path.unlink()
    assert Service(home).jobs() == []
    assert f"there was no {home / 'taskapi.db'}, although jobs left folders" in (home / "supervisor.log").read_text()
