"""What every handler shares: who is let in, how errors are answered, how a body is read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.auth.utils import HTTP_METHOD_TO_AUTH_ACTION
from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.httputil import HTTPServerRequest

from taskapi_jupyter.core import room
from taskapi_jupyter.core.contract import MAX_BODY, NOT_LET_IN, ErrorBody, encode
from taskapi_jupyter.core.errors import (
    BadRequest,
    Damaged,
    NotStarted,
    TaskAPIError,
    TooLarge,
    UnsupportedEncoding,
    printable,
    size,
)

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import TaskAPI
    from taskapi_jupyter.service.service import Service

    from .app import TaskAPIApp

NAME = "taskapi_jupyter"
RESOURCE = "taskapi"
MAX_PAGE = 1000  # jobs
MAX_CHUNK = 16 << 20  # bytes of a log
MAX_DAYS = 36_525
INT64 = (1 << 63) - 1
DRAIN = 64 << 20  # bytes of a body that we read past its cap, so that a client gets to see the answer

Method = TypeVar("Method", bound=Callable[..., Any])
T = TypeVar("T")


def guarded(method: Method) -> Method:
    """Let in only who is authenticated and authorised for the resource ``taskapi``."""
    return cast("Method", web.authenticated(authorized(method)))


class Errors:
    """Answer errors as ``{"kind", "message"}``; the routes of the contract answer 400 for all of ours."""

    contract = False

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
            error = None  # that an XSRF token was missing too is no help to who has no token at all
        self.set_header("Content-Type", "application/json")
        self.finish(encode(error_body(error, status_code, self.request.method)))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what nobody foresaw; what is meant for people, they are told."""
        told = value if isinstance(value, Damaged) else room.as_told(value)
        if told is not None:
            self.log.warning("%s", told)  # type: ignore[attr-defined]
        elif not isinstance(value, TaskAPIError):
            super().log_exception(typ, value, tb)  # type: ignore[misc]


def implemented(handler: Any, method: str) -> bool:
    """Say whether a handler answers an HTTP method."""
    function = getattr(type(handler), method.lower(), None)
    return function is not None and function is not web.RequestHandler._unimplemented_method


def refuse_worker(request: HTTPServerRequest) -> None:
    """Refuse a script that a page would have act on later requests, whatever it is that would be its code."""
    if request.headers.get("Service-Worker", "").strip().lower() == "script":
        raise web.HTTPError(403, "nothing here may become a service worker")


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


class Handler(Errors, APIHandler):  # type: ignore[misc]
    """Base of the routes."""

    auth_resource = RESOURCE

    @property
    def extension(self) -> TaskAPIApp:
        """Return the extension that this handler belongs to."""
        return cast("TaskAPIApp", self.settings[NAME])

    def environment(self, name: str) -> Service:
        """Return what answers for the environment in the path."""
        return self.extension.environment(name)

    def set_default_headers(self) -> None:
        """Say JSON unless a handler says otherwise; jobs change, so nothing is to be kept."""
        super().set_default_headers()
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Let nobody in who is not authenticated, whatever the method or path."""
        await super().prepare()
        if self.request.method == "OPTIONS":
            return
        if self.current_user is None:
            raise web.HTTPError(403)
        refuse_worker(self.request)
        if self.request.method == "GET" and "_xsrf" not in self.request.cookies and not self.token_authenticated:
            _ = self.xsrf_token  # sets the cookie that a client without a token sends with what it changes
        if (failure := await self.extension.failing()) is not None:
            await self.check_authorized()
            raise failure

    async def check_authorized(self) -> None:
        """Raise HTTPError where the user may not do this: before a body is kept, where `guarded` comes after it."""
        action = HTTP_METHOD_TO_AUTH_ACTION[self.request.method]
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
            raise web.HTTPError(403, f"User is not authorized to {action} on resource: {RESOURCE}.")

    def get_login_url(self) -> str:
        """Refuse instead of redirecting to a login page: who calls is a program."""
        raise web.HTTPError(403)

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
        return await self.extension.run(self.extension.quick, function, *args)

    async def steps(self, begin: Callable[..., Generator[float, None, T]], *args: object) -> T:
        """Take the steps of some work, each in a thread; none is held while the work waits for its next step."""
        work = begin(*args)

        def step() -> tuple[float, T | None]:
            try:
                return next(work), None
            except StopIteration as end:
                return -1, end.value

        while True:
            pause, value = await self.slow(step)
            if pause < 0:
                return cast("T", value)
            await asyncio.sleep(pause)

    async def slow(self, function: Callable[..., T], *args: object) -> T:
        """Run blocking work that may take long."""
        return await self.extension.run(self.extension.slow, function, *args)

    async def ask(self, env: str, function: Callable[[TaskAPI], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Call a function with what answers for an environment.

        For this machine and for Ray it runs in a thread of ``pool`` (default: the quick one), for a Cortex cluster in
        one of the cluster's own.
        """
        cluster = self.extension.clusters.find(env)
        if cluster is not None:
            return await cluster.ask(function)
        return await self.extension.run(pool or self.extension.quick, function, self.environment(env))

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
        """Return the largest body that is taken, in bytes."""
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
        """Raise HTTPError where this request is not let in."""
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
