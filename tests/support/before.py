"""The package as it was before groups, whose supervisor may be alive in the home of a newer one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import PATIENCE, TESTS

#: The last commit whose schema is 1004.
COMMIT = "f90e453"


def older_package(folder: Path) -> Path:
    """Put that package into a folder and return the folder; skip the test where its history is not at hand."""
    archive = folder / "older.tar"
    command = ["git", "archive", "-o", str(archive), COMMIT, "taskapi_jupyter"]
    if subprocess.run(command, cwd=TESTS.parent, capture_output=True, check=False).returncode:
        pytest.skip("needs the history of this repository")
    place = folder / "older"
    place.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", place], check=True)
    return place


def run(package: Path, home: Path, code: str) -> str:
    """Run code with that package, in which ``service`` is its service of a home; return what it prints."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from taskapi_jupyter.service.service import Service\nfrom taskapi_jupyter.core.contract import DeployRequest\n"
        f"service = Service(sys.argv[2])\n{code}"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, package, home],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=PATIENCE,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout
