"""A notebook, the panel in it and the sidebar beside it, in a real JupyterLab, through everything that ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from support import PATIENCE, WAITING
from support.lab import Lab, drawn, row, show_sidebar

expect.set_options(timeout=PATIENCE * 1000)

DEPLOY = """%%taskapi deploy steps --config {config}
import pathlib, time
from taskapi_jupyter.job import progress

def run(config):
    folder, done = pathlib.Path(config["folder"]), 0
    print("\\x1b[31mred\\x1b[0m begins", flush=True)
    while done < 3:
        if (folder / str(done + 1)).exists():
            done += 1
            print("step", done, flush=True)
            progress(done, 3, f"step {{done}}")
        time.sleep(0.01)
    return {{"steps": done}}
"""

BLOCK = """import pathlib, time
print("blocked")
while not pathlib.Path({path!r}).exists():
    time.sleep(0.01)
print("free")
"""


class Book:
    """A notebook on a page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, number: int) -> Locator:
        """Return a cell."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def run(self, number: int, *, ends: bool = True) -> Locator:
        """Run a cell, wait until it ran (or, where it does not end, runs), and return its output."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(10):
            self.cell(number).locator(".cm-content").click()
            self.page.keyboard.press("Control+Enter")
            with suppress(AssertionError):  # a kernel that still connects lets a run go by
                expect(prompt).not_to_have_text(before, timeout=3_000)
                if ends:
                    expect(prompt).to_have_text(re.compile(r"\[\d+\]"), timeout=10_000)
                break
        return self.cell(number).locator(".jp-OutputArea")

    def restart_kernel(self) -> None:
        """Restart the kernel as the menu does."""
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.get_by_role("menuitem", name=re.compile("^Restart Kernel…")).click()
        self.page.get_by_role("dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        self.idle()

    def idle(self) -> None:
        """Wait until the kernel waits for a cell."""
        self.page.wait_for_selector(
            ".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached", timeout=PATIENCE * 1000
        )


@pytest.fixture
def book(lab: Lab, page: Page, tmp_path: Path) -> Callable[..., Book]:
    """Return what opens a notebook of some cells."""

    def open_(*cells: str) -> Book:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, lab.notebooks / "work.ipynb")
        lab.open(page, "tree/work.ipynb")
        opened = Book(page)
        opened.idle()
        return opened

    return open_


def test_an_output_opens_its_job_in_the_sidebar_and_shows_it_once(
    lab: Lab, page: Page, book: Callable[..., Book], name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING)
    hostile = "<a class='ta-open' href='#taskapi-job/local/../6714d9d4822479be'>no job</a>"
    notebook = book(
        "%load_ext taskapi_jupyter",
        f"%taskapi submit {name} path={tmp_path / 'go'}",
        f"from IPython.display import HTML; HTML({hostile!r})",
        "%taskapi wait last",
    )
    notebook.run(0)
    shown = notebook.run(1)
    link = shown.get_by_role("link", name="Show in sidebar")
    expect(shown).to_contain_text(re.compile(r"as of \d\d:\d\d:\d\d"))
    notebook.run(2).get_by_text("no job").click()
    expect(page.locator("#taskapi-sidebar")).not_to_be_visible()
    link.click()
    (job,) = lab.service.jobs(name)
    details = page.locator("#taskapi-sidebar .jp-TaskAPI-Details")
    expect(details).to_contain_text(job.id)
    (tmp_path / "go").touch()
    waited = notebook.run(3)
    expect(waited.locator(".taskapi")).to_have_count(1)
    expect(waited).to_contain_text("succeeded")
    expect(waited.locator("table")).to_have_count(1)  # the card, in the place of the bar
    assert job.id not in page.url


