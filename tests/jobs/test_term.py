"""How a task is stopped: kindly by the first TERM, for good by the next; what ends a grace period; how a crash looks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from support.homes import clean, stop_supervisor, watcher_of
from support.interpreters import OTHERS
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.display import job_text
from taskapi_jupyter.service.service import Service

GRACE = 600  # seconds: nobody waits for the end of it here
LIMITS = f"stop_grace: {GRACE}\ncpus: 4\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one home for all of these tests, whose jobs get all the time there is to end when stopped."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("patient") / "home"
        path.mkdir()
        patch.setenv("TASKAPI_HOME", str(path))
        (path / "config.yaml").write_text(LIMITS)
        yield path
        for job in Service(path).jobs(status=["pending", "running"], limit=1000):
            with suppress(OSError):  # it has not begun, or just ended
                os.kill(watcher_of(path, job), signal.SIGKILL)  # of a test that failed
        clean(path)


@pytest.fixture
def started(service: Service, name: str) -> Callable[..., Job]:
    """Return what starts a job; its task has printed a line that begins with its process id."""

    def started(source: str, python: str | None = None, **spec: Any) -> Job:
        lines = "import atexit, os, signal, subprocess, sys, threading, time\n" + source
        request = request_for(name, lines, **spec)
        request.python = python or request.python
        service.deploy_request(request)
        job = service.submit(name)
        until(lambda: "\n" in job.logs() or job.refresh().ended, "the task's first line")
        return job

    return started


def pid_of(job: Job) -> int:
    return int(job.logs().split()[0])


def said(job: Job) -> list[str]:
    """Return what it printed after its first line."""
    return job.logs().splitlines()[1:]


def results_of(service: Service, job: Job) -> dict[str, str]:
    """Return the files that hold its result, whatever its state."""
    return {path.name: path.read_text() for path in (service.home / "jobs" / job.id).glob("result.*")}


def end(job: Job, how: str) -> Job:
    """Have a job take a TERM: of a stop, or of somebody else."""
    if how == "stopped":
        assert job.stop() == f"stopped job {job.id}"
    else:
        os.kill(pid_of(job), signal.SIGTERM)
    return job.wait(PATIENCE)


def ended_by_term(job: Job, how: str) -> bool:
    """Say whether its record is that of a job which a TERM ended."""
    expected = ("stopped", None) if how == "stopped" else ("worker_error", "killed by signal 15 (SIGTERM)")
    return (job.status, job.reason, job.record.exit_code) == (*expected, -15)


PLAIN = """
def task(config):
    atexit.register(print, "atexit")
    global file
    file = open(os.environ["TASKAPI_OUTPUT_DIR"] + "/never-closed", "w")
    file.write("kept")
    try:
        print(os.getpid(), flush=True)
        while True: time.sleep(0.01)
    finally:
        print("finally")
"""

WHILE_IMPORTED = """
try:
    print(os.getpid(), flush=True)
    time.sleep(1000)
finally:
    print("finally")
    atexit.register(print, "atexit")
def task(config): pass
"""

COROUTINES = """
import asyncio
def task(config):
    atexit.register(print, "atexit")
    async def one():
        try:
            await asyncio.sleep(1000)
        finally:
            print("finally")
    async def main():
        other = asyncio.ensure_future(one())
        await asyncio.sleep(0)
        print(os.getpid(), flush=True)
        await asyncio.sleep(1000)
    asyncio.run(main())
"""

ASYNC = """
import asyncio
async def task(config):
    atexit.register(print, "atexit")
    try:
        print(os.getpid(), flush=True)
        await asyncio.sleep(1000)
    finally:
        print("finally")
"""

IN_PROCESSES = """
import multiprocessing
context = multiprocessing.get_context("fork")
began = context.Semaphore(0)
def sleep(seconds):
    began.release()
    time.sleep(seconds)
