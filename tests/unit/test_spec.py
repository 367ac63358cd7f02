"""API configurations: both shapes, quantities, sources, and what is refused with which words."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.nesting import merge
from taskapi_jupyter.deploy.api_spec import pickled, task_source
from taskapi_jupyter.deploy.api_spec.build import APISpec, build, check_name, parse
from taskapi_jupyter.deploy.api_spec.quantities import (
    MAX_BYTES,
    MAX_CPU,
    format_bytes,
    format_cpu,
    parse_bytes,
    parse_cpu,
    parse_seconds,
)
from taskapi_jupyter.deploy.api_spec.variables import allowed_environ
from taskapi_jupyter.deploy.packages import interpreter
from taskapi_jupyter.worker import harness

TASK = """\
class Task:
    def __call__(self, config):
        return config
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project's folder with a task in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "task.py").write_text(TASK)
    return folder


def request(project: Path, api: dict[str, Any], **more: Any) -> DeployRequest:
    return DeployRequest(spec={"name": "trainer", **api}, cwd=str(project), **more)


def made(project: Path, api: dict[str, Any], **more: Any) -> APISpec:
    return build(request(project, api, **more))


def refusal(project: Path, api: dict[str, Any], **more: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        made(project, api, **more)
    return caught.value.message


def definition(**keys: Any) -> dict[str, Any]:
    return {"kind": "TaskAPI", "definition": {"path": "task.py", **keys}}


def pod(**keys: Any) -> dict[str, Any]:
    container = {"name": "trainer", "command": [sys.executable, "main.py"], **keys}
    return {"kind": "TaskAPI", "pod": {"containers": [container]}}


# Quantities


@pytest.mark.parametrize(
    ("text", "millicores"),
    [
        ("200m", 200),
        (1, 1000),
        (0.5, 500),
        ("2", 2000),
        ("1.5", 1500),
        ("0.0001", 1),
        (1e-05, 1),
        ("1e1", 10000),
    ],
)
def test_cpu(text: Any, millicores: int) -> None:
    assert parse_cpu(text) == millicores


@pytest.mark.parametrize(
    "text",
    [0, -1, "0m", "", "m", "1 m", "1G", True, None, [], float("nan"), float("inf"), "9" * 99, "\u0661"],
)
def test_cpu_refuses(text: Any) -> None:
    with pytest.raises(BadRequest, match=r"^compute\.cpu "):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (1024, 1024),
        ("500Mi", 500 << 20),
        ("1Gi", 1 << 30),
        ("1G", 10**9),
        ("1k", 1000),
        ("1K", 1000),
        ("2M", 2 * 10**6),
        ("1T", 10**12),
        ("1Ki", 1024),
        ("1Ti", 1 << 40),
        ("1.5Gi", 3 << 29),
        ("128", 128),
    ],
)
def test_bytes(text: Any, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", [0, "0", -5, "1GB", "1GiB", "1 Gi", "1gi", "Gi", "", False, None, {}, 10**400])
def test_bytes_refuses(text: Any) -> None:
    with pytest.raises(BadRequest, match=r"^compute\.mem "):
        parse_bytes(text)


@settings(deadline=None)
@given(st.integers(1, MAX_CPU))
def test_cpu_comes_back(millicores: int) -> None:
    assert parse_cpu(format_cpu(millicores)) == millicores


@settings(deadline=None)
@given(st.one_of(st.integers(1, MAX_BYTES), st.sampled_from([1024, 1000, 1 << 40, 10**12, 3 << 20])))
def test_bytes_come_back(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count


# Merging

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
CONFIGS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90", 90), ("90s", 90), (" 15m ", 900), ("1h30m", 5400), ("2h", 7200), ("1d1s", 86_401)],
)
def test_times_are_whole_seconds(text: Any, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1.5", 1.5, "-1", -1, True, None, "1h30", "30m1h", "90 s", "1y", "m", "\u0661", "0", "0m"]
)
def test_what_is_no_time_is_refused_by_name(text: Any) -> None:
    with pytest.raises(BadRequest, match=r"^--timeout must be "):
        parse_seconds(text, "--timeout")


def test_times_have_bounds() -> None:
    assert parse_seconds("0", least=0) == 0
    assert parse_seconds(10**9) == 10**9
    for too_long in (10**9 + 1, 10**5000, "9999999999d"):
        with pytest.raises(BadRequest, match="timeout"):
            parse_seconds(too_long)


def test_merge_goes_into_mappings() -> None:
    defaults = {"lr": 0.1, "model": {"depth": 3, "width": 8}, "tags": [1, 2]}
    submitted = {"model": {"depth": 5}, "tags": [3], "lr": None}
    assert merge(defaults, submitted) == {"lr": None, "model": {"depth": 5, "width": 8}, "tags": [3]}
    assert merge(defaults, None) == defaults


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS, CONFIGS)
def test_merge_keeps_all_that_was_submitted(defaults: dict[str, Any], submitted: dict[str, Any]) -> None:
    before = json.dumps([defaults, submitted])
    merged = merge(defaults, submitted)
    assert json.dumps([defaults, submitted]) == before
    assert merged.keys() == defaults.keys() | submitted.keys()
    assert merge(merged, submitted) == merged
    for key, value in submitted.items():
        if not isinstance(value, dict) or not isinstance(defaults.get(key), dict):
            assert merged[key] == value


