"""The routes for groups, on a real server, and the client that uses them."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ECHO, PATIENCE, WAITING, request_for
from support.routes import deploy, is_error
from support.servers import Answer, LiveServer
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import BadRequest, Conflict, GroupNotFound, JobFailed

Call = Callable[..., Awaitable[Answer]]
VERSION = "X-Taskapi-Version"


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[Client]:
    client = Client(live_server.taskapi, live_server.token)
    yield client
    client.close()


async def ended(call: Call, group: str) -> dict[str, Any]:
    """Wait until a group has ended, by held requests, and return it."""
    version = ""
    while True:
        answer = await call("GET", f"local/groups/{group}?wait=20{version}")
        found: dict[str, Any] = answer.json["group"]
        if not {"pending", "running"} & found["counts"].keys():
            return found
        version = f"&since={answer.headers[VERSION]}"


async def test_a_group_by_its_routes(call: Call, tmp_path: Path) -> None:
    await deploy(call, "echo", ECHO)
    body = {
        "api": "echo",
        "sweep": {"lr": [0.1, 0.2], "n": [1, 2]},
        "fixed": {"x": "y"},
        "name": "four",
        "max_running": 2,
    }
    made = await call("POST", "local/groups", {**body, "retries": 1, "retry_on": ["worker_oom"]})
    assert made.status == 200
    group, ids = made.json["group"], made.json["job_ids"]
    assert (group["id"], group["name"], group["size"], group["max_running"]) == (f"g{ids[0]}", "four", 4, 2)
    found = await ended(call, "four")
    assert (found["counts"], found["progress"]) == ({"succeeded": 4}, 1.0)
    page = (await call("GET", f"local/groups/{group['id']}?limit=3")).json
    assert [(job["index"], job["group"], job["job_id"]) for job in page["jobs"]] == [
        (n, group["id"], ids[n]) for n in range(3)
    ]
    rest = (await call("GET", f"local/groups/four?cursor={page['next_cursor']}")).json
    assert ([job["index"] for job in rest["jobs"]], rest["next_cursor"]) == ([3], None)
    rows = await call("GET", "local/groups/four/rows")
    assert rows.headers["Content-Type"] == "application/jsonl"
    lines = [json.loads(line) for line in rows.body.splitlines()]
    assert [(line["index"], line["lr"], line["n"], line["x"]) for line in lines] == [
        (0, 0.1, 1, "y"), (1, 0.1, 2, "y"), (2, 0.2, 1, "y"), (3, 0.2, 2, "y"),
    ]  # fmt: skip
    assert [job["job_id"] for job in (await call("GET", "local/jobs?group=four")).json["jobs"]] == ids[::-1]
    listed = (await call("GET", "local/groups")).json
    assert ([one["id"] for one in listed["groups"]], listed["next_cursor"]) == ([group["id"]], None)
    is_error(await call("POST", "local/groups/four/rerun"), "error", status=409)
    again = await call("POST", "local/groups/four/rerun", {"failed": False})
    await ended(call, again.json["group"]["id"])
    first = (await call("GET", "local/groups?limit=1")).json
    assert [one["id"] for one in first["groups"]] == [again.json["group"]["id"]]
    assert (await call("GET", f"local/groups?cursor={first['next_cursor']}")).json["groups"][0]["id"] == group["id"]
    gone = await call("DELETE", f"local/groups/{group['id']}?forget=true")
    assert gone.json == {"message": f"deleted group four ({group['id']}), 4 jobs"}
    is_error(await call("GET", f"local/groups/{group['id']}"), "group.not_found", status=404)


async def test_a_group_in_progress_is_stopped_and_not_deleted(call: Call, tmp_path: Path) -> None:
    await deploy(call, "waiting", WAITING)
    body = {"api": "waiting", "configs": [{"path": str(tmp_path / "go")}] * 5, "max_running": 1}
    group = (await call("POST", "local/groups", body)).json["group"]
    is_error(await call("DELETE", f"local/groups/{group['id']}?forget=true"), "error", status=409)
    stopped = await call("DELETE", f"local/groups/{group['id']}")
    assert stopped.json == {"message": f"stopped 5 jobs of group {group['id']}"}
    assert (await ended(call, group["id"]))["counts"] == {"stopped": 5}


async def test_a_list_with_closed_groups(call: Call, tmp_path: Path) -> None:
    """Jobs and groups stand in the order of their submission, and each page goes on where the last one ended."""
    for api in ("echo", "other"):
        await deploy(call, api, ECHO)
    made: list[str] = []
    for number in range(3):
        made.append((await call("POST", f"local/tasks/{'other' if number else 'echo'}", {"config": {}})).json["job_id"])
        configs = [{"n": 10 * number + n, "word": f"needle{n}"} for n in range(3)]
        body = {"api": "echo", "configs": configs, "name": f"group{number}"}
        made.append((await call("POST", "local/groups", body)).json["group"]["id"])
        await ended(call, made[-1])

    async def listed(more: str) -> tuple[list[str], dict[str, Any]]:
        answer = await call("GET", f"local/jobs?groups=closed&{more}")
        assert answer.status == 200, answer.body
        page = answer.json
        ids = [job["job_id"] for job in page["jobs"]] + [group["id"] for group in page["groups"]]
        assert not any("group" in job for job in page["jobs"])
        return sorted(ids, key=lambda one: one.removeprefix("g")), page

    whole, page = await listed("counts=true")
    assert (whole, page["next_cursor"]) == (made[::-1], None)
    assert sum(page["counts"].values()) == 12
    assert [group["counts"] for group in page["groups"]] == [{"succeeded": 3}] * 3
    for limit in (1, 2, 4):
        found, cursor = list[str](), ""
        while True:
            ids, page = await listed(f"limit={limit}{cursor}")
            found += ids
            assert len(ids) <= limit
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == made[::-1]
    for query, wanted in (
        ("api=other", [made[4], made[2]]),
        ("api=echo&limit=2", [made[5], made[3]]),
        ("status=pending,running", []),
        ("status=succeeded&api=echo", [made[5], made[3], made[1], made[0]]),
        ("search=needle1", [made[5], made[3], made[1]]),
        ("search=group1", [made[3]]),
        (f"search={made[1]}", [made[1]]),
        ("search=nothing", []),
    ):
        assert (await listed(query))[0] == wanted, query
    page = (await call("GET", "local/groups/group1?search=needle&limit=2&status=succeeded")).json
    assert ([job["index"] for job in page["jobs"]], page["searched"]) == ([0, 1], 2)
    page = (await call("GET", f"local/groups/group1?search=needle&cursor={page['next_cursor']}")).json
    assert ([job["index"] for job in page["jobs"]], page["next_cursor"]) == ([2], None)
    assert (await call("GET", "local/groups/group1?status=pending")).json["jobs"] == []
    for query in (
        "groups=open",
        f"groups=closed&group={made[1]}",
        "groups=closed&cursor=12",
        "groups=closed&cursor=a.b",
    ):
        is_error(await call("GET", f"local/jobs?{query}"), "error", status=400)


async def test_requests_are_held(call: Call, tmp_path: Path) -> None:
    await deploy(call, "waiting", WAITING)
    body = {"api": "waiting", "configs": [{"path": str(tmp_path / str(n))} for n in range(2)], "max_running": 1}
    group = (await call("POST", "local/groups", body)).json["group"]["id"]
    while "running" not in (now := await call("GET", f"local/groups/{group}")).json["group"]["counts"]:
        await asyncio.sleep(0.01)
    jobs = await call("GET", f"local/jobs?group={group}")
    waits = [
        asyncio.ensure_future(call("GET", f"local/{path}wait=60&since={answer.headers[VERSION]}"))
        for path, answer in ((f"groups/{group}?", now), (f"jobs?group={group}&", jobs))
    ]
    (tmp_path / "0").touch()
    one, other = await asyncio.wait_for(asyncio.gather(*waits), PATIENCE)
    assert one.headers[VERSION] != now.headers[VERSION]
    assert other.headers[VERSION] != jobs.headers[VERSION]
    (tmp_path / "1").touch()
    assert (await ended(call, group))["counts"] == {"succeeded": 2}


async def test_what_is_refused(call: Call) -> None:
    await deploy(call, "echo", ECHO)
    for body, status, said in (
        ({"api": "echo"}, 400, "give configs, a list of configs, or sweep"),
        ({"api": "echo", "configs": [], "sweep": {}}, 400, "give configs, a list of configs, or sweep"),
        ({"api": "echo", "sweep": {}}, 400, "nothing to sweep"),
        ({"api": "echo", "sweep": {"lr": 3}}, 400, "lr is 3, not a list"),
        ({"api": "echo", "configs": [{}, 3]}, 400, "config 1 is 3, not an object"),
        ({"api": "echo", "configs": [{}], "zip": True}, 400, "zip pairs the lists of a sweep"),
        ({"api": "echo", "configs": [{}], "retries": 101}, 400, "retries must be a whole number from 0 to 100"),
        ({"api": "echo", "configs": [{}], "retry_on": ["x"]}, 400, "unknown status 'x' in retry_on"),
        ({"api": "echo", "configs": [{}], "max_running": 0}, 400, "max_running must be"),
        ({"api": "echo", "configs": [{}], "timeout": 0}, 400, "$.timeout"),
        ({"api": "nope", "configs": [{}]}, 404, "nope is not deployed"),
        ({"configs": [{}]}, 400, "api"),
        ("{", 400, "not valid JSON"),
    ):
        answer = await call("POST", "local/groups", body)
        assert answer.status == status, (body, answer.body)
        assert said in answer.json["message"], (body, answer.json)
    is_error(await call("POST", "local/tasks/echo", {"retries": -1}), "error", status=400)
    is_error(await call("POST", "local/tasks/echo", {"group": "g0000"}), "group.not_found", status=400)
    for method, path in (("GET", ""), ("GET", "/rows"), ("DELETE", ""), ("POST", "/rerun")):
        is_error(await call(method, f"local/groups/none{path}"), "group.not_found", status=404)
    assert (await call("GET", "local/groups")).json == {"groups": [], "next_cursor": None}
    assert (await call("GET", "local/groups", auth=False)).status == 403
    is_error(await call("GET", "local/groups?cursor=x"), "error", status=400)


async def test_a_cluster_has_no_groups(call: Call, home: Path) -> None:
    (home / "environments.yaml").write_text(
        "default_environment: local\nenvironments:\n- name: local\n  provider: local\n"
        "- name: prod\n  provider: cortex\n  operator_endpoint: http://127.0.0.1:9\n"
    )
    for method, path, body in (
        ("GET", "", None), ("POST", "", {"api": "a", "configs": [{}]}), ("GET", "/x", None), ("GET", "/x/rows", None),
        ("DELETE", "/x", None), ("POST", "/x/rerun", {}),
    ):  # fmt: skip
        answer = await call(method, f"prod/groups{path}", body)
        is_error(answer, "environment.not_kept", status=404)
        assert answer.json["message"].startswith("environment prod keeps no groups: a Cortex cluster knows single jobs")


def test_the_client(client: Client, name: str, tmp_path: Path) -> None:
    client.deploy_request(request_for(name, ECHO, compute={"cpu": "10m"}))
    group = client.map(name, ({"n": n} for n in range(4)), name=name, max_running=3)
    assert sorted(job.record.index for job in group.as_completed(PATIENCE)) == [0, 1, 2, 3]
    assert group.results() == [{"n": n} for n in range(4)]
    assert [row["n"] for row in group.rows()] == [0, 1, 2, 3]
    assert client.group(name) == group
    assert client.groups(1)[0] == group
    assert [job.record.index for job in client.jobs(group=group.id)] == [3, 2, 1, 0]
    with pytest.raises(GroupNotFound):
        client.group("..")
    with pytest.raises(BadRequest, match="max_running must be"):
        client.map(name, [{}], max_running=0)
    with pytest.raises(Conflict, match="has no failed jobs"):
        group.rerun()
    assert group.forget() == f"deleted group {name} ({group.id}), 4 jobs"
    with pytest.raises(GroupNotFound):
        group.refresh()


async def test_an_await_of_a_group(client: Client, name: str, tmp_path: Path) -> None:
    source = "def task(config):\n    if config['n']:\n        raise ValueError('no')\n"
    client.deploy_request(request_for(name, source, compute={"cpu": "10m"}))
    group = await client.map(name, [{"n": n} for n in range(2)], retries=1)
    assert group.counts == {"succeeded": 1, "worker_error": 1}
    with pytest.raises(JobFailed):
        group.results()
    assert sorted([job.record.index async for job in group]) == [0, 1]
    job = client.submit(name, {"n": 1}, retries=1, retry_delay=0.01)
    assert (await job).record.attempt == 2
    assert job.wait(follow=False).record.retried_by


RAISES = """
def task(config):
    raise KeyError(config["key"])
