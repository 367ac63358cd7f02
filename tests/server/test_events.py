"""Jupyter events: what any process does to jobs and APIs is told to whoever subscribed, and nothing of it is private."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import websocket

from support import PATIENCE, WAITING, request_for
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.core import contract
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.server import events
from taskapi_jupyter.server.events import API, JOB, SCHEDULE
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store

SECRET = "nobody-else-s-business"

Event = tuple[str, str, str]  # API, job (of an API's event: nothing) and status


class Subscriber:
    """A browser's websocket to a server's events; others than ours are left out."""

    def __init__(self, server: LiveServer) -> None:
        url = f"ws{server.url.removeprefix('http')}api/events/subscribe?token={server.token}"
        self.socket = websocket.create_connection(url, timeout=PATIENCE, suppress_origin=True)
        self.raw: list[str] = []

    def next(self) -> Event:
        while True:
            self.raw.append(str(self.socket.recv()))
            event = json.loads(self.raw[-1])
            keys = {key for key in event if not key.startswith("__")}
            if event["schema_id"] == JOB:
                assert keys == {"schema_id", "job_id", "api_name", "status"}
                return event["api_name"], event["job_id"], event["status"]
            if event["schema_id"] == API:
                assert keys == {"schema_id", "api_name", "status"}
                return event["api_name"], "", event["status"]

    def until(self, *wanted: Event) -> list[Event]:
        """Return the events up to one that is wanted."""
        found = [self.next()]
        while found[-1] not in wanted:
            found.append(self.next())
        return found


@pytest.fixture
def subscriber(live_server: LiveServer) -> Iterator[Subscriber]:
    one = Subscriber(live_server)
    yield one
    one.socket.close()


def elsewhere(home: Path, code: str, *arguments: str) -> str:
    """Run code with a service of a home as ``api`` in a process that knows nothing of the server."""
    code = f"import sys\nfrom taskapi_jupyter import connect\napi = connect()\nname, *rest = sys.argv[1:]\n{code}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI", "JPY", "JUPYTER"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**environ, "TASKAPI_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DEPLOY = "from taskapi_jupyter.core.contract import DeployRequest, decode\napi.deploy_request(decode(rest[0], DeployRequest))"
SUBMIT = "import json\nprint(api.submit(name, json.loads(rest[0]), notebook=rest[0]).id)"


def deploy_elsewhere(home: Path, name: str, **spec: Any) -> None:
    elsewhere(home, DEPLOY, name, contract.encode(request_for(name, WAITING, **spec)).decode())


def test_a_job_of_another_process(live_server: LiveServer, subscriber: Subscriber, name: str, tmp_path: Path) -> None:
    home, go = live_server.home, tmp_path / "go"
    deploy_elsewhere(home, name)
    assert subscriber.until((name, "", "deployed"))
    job = elsewhere(home, SUBMIT, name, json.dumps({"path": str(go), SECRET: SECRET}))
    told = subscriber.until((name, job, "running"))
    go.touch()
    told += subscriber.until((name, job, "succeeded"))
    elsewhere(home, "api.forget(rest[0])", name, job)
    told += subscriber.until((name, job, "deleted"))
    elsewhere(home, "api.delete(name)", name)
    told += subscriber.until((name, "", "deleted"))
    told = [event for event in told if event[0] == name]
    order = [(name, job, status) for status in ("pending", "running", "succeeded", "deleted")] + [(name, "", "deleted")]
    assert sorted(told, key=order.index) == told
    assert SECRET not in "".join(subscriber.raw)
    assert str(tmp_path) not in "".join(subscriber.raw)


MAKE = """
from taskapi_jupyter.core.contract import ScheduleRequest
api.create_schedule(ScheduleRequest(api=name, schedule="@yearly", config={"path": rest[0]}))
"""


def test_schedules(live_server: LiveServer, subscriber: Subscriber, name: str, tmp_path: Path) -> None:
    home = live_server.home
    deploy_elsewhere(home, name)
    for code, status in (
        (MAKE, "created"),
        ("api.update_schedule(name, {'active': False})", "changed"),
        ("api.run_schedule(name)", "fired"),
        ("api.delete_schedule(name)", "deleted"),
    ):
        elsewhere(home, code, name, str(tmp_path / SECRET))
        event: dict[str, str] = {}
        while event.get("schema_id") != SCHEDULE:
            event = json.loads(str(subscriber.socket.recv()))
        told = {key: value for key, value in event.items() if not key.startswith("__")}
        assert told == {"schema_id": SCHEDULE, "schedule": name, "api_name": name, "status": status}
    elsewhere(home, "api.delete(name)", name)


def test_stop_and_purge(live_server: LiveServer, subscriber: Subscriber, name: str, tmp_path: Path) -> None:
    deploy_elsewhere(live_server.home, name)
    jobs = [elsewhere(live_server.home, SUBMIT, name, json.dumps({"path": str(tmp_path / "go")})) for _ in range(2)]
    for job in jobs:
        assert live_server.fetch("DELETE", f"tasks/{name}?jobID={job}").ok
        assert subscriber.until((name, job, "stopped"))
    assert live_server.fetch("DELETE", f"jobs?api={name}").json() == {"message": "deleted 2 jobs"}
    left = {(name, job, "deleted") for job in jobs}
    while left:
        left -= set(subscriber.until(*left))


def test_a_deploy_of_other_content_is_told_and_one_of_the_same_is_not(
    live_server: LiveServer, subscriber: Subscriber, name: str
) -> None:
    for cpu in (1, 1, "500m"):
        deploy_elsewhere(live_server.home, name, compute={"cpu": cpu})
    deploy_elsewhere(live_server.home, f"{name}-last")
    told = [event for event in subscriber.until((f"{name}-last", "", "deployed")) if event[0] == name]
    assert 1 <= len(told) <= 2
    assert set(told) == {(name, "", "deployed")}


def test_nothing_of_the_past(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    deploy_elsewhere(home, name)
    go = tmp_path / "go"
    go.touch()
    config = json.dumps({"path": str(go)})
    past = elsewhere(home, f"{SUBMIT}\n[job.wait() for job in api.jobs()]", name, config)
    server = start_server(tmp_path)
    try:
        subscriber = Subscriber(server)
        new = elsewhere(home, SUBMIT, name, config)
        told = subscriber.until((name, new, "succeeded"))
        assert {job for _, job, _ in told} == {new}
        assert past not in "".join(subscriber.raw)
        subscriber.socket.close()
    finally:
        stop_server(server)


@pytest.mark.parametrize("query", ["", "?token=wrong"])
def test_only_who_is_let_in(live_server: LiveServer, query: str) -> None:
    url = f"ws{live_server.url.removeprefix('http')}api/events/subscribe{query}"
    with pytest.raises(websocket.WebSocketBadStatusException) as raised:
        websocket.create_connection(url, timeout=PATIENCE, suppress_origin=True)
    assert raised.value.status_code == 403


# In this process


class Told:
    """What an event logger's listener hears."""

    def __init__(self, logger: Any) -> None:
        self.events: list[dict[str, Any]] = []
        for schema in (JOB, API):
            logger.add_listener(schema_id=schema, listener=self.hear)

    async def hear(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        self.events.append(data)

    def jobs(self) -> list[tuple[str, str]]:
        return [(one["job_id"], one["status"]) for one in self.events if "job_id" in one]


async def soon(condition: Callable[[], Any]) -> None:
    """Wait for a condition while the event loop runs."""

    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), PATIENCE)


