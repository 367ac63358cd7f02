"""The server's own routes, and what the extension does beside answering."""

from __future__ import annotations

import asyncio
import json
import platform
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyter_client.kernelspec import KernelSpecManager

from support import PATIENCE, WAITING, request_for, until
from support.homes import stop_supervisor
from support.records import ended as jobs_that_ended
from support.routes import ABSENT, SUBMITTED, check, deploy, ended, is_error, submit, waiting
from support.servers import Answer, start_server, stop_server
from taskapi_jupyter._version import __version__
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import FEATURES
from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.display.screen import LONG_LINE
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.server.handlers.files import accepts
from taskapi_jupyter.server.handlers.log_stream import CHUNK, Lines
from taskapi_jupyter.service.engine_settings import read

Call = Callable[..., Awaitable[Answer]]


async def test_environments(call: Call, home: Path) -> None:
    answer = await call("GET", "environments")
    assert answer.json == {
        "default_environment": "local",
        "environments": [{"name": "local", "provider": "local"}],
        "version": __version__,
        "features": list(FEATURES),
        "environ": [],
        "max_upload": 512 << 20,
        "home": host.folder_id(home),
    }


async def test_kernels(call: Call) -> None:
    answer = await call("GET", "local/kernels")
    check(answer.json, {"kernels": list})
    (own,) = (one for one in answer.json["kernels"] if one["name"] == "python3")
    check(own, {"name": str, "display_name": str, "language": str, "python": dict})
    assert own["python"] == {"path": sys.executable, "version": platform.python_version()}
    is_error(await call("GET", "nowhere/kernels"), "error", status=404)
    assert (await call("POST", "local/kernels", {})).status == 405


class OfConda(KernelSpecManager):  # type: ignore[misc]
    """Finds what no file describes, as nb_conda_kernels does."""

    def get_all_specs(self) -> dict[str, Any]:
        about = {"argv": ["conda", "run"], "display_name": "Python [conda env:snakes]", "language": "python"}
        return {**super().get_all_specs(), "conda-env-snakes-py": {"resource_dir": "/no", "spec": about}, "odd": {}}


async def test_kernels_that_only_the_server_can_start(call: Call, jp_web_app: Any) -> None:
    before = (await call("GET", "local/kernels")).json["kernels"]
    jp_web_app.settings["kernel_spec_manager"] = OfConda()
    there = (await call("GET", "local/kernels")).json["kernels"]
    (more,) = (one for one in there if one not in before)
    assert (more["name"], more["display_name"]) == ("conda-env-snakes-py", "Python [conda env:snakes]")
    assert more["problem"].startswith("only this server's OfConda finds this kernel, and jobs start without it")
    assert len(there) == len(before) + 1


async def test_the_python_of_a_task_is_in_what_is_answered_of_one(call: Call) -> None:
    await deploy(call)
    job_id = await submit(call)
    told = {"path": sys.executable, "version": platform.python_version()}
    for path in (f"local/jobs/{job_id}", f"local/tasks/hello?jobID={job_id}"):
        assert (await call("GET", path)).json["job_status"]["python"] == told
    ((api,), lists) = (await call("GET", "local/get/hello")).json, (await call("GET", "local/get")).json
    assert api["python"] == told
    version = f"local/get/hello/{api['metadata']['id']}"
    assert [one["python"] for one in (await call("GET", version)).json] == [told]
    assert "python" not in lists[0]
    assert not any("python" in job for job in (*lists[0]["task_job_statuses"], *api["task_job_statuses"]))
    assert "python" not in (await call("GET", "local/jobs")).json["jobs"][0]
    assert "interpreter" not in api["spec"]


