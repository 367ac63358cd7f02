"""Every answer and error of the wire contract, over HTTP: exact keys, exact types."""

from __future__ import annotations

import asyncio
import json
import re
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zipfile import ZipFile, ZipInfo

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect

from support import ECHO, PATIENCE, WAITING
from support.routes import ABSENT, ID, SUBMITTED, TIME, Call, check, deploy, ended, is_error, submit, waiting
from taskapi_jupyter.core.contract import MAX_BODY

# Submit and status


async def test_submit_answers_the_documented_keys(call: Call) -> None:
    deployed = await deploy(call)
    answer = await call("POST", "local/tasks/hello", {"config": {"a": 1}, "timeout": 60, "workers": 1})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    check(answer.json, SUBMITTED)
    assert ID.fullmatch(answer.json["job_id"])
    assert TIME.fullmatch(answer.json["created_time"])
    assert answer.json["api_id"] == deployed["api"]["spec"]["id"]
    fixed = {"api_name": "hello", "kind": "TaskAPI", "workers": 1, "config": {"a": 1}, "timeout": 60}
    assert {key: answer.json[key] for key in fixed} == fixed


async def test_absent_keys_are_null(call: Call) -> None:
    await deploy(call)
    for body in ({}, {"config": None, "timeout": None, "workers": None}, {"unknown": [1]}):
        answer = await call("POST", "local/tasks/hello", body)
        check(answer.json, {**SUBMITTED, "config": type(None), "timeout": type(None)})


async def test_ids_descend(call: Call) -> None:
    await deploy(call)
    ids = [await submit(call) for _ in range(5)]
    assert sorted(ids, reverse=True) == ids
    assert len(set(ids)) == 5


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ("1", "object"),
        (b"\xff", "JSON"),
        (b'{"config": {"\xff": 1}}', "JSON"),
        ('{"config": []}', "$.config"),
        ('{"config": "x"}', "$.config"),
        ('{"config": {"x": NaN}}', "JSON"),
        ('{"config": {"x": Infinity}}', "JSON"),
        ('{"config": {"x": 1e999}}', "$.config"),
        ('{"config": {"x": "\\ud800"}}', "JSON"),
        ('{"timeout": 0}', "$.timeout"),
        ('{"timeout": -5}', "$.timeout"),
        ('{"timeout": "5"}', "$.timeout"),
        ('{"timeout": 1.5}', "$.timeout"),
        ('{"timeout": true}', "$.timeout"),
        ('{"timeout": 99999999999999999999}', "$.timeout"),
        ('{"workers": 2}', "$.workers"),
        ('{"workers": "1"}', "$.workers"),
        ('{"notebook": 5}', "$.notebook"),
        ('{"config": ' + '{"a":' * 5000 + "1" + "}" * 5001, "nested"),
    ],
)
async def test_malformed_submissions(call: Call, body: Any, named: str) -> None:
    await deploy(call)
    answer = await call("POST", "local/tasks/hello", body)
    is_error(answer, "error")
    assert named in answer.json["message"]
    assert (await call("GET", "local/jobs")).json["jobs"] == []


async def test_the_cap_of_a_submission(call: Call) -> None:
    await deploy(call, source="def task(config):\n    return len(config['x'])\n")
    frame = len(json.dumps({"config": {"x": ""}}))
    largest = {"config": {"x": "y" * (MAX_BODY - frame)}}
    assert len(json.dumps(largest)) == MAX_BODY
    job_id = await submit(call, largest)
    assert (await ended(call, job_id))["status"] == "succeeded"
    assert (await call("GET", f"local/jobs/{job_id}/result")).json == MAX_BODY - frame
    for more in (1, 1 << 20):
        answer = await call("POST", "local/tasks/hello", {"config": {"x": "y" * (MAX_BODY - frame + more)}})
        is_error(answer, "error", "the body is larger than 10 MiB")
    assert len((await call("GET", "local/jobs")).json["jobs"]) == 1


