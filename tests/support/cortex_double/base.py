"""What all routes share: recording, letting in, and answering with whatever fault is switched on."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from .identity import check_identity
from .state import Cluster, Refusal

if TYPE_CHECKING:
    from .double import Operator


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str  # with the query, as sent
    headers: list[tuple[str, str]]
    body: bytes
    received: int = 0  # bytes of a body that was streamed to /sink
    sent: int = 0  # bytes of the answer's body that the connection has taken
    gone: bool = False  # the connection ended before the answer was complete

    def header(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Socket:
    """A log websocket that was let in."""

    request: Request
    received: list[str | bytes] = field(default_factory=list)
    sent: int = 0  # bytes of text that the connection has taken
    closed: bool = False
    code: int | None = None  # of the other side's closing frame


def answers(method: Callable[..., Any]) -> Any:
    """Make a handler's method of a function that returns a body or raises ``Refusal``."""

    @functools.wraps(method)
    async def handle(self: Base, *args: str) -> None:
        try:
            self.admit()
            body = method(self, *args)
        except Refusal as refusal:
            await self.answer(refusal.body, refusal.status)
        else:
            await self.answer(body)

    return handle


class Base(RequestHandler):
    """Records, lets in, and answers with whatever fault is switched on."""

    wants_version = True
    wants_auth = True

    def initialize(self, operator: Operator) -> None:
        """Take the operator."""
        self.operator = operator
        self.chunked = False

    @property
    def cluster(self) -> Cluster:
        """Return what the operator knows."""
        return self.operator.cluster

    def prepare(self) -> None:
        """Record the request."""
        request = self.request
        self.record = Request(request.method or "", request.uri or "", list(request.headers.get_all()), request.body)
        self.operator.requests.append(self.record)

    def set_default_headers(self) -> None:
        """Answer JSON."""
        self.set_header("Content-Type", "application/json")

    def compute_etag(self) -> None:
        """Leave conditional requests alone."""

    def on_connection_close(self) -> None:
        """Remember that nobody waits any more."""
        self.record.gone = True
        super().on_connection_close()

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Remember the same where it is a write that finds out."""
        try:
            yield
        except StreamClosedError:
            self.record.gone = True

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer an unknown path or method."""
        self.finish(json.dumps({"kind": "error", "message": self._reason}))

    def required(self, name: str) -> str:
        """Return a parameter of the query."""
        if value := self.get_query_argument(name, ""):
            return value
        raise Refusal(f"query param required: {name}", "endpoints.query_param_required")

    # Letting in

    def admit(self) -> None:
        """Refuse who lacks a header."""
        operator, headers = self.operator, self.request.headers
        if self.wants_version:
            version = headers.get("CortexAPIVersion", "")
            if not version:
                raise Refusal("missing CortexAPIVersion header", "endpoints.header_missing")
            if version != operator.version:
                text = f"API version mismatch (cluster: {operator.version}; client: {version})"
                raise Refusal(text, "endpoints.api_version_mismatch")
        if self.wants_auth and operator.auth and not self.cluster.old:
            check_identity(headers.get("X-Cortex-Authorization", ""), operator.expired)
            if operator.other_account:
                text = "the AWS account is not that of the cluster"
                raise Refusal(text, "endpoints.auth_other_account", 403)

    # Answering

    async def answer(self, body: Any, status: int = 200) -> None:
        """Send bytes, or a value as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        outcome = await self.misbehave(status, data)
        if outcome is None:
            return
        status, data = outcome
        self.set_status(status)
        with self.noticing():
            if self.chunked:
                self.write(data[:1])
                await self.flush()
                data = data[1:]
            await self.finish(data or None)
            self.record.sent += len(data)

    async def misbehave(self, status: int, data: bytes) -> tuple[int, bytes] | None:
        """Do what the quirks say; return what is then to be sent, or None if nothing is."""
        for quirk in list(self.operator.quirks):
            if not quirk.takes(self.record.method, self.record.path):
                continue
            if quirk.kind == "delay":
                await asyncio.sleep(quirk.value)
            elif quirk.kind == "hang":
                await asyncio.Event().wait()
            elif quirk.kind == "redirect":
                status, data = 302, b""
                self.set_header("Location", quirk.value)
            elif quirk.kind == "wrong_json":
                status = 200
                data = quirk.value if isinstance(quirk.value, bytes) else json.dumps(quirk.value).encode()
            elif quirk.kind == "big":
                data += b" " * quirk.value
            elif quirk.kind == "cookies":
                self.add_header("Set-Cookie", quirk.value)
            elif quirk.kind == "chunked":
                self.chunked = True
            else:
                await self.cut(quirk.kind == "reset", quirk.value == "headers", status, data)
                return None
        return status, data

    async def cut(self, reset: bool, headers: bool, status: int, data: bytes) -> None:
        """End the connection before the answer is complete."""
        stream = self.detach()
        announced = max(2, len(data))
        head = (
            f"HTTP/1.1 {status} Cut\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n\r\n".encode()
        )
        with suppress(StreamClosedError):
            if not reset:
                await stream.write(head + data[: announced // 2])
            elif headers:
                await stream.write(head)
        if reset:
            abort(stream)
        stream.close()


def abort(stream: Any) -> None:
    """Have a connection end with RST when it is closed."""
    if stream.socket is not None:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
