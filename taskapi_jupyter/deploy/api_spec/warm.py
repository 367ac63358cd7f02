"""``definition.warm``: what a process imports ahead, from which the jobs of a version are forked."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.packages import interpreter

from .quantities import parse_seconds
from .sections import Warm, wrong

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.packages.resolve import Environment

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MOST = 100  # modules
_HAS_PACKAGE = (
    "import sys; from importlib.util import find_spec; "
    "print('true' if sys.version_info >= (3, 10) and find_spec('taskapi_jupyter') else 'false')"
)


def settings(given: Warm, found: list[str]) -> dict[str, Any]:
    """Return the settings as an engine takes them; ``found`` is what the task imports at its top level."""
    auto = given.preload in ("auto", None)
    return {
        "preload": found[:_MOST] if auto else _modules(given.preload),
        "auto": auto,
        "idle": parse_seconds(given.idle, "definition.warm.idle"),
        "max": given.max,
    }


def _modules(value: Any) -> list[str]:
    names = re.split(r"[,\s]+", value.strip(", ")) if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= _MOST
        or not all(isinstance(one, str) and len(one) <= 200 and _MODULE.fullmatch(one) for one in names)
    ):
        raise wrong("definition.warm.preload", f"auto, or the names of 1 to {_MOST} modules", value)
    return names


def obstacle(python: str, environment: Environment | None = None) -> str | None:
    """Return why jobs of an interpreter, or of an environment, can't start warm; None where they can."""
    if not host.LINUX:
        return "a warm start takes Linux"
    if environment is not None:
        if interpreter.version(python) in ("3.8", "3.9"):
            return "a warm start takes Python 3.10 or newer"
    elif not interpreter.is_own(python):
        try:
            if not interpreter.ask(python, "-I", "-c", _HAS_PACKAGE):
                return f"a warm start takes Python 3.10 or newer and this package, which {python} has not"
        except BadRequest as error:
            return error.message
    return None


def imports(text: str | bytes) -> list[str]:
    """Return what a module imports at its top level: ``module``, or ``module:a,b`` for ``from module import a, b``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of another Python's grammar
        return []
    return list(dict.fromkeys(_imported(tree.body)))


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
            names = ",".join(alias.name for alias in node.names if alias.name != "*")
            yield f"{node.module}:{names}" if names else str(node.module)
