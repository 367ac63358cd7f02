"""Homes that are full, read-only, damaged, on a network file system or another host's; logs that are very long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support import PATIENCE, WAITING, request_for, until
from support.homes import is_idle, supervisor_of
from support.namespaces import ENGINE, run, script, unshared
from support.servers import LiveServer
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import Damaged, Unavailable
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui.cli import main

FULL = """
folder = Path(sys.argv[1])
mount(folder, "size=2m", "mode=700")
home = folder / "home"
service = Service(home)
service.deploy_request(request_for("waiting", WAITING + "    return 'x' * config.get('size', 9)\\n"))
# Larger than what a job that can't be started for want of room takes away again.
running = service.submit("waiting", {"path": str(folder.parent / "go"), "size": 800_000})
until(lambda: running.refresh().status == "running", "the job to run")
until(running.logs, "the task to begin")
fill(folder / "fill")
more, told = until_refused(service.submit, "waiting", {"path": str(folder.parent / "go")})
assert str(home) in told and "no space" in told and "TASKAPI_HOME" in told, told
fill(folder / "rest")  # what the refused wrote and took away again
assert "no space" in refused(service.deploy_request, request_for("new", "def task(config):\\n    pass\\n"))
assert [api.name for api in service.get()] == ["waiting"]  # what can be read still can
(folder.parent / "go").touch()
until(lambda: not any("harness" in one for one in commands(home)), "the task to end")
assert running.refresh().status in ("running", "succeeded")  # whether the database has room is chance
(folder / "rest").unlink()
(folder / "fill").unlink()
assert running.wait(PATIENCE).status == "succeeded"
assert "could not be stored" in running.reason and "No space" in running.reason, running.reason
for job in more:
    assert job.wait(PATIENCE).status == "succeeded" or "No space" in job.reason, job.reason
left = [path for path in home.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".new-")]
assert not left, left
assert "Traceback" not in (home / "supervisor.log").read_text()
service.deploy_request(request_for("new", "def task(config):\\n    pass\\n"))
assert service.submit("new").wait(PATIENCE).status == "succeeded"
service.close()
clean(home)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    run(unshared("--mount"), FULL, tmp_path / "small")


FULL_UPLOAD = """
from taskapi_jupyter.core.contract import DeployRequest
folder = Path(sys.argv[1])
folder.mkdir()
mount(folder / "home", "size=16m", "mode=700")
server = start_server(folder)
client = Client(server.taskapi, server.token)
version = "{}.{}".format(*sys.version_info)
spec = {"name": "large", "definition": {"python_version": version}}
for size in (64 << 20, 2 << 20):
    request = DeployRequest(spec=spec, pickle=bytes(size), python=sys.executable)
    told = refused(client.deploy_request, request)
    assert "no space" in told and str(server.home) in told, told
    until(lambda: not list((server.home / "apis").iterdir()), "what was uploaded to be removed")
    fill(server.home / "fill")
(server.home / "fill").unlink()
assert client.get() == []
client.deploy_request(request_for("new", "def task(config):\\n    return 1\\n"))
assert client.submit("new").result(PATIENCE) == 1
assert "Traceback" not in (folder / "server.log").read_text()
stop_server(server)
"""


def test_an_upload_to_a_full_disk(tmp_path: Path) -> None:
    run(unshared("--mount"), FULL_UPLOAD, tmp_path / "small")


