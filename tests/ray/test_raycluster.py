"""Ray's REST API, asked of what is no Ray, or one that is coming up: every odd answer becomes a sentence."""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec import structs

from support import request_for, until
from support.notebooks import code, put
from support.packages import running_index
from support.servers import reserved_port
from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import BadRequest, NotKept, TaskAPIError, Unavailable, Unreachable
from taskapi_jupyter.node.frames import frame
from taskapi_jupyter.ray import package
from taskapi_jupyter.ray.engine import RayEngine
from taskapi_jupyter.ray.job import submission_id
from taskapi_jupyter.ray.rest import RayCluster, Refused
from taskapi_jupyter.ray.service import RayService, forget_headers
from taskapi_jupyter.service.engine_settings import read


class Odd(ThreadingHTTPServer):
    """A server that answers each path with what it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}  # by path, method and path, or method
        self.asked: list[str] = []  # methods and paths
        self.keeps_waiting: str | None = None  # who asks for what begins so
        self.takes = 0.0  # seconds for each MiB that is sent
        self.ending = threading.Event()
        self.other = (200, b"<!DOCTYPE html><title>Sign in</title>")
        self.let_in: str | None = None  # who sends this as its Authorization, where not everybody is
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Odd

    def answer(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left:
            left -= len(self.rfile.read(min(left, 1 << 20)))
            self.server.ending.wait(self.server.takes)
        said = f"{self.command} {self.path}"
        self.server.asked.append(said)
        if self.server.keeps_waiting is not None and said.startswith(self.server.keeps_waiting):
            self.server.ending.wait()
            return
        known = self.server.answers
        status, body = known.get(said) or known.get(self.path) or known.get(self.command) or self.server.other
        if self.server.let_in not in (None, self.headers.get("Authorization")):
            status, body = 401, b"who are you?"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[Odd]:
    """Return such a server."""
    server = Odd()
    yield server
    server.ending.set()
    server.shutdown()
    server.server_close()


class RayServiceOf:
    """A service and an engine of an odd server, and a job of theirs."""

    def __init__(self, odd: Odd, home: Path) -> None:
        self.service = RayService(home, environment="cluster", address=odd.address)
        self.home = home

    def __enter__(self) -> tuple[RayService, RayEngine, dict[str, Any]]:
        self.service.deploy_request(request_for("task", "def task(config): pass\n"))
        row = self.service.store.api("task")
        assert row is not None
        engine = RayEngine(str(self.home), lambda: {"stop_grace": 1, "log_max_bytes": 1 << 20}, lambda: None)
        job = {
            **dict.fromkeys(("spec_id", "timeout", "boot", "deadline", "mem", "config", "merged", "gpus"), None),
            "id": "0123456789abcdef",
            "api_name": "task",
            "api_id": row["api_id"],
            "cpu": 1000,
            "gpu": 0,
            "launch": row["launch"],
        }
        return self.service, engine, job

    def __exit__(self, *_: object) -> None:
        self.service.close()


BODIES = [
    b"",
    b"<html>",
    b"\xff",
    b"null",
    b"[]",
    b"{}",
    b'{"session_name": 5, "data": "x", "driver_node_id": 5}',
    b'{"data": {"clusterStatus": {"loadMetricsReport": {"usage": {"CPU": [1, null]}}}}}',
    b'{"data": {"clusterStatus": {"loadMetricsReport": {"usage": {"CPU": [1, NaN]}}}}}',
    b'{"data": {"clusterStatus": {"loadMetricsReport": {"usage": {"CPU": [1, 1e999]}}}}}',
    b'[{"submission_id": [1]}, 5, {}]',
    b"[" * 100_000,
]


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, body) for body in BODIES] + [(status, body) for status in (404, 500, 503) for body in BODIES[1:4]],
)
def test_odd_answers(odd: Odd, status: int, body: bytes) -> None:
    odd.other = (status, body)
    cluster = RayCluster({"address": odd.address})
    for ask in (
        cluster.session,
        cluster.resources,
        cluster.jobs,
        lambda: cluster.node("x"),
        lambda: cluster.submit({"submission_id": "taskapi-0123456789abcdef"}),
    ):
        try:
            answer = ask()
        except (Unreachable, Refused):
            continue
        assert answer in ({}, None)  # a list without jobs, a job without a node


def test_what_is_no_ray_at_submission(odd: Odd, home: Path) -> None:
    service = RayService(home, environment="cluster", address=odd.address)
    service.deploy_request(request_for("task", "def task(config): pass\n"))
    with pytest.raises(Unreachable, match="did not answer as a Ray cluster: see whether it is its dashboard's URL"):
        service.submit("task")
    odd.other = (403, b"not you")
    with pytest.raises(Unavailable, match=r"refuses: not you"):
        service.submit("task")
    assert service.jobs() == []
    service.close()


def test_a_notebook_is_refused(odd: Odd, home: Path, tmp_path: Path) -> None:
    service = RayService(home, environment="cluster", address=odd.address)
    told = "report: notebooks run on `local` environments, not on a Ray cluster: choose a local one"
    with pytest.raises(BadRequest, match=re.escape(told)):
        service.deploy(put(tmp_path / "report.ipynb", code("1")))
    with pytest.raises(BadRequest, match=r"task: definition\.kernel is a kernelspec of this machine"):
        service.deploy(lambda config: 1, name="task", kernel="python3")
    with pytest.raises(NotKept, match="cluster is a Ray cluster, whose nodes run tasks by a Python of their own"):
        service.kernels()
    (result,) = service.deploy(lambda config: 1, name="task", dry_run=True)
    assert result.message.startswith("would create task (TaskAPI)")
    assert service.get() == []
    service.close()


def test_certificates_that_are_not_there(home: Path) -> None:
    service = RayService(home, environment="c", address=f"https://127.0.0.1:{reserved_port()}", verify="/no/such.pem")
    service.deploy_request(request_for("task", "def task(config): pass\n"))
    with pytest.raises(TaskAPIError, match=r"can't be reached \(No such file or directory\)"):
        service.submit("task")
    service.close()


def test_certificates_and_headers(odd: Odd, home: Path, tmp_path: Path) -> None:
    """Over TLS: whose authority is not known gets nothing, and the header goes to who is."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    odd.socket = context.wrap_socket(odd.socket, server_side=True)
    odd.let_in = "Bearer secret"
    odd.answers["/api/version"] = (200, b'{"session_name": "one"}')
    odd.answers["/api/v0/logs/file?node_id=n&submission_id=x&lines=-1"] = (200, b"a log")
    cluster = {"address": f"https://localhost:{odd.server_address[1]}", "headers": {"Authorization": odd.let_in}}
    with pytest.raises(Unreachable, match=r"can't be reached \(.*certificate verify failed.*\): see whether"):
        RayCluster(cluster).session()
    with pytest.raises(Unreachable, match="certificate verify failed"):
        RayCluster(cluster).log("x", "n", follow=False)
    for verify in (str(tmp_path / "ca.pem"), False):
        known = RayCluster({**cluster, "verify": verify})
        assert known.session() == "one"
        answer, _ = known.log("x", "n", follow=False)
        assert answer.read() == b"a log"
        answer.close()
    with pytest.raises(Refused, match="who are you"):
        RayCluster({**cluster, "verify": False, "headers": {}}).session()


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_ray_installs_the_lock(odd: Odd, home: Path, tmp_path: Path, builder: str) -> None:
    with running_index() as index, RayServiceOf(odd, home) as (service, _, job):
        index.add("wine", "1.0", requires=["grape"])
        index.add("grape", "1.0")
        config = {"packages": {"builder": builder, "index_url": index.url}}
        (home / "config.yaml").write_text(json.dumps(config))
        (tmp_path / "requirements.txt").write_text("not this one\n")
        definition = {"path": "task.py", "requirements": ["wine"]}
        deployed = request_for("task", "def task(config): pass\n", definition=definition)
        deployed = structs.replace(deployed, cwd=str(tmp_path), build_environ={"UV_CACHE_DIR": str(tmp_path / "cache")})
        service.deploy_request(deployed)
        row = service.store.api("task")
        assert row is not None
        body = package.request(str(home), {**job, **row}, "id", "gcs://x", {"stop_grace": 1}, left=None)
        (found,) = [body["runtime_env"][one] for one in ("uv", "pip") if one in body["runtime_env"]]
        assert body["runtime_env"].get(builder) == found
        first, *lines = found["packages"]
        assert first == f"--index-url {index.url}"
        assert [line.partition(" --hash=sha256:")[0] for line in lines] == ["grape==1.0", "wine==1.0"]
        assert all(("--hash" in line) == (builder == "uv") for line in lines)
        launch = json.loads(row["launch"])
        assert "packages" not in launch
        assert "packages" not in launch["python"]
        definition["requirements"] = ["wine", f"--index-url {index.url_with('me', 's3cret')}"]
        with pytest.raises(BadRequest, match="has credentials, which Ray's dashboard would show"):
            service.deploy_request(structs.replace(deployed, spec={**deployed.spec, "definition": definition}))


