"""Who is let in, and what hostile input can do: nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LiveServer
from jupyter_server.auth.authorizer import Authorizer
from test_server_contract import ABSENT, Call, deploy, ended, is_error, submit, waiting
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect
from traitlets.config import Config

from taskapi_jupyter.server import handlers

ROUTES = [
    ("POST", "local/tasks/hello"),
    ("GET", "local/tasks/hello?jobID=x"),
    ("DELETE", "local/tasks/hello?jobID=x"),
    ("GET", "local/get"),
    ("GET", "local/get/hello"),
    ("GET", "local/get/hello/x"),
    ("POST", "local/deploy"),
    ("DELETE", "local/delete/hello"),
    ("GET", "local/streamlogs/hello?jobID=x"),
    ("GET", "local/verifycortex"),
    ("GET", "local/jobs"),
    ("GET", "local/jobs/x"),
    ("DELETE", "local/jobs/x"),
    ("GET", "local/jobs/x/log"),
    ("GET", "local/jobs/x/result"),
    ("GET", "local/jobs/x/files"),
    ("GET", "local/jobs/x/files/y"),
    ("POST", "local/jobs/x/rerun"),
    ("GET", "environments"),
    ("GET", "openapi.json"),
    ("GET", "nothing"),
    ("POST", "nothing"),
]


def body_for(method: str) -> str | None:
    return "{}" if method == "POST" else None


def test_every_method_of_every_route_is_guarded() -> None:
    """A method that lacks the guard would let anybody in."""
    from jupyter_server.serverapp import _has_tornado_web_authenticated

    from taskapi_jupyter.server.base import implemented

    for _, handler in handlers.handlers():
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH"):
            if implemented(handler.__new__(handler), method):
                function = getattr(handler, method.lower())
                guarded = _has_tornado_web_authenticated(function)
                assert guarded or hasattr(function, "__allow_unauthenticated"), (handler, method)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_token(call: Call, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "token wrong"}, {"Authorization": "Bearer "}):
        answer = await call(method, path, body_for(method), headers=headers, auth=False)
        assert answer.status == 403
        if "streamlogs" not in path:
            is_error(answer, "error", status=403)


async def test_nothing_is_done_without_a_token(call: Call) -> None:
    await deploy(call)
    for headers in ({}, {"X-XSRFToken": "x", "Cookie": "_xsrf=x"}):
        answer = await call("POST", "local/tasks/hello", {}, headers=headers, auth=False)
        is_error(answer, "error", status=403)
        answer = await call("DELETE", "local/delete/hello", headers=headers, auth=False)
        is_error(answer, "error", status=403)
    assert (await call("GET", "local/jobs")).json["jobs"] == []
    assert len((await call("GET", "local/get")).json) == 1


# A browser's session: a cookie, and no token


async def test_xsrf(call: Call, log_in: Any) -> None:
    await deploy(call)
    cookies = await log_in()
    session = {"Cookie": "; ".join(cookies.values())}
    assert (await call("GET", "local/get", headers=session, auth=False)).status == 200
    for method, path in (("POST", "local/tasks/hello"), ("DELETE", "local/delete/hello")):
        answer = await call(method, path, body_for(method), headers=session, auth=False)
        is_error(answer, "error", status=403)
        assert "_xsrf" in answer.json["message"]
    assert (await call("GET", "local/jobs")).json["jobs"] == []
    xsrf = cookies["_xsrf"].partition("=")[2]
    answer = await call("POST", "local/tasks/hello", {}, headers={**session, "X-XSRFToken": xsrf}, auth=False)
    assert answer.status == 200
    foreign = {**session, "Origin": "http://evil.example"}
    assert (await call("GET", "local/get", headers=foreign, auth=False)).status == 404
    job_id = answer.json["job_id"]
    await ended(call, job_id)
    for path in ("result", "files/x"):  # what another site could embed
        answer = await call(
            "GET",
            f"local/jobs/{job_id}/{path}",
            headers={**session, "Referer": "http://evil.example/"},
            auth=False,
        )
        assert answer.status in (403, 404)
        assert answer.json["kind"] == "error"


# An authorizer that lets users do some things only


class Picky(Authorizer):
    """Lets do what stands in ``allowed``, and remembers what was asked."""

    allowed: set[str] = set()
    asked: list[tuple[str, str]] = []

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return action in self.allowed


class TestAuthorizer:
    @pytest.fixture
    def jp_server_config(self, home: Path) -> Config:
        Picky.asked.clear()
        return Config(
            {
                "ServerApp": {
                    "jpserver_extensions": {"taskapi_jupyter": True},
                    "authorizer_class": Picky,
                }
            }
        )

    @pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "nothing"])
    async def test_each_route_asks_for_its_action(
        self, call: Call, method: str, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Picky, "allowed", set())
        answer = await call(method, path, body_for(method))
        is_error(answer, "error", status=403)
        action = "execute" if "streamlogs" in path else "read" if method == "GET" else "write"
        assert Picky.asked == [(action, "taskapi")]
        monkeypatch.setattr(Picky, "allowed", {action})
        answer = await call(method, path, body_for(method))
        assert answer.status != 403

    async def test_a_reader_reads(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Picky, "allowed", {"read"})
        assert (await call("GET", "local/get")).json == []
        is_error(await call("POST", "local/tasks/x", {}), "error", status=403)
        is_error(await call("DELETE", "local/delete/x"), "error", status=403)


# Websockets


@pytest.fixture
def connect(jp_serverapp: Any, jp_http_port: int, jp_base_url: str) -> Callable[..., Awaitable[Any]]:
    """Return ``await connect(job, headers)``."""

    def connect(job_id: str, headers: dict[str, str]) -> Any:
        url = f"ws://127.0.0.1:{jp_http_port}{jp_base_url}taskapi/local/streamlogs/waiting?jobID={job_id}"
        return websocket_connect(HTTPRequest(url, headers=headers))

    return connect


async def test_who_may_follow(call: Call, connect: Any, tmp_path: Path, jp_auth_header: Any) -> None:
    job_id = await waiting(call, tmp_path)
    token = jp_auth_header["Authorization"].removeprefix("token ")
    login = await call("GET", f"environments?token={token}", auth=False)
    cookies = "; ".join(c.partition(";")[0] for c in login.headers.get_list("Set-Cookie"))
    for headers in (
        {},
        {"Authorization": "token wrong"},
        {"Cookie": cookies, "Origin": "http://evil.example"},
    ):
        with pytest.raises(HTTPClientError) as caught:
            await connect(job_id, headers)
        assert caught.value.code == 403
    for headers in (
        {"Cookie": cookies},
        jp_auth_header,
        {**jp_auth_header, "Origin": "http://other.example"},
    ):
        socket = await connect(job_id, headers)
        assert await socket.read_message() == "waiting\n"
        socket.close()


# Hostile names and paths

HOSTILE = [
    "..",
    "%2e%2e",
    "%2E%2E%2F%2E%2E%2Ftaskapi.db",
    "..%2f..%2ftaskapi.db",
    "..%5c..%5ctaskapi.db",
    "%2Fetc%2Fpasswd",
    "%00",
    "a%00b",
    "%FF",
    "%C3%28",
    "%ED%A0%80",
    "%zz",
    "%",
    "'%20OR%201=1--",
    "%3Cscript%3E",
    "x" * 8000,
    "%F0%9F%92%A9",
    "%0d%0aX-Injected:%20yes",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names(call: Call, name: str) -> None:
    await deploy(call)
    job_id = await submit(call)
    await ended(call, job_id)
    for method, path in (
        ("POST", f"local/tasks/{name}"),
        ("GET", f"local/tasks/{name}?jobID={job_id}"),
        ("GET", f"local/tasks/hello?jobID={name}"),
        ("DELETE", f"local/tasks/hello?jobID={name}"),
        ("GET", f"local/get/{name}"),
        ("GET", f"local/get/hello/{name}"),
        ("DELETE", f"local/delete/{name}"),
        ("GET", f"local/jobs/{name}"),
        ("DELETE", f"local/jobs/{name}"),
        ("GET", f"local/jobs/{name}/log"),
        ("GET", f"local/jobs/{name}/result"),
        ("GET", f"local/jobs/{name}/files"),
        ("GET", f"local/jobs/{job_id}/files/{name}"),
        ("GET", f"local/jobs/{job_id}/files/a/{name}"),
        ("GET", f"local/jobs?cursor={name}"),
        ("GET", f"local/jobs?status={name}"),
        ("GET", f"local/jobs/{job_id}/log?offset={name}"),
        ("GET", f"{name}/get"),
    ):
        answer = await call(method, path, body_for(method))
        assert 400 <= answer.status < 500, (method, path, answer.body)
        assert set(answer.json) == {"kind", "message"}
        assert "X-Injected" not in answer.headers
        assert b"root:" not in answer.body
    answer = await call("GET", f"local/jobs?api={name}")
    assert answer.status in (200, 400)
    assert len((await call("GET", "local/jobs")).json["jobs"]) == 1


@pytest.mark.parametrize("query", ["no_track_activity=%FF", "token=%FF", "_xsrf=%FF"])
async def test_bytes_that_are_no_text_where_jupyter_reads_them(call: Call, query: str) -> None:
    for auth in (True, False):
        answer = await call("GET", f"local/get?{query}", auth=auth)
        assert answer.status in (200, 400, 403)
        answer = await call("POST", f"local/tasks/absent?{query}", {}, auth=auth)
        assert answer.status in (400, 403)
        assert set(answer.json) == {"kind", "message"}


HOSTILE_FILES = """
import os, pathlib

