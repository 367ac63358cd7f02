"""What a home's engine is told, ``engine.json``. Standard library only."""

from __future__ import annotations

import json
from typing import Any

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.core.paths import HomePaths


def read(home: str) -> dict[str, Any]:
    """Return what a home's engine is told: its provider, and what else that needs."""
    path = HomePaths(home).engine
    try:
        data = files.read_own(path, 1 << 20)
        return {"provider": "local"} if data is None else dict(nesting.loads(data))
    except (OSError, ValueError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(
            f"{path} can't be read ({why}): restore it, or delete it if no job runs there any more"
        ) from None


def write(home: str, settings: dict[str, Any]) -> None:
    """Write that down: the ids that jobs have elsewhere are made from it, so it must not be lost with the power."""
    files.write_atomic(HomePaths(home).engine, json.dumps(settings).encode(), sync=True)
