"""The database: many processes at once, moves by compare-and-set, ids, pages, and what changed."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import IMPORTS
from support.records import FIRST, SCHEMAS, deploy, end, row
from taskapi_jupyter.core.errors import APINotDeployed, Damaged, Unavailable
from taskapi_jupyter.core.states import MOVES, TERMINAL, JobCode
from taskapi_jupyter.service.store.schema import IN_PROGRESS, MIGRATIONS, SCHEMA
from taskapi_jupyter.service.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a fresh store with the API ``a``."""
    store = Store(tmp_path / "taskapi.db")
    deploy(store)
    yield store
    store.close()


def add(store: Store, count: int = 1) -> list[str]:
    return [store.add_job(row(), FIRST) for _ in range(count)]


def children(code: str, count: int, *args: object) -> list[str]:
    """Run a piece of Python in several processes at once; return what they print."""
    command = [sys.executable, "-c", code, *map(str, args)]
    running = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    told = []
    for process in running:
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        told.append(out)
    return told


# Opening


def test_opening_again_changes_nothing(store: Store) -> None:
    (job_id,) = add(store)
    counter = store.counter()
    again = Store(store.path)
    assert (again.counter(), again.job(job_id)) == (counter, store.job(job_id))
    again.close()


def test_several_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from taskapi_jupyter.service.store.store import Store; print(Store(sys.argv[1]).counter())"
    for attempt in range(3):
        assert children(code, 6, tmp_path / f"{attempt}.db") == ["0\n"] * 6


def test_it_can_be_closed_while_threads_ask(tmp_path: Path) -> None:
    code = (
        "import sys, threading; from taskapi_jupyter.service.store.store import Store\n"
        "store, closed, asked = Store(sys.argv[1]), threading.Event(), []\n"
        "def ask():\n"
        "    while not closed.is_set(): asked.append(store.jobs(None, [], 50))\n"
        "threads = [threading.Thread(target=ask) for _ in range(2)]\n"
        "for one in threads: one.start()\n"
        "for _ in range(30): store.close()\n"
        "closed.set()\n"
        "for one in threads: one.join()\n"
        "print(all(one == [] for one in asked))"
    )
    assert children(code, 1, tmp_path / "taskapi.db") == ["True\n"]


def test_the_store_of_an_older_version_is_brought_up(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.executescript(f"{MIGRATIONS[1000]}; PRAGMA user_version = 1000; INSERT INTO forgotten VALUES (1, 'before')")
    with closing(Store(tmp_path / "old.db")) as store:
        assert [(one["id"], one["api_name"]) for one in store.news(0)] == [("before", "")]
        deploy(store)
        (job_id,) = add(store)
        end(store, job_id)
        assert store.forget(job_id)
        assert (store.news(1)[0]["id"], store.news(1)[0]["api_name"]) == (job_id, "a")


def test_the_store_of_a_newer_major_version_is_refused(store: Store) -> None:
    with store.write() as transaction:
        transaction.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    Store(store.path).close()  # a newer minor version only added something
    with store.write() as transaction:
        transaction.execute(f"PRAGMA user_version = {SCHEMA + 1000}")
    with pytest.raises(Unavailable) as caught:
        Store(store.path)
    assert str(SCHEMA + 1000) in str(caught.value)
    assert store.path in str(caught.value)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.umask(0); from taskapi_jupyter.service.store.store import Store; store = Store(sys.argv[1])\n"
        "store.set_settings({'a': 1})\n"
        "print(*[oct(os.stat(sys.argv[1] + end).st_mode & 0o777) for end in ('', '-wal', '-shm')])"
    )
    assert children(code, 1, tmp_path / "taskapi.db") == ["0o600 0o600 0o600\n"]
    assert stat.S_IMODE(os.stat(tmp_path / "taskapi.db").st_mode) == 0o600


def test_commits_are_synced(store: Store) -> None:
    assert store._one("PRAGMA synchronous")[0] == 2
    assert store._one("PRAGMA journal_mode")[0] == "wal"


