"""Webhooks, mail and chat: each end is told of at least once, in order, signed, and nobody waits for it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import IMPORTS, PATIENCE, TESTS, WAITING, request_for, until
from support.homes import processes, stop_supervisor
from support.receiver import SECRET, Receiver, closes, drips, floods, later, receiver, redirects
from support.records import deploy, end, row, tidy
from support.servers import reserved_port
from taskapi_jupyter.core.contract import ScheduleRequest
from taskapi_jupyter.core.errors import BadRequest, Conflict
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.notifier import attempt, webhook
from taskapi_jupyter.service.destinations import Destination
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui import doctor

ENDS = """
import time

def task(config):
    print("the log")
    time.sleep(config.get("seconds", 0))
    if config.get("fails"):
        raise ValueError(config["fails"])
    return {"n": config.get("n")}
"""


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def api(service: Service, name: str) -> str:
    service.deploy_request(request_for(name, ENDS, compute={"cpu": "10m"}))
    return name


def configure(home: Path, *names: str, **options: Any) -> None:
    """Write a config.yaml with some names, each ``name: {…}``."""
    lines = [f"  {key}: {json.dumps(value)}" for key, value in options.items()]
    (home / "config.yaml").write_text("\n".join(["stop_grace: 1", "notify:", *lines, *(f"  {one}" for one in names)]))


def entry(name: str, hook: Receiver, **more: Any) -> str:
    return f"{name}: {json.dumps({'url': hook.url, 'secret': SECRET, **more})}"


def states(service: Service, name: str | None = None) -> list[tuple[str, str, int]]:
    """Return event, state and attempts of all deliveries, oldest first."""
    found = service.notifications(name, 1000).deliveries
    return [(one.event, one.state, one.attempts) for one in reversed(found)]


def settled(service: Service, count: int) -> list[tuple[str, str, int]]:
    """Wait until so many deliveries were dealt with."""

    def done() -> bool:
        found = states(service)
        return len(found) == count and not [one for one in found if one[1] == "waiting"]

    until(done, "what waits to be sent")
    return states(service)


def notifiers(home: Path) -> list[psutil.Process]:
    return [one for one in processes(home) if "taskapi_jupyter.notifier" in " ".join(one.cmdline())]


# What is sent


def test_both_ends_of_a_job_are_sent_signed(service: Service, api: str, tmp_path: Path) -> None:
    with receiver(tmp_path) as hook:
        more = {"verify": str(hook.authority), "on": ["started", "ended"], "include": ["config", "result", "log_tail"]}
        configure(service.home, entry("ops", hook, **more))
        job = service.submit(api, {"n": 1}, notebook="a/b.ipynb").wait(PATIENCE)
        begin, end = hook.wait(2)
        assert settled(service, 2) == [("started", "sent", 1), ("succeeded", "sent", 1)]
        assert [one["type"] for one in hook.verified()] == ["taskapi.job.started", "taskapi.job.succeeded"]
    assert begin.id != end.id
    assert (begin.data["status"], begin.data["end_time"], "result" in begin.data) == ("running", None, False)
    record = job.refresh().record
    assert {key: end.data[key] for key in ("job_id", "api_name", "status", "reason", "exit_code", "notebook")} == {
        "job_id": job.id, "api_name": api, "status": "succeeded", "reason": None, "exit_code": 0,
        "notebook": "a/b.ipynb",
    }  # fmt: skip
    assert (end.data["start_time"], end.data["end_time"]) == (record.start_time, record.end_time)
    assert (end.data["config"], end.data["result"], end.data["log_tail"]) == ({"n": 1}, {"n": 1}, "the log\n")
    single = service.job_response(job.id).job_status.notifications
    assert [(one.name, one.state) for one in single or ()] == [("ops", "sent")]


def test_nothing_but_facts_is_sent_unless_it_is_included(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    service.submit(api, {"n": "secret-of-a-config"}).wait(PATIENCE)
    (got,) = hook.wait(1)
    assert not {"config", "result", "log_tail"} & got.data.keys()
    assert b"secret-of-a-config" not in got.body
    assert b"the log" not in got.body


def test_what_is_long_is_cut_and_says_so(service: Service, name: str, hook: Receiver) -> None:
    source = "def task(config):\n    print('\\x1b' * 50_000)\n    return ['\\u20ac' * 9000]\n"
    service.deploy_request(request_for(name, source))
    configure(service.home, entry("ops", hook, include=["config", "result", "log_tail"]))
    service.submit(name, {"x": "\0" * 3000, "y": "\0" * 3000}).wait(PATIENCE)
    (got,) = hook.wait(1)
    assert len(got.body) <= 20_000
    assert got.data["config_cut"]
    assert got.data["result_cut"]
    assert got.data["log_tail_cut"]
    assert hook.verified()


# Of what


def test_which_ends_are_told_to_whom(service: Service, name: str, hook: Receiver) -> None:
    configure(
        service.home,
        entry("bad", hook, on=["failed"]),
        entry("mine", hook, on=["succeeded", "stopped"], apis=["nightly-*", "only-?"]),
        entry("out", hook, on=["timed_out"]),
        entry("named", hook, apis=[]),
    )
    for one, more in (("nightly-1", {}), ("other", {"notify": ["named"]})):
        service.deploy_request(request_for(one, ENDS, compute={"cpu": "10m"}, **more))
    jobs = {
        "good": service.submit("nightly-1"),
        "error": service.submit("nightly-1", {"fails": "x"}),
        "late": service.submit("nightly-1", {"seconds": 60}, run_timeout=1),
        "other": service.submit("other"),
    }
    for job in jobs.values():
        job.wait(PATIENCE)
    expected = [("bad", "error"), ("bad", "late"), ("mine", "good"), ("named", "other"), ("out", "late")]
    settled(service, len(expected))
    ids = {job.id: key for key, job in jobs.items()}
    assert sorted((one.name, ids[one.job_id]) for one in service.notifications().deliveries) == expected


def test_a_job_may_ask(service: Service, api: str, hook: Receiver, tmp_path: Path) -> None:
    configure(service.home, entry("ops", hook, on=["failed"]), entry("all", hook), after=3600)
    service.submit(api).wait(PATIENCE)
    jobs = {
        service.submit(api, notify=["ops", "ops", "browser"]).id: ["ops"],
        service.submit(api, notify=[]).id: [],
        service.submit(api, notify=["browser"]).id: [],  # as config.yaml says: it ran less than an hour
    }
    group = service.map(api, [{}, {}], notify=["all"])
    jobs |= {job.id: ["all"] for job in group}
    for job_id in jobs:
        service.get(api, job_id).wait(PATIENCE)
    settled(service, 3)
    told: dict[str, list[str]] = {job_id: [] for job_id in jobs}
    for one in service.notifications().deliveries:
        told[one.job_id].append(one.name)
    assert told == jobs
    assert service.job_response(next(iter(jobs))).job_status.notify == ["ops", "browser"]


def test_a_job_under_way_may_ask(service: Service, name: str, hook: Receiver, tmp_path: Path) -> None:
    service.deploy_request(request_for(name, WAITING))
    configure(service.home, entry("ops", hook), entry("all", hook))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    with pytest.raises(BadRequest, match=r"no notification nobody; there are: ops, all, browser"):
        service.notify(job, ["nobody"])
    assert service.notify(job, ["all"]) == f"job {job.id} notifies all when it ends"
    (tmp_path / "go").touch()
    job.wait(PATIENCE)
    settled(service, 1)
    assert service.notifications().deliveries[0].name == "all"
    with pytest.raises(Conflict, match="has ended"):
        service.notify(job, [])


def test_one_that_is_run_again_asks_again(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook, on=["failed"]), entry("gone", hook, on=["failed"]))
    job = service.submit(api, notify=["ops", "gone"]).wait(PATIENCE)
    group = service.map(api, [None, {"fails": "x"}], notify=["gone", "ops"]).wait(PATIENCE)
    settled(service, 6)
    configure(service.home, entry("ops", hook, on=["failed"]))
    job.rerun().wait(PATIENCE)
    group.rerun(failed=False).wait(PATIENCE)
    assert sorted(settled(service, 9)[6:]) == [("succeeded", "sent", 1)] * 2 + [("worker_error", "sent", 1)]
    assert {one.name for one in service.notifications(limit=3).deliveries} == {"ops"}


def test_an_unknown_name_is_refused_and_nothing_stored(service: Service, api: str, hook: Receiver) -> None:
    with pytest.raises(BadRequest, match="it has none"):
        service.submit(api, notify=["ops"])
    configure(service.home, entry("ops", hook))
    for submit in (lambda: service.submit(api, notify=["opps"]), lambda: service.map(api, [{}], notify=["opps"])):
        with pytest.raises(BadRequest, match="there are: ops, browser"):
            submit()
    with pytest.raises(BadRequest, match="there are: ops, browser"):
        service.deploy_request(request_for("another", ENDS, notify=["opps"]))
    assert service.jobs() == []
    assert len(service.get()) == 1


def test_without_apprise_a_submission_says_what_to_install(
    service: Service, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(service.home, 'mail: {url: "mailto://127.0.0.1"}')
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("taskapi_jupyter.service.writing.notifications.find_spec", lambda name: None)
    for call in (lambda: service.submit(api, notify=["mail"]), lambda: service.test_notification("mail")):
        with pytest.raises(BadRequest, match=r"pip install 'taskapi-jupyter\[notify\]'"):
            call()
    assert service.jobs() == []
    assert [one.name for one in service.notifications().names if one.problem] == ["mail"]


def test_an_attempt_that_is_followed_by_another_is_no_end(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    job = service.submit(api, {"fails": "again"}, retries=2)
    last = job.wait(PATIENCE)
    assert settled(service, 1) == [("worker_error", "sent", 1)]
    assert service.notifications().deliveries[0].job_id == last.id != job.id


def test_jobs_that_end_before_they_start(service: Service, hook: Receiver, tmp_path: Path) -> None:
    configure(service.home, entry("ops", hook, on=["stopped", "timed_out"]))
    source = request_for("waits", WAITING, compute={"cpu": "1m"})
    service.deploy_request(source)
    (service.home / "config.yaml").write_text((service.home / "config.yaml").read_text() + "\ncpus: 1m\n")
    first = service.submit("waits", {"path": str(tmp_path / "go")})
    until(lambda: first.refresh().status == "running", "the first job to run")
    canceled, late = service.submit("waits"), service.submit("waits", timeout=1)
    service.cancel(canceled)
    group = service.map("waits", [{}, {}])
    late.wait(PATIENCE)
    service.stop_group(group.id)
    stopped = service.submit("waits")
    service.stop(stopped)
    service.delete("waits")
    settled(service, 6)
    ends = {one.job_id: one.event for one in service.notifications().deliveries}
    expected = {job.id: "stopped" for job in (first, canceled, *group, stopped)} | {late.id: "timed_out"}
    assert ends == expected


def test_what_ends_in_a_chain_and_what_a_schedule_submits(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook, on=["stopped"]))
    first = service.submit(api, {"fails": "x"})
    second = service.submit(api, after=first)
    third = service.submit(api, after=second)
    assert third.wait(PATIENCE).status == "stopped"
    assert settled(service, 2) == [("stopped", "sent", 1)] * 2
    assert [one.data["job_id"] for one in hook.got] == [second.id, third.id]
    with pytest.raises(BadRequest, match="there are: ops, browser"):
        service.create_schedule(ScheduleRequest(api=api, schedule="@daily", notify=["opps"]))
    service.create_schedule(ScheduleRequest(api=api, schedule="@daily", name="daily", notify=["ops"]))
    job = service.run_schedule("daily").wait(PATIENCE)
    got = hook.wait(3)[2]
    assert (got.data["job_id"], got.data["schedule"], got.data["status"]) == (job.id, "daily", "succeeded")


def test_nothing_configured_costs_nothing(service: Service, api: str) -> None:
    for _ in range(3):
        service.submit(api).wait(PATIENCE)
    service.submit(api, notify=["browser"]).wait(PATIENCE)
    assert service.notifications().deliveries == []
    assert service.store.next_delivery() is None
    assert not {"notifier.lock", "notifier.variables"} & {path.name for path in service.home.iterdir()}


# How receivers fail


@pytest.mark.parametrize(
    ("answers", "state", "said"),
    [
        ([500, 500, 200], ("sent", 3), "200 OK: told 200"),
        ([429], ("sent", 2), "204 No Content"),
        ([404], ("failed", 1), "404 Not Found: told 404"),
        ([redirects, redirects, redirects], ("failed", 3), "302: redirects are not followed"),
        ([closes, closes, closes], ("failed", 3), "the connection was closed before there was an answer"),
        ([500, 503, 500], ("failed", 3), "500 Internal Server Error: told 500"),
    ],
)
def test_attempts(
    service: Service, api: str, hook: Receiver, answers: list[Any], state: tuple[str, int], said: str
) -> None:
    configure(service.home, entry("ops", hook), retries=[0, 0])
    hook.answers += answers
    service.submit(api).wait(PATIENCE)
    assert settled(service, 1) == [("succeeded", *state)]
    assert {one.id for one in hook.got} == {service.notifications().deliveries[0].id}
    assert service.notifications().deliveries[0].answer == said
    assert {one.path for one in hook.got} == {"/hooks/kept-for-us"}
    assert hook.verified()


def test_one_that_wants_no_more_is_switched_off(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    hook.answers += [410]
    service.submit(api).wait(PATIENCE)
    settled(service, 1)
    service.submit(api).wait(PATIENCE)
    assert settled(service, 2) == [("succeeded", "failed", 1), ("succeeded", "failed", 0)]
    assert len(hook.got) == 1
    (shown,) = service.notifications().names
    assert shown.switched_off == "it answered 410 Gone: told 410"
    assert shown.problem == f"switched off: {shown.switched_off}"
    assert any("notify.ops is switched off" in one for one in doctor.problems(service.home))
    assert service.test_notification("ops").state == "sent"
    service.submit(api).wait(PATIENCE)
    assert settled(service, 3)[2:] == [("succeeded", "sent", 1)]
    assert not service.notifications().names[0].problem


def test_a_wrong_certificate(service: Service, api: str, tmp_path: Path) -> None:
    with receiver(tmp_path, trusted=False) as hook:
        configure(service.home, entry("ops", hook, verify=str(hook.authority)))
        service.submit(api).wait(PATIENCE)
        until(lambda: states(service) == [("succeeded", "waiting", 1)], "an attempt")
        assert "certificate can't be verified" in str(service.notifications().deliveries[0].answer)
        configure(service.home, entry("ops", hook, verify=False), retries=[0])
        assert service.test_notification("ops").state == "sent"  # what waits goes with it, as config.yaml says now
        settled(service, 1)
        assert [one["type"] for one in hook.verified()] == ["taskapi.test", "taskapi.job.succeeded"]


def test_no_proxy_and_no_foreign_host_is_used(monkeypatch: pytest.MonkeyPatch, hook: Receiver) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert sent_to(hook).send("d1", b"{}").state == "sent"


def sent_to(hook: Receiver) -> webhook.Webhook:
    destination = Destination(url=hook.url)
    return webhook.Webhook(attempt.Target("ops", destination, hook.url, None, attempt.secrets_of(hook.url, None)))


def test_one_that_drips_gets_its_time_and_no_more(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    hook.answers += [drips]
    sender = sent_to(hook)
    outcome = sender.send("d1", b"{}")
    assert (outcome.state, outcome.answer) == ("again", "no answer within 0.5 s")
    assert sender.send("d1", b"{}").state == "sent"


def test_of_a_huge_answer_little_is_read(hook: Receiver) -> None:
    hook.answers += [floods]
    outcome = sent_to(hook).send("d1", b"{}")
    assert outcome.state == "sent"
    assert 900 < len(outcome.answer) <= 1000
    until(lambda: hook.answers == ["cut"], "the receiver to notice")


def test_who_asks_to_come_later_is_heard(hook: Receiver) -> None:
    hook.answers += [later("120"), later("99999999"), later("Fri, 31 Dec 1999 23:59:59 GMT"), later("soon")]
    sender = sent_to(hook)
    assert [sender.send("d1", b"{}").after for _ in range(4)] == [120, 86_400, 0, 0]


def test_what_a_receiver_repeats_of_us_is_not_kept(hook: Receiver) -> None:
    async def repeats(handler: Any) -> None:
        handler.set_status(400)
        handler.write(f"{handler.request.path} {SECRET}\x1b[2J\nnext")

    hook.answers += [repeats]
    url, destination = hook.url, Destination(url=hook.url)
    target = attempt.Target("ops", destination, url, SECRET.encode(), attempt.secrets_of(url, SECRET.encode()))
    outcome = webhook.Webhook(target).send("d1", b"{}")
    assert outcome.answer == "400 Bad Request: /*** ***\\x1b[2J next"


def test_order_is_kept_and_one_that_fails_holds_up_no_other(service: Service, api: str, hook: Receiver) -> None:
    with receiver() as bad:
        configure(service.home, entry("bad", bad), entry("good", hook), retries=[3600])
        bad.answers += [500]
        service.submit(api, {"n": 0}).wait(PATIENCE)
        until(lambda: [one[1:] for one in states(service, "bad")] == [("waiting", 1)], "the first attempt")
        ids = [service.submit(api, {"n": n}).wait(PATIENCE).id for n in range(1, 4)]
        until(lambda: [one[1] for one in states(service, "good")] == ["sent"] * 4, "the others")
        assert [one.data["job_id"] for one in hook.got][1:] == ids
        assert [one[1:] for one in states(service, "bad")] == [("waiting", 1), *[("waiting", 0)] * 3]
        due = service.store.next_delivery()
        assert due is not None
        assert due > service.store._one("SELECT max(at) + 60000000 FROM outbox")[0]
        assert service.test_notification("bad").state == "sent"
        until(lambda: {one[1] for one in states(service)} == {"sent"}, "what waited")
        assert [one.data.get("job_id") for one in bad.got][2:][1:] == ids


# Secrets


def test_no_secret_is_where_it_must_not_be(
    service: Service, api: str, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "token-of-a-hook-9f8e7d"
    (tmp_path / "key").write_text(SECRET + "\n")
    stop_supervisor(service.home)
    monkeypatch.setenv("HOOK_OF_A_TEST", f"localhost:{hook.port}/{token}")
    configure(service.home, f'ops: {{url: "http://env:HOOK_OF_A_TEST", secret: "file:{tmp_path}/key"}}', retries=[0])

    async def slow(handler: Any) -> None:
        commands.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path))
        handler.set_status(500)
        handler.write(f"no {handler.request.path}")

    commands: list[bytes] = []
    hook.answers += [slow]
    service.submit(api).wait(PATIENCE)
    settled(service, 1)
    assert service.test_notification("ops").state == "sent"
    assert [one.path for one in hook.got] == [f"/{token}"] * 3
    assert len(hook.verified()) == 3
    shown = repr(service.notifications()).encode()
    files = [path.read_bytes() for path in service.home.rglob("*") if path.is_file()]
    everything = [*commands, shown, *files, "\n".join(doctor.problems(service.home)).encode()]
    for secret in (token, SECRET, SECRET.removeprefix("whsec_")):
        assert not [text for text in everything if secret.encode() in text]
    assert (service.home / "notifier.variables").read_text() == "HOOK_OF_A_TEST\n"


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
        return True
    except OSError:
        return False


def test_what_a_variable_lacks_waits_and_says_why(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, 'ops: {url: "env:NOT_SET_HERE_ABC"}')
    service.submit(api).wait(PATIENCE)
    until(lambda: service.notifications().deliveries[0].answer, "a reason")
    (one,) = service.notifications().deliveries
    said = "notify.ops.url: the environment variable NOT_SET_HERE_ABC is not set where this is sent from"
    assert (one.state, one.attempts, one.answer) == ("waiting", 0, said)
    assert service.test_notification("ops").answer == said
    assert any(said in problem for problem in doctor.problems(service.home))
    until(lambda: not notifiers(service.home), "the notifier to leave")
    environ = {**os.environ, "NOT_SET_HERE_ABC": hook.url}
    command = [sys.executable, "-m", "taskapi_jupyter.notifier", str(service.home)]
    subprocess.run(command, env=environ, check=True, timeout=60)
    assert settled(service, 1) == [("succeeded", "sent", 1)]


def test_what_is_no_longer_configured_has_failed(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook), retries=[0])
    hook.answers += [500]
    stop = threading.Event()

    async def changes(handler: Any) -> None:
        configure(service.home, entry("others", hook, on=["stopped"]))
        handler.set_status(500)
        stop.set()

    hook.answers[:] = [changes]
    service.submit(api).wait(PATIENCE)
    assert stop.wait(PATIENCE)
    assert settled(service, 1) == [("succeeded", "failed", 1)]
    assert "no longer configured" in str(service.notifications().deliveries[0].answer)


# Mail


def test_mail_by_apprise_with_a_hostile_reason(service: Service, name: str) -> None:
    from aiosmtpd.controller import Controller

    class Keeps:
        got: list[bytes] = []

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            self.got.append(envelope.content)
            return "250 OK"

    controller = Controller(Keeps(), hostname="127.0.0.1", port=reserved_port())
    controller.start()
    try:
        source = "def task(config):\n    raise ValueError('a\\r\\nBcc: all@example.org\\n\\x1b[31m<b>')\n"
        service.deploy_request(request_for(name, source))
        url = f"mailto://127.0.0.1:{controller.port}?from=jobs@example.org&to=me@example.org&mode=insecure"
        configure(service.home, f"mail: {json.dumps({'url': url, 'on': ['failed']})}")
        job = service.submit(name).wait(PATIENCE)
        assert settled(service, 1) == [("worker_error", "sent", 1)]
        (raw,) = Keeps.got
    finally:
        controller.stop()
    mail = message_from_bytes(raw, policy=policy.default)
    assert (mail["Subject"], mail["Bcc"]) == (f"{name}: worker error", None)
    text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    assert f"Job {job.id} of {name}: worker error after" in text
    assert [line for line in text.splitlines() if line.startswith("reason: ValueError: a Bcc: all@example.org")]
    assert "\x1b" not in text


def test_what_apprise_refuses_says_which_entry(service: Service) -> None:
    configure(service.home, 'none: {url: "foo://user:hidden-password@host"}', 'bad: {url: "slack://hidden-password"}')
    answers = {name: service.test_notification(name) for name in ("none", "bad")}
    assert {one.state for one in answers.values()} == {"failed"}
    assert answers["none"].answer == "notify.none: apprise knows no foo://"
    assert str(answers["bad"].answer).startswith("notify.bad: apprise can't read its slack:// URL")
    assert "hidden-password" not in repr(answers)


def test_the_receiver_of_the_guide_checks_what_it_gets(service: Service, api: str, tmp_path: Path) -> None:
    guide = (TESTS.parent / "docs" / "notifications.md").read_text("utf-8")
    (make,) = re.findall(r"^```sh\n(python -c .*?)^```$", guide, flags=re.M | re.S)
    (code,) = re.findall(r"^```python\n(from http\.server .*?)^```$", guide, flags=re.M | re.S)
    environ = {**os.environ, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    (tmp_path / ".config").mkdir()
    subprocess.run(["sh", "-ec", make.replace("python -c", f"{sys.executable} -c")], env=environ, check=True)
    port = reserved_port()
    (tmp_path / "receiver.py").write_text(code.replace("8000", str(port)))
    command = [sys.executable, tmp_path / "receiver.py"]
    url, secret = f"http://127.0.0.1:{port}/jobs", f"file:{tmp_path / '.config' / 'hook.key'}"
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as ran:
        configure(service.home, f"ops: {{url: '{url}', secret: '{secret}'}}", retries=[1] * 20)  # until it listens
        job = service.submit(api).wait(PATIENCE)
        until(lambda: [one[1] for one in states(service)] == ["sent"], "the receiver to have it")
        configure(service.home, f"ops: {{url: '{url}', secret: '{SECRET}'}}")
        refused = service.test_notification("ops")
        ran.kill()
        assert ran.stdout is not None
        assert ran.stdout.read() == f"taskapi.job.succeeded {job.id}\n"
    assert refused.answer == "401 Unauthorized"


# Kills


@pytest.mark.parametrize("point", ["attempt.failed", "attempt.written", "outbox.written", "store.written"])
def test_a_supervisor_that_is_killed_loses_none(
    home: Path, name: str, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    configure(home, entry("ops", hook))
    service = Service(home)
    service.deploy_request(request_for(name, WAITING, compute={"cpu": "10m"}))
    jobs = [service.submit(name, {"path": str(tmp_path / "go")}) for _ in range(4)]
    until(lambda: all(job.refresh().status == "running" for job in jobs), "all to run")
    (faults / point).write_text("kill")
    (tmp_path / "go").touch()
    until((faults / f"{point}.taken").exists, "a kill")
    for job in jobs:
        assert job.wait(PATIENCE).status == "succeeded"
    settled(service, len(jobs))
    got = hook.got
    assert sorted({one.data["job_id"] for one in got}) == sorted(job.id for job in jobs)
    assert {one.json["type"] for one in got} == {"taskapi.job.succeeded"}
    assert len({one.id for one in got}) == len(jobs)
    service.close()


@pytest.mark.parametrize("point", ["notifier.sent", "notifier.noted"])
def test_a_notifier_that_is_killed_sends_again_under_the_same_id(
    home: Path, name: str, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / point).write_text("kill")
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    configure(home, entry("ops", hook), entry("others", hook))
    service = Service(home)
    service.deploy_request(request_for(name, ENDS, compute={"cpu": "10m"}))
    jobs = [service.submit(name).wait(PATIENCE) for _ in range(3)]
    settled(service, 2 * len(jobs))
    assert (faults / f"{point}.taken").exists()
    assert len({one.id for one in hook.got}) == 2 * len(jobs)
    assert {one.data["job_id"] for one in hook.got} == {job.id for job in jobs}
    service.close()


def test_a_delivery_outlives_a_supervisor_and_a_notifier(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook), retries=[1])
    hook.answers += [500]
    service.submit(api).wait(PATIENCE)
    until(lambda: states(service) == [("succeeded", "waiting", 1)], "an attempt")
    stop_supervisor(service.home, signal.SIGKILL)
    service.jobs()  # whoever reads starts another
    assert settled(service, 1) == [("succeeded", "sent", 2)]


def test_two_notifiers_never_send_at_once(service: Service, api: str, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    go = threading.Event()

    async def holds(handler: Any) -> None:
        import asyncio

        while not go.is_set():
            await asyncio.sleep(0.01)

    hook.answers += [holds]
    service.submit(api).wait(PATIENCE)
    hook_got = until(lambda: hook.got, "the first one")
    command = [sys.executable, "-m", "taskapi_jupyter.notifier", str(service.home)]
    subprocess.run(command, check=True, timeout=60)
    assert len(hook_got) == 1
    go.set()
    assert settled(service, 1) == [("succeeded", "sent", 1)]


# What is kept


def test_deliveries_go_with_their_job(service: Service, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook), after=3600)
    store = service.store
    service.more_variables()  # reads config.yaml
    deploy(store)
    ids = [store.add_job({**row(), "notify": '["ops"]'}, 1 << 60) for _ in range(4)]
    end(store, *ids)
    rows = {one["job_id"]: one["seq"] for one in store.deliveries("ops", 10)}
    store.note_deliveries(
        [
            (rows[ids[0]], "sent", 1, None, ""),
            (rows[ids[1]], "failed", 8, None, "500"),
            (rows[ids[3]], "failed", 8, None, "500"),
        ]
    )
    for job_id in ids[:3]:
        store.forget(job_id)
    found = {one["job_id"]: (one["state"], one["answer"]) for one in store.deliveries(None, 10)}
    deleted = "the job was deleted before it could be sent"
    assert found == {ids[1]: ("failed", "500"), ids[2]: ("failed", deleted), ids[3]: ("failed", "500")}
    with store.write() as transaction:  # eight days ago
        transaction.execute("UPDATE outbox SET at = at - 8 * 86400000000 WHERE job_id != ?", (ids[2],))
    assert tidy(service.home) == 0
    assert {one["job_id"] for one in store.deliveries(None, 10)} == {ids[2], ids[3]}


def test_keep_jobs_keeps_those_of_which_something_waits(service: Service, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    service.more_variables()
    store = service.store
    deploy(store)
    ids = [store.add_job(row(), 1 << 60) for _ in range(3)]
    end(store, *ids, status=JobCode.WORKER_ERROR)
    (one, two, _) = [each["seq"] for each in reversed(store.deliveries("ops", 10))]
    store.note_deliveries([(one, "sent", 1, None, "")])
    assert store.forget_until(store.last(), 10) == [ids[0]]
    assert store.job(ids[1])
    assert two


def test_a_test_prints_what_came_back(service: Service, hook: Receiver) -> None:
    configure(service.home, entry("ops", hook))
    hook.answers += [200]
    sent = service.test_notification("ops")
    assert (sent.state, sent.event, sent.job_id, sent.answer) == ("sent", "test", "", "200 OK: told 200")
    assert (hook.verified()[0]["type"], hook.got[0].id) == ("taskapi.test", sent.id)
    with pytest.raises(BadRequest, match="there are: ops"):
        service.test_notification("../ops")
    hook.answers += [500]
    assert service.test_notification("ops").state == "failed"
    assert service.notifications().deliveries == []


def test_the_supervisor_imports_nothing_more_for_it() -> None:
    code = f"{IMPORTS}import taskapi_jupyter.service.supervisor.supervisor, sys\nprint([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"requests", "apprise", "msgspec"} & set(eval(done.stdout))
