"""Which GPUs there are, which a job may have, and what its task is given for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import PATIENCE, request_for, until
from support.homes import configured, has_ended
from support.servers import LiveServer
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.runner import gpus
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui import doctor

pytestmark = pytest.mark.local

A, B, C = (f"GPU-{letter * 8}-1111-2222-3333-444444444444" for letter in "abc")
M0, M1 = "MIG-00000000-5555-5555-5555-555555555555", "MIG-11111111-6666-6666-6666-666666666666"
LISTED = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})
  MIG 3g.20gb     Device  0: (UUID: {M0})
  MIG 3g.20gb     Device  1: (UUID: {M1})
GPU 2: Tesla (odd) name: x (UUID: {C})
"""
THERE = {0: A, 1: B, 2000: M0, 2001: M1, 2: C}

VISIBLE = """
import os, pathlib, time

def task(config):
    print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what puts a program nvidia-smi of some lines of shell first in PATH; it notes each call in a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    calls = tmp_path / "calls"
    calls.touch()

    def make(script: str) -> Path:
        program = folder / "nvidia-smi.new"
        program.write_text(f"#!/bin/sh\necho $$ >> {calls}\n{script}\n")
        program.chmod(0o755)
        program.rename(folder / "nvidia-smi")
        return calls

    return make


def lists(text: str = LISTED) -> str:
    return f"cat <<'END'\n{text}END"


# What nvidia-smi says


def test_what_it_lists(smi: Callable[[str], Path]) -> None:
    smi(lists())
    assert gpus.ask() == (THERE, "")
    assert gpus.count(THERE) == 3


@pytest.mark.parametrize(
    ("script", "devices", "why"),
    [
        ("echo No devices were found; exit 6", {}, ""),
        ("exit 9", None, "ended with exit code 9"),
        (f"{lists()}\nexit 9", None, "ended with exit code 9"),
        ("kill -9 $$", None, "ended with exit code -9"),
        ("head -c 300000 /dev/urandom", None, "said nothing that is known of it"),
        ("true", None, "said nothing that is known of it"),
        ("yes 'GPU x: y'", None, "did not answer"),
    ],
)
def test_what_else_it_may_do(smi: Callable[[str], Path], script: str, devices: object, why: str) -> None:
    smi(script)
    found, told = gpus.ask()
    assert found == devices
    assert why in told


def test_it_may_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.ask() == (None, "there is no nvidia-smi")
    (tmp_path / "nvidia-smi").write_text("no program")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpus.ask()[1].startswith("nvidia-smi can't be run: ")


@pytest.mark.parametrize("script", ["sleep 1000 & echo $! >> {}; wait", "sleep 1000 & echo $! >> {}; echo GPU"])
def test_one_that_hangs_is_killed_with_its_children(smi: Callable[[str], Path], tmp_path: Path, script: str) -> None:
    calls = smi(script.format(tmp_path / "calls"))
    assert gpus.ask(0.5) == (None, "nvidia-smi did not answer within 0.5 s")
    pids = [int(line) for line in calls.read_text().split()]
    assert len(pids) == 2
    until(
        lambda: all(map(has_ended, pids)),
        "both to be gone",
    )


def test_an_answer_is_shared_by_a_home(smi: Callable[[str], Path], tmp_path: Path) -> None:
    calls = smi(f"sleep 0.3; {lists()}")
    code = "import sys; from taskapi_jupyter.runner import gpus; print(len(gpus.learn(sys.argv[1]).devices))"
    home = tmp_path / "home"
    home.mkdir()
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    assert [other.communicate(timeout=PATIENCE)[0] for other in others] == ["5\n"] * 6
    assert len(calls.read_text().split()) == 1
    assert gpus.known(str(home)) == (THERE, "", False)
    assert (home / "gpus.json").stat().st_mode & 0o777 == 0o600


def test_no_answer_replaces_none(smi: Callable[[str], Path], tmp_path: Path) -> None:
    home = str(tmp_path)
    calls = smi("exit 9")
    assert gpus.learn(home) == (None, "nvidia-smi ended with exit code 9", False)
    assert gpus.learn(home) == (None, "nvidia-smi ended with exit code 9", False)  # not asked again at once
    assert len(calls.read_text().split()) == 1
    (tmp_path / "gpus.json").unlink()
    smi(lists())
    assert gpus.learn(home).devices == THERE
    smi("exit 9")
    text = (tmp_path / "gpus.json").read_text()
    (tmp_path / "gpus.json").write_text(text.replace('"boot": "', '"boot": "an earlier one '))
    assert gpus.known(home) == (THERE, "", True)
    assert gpus.learn(home) == (THERE, "nvidia-smi ended with exit code 9", False)
    for odd in ("", "{", "[]", '{"devices": 1}', '{"devices": {"x": 1}, "at": 0, "why": ""}', "[" * 3000):
        (tmp_path / "gpus.json").write_text(odd)
        assert gpus.known(home).devices is None


# What a list lets a job have


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0,2", [(0, "0"), (2, "2")]),
        ("2,0", [(2, "2"), (0, "0")]),
        (" 1 , 0 ", [(1, "1"), (0, "0")]),
        ("0,0,1,0", [(0, "0"), (1, "1")]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("0,-1,1", [(0, "0")]),
        ("0,7,1", [(0, "0")]),
        ("0,,1", [(0, "0")]),
        (C, [(2, C)]),
        (f"{C},{A}", [(2, C), (0, A)]),
        ("GPU-cc", [(2, "GPU-cc")]),
        ("GPU-", []),  # of more than one
        (f"GPU-xyz,{A}", []),
        (f"{M1},{M0}", [(2001, M1), (2000, M0)]),
        (f"0,{A}", [(0, "0")]),
    ],
)
def test_a_list(text: str, wanted: list[tuple[int, str]]) -> None:
    assert gpus.visible(text, THERE, None) == wanted


def test_what_is_not_known_of_a_list() -> None:
    assert gpus.visible("0,5", None, None) == [(0, "0"), (5, "5")]
    assert gpus.visible(A, None, None) is None
    assert gpus.visible(None, None, None) is None
    assert gpus.visible(None, None, 2) == [(0, "0"), (1, "1")]
    assert gpus.visible(None, THERE, None) == [(0, "0"), (1, "1"), (2, "2")]
    assert [gpus.most(text) for text in (None, "", "-1", "0,1,0", f"{A},{M0},x,1")] == [None, 0, 0, 2, 2]


def test_a_gpu_and_its_parts_exclude_each_other() -> None:
    choices = [(1, "1"), (2000, M0), (2001, M1), (2, "2")]
    assert gpus.pick(choices, (), 2) == [(1, "1"), (2, "2")]
    assert gpus.pick(choices, (2000,), 2) == [(2001, M1), (2, "2")]
    assert gpus.pick(choices, (1,), 1) == [(2, "2")]
    assert gpus.pick(choices, (1, 2), 1) is None


# Jobs


@pytest.fixture
def submit(service: Service, name: str, tmp_path: Path) -> Callable[..., Job]:
    """Return what submits a job that shows what it was given, for a number of GPUs and a list."""

    def submit(count: int, visible: str | None = None, path: str = "go", deploys: bool = True) -> Job:
        if deploys:
            service.deploy_request(request_for(f"{name}-{count}", VISIBLE, compute={"cpu": "1m", "gpu": count}))
        return service.submit(f"{name}-{count}", {"path": str(tmp_path / path)}, cuda_visible_devices=visible)

    return submit


def given(job: Job) -> str:
    return str(until(job.logs, "the task to begin")).strip()


def test_a_job_has_gpus_of_its_submitters_list(
    smi: Callable[[str], Path], submit: Callable[..., Job], tmp_path: Path
) -> None:
    calls = smi(lists())
    first = submit(1, f"{C},{A}")
    assert given(first) == C
    second = submit(1, f"{C},{A}", deploys=False)
    assert given(second) == A
    third = submit(1, "2", "later", deploys=False)
    until(lambda: third.refresh().reason, "the third to wait")
    assert third.reason == "waits for 1 GPU of the 1 of CUDA_VISIBLE_DEVICES='2', 1st in line"
    (tmp_path / "go").touch()
    assert given(third) == "2"
    (tmp_path / "later").touch()
    assert given(submit(1, deploys=False)) == "0"
    assert given(submit(2, f"{M0},{M1}")) == f"{M0},{M1}"
    assert len(calls.read_text().split()) == 1


def test_a_submitter_that_sees_too_few(
    smi: Callable[[str], Path], submit: Callable[..., Job], service: Service, name: str
) -> None:
    smi(lists())
    for visible, count in (("", 0), ("-1", 0), ("1", 1), ("1,9,0", 1), ("x", 0)):
        with pytest.raises(BadRequest) as caught:
            submit(2, visible)
        assert str(caught.value) == (
            f"{name}-2 asks for 2 GPUs, and CUDA_VISIBLE_DEVICES={visible!r} of who submits names {count} that may be "
            "used: it could never start"
        )
    with pytest.raises(BadRequest, match=r"asks for 4 GPUs, and this machine has 3 for jobs: it could never start"):
        submit(4)
    assert service.jobs() == []


def test_the_list_is_that_of_the_kernel(
    smi: Callable[[str], Path], submit: Callable[..., Job], service: Service, name: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    smi(lists())
    (tmp_path / "go").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    job = submit(1)
    assert given(job) == "2"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert given(service.rerun(job)) == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert given(service.rerun(job)) == "1"
    assert given(submit(0)) == ""  # asks for none, where there are some


def test_the_list_travels_to_a_server(
    live_server: LiveServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go").touch()
    client = Client(live_server.taskapi, live_server.token)
    with configured(live_server.home, "stop_grace: 1\ngpus: 2\n"):
        client.deploy_request(request_for(name, VISIBLE, compute={"cpu": "1m", "gpu": 1}))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        assert given(client.submit(name, {"path": str(tmp_path / "go")})) == "7"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(BadRequest, match="asks for 1 GPUs, and CUDA_VISIBLE_DEVICES=''"):
            client.submit(name, {"path": str(tmp_path / "go")})
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert given(client.submit(name, {"path": str(tmp_path / "go")})) == "0"
    client.close()


@pytest.mark.parametrize("script", ["exit 9", "sleep 1000", "echo garbage"])
def test_a_job_waits_until_it_is_known_which_there_are(
    smi: Callable[[str], Path], submit: Callable[..., Job], home: Path, name: str, service: Service, script: str
) -> None:
    smi(script)
    results = service.deploy_request(request_for(f"{name}-1", VISIBLE, compute={"cpu": "1m", "gpu": 1}))
    assert "which GPUs this machine has is not known (nvidia-smi " in results[0].message
    job = submit(1, "2", deploys=False)
    listed = submit(1, B, deploys=False)
    assert given(job) == "2"  # a number needs no answer
    cpu_only = submit(0)
    given(cpu_only)  # passes those that wait
    assert listed.refresh().status == "pending"
    assert (listed.reason or "").startswith("waits for 1 GPU: which there are is not known (nvidia-smi ")
    assert [one for one in doctor.problems(home) if "the number of GPUs is unknown: nvidia-smi " in one]
    smi(lists())
    (home / "gpus.json").unlink()  # else it is asked again after half a minute
    assert given(listed) == B
    for one in (job, listed, cpu_only):
        assert one.refresh().status == "running"


def test_a_supervisor_that_asks_goes_on_meanwhile(
    smi: Callable[[str], Path], submit: Callable[..., Job], home: Path, service: Service
) -> None:
    smi(lists())
    first = submit(1)
    given(first)
    calls = smi("sleep 1000")
    before = len(calls.read_text().split())
    (home / "gpus.json").unlink()
    waiting = submit(1, A, deploys=False)
    until(lambda: len(calls.read_text().split()) > before, "the supervisor to have it asked")
    began = time.monotonic()
    assert given(submit(0)) == "None"
    asked = int(calls.read_text().split()[-1])
    if time.monotonic() - began < 2:  # on a machine that is not too busy to tell
        os.kill(asked, 0)
    until(lambda: has_ended(asked), "it to be killed")
    assert waiting.refresh().status == "pending"


def test_gpus_of_an_api_that_wants_none_are_not_asked_for(
    smi: Callable[[str], Path], submit: Callable[..., Job], tmp_path: Path
) -> None:
    calls = smi("sleep 1000")
    (tmp_path / "go").touch()
    job = submit(0)
    assert job.wait(PATIENCE).status == "succeeded"
    assert calls.read_text() == ""


def test_fewer_than_were_there(
    smi: Callable[[str], Path], submit: Callable[..., Job], service: Service, home: Path, name: str, tmp_path: Path
) -> None:
    """A card that fell off its bus may come back: nothing is ended for that."""
    smi(lists())
    service.deploy_request(request_for(f"{name}-3", VISIBLE, compute={"cpu": "1m", "gpu": 3}))
    smi(lists(f"GPU 0: A (UUID: {A})\n"))
    (home / "gpus.json").unlink()
    gpus.learn(str(home))
    job = submit(3, deploys=False)
    given(submit(1, path="one"))
    assert job.refresh().reason == "waits for 3 GPUs of the 1 that there are, 1st in line"
    smi(lists())
    (home / "gpus.json").unlink()
    (tmp_path / "one").touch()
    assert given(job) == "0,1,2"
