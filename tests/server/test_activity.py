"""What keeps a kernel from being culled, on a real server that culls those which nobody uses, connected or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from support import ECHO, PATIENCE, WAITING, request_for, until
from support.kernels import Served
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.service.service import Service

IDLE = 7  # seconds; a panel that shows nothing in progress looks every five


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return a server that culls."""
    culls = [f"--MappingKernelManager.cull_{one}" for one in (f"idle_timeout={IDLE}", "interval=1", "connected=True")]
    server = start_server(tmp_path_factory.mktemp("culls"), *culls)
    yield server
    stop_server(server)


def kernels(server: LiveServer) -> set[str]:
    """Return the kernels that a server has."""
    answer = requests.get(f"{server.url}api/kernels", headers=server.auth, timeout=PATIENCE)
    return {kernel["id"] for kernel in answer.json()}


def test_jobs_in_progress_keep_the_kernel_that_submitted_them_and_panels_keep_none(
    server: LiveServer, tmp_path: Path
) -> None:
    service = Service(server.home)
    service.deploy_request(request_for("quiet", ECHO))
    service.deploy_request(request_for("waits", WAITING))
    service.submit("quiet").wait()
    go = tmp_path / "go"
    job = service.submit("waits", {"path": str(go)})

    submits = Served(server)
    submits.run(f"import taskapi_jupyter as t\njob = t.connect().submit('waits', {{'path': {str(go)!r}}})")
    submits.close()
    quiet, left = Served(server), Served(server)  # the page of the one stays, that of the other goes
    for kernel, api in ((quiet, "quiet"), (left, "waits")):
        kernel.run(f"%load_ext taskapi_jupyter\npanel = %taskapi panel {api}\npanel")
        kernel.run("import time\nwhile not panel.jobs.rows[0].job: time.sleep(0.01)")
    left.close()

    until(lambda: not {quiet.id, left.id} & kernels(server), "the kernels of panels to be culled")
    assert not job.refresh().ended
    assert submits.id in kernels(server)  # which has done nothing for longer than those
    go.touch()
    until(lambda: submits.id not in kernels(server), "the kernel whose job has ended to be culled")
    quiet.close()
    service.close()