# Names


@pytest.mark.parametrize("name", ["a", "trainer", "my-api_2", "A" * 63])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "../x", "x" * 10_000, "ü", "naïve", "1a", "-a", "a-", "a b", "a\n", "a/b", 3, None, ["a"], "a" * 64],
)
def test_bad_names(name: Any) -> None:
    with pytest.raises(BadRequest, match="name") as caught:
        check_name(name)
    assert len(caught.value.message) < 250


# YAML


def test_parse_takes_a_list_and_a_single_mapping() -> None:
    text = "- name: one\n  kind: TaskAPI\n- name: two\n"
    assert [api["name"] for api in parse(text)] == ["one", "two"]
    assert parse("name: one\ncreated: 2020-01-01") == [{"name": "one", "created": "2020-01-01"}]
    assert parse([{"name": "one", "at": datetime.date(2020, 1, 1)}])[0]["at"] == "2020-01-01"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("just text", "must be a list of APIs"),
        ("[]", "must be a list of APIs"),
        ("- one", "API number 1 must be a mapping"),
        ("- name: a\n  x: [1", "not valid YAML: line"),
        ("- name: a\n- name: a", "a more than once"),
        ("- kind: TaskAPI", "no name"),
        ("- name: a\n  1: b", "put it in quotes"),
        ("- name: a\n  x: .nan", "x is nan, which JSON can't carry"),
        ("- name: a\n  x: !!python/object:os.system {}", "not valid YAML"),
        ("- &a [*a]", "contains itself"),
        ("- name: a\n  x: &a [*a]", "nested deeper than 64 levels, or contains itself"),
        ("- name: a\n  x: !!binary aGk=", "x is a bytes, which JSON can't carry"),
        ("- name: a\n  x: 2020-13-40", "can't be read as YAML"),
        ("#" * (1 << 20) + "\nname: a", "larger than"),
        ("---\nname: a\n---\nname: b", "not valid YAML"),
    ],
)
def test_parse_refuses(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse(text)


def test_parse_survives_aliases_that_explode() -> None:
    lines = ["- name: a", "  x0: &x0 [1, 1]"]
    lines += [f"  x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}, *x{n - 1}]" for n in range(1, 40)]
    with pytest.raises(BadRequest, match="too large"):
        parse("\n".join(lines))


# The shape of 0.28


def test_definition_as_in_the_iris_example(project: Path) -> None:
    text = """\
        - name: trainer
          kind: TaskAPI
          definition:
            path: task.py
          compute:
            cpu: 200m
            mem: 500Mi
        """
    (api,) = parse(dedent(text))
    built = made(project, api)
    assert built.spec == {
        "name": "trainer",
        "kind": "TaskAPI",
        "definition": {"path": "task.py", "config": {}, "env": {}},
        "compute": {"cpu": "200m", "mem": "500Mi", "gpu": 0},
        "networking": {"endpoint": "trainer"},
        "id": built.api_id,
        "spec_id": built.spec_id,
    }
    assert (built.cpu, built.mem, built.gpu, built.timeout) == (200, 500 << 20, 0, None)
    assert built.files == {"task.py": TASK.encode()}
    assert built.warnings == ()
    launch = {key: value for key, value in built.launch.items() if key != "env"}
    assert launch.pop("interpreter") == {"path": sys.executable, "version": platform.python_version()}
    assert launch == {
        "python": sys.executable,
        "cwd": str(project),
        "sys_path": [str(project)],
        "kind": "module",
        "file": "task.py",
        "module": "task",
        "attr": "Task",
        "origin": str(project / "task.py"),
        "cloudpickle": interpreter.package_folder("cloudpickle"),
    }


COUNTS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("BLIS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "TF_NUM_INTRAOP_THREADS"),
    *("LOKY_MAX_CPU_COUNT", "PYTHON_CPU_COUNT"),
)


@pytest.mark.parametrize(("cpu", "count"), [(1, "1"), ("200m", "1"), (1.5, "2"), ("2001m", "3"), (None, None)])
def test_numbers_of_threads_are_the_cores_that_were_asked_for(project: Path, cpu: Any, count: str | None) -> None:
    compute = {} if cpu is None else {"compute": {"cpu": cpu}}
    for api in ({**definition(), **compute}, pod(**compute)):
        env = made(project, api, environ={}).launch["env"]
        assert {env.get(name) for name in COUNTS} == {count}


def test_numbers_of_threads_that_are_set_stay(project: Path) -> None:
    (project / ".env").write_text("NUMBA_NUM_THREADS=7\n")
    api = {**definition(env={"MKL_NUM_THREADS": 8}), "compute": {"cpu": 2}}
    built = made(project, api, environ={"OMP_NUM_THREADS": "9"})
    wanted = {"NUMBA_NUM_THREADS": "7", "MKL_NUM_THREADS": "8", "OMP_NUM_THREADS": "9", "LOKY_MAX_CPU_COUNT": "2"}
    assert {name: built.launch["env"][name] for name in wanted} == wanted
    assert made(project, api, environ={}).api_id == built.api_id  # they are no part of what a version is


def test_all_keys_of_definition(project: Path) -> None:
    (project / "lib").mkdir()
    api = {
        **definition(
            config={"lr": 0.1, "at": datetime.date(2020, 1, 1)},
            python_path="lib",
            image="quay.io/some/image:1",
            env={"A": "text", "B": 1, "C": True, "D": 0.5},
            log_level="debug",
        ),
        "compute": {"cpu": 2, "gpu": 1, "mem": "1Gi", "inf": 0},
        "networking": {"endpoint": "/else"},
        "node_groups": ["cpu"],
        "timeout": 60,
        "run_timeout": 50,
    }
    built = made(project, api)
    assert built.config == {"lr": 0.1, "at": "2020-01-01"}
    assert built.timeout == built.spec["timeout"] == 60
    assert built.run_timeout == built.spec["run_timeout"] == 50
    assert made(project, {**api, "run_timeout": 51}).api_id != built.api_id
    assert (built.cpu, built.mem, built.gpu) == (2000, 1 << 30, 1)
    assert built.launch["sys_path"] == [str(project / "lib"), str(project)]
    env = built.launch["env"]
    assert [env[key] for key in "ABCD"] == ["text", "1", "true", "0.5"]
    assert env["CORTEX_LOG_LEVEL"] == "debug"
    told = " ".join(built.warnings)
    assert len(built.warnings) == 3
    for word in ("definition.image", "networking.endpoint", "node_groups"):
        assert word in told
    json.dumps([built.spec, built.launch])


def test_where_nothing_is_said_a_job_asks_for_one_cpu(project: Path) -> None:
    built = made(project, definition())
    assert (built.cpu, built.mem, built.gpu) == (1000, None, 0)


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ({"definiton": {}}, "unknown key 'definiton'; did you mean definition"),
        (definition(pathh="x"), "unknown key 'pathh' in definition; did you mean path"),
        (definition(predictor="x"), "unknown key 'predictor' in definition; known are"),
        ({**definition(), "compute": {"cpus": 1}}, "unknown key 'cpus' in compute; did you mean cpu"),
        ({**definition(), "kind": "RealtimeAPI"}, "kind 'RealtimeAPI' can't be run here, only TaskAPI can"),
        ({**definition(), "kind": 3}, "kind must be text, neither empty nor with a NUL character, not 3"),
        ({"definition": {}}, "definition.path is missing"),
        ({}, "there is nothing to run"),
        ({"definition": "task.py"}, "definition must be a mapping, not 'task.py'"),
        (definition(path=3), "definition.path must be text, neither empty nor with a NUL character, not 3"),
        (definition(path=" "), "definition.path must be text, neither empty"),
        (definition(path="nowhere.py"), "nowhere.py can't be read: No such file"),
        (definition(path="."), "can't be read: Is a directory"),
        (definition(path="a\0.py"), "definition.path must be text, neither empty"),
        (definition(path="n.ipynb"), "n.ipynb can't be read: No such file"),
        (definition(config=[1]), "definition.config must be a mapping, not [1]"),
        (definition(config={"x": float("inf")}), "definition.config.x is inf, which JSON can't carry"),
        (definition(config={"x": {1: 2}}), "the key 1 in definition.config.x is not text"),
        (definition(config={"x": [{1, 2}]}), "definition.config.x[0] is a set, which JSON can't carry; write a list"),
        (definition(env={"A B": "x"}), "definition.env: invalid variable name 'A B': use letters"),
        (definition(env={"A": None}), "definition.env.A must be text, and is empty"),
        (definition(env={"A": [1]}), "definition.env.A must be text, not a list"),
        (definition(env={"A": "a\0"}), "definition.env.A contains a NUL"),
        (definition(env={"TASKAPI_JOB_ID": "x"}), "'TASKAPI_JOB_ID' is reserved"),
        (definition(log_level="loud"), "definition.log_level must be one of debug, info, warning, error, not 'loud'"),
        (definition(python_path="nowhere"), "definition.python_path"),
        (definition(function="other"), "task.py: there is no other at its top level"),
        ({**definition(), "compute": {"gpu": -1}}, "compute.gpu must be a whole number from 0 to 1000000000, not -1"),
        ({**definition(), "compute": {"gpu": 0.5}}, "compute.gpu must be a whole number from 0 to 1000000000, not 0.5"),
        ({**definition(), "compute": {"gpu": True}}, "compute.gpu must be a whole number"),
        ({**definition(), "compute": {"cpu": "lots"}}, "compute.cpu must be a number of CPUs"),
        ({**definition(), "compute": {"mem": "1GB"}}, "compute.mem must be bytes"),
        ({**definition(), "compute": {"inf": 1}}, "compute.inf: there are no AWS Inferentia"),
        ({**definition(), "compute": 4}, "compute must be a mapping"),
        ({**definition(), "timeout": 0}, "timeout must be a whole number of seconds from 1"),
        ({**definition(), "run_timeout": 0}, "run_timeout must be a whole number of seconds from 1"),
        ({**definition(), "timeout": "1h"}, "timeout must be a whole number of seconds from 1 to 1000000000, not '1h'"),
        ({**definition(), "networking": {"endpoint": "a b"}}, "networking.endpoint"),
        ({**definition(), "node_groups": "x"}, "node_groups must be a list"),
        ({**definition(), "python": "/nowhere/python"}, "the interpreter '/nowhere/python' does not exist"),
        ({**definition(), "pod": {"containers": []}}, "give either definition (Cortex 0.28) or pod (0.42), not both"),
    ],
)
def test_refusals(project: Path, api: dict[str, Any], words: str) -> None:
    message = refusal(project, api)
    assert message.startswith("trainer: ")
    assert words in message


