"""The example notebooks, executed and compared by nbval, under a Jupyter server and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def check(notebook: str, home: Path, **more: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JPY_"))}
    nbval = ["-q", "-p", "no:cacheprovider", "--nbval", "--nbval-sanitize-with", NOTEBOOKS / "sanitize.cfg"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *nbval, "--rootdir", NOTEBOOKS, NOTEBOOKS / notebook],
        env={**environment, "TASKAPI_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("notebook", ["quickstart.ipynb"])
def test_without_a_server(notebook: str, home: Path) -> None:
    check(notebook, home)


@pytest.mark.parametrize("notebook", ["quickstart.ipynb"])
def test_through_a_server(notebook: str, live_server: Any, tmp_path: Path) -> None:
    unused = tmp_path / "unused"
    check(notebook, unused, TASKAPI_URL=live_server.url, TASKAPI_TOKEN=live_server.token)
    assert not unused.exists()
