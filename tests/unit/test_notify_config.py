"""``notify`` of config.yaml: what it may say, how a mistake is told, and what of it is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import BadRequest, Unavailable
from taskapi_jupyter.notifier import body
from taskapi_jupyter.notifier.attempt import Target, secrets_of
from taskapi_jupyter.notifier.sending import next_attempt
from taskapi_jupyter.service import config
from taskapi_jupyter.service.destinations import Destination, Notify

FAILED = ["worker_error", "worker_oom", "timed_out", "unexpected_error"]
ENDED = {"succeeded", "stopped", *FAILED}


def read(folder: Path, text: str) -> config.Config:
    (folder / "config.yaml").write_text(text, "utf-8")
    return config.read(folder / "config.yaml")


def test_all_that_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    found = read(
        tmp_path,
        "notify:\n  after: 1m\n  give_up: 2d\n  retries: [1, 2m]\n"
        "  mail: {url: 'mailtos://env:MAIL_URL', on: [failed]}\n"
        "  ops:\n    url: https://hooks.example/jobs\n    secret: file:~/hook.key\n    on: [started, ended]\n"
        f"    apis: [train, 'nightly-*']\n    include: [config, result, log_tail]\n    verify: {tmp_path}/ca.pem\n"
        "  here: {url: 'http://127.0.0.1:8000', on: succeeded}\n",
    )
    notify = found.notifications()
    assert (notify.after, notify.give_up, notify.retries) == (60, 172_800, [1, 120])
    assert list(notify.names) == ["mail", "ops", "here"]
    limits: Any = found.limits()["notify"]
    assert limits["names"]["mail"] == {"on": FAILED, "apis": None}
    assert (limits["names"]["here"]["on"], set(limits["names"]["ops"]["on"])) == (["succeeded"], {"started", *ENDED})
    assert not [word for word in ("hooks.example", "hook.key", "MAIL_URL") if word in repr(limits)]
    assert [one for each in notify.names.values() for one in each.variables()] == ["MAIL_URL"]


def test_without_names_nothing_is_kept(tmp_path: Path) -> None:
    for text in ("", "notify:\n", "notify: {}\n", "notify: {after: 5}\n"):
        assert "notify" not in read(tmp_path, text).limits()
    notify = read(tmp_path, "").notifications()
    assert (notify.after, notify.give_up, len(notify.retries)) == (0, 86_400, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ops: {url: hooks.example}}", "notify.ops.url has no scheme"),
        ("{ops: {url: ''}}", "notify.ops.url is empty"),
        ('{ops: {url: "https://a.example/x\\ny"}}', "notify.ops.url is empty, or has a newline"),
        ("{ops: {url: 'http://a.example/token'}}", r"notify.ops.url is http:// to .*a.example.*insecure: true"),
        ("{ops: {url: 'https://'}}", "notify.ops.url is no URL of a web server"),
        ("{ops: https://hooks.example/token}", "notify.ops must be a mapping with a url"),
        ("{ops: }", "notify.ops must be a mapping with a url"),
        ("{ops: {url: 'https://a.example', on: [finished]}}", r"notify.ops.on: .*finished.* is not one of started"),
        ("{ops: {url: 'https://a.example', uri: x}}", "unknown key 'uri' in notify.ops; did you mean url"),
        ("{ops: {url: 'https://a.example', secret: short}}", "notify.ops.secret has 5 bytes; it must have 24 or more"),
        ("{ops: {url: 'https://a.example', secret: 'whsec_!token!'}}", "notify.ops.secret begins with whsec_, and"),
        ("{ops: {url: 'https://a.example', secret: 123456}}", "notify.ops.secret must be text"),
        ("{ops: {url: 'https://a.example', include: [log]}}", r"notify.ops.include\[0\] must be one of config, result"),
        ("{ops: {url: 'https://a.example', verify: /no/token}}", "notify.ops.verify: there is no file"),
        ("{mail: {url: 'mailto://a.example', secret: x}}", "notify.mail.secret is what a webhook is signed with"),
        ("{browser: {url: 'https://a.example'}}", "notify.'browser': a name has 1 to 32 letters"),
        ("{a b: {url: 'https://a.example'}}", "notify.'a b': a name has"),
        ("{after: soon}", "notify.after must be a time such as 90"),
        ("{retries: 5}", "notify.retries must be a list of at most 20 times"),
        ("{give_up: 0}", "notify.give_up must be from 1"),
        ("[ops]", "notify must be a mapping"),
    ],
)
def test_a_mistake_names_its_entry(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        read(tmp_path, f"notify: {text}\n")
    assert "token" not in str(caught.value).replace("/no/token", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/services/T0/B0/token", "https://hooks.example/..."),
        ("https://me:token@hooks.example:8443", "https://hooks.example:8443"),
        ("https://hooks.example/?token=1", "https://hooks.example/..."),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("slack://TokenA/TokenB/TokenC/#jobs", "slack://..."),
        ("env:HOOK", "env:HOOK"),
        ("mailtos://env:MAIL_URL", "mailtos://env:MAIL_URL"),
        ("file:~/slack.url", "file:~/slack.url"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert Destination(url=url).shown == shown


def test_values_are_read_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    one = Destination(url="https://env:A_HOOK", secret=f"file:{key}")
    with pytest.raises(Unavailable, match=r"^notify.ops.url: the environment variable A_HOOK is not set"):
        one.check("notify.ops")
    monkeypatch.setenv("A_HOOK", "a.example/token")
    with pytest.raises(Unavailable, match=r"^notify.ops.secret: .*key can't be read: No such file"):
        one.check("notify.ops")
    key.write_text("token-that-is-short\n")
    with pytest.raises(BadRequest, match=r"^notify.ops.secret has 19 bytes"):
        one.check("notify.ops")
    key.write_text("0123456789" * 3 + "\n")
    assert one.check("notify.ops") == ("https://a.example/token", b"0123456789" * 3)
    monkeypatch.setenv("A_HOOK", "http://a.example/token")  # which has a scheme of its own
    with pytest.raises(BadRequest, match=r"^notify.ops.url is http:// to"):
        one.check("notify.ops")


def test_what_is_hidden() -> None:
    url = "slack://TokenAAA/TokenBBB/Token%20CCC/#jobs?format=text"
    target = Target("chat", Destination(url=url), url, None, secrets_of(url, b"\xff" * 24))
    for text in (url, "at /TokenBBB: no", "TokenAAA", "Token CCC", "Token%20CCC", "/" * 10 + "8" * 3):
        assert "Token" not in target.masked(text)
    assert target.masked("no\r\n\x1b[31m" + "x" * 5000)[:12] == "no \\x1b[31mx"
    assert len(target.masked("x" * 5000)) == 1000
    mail = "mailto://me:pass-word@mail.example?to=you@example.org"
    assert secrets_of(mail, None)[0] == mail
    assert "pass-word" in secrets_of(mail, None)


def test_when_the_next_attempt_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000_000_000
    monkeypatch.setattr(host, "now_us", lambda: now)
    notify = Notify({})

    def pause(tries: int, after: float = 0, age: float = 0) -> float | None:
        due = next_attempt(now - int(age * 1e6), tries, notify, after)
        return None if due is None else (due - now) / 1e6

    for tries, seconds in enumerate((5, 300, 1800, 7200, 18_000, 36_000, 36_000), 1):
        assert seconds * 0.9 <= (pause(tries) or 0) <= seconds * 1.1
    assert pause(8) is None
    assert pause(1, after=600) == 600
    assert pause(1, after=1e9) == 86_400
    assert pause(6, age=80_000) == 6400  # the last one, when it is time to give up
    assert pause(6, age=86_400) is None


def test_text_for_people_is_data() -> None:
    data = {
        "job_id": "ab", "api_name": "train", "status": "worker_oom", "reason": "a\r\nBcc: x\x1b[1m", "exit_code": 1,
        "start_time": "2026-01-01T00:00:00.000000Z", "end_time": "2026-01-01T00:01:05.000000Z", "notebook": None,
        "group": None, "schedule": None, "url": None, "config": {"a": "b"}, "result": "x", "result_cut": True,
        "log_tail": "one\n\x1b[2Jtwo",
    }  # fmt: skip
    title, text = body.as_text({"data": data})
    assert title == "train: out of memory"
    assert text.splitlines() == [
        "Job ab of train: out of memory after 1 min 05 s",
        "reason: a Bcc: x\\x1b[1m",
        "exit code: 1",
        'config: {"a": "b"}',
        "result: x ... (cut)",
        "end of its log:",
        "one",
        "\\x1b[2Jtwo",
    ]


def test_no_body_is_too_large() -> None:
    data: dict[str, Any] = {"job_id": "a", **{str(n): "\x1b" * 5000 for n in range(9)}, "list": ["\x1b" * 9000]}
    sent = body.as_json({"type": "t", "data": data})
    assert len(sent) <= body.MOST
    assert b'"list_cut":true' in sent


def test_names_of_variables_are_kept_for_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskapi_jupyter.service.supervisor import wake

    monkeypatch.setenv("A_HOOK", "x")
    monkeypatch.setenv("ANOTHER", "y")
    (tmp_path / "notifier.variables").write_text("A_HOOK\nNOT_SET\n")
    found = wake._environ(str(tmp_path))
    assert (found.get("A_HOOK"), "ANOTHER" in found, found.get("HOME")) == ("x", False, os.environ.get("HOME"))
