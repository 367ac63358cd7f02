"""Who is let in, and what hostile input can do: nothing."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import websocket
from jupyter_server.auth.authorizer import Authorizer
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect
from traitlets.config import Config

from support import ECHO, PATIENCE, request_for
from support.cortex_double import Operator
from support.routes import ABSENT, Call, deploy, ended, is_error, status, submit, waiting
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.server import routes

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

    from taskapi_jupyter.server.handlers.base import implemented

    for _, handler in routes.handlers():
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
    "%252e%252e%252ftaskapi.db",
    "%2E%2E%2F%2E%2E%2Ftaskapi.db",
    "..%2f..%2ftaskapi.db",
    "..%252f..%252ftaskapi.db",
    "..%5c..%5ctaskapi.db",
    "%2Fetc%2Fpasswd",
    "%252Fetc%252Fpasswd",
    "file:%2F%2F%2Fetc%2Fpasswd",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8Ftaskapi.db",  # full width: what normalising would make dots and a slash
    "%E2%80%A4%E2%80%A4",  # dots of a leader
    "%C0%AE%C0%AE%C0%AF",  # dots in more bytes than they need
    "%00",
    "a%00b",
    "log%00.txt",
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
    "%1b%5b2J%1b%5d0;title%07",
    "%E2%80%AEcba",
]


async def test_hostile_names(call: Call) -> None:
    await deploy(call)
    job_id = await submit(call)
    await ended(call, job_id)
    for name in HOSTILE:
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
            ("GET", f"local/jobs/{job_id}/files//{name}"),
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
            assert b"SQLite" not in answer.body
            assert not {character for character in answer.body if character < 32}, (method, path)
        answer = await call("GET", f"local/jobs?api={name}")
        assert answer.status in (200, 400)
    assert len((await call("GET", "local/jobs")).json["jobs"]) == 1
    refusal = {"spec": {"name": "\x1b[31m\r\nX-Injected: yes\u202e", "definition": {"path": "task.py"}}, "source": ECHO}
    answer = await call("POST", "local/deploy", refusal)
    is_error(answer, "error")
    assert answer.json["message"].isprintable()


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
    (out.parent / "progress.json").write_text('{"x": ' + "[" * 60000 + "]" * 5000)
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


# What a task puts where readers look


TRAPS = """
import os, pathlib, shutil, sys

def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])
    job = out.parent
    shutil.rmtree(out)
    os.symlink(config["outside"], out)  # in the place of the folder itself
    os.symlink(config["outside"] + "/secret", job / "result.json")
    os.mkfifo(job / "progress.json")  # would hold whoever reads it
    os.mkfifo(job / "log.00000000000000000003")
    os.symlink(config["outside"] + "/secret", job / "log.00000000000000000009")
    (job / "log.\u00b2").write_text("no number")
    (job / "report").unlink(missing_ok=True)
    os.mkfifo(job / "report")
    print("set", flush=True)
    while not os.path.exists(config["go"]):
        pass
    os._exit(0)
"""


async def printed(call: Call, job_id: str, text: bytes) -> None:
    deadline = time.monotonic() + PATIENCE
    while text not in (await call("GET", f"local/jobs/{job_id}/log")).body:
        assert time.monotonic() < deadline


async def test_traps_in_a_job_s_folder(call: Call, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text('"the secret"')
    await deploy(call, source=TRAPS)
    job_id = await submit(call, {"config": {"outside": str(outside), "go": str(tmp_path / "go")}})
    await status(call, job_id, lambda job: job["status"] == "running")
    await printed(call, job_id, b"set")
    for _ in range(2):  # while it runs, and when it has ended
        for path in ("", "/log", "/log?offset=3", "/result", "/files", "/files/secret", "/files/../secret"):
            answer = await call("GET", f"local/jobs/{job_id}{path}")
            assert b"the secret" not in answer.body, path
            assert answer.status in (200, 404), (path, answer.body)
        assert (await call("GET", f"local/jobs/{job_id}/files")).json == {"files": []}
        assert (await call("GET", "local/jobs")).status == 200
        (tmp_path / "go").touch()
        await ended(call, job_id)
    assert (await call("DELETE", f"local/jobs/{job_id}")).status == 200
    assert (outside / "secret").exists()


SWAPS = """
import os, pathlib

def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])
    (out / "folder").mkdir()
    (out / "folder" / "secret").write_text("inside")
    print("set", flush=True)
    while not os.path.exists(config["go"]):
        (out / "new").write_text("inside")
        os.replace(out / "new", out / "secret")
        os.symlink(config["outside"] + "/secret", out / "new")
        os.replace(out / "new", out / "secret")
        os.mkfifo(out / "new")
        os.replace(out / "new", out / "secret")
        os.rename(out / "folder", out / "away")
        os.symlink(config["outside"], out / "folder")
        os.unlink(out / "folder")
        os.rename(out / "away", out / "folder")
