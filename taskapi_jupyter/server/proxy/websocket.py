"""A cluster's websocket, relayed: frames as they come in both directions, each at the other side's pace."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.auth.decorator import ws_authenticated
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.simple_httpclient import HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketError, websocket_connect

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.server.clusters import Cluster
from taskapi_jupyter.server.handlers.log_stream import Stream

from .urls import upstream_url

LARGEST = 16 << 20  # bytes of a frame
#: Close codes that only ever describe what happened; they are never sent.
NEVER_SENT = (None, 1004, 1005, 1006, 1015)


class RelayHandler(Stream):
    """One websocket."""

    contract = False  # what goes wrong on the way has its own status: it is not the operator's
    max_message_size = LARGEST

    def initialize(self, cluster: Cluster, path: str) -> None:
        """Begin without the other side."""
        self.cluster = cluster
        self.path = path
        self.upstream: WebSocketClientConnection | None = None
        self.relay: asyncio.Task[None] | None = None

    @ws_authenticated  # type: ignore[untyped-decorator]
    async def get(self, *args: str, **kwargs: str) -> None:
        """Open the cluster's websocket first: its refusal is passed on as it is."""
        await self.admit()
        try:
            self.upstream = await self._connect()
        except HTTPClientError as refusal:
            if refusal.response is None or not 200 <= refusal.code < 599:  # tornado's own is 599
                raise self.cluster.unreachable(refusal) from None
            self.set_status(refusal.code)
            self.set_header("Content-Type", refusal.response.headers.get("Content-Type", "text/plain"))
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cache-Control", "no-store")
            self.finish(refusal.response.body)
            return
        await super().get(*args, **kwargs)

    @property
    def content_security_policy(self) -> str:
        """Sandbox what a browser shows: a cluster's page must not act on this origin."""
        return f"{super().content_security_policy}; sandbox"

    async def _connect(self) -> WebSocketClientConnection:
        upstream = self.cluster.upstream
        url = upstream_url(upstream.endpoint, self.path, self.request.query or None)
        request = HTTPRequest(
            f"ws{url.removeprefix('http')}",
            headers={"Origin": upstream.origin, **await self.cluster.headers(self.path)},
            follow_redirects=False,
            connect_timeout=self.cluster.patience,
            request_timeout=self.cluster.patience,
            validate_cert=bool(upstream.verify),
            ca_certs=upstream.verify if isinstance(upstream.verify, str) else None,
        )
        try:
            return await websocket_connect(request, max_message_size=LARGEST, resolver=self.cluster.resolver)
        except WebSocketError:
            raise BadRequest(f"{self.cluster.where} opens no websocket at this path") from None
        except (OSError, StreamClosedError, HTTPTimeoutError) as error:
            raise self.cluster.unreachable(error) from None

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to relay."""
        super().open(*args, **kwargs)
        self.relay = self.backends.follower(asyncio.create_task(self._down()))

    async def _down(self) -> None:
        assert self.upstream is not None
        try:
            while (message := await self.upstream.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
            code = self.upstream.close_code
            self.close(1011 if code in NEVER_SENT else code, self.upstream.close_reason)
        except WebSocketClosedError:
            pass
        except asyncio.CancelledError:
            self.close(1001, "the server is shutting down")
            raise

    async def on_message(self, message: str | bytes) -> None:
        """Pass on what the client says."""
        assert self.upstream is not None
        try:
            await self.upstream.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            pass

    def on_connection_close(self) -> None:
        """Close the cluster's side, also in the middle of the handshake."""
        super().on_connection_close()
        self._leave()

    def on_close(self) -> None:
        """Close the other side in the same way."""
        super().on_close()
        self._leave()

    def _leave(self) -> None:
        if self.upstream is not None:
            code = self.close_code
            self.upstream.close(1001 if code in NEVER_SENT else code, self.close_reason)
        if self.relay is not None:
            self.relay.cancel()
