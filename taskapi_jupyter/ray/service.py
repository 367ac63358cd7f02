"""TaskAPI of a Ray cluster: a home of its own below this machine's, whose supervisor has the Ray engine."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from taskapi_jupyter.client.environments_file import Entry
from taskapi_jupyter.core import files, guard
from taskapi_jupyter.core.errors import TaskAPIError, Unavailable
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.cortex.operator import Upstream
from taskapi_jupyter.service import engine_settings, retention, servers
from taskapi_jupyter.service.outputs import outputs_of
from taskapi_jupyter.service.service import Service

from .placement import AT_MOST, OnRay

_LOOK_AFTER = 30.0  # seconds from one time to the next


class RayService(Service):
    """The TaskAPI of one Ray cluster: a service whose jobs run there and leave what they leave in a storage.

    ``home`` is the environment's own; ``address`` the URL of the cluster's dashboard; ``headers`` authenticate;
    ``storage`` is where jobs leave results and files: an absolute path or a URL that fsspec knows, None for nowhere.
    """

    provider = "ray"
    poll_ceiling = 0.1
    _placement: OnRay

    def __init__(
        self,
        home: Path,
        *,
        environment: str,
        address: str,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        storage: str | None = None,
        endpoint: Callable[[str], str | None] | None = None,
    ) -> None:
        guard.enter(home)
        try:
            settings = _settle(
                home,
                {"provider": "ray", "address": address.rstrip("/"), "headers": dict(headers or {}), "verify": verify},
                storage,
            )
        except OSError as error:
            raise Unavailable(f"can't use {home} for jobs: {error.strerror}; set TASKAPI_HOME") from None
        self._look_after_at = 0.0
        super().__init__(
            home,
            environment=environment,
            endpoint=endpoint,
            placement=partial(OnRay, environment, settings),
            outputs=outputs_of(environment, settings["storage"]),
        )

    def renew(self) -> None:
        """Where the cluster is unreachable for the supervisor, try it with our headers; may take some seconds."""
        self._placement.renew()

    def look_after(self) -> None:
        """Start a supervisor where jobs are in progress and none lives; now and then, do what it can't do itself.

        It has nobody's variables, which hold the credentials of a cluster and a storage. So its headers are replaced
        by ours where they are no longer accepted, and what deleted jobs left in the storage and in the cluster's list
        is removed. May take long, and raise :class:`TaskAPIError`.
        """
        self.in_progress()
        now = time.monotonic()
        if now < self._look_after_at:
            return
        self._look_after_at = now + _LOOK_AFTER
        self._placement.renew()
        self._placement.deleted()
        retention.finish_forgetting(self.store, self.home, self._outputs.storage, {}, AT_MOST)


def headers(entry: Entry) -> dict[str, str]:
    """Return the headers that authenticate at an environment's cluster, read anew.

    Raises :class:`Unavailable` where a variable or a file that a header is read from is missing.
    """
    return Upstream(entry.name, entry.address or "", headers=entry.headers).configured()


def connect(home: Path, entry: Entry, endpoint: Callable[[str], str | None] | None = None) -> RayService:
    """Return the service of an environment, whose home is below this machine's; raise as :func:`headers`."""
    assert entry.address is not None
    return RayService(
        HomePaths(home).ray / entry.name,
        environment=entry.name,
        address=entry.address,
        headers=headers(entry),
        verify=str(Path(entry.verify).expanduser()) if isinstance(entry.verify, str) else entry.verify,
        storage=entry.storage,
        endpoint=endpoint or servers.Endpoints(home, entry.name),  # servers register in this machine's home
    )


def forget_headers(home: Path, name: str) -> None:
    """Remove the credentials of an environment that was deleted from its home."""
    there = HomePaths(home).ray / name
    if HomePaths(there).engine.exists():
        with suppress(OSError, TaskAPIError), files.locked_folder(there):
            engine_settings.write(str(there), {**engine_settings.read(str(there)), "headers": {}})


def _settle(home: Path, settings: dict[str, Any], storage: str | None) -> dict[str, Any]:
    """Write the settings that the supervisor needs, unless they are there; return them with our headers.

    Headers that another process wrote stay until the cluster has accepted ours: each process reads them from its own
    variables.
    """
    with files.locked_folder(home):  # two processes must not give it two ids
        there = engine_settings.read(str(home))
        home_id = there.get("home_id") or secrets.token_hex(4)
        settings = {**settings, "home_id": home_id, "storage": f"{storage.rstrip('/')}/{home_id}" if storage else None}
        same = there.get("address") == settings["address"]
        written = {**settings, "headers": there.get("headers") or settings["headers"]} if same else settings
        if written != there:
            engine_settings.write(str(home), written)
    return settings
