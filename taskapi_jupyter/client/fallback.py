"""What a client of a server does where the server is gone: it uses the server's home itself, on this machine.

Gone is a server that can't be reached, or lets no more in who it let in before: another one may have its address. What
reads goes on in any case. What changes something goes on only where the server surely received nothing of it, so that
nothing is done twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import Forbidden, TaskAPIError, Unreachable

if TYPE_CHECKING:
    from .taskapi import TaskAPI

AGAIN = 5.0  # seconds until a server that was gone is asked again; more where that took long
SHARE = 4  # asking takes one of so many parts of the time at most
GONE = (Unreachable, Forbidden)

Method = TypeVar("Method", bound=Callable[..., Any])


class Home:
    """The home of a server, with the id that the server gave; ``here`` returns what answers from it."""

    def __init__(self, path: Path, folder_id: str, here: Callable[[], TaskAPI]) -> None:
        self._path, self._id, self._here = path, folder_id, here
        self._lock = threading.Lock()
        self._instead: TaskAPI | None = None
        self._again = float("-inf")  # when the server may be asked again

    def close(self) -> None:
        """Let it go."""
        if self._instead is not None:
            self._instead.close()

    def now(self) -> TaskAPI | None:
        """Return what answers now, None where the server is to be asked."""
        return self._instead if time.monotonic() < self._again else None

    def turn(self, took: float) -> TaskAPI | None:
        """Return what answers from now on, None where this is not the server's home or can't be used."""
        with self._lock:
            if self._instead is None and self._id == host.folder_id(self._path):
                with suppress(TaskAPIError):  # then what is wrong with the server is said
                    self._instead = self._here()
            self._again = time.monotonic() + max(AGAIN, SHARE * took)
            return self._instead


def reads(method: Method) -> Method:
    """Have a client's method answered by the server's home where the server is gone."""
    return _either(method, lambda client, error: True)


def changes(method: Method) -> Method:
    """As :func:`reads`, but only where the server surely has not begun with it."""
    return _either(method, _not_begun)


def _not_begun(client: Any, error: TaskAPIError) -> bool:
    """Whether a request was not sent, or refused by a server that lets us read nothing either."""
    if isinstance(error, Unreachable):
        return not error.sent
    try:
        client.ask_server()
    except GONE:
        return True
    return False


def _either(method: Method, may: Callable[[Any, TaskAPIError], bool]) -> Method:
    @wraps(method)
    def call(client: Any, *given: Any, **options: Any) -> Any:
        home: Home | None = client.home_of_server
        if home is None:
            return method(client, *given, **options)
        instead, began = home.now(), time.monotonic()
        if instead is None:
            try:
                return method(client, *given, **options)
            except GONE as error:
                if not may(client, error) or (instead := home.turn(time.monotonic() - began)) is None:
                    raise
        return getattr(instead, method.__name__)(*given, **options)

    return cast("Method", call)
