"""A notebook as a job: its parameters, what is saved while it runs, its log, progress and result, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from support import PATIENCE, until
from support.homes import clean, processes
from support.notebooks import Cell, Start, ended, log_shows, printed, saved, tagged, write
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.cold]


@pytest.fixture
def home(short_home: Path) -> Path:
    """Return a home for each test."""
    return short_home


def test_cells_run_in_order_and_are_saved(start: Start, service: Service) -> None:
    job = start("# First", "print('one')", "# Second", "1 + 1", "print('three')")
    assert ended(job) == ("succeeded", None)
    assert job.result() == {}
    notebook = saved(service, job)
    assert printed(notebook) == ["one\n", "", "three\n"]
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, None, 2, 3]
    assert notebook.cells[3].outputs[0].data["text/plain"] == "2"
    assert job.logs().splitlines() == [
        "── cell 1/3 · First ──",
        "one",
        "── cell 2/3 · Second ──",
        "2",
        "── cell 3/3 · Second ──",
        "three",
    ]
    left = {"files", "log", "result.json"}  # and what it used, if it ran for a second
    folder = service.home / "jobs" / job.id
    until(lambda: {path.name for path in folder.iterdir()} - {"usage.jsonl"} == left, "the rest to be removed")


def test_what_papermill_notes_is_noted(start: Start, service: Service) -> None:
    job = start(tagged("lr = 1", "parameters"), "lr", config={"lr": 0.5})
    assert ended(job) == ("succeeded", None)
    notebook = saved(service, job)
    noted = notebook.metadata.papermill
    assert noted.parameters == {"lr": 0.5}
    assert noted.exception is None
    assert noted.duration >= 0
    assert [cell.metadata.papermill.status for cell in notebook.cells] == ["completed"] * 3
    assert [cell.metadata.papermill.exception for cell in notebook.cells] == [False] * 3
    assert all(cell.metadata.papermill.duration >= 0 for cell in notebook.cells)


def test_parameters_keep_their_types(start: Start, service: Service) -> None:
    config = {"text": "a'b\\n\"ü☃", "yes": True, "none": None, "many": [1, 2.5, [False]], "deep": {"é": {"x": None}}}
    job = start(tagged("text = yes = none = many = deep = 0", "parameters"), f"assert {config!r} == dict(\n"
                "    text=text, yes=yes, none=none, many=many, deep=deep)", config=config)  # fmt: skip
    assert ended(job) == ("succeeded", None)
    notebook = saved(service, job)
    assert [cell.metadata.get("tags") for cell in notebook.cells] == [["parameters"], ["injected-parameters"], None]


@pytest.mark.parametrize(
    ("cells", "place", "note"),
    [
        ((tagged("a = 1", "parameters"), tagged("a = 2", "injected-parameters"), "print(a)"), 1, False),
        ((tagged("a = 2", "injected-parameters"), tagged("a = 1", "parameters"), "print(a)"), 1, False),
        ((tagged("a = 1", "parameters"), tagged("b = 1", "parameters"), "print(a)"), 1, False),
        (("print(a)",), 0, True),
    ],
    ids=["replaced", "replaced-and-moved", "first", "none"],
)
def test_where_parameters_go(start: Start, service: Service, cells: tuple[Cell], place: int, note: bool) -> None:
    job = start(*cells, config={"a": 3}, allow_unknown=True)
    assert ended(job) == ("succeeded", None)
    notebook = saved(service, job)
    tags = [cell.metadata.get("tags") for cell in notebook.cells]
    assert [at for at, tag in enumerate(tags) if tag == ["injected-parameters"]] == [place]
    assert printed(notebook)[-1] == "3\n"
    assert ("no cell is tagged" in job.logs()) == note


def test_output_is_saved_while_a_cell_runs(start: Start, service: Service, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = start("# Train", "print('before')", f"import os, time\nprint('begun', flush=True)\n"
                f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('over')")  # fmt: skip
    until(lambda: (now := saved(service, job)) and printed(now) == ["before\n", "begun\n"], "the line in the notebook")
    progress = json.loads((service.home / "jobs" / job.id / "progress.json").read_text())
    cell = saved(service, job).cells[2]
    assert progress == {
        "done": 1,
        "total": 2,
        "message": "Train",
        "cell": {"index": 2, "id": cell.id, "status": "running"},
    }
    assert cell.metadata.papermill.status == "running"
    gate.touch()
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == ["before\n", "begun\nover\n"]


#: What its kernel uses is more than what runs its cells does.
MEASURED = """
import time
from taskapi_jupyter.job import metric
metric(loss=0.5)
held = bytes(bytearray(b"x") * (200 << 20))
while time.process_time() < 3:
    pass
