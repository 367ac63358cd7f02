"""A job's details in a real JupyterLab: config, metrics, results and files; what rows say; one tab for logs; an example."""

from __future__ import annotations

import platform
import re
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from playwright.sync_api import Page, expect

from support import ECHO, PATIENCE, TESTS, until
from support.lab import Lab, change_theme, row, show_sidebar

expect.set_options(timeout=PATIENCE * 1000)

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"

SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20' onload='alert(3)'>"
    "<script>alert(4)</script><rect width='40' height='20' fill='teal'/></svg>"
)
TABLE = (
    "<table><thead><tr><th>loss</th></tr></thead><tbody><tr><td>0.25</td></tr></tbody></table>"
    "<img src=x onerror=alert(1)><script>alert(2)</script><iframe src='javascript:alert(5)'></iframe>"
    "<a href='javascript:alert(6)'>link</a>"
)

TRAIN = f"""
import os, pathlib, time
from taskapi_jupyter.job import metric

files = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"])

class Shown:
    pass

class Table(Shown):
    def _repr_html_(self):
        return {TABLE!r}

class Drawn(Shown):
    def _repr_svg_(self):
        return {SVG!r}

def train(lr=0.1, epochs=3, result="table", go=None):
    for step in range(5):
        metric(**{{"loss": 1 / (step + 1)}})
    (files / "report.csv").write_text("epoch,loss\\n1,0.5\\n2,0.25\\n")
    (files / "model.bin").write_bytes(bytes(8))
    while go and not pathlib.Path(go).exists():
        time.sleep(0.01)
    return {{"table": Table(), "svg": Drawn(), "rows": [{{"a": 1, "b": "<i>x"}}, {{"a": 2}}]}}.get(result, lr)
"""