NO_INODES = """
from taskapi_jupyter.ui import doctor
folder = Path(sys.argv[1])
folder.mkdir()
mount(folder / "home", "size=64m", "nr_inodes=400", "mode=700")
server = start_server(folder)
home = server.home
(home / "config.yaml").write_text("stop_grace: 1\\ncpus: 1\\n")
client, service = Client(server.taskapi, server.token), Service(home)
client.deploy_request(request_for("waiting", WAITING))
running = client.submit("waiting", {"path": str(folder / "go")})
until(lambda: (home / "jobs" / running.id / "log").exists(), "the job to be watched")
in_line = [service.submit("waiting", {"path": str(folder / "go")}, timeout=60) for _ in range(3)]
overdue = service.submit("waiting", {"path": str(folder / "go")}, timeout=6)
take_inodes(home / "taken")
for call in (client.submit, service.submit):
    told = refused(call, "waiting")
    assert "no space" in told and "inode" in told and str(home) in told and "TASKAPI_HOME" in told, told
answer = server.fetch("POST", "tasks/waiting", json={})
assert (answer.status_code, "inode" in answer.json()["message"]) == (507, True), answer.text
for one in (client, service):
    assert "inode" in refused(one.deploy_request, request_for("new", "def task(config):\\n    pass\\n"))
form = {"request": (None, '{"spec": {"name": "new"}}'), "source": (None, "def task(config): pass")}
answer = server.fetch("POST", "deploy", files=form)
assert (answer.status_code, "inode" in answer.json()["message"]) == (507, True), answer.text
config = "- name: x\\n  kind: TaskAPI\\n  definition: {path: x.py}\\n"
answer = server.fetch("POST", "deploy", files={"config": (None, config)})
assert (answer.status_code, "inode" in answer.json()["message"]) == (507, True), answer.text
assert [api.name for api in client.get()] == ["waiting"]  # what can be read still can
if any("inode" in one for one in doctor.problems(home)) is False:
    raise AssertionError(doctor.problems(home))
(folder / "go").touch()
until(lambda: not any("harness" in one for one in commands(home)), "the task to end")
assert running.wait(PATIENCE).status == "succeeded", running.reason  # how it ended takes no inode
assert in_line[0].refresh().reason.startswith("waits for its disk: No inode left on device"), in_line[0].reason
service.stop(in_line[2])
assert overdue.wait(PATIENCE).status == "timed_out"
free_inodes(home / "taken")
for job in in_line[:2]:
    assert job.wait(PATIENCE).status == "succeeded", job.reason
assert in_line[2].refresh().status == "stopped"
assert "Traceback" not in (home / "supervisor.log").read_text() + (folder / "server.log").read_text()
assert client.submit("waiting", {"path": str(folder / "go")}).wait(PATIENCE).status == "succeeded"
service.close()
stop_server(server)
"""


def test_a_disk_without_inodes(tmp_path: Path) -> None:
    run(unshared("--mount"), NO_INODES, tmp_path / "small")


ANY_INODES = (
    ENGINE
    + """
folder = Path(sys.argv[1])
evidence = folder.parent / "evidence"
mount(folder, "size=4m", "nr_inodes=60", "mode=700")
(folder / "jobs").mkdir()
engine = engine_of(folder)
for left in range(9):
    take_inodes(folder / "taken", left)
    engine.start(row(left))
    over_at_once = []
    if left < 6:  # what it takes to begin
        until(lambda: over_at_once.extend(engine.ended()) or not engine.watched or over_at_once, f"{left} settled")
        assert engine.waiting and not over_at_once, (left, over_at_once)
        assert engine.ended() == [] and ran() == left
    if left == 3:
        engine.stop(f"{left:016x}")
        assert over(engine) == (f"{left:016x}", "stopped", None)
        engine.start(row(left))
        until(lambda: engine.ended() or not engine.watched, "it to wait")
    free_inodes(folder / "taken")
    assert over(engine) == (f"{left:016x}", "succeeded", None)
    assert ran() == left + 1
    assert sorted(os.listdir(folder / "jobs" / f"{left:016x}")) == ["claim", "files", "job.json", "log", "outcome.json"]
take_inodes(folder / "taken")
engine.start(row(99, timeout=1, deadline=host.boottime() + 1))
assert over(engine) == (f"{99:016x}", "timed_out", "timed out 1 s after submission")
assert ran() == 9
"""
)


def test_a_job_begins_when_there_are_inodes_enough(tmp_path: Path) -> None:
    run(unshared("--mount"), ANY_INODES, tmp_path / "small")


