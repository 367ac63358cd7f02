"""Deploys by multipart: what is taken, what is refused and how, and that nothing is left of what was not whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from support import ECHO, PATIENCE, request_for, until
from support.records import tidy
from support.routes import ended, is_error, submit
from support.servers import Answer, LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import TooLarge

Call = Callable[..., Awaitable[Answer]]
Parts = list[tuple[str, bytes]]

LIMIT = 3 << 20  # TaskAPIApp.max_upload of the server here


def form(parts: Parts, end: bytes = b"--xyz--\r\n") -> bytes:
    """Return a multipart body."""
    heads = [f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() for name, _ in parts]
    return b"".join(head + data + b"\r\n" for head, (_, data) in zip(heads, parts, strict=True)) + end


def request_part(name: str = "up", **more: Any) -> bytes:
    """Return the part ``request`` for a file."""
    definition = {"path": "task.py"}
    return json.dumps({"spec": {"name": name, "definition": definition}, "python": sys.executable, **more}).encode()


def pickled(name: str = "up") -> bytes:
    """Return the part ``request`` for a callable."""
    definition = {"python_version": "{}.{}".format(*sys.version_info)}
    return json.dumps({"spec": {"name": name, "definition": definition}, "python": sys.executable}).encode()


HEADERS = {"Content-Type": "multipart/form-data; boundary=xyz"}


def left(home: Path) -> list[str]:
    """Return what stands of uploads below a home."""
    return [path.name for path in (home / "apis").glob(".*")]


async def test_a_source(call: Call, home: Path) -> None:
    parts = [("source", ECHO.encode()), ("request", request_part())]
    answer = await call("POST", "local/deploy", form(parts), headers=HEADERS)
    assert answer.status == 200, answer.body
    assert answer.json[0]["message"] == "created up (TaskAPI)"
    same = await call("POST", "local/deploy", {**json.loads(request_part()), "source": ECHO})
    assert same.json[0]["api"]["spec"]["id"] == answer.json[0]["api"]["spec"]["id"]
    job_id = await submit(call, {"config": {"a": 1}}, "up")
    assert (await ended(call, job_id))["status"] == "succeeded"
    assert (await call("GET", f"local/jobs/{job_id}/result")).json == {"a": 1}
    assert left(home) == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (form([("source", ECHO.encode())]), "no part 'request'"),
        (form([("request", request_part()), ("source", b"x"), ("source", b"y")]), "'source' more than once"),
        (form([("request", request_part()), ("request", request_part())]), "'request' more than once"),
        (form([("request", request_part()), ("sauce", b"x")]), "a part 'sauce'"),
        (form([("request", request_part()), ("config", b"- name: x")]), "a part 'config'"),
        (form([("request", request_part()), ("../../x", b"x")]), "a part '../../x'"),
        (form([("request", request_part(source=ECHO)), ("source", ECHO.encode())]), "'source' is given twice"),
        (form([("request", request_part(pickle="eA==")), ("pickle", b"x")]), "'pickle' is given twice"),
        (form([("request", b"{")]), "JSON"),
        (form([("request", b"[]")]), "object"),
        (form([("request", b'{"spec": 1}')]), "$.spec"),
        (form([("request", request_part()), ("source", b"\xff")]), "'source' is not UTF-8"),
        (form([("request", request_part()), ("source", b"def task(:")]), "line 1"),
        (form([("request", request_part()), ("pickle", b"x")]), ".pickle"),
        (form([("request", request_part()), ("source", ECHO.encode())], end=b"--xy"), "no end"),
        (form([("request", request_part())])[:40], "no end"),
        (b"", "the body is empty"),
        (b"--abc\r\n", "malformed form"),
        (b"--xyz\r\nContent-Type: text/plain\r\n\r\nx\r\n--xyz--\r\n", "no name"),
        (b"--xyz\r\n: x\r\n\r\nx\r\n--xyz--\r\n", "malformed form"),
        (b"--xyz\r\nContent-Disposition: form-data; name=" + b"x" * 9000 + b"\r\n\r\n", "malformed form"),
    ],
)
async def test_malformed_uploads(call: Call, home: Path, body: bytes, named: str) -> None:
    answer = await call("POST", "local/deploy", body, headers=HEADERS)
    is_error(answer, "error")
    assert named in answer.json["message"]
    assert (await call("GET", "local/get")).json == []
    assert list((home / "apis").iterdir()) == []


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 300, '; boundary="'])
async def test_malformed_boundaries(call: Call, home: Path, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    answer = await call("POST", "local/deploy", form([("request", request_part())]), headers=headers)
    is_error(answer, "error")
    assert "malformed form" in answer.json["message"]
    assert list((home / "apis").iterdir()) == []


# Over a real connection


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server that takes little."""
    server = start_server(tmp_path_factory.mktemp("server"), f"--TaskAPIApp.max_upload={LIMIT}")
    yield server
    stop_server(server)


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    client = Client(server.taskapi, server.token)
    yield client
    client.close()


