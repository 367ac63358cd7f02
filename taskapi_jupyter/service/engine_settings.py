"""``engine.json``: which engine a home has, and its settings. Standard library only."""

from __future__ import annotations

import json
from typing import Any

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.core.paths import HomePaths


def read(home: str) -> dict[str, Any]:
    """Return the settings of a home's engine: ``provider`` and what that needs; without a file, ``local``."""
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
    """Write the settings, synced: a cluster's ids of jobs are made from them, so they must survive a power cut."""
    files.write_atomic(HomePaths(home).engine, json.dumps(settings).encode(), sync=True)