@pytest.mark.parametrize("broken", ["requirements", "project", "nothing"])
def test_a_submission_that_fails_again_and_again(odd: Odd, home: Path, broken: str) -> None:
    """A job whose files are broken ends; one that the cluster has no answer for waits, and no other waits for it."""
    odd.answers["/api/version"] = (200, b'{"session_name": "one"}')
    odd.answers["/api/jobs/"] = (200, b"[]")
    odd.other = (500, b"No available agent to submit job, please try again later.")
    with RayServiceOf(odd, home) as (_, engine, job):
        (folder,) = (home / "apis").iterdir()
        if broken == "requirements":
            (folder / "requirements.txt").write_bytes(b"\xff\xfe")
        elif broken == "project":
            (folder / "project.zip").write_bytes(b"no zip")
        engine.start(job)
        over = engine.ended()
        if broken == "project":
            ((job_id, outcome),) = over
            assert (job_id, outcome["status"]) == (job["id"], "unexpected_error")
            assert outcome["reason"] == "could not be started: BadZipFile: File is not a zip file"
        else:
            assert over == []
            claim = json.loads((home / "jobs" / job["id"] / "claim").read_text())
            assert (claim["session"], claim["arrived"]) == ("one", False)


SESSION = (200, b'{"session_name": "one"}')


