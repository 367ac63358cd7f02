"""Environments that are clusters, through the server: what goes up, what comes down, and what never does."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from tornado.httpclient import HTTPClientError
from tornado.web import GZipContentEncoding

from support import PATIENCE
from support.servers import reserved_port
from support.upstream import JSON, Asked, Upstream, configure, hang, read_body

# Up


async def test_method_path_query_and_body_as_they_came(cluster: Upstream, raw: Any) -> None:
    body = os.urandom(300)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        await raw(
            f"{method} {{base}}taskapi/prod/a%2Fb//c+d%20e?x=%2B&&x=+&y HTTP/1.1", "Content-Length: 300", body=body
        )
    assert [one.line for one in cluster.asked] == [
        f"{method} /a%2Fb//c+d%20e?x=%2B&&x=+&y HTTP/1.1" for method in ("POST", "PUT", "PATCH", "DELETE")
    ]
    assert {one.body for one in cluster.asked} == {body}
    await raw("GET {base}taskapi/prod/get?= HTTP/1.1")
    await raw("HEAD {base}taskapi/prod/get HTTP/1.1")
    assert [one.line for one in cluster.asked[-2:]] == ["GET /get?= HTTP/1.1", "HEAD /get HTTP/1.1"]


async def test_an_endpoint_with_a_path(home: Path, upstream: Upstream, raw: Any) -> None:
    configure(home, f"{upstream.url}/deep/er/")
    await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert upstream.asked[0].line == "GET /deep/er/get HTTP/1.1"


async def test_what_lets_in_here_never_goes_up(cluster: Upstream, raw: Any, jp_auth_header: Any) -> None:
    token = jp_auth_header["Authorization"].removeprefix("token ")
    status, _, _ = await raw(
        f"POST {{base}}taskapi/prod/tasks/a?a=1&token={token}&b=2&%74o%6ben={token}&_xsrf=x&%5Fxsrf=x HTTP/1.1",
        "Cookie: username-x=secret; _xsrf=x",
        "X-XSRFToken: x",
        f"Referer: http://127.0.0.1/lab?token={token}",
        f"Sec-WebSocket-Protocol: v1.token.websocket.jupyter.org.{token}",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-User: me",
        "Proxy-Authorization: Basic x",
        "X-Secret: other",
        "Content-Length: 2",
        body=b"{}",
    )
    assert status == 200
    (asked,) = cluster.asked
    assert asked.line == "POST /tasks/a?a=1&b=2 HTTP/1.1"
    assert token.encode() not in asked.head
    assert set(asked.headers) <= {
        *("host", "connection", "content-length", "content-type", "user-agent", "accept-encoding", "accept"),
    }


async def test_a_query_of_tokens_alone(cluster: Upstream, raw: Any, jp_auth_header: Any) -> None:
    token = jp_auth_header["Authorization"].removeprefix("token ")
    await raw(f"GET {{base}}taskapi/prod/get?token={token} HTTP/1.1")
    assert cluster.asked[0].line == "GET /get HTTP/1.1"


async def test_what_may_go_up(cluster: Upstream, raw: Any) -> None:
    given = ["Accept: a/b", "Accept-Encoding: br", "User-Agent: me", "X-Request-Id: 7", 'If-None-Match: "x"']
    await raw("GET {base}taskapi/prod/tasks/a HTTP/1.1", *given)
    assert {line.partition(":")[0].lower(): line.partition(": ")[2] for line in given}.items() <= cluster.asked[
        0
    ].headers.items()


async def test_a_stop_of_pending_jobs_alone_stays(cluster: Upstream, raw: Any) -> None:
    status, _, body = await raw("DELETE {base}taskapi/prod/tasks/a?jobID=1&only=pending HTTP/1.1")
    assert (status, json.loads(body)["kind"]) == (404, "environment.not_kept")
    assert not cluster.asked


async def test_a_dry_run_stays(cluster: Upstream, raw: Any) -> None:
    status, _, body = await raw("POST {base}taskapi/prod/deploy?dryRun=true HTTP/1.1", "Content-Length: 0")
    assert (status, json.loads(body)["kind"]) == (404, "environment.not_kept")
    assert "can't tell what a deploy would do" in json.loads(body)["message"]
    assert not cluster.asked


async def test_hop_by_hop_stays(cluster: Upstream, raw: Any) -> None:
    cluster.answer = JSON.replace(
        b"\r\n\r\n",
        b"\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Authenticate: x\r\nTrailer: y\r\n\r\n",
    )
    _, headers, _ = await raw(
        "GET {base}taskapi/prod/get HTTP/1.1", "Keep-Alive: timeout=5", "TE: trailers", "Proxy-Connection: x"
    )
    assert not {"keep-alive", "te", "proxy-connection"} & set(cluster.asked[0].headers)
    assert not {"x-hop", "keep-alive", "proxy-authenticate", "trailer"} & set(headers)


async def test_the_clusters_own_headers(
    home: Path, upstream: Upstream, raw: Any, call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROD_KEY", "s3cret")
    (tmp_path / "gate").write_text("g4te")
    headers = {
        "X-Key": {"env": "PROD_KEY"},
        "X-Gate": {"file": str(tmp_path / "gate")},
        "Authorization": "Bearer ${PROD_KEY}",
    }
    configure(home, upstream.url, headers=headers)
    await raw("GET {base}taskapi/prod/get HTTP/1.1", "X-Key: mine", "CortexAPIVersion: 9.9")
    assert {
        "x-key": "s3cret",
        "x-gate": "g4te",
        "authorization": "Bearer s3cret",
        "cortexapiversion": "0.28.0",
    }.items() <= upstream.asked[0].headers.items()
    answer = await call("GET", "environments")
    assert b"prod" in answer.body
    assert not [one for one in (b"s3cret", b"g4te", b"PROD_KEY", b"X-Key", b"gate") if one in answer.body]
    monkeypatch.delenv("PROD_KEY")
    answer = await call("GET", "prod/get")
    assert (answer.status, answer.json["kind"]) == (503, "environment.credentials")
    assert "PROD_KEY is not set" in answer.json["message"]
    assert len(upstream.asked) == 1


# Only there


@pytest.mark.parametrize(
    "path", ["../up", "a/../../up", "%2e%2e/up", "a/%2E%2e", "a%2f..%2fup", "%252e%252e/x", "./x", "a%5c..%5cx", "a\\b"]
)
async def test_no_path_leads_out(cluster: Upstream, raw: Any, path: str) -> None:
    status, _, body = await raw(f"GET {{base}}taskapi/prod/{path} HTTP/1.1")
    assert status in (400, 404)
    assert json.loads(body)["kind"] == "error"
    assert cluster.asked == []


@pytest.mark.parametrize("path", ["//elsewhere/x", "@elsewhere/x", ":80/x", "http://elsewhere/x"])
async def test_no_request_names_a_host(cluster: Upstream, raw: Any, path: str) -> None:
    status, _, _ = await raw(f"GET {{base}}taskapi/prod/{path} HTTP/1.1", "X-Forwarded-Host: elsewhere")
    assert status == 200
    # A supervisor of another test may still look for its Ray at this port.
    asked = next(one for one in cluster.asked if not one.line.startswith("GET /api/v0/"))
    assert asked.line == f"GET /{path} HTTP/1.1"
    assert asked.headers["host"] == f"127.0.0.1:{cluster.port}"


async def test_a_proxys_request_line_is_none(cluster: Upstream, raw: Any) -> None:
    status, _, _ = await raw("GET http://elsewhere{base}taskapi/prod/get HTTP/1.1")
    assert status in (403, 404)
    assert cluster.asked == []


async def test_redirects_are_not_followed(cluster: Upstream, raw: Any, home: Path) -> None:
    other = await Upstream().start()
    cluster.answer = (
        f"HTTP/1.1 302 Found\r\nLocation: {other.url}/x\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\naway"
    ).encode()
    status, headers, body = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert (status, body) == (302, b"away")
    assert "location" not in headers
    assert other.asked == []
    other.server.close()


async def test_local_and_unknown_environments_are_not_passed_on(cluster: Upstream, call: Any) -> None:
    assert (await call("GET", "local/get")).json == []
    assert (await call("GET", "prod")).status == 404
    assert (await call("GET", "prod/")).status == 404
    answer = await call("GET", "other/get")
    assert (answer.status, "prod" in answer.json["message"]) == (400, True)
    assert cluster.asked == []


async def test_who_is_not_let_in_reaches_no_cluster(cluster: Upstream, call: Any, raw: Any, jp_serverapp: Any) -> None:
    for method, body in (("GET", None), ("POST", "{}"), ("DELETE", None), ("HEAD", None)):
        assert (await call(method, "prod/tasks/a?jobID=1", body, auth=False)).status == 403
    cookie = {"Cookie": "_xsrf=1"}
    assert (await call("POST", "prod/tasks/a", "{}", auth=False, headers=cookie)).status == 403
    assert cluster.asked == []


async def test_who_is_not_let_in_sends_no_part_of_a_body(
    cluster: Upstream, call: Any, http_server: Any, http_server_port: Any, jp_base_url: str
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
    head = f"POST {jp_base_url}taskapi/prod/tasks/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    writer.write(f"{head}Authorization: token wrong\r\n\r\nhalf".encode())
    await writer.drain()
    for _ in range(3):  # what was begun before them would have arrived before them
        assert (await call("GET", "prod/get")).status == 200
    assert {one.line for one in cluster.asked} == {"GET /get HTTP/1.1"}
    writer.close()


async def test_who_may_only_read(
    cluster: Upstream, call: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_server.auth import Authorizer

    class Reader(Authorizer):
        def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
            return resource == "taskapi" and action == "read"

    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", Reader(parent=jp_serverapp))
    assert (await call("GET", "prod/get")).status == 200
    for method in ("POST", "DELETE", "PUT"):
        assert (await call(method, "prod/tasks/a", "{}")).status == 403
    assert [one.line for one in cluster.asked] == ["GET /get HTTP/1.1"]


async def test_a_changed_file_is_honoured_at_once(cluster: Upstream, call: Any, home: Path) -> None:
    assert (await call("GET", "prod/get")).status == 200
    other = await Upstream().start()
    configure(home, other.url)
    assert (await call("GET", "prod/get")).status == 200
    assert (len(cluster.asked), len(other.asked)) == (1, 1)
    (home / "environments.yaml").write_text("environments: 7")
    answer = await call("GET", "prod/get")
    assert (answer.status, "environments.yaml" in answer.json["message"]) == (400, True)
    other.server.close()


# Down


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 403, 404, 418, 500, 503, 599])
async def test_status_and_body_as_they_came(cluster: Upstream, raw: Any, status: int) -> None:
    body = b"" if status in (204, 304) else b'{"kind": "x",\n "message":"y"} '
    length = b"" if status in (204, 304) else f"Content-Length: {len(body)}\r\n".encode()
    cluster.answer = f"HTTP/1.1 {status} Whatever\r\nContent-Type: x/y\r\n".encode() + length + b"\r\n" + body
    answered, headers, got = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert (answered, got) == (status, body)
    if body:
        assert headers["content-type"] == ["x/y"]


async def test_compressed_answers_and_those_that_are_not(
    cluster: Upstream, raw: Any, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jp_serverapp.web_app, "transforms", [GZipContentEncoding])  # as compress_response has it
    body = b"\x1f\x8b" + os.urandom(5000)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n".encode()
    for extra in (b"", b"Content-Encoding: gzip\r\n"):
        cluster.answer = head + extra + b"\r\n" + body
        _, headers, got = await raw("GET {base}taskapi/prod/get HTTP/1.1", "Accept-Encoding: gzip")
        assert got == body
        assert ("content-encoding" in headers) == bool(extra)


async def test_what_never_comes_down(cluster: Upstream, raw: Any) -> None:
    cluster.answer = JSON.replace(
        b"\r\n\r\n",
        b"\r\nSet-Cookie: a=b\r\nSet-Cookie2: c=d\r\nLocation: http://elsewhere/\r\nWWW-Authenticate: Basic\r\n"
        b"Access-Control-Allow-Origin: http://clust.er\r\nAccess-Control-Allow-Credentials: true\r\nClear-Site-Data: *\r\n"
        b"Strict-Transport-Security: max-age=1\r\nContent-Security-Policy: default-src *\r\nServer: cluster\r\n"
        b"Refresh: 0\r\nLink: <x>\r\nService-Worker-Allowed: /\r\nX-Anything: 1\r\nCache-Control: max-age=9\r\n\r\n",
    )
    _, headers, _ = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert "cluster" not in headers["server"][0]
    assert "http://clust.er" not in headers.get("access-control-allow-origin", [])
    assert headers["cache-control"] == ["no-store"]
    assert "default-src *" not in headers["content-security-policy"][0]
    assert not [one for one in headers.get("set-cookie", []) if "a=b" in one]  # Jupyter sets its own
    assert not {
        *("set-cookie2", "location", "www-authenticate", "refresh"),
        *("access-control-allow-credentials", "clear-site-data", "strict-transport-security", "link", "x-anything"),
        "service-worker-allowed",
    } & set(headers)


async def test_a_clusters_page_does_not_run_here(cluster: Upstream, raw: Any) -> None:
    page = b"<script>fetch('/api/contents')</script>"
    cluster.answer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n".encode() + page
    )
    _, headers, _ = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    (policy,) = headers["content-security-policy"]
    assert "sandbox" in [part.strip() for part in policy.split(";")]
    assert headers["x-content-type-options"] == ["nosniff"]


async def test_a_head(cluster: Upstream, raw: Any) -> None:
    cluster.answer = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 77\r\n\r\n"
    status, headers, body = await raw("HEAD {base}taskapi/prod/x HTTP/1.1")
    assert (status, headers["content-length"], body) == (200, ["77"], b"")


async def test_an_answer_in_chunks(cluster: Upstream, call: Any) -> None:
    cluster.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    assert (await call("GET", "prod/x")).body == b"abcdefg"
    cluster.answer = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
    assert (await call("GET", "prod/x")).body == b"until the end"


# Bodies


async def test_ten_mebibytes_and_not_one_byte_more(cluster: Upstream, call: Any) -> None:
    body = os.urandom(1 << 20) * 10
    assert (await call("POST", "prod/tasks/a", body)).status == 200
    assert cluster.asked[0].body == body
    answer = await call("POST", "prod/tasks/a", body + b"x")
    assert (answer.status, "10 MiB" in answer.json["message"]) == (413, True)
    assert len(cluster.asked) == 1


async def test_a_form_may_hold_a_project(cluster: Upstream, call: Any) -> None:
    body = bytes(12 << 20)
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await call("POST", "prod/deploy", body, headers=form)).status == 200
    assert cluster.asked[0].body == body


async def test_a_body_in_chunks(cluster: Upstream, raw: Any) -> None:
    status, _, _ = await raw(
        "POST {base}taskapi/prod/tasks/a HTTP/1.1",
        "Transfer-Encoding: chunked",
        body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    assert status == 200
    assert cluster.asked[0].headers["transfer-encoding"] == "chunked"
    pieces = cluster.asked[0].body.split(b"\r\n")
    assert b"".join(pieces[1::2]) == b"abcde"
    status, _, body = await raw(
        "DELETE {base}taskapi/prod/tasks/a HTTP/1.1", "Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n"
    )
    assert (status, b"Content-Length" in body) == (400, True)


async def test_chunks_beyond_the_bound(cluster: Upstream, raw: Any) -> None:
    piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    status, _, body = await raw(
        "POST {base}taskapi/prod/tasks/a HTTP/1.1", "Transfer-Encoding: chunked", body=piece * 11 + b"0\r\n\r\n"
    )
    assert (status, b"10 MiB" in body) == (413, True)
    assert not cluster.asked or not cluster.asked[0].body.endswith(b"0\r\n\r\n")


async def test_an_upload_goes_at_the_clusters_pace(cluster: Upstream, raw: Any, jp_serverapp: Any) -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def slowly(reader: Any, writer: Any, asked: Asked) -> None:
        begun.set()
        await go.wait()
        await read_body(reader, asked)
        writer.write(JSON)
        await writer.drain()

    cluster.answer = slowly
    body = os.urandom(1 << 20) * 9
    asking = asyncio.create_task(
        raw("POST {base}taskapi/prod/tasks/a HTTP/1.1", f"Content-Length: {len(body)}", body=body)
    )
    await asyncio.wait_for(begun.wait(), PATIENCE)
    go.set()
    assert (await asking)[0] == 200
    assert cluster.asked[0].body == body


# When it goes wrong


async def test_nobody_there(home: Path, call: Any) -> None:
    url = f"http://127.0.0.1:{reserved_port()}"
    configure(home, url)
    for method, body in (("GET", None), ("POST", "{}")):
        answer = await call(method, "prod/tasks/a", body)
        assert (answer.status, answer.json["kind"]) == (502, "environment.unreachable")
        assert answer.json["message"].startswith(f"environment prod ({url}) can't be reached")
        assert "refused" in answer.json["message"]


async def test_a_name_that_is_not_known(home: Path, call: Any) -> None:
    configure(home, "http://no-such-host.invalid")
    answer = await call("GET", "prod/get")
    assert (answer.status, "name is not known" in answer.json["message"]) == (502, True)


async def test_certificates_are_checked_unless_said_otherwise(home: Path, call: Any, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    certificate = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    upstream = await Upstream().start(ssl=context)
    url = upstream.url.replace("http:", "https:")
    configure(home, url)
    answer = await call("GET", "prod/get")
    assert (answer.status, answer.json["kind"]) == (502, "environment.unreachable")
    assert "certificate" in answer.json["message"]
    for verify in (str(certificate), False):
        configure(home, url, verify=verify)
        assert (await call("GET", "prod/get")).status == 200
    assert len(upstream.asked) == 2
    upstream.server.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Len", b"no HTTP\r\n\r\n"])
async def test_reads_are_asked_twice_and_nothing_else_is(cluster: Upstream, call: Any, answer: bytes) -> None:
    cluster.answer = answer
    got = await call("GET", "prod/get")
    assert (got.status, got.json["kind"]) == (502, "environment.unreachable")
    assert len(cluster.asked) == 2
    for method, body in (("POST", "{}"), ("POST", ""), ("DELETE", None), ("PUT", "{}")):
        before = len(cluster.asked)
        assert (await call(method, "prod/tasks/a", body)).status == 502
        assert len(cluster.asked) == before + 1


async def test_a_read_that_works_at_the_second_try(cluster: Upstream, call: Any) -> None:
    async def once(reader: Any, writer: Any, asked: Asked) -> None:
        if len(cluster.asked) > 1:
            writer.write(JSON)
            await writer.drain()

    cluster.answer = once
    assert (await call("GET", "prod/get")).status == 200


async def test_too_slow(home: Path, upstream: Upstream, call: Any) -> None:
    configure(home, upstream.url, timeout=0.2)
    upstream.answer = hang
    for method, body in (("GET", None), ("POST", "{}"), ("DELETE", None)):
        answer = await call(method, "prod/tasks/a", body)
        assert (answer.status, answer.json["kind"]) == (504, "environment.timeout")
        assert "environment prod" in answer.json["message"]
        assert "0.2 s" in answer.json["message"]
    assert len(upstream.asked) <= 3  # what is slow is not asked again; under load it may not even have been heard


async def test_too_slow_in_the_middle(home: Path, upstream: Upstream, raw: Any) -> None:
    async def half(reader: Any, writer: Any, asked: Asked) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await hang(reader, writer, asked)

    configure(home, upstream.url, timeout=0.3)
    upstream.answer = half
    status, headers, body = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert (status, headers["content-length"], body) == (
        200,
        ["10"],
        b"abc",
    )  # and its reader sees that some is missing


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
async def test_half_an_answer_does_not_end_cleanly(cluster: Upstream, raw: Any, answer: bytes) -> None:
    cluster.answer = answer
    status, headers, body = await raw("GET {base}taskapi/prod/get HTTP/1.1")
    assert status == 200
    if "content-length" in headers:
        assert len(body) < int(headers["content-length"][0])
    else:
        assert not body.endswith(b"0\r\n\r\n")
    assert len(cluster.asked) == 1


async def test_one_slow_cluster_delays_nobody(home: Path, upstream: Upstream, call: Any) -> None:
    quick = await Upstream().start()
    both = [
        {"name": name, "provider": "cortex", "operator_endpoint": one.url, "version": "0.28.0"}
        for name, one in (("prod", upstream), ("quick", quick))
    ]
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": both}))
    upstream.answer = hang
    slow = [asyncio.create_task(call("GET", "prod/get")) for _ in range(8)]
    while len(upstream.asked) < 8:
        await asyncio.sleep(0.01)
    for _ in range(5):
        assert (await call("GET", "quick/get")).status == 200
        assert (await call("GET", "local/get")).status == 200
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    quick.server.close()


async def test_two_hundred_at_once(
    cluster: Upstream, jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any
) -> None:
    from tornado.simple_httpclient import SimpleAsyncHTTPClient

    client = SimpleAsyncHTTPClient(force_instance=True, max_clients=200)
    url = f"http://127.0.0.1:{http_server_port[-1]}{jp_base_url}taskapi/prod/get"
    answers = await asyncio.gather(
        *(client.fetch(url, headers=jp_auth_header, request_timeout=PATIENCE) for _ in range(200))
    )
    assert {(answer.code, answer.body) for answer in answers} == {(200, b"{}")}
    client.close()


async def test_who_leaves_is_not_worked_for(
    cluster: Upstream, jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any
) -> None:
    left = asyncio.Event()

    async def wait(reader: Any, writer: Any, asked: Asked) -> None:
        await reader.read(1)
        left.set()

    cluster.answer = wait
    _, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
    token = jp_auth_header["Authorization"]
    writer.write(
        f"GET {jp_base_url}taskapi/prod/get HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n".encode()
    )
    while not cluster.asked:
        await asyncio.sleep(0.01)
    writer.close()
    await asyncio.wait_for(left.wait(), PATIENCE)


async def test_a_reader_that_does_not_read_holds_the_cluster_up(
    cluster: Upstream, jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any
) -> None:
    total, sent, full = 256 << 20, 0, asyncio.Event()

    async def flood(reader: Any, writer: Any, asked: Asked) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n".encode())
        piece = bytes(1 << 20)
        while sent < total:
            writer.write(piece)
            sent += len(piece)
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except asyncio.TimeoutError:
                full.set()
                await writer.drain()

    cluster.answer = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1], limit=1 << 16)
    token = jp_auth_header["Authorization"]
    writer.write(
        f"GET {jp_base_url}taskapi/prod/get HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n".encode()
    )
    await asyncio.wait_for(full.wait(), PATIENCE)
    assert sent < 64 << 20  # sockets' buffers, and ours
    got = 0
    while got < total:
        piece = await asyncio.wait_for(reader.read(1 << 20), PATIENCE)
        assert piece
        got += len(piece)
    writer.close()


# Websockets


async def test_a_log_is_relayed(logs: Any, listen: Any, jp_auth_header: Any) -> None:
    async def act(self: Any) -> None:
        await self.write_message("one\n")
        await self.write_message("zwölf \0 <b>\n")
        await self.write_message(b"\xff\x00", binary=True)
        await self.write_message("x" * (11 << 20))
        self.close(1000, "the end")

    logs.act = act
    token = jp_auth_header["Authorization"].removeprefix("token ")
    socket = await listen(f"streamlogs/a%2Fb?jobID=1&token={token}&x=%20", **{"Cookie": "a=b", "X-XSRFToken": "x"})
    assert await socket.read_message() == "one\n"
    assert await socket.read_message() == "zwölf \0 <b>\n"
    assert await socket.read_message() == b"\xff\x00"
    assert len(await socket.read_message()) == 11 << 20
    assert await socket.read_message() is None
    assert (socket.close_code, socket.close_reason) == (1000, "the end")
    ((uri, headers),) = logs.seen
    assert uri == "/streamlogs/a%2Fb?jobID=1&x=%20"
    assert headers["Origin"] == f"http://{headers['Host']}"
    assert headers["Cortexapiversion"] == "0.28.0"
    assert not {"Authorization", "Cookie", "X-Xsrftoken", "Sec-Websocket-Protocol"} & set(headers)


async def test_both_ways(logs: Any, listen: Any) -> None:
    socket = await listen()
    await socket.write_message("text")
    await socket.write_message(b"\x00\xff", binary=True)
    assert await asyncio.wait_for(logs.messages.get(), PATIENCE) == "text"
    assert await asyncio.wait_for(logs.messages.get(), PATIENCE) == b"\x00\xff"
    socket.close(4001, "enough")
    assert await asyncio.wait_for(logs.closed.get(), PATIENCE) == (4001, "enough")


@pytest.mark.parametrize("code", [1000, 1011, 3000, 4999])
async def test_the_clusters_way_to_close(logs: Any, listen: Any, code: int) -> None:
    async def act(self: Any) -> None:
        self.close(code, "so")

    logs.act = act
    socket = await listen()
    assert await socket.read_message() is None
    assert (socket.close_code, socket.close_reason) == (code, "so")


async def test_a_cluster_that_breaks_off(logs: Any, listen: Any) -> None:
    async def act(self: Any) -> None:
        await self.write_message("half")
        self.ws_connection.stream.close()

    logs.act = act
    socket = await listen()
    assert await socket.read_message() == "half"
    assert await socket.read_message() is None
    assert socket.close_code == 1011


async def test_a_client_that_breaks_off(logs: Any, listen: Any) -> None:
    socket = await listen()
    socket.stream.close() if hasattr(socket, "stream") else socket.protocol.stream.close()
    assert (await asyncio.wait_for(logs.closed.get(), PATIENCE))[0] == 1001


async def test_a_refusal_in_the_clusters_words(logs: Any, listen: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await listen("streamlogs/a?refuse=1")
    assert refused.value.code == 400
    assert json.loads(refused.value.response.body) == {"kind": "job.not_found", "message": "no such job"}


async def test_strangers_do_not_listen(logs: Any, listen: Any, call: Any, jp_auth_header: Any) -> None:
    token = jp_auth_header["Authorization"].removeprefix("token ")
    login = await call("GET", f"environments?token={token}", auth=False)
    cookies = "; ".join(one.partition(";")[0] for one in login.headers.get_list("Set-Cookie"))
    for given in ({}, {"Authorization": "token wrong"}, {"Cookie": cookies, "Origin": "http://evil.example"}):
        with pytest.raises(HTTPClientError) as refused:
            await listen(auth=False, **given)
        assert refused.value.code == 403
    with pytest.raises(HTTPClientError) as refused:
        await listen("a/../../x")
    assert refused.value.code in (400, 404)
    assert logs.seen == []


async def test_no_websocket_there(cluster: Upstream, listen: Any) -> None:
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert (refused.value.code, b"environment prod" in refused.value.response.body) == (400, True)


async def test_no_cluster_there(home: Path, listen: Any) -> None:
    configure(home, f"http://127.0.0.1:{reserved_port()}")
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 502
    assert json.loads(refused.value.response.body)["kind"] == "environment.unreachable"


async def test_a_handshake_that_hangs(home: Path, upstream: Upstream, listen: Any) -> None:
    configure(home, upstream.url, timeout=0.2)
    upstream.answer = hang
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 504


async def test_a_redirected_handshake(cluster: Upstream, listen: Any) -> None:
    other = await Upstream().start()
    cluster.answer = f"HTTP/1.1 302 Found\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
    with pytest.raises(HTTPClientError) as refused:
        await listen()
    assert refused.value.code == 302
    assert "Location" not in refused.value.response.headers
    assert other.asked == []
    other.server.close()


async def test_a_listener_that_does_not_read_holds_the_log_up(logs: Any, listen: Any) -> None:
    sent, full, total = 0, asyncio.Event(), 200

    async def act(self: Any) -> None:
        nonlocal sent
        for _ in range(total):
            writing = asyncio.ensure_future(self.write_message("x" * (1 << 20)))
            done, _ = await asyncio.wait({writing}, timeout=1)
            if not done:
                full.set()
                await writing
            sent += 1
        self.close(1000)

    logs.act = act
    socket = await listen()
    await asyncio.wait_for(full.wait(), PATIENCE)
    assert sent < 64
    got = 0
    while (message := await socket.read_message()) is not None:
        got += len(message)
    assert (got, sent) == (total << 20, total)
