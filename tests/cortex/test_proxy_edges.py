"""What happens at the edges of a request for a cluster: in the middle of a change, a handshake or an answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado
import trustme
import yaml
from jupyter_server.auth import Authorizer
from tornado.httpclient import HTTPClientError
from tornado.web import Application

from support import PATIENCE
from support.upstream import JSON, Asked, Logs, Upstream, configure, hang, read_body

HANDSHAKE = ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")


async def test_what_is_only_informative_is_no_answer(cluster: Upstream, raw: Any) -> None:
    cluster.answer = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + JSON
    status, headers, body = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert (status, body) == (200, b"{}")
    assert "link" not in headers


@pytest.mark.parametrize("query", ["?", "?&", "?a", "?a=&a=&=b", "?x=%23%00&y=%ff"])
async def test_queries_as_they_came(cluster: Upstream, raw: Any, query: str) -> None:
    await raw(f"GET {{base}}taskapi/prod/get{query} HTTP/1.1")
    assert cluster.asked[0].line == f"GET /get{query} HTTP/1.1"


@pytest.mark.parametrize("target", ["get?a=b#c", "get#c", "get?a=b\x7f", "get?\xe9", "g\xe9t"])
async def test_what_no_url_holds(cluster: Upstream, raw: Any, target: str) -> None:
    status, _, _ = await raw(f"GET {{base}}taskapi/prod/{target} HTTP/1.1")
    assert status == 400
    assert cluster.asked == []


async def test_nothing_is_added_to_a_post(cluster: Upstream, raw: Any) -> None:
    await raw("POST {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 2", body=b"{}")
    assert "content-type" not in cluster.asked[0].headers


async def test_the_clusters_version_stands_alone(cluster: Upstream, raw: Any) -> None:
    await raw("GET {base}taskapi/prod/get HTTP/1.1", "CortexAPIVersion: 9.9", "Origin: http://127.0.0.1:1")
    (asked,) = cluster.asked
    assert [line for line in asked.head.lower().split(b"\r\n") if line.startswith(b"cortexapiversion")] == [
        b"cortexapiversion: 0.28.0"
    ]
    assert "origin" not in asked.headers


async def test_jupyter_answers_for_other_origins_itself(cluster: Upstream, call: Any) -> None:
    assert (await call("OPTIONS", "prod/tasks/a")).status in (200, 204)
    assert cluster.asked == []


async def test_one_policy_comes_down(cluster: Upstream, raw: Any) -> None:
    cluster.answer = JSON.replace(b"\r\n\r\n", b"\r\nContent-Security-Policy: default-src *\r\n\r\n")
    _, headers, _ = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert len(headers["content-security-policy"]) == 1


async def test_lengths_that_are_said_twice(cluster: Upstream, raw: Any) -> None:
    cluster.answer = JSON.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2")
    status, headers, body = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert (status, headers["content-length"], body) == (200, ["2"], b"{}")


@pytest.mark.parametrize("length", ["abc", "3, 2", "-1"])
async def test_an_answers_lengths_that_are_none(cluster: Upstream, call: Any, length: str, caplog: Any) -> None:
    cluster.answer = JSON.replace(b"Content-Length: 2", f"Content-Length: {length}".encode())
    answer = await call("GET", "prod/get")
    assert (answer.status, answer.json["kind"]) == (502, "environment.unreachable")
    assert not [one for one in caplog.records if one.exc_info]


@pytest.mark.parametrize("length", ["abc", "1_0", "-1", "5, 6"])
async def test_lengths_that_are_none(cluster: Upstream, raw: Any, length: str, caplog: Any) -> None:
    status, _, _ = await raw("POST {base}taskapi/prod/tasks/a HTTP/1.1", f"Content-Length: {length}", body=b"{}")
    assert status == 400
    assert not [one for one in caplog.records if one.exc_info]


async def test_a_change_leaves_what_is_under_way_alone(
    home: Path, upstream: Upstream, call: Any, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    os.mkfifo(key)  # who reads it waits until somebody writes
    configure(home, upstream.url, headers={"X-Key": {"file": str(key)}})
    first = [asyncio.create_task(call("GET", "prod/first")) for _ in range(2)]
    while len([one for one in threading.enumerate() if one.name.startswith("taskapi-prod")]) < 2:
        await asyncio.sleep(0.01)
    configure(home, upstream.url, timeout=7)
    assert (await call("GET", "prod/second")).status == 200
    while not all(one.done() for one in first):
        with contextlib.suppress(OSError):  # nobody reads now
            fd = os.open(key, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"k")
            os.close(fd)
        await asyncio.sleep(0.01)
    assert [(await one).status for one in first] == [200] * 2


async def test_who_leaves_in_the_middle_leaves_no_trace(
    cluster: Upstream, http_server_port: Any, jp_base_url: str, jp_auth_header: Any, call: Any, caplog: Any
) -> None:
    left = asyncio.Event()

    async def flood(reader: Any, writer: Any, asked: Asked) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        try:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        finally:
            left.set()

    await call("GET", "local/get")
    cluster.answer = flood
    for _ in range(3):
        left.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
        token = jp_auth_header["Authorization"]
        writer.write(
            f"GET {jp_base_url}taskapi/prod/get HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n".encode()
        )
        await reader.readexactly(1 << 20)
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), PATIENCE)
    await call("GET", "local/get")
    assert not [
        one.getMessage()
        for one in caplog.records
        if one.exc_info or (one.levelno >= logging.ERROR and "file://" not in one.getMessage())
    ]


async def test_a_cluster_that_does_not_say_its_version(home: Path, upstream: Upstream, call: Any) -> None:
    one = {"name": "prod", "provider": "cortex", "operator_endpoint": upstream.url, "timeout": 1.0}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [one]}))
    upstream.answer = hang
    loop = asyncio.get_running_loop()
    begin = loop.time()
    answers = await asyncio.gather(*(call("GET", "prod/get") for _ in range(8)))
    assert {(one.status, one.json["kind"]) for one in answers} == {(504, "environment.timeout")}
    assert loop.time() - begin < 6


async def test_a_version_that_is_not_said_delays_nobody(home: Path, upstream: Upstream, opened: Any, call: Any) -> None:
    quick = await Upstream().start()
    both: list[dict[str, Any]] = [
        {"name": name, "provider": "cortex", "operator_endpoint": one.url}
        for name, one in (("prod", upstream), ("quick", quick))
    ]
    both[1]["version"] = "0.28.0"
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": both}))
    upstream.answer = hang
    slow = [(await opened("GET {base}taskapi/prod/get HTTP/1.1"))[1] for _ in range(40)]
    assert (await asyncio.wait_for(call("GET", "quick/get"), 8)).status == 200
    for writer in slow:
        writer.close()
    quick.server.close()


async def test_a_broken_file_is_said_at_every_path(cluster: Upstream, call: Any, home: Path) -> None:
    (home / "environments.yaml").write_text("environments: 7")
    assert (await call("GET", "prod/info", auth=False)).status == 403
    assert (await call("GET", "local/get")).status == 200  # this machine needs no file
    for path in ("prod/get", "prod/info", "prod/any/thing"):
        answer = await call("GET", path)
        assert (answer.status, "environments.yaml" in answer.json["message"]) == (400, True), path


async def test_activity(cluster: Upstream, call: Any, jp_serverapp: Any) -> None:
    settings = jp_serverapp.web_app.settings
    settings.pop("api_last_activity", None)
    await call("GET", "prod/get")
    assert "api_last_activity" not in settings  # a page that polls keeps no server
    await call("POST", "prod/tasks/a", "{}")
    assert "api_last_activity" in settings


# Websockets


async def test_large_frames_both_ways(logs: type[Logs], listen: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "max_message_size", 1 << 25)
    stream = await listen()
    await stream.write_message("x" * (11 << 20))
    assert len(await asyncio.wait_for(logs.messages.get(), PATIENCE)) == 11 << 20
    stream.close()


async def test_credentials_that_are_not_there(home: Path, upstream: Upstream, listen: Any) -> None:
    configure(home, upstream.url, headers={"X-Key": {"env": "NO_SUCH_VARIABLE"}})
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 503
    assert json.loads(refused.value.response.body)["kind"] == "environment.credentials"
    assert upstream.asked == []


async def test_a_refusals_page_does_not_run_here(cluster: Upstream, listen: Any) -> None:
    page = b"<script>1</script>"
    cluster.answer = (
        b"HTTP/1.1 403 No\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n%s"
        % (
            len(page),
            page,
        )
    )
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    headers = refused.value.response.headers
    assert (refused.value.code, refused.value.response.body) == (403, page)
    assert "sandbox" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert "Set-Cookie" not in headers or "a=b" not in headers["Set-Cookie"]


async def test_who_leaves_during_the_handshake(
    logs: type[Logs], http_server_port: Any, jp_base_url: str, jp_auth_header: Any, call: Any, monkeypatch: Any
) -> None:
    here, go = asyncio.Event(), asyncio.Event()
    get = logs.get

    async def wait(self: Any, *args: Any) -> None:
        here.set()
        await go.wait()
        await get(self, *args)

    monkeypatch.setattr(logs, "get", wait)
    await call("GET", "local/get")
    _, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
    token = jp_auth_header["Authorization"]
    lines = [f"GET {jp_base_url}taskapi/prod/streamlogs/a HTTP/1.1", "Host: localhost", f"Authorization: {token}"]
    writer.write("\r\n".join([*lines, "Connection: Upgrade", *HANDSHAKE, "", ""]).encode())
    await asyncio.wait_for(here.wait(), PATIENCE)
    writer.close()
    await asyncio.sleep(0.1)
    go.set()
    assert (await asyncio.wait_for(logs.closed.get(), PATIENCE))[0] == 1001


@pytest.mark.parametrize("path", ["a?x=1#y", "a?x=\xe9"])
async def test_a_websocket_of_no_url(cluster: Upstream, raw: Any, path: str) -> None:
    status, _, _ = await raw(
        f"GET {{base}}taskapi/prod/streamlogs/{path} HTTP/1.1",
        *HANDSHAKE,
    )
    assert status == 400
    assert cluster.asked == []


class TestWhereEveryRouteMustAskForAUser:
    @pytest.fixture
    def jp_server_config(self, home: Path) -> dict[str, Any]:
        return {"ServerApp": {"jpserver_extensions": {"taskapi_jupyter": True}, "allow_unauthenticated_access": False}}

    async def test_clusters_are_reached_by_who_is_let_in(self, cluster: Upstream, call: Any) -> None:
        assert (await call("GET", "prod/get", auth=False)).status == 403
        assert cluster.asked == []
        assert (await call("GET", "prod/get")).status == 200
        assert (await call("POST", "prod/tasks/a", "{}")).status == 200


# Who is let in: a browser's session, and users who may do some things only


async def test_a_browsers_session_needs_its_xsrf_token(cluster: Upstream, call: Any, log_in: Any) -> None:
    cookies = await log_in()
    session = {"Cookie": "; ".join(cookies.values())}
    for method, body in (("POST", "{}"), ("DELETE", None), ("PUT", "{}"), ("PATCH", "{}")):
        assert (await call(method, "prod/tasks/a", body, headers=session, auth=False)).status == 403
    assert cluster.asked == []
    xsrf = {**session, "X-XSRFToken": cookies["_xsrf"].partition("=")[2]}
    assert (await call("GET", "prod/get", headers=session, auth=False)).status == 200
    assert (await call("POST", "prod/tasks/a", "{}", headers=xsrf, auth=False)).status == 200
    assert [{"cookie", "x-xsrftoken"} & set(one.headers) for one in cluster.asked] == [set(), set()]


async def test_who_may_not_execute_opens_no_websocket(
    logs: type[Logs], listen: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Writer(Authorizer):
        def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
            return resource == "taskapi" and action in ("read", "write")

    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", Writer(parent=jp_serverapp))
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 403
    assert logs.seen == []


async def test_nothing_is_sent_while_it_is_not_known_who_asks(
    cluster: Upstream, opened: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nobody(Authorizer):
        def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
            return False

    one = await opened("POST {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 4", auth=False)
    _, asking = await opened("OPTIONS {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 4", auth=False)
    await asyncio.sleep(0.3)
    asking.close()
    assert cluster.asked == []
    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", Nobody(parent=jp_serverapp))
    two = await opened("POST {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 4")
    await asyncio.sleep(0.3)
    assert cluster.asked == []
    for reader, writer in (one, two):
        writer.write(b"body")
        assert b" 403 " in await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
    assert cluster.asked == []


# At whose pace


FORM = "Content-Type: multipart/form-data; boundary=x"


@pytest.fixture
def opened(call: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any) -> Any:
    """Return ``await opened(line, headers)``: a connection on which the head of a request was sent."""

    async def opened(line: str, *headers: str, auth: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await call("GET", "local/get")  # the server is up
        reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1], limit=1 << 16)
        user = [f"Authorization: {jp_auth_header['Authorization']}"] if auth else []
        lines = [line.replace("{base}", jp_base_url), "Host: localhost", *user, *headers, "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        return reader, writer

    return opened


async def test_who_uploads_slowly_is_waited_for(home: Path, upstream: Upstream, opened: Any) -> None:
    configure(home, upstream.url, timeout=0.3)
    reader, writer = await opened("POST {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 4")
    for piece in (b"ab", b"cd"):
        await asyncio.sleep(0.5)
        writer.write(piece)
    assert b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE)
    assert upstream.asked[0].body == b"abcd"
    writer.close()


async def test_a_cluster_that_does_not_read_is_not_waited_for(home: Path, upstream: Upstream, call: Any) -> None:
    async def never(reader: Any, writer: Any, asked: Asked) -> None:
        await asyncio.sleep(2)

    configure(home, upstream.url, timeout=0.3)
    upstream.answer = never
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await call("POST", "prod/deploy", bytes(40 << 20), headers=form)
    assert (answer.status, answer.json["kind"]) == (504, "environment.timeout")


async def test_a_cluster_that_does_not_read_holds_the_upload_up(cluster: Upstream, opened: Any) -> None:
    go = asyncio.Event()

    async def later(reader: Any, writer: Any, asked: Asked) -> None:
        await go.wait()
        await read_body(reader, asked)
        writer.write(JSON)
        await writer.drain()

    cluster.answer = later
    size, sent, piece = 42 << 20, 0, bytes(1 << 20)
    reader, writer = await opened("POST {base}taskapi/prod/deploy HTTP/1.1", FORM, f"Content-Length: {size}")
    while sent < size:
        writer.write(piece)
        sent += len(piece)
        try:
            await asyncio.wait_for(writer.drain(), 1)
        except asyncio.TimeoutError:
            break
    assert sent < size - (4 << 20)  # what sockets hold, and little more
    go.set()
    while sent < size:
        writer.write(piece)
        sent += len(piece)
        await asyncio.wait_for(writer.drain(), PATIENCE)
    assert b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE)
    assert len(cluster.asked[0].body) == size
    writer.close()


async def test_who_leaves_in_an_upload_ends_it(cluster: Upstream, opened: Any) -> None:
    ended: asyncio.Queue[int] = asyncio.Queue()

    async def count(reader: Any, writer: Any, asked: Asked) -> None:
        got = 0
        while piece := await reader.read(1 << 16):
            got += len(piece)
        await ended.put(got)

    cluster.answer = count
    _, writer = await opened("POST {base}taskapi/prod/tasks/a HTTP/1.1", "Content-Length: 1000")
    writer.write(b"x" * 10)
    await writer.drain()
    while not cluster.asked:
        await asyncio.sleep(0.01)
    writer.close()
    assert await asyncio.wait_for(ended.get(), PATIENCE) < 1000


async def test_a_cluster_that_takes_no_connection(home: Path, call: Any) -> None:
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # its line is full: who comes now is not answered
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        configure(home, f"http://127.0.0.1:{full.getsockname()[1]}", timeout=0.3)
        answer = await call("POST", "prod/tasks/a", "{}")
    assert (answer.status, answer.json["kind"]) == (504, "environment.timeout")
    assert "environment prod" in answer.json["message"]


async def test_requests_that_hang_leave_room_for_others(cluster: Upstream, opened: Any, call: Any) -> None:
    async def some(reader: Any, writer: Any, asked: Asked) -> None:
        if "hang" in asked.line:
            await hang(reader, writer, asked)
        else:
            writer.write(JSON)
            await writer.drain()

    cluster.answer = some
    hanging = [(await opened("GET {base}taskapi/prod/hang HTTP/1.1"))[1] for _ in range(60)]
    assert (await asyncio.wait_for(call("GET", "prod/get"), PATIENCE)).status == 200
    for writer in hanging:
        writer.close()


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have the names in ``slow.test`` be this machine's, once the event is set."""
    go, look = threading.Event(), socket.getaddrinfo

    def slowly(host: Any, *args: Any, **options: Any) -> Any:
        if host == "slow.test":
            go.wait(PATIENCE)
            host = "127.0.0.1"
        return look(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    yield go
    go.set()


async def test_a_name_that_takes_its_time_delays_nobody(
    home: Path, upstream: Upstream, opened: Any, call: Any, slow_names: threading.Event
) -> None:
    ports = {"prod": f"http://slow.test:{upstream.port}", "quick": f"http://localhost:{upstream.port}"}
    both = [
        {"name": name, "provider": "cortex", "operator_endpoint": url, "version": "0.28.0"}
        for name, url in ports.items()
    ]
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": both}))
    slow = [(await opened("GET {base}taskapi/prod/get HTTP/1.1"))[1] for _ in range(40)]
    assert (await asyncio.wait_for(call("GET", "quick/get"), 10)).status == 200
    assert len(upstream.asked) == 1
    for writer in slow:
        writer.close()


async def test_who_left_before_the_cluster_was_reached_asked_nothing(
    home: Path, upstream: Upstream, opened: Any, call: Any, slow_names: threading.Event
) -> None:
    configure(home, f"http://slow.test:{upstream.port}")
    _, writer = await opened("DELETE {base}taskapi/prod/tasks/a?jobID=1 HTTP/1.1")
    await asyncio.sleep(0.2)
    writer.close()
    await asyncio.sleep(0.2)
    slow_names.set()
    for _ in range(3):
        assert (await call("GET", "prod/get")).status == 200
    assert {one.line for one in upstream.asked} == {"GET /get HTTP/1.1"}


# Websockets: certificates, pace, and the server's end


async def test_certificates_are_checked_for_websockets_too(
    home: Path, logs: type[Logs], listen: Any, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    certificate = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    server = Application([("/(.*)", logs)]).listen(0, "127.0.0.1", ssl_options=context)
    (sock,) = server._sockets.values()
    url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    configure(home, url)
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 502
    assert logs.seen == []
    logs.check_origin = lambda self, origin: origin == url  # type: ignore[method-assign]
    for verify in (str(certificate), False):
        configure(home, url, verify=verify)
        stream = await listen()
        stream.close()
    assert len(logs.seen) == 2
    server.stop()


async def test_a_cluster_that_does_not_listen_holds_the_client_up(logs: type[Logs], listen: Any) -> None:
    logs.messages = asyncio.Queue(1)
    stream, sent, total = await listen(), 0, 100
    while sent < total:
        writing = asyncio.ensure_future(stream.write_message("x" * (1 << 20)))
        done, _ = await asyncio.wait({writing}, timeout=1)
        if not done:
            break
        sent += 1
    assert sent < 64
    for _ in range(sent + 1):
        assert len(await asyncio.wait_for(logs.messages.get(), PATIENCE)) == 1 << 20
    await writing
    stream.close()


async def test_the_servers_end(logs: type[Logs], listen: Any, jp_serverapp: Any) -> None:
    stream = await listen()
    await jp_serverapp.web_app.settings["taskapi_jupyter"].stop_extension()
    assert await asyncio.wait_for(stream.read_message(), PATIENCE) is None
    assert stream.close_code == 1001
    assert (await asyncio.wait_for(logs.closed.get(), PATIENCE))[0] == 1001


@pytest.mark.parametrize("status", [0, 1, 99, 101, 600, 999, 1000, 20000])
async def test_statuses_that_are_none(cluster: Upstream, call: Any, caplog: Any, status: int) -> None:
    cluster.answer = f"HTTP/1.1 {status} Odd\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    for method, body in (("GET", None), ("POST", "{}")):
        answer = await call(method, "prod/tasks/a", body)
        assert (answer.status, answer.json["kind"]) == (502, "environment.unreachable")
        # What has not three digits is no HTTP at all.
        assert f"the invalid status {status}" in answer.json["message"] or len(str(status)) != 3
    assert not [one for one in caplog.records if one.exc_info]


@pytest.mark.parametrize("status", [0, 99, 600, 700, 1000])
async def test_statuses_of_a_handshake_that_are_none(cluster: Upstream, raw: Any, caplog: Any, status: int) -> None:
    cluster.answer = f"HTTP/1.1 {status} Odd\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    # Before 6.6, tornado's websocket client does not notice that a status line is none, and the answer is a timeout.
    expected = 502 if tornado.version_info >= (6, 6) or status in (600, 700) else 504
    assert (await raw("GET {base}taskapi/prod/streamlogs/a?jobID=1 HTTP/1.1", *HANDSHAKE))[0] == expected
    assert not [one for one in caplog.records if one.exc_info]


async def answers_no_head(reader: Any, writer: Any, asked: Asked) -> None:
    head = asked.line.startswith("HEAD")
    status, body = ("405 Method Not Allowed", b"") if head else ("200 OK", b'{"a": 1}')
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: a/b\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def test_a_head_that_the_operator_does_not_know(cluster: Upstream, raw: Any) -> None:
    cluster.answer = answers_no_head
    status, headers, body = await raw("HEAD {base}taskapi/prod/get?a=b HTTP/1.1")
    assert (status, headers["content-length"], headers["content-type"], body) == (200, ["8"], ["a/b"], b"")
    assert [one.line for one in cluster.asked] == ["HEAD /get?a=b HTTP/1.1", "GET /get?a=b HTTP/1.1"]
    status, _, body = await raw("HEAD {base}taskapi/prod/other HTTP/1.1")  # which may mean something else
    assert (status, body) == (405, b"")


@pytest.mark.parametrize(
    ("path", "goes_up"),
    [("get/", "/get"), ("tasks/a/?jobID=1", "/tasks/a?jobID=1"), ("get/a/b/", "/get/a/b"), ("other/", "/other/")],
)
async def test_a_slash_at_the_end(cluster: Upstream, raw: Any, path: str, goes_up: str) -> None:
    assert (await raw(f"GET {{base}}taskapi/prod/{path} HTTP/1.1"))[0] == 200
    assert cluster.asked[0].line == f"GET {goes_up} HTTP/1.1"


async def test_no_service_worker_from_a_cluster(cluster: Upstream, raw: Any) -> None:
    for more in ((), HANDSHAKE):
        status, _, _ = await raw(
            "GET {base}taskapi/prod/streamlogs/a?jobID=1 HTTP/1.1", "Service-Worker: script", *more
        )
        assert status == 403
    assert cluster.asked == []


@pytest.mark.parametrize("when", ["connecting", "asking", "answered", "sending"])
async def test_who_leaves_leaves_no_traceback(
    home: Path,
    cluster: Upstream,
    call: Any,
    http_server_port: Any,
    jp_base_url: str,
    jp_auth_header: Any,
    caplog: Any,
    when: str,
) -> None:
    left = asyncio.Event()

    async def wait(reader: Any, writer: Any, asked: Asked) -> None:
        if when == "answered":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await reader.read()
        left.set()

    cluster.answer = wait
    full = socket.socket()  # takes no more connections
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    others = [socket.socket() for _ in range(4)]
    for one in others:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    if when == "connecting":
        configure(home, f"http://127.0.0.1:{full.getsockname()[1]}")
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
    lines = f"POST {jp_base_url}taskapi/prod/tasks/a HTTP/1.1\r\nHost: localhost\r\n"
    length = 1 << 20 if when == "sending" else 2
    lines += f"Authorization: {jp_auth_header['Authorization']}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(lines.encode() + b"{}")
    if when == "answered":
        await asyncio.wait_for(reader.readuntil(b"abc"), PATIENCE)
    while when in ("asking", "sending") and not cluster.asked:
        await asyncio.sleep(0.01)
    writer.transport.abort()
    if when != "connecting":
        await asyncio.wait_for(left.wait(), PATIENCE)
    for one in (*others, full):
        one.close()
    configure(home, cluster.url)
    cluster.answer = JSON
    for _ in range(3):  # what tornado has to say of it, it says by now
        assert (await call("GET", "prod/get")).status == 200
        await asyncio.sleep(0.05)
    gc.collect()
    await asyncio.sleep(0)
    assert not [one.getMessage() for one in caplog.records if one.exc_info or "exception" in one.getMessage().lower()]
