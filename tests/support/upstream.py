"""A cluster that answers with the bytes it was given, and keeps the bytes it got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tornado.websocket import WebSocketHandler

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Asked:
    """One request as it arrived: the bytes of its head and of its body, framing included."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


@dataclass
class Upstream:
    """A server that keeps every byte it gets and answers with the bytes it was given."""

    answer: bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter, Asked], Awaitable[None]] = JSON
    asked: list[Asked] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    server: Any = None

    async def start(self, **options: Any) -> Upstream:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **options)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = Asked(await reader.readuntil(b"\r\n\r\n"))
            self.asked.append(asked)
            if callable(self.answer):
                await self.answer(reader, writer, asked)
            else:
                await read_body(reader, asked)
                writer.write(self.answer)
                await writer.drain()
        writer.close()


async def read_body(reader: asyncio.StreamReader, asked: Asked) -> None:
    if "content-length" in asked.headers:
        asked.body = await reader.readexactly(int(asked.headers["content-length"]))
    elif asked.headers.get("transfer-encoding") == "chunked":
        while not asked.body.endswith(b"0\r\n\r\n") and (piece := await reader.read(1 << 20)):
            asked.body += piece


def configure(home: Path, url: str, **fields: Any) -> None:
    """Make a URL the environment ``prod`` of a home."""
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": url, "version": "0.28.0", **fields}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))


async def hang(reader: Any, writer: Any, asked: Asked) -> None:
    while await reader.read(1 << 16):
        pass  # until the other side closes


class Logs(WebSocketHandler):
    """A websocket that does what a test says."""

    seen: list[Any] = []
    act: Any = None
    messages: Any = None
    closed: Any = None

    def prepare(self) -> None:
        self.seen.append((self.request.uri, dict(self.request.headers.get_all())))
        if "refuse" in (self.request.query or ""):
            self.set_status(400)
            self.finish({"kind": "job.not_found", "message": "no such job"})

    async def get(self, *args: Any) -> None:
        if "refuse" not in (self.request.query or ""):
            await super().get(*args)

    def check_origin(self, origin: str) -> bool:
        return origin == f"http://{self.request.host}"

    async def open(self, *args: Any) -> None:
        if self.act is not None:
            self.task = asyncio.create_task(type(self).act(self))

    async def on_message(self, message: Any) -> None:
        await self.messages.put(message)

    def on_close(self) -> None:
        self.closed.put_nowait((self.close_code, self.close_reason))
