"""What the docs say of the code: names that exist, a figure that is the settings', lines of a length to be read."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "taskapi_jupyter"
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
NAMED = re.compile(r"`([\w./]+\.py): ([\w.]+)`")


def journeys() -> dict[str, str]:
    """Return the text of each journey by its heading."""
    _, *parts = re.split(r"^## Three journeys\n|^## Clusters\n", ARCHITECTURE, flags=re.M)
    _, *found = re.split(r"^### (.*)\n", parts[0], flags=re.M)
    return dict(zip(found[::2], found[1::2], strict=True))


def defined(path: Path) -> set[str]:
    """Return the functions of a file, those of classes as ``Class.function``."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}.{one.name}" for one in inner}
    return names


@pytest.mark.parametrize(("journey", "text"), journeys().items())
def test_each_function_of_a_journey_exists(journey: str, text: str) -> None:
    named = NAMED.findall(text)
    assert named
    missing = [f"{file}: {name}" for file, name in named if name not in defined(PACKAGE / file)]
    assert not missing, f"docs/architecture.md, {journey}: not there any more: {missing}"


def test_journeys_lead_through_few_folders() -> None:
    found = journeys()
    typed = found["A submission"].partition("From the request")[0]
    for text in (typed, found["A line of log"], found["A stop"]):
        assert len({file.partition("/")[0] for file, _ in NAMED.findall(text)}) <= 5


def test_each_folder_and_module_that_the_architecture_names_exists() -> None:
    table = re.findall(r"^\| `([\w./]+)` \|", ARCHITECTURE, flags=re.M)
    assert not [name for name in table if not (PACKAGE / name).exists()]
    listed = {name.partition("/")[0] for name in table}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= listed


def test_each_path_that_a_contributor_is_sent_to_exists() -> None:
    named = re.findall(r"`([\w-]+/[\w./-]*|\w+\.py)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert not [one for one in named if "NAME" not in one and not ((ROOT / one).exists() or (PACKAGE / one).exists())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    assert not [one for one in links if not (page.parent / one).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\btest_\w+\.py\b", page.read_text("utf-8")))
    assert named <= there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lines_of_a_page_are_short(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 120]


def test_the_figure_is_that_of_the_layers() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "layers.py"))
    assert script["FIGURE"].read_text("utf-8") == script["figure"](), "run `python scripts/layers.py`"
