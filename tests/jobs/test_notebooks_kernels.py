"""Kernels of a notebook's job: other languages, kernels that can't start, what a kernelspec says, outputs without end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupyter_core.paths
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from support import until
from support.notebooks import Start, ended, log_shows, printed, saved, tagged, write
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.cold]

HAS_R = shutil.which("R") is not None and "ir" in KernelSpecManager().find_kernel_specs()
needs_r = pytest.mark.skipif(not HAS_R, reason="there is no R with IRkernel: apt-get install r-cran-irkernel")


@pytest.fixture
def home(short_home: Path) -> Path:
    """Return a home for each test."""
    return short_home


@pytest.fixture
def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what makes a kernelspec ``mine`` and returns its folder; its interpreter is that of the tests."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def make(*argv: str, **more: Any) -> Path:
        folder = tmp_path / "jupyter" / "kernels" / "mine"
        folder.mkdir(parents=True)
        command = list(argv) or [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": "Mine", "language": "python", **more}
        (folder / "kernel.json").write_text(json.dumps(spec))
        return folder

    return make


@needs_r
def test_r_with_parameters(start: Start, service: Service) -> None:
    config = {"lr": 0.5, "yes": True, "text": "a'b\\n\"ü☃", "many": [1, 2.5]}
    job = start(
        tagged("lr <- 1; yes <- FALSE; text <- ''; many <- c()", "parameters"),
        "cat(lr, yes, many[[2]], utf8ToInt(text), validUTF8(text), sep=' ')",
        "lr * 2",
        config=config,
        kernel="ir",
    )
    assert ended(job) == ("succeeded", None)
    codes = " ".join(str(ord(one)) for one in config["text"])
    assert printed(saved(service, job))[2] == f"0.5 TRUE 2.5 {codes} TRUE"
    assert "[1] 1" in job.logs()
    assert saved(service, job).metadata.language_info.name == "R"


@needs_r
def test_r_fails_and_is_stopped(start: Start, service: Service, tmp_path: Path) -> None:
    job = start("# Train", "stop('boom')", kernel="ir")
    status, reason = ended(job)
    assert status == "worker_error"
    assert 'cell 1 (In [1]) "Train": ERROR: ' in (reason or "")
    assert "boom" in (reason or "")
    job = start("cat('on\\n'); flush.console()", "Sys.sleep(1000)", kernel="ir")
    log_shows(job, "cell 2/2")
    job.stop()
    assert ended(job) == ("stopped", None)
    assert saved(service, job).cells[1].metadata.papermill.status == "stopped"


def test_what_a_kernelspec_says_holds(start: Start, service: Service, kernelspec: Callable[..., Path]) -> None:
    kernelspec(env={"GREETING": "hello ${TASKAPI_API_NAME}"}, interrupt_mode="message")
    job = start("import os\nprint(os.environ['GREETING'])", kernel="mine")
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == [f"hello {job.api_name}\n"]


def test_a_cell_is_interrupted_by_message(start: Start, service: Service, kernelspec: Callable[..., Path]) -> None:
    kernelspec(interrupt_mode="message")
    job = start("import time\nwhile True: time.sleep(0.01)", kernel="mine", cell_timeout=1)
    assert ended(job) == ("worker_error", "cell 1 (In [1]): took longer than its cell_timeout of 1 s")
    outputs = [one for cell in saved(service, job).cells for one in cell.get("outputs", ())]
    assert [one.ename for one in outputs] == ["KeyboardInterrupt"]


def test_a_kernelspec_that_is_gone(start: Start, service: Service, kernelspec: Callable[..., Path]) -> None:
    folder = kernelspec()
    job = start("1", kernel="mine")
    assert ended(job)[0] == "succeeded"
    shutil.rmtree(folder)
    job = service.submit(job.api_name)
    reason = f"the kernel mine is gone: {folder / 'kernel.json'}: No such file or directory"
    assert ended(job) == ("unexpected_error", reason)
    assert job.logs() == f"taskapi: {reason}\n"
    assert saved(service, job) is None


def test_a_kernel_whose_program_is_gone(start: Start, service: Service, kernelspec: Callable[..., Path]) -> None:
    folder = kernelspec()
    job = start("1", kernel="mine")
    job.stop()
    spec = json.loads((folder / "kernel.json").read_text())
    spec["argv"][0] = "/nowhere/python"
    (folder / "kernel.json").write_text(json.dumps(spec))
    job = service.submit(job.api_name)
    reason = "the kernel mine can't be started: /nowhere/python: No such file or directory"
    assert ended(job) == ("unexpected_error", reason)


def test_a_kernel_that_ends_at_once(start: Start, kernelspec: Callable[..., Path]) -> None:
    code = "import sys; print('first', file=sys.stderr); sys.exit('no ipykernel here')"
    kernelspec(sys.executable, "-c", code, "{connection_file}")
    job = start("1", kernel="mine")
    status, reason = ended(job)
    assert status == "worker_error"
    assert reason == "the kernel mine ended with exit code 1 before it was ready: first | no ipykernel here"
    assert job.logs() == "first\nno ipykernel here\n"


def test_a_kernel_that_is_never_ready(start: Start, service: Service, kernelspec: Callable[..., Path]) -> None:
    code = "import sys, time; print('thinking', file=sys.stderr, flush=True); time.sleep(1000)"
    kernelspec(sys.executable, "-c", code, "{connection_file}")
    job = start("1", kernel="mine", startup_timeout=1)
    assert ended(job) == ("worker_error", "the kernel mine was not ready in 1 s: thinking")
    job = start("1", kernel="mine")
    log_shows(job, "thinking")
    job.stop()
    assert ended(job) == ("stopped", None)


def test_outputs_are_cut(start: Start, service: Service, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\nlog_max_bytes: 10000\n")
    job = start("for _ in range(100): print('x' * 999)", "print('next')", "display('y' * 20000)\nprint('z')")
    assert ended(job) == ("succeeded", None)
    notebook = saved(service, job)
    texts = printed(notebook)
    assert len(texts[0]) < 10200
    assert texts[0].startswith("x" * 999 + "\n")
    assert texts[0].endswith("\ntaskapi: the outputs of this cell are cut at 10000 bytes (log_max_bytes)\n")
    assert texts[1] == "next\n"
    assert texts[2] == "\ntaskapi: the outputs of this cell are cut at 10000 bytes (log_max_bytes)\n"


def test_streams_are_joined_cleared_and_updated(start: Start, service: Service) -> None:
    job = start(
        "import sys\nfor i in range(3):\n    print(i, flush=True)\n    print(-i, file=sys.stderr, flush=True)",
        "from IPython.display import clear_output, display\nprint('old')\nclear_output()\nprint('new')",
        "handle = display('first', display_id=True)\nhandle.update('second')",
        "for i in range(2000): print(i, flush=True)",
    )
    assert ended(job) == ("succeeded", None)
    cells = saved(service, job).cells
    assert printed(saved(service, job))[1] == "new\n"
    assert cells[2].outputs[0].data["text/plain"] == "'second'"
    assert len(cells[3].outputs) == 1
    assert cells[3].outputs[0].text == "".join(f"{i}\n" for i in range(2000))


def test_what_a_cell_prints_while_nobody_reads_is_kept(start: Start, service: Service) -> None:
    """A kernel's socket drops what is more than a thousand messages behind, as on a machine that is busy."""
    stopped = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"
    job = start(
        f"{stopped}for i in range(5000): print(i, flush=True)\nos.kill(os.getppid(), signal.SIGCONT)",
        "sorted(globals())",
    )
    assert ended(job) == ("succeeded", None)
    cells = saved(service, job).cells
    assert cells[0].outputs[0].text == "".join(f"{i}\n" for i in range(5000))
    assert [one for one in eval(cells[1].outputs[0].data["text/plain"]) if not one.startswith("_")] == [
        *("In", "Out", "exit", "get_ipython", "i", "open", "os", "quit", "signal")
    ]


