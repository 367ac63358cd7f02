"""Every way to a server: a browser and a kernel of one server see, and change, the same jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from jupyter_server.auth.security import passwd

from support import ECHO, request_for, until
from support.homes import clean, supervisor_of
from support.kernels import Kernel, Served
from support.servers import BASE_URL, LiveServer, reserved_port, start_server
from taskapi_jupyter import environments
from taskapi_jupyter._version import __version__
from taskapi_jupyter.client.http import xsrf_of
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Forbidden

PASSWORD = "open sesame"
KERNELS: list[Kernel] = []  # to which there are connections
Start = Callable[..., LiveServer]


class Browser:
    """Somebody who is signed in, as a browser is: by cookies."""

    def __init__(self, server: LiveServer, url: str | None = None, password: str = "") -> None:
        self.server, self.url = server, url or server.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Connection"] = "close"
        # A page without a name is one of the server's that sets cookies, however it asks who is there.
        self.session.get(f"{self.url}login", params={"token": server.token} if server.token else {}, timeout=60)
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
        kernel = Served.__new__(Served)
        kernel.connect(self.url, started.json()["id"], cookie=self.cookie())
        KERNELS.append(kernel)
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
    told = kernel.run("import taskapi_jupyter; api = taskapi_jupyter.connect(); print(type(api).__mro__)")
    assert f".{way}'>" in told
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
    while KERNELS:
        KERNELS.pop().close()
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
    "neither token nor password": ({"token": ""}, (), "Client"),
    "password": (
        {"token": ""},
        (f"--PasswordIdentityProvider.hashed_password={passwd(PASSWORD, 'sha1')}",),
        "Service",
    ),
}


@pytest.mark.parametrize(
    ("way", "another_home"),
    [("token", False), ("token", True), ("neither token nor password", False), ("password", True)],
    ids=lambda value: value if isinstance(value, str) else "another home" if value else "its home",
)
def test_browser_and_kernel_see_one_truth(start: Start, tmp_path: Path, way: str, another_home: bool) -> None:
    options, arguments, kind = AUTHENTICATION[way]
    server = start(*arguments, *((elsewhere(tmp_path),) if another_home else ()), **options)
    browser = Browser(server, password=PASSWORD if way == "password" else "")
    kernel = browser.kernel()
    see_one_truth(browser, kernel, kind)
    told = kernel.run("%taskapi env")
    assert f"home: {server.home.parent / 'elsewhere' if another_home else server.home}\n" in told
    server_said = f"server: {server.url} (taskapi_jupyter {__version__})\n"
    not_let_in = f"server: none: {server.url} refuses this kernel, which uses its home directly\n"
    assert (not_let_in if kind == "Service" else server_said) in told
    assert (server.home / "taskapi.db").exists() != another_home


def test_below_the_root(start: Start) -> None:
    browser = Browser(start(base_url="/"))
    see_one_truth(browser, browser.kernel(), "Client")


def hub(port: int, token: str) -> dict[str, str]:
    """Return the variables that JupyterHub gives the server of somebody, which has the tests' base URL."""
    return {
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{port}{BASE_URL}",
        "JUPYTERHUB_SERVICE_PREFIX": BASE_URL,
        "JUPYTERHUB_API_TOKEN": token,
        "JUPYTERHUB_PUBLIC_URL": f"https://hub.example{BASE_URL}",
    }


def test_a_hubs_server_and_one_that_was_started_in_its_terminal(start: Start, tmp_path: Path) -> None:
    port, token = reserved_port(), "0123456789abcdef"
    server = start(elsewhere(tmp_path), port=port, token=token, environ=hub(port, token))
    browser = Browser(server)
    kernel = browser.kernel()
    see_one_truth(browser, kernel, "Client")
    kernel.run(f"%%taskapi deploy echo\n{ECHO}")
    told = kernel.run("api.get('echo').endpoint")
    assert told == f"'https://hub.example{BASE_URL}taskapi/local/tasks/echo'"

    handed = {"TASKAPI_SERVER": server.url, "JPY_PARENT_PID": str(server.process.pid), **hub(port, token)}
    inner = start(elsewhere(tmp_path, 1), environ=handed, base_url="/")
    browser = Browser(inner)
    kernel = browser.kernel()
    see_one_truth(browser, kernel, "Client")
    kernel.run(f"%%taskapi deploy echo\n{ECHO}")
    assert kernel.run("api.get('echo').endpoint") == f"'{inner.url}taskapi/local/tasks/echo'"
    assert (
        environments.own_server({**handed, "TASKAPI_SERVER": inner.url, "JUPYTER_RUNTIME_DIR": str(tmp_path)}) is None
    )