def test_what_failed_leaves_no_transaction(store: Store) -> None:
    def fail() -> None:
        with store.write() as transaction:
            transaction.execute("UPDATE counter SET n = 1000000")
            raise RuntimeError

    before = store.counter()
    with pytest.raises(RuntimeError):
        fail()
    assert store.counter() == before
    with sqlite3.connect(store.path, timeout=0, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_threads_that_ended_leave_no_descriptor(store: Store) -> None:
    def in_threads(count: int) -> int:
        for _ in range(count):
            thread = threading.Thread(target=store.counter)
            thread.start()
            thread.join()
        return len(os.listdir("/proc/self/fd"))

    few = in_threads(3)
    assert in_threads(30) < few + 10


# Ids


def test_ids_descend_within_one_nanosecond(store: Store) -> None:
    ids = add(store, 5)
    assert ids == sorted(set(ids), reverse=True)
    assert ids[0] == f"{FIRST:016x}"


def test_ids_descend_when_the_clock_steps_back(store: Store) -> None:
    ids = [store.add_job(row(), FIRST - ahead) for ahead in (0, 1_000_000, 5, 0, -1_000_000, 2_000_000)]
    assert ids == sorted(set(ids), reverse=True)
    assert ids[-1] == f"{FIRST - 2_000_000:016x}"


# Moves


def test_only_the_first_move_wins(store: Store) -> None:
    (job_id,) = add(store)
    move = (job_id, JobCode.PENDING, JobCode.RUNNING, {"started": 5})
    assert store.move([move, move]) == [True, False]
    assert store.move([(job_id, JobCode.RUNNING, JobCode.SUCCEEDED, {"ended": 6, "exit_code": 0})]) == [True]
    for code in TERMINAL & MOVES[JobCode.RUNNING]:
        assert store.move([(job_id, JobCode.RUNNING, code, {})]) == [False]
    found = store.job(job_id)
    assert found is not None
    assert (found["status"], found["started"], found["ended"], found["exit_code"]) == ("succeeded", 5, 6, 0)


@pytest.mark.parametrize("old", list(JobCode))
@pytest.mark.parametrize("new", list(JobCode))
def test_moves_that_are_not_in_the_table_are_refused(store: Store, old: JobCode, new: JobCode) -> None:
    (job_id,) = add(store)
    if new in MOVES.get(old, ()):
        store.move([(job_id, old, new, {})])
        return
    with pytest.raises(ValueError, match="can't go"):
        store.move([(job_id, JobCode.PENDING, JobCode.RUNNING, {}), (job_id, old, new, {})])
    found = store.job(job_id)
    assert found is not None
    assert found["status"] == "pending"  # all of them or none


def test_a_stop_is_wished_for_jobs_in_progress_only(store: Store) -> None:
    pending, running, ended = add(store, 3)
    store.move([(running, JobCode.PENDING, JobCode.RUNNING, {})])
    end(store, ended)
    assert [store.request_stop(one) for one in (pending, running, ended, "0" * 16)] == [True, True, False, False]
    assert [one["id"] for one in store.to_stop()] == [pending, running]


def test_an_ended_job_is_forgotten(store: Store) -> None:
    pending, ended = add(store, 2)
    end(store, ended)
    before = store.counter()
    assert [store.forget(one) for one in (pending, ended, ended)] == [False, True, False]
    assert store.job(ended) is None
    (deleted,) = store.news(before)
    assert deleted.items() >= {"id": ended, "api_name": "a", "status": "deleted", "change": before + 1}.items()
    assert store.counter() == before + 1


def test_ended_jobs_are_forgotten_by_state_oldest_first(store: Store) -> None:
    jobs = add(store, 5)
    for one in jobs[:4]:
        end(store, one)
    before, until = store.counter(), store.last()
    (later,) = add(store, 1)
    end(store, later)
    assert store.forget_some("b", "succeeded", until, 10) == []
    assert store.forget_some("a", "stopped", until, 10) == []
    assert store.forget_some("a", "succeeded", until, 3) == jobs[:3]
    assert store.forget_some(None, "succeeded", until, 3) == jobs[3:4]
    assert store.forget_some(None, "succeeded", until, 3) == []
    assert [store.job(one) is None for one in jobs] == [True] * 4 + [False]
    assert [one["id"] for one in store.news(before) if one["status"] == "deleted"] == jobs[:4]


# What changed


def test_every_change_is_seen_once(store: Store) -> None:
    seen = store.counter()

    def changed() -> list[str]:
        nonlocal seen
        rows = store.news(seen)
        assert all(one["change"] <= store.counter() for one in rows)
        seen = store.counter()
        return [one["id"] for one in rows]

    first, second = add(store, 2)
    assert changed() == [first, second]
    assert changed() == []
    store.request_stop(first)
    assert changed() == [first]
    store.move([(one, JobCode.PENDING, JobCode.RUNNING, {}) for one in (second, first)])
    assert sorted(changed()) == sorted([first, second])
    assert store.request_stop("0" * 16) is False
    assert changed() == []
    assert store.delete_api("a") == [first, second]
    assert sorted(changed()) == sorted([first, second])


def test_more_changes_than_a_thousand_at_once_are_all_seen(store: Store) -> None:
    with store.write() as transaction:
        columns = {**row(), "status": "pending", "change": 0}
        transaction.executemany(
            f"INSERT INTO jobs (id, {', '.join(columns)}) VALUES (?, {', '.join('?' * len(columns))})",
            [(f"{FIRST - number:016x}", *columns.values()) for number in range(1500)],
        )
    before = store.counter()
    assert len(store.delete_api("a") or ()) == 1500
    assert len(store.news(before)) == 1500


# Lists


def test_pages_meet_and_do_not_overlap(store: Store) -> None:
    ids = add(store, 25)
    end(store, *ids[::3])
    newest_first = ids[::-1]
    for statuses, wanted in (
        ([], newest_first),
        (["succeeded"], ids[::3][::-1]),
        (["pending", "succeeded"], newest_first),
        (["stopped"], []),
    ):
        for api in ("a", None):
            found: list[str] = []
            before = None
            while page := store.jobs(api, statuses, 4, before):
                found += [one["id"] for one in page]
                before = page[-1]["seq"]
            assert found == wanted
    assert store.jobs("another", [], 4) == []


def test_a_job_that_moves_while_a_list_is_read_is_in_it_once(store: Store) -> None:
    jobs = add(store, 400)

    def begin_all() -> None:
        for job in jobs:
            store.move([(job, JobCode.PENDING, JobCode.RUNNING, {})])

    moving = threading.Thread(target=begin_all)
    moving.start()
    while moving.is_alive():
        for found in (store.jobs(None, ["pending", "running"], 1000), store.entries(None, IN_PROGRESS, 1000).jobs):
            assert [one["id"] for one in found] == jobs[::-1]
    moving.join()


def test_a_page_walks_an_index(store: Store) -> None:
    walked = []
    with store._connection() as connection:
        connection.set_trace_callback(walked.append)
    store.jobs("a", ["pending", "running"], 10)
    store.jobs("a", [], 10)
    store.jobs(None, ["succeeded"], 10)
    store.jobs(None, [], 10, before=5)
    store.any_in_progress()
    store.in_line(1)
    store.to_stop()
    store.news(5)
    store.pending_deadlines("b")
    with store._connection() as connection:
        connection.set_trace_callback(None)
    walked = [sql for sql in walked if sql.startswith("SELECT")]
    assert len(walked) == 14
    for sql in walked:
        plan = " ".join(one["detail"] for one in store._rows(f"EXPLAIN QUERY PLAN {sql}"))
        assert "SEARCH" in plan or "USING INDEX" in plan or "USING COVERING INDEX" in plan, (sql, plan)
        assert "TEMP B-TREE" not in plan, (sql, plan)


def test_the_first_in_line(store: Store) -> None:
    first, second, third = add(store, 3)
    end(store, second)
    assert [row["id"] for row in store.in_line(1)] == [first]
    assert [row["id"] for row in store.in_line(5, 1)] == [third]
    assert store.in_line(1, 2) == []
    assert (store.count_in_progress(), store.any_in_progress()) == (2, True)
    end(store, first, third)
    assert (store.count_in_progress(), store.any_in_progress()) == (0, False)


def test_deadlines_of_this_boot_and_of_others(store: Store) -> None:
    soon, old, never, later = (
        store.add_job(row(boot=boot, deadline=deadline, timeout=timeout), FIRST)
        for boot, deadline, timeout in (("b", 5.0, 5), ("old", 1.0, 5), ("b", None, None), ("b", 9.0, 9))
    )
    assert [one["id"] for one in store.pending_deadlines("b")] == [soon, later]
    store.rebase_deadlines("b", boottime=4.0, now=3 + 1e-6)  # 3 of its 5 seconds went by
    assert [(one["id"], one["deadline"]) for one in store.pending_deadlines("b")] == [
        (soon, 5.0),
        (old, pytest.approx(6.0)),
        (later, 9.0),
    ]
    assert never not in [one["id"] for one in store.pending_deadlines("b")]


def test_a_deadline_of_another_boot_where_the_clock_was_set_back(store: Store) -> None:
    job = store.add_job(row(boot="old", deadline=1.0, timeout=5), FIRST)
    store.rebase_deadlines("b", boottime=4.0, now=0)
    assert [(one["id"], one["deadline"]) for one in store.pending_deadlines("b")] == [(job, 9.0)]


def test_nothing_ends_before_it_began_where_the_clock_was_set_back(store: Store) -> None:
    one, other = (store.add_job(row(created=1000), FIRST) for _ in range(2))
    store.move([(one, JobCode.PENDING, JobCode.RUNNING, {"started": 1})])
    store.move([(one, JobCode.RUNNING, JobCode.SUCCEEDED, {"ended": 2})])
    store.move([(other, JobCode.PENDING, JobCode.STOPPED, {"ended": 2})])
    for row_ in store.jobs(None, [], 2):
        assert (row_["started"] or 1000) == row_["created"] == row_["ended"] == 1000


def test_deadlines_of_another_boot_do_not_hide_those_of_this_one(store: Store) -> None:
    for _ in range(150):
        store.add_job(row(boot="old", deadline=1.0, timeout=5), FIRST)
    due = store.add_job(row(deadline=5.0, timeout=5), FIRST)
    assert due in [one["id"] for one in store.pending_deadlines("b")]


# APIs and their versions


def test_versions_of_an_api(store: Store) -> None:
    assert deploy(store) == "unchanged"
    assert deploy(store, api_id="v2") == "updated"
    assert deploy(store, launch='{"env": {}}') == "updated"  # back to the first, under another environment
    assert {one["api_id"] for one in store.versions("a")} == {"v1", "v2"}
    current = store.api("a")
    assert current is not None
    assert (current["api_id"], json.loads(current["launch"])) == ("v1", {"env": {}})
    assert store.unused_versions() == []


def test_an_api_that_is_deleted(store: Store) -> None:
    assert store.delete_api("b") is None
    running, ended = add(store, 2)
    end(store, ended)
    deploy(store, api_id="v2")
    assert store.delete_api("a") == [running]
    assert store.api("a") is None
    assert store.unused_versions() == ["v2"]
    assert store.version("v1") is not None  # what jobs ran with stays readable
    end(store, running, status=JobCode.STOPPED)
    store.forget(running)
    store.forget(ended)
    assert store.unused_versions() == ["v1"]


def test_no_job_is_added_to_an_api_that_was_deleted_meanwhile(store: Store) -> None:
    store.delete_api("a")
    store.unused_versions()
    with pytest.raises(APINotDeployed):
        add(store)
    assert store.count_in_progress() == 0


def test_a_job_may_be_added_to_the_version_before_a_redeploy(store: Store) -> None:
    deploy(store, api_id="v2")
    (job_id,) = add(store)
    whole = store.whole_job(job_id)
    assert whole is not None
    assert (whole["api_id"], whole["launch"]) == ("v1", "{}")


# Many processes at once

WRITING = f"""
import sys
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.service.store.store import Store
{IMPORTS}from support.records import FIRST, row
store = Store(sys.argv[1])
for _ in range(15):
    job = store.add_job(row(), FIRST)
    store.request_stop(job)
    print(job, *store.move([
        (job, JobCode.PENDING, JobCode.RUNNING, {{}}), (job, JobCode.RUNNING, JobCode.SUCCEEDED, {{}})
    ]))
"""


def test_eight_processes_write_at_once(store: Store) -> None:
    before = store.counter()
    told = [line.split() for text in children(WRITING, 8, store.path) for line in text.splitlines()]
    assert len({job_id for job_id, *_ in told}) == 120
    assert all(won == ["True", "True"] for _, *won in told)
    assert store.counter() == before + 360
    listed = [one["id"] for one in store.jobs(None, [], 1000)]
    assert listed == sorted(listed)
    assert len(listed) == 120


RACING = """
import sys
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.service.store.store import Store
store = Store(sys.argv[1])
print(*store.move([(job, JobCode.PENDING, JobCode.RUNNING, {"reason": sys.argv[3]}) for job in sys.argv[2].split()]))
"""


def test_one_of_several_processes_wins_each_job(store: Store) -> None:
    ids = add(store, 20)
    won = [text.split() for text in children(RACING, 4, store.path, " ".join(ids))]
    for number, job_id in enumerate(ids):
        winners = [str(process) for process in range(4) if won[process][number] == "True"]
        found = store.job(job_id)
        assert found is not None
        assert [found["reason"]] == winners


# Schemas that were released


def restored(path: Path, version: int) -> None:
    """Make the database of an older version from its file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMAS / f"{version}.sql").read_text())


def shape(connection: sqlite3.Connection) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the columns of each table, and the indices."""
    listed = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    columns = {
        name: {row[1]: tuple(row[2:]) for row in connection.execute(f"PRAGMA table_info({name})")}
        for kind, name, _ in listed
        if kind == "table"
    }
    return columns, {name: sql for kind, name, sql in listed if kind == "index"}


def test_there_is_a_file_of_each_schema() -> None:
    assert {int(path.stem) for path in SCHEMAS.glob("*.sql")} == set(MIGRATIONS)


@pytest.mark.parametrize("version", sorted(MIGRATIONS))
def test_each_schema_is_brought_up(tmp_path: Path, version: int) -> None:
    restored(tmp_path / "taskapi.db", version)
    with closing(Store(tmp_path / "new.db")) as new, new._connection() as connection:
        wanted = shape(connection)
    with closing(Store(tmp_path / "taskapi.db")) as store:
        with store._connection() as connection:
            assert shape(connection) == wanted
        assert store._one("PRAGMA user_version")[0] == SCHEMA
        jobs = store.jobs(None, [], 100)
        assert {job["status"] for job in jobs} == {code.value for code in JobCode} & {job["status"] for job in jobs}
        assert len(jobs) == 8
        assert store.settings()["stop_grace"] == 10
        assert [one["id"] for one in store.news(0) if one["status"] == "deleted"] == ["00000000deadbeef"]
        assert [one["status"] for one in store.running()] == ["running"]
        assert all(store.forget(job["id"]) for job in jobs if job["status"] not in ("pending", "running"))
        assert store.unused_versions() == ["v3"]
        assert store.add_job(row("kept", "v2"), FIRST)
        store.give_space_back()


def test_a_step_within_a_major_version_only_adds() -> None:
    connection = sqlite3.connect(":memory:")
    before: Any = ({}, {})
    for number, step in enumerate(sorted(MIGRATIONS)):
        connection.executescript(MIGRATIONS[step])
        columns, indices = shape(connection)
        if number and step // 1000 == sorted(MIGRATIONS)[number - 1] // 1000:
            for table, old in before[0].items():
                assert {name: columns[table].get(name) for name in old} == old
                for name in columns[table].keys() - old.keys():  # who doesn't know it leaves it out
                    _, not_null, default, key = columns[table][name]
                    assert not key
                    assert default is not None or not not_null
            assert before[1].items() <= indices.items()
            assert not any(sql and sql.startswith("CREATE UNIQUE") for sql in indices.values())
        before = (columns, indices)
    connection.close()


def test_it_goes_on_with_what_a_newer_minor_version_added(store: Store) -> None:
    with store.write() as transaction:
        for table in shape(transaction)[0]:
            transaction.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT ''")
        transaction.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with closing(Store(store.path)) as old:
        deploy(old, "b")
        old.set_settings({"cpus": 1})
        assert old.settings() == {"cpus": 1}
        first, second = add(old, 2)
        end(old, first)
        assert old.request_stop(second)
        assert old.forget(first)
        assert old.delete_api("a") == [second]
        assert old._one("PRAGMA user_version")[0] == SCHEMA + 1


# Damage

NOTICING = """
import sys
from taskapi_jupyter.core.errors import Damaged
from taskapi_jupyter.service.store.store import Store
told = ""
try:
    Store(sys.argv[1]).set_settings({"told": ""})
except Damaged as error:
    told = str(error)
Store(sys.argv[1]).set_settings({"told": told})
print(told)
"""


def garbage(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * 5000)


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [garbage, torn, emptied])
def test_a_damaged_database_is_set_aside_once(tmp_path: Path, damage: Any) -> None:
    (tmp_path / "jobs" / "0123456789abcdef").mkdir(parents=True)
    path = tmp_path / "taskapi.db"
    with closing(Store(path)) as before:
        deploy(before)
        open_still = Store(path)
        open_still.counter()
        with before._connection() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        damage(path)
        content = path.read_bytes()
        told = [one.strip() for one in children(NOTICING, 4, path)]
        (aside,) = [one for one in tmp_path.glob("*.damaged-*") if not one.name.endswith(("-wal", "-shm"))]
        assert aside.read_bytes() == content
        assert any(told)
        assert all(str(aside) in one and str(tmp_path / "jobs") in one for one in told if one)
        assert (tmp_path / "supervisor.log").read_text().count("set aside") == 1
        # Whoever had it open goes on with the new one, and leaves that one's log alone.
        assert open_still.deployed() == {}
        deploy(open_still, "b")
        open_still.close()
        before.close()
        assert list(before.deployed()) == ["b"]
    assert aside.read_bytes() == content
    assert (tmp_path / "jobs" / "0123456789abcdef").exists()
    assert not list(tmp_path.glob("*.new-*"))


