"""Screenshots for README and docs: JupyterLab in Chromium, light and dark, wide and narrow.

``python scripts/screenshots.py [NAME ...] [./FOLDER]`` (default: all, into ``docs/images``); needs Chromium, and what
``make test`` installs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Browser, Error, Page, sync_playwright  # noqa: E402

from support.lab import FLAGS, Lab, chromium_path, drawn, row, show_sidebar  # noqa: E402
from support.notebooks import write  # noqa: E402
from taskapi_jupyter.core.contract import ScheduleRequest  # noqa: E402

LIGHT, DARK, CONTRAST = "JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"

TRAIN = '''
import pathlib, time
from taskapi_jupyter.job import progress

def train(config):
    """Run until stopped, so that the picture does not change while it is taken."""
    print("\\x1b[1mtraining\\x1b[0m with", config, flush=True)
    if config.get("lr", 0.1) <= 0:
        raise ValueError(f"lr must be positive, not {config['lr']}")
    for epoch in range(1, 13):
        loss, colour = f"loss {1 / (epoch + 1):.4f}", 32 if epoch % 4 else 33
        print(f"epoch {epoch:2}  \\x1b[{colour}m{loss}\\x1b[0m  accuracy {1 - 0.5 / epoch:.3f}", flush=True)
        progress(epoch, 20, loss)
    while config.get("wait"):
        time.sleep(0.05)
    import os
    pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"], "weights.json").write_text("[0.25, 0.5, 0.125]" * 100)
    return {"loss": 0.0769, "accuracy": 0.958, "epochs": 12}
'''

FORGETFUL = "def evaluate(config):\n    return bytearray(10**9) and None\n"

SWEEP = """
import math
from taskapi_jupyter.job import metric

def sweep(config):
    for step in range(30):
        rate = config["lr"] * config["momentum"]
        loss = 0.05 + 0.9 * math.exp(-step * rate / 2) + 0.03 * math.cos(step * rate * 3)
        metric(loss=loss, accuracy=1 - loss / 2, step=step)
    return {"best": round(1 - loss / 2, 4)}
"""

REPORT = [
    "# Sales of November",
    "import math\nmonths = [math.sin(n / 3) + n / 10 for n in range(30)]\nprint(f'{len(months)} days read')",
    "from IPython.display import Markdown\nMarkdown('store | sold\\n-|-\\nNorth | 1,204\\nSouth | 987')",
    "# Forecast",
    "import time\nfor day in range(1, 8):\n    print(f'day {day}: {months[day]:.3f}', flush=True)\ntime.sleep(600)",
    "print('written')",
]

NOTEBOOK = "projects/vision/training.ipynb"


def fill(lab: Lab) -> dict[str, str]:
    """Submit jobs that end in all states; return the ids of some."""
    lab.deploy("train", TRAIN, definition={"path": "task.py", "config": {"lr": 0.1, "layers": [64, 32]}}, timeout=3600)
    lab.deploy("evaluate", FORGETFUL, compute={"mem": "200Mi"})
    lab.deploy("nightly-report-of-all-experiments-for-the-whole-team", TRAIN)
    service = lab.service
    submit = lambda api, **config: service.submit(api, config, notebook=NOTEBOOK)  # noqa: E731
    jobs = {
        "oom": submit("evaluate"),
        "done": submit("train", lr=0.01),
        "failed": submit("train", lr=-0.1),
        "long": submit("nightly-report-of-all-experiments-for-the-whole-team"),
        "late": service.submit("train", {"wait": True}, 1, notebook=NOTEBOOK),
    }
    for job in jobs.values():
        job.wait()
    stopped = submit("train", wait=True)
    jobs["running"] = submit("train", lr=0.05, wait=True)
    service.stop(stopped)
    jobs["second"] = submit("train", lr=0.2, wait=True)
    jobs["pending"] = submit("train", lr=0.4, wait=True)
    return {name: job.id for name, job in jobs.items()}


def choose(page: Page, job: str) -> None:
    """Choose a job in the sidebar."""
    row(page, job).get_by_role("button").first.click()
    page.get_by_role("region", name=f"Job {job}").wait_for()


def widen(page: Page, width: int) -> None:
    """Drag the sidebar's edge."""
    box = page.locator("#jp-main-split-panel > .lm-SplitPanel-handle").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 1, 500)
    page.mouse.down()
    page.mouse.move(width, 500, steps=4)
    page.mouse.up()


