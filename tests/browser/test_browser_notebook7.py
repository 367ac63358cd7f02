"""Notebook 7 with the extension: the sidebar, a log and a job's notebook in the panel below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from support import PATIENCE, WAITING
from support.lab import Lab, row

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def notebook7(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a Notebook 7 with the extension."""
    running = Lab(tmp_path_factory.mktemp("notebook"), module="notebook")
    yield running
    running.close()


def test_notebook_7(notebook7: Lab, page: Page, name: str, tmp_path: Path) -> None:
    notebook7.deploy(name, WAITING)
    job = notebook7.service.submit(name, {"path": str(tmp_path / "go")}).id
    notebook7.open(page, "tree")
    page.locator(".jp-FileBrowser").wait_for()
    page.keyboard.press("Control+Shift+Y")
    expect(row(page, job)).to_contain_text("running")
    row(page, job).get_by_role("button").first.click()
    page.get_by_role("region", name=f"Job {job}").get_by_role("button", name="Log").click()
    expect(page.locator(".jp-TaskAPI-log")).to_contain_text("waiting")
    (tmp_path / "go").touch()
    expect(row(page, job)).to_contain_text("succeeded")
    page.locator("#taskapi-sidebar").get_by_role("button", name="Open in main area").click()
    expect(page.locator(f".jp-TaskAPI-Table-row[data-job-id='{job}']")).to_contain_text("succeeded")


def test_a_notebook_as_a_job(notebook7: Lab, page: Page, name: str) -> None:
    cells = [nbformat.v4.new_code_cell(text) for text in ("print('first', 'line')", "1 + 1")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, notebook7.notebooks / f"{name}.ipynb")

    # From the tree page, in whose menu the jobs are
    notebook7.open(page, "tree")
    page.locator(".jp-DirListing-item", has_text=name).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Open notebook").click()
    tab = page.locator(".jp-TaskAPI-Notebook")
    expect(tab).to_contain_text("succeeded after")
    expect(tab).to_contain_text("first line")
    page.reload()
    page.get_by_role("menuitem", name="View", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Jobs")).click()
    expect(page.locator("#taskapi-sidebar")).to_be_visible()

    # From the notebook's own page
    notebook7.open(page, f"notebooks/{name}.ipynb")
    page.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name="Run this notebook as a job").click()
    dialog.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Open notebook")).to_be_visible()
    first, second = notebook7.service.jobs(name)
    assert first.notebook == second.notebook == str(notebook7.notebooks / f"{name}.ipynb")
