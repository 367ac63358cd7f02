"""The client's own ways: what it sends, once; what it makes of answers that are none; what it never says."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from support import request_for
from support.servers import LiveServer, reserved_port
from taskapi_jupyter.client.http import is_loopback
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    Conflict,
    Forbidden,
    JobNotFound,
    JobNotInProgress,
    NotFound,
    StopTimeout,
    TaskAPIError,
    TooLarge,
    Unavailable,
    Unreachable,
)

TOKEN = "s3cret-token"


@dataclass
class Upstream:
    """A server of HTTP that answers as it is told, and remembers what it was asked."""

    answer: tuple[int, dict[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None] = (200, {}, b"{}")
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def json(self, status: int, body: Any) -> None:
        """Answer JSON from now on."""
        self.answer = (status, {"Content-Type": "application/json"}, json.dumps(body).encode())


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Return a server to be told what to answer."""
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            upstream.asked.append((self.command, self.path, headers, body))
            if callable(upstream.answer):
                upstream.answer(self)
                return
            status, headers, body = upstream.answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream.url = f"http://127.0.0.1:{server.server_port}/base/taskapi/local"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield upstream
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    """Return a client of that server."""
    client = Client(upstream.url, TOKEN, {"X-Extra": "yes"}, timeout=5)
    yield client
    client.close()


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_what_is_sent(client: Client, upstream: Upstream) -> None:
    upstream.json(200, {"job_id": "abc", "api_name": "hello"})
    job = client.submit("hello", {"a": [1, "ü"]}, timeout=5, notebook="a.ipynb")
    ((method, path, headers, body),) = upstream.asked
    assert (method, path) == ("POST", "/base/taskapi/local/tasks/hello")
    assert headers["authorization"] == f"token {TOKEN}"
    assert headers["x-extra"] == "yes"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"config": {"a": [1, "ü"]}, "timeout": 5, "notebook": "a.ipynb"}
    assert (job.id, job.status) == ("abc", "pending")
    assert job.endpoint == f"{upstream.url}/tasks/hello?jobID=abc"
    client.submit("hello")
    assert upstream.asked[-1][3] == b"{}"


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "job.not_found", (JobNotFound, 404)),
        (404, "job.not_found", (JobNotFound, 404)),
        (400, "job.job_is_not_in_progress", (JobNotInProgress, 409)),
        (400, "resources.api_not_deployed", (APINotDeployed, 404)),
        (400, "job.stop_timeout", (StopTimeout, 504)),
        (400, "error", (BadRequest, 400)),
        (400, "something.new", (BadRequest, 400)),
        (403, "endpoints.auth_other_account", (Forbidden, 403)),
        (404, "error", (NotFound, 404)),
        (409, "error", (Conflict, 409)),
        (413, "error", (TooLarge, 413)),
        (502, "error", (Unreachable, 502)),
        (503, "error", (Unavailable, 503)),
        (500, "error", (TaskAPIError, 500)),
    ],
)
def test_errors_keep_class_kind_and_text(
    client: Client, upstream: Upstream, status: int, kind: str, expected: tuple[type[TaskAPIError], int]
) -> None:
    error, its_status = expected
    upstream.json(status, {"kind": kind, "message": "as it <was> said"})
    for call in (client.get, lambda: client.submit("x"), lambda: client.stop("abc", "x")):
        with pytest.raises(TaskAPIError) as caught:
            call()
        assert type(caught.value) is error
        assert str(caught.value) == caught.value.message == "as it <was> said"
        assert (caught.value.kind, caught.value.status) == (kind, its_status)


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", b"<html>login</html>"),
        (200, "application/json", b"{"),
        (200, "application/json", b"\xff"),
        (200, "application/json", b'{"a": 1}'),
        (200, "application/json", b"[1]"),
        (204, "application/json", b""),
        (404, "text/html", b"<html>not found</html>"),
        (404, "application/json", b'{"message": "Not Found", "reason": null}'),
        (500, "text/plain", b"oops"),
        (502, "text/html", b"<html>bad gateway</html>"),
    ],
)
def test_answers_of_something_else(
    client: Client, upstream: Upstream, status: int, content_type: str, body: bytes
) -> None:
    upstream.answer = (status, {"Content-Type": content_type}, body)
    for call in (client.get, lambda: client.submit("x"), client.jobs, client.environments):
        with pytest.raises(Unreachable) as caught:
            call()
        text = str(caught.value)
        assert upstream.url in text
        assert f"HTTP {status}" in text
        assert "jupyter server extension list" in text
        assert TOKEN not in text


