"""progress() inside a job, and the folder of stand-ins that every task can import from."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import taskapi_jupyter
from taskapi_jupyter import job

PACKAGE = Path(taskapi_jupyter.__file__).parent
TASK_PATH = PACKAGE / "worker" / "path"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a job's folder, with this process in the job."""
    monkeypatch.setenv("TASKAPI_JOB_SPEC", str(tmp_path / "job.json"))
    return tmp_path


def read(folder: Path) -> Any:
    return json.loads((folder / "progress.json").read_text())


def python(code: str, *options: str, cwd: Path, **env: str) -> str:
    """Run code in an interpreter of its own and return what it printed."""
    command = [sys.executable, *options, "-c", dedent(code)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_progress_is_written(folder: Path) -> None:
    job.progress(3, 3, "epoch")
    assert read(folder) == {"done": 3, "total": 3, "message": "epoch"}
    assert (folder / "progress.json").stat().st_mode & 0o777 == 0o600
    job.progress(0.5, 0.5)
    assert read(folder) == {"done": 0.5, "total": 0.5, "message": None}
    job.progress(1, 1, "ü" * 600 + "\ud800")
    assert read(folder)["message"] == "ü" * 500
    job.progress(1, 1, "\ud800")
    assert read(folder)["message"] == "?"
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


def test_outside_a_job_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKAPI_JOB_SPEC", raising=False)
    monkeypatch.chdir(tmp_path)
    job.progress(1, 1)
    assert list(tmp_path.iterdir()) == []


class Numpyish:
    def __float__(self) -> float:
        return 2.0


def test_what_counts_as_a_number(folder: Path) -> None:
    job.progress(Numpyish(), Numpyish())  # type: ignore[arg-type]
    assert read(folder)["done"] == 2
    values: list[tuple[Any, type[Exception], str]] = [
        ("1", TypeError, "done must be a number, not str"),
        (None, TypeError, "done must be a number, not NoneType"),
        (True, TypeError, "done must be a number, not bool"),
        (float("nan"), ValueError, "done must be a finite number, not nan"),
        (10**400, ValueError, "done must be a finite number"),
    ]
    for value, error, words in values:
        with pytest.raises(error, match=words):
            job.progress(value)
    with pytest.raises(ValueError, match="total must be a finite number, not inf"):
        job.progress(1, float("inf"))
    with pytest.raises(TypeError, match="message must be text, not int"):
        job.progress(1, 2, 3)  # type: ignore[arg-type]


def test_a_folder_that_is_gone_does_not_end_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKAPI_JOB_SPEC", str(tmp_path / "gone/job.json"))
    job.progress(1, 1)


def test_a_tight_loop_writes_seldom_and_its_last_value_always(folder: Path) -> None:
    out = python(
        """
        import os, time
        from taskapi_jupyter.job import progress
        writes, replace = [], os.replace
        os.replace = lambda *paths: (writes.append(1), replace(*paths))
        began = time.monotonic()
        for number in range(20_000):
            progress(number, 1_000_000)
        print(len(writes), time.monotonic() - began)
        """,
        cwd=folder,
        TASKAPI_JOB_SPEC=str(folder / "job.json"),
    )
    writes, seconds = out.split()
    assert 1 <= int(writes) <= 2 + 10 * float(seconds)
    assert read(folder)["done"] == 19_999


def test_a_value_that_waits_is_written_without_another_call(folder: Path) -> None:
    python(
        """
        import json, os, time
        from taskapi_jupyter.job import progress
        progress(1, 9)
        progress(2, 9)
        deadline = time.monotonic() + 30
        while json.load(open("progress.json"))["done"] != 2:
            assert time.monotonic() < deadline
        os._exit(0)
        """,
        cwd=folder,
        TASKAPI_JOB_SPEC=str(folder / "job.json"),
    )
    assert read(folder)["done"] == 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_may_write_too(folder: Path, method: str) -> None:
    (folder / "main.py").write_text(
        dedent(f"""\
        import multiprocessing
        from taskapi_jupyter.job import progress

        def work(first):
            for number in range(first, first + 3):
                progress(number, 100)

        if __name__ == "__main__":
            progress(1, 100)
            progress(2, 100)  # waits, so that a timer runs at the fork
            child = multiprocessing.get_context("{method}").Process(target=work, args=(50,))
            child.start()
            child.join()
            print(child.exitcode, open("progress.json").read())
        """)
    )
    ended = subprocess.run(
        [sys.executable, "main.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"TASKAPI_JOB_SPEC": str(folder / "job.json")},
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    code, text = ended.stdout.split(" ", 1)
    assert code == "0"
    # The parent's own value, which waited, may come between the child's end and the look.
    assert json.loads(text)["done"] in (52, 2)


def test_many_threads(folder: Path) -> None:
    python(
        """
        import threading
        from taskapi_jupyter.job import progress
        threads = [threading.Thread(target=lambda: [progress(n, 5000) for n in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress(4999, 5000)
        """,
        cwd=folder,
        TASKAPI_JOB_SPEC=str(folder / "job.json"),
    )
    assert read(folder)["done"] == 4999
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


# The stand-ins. -S leaves installed packages out.


def test_progress_where_the_package_is_not_installed(folder: Path) -> None:
    out = python(
        f"""
        import sys
        sys.path.append({str(TASK_PATH)!r})
        from taskapi_jupyter.job import progress
        import taskapi_jupyter
        progress(1, 1)
        print(taskapi_jupyter.__path__, hasattr(taskapi_jupyter, "connect"), progress.__module__)
        """,
        "-S",
        cwd=folder,
        TASKAPI_JOB_SPEC=str(folder / "job.json"),
    )
    assert out.split() == [str([str(PACKAGE)]), "False", "taskapi_jupyter.job"]
    assert read(folder)["done"] == 1


def test_stand_ins_give_way_to_what_is_installed(tmp_path: Path) -> None:
    out = python(
        "import taskapi_jupyter, taskapi_jupyter.job as j; print(taskapi_jupyter.__version__, j.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(TASK_PATH),
    )
    assert out.split() == [taskapi_jupyter.__version__, str(PACKAGE / "job.py")]

    lib = tmp_path / "site/cortex_internal/lib"
    lib.mkdir(parents=True)
    (lib.parent / "__init__.py").write_text("REAL = True\n")
    (lib / "__init__.py").touch()
    (lib / "log.py").write_text("logger = 'theirs'\n")
    out = python(
        "import cortex_internal; from cortex_internal.lib.log import logger; print(cortex_internal.REAL, logger)",
        "-S",
        cwd=tmp_path,
        PYTHONPATH=f"{TASK_PATH}:{tmp_path / 'site'}",
    )
    assert out.split() == ["True", "theirs"]


def test_a_mere_folder_of_the_name_is_no_package_to_give_way_to(folder: Path) -> None:
    (folder / "cortex_internal").mkdir()
    (folder / "taskapi_jupyter").mkdir()
    code = "from taskapi_jupyter.job import progress; from cortex_internal.lib.log import logger; print(logger.name)"
    assert python(code, "-S", cwd=folder, PYTHONPATH=str(TASK_PATH)).strip() == "cortex"


def test_cortex_logger(tmp_path: Path) -> None:
    code = """
        from cortex_internal.lib.log import logger
        logger.debug("hidden")
        logger.info("done %d", 3, extra={"accuracy": 0.97, "at": {1, }, "nan": float("nan")})
        try:
            1 / 0
        except ZeroDivisionError:
            logger.exception("failed")
    """
    first, second = python(code, "-S", cwd=tmp_path, PYTHONPATH=str(TASK_PATH)).splitlines()
    line = json.loads(first)
    assert list(line)[:4] == ["asctime", "levelname", "message", "process"]
    assert [line[key] for key in ("levelname", "message", "accuracy", "at")] == ["INFO", "done 3", 0.97, "{1}"]
    assert line["nan"] == "nan"
    assert "ZeroDivisionError" in json.loads(second)["exc_info"]
    shown = python(code, "-S", cwd=tmp_path, PYTHONPATH=str(TASK_PATH), CORTEX_LOG_LEVEL="debug").splitlines()
    assert json.loads(shown[0])["message"] == "hidden"
    assert not python(
        "from cortex_internal.lib.log import logger; logger.warning('hidden')",
        "-S",
        cwd=tmp_path,
        PYTHONPATH=str(TASK_PATH),
        CORTEX_LOG_LEVEL="error",
    )


def test_what_a_task_imports_is_python_3_8() -> None:
    for path in [PACKAGE / "job.py", PACKAGE / "deploy" / "api_spec" / "task_source.py", *TASK_PATH.rglob("*.py")]:
        ast.parse(path.read_text(), str(path), feature_version=(3, 8))


def test_in_a_notebook_progress_goes_to_what_runs_its_cells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kernel").mkdir()
    monkeypatch.setenv("TASKAPI_PROGRESS", str(folder / "kernel" / "progress.json"))
    job.progress(1, 1)
    assert read(folder / "kernel") == {"done": 1, "total": 1, "message": None}
    assert not (folder / "progress.json").exists()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (1, 2, TypeError, "name must be text, not int"),
        ("", 2, ValueError, "name must not be empty"),
        ("a", {1}, TypeError, "the value of 'a' must be None, bool, int, float, str, list or dict, not set"),
        ("a", {"b": [0, {3: 4}]}, TypeError, "the value of 'a'['b'][1] has a key that is no text: 3"),
        ("a", [float("nan")], ValueError, "the value of 'a'[0] must be finite, not nan"),
        ("a", 1, RuntimeError, "glue() works in a notebook's cell; a task that is a function returns its result"),
    ],
)
def test_what_cannot_be_glued(name: Any, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        job.glue(name, value)
    assert str(raised.value) == message
