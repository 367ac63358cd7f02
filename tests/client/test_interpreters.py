"""The interpreter of a task, chosen by a kernelspec: under a Jupyter server and without one."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from support.environments import environment, kernelspec, of_ipykernel, told_by
from support.interpreters import OTHERS
from support.kernels import Kernel
from support.notebooks import write
from taskapi_jupyter.deploy.values import shorten

TASK = """
import importlib.metadata, sys
def task(config):
    return [sys.executable, importlib.metadata.version("shade")]
"""
CONNECT = """
import os, pathlib, taskapi_jupyter
api = taskapi_jupyter.connect()
home = pathlib.Path(os.environ.get("TASKAPI_HOME", ""))
"""
TOO_OLD = [one for one in sorted(Path("~/.pyenv/versions").expanduser().glob("3.[67].*/bin/python")) if one.exists()]
HAS_R = shutil.which("R") is not None and "ir" in KernelSpecManager().find_kernel_specs()
VERSION = platform.python_version()


class Place(NamedTuple):
    """What a test finds: two environments with different versions of a package, and where kernelspecs are added."""

    path: Path
    first: Path
    second: Path


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Make the environments, each the Python of a kernelspec, before a kernel or a server is started."""
    path = tmp_path_factory.mktemp("kernels")
    first, second = environment(path / "a", "1.0", kernel=True), environment(path / "b", "2.0", kernel=True)
    kernelspec(path, "first", of_ipykernel(first))
    # Among its variables one that refers to another of the same name, as a kernel of an environment has it.
    kernelspec(path, "second", of_ipykernel(second), env={"PATH": "/of/the/kernel:${PATH}", "SAYS": "${HOME}, ${NO}"})
    kernelspec(path, "sh", ["sh", "{connection_file}"], language="bash")
    kernelspec(path, "wrapped", ["/usr/bin/env", "A=1", *of_ipykernel(second)])
    kernelspec(path, "gone", of_ipykernel(path / "none" / "python"))
    kernelspec(path, "elsewhere", of_ipykernel(first), metadata={"kernel_provisioner": {"provisioner_name": "k8s"}})
    kernelspec(path, "broken", []).write_text("{")
    dead = path / "dead" / "bin" / "python"
    dead.parent.mkdir(parents=True)
    dead.write_text("#!/bin/sh\necho 'no libpython here' >&2\nexit 127\n")
    dead.chmod(0o755)
    kernelspec(path, "dead", of_ipykernel(dead))
    for old in TOO_OLD[:1]:
        kernelspec(path, "old", of_ipykernel(old))
    for other in OTHERS[:1]:
        kernelspec(path, "other", of_ipykernel(environment(path / "c", "3.0", other)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(path))
        yield Place(path, first, second)


def said(notebook: Kernel, code: str) -> list[str]:
    """Return what code printed."""
    shown = notebook.show(dedent(code))
    assert not shown.error, shown.error
    return shown.text.splitlines()


def refused(notebook: Kernel, code: str) -> str:
    """Return the one line that code ends with, which is an error for people."""
    shown = notebook.show(dedent(code))
    assert shown.error, shown.text
    assert "Traceback" not in shown.error or "BadRequest" in shown.error, shown.error
    return shown.error.splitlines()[-1]


def test_the_python_of_a_kernel_runs_a_cell_a_file_and_a_callable(notebook: Kernel, place: Place) -> None:
    assert told_by(place.first) != told_by(place.second)
    said(notebook, CONNECT)
    for name, python in (("first", place.first), ("second", place.second)):
        said(notebook, f"%%taskapi deploy cell --kernel {name}\n{TASK}")
        pathlib = f"pathlib.Path('{name}_file.py').write_text({TASK!r})"
        said(notebook, f"{pathlib}; _ = api.deploy('{name}_file.py', kernel='{name}')")
        said(notebook, f"{TASK}\n_ = api.deploy(task, name='callable', kernel='{name}')")
        code = f"for one in ('cell', '{name}_file', 'callable'): print(api.submit(one, {{}}).result())"
        assert said(notebook, code) == [told_by(python)] * 3
        decorated = f"taskapi_jupyter.task(kernel='{name}', name='decorated')(task).submit({{}})"
        assert said(notebook, f"import taskapi_jupyter; print({decorated}.result())") == [told_by(python)]
    # A configuration chooses as well, and the same cell for another kernel is another version.
    config = {"name": "file", "definition": {"path": "first_file.py", "kernel": "second"}}
    assert said(notebook, f"_ = api.deploy({config!r})\nprint(api.submit('file').result())") == [told_by(place.second)]
    ids = """
    print(len({result.api.spec["id"] for name in ("first", "second") for result in
        api.deploy({"name": "one", "definition": {"path": "first_file.py"}}, kernel=name)}))
    """
    assert said(notebook, ids) == ["2"]


def test_a_notebook_runs_in_the_kernel_that_is_named(notebook: Kernel, place: Place, tmp_path: Path) -> None:
    tells = (
        TASK + "\nimport os, pathlib\npathlib.Path(os.environ['TASKAPI_OUTPUT_DIR'], 'told').write_text(str(task({})))"
    )
    write(tmp_path / "work" / "tells.ipynb", tells)
    said(notebook, CONNECT)
    for name, python in (("first", place.first), ("second", place.second)):
        code = f"""
        _ = api.deploy("tells.ipynb", kernel="{name}")
        job = api.submit("tells").wait()
        print(job.status, job.api.read_file(job, "told").decode())
        print(job.refresh().record.python.path, job.record.python.version)
        """
        assert said(notebook, code) == [f"succeeded {told_by(python)}", f"{python} {VERSION}"]


def test_a_task_gets_the_variables_of_the_kernelspec(notebook: Kernel, place: Place) -> None:
    said(notebook, f"{CONNECT}\nimport os\npathlib.Path('.env').write_text('SAYS=of the project')")
    told = """
    def told(config):
        import os
        return [os.environ["PATH"].split(":")[:2], os.environ.get("SAYS")]
    """
    paths = ["/of/the/kernel", str(place.second.parent)]
    said(notebook, f"{dedent(told)}\n_ = api.deploy(told, kernel='second', env={{'SAYS': 'of the API'}})")
    assert said(notebook, "print(api.submit('told').result())") == [str([paths, "of the API"])]
    said(notebook, "_ = api.deploy(told, kernel='second')")
    assert said(notebook, "print(api.submit('told').result())") == [str([paths, "of the project"])]
    said(notebook, "pathlib.Path('.env').unlink(); _ = api.deploy(told, kernel='second')")
    home = os.environ["HOME"]
    assert said(notebook, "print(api.submit('told').result())") == [str([paths, f"{home}, ${{NO}}"])]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("kernel='fist'", "there is no kernel 'fist'; there are: first, "),
        ("kernel='sh'", "kernel 'sh' runs bash; a callable is Python"),
        ("kernel='gone'", "the kernel 'gone' can't be started: its program '{path}/"),
        ("kernel='elsewhere'", "the kernel 'elsewhere' is started by 'k8s'; a job starts kernels of this machine only"),
        ("kernel='broken'", "the kernelspec 'broken' in {path}/kernels/broken can't be used: JSONDecodeError: "),
        ("kernel='dead'", "kernel 'dead': {path}/dead/bin/python can't be used as the interpreter"),
        ("kernel='wrapped'", "kernel 'wrapped' starts /usr/bin/env, which is no Python interpreter (argv in {path}/"),
        ("kernel='first', python='python3'", "python and definition.kernel both say which interpreter runs the task"),
        ("kernel=''", "definition.kernel must be text, neither empty nor with a NUL character, not ''"),
        ("kernel=3", "definition.kernel must be text"),
    ],
)
def test_kernels_that_no_task_can_run_with(notebook: Kernel, place: Place, options: str, words: str) -> None:
    said(notebook, f"{CONNECT}\ndef task(config): return 1")
    told = refused(notebook, f"api.deploy(task, name='refused', {options})")
    assert f"BadRequest: refused: {words.format(path=place.path)}" in told
    assert said(notebook, "print([one.name for one in api.get() if one.name == 'refused'])") == ["[]"]


