"""Jobs that wait for others, in Python: on this machine and over HTTP, in a notebook, in magics and a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from IPython.core.error import UsageError

from support import PATIENCE, request_for
from support.kernels import Kernel
from support.notebooks import code, put
from support.program import answer
from support.program import run as program
from support.shells import Run
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import Environment
from taskapi_jupyter.core.errors import BadRequest, Conflict, GroupNotFound, JobFailed, JobNotFound
from taskapi_jupyter.cortex.client import CortexClient
from taskapi_jupyter.display.text import job_text
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui.magics.complete import Completer

ADD = """
import pathlib, time

def task(config):
    while config.get("go") and not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    if config.get("fails"):
        raise ValueError("no")
    return config.get("a", 0) + config.get("b", 0)
"""
SMALL = {"compute": {"cpu": "10m"}}


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest, name: str) -> Iterator[TaskAPI]:
    """Return a TaskAPI with the API of this test: of this machine, or of a server over HTTP."""
    if request.param == "service":
        service: Service = request.getfixturevalue("service")
        service.deploy_request(request_for(name, ADD, **SMALL))
        yield service
        return
    server = request.getfixturevalue("live_server")
    client = Client(server.taskapi, server.token)
    client.deploy_request(request_for(name, ADD, **SMALL))
    yield client
    client.close()


def test_it_waits(api: TaskAPI, name: str, tmp_path: Path) -> None:
    go = {"go": str(tmp_path / "go")}
    first = api.submit(name, {"a": 1, **go})
    group = api.map(name, [{"a": 2, **go}, {"a": 3, **go}])
    second = api.submit(name, {"a": first, "b": 10}, after=[group, first.id[-6:]])
    third = api.submit(name, {"b": 100}, after="last", results={"a": second})
    fails = api.submit(name, {"fails": True}, after=third.id)
    anyway = api.submit(name, {"b": 1}, after=[fails, third], after_any=True)
    last = api.submit(name, {"b": 1}, after=[fails, third])
    assert (last.refresh().status, last.reason) == ("pending", "waits for 2 jobs")
    assert second.refresh().reason == "waits for 3 jobs"
    record = second.record
    assert (record.after, record.inputs, bool(record.after_any)) == ([group.id, first.id], {"a": first.id}, False)
    text = job_text(record)
    assert f"after:     {group.id}, {first.id} (as a)" in text
    assert "reason:    waits for 3 jobs" in text
    Path(go["go"]).touch()
    assert (second.result(PATIENCE), third.result(PATIENCE)) == (11, 111)
    assert anyway.result(PATIENCE) == 1
    assert last.wait(PATIENCE).status == "stopped"
    assert last.reason == f"after {fails.id[-4:]}: worker_error"
    with pytest.raises(JobFailed, match=f"stopped, after {fails.id[-4:]}: worker_error"):
        last.result()
    assert f"after {fails.id[-4:]}: worker_error" in repr(api.jobs(name))
    assert (second.config or {}).keys() == {"b"}
    assert second.rerun().result(PATIENCE) == 11
    first.forget()
    with pytest.raises(Conflict, match=first.id):
        second.rerun()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"after": "f" * 16}, JobNotFound, "unable to find TaskAPI job ffffffffffffffff"),
        ({"after": "g" + "f" * 16}, GroupNotFound, "no group gffffffffffffffff"),
        ({"after": ["f" * 6]}, BadRequest, "no job's id ends in ffffff"),
        ({"after": ["nothing"]}, BadRequest, "no job 'nothing': give an id"),
        ({"after_any": True}, BadRequest, "give after, too"),
        ({"results": {"a": "f" * 16}}, BadRequest, "a is in config and in results: leave one out"),
        ({"results": {"b": "f" * 16}}, JobNotFound, "ffffffffffffffff"),
        ({"results": {1: "f" * 16}}, BadRequest, "the keys of results must be text, not 1"),
    ],
)
def test_bad_input(api: TaskAPI, name: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        api.submit(name, {"a": 1}, **options)
    assert words in str(raised.value)
    assert api.jobs(name) == []


def test_a_job_of_elsewhere(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, ADD, **SMALL))
    job = service.submit(name)
    elsewhere = Client("http://127.0.0.1:9/taskapi/other", "x", environment="other")
    for options in ({"after": job}, {"config": {"a": job}}):
        with pytest.raises(BadRequest, match=f"job {job.id} is of environment local, and a job in other can wait only"):
            elsewhere.submit(name, **options)  # type: ignore[arg-type]
    elsewhere.close()


def test_a_cluster_refuses() -> None:
    cluster = CortexClient("http://127.0.0.1:9", environment=Environment("prod", "cortex"))
    for options in ({"after": "f" * 16}, {"results": {"a": "f" * 16}}, {"after_any": True}):
        with pytest.raises(BadRequest, match="prod is a Cortex cluster, whose jobs can't wait for others: wait for"):
            cluster.submit("train", {"x": 1}, **options)  # type: ignore[arg-type]
    cluster.close()


def test_a_ray_cluster_without_a_storage(home: Path) -> None:
    service = RayService(home / "ray", environment="ray", address="http://127.0.0.1:9")
    with pytest.raises(BadRequest, match="environment ray has no storage, so results and files of its jobs are not"):
        service.submit("train", results={"a": "f" * 16})
    service.close()


def test_a_decorated_function(notebook: Kernel) -> None:
    code = """
    import taskapi_jupyter
    @taskapi_jupyter.task(cpu=0.01)
    def add(a, b=1):
        return a + b
    @taskapi_jupyter.task(cpu=0.01)
    def odd():
        return {1, 2}
    first = add.submit(1)
    result = add.submit(first, b=add.submit(first)).result()
    ended = add.submit(odd.submit()).wait()
    """
    assert not notebook.show(dedent(code)).error
    shown = "print(result, ended.status, ended.reason.partition(': the result of job ')[0])"
    assert notebook.run(shown) == "5 stopped can't get a\n"


def test_magics(notebook: Kernel) -> None:
    for line in (
        "%%taskapi deploy add --cpu 10m\ndef task(config): return config.get('a', 0) + config['b']",
        "first = %taskapi submit add b=1",
        "second = %taskapi submit add a=$first b=10 --after first",
        "config = {'a': second, 'b': 100}",
        "third = %taskapi submit add --config $config --after first,second --after $second --after-any",
        "fourth = %taskapi submit add b=1000 --result a=third --wait",
    ):
        assert not notebook.show(line).error, line
    assert (
        notebook.run("print(fourth.result(), third.refresh().record.after == [first.id, second.id])") == "1111 True\n"
    )
    assert notebook.run("print(fourth.refresh().record.inputs == {'a': third.id}, second.config)") == "True {'b': 10}\n"


def test_mistakes_in_magics(run: Run) -> None:
    run("%%taskapi deploy add --cpu 10m\ndef task(config): return config['b']").value()
    job = run("job = %taskapi submit add b=1\njob").value()
    planned = run("%taskapi submit add b=$job --dry-run").value()
    assert planned.configs == [{"b": f"result of {job.id}"}]
    for line, kind, said in (
        ("b=[1,2] --sweep --after job", UsageError, "--after is for a single job: a group can't wait for others"),
        ("b=[1,2] --sweep --result a=job", UsageError, "--result is for a single job"),
        ("b=1 --after nothing", UsageError, "no job 'nothing'"),
        ("b=1 --after", UsageError, "--after needs a value: --after JOB[,JOB]"),
        ("b=1 --result job", UsageError, "write --result KEY=JOB, not 'job'"),
        ("b=1 --after-any", BadRequest, "give after, too"),
        ("b=$job --result b=job", BadRequest, "b is in config and in results"),
    ):
        error = run(f"%taskapi submit add {line}").error
        assert isinstance(error, kind), (line, error)
        assert said in str(error)
    assert [one.id for one in run("%taskapi status --limit 5").value()] == [job.id]
    assert "--after JOB[,JOB]" in run("%taskapi help submit").out


def test_tab_knows_jobs(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, ADD, **SMALL))
    complete = Completer(lambda what: {"jobs": ["1a2b3c"], "apis": [name]}.get(what, ()), {"job": service.submit(name)})
    assert complete.complete(f"%taskapi submit {name} --after ") == ["last", "job", "1a2b3c"]
    assert complete.complete("%taskapi submit ") == [name]
    assert {"--after", "--after-any", "--result"} <= set(complete.complete(f"%taskapi submit {name} -"))


def test_a_result_is_a_parameter_of_a_notebook(run: Run, tmp_path: Path) -> None:
    kept = code("from taskapi_jupyter.job import glue\nglue('seen', [data, lr])")
    path = put(tmp_path / "report.ipynb", code("data = None\nlr = 1", tags=["parameters"]), kept)
    run("%%taskapi deploy add --cpu 10m\ndef task(config): return {'k': [1, 2]}").value()
    run("job = %taskapi submit add")
    done = run(f"%taskapi submit {path} data=$job lr=3 --wait").value()
    assert done.result() == {"seen": [{"k": [1, 2]}, 3]}
    error = run(f"%taskapi submit {path} --result nope=job").error
    assert "there is no parameter 'nope': it takes lr, data" in str(error)


def test_a_terminal(home: Path, tmp_path: Path) -> None:
    (tmp_path / "add.py").write_text(ADD)
    (tmp_path / "cortex.yaml").write_text(
        "- name: add\n  kind: TaskAPI\n  definition: {path: add.py}\n  compute: {cpu: 10m}\n"
    )
    assert program("deploy", str(tmp_path / "cortex.yaml")).returncode == 0
    first = answer("submit", "add", "a=1")["job_status"]["job_id"]
    second = answer("submit", "add", "b=2", "--after", f"{first[-6:]},last", "--result", f"a={first[-6:]}")
    done = answer("submit", "add", "b=3", "--result", f"a={second['job_status']['job_id']}", "--after-any", "--wait")
    assert done["job_status"]["inputs"] == {"a": second["job_status"]["job_id"]}
    assert answer("result", done["job_status"]["job_id"]) == 6
    planned = answer("submit", "add", "b=3", "--result", "a=last", "--dry-run")
    assert planned == [{"b": 3, "a": "result of last"}]
    for words, said in (
        (["b=[1,2]", "--sweep", "--after", "last"], "--after and --result are for a single job"),
        (["--result", "last"], "write NAME=VALUE, not 'last'"),
        (["--after", "nothing"], "no job 'nothing'"),
        (["b=1", "--result", "b=last"], "b is in config and in results: leave one out"),
    ):
        refused = program("submit", "add", *words)
        assert refused.returncode != 0
        assert said in refused.stderr
