"""Clocks that are set, and suspends: no job ends early, none runs on for ever, nothing lasts less than no time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import PATIENCE, request_for, until
from support.homes import stop_supervisor
from taskapi_jupyter.core import host
from taskapi_jupyter.service.service import Service

YEARS = 10 * 365 * 86400

#: The wall clock, set off by as many seconds as a file says.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    const char *path = getenv("CLOCK_IS_OFF_BY");
    FILE *file = id == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) { if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds; fclose(file); }
    return code;
}
"""

SUPERVISOR = "import sys; from taskapi_jupyter.service.supervisor.supervisor import main; main(sys.argv[1])"

#: Submits and waits while the clock is set, forward, back and right again.
SET = """
import os, pathlib, subprocess, sys, time
from taskapi_jupyter.service.service import Service
home, years, off = sys.argv[1], int(sys.argv[2]), pathlib.Path(os.environ["CLOCK_IS_OFF_BY"])
supervisor = subprocess.Popen([sys.executable, "-c", sys.argv[3], home])
service = Service(home)
while not service.waker.alive(): time.sleep(0.01)
began = time.monotonic()
jobs = [service.submit("waits", timeout=1), service.submit("waits", {"for": 0.5}, timeout=60)]
while not all(job.refresh().start_time for job in jobs): time.sleep(0.01)
off.write_text(str(years))
jobs[1].wait(20)
off.write_text(str(-years))
jobs[0].wait(20)
assert time.monotonic() - began > 0.9
jobs.append(service.submit("waits", {"for": 0}, timeout=60).wait(20))
off.write_text("0")
jobs.append(service.submit("waits", {"for": 0}, timeout=60).wait(20))
assert [job.status for job in jobs] == ["timed_out", "succeeded", "succeeded", "succeeded"], jobs
for job in jobs:
    assert job.created_time <= job.start_time <= job.end_time, job
assert [job.id for job in jobs] == sorted((job.id for job in jobs), reverse=True)
assert [job.id for job in service.jobs()] == [job.id for job in reversed(jobs)]
service.close()
supervisor.terminate()
supervisor.wait(20)
"""

WAITS = "import time\n\ndef task(config):\n    time.sleep(config.get('for', 1000))\n"


@pytest.mark.skipif(not host.LINUX, reason="preloads a library")
def test_the_wall_clock_is_set_while_jobs_run(service: Service, home: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for a clock that can be set")
    (tmp_path / "shim.c").write_text(SHIM)
    shim, off = tmp_path / "shim.so", tmp_path / "off"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True, timeout=60)
    off.write_text("0")
    service.deploy_request(request_for("waits", WAITS, compute={"cpu": "10m"}))
    environ = {**os.environ, "LD_PRELOAD": str(shim), "CLOCK_IS_OFF_BY": str(off)}
    command = [sys.executable, "-c", SET, str(home), str(YEARS), SUPERVISOR]
    told = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def queued(service: Service, boot: str, created: int, timeout: int, deadline: float) -> str:
    """Write a pending job as a process of another time would have; nobody is woken."""
    version = service.store.api("waits")
    assert version is not None
    row = {key: version[key] for key in ("api_id", "spec_id", "cpu", "mem", "gpu")}
    row.update(api_name="waits", created=created, timeout=timeout, boot=boot, deadline=deadline, config='{"for": 1000}')
    return service.store.add_job(row, 1 << 60)


def test_a_suspend_longer_than_the_timeout(service: Service, home: Path) -> None:
    """The boot's clock has gone on by an hour and the process's own has not, as after a suspend."""
    shifted = ["unshare", "--time", "--boottime", "3600", "--fork"]
    try:
        tried = subprocess.run([*shifted, "true"], capture_output=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if tried.returncode:
        pytest.skip(f"no time namespace to be had: {tried.stderr.decode().strip()}")
    service.deploy_request(request_for("waits", WAITS, compute={"cpu": "10m"}))
    now, boot = host.boottime(), host.boot_id()
    ids = [queued(service, boot, host.now_us(), timeout, now + timeout) for timeout in (3000, 3601, 7200)]
    command = [*shifted, sys.executable, "-c", SUPERVISOR, str(home)]
    with subprocess.Popen(command) as supervisor:
        until(service.waker.alive, "the supervisor")  # or reading would start one of our own time
        over, soon, later = (service.get("waits", one) for one in ids)
        for job in (over, soon):
            job.wait(PATIENCE)
        assert (over.status, over.start_time) == ("timed_out", None)
        assert (soon.status, soon.start_time is None) == ("timed_out", False)
        assert later.refresh().status == "running"
        later.stop()
        stop_supervisor(home)
        supervisor.wait(PATIENCE)


def test_what_was_pending_before_a_restart(service: Service) -> None:
    """Only the wall clock spans a restart; where it is behind by years by then, a job gets its timeout once more."""
    service.deploy_request(request_for("waits", WAITS, compute={"cpu": "10m"}))
    now = host.now_us()
    ids = [
        queued(service, "an-earlier-boot", now - 10_000_000, 5, 1e9),
        queued(service, "an-earlier-boot", now + YEARS * 1_000_000, 1, 1.0),
        queued(service, "an-earlier-boot", now - 10_000_000, 3600, 1.0),
    ]
    past, behind, ahead = (service.get("waits", one) for one in ids)
    assert (past.wait(PATIENCE).status, past.start_time) == ("timed_out", None)
    assert behind.wait(PATIENCE).status == "timed_out"
    assert behind.end_time >= behind.start_time >= behind.created_time
    until(lambda: ahead.refresh().status == "running", "it to run")
    ahead.stop()
