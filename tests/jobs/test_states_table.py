"""Every row of the table of states, and tasks that behave badly: how each ends, and that nothing is left of it."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import ENGINE, PATIENCE, request_for, until
from support.homes import clean, processes, watcher_of
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import APINotDeployed, JobFailed, JobNotInProgress
from taskapi_jupyter.core.process import start_time
from taskapi_jupyter.service.service import Service

ON_LINUX = pytest.mark.skipif(not host.LINUX, reason="needs Linux's subreaper")


CONFIG = "stop_grace: 0.3\nlog_max_bytes: 64Ki\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one home for all of these tests; its jobs get little time to end when stopped, and room for little."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("states")
        patch.setenv("TASKAPI_HOME", str(path))
        yield path
        clean(path)


@pytest.fixture
def run(service: Service, name: str) -> Callable[..., Job]:
    """Return what runs a task's body to its end; ``config`` is the parameter of the function that it stands in."""

    def run(body: str, config: dict[str, Any] | None = None, timeout: int | None = None, **spec: Any) -> Job:
        lines = "\n    ".join(["import os, signal, subprocess, sys, time", *body.strip().splitlines()])
        service.deploy_request(request_for(name, f"def task(config):\n    {lines}\n", **spec))
        job = service.submit(name, config, timeout)
        job.wait(PATIENCE)
        return job

    return run


@pytest.fixture
def command(service: Service, name: str) -> Callable[..., Job]:
    """Return what runs a command to its end."""

    def command(*words: str, **compute: Any) -> Job:
        container = {"command": list(words), "compute": compute}
        spec = {"name": name, "kind": "TaskAPI", "pod": {"containers": [container]}}
        service.deploy_request(DeployRequest(spec=spec, python=sys.executable))
        return service.submit(name).wait(PATIENCE)

    return command


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """See that no process of a job is left when the job has ended; stop those that run on."""
    (home / "config.yaml").write_text(CONFIG)
    yield
    service = Service(home)
    ended = {job.id for job in service.jobs(limit=1000) if job.ended}
    left = []
    for one in processes(home):
        with suppress(psutil.NoSuchProcess):  # one that runs on may end by itself
            if one.environ().get("TASKAPI_JOB_ID") in ended:
                left.append(one)
    for job in service.jobs(status=["pending", "running"]):
        with suppress(JobNotInProgress):
            job.stop()
    service.close()
    assert left == []


def ending(job: Job) -> tuple[str, str | None, int | None]:
    return job.status, job.reason, job.exit_code


# Succeeded


def test_it_returned(run: Any) -> None:
    job = run("return 5")
    assert ending(job) == ("succeeded", None, 0)
    assert job.result() == 5


def test_its_command_exited_with_0(command: Any) -> None:
    job = command("sh", "-c", "echo from $0")
    assert ending(job) == ("succeeded", None, 0)
    assert job.logs() == "from sh\n"
    assert job.result() is None


@pytest.mark.parametrize("left", ["sys.exit()", "sys.exit(0)", "raise SystemExit"])
def test_it_left_by_sys_exit_with_0(run: Any, left: str) -> None:
    job = run(left)
    assert ending(job) == ("succeeded", None, 0)
    assert job.result() is None


# Worker errors


def test_it_raised(run: Any) -> None:
    job = run("def inner():\n    raise KeyError('no such key')\nprint('before')\ninner()")
    assert ending(job) == ("worker_error", "KeyError: 'no such key'", 1)
    first, trace, *lines = job.logs().splitlines()
    assert (first, trace) == ("before", "Traceback (most recent call last):")
    assert [line.split(", ")[1:] for line in lines if line.startswith(f"  cell {job.api_name}")] == [
        ["line 6", "in task"],
        ["line 4", "in inner"],
    ]
    assert "inner()" in job.logs()  # with the lines of the source
    assert lines[-1] == "KeyError: 'no such key'"
    assert "harness" not in job.logs()


def test_its_module_raised(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, "def task(config):\n    pass\n\n1 / 0\n"))
    job = service.submit(name).wait(PATIENCE)
    assert ending(job) == ("worker_error", "ZeroDivisionError: division by zero", 1)
    assert job.logs().count(f"  cell {name}, line 4, in <module>") == job.logs().count(", line ") == 1
    assert "harness" not in job.logs()


