"""Schedules while the clock is set, changes for summer, or stands still: each firing has one job, and none has two."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import IMPORTS, until
from support.clocks import Clock

pytestmark = pytest.mark.local


def ended(clock: Clock, count: int) -> list[str]:
    """Return for when the first jobs were scheduled, once so many have ended."""

    def all_ended() -> bool:
        jobs = clock.jobs()
        return len(jobs) >= count and all(job["status"] == "succeeded" for job in jobs)

    clock.until(all_ended, f"{count} jobs to end")
    return clock.times()


@pytest.mark.parametrize(
    ("zone", "schedule", "before", "fires", "scheduled"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T00:59:50", "2026-03-29T01:00:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T00:29:50", "2026-10-25T00:30:00", "2026-10-25T02:30:00+02:00"),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T15:29:50", "2026-10-03T15:30:00", "2026-10-04T02:30:00+11:00"),
        ("Pacific/Apia", "0 12 30 * *", "2011-12-30T09:59:50", "2011-12-30T10:00:00", "2011-12-31T00:00:00+14:00"),
    ],
)  # fmt: skip
def test_it_fires_where_clocks_change(
    clock: Callable[[str], Clock], zone: str, schedule: str, before: str, fires: str, scheduled: str
) -> None:
    now = clock(before)
    made = now.say(f"s.create_schedule(Schedule(api='echo', schedule={schedule!r}, timezone={zone!r}))")
    assert made["next_time"] == f"{fires}.000000Z"
    assert now.jobs() == []
    now.set(fires)
    assert ended(now, 1) == [f"{fires}.000000Z"]
    job = now.jobs()[0]
    assert now.say(f"s.result({job['job_id']!r})") == scheduled
    now.forward(7200)  # through the hour that comes twice
    now.wake()
    status = now.status()
    assert (status["last_job_id"], status["last_status"], status["misfires"]) == (job["job_id"], "succeeded", 0)
    assert status["next_time"] > f"{fires}Z"
    assert len(now.jobs()) == 1


def test_a_clock_that_is_set(clock: Callable[[str], Clock]) -> None:
    now = clock("2026-06-01T11:59:50")
    now.say("s.create_schedule(Schedule(api='echo', schedule='0 * * * *', timezone='UTC'))")
    now.set("2026-06-01T12:00:00")
    assert ended(now, 1) == ["2026-06-01T12:00:00.000000Z"]
    now.set("2026-06-01T11:00:01")  # back: the same hour comes again
    now.set("2026-06-01T12:00:10")
    assert now.status()["next_time"] == "2026-06-01T13:00:00.000000Z"
    now.set("2026-06-01T13:00:10")
    assert ended(now, 2) == ["2026-06-01T12:00:00.000000Z", "2026-06-01T13:00:00.000000Z"]
    now.set("2026-06-05T13:30:00")  # forward by days: one job for all that was missed
    assert ended(now, 3)[2:] == ["2026-06-05T13:00:00.000000Z"]
    status = now.status()
    assert status["misfires"] == 95
    assert status["misfire"] == "95 firings were missed: this machine was off or asleep, or nothing of taskapi ran"
    now.set("2026-06-01T13:10:00")  # right again after days, in which nothing may wait for what was wrong
    now.until(lambda: now.status()["next_time"] == "2026-06-01T14:00:00.000000Z", "the next time to be right again")
    now.set("2026-06-01T14:00:00")
    assert len(ended(now, 4)) == 4


def test_a_machine_that_sleeps(clock: Callable[[str], Clock]) -> None:
    now = clock("2026-06-01T05:00:00")
    for name, more in (
        ("late", ""),
        ("never", ", catch_up='none'"),
        ("bounded", ", max_late=1800"),
        ("once", ", max_late=7200"),
        ("ends", ", until='2026-06-03', max_late=172800"),
    ):
        schedule = "at 2026-06-01T06:00" if name == "once" else "0 6 * * *"
        now.say(f"s.create_schedule(Schedule(api='echo', name={name!r}, schedule={schedule!r}, timezone='UTC'{more}))")
    now.asleep_until("2026-06-04T07:00:00")
    now.until(lambda: now.jobs("late") and now.jobs("ends"), "the jobs")
    assert now.times("late") == ["2026-06-04T06:00:00.000000Z"]
    assert now.times("ends") == ["2026-06-03T06:00:00.000000Z"]
    for name, misfires in (("late", 3), ("never", 4), ("bounded", 4), ("once", 1), ("ends", 2)):
        now.until(lambda name=name: now.status(name)["misfires"], f"{name} to be looked at")
        assert now.status(name)["misfires"] == misfires, name
    assert now.times("never") == now.times("bounded") == now.times("once") == []
    assert now.status("never")["next_time"] == "2026-06-05T06:00:00.000000Z"
    assert "4 firings were missed, the last that of 2026-06-04T06:00:00+00:00" in now.status("never")["misfire"]
    for name in ("once", "ends"):
        status = now.status(name)
        assert (status["active"], status["next_time"]) == (False, None)
        assert status["paused"] == "it has fired for the last time"


#: One of the many processes that find the same firing due.
RACER = """
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.writing.firing import fire_due
s = Service(os.environ["TASKAPI_HOME"])
print("ready", flush=True)
while os.path.exists(os.environ["TASKAPI_HOME"] + "/race"):
    fire_due(s) if s.store.due_schedules(int(time.time() * 1e6)) else time.sleep(0.002)
