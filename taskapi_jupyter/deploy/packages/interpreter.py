"""Questions to the interpreter that will run a task, which may not be this process's."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import shorten

SECONDS = 30.0
OLDEST = (3, 8)  # that runs a task
_VERSIONS: dict[str, tuple[int, str]] = {}  # by the path of an interpreter: when that was changed, and its version


def resolve(python: str | None, cwd: str, search: str | None) -> str:
    """Return the absolute path of an interpreter, by default this process's; a bare name is looked up in ``search``."""
    if not python:
        return sys.executable
    path = os.path.expanduser(python)
    if os.path.basename(path) == path:
        path = shutil.which(path, path=search) or path
    path = os.path.abspath(os.path.join(cwd, path))  # symbolic links stay: a virtualenv's python is one
    if not os.path.isfile(path):
        raise BadRequest(f"the interpreter {shorten(python)} does not exist")
    if not os.access(path, os.X_OK):
        raise BadRequest(f"the interpreter {shorten(python)} is not executable")
    return path


def is_own(python: str) -> bool:
    """Whether this is this process's interpreter."""
    return python == sys.executable


def ask(
    python: str,
    *args: str,
    given: Any = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    seconds: float = SECONDS,
) -> Any:
    """Run ``python args…`` with ``given`` as JSON on its standard input; return the JSON that it prints."""
    result = _run(python, args, json.dumps(given), env, cwd, seconds=seconds)
    try:
        if result.returncode == 0:
            return nesting.loads(result.stdout)
    except ValueError:
        pass
    last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
    raise BadRequest(f"{python} can't be used as the interpreter (Python 3.8 or newer): {last[:200]}")


def full_version(python: str, env: Mapping[str, str] | None = None, seconds: float = SECONDS) -> str:
    """Return the interpreter's version, such as ``3.11.7``; it is asked once, and again where its file has changed."""
    if is_own(python):
        return platform.python_version()
    try:
        at = os.stat(python).st_mtime_ns
    except OSError as error:
        raise BadRequest(f"{python} can't be started: {error.strerror}") from None
    known = _VERSIONS.get(python)
    if known is None or known[0] != at:
        # In text that Python 2 understands, too: its version is the answer.
        code = "import json, sys; print(json.dumps(sys.version.split()[0]))"
        known = _VERSIONS[python] = at, str(ask(python, "-I", "-S", "-c", code, env=env, seconds=seconds))
    return known[1]


def version(python: str) -> str:
    """Return the interpreter's minor version, such as ``3.11``."""
    return ".".join(full_version(python).split(".")[:2])


def check_version(python: str, version: str) -> None:
    """Raise :class:`BadRequest` where the version is older than tasks run with."""
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise BadRequest(f"{python} is Python {version}, and a task needs {'.'.join(map(str, OLDEST))} or newer")


def has_module(python: str, module: str, env: Mapping[str, str], cwd: str) -> bool:
    """Whether the interpreter can import a module; tried by an import."""
    return _run(python, ("-c", f"import {module}"), "", env, cwd).returncode == 0


def package_folder(name: str) -> str:
    """Return the folder that must be on ``sys.path`` for a package of this interpreter to be found."""
    from importlib.util import find_spec

    found = find_spec(name)
    if found is None or found.origin is None:
        raise BadRequest(f"{name} is not installed beside this package; install it and deploy again")
    return str(Path(found.origin).parent.parent)


def _run(
    python: str,
    args: tuple[str, ...],
    given: str,
    env: Mapping[str, str] | None,
    cwd: str | None,
    *,
    seconds: float = SECONDS,
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [python, *args],
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadRequest(f"{python} did not answer within {seconds:.2g} s") from None
    except OSError as error:
        raise BadRequest(f"{python} can't be started: {error.strerror or error}") from None
