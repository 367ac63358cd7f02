"""Notebooks that jobs run, as user code holds them: of this machine's service, and through a server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from support import PATIENCE, request_for, until
from support.notebooks import write
from support.program import answer
from support.servers import LiveServer, start_server, stop_server
from support.shells import Ran
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import JobNotFound, NoKernel, NoNotebook, NoNotebookYet, TaskAPIError
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.cold]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server."""
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    stop_server(server)


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest) -> Iterator[TaskAPI]:
    """Return a TaskAPI: of this machine, or of a server over HTTP."""
    if request.param == "service":
        yield request.getfixturevalue("service")
        return
    server = request.getfixturevalue("server")
    client = Client(server.taskapi, server.token)
    yield client
    client.close()


@pytest.fixture
def start(api: TaskAPI, tmp_path: Path) -> Callable[..., Job]:
    """Return what deploys a notebook of some cells and submits it."""

    def start(*cells: str, **definition: Any) -> Job:
        path = write(tmp_path / "report.ipynb", *cells)
        api.deploy({"name": "report", "kind": "TaskAPI", "definition": {"path": str(path), **definition}})
        return api.submit("report")

    return start


@pytest.fixture
def failed(start: Callable[..., Job], tmp_path: Path) -> Job:
    """Return a job that keeps its kernel after its second cell failed, until a file is there."""
    go = tmp_path / "go"
    code = f"import pathlib\nassert pathlib.Path({str(go)!r}).exists(), 'not there'"
    job = start("secret = 41", code, "print(secret)", keep_kernel=600)
    until(lambda: (cell := job.refresh().cell) is not None and cell.status == "failed", "the cell to fail")
    return job


def test_a_notebook_and_its_result(api: TaskAPI, start: Callable[..., Job], tmp_path: Path) -> None:
    glue = "from taskapi_jupyter.job import glue\nglue('loss', 0.5)"
    job = start("# Title", "print('text')", glue).wait(PATIENCE).check()
    node = job.notebook_node()
    assert isinstance(node, nbformat.NotebookNode)
    assert (node.nbformat, node.cells[1].outputs[0].text) == (4, "text\n")
    assert nbformat.reads(api.notebook(job.id).decode(), 4) == node
    assert (job.result(), job.cell) == ({"loss": 0.5}, None)
    assert start("1").result(PATIENCE) == {}
    with pytest.raises(NoKernel, match=f"job {job.id} .report api. keeps no kernel: it has ended"):
        job.resume()


def test_other_jobs_run_no_notebook(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, "def task(config):\n    return 1\n"))
    job = api.submit(name).wait(PATIENCE)
    with pytest.raises(NoNotebook, match=f"job {job.id} .{name} api. runs no notebook$"):
        job.notebook_node()
    for ask in (job.attach, job.resume, job.end_kernel):
        with pytest.raises(NoKernel, match="runs no notebook, so it keeps no kernel"):
            ask()
    with pytest.raises(JobNotFound):
        api.notebook("0" * 16)


def test_a_notebook_that_is_not_saved_yet_or_is_none(start: Callable[..., Job], api: TaskAPI) -> None:
    job = start("1", "input()")
    seen = None
    while seen is None:
        try:
            seen = job.notebook_node()
        except NoNotebookYet as error:
            assert str(error) == f"job {job.id} (report api) has not saved its notebook yet"
    job.wait(PATIENCE)
    assert (job.status, job.cell and (job.cell.index, job.cell.status)) == (
        "worker_error",
        (3, "failed"),
    )  # below two cells that say so
    if isinstance(api, Service):
        (api.output_dir(job) / "report.ipynb").write_text("text")
        with pytest.raises(TaskAPIError, match=f"the notebook of job {job.id} can't be read: .*text"):
            job.notebook_node()


def test_a_kernel_that_is_kept_is_used_and_gone_on_with(failed: Job, tmp_path: Path, capsys: Any) -> None:
    kernel = failed.attach()
    said = capsys.readouterr().out
    assert said.startswith(f"job {failed.id} keeps its kernel until ")
    assert f"\n    jupyter console --existing {kernel.connection_file}\n" in said
    assert ("JupyterLab lists it as kernel" in said) == bool(kernel.kernel_id)
    client = BlockingKernelClient(connection_file=kernel.connection_file)
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    client.execute_interactive("secret += 1", timeout=PATIENCE)
    client.stop_channels()
    (tmp_path / "go").touch()
    assert failed.resume() == f"job {failed.id} goes on from the cell that failed"
    failed.wait(PATIENCE).check()
    assert (failed.reason, failed.notebook_node().cells[-1].outputs[0].text) == ("resumed at cell 2", "42\n")


def test_a_kernel_that_is_kept_is_ended(failed: Job) -> None:
    assert "failed in cell 2; kernel kept until " in repr(failed._repr_html_())
    assert failed.end_kernel() == f"job {failed.id} ends its kernel"
    failed.wait(PATIENCE)
    assert failed.status == "worker_error"
    assert "not there" in str(failed.reason)
    with pytest.raises(NoKernel, match="it has ended"):
        failed.attach()


@pytest.mark.parametrize("api", ["service"], indirect=True)
def test_the_magic_and_the_program(failed: Job, run: Callable[[str], Ran], tmp_path: Path) -> None:
    attached = run(f"%taskapi attach {failed.id}")
    assert attached.error is None
    assert f"%taskapi resume {failed.id}" in attached.out
    assert answer("attach", failed.id)["connection_file"] in attached.out
    said = run(f"%taskapi resume {failed.id}")
    assert said.out == f"job {failed.id} goes on from the cell that failed\n"
    until(lambda: failed.logs().count("AssertionError") > 2, "the cell to fail again")
    until(lambda: "kernel kept" in str(failed.refresh().progress), "its kernel to be kept again")
    assert answer("resume", failed.id, "--end") == {"message": f"job {failed.id} ends its kernel"}
    failed.wait(PATIENCE)
    refused = run(f"%taskapi attach {failed.id}")
    assert str(refused.error) == f"job {failed.id} (report api) keeps no kernel: it has ended"


IMPORTS = """
import sys, time
from taskapi_jupyter.client import results
text = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
assert results.notebook_node(text, "1").cells == []
assert "rfc3987_syntax" not in sys.modules and "jsonschema" not in sys.modules
import jsonschema, nbformat
nbformat.validate(nbformat.v4.new_notebook())
assert "iri" in jsonschema.FormatChecker.checkers
"""


def test_nbformat_is_imported_without_a_trace() -> None:
    """Checks of URIs take two seconds to import; whoever wants them later has them."""
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