"""
FIRINGS = 100


def test_a_hundred_firings_seen_by_eight_processes_and_three_wakes_are_a_hundred_jobs(
    clock: Callable[[str], Clock], home: Path
) -> None:
    now = clock("2026-06-01T00:00:00")
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 1\n")
    now.say("s.deploy_request(request_for('busy', 'import time\\ndef task(config): time.sleep(600)'))")
    now.say("s.submit('busy').id")  # so that the others, which need no place to be counted, stay in line
    now.say("s.deploy_request(request_for('echo', 'def task(config): pass'))")
    now.say("s.create_schedule(Schedule(api='echo', schedule='*/10 * * * * *', timezone='UTC', overlap='allow'))")
    (home / "race").touch()
    racers = [now.start(RACER) for _ in range(7)]
    try:
        for one in racers:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for number in range(1, FIRINGS + 1):
            now.to(f"2026-06-01T{number * 10 // 3600:02}:{number * 10 // 60 % 60:02}:{number * 10 % 60:02}.100")
            if number % 10 == 0:
                now.say("[one.wait() for one in [wake.start(str(s.home)) for _ in range(3)]]")
            now.until(lambda number=number: now.say("s.counts('echo')").get("pending") == number, "its one job")
    finally:
        (home / "race").unlink()
        for one in racers:
            one.communicate(timeout=30)
    assert [one.returncode for one in racers] == [0] * len(racers)
    found = now.times()
    assert len(found) == len(set(found)) == FIRINGS
    status = now.status()
    assert (status["misfires"], status["last_time"]) == (0, "2026-06-01T00:16:40.000000Z")


def test_nothing_but_the_supervisor_is_needed(home: Path) -> None:
    code = (
        "from support import request_for\nfrom taskapi_jupyter.service.service import Service\n"
        "from taskapi_jupyter.core.contract import ScheduleRequest\nimport sys\ns = Service(sys.argv[1])\n"
        "s.deploy_request(request_for('echo', 'def task(config): open(config[\"path\"], \"x\")'))\n"
        "s.create_schedule(ScheduleRequest(api='echo', schedule='* * * * * *', config={'path': sys.argv[2]}))\n"
    )
    left = home / "left"
    subprocess.run([sys.executable, "-c", IMPORTS + code, str(home), str(left)], check=True, timeout=60)
    until(left.exists, "the job to have run")
