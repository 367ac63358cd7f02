"""The routes about the server itself, and 404 for all other paths."""

from __future__ import annotations

from tornado import web

from taskapi_jupyter.core.contract import encode
from taskapi_jupyter.server.authentication import guarded

from .base import Handler
from .body import BodyHandler

DOCUMENT = "taskapi_jupyter_openapi"  # key in the application's settings: a function that returns it


class EnvironmentsHandler(Handler):
    """The environments that this server knows."""

    @guarded
    async def get(self) -> None:
        """List them."""
        self.finish(encode(await self.quick(self.backends.environments)))


class DocumentHandler(Handler):
    """The OpenAPI document."""

    @guarded
    async def get(self) -> None:
        """Answer it."""
        self.finish(self.settings[DOCUMENT]())


class NothingHandler(BodyHandler):
    """All other paths below ``taskapi/``."""

    async def prepare(self) -> None:
        """Answer 404 to users who are authenticated, 403 to others."""
        await super().prepare()
        if self.refused is None and self.request.method != "OPTIONS":
            self.refused = web.HTTPError(404)
            self.current_user = None

    @guarded
    async def get(self) -> None:
        """Answer 404, through :meth:`prepare`."""

    head = post = put = patch = delete = get