def test_null_is_as_good_as_absent(project: Path) -> None:
    bare = made(project, definition())
    api = {
        **definition(config=None, env=None, image=None),
        "compute": None,
        "networking": None,
        "timeout": None,
    }
    assert made(project, api).spec == bare.spec


# The shape of 0.42


def test_pod_as_in_the_iris_example(project: Path) -> None:
    (project / "main.py").write_text('import json\nprint(json.load(open("/cortex/spec/job.json")))\n')
    text = """\
        - name: trainer
          kind: TaskAPI
          pod:
            containers:
            - name: trainer
              image: quay.io/some/trainer:master
              command:
                - python
                - main.py
              compute:
                cpu: 200m
                mem: 256Mi
        """
    (api,) = parse(dedent(text))
    built = made(project, api)
    (container,) = built.spec["pod"]["containers"]
    assert container["command"] == ["python", "main.py"]
    assert container["compute"] == {"cpu": "200m", "mem": "256Mi", "gpu": 0}
    assert built.launch["kind"] == "command"
    assert built.launch["argv"] == ["python", "main.py"]
    assert (built.cpu, built.mem, built.files) == (200, 256 << 20, {})
    assert shutil.which("python", path=built.launch["env"]["PATH"]) == str(Path(sys.executable).with_name("python"))
    assert len(built.warnings) == 2
    assert "image is ignored" in built.warnings[0]
    assert "TASKAPI_JOB_SPEC" in built.warnings[1]


