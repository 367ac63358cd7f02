"""The double of a Cortex operator keeps to the contract, in both versions, and its switches do what they say."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import websocket
import yaml

from support import PATIENCE, TESTS, until
from support.cortex_double import Operator
from support.cortex_double.identity import check_identity
from support.cortex_double.state import Refusal

VERSIONS = ["0.28.0", "0.42.1"]
SPECS: dict[str, dict[str, Any]] = {
    "0.28.0": {"name": "train", "kind": "TaskAPI", "definition": {"path": "task.py"}},
    "0.42.1": {"name": "train", "kind": "TaskAPI", "pod": {"containers": [{"name": "api", "image": "a/b"}]}},
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


@pytest.fixture(params=VERSIONS)
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    """Return a double driven by hand, with one API."""
    with Operator(request.param, manual=True) as operator:
        operator.deploy("train")
        yield operator


def ask(operator: Operator, method: str, path: str, **options: Any) -> requests.Response:
    """Ask the operator, with the header it wants."""
    headers = {"CortexAPIVersion": operator.version, **options.pop("headers", {})}
    options = {"timeout": PATIENCE, "allow_redirects": False, **options}
    return requests.request(method, operator.url + path, headers=headers, **options)


def refused(answer: requests.Response, kind: str, status: int = 400) -> str:
    """Check an error, and return its message."""
    assert (answer.status_code, answer.json()["kind"]) == (status, kind), answer.text
    assert set(answer.json()) == {"kind", "message"}
    return str(answer.json()["message"])


def submit(operator: Operator, body: str = "{}") -> str:
    """Submit a job and return its id."""
    answer = requests.post(f"{operator.url}/tasks/train", data=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


def status(operator: Operator, job_id: str) -> dict[str, Any]:
    """Return a job's status."""
    answer = ask(operator, "GET", f"/tasks/train?jobID={job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["job_status"])


def form(operator: Operator, spec: Any, files: dict[str, str] | None = None) -> requests.Response:
    """Deploy."""
    parts: dict[str, Any] = {"config": ("cortex.yaml", yaml.safe_dump(spec))}
    if files is not None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        parts["project.zip"] = ("project.zip", packed.getvalue())
    return ask(operator, "POST", "/deploy?force=false&configFileName=cortex.yaml", files=parts)


def log_path(operator: Operator) -> str:
    """Return the path of the log websocket, which depends on the version."""
    return "/logs/train" if operator.version == "0.28.0" else "/streamlogs/train"


def log_socket(operator: Operator, query: str, **options: Any) -> websocket.WebSocket:
    """Open the log websocket."""
    url = operator.url.replace("http", "ws", 1) + log_path(operator) + query
    options = {
        "timeout": PATIENCE,
        "suppress_origin": True,
        "header": [f"CortexAPIVersion: {operator.version}"],
        **options,
    }
    reader = websocket.WebSocket()
    try:
        reader.connect(url, **options)
    except Exception:
        reader.shutdown()
        raise
    return reader


def read_all(reader: websocket.WebSocket) -> None:
    """Read until the connection is gone."""
    while True:
        reader.recv()


# Jobs


def test_submit_answers_as_cortex_does(operator: Operator) -> None:
    """There is no created_time; start_time is the time of submission; the ids of the deployed thing are there."""
    answer = ask(
        operator, "POST", "/tasks/train", data='{"config": {"a": [1]}, "timeout": 5, "workers": 1, "x": 0}'
    ).json()
    part = "predictor_id" if operator.version == "0.28.0" else "pod_id"
    keys = {"job_id", "api_name", "kind", "workers", "config", "api_id", "timeout", "start_time", "spec_id", part}
    assert set(answer) == keys
    assert (answer["config"], answer["timeout"], answer["workers"]) == ({"a": [1]}, 5, 1)
    assert TIME.fullmatch(answer["start_time"])
    second = ask(operator, "POST", "/tasks/train", data="{}").json()
    assert (second["config"], second["timeout"]) == (None, None)
    assert re.fullmatch(r"[0-9a-f]{16}", second["job_id"])
    assert second["job_id"] < answer["job_id"], "newest first"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        '{"workers": 2}',
        '{"config": []}',
        '{"timeout": "1"}',
        '{"config": {"a": NaN}}',
        " " * (10 << 20) + "{}",
    ],
)
def test_bad_submissions_are_errors(operator: Operator, body: str) -> None:
    """Whatever is wrong with a body is of kind error."""
    refused(ask(operator, "POST", "/tasks/train", data=body), "error")
    assert not operator.jobs


