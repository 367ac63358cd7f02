"""What every TaskAPI does: one suite over the Service of this machine and over a Client of a real server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from support import ECHO, ENGINE, PATIENCE, WAITING, request_for, until
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.errors import (
    APIIDNotFound,
    APINotDeployed,
    BadRequest,
    Conflict,
    JobFailed,
    JobNotFound,
    JobNotInProgress,
    NotFound,
    TaskAPIError,
    TooLarge,
)
from taskapi_jupyter.core.nesting import MAX_DEPTH

ABSENT = "7fffffffffffffff"


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest) -> Iterator[TaskAPI]:
    """Return a TaskAPI: of this machine, or of a server over HTTP."""
    if request.param == "service":
        yield request.getfixturevalue("service")
        return
    server = request.getfixturevalue("live_server")
    client = Client(server.taskapi, server.token)
    if ENGINE == "ray":
        head = request.getfixturevalue("head")
        cluster = {"name": "ray", "provider": "ray", "address": head.address, "storage": str(head.folder / "left")}
        (server.home / "environments.yaml").write_text(yaml.safe_dump({"environments": [cluster]}))
        client = Client(f"{server.url}taskapi/ray", server.token, environment="ray")
    yield client
    client.close()


@pytest.fixture
def waiting(api: TaskAPI, name: str, tmp_path: Path) -> Callable[[], Any]:
    """Return what submits a job that runs until :func:`released`; it has started when this returns."""
    api.deploy_request(request_for(name, WAITING))

    def submit() -> Any:
        job = api.submit(name, {"path": str(tmp_path / "go")})
        until(lambda: api.logs(job) == "waiting\n", "the task to say that it waits")
        return job

    return submit


# Deploying


def test_deploy_says_what_it_did(api: TaskAPI, name: str) -> None:
    (created,) = api.deploy_request(request_for(name, ECHO))
    assert created.message == f"created {name} (TaskAPI)"
    assert created.error == ""
    assert created.api is not None
    assert created.api.spec["name"] == name
    assert created.api.spec["kind"] == "TaskAPI"
    (again,) = api.deploy_request(request_for(name, ECHO))
    assert again.message == f"{name} (TaskAPI) is up to date"
    (updated,) = api.deploy_request(request_for(name, ECHO + "# changed\n"))
    assert updated.message == f"updated {name} (TaskAPI)"
    assert updated.api is not None
    assert updated.api.spec["id"] != created.api.spec["id"]


def test_deploy_takes_a_function_of_the_caller(api: TaskAPI, name: str) -> None:
    def triple(config: dict[str, Any]) -> int:
        return 3 * int(config["n"])

    api.deploy(triple, name=name)
    assert api.submit(name, {"n": 14}).result(30) == 42


def test_deploy_takes_a_file(api: TaskAPI, name: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(ECHO)
    configuration = tmp_path / "cortex.yaml"
    definition = {"path": "task.py", "config": {"a": 1, "b": {"c": 2}}}
    configuration.write_text(json.dumps([{"name": name, "kind": "TaskAPI", "definition": definition}]))
    api.deploy(configuration)
    assert api.submit(name, {"b": {"d": 3}}).result(30) == {"a": 1, "b": {"c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("spec", "source", "named"),
    [
        ({"name": "../x"}, ECHO, "../x"),
        ({"name": ""}, ECHO, "''"),
        ({"name": "é"}, ECHO, "é"),
        ({"name": "x" * 10_000}, ECHO, "xxx"),
        ({"kind": "RealtimeAPI"}, ECHO, "RealtimeAPI"),
        ({"compute": {"cpu": "many"}}, ECHO, "many"),
        ({"compute": {"cpu": 100_000}}, ECHO, "cores"),
        ({"compute": {"mem": "1000Ti"}}, ECHO, "memory"),
        ({"timeout": 0}, ECHO, "timeout"),
        ({}, "def task(config:\n", "line 1"),
        ({}, "x = 1\n", "Task"),
    ],
)
def test_what_cant_be_deployed(api: TaskAPI, name: str, spec: Any, source: str, named: str) -> None:
    if ENGINE != "local" and "compute" in spec and named in ("cores", "memory"):
        pytest.skip("a cluster may grow")
    request = request_for(name, source)
    request.spec.update(spec)
    with pytest.raises(BadRequest) as caught:
        api.deploy_request(request)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert name not in [one.name for one in api.get()]


# Submitting and reading


def test_a_job_from_submission_to_result(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    config = {"lr": 0.1, "layers": [1, 2], "nested": {"ü": None}, "big": 2**70}
    before = datetime.now(timezone.utc)
    job = api.submit(name, config, timeout=100, notebook="work/a.ipynb")
    assert re.fullmatch("[0-9a-f]{16}", job.id)
    assert job.status == "pending"
    assert (job.api_name, job.config, job.record.timeout) == (name, config, 100)
    assert job.wait(30).status == "succeeded"
    assert job.result() == config
    assert api.result(job.id) == config
    assert before <= job.created_time <= job.start_time <= job.end_time <= datetime.now(timezone.utc)
    assert job.exit_code == 0
    assert job.notebook == "work/a.ipynb"
    assert api.logs(job) == f"hello {config}\n"


def test_a_task_of_parameters(api: TaskAPI, name: str) -> None:
    source = "def train(data, lr: float = 0.1, **rest):\n    return [data, lr, rest]\n"
    api.deploy_request(request_for(name, source))
    taken = [
        {"name": "data", "required": True},
        {"name": "lr", "required": False, "default": 0.1, "type": "float"},
        {"name": "**rest", "required": False},
    ]
    deployed = api.get(name).spec
    assert deployed is not None
    assert deployed["definition"]["parameters"] == taken
    assert api.get_version(name, deployed["id"]).spec == deployed
    job = api.submit(name, {"data": 1, "n": 2}).wait(PATIENCE)
    assert job.result() == [1, 0.1, {"n": 2}]
    with pytest.raises(BadRequest, match=r"data is missing: it takes data \(required\), lr, "):
        api.submit(name, {"lr": 1})
    api.deploy_request(request_for(name, "async def train(data, lr=0.1):\n    return [data, lr]\n"))
    with pytest.raises(BadRequest, match=f"{name}: there is no parameter 'n': it takes"):
        api.rerun(job)
    assert api.rerun(job, same=True).wait(PATIENCE).result() == [1, 0.1, {"n": 2}]
    assert api.submit(name, {"data": 1}).wait(PATIENCE).result() == [1, 0.1]
    again = msgspec.structs.replace(request_for(name, source), spec=deployed)
    assert api.deploy_request(again)[0].message.splitlines()[0] == f"updated {name} (TaskAPI)"


def test_functions_of_parameters(api: TaskAPI, name: str) -> None:
    def train(data, lr=0.1):  # type: ignore[no-untyped-def]
        """Train.

        :param data: what to learn
        """
        return [data, lr]

    async def later(config):  # type: ignore[no-untyped-def]
        return config

    api.deploy(train, name=name)
    assert (api.get(name).spec or {})["definition"]["parameters"] == [
        {"name": "data", "required": True, "help": "what to learn"},
        {"name": "lr", "required": False, "default": 0.1},
    ]
    with pytest.raises(BadRequest, match="there is no parameter 'dat' and data is missing"):
        api.submit(name, {"dat": 1})
    assert api.submit(name, {"data": 1}).wait(PATIENCE).result() == [1, 0.1]
    api.deploy(later, name=name)
    assert "parameters" not in (api.get(name).spec or {})["definition"]
    assert api.submit(name, {"any": 1}).wait(PATIENCE).result() == {"any": 1}


def test_without_a_config(api: TaskAPI, echo: Any) -> None:
    job = api.submit(echo(api)).wait(30)
    assert job.config is None
    assert job.result() in ({}, None)


def test_a_result_that_is_no_json(api: TaskAPI, name: str) -> None:
    api.deploy_request(
        request_for(name, "import datetime\ndef task(config):\n    return {datetime.date(2020, 1, 2)}\n")
    )
    job = api.submit(name)
    assert {str(day) for day in job.result(30)} == {"2020-01-02"}


def test_a_failed_job_says_why(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, "def task(config):\n    raise ValueError('no such <thing>')\n"))
    job = api.submit(name).wait(30)
    assert job.status == "worker_error"
    assert job.reason is not None
    assert "ValueError: no such <thing>" in job.reason
    assert "ValueError: no such <thing>" in api.logs(job)
    with pytest.raises(JobFailed, match="no such <thing>"):
        job.result()
    with pytest.raises(NotFound):
        api.result(job)


def test_a_timeout(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, "import time\ndef task(config):\n    time.sleep(100)\n"))
    job = api.submit(name, timeout=1).wait(30)
    assert job.status == "timed_out"


def test_get(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    job = api.submit(name, {"n": 1}).wait(30)
    one = api.get(name)
    assert one.name == name
    assert one.spec["definition"]["path"] == "task.py"
    assert [record.job_id for record in one.task_job_statuses] == [job.id]
    assert [version.api_id for version in one.api_versions] == [one.api_id]
    listed = {each.name: each for each in api.get()}
    assert listed[name].api_id == one.api_id
    got = api.get(name, job.id)
    assert got == job
    assert got.status == "succeeded"
    response = api.job_response(job.id, name)
    assert response.job_status == job.refresh().record
    assert response.api_spec["id"] == one.api_id
    assert api.job_response(job.id) == response


def test_versions(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, ECHO))
    job = api.submit(name).wait(30)
    first = api.get(name).api_id
    api.deploy_request(request_for(name, ECHO + "\n#\n"))
    second = api.get(name).api_id
    assert {one.api_id for one in api.get(name).api_versions} == {first, second}
    assert api.get_version(name, first).api_id == first  # type: ignore[attr-defined]
    assert api.job_response(job.id).api_spec["id"] == first
    assert api.submit(name).record.api_id == second
    with pytest.raises(APIIDNotFound, match=f"^{name} with id absent has never been deployed$"):
        api.get_version(name, "absent")  # type: ignore[attr-defined]


def test_pages(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    jobs = [api.submit(name, {"n": n}) for n in range(5)]
    for job in jobs:
        job.wait(30)
    newest_first = [job.id for job in reversed(jobs)]
    page = api.jobs(name)
    assert [job.id for job in page] == newest_first
    assert page.next_cursor is None
    seen, cursor = [], None
    for expected in (2, 2, 1):
        page = api.jobs(name, limit=2, cursor=cursor)
        assert len(page) == expected
        seen += [job.id for job in page]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == newest_first
    assert [job.id for job in api.jobs(name, status="succeeded")] == newest_first
    assert api.jobs(name, status=["worker_error", "stopped"]) == []
    assert api.jobs("absent") == []


@pytest.mark.parametrize(
    "query", [{"status": "done"}, {"limit": 0}, {"limit": 1001}, {"limit": -1}, {"cursor": "not a cursor"}]
)
def test_bad_queries(api: TaskAPI, query: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=next(iter(query))):
        api.jobs(**query)


@pytest.mark.parametrize(
    "config", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": {1, 2}}, [1], "text"]
)
def test_configs_that_are_no_json(api: TaskAPI, echo: Any, config: Any) -> None:
    name = echo(api)
    with pytest.raises(BadRequest):
        api.submit(name, config)
    assert api.jobs(name) == []


class Colour(str, Enum):
    RED = "red"


def test_values_of_python_become_those_of_json(api: TaskAPI, echo: Any) -> None:
    config = {
        "when": datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc),
        "days": [date(2024, 5, 6), {"last": date(2024, 5, 7)}],
        "data": (Path("/data"), Colour.RED),
        "lr": 1e-3,
    }
    expected = {
        "when": "2024-05-06T07:08:09+00:00",
        "days": ["2024-05-06", {"last": "2024-05-07"}],
        "data": ["/data", "red"],
        "lr": 1e-3,
    }
    job = api.submit(echo(api), config)
    assert job.config == expected
    assert api.job_response(job.id).job_status.config == expected
    assert job.result(30) == expected


def test_a_config_that_cannot_be_carried_is_refused_with_its_key(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    deep: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert api.submit(name, {"x": deep}).config == {"x": deep}
    for config, words in (
        ({"x": [deep]}, "config.x[0]"),
        ({"opt": {"lr": float("nan")}}, "config.opt.lr is nan, which JSON can't carry"),
        ({"x": [{1, 2}]}, "config.x[0] is a set, which JSON can't carry; write a list"),
    ):
        with pytest.raises(BadRequest) as caught:
            api.submit(name, config)
        assert caught.value.message.startswith(words)
    assert len(api.jobs(name)) == 1


@pytest.mark.parametrize("timeout", [0, -1, 1.5, "10"])
def test_bad_timeouts(api: TaskAPI, echo: Any, timeout: Any) -> None:
    name = echo(api)
    with pytest.raises(BadRequest, match="timeout"):
        api.submit(name, timeout=timeout)
    assert api.jobs(name) == []


def test_a_config_that_is_too_large(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    with pytest.raises(TooLarge, match="10 MiB"):
        api.submit(name, {"x": "y" * (11 << 20)})
    assert api.jobs(name) == []


# What is not there


def test_an_unknown_api_may_be_one_that_is_there(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    wrong = f"{name}x"
    for call in (api.submit, api.get, api.delete):
        with pytest.raises(APINotDeployed) as caught:
            call(wrong)
        assert caught.value.message == f"{wrong} is not deployed; did you mean {name}?"
        assert caught.value.kind == "resources.api_not_deployed"
    with pytest.raises(APINotDeployed, match=r"^q9 is not deployed$"):
        api.submit("q9")


@pytest.mark.parametrize("absent", ["absent", "../x", "..", ".", "", "a/b", "ä", "x" * 3000, "a%2Fb", "a\0b"])
def test_unknown_apis(api: TaskAPI, absent: str) -> None:
    for call in (api.submit, api.get, api.delete):
        with pytest.raises(APINotDeployed):
            call(absent)
    with pytest.raises(APINotDeployed):
        api.get(absent, ABSENT)


@pytest.mark.parametrize("absent", [ABSENT, "..", "../x", "", "x" * 3000, "7FFFFFFFFFFFFFFF", "a?b#c"])
def test_unknown_jobs(api: TaskAPI, echo: Any, absent: str) -> None:
    name = echo(api)
    with pytest.raises((JobNotFound, BadRequest)):
        api.get(name, absent)
    for call in (
        api.job_response,
        api.stop,
        api.forget,
        api.rerun,
        api.logs,
        api.result,
        api.files,
        lambda job: api.read_file(job, "x"),
    ):
        with pytest.raises(JobNotFound):
            call(absent)


def test_a_job_of_another_api(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    job = api.submit(name).wait(30)
    other = f"{name}-2"
    api.deploy_request(request_for(other, ECHO))
    message = f"failed to get job state: unable to find TaskAPI job {job.id} ({other} api)"
    with pytest.raises(JobNotFound) as caught:
        api.get(other, job.id)
    assert str(caught.value) == message


# Ending


def test_stop(api: TaskAPI, waiting: Any) -> None:
    job = waiting()
    assert api.jobs(job.api_name, status="running") == [job]
    assert api.stop(job) == f"stopped job {job.id}"
    assert job.refresh().status == "stopped"
    with pytest.raises(JobNotInProgress) as caught:
        api.stop(job)
    assert str(caught.value) == (
        f"{job.id} ({job.api_name} api): cannot stop TaskAPI job because it is not in progress"
    )


def test_stop_by_id(api: TaskAPI, waiting: Any) -> None:
    job = waiting()
    assert api.stop(job.id) == f"stopped job {job.id}"


def test_delete_stops_jobs_and_keeps_them_readable(api: TaskAPI, waiting: Any) -> None:
    job = waiting()
    assert api.delete(job.api_name) == f"deleted {job.api_name}"
    assert api.job_response(job.id).job_status.status == "stopped"
    assert job.wait(30).status == "stopped"
    assert api.logs(job) == "waiting\n"
    assert job.api_name not in [one.name for one in api.get()]
    with pytest.raises(APINotDeployed, match=f"^{job.api_name} is not deployed(; did you mean|$)"):
        api.submit(job.api_name)
    with pytest.raises(APINotDeployed):
        api.rerun(job)


def test_forget(api: TaskAPI, waiting: Any) -> None:
    job = waiting()
    with pytest.raises(Conflict):
        api.forget(job)
    api.stop(job)
    assert api.forget(job) == f"deleted job {job.id}"
    with pytest.raises(JobNotFound):
        api.job_response(job.id)
    with pytest.raises(JobNotFound):
        api.logs(job)
    assert api.jobs(job.api_name) == []


def test_purge(api: TaskAPI, echo: Any, waiting: Any, name: str) -> None:
    running = waiting()
    echo(api)
    api.deploy_request(request_for(f"{name}-fails", "def task(config):\n    raise ValueError\n"))
    done = [api.submit(name, {"n": n}).wait(30) for n in range(3)]
    failed = [api.submit(f"{name}-fails").wait(30) for _ in range(2)]
    assert {job.status for job in failed} == {"worker_error"}
    with pytest.raises(BadRequest, match="running"):
        api.purge(status=["succeeded", "running"])
    assert api.purge(name, ["worker_error", "stopped"]) == "deleted 0 jobs"
    assert api.purge(f"{name}-fails", "succeeded") == "deleted 0 jobs"
    assert api.purge(name, "succeeded", older_than=1) == "deleted 0 jobs"
    with pytest.raises(BadRequest, match="older_than"):
        api.purge(name, older_than=-1)
    assert api.purge(name, "succeeded", older_than=0) == "deleted 3 jobs"
    assert api.jobs(name) == [running]
    for job in done:
        with pytest.raises(JobNotFound):
            api.logs(job)
    assert api.jobs(f"{name}-fails") == failed[::-1]
    api.forget(failed[0])
    assert api.purge(f"{name}-fails") == "deleted 1 job"
    api.submit(f"{name}-fails").wait(30)
    assert re.fullmatch(r"deleted \d+ jobs?", api.purge())
    left = api.jobs(limit=1000)
    assert running in left
    assert not [job for job in left if job.ended]
    api.stop(running)


def test_rerun(api: TaskAPI, echo: Any) -> None:
    job = api.submit(echo(api), {"n": 5}, timeout=60, notebook="a.ipynb").wait(30)
    again = api.rerun(job)
    assert again.id != job.id
    assert again.result(30) == {"n": 5}
    assert (again.record.timeout, again.notebook) == (60, "a.ipynb")
    by_id = api.rerun(job.id)
    assert by_id.wait(30).status == "succeeded"


def test_rerun_of_the_same_version(api: TaskAPI, name: str) -> None:
    for answer in ("old", "new"):
        api.deploy_request(request_for(name, f"def task(config): return ['{answer}', config]"))
        job = api.submit(name, {"n": 5}, timeout=60, notebook="a.ipynb").wait(30)
        if answer == "old":
            old = job
    assert old.rerun().result(30) == ["new", {"n": 5}]
    again = old.rerun(same=True)
    assert again.result(30) == ["old", {"n": 5}]
    assert (again.record.api_id, again.record.timeout, again.notebook) == (old.record.api_id, 60, "a.ipynb")
    assert api.rerun(old.id, same=True).result(30) == ["old", {"n": 5}]
    assert again.rerun(same=True).result(30) == ["old", {"n": 5}]
    api.delete(name)
    for same in (True, False):
        with pytest.raises(APINotDeployed, match=f"{name} is not deployed"):
            old.rerun(same)
    api.deploy_request(request_for(name, "def task(config): return 'third'"))
    assert old.rerun(same=True).result(30) == ["old", {"n": 5}]
    old.forget()
    with pytest.raises(JobNotFound):
        old.rerun(same=True)


# What a job leaves

LINES = """
def task(config):
    for n in range(1000):
        print("line", n)
    print("ünd", end="")