async def test_a_job_that_waits_and_runs_and_ends(call: Call, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    answer = await call("GET", f"local/tasks/waiting?jobID={job_id}")
    assert answer.status == 200
    check(answer.json, {"job_status": dict, "endpoint": str, "api_spec": dict})
    while_running = {
        **SUBMITTED,
        "timeout": type(None),
        "status": str,
        "python": dict,
        "start_time": str,
        "worker_counts": dict,
    }
    answer.json["job_status"].pop("usage", None)  # there when it has run for a second
    check(answer.json["job_status"], while_running)
    assert answer.json["job_status"]["status"] == "running"
    assert re.fullmatch(rf"http://[^?]+/taskapi/local/tasks/waiting\?jobID={job_id}", answer.json["endpoint"])
    assert answer.json["api_spec"]["name"] == "waiting"
    (tmp_path / "go").touch()
    job = await ended(call, job_id)
    del while_running["worker_counts"]
    check(job, {**while_running, "end_time": str, "exit_code": int, "usage": dict})
    assert job["status"] == "succeeded"
    times = [job[f"{name}_time"] for name in ("created", "start", "end")]
    assert all(TIME.fullmatch(one) for one in times)
    assert sorted(times) == times


async def test_a_pending_job_has_no_start(call: Call, tmp_path: Path) -> None:
    await deploy(call, "waiting", WAITING, compute={"mem": "1Ki"})
    await waiting(call, tmp_path)
    import os

    cores = os.cpu_count() or 1
    jobs = [await submit(call, {"config": {"path": str(tmp_path / "go")}}, "waiting") for _ in range(cores + 1)]
    deadline, job = time.monotonic() + PATIENCE, {"reason": ""}
    while "in line" not in job["reason"] or not job["reason"].startswith("waits"):  # those ahead are about to start
        assert time.monotonic() < deadline, job
        answer = await call("GET", f"local/tasks/waiting?jobID={jobs[-1]}")
        job = answer.json["job_status"]
        assert (job["status"], job["worker_counts"]) == ("pending", {"pending": 1})
    assert job["reason"].startswith(f"waits for 1 of {cores} cores, ")
    pending = {"timeout": type(None), "status": str, "python": dict, "worker_counts": dict, "reason": str}
    check(job, {**SUBMITTED, **pending})
    (tmp_path / "go").touch()
    for job_id in jobs:
        assert (await ended(call, job_id))["status"] == "succeeded"


@pytest.mark.parametrize(
    ("source", "wanted", "exit_code"),
    [
        ("def task(config):\n    raise ValueError('x')\n", "worker_error", 1),
        ("import os\ndef task(config):\n    os._exit(7)\n", "worker_error", 7),
        ("import sys\ndef task(config):\n    sys.exit('bye')\n", "worker_error", 1),
        ("import os\ndef task(config):\n    os.kill(os.getpid(), 9)\n", "worker_error", -9),
        ("def task(config):\n    raise MemoryError\n", "worker_oom", 1),
    ],
)
async def test_how_jobs_end(call: Call, source: str, wanted: str, exit_code: int) -> None:
    await deploy(call, source=source)
    job = await ended(call, await submit(call))
    assert (job["status"], job["exit_code"]) == (wanted, exit_code)
    assert type(job["reason"]) is str


# Stop, delete


async def test_stop(call: Call, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    answer = await call("DELETE", f"local/tasks/waiting?jobID={job_id}")
    assert (answer.status, answer.json) == (200, {"message": f"stopped job {job_id}"})
    assert (await ended(call, job_id))["status"] == "stopped"
    answer = await call("DELETE", f"local/tasks/waiting?jobID={job_id}")
    is_error(
        answer,
        "job.job_is_not_in_progress",
        f"{job_id} (waiting api): cannot stop TaskAPI job because it is not in progress",
    )


async def test_delete(call: Call, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    answer = await call("DELETE", "local/delete/waiting?keepCache=true")
    assert (answer.status, answer.json) == (200, {"message": "deleted waiting"})
    assert (await ended(call, job_id))["status"] == "stopped"
    for method, path in (("DELETE", "local/delete/waiting"), ("GET", "local/get/waiting")):
        is_error(await call(method, path), "resources.api_not_deployed", "waiting is not deployed")


# APIs


async def test_get(call: Call) -> None:
    assert (await call("GET", "local/get")).json == []
    deployed = await deploy(call)
    job_id = await submit(call)
    await ended(call, job_id)
    keys = {"spec": dict, "metadata": dict, "endpoint": str, "task_job_statuses": list}
    (listed,) = (await call("GET", "local/get")).json
    check(listed, {**keys, "job_counts": dict})
    assert listed["job_counts"] == {"succeeded": 1}
    check(listed["metadata"], {"name": str, "kind": str, "id": str, "last_updated": int})
    assert listed["task_job_statuses"] == []
    (one,) = (await call("GET", "local/get/hello")).json
    check(one, {**keys, "python": dict, "api_versions": list})
    assert one["task_job_statuses"][0]["job_id"] == job_id
    api_id = deployed["api"]["spec"]["id"]
    assert one["spec"]["id"] == one["metadata"]["id"] == one["api_versions"][0]["api_id"] == api_id
    (version,) = (await call("GET", f"local/get/hello/{api_id}")).json
    assert version["spec"]["id"] == api_id
    assert one["endpoint"].endswith("/a%40b/taskapi/local/tasks/hello")


async def test_verifycortex(call: Call) -> None:
    answer = await call("GET", "local/verifycortex")
    assert (answer.status, answer.json) == (200, {})


# Errors


@pytest.mark.parametrize(
    ("method", "path", "kind", "message"),
    [
        ("GET", f"tasks/hello?jobID={ABSENT}", "job.not_found", f"{ABSENT} (hello api)"),
        ("DELETE", f"tasks/hello?jobID={ABSENT}", "job.not_found", f"{ABSENT} (hello api)"),
        ("DELETE", f"tasks/absent?jobID={ABSENT}", "job.not_found", f"{ABSENT} (absent api)"),
        ("POST", "tasks/absent", "resources.api_not_deployed", "absent"),
        ("GET", f"tasks/absent?jobID={ABSENT}", "resources.api_not_deployed", "absent"),
        ("GET", "get/absent", "resources.api_not_deployed", "absent"),
        ("DELETE", "delete/absent", "resources.api_not_deployed", "absent"),
        ("GET", "get/hello/absent", "resources.api_id_not_found", "absent"),
        ("GET", "get/absent/absent", "resources.api_id_not_found", "absent"),
        ("GET", "tasks/hello", "endpoints.query_param_required", "jobID"),
        ("GET", "tasks/absent", "endpoints.query_param_required", "jobID"),
        ("GET", "tasks/absent?jobID=", "endpoints.query_param_required", "jobID"),
        ("DELETE", "tasks/absent?jobid=1", "endpoints.query_param_required", "jobID"),
    ],
)
async def test_kinds_of_errors(call: Call, method: str, path: str, kind: str, message: str) -> None:
    await deploy(call)
    texts = {
        "job.not_found": "failed to get job state: unable to find TaskAPI job {}",
        "resources.api_not_deployed": "{} is not deployed",
        "endpoints.query_param_required": "query param required: {}",
        "resources.api_id_not_found": None,
    }
    text = texts[kind]
    body = {} if method == "POST" else None
    is_error(await call(method, f"local/{path}", body), kind, text and text.format(message))


async def test_a_job_of_another_api(call: Call) -> None:
    await deploy(call)
    await deploy(call, "other", ECHO)
    job_id = await submit(call)
    for method in ("GET", "DELETE"):
        answer = await call(method, f"local/tasks/other?jobID={job_id}")
        is_error(
            answer,
            "job.not_found",
            f"failed to get job state: unable to find TaskAPI job {job_id} (other api)",
        )


@pytest.mark.parametrize(
    "path",
    [
        "",
        "local",
        "local/",
        "local/nothing",
        "local/tasks",
        "local/tasks/a/b",
        "local/jobs/a/b",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
async def test_unknown_paths(call: Call, method: str, path: str) -> None:
    body = "{}" if method in ("POST", "PUT", "PATCH") else None
    is_error(await call(method, path, body), "error", status=404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "local/tasks/hello"),
        ("POST", "local/get"),
        ("DELETE", "local/get/hello"),
        ("GET", "local/deploy"),
        ("GET", "local/delete/hello"),
        ("POST", "local/verifycortex"),
        ("PUT", "local/jobs"),
        ("PATCH", "local/jobs/x"),
        ("GET", "local/jobs/x/rerun"),
        ("POST", "environments"),
        ("DELETE", "openapi.json"),
        ("TRACE", "local/get"),
    ],
)
async def test_wrong_methods(call: Call, method: str, path: str) -> None:
    body = "{}" if method in ("POST", "PUT", "PATCH") else None
    answer = await call(method, path, body)
    is_error(answer, "error", status=405)
    assert method not in answer.headers["Allow"].split(", ")


async def test_another_environment(call: Call) -> None:
    for method, path, status_ in (
        ("GET", "get", 400),
        ("POST", "tasks/hello", 400),
        ("GET", "tasks/hello?jobID=x", 400),
        ("GET", "verifycortex", 400),
        ("GET", "jobs", 404),
    ):
        answer = await call(method, f"absent/{path}", {} if method == "POST" else None)
        is_error(answer, "error", status=status_)
        assert "'absent'" in answer.json["message"]


# Deploy

DEPLOYED = {"api": dict, "message": str, "error": str}


async def test_deploy_as_json(call: Call) -> None:
    result = await deploy(call)
    check(result, DEPLOYED)
    check(result["api"], {"spec": dict, "endpoint": str})
    assert (result["message"], result["error"]) == ("created hello (TaskAPI)", "")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", "JSON"),
        ("{}", "spec"),
        ('{"spec": []}', "$.spec"),
        ('{"spec": {}}', "name"),
        ('{"spec": {"name": "x", "kind": "TaskAPI"}, "pickle": "&"}', "$.pickle"),
        ('{"spec": {"name": "x", "kind": "TaskAPI"}, "environ": {"A": 1}}', "$.environ"),
        (
            '{"spec": {"name": "x", "kind": "TaskAPI", "definition": {"path": "a.py"}}, "source": "def"}',
            "x",
        ),
    ],
)
async def test_malformed_deploys(call: Call, body: str, named: str) -> None:
    answer = await call("POST", "local/deploy", body)
    is_error(answer, "error")
    assert named in answer.json["message"]
    assert (await call("GET", "local/get")).json == []


def form(**parts: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body and its headers; an underscore in a name stands for a dot."""
    body = b""
    for key, content in parts.items():
        name = key.replace("_", ".")
        body += (
            f'--xyz\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
            + content
            + b"\r\n"
        )
    return body + b"--xyz--\r\n", {"Content-Type": "multipart/form-data; boundary=xyz"}


def zipped(files: dict[str, str | bytes]) -> bytes:
    """Return a project as a zip."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PROJECT = """
- name: one
  kind: TaskAPI
  definition:
    path: tasks/one.py
"""
ONE = """
import pathlib
from tasks.words import greeting

class Task:
    def __call__(self, config):
        return greeting + pathlib.Path("data.txt").read_text()
"""


async def test_deploy_as_cortex_does(call: Call) -> None:
    files = {"tasks/one.py": ONE, "tasks/words.py": "greeting = 'hello '\n", "data.txt": "world"}
    body, headers = form(config=PROJECT.encode(), project_zip=zipped(files))
    query = urlencode({"force": "false", "configFileName": "cortex.yaml"})
    answer = await call("POST", f"local/deploy?{query}", body, headers=headers)
    assert answer.status == 200, answer.body
    (result,) = answer.json
    check(result, DEPLOYED)
    assert result["message"] == "created one (TaskAPI)"
    job_id = await submit(call, name="one")
    job = await ended(call, job_id)
    assert job["status"] == "succeeded", (await call("GET", f"local/jobs/{job_id}/log")).body
    assert (await call("GET", f"local/jobs/{job_id}/result")).json == "hello world"
    answer = await call("POST", "local/deploy", body, headers=headers)
    assert answer.json[0]["message"] == "one (TaskAPI) is up to date"


async def test_a_dry_run_writes_nothing(call: Call, home: Path) -> None:
    as_json = {"spec": {"name": "one", "definition": {"path": "one.py"}}, "source": ONE, "cwd": str(home)}
    project, headers = form(config=PROJECT.encode(), project_zip=zipped({"tasks/one.py": ONE}))
    upload, _ = form(request=json.dumps(as_json).encode())
    requests: list[tuple[str, Any, dict[str, str]]] = [
        ("?dryRun=true", as_json, {}),
        ("", {**as_json, "dry_run": True}, {}),
        ("?dryRun=true", upload, headers),
        ("?dryRun=true&configFileName=a.yaml", project, headers),
    ]

    def left() -> list[Path]:
        return [one for part in ("apis", "projects") for one in (home / part).glob("*")]

    for query, body, more in requests:
        answer = await call("POST", f"local/deploy{query}", body, headers=more)
        assert answer.status == 200, answer.body
        (result,) = answer.json
        check(result, {**DEPLOYED, "plan": dict})
        assert result["message"] == "would create one (TaskAPI)"
        assert result["plan"]["files"] == {"cell_one.py" if body is not project else "one.py": len(ONE)}
        assert not left()
    assert (await call("GET", "local/get")).json == []
    await call("POST", "local/deploy", project, headers=headers)
    there = left()
    answer = await call("POST", "local/deploy?dryRun=true", project, headers=headers)
    assert (answer.json[0]["message"], left()) == ("one (TaskAPI) is up to date", there)
    is_error(await call("POST", "local/deploy?dryRun=yes", as_json), "error", "dryRun must be true or false, not 'yes'")


async def test_a_form_of_several_says_which_failed(call: Call) -> None:
    config = PROJECT + PROJECT.replace("one", "two") + PROJECT.replace("one", "three")
    files: dict[str, str | bytes] = {
        "tasks/one.py": ECHO,
        "tasks/two.py": "def task(:",
        "tasks/three.py": ECHO,
    }
    body, headers = form(config=config.encode(), project_zip=zipped(files))
    answer = await call("POST", "local/deploy", body, headers=headers)
    assert answer.status == 200
    one, two, three = answer.json
    assert (one["message"], three["message"]) == ("created one (TaskAPI)", "created three (TaskAPI)")
    check(two, {"api": type(None), "message": str, "error": str})
    assert "line 1" in two["error"]


async def test_a_form_without_a_project(call: Call) -> None:
    config = b"""
- name: echo
  kind: TaskAPI
  pod:
    containers:
    - name: main
      command: ["sh", "-c", "echo $GREETING"]
      env: {GREETING: hello}
"""
    body, headers = form(config=config)
    answer = await call("POST", "local/deploy", body, headers=headers)
    assert answer.status == 200, answer.body
    job_id = await submit(call, name="echo")
    assert (await ended(call, job_id))["status"] == "succeeded"
    assert (await call("GET", f"local/jobs/{job_id}/log")).body == b"hello\n"


def link() -> bytes:
    """Return a zip that holds a symbolic link."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        info = ZipInfo("tasks/one.py")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({}, "config"),
        ({"config": b"\xff"}, "UTF-8"),
        ({"config": b"a: ["}, "cortex.yaml"),
        ({"config": b""}, "cortex.yaml"),
        ({"config": PROJECT.encode(), "project_zip": b"no zip"}, "zip"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"../one.py": ONE})}, "leads out"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"/tmp/one.py": ONE})}, "leads out"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"a/../../one.py": ONE})}, "leads out"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"..\\one.py": ONE})}, "leads out"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"a": "", "a/b": ""})}, "one name"),
        ({"config": PROJECT.encode(), "project_zip": link()}, "neither file nor folder"),
        ({"config": PROJECT.encode(), "project_zip": zipped({"other.py": ONE})}, "one.py"),
        ({"config": PROJECT.encode(), "project_zip": zipped({})}, "one.py"),
    ],
)
async def test_malformed_forms(call: Call, home: Path, parts: dict[str, bytes], named: str) -> None:
    body, headers = form(**parts)
    answer = await call("POST", "local/deploy?configFileName=cortex.yaml", body, headers=headers)
    is_error(answer, "error")
    assert named in answer.json["message"]
    assert (await call("GET", "local/get")).json == []
    assert not list(home.parent.rglob("one.py"))
    assert not list(home.glob("projects/*"))