def test_a_job_goes_its_way_in_the_words_of_its_version(operator: Operator) -> None:
    """Status codes are prefixed and end_time null in 0.28; counts of workers only while in progress."""
    old = operator.version == "0.28.0"
    job_id = submit(operator)
    prefix = "status_" if old else ""
    pending = status(operator, job_id)
    assert pending["status"] == prefix + "pending"
    assert ("end_time" in pending, pending.get("end_time")) == (old, None)
    operator.start(job_id)
    running = status(operator, job_id)
    assert (running["status"], running["worker_counts"]["running"]) == (prefix + "running", 1)
    operator.finish(job_id, "worker_oom")
    whole = ask(operator, "GET", f"/tasks/train?jobID={job_id}").json()
    ended = whole["job_status"]
    assert (ended["status"], "worker_counts" in ended) == (prefix + "worker_oom", False)
    assert ended["start_time"] == pending["start_time"]
    assert TIME.fullmatch(ended["end_time"])
    assert whole["endpoint"] == f"{operator.balancer_url}/train?jobID={job_id}"
    assert whole["api_spec"]["name"] == "train"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_runs_by_itself(version: str) -> None:
    """Unless driven by hand."""
    with Operator(version, step=0.01, outcome="worker_error") as operator:
        operator.deploy("train")
        job_id = submit(operator)
        until(lambda: status(operator, job_id)["status"].endswith("worker_error"), "the job to end")
        assert operator.jobs[job_id].lines == ["started", "working", "done"]


def test_stopping(operator: Operator) -> None:
    """A job in progress is stopped; one that is not, can't be."""
    job_id = submit(operator)
    assert ask(operator, "DELETE", f"/tasks/train?jobID={job_id}").json() == {"message": f"stopped job {job_id}"}
    assert status(operator, job_id)["status"].endswith("stopped")
    message = refused(ask(operator, "DELETE", f"/tasks/train?jobID={job_id}"), "job.job_is_not_in_progress")
    assert message == f"{job_id} (train api): cannot stop TaskAPI job because it is not in progress"


def test_what_there_is_not(operator: Operator) -> None:
    """The parameter is looked at first, then the API, then the job."""
    not_found = "failed to get job state: unable to find TaskAPI job 1 ({} api)"
    for method in ("GET", "DELETE"):
        assert (
            refused(ask(operator, method, "/tasks/none"), "endpoints.query_param_required")
            == "query param required: jobID"
        )
        assert refused(ask(operator, method, "/tasks/train?jobID=1"), "job.not_found") == not_found.format("train")
    assert refused(ask(operator, "GET", "/tasks/none?jobID=1"), "resources.api_not_deployed") == "none is not deployed"
    assert refused(ask(operator, "DELETE", "/tasks/none?jobID=1"), "job.not_found") == not_found.format("none")
    for method, path in [("POST", "/tasks/none"), ("GET", "/get/none"), ("DELETE", "/delete/none")]:
        refused(ask(operator, method, path, data="{}"), "resources.api_not_deployed")
    refused(ask(operator, "GET", "/get/train/none"), "resources.api_id_not_found")
    assert ask(operator, "GET", "/nothing").status_code == 404
    assert ask(operator, "PUT", "/tasks/train").status_code == 405


