"""Engines, found by entry point ``taskapi_jupyter.engines``; each follows :class:`Engine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from taskapi_jupyter.runner.warm import Templates

#: Ours are found without looking anything up.
_OURS = {"local": "taskapi_jupyter.runner.engine:LocalEngine", "ray": "taskapi_jupyter.ray.engine:RayEngine"}


def load(provider: str) -> Any:
    """Return the engine class of a provider."""
    if provider in _OURS:
        module, name = _OURS[provider].split(":")
        return getattr(import_module(module), name)
    from importlib.metadata import entry_points

    from taskapi_jupyter.core.errors import NotFound

    for found in entry_points(group="taskapi_jupyter.engines", name=provider):
        return found.load()
    raise NotFound(f"no engine for provider {provider!r} is installed")


class Engine(Protocol):
    """Code that starts, observes and stops jobs for a provider whose jobs stand in our own store.

    Jobs are plain rows (``store.Row``): an engine is used by the supervisor, which imports no msgspec. An engine never
    writes the store; it returns each job that ended once, from ``ended``.
    """

    #: Whether capacity may grow: a job that asks for more than there is then waits.
    elastic: bool

    #: The processes that have imported what tasks import, which hold memory for jobs to come; None: it has none.
    templates: Templates | None

    def capacity(self) -> Mapping[str, Any]:
        """Return what jobs may use: ``cpus`` in thousandths, ``mem`` in bytes, ``gpus`` where that is known."""

    def accepts_jobs(self) -> bool:
        """Whether jobs can be started now; while they can't, pending jobs stay pending."""

    def adopt(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Take over the jobs that an earlier supervisor marked running; start what has provably not begun."""

    def hand_over(self) -> Mapping[str, Any]:
        """Return, as plain JSON, what the supervisor that this process becomes by exec must know."""

    def take_over(self, handed: Mapping[str, Any]) -> None:
        """Take what this process handed over before it became this supervisor; called before ``adopt``."""

    def start(self, job: Mapping[str, Any]) -> None:
        """Start a job that is marked running."""

    def stop(self, job_id: str, hurry: bool = False) -> None:
        """Ask a job to stop; it ends with an outcome like any other.

        Called again and again until it has. ``hurry``: somebody stopped it twice, its grace period ends at once.
        """

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the jobs that ended since the last call, with their outcomes."""

    def keep_ahead(self, wanted: bool) -> None:
        """Prepare for the next job, where one was started lately; or, not ``wanted``, leave nothing of that."""

    def recorded(self, job_id: str) -> None:
        """Remove what is no longer needed of a job, once its end is in the store and synced."""

    def filenos(self) -> list[int]:
        """Return descriptors that turn readable when ``ended`` may have something new."""

    def interval(self) -> float | None:
        """Return after how many seconds ``ended`` wants to be asked even if nothing turned readable."""