def test_what_a_server_hands_over_reaches_its_terminals_and_no_job(start: Start, tmp_path: Path) -> None:
    server = start(elsewhere(tmp_path))
    home = server.home.parent / "elsewhere"
    kernel = Browser(server).kernel()
    kernel.run("%%taskapi deploy names\nimport os\n\ndef run(config):\n    return sorted(os.environ)")
    names = kernel.run("job = %taskapi submit names --wait\nprint(job.result())")
    assert "TASKAPI_HOME" in names
    assert "TASKAPI_SERVER" not in names
    pid = supervisor_of(home)
    assert b"TASKAPI_" not in Path(f"/proc/{pid}/environ").read_bytes()
    # What a terminal of JupyterLab starts has no JPY_PARENT_PID.
    told = kernel.run(
        "import os, subprocess, sys\n"
        "environ = {name: value for name, value in os.environ.items() if name != 'JPY_PARENT_PID'}\n"
        "command = [sys.executable, '-m', 'taskapi_jupyter.ui.cli', 'get', 'names', '-o', 'json']\n"
        "print(subprocess.run(command, env=environ, capture_output=True, text=True).stdout)"
    )
    (api,) = json.loads(told)
    assert api["endpoint"] == f"{server.taskapi}/tasks/names"
    assert [job["status"] for job in api["task_job_statuses"]] == ["succeeded"]


# Through a proxy

NGINX = """
daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  server {{
    listen 127.0.0.1:{port};
    location /team/ {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[int], int]]:
    """Return what starts an nginx that passes on to a port, with a prefix, and returns its own port."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or os.geteuid() != 0:
        pytest.skip("there is no nginx here, or it can't be started")
    processes: list[subprocess.Popen[bytes]] = []

    def start(behind: int) -> int:
        port = reserved_port()
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(NGINX.format(folder=tmp_path, port=port, behind=behind))
        processes.append(subprocess.Popen([str(program), "-c", str(configuration), "-p", str(tmp_path)]))
        until(lambda: answers(port), "nginx to answer")
        return port

    def answers(port: int) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 404
        except requests.ConnectionError:
            return False

    yield start
    for process in processes:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("way", AUTHENTICATION)
def test_a_prefix_behind_nginx(start: Start, nginx: Callable[[int], int], way: str) -> None:
    options, arguments, kind = AUTHENTICATION[way]
    server = start("--ServerApp.trust_xheaders=True", *arguments, base_url="/team/", **options)
    url = f"http://127.0.0.1:{nginx(int(urlsplit(server.url).port or 0))}/team/"
    browser = Browser(server, url, PASSWORD if way == "password" else "")
    kernel = browser.kernel()
    see_one_truth(browser, kernel, kind)
    kernel.run(f"%%taskapi deploy echo\n{ECHO}")
    (api,) = browser.ask("GET", "taskapi/local/get").json()
    assert api["endpoint"] == f"{url}taskapi/local/tasks/echo"  # what the browser used
    assert kernel.run("api.get('echo').endpoint") == f"'{server.url}taskapi/local/tasks/echo'"
    assert browser.ask("POST", "/taskapi/local/tasks/echo", json={}).status_code == 200  # two slashes
    kernel.run("api.delete('echo')")


# The pair that a server without a token asks for


def change(client: Client) -> None:
    """Deploy, submit and delete."""
    client.deploy_request(request_for("pair", ECHO))
    assert client.submit("pair").wait().result() == {}
    assert "deleted pair" in client.delete("pair")


def test_a_client_without_a_token_and_one_with_a_needless_one(start: Start) -> None:
    server = start(token="")
    for token in (None, "needless"):
        client = Client(server.taskapi, token)
        change(client)
        client._http._xsrf = "2|00000000|0123|1"  # one that does not match any more
        change(client)
        client._http._xsrf = None
        large = request_for("large", ECHO + "#" * (2 << 20))
        assert "large" in client.deploy_request(large)[0].message  # by multipart
        job = client.submit("large").wait()
        socket = client._http.websocket("streamlogs/large", {"jobID": job.id})
        assert "hello" in socket.recv()
        socket.close()
        client.delete("large")
        client.close()


def test_a_client_with_the_cookie_of_a_browser(start: Start) -> None:
    options, arguments, _ = AUTHENTICATION["password"]
    server = start(*arguments, **options)
    browser = Browser(server, password=PASSWORD)
    login = "; ".join(one for one in browser.cookie().split("; ") if not one.startswith("_xsrf="))
    for cookie in (browser.cookie(), login, f"{login}; _xsrf=nonsense"):
        client = Client(server.taskapi, headers={"Cookie": cookie})
        change(client)
        client.deploy_request(request_for("followed", ECHO))
        job = client.submit("followed").wait()
        socket = client._http.websocket("streamlogs/followed", {"jobID": job.id})
        assert "hello" in socket.recv()
        socket.close()
        client.close()
    with pytest.raises(Forbidden):
        Client(server.taskapi).get()
    with pytest.raises(Forbidden):
        change(Client(server.taskapi, "wrong"))


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (("_xsrf=2|ab|cd|12; Path=/some/base/",), "2|ab|cd|12"),
        (('username-127="2|1:0|10:1"; Path=/', "_xsrf=abc; HttpOnly"), "abc"),
        (("a=b; _xsrf=abc",), "abc"),
        (("not_xsrf=abc", "a=_xsrf=abc", ""), None),
        ((), None),
    ],
)
def test_the_cookie_among_others(cookies: tuple[str, ...], found: str | None) -> None:
    assert xsrf_of(*cookies) == found
