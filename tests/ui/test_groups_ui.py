"""Sweeps and groups in a notebook's shell and in a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from support import PATIENCE, until
from support.program import PROGRAM, answer, run_apart
from support.program import run as program
from support.shells import Run
from taskapi_jupyter.client.groups.group import Group, GroupList
from taskapi_jupyter.core.errors import BadRequest, Conflict, GroupNotFound, JobFailed
from taskapi_jupyter.service.service import Service

DOUBLES = """%%taskapi deploy doubles --cpu 10m
def task(config):
    print("n is", config["n"])
    if config.get("fails"):
        raise ValueError("no")
    return {"twice": config["n"] * 2}
"""
WAITS = """%%taskapi deploy waits --cpu 10m
import time

def task(config):
    print("up", flush=True)
    time.sleep(600)
"""


def test_a_sweep(run: Run, shell: InteractiveShell) -> None:
    run(DOUBLES).value()
    group = run("%taskapi submit doubles n=[1,2] m=[3,4] x=5 --sweep --name mine --max-running 2").value()
    assert isinstance(group, Group)
    assert [job.config for job in group] == [{"x": 5, "n": n, "m": m} for n in (1, 2) for m in (3, 4)]
    shell.user_ns["held"] = group
    assert run("%taskapi wait held").value() == group
    for word in ("held", "mine", group.id, f"g{group.id[-5:]}"):
        assert run(f"%taskapi status {word}").value() == group, word
        assert run(f"%taskapi result {word}").value() == [{"twice": 2}] * 2 + [{"twice": 4}] * 2
    assert run("%taskapi logs mine -n 1").out.splitlines() == ["[0] n is 1", "[1] n is 1", "[2] n is 2", "[3] n is 2"]
    assert run("%taskapi stop mine").out == f"stopped 0 jobs of group mine ({group.id})\n"
    assert run("%taskapi delete mine").out == f"stopped 0 jobs of group mine ({group.id})\n"
    listed = run("%taskapi groups").value()
    assert (isinstance(listed, GroupList), [one.id for one in listed]) == (True, [group.id])
    assert "mine" in repr(listed)
    again = run("%taskapi rerun mine --wait").value()
    assert (again.counts, again.id != group.id) == ({"succeeded": 4}, True)
    assert "<code>mine</code>" in group._repr_html_()
    paired = run("%taskapi submit doubles n=[1,2] m=[3,4] --zip --repeat 2 --wait").value()
    assert [job.config for job in paired] == [
        {"n": n, "m": m, "repeat": r} for n, m in ((1, 3), (2, 4)) for r in (0, 1)
    ]
    assert run("%taskapi submit doubles n=[1] --sweep\n1").out.startswith("submitted group g")


def test_a_dry_run_submits_nothing(run: Run) -> None:
    planned = run("%taskapi submit nothing n=[1,2] '<b>'=1 --sweep --dry-run").value()
    assert repr(planned).splitlines()[-1] == "2 jobs; nothing was submitted"
    assert repr(planned).splitlines()[0].split() == ["index", "<b>", "n"]
    assert "<b>" not in planned._repr_html_().replace("<b></b>", "").split("</style>")[-1]
    assert run("%taskapi submit nothing n=1 --dry-run").value().configs == [{"n": 1}]
    assert run("%taskapi status").value() == []


def test_one_that_fails(run: Run) -> None:
    run(DOUBLES).value()
    failed = run("%taskapi submit doubles n=[1,2] fails=1 --sweep --retries 1 --retry-delay 1 --wait")
    assert isinstance(failed.error, JobFailed)
    assert "2 of 2 jobs of group g" in str(failed.error)
    assert "did not succeed: [0] " in str(failed.error)
    group = run("%taskapi groups").value()[0]
    assert {row["attempt"] for row in group.rows()} == {2}
    assert len(run(f"%taskapi rerun {group.id} --failed").value().wait(PATIENCE)) == 2
    single = run("%taskapi submit doubles n=1 fails=1 --retries 1 --retry-on worker_error --priority -3 --wait")
    assert isinstance(single.error, JobFailed)
    assert run("%taskapi status last").value().record.attempt == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("submit doubles n=1 --sweep", "nothing to sweep: give at least one list, as in lr=[0.1,0.2]"),
        ("submit doubles n=1 --zip --repeat 3", "nothing to sweep"),
        ("submit doubles n=[] --sweep", "the list of n is empty"),
        ("submit doubles n=[1] m=[1,2] --zip", "must have one length: n has 1, m has 2"),
        ("submit doubles n=1 --repeat 100001", "100,001 jobs are more than the 100,000"),
        ("submit doubles n=1 --name x", "--name is for a group: give --sweep, --zip or --repeat, too"),
        ("submit doubles n=1 --max-running 2", "--max-running is for a group"),
        ("rerun last --failed", "--failed is for groups"),
        ("groups x", "one group: %taskapi status GROUP"),
        ("status nope", "'nope' is neither a deployed API nor a job"),
    ],
)
def test_mistakes(run: Run, line: str, said: str) -> None:
    error = run(f"%taskapi {line}").error
    assert isinstance(error, UsageError)
    assert said in str(error)


def test_more_mistakes(run: Run) -> None:
    run(DOUBLES).value()
    for line, kind, said in (
        ("n=[1] --sweep --retries 101", BadRequest, "retries must be a whole number from 0 to 100, not 101"),
        ("n=1 --retries 1 --retry-on stopped", BadRequest, "unknown status 'stopped' in retry_on"),
        ("n=[1] --sweep --max-running 0", BadRequest, "max_running must be a whole number from 1"),
        ("n=[1] --sweep --name 9x", BadRequest, "invalid name of a group '9x'"),
    ):
        error = run(f"%taskapi submit doubles {line}").error
        assert isinstance(error, kind), error
        assert said in str(error)
    assert run("%taskapi groups").value() == []


def test_a_group_in_progress(run: Run) -> None:
    run(WAITS).value()
    group = run("%taskapi submit waits n=[1,2,3] --sweep --name many").value()
    assert isinstance(run("%taskapi submit waits n=[1] --sweep --name many").error, Conflict)
    error = run("%taskapi wait many --timeout 0").error
    assert isinstance(error, TimeoutError)
    assert "group many has not ended after 0 s" in str(error)
    assert run("%taskapi stop many").out == f"stopped 3 jobs of group many ({group.id})\n"


# A terminal


@pytest.fixture
def doubles(home: Path, tmp_path: Path) -> str:
    (tmp_path / "doubles.py").write_text("\n".join(DOUBLES.splitlines()[1:]))
    (tmp_path / "cortex.yaml").write_text(
        "- name: doubles\n  kind: TaskAPI\n  definition: {path: doubles.py}\n  compute: {cpu: 10m}\n"
    )
    assert program("deploy", str(tmp_path / "cortex.yaml")).returncode == 0
    return "doubles"


def test_the_program(doubles: str, tmp_path: Path) -> None:
    planned = program("submit", doubles, "n=[1,2]", "x=3", "--sweep", "--dry-run")
    assert planned.stdout.splitlines()[-1] == "2 jobs; nothing was submitted"
    assert answer("submit", doubles, "n=[1,2]", "--sweep", "--dry-run") == [{"n": 1}, {"n": 2}]
    done = run_apart("submit", doubles, "n=[1,2]", "--sweep", "--name", "good", "--wait")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "group good of doubles: 2/2")
    (tmp_path / "configs.jsonl").write_text('{"n": 1}\n\n{"n": 2, "fails": true}\n')
    done = run_apart(
        "submit", doubles, "--configs", str(tmp_path / "configs.jsonl"), "--name", "bad", "--retries", "1", "--wait"
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("jupyter taskapi: [1] ")
    assert line.endswith(": worker error, ValueError: no")
    assert program("wait", "good").returncode == 0
    assert program("wait", "good", "bad").returncode == 1
    assert answer("get", "bad")["counts"] == {"succeeded": 1, "worker_error": 1}
    assert [one["name"] for one in answer("groups")] == ["bad", "good"]
    assert program("logs", "good", "--no-follow").stdout == "[0] n is 1\n[1] n is 2\n"
    assert program("logs", "good").stdout == "[0] n is 1\n[1] n is 2\n"
    assert program("delete", "good").stdout.startswith("0 jobs of group good")
    assert program("groups", "purge", "good").stdout.startswith("group good")
    assert program("groups", "purge").stdout.startswith("group bad")
    assert program("groups", "list").stdout == "no groups\n"
    assert answer("groups", "list") == []
    assert program("groups", "purge").stdout == "no group has ended\n"
    assert program("groups", "purge", "nope").returncode == 1


@pytest.mark.parametrize("text", ['[{"n": 1}, {"n": 2, "x": "a"}]', "n,x\n1,\n2,a\n", '{"n": 1}\n{"n": 2, "x": "a"}'])
def test_configs_of_a_file(doubles: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "configs").write_text("\ufeff" + text)
    found = answer("submit", doubles, "b=7", "--configs", str(tmp_path / "configs"), "--dry-run")
    assert [one["n"] for one in found] == [1, 2]
    assert found[1] == {"b": 7, "n": 2, "x": "a"}
    piped = subprocess.run(
        [*PROGRAM, "submit", doubles, "--configs", "-", "--repeat", "2", "--dry-run", "-o", "json"],
        input=text, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert piped.stdout.count('"repeat"') == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: it needs at least one config"),
        ("[1]", "config 0 of"),
        ('{"n": 1}\n{', "line 2 of"),
        ("[", "is not valid JSON"),
        ("a,a\n1,2\n", "must name each column, each once"),
        ("a,b\n1\n", "row 2 of"),
        ("a\n", "no configs"),
    ],
)
def test_files_that_are_none(doubles: str, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "configs").write_text(text)
    done = program("submit", doubles, "--configs", str(tmp_path / "configs"))
    assert (done.returncode != 0, len(done.stderr.splitlines())) == (True, 1)
    assert said in done.stderr
    assert answer("groups") == []


def test_a_file_that_is_not_there(doubles: str) -> None:
    assert "can't read nope: No such file" in program("submit", doubles, "--configs", "nope").stderr
    assert "give one of them" in program("submit", doubles, "--configs", "x", "--sweep").stderr


def test_frame_and_chart(service: Service, name: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    service.deploy(lambda config: {"loss": config["lr"]}, name=name, cpu="10m")
    group = service.sweep(name, {"lr": [0.1, 0.2]}).wait(PATIENCE)
    chart = group.chart("lr", "loss", color="status")
    bundle: Any = chart._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "text/plain"}
    assert [row["loss"] for row in bundle["application/vnd.vegalite.v5+json"]["data"]["values"]] == [0.1, 0.2]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BadRequest, match=r"`pip install pandas`, or use rows\(\)"):
        group.frame()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = group.frame()
    assert list(frame.columns) == ["index", "job_id", "status", "attempt", "seconds", "reason", "lr", "loss"]
    assert list(frame["loss"]) == [0.1, 0.2]
    until(lambda: group.ended, "it")
    with pytest.raises(GroupNotFound):
        service.group("nope")
