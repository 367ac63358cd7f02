"""A receiver of webhooks, which answers as it is told and keeps what it got, and one of mail."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from standardwebhooks import Webhook
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from support import PATIENCE

#: Of all tests; they search for it where it must not be.
SECRET = "whsec_c2VjcmV0LW9mLWEtd2ViaG9vay0wMTIzNDU2Nzg5"


@dataclass
class Got:
    """A delivery as it arrived."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.json["data"]
        return data


@dataclass
class Receiver:
    """Answers ``answers[0]``, ``answers[1]``, ..., then 204; one is a status, or a coroutine of the handler."""

    port: int = 0
    scheme: str = "http"
    answers: list[Any] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    authority: Path | None = None  # a file with the certificate of who signed this one's
    arrived: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/hooks/kept-for-us"

    def verified(self, secret: str = SECRET) -> list[Any]:
        """Return all bodies, each verified by the library that receivers use."""
        return [Webhook(secret).verify(one.body, one.headers) for one in self.got]

    def wait(self, count: int) -> list[Got]:
        """Wait for so many deliveries and return them."""
        while len(self.got) < count:
            self.arrived.clear()
            if len(self.got) < count:
                assert self.arrived.wait(PATIENCE), f"{len(self.got)} of {count} deliveries arrived"
        return list(self.got)


class _Handler(RequestHandler):
    def initialize(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def post(self) -> None:
        receiver = self.receiver
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        receiver.got.append(Got(headers, self.request.body, self.request.path))
        answer = receiver.answers.pop(0) if receiver.answers else 204
        if callable(answer):
            await answer(self)
        else:
            self.set_status(answer)
            if answer not in (204, 304):
                self.write(f"told {answer}")
        receiver.arrived.set()


async def redirects(handler: RequestHandler) -> None:
    """Answer with a redirect to another path of this receiver."""
    handler.redirect("/elsewhere")


async def drips(handler: RequestHandler) -> None:
    """Answer a byte of the head at a time, and never come to its end."""
    stream = handler.detach()
    handler.receiver.arrived.set()
    try:
        for character in b"HTTP/1.1 200 OK\r\n" + b"x-slow: and slower\r\n" * 1000:
            await stream.write(bytes([character]))
            await asyncio.sleep(0.1)
    except StreamClosedError:
        pass


async def closes(handler: RequestHandler) -> None:
    """Close the connection instead of an answer."""
    handler.detach().close()


async def floods(handler: RequestHandler) -> None:
    """Answer with 100 MB, as long as somebody reads."""
    try:
        for _ in range(100):
            handler.write(b"y" * 1_000_000)
            await handler.flush()
    except StreamClosedError:
        handler.receiver.answers.append("cut")


def later(seconds: str) -> Callable[[RequestHandler], Any]:
    """Return an answer 503 that asks to come again later."""

    async def answer(handler: RequestHandler) -> None:
        handler.set_status(503)
        handler.set_header("Retry-After", seconds)

    return answer


@contextmanager
def receiver(folder: Path | None = None, *, trusted: bool = True) -> Iterator[Receiver]:
    """Run a receiver in a thread: with TLS where there is a folder, its certificate signed by ``authority``."""
    made, context = Receiver(), None
    if folder is not None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (authority if trusted else trustme.CA()).issue_cert("localhost").configure_cert(context)
        made.scheme, made.authority = "https", folder / "authority.pem"
        authority.cert_pem.write_to_path(str(made.authority))
    loop = asyncio.new_event_loop()
    servers: list[HTTPServer] = []

    async def serve() -> None:
        server = HTTPServer(
            Application([(r"/.*", _Handler, {"receiver": made})], log_function=lambda handler: None),
            ssl_options=context,
        )
        servers.append(server)
        sockets = bind_sockets(0, "127.0.0.1")
        made.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)

    loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        servers[0].stop()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(servers[0].close_all_connections())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
