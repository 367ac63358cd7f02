"""``on_done``: in real kernels, under a server and without one, and in a program that is no kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from support import WAITING, request_for, until
from support.homes import clean
from support.kernels import Kernel, Plain, Shown
from support.servers import LiveServer, start_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.service.service import Service

SETUP = """
import pathlib, threading, time
from IPython.display import HTML
from taskapi_jupyter import connect
from taskapi_jupyter.client import on_done
tasks, called = connect(), []
waits = pathlib.Path("waits.py"); waits.write_text('''
import pathlib, time
def run(config):
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    if config.get("fails") and not pathlib.Path(config["go"] + ".failed").exists():
        pathlib.Path(config["go"] + ".failed").touch()
        raise ValueError("the first attempt")
''')
_ = tasks.deploy(waits, name="on-done", cpu="10m")
def begin(go, **more):
    return tasks.submit("on-done", {"go": str(pathlib.Path(go).absolute()), **more})
def end(*gos):
    for go in gos:
        pathlib.Path(go).touch()
def says(word):
    return lambda job: called.append(word) or print(word, job.status, threading.current_thread() is threading.main_thread())
"""

DUE = "while len(on_done._due) < {count}:\n    {pause}(0.01)\n"  # until so many are to be called after this cell


class Cells:
    """What is shown below the cells of a notebook, whenever it comes."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.shown: dict[str, Shown] = {}
        self.over: set[str] = set()

    def begin(self, code: str) -> str:
        """Begin to run a cell, and return its name."""
        return self.kernel.send(code)

    def run(self, code: str) -> str:
        """Run a cell, and return its name."""
        cell = self.begin(code)
        self.until(lambda: cell in self.over)
        return cell

    def until(self, condition: Callable[[], object]) -> None:
        """Receive what comes until something is so."""
        while not condition():
            message = self.kernel.receive()
            cell = message["parent_header"].get("msg_id", "")
            if self.shown.setdefault(cell, Shown()).take(message):
                self.over.add(cell)

    def of(self, cell: str) -> str:
        """Return what is below a cell, as text."""
        return "".join(self.shown[cell].parts) if cell in self.shown else ""


@pytest.fixture
def cells(notebook: Kernel) -> Cells:
    cells = Cells(notebook)
    assert cells.of(cells.run(SETUP)) == ""
    return cells


def test_output_goes_below_the_cell_that_asked_for_it(cells: Cells) -> None:
    asks = cells.run("""job = begin("go")
job.on_done(lambda one: (says("ended")(one), display(HTML(str(one is job)))))""")
    assert "<Callback <lambda> to be called at the end of job " in cells.of(asks)
    other = cells.run("print('other'); end('go')")  # and then no cell runs
    cells.until(lambda: cells.shown[asks].pictures)
    assert "ended succeeded True\n" in cells.of(asks)
    assert [data["text/html"] for _, data, _ in cells.shown[asks].pictures] == ["True"]
    assert cells.of(other) == "other\n"
    assert cells.of(cells.run("print(called, job.seen_ended)")) == "['ended'] True\n"


@pytest.mark.parametrize("pause", ["time.sleep", "await asyncio.sleep"])
def test_none_is_called_while_a_cell_runs(cells: Cells, pause: str) -> None:
    asks = cells.run("job = begin('go'); _ = job.on_done(says('ended'))")
    cell = "import asyncio\nend('go')\n" + DUE.format(count=1, pause=pause) + f"{pause}(0.05)\nprint(called)"
    assert cells.of(cells.run(cell)) == "[]\n"
    cells.until(lambda: "ended succeeded True\n" in cells.of(asks))
    assert cells.of(cells.run("print(called)")) == "['ended']\n"


def test_those_that_ended_first_are_called_first_and_what_they_raise_stops_none(cells: Cells) -> None:
    asks = cells.run("""first, second = begin("first"), begin("second")
def breaks(job):
    called.append("breaks")
    raise ValueError("<b>of the function</b>")
_ = [first.on_done(says(1)), second.on_done(breaks), second.on_done(says(2)), second.on_done(exit)]
never = first.on_done(says("never"))
print(never.cancel(), never.cancel(), never.waits)""")
    assert cells.of(asks) == "True True False\n"
    cells.run("end('second'); second.wait(); end('first')\n" + DUE.format(count=4, pause="time.sleep"))
    assert cells.of(cells.run("print(called, never.cancel(), _[0].cancel())")) == "['breaks', 2, 1] True False\n"
    error = cells.shown[asks].error
    assert "ValueError: <b>of the function</b>" in error
    assert "called.append" in error
    assert "on_done.py" not in error
    assert "cells.py" not in error


def test_of_what_has_ended_it_is_called_at_once(cells: Cells) -> None:
    cells.run("end('go'); job = begin('go').wait()")
    asks = cells.run("print(job.on_done(says('ended')).cancel(), called)")
    assert cells.of(asks) == "ended succeeded True\nFalse ['ended']\n"
    raises = cells.run("job.on_done(lambda job: 1 / 0); print('goes on')")
    assert "ZeroDivisionError" in cells.shown[raises].error
    assert "goes on" in cells.shown[raises].text


