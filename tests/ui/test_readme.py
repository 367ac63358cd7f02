"""The README's cells and commands, run as they are written, in a notebook's shell and a bash beside a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import TESTS
from support.servers import LiveServer
from support.shells import Ran

README = (TESTS.parent / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def bash(script: str, **variables: str) -> str:
    """Run a script to its end or its first failure; return what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_cells_and_requests(
    run: Callable[[str], Ran], live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_URL", live_server.url)
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)
    for cell in blocks("python"):
        ran = run(cell.replace("sleep(0.5)", "sleep(0)"))
        assert ran.error is None, ran.error
    assert ran.result == {"loss": 0.1}
    [requests] = [block for block in blocks("sh") if "curl" in block]
    newest = live_server.fetch("GET", "jobs", params={"limit": 1}).json()["jobs"][0]["job_id"]
    script = re.sub(r"^URL=.*", f"URL={live_server.url.rstrip('/')} TOKEN={live_server.token}", requests, flags=re.M)
    script = re.sub(r"^JOB=.*", f"JOB={newest}", script, flags=re.M)
    script = script.replace("curl -H", "curl -sfH").replace("-X DELETE", "-X DELETE --no-fail")  # it has ended by then
    assert bash(script).count('"job_id"') >= 3


def test_commands_about_environments(tmp_path: Path) -> None:
    commands = "".join(block for block in blocks("sh") if "env configure" in block)
    listed = bash(commands + "jupyter taskapi env", TASKAPI_HOME=str(tmp_path / "home"))
    assert "gpus" in listed
    assert "prod" in listed


def test_a_whole_notebook(tmp_path: Path) -> None:
    [command] = [block for block in blocks("sh") if "submit report.ipynb" in block]
    for name in ("report.ipynb", "iris.csv"):
        shutil.copy(TESTS.parent / "notebooks" / name, tmp_path)
    shown = bash(f"cd {tmp_path}\n{command}", TASKAPI_HOME=str(tmp_path / "home"))
    assert "succeeded" in shown


def test_what_removes_all(tmp_path: Path) -> None:
    home = tmp_path / "home"
    [commands] = [block for block in blocks("sh") if "rm -r" in block]
    deploy = "printf 'def task(config):\\n    pass\\n' > task.py\n"
    spec = "printf '%s\\n' '- name: train' '  kind: TaskAPI' '  definition: {path: task.py}' > cortex.yaml\n"
    done = commands.replace("pip uninstall taskapi-jupyter", "true")
    bash(f"cd {tmp_path}\n{deploy}{spec}jupyter taskapi deploy\n{done}", TASKAPI_HOME=str(home))
    assert not home.exists()
