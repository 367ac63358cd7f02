"""The server's URLs: the one that people use, and the one that kernels and terminals get."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyter_server import CallContext
from tornado.routing import Router

from taskapi_jupyter.client.environments_file import LOCAL
from taskapi_jupyter.service import servers

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp
    from tornado.httputil import HTTPServerRequest

#: What a proxy adds to a request; read where the server trusts it (``ServerApp.trust_xheaders``).
FORWARDED = ("X-Forwarded-Proto", "X-Scheme", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix")
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%@+:-]+)+/?")


class Address:
    """The addresses of one server, whose jobs are in ``home``."""

    def __init__(self, serverapp: ServerApp, home: Path, log: Logger) -> None:
        self._app = serverapp
        self._home = home
        self._log = log
        self._before: dict[str, str | None] = {}  # variables as they were before they were handed over
        self._announced = False
        self._failed = ""

    def inner(self) -> str:
        """Return the base URL at which this server listens."""
        return f"{self._app.connection_url.rstrip('/')}/"

    def public(self, request: HTTPServerRequest | None = None) -> str:
        """Return the base URL that people can use; the one of a request where nothing that was configured says it."""
        return (
            hub_url(os.environ, self._app.base_url)
            or custom_url(self._app.custom_display_url, self._app.base_url, self._app.default_url)
            or (request and self._app.trust_xheaders and forwarded_url(request, self._app.base_url))
            or self.inner()
        )

    def endpoint(self, api: str, env: str = LOCAL) -> str:
        """Return the URL that an API's jobs are submitted to; it carries no token."""
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        return f"{self.public(handler and handler.request)}taskapi/{env}/tasks/{api}"

    def hand_over(self) -> None:
        """Give kernels and terminals of this server its home and its address, in the variables that they inherit."""
        for name, value in (("TASKAPI_HOME", str(self._home)), ("TASKAPI_SERVER", self.inner())):
            self._before[name] = os.environ.get(name)
            os.environ[name] = value

    def announce(self) -> None:
        """Write ``servers/PID.json`` unless it is there; a home that can't be written to is logged once."""
        try:
            servers.write(self._home, self.public())
            self._announced, self._failed = True, ""
        except OSError as error:
            if str(error) != self._failed:
                self._failed = str(error)
                self._log.warning("terminals don't learn of this server: %s", error)

    def withdraw(self) -> None:
        """Take back what was handed over and announced."""
        if self._announced:
            servers.remove(self._home)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()


def hub_url(environ: Mapping[str, str], base_url: str) -> str | None:
    """Return the URL that JupyterHub gives the server with a base URL; None for any other server."""
    public = _parts(environ.get("JUPYTERHUB_PUBLIC_URL", ""))
    if public is not None and _slashed(public.path) == base_url:
        return f"{public.scheme}://{public.netloc}{base_url}"
    if _slashed(environ.get("JUPYTERHUB_SERVICE_PREFIX", "")) != base_url:
        return None  # a server that somebody started in a terminal of the Hub's
    for name in ("JUPYTERHUB_PUBLIC_HUB_URL", "JUPYTERHUB_HOST"):
        if (hub := _parts(environ.get(name, ""))) is not None:
            return f"{hub.scheme}://{hub.netloc}{base_url}"
    return None


def custom_url(url: str, base_url: str, default_url: str) -> str | None:
    """Return the base URL that ``ServerApp.custom_display_url`` means.

    It stands for the page that a browser opens first: a path may end with that page's name, such as ``/lab``.
    """
    custom = _parts(url)
    if custom is None:
        return None
    path, page = _slashed(custom.path), default_url.removeprefix(base_url.rstrip("/")).strip("/")
    if page and path.endswith(f"/{page}/"):
        path = path[: -len(page) - 1]
    return f"{custom.scheme}://{custom.netloc}{base_url if path == '/' else path}"


def forwarded_url(request: HTTPServerRequest, base_url: str) -> str | None:
    """Return the base URL that a client used, from what a proxy added to its request; None where none did."""
    added = {name: request.headers.get(name, "").partition(",")[0].strip() for name in FORWARDED}
    host = added["X-Forwarded-Host"] or request.host
    if not any(added.values()) or not _HOST.fullmatch(host):
        return None
    port = added["X-Forwarded-Port"]
    if port.isdecimal() and not re.search(r":\d+$", host) and port != {"http": "80", "https": "443"}[request.protocol]:
        host += f":{port[:5]}"
    prefix = added["X-Forwarded-Prefix"]
    if not _PREFIX.fullmatch(prefix) or base_url.startswith(_slashed(prefix)):
        prefix = ""
    return f"{request.protocol}://{host}{prefix.rstrip('/')}{base_url}"


def _parts(url: str) -> Any:
    """Return the parts of a URL; None if it is not one of HTTP."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc)
    except ValueError:
        return None
    return parts if usable else None


def _slashed(path: str) -> str:
    return f"/{path.strip('/')}/".replace("//", "/")


class SlashRouter(Router):
    """Takes ``//taskapi`` for ``/taskapi``, as a URL that ends with a slash makes it, and answers nothing itself."""

    SUPPORTED_METHODS = ()  # Jupyter looks through handlers for methods that ask for no user

    def __init__(self, base_url: str) -> None:
        self._pattern = re.compile(re.escape(base_url.rstrip("/")) + r"//+(?=taskapi/)")
        self._base_url = base_url

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Have the routers after this one see the path with one slash."""
        request.path = self._pattern.sub(lambda match: self._base_url, request.path, count=1)
