"""Engines, found by entry point ``taskapi_jupyter.engines``; each follows ``contract.Engine``."""

from __future__ import annotations

from typing import Any


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
