"""A kernel that is kept after a failing cell: found by others, gone on with, ended, and never left behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from support import PATIENCE, until
from support.homes import processes, watcher_of
from support.notebooks import Start, ended, log_shows, printed, saved
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.cold]

FAILS = ("state = 41\nprint('once')", "# Train", "assert state == 42, 'boom'", "print('after', state)")
REASON = 'cell 2 (In [2]) "Train": AssertionError: boom'


@pytest.fixture
def home(short_home: Path) -> Path:
    """Return a home for each test."""
    return short_home


def connection(service: Service, job: Job) -> Path:
    """Return where the connection file of a job's kernel is while that is kept."""
    return service.home / "kernels" / f"kernel-{job.id}.json"


def kept(service: Service, job: Job) -> Path:
    """Wait until a job's kernel is kept; return its connection file."""
    path = connection(service, job)
    until(lambda: (said := job.refresh().progress) and "kernel kept until" in (said.message or ""), "a kept kernel")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    return path


def ask(service: Service, job: Job, what: str) -> None:
    """Do as the service does."""
    (service.home / "jobs" / job.id / "kernel-request").write_text(what)


def execute(path: Path, code: str) -> str:
    """Execute code in a kernel by its connection file, as others do, and return what it printed."""
    client = BlockingKernelClient()
    client.load_connection_file(str(path))
    client.start_channels(hb=False)
    client.wait_for_ready(timeout=PATIENCE)
    said: list[str] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    client.execute_interactive(code, timeout=PATIENCE, output_hook=take)
    client.stop_channels()
    return "".join(said)


def test_it_goes_on_from_the_failed_cell(start: Start, service: Service) -> None:
    job = start(*FAILS, keep_kernel=600)
    path = kept(service, job)
    assert job.status == "running"
    assert job.progress is not None
    assert (job.progress.message or "").startswith("failed in cell 2; kernel kept until ")
    assert job.logs().endswith(f"to look into it: %taskapi attach {job.id}; to go on: %taskapi resume {job.id}\n")
    progress = json.loads((service.home / "jobs" / job.id / "progress.json").read_text())
    assert (progress["cell"]["index"], progress["cell"]["status"]) == (2, "failed")
    assert saved(service, job).cells[2].metadata.papermill.status == "failed"
    assert execute(path, "state += 1\nprint(state)") == "42\n"
    ask(service, job, "resume")
    assert ended(job) == ("succeeded", "resumed at cell 2")
    assert not path.exists()
    notebook = saved(service, job)
    assert printed(notebook) == ["once\n", "", "after 42\n"]
    assert [cell.metadata.papermill.status for cell in notebook.cells] == ["completed", "pending", *["completed"] * 2]
    assert notebook.metadata.papermill.exception is None
    assert job.logs().count("once") == 1


def test_it_fails_again_and_is_kept_again(start: Start, service: Service) -> None:
    job = start(*FAILS, keep_kernel=600)
    path = kept(service, job)
    ask(service, job, "resume")
    until(lambda: job.logs().count("kernel kept until") == 2, "the second time")
    assert kept(service, job) == path
    ask(service, job, "end")
    assert ended(job) == ("worker_error", REASON.replace("In [2]", "In [3]"))
    assert not path.exists()


@pytest.mark.parametrize("how", ["over", "killed", "stopped"])
def test_how_it_ends(start: Start, service: Service, how: str) -> None:
    job = start("import os\nprint(os.getpid())", *FAILS, keep_kernel=1 if how == "over" else 600)
    if how == "over":
        expected = ("worker_error", REASON.replace("2", "3"))
    else:
        path = kept(service, job)
        if how == "killed":
            os.kill(int(job.logs().splitlines()[1]), signal.SIGKILL)
            expected = ("worker_error", REASON.replace("2", "3") + "; its kernel ended while it was kept")
        else:
            job.stop()
            expected = ("stopped", None)
        job.wait(PATIENCE)
        assert not path.exists()
    assert ended(job) == expected
    failed = [cell for cell in saved(service, job).cells if cell.source == FAILS[2]]
    assert [cell.metadata.papermill.status for cell in failed] == ["failed"]
    assert list((service.home / "kernels").iterdir()) == []


def test_its_watcher_is_killed(start: Start, service: Service) -> None:
    job = start(*FAILS, keep_kernel=600)
    path = kept(service, job)
    os.kill(watcher_of(service.home, job), signal.SIGKILL)
    assert ended(job) == ("unexpected_error", "its watcher was killed")
    until(lambda: not path.exists(), "the connection file to be removed")
    until(lambda: not (service.home / "jobs" / job.id / "kernel").exists(), "the sockets to be removed")


def test_no_more_are_kept_than_may_be(start: Start, service: Service, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\nkeep_kernels: 1\ncpus: 4\n")
    first = start(*FAILS, keep_kernel=600)
    path = kept(service, first)
    (home / "kernels" / "kernel-of-a-dead-job.json").write_text("{}")
    second = service.submit(first.api_name)
    why = "its kernel is not kept: 1 of this home are kept already (keep_kernels in config.yaml)"
    assert ended(second) == ("worker_error", f"{REASON}; {why}")
    log_shows(second, why)
    assert [one.name for one in (home / "kernels").iterdir()] == [path.name]
    first.stop()


def test_a_cell_that_hangs_is_interrupted_first(start: Start, service: Service) -> None:
    job = start("state = 1\nimport time\nwhile True: time.sleep(0.01)", keep_kernel=600, cell_timeout=1)
    path = kept(service, job)
    assert execute(path, "print(state)") == "1\n"
    ask(service, job, "end")
    assert ended(job) == ("worker_error", "cell 1 (In [1]): took longer than its cell_timeout of 1 s")
    left = [one for one in processes(service.home) if "ipykernel_launcher" in " ".join(one.cmdline())]
    assert [one for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
