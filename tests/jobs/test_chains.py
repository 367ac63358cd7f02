"""Jobs that wait for others: none starts early, none twice, none is lost, and all say for what they wait."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from support.before import older_package, run
from support.homes import supervisor_of
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import (
    BadRequest,
    Conflict,
    GroupNotFound,
    JobNotFound,
)
from taskapi_jupyter.service.service import Service

#: Waits for a file where it is told one; then notes that it ran, and returns or raises what it is told.
TASK = """
import pathlib, time

def task(config):
    while config.get("go") and not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    with open(config["notes"], "a") as file:
        file.write(f"{config.get('n')}\\n")
    if config.get("fails"):
        raise ValueError("no")
    if config.get("odd"):
        return {1, 2}
    if config.get("large"):
        return "x" * config["large"]
    return {"got": config.get("input"), "n": config.get("n")}
"""
SMALL = {"compute": {"cpu": "10m"}}

Submit = Callable[..., Job]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return the file in which jobs note that they ran."""
    return tmp_path / "notes"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Return the file for which jobs wait that are told to."""
    return tmp_path / "go"


@pytest.fixture
def submit(service: Service, name: str, notes: Path, go: Path) -> Submit:
    """Return what submits a job to the API of this test."""
    service.deploy_request(request_for(name, TASK, **SMALL))

    def submit(n: object = None, *, held: bool = False, config: dict[str, Any] | None = None, **options: Any) -> Job:
        return service.submit(
            name, {"n": n, "notes": str(notes), **({"go": str(go)} if held else {}), **(config or {})}, **options
        )

    return submit


def test_it_starts_once_another_has_succeeded(submit: Submit, notes: Path, go: Path) -> None:
    first = submit("first", held=True)
    second = submit("second", after=first)
    third = submit("third", after=[first, second.id])
    assert (second.refresh().status, second.reason) == ("pending", f"waits for {first.id[-4:]}")
    assert (third.refresh().status, third.reason) == ("pending", "waits for 2 jobs")
    assert third.record.after == [first.id, second.id]
    assert first.refresh().status in ("pending", "running")
    go.touch()
    assert third.wait(PATIENCE).status == "succeeded"
    assert notes.read_text().split() == ["first", "second", "third"]
    assert second.refresh().created_time < second.start_time  # type: ignore[operator]
    fourth = submit("fourth", after=[third, first])  # all have ended already
    assert fourth.wait(PATIENCE).status == "succeeded"


def test_it_ends_where_another_fails_and_so_does_what_waits_for_it(submit: Submit, notes: Path, go: Path) -> None:
    first = submit("first", held=True, config={"fails": True})
    second = submit("second", after=first)
    third = submit("third", after=second)
    whatever = submit("whatever", after=[first, third], after_any=True)
    go.touch()
    assert whatever.wait(PATIENCE).status == "succeeded"
    assert (second.refresh().status, second.reason) == ("stopped", f"after {first.id[-4:]}: worker_error")
    assert (third.refresh().status, third.reason) == ("stopped", f"after {second.id[-4:]}: stopped")
    assert second.start_time is None
    late = submit("late", after=first)  # which has failed already
    assert (late.wait(PATIENCE).status, late.reason) == ("stopped", f"after {first.id[-4:]}: worker_error")
    assert notes.read_text().split() == ["first", "whatever"]


def test_it_ends_at_the_first_that_fails(submit: Submit, notes: Path, go: Path) -> None:
    failing, held = submit("failing", config={"fails": True}), submit("held", held=True)
    waits = submit("waits", after=[held, failing], retries=3)
    assert waits.wait(PATIENCE).status == "stopped"
    assert (held.refresh().status, waits.next_attempt()) == ("running", None)
    held.stop()


def test_a_group(service: Service, name: str, submit: Submit, notes: Path, go: Path) -> None:
    group = service.map(name, [{"n": n, "notes": str(notes), "go": str(go)} for n in range(3)], name=name)
    waits, by_id = submit("last", after=group), submit("last", after=[group.id, name])
    assert (waits.refresh().reason, by_id.refresh().reason) == (
        f"waits for 3 jobs of group {name}",
        f"waits for 3 jobs of group {name}",
    )
    assert by_id.record.after == [group.id]
    go.touch()
    assert (waits.wait(PATIENCE).status, by_id.wait(PATIENCE).status) == ("succeeded", "succeeded")
    assert sorted(notes.read_text().split()[:3]) == ["0", "1", "2"]


def test_a_job_with_retries_means_its_last_attempt(submit: Submit, tmp_path: Path, service: Service, name: str) -> None:
    flaky = (
        "import os\ndef task(config):\n    open(config['path'], 'a').write('x')\n"
        "    if os.path.getsize(config['path']) < config['good']: raise ValueError\n    return 'good'\n"
    )
    service.deploy_request(request_for(f"{name}-flaky", flaky, **SMALL))
    config = {"path": str(tmp_path / "tries")}
    first = service.submit(f"{name}-flaky", {**config, "good": 3}, retries=3, retry_delay=0.05)
    second = submit("second", after=first, results={"input": first.id})
    assert second.wait(PATIENCE).status == "succeeded"
    assert second.result() == {"got": "good", "n": "second"}
    assert submit("again", config={"input": first}).result(PATIENCE)["got"] == "good"  # of the attempt that it names
    hopeless = service.submit(f"{name}-flaky", {**config, "good": 99}, retries=1, retry_delay=0.05)
    third = submit("third", after=hopeless)
    assert third.wait(PATIENCE).status == "stopped"
    assert third.reason == f"after {hopeless.wait(PATIENCE).id[-4:]}: worker_error"


def test_its_timeout_counts_from_when_it_may_start(submit: Submit, go: Path) -> None:
    first = submit("first", held=True)
    second = submit("second", config={"go": "/nowhere/at/all"}, timeout=1, after=first)
    ended = submit("ended", config={"go": "/nowhere/at/all"}, timeout=1).wait(PATIENCE)
    assert (ended.status, second.refresh().status) == ("timed_out", "pending")  # which was there before
    go.touch()
    assert (second.wait(PATIENCE).status, second.reason) == (
        "timed_out",
        "timed out 1 s after what it waited for had ended",
    )


def test_results(submit: Submit, go: Path) -> None:
    first = submit("first", held=True)
    second = submit("second", config={"input": first})
    third = submit("third", results={"input": second.id, "other": first.id})
    assert third.refresh().record.inputs == {"input": second.id, "other": first.id}
    go.touch()
    assert third.result(PATIENCE)["got"] == {"got": {"got": None, "n": "first"}, "n": "second"}
    shown = second.refresh().config
    assert shown is not None
    assert "input" not in shown  # as it was submitted
    again = second.rerun()
    assert again.result(PATIENCE) == {"got": {"got": None, "n": "first"}, "n": "second"}
    assert (again.refresh().record.inputs, again.record.after) == ({"input": first.id}, [first.id])
    first.forget()
    with pytest.raises(Conflict, match=f"got the result of job {first.id} as input, and that was deleted"):
        second.rerun()


def test_results_that_it_cannot_have(submit: Submit, go: Path, service: Service, name: str) -> None:
    odd, large = submit("odd", config={"odd": True}), submit("large", config={"large": 4 << 20})
    deleted, failed = submit("deleted"), submit("failed", config={"fails": True})
    container = {"name": "api", "command": ["true"], "compute": {"cpu": "10m"}}
    service.deploy({"name": f"{name}-cmd", "kind": "TaskAPI", "pod": {"containers": [container]}})
    command = service.submit(f"{name}-cmd")
    for job in (odd, large, deleted, failed, command):
        job.wait(PATIENCE)
    held = submit("held", held=True)
    lost = submit("lost", after=held, results={"input": deleted.id})
    deleted.forget()
    go.touch()
    twice = submit("twice", results={"input": large.id, "more": large.id, "most": large.id})
    whatever = submit("whatever", after_any=True, results={"input": failed.id})
    of_command = submit("command", results={"input": command.id})
    pickled = submit("odd", results={"input": odd.id})
    assert [job.wait(PATIENCE).status for job in (lost, twice, whatever, of_command, pickled)] == ["stopped"] * 5
    assert [job.reason for job in (lost, twice, whatever, of_command, pickled)] == [
        f"can't get input: job {deleted.id[-4:]} was deleted before its result was read",
        "can't get most: the results that it gets are larger than 10 MiB",
        f"can't get input: job {failed.id[-4:]} has no result, its status is worker_error",
        f"can't get input: job {command.id[-4:]} has left no result",
        f"can't get input: the result of job {odd.id[-4:]} was pickled: a job can get what JSON keeps, up to 131,072 "
        "elements",
    ]


@pytest.mark.local
def test_a_result_that_is_no_json(submit: Submit, home: Path) -> None:
    broken = submit("broken").wait(PATIENCE)
    (home / "jobs" / broken.id / "result.json").write_text("[" * 100)
    waits = submit("waits", results={"input": broken.id}).wait(PATIENCE)
    assert (
        waits.reason
        == f"can't get input: the result of job {broken.id[-4:]} can't be read: nested deeper than 64 levels"
    )


def test_further_attempts_have_the_same_config(service: Service, submit: Submit, name: str, tmp_path: Path) -> None:
    source = (
        "import pathlib\ndef task(config):\n    path = pathlib.Path(config['path'])\n"
        "    if not path.exists():\n        path.touch()\n        raise ValueError\n    return config['input']\n"
    )
    service.deploy_request(request_for(f"{name}-flaky", source, **SMALL))
    first = submit("first")
    config = {"path": str(tmp_path / "tried"), "input": first}
    flaky = service.submit(f"{name}-flaky", config, retries=1, timeout=600)
    last = flaky.wait(PATIENCE)
    assert (last.record.attempt, last.result(), last.record.inputs) == (2, first.result(), {"input": first.id})
    assert submit("third", config={"input": flaky}).result(PATIENCE)["got"] == first.result()


def test_large_results_are_read_by_a_process_of_its_own(submit: Submit, service: Service) -> None:
    large = submit("large", config={"large": 1 << 20})
    waits = [submit(n, config={"input": large}) for n in range(3)]
    assert [len(job.result(PATIENCE)["got"]) for job in waits] == [1 << 20] * 3


def test_a_result_is_merged_as_a_config_is(service: Service, name: str) -> None:
    source = "def task(config):\n    return config\n"
    definition = {"path": "task.py", "config": {"a": {"x": 1, "y": 2}, "b": 3}}
    service.deploy_request(request_for(name, source, definition=definition, **SMALL))
    first = service.submit(name, {"b": 4})
    second = service.submit(name, {"c": 5}, results={"a": first.id})
    assert second.result(PATIENCE) == {"a": {"x": 1, "y": 2, "a": {"x": 1, "y": 2}, "b": 4}, "b": 3, "c": 5}


def test_parameters_that_results_give(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, "def task(x, y=1):\n    return x\n", **SMALL))
    first = service.submit(name, {"x": 3})
    assert service.submit(name, {"x": first, "y": 2}).result(PATIENCE) == 3
    with pytest.raises(BadRequest, match="x"):
        service.submit(name, {"y": 2}, after=first)
    with pytest.raises(BadRequest, match="z"):
        service.submit(name, {"x": 1}, results={"z": first.id})


def test_a_stop_and_a_cancel(submit: Submit, service: Service, go: Path, notes: Path) -> None:
    first = submit("first", held=True)
    second, third = submit("second", after=first), submit("third", after=first)
    behind = submit("behind", after=second)
    second.stop()
    assert (second.status, behind.wait(PATIENCE).reason) == ("stopped", f"after {second.id[-4:]}: stopped")
    service.cancel(third)
    assert third.refresh().status == "stopped"
    fourth = submit("fourth", after=first)
    fifth = submit("fifth", after=fourth, after_any=True)
    service.cancel(fourth)
    assert fifth.wait(PATIENCE).status == "succeeded"
    first.stop()
    assert submit("late", after=first).wait(PATIENCE).reason == f"after {first.id[-4:]}: stopped"
    assert notes.read_text().split() == ["fifth"]
    assert not service.store.any_in_progress()


def test_what_is_deleted(submit: Submit, service: Service, name: str, go: Path, notes: Path) -> None:
    first, ended = submit("first", held=True), submit("ended").wait(PATIENCE)
    waits = submit("waits", after=[first, ended])
    other = f"{name}-other"
    service.deploy_request(request_for(other, TASK, **SMALL))
    gone = service.submit(other, {"notes": str(notes)}, after=first)
    behind = submit("behind", after=gone)
    with pytest.raises(Conflict, match="in progress"):
        waits.forget()
    ended.forget()  # counts by its end
    service.delete(other)  # stops what waits, too
    assert (gone.refresh().status, behind.wait(PATIENCE).reason) == ("stopped", f"after {gone.id[-4:]}: stopped")
    service.purge()
    go.touch()
    assert waits.wait(PATIENCE).status == "succeeded"
    with closing(sqlite3.connect(service.store.path)) as connection:
        assert connection.execute("SELECT count(*) FROM predecessors").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM unsettled").fetchone() == (0,)


def test_the_stop_of_a_group_that_waits_in_line(
    submit: Submit, service: Service, name: str, go: Path, notes: Path, home: Path
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 0.01\n")
    running = submit("running", held=True)
    group = service.map(name, [{"n": n, "notes": str(notes)} for n in range(2)])
    waits = submit("waits", after=group)
    until(lambda: running.refresh().status == "running", "the first")
    group.stop()
    assert waits.wait(PATIENCE).status == "stopped"
    assert str(waits.reason).endswith(": stopped")
    running.stop()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"after": "f" * 16}, JobNotFound, "f" * 16),
        ({"after": "g" + "f" * 16}, GroupNotFound, "g" + "f" * 16),
        ({"after": ["zz zz"]}, BadRequest, "no job 'zz zz'"),
        ({"after": [3]}, BadRequest, "after must have jobs, groups or ids, not 3"),
        ({"after": {"a": 1}}, BadRequest, "after must be a job, a group, an id or a list of these"),
        ({"after_any": True}, BadRequest, "give after, too"),
        ({"results": {"n": "f" * 16}}, BadRequest, "n is in config and in results: leave one out"),
        ({"results": {"input": "f" * 16}}, JobNotFound, "f" * 16),
        ({"results": {"input": "g" + "f" * 16}}, BadRequest, "input: a group has no result of its own"),
        ({"results": ["x"]}, BadRequest, "results must be an object"),
        ({"after": ["f" * 16] * 1000 + [f"{n:016x}" for n in range(1000)]}, BadRequest, "at most 1,000 others"),
        ({"after": "f" * 16, "group": "g" + "f" * 16}, BadRequest, "a job of a group can't wait for others"),
    ],
)
def test_bad_input(
    submit: Submit, service: Service, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("'", ".")):
        submit("bad", **options)
    assert service.jobs() == []


def test_what_is_shown_of_hostile_text(submit: Submit, service: Service, name: str) -> None:
    first = submit("first")
    job = submit("second", results={"<script>": first.id})
    assert job.wait(PATIENCE).status == "succeeded"
    shown = job._repr_html_()
    assert (f"{first.id} (as &lt;script&gt;)" in shown, "<script>" in shown) == (True, False)
    with pytest.raises(BadRequest, match=r"config 0: config\.x is a Job"):
        service.map(name, [{"x": first}])


def test_short_forms(submit: Submit, go: Path) -> None:
    first = submit("first", held=True)
    second = submit("second", after=first.id[-6:])
    third = submit("third", after=["last", first.id[-4:]])
    assert (second.refresh().record.after, third.refresh().record.after) == ([first.id], [second.id, first.id])
    go.touch()
    third.wait(PATIENCE)


def test_a_job_that_was_pickled_means_itself(submit: Submit, service: Service) -> None:
    first = pickle.loads(pickle.dumps(submit("first")))
    assert submit("second", config={"input": first}).result(PATIENCE)["got"] == {"got": None, "n": "first"}


def test_after_a_restart_of_the_machine(submit: Submit, service: Service, home: Path, go: Path) -> None:
    """The timeout of a job that waits does not count; that of one which has waited counts from then."""
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 0.01\n")
    first = submit("first", held=True)
    until(lambda: first.refresh().status == "running", "the first")
    waits, waited = submit("waits", timeout=600, after=first), submit("waited", timeout=600)
    os.kill(supervisor_of(home), signal.SIGKILL)
    with service.store.write() as transaction:  # as if submitted an hour ago, in an earlier boot
        transaction.executemany(
            "UPDATE jobs SET boot = 'an earlier boot', created = created - 3600000000 WHERE id = ?",
            [(waits.id,), (waited.id,)],
        )
        transaction.execute("UPDATE jobs SET deadline = 1e9, allowed = created + 3500000000 WHERE id = ?", (waited.id,))

    def converted() -> bool:
        service.in_progress()  # starts a supervisor where there is none
        with closing(sqlite3.connect(service.store.path)) as connection:
            boot, deadline = connection.execute("SELECT boot, deadline FROM jobs WHERE id = ?", (waited.id,)).fetchone()
        return bool(boot != "an earlier boot" and 400 < deadline - host.boottime() < 600)

    until(converted, "its deadline to be converted")
    assert (waits.refresh().status, waited.refresh().status) == ("pending", "pending")
    go.touch()
    assert (waits.wait(PATIENCE).status, waited.wait(PATIENCE).status) == ("succeeded", "succeeded")


def test_a_supervisor_that_is_killed_loses_and_doubles_none(
    submit: Submit, service: Service, home: Path, notes: Path
) -> None:
    jobs = [submit(0)]
    for n in range(1, 8):
        jobs.append(submit(n, config={"input": jobs[-1]}))

    def have_run(number: int) -> bool:
        service.in_progress()  # starts a supervisor where there is none
        return notes.exists() and len(notes.read_text().split()) >= number

    for number in range(1, 6):  # each around the time of another end
        until(lambda number=number: have_run(number), "a job to run")
        with suppress(ProcessLookupError):
            os.kill(supervisor_of(home), signal.SIGKILL)
    assert jobs[-1].wait(PATIENCE).status == "succeeded"
    assert notes.read_text().split() == [str(n) for n in range(8)]


def test_many_that_wait_cost_next_to_nothing(submit: Submit, service: Service, go: Path) -> None:
    """No step looks at each of them: what a step asks is answered from indexes, where nothing has ended."""
    first = submit("first", held=True)
    for n in range(200):
        submit(n, after=first)
    with closing(sqlite3.connect(service.store.path)) as connection:
        ask = connection.execute
        assert ask("SELECT count(*) FROM jobs WHERE seq < 0").fetchone() == (200,)
        assert ask("SELECT count(*) FROM unsettled").fetchone() == (0,)
        plans = {
            text: " ".join(row[3] for row in ask(f"EXPLAIN QUERY PLAN {text}"))
            for text in (
                "UPDATE predecessors SET ended = 'x' WHERE after_id = 'x'",
                "SELECT 1 FROM predecessors WHERE job_id = 'x' AND ended IS NULL",
                "SELECT 1 FROM predecessors WHERE job_id = 'x' AND ended < 'x'",
                "SELECT after_id FROM predecessors WHERE job_id IN ('x', 'y') AND ended IS NULL",
            )
        }
    assert [text for text, plan in plans.items() if "SCAN" in plan] == []
    began = time.monotonic()
    page = service.jobs(limit=100)
    assert time.monotonic() - began < 5  # what asks for each one would be felt
    assert {job.reason for job in page} == {f"waits for {first.id[-4:]}"}
    first.stop()
    until(lambda: not service.store.any_in_progress(), "all to have ended")
    assert service.counts() == {"stopped": 201}


def test_a_supervisor_of_an_older_package_starts_nothing_early(
    service: Service, home: Path, name: str, submit: Submit, notes: Path, tmp_path: Path, go: Path
) -> None:
    """It is alive while a newer package submits, and records the end of what jobs wait for; a newer one goes on."""
    older = older_package(tmp_path)
    until(lambda: not service.waker.alive(), "no supervisor")
    run(older, home, f"service.submit('{name}', {{'n': 'held', 'go': '{tmp_path / 'keep'}', 'notes': '{notes}'}})")
    until(service.waker.alive, "the older supervisor")
    pid = supervisor_of(home)
    first = submit("first", held=True)
    failing = submit("failing", held=True, config={"fails": True})
    good = submit("good", config={"input": first}, timeout=600)
    bad = submit("bad", after=failing)
    stopped = submit("stopped", after=first)
    if supervisor_of(home) != pid:
        pytest.skip("the older supervisor has left")
    go.touch()
    until(lambda: first.refresh().ended and failing.refresh().ended, "what may start")
    for _ in range(3):  # it has looked at the line since
        run(older, home, f"service.submit('{name}', {{'n': 'x', 'notes': '{notes}'}}).wait({PATIENCE})")
    run(older, home, f"service.stop('{stopped.id}')")
    assert [job.refresh().status for job in (good, bad, stopped)] == ["pending", "pending", "stopped"]
    assert run(older, home, "print(len(service.jobs(status='pending')))") == "2\n"
    assert supervisor_of(home) == pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not service.waker.alive(), "it to be gone")
    service.in_progress()
    assert good.wait(PATIENCE).result()["got"]["n"] == "first"
    assert (bad.wait(PATIENCE).status, bad.reason) == ("stopped", f"after {failing.id[-4:]}: worker_error")
    (tmp_path / "keep").touch()
    until(lambda: not service.store.any_in_progress(), "the rest")


def test_a_row_that_cannot_be_read(submit: Submit, service: Service, go: Path, notes: Path) -> None:
    first = submit("first", held=True)
    waits, other = submit("waits", after=first), submit("other", after=first)
    with service.store.write() as transaction:
        transaction.execute("UPDATE jobs SET after = '[1]' WHERE id = ?", (waits.id,))
    behind = submit("behind", after=[waits])
    go.touch()
    assert other.wait(PATIENCE).status == "succeeded"
    assert behind.wait(PATIENCE).reason == f"after {waits.id[-4:]}: stopped"
    assert "its after is" in str(waits.refresh().reason)
    assert sorted(notes.read_text().split()) == ["first", "other"]


@pytest.mark.local
@pytest.mark.parametrize("scheme", ["", "local://"])
def test_results_in_a_storage(
    submit: Submit, service: Service, home: Path, go: Path, tmp_path: Path, scheme: str
) -> None:
    """Jobs of a cluster leave results where the supervisor does not read: a process of its own does."""
    if scheme:
        pytest.importorskip("fsspec")
    storage = tmp_path / "storage"
    (home / "engine.json").write_text(json.dumps({"provider": "local", "storage": f"{scheme}{storage}"}))
    first, other = submit("first").wait(PATIENCE), submit("other").wait(PATIENCE)
    (storage / first.id).mkdir(parents=True)
    (home / "jobs" / first.id / "result.json").rename(storage / first.id / "result.json")
    held = submit("held", held=True)
    good, bad = submit("good", config={"input": first}), submit("bad", after=held, config={"input": other})
    assert good.result(PATIENCE)["got"] == {"got": None, "n": "first"}
    go.touch()
    assert bad.wait(PATIENCE).reason == f"can't get input: job {other.id[-4:]} has left no result"
    (home / "engine.json").write_text(json.dumps({"provider": "local", "storage": "nothing://here"}))
    lost = submit("lost", config={"input": first}).wait(PATIENCE)
    assert (lost.status, str(lost.reason).startswith("can't get input: ")) == ("stopped", True)
    assert "nothing" in str(lost.reason)
