"""What is secret stays so: nobody else may read what is written, and nothing shows the value of a variable."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import websocket

from support import IMPORTS, PATIENCE, until
from support.cortex_double import Operator
from support.homes import processes, stop_supervisor
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest

# Permissions

WRITES = f"""
import json, os, signal, sys
os.umask(int(sys.argv[2], 8))
{IMPORTS}from io import BytesIO
from pathlib import Path
from zipfile import ZipFile
from support import request_for, until
from taskapi_jupyter.client.environments_file import Entry, EnvironmentFile
from taskapi_jupyter.server.handlers.project_zip import unpacked
from taskapi_jupyter.service.service import Service

service = Service(sys.argv[1])
EnvironmentFile(service.home).configure(Entry(name="prod", provider="cortex", operator_endpoint="http://127.0.0.1:1"))
buffer = BytesIO()
with ZipFile(buffer, "w") as archive:
    archive.writestr("folder/inner/task.py", "def task(config): pass")
with unpacked(buffer.getvalue(), service.home):
    pass
until_go = "\\n    while not os.path.exists(os.environ['TASKAPI_HOME'] + '/go'):\\n        time.sleep(0.01)\\n    1 / 0"
for name, source in (("a", "return {{1: 2}}"), ("b", "return 1"), ("c", until_go)):
    source = "import os, sys, time\\nsys.dont_write_bytecode = True\\nfrom taskapi_jupyter.job import progress\\n\\ndef task(config):\\n" + (
        "    os.umask(0o" + sys.argv[2] + ")\\n    progress(1)\\n    print(1)\\n    " + source
    )
    service.deploy_request(request_for(name, source))
    job = service.submit(name)
    if name != "c":
        job.wait(30)
folder = service.home / "jobs" / job.id
until((folder / "progress.json").exists, "the last job to begin")
# Once it has recorded the end, the supervisor removes most of these files.
os.kill(json.loads((service.home / "supervisor.lock").read_bytes())["pid"], signal.SIGSTOP)
(service.home / "go").touch(mode=0o600)
os.chmod(service.home / "go", 0o600)
until((folder / "outcome.json").exists, "the last job to end")
"""


@pytest.mark.parametrize("umask", ["000", "777"])
def test_nobody_else_may_read_what_is_written(tmp_path: Path, umask: str) -> None:
    home = tmp_path / "new" / "home"
    try:
        subprocess.run([sys.executable, "-c", WRITES, str(home), umask], check=True, timeout=60)
        found = {path.relative_to(home).as_posix(): path.lstat().st_mode for path in [home, *home.rglob("*")]}
        names = {Path(name).name for name in found}
        assert {"taskapi.db", "supervisor.lock", "supervisor.log", "wake", "environments.yaml", "task.py"} <= names
        assert {
            "result.json",
            "result.pkl",
            "outcome.json",
            "claim",
            "job.json",
            "log",
            "progress.json",
        } <= names
        # What an interpreter compiles beside a task's file is not written by us; its folder keeps others out.
        wrong = {
            name: oct(mode)
            for name, mode in found.items()
            if "__pycache__" not in name and stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
        }
        assert wrong == {}
    finally:
        for one in processes(home):
            one.resume()
        stop_supervisor(home)


# Secrets in variables

#: What is secret, by where it comes from.
SECRETS = {
    name: f"{name}-{secrets.token_hex(12)}"
    for name in ("spec", "pod", "file", "proxy", "named", "cut", "server", "header")
}

TASK = """
import hashlib, os, pathlib, time

