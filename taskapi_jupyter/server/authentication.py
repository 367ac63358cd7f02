"""Who may ask: the token or cookie of each request is checked here, then what its user is allowed to do.

Jupyter's identity provider reads the token (``current_user``), its authorizer decides for the resource ``taskapi``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.auth.utils import HTTP_METHOD_TO_AUTH_ACTION
from tornado import web
from tornado.httputil import HTTPServerRequest

RESOURCE = "taskapi"

Method = TypeVar("Method", bound=Callable[..., Any])


def guarded(method: Method) -> Method:
    """Answer only users who are authenticated, and authorized for the resource ``taskapi``."""
    return cast("Method", web.authenticated(authorized(method)))


def refuse_worker(request: HTTPServerRequest) -> None:
    """Refuse to be the code of a service worker: it would act on later requests of Jupyter's pages."""
    if request.headers.get("Service-Worker", "").strip().lower() == "script":
        raise web.HTTPError(403, "nothing here may become a service worker")


class Authenticated:
    """Mixin of all handlers: Jupyter's own, those of websockets among them, come after it."""

    auth_resource = RESOURCE

    def check_authenticated(self: Any) -> None:
        """Raise HTTPError unless the request has the server's token or a session's cookie."""
        if self.current_user is None:
            raise web.HTTPError(403)
        refuse_worker(self.request)
        if self.request.method == "GET" and "_xsrf" not in self.request.cookies and not self.token_authenticated:
            _ = self.xsrf_token  # sets the cookie that a client without a token sends with each change

    async def check_authorized(self: Any, action: str | None = None) -> None:
        """Raise HTTPError unless the user may do this; ``action`` is by default that of the HTTP method.

        :func:`guarded` does the same, but only after a body was read.
        """
        action = action or HTTP_METHOD_TO_AUTH_ACTION[self.request.method]
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)):
            raise web.HTTPError(403, f"User is not authorized to {action} on resource: {RESOURCE}.")

    def get_login_url(self) -> str:
        """Raise HTTPError instead of redirecting to a login page: clients are programs."""
        raise web.HTTPError(403)
