"""What is deleted: ended jobs beyond what is kept, by whom it is asked for, and what an interrupted deletion left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from support import PATIENCE, request_for, until
from support.disks import deep, immutable
from support.homes import processes
from support.records import FIRST, SCHEMAS, deploy, end, ended, row, tidy
from support.servers import reserved_port
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.engine_settings import read
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.service.supervisor import wake
from taskapi_jupyter.ui import doctor
from taskapi_jupyter.ui.cli import main

NOTHING = "def task(config):\n    pass\n"


def keep(home: Path, text: str) -> Service:
    """Return a service that has read and passed on what config.yaml says."""
    (home / "config.yaml").write_text(text)
    service = Service(home)
    service.deploy_request(request_for("other", NOTHING))
    return service


def cluster(home: Path, storage: str | None) -> RayService:
    """Return a service of a cluster that nobody can reach."""
    service = RayService(home, environment="cluster", address=f"http://127.0.0.1:{reserved_port()}", storage=storage)
    service.deploy_request(request_for("other", NOTHING))
    return service


def there(home: Path) -> list[str]:
    return sorted((path.name for path in (home / "jobs").iterdir()), reverse=True)


def test_nothing_is_deleted_that_nobody_asked_for(home: Path) -> None:
    service = keep(home, "")
    jobs = ended(service, 5)
    assert tidy(home) == 0
    assert there(home) == jobs
    service.close()


def test_a_supervisor_keeps_so_many_before_it_leaves(home: Path) -> None:
    service = keep(home, "keep_jobs: 2\n")
    jobs = ended(service, 4)
    service.submit("other").wait(PATIENCE)
    (newest,) = service.jobs("other")
    until(lambda: not processes(home), "the supervisor to leave")
    assert [job.id for job in service.jobs()] == [newest.id, jobs[-1]]
    assert there(home) == [jobs[-1], newest.id]
    assert (home / "supervisor.log").read_text() == ""
    service.close()


def test_so_many_days(home: Path) -> None:
    service = keep(home, "keep_days: 1.5\n")
    jobs = ended(service, 3)
    with service.store.write() as transaction:
        for job, days in zip(jobs, (1.6, 1.4, 1.6), strict=True):
            at = int((time.time() - days * 86_400) * 1e6)
            transaction.execute("UPDATE jobs SET ended = ? WHERE id = ?", (at, job))
    running = service.store.add_job(row("a", "a1"), FIRST)
    assert tidy(home) == 0
    assert [job["id"] for job in service.store.jobs(None, [], 10)] == [running, jobs[1]]
    assert there(home) == [jobs[1]]
    service.store.request_stop(running)
    service.close()


@pytest.mark.parametrize("where", ["purge.forgotten", "forget.removed", "store.written", "store.committed"])
def test_killed_between_row_and_folder(home: Path, tmp_path: Path, where: str) -> None:
    service = keep(home, "keep_jobs: 1\n")
    jobs = ended(service, 3)
    stranger = home / "jobs" / "0123456789abcdef"  # of a database that was set aside, say
    stranger.mkdir()
    (tmp_path / where).write_text("kill")
    assert tidy(home, TASKAPI_FAULTS=str(tmp_path)) == -signal.SIGKILL
    known = {job.id for job in service.jobs()}
    assert known <= set(there(home))  # never a job without its folder
    assert tidy(home) == 0
    assert [job.id for job in service.jobs()] == jobs[-1:]
    assert there(home) == [jobs[-1], stranger.name]
    service.close()


@pytest.mark.parametrize("where", ["", "purge.forgotten", "forget.unstored", "forget.removed"])
def test_what_a_clusters_jobs_left_in_its_storage(home: Path, tmp_path: Path, where: str) -> None:
    """It goes with them, wherever the process that deletes is killed; what others left there stays."""
    (home / "config.yaml").write_text("keep_jobs: 1\n")
    service = cluster(home, str(tmp_path / "left"))
    jobs = ended(service, 3)
    left = service.output_dir(jobs[0]).parent.parent
    for name in (*jobs, "another"):
        (left / name).mkdir(parents=True)
        (left / name / "result.json").write_text("1")
    if where:
        (tmp_path / where).write_text("kill")
        assert tidy(home, TASKAPI_FAULTS=str(tmp_path)) == -signal.SIGKILL
    assert tidy(home) == 0
    assert {one.name for one in left.iterdir()} == {jobs[-1], "another"}
    assert there(home) == jobs[-1:]
    service.purge()
    assert [one.name for one in left.iterdir()] == ["another"]
    assert there(home) == []
    service.close()


def test_a_storage_that_is_no_folder(home: Path, tmp_path: Path) -> None:
    """What lets into one has a server, not what tidies: it goes when the server looks after the environment."""
    (home / "config.yaml").write_text("keep_jobs: 1\n")
    service = cluster(home, f"local://{tmp_path}/left")
    jobs = ended(service, 3)
    left = tmp_path / "left" / read(str(home))["home_id"]
    for job in jobs:
        (left / job / "files").mkdir(parents=True)
        (left / job / "files" / "x").write_text("1")
    assert tidy(home) == 0
    assert [job.id for job in service.jobs()] == jobs[-1:]
    assert there(home) == jobs
    service.look_after()
    assert there(home) == [one.name for one in left.iterdir()] == jobs[-1:]
    service.close()


def test_what_can_not_be_removed(home: Path, tmp_path: Path) -> None:
    """It stops nothing else, and is named: to who deletes, in supervisor.log, by doctor; until it can be."""
    service = cluster(home, str(tmp_path))
    stays, other = ended(service, 2)
    left = service.output_dir(stays)
    for job in (stays, other):
        service.output_dir(job).mkdir(parents=True)
    (left / "file").write_text("x")
    why = f"{left / 'file'} can't be removed: Operation not permitted; remove it by hand"
    with immutable(left / "file"):
        told = service.forget(stays)
        assert told.startswith(f"deleted job {stays}; not all could be removed: {left / 'file'} (")
        assert there(home) == [stays, other]
        assert why in doctor.problems(home)
        service.store.set_unremoved({})
        service.store.forget(other)
        for _ in range(2):
            done = subprocess.run(
                wake.command("service.retention", str(home)), capture_output=True, text=True, timeout=60
            )
            said = done.stderr
            assert done.returncode == 0
            assert said == ("" if _ else f"taskapi retention: can't remove {left / 'file'}: Operation not permitted\n")
        assert there(home) == [stays]
        assert why in doctor.problems(home)
    assert doctor.problems(home) == [why]
    assert tidy(home) == 0
    assert there(home) == []
    assert doctor.problems(home) == []
    service.close()


def test_deep_folders(home: Path) -> None:
    """They end no tidying: they go, and what is to go after them."""
    service = keep(home, "keep_jobs: 1\n")
    jobs = ended(service, 6)
    for job in jobs[1:4]:
        deep(home / "jobs" / job / "files", 1100)
    (home / "apis" / ".new-x").mkdir()
    deep(home / "apis" / ".old-x", 1100)
    assert tidy(home) == 0
    assert there(home) == jobs[-1:]
    assert [path.name for path in (home / "apis").iterdir() if path.name.startswith(".old")] == []
    service.close()


def test_a_folder_that_is_not_mounted(home: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    service = cluster(home, str(tmp_path / "shared"))
    never, job = ended(service, 2)
    (home / "jobs" / never / "log").unlink()  # it was stopped before it began
    service.forget(never)
    assert there(home) == [job]
    left = service.output_dir(job)
    left.mkdir(parents=True)
    (tmp_path / "shared").rename(tmp_path / "elsewhere")
    service.forget(job)
    assert tidy(home) == 0
    assert there(home) == [job]
    (tmp_path / "elsewhere").rename(tmp_path / "shared")
    assert tidy(home) == 0
    assert there(home) == []
    assert not left.parent.exists()
    service.close()


def test_a_storage_that_is_away(home: Path) -> None:
    """A job is deleted all the same; its folder stays until what it left can be deleted, too."""
    service = cluster(home, "nowhere://bucket/left")
    jobs = ended(service, 2)
    service.forget(jobs[0])
    assert service.purge() == "deleted 1 job"
    assert service.jobs() == []
    assert tidy(home) == 0
    assert there(home) == jobs
    cluster(home, None).close()
    assert tidy(home) == 0
    assert there(home) == []
    service.close()


def test_what_interrupted_deploys_and_deletions_left(home: Path, tmp_path: Path) -> None:
    service = keep(home, "")
    (kept,) = (home / "apis").iterdir()
    for name, age in ((".new-old", 700), (".new-young", 10)):
        (home / "apis" / name).mkdir()
        os.utime(home / "apis" / name, (time.time() - age,) * 2)
    (tmp_path / "versions.dropped").write_text("kill")
    service.deploy_request(request_for("gone", "def task(config):\n    return 2\n"))
    code = "import sys; from taskapi_jupyter.service.service import Service; Service(sys.argv[1]).delete('gone')"
    command = [*wake.command("x", str(home))[:1], "-c", code, str(home)]
    killed = subprocess.run(command, env={**os.environ, "TASKAPI_FAULTS": str(tmp_path)})
    assert killed.returncode == -signal.SIGKILL
    assert len(list((home / "apis").iterdir())) == 4
    assert tidy(home) == 0
    assert {path.name for path in (home / "apis").iterdir()} == {kept.name, ".new-young"}
    # The same again is whole.
    service.deploy_request(request_for("gone", "def task(config):\n    return 2\n"))
    assert service.submit("gone").result(PATIENCE) == 2
    service.close()


@pytest.mark.parametrize("made_by", ["this version", "an older one"])
def test_space_is_given_back(tmp_path: Path, made_by: str) -> None:
    path = tmp_path / "taskapi.db"
    if made_by == "an older one":
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript((SCHEMAS / "1000.sql").read_text())
    with closing(Store(path)) as store:
        deploy(store)
        jobs = [store.add_job(row(config=json.dumps("x" * 400_000)), FIRST) for _ in range(12)]
        end(store, *jobs)
        for job in jobs:
            store.forget(job)
        store.give_space_back()
    assert path.stat().st_size < 1 << 20
    with closing(Store(path)) as store:
        assert store.deployed()["a"]
        assert store._one("PRAGMA auto_vacuum")[0] == 2


def test_deletions_are_noted_until_the_folder_is_gone(home: Path) -> None:
    service = keep(home, "")
    jobs = ended(service, 2)
    for job in jobs:
        service.store.forget(job)
    (home / "jobs" / jobs[0] / "log").unlink()
    (home / "jobs" / jobs[0]).rmdir()
    with service.store.write() as transaction:
        transaction.execute("UPDATE counter SET n = n + 20000")
    assert tidy(home) == 0
    assert there(home) == []
    assert tidy(home) == 0
    assert service.store.forgotten() == []
    service.close()


def test_a_supervisor_log_that_has_grown_long(service: Service, home: Path, name: str) -> None:
    (home / "supervisor.log").write_text("x" * (2 << 20))
    service.deploy_request(request_for(name, NOTHING))
    service.submit(name).wait(PATIENCE)
    assert (home / "supervisor.log").read_text() == ""
    assert (home / "supervisor.log.1").stat().st_size == 2 << 20


# By hand


def test_purge_in_the_terminal(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    service = Service(home)
    jobs = ended(service, 3)
    other = ended(service, 1, "b")
    with service.store.write() as transaction:
        transaction.execute("UPDATE jobs SET ended = ? WHERE id != ?", (int(time.time() * 1e6), jobs[0]))
    service.close()

    def told(*arguments: str) -> str:
        assert main(["jobs", *arguments]) == 0
        return capsys.readouterr().out

    assert [one["job_id"] for one in json.loads(told("-o", "json"))] == [*other, *jobs[::-1]]
    assert [one["job_id"] for one in json.loads(told("list", "b", "-o", "json"))] == other
    assert told("purge", "--older-than", "0.5") == "1 job deleted\n"
    assert json.loads(told("purge", "a", "--status", "succeeded", "-o", "json")) == {"message": "deleted 2 jobs"}
    assert there(home) == other
    assert told("purge", "--older-than", "1") == "0 jobs deleted\n"
    assert told("purge") == "1 job deleted\n"
    with pytest.raises(SystemExit) as left:
        main(["jobs", "purge", "--older-than", "-1"])
    assert left.value.code == 2
    assert "-1" in capsys.readouterr().err


def test_an_age_that_is_none(service: Service) -> None:
    for days in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="older_than"):
            service.purge(older_than=days)


# Versions


def versions(service: Service, count: int, name: str = "a", age: float = 3600) -> list[str]:
    """Deploy that many versions of an API, the newest so many seconds ago, and return their ids, oldest first."""
    ids = []
    for number in range(count):
        (result,) = service.deploy_request(request_for(name, f"def task(config):\n    return {number}\n"))
        assert result.api is not None
        ids.append(str(result.api.spec["id"]))
        with service.store.write() as transaction:
            at = int((time.time() - age - count + number) * 1e6)
            transaction.execute("UPDATE versions SET updated = ? WHERE api_id = ?", (at, ids[-1]))
    return ids


def kept(service: Service, ids: list[str]) -> list[int]:
    """Return which of the versions are there, in the database and as folders alike."""
    known = [index for index, one in enumerate(ids) if service.store.version(one)]
    assert known == [index for index, one in enumerate(ids) if (service.home / "apis" / one).exists()]
    return known


def test_the_newest_versions_are_kept_and_those_of_jobs(home: Path) -> None:
    service = keep(home, "")
    ids = versions(service, 40)
    jobs = [service.store.add_job({**row("a", ids[index]), "api_id": ids[index]}, FIRST) for index in (3, 20, 39)]
    end(service.store, *jobs)
    assert tidy(home) == 0
    assert kept(service, ids) == [3, 20, 35, 36, 37, 38, 39]
    for job in jobs:
        assert service.store.forget(job)
    assert tidy(home) == 0
    assert kept(service, ids) == [35, 36, 37, 38, 39]
    assert service.submit("a").result(PATIENCE) == 39
    service.close()


def test_a_current_version_is_kept_however_old(home: Path) -> None:
    service = keep(home, "")
    ids = versions(service, 12)
    with service.store.write() as transaction:  # as it is where the clock was set back
        transaction.execute("UPDATE versions SET updated = 1 WHERE api_id = ?", (ids[-1],))
    assert tidy(home) == 0
    assert kept(service, ids) == [6, 7, 8, 9, 10, 11]
    service.close()


def test_versions_of_the_last_minutes_are_kept(home: Path) -> None:
    service = keep(home, "")
    ids = versions(service, 12, age=500)
    assert tidy(home) == 0
    assert kept(service, ids) == list(range(12))
    service.close()


def test_each_api_has_its_own_newest(home: Path) -> None:
    service = keep(home, "")
    ids, others, few = versions(service, 8), versions(service, 8, "b"), versions(service, 3, "c")
    service.delete("b")
    assert kept(service, others) == []
    assert kept(service, ids) == [3, 4, 5, 6, 7]  # a deletion tidies
    assert kept(service, few) == [0, 1, 2]
    service.close()


def test_a_version_that_is_submitted_to_meanwhile_is_kept(home: Path) -> None:
    service, other = keep(home, ""), Store(home / "taskapi.db")
    ids = versions(service, 8)
    columns = {"id": "1234567890abcdef", "api_name": "a", "api_id": ids[1], "spec_id": "x", "status": "stopped"}
    columns |= {"change": 1, "created": 1, "boot": "x", "cpu": 1, "gpu": 0}
    with ThreadPoolExecutor() as threads:
        with service.store.write() as transaction:
            transaction.execute(
                f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                list(columns.values()),
            )
            dropped = threads.submit(other.unused_versions, keep=5, before=int(time.time() * 1e6))
            until(other._writing.locked, "the versions to have been looked for")
        assert dropped.result(PATIENCE) == [ids[0], ids[2]]
    other.close()
    service.close()
