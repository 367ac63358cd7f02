"""Notebooks as jobs in a real JupyterLab: the dialog that runs one, and the tab that shows it while it runs."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from support import PATIENCE, TESTS, until
from support.lab import Lab, change_theme, drawn, row
from taskapi_jupyter.client.taskapi import Job

expect.set_options(timeout=PATIENCE * 1000)

AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
TAB = ".jp-TaskAPI-Notebook"
SCROLLED = f"document.querySelector('{TAB} .jp-WindowedPanel-outer').scrollTop"

PARAMETERS = """lr = 0.1  # step size
data = "here"  # where to read <img src=x onerror=alert(1)> from
steps = [1,
         2]
verbose = False
"""


def write(path: Path, *cells: str, parameters: str | None = None, kernel: str = "python3") -> None:
    """Write a notebook."""
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    if parameters is not None:
        made.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook = nbformat.v4.new_notebook(cells=made)
    notebook.metadata.kernelspec = {"name": kernel, "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, path)


def open_book(lab: Lab, page: Page, path: str) -> Locator:
    """Open a notebook and return its toolbar."""
    lab.open(page, f"tree/{path}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    return page.locator(".jp-NotebookPanel-toolbar")


def run(page: Page, *, keep: bool = False) -> Locator:
    """Run the notebook in front, show its job's notebook and return the tab."""
    page.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name="Run this notebook as a job").click()
    dialog = page.get_by_role("dialog")
    if keep:
        dialog.get_by_label("Keep the kernel").check()
    dialog.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Open notebook").click()
    return page.locator(TAB)


def violations(page: Page, selector: str, looks_at: str = "color-contrast") -> list[tuple[str, list[str]]]:
    """Return what axe finds wrong; it must have looked at something that is not."""
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)
    assert looks_at in [one["id"] for one in found["passes"]]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def only_job(lab: Lab, api: str) -> Job:
    """Return the job of an API that has one, or will have one."""
    (job,) = until(lambda: lab.service.jobs(api), f"the job of {api}")
    return job


@pytest.fixture
def book(lab: Lab, name: str) -> str:
    """Return the file name of a notebook with parameters, whose API is called as the test says."""
    write(lab.notebooks / f"{name}.ipynb", "print('lr is', lr, type(data).__name__)", parameters=PARAMETERS)
    return f"{name}.ipynb"


def test_run_a_notebook_from_its_toolbar(lab: Lab, page: Page, name: str, book: str) -> None:
    toolbar = open_book(lab, page, book)
    # A kernel that has started writes its language into the notebook, which is a change, too
    expect(toolbar.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(1).click()
    page.keyboard.press("Control+End")
    page.keyboard.type("  # not saved yet")
    toolbar.get_by_role("button", name="Run this notebook as a job").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The notebook has unsaved changes: it is saved first.")
    expect(dialog).to_contain_text("where to read <img src=x onerror=alert(1)> from")
    expect(dialog.get_by_label("Name")).to_have_value(name)
    expect(dialog.get_by_label("Kernel", exact=True)).to_have_value("python3")
    expect(dialog.get_by_label("steps")).to_have_value("[1,2]")

    # What is wrong is said at its field, and the dialog stays
    dialog.get_by_label("lr").fill("fast")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_contain_text("lr must be a number.")
    expect(dialog.get_by_label("lr")).to_be_focused()
    dialog.get_by_label("lr").fill("0.5")
    dialog.get_by_label("verbose").check()
    dialog.get_by_label("Memory").fill("2")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("compute.mem must have a unit")
    expect(dialog.get_by_label("Memory")).to_be_focused()
    assert "# not saved yet" in (lab.notebooks / book).read_text()
    dialog.get_by_label("Memory").fill("2Gi")
    dialog.get_by_label("Timeout (s)").fill("120")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_have_count(0)

    job = only_job(lab, name)
    expect(page.get_by_role("region", name=f"Job {job.id}")).to_contain_text('"lr": 0.5')
    expect(row(page, job.id)).to_contain_text("succeeded")
    assert job.config == {"lr": 0.5, "verbose": True}
    assert (job.record.timeout, job.notebook) == (120, str(lab.notebooks / book))
    assert "lr is 0.5 str" in job.logs()

    # The last values are there the next time, from the file browser too
    tab = page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text=book).first
    tab.click()
    page.keyboard.press(
        "Control+s"
    )  # a kernel that comes late writes its language into the notebook, which is a change
    expect(tab).not_to_have_class(re.compile("jp-mod-dirty"))
    page.get_by_role("tab", name="File Browser").click()
    page.locator(".jp-DirListing-item", has_text=book).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    expect(dialog.get_by_label("lr")).to_have_value("0.5")
    expect(dialog.get_by_label("verbose")).to_be_checked()
    expect(dialog.get_by_label("Memory")).to_have_value("2Gi")
    expect(dialog).not_to_contain_text("unsaved changes")
    dialog.get_by_label("lr").press("Escape")
    expect(dialog).to_have_count(0)
    assert len(lab.service.jobs(name)) == 1