def test_what_is_refused_says_what_the_task_is(notebook: Kernel) -> None:
    said(notebook, f"{CONNECT}\npathlib.Path('task.py').write_text('def task(config): return 1')")
    of_cell = refused(notebook, "%%taskapi deploy refused --kernel sh\ndef task(config): return 1")
    assert of_cell == "BadRequest: refused: kernel 'sh' runs bash; a cell task is Python"
    of_file = refused(notebook, "api.deploy('task.py', kernel='sh')")
    assert of_file.endswith("BadRequest: task: kernel 'sh' runs bash; a task in a file is Python")


@pytest.mark.skipif(not HAS_R, reason="there is no R here, or no kernel of it")
def test_a_cell_can_not_run_in_r(notebook: Kernel) -> None:
    told = refused(notebook, "%%taskapi deploy refused --kernel ir\ndef task(config): return 1")
    assert told == "BadRequest: refused: kernel 'ir' runs R; a cell task is Python"


@pytest.mark.skipif(not OTHERS, reason="there is no other Python here")
def test_another_minor_version_runs_a_cell_and_no_callable(notebook: Kernel, place: Place) -> None:
    said(notebook, CONNECT)
    said(notebook, f"%%taskapi deploy cell --kernel other\n{TASK}")
    other = place.path / "c" / "bin" / "python"
    assert said(notebook, "print(api.submit('cell').result())") == [told_by(other)]
    told = refused(notebook, f"{TASK}\napi.deploy(task, kernel='other')")
    assert f"BadRequest: task: the callable was pickled by Python {VERSION.rpartition('.')[0]}; {other} is 3." in told


