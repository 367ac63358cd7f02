"""A backend of joblib whose batches are jobs: import this, then ``with joblib.parallel_config("taskapi", n_jobs=8):``.

A batch is a process of its own, which imports what it needs: good for calls of a second or more. Options of
:class:`taskapi_jupyter.Executor` follow the backend's name: ``parallel_config("taskapi", n_jobs=8, mem="2Gi")``.
``n_jobs`` is how many batches run at the same time, if there are as many cores.

Large arrays are written to a temporary folder once, and mapped into the jobs, read-only; so are batches of more than
1 MiB. Jobs that run on another machine than this process can't have either.
"""

from __future__ import annotations

import io
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import cpu_count, register_parallel_backend
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from .client.executor.calls import MAX_CALL
from .client.executor.executor import Executor
from .core.errors import TooLarge, size
from .deploy.pickling import NotebookPickler

LARGE = 1 << 16  # bytes of an array that goes along as a file

__all__ = ["TaskAPIBackend"]


class TaskAPIBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs batches as jobs of an :class:`Executor`, whose options it takes; each call of ``Parallel`` has its own.

    Calls of a short time are put together, so that a batch takes a second or more beside the start of its process. An
    exception, an interrupt too, stops all jobs. A ``Parallel`` within a job uses threads.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1
    MIN_IDEAL_BATCH_DURATION = 1.0  # seconds of the calls alone
    MAX_IDEAL_BATCH_DURATION = 10.0

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self._executor: Executor | None = None
        self._files: _Files | None = None
        self._took = 0.0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at a time; negative numbers count from the number of cores, -1 is all of them."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Begin a call of ``Parallel``, and return how many batches run at a time."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._executor = Executor(**{"name": f"joblib-{secrets.token_hex(3)}", **self._options})
        self._executor.max_running = count
        self._call = self._executor.prepare(_runner())
        self._files = _Files(options.get("temp_folder")) if self._executor.is_here else None
        return count

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Submit a batch."""
        future: Future[Any]
        try:
            assert self._executor is not None
            future = self._executor.submit(self._call, func if self._files is None else self._files.pickled(func))
        except TooLarge as error:
            raise TooLarge(
                f"a batch of calls has more than {size(MAX_CALL)} when pickled, the most where jobs run on another "
                "machine: have the calls load their data"
            ) from error
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the results of a batch."""
        results, self._took = out.result()
        return results

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Note how long the calls of a batch took, without the wait in line and the start of the process."""
        super().batch_completed(batch_size, self._took)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop all jobs; return when none of their processes is left."""
        try:
            if self._executor is not None:
                self._executor.stop()
        finally:
            self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """End a call of ``Parallel``."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        if self._files is not None:
            self._files.remove()
        self._executor = self._files = None
        self.reset_batch_stats()

    def get_nested_backend(self) -> tuple[Any, None]:
        """Return what a ``Parallel`` within a job uses."""
        return ThreadingBackend(nesting_level=(self.nesting_level or 0) + 1), None


def _runner() -> Callable[[Any], tuple[list[Any], float]]:
    """Return what a job does; it goes along by value, as a job need not have this package."""

    def batch(calls: Any) -> tuple[list[Any], float]:
        from time import perf_counter

        if isinstance(calls, str):
            from pickle import load

            with open(calls, "rb") as file:
                calls = load(file)  # noqa: S301 - in the job
        elif isinstance(calls, bytes):
            from pickle import loads

            calls = loads(calls)  # noqa: S301 - in the job
        began = perf_counter()
        return calls(), perf_counter() - began

    return batch


class _Files:
    """What is too large to go along with a job: a folder that is removed at the end, also at that of the process."""

    def __init__(self, parent: str | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="taskapi-joblib-", dir=parent, ignore_cleanup_errors=True)
        self._arrays: dict[int, tuple[Any, str]] = {}  # those written, which no other can have the id of
        self._count = 0
        self._lock = threading.Lock()

    def remove(self) -> None:
        """Remove the folder. Where an array is still mapped, its pages stay."""
        self._arrays.clear()
        self._folder.cleanup()

    def pickled(self, calls: Any) -> bytes | str:
        """Return a batch pickled, or the path of the file that holds it."""
        data = io.BytesIO()
        with self._lock:
            _Pickler(data, self).dump(calls)
            if data.tell() <= MAX_CALL // 2:
                return data.getvalue()
            path = self.new("batch.pkl")
        with open(path, "wb") as file:
            file.write(data.getbuffer())
        return path

    def new(self, name: str) -> str:
        """Return the path of a new file."""
        self._count += 1
        return os.path.join(self._folder.name, f"{self._count}-{name}")

    def array(self, array: Any) -> str:
        """Return the path of the file that holds an array."""
        import numpy as np

        if id(array) not in self._arrays:
            path = self.new("array.npy")
            np.save(path, np.asarray(array), allow_pickle=False)
            self._arrays[id(array)] = array, path
        return self._arrays[id(array)][1]


class _Pickler(NotebookPickler):
    """Pickles a batch; large arrays are files, which the job maps."""

    def __init__(self, file: Any, files: _Files) -> None:
        super().__init__(file)
        self._files = files

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a large array to the file that holds it."""
        np = sys.modules.get("numpy")
        if np is not None and type(obj) in (np.ndarray, np.memmap) and obj.nbytes >= LARGE and not obj.dtype.hasobject:
            return np.load, (self._files.array(obj), "r")
        return super().reducer_override(obj)


register_parallel_backend("taskapi", TaskAPIBackend)
