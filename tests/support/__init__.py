"""What several tests use: here what nearly all need, in its modules what concerns homes, servers, kernels, ..."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.contract import DeployRequest

TESTS = Path(__file__).resolve().parent.parent
#: For processes that run a part of a test: where they import ``support`` from.
IMPORTS = f"import sys; sys.path.append({str(TESTS)!r})\n"

ENGINE = os.environ.get("TASKAPI_TEST_ENGINE", "local")  # what runs the jobs of the tests that are not of one engine
START = os.environ.get("TASKAPI_TEST_START", "cold")  # whether the jobs of `request_for` start cold or warm
PATIENCE = 30.0  # seconds that anything here may take on a busy machine


def like_a_terminal() -> None:
    """Have this process, and what it starts, find what a person's own terminal has."""
    os.environ.pop("TASKAPI_SERVER", None)  # which a terminal of a server with this extension has
    os.environ.pop("COLUMNS", None)  # which pytest-xdist sets: a window that there is not
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in the background of a shell


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a condition and return what it returned."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.01)
    return value


def at_once() -> AbstractContextManager[Callable[[int, float], None]]:
    """Return pauses of whoever follows a log that never waits."""
    return nullcontext(lambda offset, waited: None)


def request_for(name: str, source: str, **spec: Any) -> DeployRequest:
    """Return what deploys a source as an API."""
    whole: dict[str, Any] = {"name": name, "kind": "TaskAPI", "definition": {"path": "task.py"}, **spec}
    if START == "warm" and "warm" not in whole["definition"]:
        whole["definition"] = {**whole["definition"], "warm": {"idle": 2}}
    return DeployRequest(spec=whole, source=source, python=sys.executable)


ECHO = """
def task(config):
    print("hello", config)
    return config
"""


WAITING = """
import pathlib, time

def task(config):
    print("waiting", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""
