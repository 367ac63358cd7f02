"""The limit on a tree's memory: whoever passes it is ended, and nobody who stays under it, however it may look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import PATIENCE, request_for, until
from support.homes import clean, stop_supervisor
from support.namespaces import run as run_apart
from support.namespaces import unshared
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.runner import oom_kills
from taskapi_jupyter.runner.memory import MemoryLimit
from taskapi_jupyter.service.service import Service

MIB = 1 << 20

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs proportional sizes")


@pytest.fixture
def home(shared_home: Path) -> Path:
    """Return one home for all of these tests."""
    return shared_home


#: Takes pages that are its own, and gives them back.
FILL = """
import mmap
def fill(mib):
    held = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE)
    for page in range(0, mib << 20, 4096): held[page] = 1
    return held
"""


@pytest.fixture
def submit(service: Service, name: str) -> Callable[..., Job]:
    """Return what submits a function's body with a limit."""
    made = 0

    def submit(body: str, mem: str) -> Job:
        nonlocal made
        made += 1
        lines = "\n    ".join(["import os, signal, subprocess, sys, time", *(FILL + body).strip().splitlines()])
        api = f"{name}-{made}"
        spec = {"compute": {"mem": mem, "cpu": "10m"}}
        service.deploy_request(request_for(api, f"def task(config):\n    {lines}\n", **spec))
        return service.submit(api)

    return submit


PASSES = {
    "forks all the time": """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
held = fill(30)
if os.fork() == 0:
    began, more = time.monotonic(), None
    while time.monotonic() - began < 10:
        if os.fork(): os._exit(0)
        if time.monotonic() - began > 0.3 and not more: more = fill(60)
        time.sleep(0.005)
time.sleep(10)
""",
    "writes to what it shared": """
held = fill(40)
for number in range(3):
    if os.fork() == 0:
        time.sleep(0.4)
        for page in range(0, 40 << 20, 4096): held[page] = 2
        time.sleep(10)
time.sleep(10)
""",
    "hides its memory from its own user": """
import ctypes
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
held = fill(80)
time.sleep(10)
""",
    "its first thread has left": """
import ctypes, threading
def on():
    time.sleep(0.2)
    held = fill(80)
    time.sleep(10)
threading.Thread(target=on).start()
ctypes.CDLL(None).pthread_exit(None)
""",
}


def test_whoever_passes_it_is_ended(submit: Any) -> None:
    jobs = {what: submit(body, "80Mi") for what, body in PASSES.items()}
    assert {what: job.wait(PATIENCE).status for what, job in jobs.items()} == dict.fromkeys(PASSES, "worker_oom")
    for job in jobs.values():
        assert (job.reason or "").endswith(" MiB, limit 80 MiB")


STAYS_UNDER = {
    "is inherited from process to process": """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
held = fill(50)
heard, told = os.pipe()
if os.fork() == 0:
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        if os.fork(): os._exit(0)
        time.sleep(0.003)
    os._exit(os.write(told, b"x"))
held.close()
os.read(heard, 1)
""",
    "is taken in turns": """
heard, told = os.pipe()
until = time.monotonic() + 1.2
for _ in range(6):
    if os.fork() == 0:
        while time.monotonic() < until:
            os.read(heard, 1)
            fill(40).close()
            os.write(told, b"x")
        os._exit(0)
os.write(told, b"x")
for _ in range(6): os.wait()
""",
    "is lent by vfork": """
held = fill(50)
until = time.monotonic() + 1.2
while time.monotonic() < until: subprocess.run(["true"])
""",
    "is shared": """
held = fill(50)
for _ in range(4):
    if os.fork() == 0: os._exit(time.sleep(1) or 0)
for _ in range(4): os.wait()
""",
}


def test_nobody_who_stays_under_it_is_ended(submit: Any) -> None:
    jobs = {what: submit(body, "100Mi") for what, body in STAYS_UNDER.items()}
    ended = {what: (job.wait(PATIENCE).status, job.reason) for what, job in jobs.items()}
    assert ended == dict.fromkeys(STAYS_UNDER, ("succeeded", None))


