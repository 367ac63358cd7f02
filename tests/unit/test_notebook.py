"""A notebook that is deployed: what is stored of it, its parameters and its kernel, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import PATIENCE
from support.notebooks import code, kernelspec, markdown, notebook, put
from taskapi_jupyter.core.contract import MAX_BODY, DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.deploy.advice import Text, _notebook_text, text_warnings
from taskapi_jupyter.deploy.api_spec import cells
from taskapi_jupyter.deploy.api_spec.build import APISpec, build, check_name
from taskapi_jupyter.deploy.notebook import MAX_FILE, api_name, stripped
from taskapi_jupyter.deploy.packages import kernels
from taskapi_jupyter.deploy.prepare import DeployOptions, prepare

PARAMETERS = """\
lr = 0.1  # type: float how fast
name: str = "a"  # who
"""


@pytest.fixture(autouse=True)
def jupyter_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of kernelspecs, beside those of this environment."""
    folder = tmp_path / "jupyter"
    kernelspec(folder, "bash", [sys.executable, "{connection_file}"], "bash")
    kernelspec(folder, "rr", [sys.executable, "{connection_file}"], "R")
    kernelspec(folder, "gone", ["/no/such/python", "{connection_file}"])
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    return folder


def made(folder: Path, content: Any, path: str = "report.ipynb", **definition: Any) -> APISpec:
    """Deploy a notebook's content, or the bytes of its file, up to where it would be stored."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / path).write_bytes(data)
    spec = {"name": "report", "definition": {"path": path, **definition}}
    return build(DeployRequest(spec=spec, cwd=str(folder), python=sys.executable))


def refusal(folder: Path, content: Any, path: str = "report.ipynb", **definition: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        made(folder, content, path, **definition)
    told = caught.value.message
    assert "\n" not in told
    return told


def taken(folder: Path, *sources: str, **definition: Any) -> list[dict[str, Any]]:
    """Return the parameters of a notebook with some cells tagged ``parameters``."""
    built = made(folder, notebook(*(code(one, "parameters") for one in sources), code("1")), **definition)
    found: list[dict[str, Any]] = built.spec["definition"]["parameters"]
    return found


# What is stored


def test_the_launch_and_the_text(tmp_path: Path) -> None:
    settings = {"keep_kernel": "30m", "cell_timeout": 60, "startup_timeout": 5, "outputs": ["html", "html"]}
    built = made(tmp_path, notebook(markdown("# Title"), code("print(1)")), **settings)
    assert built.launch["kind"] == "notebook"
    assert built.launch["python"] == sys.executable
    assert built.launch["origin"] == str(tmp_path / "report.ipynb")
    about = built.launch["notebook"]
    kernel = about.pop("kernel")
    assert about == {
        "language": "python",
        "keep_kernel": 1800,
        "cell_timeout": 60,
        "startup_timeout": 5,
        "outputs": ["html"],
    }
    assert (kernel["name"], kernel["language"]) == ("python3", "python")
    assert Path(kernel["folder"], "kernel.json").is_file()
    assert kernel["display_name"]
    stored = json.loads(built.files[built.launch["file"]])  # type: ignore[arg-type]
    assert [cell["source"] for cell in stored["cells"]] == ["# Title", "print(1)"]
    assert stored["cells"][1]["outputs"] == []
    assert stored["cells"][1]["execution_count"] is None
    assert made(tmp_path, notebook(code("print(1)"))).launch["notebook"]["keep_kernel"] is None


def test_running_a_notebook_makes_no_other_version(tmp_path: Path) -> None:
    fresh = notebook(code("print(1)"))
    fresh["cells"][0].update(outputs=[], execution_count=None)
    run = notebook(
        code("print(1)", execution={"iopub.execute_input": "2026"}, ExecuteTime={}, papermill={}, trusted=True),
        language_info={"name": "python", "version": "3.11.2"},
        widgets={"application/vnd.jupyter.widget-state+json": {"state": {}}},
        papermill={"duration": 1},
    )
    run["cells"][0]["source"] = "print(1)"  # as some programs write it
    assert made(tmp_path, run).api_id == made(tmp_path, fresh).api_id
    edited = notebook(code("print(2)"))
    assert made(tmp_path, edited).api_id != made(tmp_path, fresh).api_id


def test_a_file_with_large_outputs_is_sent_without_them(tmp_path: Path) -> None:
    cell = code("print(1)")
    cell["outputs"] = [{"output_type": "display_data", "data": {"image/png": "a" * (2 * MAX_BODY)}, "metadata": {}}]
    path = put(tmp_path / "large.ipynb", cell)
    (request,) = prepare(str(path))
    assert len(request.source or "") < 1000
    assert request.spec == {"name": "large", "kind": "TaskAPI", "definition": {"path": "large.ipynb"}}
    assert build(request).files["large.ipynb"] == (request.source or "").encode()


def test_what_is_large_without_outputs_is_refused(tmp_path: Path) -> None:
    told = refusal(tmp_path, notebook(code("1"), markdown("a" * MAX_BODY)))
    assert told == "report: report.ipynb is larger than 10 MiB without its outputs: keep data in files beside it"
    with pytest.raises(TooLarge):
        stripped(json.dumps(notebook(markdown("a" * MAX_BODY))).encode(), "a.ipynb")
    with (tmp_path / "sparse.ipynb").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(BadRequest, match="is larger than 512 MiB"):
        prepare(str(tmp_path / "sparse.ipynb"))


@pytest.mark.parametrize("change", [lambda data: b"\xef\xbb\xbf" + data, lambda data: data.replace(b"\n", b"\r\n")])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, change: Any) -> None:
    data = json.dumps(notebook(code("a = 'ü'\nb = 2")), indent=1, ensure_ascii=False).encode()
    assert made(tmp_path, change(data)).api_id == made(tmp_path, data).api_id


def test_what_is_missing_or_null_is_empty(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": "1", "metadata": None}
    tagged = {"cell_type": "code", "source": "2", "metadata": {"tags": None}}
    content = {"nbformat": 4, "nbformat_minor": 2, "metadata": None, "cells": [cell, tagged]}
    built = made(tmp_path, content, kernel="python3")
    stored = json.loads(built.files["report.ipynb"])  # type: ignore[arg-type]
    assert stored["metadata"] == {}
    assert [one["metadata"] for one in stored["cells"]] == [{}, {}]


def test_cells_have_ids_where_their_format_has_them(tmp_path: Path) -> None:
    def ids(content: dict[str, Any]) -> list[str | None]:
        stored = json.loads(made(tmp_path, content).files["report.ipynb"])  # type: ignore[arg-type]
        nbformat.validate(stored)
        return [one.get("id") for one in stored["cells"]]

    without = {key: value for key, value in code("1").items() if key != "id"}
    given = [{**without, "id": "a"}, {**without, "id": "a"}, {**without, "id": 4}, {**without, "id": "b/"}, without]
    made_up = [f"cell-{number}-of-5" for number in range(2, 6)]
    assert ids(notebook(*given)) == ["a", *made_up]
    assert ids(notebook(*given)) == ["a", *made_up]
    assert ids({**notebook(*given), "nbformat_minor": 4}) == [None] * 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [(), ("cells",), ("cells", 0), ("metadata",), ("metadata", "kernelspec"), ("metadata", "kernelspec", "name")]
PLACES += [("nbformat",), ("nbformat_minor",), ("worksheets",)]
PLACES += [("cells", 0, key) for key in ("cell_type", "source", "metadata", "outputs", "id", "attachments")]
PLACES += [("cells", 0, "metadata", key) for key in ("tags", "execution", "collapsed")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_in_any_place_runs_or_is_refused(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    content: Any = notebook(code("1", "parameters"), markdown("# Title"))
    part = content
    for key in place[:-1]:
        part = part[key]
    if place:
        part[place[-1]] = value
    else:
        content = value
    try:
        built = made(tmp_path, content, kernel="python3")
    except BadRequest as error:
        assert error.message.startswith("report: report.ipynb ")
    else:
        stored = json.loads(built.files["report.ipynb"])  # type: ignore[arg-type]
        assert stored["nbformat"] == 4
        assert all(isinstance(one["source"], str) and isinstance(one["metadata"], dict) for one in stored["cells"])


def test_old_formats_are_upgraded_and_newer_ones_run(tmp_path: Path) -> None:
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [
            {
                "metadata": {},
                "cells": [
                    {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Title"]},
                    {
                        "cell_type": "code",
                        "collapsed": False,
                        "input": ["print(1)"],
                        "language": "python",
                        "metadata": {},
                        "outputs": [{"output_type": "stream", "stream": "stdout", "text": ["1\n"]}],
                        "prompt_number": 3,
                    },
                ],
            }
        ],
    }
    built = made(tmp_path, old, kernel="python3")
    assert built.warnings == ("report.ipynb is in an old format (nbformat 3): its cells run as in nbformat 4",)
    stored = json.loads(built.files["report.ipynb"])  # type: ignore[arg-type]
    assert [one["source"] for one in stored["cells"]] == ["# Title", "print(1)"]
    assert built.api_id == made(tmp_path, old, kernel="python3").api_id
    (request,) = prepare(str(tmp_path / "report.ipynb"))
    assert "stdout" not in (request.source or "")
    newer = {**notebook(code("1")), "nbformat_minor": 9}
    assert "newer than is known here (nbformat 4.9)" in made(tmp_path, newer).warnings[0]
    assert refusal(tmp_path, {**old, "worksheets": [3]}, kernel="python3").startswith(
        "report: report.ipynb can't be run as a notebook: it can't be brought into nbformat 4"
    )


def test_a_deploy_imports_no_nbformat(tmp_path: Path) -> None:
    put(tmp_path / "report.ipynb", code(PARAMETERS, "parameters"))
    script = (
        "import sys\n"
        "from taskapi_jupyter.deploy.prepare import prepare\n"
        "from taskapi_jupyter.deploy.api_spec.build import build\n"
        "build(prepare('report.ipynb')[0])\n"
        "print({'nbformat', 'jsonschema', 'rfc3987_syntax', 'papermill'} & set(sys.modules))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (told.stdout, told.stderr) == ("set()\n", "")


# Names


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("report", "report"),
        ("My Report (final)", "my-report-final"),
        ("02_explore", "notebook-02_explore"),
        ("отчёт", "notebook"),
        ("-a-", "a"),
        ("a." * 60, "a-" * 31 + "a"),
        ("_x", "notebook-_x"),
    ],
)
def test_the_name_is_made_from_the_file(stem: str, name: str) -> None:
    assert api_name(stem) == check_name(name)


# Bad input


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "report.ipynb is not a notebook: it is empty"),
        (b"  \n", "report.ipynb is not a notebook: it is empty"),
        (b"import os", "report.ipynb is not a notebook: it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff\xfe{\x00", "report.ipynb is not a notebook: it is not UTF-8 text (byte 0)"),
        (b"[1]", "report.ipynb is not a notebook: it must be a mapping with cells, not a list"),
        (b"null", "report.ipynb is not a notebook: it must be a mapping with cells, not null"),
        (b"[" * 100_000, "is not JSON: nested deeper than 72 levels"),
        (b'{"cells": ' + b"[" * 200 + b"]" * 200 + b"}", "is not JSON: nested deeper than 72 levels"),
        (b'{"nbformat": ' + b"9" * 5000 + b"}", "is not a notebook: it is not JSON"),
        ({}, "it has no nbformat, a whole number, such as 4"),
        ({"nbformat": "4", "cells": []}, "it has no nbformat, a whole number"),
        ({"nbformat": True, "cells": []}, "it has no nbformat, a whole number"),
        ({"nbformat": 4, "nbformat_minor": 5.5, "cells": []}, "it has no nbformat, a whole number"),
        ({"nbformat": 5, "nbformat_minor": 0}, "its format is nbformat 5.0, and the newest that is known is 4.5"),
        ({"nbformat": -1, "nbformat_minor": 0}, "it can't be brought into nbformat 4"),
        ({**notebook(), "cells": {}}, "its cells must be a list, not a mapping"),
        ({**notebook(), "cells": None}, "its cells must be a list, not null"),
        ({**notebook(), "cells": [3]}, "cell 1: it must be a mapping, not 3"),
        (notebook(code("1"), {"cell_type": "sql"}), 'cell 2: cell_type must be one of code, markdown, raw, not "sql"'),
        (notebook({"cell_type": ["code"]}), "cell 1: cell_type must be one of code, markdown, raw, not a list"),
        (notebook({"cell_type": "code"}), "cell 1: source must be text, or a list of lines, not null"),
        (notebook({"cell_type": "code", "source": [1]}), "source must be text, or a list of lines, not a list"),
        (notebook({**code("1"), "metadata": []}), "cell 1: metadata must be a mapping, not a list"),
        (notebook(code("1", tags="parameters")), "cell 1: metadata.tags must be a list of texts, not"),
        (notebook(code("1", tags=[1])), "cell 1: metadata.tags must be a list of texts, not a list"),
        ({**notebook(code("1")), "metadata": 1.5}, "metadata must be a mapping, not 1.5"),
        (notebook(code("1"), kernelspec=7), "metadata.kernelspec must be a mapping, not 7"),
        (notebook(code("1"), kernelspec={"name": []}), "metadata.kernelspec.name must be text, not a list"),
        (notebook(), "report.ipynb has no code cell: there is nothing to run"),
        (notebook(markdown("# Title")), "report.ipynb has no code cell: there is nothing to run"),
        (notebook(code("x = '\ud800'")), "report.ipynb has text that is not valid Unicode"),
        (notebook(code("1"), x=float("nan")), "report.ipynb has NaN or an infinity in its metadata"),
        pytest.param(
            json.dumps(notebook(code("1"))).replace("{", '{"x": 1e999, ', 1).encode(),
            "report.ipynb has NaN or an infinity in its metadata",
            id="1e999",  # each process makes cells with other ids
        ),
    ],
)
def test_what_is_no_notebook_is_refused_with_a_sentence(tmp_path: Path, content: Any, words: str) -> None:
    kernel = {} if "kernelspec" in words else {"kernel": "python3"}
    assert words in refusal(tmp_path, content, **kernel)


def test_what_is_odd_in_outputs_is_dropped_with_them(tmp_path: Path) -> None:
    cell = code("1")
    cell["outputs"] = [{"data": {"x": float("nan"), "y": "\ud800", "z": 1e308}}]
    assert made(tmp_path, notebook(cell)).files


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"function": "f"}, "report: a notebook takes no definition.function: its cells run in their order"),
        ({"python_path": "."}, "a notebook takes no definition.python_path: set PYTHONPATH in definition.env"),
        ({"warm": {}}, "report: a notebook takes no definition.warm: its kernel starts cold"),
        ({"keep_kernel": "soon"}, "definition.keep_kernel must be a time such as 90 (seconds)"),
        ({"keep_kernel": 0}, "definition.keep_kernel must be from 1 to 1000000000 seconds, not 0"),
        ({"cell_timeout": 0}, "definition.cell_timeout must be a whole number of seconds from 1"),
        ({"cell_timeout": "1"}, "definition.cell_timeout must be a whole number of seconds from 1"),
        ({"outputs": ["pdf"]}, "definition.outputs[0] must be one of html, not 'pdf'"),
        ({"outputs": "html"}, "definition.outputs must be a list of: html, not 'html'"),
        ({"allow_unknown": "yes"}, "definition.allow_unknown must be"),
        ({"kernel": 3}, "definition.kernel must be text"),
        ({"kernl": "a"}, "unknown key 'kernl' in definition; did you mean kernel or keep_kernel?"),
    ],
)
def test_keys_that_a_notebook_does_not_take(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, notebook(code("1")), **keys)


@pytest.mark.parametrize("key", ["cell_timeout", "startup_timeout", "keep_kernel", "outputs", "allow_unknown"])
def test_keys_of_notebooks_are_for_notebooks_alone(tmp_path: Path, key: str) -> None:
    value = {"outputs": ["html"], "allow_unknown": True}.get(key, 5)
    told = refusal(tmp_path, b"def f(): pass", "task.py", **{key: value})
    assert told == f"report: definition.{key} is for notebooks alone (.ipynb), and definition.path is 'task.py'"


def test_other_sources_and_interpreters_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "report.ipynb", code("1"))
    spec: dict[str, Any] = {"name": "report", "definition": {"path": "report.ipynb"}}
    for more, words in (
        ({"source": "def f(config): pass"}, "report.ipynb is not a notebook: it is not JSON"),
        ({"pickle": b"x"}, "with a pickled callable, definition.path must end in .pickle"),
        ({"spec": {**spec, "python": sys.executable}}, "a notebook takes no python: its kernel"),
    ):
        with pytest.raises(BadRequest, match=words):
            build(DeployRequest(**{"spec": spec, "cwd": str(tmp_path), **more}))  # type: ignore[arg-type]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    with pytest.raises(BadRequest, match=r"none\.ipynb can't be read: No such file"):
        prepare(str(tmp_path / "none.ipynb"))
    with pytest.raises(BadRequest, match=r"folder\.ipynb can't be read: Is a directory"):
        prepare({"name": "a", "definition": {"path": "folder.ipynb"}}, DeployOptions(cwd=tmp_path))
    assert "must have 1 to 200 bytes" in refusal(tmp_path, notebook(code("1")), f"{'ü' * 110}.ipynb")
    assert "must have 1 to 200 bytes" in refusal(tmp_path, notebook(code("1")), ".ipynb")


# Kernels


def test_the_kernel_is_the_notebooks_or_the_one_that_is_given(tmp_path: Path) -> None:
    content = notebook(code("1"), kernel="Bash")
    assert made(tmp_path, content).launch["notebook"]["kernel"] == {
        "name": "bash",
        "folder": str(tmp_path / "jupyter" / "kernels" / "bash"),
        "language": "bash",
        "display_name": "The bash",
    }
    assert made(tmp_path, content, kernel="python3").launch["notebook"]["language"] == "python"


def test_kernels_that_can_not_be_used(tmp_path: Path, jupyter_path: Path) -> None:
    told = refusal(tmp_path, notebook(code("1"), kernel="pyhton3"))
    assert told.startswith("report: there is no kernel 'pyhton3'; there are: python3, ")
    assert "rr" in told
    told = refusal(tmp_path, notebook(code("1"), kernel=None))
    assert told.startswith(
        "report: report.ipynb names no kernel: choose one with --kernel (definition.kernel); there are: python3"
    )
    told = refusal(tmp_path, notebook(code("1"), kernel="gone"))
    assert told.startswith("report: the kernel 'gone' can't be started: its program '/no/such/python' does not exist")
    kernelspec(jupyter_path, "empty", [])
    assert "its program '' does not exist" in refusal(tmp_path, notebook(code("1"), kernel="empty"))
    for text, kind in (("{", "JSONDecodeError"), ('{"argv": 3}', "TraitError"), ("[]", "TypeError")):
        (jupyter_path / "kernels" / "empty" / "kernel.json").write_text(text)
        told = refusal(tmp_path, notebook(code("1"), kernel="empty"))
        assert f"the kernelspec 'empty' in {jupyter_path}/kernels/empty can't be used: {kind}: " in told


def test_a_python_that_does_not_answer_delays_no_list_for_long(
    jupyter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "SECONDS", 0.5)
    for number in range(kernels.THREADS + 2):
        python = jupyter_path / f"python3.{number}"
        python.write_text("#!/bin/sh\nexec sleep 600\n")
        python.chmod(0o755)
        kernelspec(jupyter_path, f"hangs{number:02}", [str(python), "-m", "ipykernel_launcher"])
    began = time.monotonic()
    found = {one.name: one for one in kernels.listed()}
    assert time.monotonic() - began < PATIENCE
    assert not found["python3"].problem
    for number in range(kernels.THREADS + 2):
        told = found[f"hangs{number:02}"].problem
        assert told
        assert re.search(r"did not answer within 0\.\d+ s", told)


def test_a_kernels_program_may_be_in_its_folder_or_on_the_path(tmp_path: Path, jupyter_path: Path) -> None:
    kernelspec(jupyter_path, "local", ["{resource_dir}/run", "{connection_file}"])
    assert "can't be started" in refusal(tmp_path, notebook(code("1"), kernel="local"))
    program = jupyter_path / "kernels" / "local" / "run"
    program.touch(0o755)
    assert made(tmp_path, notebook(code("1"), kernel="local")).files
    kernelspec(jupyter_path, "shell", ["sh", "{connection_file}"])
    assert made(tmp_path, notebook(code("1"), kernel="shell")).files
    kernelspec(jupyter_path, "Odd name!", ["sh"])  # of which jupyter_client warns
    assert "python3" in kernels.folders()


# Parameters


def test_parameters_are_what_the_tagged_cell_assigns(tmp_path: Path) -> None:
    assert taken(tmp_path, PARAMETERS) == [
        {"name": "lr", "default": 0.1, "required": False, "type": "float", "help": "how fast"},
        {"name": "name", "default": "a", "required": False, "type": "str", "help": "who"},
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", []),
        ("import os\nprint(1)", []),
        ("a = b = -1", [("a", -1), ("b", -1)]),
        ("a, b = 1, 2", [("a", ...), ("b", ...)]),
        ("a = (1, 2)\nb = float('inf')\nc = {1}", [("a", ...), ("b", ...), ("c", ...)]),
        ("a = [1, {'x': None}]", [("a", [1, {"x": None}])]),
        ("a = 1\na = 2", [("a", 2)]),
        ("d = {}\nd['x'] = 1\nd.y = 2", [("d", {})]),
        ("if 1:\n    a = 1\nelse:\n    a = 2", [("a", 2)]),
        ("def f():\n    a = 1\nclass C:\n    b = 1", []),
        ("%matplotlib inline\n!ls\nx?\na = 1", [("a", 1)]),
        ("files = !ls\na = 1", [("files", None), ("a", 1)]),
        ("a = '%s'\ntext = '''\n% x\n'''", [("a", "%s"), ("text", "\n% x\n")]),
        ("größe = 1", [("größe", 1)]),
        ("a: int", [("a", ...)]),
        ("a = 1\r\nb = 2\r\n", [("a", 1), ("b", 2)]),
        ("a = '\\d'", [("a", "\\d")]),
    ],
)
def test_what_counts_as_a_parameter(source: str, found: list[tuple[str, Any]]) -> None:
    parameters, told = cells.parameters(source, unchecked=False)
    assert told is None
    assert [(one["name"], one.get("default", ...)) for one in parameters] == found
    assert not any(one["required"] for one in parameters)


@pytest.mark.parametrize(
    ("line", "type_", "help_"),
    [
        ("a = 1  # help text", None, "help text"),
        ("a = 1  # type: int", "int", None),
        ("a: 'List[int]' = 1", "List[int]", None),
        ("a: list[int] | None = None  # type: x help", "list[int] | None", "help"),
        ("a = [\n    1,  # one\n]  # many", None, "many"),
        ("a = '#'  #", None, None),
    ],
)
def test_types_and_help(line: str, type_: str | None, help_: str | None) -> None:
    (found,), _ = cells.parameters(line, unchecked=False)
    assert (found.get("type"), found.get("help")) == (type_, help_)


@pytest.mark.parametrize("source", ["a = (", "%%bash\nls -l\necho $x", "a = 1\0", "(" * 5000, "-" * 100_000 + "1"])
def test_a_cell_that_can_not_be_read_is_not_checked(tmp_path: Path, source: str) -> None:
    built = made(tmp_path, notebook(code(source, "parameters")), config={"x": 1})
    assert built.spec["definition"]["parameters"] == [cells.UNKNOWN]
    (told,) = built.warnings
    assert told.startswith("the cell tagged parameters can't be read")


def test_which_cell_has_the_parameters(tmp_path: Path) -> None:
    built = made(tmp_path, notebook(code("a = 1", "x", "parameters"), code("b = 1", "parameters")))
    assert [one["name"] for one in built.spec["definition"]["parameters"]] == ["a"]
    assert built.warnings == ("report.ipynb has 2 cells tagged parameters: the first one counts",)
    text = {**markdown("b = 1"), "metadata": {"tags": ["parameters"]}}
    assert made(tmp_path, notebook(text, code("1"))).spec["definition"]["parameters"] == []


def test_many_parameters(tmp_path: Path) -> None:
    found = taken(tmp_path, "\n".join(f"p{number} = {number}" for number in range(150)))
    assert (len(found), found[-1]) == (101, cells.UNKNOWN)


def test_config_must_fit_the_parameters(tmp_path: Path) -> None:
    content = notebook(code(PARAMETERS, "parameters"))
    assert made(tmp_path, content, config={"lr": 1}).config == {"lr": 1}
    told = refusal(tmp_path, content, config={"lrr": 1})
    assert told == (
        "report: definition.config: there is no parameter 'lrr': it takes lr, name; those of a notebook are assigned "
        "in its cell tagged parameters"
    )
    assert made(tmp_path, content, config={"lrr": 1}, allow_unknown=True).spec["definition"]["parameters"][-1] == {
        "name": "**",
        "required": False,
    }
    for name in ("l r", "1a", "class", "a.b", "a; import os"):
        told = refusal(tmp_path, content, config={name: 1}, allow_unknown=True)
        assert (
            told == f"report: definition.config: {name!r} can't be a parameter: it is no name of a variable in Python"
        )


def test_other_languages_take_any_name_that_they_can_have(tmp_path: Path) -> None:
    content = notebook(code("a.b <- 1", "parameters"), kernel="rr")
    built = made(tmp_path, content, config={"learning.rate": {"x": 1}, ".b": 2, "c": 3})
    assert "parameters" not in built.spec["definition"]
    for name in ("a b", "1a", "x; quit()", "a..\n"):
        assert "it is no name of a variable in R" in refusal(tmp_path, content, config={name: 1})
    content = notebook(code("echo $a"), kernel="bash")
    assert made(tmp_path, content, config={"a": [1, "b"]}).config
    for value in ({"x": 1}, [{"x": 1}]):
        assert "a can't be a parameter of Bash, which has no mappings" in refusal(
            tmp_path, content, config={"a": value}
        )


def test_other_languages_need_papermill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "papermill", None)
    content = notebook(code("a <- 1", "parameters"), kernel="rr")
    sentence = "parameters for R need papermill: pip install 'taskapi-jupyter[notebook]'"
    assert refusal(tmp_path, content, config={"a": 1}) == f"report: definition.config: {sentence}"
    assert made(tmp_path, content).warnings == (sentence,)
    assert made(tmp_path, notebook(code("1"), kernel="rr")).warnings == ()


# Options of a deploy


def test_options_are_put_into_the_definition(tmp_path: Path) -> None:
    path = put(tmp_path / "My Report.ipynb", code("1"))
    options = DeployOptions(
        kernel="python3", keep_kernel="30m", outputs=["html"], allow_unknown=True, cpu=2, env={"A": 1}
    )
    (request,) = prepare(path, options)
    assert request.name_from_file
    assert request.notebook == str(path)
    assert request.spec == {
        "name": "my-report",
        "kind": "TaskAPI",
        "compute": {"cpu": 2},
        "definition": {
            "path": "My Report.ipynb",
            "kernel": "python3",
            "keep_kernel": "30m",
            "outputs": ["html"],
            "allow_unknown": True,
            "env": {"A": 1},
        },
    }
    (request,) = prepare(path, DeployOptions(name="other"))
    assert (request.spec["name"], request.name_from_file) == ("other", False)
    (request,) = prepare(path, DeployOptions(python=sys.executable))
    with pytest.raises(BadRequest, match="my-report: a notebook takes no python"):
        build(request)
    pod = {"name": "a", "pod": {"containers": [{"command": ["date"]}]}}
    with pytest.raises(BadRequest, match="a: a pod takes no kernel"):
        prepare(pod, DeployOptions(kernel="python3"))


# Advice


def advice(*sources: str) -> list[str]:
    text = json.dumps(notebook(*(code(one) for one in sources)))
    request = DeployRequest(
        spec={"name": "report", "definition": {"path": "report.ipynb"}}, source=stripped(text.encode(), "report.ipynb")
    )
    found: Text = _notebook_text(request)
    return text_warnings(found, {"MY_PATH"})


def test_advice_is_about_cells() -> None:
    assert advice("import os\nx = 1", "display(x)\nIn, Out, _\nawait x", "%timeit x\n%cd /\nfiles = !ls\nfiles") == []
    assert advice("x = 1", "\n\ny", "x; z\n") == [
        "report.ipynb, code cells 2, 3: y, z are neither defined nor imported; a job that reaches this line fails"
    ]
    assert advice("%run other.py\ny") == []
    assert advice("%%bash\nls $x", "%%time\nlate") == []  # `%%time cell` may not, but other magics may define names
    asks, reads = advice("import os", "input()", "os.environ['MY_PATH']")
    assert asks == "report.ipynb, code cell 2: input() fails, as a job has no keyboard: give the value in the config"
    assert reads.startswith(
        "report.ipynb, code cell 3: MY_PATH is set here, and a job will not have it: give --env-var"
    )
    assert advice("def f(:", "y") == []