"""


async def test_files_that_are_swapped_while_they_are_read(call: Call, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the secret")
    await deploy(call, source=SWAPS)
    job_id = await submit(call, {"config": {"outside": str(outside), "go": str(tmp_path / "go")}})
    await printed(call, job_id, b"set")
    for _ in range(60):
        for path in ("secret", "folder/secret"):
            answer = await call("GET", f"local/jobs/{job_id}/files/{path}")
            assert (answer.status, answer.body) == (200, b"inside") or answer.status == 404, answer.body
        assert b"outside" not in (await call("GET", f"local/jobs/{job_id}/files")).body
    (tmp_path / "go").touch()
    await ended(call, job_id)


# Pickles: to load one is to run it


PICKLES = """
import os

class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")

def task(config):
    with open(os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], "model.pkl"), "wb") as file:
        import pickle
        pickle.dump(Hostile(config["mark"]), file)
    return Hostile(config["mark"])
"""


class Hostile:
    """What leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        return open, (self.mark, "w")


def test_the_server_loads_no_pickle(live_server: LiveServer, tmp_path: Path, name: str) -> None:
    mark, client = tmp_path / "mark", Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, PICKLES))
    job = client.submit(name, {"mark": str(mark)}).wait(PATIENCE)
    assert job.status == "succeeded", job.logs()
    for path in ("", "/log", "/result", "/files", "/files/model.pkl"):
        for accept in ("*/*", "application/json", "application/octet-stream"):
            answer = live_server.fetch("GET", f"jobs/{job.id}{path}", headers={"Accept": accept})
            assert answer.status_code in (200, 406), answer.text
    for path in ("jobs", "get", f"get/{name}", f"get/{name}/{job.record.api_id}", f"tasks/{name}?jobID={job.id}"):
        assert live_server.fetch("GET", path).status_code == 200
    assert live_server.fetch("POST", f"jobs/{job.id}/rerun", data="{}").status_code == 200
    version = "{}.{}".format(*sys.version_info)
    for definition in ({"python_version": version}, {"path": "x.pickle"}):
        spec = {"name": f"{name}-2", "kind": "TaskAPI", "definition": definition}
        hostile = DeployRequest(spec=spec, pickle=pickle.dumps(Hostile(mark)), python=sys.executable, cwd=str(tmp_path))
        (deployed,) = client.deploy_request(hostile)
        assert deployed.api is not None
    for other in client.jobs():
        other.wait(PATIENCE)
    assert not mark.exists()
    job.result().close()  # in the kernel of whoever asks for it, it is loaded
    assert mark.exists()


# Users who may do some things only, on a real server


