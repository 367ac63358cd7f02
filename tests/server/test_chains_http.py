"""Jobs that wait for others by the routes of a real server: whole ids, errors of the contract, what a status says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.routes import ABSENT, Call, deploy, ended, is_error, submit, waiting

GROUP = f"g{ABSENT}"


async def test_a_chain(call: Call, tmp_path: Path) -> None:
    first = await waiting(call, tmp_path)
    await deploy(call)
    made = await call("POST", "local/groups", {"api": "hello", "configs": [{}, {}]})
    group = made.json["group"]["id"]
    second = await submit(call, {"after": [first, group], "config": {"x": 1}, "timeout": 600})
    third = await submit(call, {"results": {"seen": second}, "after_any": True})
    shown = (await call("GET", f"local/jobs/{third}")).json["job_status"]
    assert (shown["status"], shown["reason"]) == ("pending", f"waits for {second[-4:]}")
    assert (shown["after"], shown["after_any"], shown["inputs"]) == ([second], True, {"seen": second})
    shown = (await call("GET", f"local/jobs/{second}")).json["job_status"]
    assert (shown["after"], "after_any" in shown, "inputs" in shown) == ([first, group], False, False)
    listed = (await call("GET", "local/jobs?status=pending")).json["jobs"]
    assert {job["job_id"]: job.get("reason") for job in listed}[third] == f"waits for {second[-4:]}"
    (tmp_path / "go").touch()
    assert (await ended(call, third))["status"] == "succeeded"
    result = await call("GET", f"local/jobs/{third}/result")
    assert result.json == {"seen": {"x": 1}}
    assert (await ended(call, third)).get("config") in (None, {})


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        ({"after": [ABSENT]}, "job.not_found", 404, ABSENT),
        ({"after": [ABSENT[-6:]]}, "job.not_found", 404, ABSENT[-6:]),  # whole ids alone
        ({"after": ["last"]}, "job.not_found", 404, "last"),
        ({"after": ["<script>"]}, "job.not_found", 404, "<script>"),
        ({"after": [GROUP]}, "group.not_found", 404, GROUP),
        ({"after": ["group"]}, "group.not_found", 404, "group"),
        ({"results": {"x": ABSENT}}, "job.not_found", 404, ABSENT),
        ({"results": {"x": GROUP}}, "error", 400, "a group has no result"),
        ({"results": {"x": ABSENT}, "config": {"x": 1}}, "error", 400, "x is in config and in results"),
        ({"after": [ABSENT], "group": GROUP}, "error", 400, "a job of a group can't wait"),
        ({"after_any": True}, "error", 400, "give after, too"),
        ({"after": ABSENT}, "error", 400, "after"),
        ({"results": [ABSENT]}, "error", 400, "results"),
        ({"after": [f"{n:016x}" for n in range(1001)]}, "error", 400, "at most 1,000 others"),
    ],
)
async def test_bad_input(call: Call, body: dict[str, Any], kind: str, status: int, words: str) -> None:
    await deploy(call)
    answer = await call("POST", "local/tasks/hello", body)
    is_error(answer, kind, status=status)
    assert words in answer.json["message"]
    assert (await call("GET", "local/jobs")).json["jobs"] == []


async def test_what_says_nothing(call: Call) -> None:
    await deploy(call)
    job = await submit(call, {"after": [], "results": {}, "after_any": False, "config": {}})
    assert not {"after", "after_any", "inputs"} & (await ended(call, job)).keys()