def test_the_load_balancer_has_the_endpoint(operator: Operator) -> None:
    """Submit, status and stop, and no header."""
    operator.deploy("other", endpoint="some/where")
    url = f"{operator.balancer_url}/some/where"
    job_id = requests.post(url, data="{}", timeout=PATIENCE).json()["job_id"]
    whole = requests.get(url, params={"jobID": job_id}, timeout=PATIENCE).json()
    assert (whole["job_status"]["api_name"], whole["endpoint"]) == ("other", f"{url}?jobID={job_id}")
    assert requests.delete(url, params={"jobID": job_id}, timeout=PATIENCE).ok
    assert requests.get(f"{operator.balancer_url}/other", timeout=PATIENCE).status_code == 400
    assert requests.post(f"{operator.balancer_url}/other", data="{}", timeout=PATIENCE).status_code == 404


# APIs


def test_lists_in_the_shape_of_the_version(operator: Operator) -> None:
    """0.42 lists metadata; one API comes with its jobs in progress, topped up to ten; other kinds are listed."""
    operator.other_kinds = True
    ended = [submit(operator) for _ in range(12)]
    for job_id in ended:
        operator.finish(job_id)
    live = submit(operator)
    listed = ask(operator, "GET", "/get").json()
    about = "spec" if operator.version == "0.28.0" else "metadata"
    head = {"spec", "endpoint"} if about == "spec" else {"metadata"}
    assert set(listed[0]) == {*head, "task_job_statuses"}
    assert [one[about]["kind"] for one in listed] == ["TaskAPI", "RealtimeAPI"]
    [one] = ask(operator, "GET", "/get/train").json()
    assert [job["job_id"] for job in one["task_job_statuses"]] == [live, *ended[:2:-1]]
    assert one["endpoint"] == f"{operator.balancer_url}/train"
    more = [submit(operator) for _ in range(11)]
    [one] = ask(operator, "GET", "/get/train").json()
    assert [job["job_id"] for job in one["task_job_statuses"]] == [*more[::-1], live]
    assert ask(operator, "GET", f"/get/train/{one['spec']['api_id']}").json() == [{"spec": one["spec"]}]
    assert ask(operator, "GET", "/get/classifier").json()[0]["spec"]["kind"] == "RealtimeAPI"


def test_deploy_and_delete(operator: Operator) -> None:
    """What was deployed before is up to date; other content has another id; deleting stops jobs."""
    files = {"task.py": "1"} if operator.version == "0.28.0" else None
    spec = {**SPECS[operator.version], "name": "new"}
    [result] = form(operator, [spec], files).json()
    assert (set(result), result["error"]) == ({"api", "message", "error"}, "")
    assert (result["api"]["spec"]["name"], result["message"]) == ("new", "creating new")
    [again] = form(operator, [spec], files).json()
    assert again["api"]["spec"]["api_id"] == result["api"]["spec"]["api_id"]
    changed = {**spec, "networking": {"endpoint": "/elsewhere"}}
    [updated] = form(operator, [changed], files).json()
    assert updated["api"]["spec"]["api_id"] != result["api"]["spec"]["api_id"]
    assert updated["api"]["endpoint"] == f"{operator.balancer_url}/elsewhere"
    if files:
        [other] = form(operator, [changed], {"task.py": "2"}).json()
        assert other["api"]["spec"]["api_id"] != updated["api"]["spec"]["api_id"]
    job_id = submit(operator)
    assert ask(operator, "DELETE", "/delete/train?keepCache=true").json() == {"message": "deleting train"}
    assert list(operator.apis) == ["new"]
    assert operator.jobs[job_id].status == "stopped"


def test_a_form_that_the_version_does_not_take(operator: Operator) -> None:
    """The message names the field."""
    mine = SPECS[operator.version]
    other = SPECS["0.42.1" if operator.version == "0.28.0" else "0.28.0"]
    files = {"task.py": ""}
    cases: list[tuple[Any, dict[str, str] | None, str]] = [
        ([other], files, "'pod'" if "pod" in other else "'definition'"),
        ([{**mine, "timeout": 5}], files, "'timeout'"),
        ([{"kind": "TaskAPI"}], files, "name"),
        (mine, files, "config"),
    ]
    if operator.version == "0.28.0":
        cases += [([mine], None, "project.zip"), ([mine], {"other.py": ""}, "task.py")]
        cases += [([{**mine, "definition": {"path": "task.py", "function": "f"}}], files, "'function'")]
    else:
        cases += [([{**mine, "pod": {"containers": [{"name": "api"}]}}], None, "image")]
    for spec, with_files, word in cases:
        assert word in refused(form(operator, spec, with_files), "error")
    message = refused(ask(operator, "POST", "/deploy"), "endpoints.query_param_required")
    assert message == "query param required: configFileName"
    assert list(operator.apis) == ["train"]


