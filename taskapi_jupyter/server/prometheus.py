"""What a Jupyter server's ``/metrics`` shows of the jobs of its home: how many, how long, what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskapi_jupyter.core.states import MOVES, JobCode
from taskapi_jupyter.service.store.readable import WRITTEN, fault

if TYPE_CHECKING:
    from taskapi_jupyter.service.store.connection import Row
    from taskapi_jupyter.service.store.store import Store

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Figures(Collector):
    """Figures of all jobs together: no label names a job or an API, of which there may be any number.

    They are as of the last change: reading them costs no look at the store. Durations count from the server's start.
    """

    def __init__(self) -> None:
        self._queue = Histogram(
            "taskapi_queue_seconds", "From a job's submission to its start", registry=None, buckets=_SECONDS
        )
        self._job = Histogram("taskapi_job_seconds", "From a job's start to its end", registry=None, buckets=_SECONDS)
        self._counts: dict[str, int] = {}
        self._cores = self._memory = 0.0
        self._running: set[str] | None = None  # jobs whose wait is counted, or was over when the server started

    def note(self, store: Store, changed: Sequence[Row]) -> None:
        """Take in what has changed, in the thread that has seen it."""
        held = store.held()
        self._counts, self._cores, self._memory = store.counts(None, []), held["cpu"] / 1000, held["mem"]
        if self._running is None:
            running = store.jobs(None, [JobCode.RUNNING.value], held["jobs"], columns="id, seq")
            self._running = {row["id"] for row in running}
            return
        for row in changed:
            if fault(row):  # or a deleted one's, whose status is none
                self._running.discard(row["id"])
                continue
            over = row["status"] not in MOVES
            if row["started"] is not None and row["id"] not in self._running:
                self._queue.observe((row["started"] - row["created"]) / 1e6)
                self._running.add(row["id"])
            if over and row["started"] is not None and row["ended"] is not None:
                self._job.observe((row["ended"] - row["started"]) / 1e6)
            if over:
                self._running.discard(row["id"])

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        jobs = GaugeMetricFamily("taskapi_jobs", "Jobs by status", labels=["status"])
        for status in sorted(WRITTEN):
            jobs.add_metric([status], self._counts.get(status, 0))
        yield jobs
        yield GaugeMetricFamily("taskapi_cores_in_use", "Cores that running jobs hold", value=self._cores)
        yield GaugeMetricFamily("taskapi_memory_in_use_bytes", "Memory that running jobs hold", value=self._memory)
        yield from self._queue.collect()
        yield from self._job.collect()

    def describe(self) -> Iterator[Metric]:
        """Name nothing: a server that is started in the place of another in one process may register first."""
        yield from ()

    def show(self) -> None:
        """Let ``/metrics`` show them."""
        REGISTRY.register(self)

    def hide(self) -> None:
        """Undo that."""
        REGISTRY.unregister(self)