def sidebar(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The sidebar, a running job's details, and its log."""
    show_sidebar(page)
    widen(page, 380)
    row(page, ids["running"]).filter(has_text="12/20").wait_for()
    choose(page, ids["running"])
    page.get_by_role("button", name="Log", exact=True).click()
    page.locator(".jp-TaskAPI-log").get_by_text("epoch 12").wait_for()


def failure(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """A failed job's details, and its log."""
    show_sidebar(page)
    widen(page, 380)
    choose(page, ids["failed"])
    page.get_by_role("button", name="Log", exact=True).click()
    page.locator(".jp-TaskAPI-log").get_by_text("ValueError").first.wait_for()


def form(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The form with a mistake in it, in the narrowest sidebar."""
    bar = show_sidebar(page)
    widen(page, 273)  # with the strip of icons beside it
    bar.get_by_role("button", name="train", exact=False).filter(has_text="running").first.click()
    bar.get_by_role("textbox", name="Config of the job, as JSON").fill('{\n  "lr": 0.1,\n}')
    bar.get_by_text("Not valid JSON").wait_for()


def wide(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The widest sidebar, with a result and files."""
    show_sidebar(page)
    widen(page, 700)
    choose(page, ids["done"])
    page.get_by_text("weights.json").wait_for()


def empty(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """Nothing deployed, nothing submitted."""
    show_sidebar(page).get_by_text("No task API is deployed here.").wait_for()


def away(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The server does not answer."""
    bar = show_sidebar(page)
    row(page, ids["running"]).wait_for()
    lab.kill()
    bar.get_by_text("be reached").wait_for()
    page.get_by_role("dialog").wait_for(timeout=60_000)
    page.keyboard.press("Escape")


def quickstart(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The quickstart, run, with its jobs."""
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("%taskapi status iris"))  # differs each time: not for nbval
    run_all(page, lab, notebook, "created iris (TaskAPI)")
    page.locator(".jp-Cell").last.locator(".taskapi table").first.wait_for(timeout=30_000)
    page.locator(".jp-Cell").last.scroll_into_view_if_needed()


def panel(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """The panel in a notebook."""
    cells = ["%load_ext taskapi_jupyter", "%taskapi panel train"]
    run_all(page, lab, nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells))), "")
    shown = page.locator(".taskapi-panel")
    shown.get_by_text("12/20").first.wait_for()
    shown.get_by_role("button", name=f"Show job {ids['running']}").click()
    shown.get_by_text("epoch 12").first.wait_for()


def jobs_page(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """A sweep in the page of jobs, compared."""
    lab.deploy("sweep", SWEEP, compute={"cpu": "10m"})
    group = lab.service.sweep("sweep", {"lr": [0.05, 0.1, 0.2, 0.4], "momentum": [0.5, 0.9]}, name="rates").wait()
    page.keyboard.press("Control+B")
    page.evaluate("args => void window.jupyterapp.commands.execute('taskapi:open-jobs', args)", {"group": group.id})
    rows = page.locator(".jp-TaskAPI-Table-row")
    rows.nth(len(group) - 1).wait_for()
    rows.first.click()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowDown")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("tab", name="Metrics over steps").click()
    page.get_by_role("figure").first.wait_for()


def schedules(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """Schedules in the sidebar, and the form of a new one."""
    lab.deploy("report", "def report(config):\n    return 1\n")
    lab.deploy("check", "def check(config):\n    raise ValueError('3 of 40 files are missing')\n")
    for api, when in (("report", "0 6 * * MON-FRI"), ("check", "every 15m")):
        lab.service.create_schedule(ScheduleRequest(api=api, schedule=when, timezone="Europe/Berlin"))
        lab.service.run_schedule(api).wait()
    bar = show_sidebar(page)
    widen(page, 380)
    bar.get_by_role("button", name="report").first.click()
    bar.get_by_role("button", name="Schedule report…").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Cron expression").fill("30 7 1 * *")
    form.get_by_label("Time zone").select_option("America/New_York")
    form.get_by_text("At 07:30").wait_for()


def notebook(page: Page, lab: Lab, ids: dict[str, str]) -> None:
    """A notebook that runs as a job, in a tab that follows it."""
    lab.service.deploy(str(write(lab.notebooks / "report.ipynb", *REPORT)))
    job = lab.service.submit("report")
    show_sidebar(page)
    widen(page, 380)
    choose(page, job.id)
    page.get_by_role("button", name="Open notebook").click()
    page.locator(".jp-TaskAPI-Notebook").get_by_text("day 7").wait_for(timeout=60_000)


def run_all(page: Page, lab: Lab, notebook: nbformat.NotebookNode, sign: str) -> None:
    """Open a notebook, run it, and wait for a sign that it ran."""
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, lab.notebooks / "picture.ipynb")
    shutil.copy(ROOT / "notebooks" / "iris.csv", lab.notebooks)
    lab.open(page, "tree/picture.ipynb")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached", timeout=60_000)
    page.keyboard.press("Control+B")  # the file browser leaves room for the notebook
    for _ in range(5):  # a kernel that is still connecting may ignore a run
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with suppress(Error):
            found = page.get_by_text(sign) if sign else page.locator(".taskapi-panel")
            found.first.wait_for(timeout=8_000)
            return


Show = Callable[[Page, Lab, dict[str, str]], None]

#: name, theme, width and height in pixels, what is shown, whether there are jobs
Picture = tuple[str, str, int, int, Show, bool]

PICTURES: list[Picture] = [
    ("sidebar", LIGHT, 1280, 860, sidebar, True),
    ("sidebar-dark", DARK, 1280, 860, sidebar, True),
    ("sidebar-contrast", CONTRAST, 1280, 860, failure, True),
    ("failure", LIGHT, 1280, 860, failure, True),
    ("narrow-form", LIGHT, 700, 860, form, True),
    ("wide", DARK, 1280, 860, wide, True),
    ("empty", LIGHT, 700, 700, empty, False),
    ("away", LIGHT, 1000, 700, away, True),
    ("panel", LIGHT, 1280, 1180, panel, True),
    ("panel-dark", DARK, 1280, 1180, panel, True),
    ("panel-narrow", LIGHT, 640, 1180, panel, True),
    ("quickstart", LIGHT, 1280, 1180, quickstart, False),
    ("jobs", LIGHT, 1280, 860, jobs_page, False),
    ("schedules", LIGHT, 1280, 860, schedules, False),
    ("notebook", DARK, 1280, 860, notebook, False),
]


def take(browser: Browser, target: Path, picture: Picture) -> None:
    """Take one picture in a new JupyterLab."""
    name, theme, width, height, show, full = picture
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "@jupyterlab/apputils-extension/themes": {"theme": theme},
            "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
            "taskapi-jupyter/plugin": {"notifications": False},
        }
        lab = Lab(Path(folder), settings=settings)
        try:
            ids = fill(lab) if full else {}
            page = browser.new_page(viewport={"width": width, "height": height})
            lab.open(page)
            drawn(page)
            show(page, lab, ids)
            page.mouse.move(width - 5, height - 5)
            page.wait_for_timeout(1000)  # fonts and the toolbar settle
            page.screenshot(path=target / f"{name}.png")
            print(target / f"{name}.png", flush=True)
            page.close()
        finally:
            lab.close()


def main() -> None:
    """Take all pictures, or the named ones."""
    names = [word for word in sys.argv[1:] if not word.startswith(("/", "."))]
    folders = [word for word in sys.argv[1:] if word.startswith(("/", "."))]
    target = Path(folders[0] if folders else ROOT / "docs" / "images")
    target.mkdir(parents=True, exist_ok=True)
    path = chromium_path()
    if path is None:
        raise SystemExit("no Chromium: sudo apt-get install chromium, or name one: CHROMIUM=/path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for picture in PICTURES:
            if not names or picture[0] in names:
                take(browser, target, picture)
        browser.close()


if __name__ == "__main__":
    main()