"""


async def test_stopping_only_what_is_pending_and_what_a_task_raised(call: Call, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 1\n")
    await deploy(call, "waits", WAITING)
    body = {"config": {"path": str(home / "go")}}
    running, pending = [(await call("POST", "local/tasks/waits", body)).json["job_id"] for _ in range(2)]
    while (await call("GET", f"local/jobs/{running}?wait=20")).json["job_status"]["status"] == "pending":
        pass
    only = "local/tasks/waits?jobID={}&only=pending"
    answer = await call("DELETE", only.format(pending))
    assert (answer.status, answer.json) == (200, {"message": f"stopped job {pending}"})
    is_error(await call("DELETE", only.format(pending)), "job.job_is_not_in_progress")
    is_error(await call("DELETE", only.format(running)), "job.job_is_running")
    is_error(await call("DELETE", f"local/tasks/waits?jobID={running}&only=running"), "error")
    is_error(await call("DELETE", f"local/tasks/other?jobID={running}&only=pending"), "job.not_found")
    assert (await call("GET", f"local/jobs/{running}")).json["job_status"]["status"] == "running"
    is_error(await call("GET", f"local/jobs/{running}/exception"), "error", status=404)
    assert (await call("DELETE", f"local/tasks/waits?jobID={running}")).status == 200

    await deploy(call, "raises", RAISES)
    job = (await call("POST", "local/tasks/raises", {"config": {"key": "<k>"}})).json["job_id"]
    while "end_time" not in (await call("GET", f"local/jobs/{job}?wait=20")).json["job_status"]:
        pass
    answer = await call("GET", f"local/jobs/{job}/exception")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''exception.pkl"
    assert answer.headers["X-Taskapi-Loader"] == "pickle; python={}.{}".format(*sys.version_info)
    assert repr(pickle.loads(answer.body)) == "KeyError('<k>')"
    assert b"raise KeyError" in answer.body
    part = await call("GET", f"local/jobs/{job}/exception", headers={"Range": "bytes=0-3"})
    assert (part.status, part.body) == (206, answer.body[:4])
    assert (await call("GET", f"local/jobs/{job}/exception", auth=False)).status == 403
