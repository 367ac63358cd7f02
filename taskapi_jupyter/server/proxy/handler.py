"""Requests for a Cortex cluster: passed on to its operator as they came, and its answers passed back.

Headers go by two lists of what is let through, so that nothing of Jupyter's (cookies, tokens, what its own proxies
add) can reach a cluster, and nothing of a cluster's can act on Jupyter's origin in a browser.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import Any, cast
from urllib.parse import unquote

from tornado import web
from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPServerRequest, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.routing import Router
from tornado.simple_httpclient import HTTPTimeoutError

from taskapi_jupyter.client.environments_file import LOCAL
from taskapi_jupyter.core.contract import MAX_BODY
from taskapi_jupyter.core.errors import BadRequest, NotKept, TaskAPIError
from taskapi_jupyter.cortex.operator import VERSION_HEADER, no_plan
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.server.clusters import Cluster, Clusters
from taskapi_jupyter.server.handlers.body import BodyHandler
from taskapi_jupyter.server.handlers.deploy import FORM, FRAME
from taskapi_jupyter.server.handlers.project_zip import MAX_PROJECT
from taskapi_jupyter.server.routes import ROUTES, pattern

from .urls import upstream_url
from .websocket import RelayHandler

UP = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Encoding", "Range", "User-Agent"),
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"),
    *("X-Request-Id", "Traceparent"),
)
DOWN = (
    *("Content-Type", "Content-Length", "Content-Encoding", "Content-Disposition", "Content-Range", "Accept-Ranges"),
    *("ETag", "Last-Modified", "Retry-After", "X-Log-Offset", "X-Log-Next", "X-Log-Size"),
)
#: Routes of our own below an environment: their handlers ask a cluster themselves.
OWN = [
    re.compile(pattern(one.path.partition("{env}/")[2]))
    for one in ROUTES
    if re.search("{env}/(jobs|groups|packages|schedules)", one.path)
]
#: Those of an operator, where a slash at the end has no meaning; on other paths it may have one.
OPERATORS = [re.compile(pattern(one.path.partition("{env}/")[2])) for one in ROUTES if "{env}/" in one.path]
NO_HEAD = (405, 501)  # how an operator answers that knows no HEAD; Cortex's knows none
LINGER = 1.0  # seconds
WAITING = 4  # pieces of a body that wait to be sent up; tornado reads 64 KiB at a time


class ClusterRouter(Router):
    """Takes the requests for environments that are clusters, and leaves the others to the next handlers."""

    SUPPORTED_METHODS = ()  # Jupyter looks through handlers for methods that ask for no user

    def __init__(self, web_app: web.Application, base_url: str, clusters: Clusters) -> None:
        self.web_app = web_app
        self.clusters = clusters
        self.prefix = f"{base_url}taskapi/"

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request, None where it is not for a cluster."""
        raw, _, path = request.path.removeprefix(self.prefix).partition("/")
        name = unquote(raw)
        if name == LOCAL or not path or request.method == "OPTIONS" or any(own.fullmatch(path) for own in OWN):
            return None
        try:
            cluster = self.clusters.find(name)
        except TaskAPIError as error:
            return self._delegate(request, BrokenHandler, error=error)
        if cluster is None:
            return None
        if path.endswith("/") and any(route.fullmatch(path) for route in OPERATORS):
            path = path[:-1]
        stream = request.headers.get("Upgrade", "").lower() == "websocket"
        return self._delegate(request, RelayHandler if stream else ProxyHandler, cluster=cluster, path=f"/{path}")

    def _delegate(self, request: HTTPServerRequest, handler: type[web.RequestHandler], **given: Any) -> Any:
        return self.web_app.get_handler_delegate(request, handler, target_kwargs=given)


class BrokenHandler(BodyHandler):
    """Whatever may be for a cluster while the file of environments can't be read."""

    def initialize(self, error: TaskAPIError) -> None:  # type: ignore[override]
        """Begin with what is wrong with the file."""
        super().initialize()
        self.error = error

    @guarded
    async def get(self) -> None:
        """Say what is wrong with it."""
        raise self.error

    head = post = put = patch = delete = get