def test_an_example_is_a_click_away(lab: Lab, page: Page) -> None:
    """It runs, and what its cells wait for gives no message; this test is the first of its file, with nothing deployed."""
    lab.write_settings("taskapi-jupyter/plugin", {"notify_after": 0})
    lab.open(page)
    sidebar = show_sidebar(page)
    expect(sidebar).to_contain_text("No jobs yet.")
    assert sidebar.get_by_text("above").count() == 0  # where there is no form
    sidebar.get_by_role("button", name="Insert an example").click()
    notebook = page.locator(".jp-NotebookPanel:visible")
    expect(notebook).to_contain_text("%%taskapi deploy hello")
    expect(notebook.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle")
    deploys = notebook.locator(".jp-CodeCell .jp-InputPrompt").nth(1)

    def runs() -> bool:
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        with suppress(AssertionError):  # a kernel that still connects lets a run go by, or the rest of one
            expect(deploys).to_have_text(re.compile(r"\[\d+\]:"), timeout=10_000)
            return True
        return False

    until(runs, "the cells to run")
    expect(sidebar.get_by_role("button", name="hello 1 running")).to_be_visible()
    expect(page.get_by_role("tab", name="Task API jobs (1 in progress)")).to_have_attribute("data-jobs", "1")
    expect(notebook).to_contain_text("Hello, Ada!")
    (job,) = lab.service.jobs("hello")
    expect(row(page, job.id)).to_contain_text("→ greeting=Hello, Ada! steps=5")
    page.wait_for_timeout(2_000)  # longer than a message takes
    assert not page.locator(".Toastify__toast").count()
    other = lab.service.submit("hello", {"steps": 1}).wait()  # for which no cell waits
    expect(page.locator(".Toastify__toast")).to_contain_text(f"{other.id[-4:]} succeeded")


def test_details(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    spec = {"definition": {"path": "task.py", "config": {"epochs": 10}}, "compute": {"mem": "512Mi", "cpu": "100m"}}
    lab.deploy(name, TRAIN, **spec)
    running = lab.service.submit(name, {"go": str(tmp_path / "go")})
    group = lab.service.map(name, [{"lr": lr, "result": "no"} for lr in (0.5, 0.25)], name=f"rates-{token_hex(2)}")
    svg, rows = (lab.service.submit(name, {"result": result}).wait() for result in ("svg", "rows"))
    ended = lab.service.submit(name, {"lr": 0.5}, timeout=600).wait()
    group.wait()
    lab.open(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sidebar = show_sidebar(page)
    lines = sidebar.locator(".jp-TaskAPI-Job")
    expect(lines.first).to_have_attribute("data-job-id", running.id)  # though it is the oldest
    expect(row(page, ended.id)).to_contain_text("lr=0.5")
    expect(row(page, ended.id)).not_to_contain_text("epochs")

    row(page, ended.id).get_by_role("button").first.click()
    details = sidebar.get_by_role("region", name=f"Job {ended.id}")
    expect(details.get_by_title(sys.executable)).to_have_text(platform.python_version())
    config = details.get_by_label("Config", exact=True)
    expect(config.locator("mark")).to_have_text(['  "lr": 0.5,'])
    expect(config).to_contain_text("was 0.1")
    expect(config).to_contain_text('"epochs": 10')
    expect(details.get_by_role("img", name="loss: 5 points, first 1, last 0.2, lowest 0.2, highest 1")).to_be_visible()
    result = details.get_by_role("region", name="Result")
    expect(result.get_by_role("cell", name="0.25")).to_be_visible()
    assert result.locator("script, iframe, [onerror], a[href^='javascript']").count() == 0
    details.get_by_role("button", name="report.csv", exact=True).click()
    expect(page.get_by_role("tab", name="report.csv")).to_be_visible()
    expect(page.locator(".jp-CSVViewer:visible")).to_be_visible()
    assert details.get_by_role("button", name="model.bin", exact=True).count() == 0  # which Lab can't show

    details.get_by_role("button", name="Copy as code").click()
    code = page.evaluate("navigator.clipboard.readText()")
    assert f'connect("local").submit("{name}", {{"lr": 0.5}}, timeout=600)' in code
    details.get_by_role("button", name="Edit and rerun").click()
    form = sidebar.get_by_role("form", name=f"Submit a job to {name}")
    expect(sidebar.locator(f".jp-TaskAPI-API[data-api='{name}']")).to_contain_text(f"Python{platform.python_version()}")
    editor = form.get_by_role("textbox", name="Config of the job, as JSON")
    expect(editor).to_contain_text('"lr": 0.5')
    expect(editor).to_contain_text('"epochs": 10')
    expect(form.get_by_label("Timeout (s)")).to_have_value("600")
    editor.fill('{"lr": 0.75}')
    form.get_by_role("button", name="Submit").click()
    expect(form).to_contain_text("Submitted")
    again = lab.service.jobs(name)[0].wait()
    assert (again.config, again.record.timeout) == ({"lr": 0.75}, 600)
    expect(sidebar.get_by_role("region", name=f"Job {again.id}")).to_be_visible()
    sidebar.locator(f"[data-api='{name}'] .jp-TaskAPI-API-head").click()

    row(page, svg.id).get_by_role("button").first.press("Enter")
    picture = sidebar.get_by_role("img", name="Result")
    expect(picture).to_have_js_property("naturalWidth", 40)
    row(page, rows.id).get_by_role("button").first.press("Enter")
    expect(sidebar.get_by_role("cell", name="<i>x")).to_be_visible()
    member = next(iter(group))
    sidebar.get_by_label("API", exact=True).select_option(name)
    sidebar.locator(f"[data-group-id='{group.id}'] [aria-expanded]").press("ArrowRight")
    row(page, member.id).get_by_role("button").first.press("Enter")
    expect(sidebar.get_by_role("region", name=f"Job {member.id}")).to_contain_text(f"{group.name}[0]")

    row(page, running.id).get_by_role("button").first.press("Enter")
    details = sidebar.get_by_role("region", name=f"Job {running.id}")
    expect(details).to_contain_text("of 512 MiB")
    expect(details.get_by_role("img", name="Memory over time, up to its limit: used")).to_be_visible()
    page.add_script_tag(path=AXE)
    for job in (running, ended):
        row(page, job.id).get_by_role("button").first.press("Enter")
        expect(sidebar.get_by_role("region", name=f"Job {job.id}").get_by_role("img", name="loss")).to_be_visible()
        for theme in THEMES:
            change_theme(page, theme)
            found = page.evaluate("axe.run('#taskapi-sidebar', {resultTypes: ['violations']})")
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == [], theme
    (tmp_path / "go").touch()


def test_one_tab_for_logs(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO)
    jobs = [lab.service.submit(name, {"n": n}).wait() for n in range(3)]
    lab.open(page)
    show_sidebar(page)
    tabs = page.locator(".lm-DockPanel-tabBar").get_by_role("tab", name=name)
    for job in jobs[:2]:
        row(page, job.id).get_by_role("button").first.press("l")
        expect(tabs).to_have_text([f"{name} {job.id[-4:]}"])
    page.get_by_role("button", name="Keep this tab").click()
    row(page, jobs[2].id).get_by_role("button").first.press("l")
    expect(tabs).to_have_text([f"{name} {job.id[-4:]}" for job in jobs[1:]])

    page.locator("#taskapi-sidebar").get_by_role("button", name="Delete ended jobs").click()
    dialog = page.get_by_role("dialog")
    counts = lab.service.counts()
    count = sum(counts.values()) - counts.get("running", 0)
    expect(dialog).to_contain_text(f"Delete {count} ended jobs?")
    dialog.get_by_role("button", name="Cancel").click()
