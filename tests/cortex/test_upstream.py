"""What lets us into a cluster: from where it is read, what gets it and what doesn't, and that no message shows it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.cortex import aws
from taskapi_jupyter.cortex.operator import SIGNATURE_HEADER, VERSION_HEADER, Upstream, before

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
    "AWS_SESSION_TOKEN": "session-token",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have botocore find no credentials of this machine's."""
    for name in (*AWS, "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process credentials."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)


def test_headers_from_the_environment_from_files_and_from_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROD_KEY", "s3cret")
    (tmp_path / "token").write_text("t0ken\n")
    upstream = Upstream(
        "prod",
        "https://operator.example/",
        version="0.28.0",
        headers={
            "X-Env": {"env": "PROD_KEY"},
            "X-File": {"file": str(tmp_path / "token")},
            "Authorization": "Bearer ${PROD_KEY}",
        },
    )
    given = {"X-Env": "s3cret", "X-File": "t0ken", "Authorization": "Bearer s3cret"}
    assert upstream.headers("/tasks/hello?jobID=1") == given
    assert upstream.headers("/verifycortex") == given
    assert upstream.headers("/get") == {**given, VERSION_HEADER: "0.28.0"}
    monkeypatch.setenv("PROD_KEY", "renewed")
    assert upstream.headers("/get")["X-Env"] == "renewed"
    assert "s3cret" not in repr(upstream)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"env": "NO_SUCH"}, "NO_SUCH is not set"),
        ("Bearer ${NO_SUCH}", "NO_SUCH is not set"),
        ({"file": "/no/such/file"}, "/no/such/file can't be read"),
        ({"env": "TWO_LINES"}, "no header can have"),
        ({"env": "SMILE"}, "no header can have"),
    ],
)
def test_a_value_that_cant_be_had(value: Any, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWO_LINES", "s3cret\r\nX-Evil: 1")
    monkeypatch.setenv("SMILE", "s3cret \N{SNOWMAN}")
    with pytest.raises(Unavailable, match=named) as raised:
        Upstream("prod", "https://x.example", headers={"X-Key": value}).headers("/tasks/a")
    assert "environment prod: header X-Key" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.kind == "environment.credentials"


def signed(header: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))))


def test_a_signature_that_aws_would_take(keys: None) -> None:
    header = Upstream("prod", "https://operator.example", version="0.42.1").headers("/get")[SIGNATURE_HEADER]
    assert "=" not in header
    request = signed(header)
    assert set(request) == {"Header", "URL", "Method", "Host", "Body", "ContentLength"}
    assert (request["Method"], request["URL"]) == ("POST", "https://sts.eu-west-1.amazonaws.com/")
    assert request["Host"] == "sts.eu-west-1.amazonaws.com"
    assert request["Body"] == "Action=GetCallerIdentity&Version=2011-06-15"
    assert request["ContentLength"] == len(request["Body"])
    assert request["Header"]["X-Amz-Security-Token"] == ["session-token"]
    # Signed again by botocore at the time that the header says, the signature is the same.
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    moment = request["Header"]["X-Amz-Date"][0]
    age = datetime.now(timezone.utc) - datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    assert abs(age.total_seconds()) < 120
    again = AWSRequest(
        method="POST",
        url=request["URL"],
        data=request["Body"],
        headers={"Content-Type": request["Header"]["Content-Type"][0], "X-Amz-Security-Token": "session-token"},
    )
    again.context["timestamp"] = moment
    again.headers["X-Amz-Date"] = moment
    signer = SigV4Auth(
        Credentials(AWS["AWS_ACCESS_KEY_ID"], AWS["AWS_SECRET_ACCESS_KEY"], "session-token"), "sts", "eu-west-1"
    )
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert request["Header"]["Authorization"][0].endswith("Signature=" + signer.signature(text, again))
    assert AWS["AWS_SECRET_ACCESS_KEY"] not in json.dumps(request)


@pytest.mark.parametrize(
    ("endpoint", "version", "path", "headers"),
    [
        ("https://x.example", "0.28.0", "/get", {}),  # knows no such header
        ("http://x.example", "0.42.1", "/get", {}),  # anybody on the way could read it
        ("https://x.example", "0.42.1", "/tasks/a", {}),  # asks for none
        ("https://x.example", "0.42.1", "/verifycortex", {}),
        ("https://x.example", "0.42.1", "/get", {"x-cortex-authorization": "mine"}),  # the user's own
    ],
)
def test_not_signed(keys: None, endpoint: str, version: str, path: str, headers: dict[str, str]) -> None:
    sent = Upstream("prod", endpoint, version=version, headers=headers).headers(path)
    assert SIGNATURE_HEADER not in sent
    assert headers.items() <= sent.items()


