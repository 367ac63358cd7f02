"""``jupyter taskapi``, run as a program, and in this process, which takes a tenth of the time."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from taskapi_jupyter import environments
from taskapi_jupyter.ui.cli import main

PROGRAM = [sys.executable, "-m", "taskapi_jupyter.ui.cli"]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program's own function in this process, without a terminal and with nothing to read."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), open(os.devnull) as nothing:
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", nothing)
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            try:
                code = main(arguments)
            except SystemExit as exit_:
                code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        environments.CONNECTIONS.close()
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, out, err)


def answer(*arguments: str, **environ: str) -> Any:
    """Return what the program answers as JSON."""
    done = run(*arguments, "-o", "json", **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_apart(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process."""
    return subprocess.run(
        [*PROGRAM, *arguments], env={**os.environ, **environ}, capture_output=True, text=True, timeout=60
    )
