"""Jobs on a real Ray: what the cluster, the way there and this machine's own processes may do to them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from support import PATIENCE, TESTS, request_for, until
from support.homes import alive, clean, supervisor_of
from support.ray_head import Head, program
from support.servers import reserved_port, start_server, stop_server
from taskapi_jupyter import connect
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import NotKept, Unreachable
from taskapi_jupyter.ray.service import RayService

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Ray here: make test-ray")

SLOW = 60.0  # seconds that a job on Ray may take on a busy machine


class Way:
    """The way to a cluster, which can be closed and opened again: a relay of bytes."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = reserved_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.open()

    def open(self) -> None:
        """Let through."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self) -> None:
        """Let nobody through, and cut who is underway."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for pair in self.pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self.pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.pairs.append((here, there))
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def way(head: Head) -> Iterator[Way]:
    """Return a way to the cluster."""
    way = Way(head.dashboard)
    yield way
    way.close()


@pytest.fixture
def at(home: Path, head: Head) -> Iterator[Callable[..., RayService]]:
    """Return what makes a service of the cluster, at its own address or another."""
    made: list[RayService] = []

    def at(address: str | None = None, **options: Any) -> RayService:
        options.setdefault("storage", str(home / "left"))
        made.append(RayService(home, environment="cluster", address=address or head.address, **options))
        return made[-1]

    yield at
    for one in made:
        one.close()


def started(service: RayService, body: str, name: str = "task", **spec: Any) -> Job:
    """Return a job that runs, once it has printed ``here``."""
    lines = "\n    ".join(["import os, signal, subprocess, sys, time", *body.strip().splitlines()])
    service.deploy_request(request_for(name, f"def task(config):\n    {lines}\n", **spec))
    job = service.submit(name)
    until(lambda: "here" in job.logs() or job.refresh().ended, "the task's first line", SLOW)
    return job


WAITS = "print('here', os.getpid(), flush=True)\nwhile True: time.sleep(0.01)"
UNTIL = (
    "print('here', os.getpid(), flush=True)\nwhile not os.path.exists({!r}): time.sleep(0.01)\nprint('there')\nreturn 5"
)


def supervisor(home: Path) -> psutil.Process:
    return psutil.Process(supervisor_of(home))


def submission(head: Head, job: Job) -> dict[str, Any]:
    """Return what Ray says of a job."""
    jobs = requests.get(f"{head.address}/api/jobs/", timeout=PATIENCE).json()
    (found,) = [one for one in jobs if job.id in str(one["submission_id"])]
    return dict(found)


def head_jobs(head: Head) -> list[str]:
    """Return the submission ids of all that Ray lists."""
    return [str(one["submission_id"]) for one in requests.get(f"{head.address}/api/jobs/", timeout=PATIENCE).json()]


# The way there


def test_unreachable_at_submission(at: Any, way: Way) -> None:
    service = at(way.address)
    service.deploy_request(request_for("task", "def task(config): return 1\n"))
    way.close()
    with pytest.raises(Unreachable, match=rf"the Ray cluster at {way.address} can't be reached \(Connection refused\)"):
        service.submit("task")
    assert service.jobs() == []


def test_unreachable_later(at: Any, way: Way, home: Path, tmp_path: Path) -> None:
    service = at(way.address)
    job = started(service, UNTIL.format(str(tmp_path / "go")))
    way.close()
    until(lambda: job.refresh().record.stale, "it to be marked")
    assert job.status == "running"
    assert job.reason is not None
    assert job.reason.startswith(f"as last seen: the Ray cluster at {way.address} can't be reached")
    (tmp_path / "go").touch()  # it ends while nobody can see it
    until(lambda: submission_ended(job, home), "it to end")
    assert job.refresh().status == "running"
    way.open()
    job.wait(SLOW)
    assert (job.status, job.reason, job.result()) == ("succeeded", None, 5)
    assert not job.record.stale
    assert job.logs().splitlines()[1:] == ["there"]


def submission_ended(job: Job, home: Path) -> bool:
    return any((home / "left").rglob(f"{job.id}/result.json"))


def test_pending_while_it_is_away_and_stopped(at: Any, way: Way, home: Path) -> None:
    service = at(way.address)
    (home / "config.yaml").write_text("cpus: 1\nstop_grace: 1\n")
    first = started(service, WAITS)
    second = service.submit("task")
    way.close()
    until(lambda: first.refresh().record.stale, "it to be marked")
    assert second.stop() == f"stopped job {second.id}"
    way.open()
    first.stop()
    assert first.status == "stopped"


