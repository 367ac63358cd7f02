"""HTTP of all clients: one session with its credentials, changes that are sent only once, errors made from answers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.contract import MAX_BODY, NOT_LET_IN, ErrorBody
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    Conflict,
    Forbidden,
    GroupNotFound,
    JobIsRunning,
    JobNotFound,
    JobNotInProgress,
    NoKernel,
    NoNotebook,
    NoNotebookYet,
    NotAcceptable,
    NotFound,
    QueryParamRequired,
    ResultNotStored,
    ScheduleNotFound,
    StopTimeout,
    TaskAPIError,
    TooLarge,
    Unavailable,
    Unreachable,
    UpstreamTimeout,
    size,
)

if TYPE_CHECKING:
    import requests
    from websocket import WebSocket

JSON = "application/json"
XSRF = "_xsrf"  # the cookie's name
STOP_TIMEOUT = 90.0  # seconds; a stop is answered once the job is gone, its grace period included
CONNECT_TIMEOUT = 10.0  # seconds
PIECE = 256 << 10  # bytes of a form that are sent at once
CONNECTIONS = 64  # that are kept for threads which ask at once; for more, urllib3 warns of each that it drops

T = TypeVar("T")

BY_KIND: dict[str, type[TaskAPIError]] = {
    error.kind: error
    for error in (
        APIIDNotFound,
        APINotDeployed,
        GroupNotFound,
        ScheduleNotFound,
        JobIsRunning,
        JobNotFound,
        JobNotInProgress,
        NoKernel,
        NoNotebook,
        NoNotebookYet,
        QueryParamRequired,
        ResultNotStored,
        StopTimeout,
    )
}
BY_STATUS: dict[int, type[TaskAPIError]] = {
    error.status: error
    for error in (
        BadRequest,
        Conflict,
        Forbidden,
        NotAcceptable,
        NotFound,
        TooLarge,
        Unavailable,
        Unreachable,
        UpstreamTimeout,
    )
}
BY_STATUS[507] = Unavailable


class Transport:
    """Sends requests below a base URL and raises the errors that answers stand for.

    ``timeout`` is in seconds of silence. A request that changes something is never sent twice; a read is sent once
    more if the connection broke. ``sign`` returns further headers for a path, which begins with a slash; ``cluster`` is
    the environment's name if the server is a Cortex operator.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        verify: bool | str = True,
        timeout: float = 30.0,
        sign: Callable[[str], Mapping[str, str]] | None = None,
        cluster: str | None = None,
    ) -> None:
        # Here and not above: who uses this machine without a server makes none, and requests takes long to import.
        from http.cookiejar import DefaultCookiePolicy

        import requests
        from requests.adapters import HTTPAdapter

        self.base_url = checked(base_url)
        self.timeout = timeout
        self._sign = sign or (lambda path: {})
        self._cluster = cluster
        self._session = requests.Session()
        # The environment is read here, not by requests: a netrc entry for the host would replace the token.
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        self._session.verify = bundle or True if verify is True else verify
        self._session.cookies.set_policy(
            DefaultCookiePolicy(allowed_domains=[])
        )  # the token authenticates, not a cookie
        if not is_loopback(self.base_url):
            self._session.proxies.update(requests.utils.get_environ_proxies(self.base_url))
        self._session.headers.update(headers or {})
        if token:
            self._session.headers["Authorization"] = f"token {token}"
        self._own_headers = ("Authorization", *(headers or {}))
        self._xsrf = xsrf_of(str(self._session.headers.get("Cookie") or ""))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: bytes | Multipart | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request and return the answer; raise the error that it stands for."""
        if isinstance(body, Multipart):
            content_type = body.content_type
        if body is not None and len(body) > MAX_BODY and content_type == JSON:
            raise TooLarge(f"the body is larger than {size(MAX_BODY)}")
        headers = {"Accept": accept, **({"Content-Type": content_type} if body is not None else {}), **(headers or {})}
        headers |= self._sign(f"/{path}")
        timeout = max(self.timeout, STOP_TIMEOUT) if patient else self.timeout
        # While a body is sent, what counts is the time for each piece of it.
        connect = self.timeout if isinstance(body, Multipart) else min(timeout, CONNECT_TIMEOUT)

        def exchange() -> requests.Response:
            return self._exchange(
                method, path, params=query, data=cast("Any", body), headers=headers, timeout=(connect, timeout)
            )

        changes = method not in ("GET", "HEAD")
        # Who has no token needs the pair; a large body is not to be sent in vain.
        if changes and self._xsrf is None and (isinstance(body, Multipart) or not self._has_token()):
            self._fetch_xsrf()
        answer = exchange()
        # It was refused before anything was done, so that it may be sent again.
        if changes and answer.status_code == 403 and b"xsrf" in answer.content.lower() and self._fetch_xsrf():
            answer = exchange()
        if answer.status_code not in (200, 206):
            raise self._error(answer)
        return answer

    def _exchange(
        self, method: str, path: str, *, headers: Mapping[str, str], timeout: tuple[float, float], **options: Any
    ) -> requests.Response:
        """Send one request, a read once more where the connection broke; return the answer, whatever it is."""
        import requests

        for tries_left in (1, 0) if method == "GET" else (0,):
            try:
                answer = self._session.request(
                    method,
                    urljoin(f"{self.base_url}/", path),
                    headers=self._with_xsrf(headers),
                    timeout=timeout,
                    allow_redirects=False,
                    **options,
                )
                break
            except requests.ConnectTimeout:
                failure = self._too_slow(f"did not take the connection within {timeout[0]:g} s")
                failure.sent = False
                raise failure from None
            except requests.Timeout:
                raise self._too_slow(f"did not answer within {timeout[1]:g} s") from None
            except requests.RequestException as error:
                if not tries_left:
                    failure = self._unreachable(f"can't be reached ({cause(error)})")
                    failure.sent = not _never_connected(error)
                    raise failure from None
        self._xsrf = xsrf_of(*answer.raw.headers.getlist("Set-Cookie")) or self._xsrf
        return answer

    # Without a token, a Jupyter server accepts changes only with a cookie whose value a header repeats.

    def _has_token(self) -> bool:
        return "Authorization" in self._session.headers

    def _fetch_xsrf(self) -> bool:
        """Get such a cookie from a Jupyter server, to replace one that it refused; True if there is one now."""
        path = re.sub(r".*/taskapi/[^/]+$", "../environments", self.base_url)
        self._xsrf = None
        if path != self.base_url:
            with suppress(TaskAPIError):
                self._exchange("GET", path, headers=self._sign("/"), timeout=(CONNECT_TIMEOUT, self.timeout))
        return self._xsrf is not None

    def _with_xsrf(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Add cookie and header to a request, beside a cookie that the request or the session has."""
        given = headers.get("Cookie") or str(self._session.headers.get("Cookie") or "")
        if self._xsrf is None and not given:
            return dict(headers)
        cookies = [one for one in map(str.strip, given.split(";")) if one and not one.startswith(f"{XSRF}=")]
        pair = {} if self._xsrf is None else {"X-XSRFToken": self._xsrf}
        return {**headers, "Cookie": "; ".join([*cookies, *(f"{XSRF}={one}" for one in pair.values())]), **pair}

    def read(self, answer: requests.Response, type_: type[T]) -> T:
        try:
            return decoding.decode(answer.content, type_)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self.foreign(answer) from None

    def websocket(self, path: str, query: Mapping[str, str]) -> WebSocket:
        """Open a websocket; raise the error that a refusal stands for, or :class:`Unreachable`."""
        import websocket

        verify = self._session.verify
        ssl: dict[str, Any] = {"ca_certs": verify} if isinstance(verify, str) else {}
        if not verify:
            ssl = {"cert_reqs": 0, "check_hostname": False}
        headers = {
            name: str(self._session.headers[name]) for name in self._own_headers if name in self._session.headers
        }
        headers |= self._sign(f"/{path}")
        try:
            return websocket.create_connection(
                f"ws{self.base_url.removeprefix('http')}/{path}?{urlencode(query)}",
                timeout=min(self.timeout, CONNECT_TIMEOUT),
                header=[f"{name}: {value}" for name, value in headers.items()],
                suppress_origin=True,  # only browsers send it; a server refuses foreign pages
                redirect_limit=0,  # credentials are for this address only
                sslopt=ssl,
                http_no_proxy=["*"] if is_loopback(self.base_url) else None,
                skip_utf8_validation=True,
            )
        except websocket.WebSocketBadStatusException as refusal:
            headers = {name.lower(): value for name, value in (refusal.resp_headers or {}).items()}
            kind = headers.get("content-type", "")
            raise self.error(refusal.status_code, refusal.resp_body or b"", kind) from None
        except websocket.WebSocketTimeoutException:
            raise self._too_slow(f"did not answer within {min(self.timeout, CONNECT_TIMEOUT):g} s") from None
        except (OSError, websocket.WebSocketException) as error:
            raise self._unreachable(f"can't be reached ({cause(error)})") from None

    def _error(self, answer: requests.Response) -> TaskAPIError:
        return self.error(answer.status_code, answer.content, answer.headers.get("Content-Type", ""))

    def error(self, status_code: int, content: bytes, content_type: str) -> TaskAPIError:
        """Return the error that an answer stands for."""
        try:
            body = decoding.decode(content, ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if status_code in (401, 403):
                return self._not_let_in(status_code)
            return self._foreign(status_code, content_type)
        if status_code == 403 and not self._cluster and body.message.startswith(NOT_LET_IN):
            return self._not_let_in(status_code)
        kind = BY_KIND.get(body.kind) or BY_STATUS.get(status_code)
        # Without __init__, which would make the sentence anew from what it was made of.
        error = TaskAPIError.__new__(kind or TaskAPIError)
        status = status_code if status_code == 507 or not kind else None
        TaskAPIError.__init__(error, body.message, kind=body.kind, status=status)
        return error

    def _not_let_in(self, status_code: int) -> Forbidden:
        """Return the error for refused credentials; its message shows no token."""
        if self._cluster:
            return Forbidden(f"{self._where()} refuses this client's credentials (HTTP {status_code})")
        token = "its token is not, or no longer, valid there" if self._has_token() else "it has no token"
        return Forbidden(
            f"{self.base_url} refuses this client (HTTP {status_code}): {token}. Set TASKAPI_URL and "
            "TASKAPI_TOKEN to the URL and the token of a server that runs (`jupyter server list` shows both)"
        )

    def _where(self) -> str:
        return f"environment {self._cluster} ({self.base_url})" if self._cluster else self.base_url

    def _too_slow(self, what: str) -> Unreachable:
        error = self._unreachable(what)
        return UpstreamTimeout(error.message) if self._cluster else error

    def _unreachable(self, what: str) -> Unreachable:
        if self._cluster:
            hint = "see whether the cluster's operator is up and operator_endpoint right"
            return Unreachable(f"{self._where()} {what}: {hint}", kind="environment.unreachable")
        return Unreachable(f"{self._where()} {what}: see whether the Jupyter server there is running")

    def foreign(self, answer: requests.Response) -> Unreachable:
        """Return the error for an answer that is not one of this API."""
        return self._foreign(answer.status_code, answer.headers.get("Content-Type", ""))

    def _foreign(self, status_code: int, content_type: str) -> Unreachable:
        kind = content_type.partition(";")[0].strip().lower() or "no content type"
        hint = "its operator_endpoint is right"
        if not self._cluster:
            hint = (
                "the server extension taskapi_jupyter is enabled there (`jupyter server extension list`) and whether "
                "the URL is right"
            )
        return Unreachable(
            f"{self._where()} did not answer as a TaskAPI (HTTP {status_code}, {kind}): see whether {hint}"
        )


class Multipart:
    """A form of named parts; their bytes are sent without a copy."""

    def __init__(self, parts: Mapping[str, bytes]) -> None:
        boundary = os.urandom(16).hex()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._blocks: list[bytes] = []
        for name, data in parts.items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
            self._blocks += [head.encode(), data, b"\r\n"]
        self._blocks.append(f"--{boundary}--\r\n".encode())

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def __iter__(self) -> Iterator[memoryview]:
        for block in self._blocks:
            view = memoryview(block)
            for start in range(0, len(view), PIECE):
                yield view[start : start + PIECE]


def xsrf_of(*cookies: str) -> str | None:
    """Return the value of the XSRF cookie among headers of cookies, None where there is none."""
    found = [match[1] for text in cookies for match in re.finditer(rf"(?:^|;\s*){XSRF}=\"?([\w|:.=-]+)", text)]
    return found[-1] if found else None


def media_type(answer: requests.Response) -> str:
    """Return an answer's media type without its parameters."""
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def checked(url: str) -> str:
    """Return a base URL without a slash at its end, or raise :class:`BadRequest` for one that can't be used."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest(f"{url!r} is no URL of a server: http://… or https://…")
    if parts.username or parts.password or parts.query or parts.fragment:  # not shown: it may hold a secret
        raise BadRequest(f"the URL for {parts.hostname} must end with its path and hold no password: give a token")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, so that no proxy is used."""
    import ipaddress

    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _never_connected(error: requests.RequestException) -> bool:
    """Whether no connection was made, so that nothing can have been sent."""
    from urllib3.exceptions import NewConnectionError

    return isinstance(getattr(error.args[0] if error.args else None, "reason", None), NewConnectionError)


def cause(error: BaseException) -> str:
    """Return the innermost cause of an error of requests, in few words; its own text is long."""
    inner: Any = error
    while True:
        nearer = getattr(inner, "reason", None) or next(
            (arg for arg in getattr(inner, "args", ()) if isinstance(arg, BaseException)), None
        )
        if not isinstance(nearer, BaseException):
            break
        inner = nearer
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = re.sub(r"\[Errno -?\d+\] ", "", str(inner).rpartition("new connection: ")[2])
    return type(inner).__name__ if "://" in text or not text else text[:200]
