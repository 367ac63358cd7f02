"""Groups on a real home: all or none, order, ``max_running``, stops, and a supervisor of an older package beside."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, WAITING, request_for, until
from support.before import older_package, run
from support.homes import processes, supervisor_of
from taskapi_jupyter import grid
from taskapi_jupyter.core.contract import GroupStatus
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    Conflict,
    GroupNotFound,
    JobFailed,
    JobNotFound,
    TooLarge,
)
from taskapi_jupyter.display.formats import moment
from taskapi_jupyter.display.groups import bar_text, counts_words
from taskapi_jupyter.service.service import Service

#: Notes when it begins and ends, by a clock that all processes share.
NOTES = """
import os, pathlib, time

def task(config):
    begun = time.monotonic()
    time.sleep(config.get("seconds", 0.05))
    with open(config["notes"], "a") as file:
        file.write(f"{config.get('n')} {begun} {time.monotonic()}\\n")
    if config.get("fails"):
        raise ValueError("no")
    return {"twice": config.get("n", 0) * 2}
"""
SMALL = {"compute": {"cpu": "10m"}}


@pytest.fixture
def notes(service: Service, name: str, tmp_path: Path) -> Path:
    """Return the file in which jobs of the API of this test note when they ran."""
    service.deploy_request(request_for(name, NOTES, **SMALL))
    return tmp_path / "notes"


@pytest.fixture
def waits(service: Service, name: str, tmp_path: Path) -> Path:
    """Return the file that jobs of the API of this test wait for."""
    service.deploy_request(request_for(name, WAITING, **SMALL))
    return tmp_path / "go"


def noted(path: Path) -> list[tuple[str, float, float]]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return sorted(((n, float(begun), float(ended)) for n, begun, ended in lines), key=lambda one: one[1])


def at_once(path: Path) -> int:
    """Return how many jobs ran at the same time at most."""
    moments = [(when, step) for _, begun, ended in noted(path) for when, step in ((begun, 1), (ended, -1))]
    running = most = 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return most


def test_a_group_from_submission_to_table(service: Service, name: str, notes: Path) -> None:
    group = service.map(name, [{"n": n, "notes": str(notes)} for n in range(5)], name="five")
    assert (len(group), group.name, group.api_name, group.id) == (5, "five", name, f"g{group[0].id}")
    ids = [job.id for job in group]
    assert ids == sorted(ids, reverse=True)
    assert [job.record.index for job in group] == list(range(5))
    assert group.wait(PATIENCE) is group
    assert (group.counts, group.progress, group.ended) == ({"succeeded": 5}, 1.0, True)
    assert group.results() == [{"twice": 2 * n} for n in range(5)]
    assert [(row["index"], row["n"], row["twice"], row["status"]) for row in group.rows()] == [
        (n, n, 2 * n, "succeeded") for n in range(5)
    ]
    assert group[-1].id == ids[4]
    assert [job.id for job in group[1:3]] == ids[1:3]
    assert [job.id for job in service.jobs(group=group.id)] == ids[::-1]
    assert [
        job.id for job in service.jobs(group=group.id, limit=2, cursor=service.page(group="five", limit=3).next_cursor)
    ] == ids[1::-1]
    assert {service.group(word).id for word in ("five", group.id, f"g{group.id[-6:]}")} == {group.id}
    assert [one.id for one in service.groups()] == [group.id]
    assert repr(group) == f"<Group five of {name}: 5/5>"
    with pytest.raises(IndexError):
        group[5]
    for word in ("nope", "g0123", "g"):
        with pytest.raises(GroupNotFound):
            service.group(word)


def test_as_completed_yields_each_job_once(service: Service, name: str, notes: Path) -> None:
    seconds = [0.6, 0.01, 0.3, 0.01]
    group = service.map(name, [{"n": n, "seconds": s, "notes": str(notes)} for n, s in enumerate(seconds)])
    completed = list(group.as_completed(PATIENCE))
    assert sorted(job.record.index for job in completed) == [0, 1, 2, 3]
    assert all(job.seen_ended for job in completed)
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.1 s"):
        service.map(name, [{"seconds": 100, "notes": str(notes)}], name="long").wait(0.1)
    service.group("long").stop()


def test_all_or_none(service: Service, name: str, notes: Path) -> None:
    fine = {"notes": str(notes)}
    for configs, error, said in (
        ([fine, {"x": {1}}], BadRequest, r"config 1: config.x is a set, which JSON can't carry; write a list"),
        ([fine, 3], BadRequest, "config 1 is 3, not an object of names and values"),
        ([], BadRequest, "no configs"),
        ("text", BadRequest, "configs must be a list of configs"),
        ([{"x": "y" * (6 << 20)}, {"x": "y" * (6 << 20)}], TooLarge, "larger than 10 MiB"),
        ([{}] * 100_001, BadRequest, "more than 100,000 configs"),
    ):
        with pytest.raises(error, match=said):
            service.map(name, configs)  # type: ignore[arg-type]
    for options, said in (
        ({"max_running": 0}, "max_running must be a whole number from 1 to 100000, not 0"),
        ({"retries": -1}, "retries must be a whole number from 0 to 100, not -1"),
        ({"retries": 101}, "retries must be a whole number from 0 to 100, not 101"),
        ({"retries": 1, "retry_on": ["stopped"]}, "unknown status 'stopped' in retry_on: use worker_error, "),
        ({"retry_delay": 3601}, "retry_delay must be from 0 to 3600 seconds"),
        ({"priority": 101}, "priority must be a whole number from -100 to 100"),
        ({"name": "a b"}, "invalid name of a group 'a b'"),
        ({"name": "beef"}, "could be taken for an id"),
        ({"repeat": 0}, "repeat must be a whole number from 1 on"),
        ({"timeout": 0}, "timeout"),
    ):
        with pytest.raises(BadRequest, match=said):
            service.map(name, [fine], **options)  # type: ignore[arg-type]
    with pytest.raises(APINotDeployed):
        service.map("another", [fine])
    assert service.jobs() == []
    assert service.groups() == []


def test_a_name_is_in_use_until_its_group_has_ended(service: Service, name: str, waits: Path) -> None:
    config = {"path": str(waits)}
    first = service.map(name, [config], name="mine")
    with pytest.raises(Conflict, match=rf"the name mine is in use by group {first.id}, which has not ended"):
        service.map(name, [config], name="mine")
    waits.touch()
    first.wait(PATIENCE)
    second = service.map(name, [config], name="mine").wait(PATIENCE)
    assert service.group("mine").id == second.id != first.id


def test_sweeps() -> None:
    assert grid(a=[1, 2], b=["x", "y"]) == [
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"},
    ]  # fmt: skip
    for lists, said in (
        ({}, "nothing to sweep: give at least one list"),
        ({"lr": []}, "the list of lr is empty"),
        ({"lr": "text"}, "lr is 'text', not a list"),
        ({"a": range(1000), "b": range(1000)}, r"1,000,000 jobs \(1000 x 1000\) are more than the 100,000"),
    ):
        with pytest.raises(BadRequest, match=said):
            grid(**lists)  # type: ignore[arg-type]


def test_a_sweep_with_fixed_values_pairs_and_repeats(service: Service, name: str, waits: Path) -> None:
    waits.touch()
    fixed = {"path": str(waits)}
    group = service.sweep(name, {"a": [1, 2], "b": ["x", "y"]}, fixed=fixed, zip=True, repeat=2)
    found = [job.config for job in group]
    assert found == [{**fixed, "a": a, "b": b, "repeat": r} for a, b in ((1, "x"), (2, "y")) for r in (0, 1)]
    with pytest.raises(BadRequest, match="a has 1, b has 2"):
        service.sweep(name, {"a": [1], "b": [1, 2]}, zip=True)
    group.wait(PATIENCE)


def test_max_running_is_never_passed(service: Service, name: str, notes: Path) -> None:
    group = service.map(name, [{"n": n, "notes": str(notes)} for n in range(6)], max_running=1)
    last = group[5]
    assert last.reason == "waits for other jobs of its group: no more of them may run at once"
    listed = [job.id for job in service.jobs()]
    assert listed == sorted(listed)  # in its place, though it is not in line yet
    assert group.wait(PATIENCE).counts == {"succeeded": 6}
    assert [n for n, _, _ in noted(notes)] == list("012345")
    assert at_once(notes) == 1
    assert service.counts() == {"succeeded": 6}


def test_a_single_job_starts_before_the_rest_of_a_group(
    home: Path, name: str, notes: Path, tmp_path: Path, service: Service
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 0.01\n")
    service.deploy_request(request_for(f"{name}-first", WAITING, **SMALL))
    first = service.submit(f"{name}-first", {"path": str(tmp_path / "go")})
    until(lambda: first.refresh().status == "running", "it to run")
    group = service.map(name, [{"n": n, "seconds": 0, "notes": str(notes)} for n in range(500)])
    single = service.submit(name, {"n": "single", "seconds": 0, "notes": str(notes)})
    urgent = service.submit(name, {"n": "urgent", "seconds": 0, "notes": str(notes)}, priority=5)
    assert [one.refresh().reason for one in (urgent, single)] == [
        "waits for 0.01 of 0.01 cores, 1st in line",
        "waits for 0.01 of 0.01 cores, 2nd in line",
    ]
    (tmp_path / "go").touch()
    single.wait(PATIENCE)
    group.stop()
    assert [n for n, _, _ in noted(notes)][:2] == ["urgent", "single"]


def test_a_stop_ends_all(service: Service, home: Path, name: str, waits: Path) -> None:
    group = service.map(name, [{"path": str(waits), "n": n} for n in range(40)], max_running=3, name="many", retries=2)
    until(lambda: group.refresh().counts.get("running") == 3, "three to run")
    assert group.stop() == f"stopped 40 jobs of group many ({group.id})"
    assert group.counts == {"stopped": 40}
    assert [one for one in processes(home) if "harness" in " ".join(one.cmdline())] == []
    assert service.counts() == {"stopped": 40}  # none was tried again
    assert group.stop() == f"stopped 0 jobs of group many ({group.id})"
    assert [job.record.index for job in service.jobs(status="stopped")] == list(range(39, -1, -1))


def test_a_stop_of_one_lets_the_next_begin(service: Service, name: str, waits: Path) -> None:
    group = service.map(name, [{"path": str(waits)} for _ in range(3)], max_running=1)
    until(lambda: group[0].status == "running", "the first to run")
    group[0].stop()
    until(lambda: group[1].status == "running", "the second to run")
    group[2].stop()  # which is not in line
    assert [job.status for job in group] == ["stopped", "running", "stopped"]
    waits.touch()
    assert group.wait(PATIENCE).counts == {"stopped": 2, "succeeded": 1}


def test_results_of_a_group_in_which_some_fail(service: Service, name: str, notes: Path) -> None:
    group = service.map(name, [{"n": n, "fails": n == 1, "notes": str(notes)} for n in range(3)])
    with pytest.raises(JobFailed, match="ValueError: no"):
        group.results()
    assert group.results("skip") == [{"twice": 0}, {"twice": 4}]
    kept = group.results("return")
    assert isinstance(kept[1], JobFailed)
    assert kept[::2] == [{"twice": 0}, {"twice": 4}]
    with pytest.raises(BadRequest, match="on_error must be"):
        group.results("x")  # type: ignore[arg-type]
    again = group.rerun()
    assert ([job.config["n"] for job in again.wait(PATIENCE)], again.counts) == ([1], {"worker_error": 1})  # type: ignore[index]
    assert len(group.rerun(failed=False).wait(PATIENCE)) == 3
    fine = service.map(name, [{"notes": str(notes)}]).wait(PATIENCE)
    with pytest.raises(Conflict, match="has no failed jobs"):
        fine.rerun()


def test_a_group_goes_with_its_last_job(service: Service, name: str, notes: Path) -> None:
    group = service.map(name, [{"notes": str(notes)} for _ in range(2)]).wait(PATIENCE)
    first, second = group
    first.forget()
    assert [job.id for job in group.refresh()] == [second.id]
    with pytest.raises(JobNotFound):
        group[0]
    second.forget()
    with pytest.raises(GroupNotFound):
        group.refresh()
    other = service.map(name, [{"notes": str(notes), "seconds": 30}], name="busy")
    with pytest.raises(Conflict, match="in progress"):
        other.forget()
    other.stop()
    assert other.forget() == f"deleted group busy ({other.id}), 1 job"
    assert service.groups() == []


def test_deleting_an_api_stops_its_groups(service: Service, name: str, waits: Path) -> None:
    group = service.map(name, [{"path": str(waits)} for _ in range(5)], max_running=2, retries=3)
    service.delete(name)
    assert group.refresh().counts == {"stopped": 5}


def test_a_job_joins_a_group(service: Service, name: str, waits: Path) -> None:
    group = service.map(name, [{"path": str(waits)}], max_running=1)
    joined = service.submit(name, {"path": str(waits)}, group=group.id)
    assert (joined.record.group, joined.record.index, len(group.refresh())) == (group.id, 1, 2)
    until(lambda: group[0].status == "running", "the first to run")
    assert joined.refresh().status == "pending"
    waits.touch()
    assert group.wait(PATIENCE).counts == {"succeeded": 2}
    with pytest.raises(GroupNotFound):
        service.submit(name, {}, group="g0000")


def test_rows_prefix_what_clashes(service: Service, name: str) -> None:
    source = (
        "from taskapi_jupyter.job import metric\ndef task(config):\n    metric(x=2)\n    return config['returns']\n"
    )
    service.deploy_request(request_for(name, source, **SMALL))
    returned: list[Any] = [{"loss": 0.5, "status": 7, "curve": [1]}, 0.25, None, [1], {"x": 1}]
    group = service.map(name, [{"returns": one, "x": n, "index": 9} for n, one in enumerate(returned)])
    rows = group.wait(PATIENCE).rows()
    base = {"index", "job_id", "status", "attempt", "seconds", "reason", "config.index", "returns", "x", "metric.x"}
    assert [row.keys() - base for row in rows] == [{"loss", "result.status"}, {"result"}, set(), set(), {"result.x"}]
    assert {row["metric.x"] for row in rows} == {2}
    assert group.chart("x", "loss").spec["encoding"]["y"]["field"] == "loss"
    with pytest.raises(BadRequest, match="no column 'nope' to chart"):
        group.chart("nope", "x")


def test_a_supervisor_of_an_older_package_starts_nothing_early(
    service: Service, home: Path, name: str, notes: Path, tmp_path: Path
) -> None:
    """It is alive while a newer package submits; then it is killed, and one of the newer package goes on."""
    older = older_package(tmp_path)
    held = (
        "import pathlib, time\ndef task(config):\n    while not pathlib.Path(config['go']).exists(): time.sleep(0.01)\n"
    )
    service.deploy_request(request_for(f"{name}-held", held, **SMALL))
    until(lambda: not service.waker.alive(), "no supervisor")
    submit = f"service.submit('{name}-held', {{'go': '{tmp_path / 'go'}'}})"
    run(older, home, submit)
    until(service.waker.alive, "the older supervisor")
    pid = supervisor_of(home)
    assert str(older) in Path(f"/proc/{pid}/cmdline").read_text()
    group = service.map(name, [{"n": n, "notes": str(notes)} for n in range(3)], max_running=1)
    failing = service.submit(name, {"n": "f", "fails": True, "notes": str(notes)}, retries=1, retry_delay=0.01)
    until(lambda: group[0].status == "succeeded" and failing.refresh().ended, "what may start")
    for _ in range(3):  # it has looked at the line since
        run(older, home, f"service.submit('{name}', {{'n': 'x', 'notes': '{notes}'}}).wait({PATIENCE})")
    assert [job.status for job in group] == ["succeeded", "pending", "pending"]
    assert failing.refresh().next_attempt() is None
    assert run(older, home, "print(len(service.jobs(status='pending')))") == "2\n"
    run(older, home, f"service.stop('{group[2].id}')")
    assert supervisor_of(home) == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not service.waker.alive(), "it to be gone")
    service.in_progress()  # starts a supervisor of this package, before a watcher of the older one does so of its own
    until(service.waker.alive, "the newer supervisor")
    (tmp_path / "go").touch()
    assert group.wait(PATIENCE).counts == {"succeeded": 2, "stopped": 1}
    assert failing.refresh().wait(PATIENCE).record.attempt == 2


def test_an_older_supervisor_waits_for_no_delay(
    service: Service, home: Path, name: str, notes: Path, tmp_path: Path
) -> None:
    older = older_package(tmp_path)
    job = service.submit(name, {"fails": True, "notes": str(notes)}, retries=1, retry_delay=3600)
    attempt = until(lambda: job.refresh().next_attempt(), "the next attempt")
    os.kill(supervisor_of(home), signal.SIGKILL)
    until(lambda: not service.waker.alive(), "it to be gone")
    run(older, home, f"service.submit('{name}', {{'notes': '{notes}'}}).wait({PATIENCE})")
    assert attempt.refresh().status == "pending"
    attempt.stop()
    assert attempt.status == "stopped"


def test_an_older_package_keeps_what_is_not_in_line(
    service: Service, home: Path, tmp_path: Path, name: str, waits: Path
) -> None:
    older = older_package(tmp_path)
    group = service.map(name, [{"path": str(waits)} for _ in range(3)], max_running=1)
    told = json.loads(run(older, home, "import json\nprint(json.dumps([[j.id, j.status] for j in service.jobs()]))"))
    assert sorted(job_id for job_id, _ in told) == sorted(job.id for job in group)
    waits.touch()
    group.wait(PATIENCE)


def test_a_large_group(service: Service, name: str, waits: Path, home: Path) -> None:
    """With a number of jobs at which anything that looks at each would be felt."""
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 0.01\n")
    configs = [{"path": str(waits), "n": n} for n in range(10_000)]
    began = time.monotonic()
    group = service.map(name, iter(configs), max_running=2)
    took = time.monotonic() - began
    began = time.monotonic()
    found = service.group_page(group.id)
    looked = time.monotonic() - began
    assert (len(found.jobs), found.next_cursor, sum(found.group.counts.values())) == (50, "49", 10_000)
    assert took < 20, took  # bench/groups.py measures; this catches what grows with the square
    assert looked < 2, looked
    group.stop()
    with sqlite3.connect(home / "taskapi.db") as connection:
        assert connection.execute("SELECT count(*) FROM jobs WHERE seq < 0").fetchone() == (0,)


def test_a_group_among_many_jobs_in_lists(service: Service, name: str, waits: Path) -> None:
    """Pages go on over jobs that are in line, that are not, and that have ended, each once, newest first."""
    singles = [service.submit(name, {"path": str(waits), "word": "single"}).id for _ in range(3)]
    group = service.map(name, [{"path": str(waits), "word": "grouped"} for _ in range(7)], max_running=2)
    singles += [service.submit(name, {"path": str(waits), "word": "single"}).id for _ in range(3)]
    wanted = sorted([*singles, *(job.id for job in group)])
    for options in ({}, {"api": name}, {"status": ["pending", "running"]}, {"search": "path"}):
        found: list[str] = []
        cursor = None
        while True:
            page = service.jobs(limit=4, cursor=cursor, **options)  # type: ignore[arg-type]
            found += [job.id for job in page]
            cursor = page.next_cursor
            if not cursor:
                break
        assert found == wanted, options
    assert len(service.jobs(search="grouped")) == len(service.jobs(search="grouped", group=group.id)) == 7
    assert service.jobs(status="succeeded", group=group.id) == []
    waits.touch()
    group.wait(PATIENCE)


def test_waits_of_a_group_and_its_bar() -> None:
    counts = {"succeeded": 8, "worker_error": 1, "running": 2, "pending": 1}
    record = GroupStatus(
        id="g1", api_name="a", created_time="2026-01-01T00:00:00.000000Z", size=12, counts=counts, progress=0.75
    )
    now = moment("2026-01-01T00:02:00.000000Z")
    assert counts_words(record, now) == "9/12 · 2 running · 1 failed · about 40 s left"
    assert bar_text(record, now, 200).startswith("g1  [###############     ]  9/12 · 2 running")
