"""What we ask of this machine: its clocks, its processes, what it can bear."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support import until
from taskapi_jupyter.core import host
from taskapi_jupyter.core.process import descendants, of_job, processes, start_time, stat

#: A child that sheds its session, and a grandchild; each says its pid, and lives until standard input ends.
TREE = """
import os, sys
def say():
    os.write(1, b"%d\\n" % os.getpid())
say()
if os.fork() == 0:
    os.setsid()
    say()
    if os.fork() == 0:
        say()
sys.stdin.read()
"""


@contextmanager
def running(code: str, lines: int, **environ: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run a piece of Python in a session of its own; give the numbers that it says first."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environ},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, [int(process.stdout.readline()) for _ in range(lines)]
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def test_the_boot_has_one_id() -> None:
    asked = "from taskapi_jupyter.core.host import boot_id; print(boot_id())"
    other = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=30)
    assert other.stdout.strip() == host.boot_id() != ""


def test_the_clocks() -> None:
    before = host.boottime()
    assert abs(host.now_us() / 1e6 - time.time()) < 60
    assert host.boottime() > before


def test_a_process_is_known_by_when_it_started() -> None:
    with running(TREE, 3) as (process, pids):
        times = [start_time(pid) for pid in pids]
        assert None not in times
        assert times == [start_time(pid) for pid in pids]
    assert start_time(process.pid) is None
    assert start_time(2**22 + 1) is None


@pytest.mark.skipif(not host.LINUX, reason="reads /proc")
def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    strange = tmp_path / "a) R 1 1"
    strange.symlink_to("/bin/sleep")
    with subprocess.Popen([str(strange), "60"]) as process:
        try:
            until(lambda: stat(process.pid)[19] == start_time(process.pid), "its start")
            assert processes()[process.pid][:2] == (os.getpid(), os.getsid(0))
        finally:
            process.kill()


def test_descendants_whatever_their_session() -> None:
    with running(TREE, 3) as (process, pids):
        assert sorted(descendants(process.pid)) == sorted(pids[1:])
        assert set(pids) <= set(descendants(os.getpid()))
        assert os.getsid(pids[2]) == pids[1] != os.getsid(process.pid)


def test_zombies_are_not_there() -> None:
    with running("import os, sys; print(os.fork() or os._exit(0), flush=True); sys.stdin.read()", 1) as (process, pids):
        until(lambda: psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE, "a zombie")
        assert descendants(process.pid) == []
        assert pids[0] not in processes()
        assert process.pid in processes()


def test_what_a_dead_watcher_left_is_found_by_its_session_and_by_the_jobs_id() -> None:
    with running(TREE, 3, TASKAPI_JOB_ID="the-job") as (process, pids), running(TREE, 3) as (_, others):
        assert sorted(of_job("the-job", None)) == sorted(pids)
        assert of_job("another-job", None) == {}
        # A session is asked for by the number of a leader that is dead; this one lives, so the number is not believed.
        assert of_job("another-job", process.pid) == {}
        # Unless it is the very process that was written down, which is about to be gone; what is below goes with it.
        assert of_job("another-job", process.pid, start_time(process.pid)).keys() == set(pids)
        leader = others[0]
    with running("import os, sys; print(os.fork() or sys.stdin.read(), flush=True); os._exit(0)", 1) as (_, (child,)):
        session = os.getsid(child)
        until(lambda: session not in processes(), "the session's leader to end")
        assert list(of_job("another-job", session)) == [child]
    assert of_job("another-job", leader) == {}


def test_pauses_grow_up_to_the_longest() -> None:
    pauses = host.backoff(1.0, 5.0, 2.0)
    assert [next(pauses) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
