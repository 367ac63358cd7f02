"""What a task asks for of packages, from its text to the lock and the environment that its jobs are started in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from support.interpreters import OTHERS
from support.notebooks import code, notebook
from support.packages import Index, running_index
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.api_spec.build import APISpec, build
from taskapi_jupyter.deploy.api_spec.variables import build_environ, hidden
from taskapi_jupyter.deploy.packages import requirements, script
from taskapi_jupyter.deploy.packages.resolve import Resolver
from taskapi_jupyter.deploy.prepare import DeployOptions, Source, asks_for_packages, prepare
from taskapi_jupyter.deploy.values import masked
from taskapi_jupyter.ui.cli.arguments import parser
from taskapi_jupyter.ui.verbs import packages_options

TASK = "def train(config):\n    return 1\n"
MINOR = "{}.{}".format(*sys.version_info)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """Return an index with two versions of a package, and one that needs it."""
    with running_index() as index:
        index.add("grape", "1.0")
        index.add("grape", "2.0")
        index.add("wine", "1.0", requires=["grape<2"])
        index.add("ipykernel", "6.99")
        index.add("modern", "1.0", requires_python=">=3.99")
        yield index


class Deploys:
    """Builds APIs in a folder, as a service of a home does."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder, self.index, self.home = folder / "project", index, folder / "home"
        self.folder.mkdir()
        self.home.mkdir(mode=0o700)
        self.build_environ = {"UV_CACHE_DIR": str(folder / "cache"), "PIP_NO_CACHE_DIR": "1"}
        self.settings: dict[str, Any] = {"index_url": index.url}

    def __call__(self, definition: dict[str, Any], source: str | None = TASK, **more: Any) -> APISpec:
        spec = {"name": "train", "definition": {"path": "train.py", **definition}}
        environ = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
        given: dict[str, Any] = {"build_environ": self.build_environ, "environ": environ, "python": sys.executable}
        request = DeployRequest(spec=spec, source=source, cwd=str(self.folder), **{**given, **more})
        return build(request, packages=Resolver(self.home, self.settings))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def refuses(self, definition: dict[str, Any], source: str | None = TASK, **more: Any) -> str:
        with pytest.raises(BadRequest) as error:
            self(definition, source, **more)
        assert not (self.home / "packages").exists(), "a deploy that is refused leaves nothing"
        return error.value.message.removeprefix("train: ")


@pytest.fixture
def deploys(tmp_path: Path, index: Index) -> Deploys:
    return Deploys(tmp_path, index)


def packages(built: APISpec) -> list[str]:
    found: list[str] = built.launch["packages"]["packages"]
    return found


# Requirements


def read(given: str | list[str], folder: Path, **environ: str) -> requirements.Asked:
    return requirements.read(given, str(folder), environ, lambda _: "")


