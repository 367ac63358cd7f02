"""The guide to interpreters and packages: its blocks, run in order as they are written, and the messages it names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import TESTS
from support.kernels import Kernel
from support.packages import UV, Index, running_index

ROOT = TESTS.parent
GUIDE = (ROOT / "docs" / "environments.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, flags=re.M | re.S)
FILE = re.compile(r"# ([\w-]+\.\w+)\n")  # the first line of a block that is a file
VERSION = "__version__ = version\n"

pytestmark = pytest.mark.skipif(UV is None, reason="needs uv")


@pytest.fixture(scope="module", autouse=True)
def kernelspecs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have a folder for kernelspecs of a user before a server or a kernel is started."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_PATH"):  # a server of tests has another folder of the former
            patch.setenv(name, str(data))
        yield


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index() as index:
        index.add("numpy", "2.3.1", code=VERSION)
        for version in ("2.3.3", "3.0.0"):
            index.add("pandas", version, code=VERSION)
        yield index


class Reader:
    """Someone who tries all that the guide has, in a notebook and in a terminal of one folder."""

    def __init__(self, kernel: Kernel, index: Index, folder: Path) -> None:
        self.kernel, self.index, self.folder = kernel, index, folder
        self.home = Path(kernel.run("print(os.environ['TASKAPI_HOME'])").strip())
        self.variables = {"UV_DEFAULT_INDEX": index.url, "UV_CACHE_DIR": str(folder / "cache")}
        kernel.run(f"os.environ.update({self.variables!r})")

    def follow(self, language: str, text: str) -> str:
        """Do what a block says; return what was shown."""
        text = text.replace("https://packages.example.com/simple", self.index.url)
        if name := FILE.match(text):
            place = self.home if name[1] == "config.yaml" else self.folder
            (place / name[1]).write_text(text)
            return ""
        return self.shell(text) if language == "sh" else self.cell(text)

    def cell(self, text: str) -> str:
        shown = self.kernel.show(text.replace("getpass.getpass()", "'hush'"))
        assert not shown.error, f"{text}\n{shown.error}"
        said = "\n".join(shown.parts)
        assert "usage: " not in said, said
        if deployed := re.match(r"%%taskapi deploy (\w+)(?!.*--dry-run)", text):
            said += self.kernel.run(f"tasks.submit({deployed[1]!r}).wait(60)\nprint(tasks.jobs()[0].logs())")
            said += f"=> {self.kernel.run('tasks.jobs()[0].result()')}"
        return said

    def shell(self, text: str) -> str:
        if "install --python analysis ipykernel" in text:  # as if it had come from PyPI
            (packages,) = (self.folder / "analysis" / "lib").glob("python*/site-packages")
            (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
            text = text.partition("\n")[2]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environ = {**os.environ, **self.variables, "PATH": path, "TASKAPI_HOME": str(self.home)}
        environ["UV_PYTHON"] = sys.executable  # whose packages its environment has
        for name in ("TASKAPI_URL", "TASKAPI_SERVER", "VIRTUAL_ENV"):
            environ.pop(name, None)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout


def alike(text: str) -> set[str]:
    """Return the lines of a text without what differs from run to run."""
    return {re.sub(r"\b[0-9a-f]{8}\b|\d+(\.\d+)*", "N", line).rstrip() for line in text.splitlines()}


def test_its_blocks_do_what_it_says(notebook: Kernel, index: Index, tmp_path: Path) -> None:
    notebook.run("import os, taskapi_jupyter; tasks = taskapi_jupyter.connect()")
    reader = Reader(notebook, index, tmp_path / "work")
    shown, logs = [], ""
    try:
        for language, text in BLOCKS:
            if language == "text" and not FILE.match(text):
                assert alike(text) <= alike(logs), f"{text}\n{logs}"
                continue
            if "UV_INDEX_COMPANY" in text:  # from here on it is private
                index.credentials = ("reader", "hush")
                notebook.run("del os.environ['UV_DEFAULT_INDEX']")
            shown.append(reader.follow(language, text))
            logs += shown[-1]
    finally:
        notebook.run("for name in [*os.environ]:\n    if name.startswith('UV_'): del os.environ[name]")
    said = "".join(shown)
    assert f"=> '{reader.folder}/analysis'" in said, "the Python of a kernelspec"
    assert "=> ['2.3.1', '2.3.3']" in said, "versions that were asked for"
    assert "would create looked (TaskAPI)" in said
    assert "hush" not in said
    assert any(sent for _, sent in index.seen)
    assert "numpy, pandas<3" in said
    assert "\n2 environments (" in shown[-1]
    assert not [one for one in (reader.home / "packages").iterdir() if re.fullmatch("[0-9a-f]{32}", one.name)]


def strings() -> str:
    """Return the texts that the package's modules hold, without what is filled in."""
    found = []
    for path in (ROOT / "taskapi_jupyter").rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text("utf-8")))
        found += [node.value for node in tree if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(found)


def test_messages_that_it_names_are_said() -> None:
    table = GUIDE.partition("## What people meet\n")[2].partition("## ")[0]
    messages = re.findall(r"^\| `(.+?)` ", table, flags=re.M)
    assert len(messages) > 10
    said = strings() + ModuleNotFoundError.__name__  # that is Python's
    assert not [part for one in messages for part in one.split("…") if part.strip() not in said]