def test_a_memory_limit_holds(service: Service, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "report.ipynb", "# Load", "data = bytearray(10**9)")
    spec = {"name": name, "kind": "TaskAPI", "definition": {"path": str(path)}, "compute": {"mem": "400Mi"}}
    service.deploy(spec)
    job = service.submit(name)
    status, reason = ended(job)
    assert status == "worker_oom"
    assert (reason or "").startswith("out of memory: used ")
    assert saved(service, job).cells[1].metadata.papermill.status == "running"


def test_widgets_are_saved(start: Start, service: Service) -> None:
    job = start("import ipywidgets\nipywidgets.IntSlider(value=7)")
    assert ended(job) == ("succeeded", None)
    state = saved(service, job).metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert [one["state"]["value"] for one in state.values() if one["model_name"] == "IntSliderModel"] == [7]


def test_answers_that_come_while_widgets_send_are_not_lost(start: Start) -> None:
    printing = "for out in outs * 4:\n    with out:\n        print('x')\n    out.clear_output()"
    job = start("import ipywidgets\nouts = [ipywidgets.Output() for _ in range(5)]", *[printing] * 30)
    assert ended(job) == ("succeeded", None)


def test_the_interpreters_own_kernel_needs_no_kernelspec(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENV_JUPYTER_PATH", "SYSTEM_JUPYTER_PATH"):
        monkeypatch.setattr(jupyter_core.paths, name, [])
    assert KernelSpecManager().find_kernel_specs().keys() == {"python3"}
    assert ended(start("1 + 1")) == ("succeeded", None)


def test_files_are_closed_at_the_end(start: Start, service: Service) -> None:
    job = start(
        "import atexit, os\nfile = open(os.environ['TASKAPI_OUTPUT_DIR'] + '/out', 'w')\nfile.write('kept')\n"
        "atexit.register(lambda: open(os.environ['TASKAPI_OUTPUT_DIR'] + '/exit', 'w'))"
    )
    assert ended(job) == ("succeeded", None)
    files = service.home / "jobs" / job.id / "files"
    assert (files / "out").read_text() == "kept"
    assert (files / "exit").exists()


def test_modules_of_the_users_folder_are_for_the_cells(
    start: Start, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    for name in ("harness", "nbclient", "container"):
        (tmp_path / "project" / f"{name}.py").write_text("print('mine')")
    job = start("import os\nimport harness, nbclient, container\nprint(os.getcwd())")
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == ["mine\n" * 3 + f"{tmp_path / 'project'}\n"]


def test_other_programs_read_what_is_saved(start: Start, service: Service, tmp_path: Path) -> None:
    job = start(tagged("a = 1", "parameters"), "from taskapi_jupyter.job import glue\nglue('b', a)", config={"a": 2})
    assert ended(job) == ("succeeded", None)
    path = next((service.home / "jobs" / job.id / "files").glob("*.ipynb"))
    nbformat.validate(nbformat.read(path, 4))
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(tmp_path), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    papermill = pytest.importorskip("papermill", reason="there is no papermill")
    assert papermill.inspect_notebook(str(path))["a"]["default"] == "1"


def test_an_older_notebook(start: Start, service: Service, tmp_path: Path) -> None:
    job = start("1")
    ended(job)
    path = tmp_path / "project" / "Report.ipynb"
    notebook = json.loads(path.read_text())
    notebook["nbformat_minor"] = 2
    for cell in notebook["cells"]:
        del cell["id"]
        cell["source"] = ["print('a')\n", "print('b')"]
    path.write_text(json.dumps(notebook))
    service.deploy({"name": job.api_name, "kind": "TaskAPI", "definition": {"path": str(path)}})
    job = service.submit(job.api_name)
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == ["a\nb\n"]


def test_the_disk_is_full_for_the_notebook(start: Start, service: Service, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = start(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('done')")
    files = service.home / "jobs" / job.id / "files"
    until((files / "Report.ipynb").exists, "the first save")
    (files / "Report.ipynb").unlink()
    (files / "Report.ipynb").mkdir()
    gate.touch()
    assert ended(job) == ("succeeded", "its notebook could not be saved: Is a directory")
    assert "done" in job.logs()
    assert os.listdir(files / "Report.ipynb") == []
