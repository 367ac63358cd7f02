"""A real JupyterHub: its proxy, its single-user servers, and its idle culler. ``make test-hub`` runs these."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import taskapi_jupyter
from support import ECHO, PATIENCE, WAITING, request_for, until
from support.hub import SLOW, Hub, User

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TASKAPI_HUB"), reason="make test-hub sets a JupyterHub up"),
    pytest.mark.timeout(240),
]

IDLE = 8  # seconds

POLLING = """
import threading, time, taskapi_jupyter
api = taskapi_jupyter.connect()
asked = []
def poll():
    while True:
        asked.append(api.jobs())
        time.sleep(0.5)
threading.Thread(target=poll, daemon=True).start()
while not asked: time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Return a Hub for all tests of the file."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def anna(hub: Hub) -> User:
    """Return a user with a server."""
    return hub.start("anna")


def test_through_the_proxy_and_in_a_kernel_the_same_jobs_are_seen(
    anna: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TASKAPI_URL", anna.url)
    monkeypatch.setenv("TASKAPI_TOKEN", anna.token)
    api = taskapi_jupyter.connect()
    api.deploy_request(request_for("echo", ECHO))
    job = api.submit("echo", {"x": 1})
    assert job.result(SLOW) == {"x": 1}
    kernel = anna.kernel()
    told = "import os\nprint([name for name in ('TASKAPI_URL', 'JUPYTERHUB_SERVICE_URL') if name in os.environ])"
    assert kernel.run(told) == "['JUPYTERHUB_SERVICE_URL']\n"
    found = kernel.run(f"%load_ext taskapi_jupyter\nfound = %taskapi status {job.id}\nprint(found.status, found.api)")
    assert found.startswith("succeeded <Client of http://127.0.0.1:"), found
    # A wait of some length shows the job's state before the value.
    other = kernel.run("job = %taskapi submit echo y=2\nprint('got', job.id, job.result())")
    got = re.search(r"^got ([0-9a-f]{16}) \{'y': 2\}$", other, re.MULTILINE)
    assert got, other
    assert {job.id for job in api.jobs("echo")} == {job.id, got[1]}
    kernel.close()


def test_a_page_and_its_session(hub: Hub, anna: User) -> None:
    """A browser signs in by the Hub and sends cookies; nobody is let in without."""
    page = requests.Session()
    page.get(f"{hub.url}hub/login", timeout=PATIENCE)
    form = {"username": "anna", "password": "any", "_xsrf": page.cookies.get("_xsrf", path="/hubs/hub/")}
    page.post(f"{hub.url}hub/login?next=%2Fhubs%2Fuser%2Fanna%2Flab", data=form, timeout=PATIENCE)
    jobs = f"{anna.url}taskapi/local/jobs"
    assert page.get(jobs, timeout=PATIENCE).ok
    token = page.cookies.get("_xsrf", path="/hubs/user/anna/")
    echo = f"{anna.url}taskapi/local/tasks/echo"
    assert page.post(echo, json={}, timeout=PATIENCE).status_code == 403
    answer = page.post(echo, json={}, headers={"X-XSRFToken": token or ""}, timeout=PATIENCE)
    assert answer.ok, answer.text
    page.cookies.clear()
    refused = page.get(jobs, timeout=PATIENCE, allow_redirects=False)
    assert (refused.status_code, refused.json()["kind"]) == (403, "error")
    assert hub.start("bert")
    other = requests.get(jobs, headers=User(hub, "bert").auth, timeout=PATIENCE, allow_redirects=False)
    assert other.status_code == 403


def test_a_job_outlives_the_server(hub: Hub, anna: User, tmp_path: Path) -> None:
    go = tmp_path / "go"
    api = anna.client()
    api.deploy_request(request_for("waits", WAITING))
    job = api.submit("waits", {"path": str(go)})
    until(lambda: job.refresh().status == "running", "the job to run")
    hub.stop("anna")
    again = hub.start("anna").client()
    found = again.get("waits", job.id)
    assert (found.status, found.start_time) == ("running", job.start_time)
    go.touch()
    assert found.wait(PATIENCE).status == "succeeded"


def test_the_culler_spares_jobs_in_progress_and_nobody_who_only_looks(hub: Hub, tmp_path: Path) -> None:
    go = tmp_path / "go"
    users = [hub.start(name) for name in ("works", "looks")]
    for user in users:
        api = user.client()
        api.deploy_request(request_for("echo", ECHO))
        api.deploy_request(request_for("waits", WAITING))
        api.submit("echo").wait(SLOW)
    works, looks = users
    works.client().submit("waits", {"path": str(go)})
    kernel = looks.kernel()
    kernel.run(f"%load_ext taskapi_jupyter\npanel = %taskapi panel echo\npanel\n{POLLING}")
    kernel.close()
    with hub.culler(IDLE):
        until(lambda: not hub.runs("looks"), "the server of who only looks to be culled", SLOW)
        assert hub.runs("works")
        go.touch()
        until(lambda: not hub.runs("works"), "the server whose job has ended to be culled", SLOW)