def test_pod_with_all_keys(project: Path) -> None:
    api = pod(
        command=["echo"],
        args=["$(A) $(UNKNOWN) $$(A)", 3],
        env={"A": "one"},
        compute={"shm": "64Mi", "gpu": 1},
        liveness_probe={"exec": {"command": ["true"]}},
    )
    api["pod"]["port"] = 8080
    built = made(project, api)
    assert built.launch["argv"] == ["echo", "one $(UNKNOWN) $(A)", "3"]
    assert built.spec["pod"]["containers"][0]["args"] == ["$(A) $(UNKNOWN) $$(A)", "3"]
    assert built.gpu == 1
    told = " ".join(built.warnings)
    for word in ("shm", "liveness_probe", "pod.port"):
        assert word in told


def test_a_program_that_is_not_there_is_warned_of(project: Path) -> None:
    assert "'no-such-program' is not found" in made(project, pod(command=["no-such-program"])).warnings[0]
    assert "./run.sh" in made(project, pod(command=["./run.sh"])).warnings[0]


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ({"pod": {}}, "pod.containers must be a list with one container, and is empty"),
        ({"pod": {"containers": [{}, {}]}}, "pod.containers has 2 containers"),
        (
            {"pod": {"containers": {"name": "x"}}},
            "pod.containers must be a list with one container, not {'name': 'x'}",
        ),
        ({"pod": {"containers": ["x"]}}, "pod.containers[0] must be a mapping"),
        (pod(command=None), "pod.containers[0].command is missing: without an image"),
        (pod(command=[""]), "pod.containers[0].command is missing"),
        (
            pod(command="python main.py"),
            "pod.containers[0].command must be a list of texts, one for each word",
        ),
        (pod(command=["x", {}]), "pod.containers[0].command[1] must be text without a NUL character"),
        (pod(command=["x", "\0"]), "pod.containers[0].command[1] must be text without a NUL character"),
        (
            pod(readiness_probe={}),
            "unknown key 'readiness_probe' in pod.containers[0]; did you mean liveness_probe",
        ),
        (pod(env={"TASKAPI_X": "1"}), "reserved"),
        (pod(compute={"inf": 2}), "pod.containers[0].compute.inf"),
        (pod(compute={"cpu": 0}), "pod.containers[0].compute.cpu must be"),
        ({**pod(), "compute": {"cpu": 1}}, "with a pod, give compute in pod.containers[0].compute"),
    ],
)
def test_pod_refusals(project: Path, api: dict[str, Any], words: str) -> None:
    assert words in refusal(project, api)


