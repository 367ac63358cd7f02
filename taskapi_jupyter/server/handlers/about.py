"""The routes about the server itself and what was built in its home, and 404 for all other paths."""

from __future__ import annotations

from tornado import web

from taskapi_jupyter.client.packages import no_packages
from taskapi_jupyter.core.contract import MAX_PAGE, Message, PackagesResponse, encode
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.service.service import Service

from .base import Errors, Handler
from .body import BodyHandler

DOCUMENT = "taskapi_jupyter_openapi"  # key in the application's settings: a function that returns it


class EnvironmentsHandler(Handler):
    """The environments that this server knows."""

    @guarded
    async def get(self) -> None:
        """List them."""
        self.finish(encode(await self.quick(self.backends.environments)))


class Packages(Errors):
    """Base of the routes for environments of packages."""

    def environment(self, env: str) -> Service:
        """Return the service of an environment; raise :class:`NotKept` for a Cortex cluster."""
        if self.backends.clusters.find(env) is not None:
            raise no_packages(env)
        return self.backends.environment(env)


class PackagesHandler(Packages, Handler):
    """All environments of packages."""

    @guarded
    async def get(self, env: str) -> None:
        """List them."""
        found = await self.slow(self.environment(env).packages)
        self.finish(encode(PackagesResponse(found)))


class OnePackagesHandler(Packages, Handler):
    """One environment of packages."""

    @guarded
    async def delete(self, env: str, key: str) -> None:
        """Delete it."""
        self.finish(encode(Message(await self.slow(self.environment(env).delete_packages, key))))


class NotificationsHandler(Handler):
    """What config.yaml notifies, and what was sent."""

    @guarded
    async def get(self, env: str) -> None:
        """Answer the names and the newest deliveries."""
        name, limit = self.text("name"), self.integer("limit", 50, 1, MAX_PAGE)
        self.finish(encode(await self.backends.ask(env, lambda environment: environment.notifications(name, limit))))


class TestNotificationHandler(BodyHandler):
    """A test of one name."""

    @guarded
    async def post(self, env: str, name: str) -> None:
        """Send it, and answer what came back."""
        pool = self.backends.slow
        self.finish(encode(await self.backends.ask(env, lambda there: there.test_notification(name), pool)))


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