@pytest.mark.parametrize("status", [401, 403])
def test_not_let_in(client: Client, upstream: Upstream, status: int) -> None:
    upstream.answer = (status, {"Content-Type": "text/html"}, b"<html>who?</html>")
    with pytest.raises(Forbidden, match=f"HTTP {status}"):
        client.get()


def test_redirects_are_not_followed(client: Client, upstream: Upstream) -> None:
    upstream.answer = (302, {"Location": "/login", "Content-Type": "text/html"}, b"")
    with pytest.raises(Unreachable, match="HTTP 302"):
        client.get()
    assert len(upstream.asked) == 1


def test_what_changes_something_is_sent_once(client: Client, upstream: Upstream) -> None:
    upstream.answer = drop
    for call in (
        lambda: client.submit("x"),
        lambda: client.deploy_request(request_for("x", "")),
        lambda: client.stop("abc", "x"),
        lambda: client.delete("x"),
        lambda: client.forget("abc"),
        lambda: client.rerun("abc"),
    ):
        upstream.asked.clear()
        with pytest.raises(Unreachable):
            call()
        assert len(upstream.asked) == 1


def test_what_reads_is_asked_again(client: Client, upstream: Upstream) -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        upstream.json(200, [])
        drop(handler)

    upstream.answer = once
    assert client.get() == []
    assert len(upstream.asked) == 2
    upstream.asked.clear()
    upstream.answer = drop
    with pytest.raises(Unreachable):
        client.get()
    assert len(upstream.asked) == 2


def test_silence(upstream: Upstream) -> None:
    go_on = threading.Event()
    upstream.answer = lambda handler: go_on.wait(30) and None
    client = Client(upstream.url, TOKEN, timeout=0.2)
    try:
        with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
            client.get()
    finally:
        go_on.set()


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{reserved_port()}/taskapi/local"
    with pytest.raises(Unreachable) as caught:
        Client(url, TOKEN).submit("x")
    assert str(caught.value) == (
        f"{url} can't be reached (Connection refused): see whether the Jupyter server there is running"
    )


def test_no_such_host() -> None:
    with pytest.raises(Unreachable, match=r"http://nowhere\.invalid/x"):
        Client("http://nowhere.invalid/x", TOKEN).get()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "nonsense",
        "",
        "http://",
        "http://[::1",
        "http://a b/",
        "http://h:99999/",
        "http://h:x/",
        "http://me:pass@h/",
        "http://h/?token=pass",
        "http://h/#pass",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(TaskAPIError) as caught:
        Client(url, TOKEN).get()
    assert "pass@" not in str(caught.value)
    assert "=pass" not in str(caught.value)


