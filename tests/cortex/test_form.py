"""What a cluster is sent to deploy, and that a cell's text runs in a container that has nothing of ours."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.cortex import form
from taskapi_jupyter.deploy.prepare import DeployOptions, Source, prepare
from taskapi_jupyter.deploy.project import MAX_PROJECT

CELL = """
from taskapi_jupyter.job import progress

class Task:
    def __call__(self, config):
        progress(1, 1)
        print(config["a"]["x"], config["a"]["y"], config["b"], __file__.rpartition("/")[2])
"""


def cell(text: str = CELL, folder: Path = Path(), **options: object) -> DeployRequest:
    return prepare(Source(text), DeployOptions(name="hello", cwd=folder, **options))[0]  # type: ignore[arg-type]


def config_of(parts: dict[str, bytes]) -> dict[str, object]:
    (api,) = yaml.safe_load(parts["config"])
    return dict(api)


def names(parts: dict[str, bytes]) -> list[str]:
    return ZipFile(io.BytesIO(parts["project.zip"])).namelist()


# Containers: 0.36 and later


def test_a_cell_runs_in_a_container(tmp_path: Path) -> None:
    parts, warnings = form.with_container(cell(config={"a": {"x": 1, "y": 1}, "b": "API's"}))
    assert list(parts) == ["config"]
    (container,) = config_of(parts)["pod"]["containers"]  # type: ignore[index]
    assert container["image"] == "python:{}.{}-slim".format(*sys.version_info)
    assert "definition.image is missing" in warnings[0]
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"job_id": "1", "config": {"a": {"y": 2}, "b": "job's"}}))
    ended = subprocess.run(
        [sys.executable, "-I", *container["command"][1:], *container["args"]],
        env={"CORTEX_JOB_SPEC": str(job)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("1 2 job's hello.py\n", "", 0)


def test_a_container_without_our_package(tmp_path: Path) -> None:
    (container,) = config_of(form.with_container(cell())[0])["pod"]["containers"]  # type: ignore[index]
    (tmp_path / "job.json").write_text('{"config": {"a": {"x": 1, "y": 2}, "b": 3}}')
    bare = [sys.executable, "-I", "-S", *container["command"][1:], *container["args"]]  # -S: no installed packages
    ended = subprocess.run(
        bare, env={"CORTEX_JOB_SPEC": str(tmp_path / "job.json")}, cwd="/", capture_output=True, text=True, timeout=30
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("1 2 3 hello.py\n", "", 0)


def test_a_failing_cell_shows_its_lines(tmp_path: Path) -> None:
    text = "def task(config):\n    raise ValueError('no luck')\n"
    (container,) = config_of(form.with_container(cell(text))[0])["pod"]["containers"]  # type: ignore[index]
    (tmp_path / "job.json").write_text('{"config": null}')
    ended = subprocess.run(
        [sys.executable, *container["command"][1:], *container["args"]],
        env={"CORTEX_JOB_SPEC": str(tmp_path / "job.json")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    assert ended.stderr.endswith("raise ValueError('no luck')\nValueError: no luck\n")


def test_compute_env_image_and_what_is_ours(tmp_path: Path) -> None:
    request = cell(cpu="500m", mem="1Gi", env={"A": 1}, timeout=9, run_timeout=8)
    request.spec["definition"].update(image="me/mine:1", warm={}, kernel="python3")
    parts, warnings = form.with_container(request)
    assert "definition.warm is left out: there is no warm start on a Cortex cluster" in warnings
    assert "definition.kernel is left out: the image's Python runs the task" in warnings
    api = config_of(parts)
    (container,) = api["pod"]["containers"]  # type: ignore[index]
    assert (container["image"], container["env"]) == ("me/mine:1", {"A": "1"})
    assert container["compute"] == {"cpu": "500m", "mem": "1Gi"}
    assert set(api) == {"name", "kind", "pod"}
    assert [text for text in warnings if text.startswith("Cortex APIs have no timeout")]
    assert "Cortex APIs have no run_timeout: give the job a timeout, which includes its time in the queue" in warnings


def test_a_pods_configuration_goes_as_it_is() -> None:
    api = {"name": "x", "kind": "TaskAPI", "pod": {"containers": [{"name": "a", "image": "i", "command": ["c"]}]}}
    for make in (form.with_container, lambda request: form.with_project(request, None)):
        parts, warnings = make(DeployRequest(spec=api))
        assert list(parts) == ["config"]
        assert config_of(parts) == api
        assert warnings == []


@pytest.mark.parametrize("make", [form.with_container, lambda request: form.with_project(request, None)])
def test_refused_before_anything_is_sent(make: object) -> None:
    def task(config: object) -> None: ...

    with pytest.raises(BadRequest, match="deploy the cell that defines it"):
        make(prepare(task)[0])  # type: ignore[operator]
    with pytest.raises(BadRequest, match="no class named Task"):
        make(cell("x = 1"))  # type: ignore[operator]


@pytest.mark.parametrize("make", [form.with_container, lambda request: form.with_project(request, None)])
def test_what_a_cluster_can_not_call(make: object) -> None:
    begin = "hello: a Cortex cluster calls a task with config alone and without await, but hello "
    for text, how in (
        ("def hello(lr=0.1): ...", "takes parameters of its own"),
        ("async def hello(config): ...", "is async"),
        ("@wrapped\ndef hello(lr=0.1): ...", "takes parameters of its own"),
    ):
        with pytest.raises(BadRequest) as caught:
            make(cell(text))  # type: ignore[operator]
        assert caught.value.message == f"{begin}{how}: deploy a function def hello(config)"
    make(cell("def hello(config, n=3): ..."))  # type: ignore[operator]


def test_a_cell_that_is_too_long() -> None:
    noise = "".join(f"x{n} = {os.urandom(32).hex()!r}\n" for n in range(6000))
    with pytest.raises(TooLarge, match="build an image"):
        form.with_container(cell(noise + CELL))


@pytest.mark.parametrize("make", [form.with_container, lambda request: form.with_project(request, None)])
def test_requirements_are_refused_and_a_block_is_not_read(make: object) -> None:
    with pytest.raises(BadRequest, match="builds no environment from requirements: definition"):
        make(cell(CELL, requirements=["numpy"]))  # type: ignore[operator]
    block = f"# /// script\n# dependencies = []\n# ///\n{CELL}"
    for definition, count in (({}, 1), ({"script_metadata": False}, 0)):
        parts, warnings = make(cell(block, **definition))  # type: ignore[operator]
        assert sum("the block # /// script is not read" in one for one in warnings) == count
        assert b"script_metadata" not in parts["config"]


# Projects: before 0.36


def test_a_cell_takes_along_nothing_but_itself(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    (tmp_path / "requirements.txt").write_text("numpy\n")
    parts, _ = form.with_project(cell(folder=tmp_path, config={"a": 1}), None)
    assert names(parts) == [
        "hello.py",
        "requirements.txt",
        "taskapi_jupyter/__init__.py",
        "taskapi_jupyter/job.py",
    ]
    assert config_of(parts)["definition"] == {"path": "hello.py", "config": {"a": 1}}


def test_a_files_project(tmp_path: Path) -> None:
    for name, text in {
        "cortex.yaml": "- {name: p, kind: TaskAPI, definition: {path: task.py}}",
        "task.py": "class Task:\n    def __call__(self, config): ...\n",
        "lib/util.py": "",
        "lib/__pycache__/util.pyc": "",
        ".env": "A=1",
        ".git/config": "",
        ".ssh/id": "",
        "data/big.bin": "",
        "data/kept.csv": "",
        "note.ipynb": "",
        ".cortexignore": "data/*\n!data/kept.csv\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    (request,) = prepare(tmp_path / "cortex.yaml")
    parts, warnings = form.with_project(request, tmp_path)
    assert names(parts) == [".cortexignore", ".env", "data/kept.csv", "lib/util.py", "task.py"]
    assert warnings == []
    assert form.with_project(request, tmp_path)[0] == parts  # the same project is the same version


def test_a_project_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("class Task:\n    def __call__(self, config): ...\n")
    (tmp_path / "noise.bin").write_bytes(os.urandom(MAX_PROJECT + 1))
    (request,) = prepare(tmp_path / "task.py")
    with pytest.raises(TooLarge, match=r"\.cortexignore"):
        form.with_project(request, tmp_path)
    os.truncate(tmp_path / "noise.bin", 9 * MAX_PROJECT)
    with pytest.raises(TooLarge, match="288 MiB"):  # said before it is all read
        form.with_project(request, tmp_path)