# Letting in


def test_the_version_header(operator: Operator) -> None:
    """It is wanted on the operator's own routes, exactly."""
    for method, path in [("GET", "/get"), ("GET", "/get/train"), ("POST", "/deploy"), ("DELETE", "/delete/train")]:
        refused(requests.request(method, operator.url + path, timeout=PATIENCE), "endpoints.header_missing")
        for version in ("0.31.0", operator.version[:-1]):
            other = ask(operator, method, path, headers={"CortexAPIVersion": version})
            refused(other, "endpoints.api_version_mismatch")
    info = requests.get(f"{operator.url}/info", timeout=PATIENCE).json()
    assert info["cluster_config"]["api_version"] == operator.version
    assert requests.get(f"{operator.url}/verifycortex", timeout=PATIENCE).status_code == 200


def identity(age: timedelta = timedelta(0), **changes: Any) -> str:
    """Return a packed request as the contract describes it."""
    date = (datetime.now(timezone.utc) - age).strftime("%Y%m%dT%H%M%SZ")
    body = "Action=GetCallerIdentity&Version=2011-06-15"
    request = {
        "Method": "POST",
        "URL": "https://sts.us-east-1.amazonaws.com/",
        "Host": "sts.us-east-1.amazonaws.com",
        "Header": {"Authorization": ["AWS4-HMAC-SHA256 Credential=x"], "X-Amz-Date": [date]},
        "Body": body,
        "ContentLength": len(body),
        **changes,
    }
    return base64.urlsafe_b64encode(json.dumps(request).encode()).decode().rstrip("=")


def test_the_signed_header_is_wanted_from_0_30_on(operator: Operator) -> None:
    """Where it is switched on; 0.28 never looks."""
    operator.auth = True
    old = operator.version == "0.28.0"
    with_header = {"X-Cortex-Authorization": identity()}
    assert ask(operator, "GET", "/get").ok == old
    assert ask(operator, "GET", "/get", headers=with_header).ok
    operator.expired = True
    assert ask(operator, "GET", "/get", headers=with_header).ok == old
    assert ask(operator, "POST", "/tasks/train", data="{}").ok
    operator.expired, operator.other_account = False, True
    answer = ask(operator, "GET", "/get", headers=with_header)
    if not old:
        refused(answer, "endpoints.auth_other_account", 403)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a+b",
        "e30=",
        "e30",
        identity(URL="https://sts.amazonaws.com.example/"),
        identity(URL="https://sts.eu-west-1.amazonaws.com/"),
        identity(Header={}),
        identity(Header={"Authorization": "AWS4-HMAC-SHA256 x", "X-Amz-Date": "20240101T000000Z"}),
        identity(Body="x", ContentLength=1),
        identity(ContentLength=1),
        identity(timedelta(minutes=16)),
    ],
    ids=map(str, range(11)),  # not the values: they hold the time, which differs between processes that collect
)
def test_a_bad_identity(value: str) -> None:
    """Each part of it is looked at."""
    with pytest.raises(Refusal):
        check_identity(value, expired=False)
    check_identity(identity(timedelta(minutes=14)), expired=False)


# Logs