def test_neither_proxies_nor_netrc_here(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{reserved_port()}")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    upstream.json(200, [])
    assert Client(upstream.url, TOKEN).get() == []
    assert upstream.asked[0][2]["authorization"] == f"token {TOKEN}"


def test_proxies_elsewhere(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.json(200, [])
    proxy = upstream.url.partition("/base")[0]
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Client("http://hub.example/taskapi/local", TOKEN).get() == []
    assert upstream.asked[0][1] == "http://hub.example/taskapi/local/get"


@pytest.mark.parametrize(
    ("url", "is_it"),
    [
        ("http://127.0.0.1:8888/", True),
        ("http://127.8.0.1/", True),
        ("https://localhost/", True),
        ("http://lab.localhost:1/", True),
        ("http://[::1]:1/", True),
        ("http://10.0.0.1/", False),
        ("http://localhost.example/", False),
        ("http://127.0.0.1.example/", False),
    ],
)
def test_loopback(url: str, is_it: bool) -> None:
    assert is_loopback(url) is is_it


def test_cookies_are_not_kept(client: Client, upstream: Upstream) -> None:
    upstream.answer = (200, {"Content-Type": "application/json", "Set-Cookie": "a=b; Path=/"}, b"[]")
    client.get()
    client.get()
    assert "cookie" not in upstream.asked[1][2]


def test_the_token_is_in_no_text(client: Client) -> None:
    assert TOKEN not in repr(client)
    assert TOKEN not in str(client)


def test_a_pickle_that_cant_be_loaded(client: Client, upstream: Upstream) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    for pickle in (b"cabsent_module\nThing\n.", b"", b"nonsense"):
        upstream.answer = (200, headers, pickle)
        with pytest.raises(TaskAPIError, match="the result of job abc can't be loaded here"):
            client.result("abc")
    assert upstream.asked[0][2]["accept"] == "application/json, application/octet-stream"
    python = "{}.{}".format(*sys.version_info)
    written = f"#taskapi-loader=cloudpickle#taskapi-python={python}".encode()
    upstream.answer = (200, headers, b"cabsent_module\nThing\n." + written)
    with pytest.raises(TaskAPIError, match=re.escape(f"(a pickle for Python {python} with cloudpickle)")):
        client.result("abc")


def test_a_log_without_its_headers(client: Client, upstream: Upstream) -> None:
    upstream.answer = (200, {"Content-Type": "text/plain"}, b"text")
    with pytest.raises(Unreachable):
        client.log_chunk("abc")


def test_keys_that_are_not_known_are_ignored(client: Client, upstream: Upstream) -> None:
    upstream.json(200, {"job_status": {"job_id": "a", "api_name": "b", "status": "status_running", "x": 1}, "y": 2})
    assert client.get("b", "a").status == "running"


# With a real server


def test_environments(live_server: LiveServer) -> None:
    client = Client(live_server.taskapi, live_server.token)
    assert client.environments().default_environment == "local"


def test_a_wrong_token(live_server: LiveServer) -> None:
    for token in (None, "wrong"):
        with pytest.raises(Forbidden, match="refuses this client"):
            Client(live_server.taskapi, token).get()


def test_a_server_without_the_extension(live_server: LiveServer) -> None:
    with pytest.raises(Unreachable, match="jupyter server extension list"):
        Client(f"{live_server.url}elsewhere/local", live_server.token).get()


def test_another_environment(live_server: LiveServer) -> None:
    with pytest.raises(TaskAPIError, match="'absent'"):
        Client(f"{live_server.url}taskapi/absent", live_server.token).get()


# A server that takes no uploads


def test_a_large_function_and_an_older_server(client: Client, upstream: Upstream) -> None:
    older = {"default_environment": "local", "environments": [], "version": "0.1.0"}
    taken = [{"api": {"spec": {"name": "run", "id": "x"}}, "message": "created run (TaskAPI)"}]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps(older if handler.command == "GET" else taken).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    upstream.answer = answer
    request = DeployRequest(spec={"name": "run"}, pickle=bytes(8 << 20))
    with pytest.raises(Unavailable, match=r"^restart the Jupyter server: it runs taskapi_jupyter 0\.1\.0"):
        client.deploy_request(request)
    assert [method for method, *_ in upstream.asked] == ["GET"]
    client.deploy_request(structs.replace(request, pickle=bytes(2 << 20)))  # it takes as much as that
    method, path, headers, _ = upstream.asked[-1]
    assert (method, path, headers["content-type"]) == ("POST", "/base/taskapi/local/deploy", "application/json")


def test_packages_of_an_older_server(client: Client, upstream: Upstream) -> None:
    older = {"default_environment": "local", "environments": [], "version": "0.4.0", "features": ["groups"]}
    upstream.answer = (200, {"Content-Type": "application/json"}, json.dumps(older).encode())
    for ask in (client.packages, lambda: client.delete_packages("abcd"), client.purge_packages):
        with pytest.raises(Unavailable, match=r"^restart the Jupyter server: it runs taskapi_jupyter 0\.4\.0$"):
            ask()
    assert {path for _, path, *_ in upstream.asked} == {"/base/taskapi/environments"}


def test_who_is_not_let_in_reads_of_the_token(live_server: LiveServer) -> None:
    for token, words in (("wrong", "its token is not, or no longer, valid there"), (None, "it has no token")):
        for ask in (lambda client: client.get(), lambda client: client.submit("hello")):
            with pytest.raises(Forbidden, match=words) as caught:
                ask(Client(live_server.taskapi, token))
            assert live_server.taskapi in str(caught.value)
            assert "TASKAPI_TOKEN" in str(caught.value)
            assert live_server.token not in str(caught.value)
