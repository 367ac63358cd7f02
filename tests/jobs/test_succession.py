"""A change of supervisor under running jobs: planned, it keeps the process; what is left where it was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import PATIENCE, request_for, until
from support.homes import processes
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.core.process import descendants
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor import fifo
from taskapi_jupyter.service.supervisor.lock import holder

pytestmark = pytest.mark.skipif(not host.LINUX, reason="needs Linux's subreaper")

#: Leaves three daemons, each in a session of its own, and says their numbers: one with an empty environment; one that
#: kept the job's id; and a child of that one with an empty environment.
SHEDS = """
import os, pathlib, sys, time

def daemon(told, name, environ, code="import time; time.sleep(1000)"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(told, b"%s=%d " % (name, os.getpid()))
            os.execve(sys.executable, [sys.executable, "-c", code, str(told)], environ)
        os._exit(0)
    os.wait()

PARENT = "import os, sys, time; pid = os.posix_spawn(sys.executable, [sys.executable, '-c', 'import os, time; os.setsid();"
PARENT += "time.sleep(1000)'], {}); os.write(int(sys.argv[1]), b'child=%d ' % pid); time.sleep(1000)"

def task(config):
    heard, told = os.pipe()
    os.set_inheritable(told, True)
    daemon(told, b"bare", {})
    daemon(told, b"marked", dict(os.environ), PARENT)
    found = b""
    while found.count(b" ") < 3:
        found += os.read(heard, 60)
    print(found.decode(), flush=True)
    go = pathlib.Path(config["go"])
    while not go.exists():
        time.sleep(0.01)
"""


@pytest.fixture
def shedding(service: Service, name: str, tmp_path: Path) -> Iterator[Callable[[], tuple[Job, int]]]:
    """Return what submits a job that leaves a daemon that shed all, and returns it with the daemon's number."""
    service.deploy_request(request_for(name, SHEDS, compute={"cpu": "10m"}))
    daemons = []

    def submit() -> tuple[Job, int]:
        job = service.submit(name, {"go": str(tmp_path / "go")})
        until(lambda: job.logs().endswith("\n"), "its daemons' numbers")
        daemons.extend(left_by(job).values())
        return job, left_by(job)["bare"]

    yield submit
    for daemon in daemons:
        if lives(daemon):
            os.kill(daemon, signal.SIGKILL)


def left_by(job: Job) -> dict[str, int]:
    """Return the daemons of a job by their names."""
    return {name: int(pid) for name, _, pid in (word.partition("=") for word in job.logs().split())}


@pytest.fixture
def newer(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes another version of the package, and returns the folder to import it from."""

    def make(version: str = "99.0") -> Path:
        folder = tmp_path / f"newer-{version}"
        package = Path(PACKAGE)
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("labextension", "__pycache__"))
        (folder / package.name / "_version.py").write_text(f'__version__ = "{version}"\n')
        return folder

    return make


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def watcher(home: Path, job: Job) -> int:
    return int(json.loads((home / "jobs" / job.id / "claim").read_bytes())["pid"])


def image(pid: int) -> bytes:
    """Return what is another after each exec: where the kernel put things."""
    return Path(f"/proc/{pid}/auxv").read_bytes()


def use(package: Path, home: Path) -> None:
    """Use a home as somebody does who has that package."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom taskapi_jupyter.service.service import Service\nService(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, package, home], check=True, cwd="/", timeout=PATIENCE)


def replaced(home: Path, package: Path, version: str) -> dict[str, Any]:
    """Have a newer package replace the supervisor; return the new one's record."""
    use(package, home)
    until(lambda: holder(home).get("version") == version, "the newer supervisor")
    until(lambda: fifo.poke(str(home)), "its FIFO")
    return holder(home)


@pytest.mark.cold  # templates end then, and their descriptors with them
def test_a_newer_package_takes_its_place_in_the_same_process(
    service: Service, home: Path, shedding: Any, newer: Any, tmp_path: Path
) -> None:
    jobs = [shedding() for _ in range(3)]
    before = holder(home)
    held = descriptors(before["pid"])
    after = replaced(home, newer(), "99.0")
    assert {**before, "version": "99.0"} == after
    assert str(tmp_path / "newer-99.0") in psutil.Process(after["pid"]).cmdline()
    assert [psutil.Process(watcher(home, job)).ppid() for job, _ in jobs] == [after["pid"]] * 3
    # Watchers that are done with their jobs get no others of it.
    kept = [one for one in held if one != "socket"]
    until(lambda: descriptors(after["pid"]) == kept, f"no others than {kept}")  # claims are opened now and then
    assert b"TASKAPI_SUPERVISOR" not in b"".join(
        Path(f"/proc/{pid}/environ").read_bytes() for pid in descendants(after["pid"])
    )
    # A watcher alone is killed: nothing of its job is left, and the other jobs are not touched.
    job, daemon = jobs[0]
    os.kill(watcher(home, job), signal.SIGKILL)
    job.wait(PATIENCE)
    assert (job.status, job.reason) == ("unexpected_error", "its watcher was killed")
    assert not lives(daemon)
    assert [lives(daemon) for _, daemon in jobs[1:]] == [True, True]
    (tmp_path / "go").touch()
    for job, daemon in jobs[1:]:
        assert job.wait(PATIENCE).status == "succeeded"
        assert not lives(daemon)
    assert holder(home) == after  # the same one saw it all
    until(lambda: not processes(home), "it to leave")


def descriptors(pid: int) -> list[str]:
    """Return what a process has open; the numbers of pipes, and of what SQLite opens now and then, left out."""
    found = [os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")[0] for fd in os.listdir(f"/proc/{pid}/fd")]
    return sorted(one for one in found if "/taskapi.db" not in one)


def test_one_after_the_other(service: Service, home: Path, shedding: Any, newer: Any) -> None:
    job, daemon = shedding()
    pid = holder(home)["pid"]
    for version in ("98.0", "99.0"):
        assert replaced(home, newer(version), version)["pid"] == pid
    os.kill(watcher(home, job), signal.SIGKILL)
    assert job.wait(PATIENCE).status == "unexpected_error"
    assert not lives(daemon)


def test_told_to_leave_without_a_newer_one_it_is_itself_anew(service: Service, home: Path, shedding: Any) -> None:
    """As after an upgrade in place; however often it is told, also in the midst of it."""
    job, daemon = shedding()
    before = holder(home)
    for pause in [0.01] * 20 + [0.1] * 5:
        seen = image(before["pid"])
        os.kill(before["pid"], signal.SIGTERM)
        time.sleep(pause)  # so that some come in the midst of what an earlier one began
    until(lambda: image(before["pid"]) != seen, "the last exec")
    assert job.refresh().status == "running"
    until(lambda: fifo.poke(str(home)), "it to be back")
    assert holder(home) == before
    assert lives(before["pid"])
    os.kill(watcher(home, job), signal.SIGKILL)
    assert job.wait(PATIENCE).status == "unexpected_error"
    assert not lives(daemon)


def test_one_without_jobs_leaves(service: Service, home: Path, newer: Any, name: str) -> None:
    service.deploy_request(request_for(name, "def task(config):\n    pass\n"))
    service.submit(name).wait(PATIENCE)
    pid = holder(home)["pid"]
    use(newer(), home)
    until(lambda: not lives(pid), "it to leave")


@pytest.mark.parametrize("interpreter", ["exit 3", "", None])
def test_a_newer_one_that_can_not_run(
    service: Service, home: Path, shedding: Any, tmp_path: Path, interpreter: str | None
) -> None:
    """It begins and fails; it is no program; it is not there: in each case there is a supervisor again."""
    job, _ = shedding()
    before = holder(home)
    program = tmp_path / "python"
    if interpreter is not None:
        program.write_text(f"#!/bin/sh\n{interpreter}\n" if interpreter else "")
        program.chmod(0o700)
    replaces = {key: before[key] for key in ("pid", "start_time", "version")}
    (home / "successor.json").write_text(json.dumps({"replaces": replaces, "command": [str(program), "x"]}))
    (home / "successor.json").chmod(0o600)
    os.kill(before["pid"], signal.SIGTERM)
    if interpreter:
        until(lambda: not lives(before["pid"]), "it to fail")
    (tmp_path / "go").touch()
    assert job.wait(PATIENCE).status == "succeeded"
    assert (holder(home)["pid"] == before["pid"]) is (not interpreter)


@pytest.mark.parametrize("trap", ["folder", "fifo", "link", "others", "another", "garbage", "deep"])
def test_what_is_no_proposal(service: Service, home: Path, shedding: Any, tmp_path: Path, trap: str) -> None:
    job, _ = shedding()
    before = holder(home)
    replaces = {key: before[key] for key in ("pid", "start_time", "version")}
    mark = tmp_path / "mark"
    text = json.dumps({"replaces": replaces, "command": ["/bin/sh", "-c", f"touch {mark}"]})
    path = home / "successor.json"
    if trap == "folder":
        path.mkdir()
    elif trap == "fifo":
        os.mkfifo(path)
    elif trap == "link":
        (tmp_path / "elsewhere").write_text(text)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        texts = {"others": text, "another": text.replace(before["start_time"], "1"), "garbage": "{", "deep": "[" * 9000}
        path.write_text(texts[trap])
        path.chmod(0o666 if trap == "others" else 0o600)
    os.kill(before["pid"], signal.SIGTERM)
    (tmp_path / "go").touch()
    assert job.wait(PATIENCE).status == "succeeded"
    assert holder(home) == before
    assert not mark.exists()


@pytest.mark.parametrize("point", ["watcher.given", "watcher.claiming", "watcher.linked"])
def test_a_watcher_that_has_no_claim_yet(
    service: Service, home: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    service.deploy_request(request_for(name, "import os\ndef task(config):\n    return os.getppid()\n"))
    if point == "watcher.given":  # by one that was idle
        service.submit(name).wait(PATIENCE)
    (faults / point).write_text("pause")
    job = service.submit(name)
    held = faults / f"{point}.held"
    forked = int(until(lambda: held.exists() and held.read_text(), "the watcher"))
    pid = holder(home)["pid"]
    before = image(pid)
    os.kill(pid, signal.SIGTERM)
    until(lambda: image(pid) != before and fifo.poke(str(home)), "the next supervisor")
    # It knows that one, and forked no other; the idle one of the supervisor before it is gone.
    until(lambda: [one.pid for one in psutil.Process(pid).children()] == [forked], "it to have no other")
    held.unlink()
    assert job.result(PATIENCE) == forked


@pytest.mark.cold  # a supervisor that is replaced many times a second never has a template
def test_watchers_that_end_while_it_is_replaced(service: Service, home: Path, name: str, tmp_path: Path) -> None:
    """None of their ends is missed, nobody starts one twice, and none is left for others to reap."""
    begun = tmp_path / "begun"
    task = f"def task(config):\n    open({str(begun)!r}, 'a').write(f'{{config[\"n\"]}} ')\n    return config['n']\n"
    service.deploy_request(request_for(name, task, compute={"cpu": "100m"}))
    jobs = [service.submit(name, {"n": n}) for n in range(40)]
    pid = until(lambda: service.waker.alive() and holder(home).get("pid"), "a supervisor")
    while service.store.any_in_progress():
        with suppress(ProcessLookupError):  # it left, as no job was running at that moment
            os.kill(holder(home).get("pid", pid), signal.SIGTERM)
        until(lambda: fifo.poke(str(home)) or service.jobs(), "the next one")
    for n, job in enumerate(jobs):
        assert job.wait(PATIENCE).result() == n
    assert sorted(map(int, begun.read_text().split())) == list(range(40))
    until(lambda: not processes(home), "it to leave")


# A supervisor of 0.3.0 that is alive while its package is upgraded in place: what it starts, it starts as it did.

OLD_COMMAND = "import sys; sys.path.append(sys.argv[1]); from taskapi_jupyter.{} import main; main(sys.argv[2])"

#: Where 0.3.0 had what a supervisor starts, in the files of today.
MOVED = {
    "_version.py": [(None, '__version__ = "0.3.0"\n')],
    "core/paths.py": [('os.path.join(PACKAGE, "worker")', "PACKAGE"), ('WORKER, "path"', 'PACKAGE, "task_path"')],
    "service/supervisor/admission.py": [('"runner.gpus"', '"gpus"')],
    "service/supervisor/wake.py": [('"service.supervisor.supervisor"', '"supervisor"')],
    "service/supervisor/supervisor.py": [
        ('"service.supervisor.supervisor"', '"supervisor"'),
        ('"service.retention"', '"retention"'),
    ],
}

WAITS = """
import json, os, pathlib, time
from cortex_internal.lib.log import logger
from taskapi_jupyter.job import progress

def task(config):
    logger.info("begun")
    progress(1, 2)
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    return config["n"]
"""
COMMAND = WAITS + "\ntask(json.loads(pathlib.Path(os.environ['TASKAPI_JOB_SPEC']).read_text())['config'])\n"

#: Deploys a file, a command and a callable with the interpreter given, which has no package of ours, and submits each
#: thrice: the first ones run at once, the others wait.
SUBMITS = """
import json, pathlib, sys
package, home, python, command, go = sys.argv[1:]
sys.path.insert(0, package)
from taskapi_jupyter.service.service import Service
from upgrade_helper import request
service = Service(home)
service.deploy_request(request("file", python, source=pathlib.Path(command).with_name("waits.py").read_text()))
service.deploy_request(request("command", python, command=[python, command]))

def callable_(config):
    import pathlib, time
    print("begun", flush=True)
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    return config["n"]

service.deploy(callable_, name="callable", python=python, cpu="100m")
jobs = [service.submit(name, {"go": f"{go}{n}", "n": n}).id for n in range(3) for name in ("file", "command", "callable")]
print(json.dumps(jobs))
"""
UPGRADE_HELPER = """
from taskapi_jupyter.core.contract import DeployRequest

def request(name, python, source=None, command=None):
    compute = {"cpu": "100m"}
    what = {"definition": {"path": "task.py"}, "compute": compute} if source else {
        "pod": {"containers": [{"command": command, "compute": compute}]}}
    return DeployRequest(spec={"name": name, "kind": "TaskAPI", **what}, source=source, python=python)
"""


def begun(home: Path, ids: list[str]) -> bool:
    """Whether the tasks of these jobs have imported what they need."""
    logs = [home / "jobs" / one / "log" for one in ids]
    return all(log.exists() and "begun" in log.read_text() for log in logs)


def test_an_upgrade_in_place_under_running_and_pending_jobs(home: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    package, ignored = site / "taskapi_jupyter", shutil.ignore_patterns("labextension", "__pycache__")
    shutil.copytree(PACKAGE, package, ignore=ignored)
    for name, changes in MOVED.items():
        text = (package / name).read_text()
        for before, after in changes:
            assert before is None or before in text
            text = after if before is None else text.replace(before, after)
        (package / name).write_text(text)
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parent.parent], check=True)
    for name, text in (("waits.py", WAITS), ("command.py", COMMAND), ("upgrade_helper.py", UPGRADE_HELPER)):
        (tmp_path / name).write_text(text)
    (tmp_path / "submits.py").write_text(SUBMITS)
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.yaml").write_text("cpus: 0.3\nstop_grace: 1\n")
    go = tmp_path / "go"
    told = subprocess.run(
        [sys.executable, tmp_path / "submits.py", site, home, python, tmp_path / "command.py", go],
        check=True,
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        env={**os.environ, "TASKAPI_HOME": str(home)},
    )
    ids = json.loads(told.stdout)
    before = until(lambda: fifo.poke(str(home)) and holder(home), "the old supervisor")
    assert before["version"] == "0.3.0"
    until(lambda: begun(home, ids[:3]), "the first ones to begin")
    shutil.rmtree(package)
    shutil.copytree(PACKAGE, package, ignore=ignored)
    Path(f"{go}0").touch()  # the second ones are started by the old supervisor, from the new files
    until(lambda: begun(home, ids[3:6]), "the second ones to begin")
    assert holder(home) == before
    with closing(Service(home)) as service:
        after = until(lambda: (found := holder(home)).get("version") != "0.3.0" and found, "the newer supervisor")
        assert after["pid"] == before["pid"]
        for n in "12":
            Path(f"{go}{n}").touch()
        names = ("file", "command", "callable")
        ended = [service.get(names[at % 3], one).wait(PATIENCE) for at, one in enumerate(ids)]
        assert [(job.status, job.reason) for job in ended] == [("succeeded", None)] * 9
        assert [job.result() for job in ended if job.api_name != "command"] == [0, 0, 1, 1, 2, 2]
        assert [job.progress.done for job in ended if job.api_name == "file" and job.progress] == [1, 1, 1]
        assert all('"message": "begun"' in job.logs() for job in ended if job.api_name == "command")


@pytest.mark.parametrize("module", ["supervisor", "retention", "gpus"])
def test_what_an_old_supervisor_and_old_clients_start(service: Service, home: Path, module: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", OLD_COMMAND.format(module), str(Path(PACKAGE).parent), str(home)]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


# What is left where a supervisor is killed, as docs/reliability.md has it.


def leaves(job: Job, names: set[str]) -> None:
    """Assert which daemons live once the job has ended; one that was killed may take a moment to be gone."""
    assert job.wait(PATIENCE).status == "unexpected_error"
    assert job.reason == "its watcher was killed"
    until(
        lambda: {name for name, pid in left_by(job).items() if lives(pid)} == names,
        f"{names or 'none'} to be what lives of {left_by(job)}",
    )


def test_the_supervisor_is_killed_and_later_the_watcher(service: Service, home: Path, shedding: Any) -> None:
    job, _ = shedding()
    before = holder(home)["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: job.refresh() and holder(home).get("pid") != before and service.waker.alive(), "another")
    os.kill(watcher(home, job), signal.SIGKILL)
    leaves(job, {"bare"})


def test_the_watcher_is_killed_and_then_the_supervisor_before_it_swept(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "engine.sweeping").write_text("pause")
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    job, _ = request.getfixturevalue("shedding")()
    os.kill(watcher(home, job), signal.SIGKILL)
    held = faults / "engine.sweeping.held"
    os.kill(int(until(lambda: held.exists() and held.read_text(), "the supervisor to begin")), signal.SIGKILL)
    held.unlink()
    leaves(job, {"bare"})


def test_the_watcher_is_killed_and_the_supervisor_has_swept(service: Service, home: Path, shedding: Any) -> None:
    job, _ = shedding()
    os.kill(watcher(home, job), signal.SIGKILL)
    leaves(job, set())
    os.kill(holder(home)["pid"], signal.SIGKILL)
