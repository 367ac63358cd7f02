"""The supervisor: it comes when it is needed and leaves when it is not, and whatever is killed, a job ends once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import IMPORTS, PATIENCE, WAITING, request_for, until
from support.homes import has_ended, processes, stop_supervisor
from taskapi_jupyter import __version__
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.core.process import descendants, start_time
from taskapi_jupyter.runner import warm
from taskapi_jupyter.service.records import status_of
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor import fifo, lock, wake
from taskapi_jupyter.service.supervisor.wake import Waker

NOTHING = "def task(config):\n    pass\n"

#: Says that it began, in a file of its own, waits until told to go on, and says that it ended.
COUNTING = """
import os, pathlib, time

def task(config):
    folder = pathlib.Path(config["folder"])
    with (folder / "begun").open("a") as file:
        file.write(os.environ["TASKAPI_JOB_ID"] + "\\n")
    while not (folder / "go").exists():
        time.sleep(0.01)
    with (folder / "done").open("a") as file:
        file.write(os.environ["TASKAPI_JOB_ID"] + "\\n")
"""


def holder(home: Path) -> int:
    """Return the number of the living supervisor's process; 0 where there is none."""
    pid = int(lock.holder(home).get("pid", 0))
    if not pid:
        return 0
    with (home / "supervisor.lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return pid
    return 0


def another(home: Path, than: int) -> int:
    """Return the number of the supervisor that came after one; it holds the lock before it says who it is."""
    return int(until(lambda: (pid := holder(home)) != than and pid, "another supervisor"))


def kill_supervisor(home: Path) -> int:
    pid = until(lambda: holder(home), "a supervisor")
    os.kill(pid, signal.SIGKILL)
    until(lambda: holder(home) != pid, "the supervisor to be dead")
    return int(pid)


def claim(home: Path, job: Job) -> dict[str, Any]:
    return dict(json.loads((home / "jobs" / job.id / "claim").read_bytes()))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def counting(service: Service, name: str, tmp_path: Path) -> Callable[[], Job]:
    """Return what submits a job that counts itself in ``tmp_path``."""
    service.deploy_request(request_for(name, COUNTING, compute={"cpu": "10m"}))
    return lambda: service.submit(name, {"folder": str(tmp_path)})


def begun(folder: Path, count: int) -> list[str]:
    until(lambda: len(lines(folder / "begun")) >= count, f"{count} jobs to begin")
    return lines(folder / "begun")


@contextmanager
def small_limits(number: int, soft: int) -> Iterator[None]:
    import resource

    before = resource.getrlimit(number)
    resource.setrlimit(number, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(number, before)


# Coming and going


@pytest.mark.cold
def test_it_leaves_when_idle_and_leaves_no_process(service: Service, name: str, home: Path) -> None:
    assert processes(home) == []  # none is started for nothing
    service.deploy_request(request_for(name, NOTHING))
    assert service.get(name).task_job_statuses == []
    assert processes(home) == []
    service.submit(name).wait(PATIENCE)
    (supervisor,) = processes(home)
    assert supervisor.pid == holder(home)
    assert os.getsid(supervisor.pid) == supervisor.pid
    assert supervisor.cwd() == "/"
    until(lambda: not processes(home, idle=True), "the supervisor to leave")
    assert holder(home) == 0
    assert service.jobs()[0].status == "succeeded"
    assert processes(home, idle=True) == []  # reading starts none where nothing is in progress
    assert service.submit(name).wait(PATIENCE).status == "succeeded"
    assert (home / "supervisor.log").read_text() == ""


def test_two_that_start_at_once(home: Path, service: Service, name: str) -> None:
    service.deploy_request(request_for(name, WAITING))
    started = [wake.start(str(home)) for _ in range(4)]
    until(lambda: sum(one.poll() is None for one in started) == 1, "all but one to leave")
    assert {one.poll() for one in started} == {None, 0}
    (alive,) = [one for one in started if one.poll() is None]
    assert holder(home) == alive.pid
    stop_supervisor(home)
    assert alive.wait(PATIENCE) == 0


def test_a_newcomer_waits_for_one_that_is_leaving(home: Path, service: Service, name: str) -> None:
    service.deploy_request(request_for(name, NOTHING))
    with (home / "supervisor.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # it has closed its FIFO, and not left yet
        job = service.submit(name)
        until(lambda: processes(home), "the newcomer")
        assert (service.store.job(job.id) or {})["status"] == "pending"
    assert job.wait(PATIENCE).status == "succeeded"


def test_wishes_that_come_while_one_after_the_other_leaves(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(name, NOTHING))
    for _ in range(10):
        first = service.submit(name)
        pid = until(lambda: holder(home), "a supervisor")
        until(service.waker.alive, "its FIFO")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        second = service.submit(name)
        # Nobody reads through the service, which would start one: what was woken must have been awake.
        for job in (first, second):
            until(lambda job=job: (service.store.job(job.id) or {})["status"] == "succeeded", "it to succeed", 20)


def test_waking_one_that_closes_its_fifo_at_this_moment(home: Path) -> None:
    home.mkdir(exist_ok=True)
    os.mkfifo(home / "wake", 0o600)
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            os.close(os.open(home / "wake", os.O_RDWR | os.O_NONBLOCK))

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        answers = {fifo.poke(str(home)) for _ in range(30_000)}
    finally:
        done.set()
        thread.join()
    assert answers == {True, False}


def test_a_plain_file_in_the_place_of_the_fifo(service: Service, name: str, home: Path) -> None:
    (home / "wake").write_bytes(b"as a copy of a home may have")
    service.deploy_request(request_for(name, NOTHING))
    assert service.submit(name).wait(PATIENCE).status == "succeeded"
    assert stat.S_ISFIFO((home / "wake").stat().st_mode)


def test_a_home_that_is_given_by_a_relative_path(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor runs in another folder: taken literally there, the path would lead to no home, and no job run."""
    monkeypatch.chdir(home.parent.parent)
    service = Service(home.relative_to(home.parent.parent))
    service.deploy_request(request_for(name, NOTHING))
    assert service.submit(name).wait(PATIENCE).status == "succeeded"
    service.close()


def as_if_older(home: Path, version: str) -> None:
    """Have the living supervisor's lock say that an older package started it."""
    path = home / "supervisor.lock"
    about = json.loads(path.read_bytes())
    assert about["version"] == __version__
    path.write_text(json.dumps({**about, "version": version}))


def test_an_older_one_is_replaced_while_jobs_run(home: Path, counting: Any, tmp_path: Path) -> None:
    job = counting()
    begun(tmp_path, 1)
    old = holder(home)
    as_if_older(home, "0.0.1")
    service = Service(home)
    service.close()
    until(lambda: lock.holder(home).get("version") == __version__, "it")
    assert holder(home) == old  # the process stays
    assert job.refresh().status == "running"
    (tmp_path / "go").touch()
    assert job.wait(PATIENCE).status == "succeeded"
    assert lines(tmp_path / "begun") == lines(tmp_path / "done") == [job.id]
    assert holder(home) == old


@pytest.mark.parametrize("version", [__version__, "999.0", "no version"])
def test_one_that_is_not_older_stays(home: Path, counting: Any, tmp_path: Path, version: str) -> None:
    counting()
    begun(tmp_path, 1)
    pid = holder(home)
    as_if_older(home, version) if version != __version__ else None
    Waker(str(home)).replace_older()
    assert holder(home) == pid
    assert fifo.poke(str(home))
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# Whatever is killed


def test_jobs_outlive_it_and_the_next_one_adopts_them(
    service: Service, counting: Any, home: Path, tmp_path: Path
) -> None:
    jobs = [counting() for _ in range(5)]
    begun(tmp_path, 5)
    first = kill_supervisor(home)
    assert sorted(lines(tmp_path / "begun")) == sorted(job.id for job in jobs)
    assert {job.refresh().status for job in jobs} == {"running"}  # and this reader has started another
    second = another(home, first)
    assert second != first
    kill_supervisor(home)
    (tmp_path / "go").touch()  # they end while nobody watches over them
    until(lambda: len(lines(tmp_path / "done")) == 5, "the jobs to end")
    for job in jobs:
        assert job.wait(PATIENCE).status == "succeeded"
    assert sorted(lines(tmp_path / "begun")) == sorted(lines(tmp_path / "done")) == sorted(job.id for job in jobs)


def test_a_watcher_that_ends_without_a_supervisor_starts_one(
    service: Service, counting: Any, home: Path, tmp_path: Path
) -> None:
    job = counting()
    begun(tmp_path, 1)
    kill_supervisor(home)
    (tmp_path / "go").touch()
    until(lambda: (service.store.job(job.id) or {})["status"] == "succeeded", "it to be recorded without a reader")


def test_an_adopted_job_is_stopped(service: Service, counting: Any, home: Path, tmp_path: Path) -> None:
    job = counting()
    begun(tmp_path, 1)
    kill_supervisor(home)
    assert job.stop() == f"stopped job {job.id}"
    assert (job.status, job.exit_code) == ("stopped", -signal.SIGTERM)


def test_an_adopted_watcher_is_killed(service: Service, counting: Any, home: Path, tmp_path: Path) -> None:
    job = counting()
    begun(tmp_path, 1)
    first = kill_supervisor(home)
    until(lambda: job.refresh() and holder(home) not in (0, first) and service.waker.alive(), "another supervisor")
    os.kill(claim(home, job)["pid"], signal.SIGKILL)
    job.wait(PATIENCE)
    assert (job.status, job.reason) == ("unexpected_error", "its watcher was killed")
    until(lambda: not [one for one in processes(home) if one.pid != holder(home)], "its task to be gone")


def test_supervisor_and_watcher_are_killed_together(
    service: Service, counting: Any, home: Path, tmp_path: Path
) -> None:
    job = counting()
    begun(tmp_path, 1)
    watcher = claim(home, job)["pid"]
    kill_supervisor(home)
    os.kill(watcher, signal.SIGKILL)
    job.wait(PATIENCE)
    assert (job.status, job.reason) == ("unexpected_error", "its watcher was killed")
    assert lines(tmp_path / "done") == []


def written(service: Service, name: str, boot: str, **columns: Any) -> Job:
    """Write a job that a supervisor has marked running, and has not forked a watcher for; nobody is woken."""
    version = service.store.api(name)
    if version is None:
        service.deploy_request(request_for(name, NOTHING))
        version = service.store.api(name)
    assert version is not None
    row = {
        "api_name": name,
        "api_id": version["api_id"],
        "spec_id": version["spec_id"],
        "created": host.now_us(),
        "timeout": None,
        "boot": boot,
        "deadline": None,
        "cpu": 1000,
        "mem": None,
        "gpu": 0,
        "status": "running",
        "started": host.now_us(),
        "started_boot": boot,
        "id": f"{(1 << 63) - 1 - time.time_ns():016x}",
        "change": service.store.counter() + 1,
        **columns,
    }
    with service.store.write() as transaction:
        transaction.execute("UPDATE counter SET n = n + 1")
        transaction.execute(
            f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
        )
    return Job(service, status_of(service.store.job(row["id"]) or {}, service.home / "jobs"))


def queued(service: Service, name: str, count: int, **columns: Any) -> list[Job]:
    """Write pending jobs; nobody is woken."""
    pending = {"status": "pending", "started": None, "started_boot": None, **columns}
    return [written(service, name, host.boot_id(), **pending) for _ in range(count)]


def test_what_was_marked_running_and_not_claimed_is_started(service: Service, name: str) -> None:
    assert written(service, name, host.boot_id()).wait(PATIENCE).status == "succeeded"


def test_what_ran_when_the_machine_restarted(service: Service, name: str, home: Path) -> None:
    job = written(service, name, "an-earlier-boot").wait(PATIENCE)
    assert (job.status, job.reason) == ("unexpected_error", "the machine was restarted while it ran")
    assert not (home / "jobs" / job.id).exists()  # nothing was started


def test_what_had_ended_when_the_machine_restarted(service: Service, name: str, home: Path) -> None:
    job_id = "00000000000000aa"
    folder = home / "jobs" / job_id
    folder.mkdir(parents=True)
    outcome = {"status": "worker_error", "reason": "as it says", "exit_code": 3, "ended": 1_700_000_000_000_000}
    (folder / "outcome.json").write_text(json.dumps({**outcome, "progress": '{"done": 1}'}))
    job = written(service, name, "an-earlier-boot", id=job_id).wait(PATIENCE)
    assert (job.status, job.reason, job.exit_code) == ("worker_error", "as it says", 3)
    assert job.progress is not None
    assert job.progress.done == 1


@pytest.mark.parametrize("text", ["", "{", '{"status": "pending", "ended": 1}', '{"status": "succeeded"}', "[]"])
def test_an_outcome_that_can_not_be_believed(service: Service, name: str, home: Path, text: str) -> None:
    folder = home / "jobs" / "00000000000000aa"
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text(text)
    job = written(service, name, "an-earlier-boot", id=folder.name).wait(PATIENCE)
    assert job.status == "unexpected_error"


def test_a_timeout_of_an_earlier_boot(service: Service, name: str) -> None:
    created = host.now_us() - 10_000_000
    job = written(service, name, "an-earlier-boot", status="pending", started=None, started_boot=None, timeout=5,
                  deadline=1e9, created=created).wait(PATIENCE)  # fmt: skip
    assert (job.status, job.reason) == ("timed_out", "timed out 5 s after submission")


LEAVES_BEHIND = """
import os, sys, time

def task(config):
    if os.fork() == 0:
        os.setsid()  # sheds its session
        if os.fork():
            os._exit(0)
        while True: time.sleep(0.01)
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"], {})  # sheds the job's id
    print("ready", flush=True)
    while True: time.sleep(0.01)
"""


def test_what_a_killed_watcher_leaves_is_swept(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(name, LEAVES_BEHIND))
    job = service.submit(name)
    watcher = until(lambda: job.logs() == "ready\n" and claim(home, job)["pid"], "the task to be ready")
    left = until(lambda: len(found := descendants(watcher)) == 3 and found, "its processes")
    os.kill(watcher, signal.SIGKILL)
    assert job.wait(PATIENCE).status == "unexpected_error"
    assert [pid for pid in left if not has_ended(pid)] == []


def test_a_claim_decides_who_runs_a_job(service: Service, counting: Any, home: Path, tmp_path: Path) -> None:
    """Two supervisors fork for one job, as when the first is killed before its watcher has claimed it."""
    code = """
import os, sys
sys.path.append(sys.argv[1])
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.runner.watcher import watch
home, job_id = sys.argv[2:]
job = Store(os.path.join(home, "taskapi.db")).whole_job(job_id)
print(watch(home, job, {"gpus": 0, "stop_grace": 1, "log_max_bytes": 0}, lambda: None))
"""
    job = counting()
    begun(tmp_path, 1)
    command = [sys.executable, "-c", code, str(Path(PACKAGE).parent), str(home), job.id]
    # start_new_session would make it a leader, that can't begin the session that a watcher begins.
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [other.communicate(timeout=PATIENCE)[0] for other in others] == ["0\n", "0\n"]
    (tmp_path / "go").touch()
    assert job.wait(PATIENCE).status == "succeeded"
    assert lines(tmp_path / "begun") == lines(tmp_path / "done") == [job.id]


NO_FORK = """
import os, resource, sys
from taskapi_jupyter.runner.engine import LocalEngine
home = sys.argv[1]
if os.getuid() == 0:
    os.setuid(65534)  # root may fork however many there are
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
engine = LocalEngine(home, dict, lambda: None)
engine.start({"id": "0" * 16, "launch": "{}"})
assert engine.interval() == 1
print(engine.ended(), engine.waiting, engine.watched)
engine.stop("0" * 16)
assert engine.interval() == 0
print(engine.ended(), engine.waiting)
"""


def test_no_process_is_to_be_had(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", NO_FORK, str(tmp_path)], capture_output=True, text=True, timeout=30)
    if "can't begin yet" not in told.stderr and "Traceback" not in told.stderr:
        pytest.skip(f"processes are not limited here: {told.stderr}")
    assert "can't begin yet: Resource temporarily unavailable" in told.stderr
    first, second = told.stdout.splitlines()
    assert first == f"[] {{'{'0' * 16}': {{'id': '{'0' * 16}', 'launch': '{{}}'}}}} {{}}"  # it waits for one
    assert "'stopped'" in second
    assert second.endswith(" {}")


# Many jobs


@pytest.mark.cold
def test_two_hundred_jobs_leave_nothing(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(name, NOTHING))
    jobs = [service.submit(name) for _ in range(200)]
    for job in jobs:
        assert job.wait(60).status == "succeeded"
    (supervisor,) = processes(home)
    until(lambda: len(supervisor.children()) <= 2, "no more than two that are idle")
    watchers = supervisor.children()
    assert {one.name() for one in watchers} <= {"taskapi-watcher"}
    assert all(one.status() != psutil.STATUS_ZOMBIE for one in watchers)
    with sqlite3.connect(home / "taskapi.db", timeout=0, isolation_level=None) as store:
        store.execute("BEGIN IMMEDIATE")
        store.execute("ROLLBACK")
    zombies = [one for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []
    started = [job.start_time for job in jobs]
    assert started == sorted(started)  # in the order of their submission
    for folder in (home / "jobs").iterdir():
        until(lambda folder=folder: sorted(os.listdir(folder)) == ["log", "result.json"], "only what is read to stay")


@pytest.mark.skipif(not host.LINUX, reason="counts descriptors in /proc")
def test_descriptors_do_not_become_more(service: Service, counting: Any, home: Path, tmp_path: Path) -> None:
    first = counting()
    begun(tmp_path, 1)
    killed = kill_supervisor(home)
    first.refresh()
    pid = another(home, killed)
    until(service.waker.alive, "its FIFO")
    (tmp_path / "go").touch()
    first.wait(PATIENCE)
    for _ in range(3):
        counting().wait(PATIENCE)

    def opened() -> list[str]:
        with suppress(FileNotFoundError):  # it is removing what is left of the last job
            found = sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split("[")[0] for fd in os.listdir(f"/proc/{pid}/fd"))
            return [] if any("/jobs/" in one for one in found) else found
        return []

    before = until(opened, "what it has open")
    for _ in range(10):
        counting().wait(PATIENCE)
    most = len(before) + warm.MOST_IDLE  # one for each idle watcher, of which there may be more than before
    until(lambda: 0 < len(opened()) <= most, "no more to be open than before")
    assert not [one for one in before if "pidfd" in one]


# Admission


@pytest.fixture
def gated(service: Service, name: str, home: Path, tmp_path: Path) -> Callable[..., Job]:
    """Return what submits a job that waits for a file of its own; ``compute`` is what it asks for."""
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 2\nmem: 1Gi\ngpus: 2\n")
    number = iter(range(1000))

    def submit(**compute: Any) -> Job:
        api = f"{name}-{next(number)}x"
        service.deploy_request(request_for(api, WAITING, compute=compute))
        return service.submit(api, {"path": str(tmp_path / api)})

    return submit


def states(*jobs: Job) -> list[str]:
    return [job.refresh().status for job in jobs]


def go_on(job: Job) -> None:
    assert job.config is not None
    Path(job.config["path"]).touch()
    assert job.wait(PATIENCE).status == "succeeded"


def test_as_many_run_as_cores_have_room_for(gated: Any) -> None:
    first, second, third, fourth = gated(cpu=1), gated(cpu="500m"), gated(cpu=1), gated(cpu="100m")
    until(lambda: states(first, second) == ["running"] * 2, "the first two to run")
    assert states(third, fourth) == ["pending"] * 2  # the fourth would fit, and waits for its turn
    go_on(first)
    until(lambda: states(third, fourth) == ["running"] * 2, "the others to run")
    for job in (second, third, fourth):
        go_on(job)


def test_what_a_pending_job_waits_for(gated: Any, service: Service) -> None:
    running = gated(cpu=1, mem="600Mi", gpu=1)
    until(lambda: states(running) == ["running"], "the first to run")
    first = gated(cpu=2, mem="512Mi", gpu=2)
    second, third, fourth = gated(cpu="1500m"), gated(cpu=1), gated(cpu=1, mem="100Mi")
    said = {job.id: job.reason for job in service.jobs(status="pending")}
    for job, reason in (
        (first, "waits for 2 of 2 cores and 0.5 of 1 GiB of memory and 2 of 2 GPUs, 1st in line"),
        (second, "waits for 1.5 of 2 cores, 2nd in line"),
        (third, "3rd in line"),
        (fourth, "4th in line"),
    ):
        assert said[job.id] == job.refresh().reason == service.get(job.api_name, job.id).reason == reason
        assert service.get(job.api_name).task_job_statuses[0].reason == reason
    assert running.refresh().reason is None
    service.stop(first)
    assert second.refresh().reason == "waits for 1.5 of 2 cores, 1st in line"
    for job in (running, second, third, fourth):
        go_on(job)
        assert job.reason is None


def test_how_far_back_in_line(service: Service, name: str, home: Path) -> None:
    """Of the first thousand it is said where they are; a list costs as many queries as one job."""
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 2\n")
    service.deploy_request(request_for(name, WAITING, compute={"cpu": 2}))
    job = service.submit(name, {"path": str(home / "go")})
    until(lambda: states(job) == ["running"], "the first to run")
    jobs = queued(service, name, 1002, cpu=1000)
    places = {11: "11th", 12: "12th", 13: "13th", 21: "21st", 22: "22nd", 101: "101st", 111: "111th", 1000: "1000th"}
    for place, told in places.items():
        assert jobs[place - 1].refresh().reason == f"waits for 1 of 2 cores, {told} in line"
    assert jobs[1000].refresh().reason == "waits for 1 of 2 cores, behind the first 1,000 in line"
    assert {one.reason for one in service.jobs(status="pending", limit=2)} == {jobs[1001].refresh().reason}
    service.delete(name)


def test_as_many_run_as_memory_has_room_for(gated: Any) -> None:
    first, second, third = gated(cpu="1m", mem="600Mi"), gated(cpu="1m"), gated(cpu="1m", mem="500Mi")
    until(lambda: states(first, second) == ["running"] * 2, "the first two to run")
    assert states(third) == ["pending"]
    go_on(second)
    assert states(third) == ["pending"]
    go_on(first)
    until(lambda: states(third) == ["running"], "the third to run")
    go_on(third)


VISIBLE = """
import os, pathlib, time

def task(config):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]
"""


def test_gpus_are_handed_out_whole(service: Service, name: str, home: Path, tmp_path: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ngpus: 2\ncpus: 2\n")
    for count in range(3):
        service.deploy_request(request_for(f"{name}-{count}g", VISIBLE, compute={"cpu": "1m", "gpu": count}))

    def submit(count: int, path: str) -> Job:
        return service.submit(f"{name}-{count}g", {"path": str(tmp_path / path)})

    ones = [submit(1, "a"), submit(1, "b")]
    both = submit(2, "c")
    until(lambda: sorted(job.logs() for job in ones) == ["0\n", "1\n"], "the two to have one each")
    assert states(both) == ["pending"]
    (tmp_path / "b").touch()
    ones[1].wait(PATIENCE)
    assert states(both) == ["pending"]
    (tmp_path / "a").touch()
    until(lambda: both.logs() == "0,1\n", "the third to have both")
    none = submit(0, "c")
    until(lambda: none.logs() == "\n", "the fourth to see none")
    (tmp_path / "c").touch()
    assert {ones[0].result(PATIENCE), ones[1].result(PATIENCE)} == {"0", "1"}
    assert (both.result(PATIENCE), none.result(PATIENCE)) == ("0,1", "")


@pytest.mark.parametrize(
    ("compute", "sentence"),
    [
        ({"cpu": 3}, "asks for 3 cores, and this machine has 2 for jobs"),
        ({"mem": "2Gi"}, "asks for 2 GiB of memory, and this machine has 1 GiB for jobs"),
        ({"gpu": 3}, "asks for 3 GPUs, and this machine has 2 for jobs"),
    ],
)
def test_what_can_never_fit_is_refused(gated: Any, compute: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        gated(**compute)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith("it could never start")


def test_what_was_taken_away_since_the_deploy(gated: Any, service: Service, home: Path) -> None:
    first = gated(cpu=1)
    until(lambda: states(first) == ["running"], "it to run")
    greedy, with_gpus, small = gated(cpu=2, mem="1Gi"), gated(cpu=1, gpu=2), gated(cpu=1)
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 1\nmem: 500Mi\ngpus: 1\n")
    service._config.read()
    go_on(first)
    until(lambda: states(greedy) == ["running"], "what is too large to run alone")
    assert states(small) == ["pending"]
    go_on(greedy)
    with_gpus.wait(PATIENCE)
    assert (with_gpus.status, with_gpus.reason) == ("unexpected_error", "asks for 2 GPUs, this machine has 1")
    until(lambda: states(small) == ["running"], "the next one to run")
    go_on(small)


def test_more_small_jobs_than_are_admitted_at_once(service: Service, counting: Any, name: str, tmp_path: Path) -> None:
    """All that fit begin, without one of them having to end first."""
    jobs = queued(service, name, 80, cpu=10, config=json.dumps({"folder": str(tmp_path)}))
    service.waker.wake()
    begun(tmp_path, 80)
    (tmp_path / "go").touch()
    assert {job.wait(PATIENCE).status for job in jobs} == {"succeeded"}


def test_many_that_are_stopped_do_not_hold_up_those_behind(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(f"{name}-a", NOTHING))
    service.deploy_request(request_for(f"{name}-b", WAITING, compute={"cpu": "1m"}))
    waiting = service.submit(f"{name}-b", {"path": str(home / "go")})
    until(lambda: waiting.logs() == "waiting\n", "one to run")
    kill_supervisor(home)
    stopped = queued(service, f"{name}-a", 80, stop=1)
    behind = service.submit(f"{name}-b", {"path": str(home / "go")})
    until(lambda: behind.logs() == "waiting\n", "the one behind them to run", 20)
    (home / "go").touch()
    assert {job.wait(PATIENCE).status for job in stopped} == {"stopped"}
    assert behind.wait(PATIENCE).status == waiting.wait(PATIENCE).status == "succeeded"


# What a task sees

SEES = """
import os, stat, sys

def task(config):
    import json
    return {
        "env": dict(os.environ),
        "stdin": sys.stdin.read(),
        "cwd": os.getcwd(),
        "python": sys.executable,
        "fds": sorted(int(fd) for fd in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{fd}")),
        "session": os.getsid(0),
        "watcher": os.getppid(),
        "group": os.getpgid(0) == os.getpid(),
        "spec": json.load(open(os.environ["TASKAPI_JOB_SPEC"])),
        "claim": json.load(open(os.path.dirname(os.environ["TASKAPI_JOB_SPEC"]) + "/claim")),
        "tty": os.path.exists("/dev/tty") and os.open("/dev/tty", os.O_RDWR) if False else None,
    }
"""


def test_what_a_task_sees(
    service: Service, name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "JPY_PARENT_PID": "1",
        "JUPYTER_TOKEN": "secret",
        "JUPYTERHUB_API_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HF_TOKEN": "secret",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TASKAPI_TOKEN": "secret",
        "TASKAPI_URL": "",
        "RANDOM_NAME": "x",
    }
    for key, value in {**secrets, "OMP_NUM_THREADS": "3", "LC_ALL": "C.UTF-8", "CUDA_HOME": "/cuda"}.items():
        monkeypatch.setenv(key, value)
    request = request_for(name, SEES, compute={"cpu": 1}, definition={"path": "task.py", "env": {"OWN": "é", "N": 5}})
    request.cwd = str(tmp_path)
    service.deploy_request(request)
    job = service.submit(name, {"a": 1}, 100)
    seen = job.result(PATIENCE)
    env = seen["env"]
    folder = home / "jobs" / job.id
    assert {key: value for key, value in env.items() if key.startswith("TASKAPI_")} == {
        "TASKAPI_HOME": str(home),
        "TASKAPI_JOB_SPEC": str(folder / "job.json"),
        "TASKAPI_JOB_ID": job.id,
        "TASKAPI_API_NAME": name,
        "TASKAPI_OUTPUT_DIR": str(folder / "files"),
    }
    assert not set(secrets) & set(env)
    assert "secret" not in env.values()
    assert (env["OWN"], env["N"], env["OMP_NUM_THREADS"], env["CUDA_HOME"]) == ("é", "5", "3", "/cuda")
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
    assert seen["stdin"] == ""
    assert seen["cwd"] == str(tmp_path)
    assert seen["python"] == sys.executable
    assert seen["fds"] == [0, 1, 2, 3, 4]  # the last: its report, and where the traceback of a crash goes
    assert seen["session"] == seen["watcher"] == seen["claim"]["pid"]
    assert seen["group"]
    assert seen["spec"] == {
        "job_id": job.id,
        "api_name": name,
        "kind": "TaskAPI",
        "workers": 1,
        "api_id": job.record.api_id,
        "spec_id": job.record.spec_id,
        "timeout": 100,
        "config": {"a": 1},
    }
    until(lambda: start_time(seen["watcher"]) is None, "the watcher's session to be gone")


SAYS = """
from cortex_internal.lib.log import logger as cortex_logger
from taskapi_jupyter.job import progress

progress(3, 4, "nearly")
cortex_logger.info("done", extra={"accuracy": 0.9})
"""


def test_progress_and_logging_for_functions_and_commands(service: Service, name: str, tmp_path: Path) -> None:
    indented = SAYS.replace("\n", "\n    ")
    service.deploy_request(request_for(f"{name}-f", f"def task(config):{indented}\n"))
    (tmp_path / "script.py").write_text(SAYS)
    container = {"command": ["python", "script.py"]}
    spec = {"name": f"{name}-c", "kind": "TaskAPI", "pod": {"containers": [container]}}
    service.deploy_request(DeployRequest(spec=spec, python=sys.executable, cwd=str(tmp_path)))
    for api in (f"{name}-f", f"{name}-c"):
        job = service.submit(api).wait(PATIENCE)
        assert (job.status, job.reason) == ("succeeded", None), job.logs()
        assert job.progress is not None
        assert (job.progress.done, job.progress.total, job.progress.message) == (3, 4, "nearly")
        logged = json.loads(job.logs())
        assert (logged["message"], logged["accuracy"]) == ("done", 0.9)


WORKERS = """
import multiprocessing

class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    return Point(2 * point.x)

def task(config):
    with multiprocessing.get_context(config["method"]).Pool(2) as pool:
        return [(type(one) is Point, one.x) for one in pool.map(double, [Point(1), Point(2)])]
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_of_a_task_find_what_its_cell_defines(service: Service, name: str, method: str) -> None:
    service.deploy_request(request_for(name, WORKERS))
    assert service.submit(name, {"method": method}).result(PATIENCE) == [(True, 2), (True, 4)]


def test_a_task_that_submits_a_job(service: Service, name: str, home: Path) -> None:
    service.deploy_request(request_for(f"{name}-b", "def task(config):\n    return config['n'] + 1\n"))
    outer = f"""
from taskapi_jupyter import connect

def task(config):
    api = connect()
    return [type(api).__name__, api.submit("{name}-b", {{"n": 41}}).result(30)]
"""
    service.deploy_request(request_for(f"{name}-a", outer))
    assert service.submit(f"{name}-a").result(PATIENCE) == ["Service", 42]


def test_a_job_that_a_task_submits_outlives_the_task(service: Service, name: str, home: Path, tmp_path: Path) -> None:
    service.deploy_request(request_for(f"{name}-b", WAITING))
    outer = f"""
from taskapi_jupyter import connect

def task(config):
    return connect().submit("{name}-b", config).id
"""
    service.deploy_request(request_for(f"{name}-a", outer))
    inner = service.submit(f"{name}-a", {"path": str(tmp_path / "go")}).result(PATIENCE)
    job = service.get(f"{name}-b", inner)
    until(lambda: job.logs() == "waiting\n", "it to run")
    go_on(job)


def test_a_service_of_another_home_in_a_task(service: Service, name: str, tmp_path: Path) -> None:
    inner = f"""
import sys
from taskapi_jupyter.service.service import Service
{IMPORTS}
def task(config):
    from support import request_for
    from support.homes import clean
    service = Service(config["home"])
    service.deploy_request(request_for("inner", "def task(config): return 42"))
    try:
        return service.submit("inner").result(30)
    finally:
        service.close()
        clean(service.home)
"""
    service.deploy_request(request_for(name, inner))
    assert service.submit(name, {"home": str(tmp_path / "other")}).result(PATIENCE) == 42


def test_a_redeploy_leaves_running_jobs_as_they_were(service: Service, name: str, tmp_path: Path) -> None:
    def source(number: int) -> str:
        # Its file is read once more after the redeploy, as processes of multiprocessing do, and must be the first version's.
        return WAITING + f"    import runpy\n    return runpy.run_path(__file__)['N']\n\nN = {number}\n"

    service.deploy_request(request_for(name, source(1)))
    job = service.submit(name, {"path": str(tmp_path / "go")})
    until(lambda: job.logs() == "waiting\n", "it to run")
    service.deploy_request(request_for(name, source(2)))
    later = service.submit(name, {"path": str(tmp_path / "go")})
    (tmp_path / "go").touch()
    assert (job.result(PATIENCE), later.result(PATIENCE)) == (1, 2)
    assert job.record.api_id != later.record.api_id
    assert service.get_version(name, job.record.api_id).api_id == job.record.api_id


# What is left of a job


def on_disk(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in [folder, *folder.rglob("*")])


def test_a_job_whose_end_is_recorded_takes_little_room(service: Service, name: str, home: Path) -> None:
    source = (
        "from taskapi_jupyter.job import progress\n\ndef task(config):\n    print(1)\n    progress(1)\n    return 1\n"
    )
    service.deploy_request(request_for(name, source))
    job = service.submit(name, {"a": 1})
    assert job.result(PATIENCE) == 1
    folder = home / "jobs" / job.id
    until(lambda: sorted(os.listdir(folder)) == ["log", "result.json"], "only what is read to stay")
    assert on_disk(folder) <= 12 << 10
    job.refresh()
    assert (job.logs(), job.result(), service.files(job), job.config) == ("1\n", 1, [], {"a": 1})
    assert job.progress is not None
    assert job.progress.done == 1


def test_files_that_a_task_left_stay(service: Service, name: str, home: Path) -> None:
    source = "import os\n\ndef task(config):\n    open(os.environ['TASKAPI_OUTPUT_DIR'] + '/a', 'w').write('b')\n"
    service.deploy_request(request_for(name, source))
    job = service.submit(name).wait(PATIENCE)
    until(lambda: "claim" not in os.listdir(home / "jobs" / job.id), "the rest to be removed")
    assert [one.path for one in service.files(job)] == ["a"]


def test_what_a_task_put_in_the_place_of_its_folder_is_left_alone(service: Service, name: str, tmp_path: Path) -> None:
    source = (
        "import os\n\ndef task(config):\n    own = os.path.dirname(os.environ['TASKAPI_JOB_SPEC'])\n"
        "    os.rename(own, config['folder'] + '/moved')\n    os.symlink(config['folder'], own)\n"
    )
    service.deploy_request(request_for(name, source))
    for kept in ("job.json", "claim", "log", "report"):
        (tmp_path / kept).write_text("mine")
    service.submit(name, {"folder": str(tmp_path)}).wait(PATIENCE)
    service.deploy_request(request_for(f"{name}-next", NOTHING))
    assert service.submit(f"{name}-next").wait(PATIENCE).status == "succeeded"  # a step later
    assert {(tmp_path / kept).read_text() for kept in ("job.json", "claim", "log")} == {"mine"}


LATE = """
import sys
from taskapi_jupyter.runner.watcher import watch
from taskapi_jupyter.service.store.store import Store
job = Store(sys.argv[1] + "/taskapi.db").whole_job(sys.argv[2])
sys.exit(watch(sys.argv[1], job, {"gpus": None, "stop_grace": 1.0, "log_max_bytes": 1 << 20}, lambda: None))
"""


def test_a_watcher_that_comes_late_does_not_run_a_job_again(service: Service, counting: Any, tmp_path: Path) -> None:
    """Its job was started by another watcher, has ended, and its claim was removed or emptied."""
    (tmp_path / "go").touch()
    job = counting().wait(PATIENCE)
    folder = service.home / "jobs" / job.id
    until(lambda: "claim" not in os.listdir(folder), "the claim to be removed")
    for claimed in (False, True):
        (folder / "claim").unlink(missing_ok=True)
        if claimed:
            (folder / "claim").touch()
        command = [sys.executable, "-c", LATE, str(service.home), job.id]
        subprocess.run(command, check=True, timeout=PATIENCE)
        assert begun(tmp_path, 1) == [job.id]


def test_an_adopted_job_keeps_an_empty_claim(service: Service, counting: Any, home: Path, tmp_path: Path) -> None:
    """A watcher of an older package, forked by an earlier supervisor, knows the claim alone."""
    job = counting()
    begun(tmp_path, 1)
    killed = kill_supervisor(home)
    service.jobs()  # which starts another
    another(home, killed)
    (tmp_path / "go").touch()
    assert job.wait(PATIENCE).status == "succeeded"
    folder = home / "jobs" / job.id
    until(lambda: "claim" in os.listdir(folder) and not (folder / "claim").stat().st_size, "the claim to be emptied")
    until(lambda: "files" not in os.listdir(folder), "the rest to be removed, of which this is the last")
    assert on_disk(folder) <= 12 << 10
