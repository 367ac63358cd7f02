"""A job aboard a node, run there as Ray would run it, but without a Ray: its package unpacked, its entry point started.

What Ray itself does to a job is seen in test_ray.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import pytest

from support import PATIENCE, request_for, until
from support.servers import reserved_port
from taskapi_jupyter.node.frames import Reader
from taskapi_jupyter.ray import package
from taskapi_jupyter.ray.service import RayService

WORD = "0123456789abcdef"

pytestmark = pytest.mark.local  # no engine of ours starts these


class Aboard:
    """A job's entry point, and what it has said."""

    def __init__(self, folder: Path, job_id: str, **variables: str) -> None:
        self.folder = folder
        self.id = job_id
        self.output = folder.with_suffix(".output")
        # -S: where Ray starts it, none of this machine's packages are there.
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-m", "taskapi_jupyter.node"],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> tuple[bytes, dict[str, Any]]:
        """Return its task's output, and the last that it said under each of its keys."""
        output, told = b"", {}
        for value in Reader(WORD).feed(self.output.read_bytes()):
            if isinstance(value, bytes):
                output += value
            else:
                told.update(value)
        return output, told

    def first_line(self) -> list[int]:
        """Wait for the task's first line, of process ids."""
        until(lambda: b"\n" in self.said()[0] or self.process.poll() is not None, "the task's first line")
        return [int(one) for one in self.said()[0].split(b"\n")[0].split()]

    def outcome(self) -> dict[str, Any]:
        """Wait for its end, and return how it ended; the job's folder there is gone by then."""
        until(lambda: "outcome" in self.said()[1], "the outcome")
        self.process.wait(PATIENCE)
        return dict(self.said()[1]["outcome"])


@pytest.fixture
def aboard(home: Path, tmp_path: Path) -> Iterator[Callable[..., Aboard]]:
    """Return what starts a job with a source aboard; ``given`` replaces what its package says."""
    service = RayService(home, environment="cluster", address=f"http://127.0.0.1:{reserved_port()}")
    started: list[Aboard] = []

    def aboard(
        source: str,
        *,
        config: Any = None,
        seconds_left: str | None = None,
        run_timeout: int | None = None,
        **given: Any,
    ) -> Aboard:
        service.deploy_request(request_for("task", "import os, subprocess, sys, time\n" + source))
        row, job_id = service.store.api("task"), token_hex(8)  # its processes are known by it
        assert row is not None
        job = {
            **dict.fromkeys(("spec_id", "boot", "deadline", "mem", "gpus", "merged"), None),
            "timeout": None if seconds_left is None else 1,
            "run_timeout": run_timeout,
            "id": job_id,
            "api_name": "task",
            "api_id": row["api_id"],
            "cpu": 1000,
            "gpu": 0,
            "launch": row["launch"],
            "config": json.dumps(config),
        }
        limits = {"stop_grace": 1, "log_max_bytes": 1 << 20}
        packed = package.pack(str(home), job, limits, marker=WORD, storage=str(tmp_path / "left"))
        folder = tmp_path / f"node-{job_id}"
        zipfile.ZipFile(io.BytesIO(packed)).extractall(folder)
        said = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**said, **given}))
        left = {} if seconds_left is None else {"TASKAPI_SECONDS_LEFT": seconds_left}
        started.append(Aboard(folder, job_id, **left))
        return started[-1]

    yield aboard
    for one in started:
        one.process.kill()
        one.process.wait()
    service.close()


def test_what_goes_along_is_all_that_is_imported() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import taskapi_jupyter.node.__main__\n"
        "print(*(one.__file__ for name, one in sys.modules.items() if name.startswith('taskapi_jupyter')), sep='\\n')"
    )
    folder = Path(package.__file__).parent.parent
    command = [sys.executable, "-I", "-S", "-c", code, str(folder.parent)]
    files = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.splitlines()
    assert {str(Path(file).relative_to(folder)) for file in files} <= set(package._MODULES)


