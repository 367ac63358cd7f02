"""Inside a task: ``from taskapi_jupyter.job import progress``. Standard library only, for Python 3.8 too."""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
import threading
import time
from typing import Any

_EVERY = 0.1  # seconds between two writes, at least


def progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Report how far the task is, for the progress bars of everyone who watches the job.

    Cheap enough for an inner loop: it writes at most ten times a second, and always the last value. Outside a job it
    checks its arguments and does nothing else. A disk without room is no error.

    Parameters
    ----------
    done
        How much is done, in any unit: a finite number.
    total
        How much there is to do, in the same unit: a finite number. None (default): unknown; then there is no
        percentage.
    message
        What the task is doing, shown beside the bar: its first 500 characters. None (default): nothing.

    Raises
    ------
    TypeError
        ``done`` or ``total`` is not a number, or ``message`` is not text.
    ValueError
        ``done`` or ``total`` is infinite or NaN.

    Examples
    --------
    >>> from taskapi_jupyter.job import progress
    >>> for epoch in range(50):
    ...     progress(epoch, 50, f"epoch {epoch}")
    """
    if message is not None and not isinstance(message, str):
        raise TypeError(f"message must be text, not {type(message).__name__}")
    value = {
        "done": _number("done", done),
        "total": None if total is None else _number("total", total),
        "message": None if message is None else message[:500].encode("utf-8", "replace").decode("utf-8"),
    }
    if job_spec := os.environ.get("TASKAPI_JOB_SPEC"):
        _writer.put(value, os.path.join(os.path.dirname(job_spec), "progress.json"))


class _Writer:
    """Writes values to a file, at most ten a second and always the last one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler that interrupts progress() may call it
        self.last = -math.inf  # when it last wrote
        self.waiting: tuple[dict[str, Any], str] | None = None
        self.timer: threading.Timer | None = None
        self.registered = False

    def put(self, value: dict[str, Any], path: str) -> None:
        with self.lock:
            self.waiting = (value, path)
            wait = self.last + _EVERY - time.monotonic()
            if wait <= 0 or value["done"] == value["total"]:
                self.flush()
            elif self.timer is None:
                self._later(wait)

    def flush(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = None
            if self.waiting is not None:
                (value, path), self.waiting = self.waiting, None
                self.last = time.monotonic()
                _write(path, json.dumps(value))

    def _tick(self) -> None:
        with self.lock:
            if threading.current_thread() is self.timer:  # else it was cancelled too late
                self.flush()

    def _later(self, seconds: float) -> None:
        if not self.registered:
            self.registered = True
            atexit.register(self.flush)
            if "multiprocessing.util" in sys.modules:  # its forked children exit without atexit's functions
                sys.modules["multiprocessing.util"].Finalize(None, self.flush, exitpriority=0)
        self.timer = threading.Timer(seconds, self._tick)
        self.timer.daemon = True
        try:
            self.timer.start()
        except RuntimeError:  # no more threads, or the interpreter is exiting
            self.flush()


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.{id(text)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever umask the task set
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        pass  # a full disk must not end the task because of a progress bar


def _number(name: str, value: Any) -> float:
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    number = math.inf if isinstance(value, int) and abs(value) > 1e300 else float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {number}")
    return int(number) if number.is_integer() else number


_writer = _Writer()
# A forked child may inherit a locked lock, and has no thread of the timer.
os.register_at_fork(after_in_child=_writer.__init__)  # type: ignore[misc]