@pytest.fixture
def told(jp_serverapp: Any) -> Told:
    return Told(jp_serverapp.event_logger)


@pytest.fixture
def ours(jp_serverapp: Any, jp_asyncio_loop: Any) -> Any:
    """Return what watches the database, once it knows where it begins."""
    ours = jp_serverapp.web_app.settings["taskapi_jupyter"].events

    async def start() -> None:
        ours.start()
        await soon(lambda: ours._seen is not None)

    jp_asyncio_loop.run_until_complete(start())
    return ours


def many(store: Store, count: int) -> list[str]:
    """Write that many jobs that have ended, in one transaction, and return their ids."""
    ids = [f"{number:016x}" for number in range(count, 0, -1)]
    with store.write() as transaction:
        transaction.execute("UPDATE counter SET n = n + 1")
        transaction.executemany(
            "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu) "
            "VALUES (?, 'api', 'x', 'x', 'succeeded', (SELECT n FROM counter), 0, 'x', 1000, 0)",
            [(one,) for one in ids],
        )
    return ids


async def test_a_flood_is_told_whole_and_leaves_others_their_turn(told: Told, ours: Any, service: Service) -> None:
    ids = many(service.store, 1000)
    heard = [0]

    async def take_turns() -> None:
        while heard[-1] < 1000:
            await asyncio.sleep(0)
            heard.append(len(told.events))

    await asyncio.wait_for(take_turns(), PATIENCE)
    assert told.jobs() == [(one, "succeeded") for one in ids]
    assert max(after - before for before, after in pairwise(heard)) <= 1
    assert service.purge() == "deleted 1000 jobs"
    await soon(lambda: len(told.events) == 2000)
    assert sorted(told.jobs()[1000:]) == sorted((one, "deleted") for one in ids)