# What is known afterwards


def test_a_new_supervisor_takes_over(at: Any, home: Path, tmp_path: Path) -> None:
    service = at()
    job = started(service, "print('before', flush=True)\n" + UNTIL.format(str(tmp_path / "go")))
    supervisor(home).kill()
    service.jobs()  # whoever looks sees to it that there is one
    (tmp_path / "go").touch()
    job.wait(SLOW)
    assert (job.status, job.result()) == ("succeeded", 5)
    lines = job.logs().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "there", 3)  # nothing twice


@pytest.mark.parametrize("where", ["ray.claimed", "ray.uploaded", "ray.submitted", "ray.arrived", "supervisor.moved"])
def test_killed_while_it_submits(
    at: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / where).write_text("kill")
    monkeypatch.setenv("TASKAPI_FAULTS", str(folder))
    service = at()
    marks = tmp_path / "marks"
    service.deploy_request(request_for("task", f"def task(config):\n    open({str(marks)!r}, 'a').write('x')\n"))
    job = service.submit("task").wait(SLOW)
    assert (folder / f"{where}.taken").exists()
    assert (job.status, marks.read_text()) == ("succeeded", "x")


def test_a_head_that_was_killed_and_forgot(at: Any, home: Path) -> None:
    head = Head()
    head.start()
    try:
        service = at(head.address)
        job = started(service, WAITS)
        pid = int(job.logs().split()[1])
        head.kill()
        until(lambda: job.refresh().record.stale, "it to be marked")
        until(lambda: not psutil.pid_exists(pid), "the task to be gone with its head")
        head.start()
        job.wait(SLOW)
        assert job.status == "unexpected_error"
        assert job.reason is not None
        assert "knows nothing of it any more: its head was restarted" in job.reason
        again = job.rerun()
        again.stop()
        assert again.status == "stopped"
    finally:
        head.remove()


# Processes on the node


@pytest.mark.parametrize("who", ["what watches", "what guards", "the entry point", "Ray's worker"])
def test_killed_on_the_node(at: Any, head: Head, who: str) -> None:
    service = at()
    job = started(service, "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n" + WAITS)
    task = psutil.Process(int(job.logs().split()[1]))
    below = [task, *task.children(recursive=True)]
    watcher = task.parent()
    assert watcher is not None
    guard = watcher.parent()
    assert guard is not None
    entry = next(one for one in head_processes(job) if one.pid not in (watcher.pid, guard.pid, task.pid))
    worker = entry.parent()
    victim = {"what watches": watcher, "what guards": guard, "the entry point": entry, "Ray's worker": worker}[who]
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    job.wait(SLOW)
    until(lambda: not [one for one in below if alive(one)], "the task and what it started to be gone")
    reasons = {"what watches": "its watcher was killed", "what guards": "Ray says: "}
    assert job.status == "unexpected_error"
    assert job.reason is not None
    assert job.reason.startswith(reasons.get(who, "Ray's own process for it was killed")), job.reason


