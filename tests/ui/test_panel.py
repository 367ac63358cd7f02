"""The panel as a frontend drives it: its widgets' traits, its buttons, and what it shows of real jobs."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from html import unescape
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from ipywidgets import HTML, Button, Dropdown, Widget
from ipywidgets.widgets.widget import _instances

from support import ECHO, PATIENCE, WAITING, request_for, until
from support.cortex_double import Operator
from support.kernels import Served
from support.markup import HOSTILE, Elements
from support.servers import LiveServer, reserved_port
from support.shells import Ran
from taskapi_jupyter import Panel
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import API, Job, JobList, TaskAPI
from taskapi_jupyter.core.contract import BuiltEnvironment, Interpreter, JobResponse, LogChunk
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.display.formats import utc_now
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui.magics.complete import Completer
from taskapi_jupyter.ui.panel.form import read_config, read_timeout
from taskapi_jupyter.ui.panel.job_query import PAGE

WORKING = """
import os, pathlib, time
from taskapi_jupyter.job import progress

def task(config):
    print("\\x1b[31mred\\x1b[0m <b>bold</b>", flush=True)
    progress(1, 4, "<i>first</i> quarter")
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"], "left <here>.txt").write_text("what was left")
    print("done", flush=True)
    return {"loss": 0.5, "note": "<script>alert(1)</script>"}
"""
FAILING = 'def task(config):\n    raise ValueError(config.get("why", "why not"))\n'


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest) -> Iterator[TaskAPI]:
    """Return a TaskAPI of either kind."""
    if request.param == "service":
        yield request.getfixturevalue("service")
    else:
        live = request.getfixturevalue("live_server")
        client = Client(live.taskapi, live.token)
        yield client
        client.close()


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Callable[..., Panel]:
    """Return what makes a panel, with pauses of its own, and displays it; the panel is closed at the end."""

    def show(
        *arguments: Any,
        idle_poll: float = Panel.idle_poll,
        unreachable_poll: float = Panel.unreachable_poll,
        **options: Any,
    ) -> Panel:
        kind = type("Panel", (Panel,), {"idle_poll": idle_poll, "unreachable_poll": unreachable_poll})
        panel = kind(*arguments, **options)
        request.addfinalizer(panel.close)
        assert "application/vnd.jupyter.widget-view+json" in panel._repr_mimebundle_()
        return panel

    return show


def words(widget: Widget) -> str:
    """Return the text that a view shows; what is hidden is no part of it."""
    if widget.layout.display == "none":
        return ""
    children = getattr(widget, "children", ())
    if hasattr(widget, "selected_index"):
        children = (children[widget.selected_index],)
    if isinstance(widget, HTML):
        return Elements(widget.value).text
    own = widget.description if isinstance(widget, Button) else ""
    return " ".join([own, *(words(child) for child in children)])


def shows(panel: Panel, text: str) -> None:
    """Wait until a panel shows a text."""
    until(lambda: text in words(panel), f"{text!r} to be shown")


def rows(panel: Panel) -> list[str]:
    """Return the jobs on view, a text each."""
    return [words(row.box) for row in panel.jobs.rows if row.job is not None]


def choose(panel: Panel, job: Job) -> None:
    """Click a job's row."""
    until(lambda: [row for row in panel.jobs.rows if row.job and row.job.job_id == job.id], "the row")
    next(row for row in panel.jobs.rows if row.job and row.job.job_id == job.id).button.click()
    until(lambda: panel.details.job == job and panel.details.head.value, "the job to be chosen")


def tree(widget: Widget) -> list[Widget]:
    return [widget, *(one for child in getattr(widget, "children", ()) for one in tree(child))]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("taskapi-panel")]


# Submitting and watching