async def test_a_zip_that_unpacks_to_too_much(call: Call, home: Path) -> None:
    from zipfile import ZIP_DEFLATED

    buffer = BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for n in range(9):
            archive.writestr(f"zeros{n}", bytes(32 << 20))
    body, headers = form(config=PROJECT.encode(), project_zip=buffer.getvalue())
    answer = await call("POST", "local/deploy", body, headers=headers)
    is_error(answer, "error", "project.zip holds more than 256 MiB")
    assert not list(home.glob("projects/*"))


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=abc"])
async def test_a_form_that_is_none(call: Call, content_type: str) -> None:
    answer = await call("POST", "local/deploy", b"x", headers={"Content-Type": content_type})
    is_error(answer, "error")


# The log as a stream


@pytest.fixture
def stream(jp_serverapp: Any, jp_http_port: int, jp_base_url: str, jp_auth_header: Any) -> Any:
    """Return ``await stream(path below local/)``: a websocket."""
    from tornado.httpclient import HTTPRequest

    def connect(path: str, **headers: str) -> Any:
        url = f"ws://localhost:{jp_http_port}{jp_base_url}taskapi/local/{path}"
        return websocket_connect(HTTPRequest(url, headers={**jp_auth_header, **headers}))

    return connect


async def test_stream_follows_to_the_end(call: Call, stream: Any, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    socket = await stream(f"streamlogs/waiting?jobID={job_id}")
    assert await socket.read_message() == "waiting\n"
    (tmp_path / "go").touch()
    assert await socket.read_message() is None
    assert socket.close_code == 1000
    assert (await ended(call, job_id))["status"] == "succeeded"


async def test_stream_is_whole_lines_of_text(call: Call, stream: Any) -> None:
    source = """
import os
def task(config):
    for piece in ("a\\n\\u00fc".encode()[:-1], b"\\xbc\\n", b"\\xff", b"\\r\\n", b"no end \\xe2\\x82"):
        os.write(1, piece)
    os.write(1, b"x" * 3_000_000)
"""
    await deploy(call, source=source)
    socket = await stream(f"streamlogs/hello?jobID={await submit(call)}")
    frames = []
    while (frame := await socket.read_message()) is not None:
        frames.append(frame)
    assert all(type(frame) is str and frame.endswith("\n") for frame in frames)
    text = "".join(frames)
    assert text.startswith("a\nü\n\ufffd\nno end \ufffdxxx")
    assert text.count("x") == 3_000_000
    assert socket.close_code == 1000


async def test_stream_of_a_bar_is_its_states(call: Call, stream: Any, tmp_path: Path) -> None:
    source = """
import pathlib, sys, time
def task(config):
    for n in range(50_000):
        sys.stdout.write(f"\\rstep {n} " + "#" * 60)
    sys.stdout.flush()
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    print("\\ndone")
"""
    await deploy(call, source=source)
    job_id = await submit(call, {"config": {"path": str(tmp_path / "go")}})
    socket = await stream(f"streamlogs/hello?jobID={job_id}")
    frames = []
    while (frame := await socket.read_message()) is not None:
        frames.append(frame)
        if frame.startswith("step 49999 "):  # though it has no end yet
            (tmp_path / "go").touch()
    assert frames[-1] == "done\n"
    assert "".join(frames).count("step 49999 ") == 1
    assert max(map(len, frames)) < 1000
    assert all(frame.endswith("\n") and "\r" not in frame for frame in frames)


async def test_stream_of_a_job_that_is_deleted_meanwhile(call: Call, stream: Any, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    socket = await stream(f"streamlogs/waiting?jobID={job_id}")
    assert await socket.read_message() == "waiting\n"
    await call("DELETE", "local/delete/waiting")
    assert await socket.read_message() is None
    assert socket.close_code == 1000


async def test_a_stream_ends_with_its_client(call: Call, stream: Any, tmp_path: Path, jp_serverapp: Any) -> None:
    job_id = await waiting(call, tmp_path)
    socket = await stream(f"streamlogs/waiting?jobID={job_id}")
    assert await socket.read_message() == "waiting\n"
    followers = jp_serverapp.web_app.settings["taskapi_jupyter"].backends.followers
    assert len(followers) == 1
    socket.close()
    deadline = time.monotonic() + PATIENCE
    while followers:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("streamlogs/hello", "endpoints.query_param_required"),
        (f"streamlogs/hello?jobID={ABSENT}", "job.not_found"),
        (f"streamlogs/absent?jobID={ABSENT}", "resources.api_not_deployed"),
    ],
)
async def test_refused_streams(call: Call, stream: Any, path: str, kind: str) -> None:
    await deploy(call)
    with pytest.raises(HTTPClientError) as caught:
        await stream(path)
    response = caught.value.response
    assert response is not None
    assert response.code == 400
    assert json.loads(response.body)["kind"] == kind


async def test_a_stream_asked_for_without_an_upgrade(call: Call) -> None:
    is_error(await call("GET", f"local/streamlogs/hello?jobID={ABSENT}"), "error")