def test_a_pod_takes_no_source(project: Path) -> None:
    assert "takes neither source" in refusal(project, pod(), source=TASK)


# What the task's source must be


def found(text: str, function: str | None = None, api: str | None = None) -> str:
    return str(task_source.find_task(dedent(text), "train.py", function, api)["attr"])


def taken(text: str, function: str | None = None) -> tuple[str, list[str] | None]:
    """Return how the task of a source is called, and the names of its parameters."""
    task = task_source.find_task(dedent(text), "train.py", function)
    return task["call"], None if task["parameters"] is None else [one["name"] for one in task["parameters"]]


@pytest.mark.parametrize(
    ("text", "attr"),
    [
        (TASK, "Task"),
        ("class Task:\n def __init__(self): ...\n def __call__(self, config): ...", "Task"),
        ("class Task:\n def __call__(self, config, *more, flag=1, **rest): ...", "Task"),
        ("class Task(Base): pass", "Task"),
        ("from model import Task", "Task"),
        ("from model import Trainer as Task", "Task"),
        ("def train(config): ...\nTask = train", "Task"),
        ("def Task(config): ...\ndef other(config): ...", "Task"),
        ("def train(config): ...", "train"),
        ("def train(config=None): ...\ndef load(path): ...", "train"),
        ("train = lambda config: config", "train"),
        ("def _load(config): ...\ndef train(config): ...", "train"),
        ("def _train(config): ...", "_train"),
        ("if True:\n def train(config): ...\nelse:\n def train(config): ...", "train"),
        ("try:\n import x\nexcept ImportError:\n def train(config): ...", "train"),
        ("import functools\n@functools.lru_cache\ndef train(config): ...", "train"),
        ("class Task:\n @wrapped\n def __call__(self, config, db): ...", "Task"),
        ("def outer(config):\n def inner():\n  yield 1\n return list(inner())", "outer"),
        ("def load(path): ...\ndef train(config, n=3): ...", "train"),
        ("def load(path): ...\ndef train(n=3, *, config): ...", "train"),
        ("def _train(config): ...\ndef load(path): ...", "_train"),
        ("async def train(config): ...", "train"),
        ("class Task:\n async def __call__(self, config): ...", "Task"),
        ("def train(lr=0.1, epochs=3, **rest): ...\ndef _load(path): ...", "train"),
        ("def main(): ...", "main"),
        ("class Task:\n def __call__(self, **params): ...\ndef train(config): ...", "Task"),
    ],
)
def test_tasks_that_are_found(text: str, attr: str) -> None:
    assert found(text) == attr


@pytest.mark.parametrize(
    ("text", "attr"),
    [
        ("def load(path): ...\ndef my_train(lr): ...", "my_train"),
        ("def load(path): ...\ndef my_train(config): ...\ndef other(config): ...", "my_train"),
        ("def _load(config): ...\ndef my_train(lr): ...", "my_train"),
        ("def load(config): ...\ndef my_train(lr): ...", "load"),  # the one of config comes first
        ("def my_train(lr): ...\nclass Task:\n def __call__(self, config): ...", "Task"),
    ],
)
def test_a_function_named_as_the_api(text: str, attr: str) -> None:
    assert found(text, api="my-train") == attr


