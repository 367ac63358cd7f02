"""The progress bar of jobs and groups that are waited for: a bar in a notebook, a line in a terminal, else nothing.

All that are waited for at the same time in one place (below one cell, in one terminal) share one bar, whichever
threads and tasks wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from .facts import ended
from .groups import bar_html, bar_text, ended_of
from .html import group_html, progress_html
from .text import group_text, progress_text

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import GroupStatus, JobStatus

    Record = JobStatus | GroupStatus

_Write = Callable[[str, str, bool], None]  # takes HTML, text, and whether it is drawn for the last time

_lock = threading.RLock()
_alive: dict[object, Bar] = {}  # by place
_last: Bar | None = None  # the newest bar that is drawn no more


def join(records: Iterable[Record]) -> Bar:
    """Add jobs to the bar of this cell or terminal, a new one where there is none, and return it."""
    with _lock:
        place, writer = _place()
        bar = _alive.setdefault(place, Bar(place, writer))
        bar.waits += 1
        for record in records:
            bar.awaits_an_end |= not _is_over(record)
            bar.put(record)
        return bar


def leave(bar: Bar, records: Iterable[Record]) -> None:
    """Draw the jobs as they are now, for good when the last wait of the bar ends."""
    with _lock:
        bar.waits -= 1
        bar.show(*records, last=not bar.waits)
        if not bar.waits and _alive.get(bar.place) is bar:
            del _alive[bar.place]
            global _last  # noqa: PLW0603
            _last = bar


def show_in_place(value: Any, keys: Iterable[str]) -> None:
    """Show what was waited for in place of its bar, as ``_ipython_display_`` of a value.

    ``keys`` are the ids of the jobs or groups that the bar must have shown, and no others. Raises NotImplementedError,
    upon which IPython shows the value as ever, where this cell has no such bar.
    """
    global _last  # noqa: PLW0603
    with _lock:
        bar = _last
        if bar is None or not bar.drawn or not bar.stays or bar.keys != set(keys) or bar.place != _place()[0]:
            raise NotImplementedError
        _last = None
        bar.redraw(value._repr_html_(), _pretty(value))


def _pretty(value: Any) -> str:
    from IPython.lib.pretty import pretty

    return str(pretty(value))


class Bar:
    """Shows the progress of jobs in one place: changes at most five times a second, the time every second."""

    def __init__(self, place: object, writer: Callable[[], _Write] | None) -> None:
        self.place = place
        self.waits = 0
        self.awaits_an_end = False  # nothing is shown for jobs that had already ended
        self.drawn = False
        self._write = writer() if writer else None
        self._records: dict[str, Record] = {}
        self._changed = False
        self._at = float("-inf")

    @property
    def draws(self) -> bool:
        """Whether anything is shown: in a notebook and in a terminal."""
        return self._write is not None

    @property
    def stays(self) -> bool:
        """Whether what it drew can be replaced: in a notebook."""
        return not isinstance(self.place, int)

    @property
    def keys(self) -> set[str]:
        """The ids of what it shows."""
        return set(self._records)

    def put(self, record: Record) -> None:
        """Keep the state of a job or a group, to be drawn later."""
        key = str(getattr(record, "job_id", None) or getattr(record, "id", ""))
        old = self._records.get(key)
        self._changed |= old is None or _seen(old) != _seen(record)
        self._records[key] = record

    def drop(self, job_id: str) -> None:
        """Draw a job no more: its next attempt is waited for."""
        with _lock:
            self._records.pop(job_id, None)

    def show(self, *records: Record, last: bool = False) -> None:
        """Draw jobs as they are now, if it is time to; with ``last`` always."""
        with _lock:
            if self._write is None:
                return
            for record in records:
                self.put(record)
            if not self.awaits_an_end:
                return
            now = time.monotonic()
            if last or now - self._at >= (0.2 if self._changed else 1.0):
                self._changed, self._at, self.drawn = False, now, True
                self._write(*_pictures(list(self._records.values())), last)

    def redraw(self, html: str, text: str) -> None:
        """Draw something else in its place, where that can be."""
        assert self._write is not None
        self._write(html, text, True)


def _is_group(record: Record) -> TypeGuard[GroupStatus]:
    return hasattr(record, "counts")


def _is_job(record: Record) -> TypeGuard[JobStatus]:
    return not _is_group(record)


def _is_over(record: Record) -> bool:
    if _is_job(record):
        return ended(record)
    return _is_group(record) and len(set(ended_of(record))) == 1


def _seen(record: Record) -> tuple[object, object]:
    return record.status if _is_job(record) else getattr(record, "counts", None), record.progress


def _pictures(records: Sequence[Record]) -> tuple[str, str]:
    jobs = list(filter(_is_job, records))
    groups = list(filter(_is_group, records))
    html, text = list(map(bar_html, groups)), list(map(bar_text, groups))
    if len(jobs) == 1:
        html, text = [*html, progress_html(jobs[0])], [*text, progress_text(jobs[0])]
    elif jobs:
        html, text = [*html, group_html(jobs)], [*text, group_text(jobs)]
    return "".join(html), "  ".join(text)


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