def test_a_file_with_all_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text(
        dedent("""\
        # what we need
        --index-url https://index.example/simple
        --extra-index-url=https://me:${TOKEN}@other.example/simple  # ours
        -f wheels
        six  # why not
        pandas[excel] >=2, \\
            <3 ; python_version > "3.8"
        grape==1.0 --hash=sha256:00ff \\
            --hash=sha256:11ee
        wine @ https://host.example/wine-1.0-py3-none-any.whl
        -r more/others.txt
        -c more/limits.txt
        """)
    )
    (tmp_path / "more/others.txt").write_text("-r ../requirements.txt\nattrs\n")
    (tmp_path / "more/limits.txt").write_text("numpy<2\n")
    asked = read("requirements.txt", tmp_path, TOKEN="t0ken")
    assert [re.sub(r"\s+", " ", one) for one in asked.requirements] == [
        "six",
        'pandas[excel] >=2, <3 ; python_version > "3.8"',
        "grape==1.0",
        "wine @ https://host.example/wine-1.0-py3-none-any.whl",
        "attrs",
    ]
    assert asked.hashes == {"grape": ["sha256:00ff", "sha256:11ee"]}
    assert asked.constraints == ["numpy<2"]
    assert asked.index.index_url == "https://index.example/simple"
    assert asked.index.extra_index_urls == ["https://me:t0ken@other.example/simple"]
    assert asked.index.find_links == [str(tmp_path / "wheels")]
    assert asked.names == {"six", "pandas", "grape", "wine", "attrs"}
    assert read(["-r requirements.txt", "idna"], tmp_path).names == {*asked.names, "idna"}
    assert read("none", tmp_path).requirements == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("six=1", "'six=1' is no requirement: Expected"),
        ("six >", "is no requirement"),
        ("-e .", "'-e .' is a local project"),
        ("--editable=../x", "is a local project"),
        ("./x", "'./x' is a local project or file"),
        ("x-1.0.whl", "is a local project or file"),
        ("x @ file:///x-1.0.whl", "is a local project or file"),
        ("https://host.example/x-1.0.whl", "write it as NAME @ URL"),
        ("x @ git+https://host.example/x", "comes from version control, which has no hash"),
        ("git+ssh://host.example/x", "comes from version control"),
        ("--pre", "the option '--pre' is not taken; those that are: -r, -c,"),
        ("--index-url", "--index-url needs a value"),
        ("-i simple", "'simple' is no URL of an index"),
        ("-f nowhere", "the folder 'nowhere' does not exist"),
        ("-r ../../outside.txt", "is outside the project"),
        ("-r /etc/passwd", "is outside the project"),
        ("-r missing.txt", "missing.txt can't be read: No such file"),
        ("--extra-index-url https://***@host.example/", "*** stands for credentials that are not shown"),
        ("x @ https://***@host.example/x.whl", "*** stands for credentials that are not shown"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"# one\nsix \\\n  >1\n{line}\n")
    with pytest.raises(BadRequest) as error:
        read("requirements.txt", tmp_path)
    assert told in error.value.message
    if not line.startswith("-r"):  # in a list, that may be anywhere
        assert error.value.message.startswith("requirements.txt, line 4: ")
        with pytest.raises(BadRequest, match=re.escape(told)):
            read(["six", line], tmp_path)


def test_a_project_says_by_its_files_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"auto finds none of uv.lock \(with pyproject.toml\), pylock.toml and req"):
        read("auto", tmp_path)
    (tmp_path / "requirements.txt").write_text("six\n")
    assert read("auto", tmp_path).requirements == ["six"]
    (tmp_path / "pylock.toml").write_text(
        dedent("""\
        lock-version = "1.0"
        requires-python = ">=3.9"
        [[packages]]
        name = "grape"
        version = "1.0"
        marker = "python_version > '3'"
        [[packages.wheels]]
        url = "https://host.example/grape-1.0-py3-none-any.whl"
        hashes = {sha256 = "00ff"}
        [[packages]]
        name = "wine"
        archive = {url = "https://host.example/wine.tar.gz", hashes = {sha256 = "11"}}
        """)
    )
    asked = read("auto", tmp_path)
    assert asked.requirements == [
        "grape==1.0 ; python_version > '3'",
        "wine @ https://host.example/wine.tar.gz",
    ]
    assert (asked.hashes, asked.python) == ({"grape": ["sha256:00ff"]}, [">=3.9"])
    (tmp_path / "uv.lock").write_text("version = 1\n")
    assert read("auto", tmp_path).names == {"grape", "wine"}, "a uv.lock without pyproject.toml is no project's"
    (tmp_path / "pyproject.toml").write_text('[[tool.uv.index]]\nurl = "https://index.example/"\ndefault = true\n')
    asked = requirements.read("auto", str(tmp_path), {}, lambda folder: f"attrs==1 \\\n  --hash=sha256:22\n# {folder}")
    assert (asked.requirements, asked.hashes) == (["attrs==1"], {"attrs": ["sha256:22"]})
    assert asked.index.index_url == "https://index.example/"


def test_credentials_are_masked() -> None:
    line = "wine @ https://me:s3cret@host.example/wine.whl"
    assert masked(line) == "wine @ https://***@host.example/wine.whl"
    assert masked("no https://host.example/a@b") == "no https://host.example/a@b"
    spec = {"name": "train", "definition": {"path": "a.py", "requirements": [line, "six"]}}
    assert hidden(spec)["definition"]["requirements"] == [masked(line), "six"]
    assert "s3cret" not in json.dumps(hidden(spec))


# PEP 723