USERS = """
from jupyter_server.auth import Authorizer, IdentityProvider, User

ALLOWED = {
    "reader": {"read"}, "writer": {"write"}, "listener": {"execute"}, "nobody": set(), "all": {"read", "write", "execute"}
}


class Tokens(IdentityProvider):
    async def get_user_token(self, handler):
        name = self.get_token(handler)
        return User(name) if name in ALLOWED else await super().get_user_token(handler)


class ByName(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return resource != "taskapi" or action in ALLOWED.get(user.username, ALLOWED["all"])
"""
ALLOWED = {"reader": {"read"}, "writer": {"write"}, "listener": {"execute"}, "nobody": set(), "all": set("rwx")}


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[LiveServer]:
    """Return a server whose users have a token each, their name, and of which ``prod`` is a cluster."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "taskapi_test_users.py").write_text(USERS)
    classes = ("identity_provider_class=taskapi_test_users.Tokens", "authorizer_class=taskapi_test_users.ByName")
    server = start_server(
        folder,
        *(f"--ServerApp.{one}" for one in classes),
        environ={"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
    )
    environment = f"{{name: prod, provider: cortex, version: {operator.version}, operator_endpoint: '{operator.url}'}}"
    (server.home / "environments.yaml").write_text(f"environments:\n- {environment}\n")
    yield server
    stop_server(server)


def ask(server: LiveServer, method: str, path: str, user: str, **headers: str) -> requests.Response:
    """Ask for a path below ``taskapi/`` as a user."""
    headers = {"Authorization": f"token {user}", **headers}
    url = f"{server.url}taskapi/{path}"
    return requests.request(method, url, data=body_for(method), headers=headers, timeout=PATIENCE)


def listen(server: LiveServer, path: str, *headers: str) -> int:
    """Open a websocket and return the status of the answer."""
    url = f"ws{server.url.removeprefix('http')}{path}"
    try:
        websocket.create_connection(url, timeout=PATIENCE, header=list(headers), suppress_origin=True).close()
    except websocket.WebSocketBadStatusException as refused:
        return int(refused.status_code)
    return 101


@pytest.mark.parametrize("user", [*ALLOWED, "stranger"])
def test_what_each_user_may_do(guarded_server: LiveServer, operator: Operator, user: str) -> None:
    server, routes = guarded_server, [route for route in ROUTES if route[1] != "nothing"]
    may = {"read", "write", "execute"} if user == "all" else ALLOWED.get(user, set())
    assert requests.get(f"{server.url}api/contents?token={user}", timeout=PATIENCE).ok == (user != "stranger")
    for method, path in [*routes, *((method, path.replace("local/", "prod/")) for method, path in routes)]:
        action = "execute" if path.startswith("local/streamlogs") else "read" if method == "GET" else "write"
        before = len(operator.requests)
        answer = ask(server, method, path, user)
        refused = answer.status_code == 403
        assert refused == (action not in may), (method, path, answer.text)
        if refused:
            assert set(answer.json()) == {"kind", "message"}
            assert len(operator.requests) == before
    for env in ("local", "prod"):
        seen = listen(server, f"taskapi/{env}/streamlogs/hello?jobID=x", f"Authorization: token {user}")
        assert (seen == 403) == ("execute" not in may), (env, seen)


def test_pages_of_others_hear_nothing(guarded_server: LiveServer) -> None:
    session = requests.Session()
    session.get(f"{guarded_server.url}login?token=all", timeout=PATIENCE)
    session.get(f"{guarded_server.url}api/contents?token=all", timeout=PATIENCE)
    cookies = "Cookie: " + "; ".join(f"{name}={value}" for name, value in session.cookies.items())
    own = "/".join(guarded_server.url.split("/")[:3])
    for path in ("api/events/subscribe", *(f"taskapi/{env}/streamlogs/hello?jobID=x" for env in ("local", "prod"))):
        for origin in ("http://evil.example", "null", f"{own}.evil.example", f"{own}1"):
            assert listen(guarded_server, path, cookies, f"Origin: {origin}") == 403, (path, origin)
        assert listen(guarded_server, path, cookies, f"Origin: {own}") != 403
        assert listen(guarded_server, path, f"Origin: {own}") == 403


# The log of the server


def test_nobody_writes_lines_into_the_server_s_log(guarded_server: LiveServer) -> None:
    forged = "[I 2001-01-01 00:00:00.000 ServerApp] forged"
    host, port = guarded_server.url.split("/")[2].split(":")
    escaped = quote(f"\r\n{forged}\x1b[2J\u202e")
    raw = f"\x1b[2J\u202e\x0b{forged}".encode()
    for method in ("GET", "POST", "DELETE"):
        for path in (
            f"local/tasks/{escaped}?jobID={escaped}",
            f"prod/get/{escaped}",
            f"{escaped}/get",
            f"local/jobs/{escaped}",
        ):
            for token in ("all", "stranger", escaped):
                ask(guarded_server, method, path, token, **{"User-Agent": escaped, "Referer": escaped})
    for token in (b"all", b"stranger"):
        for line, headers in (
            (b"GET %staskapi/local/get/" + raw.replace(b" ", b"") + b" HTTP/1.1", b""),
            (b"GET %staskapi/local/jobs/x HTTP/1.1", b"Referer: " + raw + b"\r\nUser-Agent: " + raw + b"\r\n"),
            (b"GET %staskapi/local/jobs?cursor=" + raw.replace(b" ", b"") + b" HTTP/1.1", b""),
            (raw.replace(b" ", b"") + b" %staskapi/local/jobs HTTP/1.1", b""),
        ):
            with socket.create_connection((host, int(port)), PATIENCE) as connection:
                end = b"\r\nHost: x\r\nConnection: close\r\nAuthorization: token " + token + b"\r\n" + headers + b"\r\n"
                connection.sendall(line.replace(b"%s", b"/some/base/") + end)
                while connection.recv(1 << 16):
                    pass
    text = (guarded_server.home.parent / "server.log").read_text("utf-8", "surrogateescape")
    lines = text.split("\n")
    assert not [line for line in lines if line.startswith("[I 2001")]
    assert not [line for line in lines if not line.replace("\t", "").isprintable()]


# Bodies that are too large, over a real connection


@pytest.mark.parametrize("method", ["length", "chunked"])
@pytest.mark.parametrize("megabytes", [11, 40])
def test_large_bodies_get_an_answer(live_server: LiveServer, method: str, megabytes: int) -> None:
    def chunks() -> Any:
        for _ in range(megabytes):
            yield b"x" * (1 << 20)

    for path, code in (("tasks/absent", 400), ("deploy", 400), ("jobs/absent/rerun", 413)):
        body = chunks() if method == "chunked" else b"".join(chunks())
        answer = live_server.fetch("POST", path, data=body)
        assert answer.status_code == code
        assert answer.json() == {
            "kind": "error",
            "message": "the body is larger than 10 MiB",
        }


def test_large_bodies_without_a_token_get_an_answer(live_server: LiveServer) -> None:
    answer = live_server.fetch("POST", "tasks/absent", data=b"x" * (11 << 20), headers={"Authorization": "token wrong"})
    assert answer.status_code == 403
    assert set(answer.json()) == {"kind", "message"}


def test_a_project_over_its_cap(live_server: LiveServer) -> None:
    files = {"config": b"- name: x", "project.zip": b"x" * ((32 << 20) + 1)}
    answer = live_server.fetch("POST", "deploy", files=files)
    assert answer.status_code == 400
    assert "32 MiB" in answer.json()["message"]


# What nobody foresaw


async def test_an_unforeseen_exception_tells_nothing(call: Call, jp_serverapp: Any) -> None:
    service = jp_serverapp.web_app.settings["taskapi_jupyter"].backends.service
    store, service.store = service.store, None
    answer = await call("GET", "local/get")
    service.store = store
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