def test_a_job_is_submitted_watched_and_read(api: TaskAPI, shown: Any, name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    api.deploy_request(request_for(name, WORKING, definition={"path": "task.py", "config": {"path": str(go)}}))
    panel = shown(api, name)
    until(lambda: panel.form.config.value == json.dumps({"path": str(go)}, indent=2), "the default config")
    until(lambda: panel.form.timeout.placeholder == "none", "no default timeout")
    until(lambda: not panel.form.button.disabled, "the form")
    panel.form.timeout.value = "600"
    panel.form.button.click()
    shows(panel, "Submitted job")
    shows(panel, "25 % · 1/4 · <i>first</i> quarter")
    shows(panel, "red")
    assert "color:#d23c3c" in panel.details.log.text.value
    assert "<b>" not in panel.details.log.text.value
    job = panel.details.job
    assert api.job_response(job.id).job_status.timeout == 600
    assert job.id[-6:] in rows(panel)[0]
    assert "running" in rows(panel)[0]
    assert 'value="0.2500"' in panel.jobs.rows[0].text.value

    panel.details.tabs.selected_index = 2
    shows(panel, "The result is available when the job has ended.")
    go.touch()
    shows(panel, "succeeded")
    shows(panel, '"note": "<script>alert(1)</script>"')
    assert "<script>" not in panel.details.texts[2].value
    panel.details.tabs.selected_index = 1
    shows(panel, str(go))
    panel.details.tabs.selected_index = 0
    shows(panel, "done")
    panel.details.tabs.selected_index = 3
    shows(panel, "left <here>.txt")
    link = unescape(re.search(r'href="([^"]*)"', panel.details.files.value)[1])
    assert base64.b64decode(link.removeprefix("data:text/plain;base64,")) == b"what was left"


def test_a_failure_says_why_in_list_and_log(api: TaskAPI, shown: Any, name: str) -> None:
    api.deploy_request(request_for(name, FAILING))
    job = api.submit(name, {"why": "<b>no</b> data"}).wait()
    panel = shown(api, name)
    choose(panel, job)
    shows(panel, "Traceback (most recent call last)")
    assert "worker error" in rows(panel)[0]
    assert "ValueError: <b>no</b> data" in rows(panel)[0]
    assert "color:var(--jp-error-color1" in panel.jobs.rows[0].text.value
    panel.details.tabs.selected_index = 2
    shows(panel, "The job did not succeed, so there is no result.")


def test_a_config_is_checked_as_it_is_typed(service: Service, shown: Any, echo: Any) -> None:
    name = echo(service)
    panel = shown(service, name)
    until(lambda: not panel.form.button.disabled, "the form")
    panel.form.config.value = '{\n  "a": 1,\n  b}'
    assert "Line 3, column 3 of the config" in words(panel)
    assert panel.form.button.disabled
    assert "ta-invalid" in panel.form.config._dom_classes
    panel.form.button.click()
    panel.form.config.value = '{"a": 1}'
    panel.form.timeout.value = "soon"
    assert "whole number of seconds" in words(panel)
    assert "Line 3" not in words(panel)
    panel.form.timeout.value = ""
    assert not panel.form.button.disabled
    panel.form.button.click()
    shows(panel, "Submitted job")
    assert [job.config for job in service.jobs()] == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1]", "must be a JSON object"),
        ("{'a': 1}", "Line 1, column 2"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"a": 1} x', "Line 1, column 10"),
    ],
)
def test_a_config_that_cannot_be_used(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_config(text)


def test_what_a_form_takes() -> None:
    assert read_config("") == {}
    assert read_config('{"a": [1, null]}') == {"a": [1, None]}
    assert [read_timeout(text) for text in ("", " 5 ", "1000000000")] == [None, 5, 10**9]
    for text in ("0", "-1", "1.5", "1e3", "1000000001", "9" * 5000, "٣"):
        with pytest.raises(ValueError, match="whole number"):
            read_timeout(text)


def test_a_refused_submission_says_so_in_place(service: Service, shown: Any, echo: Any) -> None:
    name = echo(service)
    panel = shown(service, name)
    until(lambda: not panel.form.button.disabled, "the form")
    service.delete(name)
    panel.form.button.click()
    shows(panel, f"{name} is not deployed")
    until(lambda: not panel.form._busy, "the form to be free")


def test_a_form_keeps_what_was_typed_and_follows_the_api(service: Service, shown: Any) -> None:
    for name, lr in (("one", 1), ("two", 2)):
        service.deploy_request(
            request_for(name, ECHO, definition={"path": "task.py", "config": {"lr": lr}}, timeout=90)
        )
    panel = shown(service)
    shows(panel, "Choose an API above")
    assert [label for label, _ in panel.api.options] == ["All APIs", "one", "two"]
    panel.api.value = "one"
    until(lambda: '"lr": 1' in panel.form.config.value, "the default config")
    until(lambda: panel.form.timeout.placeholder == "1 min 30 s", "its default timeout")
    panel.form.config.value = '{"lr": 7}'
    service.submit("two").wait()
    panel.api.value = "two"
    until(lambda: '"lr": 2' in panel.form.config.value, "the other default config")
    panel.form.config.value = '{"lr": 8}'
    panel.details.tabs.selected_index = 1  # makes it look
    until(lambda: len(rows(panel)) == 1, "the job")
    assert panel.form.config.value == '{"lr": 8}'


def test_a_form_shows_parameters(service: Service, shown: Any) -> None:
    source = (
        "def train(data: '<b>text</b>', lr: float = 0.1, betas=(1, 2), epochs=3, **rest):\n"
        '    """Train.\n\n    :param data: what <i>to</i> learn\n    """\n    return data\n'
    )
    service.deploy_request(request_for("one", source, definition={"path": "task.py", "config": {"epochs": 5}}))
    service.deploy_request(request_for("two", ECHO))
    panel = shown(service)
    shows(panel, "Choose an API above")
    panel.api.value = "one"
    until(lambda: "epochs" in panel.form.config.value, "the defaults")
    assert json.loads(panel.form.config.value) == {"lr": 0.1, "epochs": 5}
    table = panel.form.parameters.value
    for text in (
        "data: &lt;b&gt;text",
        "required · what &lt;i&gt;to&lt;/i&gt; learn",
        "lr: float = 0.1",
        "betas=…",
        "**rest",
    ):
        assert text in table
    panel.form.button.click()
    shows(panel, "one: data is missing: it takes data (required), lr, betas, epochs, **rest")
    panel.api.value = "two"
    until(lambda: panel.form.config.value == "{}", "the other form")
    assert panel.form.parameters.value == ""


def environment(text: str, built: str, key: str) -> BuiltEnvironment:
    """Return an environment that a server lists, with a text wherever one can come from."""
    return BuiltEnvironment(
        key=key,
        python=text,
        version=text,
        builder="uv",
        built=built,
        seconds=1.4,
        size=1,
        last_used=built,
        jobs=0,
        apis=[],
        requirements=[text],
        packages=[text, text],
    )


class Building(Service):
    """Says which Python runs an API and a job, as a server that builds environments does; it is ``built``, or not."""

    text = "six"
    built: str | None = None

    @property
    def python(self) -> Interpreter:
        made = {} if self.built is None else {"built": self.built, "seconds": 1.4}
        return Interpreter(path=f"/p/{self.text}", version="3.11.7", key="1a2b3c4d" * 4, **made)

    def get(self, *arguments: Any) -> Any:
        found = super().get(*arguments)
        if isinstance(found, API):
            found.python = self.python
        return found

    def job_response(self, *arguments: Any) -> JobResponse:
        response = super().job_response(*arguments)
        response.job_status.python = self.python
        return response

    def packages(self) -> list[BuiltEnvironment]:
        return [environment(self.text, str(self.built), self.python.key)]


def test_it_says_which_python_runs_a_job(home: Path, shown: Any, name: str, tmp_path: Path) -> None:
    service, go = Building(home), tmp_path / "go"
    service.deploy_request(request_for(name, WAITING))
    panel = shown(service, name)
    shows(panel, "3.11.7 · environment 1a2b3c4d · built when its next job starts")
    assert 'title="/p/six"' in panel.form.runs.value
    job = service.submit(name, {"path": str(go)})
    choose(panel, job)
    shows(panel, "environment 1a2b3c4d · being built")
    service.built = utc_now().isoformat()  # as its job would have built it
    go.touch()
    for facts in (panel.details.facts, panel.form.runs):
        until(lambda facts=facts: "1a2b3c4d · 2 packages · built " in words(facts), "the environment")
        assert "requirements six" in words(facts)
    choose(panel, service.submit(name, {"path": str(go)}).wait())
    shows(panel, "environment 1a2b3c4d · 2 packages · from the cache")
    panel.close()
    service.close()


# Acting


def test_a_job_is_stopped_run_again_and_deleted(api: TaskAPI, shown: Any, name: str, tmp_path: Path) -> None:
    api.deploy_request(request_for(name, WAITING))
    job = api.submit(name, {"path": str(tmp_path / "never")})
    panel = shown(api, name)
    choose(panel, job)
    shows(panel, "waiting")
    details = panel.details
    assert details.delete.disabled
    assert not details.stop.disabled
    details.stop.click()
    assert details.stop.disabled
    until(lambda: job.refresh().status == "stopped", "the job to be stopped")
    until(lambda: details.stop.disabled and not details.delete.disabled, "the buttons to follow")
    shows(panel, "stopped")

    details.rerun.click()
    shows(panel, f"This is the rerun of {job.id[-6:]}.")
    again = details.job
    assert again != job
    assert api.job_response(again.id).job_status.config == job.config
    details.stop.click()
    until(lambda: not details.delete.disabled, "the rerun to be stopped")

    details.delete.click()
    assert "Really delete?" in words(panel)
    details.no.click()
    assert "Really delete?" not in words(panel)
    assert api.job_response(again.id)
    details.delete.click()
    details.yes.click()
    shows(panel, f"Job {again.id} of {name} was deleted.")
    until(lambda: len(rows(panel)) == 1, "the row to go")
    with pytest.raises(TaskAPIError, match="unable to find"):
        api.job_response(again.id)


def test_a_config_that_lists_leave_out_is_shown(api: TaskAPI, shown: Any, name: str) -> None:
    api.deploy_request(request_for(name, "def task(config): pass"))
    job = api.submit(name, {"text": f"{'x' * 3000} the end"}).wait(PATIENCE)
    panel = shown(api, name)
    choose(panel, job)
    panel.details.tabs.selected_index = 1
    until(lambda: "the end" in panel.details.texts[1].value, "the whole config")
    assert "without a config" not in words(panel)


def test_a_job_that_is_gone_or_over_is_a_sentence(service: Service, shown: Any, echo: Any) -> None:
    job, other = (service.submit(echo(service)).wait() for _ in range(2))
    panel = shown(service)
    choose(panel, job)
    panel.details.stop.disabled = False  # as a frontend that has not heard yet
    panel.details.stop.click()
    shows(panel, "The job has already ended.")
    service.forget(job)
    panel.details.delete.click()
    panel.details.yes.click()
    shows(panel, f"Job {job.id} of {job.api_name} no longer exists: it was deleted.")
    choose(panel, other)
    assert "no longer exists" not in words(panel)


class Slow(Service):
    """Takes its time to stop, until it is let."""

    let = threading.Event()

    def stop(self, job: Job | str, api: str | None = None) -> str:
        assert self.let.wait(PATIENCE)
        return super().stop(job, api)


def test_a_stop_that_takes_long_holds_up_nothing(home: Path, shown: Any, name: str, tmp_path: Path) -> None:
    service = Slow(home)
    service.deploy_request(request_for(name, WAITING))
    job = service.submit(name, {"path": str(tmp_path / "never")})
    panel = shown(service, name)
    choose(panel, job)
    panel.details.stop.click()
    shows(panel, "Stopping")
    assert panel.details.stop.disabled
    assert panel.details.rerun.disabled
    other = service.submit(name, {"path": str(tmp_path)})
    choose(panel, other)  # it goes on looking
    assert "Stopping" not in words(panel)
    service.let.set()
    until(lambda: job.refresh().status == "stopped", "the job to be stopped")
    panel.close()
    assert panel._poller.idle
    service.close()


# The list


def test_jobs_are_filtered_searched_sorted_and_turned_over(service: Service, shown: Any, echo: Any) -> None:
    echo_name = echo(service)
    service.deploy_request(request_for("fails", FAILING))
    jobs = [service.submit(echo_name, {"number": n, "color": "blue"}) for n in range(PAGE + 3)]
    jobs.append(service.submit("fails", {"why": "Überlauf"}, notebook="deep/<b>note.ipynb"))
    for job in jobs:
        job.wait()
    newest = list(reversed(jobs))

    def listed() -> list[str]:
        return [row.job.job_id for row in panel.jobs.rows if row.job is not None]

    def lists(expected: list[Job], what: str) -> None:
        until(lambda: listed() == [job.id for job in expected], what)

    panel = shown(service)
    lists(newest[:PAGE], "the first page")
    assert "<b>note.ipynb" in rows(panel)[0]
    until(lambda: panel.jobs.back.disabled and not panel.jobs.on.disabled, "what turns pages")
    panel.jobs.on.click()
    lists(newest[PAGE:], "the second page")
    shows(panel, "11 to 14")
    until(lambda: panel.jobs.on.disabled and not panel.jobs.back.disabled, "what turns pages")
    panel.jobs.back.click()
    lists(newest[:PAGE], "the first page again")
    panel.jobs.status.value = "failed"
    lists([jobs[-1]], "the failed one")
    panel.jobs.status.value = "running"
    shows(panel, "No job matches this filter.")
    panel.jobs.status.value = "any"
    panel.jobs.search.value = "ÜBERLAUF fails"
    lists([jobs[-1]], "the one with the words")
    panel.jobs.search.value = "BLUE"
    lists(newest[1 : PAGE + 1], "those with a word in their config")
    panel.jobs.on.click()
    lists(newest[PAGE + 1 :], "the rest of them")
    panel.jobs.search.value = ""
    panel.jobs.order.value = "oldest first"
    lists(jobs[:PAGE], "the oldest ones")
    panel.jobs.order.value = "API"
    until(lambda: panel.jobs.rows[0].job.api_name == min(echo_name, "fails"), "the order of names")
    panel.api.value = "fails"
    lists([jobs[-1]], "those of one API")
    assert panel.jobs.rows[0].box.layout.display is None
    assert panel.jobs.rows[1].box.layout.display == "none"


SWEPT = """
import pathlib, time
from taskapi_jupyter.job import metric

def task(config):
    metric(loss=0.25)
    if config["n"] == 1:
        raise ValueError("<b>diverged</b>")
    while config["n"] > 3 and not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    time.sleep(1.2)  # after a second, what it uses is measured
"""


def test_a_group_is_a_row_that_opens_to_its_jobs(api: TaskAPI, shown: Any, name: str, tmp_path: Path) -> None:
    api.deploy_request(request_for(name, SWEPT, compute={"cpu": "10m"}))
    configs = [{"n": n, "word": f"needle{n}-", "path": str(tmp_path / "go"), "<i>": "&"} for n in range(PAGE + 2)]
    before = api.submit(name, {"n": 0})
    group = api.map(name, configs, name=f"{name}-sweep", max_running=5)
    after = api.submit(name, {"n": 2})
    panel = shown(api, name)
    until(lambda: len(rows(panel)) == 2, "the jobs of no group")
    lines = [row for row in panel.jobs.rows if row.box.layout.display is None]
    assert [(row.job and row.job.job_id, row.group and row.group.id) for row in lines] == [
        (after.id, None), (None, group.id), (before.id, None),
    ]  # fmt: skip
    assert "n=2" in rows(panel)[0]
    until(lambda: re.search("4/12 · . running · 1 failed", words(lines[1].box)), "its counts")
    assert 'aria-label="3 succeeded, 1 failed, ' in lines[1].text.value
    lines[1].button.click()
    shows(panel, "of 12")
    head, first = panel.jobs.group, panel.jobs.rows[1]
    assert f"{name}-sweep" in words(head.box)
    assert "n=1" in words(first.box)
    assert "<b>diverged</b>" in words(first.box)
    assert "<i>" not in words(first.box)  # which is the same in all of them
    first.button.click()
    shows(panel, "metrics loss 0.25")
    shows(panel, "memory peak ")
    panel.jobs.on.click()
    shows(panel, "11 to 12")
    panel.jobs.status.value = "failed"
    until(lambda: len(rows(panel)) == 1, "the failed one")
    panel.jobs.status.value = "any"
    panel.jobs.search.value = "needle11-"
    until(lambda: len(rows(panel)) == 1, "the one that was searched")
    panel.jobs.search.value = ""
    assert not head.stop.disabled
    head.stop.click()
    shows(panel, f"of group {name}-sweep")
    until(lambda: head.stop.disabled and not head.rerun.disabled, "the group to be stopped")
    head.rerun.click()
    shows(panel, f"This is the rerun of {name}-sweep")
    again = api.groups()[0]
    assert (again.name, len(again)) == (group.name, 9)
    (tmp_path / "go").touch()
    until(lambda: "9/9" in head.head.value, "the rerun to end")
    head.back.click()
    until(lambda: len([row for row in panel.jobs.rows if row.group]) == 2, "all jobs and groups")
    assert head.box.layout.display == "none"
    for one in (group, again):
        one.forget()


def test_empty_states_say_what_to_do(service: Service, shown: Any) -> None:
    panel = shown(service)
    shows(panel, "No task API is deployed yet")
    shows(panel, "No jobs yet.")
    shows(panel, "Choose a job to see its log")
    other = shown(service, "missing")
    shows(other, "missing is not deployed")
    assert other.form.button.disabled
    assert ("missing (not deployed)", "missing") in other.api.options


def test_rows_stay_and_follow(service: Service, shown: Any, echo: Any) -> None:
    panel = shown(service, echo(service))
    before = set(_instances)
    for number in range(3):
        service.submit(panel.form._name or panel.api.value, {"n": number}).wait()
        panel._cell_ran(None)
        until(lambda n=number: len(rows(panel)) == n + 1, "the job to be listed")
    assert set(_instances) == before


# Logs


LOUD = """
def task(config):
    for number in range(config["lines"]):
        print(f"line {number}")
    print("x" * config.get("wide", 0))
"""


@pytest.mark.parametrize("lines", [10, 600, 30_000])
def test_only_the_end_of_a_long_log_is_shown(service: Service, shown: Any, name: str, lines: int) -> None:
    service.deploy_request(request_for(name, LOUD))
    job = service.submit(name, {"lines": lines}).wait()
    panel = shown(service)
    choose(panel, job)
    shows(panel, f"line {lines - 1}")
    until(lambda: ("These are the last" in words(panel)) == (lines > 500), "what is said of its length")
    assert len(panel.details.log.text.value) < 70_000
    assert len(words(panel.details.log.text).splitlines()) <= 501
    assert ("line 0\n" in words(panel)) == (lines < 500)


def test_a_bar_is_shown_in_its_last_state(service: Service, shown: Any, name: str, tmp_path: Path) -> None:
    script = """
import pathlib, sys, time
def task(config):
    print("loading")
    for n in range(10_000):
        sys.stdout.write(f"\\rstep {n} " + "#" * 60)
        if n == 5_000:
            sys.stdout.flush()
            while not pathlib.Path(config["path"]).exists():
                time.sleep(0.01)
"""
    service.deploy_request(request_for(name, script))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    panel = shown(service)
    choose(panel, job)
    shows(panel, "step 5000 ")
    (tmp_path / "go").touch()
    shows(panel, "step 9999 ")
    assert words(panel.details.log.text).split("\n") == ["loading", f"step 9999 {'#' * 60}"]
    job = service.submit(name, {"path": str(tmp_path / "go")}).wait()
    choose(panel, job)
    until(lambda: "step 9999 " in words(panel.details.log.text) and panel.details.log._job == job, "the other log")
    assert words(panel.details.log.text).split("\n") == ["loading", f"step 9999 {'#' * 60}"]


def test_without_follow_the_log_stands_still(service: Service, shown: Any, name: str, tmp_path: Path) -> None:
    script = """
import pathlib, time
def task(config):
    for n in range(3):
        print("number", n, flush=True)
        while not pathlib.Path(config["path"] + str(n)).exists():
            time.sleep(0.01)
"""
    service.deploy_request(request_for(name, script))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    panel = shown(service)
    choose(panel, job)
    shows(panel, "number 0")
    panel.details.log.follow.value = False
    (tmp_path / "go0").touch()
    shows(panel, "Follow is off: 9 B more since then.")
    assert "number 1" not in words(panel)
    panel.details.log.follow.value = True
    shows(panel, "number 1")
    (tmp_path / "go1").touch()
    (tmp_path / "go2").touch()
    shows(panel, "number 2")
    job.wait()


# Files


def test_a_file_links_to_the_server_that_the_page_is_from(
    live_server: LiveServer, shown: Any, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", live_server.url)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", live_server.token)
    client = Client(live_server.taskapi, live_server.token)
    name = echo(client)
    client.deploy_request(
        request_for(
            name,
            "import os, pathlib\ndef task(config):\n    pathlib.Path(os.environ['TASKAPI_OUTPUT_DIR'], 'a b#?.bin').write_bytes(b'x' * 2_000_000)\n",
        )
    )
    job = client.submit(name).wait()
    panel = shown(client, name)
    choose(panel, job)
    panel.details.tabs.selected_index = 3
    shows(panel, "a b#?.bin")
    link = unescape(re.search(r'href="([^"]*)"', panel.details.files.value)[1])
    assert link.startswith("/some/base/taskapi/local/jobs/")
    assert live_server.token not in "".join(one.value for one in tree(panel) if isinstance(one, HTML))
    answer = live_server.fetch("GET", link.removeprefix("/some/base/taskapi/local/"))
    assert answer.content == b"x" * 2_000_000
    assert answer.headers["Content-Disposition"].startswith("attachment")
    client.close()


def test_a_large_file_without_a_server_is_a_path(service: Service, shown: Any, name: str) -> None:
    source = "import os, pathlib\ndef task(config):\n    for n, size in enumerate([10, 2_000_000, 700_000, 700_000]):\n        pathlib.Path(os.environ['TASKAPI_OUTPUT_DIR'], f'file{n}').write_bytes(b'x' * size)\n"
    service.deploy_request(request_for(name, source))
    job = service.submit(name).wait()
    panel = shown(service)
    choose(panel, job)
    panel.details.tabs.selected_index = 3
    shows(panel, "file3")
    assert panel.details.files.value.count('href="data:') == 2
    assert words(panel.details.files).count(f"in {service.output_dir(job)}") == 2


# When it looks


class Counting(Service):
    """Notes when it is asked for jobs."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.looks: list[float] = []

    def jobs(self, *arguments: Any, **options: Any) -> JobList:
        self.looks.append(time.monotonic())
        return super().jobs(*arguments, **options)


@pytest.fixture
def counting(home: Path) -> Iterator[Counting]:
    service = Counting(home)
    yield service
    service.close()


def rounds(service: Counting) -> int:
    """Return how often a panel looked; ``get`` asks for jobs as well."""
    return len(service.looks)


def test_it_looks_once_a_second_while_a_job_runs(counting: Counting, shown: Any, name: str, tmp_path: Path) -> None:
    counting.deploy_request(request_for(name, WAITING))
    counting.submit(name, {"path": str(tmp_path / "go")})
    panel = shown(counting, idle_poll=3600.0)
    shows(panel, "running")
    counting.looks.clear()
    until(lambda: rounds(counting) >= 3, "three looks")
    gaps = [after - before for before, after in zip(counting.looks, counting.looks[1:], strict=False)]
    assert min(gaps) > 0.9
    (tmp_path / "go").touch()
    shows(panel, "succeeded")
    counting.looks.clear()
    panel.details.tabs.selected_index = 1  # one look for what somebody did, and none before or after
    until(lambda: rounds(counting), "a look")
    panel.close()
    assert rounds(counting) == 1


def test_it_looks_neither_before_it_is_displayed_nor_after(counting: Counting, shown: Any, echo: Any) -> None:
    panel = Panel(counting, echo(counting))
    counting.looks.clear()
    panel.jobs.status.value = "failed"
    assert threads() == []
    panel._view_count = 1  # shown within another widget
    until(lambda: rounds(counting), "a look")
    panel._view_count = 2
    assert len(threads()) == 1
    panel._view_count = 0
    until(lambda: threads() == [], "the thread to end")
    panel._repr_mimebundle_()
    assert len(threads()) == 1
    panel.close()
    assert threads() == []
    panel.close()


def test_it_looks_when_something_changes(api: TaskAPI, shown: Any, name: str, tmp_path: Path) -> None:
    api.deploy_request(request_for(name, WAITING))
    panel = shown(api, name, idle_poll=3600.0)
    shows(panel, "No jobs yet.")
    job = api.submit(name, {"path": str(tmp_path / "go")})
    shows(panel, job.id[-6:])
    (tmp_path / "go").touch()
    shows(panel, "succeeded")
    api.submit(name, {"path": str(tmp_path / "go")}).wait(PATIENCE)
    until(lambda: words(panel.jobs.box).count("succeeded") == 2, "the end of the second job")


def test_a_job_from_elsewhere_shows_up(service: Service, shown: Any, echo: Any) -> None:
    name = echo(service)
    panel = shown(service, name, idle_poll=0.5)
    shows(panel, "No jobs yet.")
    job = service.submit(name)
    shows(panel, job.id[-6:])
    shows(panel, "succeeded")


def test_several_panels_share_a_kernel_and_leave_nothing(service: Service, echo: Any) -> None:
    before = set(_instances)
    job = service.submit(echo(service)).wait()
    panels = [Panel(service) for _ in range(3)]
    for panel in panels:
        panel._repr_mimebundle_()
        choose(panel, job)
    assert len(threads()) == 3
    panels[1].close()
    panels[0].details.tabs.selected_index = 1
    shows(panels[0], "Submitted without a config.")
    assert len(threads()) == 2
    for panel in panels:
        panel.close()
    assert threads() == []
    assert set(_instances) == before
    assert "closed" in repr(panels[0])


class Relay:
    """Passes connections on to a port until it is closed, as a server is that ends."""

    def __init__(self, target: int) -> None:
        self.target, self.port, self.sockets = target, 0, list[socket.socket]()

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self.sockets = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for one in self.sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                ends = listener.accept()[0], socket.create_connection(("127.0.0.1", self.target))
                self.sockets += ends
                for one, other in (ends, ends[::-1]):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def test_a_server_that_is_away_is_said_and_waited_for(live_server: LiveServer, shown: Any, echo: Any) -> None:
    url = urlsplit(live_server.taskapi)
    relay = Relay(int(url.port or 0))
    relay.open()
    client = Client(f"http://127.0.0.1:{relay.port}{url.path}", live_server.token)
    try:
        name = echo(client)
        job = client.submit(name).wait()
        panel = shown(client, name, idle_poll=0.5, unreachable_poll=0.5)
        choose(panel, job)
        relay.close()
        shows(panel, "can't be reached")
        panel.details.rerun.click()
        until(lambda: "can't be reached" in words(panel.details.answer), "the refusal beside the buttons")
        relay.open()
        until(lambda: "can't be reached" not in words(panel.banner), "the panel to recover")
        assert len(rows(panel)) == 1
        panel.details.rerun.click()
        until(lambda: len(rows(panel)) == 2, "the rerun")
    finally:
        relay.close()
        client.close()


def test_an_environment_that_is_not_there_is_said(shown: Any, home: Path) -> None:
    panel = shown(environment="nowhere")
    shows(panel, "there is no environment 'nowhere'")
    (home / "environments.yaml").write_text(
        yaml.safe_dump({"environments": [{"name": "nowhere", "provider": "local"}]})
    )
    shows(panel, "No jobs yet.")
    until(lambda: "there is no environment" not in words(panel), "the banner to go")


def test_an_environment_that_is_away_shows_nothing_of_another(
    shown: Any, home: Path, echo: Any, monkeypatch: Any
) -> None:
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    dead = {"name": "dead", "provider": "cortex", "operator_endpoint": f"http://127.0.0.1:{reserved_port()}"}
    (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [dead]}))
    service = Service(home)
    job = service.submit(echo(service)).wait()
    service.close()
    panel = shown()
    shows(panel, job.id[-6:])
    panel.environment.value = "dead"
    shows(panel, "environment dead")
    shows(panel, "can't be reached")
    assert rows(panel) == []
    assert panel.form.button.disabled
    assert "No jobs yet." not in words(panel)
    panel.environment.value = "local"
    shows(panel, job.id[-6:])
    until(lambda: "can't be reached" not in words(panel), "the banner to go")


# A cluster


@pytest.mark.parametrize("version", ["0.28.0", "0.42.1"])
def test_a_cluster_says_quietly_what_it_does_not_keep(
    shown: Any, home: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    with Operator(version) as operator:
        prod = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, "version": version}
        (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))
        panel = shown()
        until(lambda: panel.environment.options == ("local", "prod"), "the environments")
        panel.environment.value = "prod"
        until(lambda: panel._taskapi is not None and panel._taskapi.environment == "prod", "the cluster")
        api = panel._taskapi
        api.deploy_request(request_for("greet", ECHO))
        job = api.submit("greet", {"name": "you"}).wait()
        panel._cell_ran(None)
        choose(panel, job)
        shows(panel, "shows the log of a job while it runs")
        for tab, what in ((2, "result"), (3, "files")):
            panel.details.tabs.selected_index = tab
            shows(panel, f"keeps no {what} of a job")
        panel.details.delete.click()
        panel.details.yes.click()
        shows(panel, "none can be deleted")
        assert "ta-error" not in panel.details.answer.value
        panel.environment.value = "local"
        shows(panel, "No task API is deployed yet")
        assert panel.details.job is None


# Foreign text


class Hostile(Service):
    """Says one thing wherever text can come from."""

    foreign = ""

    @property
    def python(self) -> Interpreter:
        return Interpreter(path=self.foreign, version=self.foreign, key=self.foreign, built="2026-01-01T00:00:00Z")

    def jobs(self, *arguments: Any, **options: Any) -> JobList:
        jobs = super().jobs(*arguments, **options)
        for job in jobs:
            job.record.api_name = job.record.notebook = job.record.reason = self.foreign
            job.record.config = {self.foreign: [self.foreign]}
        return jobs

    def get(self, *arguments: Any) -> Any:
        apis = super().get()
        if arguments:
            apis[0].python = self.python
            return apis[0]
        for api in apis:
            api.spec["name"] = api.metadata.name = self.foreign
        return apis

    def job_response(self, *arguments: Any) -> JobResponse:
        response = super().job_response(*arguments)
        response.job_status.python = self.python
        return response

    def packages(self) -> list[BuiltEnvironment]:
        return [environment(self.foreign, "2026-01-01T00:00:00Z", self.foreign)]

    def log_chunk(self, *arguments: Any) -> LogChunk:
        data = self.foreign.encode("utf-8", "replace")
        return LogChunk(data, 0, len(data), len(data))

    def result(self, job: Job | str) -> Any:
        return {self.foreign: self.foreign}

    def stop(self, *arguments: Any) -> str:
        raise TaskAPIError(self.foreign)


@pytest.mark.parametrize("foreign", HOSTILE, ids=range(len(HOSTILE)))
def test_foreign_text_stays_text(home: Path, shown: Any, name: str, foreign: str) -> None:
    service = Hostile(home)
    service.foreign = foreign
    source = f"import os, pathlib\ndef task(config):\n    pathlib.Path(os.environ['TASKAPI_OUTPUT_DIR'], {foreign[:80].replace('/', '_')!r}.encode('utf-8', 'replace').decode()).touch()\n"
    service.deploy_request(request_for(name, source))
    job = service.submit(name).wait()
    panel = shown(service)
    choose(panel, job)
    until(lambda: panel.details.log.text.value, "the log")
    until(lambda: "environment" in panel.form.runs.value and "environment" in panel.details.facts.value, "the Python")
    panel.details.tabs.selected_index = 2
    until(lambda: panel.details.texts[2].value, "the result")
    panel.details.tabs.selected_index = 3
    until(lambda: panel.details.files.value, "the files")
    panel.details.stop.disabled = False
    panel.details.stop.click()
    until(lambda: "ta-error" in panel.details.answer.value, "the error")
    tags = {"div", "span", "b", "i", "code", "pre", "table", "tbody", "tr", "th", "td", "progress", "style", "a"}
    for one in tree(panel):
        if isinstance(one, HTML):
            found = Elements(one.value)
            assert set(found.tags) <= tags
            assert {attribute for attribute, _ in found.attributes} <= {
                "class", "dir", "title", "style", "role", "aria-level", "aria-label", "max", "value", "href", "download",
            }  # fmt: skip
            one.value.encode()
        json.dumps(one.get_state(), default=str).encode()
        for text in (getattr(one, "description", ""), *(getattr(one, "_options_labels", ()))):
            assert str(text).isprintable()
            str(text).encode()
    panel.close()
    service.close()


def test_every_control_has_a_name_and_a_tooltip(service: Service, shown: Any) -> None:
    panel = shown(service)
    controls = [one for one in tree(panel) if hasattr(one, "disabled")]
    assert len(controls) > 20
    rows_ = {row.button for row in panel.jobs.rows}
    assert [one for one in controls if not (one.description and one.tooltip) and one not in rows_] == []
    assert all(isinstance(one.description, str) for one in controls if isinstance(one, Dropdown))


# In IPython and in kernels


def test_importing_the_package_does_not_import_ipywidgets() -> None:
    code = "import sys, taskapi_jupyter as t; a = 'ipywidgets' in sys.modules; t.Panel; print(a, 'ipywidgets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True"


def test_the_magic_returns_a_panel(run: Callable[[str], Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "here.ipynb")
    run("%%taskapi deploy greet\ndef task(config):\n    return config\n").value()
    panel = run("panel = %taskapi panel greet\npanel").value()
    try:
        panel._repr_mimebundle_()
        until(lambda: not panel.form.button.disabled, "the form")
        panel.form.button.click()
        shows(panel, "here.ipynb")
        job = run("job = %taskapi submit greet\njob").value()  # a cell wakes it
        shows(panel, job.id[-6:])
        assert "usage: %taskapi panel [API]" in str(run("%taskapi panel a b").error)
        assert "%taskapi panel [API]" in run("%taskapi help panel").out
        assert Completer(lambda what: [what], {}).complete("%taskapi panel ") == ["apis"]
    finally:
        panel.close()
    run("%taskapi env local").value()
    other = run("%taskapi panel").value()
    assert repr(other) == "<Panel of local>"
    other.close()


class Watched(Served):
    """A kernel whose widgets are followed as a frontend does."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__(server)
        self.states: dict[str, dict[str, Any]] = {}

    def follow(self, enough: Callable[[str, dict[str, Any]], bool]) -> None:
        """Apply what comes to the widgets' states until it is enough."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message: dict[str, Any] = json.loads(self.socket.recv())
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "error":
                pytest.fail("\n".join(content["traceback"]))
            if kind in ("comm_open", "comm_msg") and "state" in content["data"]:
                self.states.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            if enough(message["parent_header"].get("msg_id", ""), message):
                return
        pytest.fail("waited in vain")

    def sees(self, text: str, there: bool = True) -> None:
        """Wait for a text to be shown, or to be gone; where nothing changes any more, nothing comes."""
        while (text in self.html()) is not there:
            self.follow(lambda parent, message: True)

    def html(self) -> str:
        """Return all that the widgets show."""
        return " ".join(state["value"] for state in self.states.values() if isinstance(state.get("value"), str))

    def click(self, description: str) -> None:
        comm_id = next(key for key, state in self.states.items() if state.get("description") == description)
        self.message("comm_msg", {"comm_id": comm_id, "data": {"method": "custom", "content": {"event": "click"}}})


@pytest.fixture
def kernel(live_server: LiveServer) -> Iterator[Watched]:
    """Return a kernel of the server, with the magics."""
    kernel = Watched(live_server)
    kernel.follow(idle(kernel.send("%load_ext taskapi_jupyter")))
    yield kernel
    kernel.socket.close()
    requests.delete(f"{live_server.url}api/kernels/{kernel.id}", headers=live_server.auth, timeout=PATIENCE)


def idle(request: str) -> Callable[[str, dict[str, Any]], bool]:
    """Return what says that a request was answered."""

    def over(parent: str, message: dict[str, Any]) -> bool:
        return parent == request and message["content"].get("execution_state") == "idle"

    return over


def test_a_panel_lives_while_a_cell_blocks_the_kernel(kernel: Watched, name: str, tmp_path: Path) -> None:
    go, on = tmp_path / "go", tmp_path / "on"
    kernel.follow(idle(kernel.send(f"%%taskapi deploy {name}\n" + WAITING)))
    kernel.follow(idle(kernel.send(f"job = %taskapi submit {name} path={go}")))
    kernel.follow(idle(kernel.send(f"panel = %taskapi panel {name}\npanel")))
    blocking = kernel.send(f"import pathlib, time\nwhile not pathlib.Path({str(on)!r}).exists(): time.sleep(0.01)")
    kernel.sees("running")
    kernel.sees("A cell is running")
    go.touch()
    kernel.sees("succeeded")
    on.touch()
    kernel.follow(idle(blocking))
    kernel.sees("A cell is running", False)

    # Run again, the cell shows it anew; closed, it leaves nothing.
    count = "import threading\nprint(len([t for t in threading.enumerate() if t.name.startswith('taskapi-panel')]))"
    kernel.follow(idle(kernel.send("panel.close()\nanother = %taskapi panel\nanother")))
    assert kernel.run(count).strip() == "1"
    assert kernel.run("another.close()\n" + count).strip() == "0"


@pytest.mark.skipif(
    tuple(int(part) for part in version("ipykernel").split(".")[:2]) < (7, 4),
    reason="before ipykernel 7.4 no click reaches a kernel in which a cell awaits",
)
def test_a_click_arrives_while_a_cell_awaits(kernel: Watched, name: str) -> None:
    kernel.follow(idle(kernel.send(f"%%taskapi deploy {name}\n" + ECHO)))
    kernel.follow(idle(kernel.send(f"job = %taskapi submit {name}")))
    kernel.follow(idle(kernel.send(f"panel = %taskapi panel {name}\npanel")))
    kernel.sees("succeeded")
    api = "import asyncio, taskapi_jupyter\napi = taskapi_jupyter.connect()\n"
    awaiting = kernel.send(f"{api}while len(api.jobs({name!r})) < 2: await asyncio.sleep(0.05)")
    kernel.click("Submit")
    kernel.follow(idle(awaiting))
    kernel.run("panel.close()")


def test_a_panel_lives_in_the_cell_that_blocks(kernel: Watched, name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    kernel.follow(idle(kernel.send(f"%%taskapi deploy {name}\n" + WAITING)))
    request = kernel.send(f"""
import time, taskapi_jupyter
from IPython.display import display
job = taskapi_jupyter.connect().submit({name!r}, {{"path": {str(go)!r}}})
display(taskapi_jupyter.Panel(name={name!r}))
while not job.refresh().ended:
    time.sleep(0.01)
""")
    kernel.sees("A cell is running")
    go.touch()
    kernel.follow(idle(request))


def test_a_panel_is_rebuilt_after_a_restart(kernel: Watched, live_server: LiveServer, name: str) -> None:
    kernel.follow(idle(kernel.send(f"%%taskapi deploy {name}\n" + ECHO)))
    url = f"{live_server.url}api/kernels/{kernel.id}/restart"
    for restart in (True, False):
        kernel.states.clear()
        kernel.follow(idle(kernel.send(f"%load_ext taskapi_jupyter\npanel = %taskapi panel {name}\npanel")))
        kernel.sees("No jobs yet.")
        if restart:
            requests.post(url, headers=live_server.auth, timeout=PATIENCE).raise_for_status()
