"""A kernel with this package under a server of 0.1.0, which drops the keys that it does not know."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from support import PATIENCE, request_for
from support.notebooks import code, put
from support.servers import LiveServer
from support.shells import Run
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.deploy.prepare import Source
from taskapi_jupyter.ui.panel.job_query import JobQuery

BLOCK = "# /// script\n# dependencies = ['six']\n# ///\ndef task(config): return 2\n"
SENTENCE = "restart the Jupyter server: it runs taskapi_jupyter 0.1.0"
KNEW = {
    "deploy": {"spec", "source", "pickle", "python", "cwd", "environ"},
    "tasks": {"config", "timeout", "workers", "notebook"},
}


class Older:
    """Stands before a server and makes of its answers and of what it is sent what 0.1.0 knew."""

    def __init__(self, server: LiveServer) -> None:
        self.dropped: set[str] = set()
        self.refused: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:
                body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
                route = handler.path.split("?")[0].split("/taskapi/")[1].split("/")
                if handler.command == "POST" and body and "json" in handler.headers["Content-Type"]:
                    knew = KNEW.get(route[1], set())
                    sent = json.loads(body)
                    self.dropped |= {key for key, value in sent.items() if value and key not in knew}
                    self.refused += [key for key in sent.get("spec", {}).get("definition", {}) if key == "parameters"]
                    body = json.dumps({key: value for key, value in sent.items() if key in knew}).encode()
                url = f"{server.url.partition('/some/')[0]}{handler.path}"
                headers = {
                    key: value for key, value in handler.headers.items() if key not in ("Host", "Content-Length")
                }
                answer = requests.request(handler.command, url, data=body, headers=headers, timeout=PATIENCE)
                content = answer.content
                if route == ["environments"]:
                    shown = answer.json()
                    content = json.dumps({key: shown[key] for key in ("default_environment", "environments")}).encode()
                handler.send_response(answer.status_code)
                for name in ("Content-Type", "X-Log-Offset", "X-Log-Next", "X-Log-Size"):
                    if name in answer.headers:
                        handler.send_header(name, answer.headers[name])
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/some/base/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def older(live_server: LiveServer) -> Iterator[Older]:
    one = Older(live_server)
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def client(older: Older, live_server: LiveServer) -> Iterator[Client]:
    one = Client(f"{older.url}taskapi/local", live_server.token)
    yield one
    one.close()


def test_what_a_server_lacks_is_said(client: Client, older: Older, live_server: LiveServer) -> None:
    assert client.lacks("api_id") == SENTENCE
    newer = Client(live_server.taskapi, live_server.token)
    assert newer.lacks("api_id") is None
    newer.close()


def test_a_block_that_a_server_would_not_read_is_a_warning(client: Client, older: Older) -> None:
    (result,) = client.deploy(Source(BLOCK), name="block")
    assert SENTENCE in (result.warnings or ())
    assert "build_environ" not in older.dropped


def test_what_was_asked_for_is_refused_and_not_left_out(client: Client, older: Older) -> None:
    client.deploy(lambda config: 1, name="plain")
    job = client.submit("plain").wait(PATIENCE)
    for ask in (
        lambda: client.submit("plain", run_timeout=5),
        lambda: client.submit("plain", api_id=job.record.api_id),
        lambda: job.rerun(same=True),
        lambda: client.jobs(search="plain"),
        client.counts,
        client.groups,
        lambda: client.map("plain", [{}]),
        lambda: client.submit("plain", retries=1),
        lambda: client.submit("plain", after=job),
        lambda: client.submit("plain", results={"x": job.id}),
        lambda: client.jobs(group="g1"),
        lambda: client.deploy(lambda config: 1, name="plain", warm=True),
        lambda: client.deploy(lambda config: 1, name="plain", requirements=["six"]),
        lambda: client.deploy(Source(BLOCK), name="plain", python_version="3.11"),
        lambda: client.deploy(lambda config: 1, name="plain", upgrade=True),
        lambda: client.deploy(lambda config: 2, name="plain", dry_run=True),
        lambda: client.deploy(lambda config: 2, name="plain", kernel="python3"),
        client.kernels,
        client.schedules,
        lambda: client.schedule("plain", "@daily"),
        lambda: client.jobs(schedule="plain"),
    ):
        with pytest.raises(Unavailable, match=SENTENCE):
            ask()
    assert len(client.jobs("plain")) == 1
    assert len(client.get("plain").api_versions or ()) == 1
    assert Resolver(client, {}, None).one([job.id[-12:]]) == job
    query = JobQuery("plain")
    assert [one.job_id for one in query.read(client).jobs] == [job.id]
    assert job.rerun().wait(PATIENCE).result() == 1


def test_a_notebook_goes_on_as_before(
    run: Run, older: Older, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_URL", older.url)
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)
    ran = run("%%taskapi submit older\ndef run(config): return config['x']")
    assert SENTENCE in ran.displayed + ran.out
    assert "runs what is deployed" in ran.displayed + ran.out
    run("def function(config): return config['x'] + 1").value()
    deployed = run("%taskapi deploy function --function function").value()
    assert [SENTENCE in warning for warning in deployed[0].warnings].count(True) >= 1
    job = run("%taskapi submit function x=1 --wait").value()
    assert job.result() == 2
    assert older.dropped == set()


def test_a_notebook_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=SENTENCE):
        client.deploy(put(tmp_path / "report.ipynb", code("1")))


def test_tasks_of_parameters(client: Client, older: Older) -> None:
    def train(lr=0.1):  # type: ignore[no-untyped-def]
        return lr

    async def later(config):  # type: ignore[no-untyped-def]
        return config

    for target in (train, later):
        with pytest.raises(Unavailable, match=SENTENCE):
            client.deploy(target, name="other")
    request = request_for("plain", "def task(config): return 1")
    request.spec["definition"]["parameters"] = [{"name": "lr"}]  # as an answer has it, which 0.1.0 refuses
    client.deploy_request(request)
    assert older.refused == []
