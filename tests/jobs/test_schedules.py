"""Schedules: what is refused, what becomes of a firing whose job can't be submitted, and of jobs that overlap."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support import IMPORTS, PATIENCE, request_for, until
from support.clocks import Clock, Refused
from support.homes import alive, processes, stop_supervisor, supervisor_of
from support.notebooks import Start, tagged
from taskapi_jupyter.core.contract import ScheduleRequest
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest, Conflict, ScheduleNotFound
from taskapi_jupyter.service import engine_settings
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor.supervisor import IDLE
from taskapi_jupyter.ui import doctor

DAILY = "0 6 * * *"
HOURS = [f"2026-06-01T{hour:02}:00:00" for hour in range(24)]


@pytest.fixture
def api(service: Service, name: str) -> str:
    """Return the name of an API that takes what it is given."""
    service.deploy_request(request_for(name, "def task(config):\n    return config\n", compute={"cpu": "10m"}))
    return name


# What is written


def test_a_schedule_is_made_listed_changed_and_deleted(service: Service, api: str) -> None:
    made = service.create_schedule(
        ScheduleRequest(api=api, schedule="0 6 * * MON-FRI", timezone="Europe/Berlin", config={"lr": 0.1}, retries=1)
    )
    assert (made.name, made.active, made.explained) == (api, True, "At 06:00 on Monday through Friday")
    assert (made.config, made.retries, made.overlap, made.catch_up) == ({"lr": 0.1}, 1, "skip", "last")
    assert made.next_time is not None
    assert made.next_time.endswith(("T04:00:00.000000Z", "T05:00:00.000000Z"))
    other = service.create_schedule(ScheduleRequest(api=api, schedule="@daily", name="other", active=False))
    assert (other.active, other.next_time, other.paused) == (False, None, None)
    assert [one.name for one in service.schedules_response().schedules] == sorted([api, "other"])
    changed = service.update_schedule(api, {"timezone": "Asia/Tokyo", "config": None, "keep": 3})
    assert (changed.timezone, changed.config, changed.keep, changed.retries) == ("Asia/Tokyo", None, 3, 1)
    assert changed.next_time is not None
    assert changed.next_time.endswith("T21:00:00.000000Z")
    for _ in range(2):  # of a paused one it is no error
        paused = service.update_schedule(api, {"active": False})
        assert (paused.active, paused.next_time) == (False, None)
    assert service.update_schedule(api, {"active": True}).next_time == changed.next_time
    replaced = service.create_schedule(ScheduleRequest(api=api, schedule="every 2h", replace=True))
    assert (replaced.schedule, replaced.timezone != "local", replaced.keep) == ("every 2h", True, None)
    assert service.delete_schedule("other") == "deleted schedule other"
    with pytest.raises(ScheduleNotFound, match=f"no schedule {api[:-1]}; did you mean {api}?"):
        service.schedule_status(api[:-1])


def test_what_is_refused(service: Service, api: str) -> None:
    def create(schedule: str = DAILY, **more: object) -> object:
        return service.create_schedule(ScheduleRequest(**{"api": api, "schedule": schedule, **more}))  # type: ignore[arg-type]

    create(name="taken")
    strict = f"{api}-strict"
    service.deploy_request(request_for(strict, "def task(lr: float, seed=1):\n    pass\n"))
    for refused, error, message in (
        (
            lambda: create(name="taken"),
            Conflict,
            "there is a schedule taken already: choose another name, or replace it",
        ),
        (lambda: create(name="beef"), BadRequest, "invalid name of a schedule 'beef'"),
        (lambda: create(name="<b>"), BadRequest, "invalid name of a schedule '<b>'"),
        (lambda: create(name="preview"), BadRequest, "can't be called preview"),
        (lambda: create(api="nothing"), APINotDeployed, "nothing is not deployed"),
        (lambda: create("* * * *"), BadRequest, "has 4 fields"),
        (lambda: create(timezone="Berlin"), BadRequest, "did you mean Europe/Berlin?"),
        (lambda: create("every 1s"), BadRequest, "too often"),
        (lambda: create("at 2020-01-01T00:00"), BadRequest, "in the past"),
        (lambda: create(until="2020-01-01"), BadRequest, "before '0 6 * * *' fires first"),
        (lambda: create(max_late=1), BadRequest, "max_late must be from 10 to"),
        (lambda: create(keep=0), BadRequest, "keep must be from 1 to"),
        (
            lambda: create(overlap="replace"),
            BadRequest,
            "overlap must be skip or queue or stop or allow, not 'replace'",
        ),
        (lambda: create(catch_up="all"), BadRequest, "catch_up must be last or none"),
        (lambda: create(timeout=0), BadRequest, "$.timeout"),
        (lambda: create(retries=1000), BadRequest, "retries must be"),
        (lambda: create(config=[1]), BadRequest, "config"),
        (lambda: create(api=strict, config={"lrr": 1}), BadRequest, "there is no parameter 'lrr' and lr is missing"),
        (lambda: service.update_schedule("taken", {"cron": DAILY}), BadRequest, "use retries, retry_on"),
        (lambda: service.update_schedule("taken", {"name": "other"}), BadRequest, "keeps its name"),
        (lambda: service.update_schedule("taken", {"api": strict}), BadRequest, "lr is missing"),
        (lambda: service.update_schedule("taken", {"schedule": "x"}), BadRequest, "has 1 field"),
        (lambda: service.preview_schedule(DAILY, count=101), BadRequest, "from 1 to 100"),
        (lambda: service.run_schedule("nothing"), ScheduleNotFound, "no schedule nothing"),
        (lambda: service.delete_schedule("\udcff"), ScheduleNotFound, "no schedule"),
    ):
        with pytest.raises(error) as raised:
            refused()
        assert message in str(raised.value)
    assert [one.name for one in service.schedules_response().schedules] == ["taken"]


@pytest.mark.local
def test_a_thousand_and_no_more(service: Service, api: str) -> None:
    service.create_schedule(ScheduleRequest(api=api, schedule=DAILY, name="first", active=False))
    with service.store.write() as transaction:
        names = [row[1] for row in transaction.execute("PRAGMA table_info(schedules)") if row[1] not in ("seq", "name")]
        for number in range(999):
            transaction.execute(
                f"INSERT INTO schedules (name, {', '.join(names)}) SELECT ?, {', '.join(names)} FROM schedules "
                "WHERE name = 'first'",
                (f"n{number}",),
            )
    with pytest.raises(Conflict, match="there are 1000 schedules already"):
        service.create_schedule(ScheduleRequest(api=api, schedule=DAILY, name="one-more"))
    service.create_schedule(ScheduleRequest(api=api, schedule=DAILY, name="first", replace=True, active=False))


def test_a_preview(service: Service) -> None:
    shown = service.preview_schedule("30 2 * * *", "Europe/Berlin", 3)
    assert (shown.explained, shown.timezone, len(shown.times)) == ("At 02:30 every day", "Europe/Berlin", 3)
    assert all(one[19:] in ("+01:00", "+02:00") for one in shown.times)


@pytest.mark.local
def test_the_doctor_names_those_that_cannot_fire(service: Service, api: str, home: Path) -> None:
    assert doctor.problems(home) == []
    for name in ("zone", "gone", "good"):
        service.create_schedule(ScheduleRequest(api=api, schedule=DAILY, name=name))
    with service.store.write() as transaction:
        transaction.execute("UPDATE schedules SET timezone = 'Old/Zone' WHERE name = 'zone'")
        transaction.execute("UPDATE schedules SET api_name = 'nothing' WHERE name = 'gone'")
    found = doctor.problems(home)
    assert found[0] == "schedule 'gone' can't fire: nothing is not deployed; deploy it"
    assert found[1].startswith("schedule 'zone' can't fire: there is no time zone 'Old/Zone'")
    assert len(found) == 2
    assert {one.name: one.explained != "" for one in service.schedules_response().schedules} == {
        "gone": True,
        "good": True,
        "zone": False,
    }


# Jobs


def test_it_is_run_by_hand(service: Service, api: str) -> None:
    service.create_schedule(ScheduleRequest(api=api, schedule=DAILY, name="nightly", config={"a": 1}, active=False))
    job = service.run_schedule("nightly")
    assert (job.record.schedule, job.record.scheduled_time or None) == ("nightly", None)
    assert job.result(PATIENCE) == {"a": 1}
    status = service.schedule_status("nightly")
    assert (status.last_job_id, status.last_status, status.active) == (job.id, "succeeded", False)
    assert status.last_time == job.record.created_time
    service.submit(api)
    assert [one.id for one in service.page(schedule="nightly")] == [job.id]
    assert [one.id for one in service.page(schedule="nightly", status="succeeded", search=job.id)] == [job.id]
    assert service.page(schedule="nightly", status="pending").next_cursor is None
    service.delete_schedule("nightly")
    assert [one.id for one in service.page(schedule="nightly")] == [job.id]  # its jobs stay


SLEEPS = """s.deploy_request(request_for("echo", '''
import time
def task(config):
    time.sleep(config["seconds"])
''', compute={"cpu": "10m"}))"""


def begin(now: Clock, overlap: str) -> str:
    """Deploy what runs for long, and let it run once, scheduled for 01:00; return the id of that job."""
    now.say(SLEEPS)
    now.say(
        "s.create_schedule(Schedule(api='echo', schedule='0 * * * *', timezone='UTC', config={'seconds': 600}, "
        f"overlap={overlap!r}))"
    )
    now.set(HOURS[1])
    now.until(lambda: [job["status"] for job in now.jobs()] == ["running"], "the first job to run")
    now.say("s.update_schedule('echo', {'config': {'seconds': 0}})")
    return str(now.jobs()[0]["job_id"])


@pytest.mark.local
def test_a_firing_is_skipped_while_the_last_job_runs(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    first = begin(now, "skip")
    now.set(HOURS[2])
    now.until(lambda: now.status()["misfires"] == 1, "it to be counted")
    status = now.status()
    assert status["misfire"] == f"skipped: job {first} had not ended"
    assert (status["last_job_id"], status["next_time"]) == (first, f"{HOURS[3]}.000000Z")
    now.say(f"s.stop({first!r})")
    now.set(HOURS[3])
    now.until(lambda: len(now.jobs()) == 2, "the next one")
    assert now.times() == [f"{HOURS[1]}.000000Z", f"{HOURS[3]}.000000Z"]


@pytest.mark.local
def test_a_job_waits_for_the_last_one_and_only_one_does(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    first = begin(now, "queue")
    now.set(HOURS[2])
    now.until(lambda: len(now.jobs()) == 2, "the second job")
    second = now.jobs()[0]
    assert (second["status"], second["after"], second["after_any"]) == ("pending", [first], True)
    now.set(HOURS[3])
    now.until(lambda: now.status()["misfires"] == 1, "the third to be skipped")
    assert now.status()["misfire"] == (
        f"skipped: job {second['job_id']} waits already until the one before it has ended"
    )
    now.say(f"s.stop({first!r})")
    now.until(lambda: now.jobs()[0]["status"] == "succeeded", "the second job to run")
    assert len(now.jobs()) == 2


@pytest.mark.local
def test_the_last_job_is_stopped_first(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    first = begin(now, "stop")
    now.set(HOURS[2])
    now.until(lambda: [job["status"] for job in now.jobs()] == ["succeeded", "stopped"], "the second job to end")
    second, stopped = now.jobs()
    assert (stopped["job_id"], second["start_time"] >= stopped["end_time"]) == (first, True)
    assert now.status()["misfires"] == 0


@pytest.mark.local
def test_jobs_overlap_where_they_may(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    begin(now, "allow")
    now.set(HOURS[2])
    now.until(lambda: [job["status"] for job in now.jobs()] == ["succeeded", "running"], "the second job to end")


@pytest.mark.local
def test_a_job_that_cannot_be_submitted_is_tried_again(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    now.say("s.deploy_request(request_for('echo', 'def task(lr=1): return lr', compute={'cpu': '10m'}))")
    now.say("s.create_schedule(Schedule(api='echo', schedule='0 * * * *', timezone='UTC', config={'lr': 2}))")
    now.say("s.deploy_request(request_for('echo', 'def task(rate=1): return rate', compute={'cpu': '10m'}))")
    now.set(HOURS[1])
    now.until(lambda: now.status()["misfires"] == 1, "it to be counted")
    status = now.status()
    assert "echo: there is no parameter 'lr'" in status["misfire"]
    assert (status["active"], status["next_time"]) == (True, f"{HOURS[1]}.000000Z")  # which is tried again
    now.set("2026-06-01T01:00:06")
    now.until(lambda: now.status()["misfire_time"] > status["misfire_time"], "the second try")
    assert now.status()["misfires"] == 1
    now.say("s.deploy_request(request_for('echo', 'def task(lr=1): return lr', compute={'cpu': '10m'}))")
    now.set("2026-06-01T01:10:00")
    now.until(lambda: [job["status"] for job in now.jobs()] == ["succeeded"], "its job")
    assert now.times() == [f"{HOURS[1]}.000000Z"]
    status = now.status()
    assert (status["misfires"], status["misfire"], status["next_time"]) == (0, None, f"{HOURS[2]}.000000Z")
    # Up to the next time, or max_late.
    now.say("s.deploy_request(request_for('echo', 'def task(rate=1): return rate', compute={'cpu': '10m'}))")
    now.set(HOURS[2])
    now.until(lambda: now.status()["misfires"] == 1, "it to be counted again")
    now.set(HOURS[3])
    now.until(lambda: now.status()["misfires"] == 2, "the next one to fail")
    now.say("s.update_schedule('echo', {'config': {'rate': 3}, 'max_late': 60})")  # with which it is tried at once
    now.until(lambda: now.times() == [f"{HOURS[1]}.000000Z", f"{HOURS[3]}.000000Z"], "its job")
    now.say("s.update_schedule('echo', {'config': None})")
    now.say("s.deploy_request(request_for('echo', 'def task(rate): return rate', compute={'cpu': '10m'}))")
    now.set(HOURS[4])
    now.until(lambda: now.status()["misfires"] == 2, "the next one to fail, too")
    now.set("2026-06-01T04:02:00")
    now.until(lambda: now.status()["next_time"] == f"{HOURS[5]}.000000Z", "it to be given up")
    assert (now.status()["misfires"], len(now.jobs())) == (2, 2)


@pytest.mark.local
def test_a_deleted_api_pauses_its_schedules(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    for name in ("one", "two"):
        now.say(f"s.create_schedule(Schedule(api='echo', name={name!r}, schedule='0 * * * *', timezone='UTC'))")
    now.say("s.delete('echo')")
    for name in ("one", "two"):
        status = now.status(name)
        assert (status["active"], status["next_time"]) == (False, None)
        assert status["paused"] == "echo was deleted: deploy it and resume this"
    with pytest.raises(Refused, match="echo is not deployed"):
        now.say("s.update_schedule('one', {'active': True})")
    now.say("s.deploy_request(request_for('echo', 'def task(config): pass'))")
    now.set(HOURS[2])
    assert now.status("one")["active"] is False
    resumed = now.say("s.update_schedule('one', {'active': True})")
    assert (resumed["next_time"], resumed["paused"]) == (f"{HOURS[3]}.000000Z", None)
    # An older version of the package deletes an API and knows no schedules.
    now.say("[transaction.execute('DELETE FROM apis') for transaction in [s.store._held().connection]] and None")
    now.set(HOURS[3])
    now.until(lambda: not now.status("one")["active"], "it to be noticed")
    assert now.status("one")["paused"] == "echo was deleted: deploy it and resume this"
    assert now.jobs("one") == []


@pytest.mark.local
def test_a_version_is_pinned(clock: Callable[[str], Clock]) -> None:
    now = clock(HOURS[0])
    for pin in (True, False):
        now.say(
            f"s.create_schedule(Schedule(api='echo', name='pin{pin}', schedule='0 * * * *', timezone='UTC', pin={pin}))"
        )
    now.say("s.deploy_request(request_for('echo', 'def task(config): return \"new\"', compute={'cpu': '10m'}))")
    now.set(HOURS[1])
    for name, returned in (("pinTrue", f"{HOURS[1]}+00:00"), ("pinFalse", "new")):
        now.until(lambda name=name: now.status(name)["last_status"] == "succeeded", "its job")
        assert now.say(f"s.result({now.status(name)['last_job_id']!r})") == returned
    pinned = now.status("pinTrue")["api_id"]
    now.say("s.purge()")
    now.say("s.deploy_request(request_for('echo', 'def task(config): return \"newest\"'))")
    assert now.say(f"s.store.version({pinned!r}) is not None")


@pytest.mark.local
def test_a_schedule_keeps_so_many_ended_jobs(service: Service, api: str, home: Path) -> None:
    service.create_schedule(ScheduleRequest(api=api, schedule="* * * * * *", keep=2))
    for _ in range(3):
        service.submit(api).wait(PATIENCE)  # which are not its own
    known: set[str] = set()

    def fired() -> bool:
        listed = {job.id for job in service.page(schedule=api)}
        known.update(listed)
        return len(known) > 4 and len(listed) <= 3

    until(fired, "jobs to go")
    service.update_schedule(api, {"active": False})
    until(lambda: not service.in_progress(), "all to end")
    assert len(service.jobs(limit=100)) in (5, 6)
    left = {job.id for job in service.jobs(limit=100)}
    until(lambda: {path.name for path in (home / "jobs").iterdir()} <= left, "what they left to go")
    assert service.page(schedule=api)[0].id == min(known | left - {job.id for job in service.jobs(limit=100)})


@pytest.mark.local
@pytest.mark.timeout(180)
def test_a_notebook_learns_for_when_it_was_scheduled(start: Start, service: Service, name: str) -> None:
    job = start(tagged("scheduled_time = None\nx = 1", "parameters"), tagged("print(scheduled_time, x)"))
    job.wait(PATIENCE)
    assert "None 1" in job.logs()
    service.create_schedule(ScheduleRequest(api=name, schedule="* * * * * *", timezone="Asia/Tokyo", config={"x": 2}))
    fired = until(lambda: service.page(schedule=name), "a job of the schedule")[-1]
    service.update_schedule(name, {"active": False})
    fired.wait(PATIENCE)
    time_of = str(fired.record.scheduled_time)
    assert f"{time_of[14:19]}+09:00 2" in fired.logs()
    assert fired.config == {"x": 2}


# The supervisor


@pytest.mark.local
def test_jobs_of_another_engine(service: Service, api: str, home: Path) -> None:
    """Of a cluster that can't be reached now: the job is on disk, and waits for it."""
    service.deploy_request(request_for(api, "def task(config): pass", compute={"cpu": "10m"}))
    settings = {"provider": "ray", "address": "http://127.0.0.1:9", "headers": {}, "verify": True, "home_id": "0"}
    engine_settings.write(str(home), {**settings, "storage": None})
    service.create_schedule(ScheduleRequest(api=api, schedule="* * * * * *"))
    job = until(lambda: service.page(schedule=api), "a job")[-1]
    assert (job.status, job.record.schedule) == ("pending", api)
    service.delete_schedule(api)


