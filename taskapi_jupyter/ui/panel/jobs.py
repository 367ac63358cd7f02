"""The list of jobs: a filter, the rows of a page, and buttons to turn the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from ipywidgets import HTML, Button, Dropdown, HBox, Text, VBox

from taskapi_jupyter.core.contract import JobStatus
from taskapi_jupyter.display.formats import clean, utc_now

from .html import HEADS, empty, pointed_at, row, said, title
from .job_query import ORDERS, PAGE, STATUSES, JobQuery, Page


class _Row:
    """A job on a line, under a button that chooses it."""

    def __init__(self, chosen: Callable[[], None]) -> None:
        self.text = HTML()
        self.button = Button()
        self.button.on_click(lambda button: chosen())
        self.box = HBox([self.text, self.button]).add_class("ta-line")
        self.box.layout.display = "none"
        self.job: JobStatus | None = None

    def show(self, job: JobStatus | None, chosen: str | None, now: datetime) -> None:
        self.box.layout.display = None if job else "none"
        if job is not None:
            self.text.value = row(job, now)
            self.button.description = f"Show job {clean(job.job_id, 40)} of {clean(job.api_name, 80)}"
            self.button.tooltip = pointed_at(job)
            (self.box.add_class if job.job_id == chosen else self.box.remove_class)("ta-chosen")
        self.job = job


class JobsView:
    """Shows the jobs of a :class:`JobQuery`; calls ``choose`` with one, and ``do`` with what changes the query."""

    def __init__(
        self, query: JobQuery, choose: Callable[[JobStatus], None], do: Callable[[Callable[[], None]], None]
    ) -> None:
        self._query = query
        self._choose = choose
        self._do = do
        self.status = Dropdown(options=list(STATUSES), description="Status", tooltip="Show only jobs in this state")
        self.order = Dropdown(options=list(ORDERS), description="Sort", tooltip="How the jobs are sorted")
        self.search = Text(
            description="Search",
            placeholder="name, id, config, notebook, message",
            tooltip="Show only jobs that contain all these words",
        )
        for field, name in ((self.status, "status"), (self.order, "order"), (self.search, "text")):
            field.add_class("ta-field").add_class("ta-search" if field is self.search else "ta-choice")
            field.observe(partial(self._filter, name), "value")
        self.heads = HTML(HEADS)
        self.rows = [_Row(partial(self._clicked, number)) for number in range(PAGE)]
        self.nothing = HTML().add_class("ta-said")
        self.where = HTML()
        self.back = Button(description="Previous", icon="angle-left", tooltip="The page before")
        self.on = Button(description="Next", icon="angle-right", tooltip="The page after")
        self.back.on_click(lambda button: self._turn(-1))
        self.on.on_click(lambda button: self._turn(1))
        self.pages = HBox([self.where, self.back, self.on]).add_class("ta-pages")
        fields = HBox([self.status, self.order, self.search]).add_class("ta-fields")
        rows = VBox([self.heads, *(one.box for one in self.rows), self.nothing]).add_class("ta-list")
        self.box = VBox([HTML(title("Jobs")), fields, rows, self.pages]).add_class("ta-part")

    def clear(self) -> None:
        """Show nothing, until the jobs are known."""
        self.show(Page(), None, utc_now())
        self.nothing.value = ""

    def show(self, page: Page, chosen: str | None, now: datetime) -> None:
        """Show a page of jobs."""
        jobs = page.jobs
        for number, one in enumerate(self.rows):
            one.show(jobs[number] if number < len(jobs) else None, chosen, now)
        filtered = self._query.filtered
        self.nothing.value = "" if jobs else empty("No job matches this filter." if filtered else "No jobs yet.")
        self.heads.layout.display = None if jobs else "none"
        first = page.number * PAGE + 1
        words = f"{first} to {first + len(jobs) - 1}" if jobs else ""
        self.where.value = said((" " if page.note.startswith("of ") else ", ").join(filter(None, (words, page.note))))
        self.back.disabled, self.on.disabled = page.number == 0, not page.more
        turns = page.number > 0 or page.more
        self.back.layout.display = self.on.layout.display = None if turns else "none"
        self.pages.layout.display = None if turns or page.note else "none"

    def _filter(self, name: str, change: dict[str, str]) -> None:
        def apply() -> None:
            setattr(self._query, name, change["new"])
            self._query.first()

        self._do(apply)

    def _turn(self, pages: int) -> None:
        self._do(lambda: self._query.turn(pages))

    def _clicked(self, number: int) -> None:
        job = self.rows[number].job
        if job is not None:
            self._choose(job)