BECOMES_READ_ONLY = """
folder = Path(sys.argv[1])
folder.mkdir()
home = folder / "home"
home.mkdir(mode=0o700)
(home / "config.yaml").write_text("stop_grace: 1\\ncpus: 1\\n")
service = Service(home)
service.deploy_request(request_for("waiting", WAITING))
running, second, third = (service.submit("waiting", {"path": str(folder / "go")}) for _ in range(3))
until(running.logs, "the task to begin")
jobs = str(home / "jobs")
subprocess.run(["mount", "--bind", jobs, jobs], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", jobs], check=True)
with pytest.raises(Unavailable, match="read-only") as caught:
    service.submit("waiting")
assert jobs in str(caught.value)
assert "Read-only file system" in second.refresh().reason, second.reason
service.stop(third)
(folder / "go").touch()
until(lambda: not any("harness" in one for one in commands(home)), "the task to end")
assert [job.refresh().status for job in (running, second, third)] == ["running", "pending", "stopped"]
subprocess.run(["umount", jobs], check=True)
assert running.wait(PATIENCE).status == "succeeded", running.reason
assert "could not be stored" in running.reason and "Read-only" in running.reason, running.reason
assert second.wait(PATIENCE).status == "succeeded", second.reason
assert "Traceback" not in (home / "supervisor.log").read_text()
service.close()
clean(home)
"""


def test_a_disk_that_becomes_read_only_while_jobs_run(tmp_path: Path) -> None:
    run(unshared("--mount"), BECOMES_READ_ONLY, tmp_path / "small")


READ_ONLY = """
folder = Path(sys.argv[1])
mount(folder, "size=2m", "mode=700")
home = folder / "home"
service = Service(home)
service.deploy_request(request_for("waiting", WAITING))
service.close()
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
for _ in range(2):
    with pytest.raises(Unavailable, match="read-only") as caught:
        Service(home).submit("waiting")
    assert "TASKAPI_HOME" in str(caught.value) and str(home) in str(caught.value)
subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
assert [api.name for api in Service(home).get()] == ["waiting"]
"""


def test_a_home_that_is_read_only(tmp_path: Path) -> None:
    run(unshared("--mount"), READ_ONLY, tmp_path / "small")


# A damaged database


def quiet(supervisor: psutil.Process, home: Path) -> bool:
    """Whether a supervisor sleeps, and has forked the watcher of the next job."""
    ahead = any(is_idle(one, home) for one in supervisor.children())
    return ahead and supervisor.status() == psutil.STATUS_SLEEPING


def test_a_damaged_database_under_a_running_job(service: Service, home: Path, name: str, tmp_path: Path) -> None:
    service.deploy_request(request_for(name, WAITING))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    until(lambda: job.refresh().status == "running", "the job to run")
    with service.store._connection() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    supervisor = supervisor_of(home)
    until(
        lambda: quiet(psutil.Process(supervisor), home), "the supervisor to have nothing to do: it would see it first"
    )
    os.truncate(home / "taskapi.db", 0)
    with pytest.raises(Damaged) as caught:
        service.jobs()
    (aside,) = home.glob("taskapi.db.damaged-*[0-9]")
    assert str(aside) in str(caught.value)
    assert str(home / "jobs") in str(caught.value)
    assert service.jobs() == []
    service.deploy_request(request_for(name, "def task(config):\n    return 1\n"))
    assert service.submit(name).result(PATIENCE) == 1
    assert supervisor_of(home) != supervisor
    assert aside.name in (home / "supervisor.log").read_text()
    (tmp_path / "go").touch()
    outcome = home / "jobs" / job.id / "outcome.json"
    until(outcome.exists, "the job that ran to end")
    assert json.loads(outcome.read_bytes())["status"] == "succeeded"
    assert aside.stat().st_size == 0  # nobody wrote into it


# Another host

