"""The Cortex clusters: each with a client and threads of its own, so that none delays another."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import Resolver
from tornado.simple_httpclient import (
    HTTPStreamClosedError,
    HTTPTimeoutError,
    SimpleAsyncHTTPClient,
    _HTTPConnection,
)

from taskapi_jupyter.client.environments_file import LOCAL, EnvironmentFile
from taskapi_jupyter.client.http import CONNECT_TIMEOUT, cause
from taskapi_jupyter.core.contract import Environment
from taskapi_jupyter.core.errors import Forbidden, TaskAPIError, Unreachable, UpstreamTimeout
from taskapi_jupyter.cortex.operator import RACE, Upstream, upstream_of
from taskapi_jupyter.environments import PROVIDERS

if TYPE_CHECKING:
    from taskapi_jupyter.cortex.client import CortexClient

T = TypeVar("T")

AT_ONCE = 512  # requests to one cluster
ASKED_AT_ONCE = 8  # questions of ours to one cluster; each is a thread
BUFFER = 1 << 20  # bytes of one answer that are held in memory
NO_LIMIT = 1 << 62  # an answer is passed on as it comes, however long it is


class Cluster:
    """One cluster: the HTTP client that passes requests on to its operator, and the TaskAPI for our own questions."""

    def __init__(self, upstream: Upstream, about: Environment) -> None:
        from taskapi_jupyter.cortex.client import CortexClient  # most servers know no cluster, and start without it

        self.upstream = upstream
        self.api = CortexClient.direct(upstream, about)
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)
        self._pool = ThreadPoolExecutor(2, f"taskapi-{upstream.name}")  # for names, files and signatures
        self.resolver = _Resolver()
        self.resolver.pool = self._pool
        self.client = _Client(
            force_instance=True,
            max_clients=AT_ONCE,
            resolver=self.resolver,
            max_buffer_size=BUFFER,
            max_body_size=NO_LIMIT,
        )

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run something that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def ask(self, function: Callable[[CortexClient], T]) -> T:
        """Call a function with the client, in a thread; none waits longer than for the answer to one request.

        A cluster that is silent holds its own few threads, and those no longer than the client's patience.
        """
        loop = asyncio.get_running_loop()

        def leave(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._places.release)

        try:
            await asyncio.wait_for(self._places.acquire(), self.upstream.timeout)
            work = in_daemon(partial(function, self.api))
            work.add_done_callback(leave)
            return await asyncio.wait_for(asyncio.wrap_future(work), self.upstream.timeout + RACE)
        except asyncio.TimeoutError:
            raise self.too_slow() from None
        except Forbidden as refusal:  # it refuses this server's credentials, not the user
            raise Unreachable(refusal.message, kind="environment.credentials") from None
        except TaskAPIError as error:
            if type(error) is TaskAPIError:  # with whatever status the cluster gave it
                error.status = 502
            raise

    async def headers(self, path: str) -> dict[str, str]:
        """Return the headers with the cluster's credentials; to find them may take no longer than an answer."""
        if self.upstream.at_hand(path):
            return self.upstream.headers(path)
        try:
            return await asyncio.wait_for(self.run(self.upstream.headers, path), self.upstream.timeout)
        except asyncio.TimeoutError:
            raise self.too_slow() from None

    @property
    def patience(self) -> float:
        """Return the seconds that a connection may take."""
        return min(self.upstream.timeout, CONNECT_TIMEOUT)

    @property
    def where(self) -> str:
        """Return how sentences name this cluster."""
        return f"environment {self.upstream.name} ({self.upstream.endpoint})"

    def too_slow(self) -> UpstreamTimeout:
        """Return the error for an answer that took too long."""
        return UpstreamTimeout(f"{self.where} did not answer within {self.upstream.timeout:g} s")

    def unreachable(self, failure: BaseException) -> Unreachable:
        """Return the error that a failed request stands for."""
        if isinstance(failure, HTTPTimeoutError):
            return UpstreamTimeout(f"{self.where} did not take the connection within {self.patience:g} s")
        why = "its name is not known" if isinstance(failure, socket.gaierror) else cause(failure)
        return Unreachable(f"{self.where} can't be reached ({why})", kind="environment.unreachable")

    def close(self) -> None:
        """End the threads and close the connections."""
        self._pool.shutdown(wait=False)
        self.api.close()