def task(config):
    atexit.register(print, "atexit")
    others = [context.Process(target=sleep, args=[1000], daemon=True) for _ in range(2)]
    for other in others: other.start()
    for other in others: began.acquire()
    try:
        print(os.getpid(), flush=True)
        for other in others: other.join()
    finally:
        print("finally")
"""


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("source", [PLAIN, WHILE_IMPORTED, COROUTINES, ASYNC, IN_PROCESSES])
def test_a_term_lets_the_task_finish(started: Any, service: Service, source: str, how: str) -> None:
    job = end(started(source), how)
    assert ended_by_term(job, how), (job, job.logs())
    assert said(job) == ["finally", "atexit"]
    assert results_of(service, job) == {}
    if source == PLAIN:
        assert service.read_file(job, "never-closed") == b"kept"


def test_a_term_of_the_tasks_own(started: Any) -> None:
    job = started(PLAIN.replace("while True: time.sleep(0.01)", "os.kill(os.getpid(), signal.SIGTERM)"))
    assert ended_by_term(job.wait(PATIENCE), "killed")
    assert said(job) == ["finally", "atexit"]


@pytest.mark.skipif(not OTHERS, reason="no other Python 3.8 or newer is to be found here")
@pytest.mark.parametrize("python", OTHERS or [""], ids=[".".join(Path(one).parts[-3:-2]) for one in OTHERS] or ["none"])
def test_a_term_in_another_interpreter(started: Any, python: str) -> None:
    job = end(started(PLAIN, python), "killed")
    assert ended_by_term(job, "killed"), (job, job.logs())
    assert said(job) == ["finally", "atexit"]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_task_that_returns_all_the_same(started: Any, service: Service, how: str) -> None:
    source = """
def task(config):
    try:
        print(os.getpid(), flush=True)
        time.sleep(1000)
    except SystemExit as error:
        return error.code
"""
    job = end(started(source), how)
    assert (job.status, job.record.exit_code or 0) == ({"stopped": "stopped", "killed": "succeeded"}[how], 0)
    assert results_of(service, job) == {"result.json": "143"}


def test_a_task_that_fails_on_its_way_out(started: Any) -> None:
    source = """
def task(config):
    try:
        print(os.getpid(), flush=True)
        time.sleep(1000)
    finally:
        raise ValueError("no checkpoint")
"""
    job = end(started(source), "stopped")
    assert (job.status, job.reason, job.record.exit_code) == ("stopped", None, 1)
    assert job.logs().endswith("ValueError: no checkpoint\n")


BLOCKED = """
def task(config):
    try:
        print(os.getpid(), flush=True)
        time.sleep(1000)
    finally:
        print("leaving", flush=True)
        time.sleep(1000)
"""


def test_the_next_term_ends_it(started: Any) -> None:
    job = started(BLOCKED)
    os.kill(pid_of(job), signal.SIGTERM)
    until(lambda: said(job) == ["leaving"], "the first to be taken")
    assert ended_by_term(end(job, "killed"), "killed")


@pytest.mark.parametrize(
    ("setting", "status", "left"),
    [
        ("signal.signal(signal.SIGTERM, lambda *_: (print('own'), os._exit(3)))", ("worker_error", 3), ["own"]),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", ("worker_error", -15), []),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", ("succeeded", None), ["going on", "finally"]),
    ],
)
def test_what_the_task_says_of_term_itself(
    started: Any, tmp_path: Path, setting: str, status: tuple[str, int | None], left: list[str]
) -> None:
    source = f"""
def task(config):
    {setting}
    print(os.getpid(), flush=True)
    try:
        while not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
        print("going on")
    finally:
        print("finally")
