"""Cortex's TaskAPI for Jupyter: ``connect``, ``task``, ``grid``, ``Executor``, ``Panel`` and hooks of Jupyter.

Importing this imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .client.decorator import task as task
    from .client.executor.executor import Executor as Executor
    from .client.groups.configs import grid as grid
    from .client.job import Job
    from .client.taskapi import TaskAPI
    from .ui.panel import Panel as Panel


#: What is imported when it is first used: ``Panel``, say, needs ipywidgets.
_LATE = {
    "Executor": ".client.executor.executor",
    "Panel": ".ui.panel",
    "grid": ".client.groups.configs",
    "task": ".client.decorator",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for the first time."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name], __name__), name)


def connect(env: str | None = None) -> TaskAPI:
    """Return the TaskAPI of an environment, to deploy APIs, submit jobs and read them.

    It goes through the Jupyter server that ``TASKAPI_URL`` names (with ``TASKAPI_TOKEN``), else through JupyterHub's
    single-user server or the server that started this kernel; where there is none, as in a terminal, this process uses
    the home on this machine itself.

    Parameters
    ----------
    env
        The name of the environment, as ``%taskapi env`` lists it; None (default): the default one, which is ``local``
        unless another was chosen.

    Returns
    -------
    taskapi_jupyter.client.taskapi.TaskAPI
        Safe to use from several threads. ``close()`` closes its connections.

    Raises
    ------
    NotFound
        There is no such environment; the message names those there are.
    BadRequest
        ``TASKAPI_URL`` or ``environments.yaml`` is invalid.
    Unreachable
        The server that ``TASKAPI_URL`` names does not answer. Others are passed over.
    Forbidden
        That server refuses the token.
    Unavailable
        The home can't be used: no disk space, another user's folder, a newer version's database.

    Examples
    --------
    >>> from taskapi_jupyter import connect
    >>> api = connect()
    >>> api.deploy(train, name="train")
    >>> api.submit("train", {"lr": 0.1}).result()
    """
    from .environments import connect as _connect

    return _connect(env)


def _stored_job(state: dict[str, str]) -> Job:
    """Return a job from its pickle, which names this function."""
    from .client.job import Job

    job = Job.__new__(Job)
    job.__setstate__(state)
    return job


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext taskapi_jupyter``."""
    from .ui.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Remove the magics."""
    from .ui.magics import unload

    unload(ipython)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .server.app import TaskAPIApp

    return [{"module": "taskapi_jupyter", "app": TaskAPIApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "taskapi-jupyter"}]
