"""Jobs in environments that are built of what a task asks for, from a kernel under a server and one without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kernels import Kernel
from support.notebooks import code, put
from support.packages import UV, Index, running_index

CELL = """\
import sys
def {name}(config):
    import grape
    return [grape.version, sys.prefix, sys.version.split()[0]]
"""
ASKS = "# /// script\n# dependencies = [{}]\n# ///\n"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with running_index() as index:
        for version in ("1.0", "2.0"):
            index.add("grape", version)
        index.add("wine", "1.0", requires=["grape<2"])
        yield index


@pytest.fixture
def kernel(notebook: Kernel, index: Index, tmp_path: Path) -> Iterator[Kernel]:
    """Return a notebook whose packages come from the index."""
    index.credentials = None
    variables = {"UV_DEFAULT_INDEX": index.url, "UV_CACHE_DIR": str(tmp_path / "cache")}
    notebook.run(f"import os, taskapi_jupyter; os.environ.update({variables!r}); tasks = taskapi_jupyter.connect()")
    yield notebook
    notebook.run("for name in [*os.environ]:\n    if name.startswith('UV_'): del os.environ[name]")


def result(kernel: Kernel, line: str) -> list[str]:
    """Run a line that is a job, and return what the job returned."""
    shown = kernel.run(f"job = {line}\nimport json\nprint('=>' + json.dumps(job.wait(60).result()))")
    assert "=>" in shown, shown + kernel.run("print(job.logs(), job.record)")
    found: list[str] = json.loads(shown.rpartition("=>")[2])
    return found


def submitted(kernel: Kernel, name: str) -> list[str]:
    return result(kernel, f"tasks.submit({name!r})")


def api_id(kernel: Kernel, name: str) -> str:
    return kernel.run(f"print(tasks.get({name!r}).spec['id'])").strip()


def test_a_cell_with_packages(kernel: Kernel) -> None:
    shown = kernel.run(f"%%taskapi deploy plain --with wine --with 'grape>=1'\n{CELL.format(name='plain')}")
    assert "created plain" in shown, shown
    version, prefix, python = submitted(kernel, "plain")
    assert (version, python) == ("1.0", sys.version.split()[0])
    assert re.search(r"/home/packages/[0-9a-f]{32}$", prefix)
    assert kernel.run("print(tasks.get('plain').spec['definition']['requirements'])").strip() == "['wine', 'grape>=1']"


def test_two_versions_of_one_package_in_two_apis_of_one_notebook(kernel: Kernel) -> None:
    """What jupyter-scheduler#594 asks for."""
    for name, version in (("old", "1.0"), ("new", "2.0")):
        kernel.run(f"%%taskapi deploy {name} --with grape=={version}\n{CELL.format(name=name)}")
    kernel.run("jobs = [tasks.submit('old'), tasks.submit('new')]")
    shown = kernel.run("print([job.wait(60).result()[0] for job in jobs])")
    assert shown.strip().endswith("['1.0', '2.0']"), shown


def test_a_file_a_function_and_a_task(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "needs.txt").write_text("grape<2  # for now\n")
    (tmp_path / "work" / "fit.py").write_text(CELL.format(name="fit"))
    kernel.run("tasks.deploy('fit.py', requirements='needs.txt')")
    assert submitted(kernel, "fit")[0] == "1.0"
    kernel.run(CELL.format(name="grow"))
    shown = kernel.run("%taskapi deploy grow --function grow --requirements needs.txt")
    assert "created grow" in shown, shown
    assert submitted(kernel, "grow")[0] == "1.0"
    kernel.run("harvest = taskapi_jupyter.task(requirements=['grape'])(grow)")
    assert result(kernel, "harvest.submit({})")[0] == "2.0"
    kernel.run("harvest = taskapi_jupyter.task(requirements='needs.txt')(grow)")
    assert result(kernel, "harvest.submit({})")[0] == "1.0"
    (tmp_path / "work" / "needs.txt").write_text("grape>=2\n")
    assert result(kernel, "harvest.submit({})")[0] == "2.0", "it is deployed again when its file has changed"
    shown = kernel.run("%taskapi deploy grow --function grow --with grape --python-version 3.8")
    assert "pickled by Python" in shown


