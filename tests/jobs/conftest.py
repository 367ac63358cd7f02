"""Fixtures: folders that are not pytest's own, and notebooks that run in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clocks import LIBRARIES, Clock
from support.homes import clean
from support.notebooks import Cell, Start, write
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.core import folders
from taskapi_jupyter.service.service import Service

#: For a person who lives by a clock.
DEPLOY = """s.deploy_request(request_for("echo", '''
import os
def task(config):
    return os.environ.get("TASKAPI_SCHEDULED_TIME")
''', compute={"cpu": "10m"}))"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user may enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def roomy() -> Iterator[Path]:
    """Return a folder in memory, where there is one: a disk is slow at a hundred thousand files."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    folders.remove(folder)


@pytest.fixture
def short_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a fresh TASKAPI_HOME whose path is short, so that sockets of kernels can be files in it."""
    path = Path(tempfile.mkdtemp(prefix="nb-"))
    (path / "config.yaml").write_text("stop_grace: 1\n")
    monkeypatch.setenv("TASKAPI_HOME", str(path))
    yield path
    clean(path)
    folders.remove(path)


@pytest.fixture
def start(service: Service, name: str, tmp_path: Path) -> Start:
    """Return what deploys a notebook of some cells, submits it, and returns the job."""

    def start(*cells: Cell, config: dict[str, Any] | None = None, kernel: str = "python3", **definition: Any) -> Job:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        path = write(folder / "Report.ipynb", *cells, kernel=kernel)
        service.deploy({"name": name, "kind": "TaskAPI", "definition": {"path": str(path), **definition}})
        return service.submit(name, config)

    return start


@pytest.fixture
def clock(home: Path, tmp_path: Path) -> Iterator[Callable[[str], Clock]]:
    """Return what gives a home a clock that begins at a time; its API ``echo`` returns when it was scheduled."""
    if not LIBRARIES:
        pytest.skip("no libfaketime for a clock that can be set")
    clocks = []

    def begin(at: str) -> Clock:
        clocks.append(Clock(home, tmp_path, at))
        clocks[0].say(DEPLOY)
        return clocks[0]

    yield begin
    for one in clocks:
        one.close()