def task(config):
    print("waiting", flush=True)
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    return sorted({hashlib.sha256(value.encode()).hexdigest() for value in os.environ.values()})
"""


def digest(value: str) -> str:
    """Return what a task tells of a value."""
    return hashlib.sha256(value.encode()).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[LiveServer]:
    """Return a server that has a secret in its own environment, and one for the cluster ``prod``."""
    server = start_server(
        tmp_path_factory.mktemp("server"),
        "--debug",
        environ={"SERVER_SECRET": SECRETS["server"], "HTTPS_PROXY": SECRETS["server"], "GATEWAY": SECRETS["header"]},
    )
    (server.home / "config.yaml").write_text("stop_grace: 1\nenviron: [HF_TOKEN]\n")
    prod = {
        "name": "prod",
        "provider": "cortex",
        "operator_endpoint": operator.url,
        "headers": {"X-Key": {"env": "GATEWAY"}},
    }
    prod["version"] = operator.version
    (server.home / "environments.yaml").write_text(json.dumps({"environments": [prod]}))
    yield server
    stop_server(server)


def request(name: str, folder: Path, spec: dict[str, object], **more: object) -> DeployRequest:
    """Return what deploys an API from a kernel that has secrets in its environment."""
    kernel = {
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": SECRETS["proxy"],  # on the list of what a task gets
        "HF_TOKEN": SECRETS["named"],  # which config.yaml names
        "AWS_SECRET_ACCESS_KEY": SECRETS["cut"],
        "TASKAPI_TOKEN": SECRETS["cut"],
    }
    whole = {"name": name, "kind": "TaskAPI", **spec}
    return DeployRequest(spec=whole, python=sys.executable, cwd=str(folder), environ=kernel, **more)  # type: ignore[arg-type]


def test_values_of_variables_are_seen_by_their_task_alone(
    server: LiveServer, tmp_path: Path, name: str, operator: Operator
) -> None:
    (tmp_path / ".env").write_text(f"FROM_FILE={SECRETS['file']}\n")
    shown: list[str] = []  # all that anybody may get to see
    client = Client(server.taskapi, server.token)
    address = f"ws{server.url.removeprefix('http')}api/events/subscribe?token={server.token}"
    events = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
    spec = {"definition": {"path": "task.py", "env": {"PASSWORD": SECRETS["spec"]}}}
    pod = {"pod": {"containers": [{"command": ["true"], "env": {"PASSWORD": SECRETS["pod"]}}]}}
    shown.append(repr(client.deploy_request(request(name, tmp_path, spec, source=TASK))))
    shown.append(repr(client.deploy_request(request(f"{name}-pod", tmp_path, pod))))
    assert shown[0].count("'PASSWORD': '***'") == shown[1].count("'PASSWORD': '***'") == 1
    for env in (
        {"A": [SECRETS["spec"]]},
        {"A": {SECRETS["spec"]: 1}},
        {"A": SECRETS["spec"] + "\0"},
        {"TASKAPI_A": SECRETS["spec"]},
    ):
        for wrong in (
            {"definition": {"path": "task.py", "env": env}},
            {"pod": {"containers": [{"command": ["true"], "env": env}]}},
        ):
            with pytest.raises(BadRequest) as refused:
                client.deploy_request(request(f"{name}-wrong", tmp_path, wrong))
            shown.append(str(refused.value))
    with pytest.raises(BadRequest, match="not shown: give the value"):  # what is shown is no specification to deploy
        client.deploy_request(request(name, tmp_path, {"definition": {"path": "task.py", "env": {"A": "***"}}}))

    job = client.submit(name, {"go": str(tmp_path / "go")})
    until(lambda: job.logs() == "waiting\n", "it to run")
    here = [psutil.Process(server.process.pid), *processes(server.home)]
    assert len(here) == 4  # server, supervisor, watcher, task
    shown += [" ".join([one.name(), *one.cmdline()]) for one in here]
    (tmp_path / "go").touch()
    seen = set(job.result(PATIENCE))
    assert {name for name, value in SECRETS.items() if digest(value) in seen} == {"spec", "file", "proxy", "named"}

    client.submit(f"{name}-pod").wait(PATIENCE)
    for env, api in (("local", name), ("local", f"{name}-pod"), ("prod", "hello")):
        paths = [
            "get",
            f"get/{api}",
            "jobs",
            f"jobs?api={api}",
            "verifycortex",
            "info",
            "../environments",
            "../openapi.json",
        ]
        paths += [f"get/{api}/{job.record.api_id}", f"jobs/{job.id}", f"tasks/{api}?jobID={job.id}"]
        paths += [f"jobs/{job.id}/{what}" for what in ("log", "files", "result")]
        for path in paths:
            answer = server.fetch("GET", f"../{env}/{path}")
            shown.append(f"{answer.text} {answer.headers}")
    assert any("'***'" in text or '"***"' in text for text in shown)
    assert operator.requests  # it was asked, with its header
    assert [one for one in operator.requests if one.header("X-Key") != [SECRETS["header"]]] == []
    events.settimeout(PATIENCE)
    while not (f"{name}-pod" in shown[-1] and "succeeded" in shown[-1]):
        shown.append(str(events.recv()))
    events.close()
    assert not [
        text for text in shown if server.token in text and "--IdentityProvider.token" not in text
    ]  # of this test
    logs = (server.home / "supervisor.log", server.home.parent / "server.log")
    shown += [file.read_text("utf-8", "replace") for file in logs]
    for whence, value in SECRETS.items():
        assert not [text for text in shown if value in text], whence

    # On disk they are where they must be, in files that nobody else may read.
    holding = {
        path.name
        for path in server.home.rglob("*")
        if path.is_file() and any(value.encode() in path.read_bytes() for value in SECRETS.values())
    }
    assert holding <= {"taskapi.db", "taskapi.db-wal"}
