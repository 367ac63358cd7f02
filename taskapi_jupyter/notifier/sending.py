"""Sends what is due: under each name in order, under several names at a time."""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from taskapi_jupyter.core import host, room
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.service import config, engine_settings
from taskapi_jupyter.service.destinations import WEBHOOKS, Destination, Notify
from taskapi_jupyter.service.servers import Endpoints
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.outbox import Result
from taskapi_jupyter.service.store.store import Store

from . import body
from .attempt import Outcome, Target, secrets_of

NAMES_AT_ONCE = 8
_NOTED_EVERY = 0.25  # seconds; after a kill, what was sent since is sent again
_NOTED_AT_MOST = 50
_LOOK = 1.0  # seconds until it is looked whether something is due under another name
_JITTER = 0.1
_SHORTEST_WAIT, _LONGEST_WAIT = 60.0, 3600.0  # seconds until what was missing is looked for again

Send = Callable[[str, body.Content], Outcome]


def target_of(name: str, destination: Destination) -> Target:
    """Read what a name refers to; raise :class:`TaskAPIError` with what is missing or wrong."""
    url, key = destination.check(f"notify.{name}")
    return Target(name, destination, url, key, secrets_of(url, key))


def sender_of(target: Target) -> Send:
    """Return what sends to a target, by a webhook or by apprise; raise :class:`TaskAPIError` where it can't be used."""
    if target.url.partition("://")[0].lower() in WEBHOOKS:
        from .webhook import Webhook

        webhook = Webhook(target)
        return lambda delivery_id, content: webhook.send(delivery_id, body.as_json(content))
    from .services import Service

    service = Service(target)

    def send(delivery_id: str, content: body.Content) -> Outcome:
        title, text = body.as_text(content)
        status = content["data"].get("status")
        good = None if status in (None, "running", "stopped") else status == "succeeded"
        return service.send(title, f"{text}\n\ndelivery: {delivery_id}", good)

    return send


