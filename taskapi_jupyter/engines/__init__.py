"""Engines, found by entry point ``taskapi_jupyter.engines``; each follows ``contract.Engine``."""

from __future__ import annotations

import json
import os
from typing import Any

from taskapi_jupyter import plainfile

SETTINGS = "engine.json"  # of a home; without one its jobs run on this machine


def read_settings(home: str) -> dict[str, Any]:
    """Return what a home's engine is told: its provider, and what else that needs."""
    try:
        return dict(json.loads(plainfile.read(os.path.join(home, SETTINGS), 1 << 20)))
    except FileNotFoundError:
        return {"provider": "local"}


def load(provider: str) -> Any:
    """Return the engine class of a provider; ours are found without looking anything up."""
    if provider == "local":
        from .local import LocalEngine

        return LocalEngine
    if provider == "ray":
        from .ray import RayEngine

        return RayEngine
    from importlib.metadata import entry_points

    from taskapi_jupyter.errors import NotFound

    for found in entry_points(group="taskapi_jupyter.engines", name=provider):
        return found.load()
    raise NotFound(f"no engine for provider {provider!r} is installed")
