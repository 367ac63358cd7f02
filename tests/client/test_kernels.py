"""Kernels that a real server started: how they find it, and what is left when both are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import until
from support.homes import clean
from support.kernels import Served
from support.servers import LiveServer, start_server
from taskapi_jupyter.service.service import Service

CELL = """%%taskapi deploy waits
import pathlib, time

def run(config):
    print("waiting", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    return "done"
"""

LOUD = """%%taskapi deploy loud
def run(config):
    for n in range(config["lines"]):
        print("line", n, "of many that are long enough to be too many")
    print("the end")
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    running = start_server(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()
    clean(running.home)


@pytest.fixture
def kernel_of(request: pytest.FixtureRequest) -> Callable[[LiveServer], Served]:
    """Return what starts a kernel on a server; its connection is closed at the end."""

    def start(server: LiveServer) -> Served:
        kernel = Served(server)
        request.addfinalizer(kernel.socket.close)
        return kernel

    return start


def test_a_kernel_goes_through_the_server_that_started_it(server: LiveServer, kernel_of: Any) -> None:
    kernel = kernel_of(server)
    assert "Client" in kernel.run("import taskapi_jupyter; print(type(taskapi_jupyter.connect()).__name__)")
    kernel.run("%load_ext taskapi_jupyter")
    assert "created waits" in kernel.run(CELL)
    assert "/taskapi/local/tasks/waits" in kernel.run("%taskapi status waits")


def test_jobs_outlive_the_kernel_and_the_server(server: LiveServer, kernel_of: Any, tmp_path: Path) -> None:
    kernel, go = kernel_of(server), tmp_path / "go"
    kernel.run("%load_ext taskapi_jupyter")
    kernel.run(CELL)
    pid = int(kernel.run(f"job = %taskapi submit waits path={go}\nimport os; print(os.getpid())"))
    job = kernel.run("print(job.id)").strip()
    service = Service(server.home)
    until(lambda: service.log_chunk(job).data == b"waiting\n", "the job to run")
    os.kill(pid, signal.SIGKILL)
    server.process.kill()
    server.process.wait()
    assert service.job_response(job).job_status.status == "running"

    again = start_server(tmp_path)
    try:
        kernel = kernel_of(again)
        kernel.run("%load_ext taskapi_jupyter")
        assert job in kernel.run("%taskapi status waits")
        assert "running" in kernel.run(f"%taskapi status {job}")
        go.touch()
        assert "succeeded" in kernel.run(f"%taskapi wait {job}")
        assert "done" in kernel.run(f"%taskapi result {job}")
        assert kernel.run(f"%taskapi logs {job}") == "waiting\n"
    finally:
        again.process.kill()
        again.process.wait()
        service.close()


def test_a_long_log_is_followed_within_what_a_server_passes_on(server: LiveServer, kernel_of: Any) -> None:
    kernel = kernel_of(server)
    kernel.run("%load_ext taskapi_jupyter")
    kernel.run(LOUD)
    kernel.run("job = %taskapi submit loud lines=100000")
    told = kernel.run("%taskapi logs job -f")  # from its first line, or later, to its last
    assert "rate exceeded" not in told
    assert told.replace("\n", "").endswith("line 99999 of many that are long enough to be too manythe end")
    told = kernel.run("%taskapi logs job -f")
    assert "rate exceeded" not in told
    assert told.startswith("[... 4.2 MiB of output are left out here; job.logs() returns all ...]\n")
    assert told.endswith("the end\n")
    for _ in range(2):
        told = kernel.run("%taskapi logs job")
        assert "rate exceeded" not in told
        assert told.startswith("(the last 1 MiB of 5.")
        assert told.endswith("the end\n")
