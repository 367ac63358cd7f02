"""Fixtures: a home that leaves no process behind, the server in this process, and a real one."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupyter_core.paths
import jupyter_core.utils
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from support import ECHO, ENGINE, START, TESTS, like_a_terminal, request_for
from support.cortex_double import Operator
from support.homes import clean
from support.servers import Answer, LiveServer, start_server, stop_server
from support.shells import Ran
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.service import Service

if TYPE_CHECKING:
    from support.ray_head import Head

pytest_plugins = ["pytest_jupyter.jupyter_server", "support.lab", "support.both_ways"]

# What is slow to import and of no use to the tests is not there, here and in what a test starts.
WITHOUT = str(TESTS / "support" / "without")
sys.path.insert(0, WITHOUT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [WITHOUT, os.environ.get("PYTHONPATH")]))

like_a_terminal()


#: The files that take longest, which begin: what a worker does last should be short.
LONGEST = [
    "cli",
    "openapi",
    "raycluster",
    "in_the_way",
    "as_in_the_notebook",
    "interrupts",
    "ways",
    "cortex_client",
    "panel",
]
LONGEST += ["labextension", "activity", "reaping", "supervisor", "disk", "kernels", "notebooks", "serverfile", "faults"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is of another engine; begin with the longest files, and set those that drive a browser apart.

    Workers take files in this order, and two browsers at once are slow.
    """
    for item in items:
        if item.get_closest_marker("local") and ENGINE != "local":
            item.add_marker(pytest.mark.skip(reason="of the engine of this machine"))
        if item.get_closest_marker("cold") and START == "warm":
            item.add_marker(pytest.mark.skip(reason="of cold starts"))
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ranks = {f"test_{name}.py": rank for rank, name in enumerate(LONGEST)}
    browsers = [path for path in files if path.name.startswith("test_browser_")]
    others = sorted((path for path in files if path not in browsers), key=lambda path: ranks.get(path.name, len(ranks)))
    apart = max(1, len(others) * 2 // 3 // max(1, len(browsers)))  # the last third has none
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
    from support.ray_head import Head

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


@pytest.fixture
def jp_nbconvert_templates(jp_data_dir: Path) -> None:
    """Give a server nbconvert's templates; pytest-jupyter's own copies 50 files for each test."""
    for path in map(Path, jupyter_core.paths.jupyter_path("nbconvert", "templates")):
        if path.exists():
            (jp_data_dir / "nbconvert").mkdir(parents=True)
            (jp_data_dir / "nbconvert" / "templates").symlink_to(path)
            return


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