@pytest.mark.parametrize(
    ("text", "call", "names"),
    [
        ("def train(config): ...", "", None),
        ("def train(config, n=3, *more, k=1, **rest): ...", "", None),
        ("def train(config, /): ...", "", None),
        ("train = lambda config: 1", "", None),
        ("class Task:\n def __call__(self, config, n=3): ...", "", None),
        ("class Task:\n @staticmethod\n def __call__(config): ...", "", None),
        ("@wrapped\ndef train(config, db): ...", "", None),
        ("def train(n=3, config=None): ...", "*", None),
        ("def train(*, config): ...", "*", None),
        ("from lib import Task", "?", None),
        ("from lib import Base\nclass Task(Base): pass", "?", None),
        ("from functools import partial\ndef train(lr): ...\nTask = partial(train, 1)", "?", None),
        ("def train(): ...", "*", []),
        ("class Task:\n def __call__(self): ...", "*", []),
        ("def train(cfg): ...", "*", ["cfg"]),
        ("def train(a, /, b, *more, c, d=1): ...", "*", ["a", "b", "c", "d"]),
        ("def train(lr=0.1, **rest): ...", "*", ["lr", "**rest"]),
        ("def train(*a, **rest): ...", "*", ["**rest"]),
        ("class Task:\n def __call__(self, lr, *, n=1): ...", "*", ["lr", "n"]),
        ("class Task:\n def __call__(*everything, n=1): ...", "*", ["n"]),
        ("@wrapped\ndef train(lr): ...", "*", ["lr", "**"]),
        ("@wrapped\ndef train(lr, **rest): ...", "*", ["lr", "**rest"]),
    ],
)
def test_how_a_task_is_called(text: str, call: str, names: list[str] | None) -> None:
    assert taken(text) == (call, names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no class named Task and no function at its top level"),
        (
            "def load(path): ...\ndef train(lr): ...",
            "which function is the task: load(path) in line 1, train(lr) in line 2",
        ),
        ("def _load(path): ...", "which function is the task: _load(path) in line 1"),
        (
            "def train(config, lr): ...",
            "line 1: train takes config, which receives the whole config, so that nothing is left for lr",
        ),
        ("def train(" + ", ".join(f"a{n}=0" for n in range(101)) + "): ...", "has 101 parameters, more than 100"),
        ("class Trainer:\n def __call__(self, config): ...", "no class named Task"),
        (TASK + TASK, "class Task is defined more than once (lines 1, 4)"),
        ("class Task: pass", "line 1: Task has no method __call__(self, config)"),
        ("class Task:\n def __call__(): ...", "line 2: Task.__call__ must take self, and then config or parameters"),
        ("class Task:\n def __call__(self, config, *, lr): ...", "nothing is left for lr"),
        (TASK + "    def __init__(self, path): ...", "must take self alone, not (self, path)"),
        ("async def train(config):\n yield 1", "has a yield"),
        ("def train(config):\n yield 1", "has a yield"),
        (
            "def a(config): ...\ndef b(config): ...",
            "not clear which function is the task: a(config) in line 1, b(config) in line 2; give it the API's name",
        ),
        ("def train(config)\n    pass", "train.py, line 1: expected ':': def train(config)"),
        ("x = 1\nreturn x", "train.py, line 2: 'return' outside function"),
        ("await x", "train.py, line 1: 'await' outside function"),
        ("x = '\0'", "null bytes"),
        ("(" * 5000, "too"),
    ],
)
def test_tasks_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(task_source.SourceError) as caught:
        found(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "line",
    [
        "%matplotlib inline",
        "%%time",
        "!pip install x",
        "files = !ls",
        "x = %time 1",
        "?print",
        "print?",
        "print??",
        "    %timeit f()",
    ],
)
def test_ipython_syntax_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(task_source.SourceError, match="line 2: IPython syntax") as caught:
        found("import os\n" + line + "\n")
    assert line.strip() in str(caught.value)


def test_a_modulo_over_two_lines_is_no_magic() -> None:
    assert found("x = (7\n%3)\ndef train(config): return x\n") == "train"


def test_a_function_that_is_named() -> None:
    text = "def a(config): ...\ndef b(config): ...\nclass Trainer:\n def __call__(self, config): ..."
    text += "\ndef c(x, y): ..."
    assert found(text, "b") == "b"
    assert found(text, "Trainer") == "Trainer"
    assert found(text, "c") == "c"
    with pytest.raises(task_source.SourceError, match=r"there is no d at its top level"):
        found(text, "d")


def test_nothing_of_the_source_runs(project: Path) -> None:
    made(project, definition(path="cell.py"), source="raise SystemExit('ran')\n" + TASK)


def test_source_under_another_interpreter(project: Path, tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(sys.executable)  # another path: asked instead of judged by us
    built = made(project, {**definition(), "python": str(link)})
    assert built.launch["python"] == str(link)
    assert built.launch["attr"] == "Task"
    message = refusal(project, {**definition(path="cell.py"), "python": str(link)}, source="!ls\n")
    assert "IPython syntax" in message


def test_an_interpreter_that_is_none(project: Path) -> None:
    for python, words in (
        (shutil.which("true"), "can't be used as the interpreter"),
        ("task.py", "not executable"),
    ):
        assert words in refusal(project, {**definition(), "python": python})


def test_an_interpreter_by_name_is_looked_up(project: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/my-python").symlink_to(sys.executable)
    built = made(project, {**definition(), "python": "my-python"}, environ={"PATH": str(tmp_path / "bin")})
    assert built.launch["python"] == str(tmp_path / "bin/my-python")


# Files and cells


def test_a_cell_runs_as_main(project: Path) -> None:
    api = {"name": "my-json", **definition(path="json.py")}
    built = build(DeployRequest(spec=api, source=TASK, cwd=str(project)))
    assert (built.launch["kind"], built.launch["file"]) == ("main", "cell_my-json.py")
    assert built.files == {"cell_my-json.py": TASK.encode()}
    assert "origin" not in built.launch


def test_a_mistake_in_a_cell_names_the_cell(project: Path) -> None:
    api = {"name": "train", **definition(path="train.py")}
    with pytest.raises(BadRequest, match="cell train, line 3: expected ':'"):
        build(DeployRequest(spec=api, source="\n\ndef train(config)\n", cwd=str(project)))


# Where a task imports from


def test_the_kernels_folders_are_searched_in_its_order(project: Path, tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    for folder in (first, last):
        folder.mkdir()
    paths = [str(first), "", str(project), "", str(tmp_path / "gone"), str(last)]
    api = {"name": "a", **definition(path="cell.py")}
    built = build(DeployRequest(spec=api, source=TASK, cwd=str(project), sys_path=paths))
    assert built.launch["sys_path"] == [str(first), "", str(project), "", str(last)]
    for wrong in ("relative", "/nul\0"):
        with pytest.raises(BadRequest, match=r"sys_path must hold absolute paths, not "):
            build(DeployRequest(spec=api, source=TASK, cwd=str(project), sys_path=[wrong]))


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["/a"], ["/a", "/lib", "/lib/x", "/site-packages", "/more"]),
        (["/a", "", "/b"], ["/a", "/lib", "/lib/x", "/site-packages", "/more", "/b"]),
        (["", "/a", "", "/b"], ["/lib", "/lib/x", "/a", "/site-packages", "/more", "/b"]),
        (["", "", "", "/b"], ["/lib", "/lib/x", "/site-packages", "/more", "/b"]),
    ],
)
def test_an_empty_folder_stands_for_the_interpreters_own(paths: list[str], found: list[str]) -> None:
    assert harness.search_path(paths, ["/lib", "/lib/x", "/site-packages", "/more"]) == found
    assert harness.search_path(["/a"], ["/lib"]) == ["/a", "/lib"]


