"""Fixtures: a cluster behind the server in this process, and bytes that go to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.web import Application
from tornado.websocket import websocket_connect

from support import PATIENCE
from support.upstream import Logs, Upstream, configure


@pytest.fixture
def upstream(jp_asyncio_loop: Any) -> Iterator[Upstream]:
    one = jp_asyncio_loop.run_until_complete(Upstream().start())
    yield one
    one.server.close()


@pytest.fixture
def cluster(home: Path, upstream: Upstream) -> Upstream:
    """Return a server that is the environment ``prod``."""
    configure(home, upstream.url)
    return upstream


@pytest.fixture
def raw(jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any) -> Any:
    """Return ``await raw(head lines, body)``: bytes to the Jupyter server, and all bytes of its answer."""
    port = http_server_port[-1]
    token = jp_auth_header["Authorization"]

    async def raw(line: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, list[str]], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = line.replace("{base}", jp_base_url)
        lines = [line, f"Host: 127.0.0.1:{port}", f"Authorization: {token}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        found: dict[str, list[str]] = {}
        for one in lines:
            name, _, value = one.partition(":")
            found.setdefault(name.lower(), []).append(value.strip())
        return int(status.split()[1]), found, rest

    return raw


@pytest.fixture
def listen(jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, jp_auth_header: Any) -> Any:
    async def listen(path: str = "streamlogs/a?jobID=1", auth: bool = True, **headers: str) -> Any:
        url = f"ws://127.0.0.1:{http_server_port[-1]}{jp_base_url}taskapi/prod/{path}"
        given = {**(jp_auth_header if auth else {}), **headers}
        return await websocket_connect(
            HTTPRequest(url, headers=given, follow_redirects=False), max_message_size=1 << 25
        )

    return listen


@pytest.fixture
def logs(home: Path, jp_asyncio_loop: Any) -> Iterator[type[Logs]]:
    class Here(Logs):
        seen: list[Any] = []
        messages: Any = asyncio.Queue()
        closed: Any = asyncio.Queue()

    async def serve() -> Any:
        return Application([("/(.*)", Here)]).listen(0, "127.0.0.1")

    server = jp_asyncio_loop.run_until_complete(serve())
    (sock,) = server._sockets.values()
    configure(home, f"http://127.0.0.1:{sock.getsockname()[1]}")
    yield Here
    server.stop()