def open_dialog(page: Page, file: str) -> Locator:
    """Open the dialog that runs a notebook of the file browser."""
    page.locator(".jp-DirListing-item", has_text=file).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    return page.get_by_role("dialog")


def test_a_kernel_that_is_not_installed(lab: Lab, page: Page, name: str) -> None:
    write(lab.notebooks / f"{name}.ipynb", "1", kernel="no-such-kernel")
    broken = lab.folder / "data" / "kernels" / "broken"
    broken.mkdir(parents=True)
    about = {
        "argv": ["/no/<img src=x onerror=alert(2)>"],
        "display_name": "<img src=x onerror=alert(1)>",
        "language": "python",
    }
    (broken / "kernel.json").write_text(json.dumps(about))
    lab.open(page)
    dialog = open_dialog(page, name)
    kernel = dialog.get_by_label("Kernel", exact=True)
    expect(kernel).to_contain_text("no-such-kernel (not installed)")
    expect(dialog).to_contain_text("there is no kernel 'no-such-kernel'; there are: ")  # before it is run
    expect(kernel).to_contain_text(re.compile(r"<img src=x onerror=alert\(1\)> \(can.t be started here\)"))
    kernel.select_option("broken")
    expect(dialog).to_contain_text("/no/<img src=x onerror=alert(2)>")
    expect(kernel).to_have_attribute("aria-invalid", "true")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_contain_text("the kernel 'broken' can't be started: ")
    kernel.select_option("python3")
    expect(dialog).to_contain_text(f"Python {platform.python_version()} · the packages that are installed there")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_have_count(0)
    expect(row(page, only_job(lab, name).id)).to_contain_text("succeeded")
    api = page.locator(f".jp-TaskAPI-API[data-api='{name}']")
    api.get_by_role("button", name=name).first.click()
    expect(api).to_contain_text("kernelpython3")
    expect(api.get_by_role("button", name="Run with another kernel…")).to_be_visible()


