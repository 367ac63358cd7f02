"""Cortex's published Python client, unmodified, drives the terminal program against a live server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from support.servers import LiveServer

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple")
SHA256 = {
    "0.42.1": "f4340c83e843f417978d1aaadcddd766fcef2b71fb10118a43728a13da33bdb5",
    "0.28.0": "ff290fc52dfcbdeb870dc1c77d2f5ad80c7a3968bed4a3f0265d75f63caed439",
}
Run = Callable[..., Any]


def unpacked(version: str, folder: Path) -> Path:
    """Return where a version's source is; it is fetched once. Its setup.py, which downloads a program, is not run."""
    name = f"cortex-{version}"
    if (folder / name).is_dir():
        return folder / name
    try:
        page = requests.get(f"{INDEX.rstrip('/')}/cortex/", timeout=20)
        link = re.search(rf'href="([^"]*/{re.escape(name)}\.tar\.gz)(?:#[^"]*)?"', page.text)
        if link is None:
            pytest.skip(f"{INDEX} has no {name}: HTTP {page.status_code}")
        data = requests.get(urljoin(page.url, link[1]), timeout=60).content
    except requests.RequestException as error:
        pytest.skip(f"{INDEX} can't be reached: {type(error).__name__}")
    if hashlib.sha256(data).hexdigest() != SHA256[version]:
        pytest.skip(f"{INDEX} sent something else for {name}")
    partial = folder / f"{name}.{os.getpid()}"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(partial, [one for one in archive if one.isreg() and one.name.startswith(f"{name}/cortex/")])
    with suppress(OSError):  # another process was first
        (partial / name).rename(folder / name)
    shutil.rmtree(partial)
    return folder / name


