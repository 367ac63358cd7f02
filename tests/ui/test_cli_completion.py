"""What Tab offers: asked by a real bash as it asks, and by jupyter, which hands its words on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import PATIENCE, request_for
from taskapi_jupyter.service.service import Service

BIN = Path(sys.executable).parent
#: Calls the function that the script registered, as Tab does, and prints what it would offer.
ASK = """
eval "$SCRIPT"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
read -ra words <<< "$1"
registered=$(complete -p "${words[0]}")
function=${registered#*-F } function=${function%% *}
$function "${words[0]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


LEAVES = """
import os

def task(config):
    open(os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], "model.pt"), "w").close()
"""


@pytest.fixture(scope="module")
def script() -> str:
    """Return what is evaluated when a shell starts."""
    return subprocess.run(
        [BIN / "jupyter-taskapi", "completion", "bash"], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.fixture
def offered(script: str, home: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what gives the words that bash offers for a line."""

    def ask(line: str, **environ: str) -> list[str]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "bash", line],
            env={**os.environ, "PATH": path, "SCRIPT": script, **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=25,  # less than a client has patience for
            check=False,
        )
        assert done.stderr == ""
        return [word.strip() for word in done.stdout.splitlines() if word]

    return ask


@pytest.fixture
def deployed(service: Service) -> list[str]:
    """Return the ids of two jobs, newest first."""
    for name in ("trainer", "tester"):
        service.deploy_request(request_for(name, "def task(config):\n    return 1\n"))
    ids = [service.submit(name).id for name in ("trainer", "tester")]
    return ids[::-1]


def test_verbs_and_options(offered: Callable[..., list[str]]) -> None:
    program = "jupyter-taskapi"
    verbs = {"deploy", "submit", "get", "delete", "jobs", "logs", "wait", "env", "serve", "version", "completion"}
    verbs |= {
        "attach",
        "doctor",
        "resume",
        "groups",
        "schedule",
        "schedules",
        "stop",
        "status",
        "result",
        "rerun",
        "files",
        "packages",
        "help",
    }
    verbs |= {"notify"}
    assert set(offered(f"{program} ")) == set(offered("jupyter taskapi ")) == verbs
    assert offered(f"{program} get --wa") == ["--watch"]
    assert offered(f"{program} get --status su") == ["succeeded"]
    assert set(offered(f"{program} packages ")) == {"list", "show", "purge"}
    assert set(offered(f"{program} env ")) == {"list", "configure", "delete", "default"}
    assert offered(f"{program} env configure prod --op") == ["--operator-endpoint"]
    assert offered(f"{program} completion f") == ["fish"]


def test_names_and_ids(offered: Callable[..., list[str]], deployed: list[str], service: Service) -> None:
    newer, older = deployed
    assert set(offered("jupyter taskapi get t")) == {"trainer", "tester"}
    assert offered("jupyter taskapi submit tr") == ["trainer"]
    assert set(offered("jupyter taskapi get trainer ")) == {older, older[-6:], "last"}
    assert offered(f"jupyter taskapi delete tester {newer[-6:-2]}") == [newer[-6:]]
    assert offered(f"jupyter taskapi wait {newer[:-1]}") == [newer]
    assert {"trainer", "tester", newer, older[-6:]} <= set(offered("jupyter taskapi logs "))
    service.deploy_request(request_for("leaves", LEAVES))
    job = service.map("leaves", [{}], name="grouped").wait(PATIENCE)[0]
    assert offered("jupyter taskapi stop gr") == offered("jupyter taskapi groups purge gr") == ["grouped"]
    assert offered(f"jupyter taskapi files {job.id} ") == ["model.pt"]


def test_environments(offered: Callable[..., list[str]], home: Path) -> None:
    (home / "environments.yaml").write_text(
        "environments: [{name: prod, provider: cortex, operator_endpoint: 'http://127.0.0.1:1'}]\n"
    )
    assert set(offered("jupyter-taskapi get --env ")) == {"local", "prod"}
    assert set(offered("jupyter-taskapi env default ")) == {"local", "prod"}
    assert offered("jupyter-taskapi get --env=pr") == ["prod"]
    assert offered("jupyter-taskapi get --env prod x") == []  # it can't be reached


def test_files(offered: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("cortex.yaml", "other.yml", "notes.txt"):
        (tmp_path / name).touch()
    assert {"cortex.yaml", "other.yml", "folder/"} <= set(offered("jupyter taskapi deploy "))
    assert offered("jupyter taskapi deploy n") == []
    assert offered("jupyter lab no") == ["notes.txt"]


def test_subcommands_of_jupyter(offered: Callable[..., list[str]]) -> None:
    assert offered("jupyter tas") == ["taskapi"]


def test_jupyter_hands_its_words_on(home: Path, tmp_path: Path) -> None:
    """As where `jupyter` itself is registered with argcomplete."""
    line, answer = "jupyter taskapi dep", tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(answer)
    subprocess.run([str(BIN / "jupyter")], env={**os.environ, **asked}, timeout=60, check=True)
    assert answer.read_text().strip() == "deploy"


def test_a_server_that_does_not_answer_holds_nobody_up(offered: Callable[..., list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert offered("jupyter taskapi get t", TASKAPI_URL=url) == []
    assert offered("jupyter taskapi get t", TASKAPI_URL="nonsense") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(home: Path, shell: str) -> None:
    done = subprocess.run(
        [BIN / "jupyter-taskapi", "completion", shell], capture_output=True, text=True, timeout=60, check=True
    )
    assert "_ARGCOMPLETE" in done.stdout
    assert "jupyter-taskapi" in done.stdout
