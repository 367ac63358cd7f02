"""The example notebooks, executed and compared by nbval: in a fresh home, then once more through a server on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from support import TESTS, until
from support.cortex_double import Operator
from support.servers import LiveServer

NOTEBOOKS = TESTS.parent / "notebooks"


def check(home: Path, folder: Path = NOTEBOOKS, **more: str) -> None:
    """Run the notebooks of a folder, with nothing in their environment that leads to another home or server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JPY_"))}
    nbval = ["--nbval", "--nbval-sanitize-with", NOTEBOOKS / "sanitize.cfg", "--nbval-cell-timeout", "60"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "nbval.plugin",
            "-p",
            "pytest_timeout",
            "-p",
            "no:cacheprovider",
            *nbval,
            folder,
        ],
        env={**environment, "TASKAPI_HOME": str(home), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **more},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def jupyters(home: Path) -> set[int]:
    """Return the kernels and servers that were started with a home."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command = " ".join(process.cmdline())
            if process.environ().get("TASKAPI_HOME") == str(home) and (
                "jupyter_server" in command or "ipykernel" in command
            ):
                found.add(process.pid)
    return found


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_cell_is_compared(path: Path) -> None:
    """What was not run is not compared, so all cells ran, in order; what is left out waits, and so draws a bar."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        if "nbval-ignore-output" in cell["metadata"].get("tags", []):
            assert "wait" in "".join(cell["source"])


def test_without_a_server(live_server: LiveServer) -> None:
    before = jupyters(live_server.home)
    check(live_server.home)
    until(
        lambda: jupyters(live_server.home) <= before, "the notebooks' kernels, and the server that one starts, to end"
    )


def test_through_a_server(live_server: LiveServer, tmp_path: Path) -> None:
    unused, environments = tmp_path / "unused", live_server.home / "environments.yaml"
    with Operator("0.42.1") as operator:
        cluster = {
            "name": "cluster",
            "provider": "cortex",
            "operator_endpoint": operator.url,
            "version": operator.version,
        }
        environments.write_text(yaml.safe_dump({"environments": [cluster]}))
        try:
            check(unused, TASKAPI_URL=live_server.url, TASKAPI_TOKEN=live_server.token)
        finally:
            environments.unlink()
        assert [one for one in operator.requests if one.method == "POST"]
    assert not unused.exists()


def test_optuna_asks_and_is_told(home: Path) -> None:
    pytest.importorskip("optuna")
    check(home, TESTS / "notebooks")
