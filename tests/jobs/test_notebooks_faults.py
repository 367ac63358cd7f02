"""Whatever is killed at whichever moment of a notebook's job: one terminal state, a valid notebook, nothing left."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from support import PATIENCE, until
from support.homes import has_ended, processes, supervisor_of, watcher_of
from support.notebooks import Start, saved
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.cold]

#: Points to stop at, after how many passes, and who is killed there.
POINTS = {
    "watcher.claimed": (0, ("watcher", "supervisor")),
    "notebook.kernel_started": (0, ("runner", "watcher")),
    "notebook.saved": (0, ("kernel", "supervisor")),
    "notebook.cell_starting": (1, ("runner", "kernel", "watcher", "supervisor")),
    "notebook.cell_ended": (0, ("runner", "watcher")),
    "notebook.kernel_kept": (0, ("runner", "kernel", "watcher", "supervisor")),
    "notebook.last_saved": (0, ("kernel", "watcher")),
}
CELLS = (
    "import subprocess\nprint(subprocess.Popen(['setsid', 'sleep', '1000']).pid, flush=True)",
    "print('second')",
    "raise SystemError('third')",
)


@pytest.fixture
def home(short_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home whose processes stop where a file of the folder ``faults`` says so."""
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("TASKAPI_FAULTS", str(tmp_path / "faults"))
    return short_home


def kernel_of(home: Path) -> int | None:
    found = [one for one in processes(home) if "ipykernel_launcher" in " ".join(one.cmdline())]
    return found[0].pid if found else None


def nothing_left(home: Path) -> bool:
    """Whether of a home's processes none but its supervisor is left."""
    left = []
    for one in processes(home):
        with suppress(psutil.NoSuchProcess):
            left += [one] if "supervisor" not in " ".join(one.cmdline()) else []
    return not left


def check(service: Service, job: Job, home: Path) -> None:
    """See that a job has ended once and for all, and what it leaves."""
    job.wait(PATIENCE)
    status = job.status
    until(lambda: nothing_left(home), "its processes to be gone")
    for line in job.logs().splitlines():
        assert not line.isdecimal() or has_ended(int(line))
    saved(service, job)  # it is valid where there is one
    until(lambda: not [*home.glob("kernels/*")], "its kernel not to be offered any more")
    until(lambda: not (home / "jobs" / job.id / "kernel").exists(), "sockets to be removed")
    assert job.refresh().status == status


@pytest.mark.parametrize(
    ("point", "victim"),
    [(point, victim) for point, (_, victims) in POINTS.items() for victim in victims],
)
def test_killed(start: Start, service: Service, home: Path, tmp_path: Path, point: str, victim: str) -> None:
    faults = tmp_path / "faults"
    (faults / point).write_text(f"pause {POINTS[point][0]}")
    job = start(*CELLS, keep_kernel=600 if point == "notebook.kernel_kept" else None)
    held = faults / f"{point}.held"
    until(held.exists, f"{point} to be reached")
    at = int(until(held.read_text, "its pid"))
    watcher = watcher_of(home, job)
    kernel = kernel_of(home)
    pid = {"runner": at, "kernel": kernel, "watcher": watcher, "supervisor": supervisor_of(home)}[victim]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    if victim == "supervisor":
        until(lambda: not psutil.pid_exists(pid), "the supervisor to be gone")
        job.refresh()  # who reads starts another one
    held.unlink(missing_ok=True)
    if point == "notebook.kernel_kept" and victim == "supervisor":
        (home / "jobs" / job.id / "kernel-request").write_text("end")
    check(service, job, home)
    expected = {
        "runner": {"worker_error"},
        "kernel": {"worker_error"},
        "watcher": {"unexpected_error"},
        "supervisor": {"worker_error"},
    }[victim]
    assert job.status in expected, (job.status, job.reason)


def test_what_a_cell_says_at_once_is_kept(start: Start, home: Path, tmp_path: Path) -> None:
    faults, said, gate = tmp_path / "faults", tmp_path / "said", tmp_path / "gate"
    (faults / "notebook.saved").write_text("pause 1")  # at the second save, just after the cell was asked for
    job = start(
        "import os, time\nfrom taskapi_jupyter.job import progress\nprogress(3, 10, 'epoch')\n"
        f"open({str(said)!r}, 'w').close()\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    )
    held = faults / "notebook.saved.held"
    until(held.exists, "the runner to be slow")
    until(said.exists, "the cell to have said its progress")
    held.unlink()
    until(lambda: (now := job.refresh().progress) and now.message == "3/10 epoch", "its progress")
    gate.touch()
    assert job.wait(PATIENCE).status == "succeeded"


def test_little_is_written(start: Start, service: Service, home: Path, tmp_path: Path) -> None:
    (tmp_path / "faults" / "notebook.last_saved").write_text("pause")
    job = start(*["from IPython.display import HTML, display\ndisplay(HTML('x' * 100_000))"] * 200)
    held = tmp_path / "faults" / "notebook.last_saved.held"
    until(held.exists, "the last save")
    lines = Path(f"/proc/{int(until(held.read_text, 'its pid'))}/io").read_text().splitlines()
    written = next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
    size = next((home / "jobs" / job.id / "files").iterdir()).stat().st_size
    held.unlink()
    check(service, job, home)
    assert job.status == "succeeded"
    assert size > 20_000_000
    assert written < 3 * size