def listed(job: dict[str, Any], service: RayService, **more: Any) -> tuple[int, bytes]:
    """Return a list of jobs as Ray has it, with one."""
    name = submission_id(job["id"], read(str(service.home)))
    return 200, json.dumps([{"submission_id": name, "type": "SUBMISSION", **more}]).encode()


def accept(odd: Odd, job: dict[str, Any], service: RayService) -> str:
    """Have a job taken, and return what Ray would know it by."""
    name = submission_id(job["id"], read(str(service.home)))
    odd.answers["/api/version"] = SESSION
    odd.answers["POST /api/jobs/"] = (200, json.dumps({"submission_id": name}).encode())
    odd.answers["GET /api/jobs/"] = (200, b"[]")
    odd.answers[f"/api/jobs/{name}"] = (200, b'{"driver_node_id": "n"}')
    odd.answers[f"/api/jobs/{name}/stop"] = (200, b"{}")
    odd.other = (200, b"{}")
    return name


def test_a_node_that_keeps_everybody_waiting(odd: Odd, home: Path) -> None:
    """It went with its machine: its job's log can't be had, and its job ends all the same."""
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        odd.keeps_waiting = "GET /api/v0/logs/"
        engine.cluster.patience, engine.logs.last_read = 0.2, 0.3
        engine.start(job)
        lost = {"status": "FAILED", "driver_node_id": "n", "message": "The job's node died."}
        odd.answers["GET /api/jobs/"] = listed(job, service, **lost)
        over: list[Any] = []
        until(lambda: over.extend(engine.ended()) or over, "its end")
        ((job_id, outcome),) = over
        assert (job_id, outcome["status"]) == (job["id"], "unexpected_error")
        assert outcome["reason"] == "Ray says: The job's node died."


