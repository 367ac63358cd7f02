"""The end of a job's log, as it grows."""

from __future__ import annotations

import codecs
import time
from functools import partial
from typing import TYPE_CHECKING

from ipywidgets import HTML, Checkbox, HBox, VBox

from taskapi_jupyter.client.log_reader import SHOWN, newest
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import NotKept, TaskAPIError, size
from taskapi_jupyter.display.screen import Screen

from .html import log, said
from .poller import Poller

if TYPE_CHECKING:
    from taskapi_jupyter.client.log_reader import Fetch

KEPT = 64 << 10  # characters
LINES = 500
ASK_AGAIN = 10.0  # seconds until a log that can't be read in parts is read as a whole again


class LogView:
    """Shows the newest lines of one job's log; without Follow the text stays as it is."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self.follow = Checkbox(True, description="Follow", indent=False, tooltip="Show new lines as they are written")
        self.note = HTML()
        self.text = HTML(tabbable=True, tooltip="The job's log").add_class("ta-text").add_class("ta-log")
        self.box = VBox([HBox([self.follow, self.note]).add_class("ta-bar"), self.text]).add_class("ta-part")
        self.follow.observe(lambda change: poller.do(self.show), "value")
        self.clear()

    def clear(self) -> None:
        """Forget the log of the job before."""
        self._job: Job | None = None
        self._screen, self._decoder = _empty()
        self._size = self._next = 0
        self._begun = self._cut = self.complete = self._asking = False
        self._asked = float("-inf")
        self._shown_size, self._extent, self._refusal = 0, "", ""
        self.text.value = self.note.value = ""

    def read(self, api: TaskAPI, job: Job) -> None:
        """Read what was written since; only the newest part where that is much."""
        if self._job is None:
            self._job = job
        if self.complete:
            return
        over = job.ended  # known before the log is read, so that what is read then is complete
        try:
            data = self._written(partial(api.log_chunk, job))
        except NotKept:
            self._read_whole(api, job)
            return
        self._take(self._decoder.decode(data))
        self.complete = over and self._next >= self._size

    def _written(self, fetch: Fetch) -> bytes:
        """Return what was written since the last poll, or the newest part where that is much."""
        if self._begun:
            chunk = fetch(self._next)
            if chunk.size - self._next <= SHOWN:
                self._next, self._size = chunk.next, chunk.size
                return chunk.data
        data, start, self._next = newest(fetch)
        self._screen, self._decoder = _empty()
        self._begun, self._cut, self._size = True, start > 0, self._next
        return data

    def _take(self, text: str) -> None:
        self._screen.feed(text)
        self._cut = self._screen.trim(LINES + 1, KEPT) or self._cut

    def _read_whole(self, api: TaskAPI, job: Job) -> None:
        """Read all of it in another thread, for clusters, which have no parts of logs."""
        if self._asking or time.monotonic() - self._asked < ASK_AGAIN:
            return
        self._asking, over = True, job.ended

        def then(answer: str | TaskAPIError) -> None:
            if self._job is not job:
                return
            self._asking, self._asked, self.complete = False, time.monotonic(), over
            if isinstance(answer, TaskAPIError):
                self._refusal = str(answer)
            else:
                self._screen, self._cut, self._size = Screen(whole=True), False, len(answer.encode("utf-8", "replace"))
                self._take(answer)
            self.show()

        self._poller.aside(lambda: api.logs(job, LINES), then)

    def show(self) -> None:
        """Draw it."""
        if self._job is None:
            return
        following = self.follow.value or not self._shown_size
        if following:
            self._draw()
        since = self._size - self._shown_size
        if not self._size:
            nothing = "The job wrote nothing." if self._job.ended else "Nothing has been written yet."
            self.note.value = said(self._refusal or ("Loading the log." if self._asking else nothing))
        elif not following and since:
            self.note.value = said(f"Follow is off: {size(since)} more since then.")
        else:
            self.note.value = said(self._extent)

    def _draw(self) -> None:
        lines = self._screen.rows
        count = len(lines) - (not lines[-1])  # where it ends with a line's end
        cut = self._cut or count > LINES
        self.text.value = log("\n".join(lines[max(count - LINES, 0) :]))
        self._shown_size = self._size
        self._extent = ""
        if cut and self._job is not None:
            shown = f"the last {min(count, LINES)} lines of {size(self._size)}"
            self._extent = f"These are {shown}; %taskapi logs {self._job.id[-6:]} prints more."


def _empty() -> tuple[Screen, codecs.IncrementalDecoder]:
    return Screen(whole=True), codecs.getincrementaldecoder("utf-8")("replace")
