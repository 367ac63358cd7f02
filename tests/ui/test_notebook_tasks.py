"""A whole notebook as a task: deployed and submitted by magics, in Python and in a terminal, with a server and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from support import until
from support.kernels import Kernel, Plain
from support.notebooks import code, put
from support.program import answer, run
from support.servers import LiveServer
from support.shells import Run
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.service.service import Service

PARAMETERS = code("lr = 0.1  # how fast\n", "parameters")

RUN = """
job = get_ipython().run_line_magic("taskapi", "submit report.ipynb lr=0.5 --html")
print(job.api_name, job.record.api_id, job.config, job.refresh().notebook.rpartition("/")[2])
"""


def make(folder: Path, *sources: str, name: str = "report.ipynb", **metadata: Any) -> Path:
    """Write a notebook that takes ``lr``."""
    return put(folder / name, PARAMETERS, *map(code, sources), **metadata)


# In a kernel, with a server and without


@pytest.fixture(autouse=True)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Have a kernel that no server started know its notebook, as VS Code does."""
    if "notebook" in request.fixturenames and isinstance(kernel := request.getfixturevalue("notebook"), Plain):
        kernel.run(f"__vsc_ipynb_file__ = {str(tmp_path / 'shared.ipynb')!r}")


def test_a_notebook_is_deployed_and_submitted(notebook: Kernel, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    make(folder, "print(lr)")
    assert notebook.run("%taskapi deploy report.ipynb --html --name first") == "created first (TaskAPI)"
    name, version, *told = notebook.run(RUN).split(" ", 2)
    assert (name, *told) == ("report", "{'lr': 0.5} shared.ipynb\n")
    make(folder, "print(lr)", language_info={"name": "python"})  # run by hand
    assert notebook.run(RUN).split()[1] == version
    make(folder, "print(lr + 1)")
    assert notebook.run(RUN).split()[1] != version


def test_a_notebook_is_swept(notebook: Kernel, tmp_path: Path) -> None:
    make(tmp_path / "work", "print('lr is', lr)", name="swept.ipynb")
    assert "2 jobs; nothing was submitted" in notebook.run("%taskapi submit swept.ipynb lr=[1,2] --sweep --dry-run")
    assert "'swept' is neither a deployed API nor a job" in notebook.run("%taskapi status swept")
    notebook.run("group = get_ipython().run_line_magic('taskapi', 'submit swept.ipynb lr=[1,2] --sweep --name many')")
    make(tmp_path / "work", "raise ValueError", name="swept.ipynb")
    notebook.run("%taskapi deploy swept.ipynb --name many")
    shown = notebook.run(
        "_ = group.wait()\nprint(group.api_name, group.name, group.counts)\n"
        "print([f'lr is {n}' in one.logs() for n, one in enumerate(group, 1)])\n"
        "print({one.notebook.rpartition('/')[2] for one in group})"
    )
    assert "many None {'succeeded': 2}\n[True, True]\n{'shared.ipynb'}\n" in shown


def test_a_job_runs_the_version_that_was_submitted(notebook: Kernel, tmp_path: Path) -> None:
    path = make(tmp_path / "work", "print('lr is', lr)", name="runs.ipynb")
    notebook.run("job = get_ipython().run_line_magic('taskapi', 'submit runs.ipynb lr=0.5')")
    make(tmp_path / "work", "raise ValueError", name="runs.ipynb")
    notebook.run("%taskapi deploy runs.ipynb")
    left = path.read_text()
    shown = notebook.run(
        "_ = job.wait().check()\nprint(job.status, [one.path for one in job.files()])\nprint(job.logs())"
    )
    assert "succeeded ['runs.ipynb']\n" in shown
    assert "lr is 0.5\n" in shown
    assert path.read_text() == left


def test_a_name_is_not_taken_from_another_file(notebook: Kernel, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    make(folder, "1", name="taken.ipynb")
    assert notebook.run("%taskapi deploy taken.ipynb") == "created taken (TaskAPI)"
    (folder / "other").mkdir()
    make(folder / "other", "2", name="taken.ipynb")
    for verb in ("deploy", "submit"):
        told = notebook.run(f"%taskapi {verb} other/taken.ipynb")
        assert told.endswith(
            f"taken is already deployed from {folder}/taken.ipynb: give this one another name with --name, or --name "
            "taken to replace it"
        )
    shown = notebook.run("%taskapi deploy other/taken.ipynb --name taken")
    assert shown.startswith("updated taken (TaskAPI)")
    assert "taken was deployed from " in shown
    notebook.run("def fn(lr=1): return lr")
    notebook.run("%taskapi deploy given --function fn")
    make(folder, "1", name="given.ipynb")
    assert "given is already deployed from " in notebook.run("%taskapi deploy given.ipynb")


def test_the_path_of_the_notebook_that_submits_is_known(notebook: Kernel, tmp_path: Path) -> None:
    make(tmp_path / "work", "1", name="known.ipynb")
    told = notebook.run(
        "import taskapi_jupyter\n"
        "api = taskapi_jupyter.connect()\n"
        "api.deploy('known.ipynb', kernel='python3', keep_kernel='1m', outputs=['html'])\n"
        "api.deploy(lambda config: 1, name='plain')\n"
        "jobs = [api.submit('known'), api.submit('plain'), api.submit('plain', notebook='given')]\n"
        "print(*[job.refresh().notebook.rpartition('/')[2] for job in jobs])\n"
    )
    assert told == "shared.ipynb shared.ipynb given\n"


def test_a_rerun_runs_what_is_deployed_or_the_same(notebook: Kernel, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    make(folder, "1", name="again.ipynb")
    notebook.run("job = get_ipython().run_line_magic('taskapi', 'submit again.ipynb lr=1')")
    make(folder, "2", name="again.ipynb")
    notebook.run("%taskapi deploy again.ipynb")
    told = notebook.run(
        "jobs = [job, job.rerun(), job.rerun(same=True)]\n"
        "versions = [one.record.api_id for one in jobs]\n"
        "print([versions.index(one) for one in versions], [one.config for one in jobs])"
    )
    assert told == "[0, 1, 0] [{'lr': 1}, {'lr': 1}, {'lr': 1}]\n"


# Lines of magics


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("deploy none.ipynb", "there is no file 'none.ipynb'"),
        ("submit none.ipynb", "there is no file 'none.ipynb'\nusage: %taskapi submit FILE.ipynb "),
        ("deploy report.ipynb --function f", "--function is for a function of this notebook"),
        ("deploy cortex.yaml --html", "--html is for a notebook: give the path of a file that ends in"),
        ("submit report --html", "--html is for a notebook: give the path of a file that ends in .ipynb"),
        ("submit report --mem 1Gi", "--mem is for a notebook"),
        ("deploy report.ipynb --keep-kernel soon", "--keep-kernel must be a time such as 90 (seconds)"),
        ("deploy report.ipynb --kernl x", "there is no option '--kernl'; did you mean --kernel?"),
        ("submit report.ipynb lr=$bad", "lr ($bad) is nan, which JSON can't carry"),
    ],
)
def test_lines_that_are_wrong(run: Run, shell: InteractiveShell, line: str, words: str) -> None:
    make(Path(), "1")
    shell.user_ns["bad"] = float("nan")
    ran = run(f"%taskapi {line}")
    assert isinstance(ran.error, UsageError)
    assert words in str(ran.error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("submit report.ipynb lrr=1", "report: there is no parameter 'lrr': it takes lr; those of a notebook are"),
        ("submit report.ipynb --kernel pyhton3", "report: there is no kernel 'pyhton3'; there are: python3"),
        ("submit report.ipynb --name 1", "invalid API name '1'"),
        ("deploy empty.ipynb", "empty: empty.ipynb has no code cell: there is nothing to run"),
        ("deploy text.ipynb", "text: text.ipynb is not a notebook: it is not JSON"),
        ("deploy report.ipynb --warm", "report: a notebook takes no definition.warm: its kernel starts cold"),
        ("deploy report.ipynb --cpu 4000", "report asks for 4000 cores, and this machine has"),
    ],
)
def test_notebooks_that_are_refused(run: Run, service: Service, line: str, words: str) -> None:
    make(Path(), "1")
    put(Path("empty.ipynb"))
    Path("text.ipynb").write_text("print(1)")
    ran = run(f"%taskapi {line}")
    assert isinstance(ran.error, BadRequest)
    assert words in str(ran.error)
    assert service.get() == []
    assert list(service.paths.apis.iterdir()) == []
    assert service.jobs() == []