def test_its_class_raised(service: Service, name: str) -> None:
    text = (
        "class Task:\n    def __init__(self):\n        raise OSError(2, 'gone')\n    def __call__(self, config): pass\n"
    )
    service.deploy_request(request_for(name, text))
    job = service.submit(name).wait(PATIENCE)
    assert ending(job) == ("worker_error", "FileNotFoundError: [Errno 2] gone", 1)
    assert job.logs().count(f"  cell {name}, line 3, in __init__") == job.logs().count(", line ") == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("raise ValueError", "ValueError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd", "task.<locals>.Odd"),
        (
            "try:\n    1 / 0\nexcept ArithmeticError as error:\n    raise OSError('second') from error",
            "OSError: second",
        ),
        ("compile('a b', 'x', 'exec')", "SyntaxError: invalid syntax"),
        ("raise ValueError('\\udcff')", "ValueError: ?"),
    ],
)
def test_reasons(run: Any, body: str, reason: str) -> None:
    job = run(body)
    assert job.status == "worker_error"
    assert job.reason is not None
    assert job.reason.replace("\\udcff", "?").startswith(reason)


def test_its_command_exited_with_another_code(command: Any) -> None:
    assert ending(command("sh", "-c", "exit 3")) == ("worker_error", "exit code 3", 3)


def test_its_command_raised(command: Any) -> None:
    job = command(sys.executable, "-c", "print('so far'); {}['key']")
    assert ending(job) == ("worker_error", "KeyError: 'key'", 1)


def test_a_signal_that_nobody_here_sent(run: Any, command: Any) -> None:
    assert ending(run("os.kill(os.getpid(), signal.SIGSEGV)")) == (
        "worker_error",
        "killed by signal 11 (SIGSEGV)",
        -11,
    )
    assert ending(command("sh", "-c", "kill -TERM $$$$")) == ("worker_error", "killed by signal 15 (SIGTERM)", -15)


# Out of memory


def test_it_ended_in_memory_error(run: Any, command: Any) -> None:
    job = run("raise MemoryError('no room')")
    assert ending(job) == ("worker_oom", "MemoryError: no room", 1)
    assert job.logs().endswith("MemoryError: no room\n")
    job = run("class Mine(MemoryError): pass\nraise Mine('as in numpy')")
    assert job.status == "worker_oom"
    assert ending(command(sys.executable, "-c", "raise MemoryError('no room')")) == (
        "worker_oom",
        "MemoryError: no room",
        1,
    )
    assert command(sys.executable, "-c", "raise ValueError('MemoryError')").status == "worker_error"


GREEDY = """
held = []
while True:
    held.append(bytearray(os.urandom(4096) * 256))
    time.sleep(0.001)
    if len(held) > 2000: break
"""


@pytest.mark.parametrize("where", ["itself", "in children"])
def test_it_passed_compute_mem(run: Any, where: str) -> None:
    body = GREEDY
    if where == "in children":
        body = "os.fork()\nos.fork()\n" + body
    job = run(body, compute={"mem": "80Mi"})
    assert job.status == "worker_oom"
    assert re.fullmatch(r"out of memory: used [\d.]+ MiB, limit 80 MiB", job.reason or "")
    with pytest.raises(JobFailed, match=r": out of memory, used [\d.]+ MiB, limit 80 MiB; its log"):
        job.check()
    assert job.exit_code == -signal.SIGKILL


# Timed out

WAITS = "print('here', flush=True)\nwhile True: time.sleep(0.01)"


def test_timeout_while_it_runs(run: Any) -> None:
    timeout = 1 if ENGINE == "local" else 12  # a cluster takes its time to begin
    job = run(WAITS, timeout=timeout)
    assert ending(job) == ("timed_out", f"timed out {timeout} s after submission", -signal.SIGTERM)
    assert job.logs() == "here\n"
    assert job.end_time - job.created_time >= job.end_time.resolution * timeout * 10**6


def test_a_timeout_of_the_api(run: Any, service: Service) -> None:
    job = run(WAITS, timeout=1)
    assert job.status == "timed_out"
    assert job.record.timeout is None or job.record.timeout == 1


