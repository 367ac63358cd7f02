"""A job's log over a cluster's websocket: text frames, closed with 1000 at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websocket import WebSocket

TICK = 0.25  # seconds without a line after which it is said that nothing came


class Log:
    """A websocket of a log, and how it was closed."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.code: int | None = None

    @property
    def connected(self) -> bool:
        """Say whether more may come."""
        return bool(self.socket.connected)


def frames(log: Log, silence: float, enough: Callable[[], bool], *, keep: bool = False) -> Iterator[str]:
    """Yield what comes until the other side closes, or ``enough`` after a silence; with ``keep`` leave it open.

    What is yielded is empty each time that nothing came.
    """
    import websocket

    socket, heard = log.socket, time.monotonic()
    try:
        socket.settimeout(min(silence, TICK))
        while True:
            try:
                kind, data = socket.recv_data()
                heard = time.monotonic()
            except websocket.WebSocketTimeoutException:
                yield ""
                if time.monotonic() - heard < silence:
                    continue
                heard = time.monotonic()
                if enough():
                    log.code = log.code or (None if keep else 1000)
                    return
                socket.ping()
                continue
            except (OSError, websocket.WebSocketException):
                log.code = 1006
                keep = False
                return
            if kind == websocket.ABNF.OPCODE_CLOSE:
                log.code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
                keep = False
                return
            yield data.decode("utf-8", "replace")
    finally:
        if not keep:
            socket.close(timeout=1)


def first(pieces: Iterator[str], longest: float) -> Iterator[str]:
    """Yield what comes in one go, for so many seconds at most."""
    began, come = time.monotonic(), False
    for piece in pieces:
        yield piece
        if (come and not piece) or time.monotonic() - began > longest:
            return
        come = come or bool(piece)