def test_an_unknown_parameter_may_pass(run: Run) -> None:
    make(Path(), "1")
    assert run("%taskapi submit report.ipynb other=1 --allow-unknown").value().config == {"other": 1}
    assert "can't be a parameter" in str(run("%taskapi submit report a.b=1").error)


def test_warnings_are_shown_with_a_job(run: Run) -> None:
    make(Path(), "import os\nnever_defined")
    ran = run("%taskapi submit report.ipynb")
    assert "report.ipynb, code cell 2: never_defined is neither defined nor imported" in ran.displayed
    assert ran.value().api_name == "report"


def test_tab_completes_notebooks_kernels_and_parameters(shell: InteractiveShell) -> None:
    def offered(line: str) -> list[str]:
        return [str(one) for one in shell.Completer.complete(line_buffer=line, cursor_pos=len(line))[1]]

    make(Path(), "1")
    for line, expected in (
        ("%taskapi deploy rep", ["report.ipynb"]),
        ("%taskapi submit rep", ["report.ipynb"]),
        ("%taskapi deploy report.ipynb --kernel pyth", ["python3"]),
        ("%taskapi submit report.ipynb l", ["lr="]),
    ):
        until(lambda line=line, expected=expected: offered(line) == expected, line)
    assert {"--kernel", "--html", "--gpu"} <= set(offered("%taskapi submit report.ipynb --"))
    assert "--html" not in offered("%taskapi submit report --h")


