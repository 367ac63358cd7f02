"""TaskAPI of the server that started a kernel, and of this machine where the kernel outlives that server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from . import machine
from .client import Client
from .contract import EnvironmentsResponse, TaskAPI
from .errors import Forbidden, TaskAPIError, Unreachable

AGAIN = 5.0  # seconds until a server that was gone is asked again; more where that took long
SHARE = 4  # asking takes one of so many parts of the time at most

READS = ("get", "get_version", "job_response", "jobs", "log_chunk", "result", "files", "read_file")
CHANGES = ("deploy_request", "submit", "rerun", "stop", "delete", "forget", "purge")


class OwnServer(Client):
    """The client of a server whose home is on this machine, too: where the server is gone, its home is used directly.

    Gone is a server that can't be reached, or does not let in any more who it let in before: another one may have its
    address. What reads goes on in any case. What changes something goes on only where the server surely received
    nothing of it, so that nothing is done twice.

    ``here`` returns what answers for the environment on this machine, from ``home``, the server's.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None,
        *,
        environment: str,
        server: EnvironmentsResponse,
        home: Path,
        here: Callable[[], TaskAPI],
    ) -> None:
        super().__init__(base_url, token, environment=environment, server=server)
        self._home, self._home_id = home, server.home
        self._here = here
        self._turning = threading.Lock()
        self._instead: TaskAPI | None = None
        self._asked_again = float("-inf")  # when the server may be asked again

    def close(self) -> None:
        """Close the connections."""
        super().close()
        if callable(close := getattr(self._instead, "close", None)):
            close()

    def lacks(self, feature: str) -> str | None:
        """Return the sentence to show where what answers is too old for a feature."""
        return self._either("lacks", (feature,), {}, reads=True)  # type: ignore[no-any-return]

    def environments(self) -> EnvironmentsResponse:
        """Return what the server says of itself; what it said last where it is gone."""
        try:
            return super().environments()
        except (Unreachable, Forbidden):
            if self._server is None:
                raise
            return self._server

    def _either(self, name: str, given: tuple[Any, ...], options: dict[str, Any], *, reads: bool) -> Any:
        """Call a method of the server's client, or of what answers in its place."""
        began = time.monotonic()
        if self._instead is not None and began < self._asked_again:
            return getattr(self._instead, name)(*given, **options)
        try:
            answer = getattr(super(), name)(*given, **options)
        except (Unreachable, Forbidden) as error:
            if not (reads or self._received_nothing(error)) or not self._turn():
                raise
            took = time.monotonic() - began
            self._asked_again = time.monotonic() + max(AGAIN, SHARE * took)
        else:
            self._asked_again = float("-inf")
            return answer
        return getattr(self._instead, name)(*given, **options)

    def _received_nothing(self, error: TaskAPIError) -> bool:
        """Whether a change surely was not begun: not sent, or refused by a server that lets us read nothing either."""
        if isinstance(error, Unreachable):
            return not error.sent
        try:
            super().environments()
        except (Unreachable, Forbidden):
            return True
        return False

    def _turn(self) -> bool:
        """Turn to the home itself, if it is still the server's."""
        with self._turning:
            if self._instead is None and self._home_id == machine.folder_id(self._home):
                with suppress(TaskAPIError):  # it can't be used: what is wrong with the server is said
                    self._instead = self._here()
            return self._instead is not None


def _either(name: str, reads: bool) -> Callable[..., Any]:
    @wraps(getattr(Client, name))
    def call(self: OwnServer, *given: Any, **options: Any) -> Any:
        return self._either(name, given, options, reads=reads)

    return call


for _name in READS + CHANGES:
    setattr(OwnServer, _name, _either(_name, _name in READS))
