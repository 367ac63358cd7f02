"""The JupyterLab extension's own tests, its types against the contract, and the size of what a browser loads."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import TESTS
from taskapi_jupyter._version import __version__
from taskapi_jupyter.server.routes import document
from taskapi_jupyter.ui.magics.line import split

ROOT = TESTS.parent
SOURCE = ROOT / "labextension"
BUILT = ROOT / "taskapi_jupyter" / "labextension"


@pytest.mark.timeout(300)
def test_unit_tests() -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the environment has a Node of its own
    done = subprocess.run(
        ["npm", "test"],
        cwd=SOURCE,
        env={**os.environ, "PATH": path, "CI": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]


def test_types_are_made_from_the_document_as_it_is() -> None:
    # The interface is typed by what `npm run contract` makes of this file; `make contract` writes it.
    assert json.loads((SOURCE / "openapi.json").read_bytes()) == json.loads(document("/"))


def test_one_version() -> None:
    assert json.loads((SOURCE / "package.json").read_bytes())["version"] == __version__
    lock = json.loads((SOURCE / "package-lock.json").read_bytes())
    assert lock["version"] == __version__
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]  # any registry serves


def test_what_a_browser_loads_stays_small() -> None:
    scripts = list((BUILT / "static").glob("*.js"))
    assert scripts
    size = sum(len(gzip.compress(script.read_bytes())) for script in scripts)
    assert size < 220_000, f"{size} bytes of JavaScript, compressed, for {len(scripts)} files"


def test_a_copied_magic_means_the_same() -> None:
    # As labextension/src/sidebar/snippets.ts quotes, whose own test has the same line.
    *_, config = split("""submit train --config '{"it":"isn'"'"'t"}'""")
    assert config.text == '{"it":"isn\'t"}'
