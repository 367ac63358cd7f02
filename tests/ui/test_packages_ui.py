"""Environments of packages as people see them: in a notebook, a terminal, the doctor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from support.built import KEYS, deploy_in, held, make, there
from support.program import answer
from support.program import run as program
from support.shells import Run
from taskapi_jupyter.client.packages import PackagesList
from taskapi_jupyter.core.errors import BadRequest, NotFound
from taskapi_jupyter.service.service import Service

NOTHING = "def task(config):\n    pass\n"
A, B, C, *_ = KEYS
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\nsix"


def test_a_terminal(service: Service, home: Path) -> None:
    assert program("packages").stdout == "no environments were built\n"
    make(home, A, requirements=["six", "numpy<3"])
    make(home, B, days=40, size=310 << 20)
    deploy_in(service, "train", NOTHING, A)
    lines = program("packages").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["key", "python", "size", "last", "used", "jobs", "requirements"],
        ["aaaaaaaa", "3.11.7", "5", "MiB", *lines[1].split()[4:-3], "0", "six,", "numpy<3"],
        ["bbbbbbbb", "3.11.7", "310", "MiB", "40", "d", "ago", "0", "six"],
    ]
    assert program("packages", "list", "-o", "wide").stdout.splitlines()[0] == lines[0]
    assert [one["key"] for one in answer("packages")] == [A, B]
    shown = program("packages", "show", "aaaa").stdout
    assert shown.startswith(f"environment {A}\n")
    for line in (f"python:       3.11.7 ({sys.executable})", "took:         1.5 s, by uv", "APIs:         train"):
        assert f"\n  {line}\n" in shown
    assert "\n  requirements: six, numpy<3\n  packages:     six==1.17.0\n" in shown
    assert answer("packages", "show", "bbbb")["size"] == 310 << 20


def test_a_terminal_deletes(service: Service, home: Path) -> None:
    for key, days in ((A, 1), (B, 5), (C, 50)):
        make(home, key, days=days)
    assert program("packages", "purge", "--older-than", "30").stdout == "1 environment (5 MiB) deleted\n"
    assert program("packages", "purge", "bbbb").stdout == "environment bbbbbbbb deleted\n"
    with held(home / "packages" / f"{A}.used"):
        done = program("packages", "purge", "aaaa")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == ("jupyter taskapi: environment aaaaaaaa can't be deleted while a process runs in it\n")
        assert program("packages", "purge").stdout == "0 environments deleted\n"
    assert there(home) == {A}
    assert answer("packages", "purge") == {"message": "deleted 1 environment (5 MiB)"}
    for line, code, said in (
        (["show", "0000"], 1, "no environment 0000"),
        (["show", "nothing"], 1, "no environment has the key 'nothing'"),
        (["purge", "aaaa", "--older-than", "1"], 2, "--older-than chooses among all environments"),
        (["purge", "--older-than", "-1"], 2, "is not a number of days"),
    ):
        done = program("packages", *line)
        assert (done.returncode, said in done.stderr) == (code, True), done


def test_a_notebook(run: Run, home: Path) -> None:
    listed = run("%taskapi packages").value()
    assert (isinstance(listed, PackagesList), repr(listed)) == (True, "no environments were built")
    make(home, A)
    make(home, B, days=3)
    listed = run("%taskapi packages").value()
    assert [one.key for one in listed] == [A, B]
    assert ">aaaaaaaa<" in listed._repr_html_()
    one = run("%taskapi packages bbbb")
    assert one.value().key == B
    assert f"environment {B}\n  python:" in one.out
    assert f">{B}<" in one.value()._repr_html_()
    with pytest.raises(NotFound, match="no environment 0000"):
        run("%taskapi packages 0000").value()
    with pytest.raises(BadRequest, match="four or more of its digits"):
        run("%taskapi packages x").value()


def test_tab_offers_keys(run: Run, shell: InteractiveShell, home: Path) -> None:
    make(home, A)
    line = "%taskapi packages "
    assert list(shell.Completer.complete(line_buffer=line, cursor_pos=len(line))[1]) == ["aaaaaaaa"]


@pytest.mark.parametrize("facts", [False, True], ids=["in facts", "as facts"])
def test_hostile_facts_are_shown_and_not_obeyed(run: Run, home: Path, facts: bool) -> None:
    hostile = dict.fromkeys(("python", "version", "builder"), HOSTILE)
    if facts:
        make(home, A, facts=HOSTILE)
    else:
        make(home, A, **hostile, requirements=[HOSTILE], packages=[HOSTILE])
    listed = run("%taskapi packages").value()
    card = run("%taskapi packages aaaa").value()
    for html in (listed._repr_html_(), card._repr_html_()):
        assert "<script" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    texts = [repr(listed), repr(card), program("packages").stdout, program("packages", "show", "aaaa").stdout]
    for text in texts:
        assert text.replace("\n", "").isprintable()
    assert [len(text.splitlines()) for text in texts[::2]] == [2, 2]
    assert facts or "\\x1b[31m\\u202e six" in card.__repr__()


def test_what_the_doctor_says(home: Path, tmp_path: Path) -> None:
    make(home, A, size=310 << 20)
    told = answer("doctor")
    assert told["packages"].startswith("1 environment, 310 MiB; built by uv 0.")
    assert f"({sys.executable})" in told["interpreters"]
    # A Python that has neither, and no uv on PATH or beside it.
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    python = nothing / "python"
    (nothing / "uv.py").write_text("raise ImportError\n")
    script = (
        f"import sys; sys.path.insert(0, {str(nothing)!r}); sys.executable = {str(python)!r}\n"
        "from importlib import metadata\n"
        "from taskapi_jupyter.ui import doctor\n"
        "from pathlib import Path\n"
        "def none(name): raise metadata.PackageNotFoundError\n"
        "metadata.version = none\n"
        f"home = Path({str(home)!r})\n"
        "print(doctor.facts(home)['packages'])\n"
        "print(*doctor.problems(home), sep='\\n')\n"
    )
    for builder, said in (
        ("auto", ""),
        ("uv", "uv is missing, and packages.builder in config.yaml asks for it: pip install uv"),
        ("pip", f"pip is missing in {python}, and packages.builder in config.yaml asks for it"),
    ):
        (home / "config.yaml").write_text(f"packages: {{builder: {builder}}}\n")
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PATH": str(nothing)},
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert lines[0] == "1 environment, 310 MiB; built by nothing: neither uv nor pip is found here"
        assert lines[1:] == [said]


def test_credentials_of_an_index_are_shown_nowhere(service: Service, home: Path) -> None:
    (home / "config.yaml").write_text("packages: {index_url: 'https://me:hush@index.example/simple'}\n")
    deploy_in(service, "train", NOTHING, A)
    done = program("doctor")
    assert "hush" not in done.stdout + done.stderr
    (home / "config.yaml").write_text("packages: {index_url: 'ftp://me:hush@index.example/simple'}\n")
    for line in (["doctor"], ["env"]):
        done = program(*line)
        assert "hush" not in done.stdout + done.stderr
    with pytest.raises(BadRequest, match=r"not 'ftp://\*\*\*@index\.example/simple'"):
        deploy_in(service, "train", NOTHING, A)