def test_timeout_while_it_is_pending(service: Service, name: str, home: Path) -> None:
    (home / "config.yaml").write_text(CONFIG + "cpus: 1\n")
    service.deploy_request(request_for(name, f"import time\ndef task(config):\n    {WAITS.splitlines()[1]}\n"))
    first = service.submit(name)
    second = service.submit(name, timeout=1)
    third = service.submit(name)
    assert ending(second.wait(PATIENCE)) == ("timed_out", "timed out 1 s after submission", None)
    assert second.start_time is None
    assert second.logs() == ""
    assert (first.refresh().status, third.refresh().status) == ("running", "pending")


# Stopped


def running(service: Service, name: str, body: str = WAITS, first: str = "here\n") -> Job:
    """Return a job that runs, once it has printed its first line."""
    lines = "\n    ".join(["import os, signal, subprocess, sys, time", *body.strip().splitlines()])
    service.deploy_request(request_for(name, f"def task(config):\n    {lines}\n"))
    job = service.submit(name)
    until(lambda: job.logs().startswith(first) or job.refresh().ended, "the task's first line")
    return job


def test_stopped_while_it_runs(service: Service, name: str) -> None:
    job = running(service, name)
    assert job.stop() == f"stopped job {job.id}"
    assert ending(job) == ("stopped", None, -signal.SIGTERM)
    with pytest.raises(JobNotInProgress):
        job.stop()