def head_processes(job: Job) -> list[psutil.Process]:
    """Return the processes of a job's own entry point."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if "taskapi_jupyter.node" in one.cmdline() and Path(one.cwd(), "home", "jobs", job.id).exists():
                found.append(one)
    return found


def test_stopped_in_ray_itself(at: Any, head: Head) -> None:
    service = at()
    job = started(service, WAITS)
    found = submission(head, job)["submission_id"]
    assert requests.post(f"{head.address}/api/jobs/{found}/stop", timeout=PATIENCE).ok
    job.wait(SLOW)
    assert (job.status, job.exit_code) == ("stopped", -signal.SIGTERM)


def test_deleted_in_ray_itself(at: Any, head: Head) -> None:
    service = at()
    service.deploy_request(request_for("task", "def task(config): print('done')\n"))
    job = service.submit("task").wait(SLOW)
    found = submission(head, job)["submission_id"]
    until(lambda: submission(head, job)["status"] == "SUCCEEDED", "Ray to see it")
    assert requests.delete(f"{head.address}/api/jobs/{found}", timeout=PATIENCE).ok
    assert (job.refresh().status, job.logs()) == ("succeeded", "done\n")


def test_what_runs_there_and_nobody_knows_is_stopped(at: Any, head: Head, home: Path) -> None:
    """As a submission that came through after it was given up."""
    service = at()
    job = started(service, WAITS)
    other = submission(head, job)["submission_id"].replace(job.id, "0" * 16)
    body = {"submission_id": other, "entrypoint": "sleep 1000"}
    assert requests.post(f"{head.address}/api/jobs/", json=body, timeout=PATIENCE).ok

    def status() -> str:
        return str(requests.get(f"{head.address}/api/jobs/{other}", timeout=PATIENCE).json()["status"])

    until(lambda: status() == "STOPPED", "it to be stopped", SLOW)
    assert job.refresh().status == "running"


def test_a_long_log_is_whole_when_its_job_has_ended(at: Any) -> None:
    service = at()
    body = "import sys\ndef task(config):\n    for n in range(2_000_000): sys.stdout.write('%09d\\n' % n)\n"
    service.deploy_request(request_for("task", body))
    job = service.submit("task").wait(SLOW)
    assert job.status == "succeeded"
    assert service.log_chunk(job, -10, 10).data == b"001999999\n"
    assert service.log_chunk(job).size == 20_000_000


def test_a_cluster_that_follows_no_more_logs(at: Any, tmp_path: Path) -> None:
    """Others may hold all the places that Ray has for that: a log is then read as a whole, and nothing is lost."""
    head = Head(streams=0)
    head.start()
    try:
        service = at(head.address)
        odd = r"os.write(1, b'50%\r100%\r\nbroken \xff\xfe\n' + '\u2028 caf\xe9\n'.encode())"
        job = started(service, f"{odd}\n" + UNTIL.format(str(tmp_path / "go")))
        assert service.log_chunk(job).data.startswith(b"50%\r100%\r\nbroken \xff\xfe\n\xe2\x80\xa8 caf\xc3\xa9\nhere ")
        (tmp_path / "go").touch()
        job.wait(SLOW)
        assert (job.status, job.reason, job.result()) == ("succeeded", None, 5)
        assert job.logs().endswith("\nthere\n")
        assert service.log_chunk(job).data.count(b"here") == 2  # nothing twice
    finally:
        head.remove()


# What goes along and what comes back


def test_secrets_are_in_no_listing(at: Any, head: Head) -> None:
    service, secret, config = at(), secrets.token_hex(16), secrets.token_hex(16)
    definition = {"path": "task.py", "env": {"SECRET": secret}}
    body = "print('here', os.environ['SECRET'], config['key'], flush=True)\ntime.sleep(1000)"
    lines = "\n    ".join(["import os, time", *body.splitlines()])
    service.deploy_request(request_for("task", f"def task(config):\n    {lines}\n", definition=definition))
    job = service.submit("task", {"key": config})
    until(lambda: job.logs() == f"here {secret} {config}\n", "its output", SLOW)
    assert not [one for one in head_processes(job) if Path(one.cwd(), "job.json").exists()]
    commands = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    for text in (json.dumps(submission(head, job)), *commands):
        assert secret not in text
        assert config not in text
    assert not [one for one in (service.home / "jobs" / job.id).iterdir() if one.stat().st_mode & 0o077]


def test_a_project_and_its_requirements(at: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "helper.py").write_text("WORD = 'from the project'\n")
    (project / "data.txt").write_text("data")
    (project / "main.py").write_text(
        "import helper, toolz\n\ndef task(config):\n    return [helper.WORD, open('data.txt').read(), toolz.__name__]\n"
    )
    (project / "requirements.txt").write_text("# needed\ntoolz\n")
    (project / "cortex.yaml").write_text("- name: project\n  kind: TaskAPI\n  definition: {path: main.py}\n")
    service = at()
    assert service.deploy(project / "cortex.yaml")[0].message.startswith("created project")
    project.rename(tmp_path / "elsewhere")  # as on another machine, which has no such folder
    job = service.submit("project").wait(110)
    assert job.status == "succeeded", (job.reason, job.logs())
    assert job.result() == ["from the project", "data", "toolz"]


def test_a_callable_of_the_caller(at: Any) -> None:
    service = at()

    def add(config: dict[str, int]) -> int:
        return config["a"] + 1

    service.deploy(add, name="add")
    assert service.submit("add", {"a": 1}).result(SLOW) == 2


def test_results_without_a_storage(at: Any) -> None:
    service = at(storage=None)
    service.deploy_request(request_for("task", "def task(config): return 1\n"))
    job = service.submit("task").wait(SLOW)
    assert job.status == "succeeded"
    for ask in (job.kept_result, lambda: service.files(job), lambda: service.read_file(job, "x")):
        with pytest.raises(NotKept, match=r"environment cluster has no storage.*environments.yaml"):
            ask()


def test_results_by_fsspec(at: Any, home: Path, head: Head) -> None:
    pytest.importorskip("fsspec")
    service = at(storage=f"local://{home}/by-fsspec")
    body = "import os\ndef task(config):\n    os.makedirs(os.environ['TASKAPI_OUTPUT_DIR'] + '/sub')\n"
    body += "    open(os.environ['TASKAPI_OUTPUT_DIR'] + '/sub/a.txt', 'w').write('text')\n    return {1, 2}\n"
    service.deploy_request(request_for("task", body))
    job = service.submit("task").wait(SLOW)
    assert (job.status, job.reason) == ("succeeded", None)
    assert job.result() == {1, 2}
    assert [(one.path, one.size) for one in job.files()] == [("sub/a.txt", 4)]
    assert job.read_file("sub/a.txt") == b"text"
    assert service.purge() == "deleted 1 job"
    assert not list((home / "by-fsspec").rglob("*.pkl"))
    until(lambda: service.purge() and not [one for one in head_jobs(head) if job.id in one], "Ray to list it no more")


def test_a_storage_that_can_not_be_written(at: Any) -> None:
    service = at(storage="/proc/nowhere")
    service.deploy_request(request_for("task", "def task(config): return 1\n"))
    job = service.submit("task").wait(SLOW)
    assert job.status == "succeeded"
    assert job.reason is not None
    assert job.reason.startswith("its result and files could not be stored: FileNotFoundError: ")


# As an environment


ENVIRONMENT: dict[str, Any] = {"name": "cluster", "provider": "ray"}


def test_through_a_server(tmp_path: Path, head: Head) -> None:
    server = start_server(tmp_path)
    try:
        environment = {**ENVIRONMENT, "address": head.address, "storage": str(tmp_path / "left")}
        (server.home / "environments.yaml").write_text(yaml.safe_dump({"environments": [environment]}))
        (shown,) = [
            one for one in server.fetch("GET", "../environments").json()["environments"] if one["name"] == "cluster"
        ]
        assert shown["address"] == head.address
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TASKAPI_URL", server.url)
            patch.setenv("TASKAPI_TOKEN", server.token)
            api = connect("cluster")
            source = "from taskapi_jupyter.job import progress\ndef task(config):\n    progress(1, 2)\n    print('hi')\n    return 7\n"
            api.deploy_request(request_for("task", source))  # type: ignore[attr-defined]
            job = api.submit("task", {"a": 1})
            assert list(job.logs(follow=True)) == ["hi"]
            assert job.result() == 7
            assert job.progress is not None
            assert job.progress.total == 2
            assert job.record.config == {"a": 1}
            assert connect().jobs() == []  # this machine's own are others
    finally:
        stop_server(server)


def test_the_notebooks(tmp_path: Path, head: Head) -> None:
    """The quickstart and the training run there, by setting the environment alone."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    environment = {**ENVIRONMENT, "address": head.address, "storage": str(tmp_path / "left")}
    file = {"default_environment": "cluster", "environments": [environment]}
    (home / "environments.yaml").write_text(yaml.safe_dump(file))
    notebooks = TESTS.parent / "notebooks"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JPY_"))}
    nbval = ["--nbval", "--nbval-sanitize-with", notebooks / "sanitize.cfg", "--nbval-cell-timeout", "90"]
    which = [notebooks / "quickstart.ipynb", notebooks / "training.ipynb"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "nbval.plugin",
            "-p",
            "pytest_timeout",
            "-p",
            "no:cacheprovider",
            *nbval,
            *which,
        ],
        env={**environ, "TASKAPI_HOME": str(home), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=notebooks,
        capture_output=True,
        text=True,
        check=False,
    )
    clean(home / "ray" / "cluster")
    assert done.returncode == 0, done.stdout + done.stderr