"""
    job = started(source)
    os.kill(pid_of(job), signal.SIGTERM)
    (tmp_path / "go").touch() if "IGN" in setting else None
    job.wait(PATIENCE)
    assert (job.status, job.record.exit_code or None) == status, job
    assert said(job) == left


FORKS = """
def task(config):
    def forks():
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(told, b"x")
                while True: time.sleep(0.01)
            finally:
                print("a child's finally", flush=True)
        os.read(heard, 1)
        os.kill(child, signal.SIGTERM)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
    print(os.getpid(), flush=True)
    forks()
    import warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
    thread = threading.Thread(target=forks)
    thread.start()
    thread.join()
    code = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_children_end_as_ever(started: Any) -> None:
    job = started(FORKS).wait(PATIENCE)
    assert job.status == "succeeded", job.logs()
    assert said(job) == ["15", "15", "True"]


STORED = """
class Slow:
    def __reduce__(self):
        print(os.getpid(), flush=True)
        time.sleep(1000)
def task(config):
    atexit.register(print, "atexit")
    return Slow()
"""

RETURNED = """
def task(config):
    left = os.environ["TASKAPI_OUTPUT_DIR"] + "/left"
    atexit.register(lambda: (print("atexit"), open(left, "w")))
    def thread():
        while threading.main_thread().is_alive(): time.sleep(0.01)  # until the interpreter waits for this thread
        print(os.getpid(), flush=True)
        while not os.path.exists(left): time.sleep(0.01)
    threading.Thread(target=thread).start()
"""


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_while_its_result_is_stored(started: Any, service: Service, how: str) -> None:
    job = end(started(STORED), how)
    assert ended_by_term(job, how), (job, job.logs())
    assert said(job) == ["atexit"]
    assert results_of(service, job) == {}


def test_a_thread_that_stays(started: Any, service: Service) -> None:
    """It keeps the interpreter from ending, once the task is over and functions of atexit have run; a second stop ends it."""
    job = started(PLAIN.replace("try:", "threading.Thread(target=time.sleep, args=(1000,)).start()\n    try:"))
    stopping = threading.Thread(target=job.stop)
    stopping.start()
    until(lambda: said(job) == ["finally"], "the first stop to be taken")
    assert service.stop(job.id) == f"stopped job {job.id}"
    stopping.join(PATIENCE)
    assert (job.refresh().status, job.record.exit_code) == ("stopped", -9)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_thread_that_outlives_the_task(started: Any, how: str) -> None:
    job = end(started(RETURNED), how)
    assert ended_by_term(job, how), (job, job.logs())
    assert said(job) == ["atexit"]


# A second stop


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest, service: Service) -> Iterator[TaskAPI]:
    """Return a TaskAPI of the same home: of this process, or of a server."""
    if request.param == "service":
        yield service
        return
    server = request.getfixturevalue("patient_server")
    client = Client(server.taskapi, server.token)
    yield client
    client.close()


@pytest.fixture(scope="module")
def patient_server(home: Path) -> Iterator[LiveServer]:
    """Return a server of this file's home."""
    server = start_server(home.parent)
    (home / "config.yaml").write_text(LIMITS)
    yield server
    stop_server(server)


@pytest.mark.parametrize("adopted", [False, True])
def test_a_second_stop_ends_the_grace_period(
    started: Any, service: Service, api: TaskAPI, home: Path, adopted: bool
) -> None:
    job = started(BLOCKED)
    assert service.store.request_stop(job.id)
    service.waker.wake()
    until(lambda: said(job) == ["leaving"], "the first stop to be taken")
    if adopted:
        stop_supervisor(home, signal.SIGKILL)
    assert api.stop(job.id) == f"stopped job {job.id}"
    assert (job.refresh().status, job.reason, job.record.exit_code) == ("stopped", None, -9)


