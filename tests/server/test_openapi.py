"""The OpenAPI document: well-formed, of just the routes that there are, and true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support import request_for
from support.built import KEYS, make
from support.servers import LiveServer
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.server import routes
from taskapi_jupyter.server.handlers.base import implemented

TIMES = int(os.environ.get("TASKAPI_FUZZ", "1"))  # how many times as much is tried, and then other things each time

pytestmark = [pytest.mark.timeout(0)] if TIMES > 1 else []

#: Errors of the contract's routes are all 400, whatever was sent.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 403, 404, 406, 409]
"""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the document of a server at ``/base/``."""
    found: dict[str, Any] = json.loads(routes.document("/base/"))
    return found


def test_it_names_just_the_routes_that_there_are(document: dict[str, Any]) -> None:
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    there = {
        (path, method)
        for path, handler, _ in routes.ROUTES
        for method in ("get", "post", "delete", "put", "patch")
        if implemented(handler.__new__(handler), method)
    }
    assert described == there


def test_its_paths_name_their_parameters(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            names = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
            assert [f"{{{name}}}" for name in names] == [part for part in path.split("/") if part.startswith("{")]
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas that stand in a part of the document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "schema":
                yield value
            else:
                yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def test_its_schemas_are_schemas(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for schema in [*components.values(), *schemas(document["paths"])]:
        jsonschema.Draft202012Validator.check_schema(schema)

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    yield value
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    used = set(references(document))
    assert used == {f"#/components/schemas/{name}" for name in components}


def test_it_is_served_with_the_server_s_base_url(live_server: LiveServer) -> None:
    answer = live_server.fetch("GET", "../openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["servers"] == [{"url": "/some/base"}]
    assert answer.json()["openapi"] == "3.1.0"


# Schemathesis: what it generates finds no answer that the document doesn't allow


def schemathesis(server: LiveServer, document: dict[str, Any], folder: Path, *but: str) -> None:
    """Run Schemathesis with a document, ``but`` some operations, and fail with its report."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    (folder / "openapi.json").write_text(json.dumps(document))
    program = shutil.which("schemathesis", path=os.path.dirname(sys.executable))
    assert program, "schemathesis is not installed beside this Python"
    command = [program, "--config-file", "schemathesis.toml", "run", "openapi.json", "--checks", "all"]
    command += ["--exclude-checks", "missing_required_header"]  # insists on 401; Jupyter's answer is 403
    command += ["--url", server.url.rstrip("/"), "--header", f"Authorization: token {server.token}"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(3 * TIMES)]
    command += [argument for one in but for argument in ("--exclude-operation-id", one)]
    command += ["--generation-database", "none", "--warnings", "off", "--no-color"]
    command += ["--seed", "1"] if TIMES == 1 else []
    patience = 110 if TIMES == 1 else None
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    operations = sum(len(item) for item in document["paths"].values())
    assert f"Tested: {operations - len(but)}\n" in done.stdout


def only(document: dict[str, Any], values: dict[str, list[str]]) -> None:
    """Narrow required parameters to values that lead somewhere."""
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["required"]:
                    parameter["schema"] = {"type": "string", "enum": values[parameter["name"]]}


def test_answers_to_anything(live_server: LiveServer, tmp_path: Path) -> None:
    document = live_server.fetch("GET", "../openapi.json").json()
    schemathesis(live_server, document, tmp_path)


SOURCE = """
import os, pathlib

def task(config):
    pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"], "file").write_text("text")
    print("done")
    return config
"""


def test_answers_about_what_is_there(live_server: LiveServer, tmp_path: Path, name: str) -> None:
    client = Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, SOURCE))
    job = client.submit(name, {"a": 1}).wait(30)
    pickled = f"{name}-pickled"
    client.deploy_request(request_for(pickled, "def task(config):\n    return {1}\n"))
    other = client.submit(pickled).wait(30)
    group = client.map(name, [{"a": 1}, {"a": 2}]).wait(30)
    schedule = client.schedule(name, "@daily", config={"a": 1})
    document = live_server.fetch("GET", "../openapi.json").json()
    make(live_server.home, KEYS[0])
    jobs = [job.id, other.id, "7fffffffffffffff"]
    values = {"env": ["local"], "api": [name, pickled], "jobID": jobs, "job_id": jobs, "path": ["file"]}
    values |= {"api_id": [job.record.api_id], "group": [group.id, "another"], "key": [KEYS[0], "0000"]}
    only(document, {**values, "name": [schedule.name, "another"], "cron": ["@daily", "0 6 * * MON-FRI", "@dayly"]})
    deleting = ("delete-env-delete-api", "delete-env-jobs", "delete-env-jobs-job_id", "delete-env-groups-group")
    try:
        schemathesis(live_server, document, tmp_path, *deleting, "delete-env-schedules-name")
    finally:
        for one in client.schedules():
            one.delete()


def test_answers_to_who_deletes_ended_jobs(live_server: LiveServer, tmp_path: Path, name: str) -> None:
    client = Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, SOURCE))
    client.submit(name).wait(30)
    document = live_server.fetch("GET", "../openapi.json").json()
    path = "/taskapi/{env}/jobs"
    document["paths"] = {path: document["paths"][path]}
    only(document, {"env": ["local"]})
    schemathesis(live_server, document, tmp_path, "get-env-jobs")
    assert client.jobs() == []
