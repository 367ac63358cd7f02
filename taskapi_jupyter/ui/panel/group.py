"""The group whose jobs a panel shows: how far it is, and buttons to stop it and to run its failed jobs again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ipywidgets import HTML, Button, HBox, VBox

from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import GroupStatus
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.core.states import IN_PROGRESS, TERMINAL, JobCode
from taskapi_jupyter.display.formats import clean
from taskapi_jupyter.display.groups import name_words

from .html import group_head, said
from .poller import Poller

_FAILED = TERMINAL - {JobCode.SUCCEEDED}


class GroupHead:
    """Shows one group above its jobs; calls ``go`` with the id of another group, or with None to show all jobs."""

    def __init__(self, poller: Poller, go: Callable[[str | None], None]) -> None:
        self._poller = poller
        self._go = go
        self._group: GroupStatus | None = None
        self._busy: set[str] = set()  # ids of groups of which an answer is awaited
        self.api: TaskAPI | None = None  # where the group is
        self.back = Button(description="All jobs", icon="angle-left", tooltip="Show all jobs and groups again")
        self.head, self.answer = HTML(), HTML().add_class("ta-said")
        self.stop = Button(description="Stop group", icon="stop", tooltip="Stop all jobs of the group")
        self.rerun = Button(
            description="Rerun failed",
            icon="repeat",
            tooltip="Submit the configs of its failed and stopped jobs again, as a new group",
        )
        self.back.on_click(lambda button: go(None))
        self.stop.on_click(lambda button: self._do(lambda api, group: api.stop_group(group)))
        self.rerun.on_click(lambda button: self._do(lambda api, group: api.rerun_group(group).group))
        buttons = HBox([self.back, self.stop, self.rerun, self.answer]).add_class("ta-actions")
        self.box = VBox([self.head, buttons]).add_class("ta-part").add_class("ta-opened")
        self.box.layout.display = "none"

    def show(self, group: GroupStatus | None, now: datetime) -> None:
        """Show a group; None: nothing."""
        if group is None or self._group is None or group.id != self._group.id:
            self.answer.value = ""
        self._group = group
        self.box.layout.display = "none" if group is None else None
        if group is not None:
            self.head.value = group_head(group, now)
            self._show_buttons()

    def _show_buttons(self) -> None:
        if self._group is not None:
            there = {JobCode.read(status) for status in self._group.counts}
            busy = self._group.id in self._busy
            self.stop.disabled = busy or not there & IN_PROGRESS
            self.rerun.disabled = busy or not there & _FAILED

    def _do(self, do: Callable[[TaskAPI, str], str | GroupStatus]) -> None:
        """Do something with the group in another thread, and show the outcome; show the jobs of a new group."""
        api, group = self.api, self._group
        if api is None or group is None or group.id in self._busy:
            return
        self._busy.add(group.id)
        self._show_buttons()

        def then(answer: str | GroupStatus | TaskAPIError) -> None:
            self._busy.discard(group.id)
            here = self._group is not None and self._group.id == group.id
            if isinstance(answer, TaskAPIError):
                self.answer.value = said(clean(answer, 400), "ta-error") if here else ""
            elif isinstance(answer, GroupStatus):
                if here:
                    self._group = answer
                    self.answer.value = said(f"This is the rerun of {name_words(group)}, as {answer.id}.")
                    self._go(answer.id)
            elif here:
                self.answer.value = said(clean(answer, 400))
            self._show_buttons()

        self._poller.aside(lambda: do(api, group.id), then)
