"""What a job uses: CPU time and memory of its whole tree, once a second and in all, and what measuring that costs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.runner.memory import Usage
from taskapi_jupyter.runner.process_tree import Process
from taskapi_jupyter.service.service import Service

MIB = 1 << 20

pytestmark = pytest.mark.local


@pytest.fixture
def submit(service: Service, name: str) -> Callable[..., Job]:
    """Return what submits a task's body."""

    def submit(body: str, config: Any = None, **spec: Any) -> Job:
        lines = "\n    ".join(["import os, pathlib, subprocess, sys, time", *body.strip().splitlines()])
        service.deploy_request(request_for(name, f"def task(config):\n    {lines}\n", **spec))
        return service.submit(name, config)

    return submit


#: Its child takes half a second of CPU time and 100 MiB, and both stay until a file is there.
BUSY = """
child = os.fork()
if child == 0:
    held = bytearray(os.urandom(1 << 20)) * 100
    while time.process_time() < 0.5:
        pass
while not pathlib.Path(config["go"]).exists():
    time.sleep(0.01)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("mem", [None, "1Gi"])
def test_what_a_tree_uses_is_known_while_it_runs_and_afterwards(
    submit: Callable[..., Job], tmp_path: Path, mem: str | None
) -> None:
    go = tmp_path / "go"
    compute = {"cpu": "10m"} if mem is None else {"cpu": "10m", "mem": mem}
    job = submit(BUSY, {"go": str(go)}, compute=compute)

    def used() -> Any:
        found = job.refresh().record.usage
        return found if found and found.cpu_seconds >= 0.5 and found.memory >= 100 * MIB else None

    usage: Any = until(used, "the watcher to have measured it")
    limit = None if mem is None else 1024 * MIB
    assert (usage.memory_limit or None) == limit
    assert usage.memory_peak >= usage.memory
    assert usage.memory < 1000 * MIB
    assert "CPU time" in job._repr_html_()
    assert "MiB" in job._repr_html_()
    go.touch()
    assert job.wait(PATIENCE).status == "succeeded"
    after: Any = job.record.usage
    assert after.cpu_seconds >= usage.cpu_seconds
    assert after.memory_peak >= usage.memory_peak
    assert (after.memory or None, after.memory_limit or None) == (None, limit)
    assert job.refresh().record.usage == after  # from its row
    points = job.api.usage(job).points
    assert points
    times, cpu, memory = zip(*points, strict=True)
    assert list(times) == sorted(times)
    assert list(cpu) == sorted(cpu)
    assert max(memory) >= 100 * MIB
    assert abs(times[-1] - time.time()) < 3600
    assert len(job.usage()) == len(points)


@pytest.mark.parametrize("warm", [None, {}])
def test_a_short_job_has_no_file_and_its_totals_all_the_same(
    submit: Callable[..., Job], home: Path, warm: dict[str, Any] | None
) -> None:
    if warm is not None and not host.LINUX:
        pytest.skip("a warm start needs Linux")
    body = "held = b'x' * (50 << 20)\nreturn len(held)"
    job = submit(body, definition={"path": "task.py", "warm": warm})
    assert job.wait(PATIENCE).status == "succeeded"
    usage: Any = job.record.usage
    assert 0 < usage.cpu_seconds < 60
    assert 50 * MIB < usage.memory_peak < 1000 * MIB
    folder = home / "jobs" / job.id
    taken = float((job.end_time - job.start_time).total_seconds())  # type: ignore[operator]
    if taken < 1:  # a busy machine may take longer
        assert not (folder / "usage.jsonl").exists()
        assert job.api.usage(job).points == []


def test_who_passes_its_limit_has_used_more(submit: Callable[..., Job]) -> None:
    job = submit("held = bytearray(os.urandom(1 << 20)) * 300\ntime.sleep(60)", compute={"cpu": "10m", "mem": "100Mi"})
    assert job.wait(PATIENCE).status == "worker_oom"
    usage: Any = job.record.usage
    assert usage.memory_limit == 100 * MIB < usage.memory_peak


METRICS = """
from taskapi_jupyter.job import metric
for epoch in range(3):
    metric(loss=1 / (1 + epoch), step=epoch)
while not pathlib.Path(config["go"]).exists():
    time.sleep(0.01)
metric(**{"val/loss": 0.125})
"""


def test_metrics_while_a_job_runs_and_afterwards(submit: Callable[..., Job], home: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = submit(METRICS, {"go": str(go)})
    until(lambda: (job.refresh().record.metrics or {}).get("loss") == 1 / 3, "the last loss")
    first = job.api.metrics(job)
    assert [(step, value) for step, _, value in first.metrics["loss"]] == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    go.touch()
    assert job.wait(PATIENCE).status == "succeeded"
    assert job.refresh().record.metrics == {"loss": 1 / 3, "val/loss": 0.125}
    more = job.api.metrics(job, since=first.next)
    assert [(name, [value for _, _, value in points]) for name, points in more.metrics.items()] == [
        ("val/loss", [0.125])
    ]
    assert job.api.metrics(job, since=more.next).metrics == {}
    assert "loss 0.3333 · val/loss 0.125" in job._repr_html_()
    rows = job.metrics("loss")
    rows = rows if isinstance(rows, list) else rows.to_dict("records")
    assert [(row["name"], row["step"], row["value"]) for row in rows] == [
        ("loss", 0, 1),
        ("loss", 1, 0.5),
        ("loss", 2, 1 / 3),
    ]
    until(lambda: not (home / "jobs" / job.id / "metrics.json").exists(), "what nobody reads to be removed")
    assert (home / "jobs" / job.id / "metrics.jsonl").exists()


# How it is kept


def test_a_long_job_keeps_few_points_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1.7e9]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    usage = Usage(str(tmp_path), None)
    for number in range(10_000):
        clock[0] += 1
        usage.add([Process(1, 0, "", "R", rss=number, cpu=number / 10)], time.thread_time())
    lines = [json.loads(line) for line in (tmp_path / "usage.jsonl").read_text().splitlines()]
    assert 1000 <= len(lines) <= 2001
    gaps = {round(lines[at + 1][0] - lines[at][0]) for at in range(len(lines) - 2)}
    assert max(gaps) <= 2 * min(gaps)
    assert lines[-1][2:] == [9999, 9999]
    assert lines[-1][0] == clock[0]
    assert os.path.getsize(tmp_path / "usage.jsonl") <= 2001 * 64


def test_who_takes_long_to_measure_is_measured_seldom(tmp_path: Path) -> None:
    usage = Usage(str(tmp_path), None)
    usage.add([], time.thread_time() - 0.1)  # it took a tenth of a second
    assert 50 <= usage.at - time.monotonic() < 60
    usage.add([], time.thread_time())
    assert usage.at - time.monotonic() <= 1


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    usage = Usage(str(tmp_path / "gone"), None)
    usage.add([Process(1, 0, "", "R", rss=5)], time.thread_time())
    assert json.loads(usage.total())["memory_peak"] >= 5