# What a pickle refers to


def test_the_modules_that_a_pickle_names() -> None:
    import decimal

    import msgspec.json as away

    def target(config: Any) -> Any:
        return away.encode(config), decimal.Decimal

    for protocol in range(2, 6):
        found = pickled.modules(cloudpickle.dumps([target, os.path.join, away], protocol=protocol))
        assert {"msgspec", "decimal", "posixpath"} <= found
        assert "cloudpickle" not in found
    assert pickled.modules(b"not a pickle") == set()


def test_a_module_that_the_interpreter_can_not_import(project: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "only_here_xyz.py").write_text("def f(x):\n    return x\n")
    data = b"conly_here_xyz\nf\n."
    request = DeployRequest(spec={"name": "a", "kind": "TaskAPI"}, pickle=data, cwd=str(project))
    with pytest.raises(BadRequest, match=r"refers to the module only_here_xyz, which .* can't import"):
        build(request)
    assert build(request, looks_up=False).launch["kind"] == "pickle"
    request.sys_path = [str(away)]
    assert build(request).launch["sys_path"] == [str(project), str(away)]


def test_source_wins_over_the_file(project: Path) -> None:
    text = "def train(config): return 1\n"
    built = made(project, definition(), source=text)
    assert (built.launch["module"], built.launch["attr"]) == ("task", "train")
    assert built.files == {"task.py": text.encode()}


def test_a_file_that_would_hide_a_standard_module(project: Path) -> None:
    (project / "random.py").write_text(TASK)
    assert made(project, definition(path="random.py")).launch["module"].startswith("taskapi_trainer_")


def test_a_file_in_a_subfolder(project: Path) -> None:
    (project / "src").mkdir()
    (project / "src/train.py").write_text(TASK)
    built = made(project, definition(path="src/train.py"))
    assert built.launch["module"] == "train"
    assert built.launch["sys_path"] == [str(project), str(project / "src")]


def test_a_coding_line_is_honoured(project: Path) -> None:
    data = ("# -*- coding: latin-1 -*-\nx = 'ü'\n" + TASK).encode("latin-1")
    (project / "task.py").write_bytes(data)
    assert made(project, definition()).files["task.py"] == data
    assert made(project, definition(), source=data.decode("latin-1")).files["task.py"] == data
    (project / "task.py").write_bytes(b"x = '\xff'\n")
    assert "task.py is not text that Python can read" in refusal(project, definition())


def test_a_pickle_by_dill(project: Path) -> None:
    (project / "task.pickle").write_bytes(pytest.importorskip("dill").dumps(lambda config: config))
    built = made(project, definition(path="task.pickle"))
    assert (built.launch["kind"], built.launch["file"]) == ("dill", "task.pickle")
    assert built.files == {"task.pickle": (project / "task.pickle").read_bytes()}
    given = made(project, definition(path="other.pickle"), pickle=b"given")
    assert given.files == {"task.pickle": b"given"}