def test_no_credentials_no_signature() -> None:
    assert aws.signature() is None
    assert Upstream("prod", "https://x.example", version="0.42.1").headers("/get") == {VERSION_HEADER: "0.42.1"}


def test_a_signature_is_renewed_in_time(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream("prod", "https://x.example", version="0.42.1")
    first = upstream.headers("/get")[SIGNATURE_HEADER]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEXT")
    assert upstream.headers("/get")[SIGNATURE_HEADER] == first
    upstream._signature = (upstream._signature[0] - aws.HOLDS, first)  # as if it were as old
    assert "AKIDNEXT" in signed(upstream.headers("/get")[SIGNATURE_HEADER])["Header"]["Authorization"][0]


class Info:
    """A server whose ``/info`` says a version."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, dict(self.headers)))
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    seen: list[Any]


@pytest.fixture
def info() -> Iterator[Any]:
    servers: list[Info] = []

    def make(body: bytes, status: int = 200) -> Info:
        servers.append(Info(body, status))
        return servers[-1]

    yield make
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


def test_the_version_is_asked_for_once(info: Any, keys: None) -> None:
    server = info(b'{"cluster_config": {"api_version": "0.35.2"}}')
    upstream = Upstream("prod", server.url, headers={"X-Key": "k"})
    assert upstream.headers("/tasks/a") == {"X-Key": "k"}
    assert server.seen == []
    assert [upstream.headers("/get")[VERSION_HEADER] for _ in range(3)] == ["0.35.2"] * 3
    ((path, sent),) = server.seen
    assert path == "/info"
    assert sent["X-Key"] == "k"
    assert SIGNATURE_HEADER in sent


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no JSON", 200),
        (b"[]", 200),
        (b'{"cluster_config": {}}', 200),
        (b'{"cluster_config": {"api_version": "1\\r\\nX: 2"}}', 200),
        (b'{"cluster_config": {"api_version": 1}}', 200),
        (b"", 302),
    ],
)
def test_a_version_that_cant_be_had(info: Any, body: bytes, status: int) -> None:
    server = info(body, status)
    assert VERSION_HEADER not in Upstream("prod", server.url).headers("/get")


def test_the_users_own_version_header_wins() -> None:
    upstream = Upstream("prod", "https://x.example", version="0.28.0", headers={"cortexapiversion": "0.28.1"})
    assert upstream.headers("/get") == {"cortexapiversion": "0.28.1"}


@pytest.mark.parametrize(
    ("version", "is_before"),
    [("0.28.0", True), ("0.29", True), ("0.30.0", False), ("0.42.1", False), ("1.0", False), (None, False)],
)
def test_before(version: str | None, is_before: bool) -> None:
    assert before(version, (0, 30)) is is_before


def test_what_is_at_hand(info: Any, keys: None, tmp_path: Path) -> None:
    """What would wait for a disk, for AWS or for the cluster is not; what is known is."""
    assert Upstream("prod", "https://x.example", version="0.28.0", headers={"X-Key": "k"}).at_hand("/get")
    assert not Upstream("prod", "https://x.example", version="0.28.0", headers={"X-Key": {"file": "x"}}).at_hand("/get")
    signed = Upstream("prod", "https://x.example", version="0.42.1")
    assert signed.at_hand("/tasks/a")
    assert not signed.at_hand("/get")
    signed.headers("/get")
    assert signed.at_hand("/get")
    server = info(b'{"cluster_config": {"api_version": "0.35.2"}}')
    asked = Upstream("prod", server.url)
    assert not asked.at_hand("/get")
    asked.headers("/get")
    assert asked.at_hand("/get")


def test_a_cluster_that_does_not_say_its_version_is_not_asked_each_time(info: Any) -> None:
    server = info(b"no JSON")
    upstream = Upstream("prod", server.url)
    for _ in range(3):
        assert VERSION_HEADER not in upstream.headers("/get")
    assert len(server.seen) == 1
