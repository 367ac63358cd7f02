"""Every way to a server: a browser and a kernel of one server see, and change, the same jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import websocket
from conftest import ECHO, LiveServer, clean, start_server
from jupyter_server.auth.security import passwd
from test_kernels import Kernel

PASSWORD = "open sesame"
Start = Callable[..., LiveServer]


class Browser:
    """Somebody who is signed in, as a browser is: by cookies."""

    def __init__(self, server: LiveServer, url: str | None = None, password: str = "") -> None:
        self.server, self.url = server, url or server.url
        self.session = requests.Session()
        self.session.trust_env = False
        page = self.session.get(f"{self.url}login", params={"token": server.token} if server.token else {}, timeout=60)
        page.raise_for_status()
        if password:
            self.ask("POST", "login", data={"password": password}).raise_for_status()

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request as a page does."""
        headers = {"X-XSRFToken": self.session.cookies.get("_xsrf") or "", **options.pop("headers", {})}
        return self.session.request(method, f"{self.url}{path}", headers=headers, timeout=60, **options)

    def cookie(self) -> str:
        """Return the header that a websocket is opened with."""
        return "; ".join(f"{one.name}={one.value}" for one in self.session.cookies)

    def kernel(self) -> Kernel:
        """Start a kernel."""
        started = self.ask("POST", "api/kernels", json={"name": "python3"})
        started.raise_for_status()
        kernel = Kernel.__new__(Kernel)
        kernel.id = started.json()["id"]
        url = f"ws://{urlsplit(self.url).netloc}{urlsplit(self.url).path}api/kernels/{kernel.id}/channels"
        kernel.socket = websocket.create_connection(url, cookie=self.cookie(), timeout=60)
        assert kernel.run("%load_ext taskapi_jupyter") == ""
        return kernel

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that the sidebar lists."""
        return [job["job_id"] for job in self.ask("GET", "taskapi/local/jobs").json()["jobs"]]

    def submit(self, api: str) -> str:
        """Submit a job as the sidebar does."""
        answer = self.ask("POST", f"taskapi/local/tasks/{api}", json={})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])


def see_one_truth(browser: Browser, kernel: Kernel, way: str) -> None:
    """Change things on both sides, and see each on the other."""
    told = kernel.run("import taskapi_jupyter; api = taskapi_jupyter.connect(); print(type(api).__name__)")
    assert told.strip() == way
    assert "created echo" in kernel.run(f"%%taskapi deploy echo\n{ECHO}")
    theirs = kernel.run("job = %taskapi submit echo --wait\nprint(job.id)").split()[-1]
    assert browser.jobs() == [theirs]
    ours = browser.submit("echo")
    assert "succeeded" in kernel.run(f"print(api.get('echo', '{ours}').wait().status)")
    assert kernel.run("print([job.id for job in api.jobs()])").strip() == str([ours, theirs])
    assert "hello" in kernel.run(f"%taskapi logs {ours} -f")
    assert "deleted" in kernel.run(f"print(api.forget('{theirs}'))")
    assert browser.jobs() == [ours]
    assert "echo" in kernel.run("print(api.delete('echo'))")
    assert browser.ask("GET", "taskapi/local/get").json() == []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a server; the jobs of its home, and of the home of its variables, end with the test."""
    servers: list[LiveServer] = []

    def start(*arguments: str, **options: Any) -> LiveServer:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(start_server(folder, *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
        for home in (server.home, server.home.parent / "elsewhere"):
            clean(home)


def elsewhere(tmp_path: Path, number: int = 0) -> str:
    """Return the option that gives a server another home than its variables say."""
    home = tmp_path / f"server-{number}" / "elsewhere"
    return f"--TaskAPIApp.home={home}"


AUTHENTICATION = {
    "token": ({}, (), "Client"),
    "password": (
        {"token": ""},
        (f"--PasswordIdentityProvider.hashed_password={passwd(PASSWORD, 'sha1')}",),
        "Service",
    ),
}


@pytest.mark.parametrize("another_home", [False, True], ids=["its home", "another home"])
@pytest.mark.parametrize("way", AUTHENTICATION)
def test_browser_and_kernel_see_one_truth(start: Start, tmp_path: Path, way: str, another_home: bool) -> None:
    options, arguments, kind = AUTHENTICATION[way]
    server = start(*arguments, *((elsewhere(tmp_path),) if another_home else ()), **options)
    browser = Browser(server, password=PASSWORD if way == "password" else "")
    see_one_truth(browser, browser.kernel(), kind)
    assert (server.home / "taskapi.db").exists() != another_home
