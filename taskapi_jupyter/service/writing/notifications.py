"""Notifications: who is told of a job, what was sent, and tests. What is due is sent by a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec

from msgspec import UNSET

from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import Delivery, NotificationName, NotificationsResponse
from taskapi_jupyter.core.errors import BadRequest, Conflict, JobNotInProgress, Unavailable, short
from taskapi_jupyter.service.destinations import BROWSER, WEBHOOKS, Destination
from taskapi_jupyter.service.reading import Reading
from taskapi_jupyter.service.records import rfc3339
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.supervisor.wake import command

MAX_DELIVERIES = 1000
_LONGEST_TEST = 90.0  # seconds: the attempt, what waits under the name, and the start of a process


class Notifications(Reading):
    """A ``TaskAPI`` over a home that reads, and sends notifications."""

    def notifications(self, name: str | None = None, limit: int = 50) -> NotificationsResponse:
        """Return the names that config.yaml has, and the newest deliveries, of one name or of all."""
        if not 1 <= limit <= MAX_DELIVERIES:
            raise BadRequest(f"limit must be from 1 to {MAX_DELIVERIES}, not {limit}")
        names = self._config.read().notifications().names
        if name is not None and name not in names:
            raise _unknown([name], names)
        off = switched_off(names, self.store.name_states())
        wanted = names if name is None else {name: names[name]}
        shown = []
        for one, destination in wanted.items():
            why = off.get(one)
            last = self.store.deliveries(one, 1)
            shown.append(
                NotificationName(
                    name=one,
                    url=destination.shown,
                    on=destination.on,
                    apis=UNSET if destination.apis is None else destination.apis,
                    problem=f"switched off: {why}" if why else problem(one, destination) or UNSET,
                    switched_off=why or UNSET,
                    last=_delivery(last[0]) if last else UNSET,
                )
            )
        return NotificationsResponse(shown, [_delivery(row) for row in self.store.deliveries(name, limit)])

    def test_notification(self, name: str) -> Delivery:
        """Send one test under a name with this process's variables, wait for the answer, and return it."""
        names = self._config.read().notifications().names
        if name not in names:
            raise _unknown([name], names)
        _check_installed({name: names[name]})
        now = host.now_us()
        try:
            done = subprocess.run(
                [*command("notifier.trial", str(self.home), site=True), name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LONGEST_TEST,
                cwd="/",
                check=False,
            )
            found = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"the test of {name} has not ended within {_LONGEST_TEST:g} s") from None
        except (OSError, ValueError) as error:
            raise Unavailable(f"the test of {name} could not be run: {error}") from None
        return Delivery(
            id=found["id"],
            name=name,
            job_id="",
            event="test",
            time=rfc3339(now),
            state=found["state"],
            attempts=1,
            answer=found["answer"],
        )

    def notify(self, job: Job | str, names: Sequence[str]) -> str:
        """Have a job in progress notify these names, and no others, when it ends; none: nobody."""
        given = self.names_to_notify(names)
        row = self._row(job)
        while row["retried_by"] and (found := self.store.job(row["retried_by"])) is not None:
            row = found
        if wrong := readable.fault(row):
            raise Conflict(f"job {readable.text(row['id'])} can't be read from the database ({wrong})")
        if not self.store.set_notify(row["id"], given):
            told = f"{row['id']} ({row['api_name']} api): has ended, and notifies nobody any more"
            raise Conflict(told, kind=JobNotInProgress.kind)
        return f"job {row['id']} notifies {', '.join(given) if given else 'nobody'} when it ends"

    def names_to_notify(self, names: Sequence[str]) -> list[str]:
        """Return names as a job's row has them, each once; raise :class:`BadRequest` for one that is not there."""
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise BadRequest("notify must be a list of names")
        there = self._config.read().notifications().names
        if unknown := [name for name in names if name not in there and name != BROWSER]:
            raise _unknown(unknown, there)
        _check_installed({name: there[name] for name in names if name in there})
        return list(dict.fromkeys(names))

    def notifying(self, names: Sequence[str] | None) -> Row:
        """Return the column of a new job that says whom it notifies; none where config.yaml says."""
        return {} if names is None else {"notify": json.dumps(self.names_to_notify(names))}


def problem(name: str, destination: Destination) -> str | None:
    """Return why nothing can be sent under a name, as far as this process can see; None where it sees nothing."""
    try:
        _check_installed({name: destination})
        destination.check(f"notify.{name}")
    except (BadRequest, Unavailable) as error:
        return error.message
    return None


def switched_off(names: dict[str, Destination], states: dict[str, Row]) -> dict[str, str]:
    """Return the names that a receiver has switched off, each with its answer."""
    return {
        name: str(state.get("why"))
        for name, one in names.items()
        if isinstance(state := states.get(name), dict) and state.get("off") == one.mark
    }


def _check_installed(names: dict[str, Destination]) -> None:
    for name, one in names.items():
        if one.scheme is not None and one.scheme not in WEBHOOKS and find_spec("apprise") is None:
            raise BadRequest(
                f"notify.{name} needs apprise, which is not installed here: pip install 'taskapi-jupyter[notify]'"
            )


def _unknown(unknown: Sequence[str], names: dict[str, Destination]) -> BadRequest:
    there = f"there are: {', '.join([*names, BROWSER])}" if names else "it has none: see docs/notifications.md"
    listed = ", ".join(map(short, unknown))
    return BadRequest(f"config.yaml has no notification {listed}; {there}")


def _delivery(row: Row) -> Delivery:
    waits = row["state"] == "waiting" and row["due"] is not None
    return Delivery(
        id=row["id"],
        name=row["name"],
        job_id=row["job_id"],
        event=row["event"],
        time=rfc3339(row["at"]),
        state=row["state"],
        attempts=row["attempts"],
        next_time=rfc3339(row["due"]) if waits else None,
        answer=row["answer"],
    )
