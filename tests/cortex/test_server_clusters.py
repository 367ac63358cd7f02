"""Our own routes for a Cortex cluster: the server asks it, and says of what it doesn't keep that it doesn't."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import PATIENCE, until
from support.cortex_double import Operator
from support.routes import ABSENT, SUBMITTED, check, is_error
from support.servers import Answer
from support.upstream import Upstream
from taskapi_jupyter.core.errors import UpstreamTimeout

Call = Callable[..., Awaitable[Answer]]

SECRET = "the-gateway-s-secret"


def configure(home: Path, operator: Operator, **fields: Any) -> None:
    """Make an operator the environment ``prod`` of a home."""
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, "version": operator.version}
    prod |= {"headers": {"X-Gateway": SECRET}, **fields}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))


@pytest.fixture(params=["0.28.0", "0.42.1"])
def operator(request: pytest.FixtureRequest, home: Path) -> Iterator[Operator]:
    """Return a cluster with an API, whose jobs do what the test says; it is the environment ``prod``."""
    with Operator(request.param, manual=True) as operator:
        configure(home, operator)
        operator.deploy("hello")
        yield operator


def cluster_of(app: Any) -> Any:
    """Return the server's own end of ``prod``."""
    return app.web_app.settings["taskapi_jupyter"].backends.clusters.find("prod")


async def submit(call: Call, api: str = "hello", **body: Any) -> str:
    """Submit a job through the proxy."""
    answer = await call("POST", f"prod/tasks/{api}", body)
    assert answer.status == 200, answer.body
    return str(answer.json["job_id"])


async def listed(call: Call, query: str = "") -> list[tuple[str, str]]:
    """Return the jobs that are listed, each with its status."""
    answer = await call("GET", f"prod/jobs?{query}")
    assert answer.status == 200, answer.body
    return [(job["job_id"], job["status"]) for job in answer.json["jobs"]]


async def test_jobs_are_listed_as_those_here(call: Call, operator: Operator) -> None:
    operator.deploy("other")
    operator.other_kinds = True
    first, second, third = [await submit(call, api, config={"a": 1}) for api in ("hello", "other", "hello")]
    operator.start(first)
    operator.start(second)
    operator.finish(first)
    assert [one for one, _ in await listed(call)] == [third, second, first]
    assert dict(await listed(call)) == {third: "pending", second: "running", first: "succeeded"}
    assert await listed(call, "status=running") == [(second, "running")]
    assert await listed(call, "status=running,pending&status=succeeded&api=hello") == [
        (third, "pending"),
        (first, "succeeded"),
    ]
    answer = await call("GET", "prod/jobs?limit=2")
    check(answer.json, {"jobs": list, "next_cursor": str})
    assert answer.headers["Cache-Control"] == "no-store"
    assert await listed(call, f"limit=2&cursor={answer.json['next_cursor']}") == [(first, "succeeded")]
    assert await listed(call, "api=nothing") == []
    for query in ("status=done", "limit=0", "api="):
        is_error(await call("GET", f"prod/jobs?{query}"), "error")


async def test_jobs_in_progress_cost_the_cluster_one_request(call: Call, operator: Operator) -> None:
    operator.deploy("other")
    await submit(call)
    before = len(operator.requests)
    await listed(call, "status=running&status=pending")
    assert [one.path for one in operator.requests[before:]] == ["/get"]


async def test_one_job(call: Call, operator: Operator) -> None:
    job_id = await submit(call, config={"a": 1})
    for query in ("", "?api=hello"):
        answer = await call("GET", f"prod/jobs/{job_id}{query}")
        assert answer.status == 200, answer.body
        check(answer.json, {"job_status": dict, "endpoint": str, "api_spec": dict})
        assert (answer.json["job_status"]["job_id"], answer.json["job_status"]["status"]) == (job_id, "pending")
    is_error(await call("GET", f"prod/jobs/{ABSENT}"), "job.not_found", status=404)
    is_error(await call("GET", f"prod/jobs/{ABSENT}?api=hello"), "job.not_found", status=404)
    is_error(await call("GET", f"prod/jobs/{job_id}?api=gone"), "resources.api_not_deployed", status=404)
    is_error(await call("GET", f"prod/jobs/{job_id}?api="), "error")


