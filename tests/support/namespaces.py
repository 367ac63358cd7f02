"""Processes in namespaces, mounts and control groups of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from support import IMPORTS
from taskapi_jupyter.runner import capacity


def unshared(*what: str) -> list[str]:
    """Return a command that runs another one in namespaces of its own; skip where there are none to be had."""
    for command in (["unshare", *what], ["unshare", "--user", "--map-root-user", *what]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode == 0:
                return command
        except FileNotFoundError:
            break
    pytest.skip(f"`unshare {' '.join(what)}` is not allowed here")


def script(body: str) -> str:
    """Return a program that knows the tests' helpers."""
    return f"{IMPORTS}from support.within import *\n{body}"


def run(command: list[str], body: str, *arguments: object) -> None:
    """Run a piece of Python, which knows the tests' helpers, in a process that a command leads to."""
    told = [*command, sys.executable, "-c", script(body), *map(str, arguments)]
    done = subprocess.run(told, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def mount(folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)], check=True)


#: A supervisor's engine alone, without its look at what the disk has: whatever is left, a job waits or runs.
ENGINE = """
from taskapi_jupyter.core import host
from taskapi_jupyter.runner.engine import LocalEngine
from taskapi_jupyter.core.states import JobCode
limits = {"gpus": 0, "stop_grace": 1, "log_max_bytes": 0}
def engine_of(home):
    return LocalEngine(str(home), lambda: limits, lambda: None)
def row(number, **more):
    launch = {"kind": "command", "argv": ["sh", "-c", "echo ran >> %s" % evidence], "env": dict(os.environ), "cwd": "/"}
    return {"id": f"{number:016x}", "api_name": "a", "api_id": "v", "spec_id": "s", "timeout": None, "deadline": None,
        "boot": host.boot_id(), "started_boot": host.boot_id(), "config": None, "merged": None, "mem": None,
        "gpus": None, "launch": json.dumps(launch), **more}
def over(engine):
    found = []
    until(lambda: found.extend(engine.ended()) or found, "the job to be over")
    ((job_id, outcome),) = found
    return job_id, outcome["status"], outcome["reason"]
def ran():
    return evidence.read_text().count("ran") if evidence.exists() else 0
"""


def children(pid: int) -> dict[int, str]:
    """Return the names of a process's children, zombies too."""
    found = {}
    for child in psutil.Process(pid).children():
        try:
            found[child.pid] = Path(f"/proc/{child.pid}/comm").read_text().strip()
        except OSError:
            continue
    return found


@contextmanager
def limited(controller: str, **files: str) -> Iterator[Path]:
    """Make a group below our own with a child in it that waits for its input; skip where that is not allowed."""
    own = next((folders[0] for _, folders in capacity.groups(controller) if folders), None)
    if own is None:
        pytest.skip(f"no control group for {controller} here")
    outer = Path(own) / f"taskapi-test-{os.getpid()}"
    try:
        outer.mkdir()
        (outer / "inner").mkdir()
        for name, text in files.items():
            (outer / name.replace("__", ".")).write_text(text)
    except OSError as error:
        for folder in (outer / "inner", outer):
            with suppress(OSError):
                folder.rmdir()
        pytest.skip(f"no group with a limit of {controller} may be made here: {error}")
    try:
        yield outer / "inner"
    finally:
        (outer / "inner").rmdir()
        outer.rmdir()