def test_a_log_is_streamed_while_the_job_lives(operator: Operator) -> None:
    """Lines come in frames, each with its end; the end of the job is 1000; later there is nothing any more."""
    job_id = submit(operator)
    operator.start(job_id)
    operator.log(job_id, "before")
    reader = log_socket(operator, f"?jobID={job_id}")
    assert reader.recv() == "before\n"
    operator.log(job_id, "after ü")
    assert reader.recv() == "after ü\n"
    reader.send("hello")
    until(lambda: operator.sockets[0].received == ["hello"], "the message")
    operator.finish(job_id)
    opcode, data = reader.recv_data()
    assert (opcode, data[:2]) == (websocket.ABNF.OPCODE_CLOSE, (1000).to_bytes(2, "big"))
    reader.shutdown()
    until(lambda: operator.sockets[0].closed, "the end")
    assert operator.sockets[0].request.header("CortexAPIVersion") == [operator.version]
    refused(ask(operator, "GET", f"{log_path(operator)}?jobID={job_id}"), "error")


def test_logs_that_are_refused(operator: Operator) -> None:
    """Another origin, no version, no job, and in each version the other's path."""
    job_id = submit(operator)
    cases: list[tuple[str, dict[str, Any], int]] = [
        (f"?jobID={job_id}", {"suppress_origin": False, "origin": "http://evil.example"}, 403),
        (f"?jobID={job_id}", {"header": []}, 400),
        ("?jobID=1", {}, 400),
        ("", {}, 400),
    ]
    for query, options, code in cases:
        with pytest.raises(websocket.WebSocketBadStatusException) as error:
            log_socket(operator, query, **options)
        assert error.value.status_code == code
    assert not operator.sockets
    if operator.version == "0.28.0":
        assert ask(operator, "GET", f"/streamlogs/train?jobID={job_id}").status_code == 404
    else:
        assert set(ask(operator, "GET", "/logs/train").json()) == {"log_url"}
    log_socket(operator, f"?jobID={job_id}", suppress_origin=False, origin=operator.url).shutdown()


def test_a_line_that_is_too_long_ends_the_stream(operator: Operator) -> None:
    """What is as long as allowed passes."""
    longest = 64 << 10 if operator.version == "0.28.0" else 1 << 20
    job_id = submit(operator)
    operator.start(job_id)
    reader = log_socket(operator, f"?jobID={job_id}")
    operator.log(job_id, "x" * longest)
    operator.log(job_id, "x" * (longest + 1))
    operator.log(job_id, "never seen")
    assert len(reader.recv()) == longest + 1
    assert reader.recv_data()[0] == websocket.ABNF.OPCODE_CLOSE
    reader.shutdown()


def test_a_flood_waits_for_its_reader(operator: Operator) -> None:
    """How much was sent can be seen, and a dropped connection is dropped."""
    operator.flood = 1 << 30
    job_id = submit(operator)
    reader = log_socket(operator, f"?jobID={job_id}")
    sent = until(lambda: operator.sockets and operator.sockets[0].sent, "the flood")
    assert len(reader.recv()) == 32 << 10
    assert operator.sockets[0].sent < 256 << 20
    assert sent > 0
    operator.drop()
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        read_all(reader)
    reader.shutdown()
    until(lambda: operator.sockets[0].closed, "the end")


# Quirks


def test_races_after_a_submission(operator: Operator) -> None:
    """First not there, then an unexpected error, then as it is."""
    operator.lag, operator.spurious = 2, 1
    job_id = submit(operator)
    for _ in range(2):
        refused(ask(operator, "GET", f"/tasks/train?jobID={job_id}"), "job.not_found")
    assert status(operator, job_id)["status"].endswith("unexpected_error")
    assert status(operator, job_id)["status"].endswith("pending")
    operator.lag_seconds = 1000
    refused(ask(operator, "GET", f"/tasks/train?jobID={job_id}"), "job.not_found")


