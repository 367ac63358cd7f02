"""Whether a page has this kernel's notebook open."""

from __future__ import annotations

import json
import os
import time

from taskapi_jupyter import environments
from taskapi_jupyter.client.headers import kernel_id
from taskapi_jupyter.client.http import Transport
from taskapi_jupyter.core.errors import TaskAPIError

PATIENCE = 5.0  # seconds
AGAIN = 60.0  # seconds until a server that refused is asked again: one with only a password always refuses


class Audience:
    """Asks the server that started the kernel how many pages are connected to it; that does not count as activity."""

    def __init__(self) -> None:
        self._server: Transport | None = None
        self._asks = float("-inf")  # when the server may be asked
        self._path = f"api/kernels/{kernel_id()}"
        if (own := environments.own_server_and_token(os.environ)) and kernel_id():
            self._server = Transport(*own, timeout=PATIENCE)

    def gone(self) -> bool:
        """Whether the server says that no page is connected to the kernel; False if it can't be asked."""
        if self._server is None or time.monotonic() < self._asks:
            return False
        try:
            answer = self._server.send("GET", self._path, {"no_track_activity": "1"})
            return bool(json.loads(answer.content).get("connections") == 0)
        except (TaskAPIError, ValueError, AttributeError):
            self._asks = time.monotonic() + AGAIN
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._server is not None:
            self._server.close()