def test_an_output_opens_the_jobs_of_its_group(
    lab: Lab, page: Page, book: Callable[..., Book], name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING)
    notebook = book(
        "%load_ext taskapi_jupyter",
        f"group = %taskapi submit {name} path={tmp_path / 'go'} seed=[1,2,3] --sweep\ngroup",
        "group.wait()",
    )
    notebook.run(0)
    notebook.run(1).get_by_role("link", name="Open its jobs").click()
    table = page.locator(".jp-TaskAPI-Page")
    expect(table.locator(".jp-TaskAPI-Table-row")).to_have_count(3)
    (tmp_path / "go").touch()
    page.get_by_role("tab", name="work.ipynb").click()
    ended = notebook.run(2)
    expect(ended).to_contain_text("3 succeeded")
    expect(ended.get_by_role("link")).to_have_count(0)


@pytest.mark.timeout(300)
def test_jobs_outlive_everything(lab: Lab, page: Page, book: Callable[..., Book], tmp_path: Path) -> None:
    go = tmp_path / "go"
    config = f'\'{{"folder": "{tmp_path}"}}\''
    notebook = book(
        "%load_ext taskapi_jupyter", DEPLOY.format(config=config), "%taskapi panel steps", BLOCK.format(path=str(go))
    )
    notebook.run(0)
    expect(notebook.run(1)).to_contain_text("created steps (TaskAPI)")

    # From the panel, beside the code
    panel = notebook.run(2)
    panel.get_by_role("button", name="Submit", exact=True).click()
    sidebar = show_sidebar(page)
    first = page.locator(".jp-TaskAPI-Job[data-api=steps]")
    expect(first).to_contain_text("running")
    expect(panel).to_contain_text("begins")
    (tmp_path / "1").touch()
    expect(first).to_contain_text("1/3 · step 1")
    expect(panel).to_contain_text("1/3 · step 1")
    one = lab.service.jobs("steps")[0]
    assert one.notebook == str(lab.notebooks / "work.ipynb")

    # From the sidebar, while a cell blocks the kernel
    expect(notebook.run(3, ends=False)).to_contain_text("blocked")
    sidebar.get_by_role("button", name="steps", exact=False).first.click()
    sidebar.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator(".jp-TaskAPI-Job[data-api=steps]")).to_have_count(2)
    two = next(job for job in lab.service.jobs("steps") if job.id != one.id)
    expect(row(page, two.id)).to_contain_text(re.compile("running|pending"))
    row(page, two.id).hover()
    row(page, two.id).get_by_role("button", name="Stop steps").click()
    expect(row(page, two.id)).to_contain_text("stopped")
    expect(panel).to_contain_text("stopped")  # it shows what happens though no click reaches it
    go.touch()
    expect(notebook.cell(3)).to_contain_text("free")

    # The kernel ends; running the panel's cell builds it again
    notebook.restart_kernel()
    notebook.run(0)
    panel = notebook.run(2)
    expect(panel).to_contain_text("1/3 · step 1")

    # The page ends
    page.reload()
    drawn(page)
    sidebar = show_sidebar(page)
    expect(row(page, one.id)).to_contain_text("running")

    # The server ends, and with it the kernel
    # Lab says so too, over everything, or asks what to do with a notebook whose server has gone; Escape closes not all.
    lost = page.get_by_role("dialog").first
    page.add_locator_handler(lost, lost.locator(".jp-Dialog-footer button").first.click, no_wait_after=True)
    lab.kill()
    expect(sidebar).to_contain_text(re.compile("can.t be reached"))
    (tmp_path / "2").touch()
    lab.restart()
    expect(row(page, one.id)).to_contain_text("2/3 · step 2", timeout=60_000)
    expect(sidebar).not_to_contain_text(re.compile("can.t be reached"))
    (tmp_path / "3").touch()
    expect(row(page, one.id)).to_contain_text("succeeded")
    row(page, one.id).get_by_role("button", name="steps").first.click()
    expect(sidebar.get_by_label("Result", exact=True)).to_contain_text('"steps": 3')
