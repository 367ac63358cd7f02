"""What a client does when its Jupyter server is gone: it uses the server's home on this machine directly.

A server is gone when it can't be reached, or refuses a client that it accepted before: another server may have its
address. Reads then always go on from the home. A change does so only if the server certainly did not receive it, so
that nothing is done twice.
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

AGAIN = 5.0  # seconds until a server that was gone is asked again; more where asking took long
SHARE = 4  # asking takes at most one in so many parts of the time
GONE = (Unreachable, Forbidden)

Method = TypeVar("Method", bound=Callable[..., Any])


class Home:
    """The home of a server, with the id that the server reported; ``here`` makes the TaskAPI that uses it.

    ``bell`` is the home of the environment's jobs, which is another one for Ray.
    """

    def __init__(self, path: Path, folder_id: str, here: Callable[[], TaskAPI], bell: Path) -> None:
        self._path, self._id, self._here, self.bell = path, folder_id, here, bell
        self._lock = threading.Lock()
        self._instead: TaskAPI | None = None
        self._again = float("-inf")  # when the server may be asked again

    def close(self) -> None:
        """Let it go."""
        if self._instead is not None:
            self._instead.close()

    def now(self) -> TaskAPI | None:
        """Return the TaskAPI to use now; None: ask the server."""
        return self._instead if time.monotonic() < self._again else None

    def turn(self, took: float) -> TaskAPI | None:
        """Use the home from now on, and return its TaskAPI; None where it is another one, or can't be used."""
        with self._lock:
            if self._instead is None and self._id == host.folder_id(self._path):
                with suppress(TaskAPIError):  # the error about the server is raised then
                    self._instead = self._here()
            self._again = time.monotonic() + max(AGAIN, SHARE * took)
            return self._instead


def reads(method: Method) -> Method:
    """Make a client's method use the server's home where the server is gone."""
    return _either(method, lambda client, error: True)


def changes(method: Method) -> Method:
    """As :func:`reads`, but only where the server certainly has not begun with it."""
    return _either(method, _not_begun)


def _not_begun(client: Any, error: TaskAPIError) -> bool:
    """Whether a request was not sent, or was refused by a server that refuses reads, too."""
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
