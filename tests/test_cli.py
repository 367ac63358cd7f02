"""The terminal program, run as one, against a real home and through a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port, until

YAML = """
- name: adder
  kind: TaskAPI
  definition:
    path: adder.py
    config: {a: 1, b: 2}
- name: waits
  definition:
    path: waits.py
"""


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskapi_jupyter.cli", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(*arguments: str, **environ: str) -> Any:
    done = run(*arguments, "-o", "json", **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "adder.py").write_text(
        "def run(config):\n    print('adding')\n    return config['a'] + int(config['b'])\n"
    )
    (folder / "waits.py").write_text("import time\ndef run(config):\n    print('up', flush=True)\n    time.sleep(60)\n")
    (folder / "cortex.yaml").write_text(YAML)
    return folder


def test_a_job_from_end_to_end(home: Path, project: Path) -> None:
    deployed = answer("deploy", str(project / "cortex.yaml"), "-y")
    assert [one["api"]["spec"]["name"] for one in deployed] == ["adder", "waits"]
    done = run("submit", "adder", "a=40", "--wait")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    jobs = answer("get", "--limit", "5")
    assert [job["config"] for job in jobs] == [{"a": 40}]
    job = jobs[0]["job_id"]
    assert answer("get", "adder", job)["job_status"]["status"] == "succeeded"
    assert answer("get", "adder", job[-6:])["job_status"]["job_id"] == job
    assert run("logs", "adder", job).stdout == "adding\n"
    assert run("logs", job[-6:], "-n", "1", "--no-follow").stdout == "adding\n"
    assert {one["metadata"]["name"] for one in answer("get")} == {"adder", "waits"}
    assert [one["spec"]["name"] for one in answer("get", "adder")] == ["adder"]
    table = run("get").stdout
    assert "adder" in table
    assert job in table
    assert answer("delete", "adder", "--force")["message"] == "deleted adder"


def test_a_deploy_warns_of_requirements_that_are_not_met(home: Path, project: Path) -> None:
    (project / "requirements.txt").write_text("no-such-package-anywhere>=3\n")
    done = run("deploy", str(project / "cortex.yaml"))
    assert done.returncode == 0
    assert "no-such-package-anywhere" in done.stdout


def test_stop_and_wait(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    job = answer("submit", "waits", "--timeout", "50")["job_status"]["job_id"]
    assert answer("delete", "waits", job)["message"] == f"stopped job {job}"
    done = run("wait", job)
    assert done.returncode == 1
    assert "stopped" in done.stdout
    again = run("delete", "waits", job)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "not in progress" in again.stderr


def test_interrupting_logs_leaves_the_job_running(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    job = answer("submit", "waits")["job_status"]["job_id"]
    with subprocess.Popen(
        [sys.executable, "-m", "taskapi_jupyter.cli", "logs", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"up\n"
        following.send_signal(signal.SIGINT)
        _, complaint = following.communicate(timeout=30)
        assert following.returncode == 130
    assert complaint.count(b"\n") == 1
    assert answer("get", "waits", job)["job_status"]["status"] == "running"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get", "nosuch"], 1, "nosuch is not deployed"),
        (["submit", "nosuch"], 1, "nosuch is not deployed"),
        (["logs", "nosuch"], 2, "is no job"),
        (["wait", "0123456789abcdef"], 1, "unable to find"),
        (["deploy", "nosuch.yaml"], 2, "there is no file"),
        (["submit", "x", "lr"], 2, "key=value"),
        (["submit", "x", "--config", "[1]"], 2, "JSON object"),
        (["submit", "x", "--timeout", "0"], 2, "above 0"),
        (["get", "--env", "elsewhere"], 1, "there are: local"),
        (["bogus"], 2, "invalid choice"),
        ([], 2, "VERB"),
    ],
)
def test_mistakes(home: Path, arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_environments_as_the_cortex_client_reads_them(home: Path) -> None:
    listed = answer("env", "list")
    assert listed["default_environment"] == "local"
    assert [one["name"] for one in listed["environments"]] == ["local"]


def test_through_a_server(live_server: Any, project: Path, tmp_path: Path) -> None:
    unused = tmp_path / "unused"
    there = {"TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": live_server.token, "TASKAPI_HOME": str(unused)}
    answer("deploy", str(project / "cortex.yaml"), **there)
    done = run("submit", "adder", "b=3", "--wait", **there)
    assert done.returncode == 0, done.stderr
    (api,) = answer("get", "adder", **there)
    assert api["endpoint"].endswith("/taskapi/local/tasks/adder")
    for name in ("adder", "waits"):
        answer("delete", name, **there)
    assert not unused.exists()


def test_nothing_heavy_is_imported(home: Path) -> None:
    code = "import sys, taskapi_jupyter.cli as c; c.main(['get']); print([m for m in ('IPython', 'jupyter_server') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_serve_is_a_server_with_this_extension_alone(home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server.log"
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "taskapi_jupyter.cli", "serve", "--port", str(port), "--", "--allow-root"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, env={**os.environ, "JUPYTER_TOKEN": "secret"}, cwd=tmp_path, stdout=file, stderr=file
        )
    there = {"TASKAPI_URL": url, "TASKAPI_TOKEN": "secret"}
    try:
        until(lambda: server.poll() is not None or run("env", **there).returncode == 0, "the server to answer")
        assert server.poll() is None, log.read_text()
        assert answer("env", "list", **there)["default_environment"] == "local"
        loaded = [line for line in log.read_text().splitlines() if "successfully loaded" in line]
        assert len(loaded) == 1
        assert "taskapi_jupyter" in loaded[0]
    finally:
        server.terminate()
        server.wait()
