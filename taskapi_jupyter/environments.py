"""Named environments, and which TaskAPI answers for each."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from .client.environments_file import Entry, EnvironmentFile, Environments
from .client.taskapi import TaskAPI
from .core import host, nesting
from .core.contract import Environment, EnvironmentsResponse
from .core.errors import BadRequest, NotFound, TaskAPIError
from .core.paths import HomePaths
from .service.home import default_home
from .service.service import Service

if TYPE_CHECKING:
    from .client.fallback import Home
    from .client.rest import Client

#: Variables that say where an environment is; a connection is kept as long as they do not change.
PLACES = ("TASKAPI_URL", "TASKAPI_TOKEN", "TASKAPI_HOME", "TASKAPI_SERVER", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL")


def file(home: Path | None = None) -> EnvironmentFile:
    """Return the file of a home's environments."""
    return EnvironmentFile(home or default_home())


def load(home: Path | None = None) -> EnvironmentsResponse:
    """Return the environments of ``environments.yaml`` in a home; without that file there is ``local`` alone."""
    return file(home).read().response()


def find(environments: EnvironmentsResponse, name: str | None) -> Environment:
    """Return one environment by name, the default one for None; raise :class:`NotFound` naming those there are."""
    name = name or environments.default_environment
    for one in environments.environments:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in environments.environments)
    raise NotFound(f"there is no environment {name!r}; there are: {known}")


def connect(env: str | None = None, *, environ: Mapping[str, str] = os.environ) -> TaskAPI:
    """Return the TaskAPI of an environment: see :func:`taskapi_jupyter.connect`.

    The first of these that accepts this process: the Jupyter server that ``TASKAPI_URL`` names (with ``TASKAPI_TOKEN``;
    no other is tried then), JupyterHub's single-user server, the server that started this kernel, and this machine
    itself, with the home in ``TASKAPI_HOME``. If a server that ``TASKAPI_URL`` did not name is gone later, its home is
    used directly, if it is on this machine: see :mod:`.client.fallback`.
    """
    server = server_of(environ)
    if server is not None:
        url, token = server
        about = _client(url, token, env or "local").environments()
        environment = find(about, env)
        if (provider := PROVIDERS.get(environment.provider)) is not None and provider.is_relayed:
            from .cortex.client import CortexClient

            return CortexClient(f"{url}taskapi/{environment.name}", token, environment=environment)
        home = None if environ.get("TASKAPI_URL") else _home_of(about, environment)
        return _client(url, token, environment.name, server=about, home=home)
    return _here(env, default_home())


def _client(url: str, token: str | None, env: str = "local", **options: Any) -> Client:
    """Return the client of an environment of the server at a base URL."""
    from .client.rest import Client  # not above: without a server there is nothing to be asked over HTTP

    return Client(f"{url}taskapi/{env}", token, environment=env, **options)


def _home_of(about: EnvironmentsResponse, environment: Environment) -> Home | None:
    """Return a server's home if it is also this process's; None where it is another one, or unknown."""
    from .client.fallback import Home

    path = default_home()
    if not about.home or about.home != host.folder_id(path):
        return None
    return Home(path, about.home, partial(_here, environment.name, path), jobs_home(path, environment))


def jobs_home(home: Path, environment: Entry | Environment) -> Path:
    """Return the home of an environment's jobs: ``home``, or one below it where each environment has its own."""
    provider = PROVIDERS.get(environment.provider)
    if provider is None or not provider.has_home:
        return home
    return home / environment.provider / environment.name


def _here(env: str | None, home: Path) -> TaskAPI:
    """Return the TaskAPI of an environment of a home, without a server."""
    there = file(home).read()
    entry = there.find(env)
    return PROVIDERS[entry.provider].connect(home, there, entry)


# The imports of a cluster's client take time that who uses this machine need not spend.


def _local(home: Path, there: Environments, entry: Entry) -> TaskAPI:
    return Service(home, environment=entry.name)


def _ray(home: Path, there: Environments, entry: Entry) -> TaskAPI:
    from .ray import service

    cluster = service.connect(home, entry)
    cluster.renew()
    return cluster


def _cortex(home: Path, there: Environments, entry: Entry) -> TaskAPI:
    from .cortex.client import CortexClient
    from .cortex.operator import upstream_of

    return CortexClient.direct(upstream_of(there, entry), entry.public())


class Provider(NamedTuple):
    """What differs between providers where environments are connected to."""

    connect: Callable[[Path, Environments, Entry], TaskAPI]  # without a server
    has_home: bool = False  # each environment has a home of its own, PROVIDER/NAME, which a server looks after
    is_relayed: bool = False  # a server passes requests on to the cluster, which stores its jobs itself


#: A new provider needs a line here, and one in ``client/environments_file`` for the fields of its entries.
PROVIDERS = {
    "local": Provider(_local),
    "ray": Provider(_ray, has_home=True),
    "cortex": Provider(_cortex, is_relayed=True),
}