def test_packages_of_a_notebook(lab: Lab, page: Page, name: str) -> None:
    write(
        lab.notebooks / f"{name}.ipynb", '# /// script\n# dependencies = ["attrs"]\n# ///', "import six\nsix.__name__"
    )
    lab.open(page)
    dialog = open_dialog(page, name)
    packages = dialog.get_by_label("Packages")
    plan = dialog.locator(".jp-TaskAPI-Run-plan")
    expect(packages).to_have_value("script")
    expect(dialog.get_by_label("Kernel", exact=True)).to_be_disabled()
    expect(plan).to_contain_text(re.compile(rf"Python {platform.python_version()} · \d+ packages: attrs "))
    packages.select_option("kernel")
    expect(plan).to_contain_text("the packages that are installed there")

    # What can't be resolved is said at its field, and nothing is blocked
    packages.select_option("list")
    listed = dialog.get_by_label("Requirements, one a line")
    listed.fill("<img src=x onerror=alert(1)>")
    expect(dialog).to_contain_text("<img src=x onerror=alert(1)>")
    listed.fill("six>1")
    listed.press("Control+End")
    listed.press("Enter")
    listed.press_sequentially("six<1  # a comment")
    expect(dialog).to_contain_text("the requirements can't be met")
    expect(listed).to_have_attribute("aria-invalid", "true")
    page.add_script_tag(path=AXE)
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, ".jp-TaskAPI-Run") == [], theme
    listed.fill("six>1")
    expect(plan).to_contain_text(re.compile(r"\d+ packages: .*six 1\."))
    python = dialog.get_by_label("Python", exact=True)
    python.fill("3.99")
    expect(python).to_have_attribute("aria-invalid", "true")
    expect(dialog).to_contain_text("no Python here meets Python 3.99; there are: ")
    python.fill("{}.{}".format(*sys.version_info))
    expect(plan).to_contain_text(re.compile(rf"Python {python.input_value()}\.\d+ · \d+ packages: .*six 1\."))
    expect(python).to_have_attribute("aria-invalid", "false")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_have_count(0)
    job = only_job(lab, name)
    expect(row(page, job.id)).to_contain_text("succeeded")

    # The job, its API, and the dialog the next time
    sidebar = page.locator("#taskapi-sidebar")
    words = re.compile(r"environment [0-9a-f]{8} · \d+ packages · built .* in .* s")
    expect(sidebar.get_by_role("region", name=f"Job {job.id}")).to_contain_text(words)
    sidebar.locator(f"[data-api='{name}'] .jp-TaskAPI-API-head").click()
    api = sidebar.locator(f".jp-TaskAPI-API[data-api='{name}']")
    expect(api).to_contain_text(words)
    expect(api).to_contain_text("six>1")
    again = lab.service.submit(name, {}).wait()
    row(page, again.id).get_by_role("button").first.press("Enter")
    expect(sidebar.get_by_role("region", name=f"Job {again.id}")).to_contain_text("· from the cache")
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, "#taskapi-sidebar") == [], theme
    api.get_by_role("button", name="Run with another kernel…").click()
    expect(packages).to_have_value("list")
    expect(listed).to_have_value("six>1")
    expect(python).to_have_value("{}.{}".format(*sys.version_info))
    dialog.get_by_role("button", name="Cancel").click()


def test_the_launcher_has_a_card(lab: Lab, page: Page) -> None:
    lab.open(page)
    page.locator(".jp-LauncherCard", has_text="Jobs").click()
    expect(page.locator("#taskapi-sidebar")).to_be_visible()
    expect(page.locator(".jp-TaskAPI-Page")).to_be_visible()


def waits_for(path: Path) -> str:
    """Return a cell that prints a line, waits for a file, and prints another."""
    return f"""import pathlib, time
print("before", "the file", flush=True)
while not pathlib.Path({str(path)!r}).exists():
    time.sleep(0.01)
print("behind", "the file", flush=True)
while not pathlib.Path({f"{path}-2"!r}).exists():
    time.sleep(0.01)
"""