async def test_rerun(call: Call, operator: Operator) -> None:
    job_id = await submit(call, config={"a": 1}, timeout=50)
    for query in ("", "?api=hello"):
        answer = await call("POST", f"prod/jobs/{job_id}/rerun{query}", "")
        assert answer.status == 200, answer.body
        assert answer.json.keys() <= SUBMITTED.keys()
        assert (answer.json["config"], answer.json["timeout"]) == ({"a": 1}, 50)
        assert answer.json["job_id"] in operator.jobs
    assert len(operator.jobs) == 3
    is_error(await call("POST", f"prod/jobs/{ABSENT}/rerun", ""), "job.not_found", status=404)
    assert len(operator.jobs) == 3


async def test_what_a_cluster_does_not_keep(call: Call, operator: Operator) -> None:
    job_id = await submit(call)
    for method, path in (
        ("GET", f"jobs/{job_id}/result"),
        ("HEAD", f"jobs/{job_id}/result"),
        ("GET", f"jobs/{job_id}/files"),
        ("GET", f"jobs/{job_id}/files/a/b.txt"),
        ("GET", f"jobs/{job_id}/metrics?names=loss"),
        ("GET", f"jobs/{job_id}/usage"),
        ("GET", f"jobs/{job_id}/log?offset=-10"),
        ("DELETE", f"jobs/{job_id}"),
        ("DELETE", "jobs"),
        ("DELETE", "jobs?api=hello&status=succeeded"),
    ):
        answer = await call(method, f"prod/{path}")
        assert answer.status == 404, (method, path)
        if method != "HEAD":
            is_error(answer, "environment.not_kept", status=404)
            assert answer.json["message"].startswith("prod is a Cortex cluster"), path
    is_error(await call("DELETE", "prod/jobs?status=running"), "error")
    assert job_id in operator.jobs


async def test_a_log_s_note_says_where_it_is(call: Call, operator: Operator) -> None:
    job_id = await submit(call)
    for query in ("", "?api=hello"):
        answer = await call("GET", f"prod/jobs/{job_id}/log{query}")
        assert "can be followed" in answer.json["message"]
    operator.start(job_id)
    operator.finish(job_id)
    answer = await call("GET", f"prod/jobs/{job_id}/log?api=hello")
    is_error(answer, "environment.not_kept", status=404)
    assert f"job {job_id} has ended" in answer.json["message"]
    if operator.version == "0.42.1":
        assert "it has them at http" in answer.json["message"]


async def test_all_else_is_passed_on(call: Call, operator: Operator) -> None:
    await call("GET", "prod/jobs")
    before = len(operator.requests)
    paths = ["/get", f"/tasks/hello?jobID={ABSENT}", f"/jobs/{ABSENT}/more", "/jobsearch", "/a/jobs"]
    for path in paths:
        await call("GET", f"prod{path}")
    assert [one.path for one in operator.requests[before:]] == paths


# Who may, and with what


async def test_only_who_is_let_in(call: Call, operator: Operator) -> None:
    for method, path in (("GET", "jobs"), ("DELETE", "jobs"), ("GET", "jobs/x"), ("POST", "jobs/x/rerun")):
        answer = await call(method, f"prod/{path}", "" if method == "POST" else None, auth=False)
        is_error(answer, "error", status=403)
    assert operator.requests == []


async def test_credentials_go_up_and_nothing_of_them_comes_down(call: Call, operator: Operator, home: Path) -> None:
    job_id = await submit(call)
    before = len(operator.requests)
    answers = [await call("GET", f"prod/{path}") for path in ("jobs", f"jobs/{job_id}", f"jobs/{job_id}/log", "jobs/x")]
    asked = operator.requests[before:]
    assert asked
    assert all(one.header("X-Gateway") == [SECRET] for one in asked)
    assert not [one for one in asked if one.header("Authorization") or one.header("Cookie")]
    assert not [one for one in answers if SECRET in one.body.decode() or SECRET in str(one.headers)]
    configure(home, operator, headers={"X-Gateway": {"env": "NOT_SET_ANYWHERE"}})
    is_error(await call("GET", "prod/jobs"), "environment.credentials", status=503)