"""


def test_logs(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, LINES))
    job = api.submit(name).wait(30)
    text = "".join(f"line {n}\n" for n in range(1000)) + "ünd"
    size = len(text.encode())
    assert api.logs(job) == text
    assert api.logs(job, tail=2) == "line 999\nünd"
    assert api.logs(job, tail=0) == ""
    assert list(api.logs(job, follow=True)) == text.split("\n")
    chunk = api.log_chunk(job, 5, 3)
    assert (chunk.data, chunk.offset, chunk.next, chunk.size) == (b"0\nl", 5, 8, size)
    chunk = api.log_chunk(job, -4)
    assert (chunk.data, chunk.offset, chunk.next, chunk.size) == ("ünd".encode(), size - 4, size, size)
    chunk = api.log_chunk(job, size + 100)
    assert (chunk.data, chunk.offset, chunk.next, chunk.size) == (b"", size, size, size)
    assert api.log_chunk(job, -(2**62)).offset == 0


def test_logs_while_the_task_writes(api: TaskAPI, waiting: Any, tmp_path: Path) -> None:
    job = waiting()
    lines = api.logs(job, follow=True)
    assert next(lines) == "waiting"
    (tmp_path / "go").touch()
    assert list(lines) == []
    assert job.refresh().status == "succeeded"


FILES = """
import os, pathlib