def gone(home: Path) -> None:
    until(lambda: left(home) == [], "what was uploaded to be removed")


def function(**variables: int) -> Callable[[Any], Any]:
    """Return a function that refers to bytes of these names, so many MiB each, as a notebook's would."""
    source = f"def run(config):\n    return [len(one) for one in ({', '.join(variables)},)]\n"
    main = vars(sys.modules["__main__"])
    main |= {name: os.urandom(size << 10) for name, size in variables.items()}
    exec(source, main)
    found: Callable[[Any], Any] = main["run"]
    found.__module__ = "__main__"
    return found


def post(server: LiveServer, parts: Parts, chunked: bool) -> requests.Response:
    body = form(parts)
    data = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
    return server.fetch("POST", "deploy", data=data, headers=HEADERS)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("part", "size", "told"),
    [
        (
            "pickle",
            LIMIT + 1,
            "the part 'pickle' is larger than 3 MiB, the server's TaskAPIApp.max_upload",
        ),
        ("request", (10 << 20) + 1, "the part 'request' is larger than 10 MiB"),
        ("source", (10 << 20) + 1, "the part 'source' is larger than 10 MiB"),
        ("pickle", 80 << 20, "max_upload"),
    ],
)
def test_parts_that_are_too_large(server: LiveServer, part: str, size: int, told: str, chunked: bool) -> None:
    answer = post(server, [(part, bytes(size)), ("request", request_part())], chunked)
    assert answer.status_code == 413
    assert answer.json()["kind"] == "error"
    assert told in answer.json()["message"] or "the body is larger than" in answer.json()["message"]
    gone(server.home)


def test_a_callable_as_large_as_may_be(server: LiveServer, client: Client, name: str) -> None:
    answer = post(server, [("request", pickled(name)), ("pickle", bytes(LIMIT))], True)
    assert answer.status_code == 200, answer.text
    (version,) = [path for path in (server.home / "apis").iterdir() if path.name == client.get(name).api_id]
    assert (version / "task.pkl").stat().st_size == LIMIT
    assert (version / "task.pkl").stat().st_nlink == 1
    assert left(server.home) == []


def test_a_refusal_names_the_largest_variables(client: Client, name: str) -> None:
    target = function(table=5 << 10, weights=2 << 10, small=1)
    with pytest.raises(TooLarge) as caught:
        client.deploy(target, name=name)
    assert str(caught.value) == (
        f"{name} is 7.0 MiB when pickled, and the server takes 3 MiB (its TaskAPIApp.max_upload); "
        "run refers to table (5.0 MiB) and weights (2.0 MiB): save them to a file and load it in the task"
    )
    with pytest.raises(TooLarge, match=r"run refers to table \(5.0 MiB\): save it to a file and load it in the task"):
        client.deploy(function(table=5 << 10), name=name)


def test_a_function_goes_and_its_result_comes(live_server: LiveServer, name: str) -> None:
    client = Client(live_server.taskapi, live_server.token)
    (result,) = client.deploy(function(table=40 << 10, weights=3), name=name)
    assert result.message.startswith(f"created {name}")
    assert client.submit(name).result(PATIENCE) == [40 << 20, 3 << 10]
    assert left(live_server.home) == []
    (again,) = client.deploy_request(request_for(name, ECHO + "#" * (2 << 20)))
    assert again.message.startswith(f"updated {name}")
    assert client.submit(name, {"a": 1}).result(PATIENCE) == {"a": 1}
    client.close()