def test_a_pickle_where_dill_is_missing(project: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # -S: no installed package is found
    python.chmod(0o755)
    (project / "task.pickle").write_bytes(b"")
    message = refusal(project, {**definition(path="task.pickle"), "python": str(python)})
    assert f"loaded with dill, which {python} does not have" in message


def test_a_pickled_callable(project: Path) -> None:
    version = "{}.{}".format(*sys.version_info)
    built = made(project, {"definition": {"python_version": version}}, pickle=b"pickled")
    assert (built.launch["kind"], built.launch["file"]) == ("pickle", "task.pkl")
    assert (Path(built.launch["cloudpickle"]) / "cloudpickle/__init__.py").exists()
    assert built.files == {"task.pkl": b"pickled"}
    made(project, {}, pickle=b"pickled")
    message = refusal(project, {"definition": {"python_version": "3.1"}}, pickle=b"pickled")
    assert "pickled by Python 3.1" in message
    assert "must end in .pickle" in refusal(project, definition(), pickle=b"pickled")
    assert "source is the text" in refusal(project, {"definition": {}}, source=TASK)


# Folder, interpreter, variables


@pytest.mark.parametrize("cwd", ["relative", "/no/such/folder", "/etc/passwd", "/\0"])
def test_a_folder_that_is_none(project: Path, cwd: str) -> None:
    with pytest.raises(BadRequest, match="must be the absolute path of a folder"):
        build(DeployRequest(spec={"name": "a", **definition()}, cwd=cwd))


def test_defaults_of_a_bare_request(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("SOME_TOKEN", "secret")
    built = build(DeployRequest(spec={"name": "a", **definition()}))
    assert built.launch["cwd"] == str(project)
    assert built.launch["python"] == sys.executable
    assert "SOME_TOKEN" not in built.launch["env"]


def test_variables_of_the_kernel_are_cut_to_the_list(project: Path) -> None:
    passed = {
        "PATH": "/usr/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "CONDA_PREFIX": "/c",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "0",
        "https_proxy": "http://p",
        "TOKENIZERS_PARALLELISM": "false",
    }
    cut = {
        "JPY_PARENT_PID": "1",
        "JUPYTERHUB_API_TOKEN": "s",
        "MPLBACKEND": "inline",
        "TASKAPI_TOKEN": "s",
        "AWS_SECRET_ACCESS_KEY": "s",
        "CONDA_TOKEN": "s",
        "HF_TOKEN": "s",
        "MY_SETTING": "x",
        "HOME ": "y",
    }
    built = made(project, definition(), environ={**passed, **cut})
    env = built.launch["env"]
    assert env == {**passed, "PATH": f"{os.path.dirname(sys.executable)}:/usr/bin"}
    more = build(request(project, definition(), environ=cut), environ=["MY_*", "HF_TOKEN", "TASKAPI_TOKEN"])
    assert {"MY_SETTING": "x", "HF_TOKEN": "s"}.items() <= more.launch["env"].items()
    assert "TASKAPI_TOKEN" not in more.launch["env"]


def test_every_variable_may_be_asked_for_but_secrets_by_name(project: Path) -> None:
    environ = {"ANY": "1", "MY_API_KEY": "s", "MONKEY": "2", "JPY_X": "3"}
    assert allowed_environ(environ, ["*"]) == {"ANY": "1", "MONKEY": "2"}
    assert allowed_environ(environ, ["MY_API_KEY"]) == {"MY_API_KEY": "s"}


def test_precedence_of_variables(project: Path) -> None:
    (project / ".env").write_text("LANG=file\nTZ=file\nexport FILE='a $HOME b'\nTASKAPI_URL=x\nNOTHING\n")
    built = made(project, definition(env={"TZ": "api"}), environ={"LANG": "kernel", "TZ": "kernel", "HOME": "/h"})
    env = built.launch["env"]
    assert [env[key] for key in ("HOME", "LANG", "TZ", "FILE")] == ["/h", "file", "api", "a $HOME b"]
    assert "TASKAPI_URL" not in env
    assert len(built.warnings) == 2
    (project / ".env").write_bytes(b"A=\xff\xfe\n")
    assert ".env can't be read" in refusal(project, definition())


# Identity


def test_api_id_follows_content(project: Path) -> None:
    one = made(project, definition(), environ={"LANG": "C"})
    assert len(one.api_id) == len(one.spec_id) == 16
    assert one.api_id == made(project, definition(), environ={"LANG": "de"}).api_id
    spelled = {**definition(), "compute": {"cpu": "1000m"}}
    assert one.api_id == made(project, spelled).api_id

    other = made(project, definition(config={"x": 1}))
    assert one.api_id != other.api_id
    assert one.spec_id != other.spec_id

    edited = made(project, definition(), source=TASK + "\n")
    assert one.spec_id == edited.spec_id
    assert one.api_id != edited.api_id

    (project / ".env").write_text("A=1")
    assert one.api_id != made(project, definition()).api_id
    copied = shutil.copytree(project, project.with_name("copy"))
    (copied / ".env").unlink()
    assert one.api_id != made(copied, definition()).api_id


def test_a_built_spec_can_be_built_again(project: Path) -> None:
    for api in (definition(config={"x": 1}, env={"A": 1}), pod(args=[1], compute={"mem": 1 << 20})):
        built = made(project, api)
        again = {key: value for key, value in built.spec.items() if key not in ("id", "spec_id")}
        assert made(project, again).api_id == built.api_id


def test_the_check_of_sources_runs_by_itself() -> None:
    """The file is handed to other interpreters, which have nothing of this package."""
    asked = json.dumps({"text": TASK, "filename": "task.py", "function": None})
    command = [sys.executable, "-I", "-S", task_source.__file__]
    answer = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer) == {"attr": "Task", "call": "", "parameters": None, "async": False, "doc": ""}