class Sending:
    """All that waits in one home."""

    def __init__(self, home: str) -> None:
        self._home = home
        self.store = Store(HomePaths(home).database, follow=False)
        self._endpoint = _endpoints(home)

    def run(self, *, everything: bool = False) -> None:
        """Send what is due, and what becomes due meanwhile."""
        room.check_room(self._home)  # what was sent could not be noted, and would be sent again
        if everything:
            for name in self.store.names_due(1 << 62):
                self.store.hold_name(name, host.now_us())
        at_work: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(NAMES_AT_ONCE) as pool:
            while os.path.isdir(self._home):
                for name in [name for name, one in at_work.items() if one.done()]:
                    at_work.pop(name).result()
                for name in self.store.names_due(host.now_us()):
                    if name not in at_work:
                        at_work[name] = pool.submit(self.send_name, name)
                if not at_work:
                    return
                futures.wait(at_work.values(), _LOOK, futures.FIRST_COMPLETED)

    def send_name(self, name: str) -> None:
        """Send what waits under a name, until something can't be sent now."""
        try:
            self._send_name(name)
        except TaskAPIError:  # of the database or its disk
            raise
        except Exception as error:  # its text may hold what is secret
            self._wait(name, f"unexpected {type(error).__name__}{_place(error)}")

    def _send_name(self, name: str) -> None:
        try:
            notify = config.read(HomePaths(Path(self._home)).config).notifications()
            destination = notify.names.get(name)
            if destination is None:
                self.store.fail_waiting(name, f"no longer configured: config.yaml has no notify.{name}")
                return
            if self.store.name_state(name).get("off") == destination.mark:
                why = self.store.name_state(name).get("why", "")
                self.store.fail_waiting(name, f"{name} was switched off: {why}")
                return
            send = sender_of(target_of(name, destination))
        except TaskAPIError as error:
            self._wait(name, error.message)
            return
        while rows := self.store.waiting(name):
            if not self._send_rows(name, rows, notify, destination, send):
                return

    def _send_rows(self, name: str, rows: list[Row], notify: Notify, destination: Destination, send: Send) -> bool:
        """Send deliveries in order; return whether all were dealt with."""
        done: list[Result] = []
        noted = time.monotonic()
        for row in rows:
            if row["due"] > host.now_us():
                self._note(done)
                self.store.hold_name(name, row["due"])
                return False
            outcome = self._send(row, destination, send)
            tries = row["attempts"] + 1
            due = None
            if outcome.state == "again":
                due = next_attempt(row["at"], tries, notify, outcome.after)
            state = "waiting" if due is not None else "sent" if outcome.state == "sent" else "failed"
            done.append((row["seq"], state, tries, due, outcome.answer))
            fault_point("notifier.sent")
            if due is not None or outcome.state == "gone":
                self._note(done)
                if due is not None:
                    self.store.hold_name(name, due)
                else:
                    self.store.switch(name, destination.mark, f"it answered {outcome.answer}")
                    self.store.fail_waiting(name, f"{name} was switched off: it answered {outcome.answer}")
                return False
            if len(done) >= _NOTED_AT_MOST or time.monotonic() - noted >= _NOTED_EVERY:
                self._note(done)
                done, noted = [], time.monotonic()
        self._note(done)
        return True

    def _note(self, done: list[Result]) -> None:
        if done:
            self.store.note_deliveries(done)
            fault_point("notifier.noted")

    def _send(self, row: Row, destination: Destination, send: Send) -> Outcome:
        job = self.store.job(row["job_id"])
        if job is None:
            return Outcome("failed", "the job was deleted before it could be sent")
        content = body.of_job(self._home, row, job, destination.include, self._url(job))
        return send(row["id"], content)

    def _url(self, job: Mapping[str, Any]) -> str | None:
        endpoint = self._endpoint(str(job["api_name"]))
        return None if endpoint is None else f"{endpoint}?jobID={job['id']}"

    def _wait(self, name: str, why: str) -> None:
        """Let what waits under a name go on waiting, and say why; what is too old has failed."""
        rows = self.store.waiting(name)
        now = host.now_us()
        try:
            give_up = config.read(HomePaths(Path(self._home)).config).notifications().give_up
        except TaskAPIError:
            give_up = Notify({}).give_up
        due = now + int(min(max((now - rows[0]["at"]) / 4e6, _SHORTEST_WAIT), _LONGEST_WAIT) * 1e6) if rows else now
        self.store.note_deliveries(
            [
                (row["seq"], "failed", row["attempts"], None, why)
                if now - row["at"] > give_up * 1e6
                else (row["seq"], "waiting", row["attempts"], due, why)
                for row in rows
            ]
        )
        self.store.hold_name(name, due)


def _place(error: BaseException) -> str:
    """Return where in this package's code an error was raised."""
    found = [one for one in traceback.extract_tb(error.__traceback__) if "taskapi_jupyter" in one.filename]
    return f" at {os.path.basename(found[-1].filename)}:{found[-1].lineno}" if found else ""


def next_attempt(at: int, tries: int, notify: Notify, after: float) -> int | None:
    """Return when (µs) the next attempt is due, after so many, of what is to be sent since a time; None: no other.

    The last attempt is made when it is time to give up, if the schedule has a later one.
    """
    if tries > len(notify.retries):
        return None
    now, last = host.now_us(), at + int(notify.give_up * 1e6)
    if now >= last:
        return None
    pause = notify.retries[tries - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return min(now + int(max(pause, after) * 1e6), last)


def _endpoints(home: str) -> Endpoints:
    """Return the URLs of a home's APIs; that of a Ray environment lies below this machine's, which has the servers."""
    try:
        is_ray = engine_settings.read(home)["provider"] == "ray"
    except (TaskAPIError, KeyError):
        is_ray = False
    if is_ray:
        return Endpoints(os.path.dirname(os.path.dirname(home)), os.path.basename(home))
    return Endpoints(home, "local")
