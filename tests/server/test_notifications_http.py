"""The routes for notifications, the client that uses them, and the verbs of magics and terminal."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ECHO, PATIENCE, WAITING, request_for, until
from support.homes import configured
from support.program import answer, run
from support.receiver import SECRET, Receiver, receiver
from support.routes import ABSENT, check, deploy, is_error
from support.servers import Answer, LiveServer
from support.shells import Ran
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.contract import Environment
from taskapi_jupyter.core.errors import BadRequest, Conflict, JobNotFound, NotKept
from taskapi_jupyter.cortex.client import CortexClient
from taskapi_jupyter.service.service import Service

Call = Callable[..., Awaitable[Answer]]

DELIVERY = {
    "id": str, "name": str, "job_id": str, "event": str, "time": str, "state": str, "attempts": int,
    "next_time": type(None), "answer": str,
}  # fmt: skip


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def named(hook: Receiver) -> str:
    entry = json.dumps({"url": hook.url, "secret": SECRET, "on": ["failed"]})
    return f"stop_grace: 1\nnotify:\n  ops: {entry}\n"


async def test_by_its_routes(call: Call, home: Path, hook: Receiver, tmp_path: Path) -> None:
    (home / "config.yaml").write_text(named(hook))
    assert (await call("GET", "local/notifications")).json == {
        "names": [{"name": "ops", "url": f"http://localhost:{hook.port}/...", "on": ["failed"]}],
        "deliveries": [],
    }
    tested = await call("POST", "local/notifications/test/ops")
    check(tested.json, DELIVERY)
    assert (tested.status, tested.json["state"], tested.json["answer"]) == (200, "sent", "204 No Content")
    assert hook.verified()[0]["type"] == "taskapi.test"
    is_error(await call("POST", "local/notifications/test/opps"), "error")
    await deploy(call, "waits", WAITING)
    refused = await call("POST", "local/tasks/waits", {"notify": ["opps"]})
    is_error(refused, "error", "config.yaml has no notification opps; there are: ops, browser")
    assert (await call("GET", "local/jobs")).json["jobs"] == []
    job = (await call("POST", "local/tasks/waits", {"config": {"path": str(tmp_path / "go")}, "notify": []})).json
    path = f"local/jobs/{job['job_id']}"
    is_error(await call("POST", f"{path}/notify", {"names": ["opps"]}), "error")
    is_error(await call("POST", f"{path}/notify", {"names": "ops"}), "error")
    is_error(await call("POST", f"local/jobs/{ABSENT}/notify", {"names": ["ops"]}), "job.not_found", status=404)
    said = await call("POST", f"{path}/notify", {"names": ["ops", "browser"]})
    assert said.json == {"message": f"job {job['job_id']} notifies ops, browser when it ends"}
    assert (await call("GET", path)).json["job_status"]["notify"] == ["ops", "browser"]
    (tmp_path / "go").touch()
    service = Service(home)
    until(lambda: service.notifications().deliveries, "the end")
    until(lambda: service.notifications().deliveries[0].state == "sent", "the delivery")
    service.close()
    found = (await call("GET", "local/notifications?name=ops&limit=1")).json
    check(found["deliveries"][0], DELIVERY)
    assert found["names"][0]["last"] == found["deliveries"][0]
    status = (await call("GET", path)).json["job_status"]
    assert status["notifications"] == [{"name": "ops", "state": "sent"}]
    is_error(await call("POST", f"{path}/notify", {"names": []}), "job.job_is_not_in_progress", status=409)
    is_error(await call("GET", "local/notifications?name=opps"), "error")
    is_error(await call("GET", "local/notifications?limit=0"), "error")
    listed = (await call("GET", "local/jobs")).json["jobs"]
    assert "notifications" not in listed[0]
    for text in (repr(found), repr(status), repr(listed)):
        assert "kept-for-us" not in text


def test_by_the_client(live_server: LiveServer, hook: Receiver, name: str, tmp_path: Path) -> None:
    client = Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, WAITING))
    with configured(live_server.home, named(hook)):
        assert [one.name for one in client.notifications().names] == ["ops"]
        assert client.test_notification("ops").state == "sent"
        with pytest.raises(BadRequest, match="there are: ops, browser"):
            client.test_notification("opps")
        with pytest.raises(BadRequest, match="there are: ops, browser"):
            client.submit(name, notify=["opps"])
        job = client.submit(name, {"path": str(tmp_path / "go")}, notify=["ops"])
        group = client.map(name, [{"path": str(tmp_path / "go")}], notify=["ops"])
        assert client.notify(job, []) == f"job {job.id} notifies nobody when it ends"
        (tmp_path / "go").touch()
        job.wait(PATIENCE)
        group.wait(PATIENCE)
        (last,) = hook.wait(2)[1:]
        assert last.data["job_id"] == group[0].id
        assert last.data["url"] == f"{live_server.taskapi}/tasks/{name}?jobID={group[0].id}"
        with pytest.raises(Conflict, match="has ended"):
            client.notify(job, ["ops"])
        with pytest.raises(JobNotFound):
            client.notify(ABSENT, ["ops"])
        until(lambda: client.notifications("ops").deliveries[0].state == "sent", "the delivery to be noted")
    client.close()


def test_a_cortex_cluster_sends_none() -> None:
    client = CortexClient("http://127.0.0.1:1", environment=Environment("prod", "cortex"))
    for call in (client.notifications, lambda: client.test_notification("ops"), lambda: client.notify("1a2b", [])):
        with pytest.raises(NotKept, match=r"job\.on_done"):
            call()


def test_in_a_terminal(service: Service, hook: Receiver, tmp_path: Path) -> None:
    (service.home / "config.yaml").write_text(named(hook))
    service.deploy_request(request_for("waits", WAITING))
    assert (tested := run("notify", "test", "ops")).stdout == "ops: sent: 204 No Content\n", tested.stderr
    hook.answers += [500]
    assert run("notify", "test", "ops").returncode == 1
    unknown = run("notify", "test", "opps")
    assert (unknown.returncode, "there are: ops" in unknown.stderr) == (1, True)
    go = f"path={tmp_path / 'go'}"
    for words, expected in (
        ([go, "--notify", "ops"], ["ops"]),
        (["--notify", go], ["browser"]),
        ([go, "--notify", "off"], []),
        ([go], None),
    ):
        job = answer("submit", "waits", *words)["job_status"]
        assert job.get("notify") == expected
    said = run("notify", "job", "last", "ops")
    assert said.stdout == f"job {job['job_id']} notifies ops when it ends\n", said.stderr
    assert "submit waits" not in run("submit", "waits", "--notify", "opps").stdout
    (tmp_path / "go").touch()
    until(lambda: [one.state for one in service.notifications().deliveries] == ["sent"] * 2, "both")
    assert [one["name"] for one in answer("notify", "list")] == ["ops"]
    assert "sent: 204 No Content" in run("notify", "list").stdout
    assert [one["state"] for one in answer("notify", "deliveries", "ops")] == ["sent", "sent"]
    assert run("notify").stdout == run("notify", "list").stdout
    assert "succeeded" in run("notify", "deliveries").stdout
    assert run("notify", "deliveries", "opps").returncode == 1


def test_in_a_notebook(run: Callable[[str], Ran], home: Path, hook: Receiver, tmp_path: Path) -> None:
    (home / "config.yaml").write_text(named(hook))
    run(f"%%taskapi deploy waits\n{WAITING}")
    jobs: list[Any] = []
    for options in ("--notify ops", "--notify", "--notify off", ""):
        jobs.append(run(f"%taskapi submit waits path={tmp_path / 'go'} {options}").result)
    assert [one.refresh().record.notify or None for one in jobs[:2]] == [["ops"], ["browser"]]
    assert jobs[2].refresh().record.notify == []
    said = run(f"%taskapi notify {jobs[3].id} ops").out
    assert said.strip() == f"job {jobs[3].id} notifies ops when it ends"
    (tmp_path / "go").touch()
    run("%taskapi wait last")
    hook.wait(2)
    assert {one.data["job_id"] for one in hook.got} == {jobs[0].id, jobs[3].id}
    assert "ops" in run("%taskapi notify").out


def test_the_readme_of_the_body(service: Service, hook: Receiver) -> None:
    (service.home / "config.yaml").write_text(named(hook).replace("failed", "ended"))
    service.deploy_request(request_for("echo", ECHO))
    service.submit("echo").wait(PATIENCE)
    (got,) = hook.wait(1)
    text = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text("utf-8")
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    assert (example.keys(), example["data"].keys()) == (got.json.keys(), got.data.keys())
