"""The server extension: its traits, how it starts and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from functools import cache, partial
from pathlib import Path

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.services.contents.filemanager import FileContentsManager
from traitlets import Bool, Enum, Int, Unicode, Union, default

from taskapi_jupyter.core.contract import MAX_UPLOAD
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.service.home import default_home

from .activity import ACTIVITY, Activity
from .address import Address, SlashRouter
from .backends import BACKENDS, Backends
from .events import Events
from .handlers.about import DOCUMENT
from .proxy.handler import ClusterRouter
from .routes import document, handlers


class TaskAPIApp(ExtensionApp):  # type: ignore[misc]
    """Cortex's TaskAPI for this server: deploy, submit, watch and stop jobs that run beside the kernels."""

    name = "taskapi_jupyter"
    app_name = "taskapi-jupyter"
    description = __doc__

    home = Unicode(
        help="Folder that holds APIs and jobs (default: the environment variable TASKAPI_HOME, "
        "else `taskapi` in Jupyter's data directory).",
    ).tag(config=True)

    report_activity = Union(
        [Bool(), Enum(["schedules"])],
        default_value=True,
        help="Count jobs in progress as activity of this server, so that neither "
        "`ServerApp.shutdown_no_activity_timeout` nor JupyterHub's culler ends it while they run, and of the kernels "
        "that submitted them, so that `MappingKernelManager.cull_idle_timeout` does not. "
        "(Jobs outlive the server, but not a container that ends with it.) "
        "`schedules`: count a schedule that fires within the next hour, too, as activity of this server.",
    ).tag(config=True)

    max_upload = Int(
        MAX_UPLOAD,
        min=1,
        help="Largest pickled function that can be deployed, in bytes (by multipart; a JSON body has 10 MiB at most).",
    ).tag(config=True)

    @default("home")  # type: ignore[untyped-decorator]
    def _default_home(self) -> str:
        return str(default_home())

    def initialize_settings(self) -> None:
        """Make what handlers share.

        What :meth:`stop_extension` uses comes first: a server whose extension can't be stopped does not end.
        """
        self.events: Events | None = None
        self._watch: asyncio.Task[None] | None = None
        folder = Path(os.path.expanduser(self.home)).absolute()
        self.address = Address(self.serverapp, folder, self.log)
        self.backends = Backends(folder, self.address, self.max_upload, self.log, self._begin)
        self.activity = Activity(self.serverapp, self.backends, lambda: self.report_activity, self.log)
        self.events = Events(HomePaths(folder).database, self.serverapp.event_logger, self.log)
        self.backends.changes[folder] = self.events
        self.settings[BACKENDS] = self.backends
        self.settings[ACTIVITY] = self.activity
        self._list_kept_kernels(folder)
        self._tell_pages()
        self.settings[DOCUMENT] = cache(partial(document, self.serverapp.base_url))  # made when it is asked for

    def _list_kept_kernels(self, folder: Path) -> None:
        """Have the server list the kernels that jobs keep, unless its user has settings for kernels of others."""
        manager, given = self.serverapp.kernel_manager, self.serverapp.config.get("ServerApp", {})
        theirs = {"allow_external_kernels", "external_connection_dir"} & set(given)
        if not theirs and getattr(manager, "external_connection_dir", "") is None:
            manager.external_connection_dir = str(HomePaths(folder).kernels)

    def _tell_pages(self) -> None:
        """Tell the extension's pages which folder is shown: JupyterLab's know it, Notebook's do not."""
        contents = self.serverapp.contents_manager
        if isinstance(contents, FileContentsManager):
            page = self.serverapp.web_app.settings.setdefault("page_config_data", {})
            page["taskapiRoot"] = os.path.abspath(contents.root_dir)

    def initialize_handlers(self) -> None:
        """Add the routes; those of clusters come first and leave all other requests to the handlers."""
        base = self.serverapp.base_url
        clusters = ClusterRouter(self.serverapp.web_app, base, self.backends.clusters)
        routers = [(".*//taskapi/.*", SlashRouter(base)), (re.escape(f"{base}taskapi/") + ".*", clusters)]
        self.serverapp.web_app.add_handlers(".*$", routers)
        self.handlers.extend(handlers())

    async def _start_jupyter_server_extension(self, serverapp: object) -> None:
        self.address.hand_over()  # now that the port is known
        self._watch = asyncio.create_task(self.activity.watch())
        self._begin()
        # A full collection looks at all that Jupyter has loaded, and blocks the event loop for 0.2 s meanwhile.
        gc.freeze()

    def _begin(self) -> None:
        """Start to emit events, once the server runs and its home can be used."""
        if self._watch is not None and self.events is not None and self.backends.failure is None:
            self.events.start()

    def current_activity(self) -> bool:
        """Whether jobs are in progress; Jupyter asks before it ends an idle server."""
        return self.activity.current

    async def stop_extension(self) -> None:
        """End tasks and threads; jobs go on."""
        gc.unfreeze()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.backends.close()
        self.address.withdraw()  # once no thread can announce it again
