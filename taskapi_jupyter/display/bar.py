"""What waiting for a job looks like: a bar in a notebook, a line in a terminal, else nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from .html import progress_html
from .text import progress_text

if TYPE_CHECKING:
    from taskapi_jupyter.contract import JobStatus


class Bar:
    """Shows a job's progress in one place; a change at most five times a second, the time each second."""

    def __init__(self) -> None:
        self._write = _in_notebook() or _in_terminal()
        self._shown: object = None
        self._at = float("-inf")

    def show(self, record: JobStatus, last: bool = False) -> None:
        """Draw a job as it is now; the ``last`` picture is always drawn."""
        if self._write is None:
            return
        state, now = (record.status, record.progress), time.monotonic()
        if last or now - self._at >= (0.2 if state != self._shown else 1.0):
            self._shown, self._at = state, now
            self._write(record, last)


def _in_notebook() -> Any:
    """Return what draws below the running cell of a kernel, or None outside one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    handle: Any = None

    def write(record: JobStatus, last: bool) -> None:
        nonlocal handle
        picture = {"text/html": progress_html(record), "text/plain": progress_text(record)}
        if handle is None:
            handle = display(picture, raw=True, display_id=True)
        else:
            handle.update(picture, raw=True)

    return write


def _in_terminal() -> Any:
    """Return what rewrites one line of a terminal, or None where standard error is none."""
    try:
        if not sys.stderr.isatty():
            return None
    except (AttributeError, ValueError):
        return None
    stream = sys.stderr

    def write(record: JobStatus, last: bool) -> None:
        stream.write("\r\x1b[K" + progress_text(record) + ("\n" if last else ""))
        stream.flush()

    return write
