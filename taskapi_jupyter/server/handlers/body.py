"""Handlers that read a body, as it comes: what is over the limit is dropped and never kept."""

from __future__ import annotations

from typing import Any, cast

from tornado import web

from taskapi_jupyter.core.contract import MAX_BODY
from taskapi_jupyter.core.errors import TaskAPIError, TooLarge, UnsupportedEncoding, size

from .base import Handler

DRAIN = 64 << 20  # bytes of a body that are read past its limit, so that a client gets to see the answer


@web.stream_request_body
class BodyHandler(Handler):
    """Base of the routes that read a body, as it comes: what is over the cap is dropped and never kept."""

    refused: web.HTTPError | TaskAPIError | None = None

    def initialize(self) -> None:
        """Begin with nothing read."""
        self._chunks: list[bytes] = []
        self._received = 0

    @property
    def max_body(self) -> int:
        """Return the largest body that is accepted, in bytes."""
        return MAX_BODY

    async def prepare(self) -> None:
        """Note a refusal, and answer it once the body was read.

        An answer that overtakes the body is lost with the connection when the client is still sending.
        """
        connection = cast("Any", self.request.connection)
        connection.set_max_body_size(DRAIN)
        declared = self.request.headers.get("Content-Length", "")
        length = int(declared) if declared.isdecimal() else 0
        try:
            await self.admit()
            self.check_encoding()
        except (web.HTTPError, TaskAPIError) as error:
            self.refused = error
            self.current_user = None  # so `guarded` refuses; `send_error` says why
            if length > DRAIN:
                raise
            return
        most = self.max_body + DRAIN
        connection.set_max_body_size(most)
        if length > most:
            raise self.too_large()

    async def admit(self) -> None:
        """Raise HTTPError unless the request is authenticated, and one of our errors while the home can't be used."""
        await super().prepare()

    def check_encoding(self) -> None:
        """Refuse a body that is compressed: what it grows to would be known too late."""
        encoding = self.request.headers.get("Content-Encoding", "").strip()
        if encoding.lower() not in ("", "identity") and self.has_body:
            raise UnsupportedEncoding(
                f"the body has the Content-Encoding {encoding[:64]!r}: send it as it is, without one"
            )

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""
        headers = self.request.headers
        return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with the refusal that was noted, where one was."""
        if self.refused is not None:
            status_code = getattr(self.refused, "status_code", 400)  # one of ours has its own
            kwargs["exc_info"] = (type(self.refused), self.refused, None)
        super().send_error(status_code, **kwargs)

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        self._received += len(chunk)
        if self.refused or self._received > self.max_body:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def body(self) -> bytes:
        """Return the body."""
        if self._received > self.max_body:
            raise self.too_large()
        return b"".join(self._chunks)

    def too_large(self) -> TooLarge:
        """Return the error for a body over the cap."""
        return TooLarge(f"the body is larger than {size(self.max_body)}")
