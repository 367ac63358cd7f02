"""Named environments, and where connect() looks for the TaskAPI that answers."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.servers import LiveServer, reserved_port
from taskapi_jupyter import environments
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import BadRequest, Forbidden, NotFound, TaskAPIError, Unreachable
from taskapi_jupyter.environments import connect
from taskapi_jupyter.service.service import Service


def ends(api: object) -> None:
    api.close()  # type: ignore[attr-defined]


def parent(server: LiveServer, runtime: Path, token: str | None = None) -> dict[str, str]:
    """Return the variables of a kernel that a server started, whose file is in a runtime folder."""
    about = {"url": server.url, "token": server.token if token is None else token}
    (runtime / f"jpserver-{server.process.pid}.json").write_text(json.dumps(about))
    return {"JPY_PARENT_PID": str(server.process.pid)}


def hub(server: LiveServer, token: str | None = None) -> dict[str, str]:
    """Return the variables that JupyterHub gives its single-user servers, and they their kernels."""
    parts = urlsplit(server.url)
    return {
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:{parts.port}/",
        "JUPYTERHUB_SERVICE_PREFIX": parts.path,
        "JUPYTERHUB_API_TOKEN": server.token if token is None else token,
    }


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a runtime folder in which no server is known."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    return folder


# The file


def test_without_a_file_there_is_local(home: Path) -> None:
    found = environments.load(home)
    assert found.default_environment == "local"
    assert [(one.name, one.provider) for one in found.environments] == [("local", "local")]


def test_environments_of_a_file(home: Path) -> None:
    (home / "environments.yaml").write_text(
        "default_environment: here\nenvironments:\n- {name: here, provider: local}\n- {name: local, provider: local}\n"
    )
    found = environments.load()
    assert environments.find(found, None).name == "here"
    assert environments.find(found, "local").name == "local"
    api = connect(environ={})
    assert (api.environment, api.provider) == ("here", "local")
    ends(api)
    with pytest.raises(NotFound, match=r"'prod'.*here, local"):
        connect("prod", environ={})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("environments: here\n", "environments"),
        ("environments: [\n", "line"),
        ("- local\n", "environments.yaml"),
        ("environments:\n- name: local\n", "provider"),
        ("environments:\n- {name: x, provider: nowhere}\n", "nowhere"),
        ("default_environment: prod\n", "prod"),
    ],
)
def test_mistakes_in_the_file(home: Path, text: str, named: str) -> None:
    (home / "environments.yaml").write_text(text)
    with pytest.raises(TaskAPIError) as caught:
        environments.load(home)
    assert named in str(caught.value)


def test_a_file_that_is_no_text(home: Path) -> None:
    (home / "environments.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match=r"environments\.yaml"):
        environments.load(home)


# Where connect() looks


def test_this_machine_where_there_is_no_server(home: Path, runtime: Path) -> None:
    api = connect(environ={"JPY_PARENT_PID": "1"})
    assert isinstance(api, Service)
    assert api.home == home
    ends(api)


def test_the_server_of_taskapi_url(live_server: LiveServer, home: Path) -> None:
    for url in (live_server.url, live_server.url.rstrip("/"), live_server.taskapi, f"{live_server.url}taskapi/"):
        api = connect(environ={"TASKAPI_URL": url, "TASKAPI_TOKEN": live_server.token})
        assert isinstance(api, Client)
        assert api.get() == [] or api.get()
        ends(api)
    assert not (home / "taskapi.db").exists()


def test_taskapi_url_never_falls_back(live_server: LiveServer, home: Path, runtime: Path) -> None:
    others = {**parent(live_server, runtime), **hub(live_server)}
    with pytest.raises(Unreachable):
        connect(environ={**others, "TASKAPI_URL": f"http://127.0.0.1:{reserved_port()}/"})
    with pytest.raises(Forbidden):
        connect(environ={**others, "TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": "wrong"})
    with pytest.raises(TaskAPIError):
        connect(environ={**others, "TASKAPI_URL": live_server.url})
    for url in ("localhost:8888", "http://", "http://127.0.0.1:port/", "http://[::1/", "ftp://127.0.0.1/"):
        with pytest.raises(BadRequest, match="TASKAPI_URL"):
            connect(environ={**others, "TASKAPI_URL": url})
    with pytest.raises(NotFound, match=r"'prod'.*local"):
        connect("prod", environ={"TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": live_server.token})
    assert not (home / "taskapi.db").exists()


def test_the_hubs_server_comes_before_the_kernels_parent(live_server: LiveServer, home: Path, runtime: Path) -> None:
    nobody = {**parent(live_server, runtime, token="wrong"), **hub(live_server)}
    api = connect(environ=nobody)
    assert isinstance(api, Client)
    ends(api)
    api = connect(environ={**parent(live_server, runtime), **hub(live_server, token="wrong")})
    assert isinstance(api, Client)
    ends(api)
    assert environments.server_of({**parent(live_server, runtime), **hub(live_server)}) == (
        live_server.url,
        live_server.token,
    )


def test_the_server_that_started_this_kernel(live_server: LiveServer, home: Path, runtime: Path) -> None:
    api = connect(environ=parent(live_server, runtime))
    assert isinstance(api, Client)
    assert api.environment == "local"
    ends(api)
    found = environments.environments(parent(live_server, runtime))
    assert [one.name for one in found.environments] == ["local"]
    assert not (home / "taskapi.db").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"url": 5}', '{"url": "http://127.0.0.1:1/", "token": ""}'])
def test_a_server_that_does_not_let_us_in_is_passed_over(home: Path, runtime: Path, content: str) -> None:
    (runtime / "jpserver-123.json").write_text(content)
    for environ in (
        {"JPY_PARENT_PID": "123"},
        {"JPY_PARENT_PID": "no number"},
        {"JPY_PARENT_PID": "123", "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:1/", "JUPYTERHUB_API_TOKEN": "x"},
        {"JUPYTERHUB_SERVICE_URL": "nonsense", "JUPYTERHUB_API_TOKEN": "x"},
        {"JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:port/", "JUPYTERHUB_API_TOKEN": "x"},
    ):
        api = connect(environ=environ)
        assert isinstance(api, Service)
        ends(api)


@pytest.mark.parametrize(
    ("url", "prefix", "found"),
    [
        ("http://127.0.0.1:8888/user/a/", None, "http://127.0.0.1:8888/user/a/"),
        ("http://0.0.0.0:8888/", "/user/a/", "http://127.0.0.1:8888/user/a/"),
        ("http://[::]:8888/user/a", None, "http://127.0.0.1:8888/user/a/"),
        ("http://[::1]:8888", None, "http://[::1]:8888/"),
        ("http://127.0.0.1/", None, None),
    ],
)
def test_where_the_hubs_server_listens(url: str, prefix: str | None, found: str | None) -> None:
    environ = {"JUPYTERHUB_SERVICE_URL": url, "JUPYTERHUB_API_TOKEN": "t"}
    if prefix:
        environ["JUPYTERHUB_SERVICE_PREFIX"] = prefix
    assert environments._hub(environ) == (None if found is None else (found, "t"))
