"""The progress bar of jobs that are waited for: a bar in a notebook, a line in a terminal, else nothing.

All jobs that are waited for at the same time in one place (below one cell, in one terminal) share one bar, whichever
threads and tasks wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .facts import ended
from .html import group_html, progress_html
from .text import group_text, progress_text

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import JobStatus

_Write = Callable[[str, str, bool], None]  # takes HTML, text, and whether it is drawn for the last time

_lock = threading.RLock()
_alive: dict[object, Bar] = {}  # by place


def join(records: Iterable[JobStatus]) -> Bar:
    """Add jobs to the bar of this cell or terminal, a new one where there is none, and return it."""
    with _lock:
        place, writer = _place()
        bar = _alive.setdefault(place, Bar(place, writer))
        bar.waits += 1
        for record in records:
            bar.awaits_an_end |= not ended(record)
            bar.put(record)
        return bar


def leave(bar: Bar, records: Iterable[JobStatus]) -> None:
    """Draw the jobs as they are now, for good when the last wait of the bar ends."""
    with _lock:
        bar.waits -= 1
        bar.show(*records, last=not bar.waits)
        if not bar.waits and _alive.get(bar.place) is bar:
            del _alive[bar.place]


class Bar:
    """Shows the progress of jobs in one place: changes at most five times a second, the time every second."""

    def __init__(self, place: object, writer: Callable[[], _Write] | None) -> None:
        self.place = place
        self.waits = 0
        self.awaits_an_end = False  # nothing is shown for jobs that had already ended
        self._write = writer() if writer else None
        self._records: dict[str, JobStatus] = {}
        self._changed = False
        self._at = float("-inf")

    def put(self, record: JobStatus) -> None:
        """Keep the state of a job, to be drawn later."""
        old = self._records.get(record.job_id)
        self._changed |= old is None or (old.status, old.progress) != (record.status, record.progress)
        self._records[record.job_id] = record

    def show(self, *records: JobStatus, last: bool = False) -> None:
        """Draw jobs as they are now, if it is time to; with ``last`` always."""
        with _lock:
            for record in records:
                self.put(record)
            if self._write is None or not self.awaits_an_end:
                return
            now = time.monotonic()
            if last or now - self._at >= (0.2 if self._changed else 1.0):
                self._changed, self._at = False, now
                self._write(*_pictures(list(self._records.values())), last)


def _pictures(records: Sequence[JobStatus]) -> tuple[str, str]:
    if len(records) == 1:
        return progress_html(records[0]), progress_text(records[0])
    return group_html(records), group_text(records)


def _place() -> tuple[object, Callable[[], _Write] | None]:
    """Return the place to draw in, and what makes a writer for it; None where nothing is drawn."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is not None:
        header: Any = getattr(shell.display_pub, "parent_header", None) or {}  # of the cell that output goes to
        return header.get("msg_id"), _in_notebook
    stream: Any = sys.stderr
    try:
        if stream.isatty():
            return id(stream), lambda: _in_terminal(stream)
    except (AttributeError, ValueError):
        pass
    return None, None


def _in_notebook() -> _Write:
    """Return a function that draws below the running cell of a kernel."""
    from IPython.display import DisplayHandle

    handle, begun = DisplayHandle(), False

    def write(html: str, text: str, last: bool) -> None:
        nonlocal begun
        draw = handle.update if begun else handle.display
        begun = True  # set first: an interrupt just after the output was sent must not lead to a second bar
        draw({"text/html": html, "text/plain": text}, raw=True)

    return write


def _in_terminal(stream: Any) -> _Write:
    """Return a function that rewrites one line of a terminal."""

    def write(html: str, text: str, last: bool) -> None:
        stream.write("\r\x1b[K" + text + ("\n" if last else ""))
        stream.flush()

    return write