metric(loss=0.25)
"""


@pytest.mark.parametrize("last", ["pass", "metric(loss=0.125)\nraise ValueError"])
def test_metrics_of_a_cell_and_what_its_kernel_uses(start: Start, last: str) -> None:
    job = start(MEASURED, last)
    assert ended(job)[0] == ("succeeded" if last == "pass" else "worker_error")
    values = [0.5, 0.25] if last == "pass" else [0.5, 0.25, 0.125]
    assert [value for _, _, value in job.api.metrics(job).metrics["loss"]] == values
    assert job.refresh().record.metrics == {"loss": values[-1]}
    usage = job.record.usage
    assert usage
    assert usage.cpu_seconds >= 3
    assert usage.memory_peak >= 200 << 20
    assert max(memory for _, _, memory in job.api.usage(job).points) >= 200 << 20


def test_progress_in_a_cell_adds_to_that_of_the_notebook(start: Start, service: Service, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = start("# Train", "from taskapi_jupyter.job import progress\nimport os, time\nprogress(3, 10, 'epoch')\n"
                f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)")  # fmt: skip
    until(lambda: (said := job.refresh().progress) and said.message == "Train: 3/10 epoch", "its progress")
    assert (job.progress.done, job.progress.total) == (0, 1)
    gate.touch()
    assert ended(job) == ("succeeded", None)
    assert (job.progress.done, job.progress.message) == (1, None)


def test_what_is_glued_is_the_result(start: Start) -> None:
    job = start(
        "from taskapi_jupyter.job import glue\nglue('a', 1)\nglue('b', [1.5, None, {'ü': True}])", "glue('a', 2)"
    )
    assert ended(job) == ("succeeded", None)
    assert job.result() == {"a": 2, "b": [1.5, None, {"ü": True}]}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('boom\\nagain')", "ValueError: boom again"),
        ("1 +", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("input('name? ')", "input(): a job has no standard input: give the value as a parameter"),
        ("import os\nos._exit(3)", "the kernel ended with exit code 3"),
    ],
    ids=["raise", "syntax", "exit", "input", "died"],
)
def test_a_cell_that_fails(start: Start, service: Service, source: str, reason: str) -> None:
    job = start("print('fine')", "# Train", source, "print('never')")
    status, told = ended(job)
    assert status == "worker_error"
    assert told is not None
    assert told.startswith("cell 2 ")
    assert '"Train": ' + reason in told
    notebook = saved(service, job)
    assert [cell.metadata.get("tags") for cell in notebook.cells if cell.cell_type == "markdown"] == [
        ["papermill-error-cell-tag"],
        None,
        ["papermill-error-cell-tag"],
    ]
    failed = notebook.cells[4]
    assert failed.source == source
    assert failed.metadata.papermill.status == "failed"
    assert notebook.metadata.papermill.exception is True
    assert "never" not in job.logs()
    text = service.store.job(job.id)["progress"] if hasattr(service.store, "job") else None
    assert text is None or json.loads(text)["cell"] == {"index": 4, "id": failed.id, "status": "failed"}


def test_the_log_has_a_failing_cell(start: Start) -> None:
    job = start("x = 1\nx / 0")
    assert ended(job)[0] == "worker_error"
    lines = job.logs().splitlines()
    assert lines[:3] == ["── cell 1/1 ──", "   1 x = 1", "   2 x / 0"]
    (last,) = [line for line in lines if line.endswith(": division by zero")]
    assert re.fullmatch(r"\x1b\[[0-9;]*mZeroDivisionError\x1b\[[0-9;]*m: division by zero", last)


@pytest.mark.parametrize("source", ["import sys\nsys.exit()", "exit(0)", "quit()"])
def test_leaving_early_succeeds(start: Start, service: Service, source: str) -> None:
    job = start("from taskapi_jupyter.job import glue\nglue('a', 1)", source, "print('never')")
    assert ended(job) == ("succeeded", None)
    assert job.result() == {"a": 1}
    assert saved(service, job).cells[2].metadata.papermill.status == "pending"
    assert job.logs().endswith("taskapi: cell 2 asked to exit: the cells below it are not run\n")


def test_tags_are_honoured(start: Start, service: Service) -> None:
    job = start(tagged("1 / 0", "raises-exception"), tagged("print('never')", "skip-execution"), "print('on')")
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == ["", "", "on\n"]
    assert "── cell 2/2 ──" in job.logs()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_kernel_that_is_killed(start: Start, service: Service, number: int) -> None:
    job = start("# Train", "import os\nprint(os.getpid(), flush=True)\nimport time\ntime.sleep(1000)")
    until(lambda: len(job.logs().splitlines()) > 1, "its pid")
    os.kill(int(job.logs().splitlines()[1]), number)
    status, reason = ended(job)
    name = signal.Signals(number).name
    assert (status, reason) == ("worker_error", f'cell 1 (In [1]) "Train": killed by signal {number:d} ({name})')
    assert job.record.exit_code == -number
    assert saved(service, job).cells[3].metadata.papermill.status == "failed"


def test_stopped_and_timed_out(start: Start, service: Service) -> None:
    job = start(
        "import subprocess, time\nsubprocess.Popen(['setsid', 'sleep', '1000'])\nprint('on', flush=True)\n"
        "time.sleep(1000)"
    )
    log_shows(job, "on")
    job.stop()
    assert ended(job) == ("stopped", None)
    assert printed(saved(service, job)) == ["on\n"]
    assert [cell.metadata.papermill.status for cell in saved(service, job).cells] == ["stopped"]
    for timeout in (5, 20, 80):  # a busy machine takes long to start a kernel
        late = service.submit(job.api_name, timeout=timeout)
        late.wait(timeout + PATIENCE)
        assert (late.status, late.reason) == ("timed_out", f"timed out {timeout} s after submission")
        if "on\n" in late.logs():
            break
    assert [cell.metadata.papermill.status for cell in saved(service, late).cells] == ["timed out"]
    left = [one for one in processes(service.home) if "supervisor" not in " ".join(one.cmdline())]
    assert left == []


def test_where_a_path_is_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    home = tmp_path / ("long" * 25)
    home.mkdir()
    monkeypatch.setenv("TASKAPI_HOME", str(home))
    service = Service(home)
    path = write(tmp_path / "report.ipynb", "import os\nprint(os.environ['TASKAPI_HOME'])")
    service.deploy({"name": name, "kind": "TaskAPI", "definition": {"path": str(path)}})
    job = service.submit(name)
    assert ended(job) == ("succeeded", None)
    assert printed(saved(service, job)) == [f"{home}\n"]
    service.close()
    clean(home)


def test_a_cell_that_takes_too_long(start: Start, service: Service) -> None:
    job = start("import time\nwhile True: time.sleep(0.01)", cell_timeout=1)
    assert ended(job) == ("worker_error", "cell 1 (In [1]): took longer than its cell_timeout of 1 s")
    assert saved(service, job).cells[2].outputs[0].ename == "KeyboardInterrupt"


def test_html(start: Start, service: Service) -> None:
    glued = "from taskapi_jupyter.job import glue\nglue('a', 1)"  # which has no form in a page
    job = start("print('in the page')", glued, outputs=["html"])
    assert ended(job) == ("succeeded", None)
    page = service.home / "jobs" / job.id / "files" / "Report.html"
    assert "in the page" in page.read_text()
    assert "<title>Report</title>" in page.read_text()
    assert "Warning" not in job.logs()
    assert page.stat().st_mode & 0o777 == 0o600
