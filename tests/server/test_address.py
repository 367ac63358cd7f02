"""The address of endpoints: what is configured, what a trusted proxy says, else where the server listens."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders

from support.routes import deploy
from support.servers import Answer
from taskapi_jupyter.server.address import custom_url, forwarded_url, hub_url

Call = Callable[..., Awaitable[Answer]]
BASE = "/user/ann/"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/ann/"}, "https://hub.example/user/ann/"),
        ({"JUPYTERHUB_PUBLIC_URL": "https://ann.hub.example:8443/user/ann"}, "https://ann.hub.example:8443/user/ann/"),
        ({"JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/bob/"}, None),  # another server's
        ({"JUPYTERHUB_PUBLIC_URL": ""}, None),
        ({"JUPYTERHUB_SERVICE_PREFIX": BASE}, None),
        (
            {"JUPYTERHUB_SERVICE_PREFIX": BASE, "JUPYTERHUB_PUBLIC_HUB_URL": "https://hub.example/hub/"},
            "https://hub.example/user/ann/",
        ),
        (
            {"JUPYTERHUB_SERVICE_PREFIX": "/user/ann", "JUPYTERHUB_HOST": "https://hub.example"},
            "https://hub.example/user/ann/",
        ),
        ({"JUPYTERHUB_SERVICE_PREFIX": BASE, "JUPYTERHUB_HOST": ""}, None),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/bob/", "JUPYTERHUB_HOST": "https://hub.example"}, None),
        ({"JUPYTERHUB_PUBLIC_URL": "https://user:secret@hub.example/user/ann/"}, None),
        ({"JUPYTERHUB_PUBLIC_URL": "hub.example/user/ann/"}, None),
        ({"JUPYTERHUB_PUBLIC_URL": "https://[/user/ann/"}, None),
    ],
)
def test_a_hubs(environ: dict[str, str], found: str | None) -> None:
    assert hub_url(environ, BASE) == found


@pytest.mark.parametrize(
    ("url", "base", "page", "found"),
    [
        ("https://nb.example", "/", "/lab", "https://nb.example/"),
        ("https://nb.example", BASE, f"{BASE}lab", f"https://nb.example{BASE}"),
        ("https://nb.example/", BASE, f"{BASE}lab", f"https://nb.example{BASE}"),
        ("https://nb.example:8443/team/", "/", "/lab", "https://nb.example:8443/team/"),
        ("https://nb.example/team/lab", "/", "/lab", "https://nb.example/team/"),
        ("https://nb.example/lab?token=secret", "/", "/lab", "https://nb.example/"),
        (f"https://nb.example{BASE}tree/", BASE, f"{BASE}tree", f"https://nb.example{BASE}"),
        ("https://nb.example/front/", BASE, f"{BASE}lab", "https://nb.example/front/"),
        ("https://nb.example/slab", "/", "/lab", "https://nb.example/slab/"),
        ("https://nb.example/team/", "/", "/", "https://nb.example/team/"),
        ("https://user:secret@nb.example/", "/", "/lab", None),
        ("nb.example", "/", "/lab", None),
        ("", "/", "/lab", None),
    ],
)
def test_custom_display_url(url: str, base: str, page: str, found: str | None) -> None:
    assert custom_url(url, base, page) == found


@pytest.mark.parametrize(
    ("headers", "base", "found"),
    [
        ({}, "/", None),
        ({"X-Forwarded-For": "10.0.0.7"}, "/", None),
        ({"X-Forwarded-Proto": "https", "Host": "nb.example"}, BASE, f"https://nb.example{BASE}"),
        ({"X-Scheme": "https", "Host": "nb.example:8443"}, "/", "https://nb.example:8443/"),
        ({"X-Forwarded-Host": "nb.example, inner"}, "/", "http://nb.example/"),
        ({"X-Forwarded-Host": "nb.example", "X-Forwarded-Port": "8080"}, "/", "http://nb.example:8080/"),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "nb.example", "X-Forwarded-Port": "443"},
            "/",
            "https://nb.example/",
        ),
        ({"X-Forwarded-Host": "[::1]:99", "X-Forwarded-Port": "8080"}, "/", "http://[::1]:99/"),
        ({"X-Forwarded-Host": "nb.example", "X-Forwarded-Prefix": "/team"}, BASE, f"http://nb.example/team{BASE}"),
        ({"X-Forwarded-Host": "nb.example", "X-Forwarded-Prefix": "/user"}, BASE, f"http://nb.example{BASE}"),
        ({"X-Forwarded-Host": "nb.example", "X-Forwarded-Prefix": "//evil.example"}, "/", "http://nb.example/"),
        ({"X-Forwarded-Host": 'nb.example"><script>'}, "/", None),
        ({"X-Forwarded-Host": "user:secret@nb.example"}, "/", None),
    ],
)
def test_what_a_proxy_says(headers: dict[str, str], base: str, found: str | None) -> None:
    protocol = headers.get("X-Forwarded-Proto") or headers.get("X-Scheme") or "http"  # as tornado has it
    added = HTTPHeaders({"Host": "127.0.0.1:8888", **headers})
    request: Any = SimpleNamespace(headers=added, host=added["Host"], protocol=protocol)
    assert forwarded_url(request, base) == found


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "nb.example"}


async def endpoint(call: Call, headers: dict[str, str] | None = None) -> str:
    """Return the endpoint that a list of APIs shows."""
    (api,) = (await call("GET", "local/get", headers=headers)).json
    return str(api["endpoint"])


async def test_a_proxy_is_believed_where_it_is_trusted(call: Call, jp_serverapp: Any) -> None:
    inner = f"{jp_serverapp.connection_url.rstrip('/')}/taskapi/local/tasks/hello"
    path = f"{jp_serverapp.base_url}taskapi/local/tasks/hello"
    await deploy(call)
    assert await endpoint(call, FORWARDED) == inner
    jp_serverapp.trust_xheaders = True
    assert await endpoint(call, FORWARDED) == f"http://nb.example{path}"  # the protocol is the HTTP server's to say
    assert await endpoint(call) == inner
    (answer,) = (await call("GET", "local/get/hello", headers=FORWARDED)).json
    assert answer["endpoint"] == f"http://nb.example{path}"
    jp_serverapp.custom_display_url = "https://front.example/some/lab"
    jp_serverapp.default_url = f"{jp_serverapp.base_url}lab"
    assert await endpoint(call, FORWARDED) == "https://front.example/some/taskapi/local/tasks/hello"


async def test_two_slashes(
    call: Call, jp_serverapp: Any, jp_base_url: str, http_server_client: Any, jp_auth_header: Any
) -> None:
    for slashes in ("//", "///"):
        url = f"{jp_base_url.rstrip('/')}{slashes}taskapi/environments"
        answer = await http_server_client.fetch(url, headers=jp_auth_header)
        assert b"default_environment" in answer.body
        there = await http_server_client.fetch(f"{url}/nothing", headers=jp_auth_header, raise_error=False)
        assert there.code == 404
        refused = await http_server_client.fetch(url, raise_error=False, follow_redirects=False)
        assert refused.code == 403


async def test_variables_are_put_back(jp_serverapp: Any, home: Path) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    extension.address.hand_over()
    assert os.environ["TASKAPI_HOME"] == str(home)
    assert os.environ["TASKAPI_SERVER"] == f"{jp_serverapp.connection_url.rstrip('/')}/"
    extension.address.withdraw()
    assert "TASKAPI_SERVER" not in os.environ
    assert os.environ["TASKAPI_HOME"] == str(home)
