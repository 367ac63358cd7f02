"""What all handlers share: how errors are answered, how a query is read, how blocking work leaves the event loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, TypeVar, cast

from jupyter_server.base.handlers import APIHandler
from tornado import web

from taskapi_jupyter.client import bell
from taskapi_jupyter.core import room
from taskapi_jupyter.core.contract import NOT_LET_IN, ErrorBody, encode
from taskapi_jupyter.core.errors import BadRequest, Damaged, NotStarted, TaskAPIError, UnsupportedEncoding, printable
from taskapi_jupyter.core.states import JobCode, values
from taskapi_jupyter.server.activity import ACTIVITY, Activity
from taskapi_jupyter.server.authentication import Authenticated
from taskapi_jupyter.server.backends import BACKENDS, Backends
from taskapi_jupyter.service.service import Service

T = TypeVar("T")


class Errors:
    """Answer errors as ``{"kind", "message"}``; the routes of the contract answer 400 for all of ours."""

    contract = False

    @property
    def backends(self: Any) -> Backends:
        """Return what answers for the environments."""
        return cast("Backends", self.settings[BACKENDS])

    @property
    def activity(self: Any) -> Activity:
        """Return what counts jobs in progress; it is told of submissions."""
        return cast("Activity", self.settings[ACTIVITY])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Answer HEAD wherever GET is answered: in the same way, and tornado sends no body."""
        super().__init_subclass__(**kwargs)
        if "get" in vars(cls):
            cls.head = cls.get  # type: ignore[attr-defined]

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Give one of our errors its status."""
        error = kwargs.get("exc_info", (None, None))[1]
        error = room.as_told(error) or error
        if isinstance(error, TaskAPIError):
            kwargs["exc_info"] = (type(error), error, None)
            status_code = self.status_of(error)
        super().send_error(status_code, **kwargs)  # type: ignore[misc]

    def status_of(self, error: TaskAPIError) -> int:
        """Return the HTTP status that one of our errors is answered with: 507 on every route."""
        of_http = isinstance(error, UnsupportedEncoding | NotStarted)  # which are no answers of an operator
        return 400 if self.contract and not of_http and error.status != 507 else error.status

    def write_error(self: Any, status_code: int, **kwargs: Any) -> None:
        """Write the body of an error answer."""
        error = kwargs.get("exc_info", (None, None))[1]
        if status_code == 405:
            methods = [m for m in self.SUPPORTED_METHODS if implemented(self, m)]
            self.set_header("Allow", ", ".join(methods))
        if status_code == 403 and getattr(self, "_jupyter_current_user", None) is None:
            error = None  # a client without any token needs to know that, not that an XSRF token is missing
        self.set_header("Content-Type", "application/json")
        self.finish(encode(error_body(error, status_code, self.request.method)))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log unforeseen exceptions; errors with a message for people are in the answer."""
        told = value if isinstance(value, Damaged) else room.as_told(value)
        if told is not None:
            self.log.warning("%s", told)  # type: ignore[attr-defined]
        elif not isinstance(value, TaskAPIError):
            super().log_exception(typ, value, tb)  # type: ignore[misc]


def implemented(handler: Any, method: str) -> bool:
    """Whether a handler answers an HTTP method."""
    function = getattr(type(handler), method.lower(), None)
    return function is not None and function is not web.RequestHandler._unimplemented_method


def error_body(error: BaseException | None, status: int, method: str | None) -> ErrorBody:
    """Return what an error says to a person; nothing of an exception that was not meant for one.

    A message may quote what was sent: nothing of it comes back that a terminal would obey.
    """
    if isinstance(error, TaskAPIError):
        return ErrorBody(error.kind, printable(error.message, but="\n"))
    if isinstance(error, web.HTTPError) and (message := error.get_message()):
        return ErrorBody("error", printable(message, but="\n"))
    messages = {
        403: f"{NOT_LET_IN}: send the server's token as 'Authorization: token …'",
        404: "there is nothing at this path",
        405: f"{method} is not allowed at this path",
        500: "internal error; the server's log has more",
    }
    return ErrorBody("error", messages.get(status, f"HTTP {status}"))


class Handler(Errors, Authenticated, APIHandler):  # type: ignore[misc]
    """Base of the routes."""

    def set_default_headers(self) -> None:
        """Say JSON unless a handler says otherwise; jobs change, so nothing is to be kept."""
        super().set_default_headers()
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Refuse everybody who is not authenticated, whatever the method or path."""
        await super().prepare()
        if self.request.method == "OPTIONS":
            return
        self.check_authenticated()
        if (failure := await self.backends.failing()) is not None:
            await self.check_authorized()
            raise failure

    def compute_etag(self) -> str | None:
        """Skip hashing every answer."""
        return None

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Finish with the content type that was set, which Jupyter would make JSON."""
        kwargs.setdefault("set_content_type", self._headers["Content-Type"])
        return super().finish(*args, **kwargs)

    def update_api_activity(self) -> None:
        """Count the request as activity if it may change something: pages and panels that are open read for ever.

        One that says by ``no_track_activity`` that it shall not be counted is not, even in bytes that are no text.
        """
        if self.request.method not in ("GET", "HEAD"):
            with suppress(web.HTTPError):
                super().update_api_activity()

    async def quick(self, function: Callable[..., T], *args: object) -> T:
        """Run blocking work that takes milliseconds."""
        return await self.backends.run(self.backends.quick, function, *args)

    async def steps(self, environment: Service, work: Generator[float, None, T]) -> T:
        """Take the steps of some work, each in a thread; none is held while it waits until something changes."""

        def step() -> tuple[float, T | None]:
            try:
                return next(work), None
            except StopIteration as end:
                return -1, end.value

        with self.backends.changes_of(environment).watching(None) as changed:
            while True:
                changed.clear()
                pause, value = await self.slow(step)
                if pause < 0:
                    return cast("T", value)
                await bell.woken(changed, pause)

    async def slow(self, function: Callable[..., T], *args: object) -> T:
        """Run blocking work that may take long."""
        return await self.backends.run(self.backends.slow, function, *args)

    def text(self, name: str) -> str | None:
        """Return a query parameter, or None where it is not given."""
        text: str | None = self.get_query_argument(name, None)
        if text == "":
            raise BadRequest(f"{name} is empty: leave it out, or give a value")
        return text

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return a query parameter as a number within bounds."""
        text: str | None = self.get_query_argument(name, None)
        if text is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise BadRequest(f"{name} must be a whole number from {low} to {high}, not {text[:64]!r}")
        return int(text)

    def number(self, name: str, high: float) -> float | None:
        """Return a query parameter as a number from 0 on, None where it is not given."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:
            raise BadRequest(f"{name} must be a number from 0 to {high:g}, not {text[:64]!r}")
        return value

    def flag(self, name: str) -> bool:
        """Return a query parameter that is true or false."""
        text: str = self.get_query_argument(name, "false").lower()
        if text not in ("true", "false"):
            raise BadRequest(f"{name} must be true or false, not {text[:64]!r}")
        return text == "true"

    def statuses(self, among: Iterable[JobCode]) -> list[str] | None:
        """Return the statuses asked for, repeated or with commas between; only some may be."""
        given = [one for text in self.get_query_arguments("status") for one in text.split(",")]
        known = values(among)
        for one in given:
            if one not in known:
                raise BadRequest(f"status must be one of {', '.join(known)}, not {one[:64]!r}")
        return given or None
