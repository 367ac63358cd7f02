"""Notebook 7 with the extension: the sidebar, and a log in the panel below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
