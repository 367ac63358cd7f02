"""Fixtures: a home that leaves no process behind, the server in this process, and a real one."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupyter_core.utils
import psutil
import pytest
import requests
from cortex_double import Operator
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.service import Service

if TYPE_CHECKING:
    from ray_head import Head

pytest_plugins = ["pytest_jupyter.jupyter_server", "lab"]

# What is slow to import and of no use to the tests is not there, here and in what a test starts.
TESTS = Path(__file__).parent
#: What tests, and processes that run a part of one, import from.
PATHS = [str(TESTS), *(str(one) for one in sorted(TESTS.iterdir()) if one.is_dir() and not one.name.startswith("_"))]
WITHOUT = str(TESTS / "support" / "without")
sys.path.insert(0, WITHOUT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [WITHOUT, os.environ.get("PYTHONPATH")]))

os.environ.pop("TASKAPI_SERVER", None)  # the tests may be run in a terminal of a server with this extension
os.environ.pop("COLUMNS", None)  # tests that run in parallel are told of a window that there is not

# A shell that starts the tests in the background has this ignored, here and in whatever a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ENGINE = os.environ.get("TASKAPI_TEST_ENGINE", "local")  # what runs the jobs of the tests that are not of one engine
PATIENCE = 30.0  # seconds that anything here may take on a busy machine
BASE_URL = "/some/base/"


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a condition and return what it returned."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.01)
    return value


def processes(home: Path) -> list[psutil.Process]:
    """Return the processes that belong to a home: its supervisor, watchers and tasks; no zombies."""
    found = []
    for pid in psutil.pids():
        try:
            if pid == os.getpid() or (host.LINUX and not mentions(pid, os.fsencode(home))):
                continue
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            belongs = str(home) in process.cmdline() or process.environ().get("TASKAPI_JOB_SPEC", "").startswith(
                f"{home}/"
            )
        except (OSError, psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if belongs:
            found.append(process)
    return found


def mentions(pid: int, text: bytes) -> bool:
    """Say whether a text stands in a process's command or environment; asking psutil takes ten times as long."""
    for name in ("cmdline", "environ"):
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            if text in file.readall():
                return True
    return False


def clean(home: Path) -> None:
    """Stop a home's jobs and its supervisor, and see that no process is left."""
    if (home / "taskapi.db").exists():
        service = Service(home)
        while jobs := service.jobs(status=["pending", "running"], limit=1000):
            for job in jobs:
                with suppress(TaskAPIError):  # it ended by itself
                    service.stop(job)
        service.close()

    def gone() -> bool:
        stop_supervisor(home)  # each time: one that is only just coming would wait for work
        return not processes(home)

    if not gone():
        until(gone, f"the processes of {home} to be gone: {processes(home)}")


def stop_supervisor(home: Path, number: int = signal.SIGTERM) -> None:
    """Have a home's supervisor leave, and wait until it did; one whose jobs run stays, as a newer one."""
    lock = home / "supervisor.lock"
    if not lock.exists() or not lock.read_bytes():
        return
    pid = json.loads(lock.read_bytes())["pid"]
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        if str(home) in supervisor.cmdline():  # else its number is another's by now
            supervisor.send_signal(number)
            until(lambda: not alive(supervisor), "the supervisor to leave")