def test_to_its_end(aboard: Callable[..., Aboard], tmp_path: Path) -> None:
    job = aboard(
        "from taskapi_jupyter import job\n"
        "def task(config):\n"
        "    print('50%\\r100%', config['secret'])\n"
        "    job.progress(1, 2)\n"
        "    job.metric(loss=0.5)\n"
        "    open(os.environ['TASKAPI_OUTPUT_DIR'] + '/model', 'w').write('x')\n"
        "    return {'loss': 0.5}\n",
        config={"secret": "é"},
    )
    assert job.outcome()["status"] == "succeeded"
    output, told = job.said()
    assert output == "50%\r100% é\n".encode()
    assert told["storing"] is True
    assert (told["begin"], told["end"], job.process.returncode) == (job.id, 0, 0)
    left = tmp_path / "left" / job.id
    assert json.loads((left / "result.json").read_text()) == {"loss": 0.5}
    assert (left / "metrics.jsonl").read_text().startswith('["loss", 1, ')
    ended = job.outcome()
    assert json.loads(ended["metrics"]) == {"loss": 0.5}
    assert json.loads(ended["usage"])["memory_peak"] > 1 << 20
    assert (left / "files" / "model").read_bytes() == b"x"
    assert not (job.folder / "job.json").exists(), "its config and its marker stay on the node"
    assert not (job.folder / "home").exists()


def test_its_time_is_what_is_left_of_it(aboard: Callable[..., Aboard]) -> None:
    """By this node's clock, from when it begins; the task does not see it."""
    job = aboard("def task(config):\n    time.sleep(1000)\n", seconds_left="0.5")
    assert job.outcome()["status"] == "timed_out"
    job = aboard("def task(config):\n    print('TASKAPI_SECONDS_LEFT' in os.environ)\n", seconds_left="1000")
    assert (job.outcome()["status"], job.said()[0]) == ("succeeded", b"False\n")


def test_a_limit_on_its_running_time(aboard: Callable[..., Aboard]) -> None:
    source = "def task(config):\n    try:\n        time.sleep(1000)\n    finally:\n        print('finally')\n"
    job = aboard(source, run_timeout=1)
    outcome = job.outcome()
    assert (outcome["status"], outcome["reason"]) == ("timed_out", "ran longer than its run_timeout of 1 s")
    assert (job.said()[0], outcome["exit_code"], job.process.returncode) == (b"finally\n", -15, 143)


def test_an_exit_code_is_the_entry_points_own(aboard: Callable[..., Aboard]) -> None:
    job = aboard("def task(config):\n    print('last words')\n    sys.exit(7)\n")
    outcome = job.outcome()
    assert (outcome["status"], outcome["exit_code"]) == ("worker_error", 7)
    assert (job.said()[0], job.process.returncode) == (b"last words\n", 7)


def test_a_callable_of_another_python(aboard: Callable[..., Aboard]) -> None:
    """It is refused before anything of it is read."""
    job = aboard("def task(config):\n    print('here')\n", python="3.99")
    here = "{}.{}".format(*sys.version_info)
    assert job.outcome()["status"] == "unexpected_error"
    assert job.outcome()["reason"] == (
        f"could not be started: its callable was pickled by Python 3.99, and this cluster has {here}"
    )
    assert (job.said()[0], job.process.returncode) == (b"", 1)


TREE = (
    "def task(config):\n"
    "    child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "    print(os.getpid(), os.getppid(), child.pid, flush=True)\n"
    "    time.sleep(1000)\n"
)


@pytest.mark.parametrize("who", ["told", "entry point", "watcher", "task"])
def test_killed(aboard: Callable[..., Aboard], who: str) -> None:
    """Whoever is killed, the tree is gone, and whoever is left says how it ended."""
    job = aboard(TREE)
    task, watcher, _ = tree = job.first_line()
    if who == "told":
        job.process.send_signal(signal.SIGTERM)  # as Ray does that is asked to stop a job
    else:
        pid = {"entry point": job.process.pid, "watcher": watcher, "task": task}[who]
        psutil.Process(pid).kill()
    outcome = job.outcome()
    expected = {
        "told": ("stopped", None),
        "entry point": ("unexpected_error", "Ray's own process for it was killed"),
        "watcher": ("unexpected_error", "its watcher was killed"),
        "task": ("worker_error", "killed by signal 9 (SIGKILL)"),
    }[who]
    assert (outcome["status"], outcome["reason"]) == expected, job.output.read_text()
    until(lambda: not any(map(psutil.pid_exists, tree)), "the tree to be gone")