def block(text: str, **environ: str) -> requirements.Asked | None:
    return script.read(text, "cell train", "/project", environ)


def test_a_block_is_read() -> None:
    assert block(TASK) is None
    asked = block(
        dedent("""\

        # /// script
        # requires-python = ">=3.9"
        # dependencies = [
        #   "six",
        #
        #   "pandas<3",  # for now
        # ]
        #
        # [[tool.uv.index]]
        # name = "ours"
        # url = "https://ours.example/simple"
        #
        # [[tool.uv.index]]
        # url = "https://all.example/simple"
        # default = true
        #
        # [tool.uv]
        # exclude-newer = 2026-01-02T00:00:00Z
        # python-preference = "system"
        # ///
        # Another comment
        import six
        """).replace("[tool.uv]\n# exclude", "[tool.uv]\n# exclude"),
        UV_INDEX_OURS_USERNAME="me",
        UV_INDEX_OURS_PASSWORD="a@b",
    )
    assert asked is not None
    assert (asked.requirements, asked.python) == (["six", "pandas<3"], [">=3.9"])
    assert asked.index.extra_index_urls == ["https://me:a%40b@ours.example/simple"]
    assert asked.index.index_url == "https://all.example/simple"
    assert asked.exclude_newer == "2026-01-02T00:00:00+00:00"
    assert asked.warnings == ["cell train, # /// script: tool.uv.python-preference is ignored"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n# /// script\n# dependencies = []\nx = 1\n", "cell train, line 2: the block # /// script is not closed"),
        ("# /// script\n# dependencies = []", "line 1: the block # /// script is not closed"),
        ("# /// script\n# ///\n\n# /// script\n# ///", "cell train has two blocks # /// script, in lines 1 and 4"),
        ("x\n# /// script\n#\n# dependencies = [1 2]\n# ///", "cell train, line 4: "),
        ("# /// script\n# dependencies = ['six'\n# ///", "cell train, line 2: "),
        ("# /// script\n# dependencies = 'six'\n# ///", "dependencies must be a list of texts, not 'six'"),
        ("# /// script\n# dependencies = ['six=1']\n# ///", "'six=1' is no requirement"),
        ("# /// script\n# dependencies = ['x @ file:///x']\n# ///", "is a local project or file"),
        ("# /// script\n# requires-python = 3.11\n# ///", "requires-python must be versions of Python"),
        ("# /// script\n# requires-python = 'new'\n# ///", "requires-python must be versions of Python, such as"),
        ("# /// script\n# [tool.uv.sources]\n# six = {path = 'six'}\n# ///", "tool.uv.sources is not taken"),
        ("# /// script\n# [tool.uv]\n# index = 'x'\n# ///", "tool.uv.index must be a list of tables"),
    ],
)
def test_a_bad_block_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(told)):
        block(text)