def test_a_notebook_is_seen_while_it_runs(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    tall = "\n".join(["# a long cell"] * 60)
    cells = [tall, "print('the cell above')", waits_for(tmp_path / "go"), tall, "print('last', 'cell')"]
    write(lab.notebooks / f"{name}.ipynb", *cells)
    open_book(lab, page, f"{name}.ipynb")
    tab = run(page)
    job = only_job(lab, name)
    expect(tab).to_contain_text("in cell 3 of 5")
    tab.get_by_role("button", name="Go to running cell").click()
    expect(tab.get_by_text("before the file")).to_be_visible()
    cell = tab.locator(".jp-TaskAPI-Cell-running")
    expect(cell.locator(".jp-InputPrompt")).to_have_text("[*]:")

    # What is selected and what is in sight stay while more is printed
    tab.get_by_text("the cell above", exact=True).select_text()
    page.wait_for_function(f"{SCROLLED} > 100")
    scrolled = page.evaluate(SCROLLED)
    (tmp_path / "go").touch()
    expect(tab.get_by_text("behind the file")).to_be_visible()
    assert page.evaluate(SCROLLED) == scrolled
    assert "the cell above" in page.evaluate("getSelection().toString()")
    (tmp_path / "go-2").touch()
    expect(tab).to_contain_text("succeeded after")
    expect(tab.locator(".jp-TaskAPI-Cell-running, .jp-TaskAPI-Cell-failed")).to_have_count(0)
    assert page.evaluate(SCROLLED) == scrolled

    # It is no document of a person's: nothing to save, no kernel, no cell that can be changed
    expect(page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab.lm-mod-current")).to_have_text(
        f"{name}-{job.id[-4:]}.ipynb"
    )
    expect(page.locator(".lm-DockPanel-tabBar .jp-mod-dirty.lm-mod-current")).to_have_count(0)
    sessions = page.evaluate(
        "jupyterapp.serviceManager.sessions.refreshRunning().then("
        "() => [...jupyterapp.serviceManager.sessions.running()].map(one => one.path))"
    )
    assert f"{name}.ipynb" in sessions
    assert not [one for one in sessions if job.id[-4:] in one]  # the job's tab has no kernel
    before = tab.locator(".jp-Cell").count()
    tab.locator(".cm-content").last.click()
    page.keyboard.type("changed")
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    assert "changed" not in tab.inner_text()
    assert tab.locator(".jp-Cell").count() == before

    # It is there after a reload, and a copy can be saved
    until(lambda: lab.kept(job.id), "the tab to be kept")
    page.reload()
    drawn(page)
    page.locator(".lm-DockPanel-tabBar").get_by_text(job.id[-4:]).click()
    expect(tab).to_contain_text("succeeded after")
    tab.get_by_role("button", name="Save a copy…").click()
    dialog = page.get_by_role("dialog")
    copy = f"{name}-{job.id[-4:]}.ipynb"
    expect(dialog.get_by_role("textbox")).to_have_value(copy)
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".Toastify__toast", has_text=f"Saved {copy}.")).to_be_visible()
    saved = nbformat.read(lab.notebooks / copy, 4)
    assert saved.cells[-1].outputs[0].text == "last cell\n"