def test_calls_of_an_executor(kernel: Kernel) -> None:
    kernel.run(CELL.format(name="press"))
    shown = kernel.run(
        "with taskapi_jupyter.Executor(requirements=['grape'], name='presses') as executor:\n"
        "    print(executor.submit(press, {}).result()[0])"
    )
    assert shown.strip().endswith("2.0"), shown


def test_the_same_text_is_the_same_version_until_it_is_upgraded(kernel: Kernel, index: Index) -> None:
    index.add("olive", "1.0")
    cell = "def pick(config):\n    import olive\n    return [olive.version]\n"
    kernel.run(f"%%taskapi deploy pick --with olive\n{cell}")
    first = api_id(kernel, "pick")
    index.add("olive", "1.1")
    assert "up to date" in kernel.run(f"%%taskapi deploy pick --with olive\n{cell}")
    assert (api_id(kernel, "pick"), submitted(kernel, "pick")) == (first, ["1.0"])
    assert "updated" in kernel.run(f"%%taskapi deploy pick --with olive --upgrade\n{cell}")
    assert api_id(kernel, "pick") != first
    assert submitted(kernel, "pick") == ["1.1"]
    del index.wheels["olive-1.0-py3-none-any.whl"], index.wheels["olive-1.1-py3-none-any.whl"]


def test_a_block_says_what_a_cell_needs(kernel: Kernel) -> None:
    asks = ASKS.format('"wine"')
    kernel.run(f"%%taskapi deploy block\n{asks}{CELL.format(name='block')}")
    assert submitted(kernel, "block")[0] == "1.0"
    assert re.search("/packages/[0-9a-f]{32}$", result(kernel, "tasks.submit('block')")[1])
    cell = f"{asks}import sys\ndef bare(config):\n    return [sys.prefix]\n"
    kernel.run(f"%%taskapi deploy bare --no-script-metadata\n{cell}")
    assert submitted(kernel, "bare") == [sys.prefix]
    kernel.run(f"%%taskapi deploy bare\n{cell.replace(asks, ASKS.format(''))}")
    assert "/packages/" in submitted(kernel, "bare")[0], "a block without dependencies is an environment without any"


def test_a_script_of_uv_and_a_notebook_as_juv_makes_them(kernel: Kernel, index: Index, tmp_path: Path) -> None:
    work = tmp_path / "work"
    if UV is None:
        pytest.skip("needs uv")
    (work / "script.py").write_text(CELL.format(name="script"))
    options = ["--script", "script.py", "--default-index", index.url]
    subprocess.run([UV, "add", *options, "grape<2"], cwd=work, check=True, capture_output=True)
    assert (work / "script.py").read_text().startswith("# /// script")
    kernel.run("tasks.deploy('script.py')")
    assert submitted(kernel, "script")[0] == "1.0"

    # ipykernel, by which the notebook runs, is not in our index, but in PyPI.
    asks = ASKS.format('"six",').replace("# dep", '# requires-python = ">=3.9"\n# dep')
    cell = code(asks.rstrip(), jupyter={"source_hidden": True})
    put(work / "juv.ipynb", cell, code("import six, sys\nprint(six.__name__, sys.prefix)"), code(asks))
    kernel.run("del os.environ['UV_DEFAULT_INDEX']; del os.environ['UV_CACHE_DIR']")
    shown = kernel.run("job = %taskapi submit juv.ipynb\njob.wait(90)\nprint(job.logs())")
    assert "code cell 3: its block # /// script is ignored" in shown, shown
    assert re.search(r"six /.*/packages/[0-9a-f]{32}\n", shown), shown