def test_one_that_may_not_follow_is_told(tmp_path: Path) -> None:
    path = tmp_path / "taskapi.db"
    with closing(Store(path, follow=False)) as supervisor:
        supervisor.counter()
        path.rename(tmp_path / "away")
        with pytest.raises(Damaged, match="no longer"):
            supervisor.counter()
        Store(path).close()
        with pytest.raises(Damaged, match="no longer"):
            supervisor.set_settings({})


def test_what_was_written_to_a_file_set_aside_is_not_acknowledged(store: Store, tmp_path: Path) -> None:
    def write() -> None:
        with store.write() as transaction:
            transaction.execute("UPDATE counter SET n = n + 1")
            os.rename(store.path, tmp_path / "away")

    with pytest.raises(Damaged, match="try again"):
        write()


def test_the_log_of_a_database_that_is_gone_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "taskapi.db"
    old = Store(path)
    deploy(old)
    path.unlink()  # and its -wal is there still
    with closing(Store(path)) as new:
        assert new.deployed() == {}
    old.close()


def test_a_database_that_is_kept_busy_is_told_of_in_a_sentence(store: Store) -> None:
    with closing(Store(store.path, patience=0.01)) as other, store.write(), pytest.raises(Unavailable, match="busy"):
        other.set_settings({})