def test_a_kernel_that_is_kept(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    fails = f"import pathlib\nstate = 41\nassert pathlib.Path({str(tmp_path / 'go')!r}).exists(), 'not ' + 'there'"
    write(lab.notebooks / f"{name}.ipynb", "1", fails, "print('state', state)")
    open_book(lab, page, f"{name}.ipynb")
    tab = run(page, keep=True)
    job = only_job(lab, name)
    expect(tab.locator(".jp-TaskAPI-Cell-failed")).to_contain_text("AssertionError: not there")
    expect(tab).to_contain_text("failed in cell 2; kernel kept until")
    expect(tab.get_by_role("button", name="Go to failed cell")).to_be_visible()
    details = page.get_by_role("region", name=f"Job {job.id}")

    # A copy on the kernel that has the state
    details.get_by_role("button", name="Attach").click()
    copy = page.locator(".jp-NotebookPanel.jp-TaskAPI-Attached")
    expect(copy.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_attached()
    expect(copy.get_by_role("button", name="Interrupt")).to_have_count(0)
    prints = copy.locator(".jp-CodeCell").last

    def activated() -> bool:
        prints.locator(".cm-content").click()
        return "jp-mod-active" in (prints.get_attribute("class") or "")

    until(activated, "the cell to be the one that runs")  # Lab, once it has drawn all cells, goes back to the first
    prints.locator(".cm-content").press("Shift+Enter")
    expect(copy).to_contain_text("state 41")

    page.locator(".lm-DockPanel-tabBar").get_by_text(f"{name}-{job.id[-4:]}.ipynb").first.click()
    (tmp_path / "go").touch()
    tab.get_by_role("button", name="Go on").click()
    expect(row(page, job.id)).to_contain_text("succeeded")
    expect(tab).to_contain_text("state 41")
    expect(tab.locator(".jp-TaskAPI-Cell-failed")).to_have_count(0)

    # The same without a happy end
    (tmp_path / "go").unlink()
    page.locator(".lm-DockPanel-tabBar").get_by_text(f"{name}.ipynb").click()
    toolbar = page.locator(".jp-NotebookPanel-toolbar:visible")
    toolbar.get_by_role("button", name="Run this notebook as a job").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Keep the kernel")).to_be_checked()
    dialog.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="End now").click()
    again = next(one for one in lab.service.jobs(name) if one.id != job.id)
    expect(row(page, again.id)).to_contain_text("worker error")


HOSTILE = """from IPython.display import HTML, Javascript, display
display(HTML("<img src=x onerror='alert(1)'><script>alert(2)</script><b>the output</b>"))
display(Javascript("alert(3)"))
"""


def test_a_hostile_notebook_is_shown_untrusted(lab: Lab, page: Page, name: str) -> None:
    file = f"<img src=x onerror=alert(4)>{name}.ipynb"
    write(lab.notebooks / file, HOSTILE, "raise ValueError('<img src=x onerror=alert(5)>')")
    notebook = nbformat.read(lab.notebooks / file, 4)
    notebook.cells[0].metadata.trusted = True
    heading = nbformat.v4.new_markdown_cell("# Title <img src=x onerror=alert(6)><script>alert(7)</script>")
    notebook.cells.insert(0, heading)
    nbformat.write(notebook, lab.notebooks / file)
    lab.open(page)
    page.locator(".jp-DirListing-item", has_text=name).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Open notebook").click()
    tab = page.locator(TAB)
    expect(tab).to_contain_text("worker error after")
    expect(tab.locator("b", has_text="the output")).to_be_visible()
    expect(tab.locator(".jp-RenderedHTMLCommon script, .jp-RenderedHTMLCommon [onerror]")).to_have_count(0)
    # Nor is a copy of it: the page's fixture fails for a dialog that a script opens
    job = only_job(lab, name)
    tab.get_by_role("button", name="Save a copy…").click()
    dialog.get_by_role("textbox").fill(f"{name}-copy.ipynb")
    dialog.get_by_role("button", name="Save").click()
    page.locator(".Toastify__toast", has_text="Saved").get_by_role("button", name="Open").click()
    copy = page.locator(f".jp-NotebookPanel:not({TAB})")
    expect(copy.locator("b", has_text="the output")).to_be_visible()
    expect(copy.locator(".jp-RenderedHTMLCommon script, .jp-RenderedHTMLCommon [onerror]")).to_have_count(0)
    assert job.status == "worker_error"
    # A server whose kernel is still starting would take long to end
    expect(copy.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_attached()


def test_accessibility(lab: Lab, page: Page, name: str, book: str) -> None:
    lab.open(page)
    page.add_script_tag(path=AXE)
    page.locator(".jp-DirListing-item", has_text=book).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("lr").fill("fast")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("lr must be a number.")
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, ".jp-TaskAPI-Run") == [], theme
    dialog.get_by_label("lr").fill("1")
    page.keyboard.press("Enter")
    expect(row(page, only_job(lab, name).id)).to_contain_text("succeeded")
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, "#taskapi-sidebar") == [], theme
    page.get_by_role("button", name="Open notebook").click()
    expect(page.locator(TAB)).to_contain_text("succeeded after")
    # Beside a notebook, which is Lab's own, axe says nothing about colours
    assert violations(page, f"{TAB} .jp-Toolbar", "button-name") == []
    assert violations(page, f"{TAB} .jp-TaskAPI-Notebook-state", "aria-roles") == []