class Connections:
    """TaskAPIs that are reused as long as the variables and the file that locate them stay the same. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[object, ...], TaskAPI] = {}

    def get(self, env: str | None = None, home: str | None = None) -> TaskAPI:
        """Return the connection to an environment, a new one where there is none; for ``home``: :func:`reconnect`."""
        other = home if home and Path(home) != default_home() and HomePaths(Path(home)).database.is_file() else None
        where = tuple(os.environ.get(name) for name in PLACES)
        key = (os.getpid(), env, other, where, file().stamp())  # a fork has connections of its own
        with self._lock:
            if key not in self._kept:
                self._kept[key] = Service(other, environment=env or "local") if other else connect(env)
            return self._kept[key]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for api in self._kept.values():
                api.close()
            self._kept.clear()


#: The connections of this process, shared by the magic and by jobs that were unpickled.
CONNECTIONS = Connections()

#: Servers that are known to accept changes without a token.
_CHANGED: set[str] = set()


def reconnect(env: str, home: str | None = None) -> TaskAPI:
    """Return the TaskAPI of an environment for a job that was unpickled, with the home that its pickle names.

    That home is used where it exists and is not this process's own; else the environment is found by its name. All
    jobs of a process share their connections.
    """
    return CONNECTIONS.get(env, home)


def environments(environ: Mapping[str, str] = os.environ) -> EnvironmentsResponse:
    """Return the environments that :func:`connect` can reach from here."""
    server = server_of(environ)
    if server is None:
        return load()
    return _client(*server).environments()


def server_of(environ: Mapping[str, str]) -> tuple[str, str | None] | None:
    """Return the base URL (with a slash at its end) and the token of the Jupyter server to go through, or None."""
    if environ.get("TASKAPI_URL"):
        return _base(environ["TASKAPI_URL"]), environ.get("TASKAPI_TOKEN")
    return next((candidate for candidate in _candidates(environ) if _accepts(*candidate)), None)


def own_server(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the base URL of the Jupyter server that this kernel belongs to, whose pages show it."""
    return next((url for url, _ in _candidates(environ)), None)


def own_server_and_token(environ: Mapping[str, str]) -> tuple[str, str | None] | None:
    """Return the base URL and the token of the Jupyter server that this kernel belongs to, as far as it is known."""
    return next(_candidates(environ), None)


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Find the servers that this process may belong to.

    A server with this extension names itself in ``TASKAPI_SERVER``, beside its ``TASKAPI_HOME``, to all that it starts.
    Other variables may be those of a server that was there before: another one was started in its terminal or kernel.
    """
    handed = environ.get("TASKAPI_SERVER")
    for found in (_hub(environ), _parent(environ)):
        if found is not None and (not handed or _is_same(found[0], handed)):
            yield found


def _is_same(url: str, handed: str) -> bool:
    """Whether two URLs are of one server of this machine; its host may have several names."""
    try:
        one, other = urlsplit(url), urlsplit(handed)
        return (one.port, one.path.rstrip("/")) == (other.port, other.path.rstrip("/"))
    except ValueError:
        return False


def _base(url: str) -> str:
    """Return a server's base URL; the URL of an environment's route is accepted, too."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest(
            f"TASKAPI_URL is {url!r}: it must be the URL of a Jupyter server, such as http://127.0.0.1:8888/"
        )
    path = re.sub(r"/taskapi(/[^/]*)?/?$", "/", parts.path)
    return urlunsplit((parts.scheme, parts.netloc, path.rstrip("/") + "/", "", ""))


def _hub(environ: Mapping[str, str]) -> tuple[str, str | None] | None:
    """Return JupyterHub's single-user server, which listens where JUPYTERHUB_SERVICE_URL says."""
    url, token = environ.get("JUPYTERHUB_SERVICE_URL"), environ.get("JUPYTERHUB_API_TOKEN")
    if not url or not token:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not port:
        return None
    name = parts.hostname or "127.0.0.1"
    if name in ("0.0.0.0", "::"):  # it listens on all addresses, this machine's own included
        name = "127.0.0.1"
    if ":" in name:
        name = f"[{name}]"
    path = environ.get("JUPYTERHUB_SERVICE_PREFIX") or parts.path
    return f"{parts.scheme}://{name}:{port}{path.rstrip('/')}/", token


def _parent(environ: Mapping[str, str]) -> tuple[str, str | None] | None:
    """Return the server that started this kernel."""
    pid = environ.get("JPY_PARENT_PID", "")
    return server_of_process(int(pid)) if pid.isdecimal() else None


def server_of_process(pid: int) -> tuple[str, str | None] | None:
    """Return the base URL and the token of a process's server, from the file that a running server keeps.

    Read by hand: jupyter_server's own function for this imports the whole server, half a second in every kernel.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        about = nesting.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_bytes())
        return str(about["url"]).rstrip("/") + "/", about.get("token") or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def about(url: str, token: str | None) -> EnvironmentsResponse | None:
    """Return a server's description of itself; None where it gives none."""
    try:
        with closing(_client(url, token, timeout=2)) as client:  # it may be suspended
            return client.environments()
    except TaskAPIError:
        return None


def _accepts(url: str, token: str | None) -> bool:
    """Whether a server accepts reads from this process and, where only a try can tell, changes."""
    try:
        with closing(_client(url, token, timeout=5)) as client:
            client.environments()
            if token is None and url not in _CHANGED:
                client.try_to_change()
                _CHANGED.add(url)
    except TaskAPIError:
        return False
    return True