@pytest.mark.local
def test_the_supervisor_stays_for_a_schedule_and_leaves_without_one(service: Service, api: str, home: Path) -> None:
    service.create_schedule(ScheduleRequest(api=api, schedule="@yearly"))
    until(service.waker.alive, "the supervisor")
    time.sleep(IDLE + 1)
    assert service.waker.alive()
    stop_supervisor(home)
    assert not service.waker.alive()
    service.schedules_response()  # as any other request
    until(service.waker.alive, "another supervisor")
    service.delete_schedule(api)
    began = time.monotonic()
    until(lambda: not service.waker.alive(), "the supervisor to leave", IDLE * 3)
    assert time.monotonic() - began > IDLE / 2


#: The points of a firing at which its process is killed.
POINTS = ("firing.chosen", "firing.moved", "firing.written", "schedule.written")


@pytest.mark.local
@pytest.mark.local
def test_the_supervisor_leaves_where_its_home_was_removed(service: Service, api: str, home: Path) -> None:
    service.create_schedule(ScheduleRequest(api=api, schedule="@daily"))
    until(service.waker.alive, "the supervisor")
    supervisor = psutil.Process(supervisor_of(home))
    shutil.rmtree(home)
    until(lambda: not alive(supervisor), "it to leave")


def test_a_kill_at_any_point_of_a_firing_loses_none_and_makes_none_twice(
    service: Service, api: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = tmp_path / "faults"
    armed.mkdir()
    monkeypatch.setenv("TASKAPI_FAULTS", str(armed))  # for the supervisor that is started
    create = (
        "from taskapi_jupyter.service.service import Service\nimport sys\n"
        "from taskapi_jupyter.core.contract import ScheduleRequest\n"
        "Service(sys.argv[1]).create_schedule(ScheduleRequest(api=sys.argv[2], schedule='* * * * * *', overlap='allow'))"
    )
    (armed / "schedule.written").write_text("kill")
    made = subprocess.run([sys.executable, "-c", IMPORTS + create, str(home), api], capture_output=True, timeout=60)
    assert made.returncode == -signal.SIGKILL
    service.schedules_response()  # it is on disk; who reads it starts a supervisor
    for point in POINTS[:3]:
        (armed / point).write_text("kill")
        until((armed / f"{point}.taken").exists, f"a process to come by at {point}")
    for point in POINTS[:3]:  # the supervisor goes meanwhile, and another one starts another process
        count = len(service.page(schedule=api, limit=1000))
        (armed / point).write_text("pause")
        held = armed / f"{point}.held"
        try:
            process = psutil.Process(int(until(lambda held=held: held.exists() and held.read_text(), "one to be held")))
            os.kill(supervisor_of(home), signal.SIGKILL)
            if point != "firing.moved":  # where it holds the database
                until(lambda count=count: len(service.page(schedule=api, limit=1000)) > count, "others to go on")
        finally:
            held.unlink()
        until(lambda process=process: not alive(process), "it to end")
        until(lambda: service.schedules_response() and service.waker.alive(), "another supervisor")
    service.update_schedule(api, {"active": False})
    until(lambda: not any("firing" in " ".join(one.cmdline()) for one in processes(home)), "all to be done")
    jobs = service.page(schedule=api, limit=1000)
    times = sorted(str(job.record.scheduled_time) for job in jobs)
    assert len(times) == len(set(times)) >= 3
    seconds = [int(one[14:16]) * 60 + int(one[17:19]) for one in times]
    span = (seconds[-1] - seconds[0]) % 3600 + 1
    status = service.schedule_status(api)
    assert span - len(times) <= status.misfires
    until(lambda: all(job.refresh().status == "succeeded" for job in jobs), "all jobs to run")
