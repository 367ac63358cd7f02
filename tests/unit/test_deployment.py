"""What the deploying side makes of files, specifications, cells and callables; and that it starts as meant."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle
import pytest

from taskapi_jupyter.core.contract import DeployRequest, decode, encode
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.api_spec.build import APISpec, build
from taskapi_jupyter.deploy.api_spec.variables import allowed_environ
from taskapi_jupyter.deploy.packages.met import unmet_requirements
from taskapi_jupyter.deploy.prepare import DeployOptions, Source, prepare
from taskapi_jupyter.deploy.source_analysis import free_names, parse
from taskapi_jupyter.runner import launch

TASK = "class Task:\n    def __call__(self, config):\n        return config\n"


def train(config: dict[str, Any]) -> Any:
    return {"lr": config["lr"]}


class Task:
    def __call__(self, config: dict[str, Any]) -> Any:
        return {"lr": config["lr"]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "task.py").write_text(TASK)
    return folder


def one(target: Any, **options: Any) -> DeployRequest:
    (request,) = prepare(target, DeployOptions(**options))
    return request


def refusal(target: Any, **options: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        all_built(target, **options)
    return caught.value.message


def all_built(target: Any, **options: Any) -> list[APISpec]:
    return [build(request) for request in prepare(target, DeployOptions(**options))]


def run(built: APISpec, config: dict[str, Any], home: Path) -> subprocess.CompletedProcess[str]:
    """Start a built API the way a watcher does, and wait for it."""
    apis, folder = home / "apis", home / "jobs" / ("0" * 16)
    (apis / built.api_id).mkdir(parents=True)
    (folder / "files").mkdir(parents=True)
    for name, data in built.files.items():
        (apis / built.api_id / name).write_bytes(data)
    (folder / "job.json").write_text(json.dumps({"config": config}))
    job = {"id": "0" * 16, "api_name": built.name, "api_id": built.api_id, "gpus": None}
    command = launch.task_command(job, built.launch, str(apis))
    env = launch.task_environment(job, built.launch, str(home), False)
    return subprocess.run(
        command, env=env, cwd=built.launch["cwd"], capture_output=True, text=True, check=False, timeout=60
    )


def result(built: APISpec, config: dict[str, Any], home: Path) -> Any:
    ended = run(built, config, home)
    assert ended.returncode == 0, ended.stderr
    return json.loads((home / "jobs" / ("0" * 16) / "result.json").read_text())


# Files and specifications


def test_a_configuration_file(project: Path) -> None:
    file = project / "cortex.yaml"
    file.write_text("- name: one\n  definition: {path: task.py}\n- name: two\n  pod: {containers: [{command: [ls]}]}\n")
    first, second = prepare(file)
    assert (first.spec["name"], first.cwd, first.python) == ("one", str(project), sys.executable)
    assert first.source == TASK
    assert (second.source, second.pickle) == (None, None)
    assert first.environ == allowed_environ(os.environ)
    assert [request.spec for request in prepare(str(project))] == [first.spec, second.spec]
    assert prepare("cortex.yaml", DeployOptions(cwd=project))[0] == first
    for request in (first, second):
        assert decode(encode(request), DeployRequest) == request
        build(request)


def test_files_that_can_not_be_used(project: Path) -> None:
    assert "nowhere.yaml can't be read: No such file" in refusal("nowhere.yaml", cwd=project)
    assert "cortex.yaml can't be read" in refusal(project)
    (project / "bad.yaml").write_text("a: [")
    assert "bad.yaml: the configuration is not valid YAML" in refusal("bad.yaml", cwd=project)
    (project / "gone.yaml").write_text("- name: a\n  definition: {path: gone.py}\n")
    assert "a: definition.path: " in refusal("gone.yaml", cwd=project)
    assert "gone.py can't be read" in refusal("gone.yaml", cwd=project)


def test_a_python_file(project: Path) -> None:
    request = one(project / "task.py")
    assert request.spec == {"name": "task", "kind": "TaskAPI", "definition": {"path": "task.py"}}
    assert one(project / "task.py", name="other").spec["name"] == "other"


def test_specifications(project: Path) -> None:
    api = {"name": "a", "definition": {"path": "task.py", "config": {"x": {"y": 1}}, "env": {"A": 1}}}
    request = one(
        api,
        cwd=project,
        name="b",
        cpu=0.5,
        mem="1Gi",
        gpu=0,
        timeout=9,
        env={"B": 2},
        config={"x": {"z": 2}},
        function="Task",
    )
    assert api["name"] == "a"
    built = build(request)
    assert (built.name, built.cpu, built.mem, built.timeout) == ("b", 500, 1 << 30, 9)
    assert built.config == {"x": {"y": 1, "z": 2}}
    assert built.spec["definition"]["env"] == {"A": "1", "B": "2"}
    assert [r.spec["name"] for r in prepare([api, {**api, "name": "c"}], DeployOptions(cwd=project))] == ["a", "c"]
    assert one({"definition": {"path": "task.py"}}, name="n", cwd=project).spec["name"] == "n"


def test_options_of_a_pod(project: Path) -> None:
    api = {"name": "a", "pod": {"containers": [{"command": ["ls"], "compute": {"cpu": 1, "mem": "1Gi"}}]}}
    built = build(one(api, cwd=project, cpu="2", env={"A": "1"}, timeout=5))
    assert (built.cpu, built.mem, built.timeout, built.launch["env"]["A"]) == (2000, 1 << 30, 5, "1")
    assert "a pod takes no config" in refusal(api, cwd=project, config={"x": 1})


def test_options_are_for_a_single_api(project: Path) -> None:
    apis = [{"name": name, "definition": {"path": "task.py"}} for name in "ab"]
    assert "cpu, timeout can be given for a single API, and the configuration has 2" in refusal(
        apis, cwd=project, cpu=1, timeout=3
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"config": [1]}, "config must be a mapping"),
        ({"config": {"x": object()}}, "config.x is a object, which JSON can't carry"),
        ({"env": "A=1"}, "env must be a mapping"),
        ({"cpu": "many"}, "compute.cpu must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"name": "../x"}, "invalid API name '../x'"),
        ({"python": "/nowhere"}, "'/nowhere' does not exist"),
    ],
)
def test_bad_options(project: Path, options: dict[str, Any], words: str) -> None:
    assert words in refusal({"name": "a", "definition": {"path": "task.py"}}, cwd=project, **options)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (3, "the target of a deploy must be a file, a specification, a class Task or a function of config"),
        (None, "the target of a deploy must be"),
        ([], "must be a list of APIs"),
        ({"name": "a", "definition": 3}, "definition must be a mapping"),
        ({"name": "a", "pod": {"containers": 3}}, "pod.containers must be a list"),
        ({"name": "a", "compute": 3, "definition": {"path": "task.py"}}, "compute must be a mapping"),
    ],
)
def test_targets_that_can_not_be_used(project: Path, target: Any, words: str) -> None:
    assert words in refusal(target, cwd=project)
    if isinstance(target, dict):
        assert words in refusal(target, cwd=project, cpu=1, env={"A": "1"})


def test_the_api_names_its_interpreter_unless_the_caller_does(project: Path) -> None:
    api = {"name": "a", "python": "/nowhere", "definition": {"path": "task.py"}}
    assert "/nowhere" in refusal(api, cwd=project)
    assert build(one(api, cwd=project, python=sys.executable)).launch["python"] == sys.executable


# Cells


def test_a_cell(project: Path, tmp_path: Path) -> None:
    request = one(Source("def train(config):\n    return config['x']\n"), name="my-cell", cwd=project)
    built = build(request)
    assert (built.launch["kind"], built.launch["file"]) == ("main", "cell_my-cell.py")
    assert result(built, {"x": 3}, tmp_path) == 3
    assert "needs a name" in refusal(Source(TASK), cwd=project)
    assert "IPython syntax" in refusal(Source("%time\n" + TASK), name="a", cwd=project)


def test_a_cell_may_import_a_file_of_its_name(project: Path, tmp_path: Path) -> None:
    (project / "train.py").write_text("VALUE = 7\n")
    text = "from train import VALUE\ndef main(config):\n    return VALUE\n"
    assert result(build(one(Source(text), name="train", cwd=project)), {}, tmp_path) == 7


def test_a_cell_starts_processes_that_find_its_functions(project: Path, tmp_path: Path) -> None:
    text = """\
        import multiprocessing

        def square(number):
            return number * number

        def train(config):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(square, [1, 2, 3])
        """
    built = build(one(Source(dedent(text)), name="spawner", cwd=project))
    assert result(built, {}, tmp_path) == [1, 4, 9]


def test_a_project_file_and_its_neighbour(project: Path, tmp_path: Path) -> None:
    (project / "neighbour.py").write_text("import task\ndef value():\n    return task.VALUE + 1\n")
    (project / "task.py").write_text("VALUE = 1\n" + TASK.replace("config\n", "__import__('neighbour').value()\n"))
    assert result(build(one(project / "task.py")), {}, tmp_path) == 2


# Callables


@pytest.mark.parametrize("target", [train, Task, Task(), functools.partial(train), lambda config: {"lr": config["lr"]}])
def test_callables(target: Callable[..., Any], tmp_path: Path) -> None:
    built = build(one(target, name="train", config={"lr": 0.5}, cwd=tmp_path))
    assert (built.launch["kind"], built.launch["file"]) == ("main", "notebook_train.py")
    assert built.config == {"lr": 0.5}
    assert result(built, built.config, tmp_path) == {"lr": 0.5}


def test_a_callable_gives_its_name() -> None:
    assert one(train).spec["name"] == "train"
    assert "the API has no name" in refusal(lambda config: config)


def test_a_function_from_a_module_that_a_job_could_not_import(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far_away_helper.py").write_text("def train(config):\n    return 'by value'\n")
    sys.path.insert(0, str(elsewhere))
    try:
        target = importlib.import_module("far_away_helper").train
        built = build(one(target, cwd=project))
        assert result(built, {}, tmp_path) == "by value"
        assert cloudpickle.list_registry_pickle_by_value() == set()
    finally:
        sys.path.remove(str(elsewhere))
        del sys.modules["far_away_helper"]


class Silent:
    pass


class Wanting:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, config: Any) -> None: ...


class Differing:
    def __call__(self, cfg: Any) -> None: ...


async def waiting(config: Any) -> None: ...


def yielding(config: Any) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lambda config, lr: 1, "nothing is left for lr"),
        (functools.partial(lambda config, *, lr: 1), "nothing is left for lr"),
        (Silent, "Silent has no method __call__(self, config)"),
        (Wanting, "Wanting.__init__ must take self alone, not (self, path"),
        (yielding, "yielding has a yield"),
        (
            type("Crowded", (), {"__call__": lambda self, config, lr: 1}),
            "Crowded.__call__ takes config, which receives the whole config",
        ),
        (getattr, "getattr has no signature to read"),
    ],
)
def test_callables_that_are_no_task(target: Any, words: str) -> None:
    assert words in refusal(target, name="a")


def test_a_callable_that_can_not_be_pickled() -> None:
    lock = threading.Lock()
    message = refusal(lambda config: lock.acquire(), name="a")
    assert message.startswith("function can't be pickled")
    assert "lock" in message


# Variables, names, requirements


def test_the_environment_of_the_kernel(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setenv("MY_SETTING", "1")
    monkeypatch.setenv("JPY_SESSION_NAME", "n.ipynb")
    assert "MY_SETTING" not in allowed_environ(os.environ)
    assert allowed_environ({"MY_SETTING": "1", "HOME": "/h"}, ["MY_*"]) == {"MY_SETTING": "1", "HOME": "/h"}
    request = one(project / "task.py", environ_extra=["MY_SETTING"])
    assert request.environ is not None
    assert request.environ["MY_SETTING"] == "1"
    assert "JPY_SESSION_NAME" not in request.environ
    assert request.environ["PATH"] == os.environ["PATH"]


def test_names_that_only_ipython_has() -> None:
    code = (
        "import builtins; builtins.display = builtins.get_ipython = print\n"
        "from taskapi_jupyter.deploy.source_analysis import free_names, parse\n"
        "print([*free_names(parse('def train(config):\\n    display(get_ipython())\\n    print(1)'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['display', 'get_ipython']\n"


def test_free_names() -> None:
    text = """\
        import os
        from math import pi

        def helper(x):
            return x + offset

        def train(config):
            frame = df.head(config["n"])
            try:
                unknown
            except NameError:
                pass
            return [pi * y for y in frame], os.sep, helper(1), df, __name__, display(frame)
        """
    assert [*free_names(parse(dedent(text)))] == ["offset", "df", "display"]
    assert parse("def broken(") is None


def test_unmet_requirements(project: Path, tmp_path: Path) -> None:
    assert unmet_requirements(project) == []
    (project / "requirements.txt").write_text(
        dedent("""\
        # a comment
        pytest>=1  # met
        PyYAML
        pytest==0.0.1
        surely-not-there[extra]>=2
        also-not-there ; python_version < "3"
        msgspec>=999 \\
            --hash=sha256:00
        -e .
        --index-url https://example.invalid
        https://example.invalid/x.whl
        thing @ https://example.invalid/thing.whl
        not a requirement!
        -r more.txt
        """)
    )
    (project / "more.txt").write_text("-r requirements.txt\nnor-this\n")
    unmet = unmet_requirements(project)
    assert [line.split(" ")[0] for line in unmet] == [
        "pytest==0.0.1",
        "surely-not-there>=2",
        "msgspec>=999",
        "nor-this",
    ]
    assert unmet[0].endswith("is installed)")
    assert unmet[1].endswith("(not installed)")
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # -S: no installed package is found
    link.chmod(0o755)
    others = unmet_requirements(project, str(link))
    assert "pytest>=1 (not installed)" in others
    assert "PyYAML (not installed)" in others
