"""The chosen job: its state, log, config, result and files, and buttons to stop, rerun and delete it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

from ipywidgets import HTML, Button, HBox, Tab, VBox

from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import JobNotFound, JobNotInProgress, NotFound, NotKept, TaskAPIError
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display.formats import clean

from .files import files_html
from .html import facts, headline, said, value
from .job_query import Page
from .log import LogView
from .poller import Poller
from .python import RunsOfJob

LOG, CONFIG, RESULT, FILES = range(4)
DELETE = "Delete the job, its log, result and files"
LIST_AGAIN = 5.0  # seconds until the files of a job in progress are listed again


class Details:
    """Shows one job. ``choose`` is called with the new job of a rerun, or with None where the job was deleted."""

    def __init__(self, poller: Poller, choose: Callable[[Job | None], None]) -> None:
        self._poller = poller
        self._choose = choose
        self.job: Job | None = None
        self._under_way: dict[str, str] = {}  # what is being done with jobs, by their ids
        self._sure = False
        self._drawing = threading.Lock()  # buttons change in the kernel's thread as well
        self._build()
        self.clear()

    def _build(self) -> None:
        self.head, self.facts, self.answer = HTML(), HTML(), HTML().add_class("ta-said")
        self.stop = Button(description="Stop", icon="stop", tooltip="Stop the job and all its processes")
        self.rerun = Button(description="Rerun", icon="repeat", tooltip="Submit the same config and timeouts again")
        self.delete = Button(description="Delete", icon="trash", tooltip=DELETE)
        self.yes = Button(description="Yes", button_style="danger", tooltip="Delete the job for good")
        self.no = Button(description="No", tooltip="Keep the job")
        self.question = HTML(said("Really delete?", "ta-ask"))
        self.stop.on_click(lambda button: self._do("Stopping", lambda api, job: job.stop()))
        self.rerun.on_click(lambda button: self._do("Submitting", lambda api, job: api.rerun(job)))
        self.delete.on_click(lambda button: self._ask(True))
        self.no.on_click(lambda button: self._ask(False))
        self.yes.on_click(lambda button: self._do("Deleting", lambda api, job: api.forget(job)))
        buttons = [self.stop, self.rerun, self.delete, self.question, self.yes, self.no, self.answer]
        self.log = LogView(self._poller)
        self.texts = {tab: HTML(tabbable=True).add_class("ta-text") for tab in (CONFIG, RESULT)}
        self.files = HTML()
        self.notes = {tab: HTML().add_class("ta-said") for tab in (CONFIG, RESULT, FILES)}
        shown = {CONFIG: self.texts[CONFIG], RESULT: self.texts[RESULT], FILES: self.files}
        pages = [self.log.box, *(VBox([self.notes[tab], shown[tab]]).add_class("ta-part") for tab in shown)]
        self.tabs = Tab(pages, titles=("Log", "Config", "Result", "Files"), selected_index=LOG).add_class("ta-tabs")
        self.tabs.observe(lambda change: self._poller.do(lambda: None), "selected_index")
        parts = [self.head, HBox(buttons).add_class("ta-actions"), self.facts, self.tabs]
        self.body = VBox(parts).add_class("ta-part")
        self.hint = HTML().add_class("ta-said")
        self.box = VBox([self.hint, self.body]).add_class("ta-detail")

    @property
    def moving(self) -> bool:
        """Whether a job is shown that has not ended."""
        return self.job is not None and not self.job.ended

    def clear(self, hint: str = "Choose a job to see its log, config, result and files.") -> None:
        """Show no job."""
        self._begin(None)
        self.hint.value = said(hint)
        self.body.layout.display = "none"

    def choose(self, job: Job) -> None:
        """Show a job."""
        if self.job is None or self.job.id != job.id:
            self._begin(job)
        self.hint.value, self.body.layout.display = "", None

    def _begin(self, job: Job | None) -> None:
        self.job, self._sure, self._runs = job, False, RunsOfJob()
        self._result_asked, self._files_asked = False, float("-inf")
        self.answer.value = ""
        self.log.clear()
        self.texts[RESULT].value = self.files.value = self.notes[RESULT].value = self.notes[FILES].value = ""
        self.texts[CONFIG].value = self.notes[CONFIG].value = ""
        self._config_shown = False
        if job is not None and not job.record.config_truncated:
            self._show_config(job)

    # Reading

    def read(self, api: TaskAPI, page: Page) -> None:
        """Read the state of the job and what its open tab shows."""
        job = self.job
        if job is None:
            return
        try:
            listed = next((one for one in page.jobs if one.job_id == job.id), None)
            if listed is not None and not job.ended:  # what a stop has just read is newer
                job.record = listed
            elif not job.ended:
                job.refresh()
            if not api.lacks("packages"):
                self._runs.read(api, job.record)
            self._read_tab(api, job)
        except JobNotFound:
            self._gone(job)

    def _read_tab(self, api: TaskAPI, job: Job) -> None:
        tab = self.tabs.selected_index
        if tab == LOG:
            self.log.read(api, job)
        elif tab == CONFIG and not self._config_shown:
            self._show_config(job)
        elif tab == RESULT:
            self._read_result(api, job)
        elif tab == FILES:
            self._read_files(api, job)

    def _show_config(self, job: Job) -> None:
        """Show the job's config, which is read now if a list left it out."""
        config = job.config
        self.texts[CONFIG].value = value(config) if config else ""
        self.notes[CONFIG].value = "" if config else said("Submitted without a config.")
        self._config_shown = True

    def _read_result(self, api: TaskAPI, job: Job) -> None:
        if self._result_asked:
            return
        if not job.ended:
            self.notes[RESULT].value = said("The result is available when the job has ended.")
            return
        self._result_asked = True
        if job.record.code is not JobCode.SUCCEEDED:
            self.notes[RESULT].value = said("The job did not succeed, so there is no result.")
            return
        self.notes[RESULT].value = said("Loading the result.")
        self._ask_for(RESULT, job, lambda: value(api.result(job)), self.texts[RESULT], "The task returned nothing.")

    def _read_files(self, api: TaskAPI, job: Job) -> None:
        now = time.monotonic()
        if now - self._files_asked < LIST_AGAIN:
            return
        self._files_asked = float("inf") if job.ended else now
        nothing = "No files." if job.ended else "No files yet."
        self._ask_for(FILES, job, lambda: files_html(api, job), self.files, nothing)

    def _ask_for(self, tab: int, job: Job, ask: Callable[[], str], place: HTML, nothing: str) -> None:
        """Ask for what a tab shows, in another thread."""

        def then(answer: str | TaskAPIError) -> None:
            if self.job is not job:
                return
            if isinstance(answer, JobNotFound):
                self._gone(job)
            elif isinstance(answer, NotKept):
                self.notes[tab].value = said(str(answer))
            elif isinstance(answer, NotFound):
                self.notes[tab].value = said(nothing)
            elif isinstance(answer, TaskAPIError):
                self.notes[tab].value = said(str(answer), "ta-error")
            else:
                place.value, self.notes[tab].value = answer, "" if answer else said(nothing)

        self._poller.aside(ask, then)

    # Showing

    def show(self, now: datetime) -> None:
        """Draw the job as it was last read."""
        job = self.job
        if job is None:
            return
        self.head.value = headline(job.record, now)
        self.facts.value = facts(job.record, now, job.endpoint, self._runs.facts(job.record, now))
        self._show_buttons()
        self.log.show()

    def _show_buttons(self) -> None:
        with self._drawing:
            job, sure = self.job, self._sure
            if job is None:
                return
            busy = job.id in self._under_way
            self.stop.disabled = busy or job.ended
            self.rerun.disabled = busy
            self.delete.disabled = busy or not job.ended
            self.delete.tooltip = DELETE if job.ended else "A job in progress can't be deleted: stop it"
            self.yes.disabled = self.no.disabled = busy
            self.delete.layout.display = "none" if sure else None
            for one in (self.question, self.yes, self.no):
                one.layout.display = None if sure else "none"

    # Doing

    def _ask(self, sure: bool) -> None:
        self._sure = sure
        self._show_buttons()

    def _do(self, what: str, do: Callable[[TaskAPI, Job], str | Job]) -> None:
        """Do something with the job in another thread, and show the outcome."""
        job = self.job
        if job is None or job.id in self._under_way:
            return
        self._under_way[job.id] = what
        self._show_buttons()
        self.answer.value = said(f"{what} …")

        def then(answer: str | Job | TaskAPIError) -> None:
            del self._under_way[job.id]
            self._sure = False
            if isinstance(answer, Job):
                self._choose(answer)
                self.answer.value = said(f"This is the rerun of {job.id[-6:]}.")
            elif self.job is not job:
                return
            elif isinstance(answer, JobNotFound):
                self._gone(job)
            elif isinstance(answer, TaskAPIError):
                self._complain(answer)
            elif what == "Deleting":
                self._choose(None)
                self.hint.value = said(f"Job {job.id} of {clean(job.api_name, 80)} was deleted.")
            else:
                self.answer.value = ""
            self._show_buttons()

        self._poller.aside(lambda: do(job.api, job), then)

    def _complain(self, error: TaskAPIError) -> None:
        if isinstance(error, JobNotInProgress):
            self.answer.value = said("The job has already ended.", "ta-error")
        else:
            self.answer.value = said(clean(error, 400), "ta-dim" if isinstance(error, NotKept) else "ta-error")

    def _gone(self, job: Job) -> None:
        if job.id in self._under_way:
            return  # what is being done, which may be its deletion, says what came of it
        self._choose(None)
        self.hint.value = said(f"Job {job.id} of {clean(job.api_name, 80)} no longer exists: it was deleted.")
