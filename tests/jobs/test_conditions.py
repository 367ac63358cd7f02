"""What starts a supervisor does not shape the jobs that others submit; what can't be undone is told."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from support.homes import supervisor_of
from support.namespaces import limited
from taskapi_jupyter.core import host
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.runner import capacity
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor import conditions
from taskapi_jupyter.ui import doctor

pytestmark = pytest.mark.skipif(not host.LINUX, reason="reads /proc")

#: Returns in which conditions it runs.
TELLS = """
import os, pathlib, resource, time

def task(config):
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
    mask = os.umask(0)
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    return {
        "umask": mask,
        "nice": os.nice(0),
        "cpus": len(os.sched_getaffinity(0)),
        "scheduler": os.sched_getscheduler(0),
        "oom": int(open("/proc/self/oom_score_adj").read()),
        "slack": int(open("/proc/self/timerslack_ns").read()),
        "personality": int(open("/proc/self/personality").read(), 16),
        "ignored": int(status["SigIgn"], 16),
        "blocked": int(status["SigBlk"], 16),
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in config["limits"]},
    }
"""

#: Submits a job in conditions of its own.
STARTER = """
import ctypes, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from taskapi_jupyter.service.service import Service
service = Service(sys.argv[2])
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
ctypes.CDLL(None).prctl(29, 7_000_000, 0, 0, 0)
ctypes.CDLL(None).personality(0x0040000)  # addresses that are not random
open("/proc/self/oom_score_adj", "w").write("300")
for number in (signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
print(service.submit(sys.argv[3], {"limits": sys.argv[4:], "go": sys.argv[2] + "/go"}).id)
while not service.waker.alive():  # whoever looks for the job meanwhile would start a supervisor of other conditions
    time.sleep(0.01)
"""

NAMES = ["NOFILE", "CORE", "STACK", "CPU", "FSIZE", "AS", "NPROC"]


def start(home: Path, name: str, before: str) -> str:
    """Have somebody submit a job, in a shell that ran some commands and may undo none of them; return its id."""
    command = ["bash", "-c", f'{before} exec "$@"', "bash", sys.executable, "-c", STARTER]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root undoes it all, without setpriv")
        command = ["setpriv", "--bounding-set", "-sys_nice,-sys_resource", *command]
    package = str(Path(PACKAGE).parent)
    told = subprocess.run([*command, package, str(home), name, *NAMES], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def test_what_is_undone(service: Service, home: Path, name: str) -> None:
    service.deploy_request(request_for(name, TELLS))
    before = (
        "umask 0; ulimit -S -n 64 -v 4000000 -f 200000 -t 500 -s 1024; ulimit -S -c unlimited; taskset -p 1 $$ >&2;"
    )
    (home / "go").touch()
    found: dict[str, Any] = service.get(name, start(home, name, before)).wait(PATIENCE).result()
    limits = found.pop("limits")
    assert found == {
        "umask": 0o022,
        "nice": 0,
        "cpus": len(host.cpus()),
        "scheduler": os.SCHED_OTHER,
        "oom": 0,
        "slack": 50_000,
        "personality": 0,
        "ignored": found["ignored"],
        "blocked": 0,
    }
    # But for what Python itself ignores (SIGPIPE, SIGXFSZ) and what the C library lets nobody set (32 and 33).
    assert found["ignored"] & ~(1 << 12 | 1 << 24 | 0b11 << 31) == 0
    for what in NAMES:
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{what}"))[1]
        soft = {"NOFILE": 65536, "CORE": 0, "STACK": 8 << 20}.get(what, hard)
        assert limits[what] == (conditions._least(soft, hard), hard), what
    assert doctor.problems(home) == []


def test_what_can_not_be_undone_is_told(service: Service, home: Path, name: str) -> None:
    service.deploy_request(request_for(name, TELLS))
    before = "ulimit -n 512; ulimit -v 8000000; renice -n 5 $$ >&2;"
    job = service.get(name, start(home, name, before))
    until(service.waker.alive, "the supervisor")
    told = doctor.problems(home)
    (home / "go").touch()
    found = job.wait(PATIENCE).result()
    assert found["nice"] == 5
    assert found["limits"]["NOFILE"] == (512, 512)
    assert found["limits"]["AS"] == (8000000 << 10, 8000000 << 10)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    why = f"inherited from the supervisor (process {supervisor_of(home)}); it exits 3 s after the last job"
    assert f"jobs have at most 512 open files, not {hard} (ulimit -n): {why}" in "\n".join(told)
    assert "jobs have at most 7.6 GiB of address space, not any size (ulimit -v)" in "\n".join(told)
    assert "jobs have nice 5, not 0" in "\n".join(told)
    assert len(told) == 3
    until(lambda: doctor.problems(home) == [], "it to leave")


def test_cores_are_those_of_the_cpuset_whoever_counts_them() -> None:
    mine = os.sched_getaffinity(0)
    count = capacity.count()
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert capacity.count() == count
        assert os.sched_getaffinity(0) == {min(mine)}
    finally:
        os.sched_setaffinity(0, mine)


def test_a_control_group_that_is_narrower() -> None:
    version = next((version for version, _ in capacity.groups("memory")), 2)
    name = "memory__limit_in_bytes" if version == 1 else "memory__max"
    limit = {name: str(300 << 20)}
    with limited("memory", **limit) as group, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert list(conditions.worse(other.pid)) == []
        (group / "cgroup.procs").write_text(str(other.pid))
        (told,) = conditions.worse(other.pid)
        assert told.startswith("a control group of 300 MiB, not ")
        other.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="groups are root's to give")
def test_groups_that_are_missing() -> None:
    code = "import os, sys; sys.path.insert(0, sys.argv[1]); from taskapi_jupyter.service.supervisor.conditions import worse\n"
    code += "print(*worse(os.getppid()))"
    command = [sys.executable, "-c", code, str(Path(PACKAGE).parent)]
    groups = [*os.getgroups(), 54321]
    told = subprocess.run(command, extra_groups=groups, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told == "no membership in the group 54321\n"