@pytest.mark.skipif(not TOO_OLD, reason="there is no Python before 3.8 here")
def test_a_python_that_is_too_old(notebook: Kernel, tmp_path: Path) -> None:
    told = refused(notebook, "%%taskapi deploy refused --kernel old\ndef task(config): return 1")
    assert told.startswith(f"BadRequest: refused: kernel 'old': {TOO_OLD[0]} is Python 3.")
    assert told.endswith(", and a task needs 3.8 or newer")
    write(tmp_path / "work" / "report.ipynb", "1")
    told = refused(notebook, f"{CONNECT}\napi.deploy('report.ipynb', kernel='old')")
    assert told.endswith(", and a task needs 3.8 or newer")


@pytest.fixture
def conda(place: Place, tmp_path: Path) -> Path:
    """Return an environment that looks like one of conda, named ``snakes``; ``conda`` is its kernelspec."""
    prefix = tmp_path / "envs" / "snakes"
    python = environment(prefix, "4.0", kernel=True)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "state").write_text('{"env_vars": {"DECLARED": "yes", "GONE": "***unset***"}}')
    scripts = prefix / "etc" / "conda" / "activate.d"
    scripts.mkdir(parents=True)
    (scripts / "gdal.sh").write_text(f"touch {tmp_path}/it-ran\n")
    shutil.rmtree(place.path / "kernels" / "snakes", ignore_errors=True)
    kernelspec(place.path, "snakes", of_ipykernel(python))
    return prefix


ACTIVATED = """
def activated(config):
    import os
    names = ("CONDA_PREFIX", "CONDA_DEFAULT_ENV", "DECLARED", "GONE")
    return [os.environ["PATH"].split(":")[0], *map(os.environ.get, names)]
"""


def test_a_conda_environment_is_as_if_activated_but_for_its_scripts(
    notebook: Kernel, conda: Path, tmp_path: Path
) -> None:
    told = [f"{conda}/bin", str(conda), "snakes", "yes", None]
    warning = f"scripts that activate the conda environment {conda} are not run (gdal.sh in etc/conda/activate.d): "
    said(notebook, CONNECT + ACTIVATED)
    for how in ("kernel='snakes'", f"python='{conda}/bin/python'"):
        (warned,) = said(notebook, f"print(api.deploy(activated, {how})[0].warnings)")
        assert warning in warned
        assert said(notebook, "print(api.submit('activated').result())") == [str(told)]
    cell = "import os, pathlib\npathlib.Path(os.environ['TASKAPI_OUTPUT_DIR'], 'told').write_text(str(activated({})))"
    write(tmp_path / "work" / "snakes.ipynb", ACTIVATED + cell)
    run = """
    print(api.deploy("snakes.ipynb", kernel="snakes")[0].warnings)
    job = api.submit("snakes").wait()
    print(api.read_file(job, "told").decode())
    """
    warned, inside = said(notebook, run)
    assert warning in warned
    assert inside == str(told)
    assert not (tmp_path / "it-ran").exists()


def test_which_python_runs_a_task_is_shown(notebook: Kernel, place: Place) -> None:
    said(notebook, f"%%taskapi deploy shown --kernel second\n{TASK}")
    said(notebook, f"{CONNECT}\njob = api.submit('shown').wait()")
    for what in ("$job", "shown"):
        shown = said(
            notebook,
            f"""
            status = %taskapi status {what}
            print(*get_ipython().display_formatter.format(status, ("text/plain", "text/html"))[0].values(), sep="\\n")
            """,
        )
        assert f"Python: {VERSION} {place.second}" in [" ".join(line.split()) for line in shown]
        assert f'<th>Python</th><td><code dir="auto">{VERSION}  {place.second}</code></td>' in "".join(shown)
    code = """
    print(api.get("shown").python.path, job.refresh().record.python.version)
    print([bool(one.record.python) for one in api.jobs("shown")], any(one.python for one in api.get()))
    _ = api.deploy({"name": "command", "pod": {"containers": [{"command": ["true"]}]}})
    print(bool(api.get("command").python))
    """
    assert said(notebook, code) == [f"{place.second} {VERSION}", "[False] False", "False"]