def test_time_to_store_what_was_left(odd: Odd, home: Path) -> None:
    """A task that has ended in time is not stopped for what is done with its result."""
    with RayServiceOf(odd, home) as (service, engine, job):
        name = accept(odd, job, service)
        job.update(timeout=1, boot=host.boot_id(), deadline=host.boottime() - 10)
        job["deadline"] += 11
        engine.start(job)
        marker = engine.jobs[job["id"]].marker
        odd.other = (200, frame(marker, {"begin": job["id"]}) + frame(marker, {"storing": True}))
        odd.answers["GET /api/jobs/"] = listed(job, service, status="RUNNING", driver_node_id="n")
        until(lambda: engine.ended() or engine.jobs[job["id"]].log.storing, "it to be heard")
        job["deadline"] -= 100
        engine.next_poll = 0.0
        assert engine.ended() == []
        # Nor by the next supervisor, who has not read that yet.
        following = RayEngine(str(home), engine.limits, lambda: None)
        following.adopt([job])
        there, odd.answers["GET /api/jobs/"] = odd.answers["GET /api/jobs/"], (503, b"")
        assert following.ended() == []
        odd.answers["GET /api/jobs/"] = there
        following.next_poll = 0.0
        assert following.ended() == []
        assert following.jobs[job["id"]].status == "RUNNING"
        assert f"POST /api/jobs/{name}/stop" not in odd.asked


def test_a_claim_of_an_older_version(odd: Odd, home: Path) -> None:
    """A job that was sent by a supervisor that wrote no address is taken over all the same."""
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        engine.start(job)
        claim = home / "jobs" / job["id"] / "claim"
        told = json.loads(claim.read_text())
        del told["address"]
        claim.write_text(json.dumps(told))
        odd.other = (
            200,
            frame(told["word"], {"begin": "it"}) + frame(told["word"], {"outcome": {"status": "stopped"}}),
        )
        odd.answers["GET /api/jobs/"] = listed(job, service, status="SUCCEEDED", driver_node_id="n")
        following = RayEngine(str(home), engine.limits, lambda: None)
        following.adopt([job])
        over: list[Any] = []
        until(lambda: over.extend(following.ended()) or over, "its end")
        assert over[0][1]["status"] == "stopped"


def test_past_its_deadline(odd: Odd, home: Path) -> None:
    """A job whose log says no more than that it runs is stopped from here, whatever its node's clock says."""
    with RayServiceOf(odd, home) as (service, engine, job):
        name = accept(odd, job, service)
        job.update(timeout=1, boot=host.boot_id(), deadline=host.boottime() + 1)
        odd.other = (500, b"too many")
        odd.answers["PUT"] = (200, b"{}")
        engine.start(job)
        begun = frame(engine.jobs[job["id"]].marker, {"begin": job["id"]}).decode()
        odd.answers[f"/api/jobs/{name}/logs"] = (200, json.dumps({"logs": begun}).encode())
        odd.answers["GET /api/jobs/"] = listed(job, service, status="RUNNING", driver_node_id="n")
        until(lambda: engine.ended() or f"POST /api/jobs/{name}/stop" in odd.asked, "it to be stopped")


def test_one_job_that_does_not_get_through(odd: Odd, home: Path) -> None:
    """Its package is what some gateway cuts: the cluster is there all the same, for the others."""
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        odd.answers["PUT"] = (504, b"")
        engine.start(job)
        assert not engine.jobs[job["id"]].arrived
        engine.jobs[job["id"]].try_at += 100
        assert engine.ended() == []
        assert not (home / "unreachable").exists()
        other = {**job, "id": "fedcba9876543210"}
        accept(odd, other, service)
        odd.answers["PUT"] = (200, b"{}")
        engine.start(other)
        assert engine.jobs[other["id"]].arrived


def test_a_large_package_keeps_nobody_waiting(odd: Odd, home: Path) -> None:
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        (folder,) = (home / "apis").iterdir()
        (folder / "large.bin").write_bytes(os.urandom(4 << 20))
        gate = odd.keeps_waiting = "PUT "
        engine.start(job)
        until(lambda: any(one.startswith(gate) for one in odd.asked), "it to be sent")
        for _ in range(2):
            engine.next_poll = 0.0
            assert engine.ended() == []
        assert "POST /api/jobs/" not in odd.asked
        odd.keeps_waiting = None
        odd.ending.set()  # which cuts it off
        until(lambda: engine.ended() or engine.jobs[job["id"]].arrived, "it to get there")
        assert len([one for one in odd.asked if one.startswith(gate)]) == 2


