"""A Cortex cluster through the client: both versions' shapes, races, logs, and what a cluster does not keep."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import PATIENCE, until
from support.cortex_double import Operator
from support.notebooks import code, put
from taskapi_jupyter.client.environments_file import EnvironmentFile
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    JobNotFound,
    JobNotInProgress,
    NotKept,
    TaskAPIError,
    Unreachable,
)
from taskapi_jupyter.cortex.client import CortexClient
from taskapi_jupyter.deploy.prepare import Source
from taskapi_jupyter.environments import connect

VERSIONS = ["0.28.0", "0.42.1"]
CELL = "def task(config):\n    print(config)\n"


def configure(home: Path, operator: Operator, **fields: Any) -> None:
    """Make an operator the environment ``prod`` of a home."""
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, **fields}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def operator(version: str) -> Iterator[Operator]:
    """Return a cluster whose jobs do what the test says."""
    with Operator(version, manual=True) as operator:
        yield operator


@pytest.fixture
def api(home: Path, operator: Operator, version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CortexClient]:
    """Return a client that speaks to it directly, with an API deployed."""
    for name in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)
    configure(home, operator, version=version)
    client = connect("prod")
    assert isinstance(client, CortexClient)
    client.deploy(Source(CELL), name="hello")
    yield client
    client.close()


def test_one_job_from_begin_to_end(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello", {"a": 1}, 60)
    assert (job.status, job.api_name, job.config, job.record.timeout) == ("pending", "hello", {"a": 1}, 60)
    assert job.created_time is not None
    assert job.start_time is None
    operator.start(job.id)
    assert job.refresh().status == "running"
    assert job.end_time is None
    operator.finish(job.id, "succeeded")
    assert job.wait(PATIENCE).status == "succeeded"
    assert job.end_time is not None
    assert job.endpoint is not None
    assert job.endpoint.endswith(f"?jobID={job.id}")
    assert api.get("hello", job.id) == job


def test_a_notebook_is_refused(api: CortexClient, operator: Operator, tmp_path: Path) -> None:
    path = put(tmp_path / "report.ipynb", code("1"))
    for target in (path, {"name": "report", "definition": {"path": "report.ipynb"}}):
        with pytest.raises(BadRequest, match="report: notebooks run on `local` environments, not on a Cortex cluster"):
            api.deploy(target, cwd=tmp_path)
    assert [one.name for one in api.get()] == ["hello"]


def test_a_dry_run_sends_nothing(api: CortexClient, operator: Operator) -> None:
    sent = len(operator.requests)
    with pytest.raises(NotKept, match="prod is a Cortex cluster, which can't tell what a deploy would do"):
        api.deploy(Source(CELL), name="hello", dry_run=True)
    with pytest.raises(NotKept, match="prod is a Cortex cluster, whose jobs run in images"):
        api.kernels()
    assert len(operator.requests) == sent


@pytest.mark.parametrize("status", ["worker_error", "worker_oom", "timed_out", "stopped"])
def test_every_end_is_read(api: CortexClient, operator: Operator, status: str) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    operator.finish(job.id, status)
    assert job.wait(PATIENCE).status == status


def test_values_of_python_are_sent_as_those_of_json(api: CortexClient, operator: Operator) -> None:
    api.submit("hello", {"day": date(2024, 5, 6), "data": [Path("/data")]})
    assert json.loads(operator.requests[-1].body)["config"] == {"day": "2024-05-06", "data": ["/data"]}
    with pytest.raises(BadRequest, match=r"config\.lr is nan, which JSON can't carry"):
        api.submit("hello", {"lr": float("nan")})


def test_what_was_sent(api: CortexClient, operator: Operator, version: str) -> None:
    api.submit("hello", {"a": 1}, notebook="mine.ipynb")
    asked = operator.requests[-1]
    assert (asked.method, asked.path) == ("POST", "/tasks/hello")
    assert b"mine.ipynb" not in asked.body
    assert asked.header("CortexAPIVersion") == []
    api.get()
    assert operator.requests[-1].header("CortexAPIVersion") == [version]


def test_apis_are_listed(api: CortexClient, operator: Operator, version: str) -> None:
    operator.other_kinds = True
    job = api.submit("hello")
    operator.start(job.id)
    assert [one.name for one in api.get()] == ["hello"]
    one = api.get("hello")
    assert one.name == "hello"
    assert one.api_id
    assert [record.job_id for record in one.task_job_statuses] == [job.id]
    assert one.task_job_statuses[0].status == "running"
    assert one.endpoint is not None
    assert api.get_version("hello", one.api_id).spec
    with pytest.raises(APINotDeployed):
        api.get("nothing")


def test_the_load_balancers_address_where_the_cluster_does_not_say(
    home: Path, operator: Operator, api: CortexClient, version: str
) -> None:
    configure(home, operator, version=version, api_endpoint="https://api.example/")
    (one,) = connect("prod").get()
    assert one.endpoint is not None
    if version == "0.42.1":
        assert one.endpoint == "https://api.example/hello"


def test_jobs_newest_first_by_pages_and_states(api: CortexClient, operator: Operator) -> None:
    api.deploy(Source(CELL), name="other")
    jobs = [api.submit(name) for name in ("hello", "other", "hello")]
    for job in jobs[:2]:
        operator.start(job.id)
    operator.finish(jobs[0].id, "succeeded")
    newest = [job.id for job in reversed(jobs)]
    assert [job.id for job in api.jobs()] == newest
    assert [job.id for job in api.jobs("hello")] == [newest[0], newest[2]]
    assert [job.id for job in api.jobs(status=["running"])] == [newest[1]]
    assert [job.id for job in api.jobs(status="succeeded")] == [newest[2]]
    page = api.jobs(limit=2)
    assert [job.id for job in page] == newest[:2]
    rest = api.jobs(limit=2, cursor=page.next_cursor)
    assert ([job.id for job in rest], rest.next_cursor) == (newest[2:], None)
    assert api.jobs("nothing") == []


def test_words_for_jobs(api: CortexClient, operator: Operator) -> None:
    jobs = [api.submit("hello") for _ in range(2)]
    resolver = Resolver(api, {"mine": jobs[0]}, None)
    assert resolver.many(["mine"]) == [jobs[0]]
    assert resolver.one(["last"]) == jobs[1]
    assert resolver.one([jobs[0].id]) == jobs[0]
    assert resolver.one(["hello", jobs[0].id]) == jobs[0]
    assert resolver.one([jobs[0].id[-9:]]) == jobs[0]
    stranger = connect("prod")
    assert Resolver(stranger, {}, None).one([jobs[0].id]).api_name == "hello"
    with pytest.raises(JobNotFound):
        Resolver(stranger, {}, None).one(["7fffffffffffffff"])


def test_stop_and_delete(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    assert job.stop() == f"stopped job {job.id}"
    assert job.status == "stopped"
    with pytest.raises(JobNotInProgress):
        api.stop(job)
    assert "hello" in api.delete("hello")
    with pytest.raises(APINotDeployed):
        api.submit("hello")


# Races


def test_a_job_that_is_not_known_yet(api: CortexClient, operator: Operator) -> None:
    operator.lag = 3
    job = api.submit("hello")
    assert job.refresh().status == "pending"
    operator.lag = 3
    assert connect("prod").job_response(api.submit("hello").id, "hello").job_status.status == "pending"  # by its id


def test_a_failure_that_is_none(api: CortexClient, operator: Operator) -> None:
    operator.spurious = 3
    job = api.submit("hello")
    operator.start(job.id)
    assert job.refresh().status == "running"


def test_a_stop_waits_until_the_cluster_knows_the_job(api: CortexClient, operator: Operator) -> None:
    operator.lag = 3
    assert api.submit("hello").stop().startswith("stopped job")


def test_an_old_job_is_believed_at_once(api: CortexClient, operator: Operator) -> None:
    began = time.monotonic()
    with pytest.raises(JobNotFound):
        api.job_response(f"{(1 << 63) - 1 - (time.time_ns() - 3600 * 10**9):016x}", "hello")
    asked = [one for one in operator.requests if "jobID" in one.path]
    assert len(asked) == 1, f"asked again for {time.monotonic() - began:.1f} s"


def test_a_submission_is_never_repeated(api: CortexClient, operator: Operator) -> None:
    operator.quirk("reset", path="/tasks/")
    with pytest.raises(Unreachable):
        api.submit("hello")
    assert len(operator.jobs) == 1


# Logs


def follow(lines: Iterator[str], into: list[str]) -> threading.Thread:
    def read() -> None:
        into.extend(lines)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def test_a_log_is_followed(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello")
    heard: list[str] = []

    def read() -> None:
        for line in api.logs(job, follow=True):
            heard.append(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    operator.start(job.id)
    operator.log(job.id, "one")
    until(lambda: heard == ["one"], "the first line")
    operator.log(job.id, "zwölf <b>")
    until(lambda: heard == ["one", "zwölf <b>"], "the second line")
    operator.finish(job.id, "succeeded")
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_last_lines_and_what_follows(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    for number in range(5):
        operator.log(job.id, f"line {number}")
    assert api.logs(job) == "".join(f"line {number}\n" for number in range(5))
    assert api.logs(job, 2) == "line 3\nline 4\n"
    heard: list[str] = []
    there = len(operator.sockets)
    thread = follow(api.logs(job, 1, follow=True), heard)
    until(lambda: len(operator.sockets) > there, "the log to be followed")
    operator.finish(job.id, "succeeded")
    thread.join(PATIENCE)
    assert heard == ["line 4"]


def test_a_bar_comes_in_its_states(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    operator.log(job.id, "start")
    operator.log(job.id, "\r 1%\r 2%\r 3%")
    assert api.logs(job) == "start\n\r 1%\r 2%\r 3%\n"
    assert api.logs(job, 2) == "start\n 3%\n"
    assert api.logs(job, 1) == " 3%\n"
    heard: list[str] = []
    thread = follow(api.logs(job, follow=True), heard)
    until(lambda: heard == ["start", " 3%"], "the log of a job that runs on")
    operator.finish(job.id, "succeeded")
    thread.join(PATIENCE)
    assert heard == ["start", " 3%"]


def test_of_a_long_log_the_newest_part_is_followed(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    for number in range(300):
        operator.log(job.id, f"line {number} {'x' * 9000}")
    heard: list[str] = []
    thread = follow(api.logs(job, follow=True), heard)
    until(lambda: heard and heard[-1].startswith("line 299 "), "its end")
    operator.finish(job.id, "succeeded")
    thread.join(PATIENCE)
    assert heard[0] == "[... 1.6 MiB of output are left out here; job.logs() returns all ...]"
    assert len("\n".join(heard)) < 1_100_000


def test_no_log_before_the_pod_is_there(api: CortexClient) -> None:
    assert api.logs(api.submit("hello")) == ""


def test_the_log_of_an_ended_job(api: CortexClient, operator: Operator, version: str, capsys: Any) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    operator.finish(job.id, "succeeded")
    with pytest.raises(NotKept, match="while it runs") as raised:
        api.logs(job)
    assert ("http" in str(raised.value)) == (version == "0.42.1")  # which says where it has them
    with pytest.raises(NotKept):
        list(api.logs(job, follow=True))
    assert (job.logs(), list(job.logs(follow=True))) == ("", [])
    assert capsys.readouterr().err.count("while it runs") == 2


# What a cluster does not keep


def test_results_and_files_are_no_failure(api: CortexClient, operator: Operator, capsys: Any) -> None:
    job = api.submit("hello")
    operator.start(job.id)
    operator.finish(job.id, "succeeded")
    assert job.result() is None
    assert job.files() == []
    assert len(job.metrics("loss")) == len(job.usage()) == 0
    assert "keeps no result" in capsys.readouterr().err
    notebook = (api.notebook, api.kernel, api.resume, api.end_kernel)
    for call in (api.result, api.files, api.metrics, api.usage, api.forget, api.log_chunk, api.purge, *notebook):
        with pytest.raises(NotKept, match="prod is a Cortex cluster"):
            call(job)
    for built in (api.packages, api.purge_packages, lambda: api.delete_packages("abcd")):
        with pytest.raises(NotKept, match="prod is a Cortex cluster, which builds no environments"):
            built()
    with pytest.raises(NotKept):
        api.read_file(job, "x")


def test_rerun(api: CortexClient, operator: Operator) -> None:
    job = api.submit("hello", {"a": [1]}, 60)
    again = job.rerun()
    assert again != job
    assert (again.config, again.record.timeout) == ({"a": [1]}, 60)


# Deploys


def test_a_cell(api: CortexClient, operator: Operator, version: str) -> None:
    (result,) = api.deploy(Source(CELL), name="second", config={"a": 1})
    assert result.message
    asked = [one for one in operator.requests if one.method == "POST"][-1]
    assert asked.path.startswith("/deploy?")
    assert (b"project.zip" in asked.body) == (version == "0.28.0")
    assert "second" in operator.apis


def test_a_file_with_its_project(api: CortexClient, operator: Operator, version: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "task.py").write_text("import util\nclass Task:\n    def __call__(self, config): ...\n")
    (project / "util.py").write_text("")
    definition = "definition: {path: task.py}"
    pod = "pod: {containers: [{name: a, image: b, command: [c]}]}"
    shape = definition if version == "0.28.0" else pod
    (project / "cortex.yaml").write_text(f"- {{name: filed, kind: TaskAPI, {shape}}}\n")
    api.deploy(project)
    body = [one for one in operator.requests if one.method == "POST"][-1].body
    assert (b"util.py" in body) == (version == "0.28.0")
    assert "filed" in operator.apis


def test_a_deploy_that_the_cluster_refuses(api: CortexClient, operator: Operator, version: str) -> None:
    wrong = {"definition": {"path": "x.pickle"}} if version == "0.28.0" else {"pod": {}}
    before = len(operator.apis)
    with pytest.raises(BadRequest):
        api.deploy({"name": "wrong", "kind": "TaskAPI", **wrong})
    assert len(operator.apis) == before


# Faults


@pytest.mark.parametrize("fault", ["reset", "half", "wrong_json"])
def test_faults_are_sentences(api: CortexClient, operator: Operator, fault: str) -> None:
    operator.quirk(fault)
    with pytest.raises(Unreachable, match=r"environment prod \(http"):
        api.get()
    operator.quirks.clear()
    assert api.get()


def test_a_slow_cluster(home: Path, operator: Operator, api: CortexClient, version: str) -> None:
    configure(home, operator, version=version, timeout=0.2)
    operator.quirk("hang")
    with pytest.raises(Unreachable, match=r"environment prod .* did not answer within 0\.2 s"):
        connect("prod").get()


def test_a_cluster_that_is_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKAPI_URL", raising=False)
    with Operator("0.42.1") as operator:
        configure(home, operator, version="0.42.1")
    with pytest.raises(Unreachable, match=r"environment prod .*operator is up"):
        connect("prod").get()


def test_the_wrong_version(home: Path, operator: Operator, api: CortexClient) -> None:
    configure(home, operator, version="0.40.0")
    with pytest.raises(TaskAPIError, match=r"0\.40\.0"):
        connect("prod").get()


def test_the_version_is_found_out(home: Path, operator: Operator, api: CortexClient, version: str) -> None:
    configure(home, operator)
    client = connect("prod")
    assert [one.name for one in client.get()] == ["hello"]
    assert isinstance(client, CortexClient)
    assert client.version() == version


def test_environment_file_is_what_connect_reads(home: Path, operator: Operator, api: TaskAPI) -> None:
    assert EnvironmentFile(home).read().find("prod").operator_endpoint == operator.url
    assert (api.environment, api.provider) == ("prod", "cortex")
    assert operator.url in repr(api)


def test_a_large_answer(api: CortexClient, operator: Operator) -> None:
    operator.quirk("big")
    assert [one.name for one in api.get()] == ["hello"]


# Who we are


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process AWS credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def test_a_cluster_that_wants_proof(home: Path, aws: None) -> None:
    with Operator("0.42.1", auth=True) as operator:
        configure(home, operator)
        client = connect("prod")
        client.deploy(Source(CELL), name="hello")
        assert [one.name for one in client.get()] == ["hello"]
        job = client.submit("hello")
        operator_saw = [one for one in operator.requests if one.path.startswith("/tasks/")]
        assert job.wait(PATIENCE).status == "succeeded"
        assert not [one for one in operator_saw if one.header("X-Cortex-Authorization")]  # not where none is asked for
        operator.expired = True
        with pytest.raises(TaskAPIError, match="expired"):
            client.get()
        operator.expired, operator.other_account = False, True
        with pytest.raises(TaskAPIError) as raised:
            client.get()
        assert raised.value.kind == "endpoints.auth_other_account"


def test_a_cluster_that_wants_proof_and_there_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with Operator("0.42.1", auth=True) as operator:
        configure(home, operator, version="0.42.1")
        with pytest.raises(TaskAPIError, match="X-Cortex-Authorization"):
            connect("prod").get()


def test_functions_are_called_at_the_ends_that_polling_sees(api: CortexClient, operator: Operator) -> None:
    jobs = [api.submit("hello") for _ in range(3)]
    group, seen = api.map("hello", [{}]), list[tuple[str, str]]()
    for one in (*jobs, group):
        one.on_done(lambda one: seen.append((one.id, getattr(one, "status", "group"))))
    for job, end in ((jobs[2], "worker_error"), (jobs[1], "succeeded"), (group[0], "succeeded")):
        operator.start(job.id)
        operator.finish(job.id, end)
    until(lambda: len(seen) == 3, "three to be called")
    assert {*seen} == {(jobs[2].id, "worker_error"), (jobs[1].id, "succeeded"), (group.id, "group")}


def test_a_group_is_known_to_this_process_alone(api: CortexClient, operator: Operator) -> None:
    group = api.sweep("hello", {"a": [1, 2]}, fixed={"b": 3}, name="mine")
    assert [job.config for job in group] == [{"b": 3, "a": 1}, {"b": 3, "a": 2}]
    first, second = group
    assert (group[1].id, group.id, api.group("mine"), len(group)) == (second.id, f"g{first.id}", group, 2)
    for job, end in ((first, "succeeded"), (second, "worker_error")):
        operator.start(job.id)
        operator.finish(job.id, end)
    assert group.wait(PATIENCE).counts == {"succeeded": 1, "worker_error": 1}
    assert [(row["a"], row["status"]) for row in group.rows()] == [(1, "succeeded"), (2, "worker_error")]
    assert sorted(job.record.index or 0 for job in group.as_completed(PATIENCE)) == [0, 1]
    again = group.rerun()
    assert [job.config for job in again] == [{"b": 3, "a": 2}]
    assert again.stop() == f"stopped 1 job of group {again.id}"
    for ask in (api.groups, group.forget, lambda: api.jobs(group="mine"), lambda: connect("prod").group("mine")):
        with pytest.raises(NotKept, match="environment prod keeps no groups: a Cortex cluster knows single jobs"):
            ask()
    for name in ("max_running", "retries", "priority"):
        with pytest.raises(BadRequest, match=f"prod is a Cortex cluster, which has no {name}"):
            api.map("hello", [{}], **{name: 2})  # type: ignore[arg-type]


def test_a_group_that_was_sent_in_part(api: CortexClient, operator: Operator) -> None:
    def delete() -> None:
        until(lambda: len(operator.jobs) >= 2, "some to be submitted")
        api.delete("hello")

    deleting = threading.Thread(target=delete)
    deleting.start()
    with pytest.raises(TaskAPIError, match=r"not deployed.*; \d+ of 5000 jobs were submitted before: ") as caught:
        api.map("hello", ({"n": n} for n in range(5000)))
    deleting.join()
    told = str(caught.value).partition("; ")[2]
    count, ids = int(told.split()[0]), told.partition("before: ")[2].split(", ")
    assert 2 <= count == len(ids) < 5000
    assert set(ids) <= set(operator.jobs)
