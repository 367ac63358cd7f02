"""The routes for schedules, on a server in this process, and what of them keeps a server from being culled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import ECHO
from support.routes import SUBMITTED, deploy, ended, is_error
from support.servers import Answer
from taskapi_jupyter.core.contract import ScheduleStatus

pytestmark = pytest.mark.local

Call = Callable[..., Awaitable[Answer]]
DAILY = {"api": "echo", "schedule": "0 6 * * MON-FRI", "timezone": "Europe/Berlin", "config": {"lr": 0.1}}


async def test_a_schedule_by_its_routes(call: Call) -> None:
    await deploy(call, "echo", ECHO)
    made = await call("POST", "local/schedules", {**DAILY, "name": "nightly", "overlap": "queue", "max_late": 60})
    assert (made.status, made.headers["Content-Type"]) == (200, "application/json")
    record = made.json
    assert set(record) == set(ScheduleStatus.__struct_fields__)
    told = {key: record[key] for key in ("name", "api", "schedule", "timezone", "config", "overlap", "max_late")}
    assert told == {**DAILY, "name": "nightly", "overlap": "queue", "max_late": 60}
    assert (record["active"], record["misfires"], record["last_job_id"]) == (True, 0, None)
    assert record["explained"] == "At 06:00 on Monday through Friday"
    assert (await call("GET", "local/schedules/nightly")).json == record
    listed = (await call("GET", "local/schedules")).json
    assert listed["schedules"] == [record]
    assert "after a reboot" in listed["hint"]

    ran = await call("POST", "local/schedules/nightly/run")
    assert ran.status == 200
    assert set(ran.json) == set(SUBMITTED)
    job = await ended(call, ran.json["job_id"])
    assert (job["status"], job["config"], job["schedule"]) == ("succeeded", {"lr": 0.1}, "nightly")
    assert (await call("GET", "local/schedules/nightly")).json["last_status"] == "succeeded"

    paused = await call("PATCH", "local/schedules/nightly", {"active": False})
    assert (paused.status, paused.json["active"], paused.json["next_time"]) == (200, False, None)
    assert (await call("PATCH", "local/schedules/nightly", {"active": False})).status == 200
    changed = await call("PATCH", "local/schedules/nightly", {"active": True, "schedule": "@daily", "config": None})
    assert (changed.json["active"], changed.json["schedule"], changed.json["config"]) == (True, "@daily", None)
    assert (await call("DELETE", "local/schedules/nightly")).json == {"message": "deleted schedule nightly"}
    is_error(await call("GET", "local/schedules/nightly"), "schedule.not_found", status=404)
    assert (await call("GET", "local/schedules")).json == {"schedules": []}
    assert (await call("GET", f"local/jobs/{job['job_id']}")).json["job_status"]["status"] == "succeeded"


async def test_jobs_of_a_schedule(call: Call) -> None:
    await deploy(call, "echo", ECHO)
    ids: dict[str, list[str]] = {}
    for name in ("one", "two"):
        await call("POST", "local/schedules", {**DAILY, "name": name})
        runs = [(await call("POST", f"local/schedules/{name}/run")).json["job_id"] for _ in range(3)]
        ids[name] = runs[::-1]
    await call("POST", "local/tasks/echo", {})
    page = (await call("GET", "local/jobs?schedule=one&limit=2")).json
    assert [job["job_id"] for job in page["jobs"]] == ids["one"][:2]
    rest = (await call("GET", f"local/jobs?schedule=one&limit=2&cursor={page['next_cursor']}")).json
    assert [job["job_id"] for job in rest["jobs"]] == ids["one"][2:]
    assert [job["job_id"] for job in (await call("GET", "local/jobs?schedule=two")).json["jobs"]] == ids["two"]
    assert (await call("GET", "local/jobs?schedule=none")).json["jobs"] == []
    is_error(await call("GET", f"local/jobs?schedule=one&ids={ids['one'][0]}"), "error")
    for job in (*ids["one"], *ids["two"]):
        await ended(call, job)


async def test_a_preview(call: Call) -> None:
    shown = (await call("GET", "local/schedules/preview?cron=0+6+29+2+*&tz=Europe/Berlin&n=2")).json
    assert shown == {
        "schedule": "0 6 29 2 *",
        "timezone": "Europe/Berlin",
        "explained": "At 06:00 on February 29",
        "times": ["2028-02-29T06:00:00+01:00", "2032-02-29T06:00:00+01:00"],
    }
    assert len((await call("GET", "local/schedules/preview?cron=every+15m")).json["times"]) == 5
    ends = await call("GET", "local/schedules/preview?cron=0+6+29+2+*&tz=UTC&until=2030-01-01")
    assert ends.json["times"] == ["2028-02-29T06:00:00+00:00"]
    for query, said in (
        ("", "cron is missing"),
        ("cron=", "cron is empty"),
        ("cron=0+6+*+*", "has 4 fields"),
        ("cron=61+6+*+*+*", "bad minute '61'"),
        ("cron=0+0+31+2+*", "never fires"),
        ("cron=@daily&tz=Europe/Berln", "Europe/Berlin"),
        ("cron=@daily&n=101", "n must be a whole number from 1 to 100"),
        ("cron=at+2020-01-01", "in the past"),
        ("cron=@daily&until=x", "until 'x' is no time"),
    ):
        answer = await call("GET", f"local/schedules/preview?{query}")
        is_error(answer, "error")
        assert said in answer.json["message"], query


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ({"schedule": "@daily"}, 400, "error", "`api`"),
        ({"api": "echo"}, 400, "error", "`schedule`"),
        ({"api": "nope", "schedule": "@daily"}, 404, "resources.api_not_deployed", "nope is not deployed"),
        ({"api": "echo", "schedule": "every 5s"}, 400, "error", "too often"),
        ({"api": "echo", "schedule": "@daily", "overlap": "both"}, 400, "error", "overlap"),
        ({"api": "echo", "schedule": "@daily", "config": [1]}, 400, "error", "config"),
        ({"api": "echo", "schedule": "@daily", "name": "a/b"}, 400, "error", "invalid name of a schedule"),
        ({"api": "echo", "schedule": "@daily", "name": "preview"}, 400, "error", "can't be called preview"),
        ({"api": "echo", "schedule": "@daily", "keep": 0}, 400, "error", "keep must be"),
    ],
)
async def test_mistakes(call: Call, body: Any, status: int, kind: str, said: str) -> None:
    await deploy(call, "echo", ECHO)
    answer = await call("POST", "local/schedules", body)
    is_error(answer, kind, status=status)
    assert said in answer.json["message"]


async def test_what_is_there_or_not(call: Call) -> None:
    await deploy(call, "echo", ECHO)
    await call("POST", "local/schedules", DAILY)
    is_error(await call("POST", "local/schedules", DAILY), "error", status=409)
    replaced = await call("POST", "local/schedules", {**DAILY, "schedule": "@hourly", "replace": True})
    assert (replaced.status, replaced.json["schedule"]) == (200, "@hourly")
    wrong = await call("PATCH", "local/schedules/echo", {"colour": "red"})
    is_error(wrong, "error")
    assert "colour" in wrong.json["message"]
    assert "overlap" in wrong.json["message"]
    is_error(await call("PATCH", "local/schedules/echo", [1]), "error")
    for method, path in (("GET", "no"), ("DELETE", "no"), ("PATCH", "no"), ("POST", "no/run")):
        body = None if method in ("GET", "DELETE") else {}
        is_error(await call(method, f"local/schedules/{path}", body), "schedule.not_found", status=404)
    is_error(await call("GET", "local/schedules/%3Cb%3E"), "schedule.not_found", status=404)
    for method, path in (("PUT", "schedules"), ("DELETE", "schedules"), ("POST", "schedules/preview")):
        assert (await call(method, f"local/{path}", {})).status == 405
    for method, path in (("GET", "schedules"), ("POST", "schedules"), ("GET", "schedules/preview?cron=@daily")):
        assert (await call(method, f"local/{path}", auth=False)).status == 403
    assert (await call("GET", "nowhere/schedules")).status == 404


async def test_a_cluster_keeps_none(call: Call, home: Path) -> None:
    cluster = {"name": "prod", "provider": "cortex", "operator_endpoint": "http://127.0.0.1:1", "version": "0.42.1"}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [cluster]}))
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("GET", "/preview?cron=@daily"), ("POST", "/x/run")):
        answer = await call(method, f"prod/schedules{path}", DAILY if method == "POST" else None)
        assert answer.status == 404, answer.body
        is_error(answer, "environment.not_kept", status=404)
        assert "keeps no schedules" in answer.json["message"]


async def test_one_that_fires_soon_is_activity_where_that_is_asked_for(call: Call, jp_serverapp: Any) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    await deploy(call, "echo", ECHO)
    await call("POST", "local/schedules", {**DAILY, "schedule": "every 50m"})
    await extension.activity.count()
    assert extension.current_activity() is False
    extension.report_activity = "schedules"
    before = datetime.now(timezone.utc)
    await extension.activity.count()
    assert extension.current_activity() is True
    assert jp_serverapp.web_app.last_activity() >= before
    await call("PATCH", "local/schedules/echo", {"schedule": "every 2h"})
    await extension.activity.count()
    assert extension.current_activity() is False
    await call("PATCH", "local/schedules/echo", {"schedule": "every 50m", "active": False})
    await extension.activity.count()
    assert extension.current_activity() is False
