"""A server whose extension can't start: it says why, ends when it is told to, and starts as soon as it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from support import PATIENCE, until
from support.namespaces import run, unshared
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.server.routes import ROUTES

SENTENCE = "TaskAPI could not start: "


@pytest.fixture
def without_home(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a server whose home is a file."""
    (tmp_path / "no-folder").write_text("in the way")
    server = start_server(tmp_path, f"--TaskAPIApp.home={tmp_path / 'no-folder'}", status=503)
    server.home = tmp_path / "no-folder"
    yield server
    if server.process.poll() is None:
        stop_server(server)


def test_it_says_why_on_all_routes_and_once_in_the_log(without_home: LiveServer, tmp_path: Path) -> None:
    for path, handler, _ in ROUTES:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            if method.lower() not in vars(handler):
                continue
            url = without_home.url.rstrip("/") + path.replace("{env}", "local").replace("{", "").replace("}", "")
            answer = requests.request(method, url, headers=without_home.auth, timeout=PATIENCE)
            assert answer.status_code == 503, (method, path, answer.text)
            if method != "HEAD":
                assert answer.json()["kind"] == "extension.not_started"
                assert answer.json()["message"].startswith(SENTENCE)
                assert str(without_home.home) in answer.json()["message"]
            assert requests.request(method, url, timeout=PATIENCE).status_code == 403
    with pytest.raises(Unavailable, match="TaskAPI could not start"):
        Client(without_home.taskapi, without_home.token).submit("hello")
    log = (tmp_path / "server.log").read_text()
    assert log.count("TaskAPI could not start") == 1
    assert "Traceback" not in log


def test_sigterm_ends_it(without_home: LiveServer) -> None:
    without_home.process.terminate()
    without_home.process.wait(PATIENCE)


def test_it_starts_as_soon_as_it_can(without_home: LiveServer, tmp_path: Path) -> None:
    without_home.home.unlink()
    until(lambda: without_home.fetch("GET", "verifycortex").ok, "the extension to start")
    assert without_home.fetch("GET", "jobs").json()["jobs"] == []
    assert "TaskAPI has started" in (tmp_path / "server.log").read_text()


READ_ONLY = """
folder = Path(sys.argv[1])
mount(folder / "data", "mode=700")
subprocess.run(["mount", "-o", "remount,ro", str(folder / "data")], check=True)
server = start_server(folder, f"--TaskAPIApp.home={folder}/data/taskapi", status=503)
said = server.fetch("GET", "get").json()["message"]
assert said.startswith("TaskAPI could not start: ") and f"{folder}/data" in said and "read-only" in said.lower(), said
server.process.terminate()
server.process.wait(30)
assert "Traceback" not in (folder / "server.log").read_text()
"""


def test_a_read_only_data_folder(tmp_path: Path) -> None:
    run(unshared("--mount"), READ_ONLY, tmp_path)