async def test_when_the_environment_of_a_task_was_built_is_answered_once_it_is_there(call: Call, home: Path) -> None:
    await deploy(call)
    job_id = await submit(call)
    built = {"path": "/e/bin/python", "version": "3.11.7", "key": "1a2b" * 8}
    with sqlite3.connect(home / "taskapi.db") as rows:
        rows.execute("UPDATE versions SET launch = json_set(launch, '$.interpreter', json(?))", [json.dumps(built)])
    rows.close()

    async def told() -> list[Any]:
        job = (await call("GET", f"local/jobs/{job_id}")).json["job_status"]
        return [job["python"], (await call("GET", "local/get/hello")).json[0]["python"]]

    assert await told() == [built] * 2
    file = HomePaths(home).packages_of(built["key"]).facts
    file.parent.mkdir(parents=True)
    facts = {**built, "python": "/python", "builder": "uv", "built": 1_790_000_000.5, "seconds": 1.25, "size": 1}
    file.write_text(json.dumps({**facts, "requirements": [], "packages": [], "more": "of it"}))
    assert await told() == [{**built, "built": "2026-09-21T14:13:20.500000Z", "seconds": 1.25}] * 2
    for text in ("{", "[]", '{"built": "soon", "seconds": 1}'):
        file.write_text(text)
        assert await told() == [built] * 2


async def test_jobs(call: Call) -> None:
    await deploy(call)
    await deploy(call, "other")
    jobs = [await submit(call, {"config": {"n": n}, "notebook": "a.ipynb"}) for n in range(3)]
    jobs.append(await submit(call, name="other"))
    for job_id in jobs:
        await ended(call, job_id)
    answer = await call("GET", "local/jobs")
    check(answer.json, {"jobs": list, "next_cursor": type(None)})
    assert [job["job_id"] for job in answer.json["jobs"]] == jobs[::-1]
    newest = answer.json["jobs"][-1]
    check(
        newest,
        {
            **SUBMITTED,
            "timeout": type(None),
            "status": str,
            "start_time": str,
            "end_time": str,
            "notebook": str,
            "exit_code": int,
            "usage": dict,
        },
    )

    async def ids(query: str) -> list[str]:
        return [job["job_id"] for job in (await call("GET", f"local/jobs?{query}")).json["jobs"]]

    assert await ids("api=hello") == jobs[2::-1]
    assert await ids("api=hello&limit=2") == jobs[2:0:-1]
    cursor = (await call("GET", "local/jobs?api=hello&limit=2")).json["next_cursor"]
    assert await ids(f"api=hello&limit=2&cursor={cursor}") == jobs[:1]
    assert await ids("status=succeeded&status=stopped") == jobs[::-1]
    assert await ids("status=running,pending") == []
    assert await ids("api=absent") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.0",
        "limit=%D9%A1",
        "limit=99999999999999999999999",
        "status=done",
        "status=",
        "status=running,",
        "cursor=",
        "cursor=%20",
        "cursor=abc",
        "cursor=-1",
        "cursor=9999999999999999999999999",
        "api=",
        "api=%FF",
        "limit=%FF",
    ],
)
async def test_bad_queries_for_jobs(call: Call, query: str) -> None:
    answer = await call("GET", f"local/jobs?{query}".encode().decode("latin-1"))
    is_error(answer, "error")
    assert query.partition("=")[0] in answer.json["message"] or "%FF" in query


async def test_one_job(call: Call) -> None:
    await deploy(call)
    job_id = await submit(call)
    await ended(call, job_id)
    own = await call("GET", f"local/jobs/{job_id}")
    assert own.json == (await call("GET", f"local/tasks/hello?jobID={job_id}")).json


