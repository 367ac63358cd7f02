"""Fixtures: folders that are not pytest's own, and notebooks that run in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.homes import clean
from support.notebooks import Cell, Start, write
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.core import folders
from taskapi_jupyter.service.service import Service


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