@web.stream_request_body
class ProxyHandler(BodyHandler):
    """One request."""

    def initialize(self, cluster: Cluster, path: str) -> None:  # type: ignore[override]
        """Begin with nothing sent."""
        super().initialize()
        self.cluster = cluster
        self.path = path
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
        self.asked: asyncio.Task[None] | None = None
        self.may_answer = asyncio.Event()
        self.answering = False
        self.upstream: Any = None  # the connection
        self.timer: asyncio.TimerHandle | None = None
        self.turned_down: Exception | None = None  # answered once the body has been read
        self.too_slow = False
        self.gone = False
        self.no_http: str | None = None  # what is not HTTP in the answer
        self.method = self.request.method or "GET"

    @property
    def max_body(self) -> int:
        """Return the largest body that is passed on: a deploy's form holds a project."""
        kind: str = self.request.headers.get("Content-Type", "")
        return MAX_BODY + MAX_PROJECT + FRAME if kind.strip().lower().startswith(FORM) else MAX_BODY

    def check_encoding(self) -> None:
        """Leave it to the cluster."""

    async def prepare(self) -> None:
        """Check the user before anything is sent; then begin, since the body is passed on as it comes."""
        await super().prepare()
        self._transforms: list[Any] = []  # what the cluster compressed, or not, comes down as it is
        if self.refused is not None:
            return
        try:
            await self.check_authorized()
            if self.method == "DELETE" and self.path.startswith("/tasks/") and self.get_query_arguments("only"):
                name = self.cluster.upstream.name  # an operator knows no such thing, and would stop a job that runs
                raise NotKept(f"{name} is a Cortex cluster, which can't stop a job only as long as it is pending")
            if self.path == "/deploy" and self.get_query_arguments("dryRun"):
                raise no_plan(self.cluster.upstream.name)
            self.url = self._url()
            length = self.request.headers.get("Content-Length", "0")
            if not length.isdecimal():
                raise BadRequest("Content-Length must be a whole number")
            if int(length) > self.max_body:
                raise self.too_large()
        except (web.HTTPError, TaskAPIError) as error:
            self.turned_down = error
            return
        self.asked = asyncio.create_task(self._ask())
        self.asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # `_answer` raises it

    def _url(self) -> str:
        _, question, query = (self.request.uri or "").partition("?")
        return upstream_url(self.cluster.upstream.endpoint, self.path, query if question else None)

    # Up

    async def data_received(self, chunk: bytes) -> None:  # type: ignore[override]
        """Pass a piece of the body on, at the cluster's pace."""
        self._received += len(chunk)
        if self._received > self.max_body and self.turned_down is None:
            self.turned_down = self.too_large()
            self._abandon()
        if self.asked is not None and self.turned_down is None:
            await self._put(chunk)

    async def _put(self, piece: bytes | None) -> None:
        """Queue a piece to be sent, unless the request has ended meanwhile."""
        assert self.asked is not None
        putting = asyncio.ensure_future(self.pieces.put(piece))
        await asyncio.wait({putting, self.asked}, return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()

    async def _produce(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        while (piece := await self.pieces.get()) is not None:
            self._arm()
            await write(piece)
            self._disarm()
        self._arm()

    async def _up_headers(self) -> HTTPHeaders:
        ours = await self.cluster.headers(self.path)
        headers = HTTPHeaders()
        for name in (*UP, VERSION_HEADER):
            for value in self.request.headers.get_list(name):
                headers.add(name, value)
        for name, value in ours.items():
            headers[name] = value  # replaces the header of the request
        if "Content-Length" in self.request.headers:
            headers["Content-Length"] = self.request.headers["Content-Length"]
        elif self.has_body and self.request.method not in ("POST", "PUT", "PATCH"):
            raise BadRequest(f"the body of a {self.request.method} must have a Content-Length")
        return headers

    async def _ask(self) -> None:
        """Send the request to the cluster; a read is sent once more if its connection failed."""
        headers = await self._up_headers()
        tries_left = 1 if self.request.method in ("GET", "HEAD") and not self.has_body else 0
        if not self.has_body:
            self._arm()
        try:
            while True:
                try:
                    await self._fetch(headers.copy())
                    if self.answering or self.method == self.request.method or not tries_left:
                        return
                    tries_left = 0
                except (
                    Exception
                ) as error:  # tornado raises many kinds for a failed connection or an answer that is not HTTP
                    if not tries_left or self.answering or self.gone or isinstance(error, HTTPTimeoutError):
                        raise self._failed(error) from None
                    tries_left -= 1
        finally:
            self._disarm()

    async def _fetch(self, headers: HTTPHeaders) -> None:
        upstream = self.cluster.upstream
        request = HTTPRequest(
            self.url,
            method=self.method,
            headers=headers,
            body_producer=cast("Any", self._produce) if self.has_body else None,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            connect_timeout=self.cluster.patience,
            request_timeout=0,  # ours begins when the body has been sent
            decompress_response=False,
            validate_cert=bool(upstream.verify),
            ca_certs=upstream.verify if isinstance(upstream.verify, str) else None,
        )
        request.sink = self  # type: ignore[attr-defined]
        request.untyped = "Content-Type" not in headers  # type: ignore[attr-defined]
        self.upstream = None
        fetching = asyncio.ensure_future(self.cluster.client.fetch(request, raise_error=False))
        fetching.add_done_callback(lambda done: done.cancelled() or done.exception())  # the awaiting request raises it
        await asyncio.shield(fetching)  # tornado logs what becomes of a request that was cancelled

    def _failed(self, failure: BaseException) -> TaskAPIError:
        if self.no_http is not None:
            failure = ConnectionError(self.no_http)
        return self.cluster.too_slow() if self.too_slow else self.cluster.unreachable(failure)

    def _arm(self) -> None:
        self._disarm()
        self.timer = asyncio.get_running_loop().call_later(self.cluster.upstream.timeout, self._give_up)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _give_up(self) -> None:
        self.too_slow = True
        self._abandon()

    def _abandon(self) -> None:
        """End the request to the cluster; one that is still connecting is not sent."""
        self.gone = True
        stream = getattr(self.upstream, "stream", None)
        if stream is not None:
            stream.close()
        if self.asked is not None:
            # Closing ends it, as a rule; tornado may have lost its callback, and then it must not wait for ever.
            asyncio.get_running_loop().call_later(0.0 if stream is None else LINGER, self.asked.cancel)

    def on_connection_close(self) -> None:
        """Give up the request: the client has gone."""
        self._abandon()
        super().on_connection_close()

    # Down

    async def head_received(self, line: ResponseStartLine, headers: HTTPHeaders) -> None:
        """Begin the answer with the cluster's status and headers, once the request has been read."""
        if not 200 <= line.code <= 599:
            self.no_http = f"it answered with the invalid status {line.code}"
            raise HTTPInputError(self.no_http)
        if self.method == "HEAD" and line.code in NO_HEAD and any(one.fullmatch(self.path[1:]) for one in OPERATORS):
            self.method = "GET"  # it is asked once more, and what it answers is not passed on but for its head
            return
        length, *others = {one.strip() for one in headers.get("Content-Length", "0").split(",")}
        if others or not length.isdecimal():
            raise HTTPInputError("more than one length, or none that is a number")
        await self.may_answer.wait()
        self.answering = True
        self.set_status(line.code, responses.get(line.code, "Unknown"))
        self.clear_header("Content-Type")
        for name in DOWN:
            for value in headers.get_list(name):
                self.add_header(name, value)
        if "Content-Length" in headers:
            self.set_header("Content-Length", length)  # once, even where it was said twice
        self.set_header("X-Content-Type-Options", "nosniff")
        await self._send()

    async def piece_received(self, piece: bytes) -> None:
        """Pass a piece of the answer on, at the client's pace."""
        if self.request.method != "HEAD":
            self.write(piece)
            await self._send()

    async def _send(self) -> None:
        try:
            await self.flush()
        except StreamClosedError:
            self._abandon()

    @property
    def content_security_policy(self) -> str:
        """Sandbox what a browser shows: a cluster's page must not act on this origin."""
        return f"{super().content_security_policy}; sandbox"

    async def _answer(self) -> None:
        if (refusal := self.refused or self.turned_down) is not None:
            raise refusal
        assert self.asked is not None
        self.may_answer.set()
        if self.has_body:
            await self._put(None)
        try:
            await self.asked
        except (TaskAPIError, StreamClosedError, asyncio.CancelledError) as error:
            if self.answering:
                self._break_off()
                return
            raise (error if isinstance(error, TaskAPIError) else self._failed(error)) from None
        if not self.answering:
            raise self._failed(ConnectionError("no answer"))
        self.update_api_activity()
        web.RequestHandler.finish(self)  # Jupyter's would give it a content type

    def _break_off(self) -> None:
        """End the answer so that the client sees that it is incomplete."""
        self.detach().close()

    get = head = post = put = patch = delete = _answer

    def on_finish(self) -> None:
        """End the request to the cluster, if it still runs."""
        self._disarm()
        if self.asked is not None and not self.asked.done():
            self._abandon()
        super().on_finish()