async def test_forget(call: Call, home: Path, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    is_error(await call("DELETE", f"local/jobs/{job_id}"), "error", status=409)
    (tmp_path / "go").touch()
    await ended(call, job_id)
    answer = await call("DELETE", f"local/jobs/{job_id}")
    assert (answer.status, answer.json) == (200, {"message": f"deleted job {job_id}"})
    is_error(await call("DELETE", f"local/jobs/{job_id}"), "job.not_found", status=404)
    assert not (home / "jobs" / job_id).exists()


async def test_purge(call: Call, home: Path, tmp_path: Path) -> None:
    running = await waiting(call, tmp_path)
    await deploy(call)
    jobs = [await submit(call) for _ in range(3)]
    for job_id in jobs:
        await ended(call, job_id)
    for query in ("status=running", "status=succeeded,pending", "status=done", "status=", "api="):
        is_error(await call("DELETE", f"local/jobs?{query}"), "error")
    assert (await call("DELETE", "local/jobs?api=hello&status=stopped&status=timed_out")).json[
        "message"
    ] == "deleted 0 jobs"
    answer = await call("DELETE", "local/jobs?status=succeeded,stopped")
    assert (answer.status, answer.json) == (200, {"message": "deleted 3 jobs"})
    assert [job["job_id"] for job in (await call("GET", "local/jobs")).json["jobs"]] == [running]
    assert [folder.name for folder in (home / "jobs").iterdir()] == [running]
    assert (await call("GET", f"local/jobs/{running}/log")).body == b"waiting\n"
    (tmp_path / "go").touch()
    await ended(call, running)
    assert (await call("DELETE", "local/jobs")).json == {"message": "deleted 1 job"}


async def test_an_api_in_the_query_is_for_clusters(call: Call) -> None:
    await deploy(call)
    job_id = await submit(call)
    await ended(call, job_id)
    await call("DELETE", "local/delete/hello")
    for path in ("", "/log", "/result"):
        assert (await call("GET", f"local/jobs/{job_id}{path}?api=hello")).status == 200


@pytest.mark.parametrize("path", ["", "/log", "/result", "/files", "/files/x"])
async def test_an_unknown_job(call: Call, path: str) -> None:
    answer = await call("GET", f"local/jobs/{ABSENT}{path}")
    is_error(
        answer,
        "job.not_found",
        f"failed to get job state: unable to find TaskAPI job {ABSENT}",
        status=404,
    )


async def test_rerun(call: Call) -> None:
    await deploy(call)
    job_id = await submit(call, {"config": {"a": 1}, "timeout": 50})
    await ended(call, job_id)
    answer = await call("POST", f"local/jobs/{job_id}/rerun", "")
    assert answer.status == 200
    check(answer.json, SUBMITTED)
    assert (answer.json["config"], answer.json["timeout"]) == ({"a": 1}, 50)
    assert answer.json["job_id"] != job_id
    await call("DELETE", "local/delete/hello")
    answer = await call("POST", f"local/jobs/{job_id}/rerun", "")
    is_error(answer, "resources.api_not_deployed", status=404)
    is_error(await call("POST", f"local/jobs/{ABSENT}/rerun", ""), "job.not_found", status=404)


async def test_log(call: Call) -> None:
    await deploy(call, source="def task(config):\n    print('äbc')\n")
    job_id = await submit(call)
    await ended(call, job_id)

    async def piece(query: str) -> tuple[bytes, list[int]]:
        answer = await call("GET", f"local/jobs/{job_id}/log?{query}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.body, [int(answer.headers[f"X-Log-{name}"]) for name in ("Offset", "Next", "Size")]

    assert await piece("") == ("äbc\n".encode(), [0, 5, 5])
    assert await piece("offset=2&limit=2") == (b"bc", [2, 4, 5])
    assert await piece("offset=-2") == (b"c\n", [3, 5, 5])
    assert await piece("offset=99") == (b"", [5, 5, 5])
    assert await piece(f"offset=-{(1 << 63) - 1}") == ("äbc\n".encode(), [0, 5, 5])
    for query in ("offset=x", "offset=1e3", f"offset={1 << 63}", "limit=0", "limit=-1", "limit=99999999999"):
        answer = await call("GET", f"local/jobs/{job_id}/log?{query}")
        is_error(answer, "error")
        assert query.partition("=")[0] in answer.json["message"]


async def test_results(call: Call) -> None:
    await deploy(call, source="def task(config):\n    return [1, 'ü', None]\n")
    job_id = await submit(call)
    await ended(call, job_id)
    for accept in ("application/json", "*/*", "text/html", "application/octet-stream"):
        answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json == [1, "ü", None]
    await deploy(call, source="def task(config):\n    return {1}\n")
    job_id = await submit(call)
    await ended(call, job_id)
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "application/json"})
    is_error(answer, "error", status=406)
    assert "application/octet-stream" in answer.json["message"]
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "application/octet-stream"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    import cloudpickle

    assert cloudpickle.loads(answer.body) == {1}
    python = "{}.{}".format(*sys.version_info)
    assert answer.headers["X-Taskapi-Loader"] == f"pickle; python={python}"
    await deploy(call, source="def task(config):\n    return [(1, 'ü')] * 200_000\n")  # its JSON is made when asked for
    job_id = await submit(call)
    await ended(call, job_id)
    for accept in ("application/json", "*/*"):
        answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json == [[1, "ü"]] * 200_000
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "application/octet-stream"})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert cloudpickle.loads(answer.body) == [(1, "ü")] * 200_000
    await deploy(call, source="class A:\n    pass\n\ndef task(config):\n    return A()\n")
    job_id = await submit(call)
    await ended(call, job_id)
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "application/octet-stream"})
    assert answer.headers["X-Taskapi-Loader"] == f"cloudpickle; python={python}"
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "application/json"})
    assert f"is a pickle for Python {python} with cloudpickle: " in answer.json["message"]
    await deploy(call, source="def task(config):\n    raise SystemExit(1)\n")
    job_id = await submit(call)
    await ended(call, job_id)
    is_error(await call("GET", f"local/jobs/{job_id}/result"), "error", status=404)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("*/*", True),
        ("application/*", True),
        ("application/octet-stream", True),
        ("Application/Octet-Stream ; q=0.5", True),
        ("application/json, */*;q=0.1", True),
        ("application/json", False),
        ("", False),
        ("application/octet-stream;q=0, */*", False),
        ("*/*;q=0, application/octet-stream", True),
        ("text/html;q=x", False),
        ("*/*;q=x", True),
    ],
)
def test_accept(header: str, taken: bool) -> None:
    assert accepts(header, "application/octet-stream") is taken