def test_an_upload_that_is_not_let_in_is_not_kept(server: LiveServer) -> None:
    body = form([("request", pickled()), ("pickle", bytes(2 << 20))])
    with opened(server, len(body), "wrong") as stranger, opened(server, len(body), server.token) as guest:
        stranger.sendall(body[: 3 << 19])
        guest.sendall(body[: 3 << 19])
        until(lambda: left(server.home), "the upload to be written")
        assert len(left(server.home)) == 1
        stranger.sendall(body[3 << 19 :])
        assert stranger.recv(100).startswith(b"HTTP/1.1 403 ")
    gone(server.home)


def opened(server: LiveServer, length: int, token: str) -> socket.socket:
    """Return a connection on which an upload has begun."""
    parts = urlsplit(server.taskapi)
    connection = socket.create_connection((parts.hostname, parts.port), PATIENCE)
    lines = [f"POST {parts.path}/deploy HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {length}"]
    lines += [f"Authorization: token {token}", f"Content-Type: {HEADERS['Content-Type']}", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def test_a_connection_that_breaks(server: LiveServer, client: Client, name: str) -> None:
    body = form([("request", pickled(name)), ("pickle", bytes(2 << 20))])
    with opened(server, len(body), server.token) as connection:
        connection.sendall(body[: 3 << 19])
        until(lambda: left(server.home), "the upload to be written")
    gone(server.home)
    assert name not in [api.name for api in client.get()]


def test_uploads_that_stand_still_hold_nothing_up(server: LiveServer, client: Client, name: str) -> None:
    body = form([("request", pickled(name)), ("pickle", bytes(2 << 20))])
    connections = [opened(server, len(body), server.token) for _ in range(40)]  # more than the server has threads
    for one in connections:
        one.sendall(body[: 3 << 19])
    until(lambda: len(left(server.home)) == 40, "the uploads to be written")
    client.deploy_request(request_for(name, ECHO))
    assert client.submit(name, {"a": 1}).result(PATIENCE) == {"a": 1}
    post(server, [("request", pickled(f"{name}-other")), ("pickle", bytes(LIMIT))], False).raise_for_status()
    for one in connections:
        one.close()
    gone(server.home)


def test_a_server_that_is_killed_leaves_it_to_retention(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    body = form([("request", pickled()), ("pickle", bytes(4 << 20))])
    with opened(server, len(body), server.token) as connection:
        connection.sendall(body[: 3 << 20])
        apis = server.home / "apis"
        until(lambda: any(one.stat().st_size for one in apis.glob(".*/pickle")), "the upload to be written")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(PATIENCE)
    (folder,) = (server.home / "apis").glob(".*")
    assert tidy(server.home) == 0
    assert folder.exists()  # for all that it knows, it goes on
    old = time.time() - 601
    os.utime(folder, (old, old))
    assert tidy(server.home) == 0
    assert folder.exists()  # it began long ago, and was written to just now
    for file in folder.iterdir():
        os.utime(file, (old, old))
    assert tidy(server.home) == 0
    assert left(server.home) == []


PEAK = """
import os, sys, resource
from pathlib import Path
sys.path += [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_server_upload import function
from taskapi_jupyter.client.rest import Client
client = Client(sys.argv[2], sys.argv[3])
client.deploy(function(table=1 << 10), name=sys.argv[4])
target = function(table=96 << 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client.deploy(target, name=sys.argv[4])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak(pid: int) -> int:
    """Return the most that a process ever held, in KiB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads sizes in /proc")
def test_neither_end_holds_several_copies(tmp_path: Path, name: str) -> None:
    server = start_server(tmp_path)
    command = [sys.executable, "-c", PEAK, str(Path(__file__).parent), server.taskapi, server.token, name]
    Client(server.taskapi, server.token).deploy(function(table=2 << 10), name=f"{name}-first")
    before = peak(server.process.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < (96 + 64) << 10, "the client holds its pickle, and no more"
    assert peak(server.process.pid) - before < 48 << 10
    stop_server(server)