async def test_what_changes_while_the_database_is_away_is_told_later(
    told: Told, ours: Any, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = []

    def fails(*_: Any) -> Any:
        failures.append(1)
        raise sqlite3.OperationalError("disk I/O error")

    ours.try_again = 0.01
    with caplog.at_level(logging.WARNING), monkeypatch.context() as context:
        context.setattr(Store, "news", fails)
        (job,) = many(service.store, 1)
        await soon(lambda: len(failures) > 3)
        assert told.events == []
    await soon(lambda: told.events)
    assert told.jobs() == [(job, "succeeded")]
    said = [one for one in caplog.records if "disk I/O error" in one.getMessage()]
    assert len(said) == 1


async def test_somebody_who_is_writing_holds_nothing_up(told: Told, ours: Any, service: Service) -> None:
    many(service.store, 3)
    with service.store.write():
        await soon(lambda: len(told.jobs()) == 3)


async def test_a_database_that_comes_later(jp_serverapp: Any, told: Told, tmp_path: Path, monkeypatch: Any) -> None:
    extension = jp_serverapp.web_app.settings["taskapi_jupyter"]
    monkeypatch.setattr(jp_serverapp.event_logger, "register_event_schema", lambda path: None)  # they are, already
    ours = events.Events(tmp_path / "later" / "taskapi.db", jp_serverapp.event_logger, extension.log, 0.01)
    ours.start()
    service = Service(tmp_path / "later")
    await soon(lambda: ours._seen is not None)
    many(service.store, 2)
    await soon(lambda: len(told.jobs()) == 2)
    await ours.stop()
    service.close()


async def test_a_listener_or_modifier_that_fails_stops_nothing(
    jp_serverapp: Any, told: Told, ours: Any, service: Service
) -> None:
    def fails(schema_id: str, data: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("not mine")

    jp_serverapp.event_logger.add_modifier(schema_id=JOB, modifier=fails)
    many(service.store, 2)
    await soon(lambda: ours._seen == service.store.counter())
    jp_serverapp.event_logger.remove_modifier(schema_id=JOB, modifier=fails)
    service.purge()
    await soon(lambda: len(told.events) == 2)


async def test_it_ends_with_the_extension(jp_serverapp: Any, told: Told, ours: Any, service: Service) -> None:
    assert "taskapi-events" in [thread.name for thread in threading.enumerate()]
    await jp_serverapp.web_app.settings["taskapi_jupyter"].stop_extension()
    assert "taskapi-events" not in [thread.name for thread in threading.enumerate()]
    many(service.store, 5)
    await asyncio.sleep(3 * events.POLL_INTERVAL)
    assert told.events == []


def test_the_schema_has_every_state() -> None:
    from jupyter_events import EventLogger

    logger = EventLogger()
    events.Events(Path("unused"), logger, logging.getLogger())
    known = logger.schemas.get(JOB).properties["status"]["enum"]
    unproduced = {"enqueuing", "enqueue_failed", "completed_with_failures", "unknown"}
    assert set(known) == {code.value for code in JobCode} - unproduced | {"deleted"}