def test_one_stop_does_not(started: Any, service: Service, name: str, tmp_path: Path) -> None:
    """However often the supervisor passes it on."""
    job = started(f"""
def task(config):
    try:
        print(os.getpid(), flush=True)
        time.sleep(1000)
    finally:
        print("leaving", flush=True)
        while not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
        print("left")
""")
    assert service.store.request_stop(job.id)
    service.waker.wake()
    until(lambda: said(job) == ["leaving"], "the stop to be taken")
    service.deploy_request(request_for(f"{name}-next", "def task(config): pass"))
    for _ in range(5):
        assert service.submit(f"{name}-next").wait(PATIENCE).status == "succeeded"
    assert job.refresh().status == "running"
    (tmp_path / "go").touch()
    assert ended_by_term(job.wait(PATIENCE), "stopped")
    assert said(job) == ["leaving", "left"]


# A limit on running time


@pytest.mark.parametrize(("timeout", "reason"), [(None, "run_timeout"), (GRACE, "run_timeout"), (1, "submission")])
def test_run_timeout(api: TaskAPI, name: str, timeout: int | None, reason: str) -> None:
    api.deploy_request(request_for(name, f"import atexit, os, time\n{PLAIN}", run_timeout=GRACE))
    job = api.submit(name, timeout=timeout, run_timeout=1 if reason == "run_timeout" else GRACE).wait(PATIENCE)
    told = {"run_timeout": "ran longer than its run_timeout of 1 s", "submission": "timed out 1 s after submission"}
    assert (job.status, job.reason, job.record.exit_code) == ("timed_out", told[reason], -15)
    assert said(job) == ["finally", "atexit"]


def test_run_timeout_does_not_count_the_wait(service: Service, name: str, home: Path, tmp_path: Path) -> None:
    """It counts from the start: a job that waited longer than it has it all."""
    waits = (
        f"import os, time\ndef task(config):\n    while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    )
    service.deploy_request(request_for(f"{name}-all", waits, compute={"cpu": 4}))
    first = service.submit(f"{name}-all")
    service.deploy_request(request_for(name, "def task(config): pass", run_timeout=1))
    job = service.submit(name)
    assert job.record.run_timeout == 1
    time.sleep(1.2)
    assert job.refresh().status == "pending"
    (tmp_path / "go").touch()
    assert (first.wait(PATIENCE).status, job.wait(PATIENCE).status) == ("succeeded", "succeeded")


def test_run_timeout_is_kept(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, "def task(config): pass"))
    assert not api.submit(name).wait(PATIENCE).record.run_timeout
    job = api.submit(name, run_timeout=50).wait(PATIENCE)
    assert job.record.run_timeout == 50
    assert "50 s" in job_text(job.record)
    assert api.rerun(job).refresh().record.run_timeout == 50
    api.deploy_request(request_for(name, "def task(config): pass", run_timeout=60))
    assert api.get(name).spec["run_timeout"] == 60  # type: ignore[index]
    assert api.submit(name).refresh().record.run_timeout == 60
    assert api.rerun(job).refresh().record.run_timeout == 50


# Crashes

CRASH = """
def task(config):
    print(os.getpid(), flush=True)
    {before}
    {crash}
"""


@pytest.mark.parametrize("before", ["pass", "sys.stderr.close()", "os.close(2); open(os.devnull)"])
@pytest.mark.parametrize(
    ("crash", "number", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", signal.SIGSEGV, "Segmentation fault"),
        ("os.abort()", signal.SIGABRT, "Aborted"),
    ],
)
def test_a_crash_leaves_its_traceback(started: Any, before: str, crash: str, number: int, words: str) -> None:
    job = started(CRASH.format(before=before, crash=crash)).wait(PATIENCE)
    assert job.status == "worker_error"
    assert job.reason == f"killed by signal {int(number)} ({signal.Signals(number).name})"
    lines = said(job)
    assert lines[0] == f"Fatal Python error: {words}"
    (where,) = [index for index, line in enumerate(lines) if " in task" in line]
    ours = [line for line in lines[where + 1 :] if line.startswith("  File ")]
    assert len(ours) <= 2, lines  # the harness and the line that started it
    assert sys.executable not in job.logs()
