"""Routes for a job's metrics and for what it uses, and what ``/metrics`` shows of all jobs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE
from support.routes import ABSENT, check, deploy, ended, is_error, submit, waiting
from support.servers import Answer

Call = Callable[..., Awaitable[Answer]]

VERSION = "X-Taskapi-Version"
METRICS = """
import pathlib, time
from taskapi_jupyter.job import metric

def task(config):
    for step in range(3):
        metric(loss=step / 2, step=step)
        metric(**{"a,b": step, "val/loss": step / 4}, step=step)
    while not pathlib.Path(config["path"], "go").exists():
        time.sleep(0.01)
    metric(loss=9.5, step=9)
    while not pathlib.Path(config["path"], "end").exists():
        time.sleep(0.01)
"""


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Return what is found once something is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await look()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return found


def values(answer: Answer) -> dict[str, list[list[float]]]:
    """Return steps and values by name."""
    check(answer.json, {"metrics": dict, "next": int})
    return {name: [[step, value] for step, _, value in points] for name, points in answer.json["metrics"].items()}


async def test_metrics_are_read_on_and_wake_who_waits(call: Call, tmp_path: Path) -> None:
    await deploy(call, "metrics", METRICS)
    job_id = await submit(call, {"config": {"path": str(tmp_path)}}, "metrics")
    job = f"local/jobs/{job_id}"

    async def all_three() -> bool:
        return len((await call("GET", f"{job}/metrics")).json["metrics"].get("val/loss", [])) == 3

    await until(all_three)
    first = await call("GET", f"{job}/metrics")
    assert values(first)["loss"] == [[0, 0], [1, 0.5], [2, 1]]
    assert list(values(first)) == ["loss", "a,b", "val/loss"]
    assert abs(first.json["metrics"]["loss"][0][1] - time.time()) < 3600
    assert list(values(await call("GET", f"{job}/metrics?names=loss,val/loss"))) == ["loss", "val/loss"]
    assert list(values(await call("GET", f"{job}/metrics?names=loss&names=a,b"))) == ["loss", "a,b"]
    assert values(await call("GET", f"{job}/metrics?names=other")) == {}
    since = first.json["next"]
    again = await call("GET", f"{job}/metrics?since={since}")
    assert again.json == {"metrics": {}, "next": since}

    version = (await call("GET", job)).headers[VERSION]
    held = asyncio.ensure_future(call("GET", f"{job}?wait=50&since={version}"))
    (tmp_path / "go").touch()
    assert (await held).json["job_status"]["metrics"] == {"loss": 9.5, "a,b": 2, "val/loss": 0.5}
    assert values(await call("GET", f"{job}/metrics?since={since}")) == {"loss": [[9, 9.5]]}
    (tmp_path / "end").touch()
    assert (await ended(call, job_id))["metrics"] == {"loss": 9.5, "a,b": 2, "val/loss": 0.5}
    assert [one["metrics"]["loss"] for one in (await call("GET", "local/jobs")).json["jobs"]] == [9.5]


async def test_what_a_job_uses_changes_no_version(call: Call, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    job = f"local/jobs/{job_id}"
    before = await call("GET", job)

    async def used() -> Any:
        return (await call("GET", job)).json["job_status"].get("usage")

    usage = await until(used)
    check(usage, {"cpu_seconds": float, "memory": int, "memory_peak": int})
    assert 0 < usage["memory"] <= usage["memory_peak"]
    assert (await call("GET", job)).headers[VERSION] == before.headers[VERSION]
    points = (await call("GET", f"{job}/usage")).json["points"]
    assert all(len(point) == 3 for point in points)
    assert points[0][2] > 0
    (tmp_path / "go").touch()
    check((await ended(call, job_id))["usage"], {"cpu_seconds": float, "memory_peak": int})


async def test_what_can_not_be_asked(call: Call) -> None:
    for what in ("metrics", "usage"):
        is_error(await call("GET", f"local/jobs/{ABSENT}/{what}"), "job.not_found", status=404)
        assert (await call("GET", f"local/jobs/{ABSENT}/{what}", auth=False)).status == 403
    await deploy(call)
    job_id = await submit(call)
    for since in ("-1", "x", str(1 << 63)):
        is_error(await call("GET", f"local/jobs/{job_id}/metrics?since={since}"), "error")
    await ended(call, job_id)
    far = await call("GET", f"local/jobs/{job_id}/metrics?since=1000000")
    assert far.json == {"metrics": {}, "next": 1000000}


@pytest.fixture
def figures(jp_fetch: Any) -> Callable[[], Awaitable[dict[str, float]]]:
    """Return what reads those of our figures that ``/metrics`` shows."""

    async def figures() -> dict[str, float]:
        text = (await jp_fetch("metrics")).body.decode()
        return {name: float(value) for name, value in re.findall(r"^(taskapi_\S+) (\S+)$", text, re.M)}

    return figures


async def test_prometheus(call: Call, figures: Any, jp_serverapp: Any, tmp_path: Path) -> None:
    events = jp_serverapp.web_app.settings["taskapi_jupyter"].events
    events.start()  # as when a server has started

    async def looked() -> bool:
        return events._seen is not None

    await until(looked)
    job_id = await waiting(call, tmp_path)

    async def running() -> Any:
        found = await figures()
        return found if found.get('taskapi_jobs{status="running"}') and found["taskapi_queue_seconds_count"] else None

    found = await until(running)
    assert found["taskapi_queue_seconds_count"] == 1
    assert found["taskapi_cores_in_use"] > 0
    assert found["taskapi_memory_in_use_bytes"] == 0
    assert found['taskapi_job_seconds_bucket{le="+Inf"}'] == 0
    (tmp_path / "go").touch()
    await ended(call, job_id)

    async def over() -> Any:
        found = await figures()
        return found if found["taskapi_job_seconds_count"] else None

    found = await until(over)
    counts = {name: value for name, value in found.items() if name.startswith("taskapi_jobs")}
    assert counts.pop('taskapi_jobs{status="succeeded"}') == 1
    assert len(counts) == 7
    assert not any(counts.values())
    assert found["taskapi_queue_seconds_count"] == found["taskapi_job_seconds_count"] == 1
    assert 0 < found["taskapi_job_seconds_sum"] < 3600
    assert found["taskapi_cores_in_use"] == 0
    assert not any(job_id in name or "waiting" in name for name in found)  # no label names a job or an API
    for _ in range(3):
        await submit(call, {"config": {"path": str(tmp_path / "go")}}, "waiting")

    async def all_over() -> bool:
        return bool((await figures())["taskapi_job_seconds_count"] == 4)

    await until(all_over)
    assert (await figures())["taskapi_queue_seconds_count"] == 4
