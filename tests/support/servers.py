"""Real Jupyter servers with the extension, each with a home of its own."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from support import PATIENCE, until
from support.homes import clean
from taskapi_jupyter.core import host

BASE_URL = "/some/base/"


@dataclass
class LiveServer:
    """A ``jupyter server`` process."""

    url: str  # with its base URL and a slash
    token: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def taskapi(self) -> str:
        """Return the base URL of the local environment."""
        return f"{self.url}taskapi/local"

    @property
    def auth(self) -> dict[str, str]:
        """Return the header that lets in."""
        return {"Authorization": f"token {self.token}"}

    def fetch(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask for a path below the local environment."""
        headers = {**self.auth, **options.pop("headers", {})}
        return requests.request(method, f"{self.taskapi}/{path}", headers=headers, timeout=PATIENCE, **options)


def start_server(
    folder: Path,
    *arguments: str,
    module: str = "jupyter_server",
    port: int | None = None,
    token: str | None = None,
    root: Path | None = None,
    environ: dict[str, str] | None = None,
    base_url: str = BASE_URL,
    patience: float = 2 * PATIENCE,
    status: int = 200,
) -> LiveServer:
    """Start a server whose configuration, data and home are below a folder, and wait until it answers.

    ``status`` is what it answers; one that does not let us in answers 403.
    """
    token = secrets.token_hex(16) if token is None else token
    port, home = port or reserved_port(), folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.yaml").write_text("stop_grace: 1\n")
    environ = {
        **os.environ,
        **(environ or {}),
        "TASKAPI_HOME": str(home),
        "JUPYTER_NO_CONFIG": "1",
        **{f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
    }
    command = [sys.executable, "-m", module, "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.base_url={base_url}"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root or folder}"]
    command += ["--ServerApp.jpserver_extensions=taskapi_jupyter=True", "--allow-root", *arguments]
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=file, stderr=file)
    server = LiveServer(f"http://127.0.0.1:{port}{base_url}", token, home, process)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return server.fetch("GET", "verifycortex").status_code in (status, 403)
        except requests.ConnectionError:
            return False

    try:
        until(answers, f"the server to answer; {log}", patience)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


def stop_server(server: LiveServer) -> None:
    """Stop a server and whatever runs in its home."""
    server.process.terminate()
    server.process.wait(PATIENCE)
    for home in (server.home, *(server.home / "ray").glob("*")):
        clean(home)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


def reserved_port() -> int:
    """Return a port of the loopback interface that is nobody else's until this process ends.

    It stays bound and is not listened to: who connects is refused, until a program listens to it that allows
    addresses to be shared (SO_REUSEADDR), as servers do.
    """
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    port = int(one.getsockname()[1])
    atexit.register(one.close) if host.LINUX else one.close()  # BSD's allow that to nobody
    return port