def test_two_processes_write_without_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "taskapi.db"
    with closing(Store(path, wal=False)) as store:
        deploy(store)
        code = WRITING.replace("Store(sys.argv[1])", "Store(sys.argv[1], wal=False)").replace("range(15)", "range(5)")
        told = [line.split() for text in children(code, 3, path) for line in text.splitlines()]
        assert len({job_id for job_id, *_ in told}) == 15
        assert all(won == ["True", "True"] for _, *won in told)
        assert store._one("PRAGMA journal_mode")[0] == "truncate"
    assert not list(tmp_path.glob("*-wal"))


def test_an_api_that_goes_with_its_last_job(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "taskapi.db")) as store:
        version = {"spec_id": "s", "timeout": None, "cpu": 1000, "mem": None, "gpu": 0, "config": "{}", "launch": "{}"}

        def put(name: str, now: int, transient: bool) -> str:
            about = {**version, "api_id": name, "name": name, "updated": now, "spec": "{}"}
            return store.put_api(about, now, None, transient)[0]

        for name in ("goes", "stays"):
            assert put(name, 1, transient=name == "goes") == "created"
            first, second = (store.add_job(row(name, name), FIRST) for _ in range(2))
            end(store, first, second)
            assert store.forget(first)
            assert store.api(name) is not None
            assert store.forget(second)
        assert store.api("goes") is None
        assert store.api("stays") is not None
        assert put("idle", 5, transient=True) == put("kept", 5, transient=True) == "created"
        assert put("kept", 5, transient=False) == "unchanged"
        store.drop_idle(5)
        assert store.api("idle") is not None
        store.drop_idle(6)
        assert store.deployed().keys() == {"stays", "kept"}


def test_a_pending_job_is_cancelled_and_one_that_runs_is_not(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "taskapi.db")) as store:
        deploy(store)
        pending, running = (store.add_job(row(), FIRST) for _ in range(2))
        store.move([(running, JobCode.PENDING, JobCode.RUNNING, {})])
        assert store.cancel(pending)
        assert not store.cancel(pending)
        assert not store.cancel(running)
        assert (store.job(pending) or {})["status"] == "stopped"
        assert store.move([(pending, JobCode.PENDING, JobCode.RUNNING, {})]) == [False]
