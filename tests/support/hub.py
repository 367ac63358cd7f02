"""A real JupyterHub: its proxy, single-user servers of users that nobody has to make, and its idle culler.

``make test-hub`` installs them, and says by ``TASKAPI_HUB`` where.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from support import PATIENCE, until
from support.homes import clean
from support.kernels import Served
from support.servers import reserved_port
from taskapi_jupyter.client.rest import Client

PREFIX = "/hubs/"
SLOW = 90.0  # seconds that a server may take to start

CONFIG = """
c.JupyterHub.bind_url = {url!r}
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite://"
c.JupyterHub.cookie_secret_file = {folder!r} + "/cookie_secret"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.pid_file = {folder!r} + "/proxy.pid"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {folder!r} + "/users/{{username}}"
c.Spawner.cmd = [{singleuser!r}]
c.Spawner.args = ["--allow-root", "--LabApp.news_url=None"]
c.Spawner.environment = {{"JUPYTERHUB_ACTIVITY_INTERVAL": "1"}}
c.Spawner.start_timeout = 90
c.Spawner.http_timeout = 90
c.JupyterHub.last_activity_interval = 1
c.JupyterHub.activity_resolution = 0
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.services = [{{"name": "tests", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens", "access:servers"]}}
]
"""


class Hub:
    """A JupyterHub whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{reserved_port()}{PREFIX}"
        bin_ = Path(os.environ["TASKAPI_HUB"]).parent
        config = CONFIG.format(
            url=self.url,
            hub_port=reserved_port(),
            proxy_port=reserved_port(),
            folder=str(folder),
            singleuser=str(bin_ / "jupyterhub-singleuser"),
            token=self.token,
        )
        (folder / "jupyterhub_config.py").write_text(config)
        hidden = ("TASKAPI_", "JPY_", "JUPYTER", "COLUMNS")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        # Where the proxy is, and a node to run it: the one of the development environment, or Debian's.
        places = [str(bin_), str(bin_.parent / "node_modules" / ".bin"), str(Path(sys.executable).parent)]
        self.environ["PATH"] = os.pathsep.join([*places, os.environ["PATH"]])
        self.python = str(bin_ / "python")
        self.log = folder / "hub.log"
        with self.log.open("wb") as file:
            command = [os.environ["TASKAPI_HUB"], "-f", str(folder / "jupyterhub_config.py")]
            self.process = subprocess.Popen(command, cwd=folder, env=self.environ, stdout=file, stderr=file)
        until(self._answers, f"JupyterHub to answer; {self.log}", SLOW)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}hub/api/", timeout=PATIENCE).ok
        except requests.ConnectionError:
            return False

    def api(self, method: str, path: str, **body: Any) -> Any:
        """Ask the Hub for something as its administrator."""
        answer = requests.request(
            method,
            f"{self.url}hub/api/{path}",
            headers={"Authorization": f"token {self.token}"},
            json=body or None,
            timeout=PATIENCE,
        )
        assert answer.ok, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def runs(self, name: str) -> bool:
        """Return True if a user's server runs."""
        server = self.api("GET", f"users/{name}")["servers"].get("")
        return bool(server and server["ready"])

    def start(self, name: str) -> User:
        """Start a user's server, and return the user."""
        if not any(user["name"] == name for user in self.api("GET", "users")):
            self.api("POST", f"users/{name}")
        self.api("POST", f"users/{name}/server")
        until(lambda: self.runs(name), f"the server of {name}; {self.log}", SLOW)
        return User(self, name)

    def stop(self, name: str) -> None:
        """End a user's server, as its culler does."""
        self.api("DELETE", f"users/{name}/server")
        until(lambda: not self.api("GET", f"users/{name}")["servers"], f"the server of {name} to end", SLOW)

    @contextmanager
    def culler(self, timeout: int) -> Iterator[None]:
        """Run the idle culler, which looks each second."""
        command = [self.python, "-m", "jupyterhub_idle_culler", f"--url={self.url}hub/api", "--cull-every=1"]
        environ = {**self.environ, "JUPYTERHUB_API_TOKEN": self.token}
        with (self.folder / "culler.log").open("wb") as log:
            culler = subprocess.Popen([*command, f"--timeout={timeout}"], env=environ, stdout=log, stderr=log)
        try:
            yield
        finally:
            culler.kill()
            culler.wait()

    def close(self) -> None:
        """End it, with all servers and jobs."""
        began = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        self.process.wait(PATIENCE)
        for one in began:  # the proxy's node may have been started by another program, which alone is told to end
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for home in self.folder.glob("users/*/.local/share/jupyter/taskapi"):
            clean(home)


class User:
    """Somebody with a server, who has a token for it."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        self.url = f"{hub.url}user/{name}/"
        self.token = hub.api("POST", f"users/{name}/tokens")["token"]
        self.auth = {"Authorization": f"token {self.token}"}
        self.home = hub.folder / "users" / name / ".local/share/jupyter/taskapi"

    def client(self) -> Client:
        """Return a client that goes through the proxy."""
        return Client(f"{self.url}taskapi/local", self.token)

    def kernel(self) -> Served:
        """Start a kernel on the server, through the proxy."""
        return Served(self)