def test_kernels_are_listed_with_what_prevents_a_start(notebook: Kernel, place: Place) -> None:
    code = f"""{CONNECT}
import json, msgspec
print(msgspec.json.encode(api.kernels()).decode())
"""
    (line,) = said(notebook, code)
    found: dict[str, Any] = {one["name"]: one for one in json.loads(line)}
    assert found["second"] == {
        "name": "second",
        "display_name": "The second",
        "language": "python",
        "python": {"path": str(place.second), "version": VERSION},
    }
    assert found["python3"]["python"]["path"] == sys.executable
    assert found["sh"] == {"name": "sh", "display_name": "The sh", "language": "bash"}
    assert found["wrapped"] == {"name": "wrapped", "display_name": "The wrapped", "language": "python"}
    problems = {name: one["problem"] for name, one in found.items() if "problem" in one}
    gone = shorten(f"{place.path}/none/python")
    assert problems.pop("gone").startswith(f"the kernel 'gone' can't be started: its program {gone} does not exist")
    assert problems.pop("elsewhere").startswith("the kernel 'elsewhere' is started by 'k8s'")
    assert problems.pop("broken").startswith(f"the kernelspec 'broken' in {place.path}/kernels/broken can't be used")
    assert problems.pop("dead").endswith("no libpython here")
    if TOO_OLD:
        assert problems.pop("old").endswith("and a task needs 3.8 or newer")
    assert not problems


TRACES = """
def traces():
    import sqlite3
    folders = sorted(one.name for one in (home / "apis").iterdir())
    with sqlite3.connect(home / "taskapi.db") as rows:
        return folders, [rows.execute(f"SELECT * FROM {table}").fetchall() for table in ("apis", "versions", "jobs")]
"""


def test_a_dry_run_says_what_a_deploy_would_do_and_does_nothing(notebook: Kernel, place: Place, tmp_path: Path) -> None:
    write(tmp_path / "work" / "planned.ipynb", "1")
    said(notebook, CONNECT + TRACES + "before = traces()")
    cell = f"%%taskapi deploy planned-cell --kernel second --env-var SECRET=of-mine --dry-run\n{TASK}"
    shown = notebook.show(cell)
    assert not shown.error
    lines = [line.split(":", 1) for line in shown.text.splitlines() if ":" in line]
    rows = {head.strip(): rest.strip() for head, rest in lines}
    assert shown.text.startswith("would create planned-cell (TaskAPI)\n")
    assert rows["Python"] == f"{VERSION}  {place.second}"
    assert rows["kernel"] == "second"
    assert rows["packages"] == "the interpreter's own"
    assert rows["travels"].startswith("cell_planned-cell.py (")
    assert "SECRET" in rows["variables"].split(", ")
    assert "of-mine" not in shown.text
    assert rows["folder"] == str(tmp_path / "work")
    code = """
    def f(x=1): return x
    (result,) = api.deploy(f, dry_run=True)
    print(result.message, sorted(result.plan.files), bool(result.plan.kernel), result.plan.requirements)
    (result,) = api.deploy("planned.ipynb", kernel="first", dry_run=True)
    print(result.message, sorted(result.plan.files), result.plan.kernel, result.plan.python.path)
    %taskapi deploy planned.ipynb --dry-run
    print(traces() == before)
    """
    command = """
    (result,) = api.deploy({"name": "planned-command", "pod": {"containers": [{"command": ["true"]}]}}, dry_run=True)
    print(result.message, bool(result.plan.python), result.plan.files)
    """
    assert said(notebook, command) == ["would create planned-command (TaskAPI) False {}"]
    told = said(notebook, code)
    assert told[0] == "would create f (TaskAPI) ['notebook_f.py', 'task.pkl'] False []"
    assert told[1] == f"would create planned (TaskAPI) ['planned.ipynb'] first {place.first}"
    assert "would create planned (TaskAPI)" in told
    assert told[-1] == "True"
    assert "no kernel 'fist'" in refused(notebook, "api.deploy(f, kernel='fist', dry_run=True)")
    code = """
    _ = api.deploy(f)
    before = traces()
    print(api.deploy(f, dry_run=True)[0].message)
    print(api.deploy(f, kernel="second", dry_run=True)[0].message)
    print(traces() == before)
    """
    assert said(notebook, code) == ["f (TaskAPI) is up to date", "would update f (TaskAPI)", "True"]