def test_a_package_is_sent_once(odd: Odd, home: Path) -> None:
    """A cluster keeps what no job has referred to: a submission that is tried again sends it no more."""
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        taken = odd.answers["POST /api/jobs/"]
        odd.answers["POST /api/jobs/"] = (500, b"No available agent to submit job, please try again later.")
        engine.start(job)
        for _ in range(3):
            engine.next_poll = 0.0
            assert engine.ended() == []
        odd.answers["POST /api/jobs/"] = taken
        engine.next_poll = 0.0
        engine.ended()
        assert engine.jobs[job["id"]].arrived
        assert len([one for one in odd.asked if one.startswith("PUT ")]) == 1
        assert odd.asked.count("POST /api/jobs/") == 5


def test_stopped_while_its_package_is_sent(odd: Odd, home: Path) -> None:
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        (folder,) = (home / "apis").iterdir()
        (folder / "large.bin").write_bytes(os.urandom(2 << 20))
        odd.takes = 1.0
        engine.start(job)
        sent = engine.jobs[job["id"]]
        assert sent.package.uploading
        engine.stop(job["id"])
        until(lambda: not sent.package.uploading, "it to get there")
        ((job_id, outcome),) = engine.ended()
        assert (job_id, outcome["status"]) == (job["id"], "stopped")
        assert "POST /api/jobs/" not in odd.asked


def test_a_large_package_over_a_slow_line(odd: Odd) -> None:
    """So long as it gets on, it takes as long as it takes."""
    cluster = RayCluster({"address": odd.address})
    cluster.patience, odd.takes, odd.other = 0.5, 0.1, (200, b"{}")
    assert cluster.upload("p.zip", os.urandom(16 << 20)) == "gcs://p.zip"


def test_what_could_not_be_started_is_not_started_later(odd: Odd, home: Path) -> None:
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        (home / "jobs" / job["id"]).write_text("in the way")
        engine.start(job)
        (home / "jobs" / job["id"]).unlink()
        ((job_id, outcome),) = engine.ended()
        assert (job_id, outcome["status"]) == (job["id"], "unexpected_error")
        assert "POST /api/jobs/" not in odd.asked


def test_stopped_while_it_may_be_on_its_way(odd: Odd, home: Path) -> None:
    """A submission without an answer may still come: the job is not stopped before that is known."""
    with RayServiceOf(odd, home) as (service, engine, job):
        name = accept(odd, job, service)
        odd.answers["POST /api/jobs/"] = (504, b"")
        engine.start(job)
        engine.stop(job["id"])
        for _ in range(3):
            engine.next_poll = 0.0
            assert engine.ended() == []
        odd.answers["GET /api/jobs/"] = listed(job, service, status="STOPPED", driver_node_id=None, message="stopped")
        odd.answers[f"/api/jobs/{name}"] = (404, b"")
        over: list[Any] = []
        engine.next_poll = 0.0
        until(lambda: over.extend(engine.ended()) or over, "its end")
        assert over[0][1]["status"] == "stopped"


def test_another_address_while_a_job_runs(odd: Odd, home: Path) -> None:
    """What it is told of its end is true: it is another cluster that does not know it."""
    other = Odd()
    other.answers["/api/version"] = (200, b'{"session_name": "two"}')
    other.answers["/api/jobs/"] = (200, b"[]")
    with RayServiceOf(odd, home) as (service, engine, job):
        accept(odd, job, service)
        odd.keeps_waiting = "GET /api/v0/logs/"
        engine.start(job)
        RayService(home, environment="cluster", address=other.address).close()
        over: list[Any] = []
        until(lambda: over.extend(engine.ended()) or over, "its end")
        assert over[0][1]["reason"] == (
            f"the Ray cluster knows nothing of it any more: it was sent to {odd.address}, where it may still run"
        )
    other.ending.set()
    other.shutdown()
    other.server_close()