def test_of_a_job_that_is_tried_again_it_is_the_last_attempt(cells: Cells) -> None:
    asks = cells.run("""job = tasks.submit("on-done", {"go": str(pathlib.Path("go").absolute()), "fails": 1}, retries=1)
_ = job.on_done(lambda last: print(last.status, last.record.attempt, last.id == job.id, job.status))""")
    cells.run("end('go')")
    cells.until(lambda: "succeeded 2 False worker_error\n" in cells.of(asks))


def test_of_a_group_it_is_the_end_of_all(cells: Cells) -> None:
    asks = cells.run("""gos = [str(pathlib.Path(f"go{n}").absolute()) for n in range(3)]
group = tasks.map("on-done", [{"go": go} for go in gos])
_ = group.on_done(lambda one: print(one is group, one.counts))
group[0].on_done(says("the first"))""")
    cells.run("end(gos[0])")
    cells.until(lambda: "the first succeeded True\n" in cells.of(asks))
    assert "counts" not in cells.of(asks)
    cells.run("end(*gos)")
    cells.until(lambda: "True {'succeeded': 3}\n" in cells.of(asks))


def test_what_cant_be_called(cells: Cells) -> None:
    cells.run("end('go'); job = begin('go')")
    said = cells.run("""
async def waits(job): ...
for one in (None, waits):
    try: job.on_done(one)
    except Exception as error: print(type(error).__name__, error)""")
    assert cells.of(said).splitlines() == [
        "BadRequest on_done takes a function of one argument, which it calls; got None",
        "BadRequest on_done calls a function and awaits nothing, so waits can't be async; to await the end: await the "
        "job or group itself",
    ]


def test_an_interrupt_ends_a_function_that_hangs(cells: Cells) -> None:
    asks = cells.run("""job = begin('go')
_ = job.on_done(lambda job: (print("begun", flush=True), time.sleep(60))), job.on_done(says("the next"))""")
    cells.run("end('go')")
    cells.until(lambda: "begun" in cells.of(asks))
    cells.kernel.interrupt()
    cells.until(lambda: "the next succeeded" in cells.of(asks))
    assert "KeyboardInterrupt" in cells.shown[asks].error
    assert cells.of(cells.run("print('goes on')")) == "goes on\n"


def test_a_kernel_that_was_restarted_calls_none(start: Any, tmp_path: Path) -> None:
    kernel = start("restarted.ipynb")
    cells = Cells(kernel)
    cells.run(f"import os; os.chdir({str(tmp_path)!r})")
    asks = cells.run(f"{SETUP}\njob = begin('go'); _ = job.on_done(says('ended')); print(job.id)")
    job = cells.of(asks).strip()
    if isinstance(kernel, Plain):
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=60)
    else:
        requests.post(f"{kernel.url}/restart", headers=kernel.auth, timeout=60).raise_for_status()
    again = cells.run(f"""import os, pathlib; from taskapi_jupyter import connect
os.chdir({str(tmp_path)!r}); pathlib.Path('go').touch(); print(connect().get("on-done", {job!r}).wait().status)""")
    assert cells.shown[again].text == "succeeded\n"
    cells.run("print()")
    assert cells.of(asks) == f"{job}\n"


# Outside a kernel


def test_a_program_has_them_called_by_a_thread(service: Service, name: str, tmp_path: Path) -> None:
    service.deploy_request(request_for(name, WAITING, compute={"cpu": "10m"}))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    seen: list[Any] = []

    def waits(job: Job) -> None:
        other = service.submit(name, {"path": str(tmp_path / "go")})
        other.on_done(lambda one: seen.append((one.id == other.id, threading.current_thread().name)))
        seen.append((job.status, threading.current_thread().name))

    def breaks(job: Job) -> None:
        raise ValueError("shown on standard error")

    job.on_done(breaks)
    job.on_done(waits)
    (tmp_path / "go").touch()
    until(lambda: len(seen) == 2, "both to be called")
    assert seen == [("succeeded", "taskapi-on-done"), (True, "taskapi-on-done")]
    with pytest.raises(BadRequest, match="got 7"):
        job.on_done(7)  # type: ignore[arg-type]


def test_many_at_a_server_that_is_away_for_a_while(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(tmp_path)
    service, seen = Service(server.home), list[str]()
    with closing(Client(server.taskapi, server.token)) as client, closing(service):
        service.deploy_request(request_for(name, WAITING, compute={"cpu": "10m"}))
        jobs = [client.submit(name, {"path": str(tmp_path / f"go{n}")}) for n in range(6)]
        for job in jobs:
            job.on_done(lambda job: seen.append(job.id))
        (tmp_path / "go3").touch()
        until(lambda: seen == [jobs[3].id], "one of many to end")
        server.process.kill()
        server.process.wait()
        for n in (1, 4, 5):
            (tmp_path / f"go{n}").touch()
            service.get(name, jobs[n].id).wait()
        service.forget(jobs[4])
        again = restart(server, tmp_path)
        until(lambda: len(seen) == 3, "those that ended meanwhile")
        assert seen[1:] == [jobs[1].id, jobs[5].id]
        assert capsys.readouterr().err == f"taskapi: job {jobs[4].id} was deleted, so <lambda> is not called\n"
        service.delete(name)
        again.process.kill()
        again.process.wait()
    clean(server.home)


def restart(server: LiveServer, folder: Path) -> LiveServer:
    """Start a server again where it was."""
    return start_server(folder, port=urlsplit(server.url).port, token=server.token)
