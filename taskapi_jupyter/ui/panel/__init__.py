"""``taskapi_jupyter.Panel``: an environment's jobs below a cell, made of ipywidgets. A view, no logic."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from IPython import get_ipython
from ipywidgets import HTML, Dropdown, HBox, VBox, Widget

from taskapi_jupyter import environments
from taskapi_jupyter.client.headers import notebook_of
from taskapi_jupyter.client.taskapi import API, Job, TaskAPI
from taskapi_jupyter.core.contract import JobStatus
from taskapi_jupyter.core.errors import APINotDeployed, TaskAPIError
from taskapi_jupyter.display.formats import clean, utc_now

from .audience import Audience
from .details import Details
from .form import Form
from .html import said, style_sheet
from .job_query import JobQuery, Page
from .jobs import JobsView
from .poller import Attention, Changes, Poller
from .python import RunsOfAPI

QUICK = 1.0  # seconds between two polls while a job that is shown is in progress
SHARE = 4  # polling takes at most one in so many parts of the time: a slow server is asked less often
ALONE = 5.0  # seconds between two checks whether a page has connected again


class Panel(VBox):  # type: ignore[misc]
    """A widget to submit, watch, read and stop the jobs of an environment, in a notebook.

    While it is displayed, a thread reads the jobs: every second while one on view is in progress, else every five
    seconds, and after each cell. It stops when the last view of the panel is closed, if the frontend reports that
    (after a reload of the page it may not), and pauses while no page has the notebook open, if a server reports that.
    While a cell blocks the kernel, the panel is still updated, but clicks have to wait.

    Parameters
    ----------
    api
        The TaskAPI to show, as :func:`taskapi_jupyter.connect` returns it. None (default): that of ``environment``,
        with a menu to choose another one.
    name
        The API whose jobs are shown first, and that the form submits to; None (default): all APIs.
    environment
        The name of the environment to show first; None (default): the default one. Ignored where ``api`` is given.

    Examples
    --------
    >>> panel = taskapi_jupyter.Panel(name="train")
    >>> panel
    >>> panel.close()  # ends its thread and removes its widgets
    """

    idle_poll = 5.0  # seconds between two polls while no job on view is in progress: one may be submitted elsewhere
    unreachable_poll = 10.0  # seconds between two attempts at most to reach a server that is unreachable

    def __init__(self, api: TaskAPI | None = None, name: str | None = None, *, environment: str | None = None) -> None:
        self._closed = False
        self._given, self._taskapi = api, api
        self._wanted = api.environment if api is not None else environment
        self._apis: dict[str, API] | None = None  # not known yet
        self._listed = float("-inf")  # when they were read
        self._stale = True  # environments may have changed, too
        self._failures = 0
        self._setting, self._polling = False, threading.Lock()
        self._query, self._runs = JobQuery(name), RunsOfAPI()
        self._poller = Poller(self._poll)
        self._changes: Changes | None = None
        self._listening = threading.Lock()
        self._attention = Attention(self._heard)
        self._audience = Audience()
        self._build()
        super().__init__(
            [self.sheet, self.banner, self.choosers, self.form.box, self.note, self.jobs.box, self.details.box],
            _view_count=0,
        )
        self.add_class("taskapi-panel")
        self.observe(lambda change: self._seen(change["new"]), "_view_count")
        self._shell = get_ipython()
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._cell_ran)

    def _build(self) -> None:
        self.sheet = HTML(style_sheet()).add_class("ta-sheet")
        self.banner, self.note = HTML().add_class("ta-said"), HTML().add_class("ta-said")
        self.environment = Dropdown(description="Environment", tooltip="Where APIs and jobs are")
        self.api = Dropdown(description="API", tooltip="The task API to submit to, and whose jobs are shown")
        for chooser in (self.environment, self.api):
            chooser.add_class("ta-field").add_class("ta-choice")
        self.choosers = HBox([self.environment, self.api]).add_class("ta-fields")
        self.form = Form(self._submit)
        self.jobs = JobsView(self._query, self._chosen, self._poller)
        self.details = Details(self._poller, self._choose)
        self._set(self.environment, [self._wanted] if self._wanted else [], self._wanted)
        self._show_apis()
        self.environment.observe(lambda change: self._environment_chosen(change["new"]), "value")
        self.api.observe(lambda change: self._api_chosen(change["new"]), "value")

    def __repr__(self) -> str:
        where = self._wanted or "the default environment"
        return f"<Panel of {clean(where, 60)}{', closed' if self._closed else ''}>"

    # Displayed or not

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self._begin()
        return super()._repr_mimebundle_(**options)

    def _seen(self, views: int | None) -> None:
        if views:
            self._begin()
            self._poller.do(lambda: None)  # so that a page which came back is up to date at once
        else:
            self._poller.stop()
            self._listen(None)

    def _begin(self) -> None:
        if not self._closed:
            self._poller.start()

    def close(self) -> None:
        """End the panel: its thread, its connection, its widgets in the kernel and in the browser."""
        if getattr(self, "_closed", True):
            return
        self._closed = True
        self._poller.stop(wait=True)
        self._listen(None)
        self._audience.close()
        if self._shell is not None:
            with suppress(ValueError):
                self._shell.events.unregister("post_run_cell", self._cell_ran)
        self._disconnect()
        for widget in list(_all_of(self)):
            if widget is not self:
                widget.close()
        super().close()

    def _listen(self, api: TaskAPI | None) -> None:
        """Poll when jobs of this TaskAPI change."""
        with self._listening:
            if self._changes is not None and self._changes.api is not api:
                self._changes.close()
                self._changes = None
            if api is not None and self._changes is None and self._poller.running:
                self._changes = Changes(api, lambda: self._poller.do(lambda: None))

    def _disconnect(self) -> None:
        """Close the connection, unless a thread still uses it."""
        self._listen(None)
        api, self._taskapi = self._taskapi, None
        if api is not None and self._given is None and self._poller.idle:
            api.close()

    # Polling, in the panel's thread

    def _poll(self) -> float:
        """Read and draw; return the seconds until the next poll."""
        with self._polling:
            began = time.monotonic()
            if self._audience.gone():
                return ALONE
            try:
                api = self._connected()
                self._listen(api)
                moving = self._read(api)
            except TaskAPIError as error:
                return self._away(str(error))
            except Exception as error:  # the thread must go on, and nobody else could report it
                return self._away(f"The panel failed: {type(error).__name__}: {error}")
            self._failures = 0
            self.banner.value = ""
            pause = max(QUICK if moving else self.idle_poll, api.poll_ceiling)
            return max(pause, SHARE * (time.monotonic() - began))

    def _connected(self) -> TaskAPI:
        if self._given is not None:
            self._taskapi = self._given
        if self._taskapi is None:
            self._taskapi = environments.connect(self._wanted)
            self._stale = True
        return self._taskapi

    def _read(self, api: TaskAPI) -> bool:
        """Read what is on view and draw it; return whether a job of it is in progress."""
        if self._stale or time.monotonic() - self._listed >= self.idle_poll:
            self._read_choices(api)
        page = self._query.read(api)
        self.jobs.group.api = api
        self.details.read(api, page)
        if self._closed:
            return False
        moving = self.details.moving or page.moving
        self._show(page)
        blocked = moving and self._attention.busy()
        if blocked:
            self.note.value = said(
                "A cell is running. This panel is still updated, but its buttons wait until the cell ends or awaits; "
                "the TaskAPI sidebar can stop jobs meanwhile.",
                "ta-note",
            )
        elif not moving:
            self.note.value = ""
        return moving

    def _show(self, page: Page) -> None:
        now = utc_now()
        chosen = self.details.job.id if self.details.job else None
        self._show_apis()
        self.jobs.show(page, chosen, now)
        self.details.show(now)

    def _read_choices(self, api: TaskAPI) -> None:
        """Read the list of APIs and, if it may be outdated, that of environments."""
        if self._stale and self._given is None:
            names = [one.name for one in environments.environments().environments]
            self._set(self.environment, names, api.environment)
        self._apis = {one.name: one for one in api.get()}
        target = self._target()
        if target in self._apis and not self._apis[target].spec:  # a cluster's list has none
            with suppress(APINotDeployed):
                self._apis[target] = api.get(target)
        if target in self._apis and not api.lacks("packages"):
            self._runs.read(api, self._apis[target])
        self._stale, self._listed = False, time.monotonic()

    def _target(self) -> str | None:
        """Return the API that the form submits to: the chosen one, or the only one."""
        if self._query.api is None and self._apis and len(self._apis) == 1:
            return next(iter(self._apis))
        return self._query.api

    def _show_apis(self) -> None:
        chosen = self._query.api
        apis = self._apis or {}
        options = [("All APIs", ""), *((clean(name, 80), name) for name in sorted(apis))]
        if chosen is not None and chosen not in apis:
            label = clean(chosen, 80)
            options.append((label if self._apis is None else f"{label} (not deployed)", chosen))
        self._set(self.api, options, chosen or "")
        target = self._target()
        if target in apis:
            hint = ""
        elif self._apis is None:
            hint = "Loading the APIs."
        elif target is not None:
            hint = f"{clean(target, 80)} is not deployed."
        elif apis:
            hint = "Choose an API above to submit a job."
        else:
            hint = "No task API is deployed yet: %%taskapi deploy NAME, at the top of a cell, makes one of the cell."
        one = apis.get(target) if target else None
        self.form.show(target, one, hint, self._runs.facts(one, utc_now()) if one else ())

    def _away(self, why: str) -> float:
        self._failures += 1
        if not self._closed:
            again = "Retrying; the panel shows the last known state."
            self.banner.value = said(f"{clean(why, 400)}. {again}", "ta-banner")
        return min(2.0 ** (self._failures - 1), self.unreachable_poll)

    # What the user does, in the kernel's main thread

    def _environment_chosen(self, name: str) -> None:
        def switch() -> None:
            self._disconnect()
            self._wanted, self._apis, self._failures = name, None, 0
            self._query.api = None
            self._query.open(None)
            self._query.first()
            self.details.clear()
            self.jobs.clear()
            self._show_apis()

        if not self._setting:
            self._poller.do(switch)

    def _api_chosen(self, name: str) -> None:
        def choose() -> None:
            self._query.api = name or None
            self._query.open(None)
            self._query.first()
            self._listed = float("-inf")

        if not self._setting:
            self._poller.do(choose)

    def _chosen(self, job: JobStatus) -> None:
        def choose() -> None:
            if self._taskapi is not None:
                self._choose(Job(self._taskapi, job))

        self._poller.do(choose)

    def _choose(self, job: Job | None) -> None:
        if job is None:
            self.details.clear()
        else:
            self.details.choose(job)
            self.details.show(utc_now())

    def _submit(self, name: str, config: dict[str, Any], timeout: int | None) -> None:
        api = self._taskapi
        if api is None:
            self.form.say("Not connected yet.", "ta-error")
            return

        def then(answer: Job | TaskAPIError) -> None:
            self.form.busy(False)
            if isinstance(answer, TaskAPIError):
                self.form.say(clean(answer, 400), "ta-error")
            else:
                self.form.say(f"Submitted job {answer.id}.")
                self._choose(answer)

        self.form.busy(True)
        self.form.say("Submitting …")
        notebook = notebook_of(self._shell.user_ns if self._shell is not None else {})
        self._poller.aside(lambda: api.submit(name, config, timeout, notebook=notebook), then)

    def _cell_ran(self, result: object) -> None:
        """Poll after each cell, which may have submitted or deployed something."""

        def poll() -> None:
            self._stale = True

        if self._poller.running:
            self._poller.do(poll)

    def _heard(self) -> None:
        self.note.value = ""

    def _set(self, chooser: Dropdown, options: list[Any], value: str | None) -> None:
        """Set the options and the value of a menu, without that being taken for the user's choice."""
        with self._quietly(), chooser.hold_sync():
            if tuple(options) != tuple(chooser.options):
                chooser.options = options
            if chooser.value != value:
                chooser.value = value
            chooser.disabled = chooser is self.environment and len(options) < 2

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._setting = True
        try:
            yield
        finally:
            self._setting = False


def _all_of(widget: Widget) -> Iterator[Widget]:
    """Yield a widget and all that belong to it, layouts and styles included."""
    yield widget
    for value in list(widget.trait_values().values()):
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, Widget):
                yield from _all_of(one)
