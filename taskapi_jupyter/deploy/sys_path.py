"""The kernel's ``sys.path``, so that a task imports from the same folders in the same order."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from taskapi_jupyter.core.errors import BadRequest

from .packages import interpreter


def kernel_sys_path(folder: str) -> list[str]:
    """Return the existing folders of ``sys.path`` as absolute paths; ``folder`` stands for the current one.

    One empty text stands for the interpreter's standard library and one for its packages, which another interpreter
    has elsewhere (see ``harness.search_path``).
    """
    library, packages = _own(sys.executable)
    found: list[str] = []
    seen: set[int] = set()
    for one in sys.path:
        path = os.path.abspath(one) if one else folder
        part = 0 if path in library else 1 if path in packages else None
        if part is None:
            found += [path] if os.path.isdir(path) else []
        elif part not in seen and os.path.isdir(path):
            seen.add(part)
            found.append("")
    return found


@lru_cache(maxsize=1)
def _own(python: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the folders that an interpreter searches by default: its library, then those of its packages."""
    try:
        paths = interpreter.ask(python, "-c", "import json, sys; print(json.dumps(sys.path[1:]))")
    except BadRequest:  # as many processes as there may be
        paths = sys.path
    cut = next((at for at, one in enumerate(paths) if one.endswith("-packages")), len(paths))
    return frozenset(map(os.path.abspath, paths[:cut])), frozenset(map(os.path.abspath, paths[cut:]))