def task(config):
    out = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])
    (out / "sub").mkdir()
    (out / "sub" / "model ü.bin").write_bytes(bytes(range(256)))
    (out / "empty").touch()
    os.symlink("/etc/passwd", out / "link")
    os.symlink("sub", out / "inside")
    os.mkfifo(out / "fifo")
"""


DEEP = """
import os

def task(config):
    os.chdir(os.environ["TASKAPI_OUTPUT_DIR"])
    open("first", "w").close()
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    open("last", "w").close()
"""


def test_deep_folders(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, DEEP))
    job = api.submit(name).wait(30)
    assert job.status == "succeeded", api.logs(job)
    files = job.files()
    assert [entry.path for entry in files] == ["first"]
    if ENGINE == "ray":  # what lies deeper is not stored
        assert "not all of its files were stored: what lies more than 100 folders deep" in (job.reason or "")
    else:
        assert files.truncated is not None
        assert "more than 100 folders deep" in files.truncated
        assert files.truncated in repr(files)
        assert api.read_file(job, "d/" * 1100 + "last") == b""
    assert api.forget(job) == f"deleted job {job.id}"


def test_files(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, FILES))
    job = api.submit(name).wait(30)
    assert job.status == "succeeded", api.logs(job)
    assert [(entry.path, entry.size) for entry in api.files(job)] == [("empty", 0), ("sub/model ü.bin", 256)]
    assert api.read_file(job, "sub/model ü.bin") == bytes(range(256))
    assert api.read_file(job, "empty") == b""
    for path in (
        "absent",
        "sub",
        "link",
        "fifo",
        "../log",
        "..",
        "sub/../../job.json",
        "/etc/passwd",
        "",
        ".",
    ):
        with pytest.raises(NotFound):
            api.read_file(job, path)


def test_progress(api: TaskAPI, name: str, tmp_path: Path) -> None:
    source = """
import pathlib, time
from taskapi_jupyter.job import progress

def task(config):
    progress(1, 4, "begun")
    print("said", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""
    api.deploy_request(request_for(name, source))
    job = api.submit(name, {"path": str(tmp_path / "go")})
    said = until(lambda: job.refresh().progress, "the task to say how far it is")
    assert (said.done, said.total, said.message) == (1, 4, "begun")
    assert job.record.worker_counts == {"ready": 1}
    (tmp_path / "go").touch()
    job.wait(30)
    assert job.progress is not None
    assert job.progress.message == "begun"
    assert not job.record.worker_counts


# Together


def test_many_threads_at_once(api: TaskAPI, echo: Any) -> None:
    name = echo(api)
    results: list[Any] = []

    def run(n: int) -> None:
        results.append(api.submit(name, {"n": n}).result(60)["n"])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(8))


def test_errors_are_taskapi_errors_with_a_kind(api: TaskAPI) -> None:
    with pytest.raises(TaskAPIError) as caught:
        api.submit("absent")
    assert (caught.value.kind, caught.value.status) == ("resources.api_not_deployed", 404)
    assert json.dumps(caught.value.message) == '"absent is not deployed"'