def test_it_holds_while_a_job_is_told_to_end(submit: Any, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1000\n")
    body = """
def fills(*_): held = fill(80); time.sleep(1000)
signal.signal(signal.SIGTERM, fills)
print("here", flush=True)
time.sleep(1000)
"""
    job = submit(body, "80Mi")
    until(job.logs, "its first line")
    job.stop()
    assert (job.status, job.exit_code) == ("stopped", -signal.SIGKILL)
    (home / "config.yaml").write_text("stop_grace: 0.2\n")


HOLDING = f"""
import os, sys
held = b"x" * (40 * {MIB})
for _ in range(3):
    if os.fork() == 0:
        break
os.write(1, b"x")
sys.stdin.read()
"""


def test_memory_that_processes_share_counts_once() -> None:
    command = ["sh", "-c", '"$0" -c "$1"; :', sys.executable, HOLDING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.read(1)
        below = psutil.Process(process.pid).children(recursive=True)
        assert MemoryLimit(100 * MIB).passed(process.pid) is None
        assert (MemoryLimit(40 * MIB).passed(process.pid) or 0) > 40 * MIB
        assert {one.status() for one in below} == {psutil.STATUS_STOPPED}  # it is to be killed as it stands
        for one in below:
            one.kill()


# Killed by the kernel


def test_a_kill_that_was_not_the_kernels(submit: Any) -> None:
    job = submit("os.kill(os.getpid(), signal.SIGKILL)", "500Mi").wait(PATIENCE)
    assert (job.status, job.reason) == ("worker_error", "killed by signal 9 (SIGKILL)")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Return a memory cgroup that holds 200 MiB."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = root / f"taskapi-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(200 * MIB))
            break
        except OSError:
            if folder.exists():
                folder.rmdir()
    else:
        pytest.skip("no memory cgroup to be made here")
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text(), "its processes to be gone")
    folder.rmdir()


IN_CGROUP = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
from taskapi_jupyter.service.service import Service
service = Service(sys.argv[2])
job = service.submit(sys.argv[3]).wait(30)
print(job.status, job.reason)
service.close()
"""


@pytest.mark.parametrize("who", ["supervisor", "task"])
def test_a_kill_by_the_kernel(service: Service, name: str, home: Path, cgroup: Path, who: str) -> None:
    """The cgroup is that of all of us, as in a container, or one that the task went into by itself."""
    before = oom_kills.of_machine()
    enter = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))" if who == "task" else "pass"
    lines = "\n    ".join([*FILL.strip().splitlines(), enter, "fill(400)"])
    service.deploy_request(request_for(name, f"import os\n\ndef task(config):\n    {lines}\n"))
    if who == "task":
        job = service.submit(name).wait(PATIENCE)
        told = f"{job.status} {job.reason}"
    else:
        stop_supervisor(home)
        command = [sys.executable, "-c", IN_CGROUP, str(cgroup), str(home), name]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        clean(home)
    assert told == "worker_oom killed by the kernel for want of memory"
    assert before != oom_kills.of_machine()


def test_kills_are_counted_where_the_kernel_says() -> None:
    assert host.LINUX
    count = oom_kills.of_machine()
    assert count is None or count >= 0
    assert not oom_kills.OOMKills(os.getpid()).one_was_ours()


FULL_SHM = """
mount(Path("/dev/shm"), "size=1m")
service = Service(Path(sys.argv[1]))
source = '''
import mmap, os

def task(config):
    fd = os.open("/dev/shm/large", os.O_RDWR | os.O_CREAT)
    if config["unlinks"]:
        os.unlink("/dev/shm/large")
    os.ftruncate(fd, 8 << 20)
    mmap.mmap(fd, 8 << 20).write(bytes(8 << 20))
'''
service.deploy_request(request_for("maps", source))
for unlinks, words in ((True, "shared memory found no room in /dev/shm (1 MiB)"), (False, "is full (1 MiB)")):
    job = service.submit("maps", {"unlinks": unlinks}).wait(PATIENCE)
    assert job.status == "worker_error", job
    assert job.reason.startswith("killed by signal 7 (SIGBUS): ") and words in job.reason, job.reason
clean(service.home)
"""


@pytest.mark.local
def test_a_bus_error_names_shared_memory_that_is_full(tmp_path: Path) -> None:
    run_apart(unshared("--mount"), FULL_SHM, tmp_path / "home")