ELSEWHERE = """
service = Service(sys.argv[1])
service.deploy_request(request_for("waiting", WAITING))
running = service.submit("waiting", {"path": sys.argv[2]})
until(lambda: running.refresh().status == "running", "the job to run")
until(lambda: (Path(sys.argv[1]) / "jobs" / running.id / "log").exists(), "the job to be watched")
pending = service.submit("waiting", {"path": sys.argv[1]})
print(running.id, pending.id, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_host(home: Path, absent: Path) -> Iterator[list[str]]:
    """Have a job run, and one wait, in a container of another name; yield their ids."""
    command = unshared("--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
    inside = ["sh", "-c", 'hostname elsewhere; exec "$@"', "sh", sys.executable, "-c", script(ELSEWHERE)]
    process = subprocess.Popen(
        [*command, *inside, home, absent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def usable(home: Path) -> bool:
    try:
        Service(home).close()
    except Unavailable:
        return False
    return True


def test_a_home_that_another_host_uses(home: Path, tmp_path: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 1\n")
    before = Service(home)
    with another_host(home, tmp_path / "absent") as (running, pending):
        for use in (lambda: Service(home), lambda: before.submit("waiting"), lambda: before.delete("waiting")):
            with pytest.raises(Unavailable, match="the host elsewhere") as caught:
                use()
            assert str(home) in str(caught.value)
            assert "TASKAPI_HOME" in str(caught.value)
    # It is gone, and so is what ran there.
    until(lambda: usable(home), "the home to be free")
    service = Service(home)
    lost = service.get("waiting", running)
    assert lost.wait(PATIENCE).status == "unexpected_error"
    assert "container" in (lost.reason or "")
    assert service.get("waiting", pending).wait(PATIENCE).status == "succeeded"
    for one in (before, service):
        one.close()


# A network file system

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /home rw,relatime - nfs4 server:/home rw
24 23 0:41 / /home/local rw,relatime - ext4 /dev/sdb1 rw
25 22 0:42 / {spaced} rw,relatime - nfs4 server:/jobs rw
"""

NETWORK = (
    f"MOUNTS = {MOUNTS!r}\n"
    + """
import signal, threading, warnings
from taskapi_jupyter.service.supervisor import supervisor
from taskapi_jupyter.core.host import network_filesystem
folder = Path(sys.argv[1])
(folder / "mounts").write_text(MOUNTS.format(spaced=str(folder).replace(" ", "\\\\040")))
subprocess.run(["mount", "--bind", str(folder / "mounts"), f"/proc/{os.getpid()}/mountinfo"], check=True)
assert network_filesystem(str(folder / "home")) == "nfs4"
assert [network_filesystem(one) for one in ("/home/me", "/home/local/me", "/", "/homes")] == ["nfs4", None, None, None]
home = folder / "home"
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        service = Service(home)
        service.deploy_request(request_for("waiting", WAITING))
        service.jobs()
        service.close()
(warning,) = [one for one in said if one.category is RuntimeWarning]
assert "nfs4" in str(warning.message) and str(home) in str(warning.message)
assert (home / "taskapi.db").read_bytes()[18:20] == b"\\1\\1"  # no write-ahead log
log = os.open(home / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 2)
for _ in range(2):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    supervisor.main(str(home))
assert (home / "supervisor.log").read_text().count("nfs4") == 1
assert (home / "taskapi.db").read_bytes()[18:20] == b"\\1\\1"
"""
)


def test_a_network_file_system(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    run(unshared("--mount"), NETWORK, folder)


# Long logs


def read_bytes(pid: int) -> int:
    """Return how many bytes a process has read so far."""
    text = Path(f"/proc/{pid}/io").read_text()
    return int(text.partition("rchar: ")[2].split()[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts bytes in /proc")
def test_the_end_of_ten_gigabytes(
    live_server: LiveServer, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, "def task(config):\n    print(*range(60), sep='\\n')\n"))
    job = client.submit(name).wait(PATIENCE)
    log = live_server.home / "jobs" / job.id / "log"
    lines = log.read_bytes()
    with log.open("wb") as file:
        file.seek(10 << 30)
        file.write(b"\n" + lines)
    service = Service(live_server.home)
    monkeypatch.setenv("TASKAPI_URL", live_server.taskapi.partition("taskapi/")[0])
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)

    def told(api: TaskAPI) -> str:
        return Job(api, job.record).logs(tail=50)

    pids = (os.getpid(), live_server.process.pid)
    before = sum(map(read_bytes, pids))
    wanted = "".join(f"{number}\n" for number in range(10, 60))
    assert told(service) == wanted
    assert told(client) == wanted
    assert main(["logs", job.id, "-n", "50", "--no-follow"]) == 0
    assert capsys.readouterr().out == wanted
    assert sum(map(read_bytes, pids)) - before < 8 << 20  # modules that are imported, most of it
    service.close()
    client.close()