def test_whose_headers_are_used(odd: Odd, home: Path) -> None:
    """Those that the cluster lets in, whoever connects: a terminal may have last week's."""
    odd.let_in = "Bearer this week's"
    odd.answers["/api/version"] = SESSION

    def service(token: str) -> RayService:
        return RayService(
            home, environment="cluster", address=odd.address, headers={"Authorization": f"Bearer {token}"}
        )

    def used() -> Any:
        return read(str(home))["headers"]["Authorization"]

    ours, theirs = service("this week's"), service("last week's")
    assert used() == "Bearer this week's"
    theirs.deploy_request(request_for("task", "def task(config): pass\n"))
    with pytest.raises(Unavailable, match="refuses: who are you"):
        theirs.submit("task")
    assert used() == "Bearer this week's"
    odd.let_in = "Bearer last week's"
    odd.answers["/api/jobs/"] = (200, b"[]")
    theirs.store.request_stop(theirs.submit("task").id)
    assert used() == "Bearer last week's"
    forget_headers(home.parent, home.name)  # of another folder: nothing happens
    assert used() == "Bearer last week's"
    for one in (ours, theirs):
        one.close()


def test_who_connected_before_the_address_changed(odd: Odd, home: Path) -> None:
    """It is told, and takes nothing back."""
    odd.answers["/api/version"] = SESSION
    before = RayService(home, environment="gpus", address=odd.address)
    before.deploy_request(request_for("task", "def task(config): pass\n"))
    RayService(home, environment="gpus", address="http://127.0.0.1:1").close()
    with pytest.raises(
        Unavailable, match=f"environment gpus is at http://127.0.0.1:1 by now, not at {odd.address}: connect"
    ):
        before.submit("task")
    assert before.jobs() == []
    assert read(str(home))["address"] == "http://127.0.0.1:1"
    before.close()


def test_headers_go_with_their_environment(home: Path) -> None:
    there = home / "ray" / "gpus"
    RayService(there, environment="gpus", address="http://127.0.0.1:1", headers={"Authorization": "secret"}).close()
    home_id = read(str(there))["home_id"]
    forget_headers(home, "gpus")
    assert "secret" not in (there / "engine.json").read_text()
    assert read(str(there))["home_id"] == home_id
    forget_headers(home, "another")
    assert [one.name for one in (home / "ray").iterdir()] == ["gpus"]


def test_a_file_that_can_not_be_read(home: Path) -> None:
    home.mkdir(exist_ok=True)
    for text in ("", "[1]", "{"):
        (home / "engine.json").write_text(text)
        with pytest.raises(Unavailable, match=r"engine.json can't be read \(.*restore it, or delete it if no job runs"):
            RayService(home, environment="cluster", address="http://127.0.0.1:1")


def test_a_name_that_is_none(home: Path) -> None:
    service = RayService(home, environment="cluster", address="http://head..example:8265")
    service.deploy_request(request_for("task", "def task(config): pass\n"))
    with pytest.raises(Unreachable, match=r"http://head..example:8265 can't be reached \("):
        service.submit("task")
    service.close()


def test_what_there_is(odd: Odd, home: Path) -> None:
    """Nothing is handed over to a cluster of which nothing is known; to one that does not say what it has, some."""
    usage = {"CPU": [1.0, 16.0], "GPU": [0.0, 2.0], "memory": [0.0, 1e9], "node:10.0.0.1": [0.0, 1.0]}
    said = {"data": {"clusterStatus": {"loadMetricsReport": {"usage": usage}}}}
    for answer, capacity, ready in (
        ((503, b""), 8000, False),
        ((200, b'{"data": {}}'), 8000, True),
        ((200, json.dumps(said).encode()), 16000, True),
    ):
        odd.answers["/api/cluster_status"] = answer
        with RayServiceOf(odd, home) as (_, engine, _):
            assert engine.capacity()["cpus"] == capacity
            assert engine.accepts_jobs() == ready
    assert engine.capacity() == {"cpus": 16000, "mem": 10**9, "gpus": 2}


def test_no_marker_without_a_claim(odd: Odd, home: Path) -> None:
    """What was not written down was not sent: a head that does not say who it is gets nothing."""
    odd.answers["/api/version"] = (500, b"")
    odd.answers["/api/jobs/"] = (200, b"[]")
    with RayServiceOf(odd, home) as (_, engine, job):
        engine.start(job)
        assert engine.ended() == []
        assert not (home / "jobs" / job["id"] / "claim").exists()