def test_only_the_first_code_cell_of_a_notebook_counts(deploys: Deploys) -> None:
    first = '# /// script\n# dependencies = ["grape<2"]\n# ///'
    cells = [code(first), code("print(1)"), code(first)]
    deploys.write("report.ipynb", json.dumps(notebook(*cells)))
    built = deploys({"path": "report.ipynb"}, None)
    assert packages(built) == ["grape==1.0", "ipykernel==6.99"]
    assert built.warnings == (
        "report.ipynb, code cell 3: its block # /// script is ignored: only that of the first code cell is read",
    )
    python = f"{deploys.home}/packages/{built.launch['packages']['key']}/bin/python"
    kernel = built.launch["notebook"]["kernel"]
    assert kernel["spec"]["argv"] == [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    assert (kernel["language"], built.launch["notebook"]["language"]) == ("python", "python")
    assert built.launch["python"] == sys.executable, "what runs the cells' runner is this process's"
    deploys.write("report.ipynb", json.dumps(notebook(*cells[1:])))
    built = deploys({"path": "report.ipynb"}, None)
    assert "packages" not in built.launch
    assert len(built.warnings) == 1
    asked = deploys({"path": "report.ipynb", "requirements": ["ipykernel<7"]}, None)
    assert asked.launch["packages"]["requirements"] == ["ipykernel<7"], "it was asked for already"
    with pytest.raises(BadRequest, match=r"definition\.kernel has an interpreter of its own"):
        deploys({"path": "report.ipynb", "requirements": ["grape"], "kernel": "python3"}, None)


# Locks


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_a_lock_has_hashes_and_stays_until_it_is_upgraded(deploys: Deploys, builder: str) -> None:
    with running_index() as index:
        deploys.settings = {"builder": builder, "index_url": index.url}
        wine = index.add("wine", "1.0", requires=["grape<3"])
        old = index.add("grape", "1.0")
        first = deploys({"requirements": ["wine"]})
        assert first.files["requirements.lock"] == f"{old}\n{wine}\n".encode()
        launch = first.launch["packages"]
        assert launch["packages"] == ["grape==1.0", "wine==1.0"]
        assert (launch["requirements"], launch["builder"], launch["unlocked"]) == (["wine"], builder, False)
        assert launch["version"].startswith(f"{MINOR}.")
        assert os.access(launch["base"], os.X_OK)
        folder = deploys.home / "packages" / launch["key"]
        assert re.fullmatch(r"[0-9a-f]{32}", folder.name)
        assert first.launch["python"] == str(folder / "bin" / "python")
        assert first.launch["env"]["VIRTUAL_ENV"] == str(folder)
        assert first.launch["env"]["PATH"].startswith(f"{folder}/bin:")
        assert "UV_CACHE_DIR" not in first.launch["env"]
        assert "UV_CACHE_DIR" in launch["env"]
        assert first.spec["definition"]["requirements"] == ["wine"]

        new = index.add("grape", "2.0")
        asked = len(index.seen)
        assert deploys({"requirements": ["wine"]}).api_id == first.api_id
        assert len(index.seen) == asked, "a lock that is kept needs no network"
        upgraded = deploys({"requirements": ["wine"]}, upgrade=True)
        assert upgraded.files["requirements.lock"] == f"{new}\n{wine}\n".encode()
        assert upgraded.api_id != first.api_id
        assert upgraded.launch["python"] != first.launch["python"]
        assert deploys({"requirements": ["wine"]}).api_id == upgraded.api_id


def test_hashes_that_were_given_are_kept(deploys: Deploys, index: Index) -> None:
    with running_index() as other:
        line = other.add("grape", "2.0", code="other = True\n")
    given = line.partition("--hash=")[2]
    told = deploys.refuses({"requirements": [line]})
    assert told == "the hashes given for grape==2.0 are not those of the index"
    right = index.add("grape", "2.0").partition("--hash=")[2]
    deploys.write("requirements.txt", f"grape==2.0 --hash={given} --hash={right}\n")
    built = deploys({"requirements": "requirements.txt"})
    assert built.files["requirements.lock"] == f"grape==2.0 --hash={given} --hash={right}\n".encode()


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_what_cannot_be_met_is_said(deploys: Deploys, index: Index, builder: str) -> None:
    deploys.settings["builder"] = builder
    told = deploys.refuses({"requirements": ["wine", "grape>=2"]})
    assert told.startswith("the requirements can't be met: ")
    assert "grape" in told
    assert "wine" in told
    assert builder == "pip" or "Because" in told
    told = deploys.refuses({"requirements": ["nosuchpackage"]})
    assert told.startswith("the requirements can't be met: ")
    assert "nosuchpackage" in told
    told = deploys.refuses({"requirements": ["modern"]})
    assert "3.99" in told or "No matching distribution" in told


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_an_index_that_is_not_there_is_named_without_credentials(deploys: Deploys, builder: str) -> None:
    deploys.settings = {"builder": builder, "index_url": "http://me:s3cret@127.0.0.1:9/simple"}
    told = deploys.refuses({"requirements": ["grape"]})
    assert re.match(r"can't reach http://(\*\*\*@)?127\.0\.0\.1:9/simple", told)
    assert "packages.index_url" in told
    assert "packages.offline" in told
    assert "s3cret" not in told


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_the_index_sees_credentials_and_nobody_else(deploys: Deploys, builder: str) -> None:
    with running_index() as index:
        index.credentials = ("me", "s3cret")
        index.add("grape", "1.0")
        deploys.settings = {"builder": builder}
        options = f"--index-url {index.url_with('me', 's3cret')}"
        built = deploys({"requirements": ["grape", options]})
        assert any(sent for _, sent in index.seen)
        assert packages(built) == ["grape==1.0"]
        lock = built.files["requirements.lock"]
        assert isinstance(lock, bytes)
        assert b"s3cret" not in lock
        shown = json.dumps([hidden(built.spec), built.warnings, {**built.launch["packages"], "index": None}])
        assert "s3cret" not in shown
        assert "http://***@" in shown
        assert "s3cret" not in json.dumps(built.launch["env"])
        assert built.launch["packages"]["index"]["index_url"] == index.url_with("me", "s3cret"), "the build has it"
        wrong = f"--index-url {index.url_with('me', 'wr0ng')}"
        with pytest.raises(BadRequest) as error:
            deploys({"requirements": ["grape", wrong]}, upgrade=True)
        told = error.value.message
        assert "wr0ng" not in told
        assert "can't be met" in told or "refuses" in told
    kept = "".join(path.read_text() for path in (deploys.home / "packages" / "locks").iterdir())
    assert "s3cret" not in kept


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_an_index_that_refuses(deploys: Deploys, builder: str) -> None:
    with running_index() as index:
        index.add("grape", "1.0")
        deploys.settings = {"builder": builder, "index_url": index.url_with("me", "s3cret")}
        for status in (403, 500):
            index.status = status
            told = deploys.refuses({"requirements": ["grape"]})
            assert str(status) in told
            assert index.host in told
            assert "s3cret" not in told


def test_variables_of_the_kernel_choose_the_index(deploys: Deploys, index: Index) -> None:
    deploys.settings = {}
    for builder, name in (("uv", "UV_DEFAULT_INDEX"), ("uv", "PIP_INDEX_URL"), ("pip", "UV_INDEX_URL")):
        deploys.settings = {"builder": builder}
        asked = len(index.seen)
        variables = {**deploys.build_environ, name: index.url, "UV_PYTHON": "3.2", "PIP_TARGET": "/nowhere"}
        built = deploys({"requirements": ["wine"]}, build_environ=variables)
        assert packages(built) == ["grape==1.0", "wine==1.0"], name
        assert len(index.seen) > asked
        assert built.launch["packages"]["env"].keys() == {*deploys.build_environ, name}
        shutil.rmtree(deploys.home / "packages")


def test_find_links_and_no_index(deploys: Deploys, index: Index) -> None:
    index.save(deploys.folder / "wheels")
    deploys.settings = {}
    for builder in ("uv", "pip"):
        deploys.settings = {"builder": builder}
        built = deploys({"requirements": ["wine", "--find-links wheels", "--no-index"]})
        assert packages(built) == ["grape==1.0", "wine==1.0"]
        assert b"--hash=sha256:" in built.files["requirements.lock"]  # type: ignore[operator]
        where = {"find_links": [str(deploys.folder / "wheels")], "no_index": True}
        assert built.launch["packages"]["index"] == {"index_url": None, "extra_index_urls": [], **where}


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_a_folder_of_packages_whose_name_has_a_space(deploys: Deploys, index: Index, builder: str) -> None:
    index.save(deploys.folder / "my wheels, all")
    deploys.settings = {"builder": builder}
    built = deploys({"requirements": ["wine", "--find-links './my wheels, all'", "--no-index"]})
    assert packages(built) == ["grape==1.0", "wine==1.0"]
    (where,) = built.launch["packages"]["index"]["find_links"]
    assert where == (deploys.folder / "my wheels, all").as_uri()


def test_offline_without_a_lock_the_first_job_resolves(deploys: Deploys, index: Index) -> None:
    deploys.settings["offline"] = True
    for builder in ("uv", "pip"):
        deploys.settings["builder"] = builder
        built = deploys({"requirements": ["grape<2", "wine"]})
        assert built.launch["packages"]["unlocked"] is True
        assert packages(built) == []
        assert built.files["requirements.lock"] == b"grape<2\nwine\n"
        assert "packages.offline" in built.warnings[0]
    deploys.settings = {"index_url": index.url}
    locked = deploys({"requirements": ["wine"]})
    deploys.settings["offline"] = True
    assert deploys({"requirements": ["wine"]}).api_id == locked.api_id, "the lock that is kept"


def test_neither_uv_nor_pip(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskapi_jupyter.deploy.packages.resolve.find_uv", lambda *_: None)
    deploys.settings["builder"] = "uv"
    assert "pip install 'taskapi-jupyter[uv]'" in deploys.refuses({"requirements": ["grape"]})
    deploys.settings["builder"] = "auto"
    monkeypatch.setattr("taskapi_jupyter.deploy.packages.builders.pip_version", lambda _: 0)
    told = deploys.refuses({"requirements": ["grape"]})
    assert told.startswith("neither uv nor pip 23 or newer is there")
    assert "pip install 'taskapi-jupyter[uv]'" in told
    assert "-m ensurepip" in told


def test_a_block_beside_requirements_adds_to_them(deploys: Deploys) -> None:
    source = f'# /// script\n# dependencies = ["grape"]\n# ///\n{TASK}'
    assert packages(deploys({}, source)) == ["grape==2.0"]
    assert packages(deploys({"requirements": ["wine"]}, source)) == ["grape==1.0", "wine==1.0"]
    assert "packages" not in deploys({"script_metadata": False}, source).launch
    built = deploys({}, f"# /// script\n# dependencies = []\n# ///\n{TASK}")
    assert packages(built) == []
    assert built.launch["python"] != sys.executable


def test_without_a_resolver_and_in_a_pod(deploys: Deploys) -> None:
    request = DeployRequest(
        spec={"name": "train", "definition": {"path": "a.py", "requirements": ["six"]}}, source=TASK
    )
    with pytest.raises(BadRequest, match="no environments are built"):
        build(request)
    pod = {"containers": [{"command": ["true"]}]}
    request = DeployRequest(spec={"name": "train", "pod": pod, "definition": {"requirements": ["six"]}})
    with pytest.raises(BadRequest, match="a pod runs a command as it is: it takes no requirements"):
        build(request)
    with pytest.raises(BadRequest, match="a pod takes no requirements"):
        prepare({"name": "train", "pod": pod}, DeployOptions(requirements=["six"]))
    told = deploys.refuses({"requirements": {"six": 1}})
    assert told.startswith("definition.requirements must be auto, none, the path of a file, or a list of requirements")
    assert "such as 3.12" in deploys.refuses({"requirements": ["grape"], "python_version": "three"})


# Interpreters


@pytest.mark.parametrize("pyenv", [False, True], ids=["itself", "pyenv"])
@pytest.mark.parametrize("uv", [True, False], ids=["uv", "path"])
def test_another_python_is_found(deploys: Deploys, tmp_path: Path, uv: bool, pyenv: bool) -> None:
    if not OTHERS:
        pytest.skip("needs another version of Python")
    other = OTHERS[-1]
    version = subprocess.run([other, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True)
    minor = version.stdout.decode().strip()
    path = f"{Path(other).resolve().parent}:/usr/bin:/bin"
    if pyenv:  # whose shims are scripts, which find no version that was not chosen
        (tmp_path / "versions").mkdir()
        (tmp_path / "versions" / minor).symlink_to(Path(other).resolve().parent.parent)
        shim = tmp_path / "shims" / f"python{minor}"
        shim.parent.mkdir()
        shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 127\n")
        shim.chmod(0o755)
        path = f"{shim.parent}:/usr/bin:/bin"
    deploys.settings["builder"] = "uv" if uv else "pip"
    environ = {"PATH": path, "HOME": str(deploys.folder)}
    for asked, source in (
        ({"python_version": minor, "requirements": ["grape"]}, TASK),
        ({}, f"# /// script\n# requires-python = '=={minor}.*'\n# dependencies = ['grape']\n# ///\n{TASK}"),
    ):
        built = deploys(asked, source, environ=environ)
        launch = built.launch["packages"]
        assert launch["version"].startswith(f"{minor}.")
        assert Path(launch["base"]).samefile(other)
    assert not (tmp_path / "asked").exists()
    named = {"python": sys.executable, "definition": {"path": "train.py", "python_version": minor}}
    request = DeployRequest(spec={"name": "train", **named}, source=TASK, environ=environ, cwd=str(deploys.folder))
    with pytest.raises(BadRequest, match=f"is Python {MINOR}.* and Python {re.escape(minor)} is asked for"):
        build(request, packages=Resolver(deploys.home, deploys.settings))


def test_no_python_fits(deploys: Deploys) -> None:
    source = f"# /// script\n# requires-python = '>=3.99'\n# ///\n{TASK}"
    told = deploys.refuses({}, source)
    assert told.startswith("no Python here meets requires-python >=3.99; there are: ")
    assert sys.executable in told
    assert "packages.python_downloads: true" in told


# What prepares a deploy


def test_options_become_part_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"UV_INDEX_URL": "u", "PIP_INDEX_URL": "p", "NETRC": "n", "UV_PYTHON": "x", "OTHER": "o", "PATH": "/bin"}
    options = {"cwd": tmp_path, "environ": environ}
    (plain,) = prepare(Source(TASK), DeployOptions(name="train", **options))
    assert plain.build_environ is None
    assert not asks_for_packages(plain.spec, plain.source)
    (request,) = prepare(Source(TASK), DeployOptions(name="train", requirements=["six"], upgrade=True, **options))
    assert request.spec["definition"]["requirements"] == ["six"]
    assert request.upgrade
    assert request.build_environ == {"UV_INDEX_URL": "u", "PIP_INDEX_URL": "p", "NETRC": "n"} == build_environ(environ)
    assert request.environ == {"PATH": "/bin"}, "none of them is the task's"
    text = f"# /// script\n# ///\n{TASK}"
    (request,) = prepare(Source(text), DeployOptions(name="train", **options))
    assert request.build_environ is not None
    assert "requirements" not in request.spec["definition"]
    (request,) = prepare(Source(text), DeployOptions(name="train", script_metadata=False, **options))
    assert request.build_environ is None
    (request,) = prepare(lambda config: 1, DeployOptions(name="train", **options))
    assert request.build_environ is None
    assert "python" not in request.spec
    (request,) = prepare(lambda config: 1, DeployOptions(name="train", requirements=["six"], python="py", **options))
    assert request.spec["python"] == "py", "no other is searched for"
    with pytest.raises(BadRequest, match=r"pickled by Python .*, and Python 3\.7 can't load it"):
        prepare(lambda config: 1, DeployOptions(name="train", requirements=["six"], python_version="3.7", **options))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/task.py").write_text(TASK)
    (tmp_path / "needs.txt").write_text("six\n")
    monkeypatch.chdir(tmp_path)
    for given, there in (("needs.txt", "../needs.txt"), (["-r needs.txt", "idna"], ["-r ../needs.txt", "idna"])):
        (request,) = prepare("sub/task.py", DeployOptions(requirements=given))
        assert request.spec["definition"]["requirements"] == there, "from the folder of the deploying process"
    (request,) = prepare("sub/task.py", DeployOptions(requirements="auto"))
    assert request.spec["definition"]["requirements"] == "auto"


def test_options_of_a_terminal() -> None:
    words = "--with numpy --with pandas<3 --requirements needs.txt --python-version 3.12 --upgrade --no-script-metadata"
    for verb in ("deploy", "submit"):
        options = vars(parser().parse_args([verb, "report.ipynb", *words.split()]))
        assert packages_options(options) == {
            "requirements": ["-r needs.txt", "numpy", "pandas<3"],
            "python_version": "3.12",
            "upgrade": True,
            "script_metadata": False,
        }
        assert packages_options(vars(parser().parse_args([verb, "report.ipynb"]))) == {}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know which package brings numpy")
def test_a_callable_is_told_what_its_packages_lack(deploys: Deploys) -> None:
    import numpy as np

    def task(config: dict[str, Any]) -> Any:
        return np.zeros(1)

    made: Callable[..., list[DeployRequest]] = prepare
    environ = {"PATH": os.environ["PATH"], **deploys.build_environ}
    options = DeployOptions(name="train", requirements=["grape"], cwd=deploys.folder, environ=environ)
    (request,) = made(task, options)
    built = build(request, packages=Resolver(deploys.home, deploys.settings))
    assert built.launch["packages"]["version"].startswith(f"{MINOR}.")
    assert [one for one in built.warnings if "numpy (numpy), which is not among its packages" in one]