# A cluster that does not do as it should


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("reset", "environment.unreachable"), ("half", "environment.unreachable"), ("wrong_json", "error")],
)
async def test_faults(call: Call, operator: Operator, fault: str, kind: str) -> None:
    operator.quirk(fault)
    answer = await call("GET", "prod/jobs")
    is_error(answer, kind, status=502)
    assert "environment prod (http" in answer.json["message"]


@pytest.mark.parametrize(
    ("head", "body", "status", "kind"),
    [
        ("500 Internal Server Error", '{"kind": "broken", "message": "out of order"}', 502, "broken"),
        ("500 Internal Server Error", "<h1>out of order</h1>", 502, "error"),
        ("201 Created", '{"kind": "odd", "message": "created"}', 502, "odd"),
        ("302 Found", "", 502, "error"),
        ("401 Unauthorized", '{"kind": "who", "message": "who are you?"}', 502, "who"),
        ("403 Forbidden", "", 502, "environment.credentials"),
        ("403 Forbidden", '{"kind": "error", "message": "no"}', 502, "environment.credentials"),
        ("400 Bad Request", '{"kind": "error", "message": "no"}', 400, "error"),
    ],
)
async def test_what_a_cluster_refuses(call: Call, home: Path, head: str, body: str, status: int, kind: str) -> None:
    upstream = await Upstream(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()).start()
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": upstream.url, "version": "0.42.1"}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))
    is_error(await call("GET", "prod/jobs"), kind, status=status)
    upstream.server.close()


async def test_a_cluster_that_is_away(call: Call, home: Path) -> None:
    with Operator("0.42.1") as operator:
        configure(home, operator)
    for method, path in (("GET", "jobs"), ("GET", "jobs/x?api=a"), ("POST", "jobs/x/rerun?api=a")):
        answer = await call(method, f"prod/{path}", "" if method == "POST" else None)
        is_error(answer, "environment.unreachable", status=502)
        assert "environment prod (http" in answer.json["message"]


async def test_a_silent_cluster_holds_up_nobody_else(
    call: Call, operator: Operator, home: Path, jp_serverapp: Any
) -> None:
    configure(home, operator, timeout=1)
    operator.quirk("hang")
    cluster = cluster_of(jp_serverapp)
    waiting = [asyncio.ensure_future(call("GET", "prod/jobs"))]
    waiting += [asyncio.ensure_future(cluster.ask(lambda api: api.get())) for _ in range(40)]
    here = [await call("GET", "local/jobs") for _ in range(20)]
    assert {one.status for one in here} == {200}
    answer, *errors = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
    is_error(answer, "environment.timeout", status=504)
    assert {type(error) for error in errors} == {UpstreamTimeout}
    operator.quirks.clear()
    assert await listed(call) == []


async def test_no_thread_is_left(call: Call, operator: Operator, jp_serverapp: Any) -> None:
    await listed(call)
    cluster = cluster_of(jp_serverapp)
    before = set(threading.enumerate())
    await asyncio.gather(*(cluster.ask(lambda api: api.get()) for _ in range(30)))
    until(lambda: set(threading.enumerate()) <= before, "the threads to end")


async def test_a_file_that_is_broken(call: Call, operator: Operator, home: Path) -> None:
    (home / "environments.yaml").write_text("environments: 7")
    answer = await call("GET", "prod/jobs")
    is_error(answer, "error")
    assert "environments.yaml" in answer.json["message"]
    assert (await call("GET", "local/jobs")).status == 200
    (home / "environments.yaml").unlink()
    is_error(await call("GET", "prod/jobs"), "error", status=404)
