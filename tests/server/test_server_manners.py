"""HTTP's manners: HEAD, slashes, encodings, bodies that are empty; and what waits holds nobody up."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from support import PATIENCE
from support.homes import supervisor_of
from support.routes import deploy, ended, is_error, submit, waiting
from support.servers import Answer
from taskapi_jupyter.server.routes import ROUTES
from taskapi_jupyter.service.service import Service

Call = Callable[..., Awaitable[Answer]]

LEAVES_A_FILE = """
import os, pathlib

def task(config):
    pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"], "a.txt").write_text("text")
    print("hello")
    return {1, 2} if config.get("pickled") else config
"""


async def test_a_hundred_stops_that_wait_hold_no_deploy_up(
    call: Call, home: Path, tmp_path: Path, http_server_port: Any, jp_base_url: str, jp_auth_header: Any
) -> None:
    await waiting(call, tmp_path)
    supervisor = psutil.Process(supervisor_of(home))
    supervisor.send_signal(signal.SIGSTOP)  # until it goes on, nothing ends
    client = SimpleAsyncHTTPClient(force_instance=True, max_clients=200)
    url = f"http://127.0.0.1:{http_server_port[-1]}{jp_base_url}taskapi/local/tasks/waiting?jobID="
    try:
        jobs = [await submit(call, {"config": {"path": str(tmp_path / "go")}}, "waiting") for _ in range(100)]
        stops = [
            asyncio.ensure_future(client.fetch(url + one, method="DELETE", headers=jp_auth_header, request_timeout=60))
            for one in jobs
        ]
        service = Service(home)
        while not all(service.store.job(one)["stop"] for one in jobs):  # type: ignore[index]
            await asyncio.sleep(0.05)
        service.close()
        await deploy(call)
        assert (await call("GET", f"local/jobs/{jobs[0]}")).status == 200
        assert not any(one.done() for one in stops)
        assert sum(one.name.startswith("taskapi-slow") for one in threading.enumerate()) <= 32
    finally:
        supervisor.send_signal(signal.SIGCONT)
    answers = await asyncio.wait_for(asyncio.gather(*stops), PATIENCE)
    assert {json.loads(answer.body)["message"] for answer in answers} == {f"stopped job {one}" for one in jobs}
    client.close()


async def in_paths(call: Call, deployed: Any, job_id: str) -> dict[str, str]:
    """Return what stands for the names in routes; a group has one job, which has ended, and a schedule is paused."""
    made = (await call("POST", "local/groups", {"api": "hello", "configs": [{}]})).json
    await ended(call, made["job_ids"][0])
    api_id, group = deployed["api"]["spec"]["id"], made["group"]["id"]
    daily = {"api": "hello", "schedule": "@daily", "name": "daily", "active": False}
    name = (await call("POST", "local/schedules", daily)).json["name"]
    ids = {"api_id": api_id, "job_id": job_id, "group": group}
    return {"env": "local", "api": "hello", "path": "a.txt", "name": name, **ids}


# HEAD


async def test_head_is_get_without_the_body(call: Call) -> None:
    deployed = await deploy(call, source=LEAVES_A_FILE)
    job_id = await submit(call, {"config": {"a": 1}})
    pickled = await submit(call, {"config": {"pickled": True}})
    await ended(call, job_id)
    await ended(call, pickled)
    values = await in_paths(call, deployed, job_id)
    paths = [path.removeprefix("/taskapi/").format(**values) for path, handler, _ in ROUTES if "get" in vars(handler)]
    paths = [f"{path}?jobID={job_id}" if "/tasks/" in path else path for path in paths]
    paths += ["local/get/absent", "local/tasks/hello", f"local/jobs/{pickled}/result", f"local/jobs/{job_id}/files/no"]
    assert len(paths) > 20
    for path in paths:
        got, head = await call("GET", path), await call("HEAD", path)
        assert (head.status, head.body) == (got.status, b""), path
        if not path.endswith("/rows"):  # which are streamed
            assert int(head.headers["Content-Length"]) == len(got.body), path
        varying = ("Date", "Set-Cookie", "Transfer-Encoding")
        assert {k: v for k, v in head.headers.get_all() if k not in varying} == {
            k: v for k, v in got.headers.get_all() if k not in varying
        }
        if path.startswith("local/tasks/") or "/streamlogs" not in path:
            assert (await call("HEAD", path, auth=False)).status == 403
    assert (await call("HEAD", "local/deploy")).status == 405


# Slashes


async def test_a_slash_at_the_end_is_the_same_path(call: Call) -> None:
    deployed = await deploy(call, source=LEAVES_A_FILE)
    job_id = (await call("POST", "local/tasks/hello/", {})).json["job_id"]
    await ended(call, job_id)
    values = await in_paths(call, deployed, job_id)
    for path, handler, _ in ROUTES:
        if "get" in vars(handler):
            where, query = path.removeprefix("/taskapi/").format(**values), f"?jobID={job_id}"
            plain, slash = await call("GET", where + query), await call("GET", f"{where}/{query}")
            assert (slash.status, slash.body) == (plain.status, plain.body), path
    assert (await call("GET", "local/get//")).status == 404


# Bodies

ENCODED = [("gzip", gzip.compress(b"{}")), ("br", b"{}"), ("identity, gzip", b"{}")]


@pytest.mark.parametrize("path", ["local/tasks/hello", "local/deploy", "local/jobs/7fffffffffffffff/rerun"])
async def test_a_body_with_an_encoding_is_refused(call: Call, path: str) -> None:
    await deploy(call)
    for encoding, body in ENCODED:
        headers = {"Content-Encoding": encoding}
        answer = await call("POST", path, body, headers=headers)
        is_error(answer, "error", status=415)
        assert f"Content-Encoding '{encoding}'" in answer.json["message"]
        assert (await call("POST", path, body, headers=headers, auth=False)).status == 403
    assert (await call("GET", "local/jobs")).json["jobs"] == []
    assert (await call("POST", path, "{}", headers={"Content-Encoding": "identity"})).status != 415


async def test_a_byte_order_mark_is_skipped(call: Call) -> None:
    await deploy(call)
    bom = b"\xef\xbb\xbf"
    answer = await call("POST", "local/tasks/hello", bom + b'{"config": {"a": 1}}')
    assert answer.json["config"] == {"a": 1}
    await ended(call, answer.json["job_id"])
    assert (await call("POST", f"local/jobs/{answer.json['job_id']}/rerun", bom + b'{"same": true}')).status == 200
    assert (await call("POST", f"local/jobs/{answer.json['job_id']}/rerun", bom)).status == 200
    spec = {"name": "other", "definition": {"path": "task.py"}}
    sent = {"spec": spec, "source": "\ufeffdef task(config):\n    return 7\n"}
    assert (await call("POST", "local/deploy", bom + json.dumps(sent).encode())).status == 200
    job_id = await submit(call, name="other")
    await ended(call, job_id)
    assert (await call("GET", f"local/jobs/{job_id}/result")).json == 7


@pytest.mark.parametrize("path", ["local/tasks/hello", "local/deploy"])
@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=a"])
async def test_an_empty_body_is_named(call: Call, path: str, body: bytes, kind: str) -> None:
    await deploy(call)
    answer = await call("POST", path, body, headers={"Content-Type": kind})
    is_error(answer, "error")
    assert "empty" in answer.json["message"] or (body and kind != "application/json" and "deploy" in path)


# What was sent comes back as text alone

ODD = "\x1b[2J\x7f\x9b5m\u202e\u2028"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "local/tasks/hello?jobID={}"),
        ("GET", "local/tasks/{}?jobID=1"),
        ("GET", "local/get/{}"),
        ("GET", "local/get/hello/{}"),
        ("GET", "local/jobs/{}"),
        ("GET", "local/jobs?limit={}"),
        ("GET", "local/jobs?status={}"),
        ("GET", "local/jobs?cursor={}"),
        ("GET", "local/jobs/7fffffffffffffff/log?offset={}"),
        ("DELETE", "local/delete/hello?keepCache={}"),
        ("DELETE", "local/jobs?older_than={}"),
        ("POST", "local/deploy?force={}"),
        ("GET", "{}/get"),
        ("POST", "local/tasks/{}"),
    ],
)
async def test_no_control_character_comes_back(call: Call, method: str, path: str) -> None:
    from urllib.parse import quote

    answer = await call(method, path.format(quote(ODD)), "{}" if method == "POST" else None)
    assert answer.status in (400, 404)
    assert answer.json["message"].isprintable()
    assert all(line.isprintable() for line in answer.body.decode().splitlines())
    several = [{"name": f"a{n}", "definition": {"path": ODD + ".py"}} for n in range(2)]
    headers = {"Content-Type": "multipart/form-data; boundary=a"}
    told = await call("POST", "local/deploy", *form(json.dumps(several)), headers=headers)
    assert [one["error"].isprintable() for one in told.json] == [True, True]
    names = {"spec": {"name": ODD, "definition": {"path": ODD}, ODD: 1}, "source": ""}
    for refused in (
        await call("POST", "local/deploy", names),
        await call(
            "POST", f"local/deploy?configFileName={quote(ODD)}", *form(f"- name: a\n  kind: {json.dumps(ODD)}\n")
        ),
    ):
        assert refused.status == 400
        assert all(line.isprintable() for line in refused.json["message"].split("\n"))


def form(config: str) -> tuple[bytes]:
    """Return the body of Cortex's form."""
    return (f'--a\r\nContent-Disposition: form-data; name="config"\r\n\r\n{config}\r\n--a--\r\n'.encode(),)


async def test_no_service_worker(call: Call) -> None:
    await deploy(call, source=LEAVES_A_FILE)
    job_id = await submit(call)
    await ended(call, job_id)
    for path in (
        f"local/jobs/{job_id}/files/a.txt",
        f"local/jobs/{job_id}/result",
        "local/get",
        "openapi.json",
        "none",
    ):
        is_error(await call("GET", path, headers={"Service-Worker": "script"}), "error", status=403)
