"""Cortex's TaskAPI for Jupyter. What Jupyter and IPython look for is here; nothing heavy is imported for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .client.taskapi import TaskAPI
    from .ui.panel import Panel as Panel


def __getattr__(name: str) -> Any:
    """Import the panel, and ipywidgets with it, for who asks for it."""
    if name == "Panel":
        from .ui.panel import Panel

        return Panel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def connect(env: str | None = None) -> TaskAPI:
    """Return the :class:`~taskapi_jupyter.core.contract.TaskAPI` of an environment (default: ``local``)."""
    from .environments import connect as _connect

    return _connect(env)


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext taskapi_jupyter``."""
    from .ui.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics back."""
    from .ui.magics import unload

    unload(ipython)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .server.app import TaskAPIApp

    return [{"module": "taskapi_jupyter", "app": TaskAPIApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "taskapi-jupyter"}]