def test_stopped_at_once(service: Service, name: str, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1000\n")  # nothing here may need a KILL
    service.deploy_request(request_for(name, f"import time\ndef task(config):\n    {WAITS.splitlines()[1]}\n"))
    for _ in range(15):
        job = service.submit(name)
        job.stop()
        assert job.status == "stopped"


def test_stopped_while_it_is_pending(service: Service, name: str, home: Path) -> None:
    (home / "config.yaml").write_text(CONFIG + "cpus: 1\n")
    job = running(service, name)
    pending = service.submit(name)
    pending.stop()
    assert ending(pending) == ("stopped", None, None)
    assert pending.start_time is None
    assert job.refresh().status == "running"


def test_its_api_was_deleted(service: Service, name: str, home: Path) -> None:
    (home / "config.yaml").write_text(CONFIG + "cpus: 1\n")
    job = running(service, name)
    pending = service.submit(name)
    service.delete(name)
    assert (job.refresh().status, pending.refresh().status) == ("stopped", "stopped")
    with pytest.raises(APINotDeployed):
        service.submit(name)


def test_a_task_that_cleans_up_when_it_is_stopped(service: Service, name: str) -> None:
    body = """
def leave(*_):
    print("cleaning", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, leave)
print("here", flush=True)
while True: time.sleep(0.01)
"""
    job = running(service, name, body)
    job.stop()
    assert ending(job) == ("stopped", None, 7)
    assert job.logs().startswith("here\ncleaning\n")


def test_a_task_that_ignores_term(service: Service, name: str) -> None:
    body = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
print("here", flush=True)
while True: time.sleep(0.01)
"""
    job = running(service, name, body)
    job.stop()
    assert ending(job) == ("stopped", None, -signal.SIGKILL)


# Vanished, or not to be started


@pytest.mark.local
def test_its_watcher_was_killed(service: Service, name: str, home: Path) -> None:
    job = running(service, name)
    os.kill(watcher_of(home, job), signal.SIGKILL)
    job.wait(PATIENCE)
    assert ending(job) == ("unexpected_error", "its watcher was killed", None)


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """Return an interpreter that may go away."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.local
def test_its_interpreter_is_missing(service: Service, name: str, interpreter: Path) -> None:
    request = request_for(name, "def task(config):\n    return 1\n")
    request.python = str(interpreter)
    service.deploy_request(request)
    assert service.submit(name).result(PATIENCE) == 1
    interpreter.unlink()
    job = service.submit(name).wait(PATIENCE)
    assert job.status == "unexpected_error"
    assert job.reason == f"could not be started: {interpreter}: No such file or directory"


@pytest.mark.local
@pytest.mark.parametrize("in_its_place", ["nothing", "file"])
def test_its_folder_is_missing(service: Service, name: str, home: Path, tmp_path: Path, in_its_place: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    request = request_for(name, "import os\n\ndef task(config):\n    print('there')\n    return os.getcwd()\n")
    request.cwd = str(folder)
    service.deploy_request(request)
    folder.rmdir()
    if in_its_place == "file":
        folder.touch()
    job = service.submit(name)
    files = home / "jobs" / job.id / "files"
    assert job.result(PATIENCE) == str(files)
    assert job.logs() == f"taskapi: the folder {folder} is gone; this task runs in {files}\nthere\n"


@pytest.mark.local
def test_its_folder_is_missing_for_a_command(service: Service, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    spec = {"name": name, "kind": "TaskAPI", "pod": {"containers": [{"command": ["sh", "-c", "echo x > left.txt"]}]}}
    service.deploy_request(DeployRequest(spec=spec, cwd=str(folder)))
    folder.rmdir()
    job = service.submit(name).wait(PATIENCE)
    assert job.status == "succeeded", job.reason
    assert [file.path for file in job.files()] == ["left.txt"]
    assert "is gone; this task runs in" in job.logs()


@pytest.mark.local
@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_its_folder_is_closed_to_it(service: Service, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    request = request_for(name, "def task(config):\n    return 1\n")
    request.cwd = str(folder)
    service.deploy_request(request)
    folder.chmod(0)
    try:
        job = service.submit(name).wait(PATIENCE)
    finally:
        folder.chmod(0o700)
    assert job.status == "unexpected_error"
    assert job.reason == f"could not be started: {folder}: Permission denied"


def test_its_program_is_missing(command: Any) -> None:
    job = command("no-such-program", "--now")
    assert job.status == "unexpected_error"
    assert job.reason == "could not be started: no-such-program: No such file or directory"


@pytest.mark.local
def test_its_arguments_can_not_be_passed_on(service: Service, command: Any) -> None:
    job = command("true", "x" * (1 << 18))
    assert job.status == "unexpected_error"
    assert job.reason == "could not be started: true: Argument list too long"


# Tasks that behave badly


@pytest.mark.parametrize(
    ("left", "reason", "code"),
    [
        ("os._exit(0)", "its process left with exit code 0 before the task returned", 0),
        ("os._exit(3)", "exit code 3", 3),
        ("sys.exit(3)", "SystemExit: 3", 3),
        ("sys.exit('text')", "SystemExit: text", 1),
        ("os.abort()", "killed by signal 6 (SIGABRT)", -6),
        ("os.killpg(0, signal.SIGKILL)", "killed by signal 9 (SIGKILL)", -9),
    ],
)
def test_it_left_otherwise_than_by_returning(run: Any, left: str, reason: str, code: int) -> None:
    job = run(f"subprocess.Popen(['sleep', '1000'])\nprint('before')\n{left}")
    assert ending(job) == ("worker_error", reason, code)
    assert job.logs().startswith("before\n")
    assert job.logs().endswith("text\n") == ("text" in left)


@pytest.mark.parametrize(
    "closes", ["os.close(1)", "sys.stdout.close()", "os.close(1); os.close(2)", "os.closerange(0, 3)"]
)
def test_it_closes_its_own_stdout(run: Any, closes: str) -> None:
    job = run(f"print('before')\n{closes}\nreturn 1")
    assert (job.status, job.logs()) == ("succeeded", "before\n")
    assert job.result() == 1
    assert run(f"{closes}\nraise KeyError('x')").reason == "KeyError: 'x'"


def test_it_prints_much_more_than_is_kept(run: Any, home: Path) -> None:
    job = run("for n in range(200_000): sys.stdout.write('%09d\\n' % n)", compute={"cpu": 1})
    assert job.status == "succeeded"
    folder = home / "jobs" / job.id
    assert sum(path.stat().st_size for path in folder.glob("log*")) <= 65536
    lines = job.logs().splitlines()
    assert (lines[0], lines[-1]) == ("000000000", "000199999")
    match = re.search(r"\[\.\.\. (\d+) bytes of output were dropped here \.\.\.\]\n", job.logs())
    assert match is not None
    assert int(match[1]) == 2_000_000 - (len(job.logs()) - len(match[0]))
    assert job.logs(tail=2).splitlines() == ["000199998", "000199999"]


def test_it_prints_invalid_utf_8(run: Any, service: Service) -> None:
    job = run("os.write(1, b'a\\xff\\xfe\\0b\\n')")
    assert job.status == "succeeded"
    assert job.logs() == "a\ufffd\ufffd\0b\n"
    assert service.log_chunk(job).data == b"a\xff\xfe\0b\n"


DAEMON = """
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        os.environ.clear()
        os.write(write, b"%d" % os.getpid())
        os.close(write)
        while True: time.sleep(0.01)
    os._exit(0)
os.wait()
os.close(write)
return int(os.read(read, 20))
"""


@ON_LINUX
def test_it_forks_and_daemonises(run: Any) -> None:
    job = run(DAEMON)
    assert ending(job) == ("succeeded", None, 0)
    assert start_time(job.result()) is None


@ON_LINUX
def test_a_daemon_that_ignores_term(run: Any) -> None:
    job = run("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + DAEMON)
    assert ending(job) == ("succeeded", None, 0)
    assert start_time(job.result()) is None


def test_a_child_that_holds_the_output_open(run: Any) -> None:
    job = run("subprocess.Popen(['sleep', '1000'])\nprint('done')")
    assert ending(job) == ("succeeded", None, 0)
    assert job.logs() == "done\n"


@pytest.mark.parametrize(
    "child", ["raise MemoryError('in the child')", "sys.exit('child')", "1 / 0", "os._exit(3)", "return 'child'"]
)
def test_how_a_forked_child_ends_is_not_how_the_task_ended(run: Any, child: str) -> None:
    job = run(f"if os.fork() == 0:\n    {child}\nos.wait()\nreturn 'parent'")
    assert ending(job) == ("succeeded", None, 0)
    assert job.result() == "parent"


def test_threads_that_go_on_are_waited_for(run: Any) -> None:
    body = """
import threading
threading.Thread(target=lambda: (time.sleep(0.2), print("the thread"))).start()
print("the task")
"""
    job = run(body)
    assert (job.status, job.logs()) == ("succeeded", "the task\nthe thread\n")


def test_signals_are_as_a_shell_would_leave_them(command: Any) -> None:
    names = ("TERM", "CHLD", "PIPE", "XFSZ", "INT", "QUIT", "HUP", "USR1")
    code = (
        "import signal, sys\n"
        f"print(*[name for name in {names} if signal.getsignal(signal.Signals['SIG' + name]) == signal.SIG_IGN])\n"
        "print(*signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    job = command(sys.executable, "-c", code)
    assert job.logs() == "PIPE XFSZ\n\n"  # Python itself ignores these
    assert command("sh", "-c", "trap 'echo caught' USR1; kill -USR1 $$$$; echo on").logs() == "caught\non\n"


def test_jobs_that_end_while_they_are_stopped_end_once(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, "def task(config):\n    pass\n"))
    jobs = [service.submit(name) for _ in range(12)]
    answers: dict[str, str] = {}

    def stop(job: Job) -> None:
        try:
            answers[job.id] = service.stop(job)
        except JobNotInProgress as error:
            answers[job.id] = str(error)

    threads = [threading.Thread(target=stop, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for job in jobs:
        stopped = job.wait(PATIENCE).status == "stopped"
        assert stopped == answers[job.id].startswith("stopped")
        assert job.status in ("stopped", "succeeded")


@pytest.mark.local
def test_files_are_listed_while_they_come_and_go(service: Service, name: str) -> None:
    body = """
os.chdir(os.environ["TASKAPI_OUTPUT_DIR"])
open("stays", "w").close()
print("here", flush=True)
while True:
    open("goes", "w").close()
    os.unlink("goes")
"""
    job = running(service, name, body)
    for _ in range(2000):
        assert "stays" in [entry.path for entry in service.files(job)]
    assert job.refresh().status == "running"


@pytest.mark.local
def test_no_zombie_is_left_of_ours(run: Any) -> None:
    run("return 1")
    zombie = psutil.STATUS_ZOMBIE
    until(lambda: not [one for one in psutil.Process().children() if one.status() == zombie], "no zombie")
