"""Sends one test under a name and prints what came back: a process of its own, as the notifier is."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from taskapi_jupyter.core import guard
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.paths import HomePaths

from . import body, lock
from .sending import Sending, sender_of, target_of


def main(home: str) -> None:
    """Send a test under the name that the command line ends with; print its id, state and answer as JSON.

    Where it arrives, the name is on again if it was off, and what waits under it is sent, too.
    """
    from taskapi_jupyter.service import config

    name = sys.argv[3]
    delivery_id = f"t{os.urandom(12).hex()}"
    try:
        guard.check(home)
        destination = config.read(HomePaths(Path(home)).config).notifications().names[name]
        outcome = sender_of(target_of(name, destination))(delivery_id, body.of_test(name))
        state, answer = ("sent" if outcome.state == "sent" else "failed"), outcome.answer
        if state == "sent":
            _go_on(home, name)
    except KeyError:
        state, answer = "failed", f"config.yaml has no notify.{name}"
    except TaskAPIError as error:
        state, answer = "failed", error.message
    print(json.dumps({"id": delivery_id, "state": state, "answer": answer}), flush=True)  # noqa: T201
    os._exit(0)


def _go_on(home: str, name: str) -> None:
    """Switch a name on, and send what waits under it unless another process does that."""
    sending = Sending(home)
    sending.store.switch(name, None)
    if name in sending.store.names_due(1 << 62):
        sending.store.hold_name(name, time.time_ns() // 1000)
        if lock(home) is not None:
            sending.send_name(name)
