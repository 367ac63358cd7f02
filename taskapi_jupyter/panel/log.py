"""The end of a job's log, as it grows."""

from __future__ import annotations

import time

from ipywidgets import HTML, Checkbox, HBox, VBox

from taskapi_jupyter.contract import TaskAPI
from taskapi_jupyter.display.formats import size
from taskapi_jupyter.errors import NotKept, TaskAPIError
from taskapi_jupyter.jobs import Job

from .draw import log, said
from .pulse import Pulse

KEPT = 64 << 10  # bytes
LINES = 500
ASK_AGAIN = 10.0  # seconds until a log that can't be read in parts is asked for as a whole again


class LogView:
    """Shows the newest lines of one job's log; without Follow they stand still."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self.follow = Checkbox(
            True, description="Follow", indent=False, tooltip="Show new lines as they come; else the text stands still"
        )
        self.note = HTML()
        self.text = HTML(tabbable=True, tooltip="The job's log").add_class("ta-text").add_class("ta-log")
        self.box = VBox([HBox([self.follow, self.note]).add_class("ta-bar"), self.text]).add_class("ta-part")
        self.follow.observe(lambda change: pulse.do(self.show), "value")
        self.clear()

    def clear(self) -> None:
        """Forget the log of the job before."""
        self._job: Job | None = None
        self._data, self._size, self._next = b"", 0, 0
        self._begun = self._cut = self.complete = self._asking = False
        self._asked = float("-inf")
        self._shown_size, self._extent, self._refusal = 0, "", ""
        self.text.value = self.note.value = ""

    def read(self, api: TaskAPI, job: Job) -> None:
        """Read what came since; the newest part alone where that is much."""
        if self._job is None:
            self._job = job
        if self.complete:
            return
        over = job.ended  # known before the log is read: what is read then is all
        try:
            chunk = api.log_chunk(job, self._next if self._begun else -KEPT, KEPT)
            if chunk.next < chunk.size:
                self._data, self._begun = b"", False
                chunk = api.log_chunk(job, -KEPT, KEPT)
        except NotKept:
            self._read_whole(api, job)
            return
        self._cut = self._cut or (not self._begun and chunk.offset > 0) or len(self._data) + len(chunk.data) > KEPT
        self._data = (self._data + chunk.data)[-KEPT:]
        self._begun, self._next, self._size, self.complete = True, chunk.next, chunk.size, over

    def _read_whole(self, api: TaskAPI, job: Job) -> None:
        """Ask for all of it, aside, as clusters have it."""
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
                data = answer.encode("utf-8", "replace")
                self._data, self._cut, self._size = data[-KEPT:], len(data) > KEPT, len(data)
            self.show()

        self._pulse.aside(lambda: api.logs(job, LINES), then)

    def show(self) -> None:
        """Draw it."""
        if self._job is None:
            return
        following = self.follow.value or not self._shown_size
        if following:
            self._draw()
        since = self._size - self._shown_size
        if not self._size:
            nothing = "It wrote nothing." if self._job.ended else "Nothing has been written yet."
            self.note.value = said(self._refusal or ("Asking for the log." if self._asking else nothing))
        elif not following and since:
            self.note.value = said(f"Follow is off: {size(since)} more came.")
        else:
            self.note.value = said(self._extent)

    def _draw(self) -> None:
        text = self._data.decode("utf-8", "replace")
        if self._cut:
            text = text.partition("\n")[2] or text  # the first line is half a line
        lines = text.split("\n")
        ended = not lines[-1]  # with a line's end
        count = len(lines) - ended
        cut = self._cut or count > LINES
        self.text.value = log("\n".join(lines[-(LINES + ended) :]))
        self._shown_size = self._size
        self._extent = ""
        if cut and self._job is not None:
            shown = f"the last {min(count, LINES)} lines of {size(self._size)}"
            self._extent = f"These are {shown}; %taskapi logs {self._job.id[-6:]} prints more."