def test_what_is_refused_leaves_nothing(kernel: Kernel, index: Index, tmp_path: Path) -> None:
    there = kernel.run("print(sorted(one.name for one in tasks.get()))")
    (tmp_path / "work" / "requirements.txt").write_text("grape\nnonsense!\n-r /etc/hosts\n")
    cell = CELL.format(name="never")
    for options, text, told in (
        ("--with wine --with grape>=2", cell, "can't be met: Because"),
        ("--with nosuchpackage", cell, "nosuchpackage was not found"),
        ("--with ./here", cell, "is a local project or file"),
        ("--requirements auto", cell, "requirements.txt, line 2: 'nonsense!' is no requirement"),
        ("--requirements missing.txt", cell, "missing.txt can't be read"),
        ("--requirements auto --with grape", cell, "instead of auto, name the file"),
        ("--with grape --python-version 3.99", cell, "no Python here meets Python 3.99; there are: "),
        ("", f"# /// script\n{cell}", "is not closed"),
        ("", ASKS.format("1 2") + cell, "cell never, line 3: "),
        ("", ASKS.format("") * 2 + cell, "two blocks # /// script, in lines 2 and 5"),
        ("", ASKS.format('"grape"').replace("# dep", "# requires-python = '>=3.99'\n# dep") + cell, "no Python here"),
    ):
        shown = kernel.run(f"%%taskapi deploy never {options}\n{text}")
        assert told in shown, shown
        assert "Traceback" not in shown
    assert kernel.run("print(sorted(one.name for one in tasks.get()))") == there
    assert "not deployed" in kernel.run("%taskapi submit never")


def test_a_credential_reaches_the_index_alone(kernel: Kernel, index: Index, tmp_path: Path) -> None:
    index.credentials = ("me", "s3cret")
    url = index.url_with("me", "s3cret")
    (tmp_path / "work" / "private.txt").write_text(f"--index-url {url}\ngrape==2.0\n")
    shown = kernel.run(f"%%taskapi deploy vault --requirements private.txt\n{CELL.format(name='vault')}")
    assert submitted(kernel, "vault")[0] == "2.0"
    assert any(sent and sent.startswith("Basic ") for _, sent in index.seen)
    shown += kernel.run("print(job.logs(), job.record, tasks.get('vault').spec, tasks.get('vault'))")
    (tmp_path / "work" / "fit.py").write_text(CELL.format(name="fit"))
    shown += kernel.run(f"tasks.deploy('fit.py', requirements=['grape==1.0', '--index-url {url}'])")
    shown += (spec := kernel.run("print(tasks.get('fit').spec)"))
    assert "http://***@" in spec
    shown += kernel.run("%%taskapi deploy env\nimport os\ndef env(config):\n    return dict(os.environ)\n")
    shown += json.dumps(submitted(kernel, "env"))
    assert "s3cret" not in shown
    assert "UV_CACHE_DIR" not in shown


def test_a_requirements_file_that_is_not_met_is_no_news_where_an_environment_is_built(
    kernel: Kernel, tmp_path: Path
) -> None:
    (tmp_path / "work" / "requirements.txt").write_text("grape\n")
    cell = CELL.format(name="told")
    assert "requirements.txt is not met" in kernel.run(f"%%taskapi deploy told\n{cell}")
    for options, text in (("--requirements auto", cell), ("", ASKS.format('"grape"') + cell)):
        shown = kernel.run(f"%%taskapi deploy told {options}\n{text}")
        assert "told" in shown
        assert "not met" not in shown


def test_options_are_completed(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "requirements-dev.txt").write_text("")
    ask = "from IPython import get_ipython\nprint(get_ipython().complete('', {line!r}, {at})[1])"

    def offered(line: str) -> str:
        return kernel.run(ask.format(line=line, at=len(line)))

    for line in ("%%taskapi deploy train --", "%%taskapi submit train --", "%taskapi submit a.ipynb --"):
        shown = offered(line)
        for option in ("--with", "--requirements", "--python-version", "--upgrade", "--no-script-metadata"):
            assert f"'{option}'" in shown, line
    assert "requirements-dev.txt" in offered("%taskapi deploy a.ipynb --requirements ")
    assert "auto" in offered("%taskapi deploy a.ipynb --requirements ")