def test_faults_of_connections() -> None:
    """Hanging, slow, reset, half."""
    with Operator() as operator:
        operator.quirk("hang", path="/hang")
        operator.quirk("reset", path="/get/before")
        operator.quirk("reset", "headers", path="/get/headers")
        operator.quirk("half", path="/info")
        operator.quirk("delay", 0.05, path="/verifycortex", method="GET", times=1)
        with pytest.raises(requests.ReadTimeout):
            ask(operator, "GET", "/hang", timeout=0.05)
        until(lambda: operator.requests[0].gone, "the client to be seen gone")
        for path in ("/get/before", "/get/headers", "/info"):
            with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                ask(operator, "GET", path)
        with socket.create_connection(("127.0.0.1", urlsplit(operator.url).port or 0)) as raw:
            raw.sendall(b"GET /get/before HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                raw.recv(1)
        began = time.monotonic()
        assert ask(operator, "GET", "/verifycortex").ok
        assert time.monotonic() - began >= 0.05
        assert operator.quirks[-1].times == 0
        hanging = socket.create_connection(("127.0.0.1", urlsplit(operator.url).port or 0))
        hanging.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: operator.requests[-1].path == "/hang", "the request")
    hanging.close()


def test_faults_of_answers() -> None:
    """Broken and wrong JSON, a big body, a redirect, cookies, chunks; a fault that struck has had its effect."""
    with Operator(manual=True) as operator:
        operator.deploy("train")
        operator.quirk("wrong_json", path="/tasks", times=1)
        with pytest.raises(ValueError, match="Expecting value"):
            ask(operator, "POST", "/tasks/train", data="{}").json()
        assert len(operator.jobs) == 1
        operator.quirk("wrong_json", [1], path="/tasks", times=1)
        assert ask(operator, "POST", "/tasks/train", data="{}").json() == [1]
        operator.quirk("big", times=1)
        answer = ask(operator, "GET", "/get")
        assert len(answer.content) > 10 << 20
        assert answer.json()[0]["metadata"]["name"] == "train"
        operator.quirk("redirect", "http://other.example/", times=1)
        answer = ask(operator, "GET", "/get")
        assert (answer.status_code, answer.headers["Location"]) == (302, "http://other.example/")
        operator.quirk("cookies")
        operator.quirk("chunked")
        answer = ask(operator, "GET", "/get")
        assert answer.cookies["cortex"] == "1"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.json()[0]["metadata"]["name"] == "train"
        with pytest.raises(KeyError):
            operator.quirk("other")
        with pytest.raises(AttributeError):
            Operator(other=1)


def test_bytes_go_in_and_out_as_they_are() -> None:
    """What came is recorded whole, and echoed; streams are counted."""
    with Operator() as operator:
        body = bytes(range(256)) * 300
        answer = ask(
            operator,
            "POST",
            "/echo/a%2Fb?x=%20+&status=418&header=X-A:1&header=X-A:2",
            data=body,
            headers={"Cookie": "a=b"},
        )
        assert (answer.status_code, answer.content, answer.headers["X-A"]) == (418, body, "1, 2")
        [request] = operator.requests
        assert (request.method, request.body) == ("POST", body)
        assert request.path == "/echo/a%2Fb?x=%20+&status=418&header=X-A:1&header=X-A:2"
        assert request.header("cookie") == ["a=b"]
        assert ask(operator, "DELETE", "/echo?status=204").status_code == 204
        assert len(ask(operator, "GET", "/stream?bytes=100000").content) == 100_000
        assert operator.requests[-1].sent == 100_000
        with ask(operator, "GET", "/stream", stream=True) as endless:
            assert len(next(endless.iter_content(1 << 20))) > 0
        until(lambda: operator.requests[-1].gone, "the reader to be seen gone")
        assert ask(operator, "POST", "/sink", data=body).json() == {"bytes": len(body)}
        assert operator.requests[-1].body == b""


@pytest.mark.parametrize("how", [["-m", "tests.support.cortex_double"], ["tests/support/cortex_double"]])
def test_as_a_program(how: list[str]) -> None:
    """It says its URL on the first line, and ends when told to."""
    command = [sys.executable, *how, "--version", "0.28.0", "--set", "lag=1", "--api", "train"]
    folder = TESTS.parent
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        job_id = requests.post(f"{url}/tasks/train", data="{}", timeout=PATIENCE).json()["job_id"]
        refused(requests.get(f"{url}/tasks/train?jobID={job_id}", timeout=PATIENCE), "job.not_found")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