@pytest.fixture
def client(
    request: pytest.FixtureRequest, live_server: LiveServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Return what runs a script with a version's client and returns the JSON that its last line is."""

    def run(version: str, script: str, *arguments: str, **environ: str) -> Any:
        cache = getattr(request.config, "cache", None)  # it can be switched off
        source = unpacked(version, cache.mkdir("cortex-clients") if cache else tmp_path_factory.getbasetemp())
        variables = {
            **os.environ,
            "PYTHONPATH": str(source),
            "CORTEX_CLI_PATH": str(Path(sys.executable).with_name("jupyter-taskapi")),
            "CORTEX_CLI_CONFIG_DIR": str(tmp_path / "cortex"),
            "CORTEX_TELEMETRY_DISABLE": "true",
            "TASKAPI_CORTEX_CLI": version,
            "TASKAPI_HOME": str(tmp_path / "home"),
            "TASKAPI_URL": live_server.url,
            "TASKAPI_TOKEN": live_server.token,
            **environ,
        }
        done = subprocess.run(
            [sys.executable, "-c", SHARED + script, *arguments],
            env=variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


SHARED = """
import json, os, sys, time
import cortex, requests
from cortex.exceptions import CortexBinaryException

HEADERS = {"Authorization": "token " + os.environ["TASKAPI_TOKEN"]}

def ended(client, api, job):
    deadline = time.monotonic() + 60
    while True:
        found = client.get_job(api, job)
        if found["job_status"]["status"] not in ("pending", "running") or time.monotonic() > deadline:
            return found

def refusal(function, *arguments):
    try:
        function(*arguments)
    except (CortexBinaryException, cortex.exceptions.NotFound) as error:
        return str(error)
"""

FLOW_42 = """
name = sys.argv[1]
client = cortex.client("local")
spec = {"name": name, "kind": "TaskAPI", "pod": {"containers": [
    {"name": "main", "image": "ignored", "command": ["sh", "-c", 'cat "$TASKAPI_JOB_SPEC"; [ -z "$HOLD" ] || sleep 60']}]}}
deployed = client.deploy(spec)
endpoint = client.get_api(name)["endpoint"]
job = requests.post(endpoint, json={"config": {"n": 7}}, headers=HEADERS).json()
found = ended(client, name, job["job_id"])
spec["pod"]["containers"][0]["env"] = {"HOLD": "1"}
held_api = client.deploy(spec)
held = requests.post(endpoint, json={}, headers=HEADERS).json()["job_id"]
client.stop_job(name, held)
stopped = client.get_job(name, held)["job_status"]["status"]
again = refusal(client.stop_job, name, held)
listed = [api["metadata"]["name"] for api in client.list_apis()]
client.delete(name, keep_cache=True)
print(json.dumps({
    "deployed": deployed, "held": held_api, "endpoint": endpoint, "submitted": job, "found": found, "stopped": stopped,
    "again": again, "listed": listed, "left": [api["metadata"]["name"] for api in client.list_apis()],
    "gone": refusal(client.get_api, name), "no_job": refusal(client.get_job, name, "0123456789abcdef"),
    "bad": refusal(client.deploy, {"name": "bad name", "kind": "TaskAPI"}),
}))
"""


@pytest.mark.parametrize("way", ["the server", "its home"])
def test_0_42_deploys_reads_stops_and_deletes(client: Run, live_server: LiveServer, name: str, way: str) -> None:
    in_its_home = {"TASKAPI_URL": "", "TASKAPI_HOME": str(live_server.home)}
    seen = client("0.42.1", FLOW_42, name, **(in_its_home if way == "its home" else {}))
    assert (seen["deployed"]["api"]["spec"]["name"], seen["deployed"]["error"]) == (name, "")
    assert name in seen["deployed"]["message"]
    assert seen["endpoint"] == seen["deployed"]["api"]["endpoint"] == f"{live_server.taskapi}/tasks/{name}"
    assert seen["submitted"]["config"] == {"n": 7}
    status = seen["found"]["job_status"]
    assert (status["status"], status["job_id"]) == ("succeeded", seen["submitted"]["job_id"])
    note, spec = live_server.fetch("GET", f"jobs/{status['job_id']}/log").text.splitlines()
    assert "is gone; this task runs in" in note  # the client deletes the folder that it deployed from
    assert json.loads(spec)["config"] == {"n": 7}
    assert seen["found"]["endpoint"] == f"{seen['endpoint']}?jobID={status['job_id']}"
    assert seen["held"]["api"]["spec"]["id"] != seen["deployed"]["api"]["spec"]["id"]
    assert seen["stopped"] == "stopped"
    assert "cannot stop TaskAPI job because it is not in progress" in seen["again"]
    assert name in seen["listed"]
    assert name not in seen["left"]
    assert f"{name} is not deployed" in seen["gone"]
    assert "unable to find TaskAPI job 0123456789abcdef" in seen["no_job"]
    assert "bad name" in seen["bad"]


FLOW_28 = """
import threading
name, project = sys.argv[1:]
client = cortex.client("local")

class Task:
    def __call__(self, config):
        print("n is", config["n"])
        return config["n"] + 1

deployed = client.create_api({"name": name, "kind": "TaskAPI"}, task=Task, requirements=["pyyaml"])
endpoint = client.get_api(name)["endpoint"]
job = requests.post(endpoint, json={"config": {"n": 20}}, headers=HEADERS).json()["job_id"]
found = ended(client, name, job)
client.stream_job_logs(name, job)

folder = client.create_api(
    {"name": name + "-p", "kind": "TaskAPI", "definition": {"path": "task.py", "config": {"n": 1}}}, project_dir=project)
held = requests.post(folder["api"]["endpoint"], json={}, headers=HEADERS).json()["job_id"]
client.stop_job(name + "-p", held)
stopped = client.get_job(name + "-p", held)["job_status"]["status"]
listed = [api["spec"]["name"] for api in client.list_apis()]
for one in (name, name + "-p"):
    client.delete_api(one, keep_cache=True)
print(json.dumps({
    "deployed": deployed, "endpoint": endpoint, "job": job, "found": found, "folder": folder,
    "stopped": stopped, "listed": listed, "left": [api["spec"]["name"] for api in client.list_apis()],
}))
"""


def test_0_28_deploys_callables_and_folders(client: Run, live_server: LiveServer, name: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "task.py").write_text("import time\n\ndef task(config):\n    time.sleep(60)\n")
    seen = client("0.28.0", FLOW_28, name, str(project))
    assert (seen["deployed"]["api"]["spec"]["name"], seen["deployed"]["error"]) == (name, "")
    assert seen["endpoint"] == f"{live_server.taskapi}/tasks/{name}"
    assert seen["found"]["job_status"]["status"] == "succeeded"
    assert live_server.fetch("GET", f"jobs/{seen['job']}/result").json() == 21
    assert live_server.fetch("GET", f"jobs/{seen['job']}/log").text == "n is 20\n"
    assert seen["folder"]["api"]["spec"]["definition"]["config"] == {"n": 1}
    assert seen["stopped"] == "stopped"
    assert {name, f"{name}-p"} <= set(seen["listed"])
    assert not {name, f"{name}-p"} & set(seen["left"])


ENVIRONMENTS = """
made = cortex.new_client("prod", "operator.example")
there = cortex.env_list()
cortex.env_delete("prod")
print(json.dumps({"made": made.env, "there": there, "gone": refusal(cortex.client, "prod")}))
"""


@pytest.mark.parametrize("version", ["0.42.1", "0.28.0"])
def test_environments(client: Run, version: str) -> None:
    seen = client(version, ENVIRONMENTS, TASKAPI_URL="")  # those of this machine's own file
    assert (seen["made"]["name"], seen["made"]["operator_endpoint"]) == ("prod", "https://operator.example")
    there = seen["there"]
    if version == "0.42.1":
        assert there["default_environment"] == "local"
        there = there["environments"]
    assert [(one["name"], one["provider"]) for one in there] == [("local", "local"), ("prod", "cortex")]
    assert "can't find environment prod" in seen["gone"]
