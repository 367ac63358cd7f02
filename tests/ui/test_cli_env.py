"""``jupyter taskapi env``: the file of a home, changed from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from support.servers import LiveServer
from taskapi_jupyter.ui.cli import main

PROD = ("env", "configure", "prod", "--operator-endpoint", "https://operator.example")


def written(home: Path, name: str = "prod") -> dict[str, Any]:
    """Return an environment as the file has it."""
    file = yaml.safe_load((home / "environments.yaml").read_text())
    return {one["name"]: one for one in file["environments"]}[name]


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]
Said = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command, in this process."""

    def run(*arguments: str, **environ: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            try:
                code = main(arguments)
            except SystemExit as left:
                code = int(left.code or 0)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def said(run: Run) -> Said:
    """Return what gives what a command prints, which must succeed and have nothing to complain of."""

    def said(*arguments: str, **environ: str) -> str:
        done = run(*arguments, **environ)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return said


@pytest.fixture
def answer(said: Said) -> Callable[..., Any]:
    """Return what gives the JSON that a command prints."""
    return lambda *arguments, **environ: json.loads(said(*arguments, "--output", "json", **environ))


def test_an_environment_from_begin_to_end(home: Path, said: Said) -> None:
    assert said(*PROD) == "added environment prod: https://operator.example\n"
    assert (home / "environments.yaml").stat().st_mode & 0o777 == 0o600
    head, local, prod = said("env").splitlines()
    assert head.split() == ["environment", "provider", "endpoint"]
    assert (local.split(), prod.split()) == (["*", "local", "local"], ["prod", "cortex", "https://operator.example"])
    assert said("env", "default") == "local\n"
    assert said("env", "default", "prod") == "the default environment is now prod\n"
    assert said("env", "default") == "prod\n"
    assert said("env", "list").splitlines()[2].startswith("*  prod")
    assert said("env", "delete", "prod") == "deleted environment prod; the default environment is now local\n"
    assert said("env", "default") == "local\n"


def test_as_json(home: Path, answer: Callable[..., Any]) -> None:
    assert answer(*PROD) == {"message": "added environment prod: https://operator.example"}
    assert answer("env", "default", "prod") == {"default_environment": "prod"}
    assert answer("env", "default") == {"default_environment": "prod"}
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": "https://operator.example", "timeout": 30}
    everything = {"default_environment": "prod", "environments": [{"name": "local", "provider": "local"}, prod]}
    for arguments in (["env"], ["env", "list"]):
        assert answer(*arguments) == everything
    assert answer("env", "list", TASKAPI_CORTEX_CLI="0.28") == [
        {"name": "local", "provider": "local", "operator_endpoint": ""},
        {"name": "prod", "provider": "cortex", "operator_endpoint": "https://operator.example"},
    ]
    assert answer("env", "delete", "prod") == {
        "message": "deleted environment prod; the default environment is now local"
    }


def test_only_what_is_given_changes(home: Path, tmp_path: Path, said: Said) -> None:
    (tmp_path / "ca.pem").touch()
    options = ["--api-endpoint", "api.example", "--version", "0.42.1", "--verify", str(tmp_path / "ca.pem")]
    said(*PROD, *options, "--timeout", "5", "--header", "X-A=env:A", "--header", "X-B=file:~/b", "--provider", "cortex")
    before = written(home)
    assert before == {
        "name": "prod",
        "provider": "cortex",
        "operator_endpoint": "https://operator.example",
        "api_endpoint": "https://api.example",
        "version": "0.42.1",
        "headers": {"X-A": {"env": "A"}, "X-B": {"file": "~/b"}},
        "verify": str(tmp_path / "ca.pem"),
        "timeout": 5.0,
    }
    changed = said("env", "configure", "prod", "--header", "x-b=Bearer ${TOKEN}")
    assert changed == "changed environment prod: https://operator.example\n"
    assert written(home) == {**before, "headers": {"X-A": {"env": "A"}, "x-b": "Bearer ${TOKEN}"}}
    said("env", "configure", "prod", "-o", "http://127.0.0.1:8888", "--verify", "false", "--header", "X-A=")
    after = {**before, "operator_endpoint": "http://127.0.0.1:8888", "verify": False}
    assert written(home) == {**after, "headers": {"x-b": "Bearer ${TOKEN}"}}
    said("env", "configure", "prod", "--version", "", "--api-endpoint", "", "--verify", "true", "--header", "x-b=")
    assert written(home) == {
        "name": "prod",
        "provider": "cortex",
        "operator_endpoint": "http://127.0.0.1:8888",
        "timeout": 5.0,
    }


def test_paths_hold_in_other_folders(home: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    said(*PROD, "--verify", "ca.pem", "--header", "X-Key=file:secrets/key")
    assert written(home)["verify"] == str(tmp_path / "ca.pem")
    assert written(home)["headers"] == {"X-Key": {"file": str(tmp_path / "secrets" / "key")}}


def test_no_value_of_a_header_is_shown(home: Path, run: Run, said: Said) -> None:
    done = run(*PROD, "--header", "X-Key=hunter2", "--header", "X-Other=env:OTHER")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "header X-Key in plain text" in done.stderr
    assert "X-Key=env:VARIABLE" in done.stderr
    assert "X-Key=file:PATH" in done.stderr
    shown = done.stdout + done.stderr
    for arguments in (["env"], ["env", "-o", "json"], ["env", "configure", "prod", "--timeout", "3"]):
        shown += said(*arguments)
    assert "hunter2" not in shown
    assert "OTHER" not in shown
    assert written(home)["headers"]["X-Key"] == "hunter2"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["configure", "prod"], 2, "needs --operator-endpoint"),
        (["configure", "prod", "--operator-endpoint", ""], 2, "needs --operator-endpoint"),
        (["configure", "prod", "--operator-endpoint", "ftp://x"], 1, "ftp://x"),
        (["configure", "pr od", "--operator-endpoint", "x"], 1, "its name must be"),
        (["configure", "environments", "--operator-endpoint", "x"], 1, "its name must be"),
        (["configure", "local", "--operator-endpoint", "x"], 2, "is this machine"),
        (["configure", "prod", "--operator-endpoint", "x", "--timeout", "0"], 2, "'0' is not a number of seconds"),
        (["configure", "prod", "--operator-endpoint", "x", "--timeout", "nan"], 2, "'nan' is not a number of seconds"),
        (["configure", "prod", "--operator-endpoint", "x", "--version", "new"], 1, "must be one of Cortex's"),
        (["configure", "prod", "--operator-endpoint", "x", "--verify", "/no/ca.pem"], 1, "there is no file"),
        (["configure", "prod", "--operator-endpoint", "x", "--provider", "slurm"], 2, "invalid choice: 'slurm'"),
        (["configure", "prod", "--operator-endpoint", "x", "--header", "hunter2"], 2, "'Name=value'"),
        (["configure", "prod", "--operator-endpoint", "x", "--header", "Host=hunter2"], 1, "'Host' is not a header"),
        (
            ["configure", "prod", "--operator-endpoint", "x", "--header", "A=env:hunter-2"],
            2,
            "name of an environment variable",
        ),
        (["configure", "prod", "--operator-endpoint", "x", "--header", "A=file:"], 2, "followed by a path"),
        (["delete", "nosuch"], 1, "there is no environment 'nosuch'; there are: local"),
        (["delete", "local"], 1, "can't be deleted"),
        (["default", "nosuch"], 1, "there is no environment 'nosuch'; there are: local"),
        (["bogus"], 2, "invalid choice"),
    ],
)
def test_mistakes(home: Path, run: Run, arguments: list[str], code: int, words: str) -> None:
    done = run("env", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter" not in done.stderr
    assert not (home / "environments.yaml").exists()


def test_a_file_that_is_damaged_is_not_touched(home: Path, run: Run) -> None:
    (home / "environments.yaml").write_text("environments: [{name: prod, provider: slurm}]\n")
    done = run(*PROD)
    assert (done.returncode, done.stdout) == (1, "")
    assert "provider 'slurm'" in done.stderr
    assert "provider: slurm" in (home / "environments.yaml").read_text()


def test_those_of_a_server_are_shown_and_not_changed(
    live_server: LiveServer, tmp_path: Path, run: Run, said: Said, answer: Callable[..., Any]
) -> None:
    unused = tmp_path / "unused"
    there = {"TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": live_server.token, "TASKAPI_HOME": str(unused)}
    assert answer("env", "list", **there)["default_environment"] == "local"
    assert said("env", "default", **there) == "local\n"
    for arguments in (list(PROD), ["env", "delete", "local"], ["env", "default", "local"]):
        done = run(*arguments, **there)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "TASKAPI_URL is set" in done.stderr
    assert not unused.exists()


def test_whoever_names_an_unknown_one_is_told_which_there_are(home: Path, run: Run, said: Said) -> None:
    said(*PROD)
    for arguments in (["get"], ["submit", "x"], ["logs", "x"], ["delete", "x"], ["wait", "x"], ["version"]):
        done = run(*arguments, "--env", "nosuch")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "jupyter taskapi: there is no environment 'nosuch'; there are: local, prod\n"