class Clusters:
    """All clusters of a home, as its file has them now."""

    def __init__(self, file: EnvironmentFile) -> None:
        self._file = file
        self._known: dict[str, Cluster] = {}

    def find(self, name: str) -> Cluster | None:
        """Return a Cortex cluster by its environment's name; None for environments of other providers."""
        if name == LOCAL:  # the usual one costs no look into the file
            return None
        there = self._file.read()
        entry = there.entries.get(name)
        is_relayed = entry is not None and PROVIDERS[entry.provider].is_relayed
        upstream = upstream_of(there, entry) if entry is not None and is_relayed else None
        known = self._known.get(name)
        if known is not None and known.upstream is not upstream:
            del self._known[name]  # not closed: its requests go on, and its threads end with the last one
            known = None
        if known is None and entry is not None and upstream is not None:
            known = self._known[name] = Cluster(upstream, entry.public())
        return known

    def close(self) -> None:
        """Close all."""
        while self._known:
            self._known.popitem()[1].close()


def in_daemon(function: Callable[[], T]) -> Future[T]:
    """Run something that blocks in a thread that a process which ends does not wait for."""
    work: Future[T] = Future()
    work.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:
            work.set_exception(error)
        else:
            work.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return work


class _Resolver(Resolver):
    """Looks names up in the cluster's own threads: tornado's would share the loop's with everybody."""

    pool: ThreadPoolExecutor

    async def resolve(self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[Any]:
        with suppress(ValueError):  # an address: nothing to look up
            version = ipaddress.ip_address(host).version
            return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]

        def look() -> list[Any]:
            return [(one[0], one[4]) for one in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)]

        return await asyncio.get_running_loop().run_in_executor(self.pool, look)


class _Connection(_HTTPConnection):
    """Passes an answer to ``request.sink`` as it comes, and reads on only when the sink has sent the piece."""

    def __init__(self, client: Any, request: Any, *args: Any) -> None:
        request.sink.upstream = self
        super().__init__(client, request, *args)

    def _create_connection(self, stream: IOStream) -> HTTP1Connection:
        if self.request.sink.gone:  # type: ignore[attr-defined]
            raise StreamClosedError()
        if self.request.untyped:  # type: ignore[attr-defined]
            self.request.headers.pop("Content-Type", None)  # tornado gives every POST one
        connection = super()._create_connection(stream)
        send = connection.write_headers
        target = "/" + self.request.url.split("/", 3)[3]  # with a lone '?', which tornado drops

        def exactly(line: RequestStartLine, headers: HTTPHeaders) -> Awaitable[None]:
            return send(line._replace(path=target), headers)

        connection.write_headers = exactly  # type: ignore[assignment, method-assign]
        return connection

    async def _write_body(self, start_read: bool) -> None:
        await super()._write_body(start_read)
        if (
            start_read and self.final_callback is not None
        ):  # tornado 6.5 reports no error for an answer that is not HTTP
            self._handle_exception(HTTPStreamClosedError, HTTPStreamClosedError("no HTTP"), None)

    async def headers_received(self, first_line: ResponseStartLine | RequestStartLine, headers: HTTPHeaders) -> None:
        await super().headers_received(first_line, headers)
        # Informational answers (1xx) are skipped; 101 is passed on, and refused, since no other protocol was asked for.
        if isinstance(first_line, ResponseStartLine) and first_line.code not in (100, *range(102, 200)):
            await self.request.sink.head_received(first_line, headers)  # type: ignore[attr-defined]

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        result: Awaitable[None] = self.request.sink.piece_received(chunk)  # type: ignore[attr-defined]
        return result


class _Client(SimpleAsyncHTTPClient):
    def _connection_class(self) -> type:
        return _Connection