FILES = """
import os, pathlib

def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])
    (out / "sub").mkdir()
    (out / "sub" / "ü a.bin").write_bytes(bytes(range(256)) * 4000)
    (out / "page.html").write_text("<script>alert(1)</script>")
    (out / "empty").touch()
"""


async def test_files(call: Call) -> None:
    await deploy(call, source=FILES)
    job_id = await submit(call)
    await ended(call, job_id)
    answer = await call("GET", f"local/jobs/{job_id}/files")
    check(answer.json, {"files": list})
    for entry in answer.json["files"]:
        check(entry, {"path": str, "size": int, "modified": str})
    assert [entry["path"] for entry in answer.json["files"]] == ["empty", "page.html", "sub/ü a.bin"]
    whole = bytes(range(256)) * 4000
    path = f"local/jobs/{job_id}/files/sub/%C3%BC%20a.bin"
    answer = await call("GET", path)
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''%C3%BC%20a.bin"
    assert answer.headers["Accept-Ranges"] == "bytes"
    for given, wanted, content_range in (
        ("bytes=0-9", whole[:10], f"bytes 0-9/{len(whole)}"),
        ("bytes=1000000-", whole[1000000:], f"bytes 1000000-{len(whole) - 1}/{len(whole)}"),
        ("bytes=-5", whole[-5:], f"bytes {len(whole) - 5}-{len(whole) - 1}/{len(whole)}"),
    ):
        answer = await call("GET", path, headers={"Range": given})
        assert (answer.status, answer.body) == (206, wanted)
        assert answer.headers["Content-Range"] == content_range
    answer = await call("GET", path, headers={"Range": f"bytes={len(whole)}-"})
    is_error(answer, "error", status=416)
    answer = await call("HEAD", path)
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", str(len(whole)))
    answer = await call("GET", path)
    modified = answer.headers["Last-Modified"]
    answer = await call("GET", path, headers={"If-Modified-Since": modified})
    assert (answer.status, answer.body) == (304, b"")
    answer = await call("GET", f"local/jobs/{job_id}/files/empty")
    assert (answer.status, answer.body) == (200, b"")