# The terminal


@pytest.fixture(params=["plain", "served"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the variables with which the program finds this machine, or a server."""
    if request.param == "plain":
        request.getfixturevalue("home")
        return {}
    server: LiveServer = request.getfixturevalue("live_server")
    return {"TASKAPI_URL": server.url, "TASKAPI_TOKEN": server.token, "TASKAPI_HOME": str(tmp_path / "unused")}


def test_the_terminal_deploys_and_submits(there: dict[str, str], tmp_path: Path, name: str) -> None:
    path = make(tmp_path, "never_defined", name=f"{name}.ipynb")
    (deployed,) = answer(
        "deploy", str(path), "--html", "--keep-kernel", "1m", "--mem", "1Gi", "--env-var", "A=b", **there
    )
    spec = deployed["api"]["spec"]
    shown = {key: spec["definition"][key] for key in ("path", "keep_kernel", "outputs", "env", "parameters")}
    assert shown == {
        "path": path.name,
        "keep_kernel": 60,
        "outputs": ["html"],
        "env": {"A": "***"},
        "parameters": [{"name": "lr", "required": False, "default": 0.1, "help": "how fast"}],
    }
    assert spec["compute"]["mem"] == "1Gi"
    done = run("submit", str(path), "lr=0.5", "--run-timeout", "1m", "-o", "json", **there)
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "never_defined is neither defined nor imported" in done.stderr
    job = json.loads(done.stdout)["job_status"]
    assert (job["api_name"], job["config"]) == (name, {"lr": 0.5})
    assert job["api_id"] != spec["id"]  # deployed without --html
    assert answer("get", name, job["job_id"], **there)["job_status"]["notebook"] == str(path)
    assert run("delete", name, **there).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["submit", "none.ipynb"], 2, "there is no file 'none.ipynb'"),
        (["deploy", "none.ipynb"], 2, "there is no file 'none.ipynb'"),
        (["submit", "report", "--html"], 2, "--html is for a notebook: give the path of a file that ends in .ipynb"),
        (["submit", "report", "--env-var", "A=1"], 2, "--env-var is for a notebook"),
        (["submit", "report.ipynb", "--env-var", "A"], 2, "write NAME=VALUE, not 'A'"),
        (["submit", "report.ipynb", "lrr=1"], 1, "there is no parameter 'lrr': it takes lr"),
        (["submit", "report.ipynb", "--kernel", "none"], 1, "there is no kernel 'none'; there are: "),
        (["deploy", "report.ipynb", "--keep-kernel", "x"], 2, "a time such as 90 (seconds)"),
        (["deploy", "task.py", "--html"], 1, "definition.outputs is for notebooks alone (.ipynb)"),
    ],
)
def test_mistakes_in_a_terminal(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "1")
    (tmp_path / "task.py").write_text("def run(config): pass")
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# Over HTTP


def test_a_large_notebook_reaches_the_server_without_outputs(
    live_server: LiveServer, tmp_path: Path, name: str
) -> None:
    cell = code("print(1)")
    cell["outputs"] = [{"output_type": "display_data", "data": {"text/plain": "a" * (60 << 20)}, "metadata": {}}]
    path = put(tmp_path / f"{name}.ipynb", cell)
    there = {"TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": live_server.token}
    assert run("deploy", str(path), **there).stdout == f"created {name} (TaskAPI)\n"
    put(
        path,
        code("print(1)"),
    )
    assert run("deploy", str(path), **there).stdout == f"{name} (TaskAPI) is up to date\n"
    assert run("delete", name, **there).returncode == 0


async def test_a_notebook_as_json(call: Any, tmp_path: Path) -> None:
    make(tmp_path, "1")
    spec = {"name": "report", "definition": {"path": "report.ipynb"}}
    answered = await call("POST", "local/deploy", {"spec": spec, "cwd": str(tmp_path)})
    assert answered.status == 200, answered.body
    answered = await call("POST", "local/tasks/report", {"config": {"lrr": 1}})
    assert answered.status == 400
    assert "there is no parameter 'lrr'" in answered.json["message"]
    answered = await call("POST", "local/deploy", {"spec": spec, "cwd": str(tmp_path), "source": '{"cells": 3}'})
    assert answered.status == 400
    assert "report: report.ipynb can't be run as a notebook: it has no nbformat" in answered.json["message"]
