"""The list of jobs and groups: a filter, the rows of a page, and buttons to turn the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from ipywidgets import HTML, Button, Dropdown, HBox, Text, VBox

from taskapi_jupyter.core.contract import GroupStatus, JobStatus
from taskapi_jupyter.display.formats import clean, utc_now
from taskapi_jupyter.display.groups import name_words

from .group import GroupHead
from .html import HEADS, differing, empty, group_row, pointed_at, row, said, title
from .job_query import ORDERS, PAGE, STATUSES, Entry, JobQuery, Page
from .poller import Poller


class _Row:
    """A job or a group on a line, under a button that chooses it."""

    def __init__(self, chosen: Callable[[], None]) -> None:
        self.text = HTML()
        self.button = Button()
        self.button.on_click(lambda button: chosen())
        self.box = HBox([self.text, self.button]).add_class("ta-line")
        self.box.layout.display = "none"
        self.job: JobStatus | None = None
        self.group: GroupStatus | None = None

    def show(self, one: Entry | None, config: str, chosen: str | None, now: datetime) -> None:
        self.box.layout.display = None if one else "none"
        self.job = one if isinstance(one, JobStatus) else None
        self.group = one if isinstance(one, GroupStatus) else None
        if self.job is not None:
            self.text.value = row(self.job, now, config)
            self.button.description = f"Show job {clean(self.job.job_id, 40)} of {clean(self.job.api_name, 80)}"
            self.button.tooltip = pointed_at(self.job)
        elif self.group is not None:
            self.text.value = group_row(self.group, now)
            self.button.description = f"Show the jobs of group {name_words(self.group)}"
            self.button.tooltip = f"{name_words(self.group)} {clean(self.group.id, 40)}: {self.group.size} jobs"
        is_chosen = self.job is not None and self.job.job_id == chosen
        (self.box.add_class if is_chosen else self.box.remove_class)("ta-chosen")


class JobsView:
    """Shows what a :class:`JobQuery` finds; calls ``choose`` with a job. A click on a group shows its jobs."""

    def __init__(self, query: JobQuery, choose: Callable[[JobStatus], None], poller: Poller) -> None:
        self._query = query
        self._choose = choose
        self._do = poller.do
        self.group = GroupHead(poller, self._open)
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
        self.box = VBox([HTML(title("Jobs")), fields, self.group.box, rows, self.pages]).add_class("ta-part")

    def clear(self) -> None:
        """Show nothing, until the jobs are known."""
        self.show(Page(), None, utc_now())
        self.nothing.value = ""

    def show(self, page: Page, chosen: str | None, now: datetime) -> None:
        """Show a page of jobs and groups."""
        entries, configs = page.entries, differing(page.jobs)
        self.group.show(page.group, now)
        for number, line in enumerate(self.rows):
            one = entries[number] if number < len(entries) else None
            line.show(one, configs.get(one.job_id, "") if isinstance(one, JobStatus) else "", chosen, now)
        filtered = self._query.filtered
        self.nothing.value = "" if entries else empty("No job matches this filter." if filtered else "No jobs yet.")
        self.heads.layout.display = None if entries else "none"
        first = page.number * PAGE + 1
        words = f"{first} to {first + len(entries) - 1}" if entries else ""
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
        line = self.rows[number]
        if line.job is not None:
            self._choose(line.job)
        elif line.group is not None:
            self._open(line.group.id)

    def _open(self, group: str | None) -> None:
        self._do(lambda: self._query.open(group))
