"""A home's bell: each commit wakes whoever waits, in any process; where it can't be heard, waits look now and then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import taskapi_jupyter
from support import IMPORTS, PATIENCE, request_for, until
from support.servers import LiveServer
from taskapi_jupyter.client import bell
from taskapi_jupyter.client.bell import Listener
from taskapi_jupyter.core.contract import JobResponse
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the bell is heard by inotify")

WAITING = (
    "import os, time\ndef task(config):\n    while not os.path.exists(config['path']): time.sleep(0.01)\n    return 1\n"
)
WRITES = "import sys\nfrom taskapi_jupyter.service.store.store import Store\nStore(sys.argv[1]).set_settings({'keep_jobs': 7})"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the store of a fresh home."""
    (home := tmp_path / "home").mkdir(0o700)
    store = Store(home / "taskapi.db")
    yield store
    store.close()


@pytest.fixture
def home(store: Store) -> Path:
    """Return its home."""
    return Path(store.path).parent


def change(store: Store) -> None:
    """Commit something."""
    store.set_settings({"keep_jobs": time.time_ns()})


def bells() -> int:
    """Count the threads that listen."""
    return sum(thread.name == "taskapi-bell" for thread in threading.enumerate())


def inotify_instances() -> int:
    """Count those of this process."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify"
        except FileNotFoundError:  # that of the listing itself
            pass
    return count


def test_a_commit_of_another_process_is_heard(store: Store, home: Path) -> None:
    heard = threading.Event()
    with Listener(home, heard.set) as listener:
        assert listener.works
        subprocess.run(
            [sys.executable, "-c", WRITES, store.path], env={**os.environ, "PYTHONPATH": IMPORTS}, check=True
        )
        assert heard.wait(PATIENCE)
    assert (home / "bell").stat().st_mode & 0o777 == 0o600


def test_all_listeners_of_a_process_share_a_thread_which_ends_with_the_last(store: Store, home: Path) -> None:
    until(lambda: not bells(), "threads of earlier tests to end")
    instances = inotify_instances()
    heard = [threading.Event() for _ in range(300)]
    listeners = [Listener(home, one.set) for one in heard]
    assert (bells(), inotify_instances()) == (1, instances + 1)
    change(store)
    assert all(one.wait(PATIENCE) for one in heard)
    for one in listeners[1:]:
        one.close()
        one.close()
    heard[0].clear()
    change(store)
    assert heard[0].wait(PATIENCE)
    listeners[0].close()
    with Listener(home, heard[1].set):  # soon after: the same thread goes on
        assert (bells(), inotify_instances()) == (1, instances + 1)
    until(lambda: (bells(), inotify_instances()) == (0, instances), "the thread to end")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_bell_that_goes_is_heard_again(store: Store, home: Path, how: str) -> None:
    heard = threading.Event()
    with Listener(home, heard.set):
        if how == "removed":
            (home / "bell").unlink()
        else:
            (home / "other").touch(0o600)
            (home / "other").rename(home / "bell")
        assert heard.wait(PATIENCE)
        for _ in range(3):
            heard.clear()
            change(store)
            assert heard.wait(PATIENCE)


def test_a_forked_child_listens_for_itself(store: Store, home: Path) -> None:
    heard = threading.Event()
    with Listener(home, heard.set) as listener:
        pid = os.fork()
        if pid == 0:
            try:
                listener.close()  # its parent's
                mine = threading.Event()
                with Listener(home, mine.set):
                    subprocess.run(
                        [sys.executable, "-c", WRITES, store.path],
                        env={**os.environ, "PYTHONPATH": IMPORTS},
                        check=True,
                    )
                    os._exit(0 if mine.wait(PATIENCE) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert heard.wait(PATIENCE)
        heard.clear()
        change(store)
        assert heard.wait(PATIENCE)


class Counting(Service):
    """Counts how often it is asked for a job."""

    looks = 0

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        self.looks += 1
        return super().job_response(job_id, api)


def test_a_wait_looks_seldom_and_is_woken(tmp_path: Path) -> None:
    service = Counting(tmp_path / "home")
    service.deploy_request(request_for("waits", WAITING))
    job = service.submit("waits", {"path": str(tmp_path / "go")})
    threading.Timer(2, (tmp_path / "go").touch).start()
    began = time.monotonic()
    job.wait(PATIENCE)
    moves = service.store.counter()
    assert job.result() == 1
    assert service.looks <= (time.monotonic() - began) / bell.LOOK_AGAIN + moves + 3
    service.close()


def a_link(path: Path) -> None:
    (path.parent.parent / "elsewhere").touch()
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, a_link], ids=["folder", "FIFO", "link"])
def test_what_is_in_its_place_keeps_no_wait_from_ending(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    (tmp_path / "home").mkdir(0o700)
    make(tmp_path / "home" / "bell")
    service = Service(tmp_path / "home")
    service.deploy_request(request_for("quick", "def task(config): return 1"))
    assert service.submit("quick").wait(PATIENCE).result() == 1
    if make is a_link:
        assert (tmp_path / "elsewhere").read_bytes() == b""
    service.close()


def test_behind_a_server_of_this_machine_the_same_bell_is_heard(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TASKAPI_URL", raising=False)
    monkeypatch.setenv("TASKAPI_HOME", str(live_server.home))
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", live_server.url)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", live_server.token)
    api = taskapi_jupyter.connect()
    assert (type(api).__name__, api.bell) == ("Client", live_server.home)
    api.deploy_request(request_for("rings", WAITING))
    job = api.submit("rings", {"path": str(tmp_path / "go")})
    threading.Timer(1, (tmp_path / "go").touch).start()
    assert job.wait(PATIENCE).result() == 1
    monkeypatch.setenv("TASKAPI_HOME", str(tmp_path / "another"))
    assert taskapi_jupyter.connect().bell is None


def test_a_jobs_files_are_watched_before_and_after_its_folder_is_made(home: Path) -> None:
    job, log, progress = "0123456789abcdef", threading.Event(), threading.Event()
    (home / "jobs").mkdir()
    with Listener(home, log.set, job, "log", written=True), Listener(home, progress.set, job, "progress"):
        folder = home / "jobs" / job
        folder.mkdir()
        for _ in range(3):
            with (folder / "log").open("a") as file:
                log.clear()
                file.write("line\n")
            assert log.wait(PATIENCE)
        (folder / "progress.json.new").write_text("{}")
        progress.clear()
        log.clear()
        (folder / "progress.json.new").rename(folder / "progress.json")
        assert progress.wait(PATIENCE)
        assert not log.is_set()
        shutil.rmtree(folder)
    until(lambda: (bells(), inotify_instances()) == (0, 0), "the thread to end")


def test_a_folder_in_whose_place_a_link_is_is_not_watched(home: Path, tmp_path: Path) -> None:
    (home / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home / "jobs" / "0123456789abcdef").symlink_to(tmp_path / "elsewhere")
    heard = threading.Event()
    with Listener(home, heard.set, "0123456789abcdef", "log", written=True) as listener:
        assert not listener.works
        (tmp_path / "elsewhere" / "log").touch()
        assert not heard.is_set()


@pytest.mark.parametrize("end", ["stop", "delete"])
def test_a_stop_returns_when_the_job_has_ended(service: Service, tmp_path: Path, end: str) -> None:
    service.deploy_request(request_for("stops", WAITING))
    job = service.submit("stops", {"path": str(tmp_path / "go")})
    until(lambda: job.refresh().status == "running", "the job to run")
    assert (job.stop() if end == "stop" else service.delete("stops")).split()[0] in ("stopped", "deleted")
    assert job.refresh().status == "stopped"