async def test_a_file_that_grows_is_answered_as_long_as_it_was(call: Call, tmp_path: Path) -> None:
    source = """
import os, pathlib
def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"], "grows")
    with out.open("wb", buffering=0) as file:
        file.write(b"x")
        print("growing", flush=True)
        while not pathlib.Path(config["path"]).exists():
            file.write(b"x" * 65536)
            if file.tell() > 1 << 28:
                file.truncate(1)
                file.seek(1)
"""
    await deploy(call, source=source)
    job_id = await submit(call, {"config": {"path": str(tmp_path / "go")}})
    deadline = time.monotonic() + PATIENCE
    while not (await call("GET", f"local/jobs/{job_id}/log")).body:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    for _ in range(3):
        answer = await call("GET", f"local/jobs/{job_id}/files/grows", headers={"Range": "bytes=0-99999"})
        assert answer.status in (200, 206)
        assert len(answer.body) == int(answer.headers["Content-Length"])
    (tmp_path / "go").touch()
    await ended(call, job_id)


def test_a_server_that_is_killed_leaves_its_jobs_to_the_next(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    try:
        client = Client(server.taskapi, server.token)
        client.deploy_request(request_for("waiting", WAITING))
        job = client.submit("waiting", {"path": str(tmp_path / "go")})
        until(lambda: client.logs(job) == "waiting\n", "the task to say that it waits")
        server.process.kill()
        server.process.wait()
        with pytest.raises(Unreachable):
            client.submit("waiting")
        server = start_server(tmp_path)
        client = Client(server.taskapi, server.token)
        assert client.job_response(job.id).job_status.status == "running"
        (tmp_path / "go").touch()
        assert client.get("waiting", job.id).wait(PATIENCE).status == "succeeded"
    finally:
        stop_server(server)


# Lines of a stream


def test_lines() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == "a\n"
    assert lines.feed("ü".encode()[:1]) == ""
    assert lines.feed("ü".encode()[1:] + b"\nc") == "bü\n"
    assert lines.feed(b"[dropped]\n", gap=True) == "c\n[dropped]\n"
    assert lines.feed(b"[dropped]\n", gap=True) == "[dropped]\n"
    assert lines.feed(b"x" * LONG_LINE) == ""
    assert lines.feed(b"x") == "x" * (LONG_LINE + 1) + "\n"
    assert lines.feed(b"\xe2\x82") == ""
    assert lines.feed(b"", final=True) == "\ufffd\n"
    assert lines.feed(b"", final=True) == ""


def test_lines_of_a_bar() -> None:
    lines = Lines()
    bar = "".join(f"\rstep {n:06d} {'#' * 60}" for n in range(40_000)).encode()  # 3 MB without a newline
    frames = [lines.feed(bar[at : at + CHUNK]) for at in range(0, len(bar), CHUNK)]
    assert all(frame.endswith("\n") and frame.count("\n") == 1 and len(frame) < 100 for frame in frames)
    assert lines.feed(b"") == f"step 039999 {'#' * 60}\n"  # it stands still
    assert lines.feed(b"") == ""
    assert lines.feed(b"\nnext\n") == "next\n"
    assert lines.feed(b"x\r") == "x\n"
    assert lines.feed(b"\ny\r\n\rz\n") == "y\nz\n"


# Beside answering


async def test_jobs_in_progress_are_activity(call: Call, jp_serverapp: Any, tmp_path: Path) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    await extension.activity.count()
    assert extension.current_activity() is False
    assert not jp_serverapp.extension_manager.any_activity()
    job_id = await waiting(call, tmp_path)
    assert extension.current_activity() is True
    before = datetime.now(timezone.utc)
    assert jp_serverapp.web_app.last_activity() < before
    await extension.activity.count()
    assert jp_serverapp.web_app.last_activity() >= before
    assert jp_serverapp.extension_manager.any_activity()
    (tmp_path / "go").touch()
    await ended(call, job_id)
    await extension.activity.count()
    assert extension.current_activity() is False
    assert not jp_serverapp.extension_manager.any_activity()


async def test_reads_are_no_activity(call: Call, jp_serverapp: Any, jp_ws_fetch: Any, tmp_path: Path) -> None:
    """Pages and panels that are open read for ever: an idle server is to be seen as idle all the same."""
    job_id = await waiting(call, tmp_path)
    (tmp_path / "go").touch()
    await ended(call, job_id)
    before = datetime.now(timezone.utc)
    job = f"local/jobs/{job_id}"
    reads = ["environments", "openapi.json", "local/get", "local/get/waiting", "local/verifycortex", "local/jobs", job]
    reads += [f"{job}/log", f"{job}/result", f"{job}/files", f"local/tasks/waiting?jobID={job_id}", "local/nothing"]
    for path in reads:
        await call("GET", path)
        await call("HEAD", path)
    socket = await jp_ws_fetch("taskapi", "local", "streamlogs", "waiting", params={"jobID": job_id})
    while await socket.read_message() is not None:
        pass
    assert jp_serverapp.web_app.last_activity() < before
    assert (await call("POST", f"{job}/rerun")).status == 200
    assert jp_serverapp.web_app.last_activity() >= before


async def test_activity_can_be_left_unreported(call: Call, jp_serverapp: Any, tmp_path: Path) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    extension.report_activity = False
    await waiting(call, tmp_path)
    before = datetime.now(timezone.utc)
    await extension.activity.count()
    assert extension.current_activity() is False
    assert "taskapi_last_activity" not in jp_serverapp.web_app.settings
    assert jp_serverapp.web_app.last_activity() < before


async def test_the_watch_keeps_counting(jp_serverapp: Any, call: Call, tmp_path: Path) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    await waiting(call, tmp_path)
    await extension._start_jupyter_server_extension(jp_serverapp)
    deadline = time.monotonic() + PATIENCE
    while "taskapi_last_activity" not in jp_serverapp.web_app.settings:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await extension.stop_extension()
    assert extension._watch.done()


async def test_a_look_resumes_what_nobody_supervises(call: Call, jp_serverapp: Any, home: Path, tmp_path: Path) -> None:
    job_id = await waiting(call, tmp_path)
    lock = home / "supervisor.lock"
    before = lock.read_bytes()
    await asyncio.to_thread(stop_supervisor, home, signal.SIGKILL)
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    await extension.activity.count()
    assert extension.current_activity()
    deadline = time.monotonic() + PATIENCE
    while lock.read_bytes() in (before, b""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    (tmp_path / "go").touch()
    assert (await ended(call, job_id))["status"] == "succeeded"


async def test_a_look_after_clusters(call: Call, jp_serverapp: Any, home: Path, tmp_path: Path) -> None:
    """What deleted jobs left in a storage is removed; an environment that can't be used holds no other up."""
    broken = {"name": "a", "provider": "ray", "address": "http://127.0.0.1:1", "headers": {"X": {"env": "NOT_SET"}}}
    good = {"name": "b", "provider": "ray", "address": "http://127.0.0.1:1", "storage": f"local://{tmp_path}/left"}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [broken, good]}))
    (home / "ray" / "a").mkdir(parents=True)
    service = RayService(home / "ray" / "b", environment="b", address=good["address"], storage=good["storage"])
    (job,) = jobs_that_ended(service, 1)
    left = tmp_path / "left" / read(str(service.home))["home_id"] / job
    left.mkdir(parents=True)
    (left / "result.json").write_text("1")
    service.store.forget(job)  # as who deletes does before it is killed
    service.close()
    await jp_serverapp.web_app.settings["taskapi_jupyter"].activity.count()
    await asyncio.to_thread(until, lambda: not left.exists(), "what it left to be removed")
    await asyncio.to_thread(until, lambda: not (service.home / "jobs" / job).exists(), "its folder to be removed")


async def test_slow_stops_hold_nothing_up(call: Call, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 4\n")
    source = """
import signal, time
def task(config):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(1000)
"""
    await deploy(call, "deaf", source, compute={"cpu": "10m"})
    await deploy(call)
    jobs = [await submit(call, name="deaf") for _ in range(5)]
    deadline = time.monotonic() + PATIENCE
    for job_id in jobs:
        while not (await call("GET", f"local/jobs/{job_id}/log")).body:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    stops = [asyncio.ensure_future(call("DELETE", f"local/tasks/deaf?jobID={job_id}")) for job_id in jobs]
    await asyncio.sleep(0)
    for _ in range(5):
        await submit(call)
    assert not any(stop.done() for stop in stops)
    assert [(await stop).status for stop in stops] == [200] * len(jobs)
