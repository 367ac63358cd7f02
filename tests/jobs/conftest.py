"""Fixtures: folders that are not pytest's own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapi_jupyter.core import folders


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