def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])
    (out / "page.html").write_text("<script>alert(1)</script>")
    (out / "picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    (out / "a\\r\\nX-Injected: yes").write_text("x")
    (out / '"; filename=x').write_text("x")
    (out / ".hidden").write_text("x")
    with open(os.fsencode(out) + b"/\\xff\\xfe", "w"):
        pass
    os.symlink("/etc/passwd", out / "link")
    os.symlink("/etc", out / "folder")
    os.symlink("../../../taskapi.db", out / "database")
    os.symlink("loop", out / "loop")
    os.mkfifo(out / "fifo")
    return "<script>alert(1)</script>"
"""


async def test_hostile_files(call: Call) -> None:
    await deploy(call, source=HOSTILE_FILES)
    job_id = await submit(call)
    job = await ended(call, job_id)
    assert job["status"] == "succeeded", (await call("GET", f"local/jobs/{job_id}/log")).body
    answer = await call("GET", f"local/jobs/{job_id}/files")
    paths = {entry["path"] for entry in answer.json["files"]}
    assert {"page.html", "picture.svg", '"; filename=x', ".hidden"} <= paths
    assert not {"link", "folder", "database", "loop", "fifo"} & paths
    for path in ("page.html", "picture.svg", "%22;%20filename=x", "a%0D%0AX-Injected:%20yes", ".hidden"):
        answer = await call("GET", f"local/jobs/{job_id}/files/{path}")
        assert answer.status == 200
        assert answer.headers["Content-Disposition"].startswith("attachment; filename*=utf-8''")
        assert "sandbox" in answer.headers["Content-Security-Policy"].split("; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "X-Injected" not in answer.headers
    for path in ("link", "folder/passwd", "database", "loop", "fifo", "folder", "%FF%FE"):
        answer = await call("GET", f"local/jobs/{job_id}/files/{path}")
        assert answer.status in (400, 404)
    answer = await call("GET", f"local/jobs/{job_id}/result", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"] == "application/json"
    assert "sandbox" in answer.headers["Content-Security-Policy"].split("; ")
    answer = await call("GET", f"local/jobs/{job_id}/log")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Bodies that are too large, over a real connection


@pytest.mark.parametrize("method", ["length", "chunked"])
@pytest.mark.parametrize("megabytes", [11, 40])
def test_large_bodies_get_an_answer(live_server: LiveServer, method: str, megabytes: int) -> None:
    def chunks() -> Any:
        for _ in range(megabytes):
            yield b"x" * (1 << 20)

    for path, status in (("tasks/absent", 400), ("deploy", 400), ("jobs/absent/rerun", 413)):
        body = chunks() if method == "chunked" else b"".join(chunks())
        answer = live_server.fetch("POST", path, data=body)
        assert answer.status_code == status
        assert answer.json() == {
            "kind": "error",
            "message": "the body is larger than 10485760 bytes (10 MiB)",
        }


def test_large_bodies_without_a_token_get_an_answer(live_server: LiveServer) -> None:
    answer = live_server.fetch("POST", "tasks/absent", data=b"x" * (11 << 20), headers={"Authorization": "token wrong"})
    assert answer.status_code == 403
    assert set(answer.json()) == {"kind", "message"}


def test_a_project_over_its_cap(live_server: LiveServer) -> None:
    files = {"config": b"- name: x", "project.zip": b"x" * ((32 << 20) + 1)}
    answer = live_server.fetch("POST", "deploy", files=files)
    assert answer.status_code == 400
    assert "33554432" in answer.json()["message"]


# What nobody foresaw


async def test_an_unforeseen_exception_tells_nothing(call: Call, jp_serverapp: Any) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    store, extension.service.store = extension.service.store, None
    answer = await call("GET", "local/get")
    extension.service.store = store
    is_error(answer, "error", "internal error; the server's log has more", status=500)
    assert b"Traceback" not in answer.body


async def test_no_token_in_any_answer(call: Call, jp_auth_header: Any, tmp_path: Path) -> None:
    token = jp_auth_header["Authorization"].removeprefix("token ").encode()
    job_id = await waiting(call, tmp_path)
    for path in (
        "local/get",
        "local/get/waiting",
        f"local/jobs/{job_id}",
        "local/jobs",
        "environments",
        "openapi.json",
    ):
        answer = await call("GET", path)
        assert answer.status == 200
        assert token not in answer.body
        assert token not in json.dumps(dict(answer.headers)).encode()
    is_error(await call("GET", f"local/tasks/waiting?jobID={ABSENT}"), "job.not_found")