def alive(process: psutil.Process) -> bool:
    """Say whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is of another engine; set the files that drive a browser apart.

    Files are handed out in order, and two browsers at once are slow.
    """
    for item in items:
        if item.get_closest_marker("local") and ENGINE != "local":
            item.add_marker(pytest.mark.skip(reason="of the engine of this machine"))
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    browsers = [path for path in files if path.name.startswith("test_browser_")]
    others = [path for path in files if path not in browsers]
    apart = len(others) // len(browsers) if browsers else 0
    for number, path in enumerate(browsers):
        others.insert(number * (apart + 1), path)
    items[:] = [item for path in others for item in files[path]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a fresh TASKAPI_HOME, whose jobs get a second to end when stopped."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    (path / "config.yaml").write_text("stop_grace: 1\n")
    monkeypatch.setenv("TASKAPI_HOME", str(path))
    yield path
    clean(path)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one home for all tests of a file; its jobs get little time to end when stopped."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("home")
        patch.setenv("TASKAPI_HOME", str(path))
        (path / "config.yaml").write_text("stop_grace: 0.2\n")
        yield path
        clean(path)


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """Return a Ray cluster."""
    from ray_head import Head

    head = Head()
    head.start()
    yield head
    head.remove()


@pytest.fixture
def service(home: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Return the Service of that home: of this machine's engine, or of Ray's."""
    if ENGINE == "ray":
        head = request.getfixturevalue("head")
        service: Service = RayService(home, environment="ray", address=head.address, storage=str(head.folder / "left"))
    else:
        service = Service(home)
    yield service
    service.close()


# The server in this process, for tests that look at its insides; they are coroutines.


@pytest.fixture
def jp_server_config(home: Path) -> dict[str, Any]:
    """Enable the extension."""
    return {"ServerApp": {"jpserver_extensions": {"taskapi_jupyter": True}}}


@pytest.fixture(autouse=True)
def jp_asyncio_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop | None]:
    """Return an event loop; none where a browser is driven, whose driver keeps one running in this thread."""
    if "chromium" in request.fixturenames:
        yield None
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    jupyter_core.utils._loop.set(loop)  # where pytest-jupyter finds the one that a test is to run in
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def jp_server_cleanup(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clean up after a server, where a test had one (pytest-jupyter's own would make one for each test)."""
    if "jp_configurable_serverapp" not in request.fixturenames:
        yield
        return
    from jupyter_server.serverapp import ServerApp

    request.getfixturevalue("home")  # set up first, so that it is cleaned last
    loop = request.getfixturevalue("jp_asyncio_loop")
    yield
    app = ServerApp.instance()
    loop.run_until_complete(app._cleanup())
    app.kernel_manager.context.destroy()
    ServerApp.clear_instance()


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


@pytest.fixture
def call(jp_serverapp: Any, http_server_client: Any, jp_auth_header: Any, jp_base_url: str) -> Any:
    """Return ``await call(method, path below taskapi/, body)``; the path goes out as it is."""

    async def call(method: str, path: str, body: Any = None, *, headers: Any = None, auth: bool = True) -> Answer:
        if body is not None and not isinstance(body, bytes | str):
            body = json.dumps(body)
        response = await http_server_client.fetch(
            f"{jp_base_url}taskapi/{path}",
            method=method,
            body=body,
            headers={**(jp_auth_header if auth else {}), **(headers or {})},
            raise_error=False,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=60,
        )
        return Answer(response.code, response.headers, response.body)

    return call


@pytest.fixture
def log_in(jp_serverapp: Any, http_server_client: Any, jp_base_url: str, jp_auth_header: Any) -> Any:
    """Return ``await log_in()``: the cookies of a browser's session by name, each as it is sent."""

    async def log_in() -> dict[str, str]:
        token = jp_auth_header["Authorization"].removeprefix("token ")
        cookies: dict[str, str] = {}
        for path in ("login", f"api?token={token}"):
            page = await http_server_client.fetch(
                f"{jp_base_url}{path}",
                headers={"Cookie": "; ".join(cookies.values())},
                follow_redirects=False,
                raise_error=False,
            )
            for cookie in page.headers.get_list("Set-Cookie"):
                cookies[cookie.partition("=")[0]] = cookie.partition(";")[0]
        return cookies

    return log_in


# A real server, for all tests of a session


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


def free_port() -> int:
    """Return a port of the loopback interface that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start_server(
    folder: Path,
    *arguments: str,
    module: str = "jupyter_server",
    port: int | None = None,
    token: str | None = None,
    root: Path | None = None,
    environ: dict[str, str] | None = None,
    base_url: str = BASE_URL,
    patience: float = PATIENCE,
    status: int = 200,
) -> LiveServer:
    """Start a server whose configuration, data and home are below a folder, and wait until it answers.

    ``status`` is what it answers; one that does not let us in answers 403.
    """
    token = secrets.token_hex(16) if token is None else token
    port, home = port or free_port(), folder / "home"
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

    until(answers, f"the server to answer; {log}", patience)
    return server


def stop_server(server: LiveServer) -> None:
    """Stop a server and whatever runs in its home."""
    server.process.terminate()
    server.process.wait(PATIENCE)
    for home in (server.home, *(server.home / "ray").glob("*")):
        clean(home)


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server with the extension, with a token and a base URL."""
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    """Return a cluster with an API, for all tests of a file."""
    with Operator() as operator:
        operator.deploy("hello")
        yield operator


# A notebook's shell


@dataclass
class Ran:
    """What a cell did."""

    result: Any
    error: BaseException | None
    out: str
    err: str
    displayed: str

    def value(self) -> Any:
        """Return the cell's value; raise where it failed."""
        if self.error:
            raise self.error
        return self.result


@pytest.fixture
def shell(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """Return a shell with the magics, in a folder of its own, not below a server."""
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JPY_SESSION_NAME", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "taskapi_jupyter")
    yield shell
    shell.run_line_magic("unload_ext", "taskapi_jupyter")
    shell.history_manager.end_session()
    shell.history_manager.save_thread.stop() if shell.history_manager.save_thread else None
    InteractiveShell.clear_instance()


@pytest.fixture
def run(shell: InteractiveShell) -> Callable[[str], Ran]:
    """Return what runs a cell."""

    def run(cell: str) -> Ran:
        with capture_output() as captured:
            done = shell.run_cell(cell)
        displayed = "\n".join(output.data["text/plain"] for output in captured.outputs)
        error = done.error_in_exec or done.error_before_exec
        return Ran(done.result, error, captured.stdout, captured.stderr, displayed)

    return run


# What to run


def request_for(name: str, source: str, **spec: Any) -> DeployRequest:
    """Return what deploys a source as an API."""
    whole = {"name": name, "kind": "TaskAPI", "definition": {"path": "task.py"}, **spec}
    return DeployRequest(spec=whole, source=source, python=sys.executable)


ECHO = """
def task(config):
    print("hello", config)
    return config
"""

WAITING = """
import pathlib, time

def task(config):
    print("waiting", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def name() -> str:
    """Return an API's name that no other test has."""
    return f"api-{secrets.token_hex(4)}"


@pytest.fixture
def echo(name: str) -> Callable[[TaskAPI], str]:
    """Return what deploys a task that prints and returns its config, and returns the API's name."""

    def deploy(api: TaskAPI) -> str:
        api.deploy_request(request_for(name, ECHO))
        return name

    return deploy
