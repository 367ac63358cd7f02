"""The page of jobs in JupyterLab's main area: a table that sorts, filters, acts, compares and draws, at 10,000 jobs."""

from __future__ import annotations

import re
import statistics
from contextlib import closing
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect

from support import PATIENCE, TESTS, until
from support.lab import FRAMES, Lab, change_theme, drawn, show_sidebar
from support.records import many_ended
from taskapi_jupyter.service.store.store import Store

expect.set_options(timeout=PATIENCE * 1000)

TRAIN = """
import pathlib, time
from taskapi_jupyter.job import metric, progress

def task(config):
    for step in range(5):
        metric(loss=config["lr"] / (step + 1), step=step)
    if config.get("fail"):
        raise ValueError("no data")
    if "wait" in config:
        progress(1, 4, "waits")
        while not pathlib.Path(config["wait"]).exists():
            time.sleep(0.02)
    return {"best": 2 * config["lr"], "word": config.get("word", "<b>fine</b>")}
"""

HOSTILE = "<img src=x onerror=alert(1)>"
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


def open_jobs(page: Page, **args: Any) -> Locator:
    """Open a page of jobs by its command, and return it."""
    page.evaluate("args => { window.jupyterapp.commands.execute('taskapi:open-jobs', args); }", args)
    found = page.locator(".jp-TaskAPI-Page:visible")
    found.wait_for()
    return found


def row(jobs: Locator, job_id: str) -> Locator:
    return jobs.locator(f".jp-TaskAPI-Table-row[data-job-id='{job_id}']")


def ids(jobs: Locator) -> list[str]:
    """Return the jobs whose rows are drawn, in the order that is seen."""
    rows = jobs.locator(".jp-TaskAPI-Table-row").evaluate_all(
        "rows => rows.map(row => [Number(row.ariaRowIndex), row.dataset.jobId])"
    )
    return [job_id for _, job_id in sorted(rows)]


def column(jobs: Locator, name: str) -> Locator:
    return jobs.get_by_role("columnheader", name=name, exact=True)


def violations(page: Page) -> list[Any]:
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run('.jp-TaskAPI-Page', {resultTypes: ['violations']})")
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def test_a_sweep_is_watched_compared_and_copied(lab: Lab, page: Page, context: BrowserContext, name: str) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.deploy(name, TRAIN)
    gate = lab.folder / name
    group = lab.service.map(
        name,
        [
            {"lr": 0.5, "seed": 1},
            {"lr": 0.078, "seed": 1},
            {"lr": 0.25, "seed": 1, "fail": True},
            {"lr": 0.1, "seed": 1, "wait": str(gate), "word": HOSTILE},
        ],
        name=f"rates-{name}",
    )
    lab.open(page)
    jobs = open_jobs(page, group=group.id)
    page.get_by_role("tab", name=f"Jobs of rates-{name}"[:30]).wait_for()
    waits = row(jobs, group[3].id)
    expect(waits).to_contain_text("running25 %")
    assert ids(jobs)[0] == group[3].id  # in progress first
    for word in ("lr", "loss", "best", "Duration", "Peak memory"):
        expect(column(jobs, word)).to_have_count(1)
    expect(column(jobs, "seed")).to_have_count(0)  # all have the same
    gate.touch()
    expect(waits).to_contain_text("succeeded")
    expect(waits).to_contain_text(HOSTILE)
    expect(row(jobs, group[2].id)).to_contain_text("ValueError: no data")

    column(jobs, "lr").get_by_role("button").click()
    expect(column(jobs, "lr")).to_have_attribute("aria-sort", "descending")
    until(lambda: ids(jobs) == [group[at].id for at in (0, 2, 3, 1)], "rows by falling rate")
    column(jobs, "lr").get_by_role("button").press("Enter")
    until(lambda: ids(jobs) == [group[at].id for at in (1, 3, 2, 0)], "rows by rising rate")

    # Arrows, Shift and Ctrl choose rows
    row(jobs, group[1].id).click()
    page.keyboard.press("Shift+ArrowDown")
    expect(jobs.get_by_text("2 chosen")).to_be_visible()
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press(" ")
    expect(jobs.get_by_text("3 chosen")).to_be_visible()
    expect(row(jobs, group[0].id)).to_have_attribute("aria-selected", "true")
    expect(row(jobs, group[2].id)).to_have_attribute("aria-selected", "false")
    jobs.get_by_role("button", name="Copy as CSV").click()
    page.get_by_text("Copied 3 rows as CSV").first.wait_for()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert "lr" in copied[0].split(",")
    assert [line.split(",")[2] for line in copied[1:]] == [group[at].id for at in (1, 3, 0)]
    assert "0.078" in copied[1]

    jobs.get_by_role("button", name="Compare").click()
    table = jobs.get_by_role("table")
    expect(table.get_by_role("row", name="differs lr")).to_contain_text("0.0780.10.5")
    expect(table.get_by_role("row", name="seed")).not_to_have_class(re.compile("differs"))
    expect(table.get_by_role("row", name="differs word").last).to_contain_text(HOSTILE)
    jobs.get_by_label("Only what differs").check()
    expect(table.get_by_role("row", name="seed")).to_have_count(0)
    jobs.get_by_role("tab", name="Metrics over steps").click()
    chart = jobs.get_by_role("figure", name="loss of 3 jobs over step")
    expect(chart.locator("canvas, svg.marks")).to_be_visible()
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page) == [], theme
    change_theme(page, THEMES[0])
    jobs.get_by_role("tab", name="Column against column").click()
    expect(jobs.get_by_role("figure").locator("canvas, svg.marks")).to_be_visible()
    page.set_viewport_size({"width": 700, "height": 900})
    assert violations(page) == []

    # What the group offers
    jobs.get_by_role("button", name="Rerun failed").click()
    expect(page.get_by_role("tab", name="Jobs of")).to_have_count(2)
    until(lambda: len(lab.service.groups()) >= 2, "the group of those that failed")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_jobs_are_filtered_deleted_and_columns_kept(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, TRAIN)
    tasks = lab.service
    some = [tasks.submit(name, {"lr": rate, "optim": {"name": f"adam{rate}"}}) for rate in (0.078, 0.0785, 0.1)]
    for job in some:
        job.wait(PATIENCE)
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("searchbox").fill(f"{name} lr:0.078")
    expect(sidebar.locator(".jp-TaskAPI-Job")).to_have_count(1)
    sidebar.get_by_role("searchbox").fill("")
    sidebar.get_by_role("button", name="Open in main area").click()
    jobs = page.locator(".jp-TaskAPI-Page")
    search = jobs.get_by_role("searchbox")
    for text, count in {f"{name} lr=0.078": 1, f"{name} lr:7.8e-2": 1, f"{name} optim.name=ADAM": 3, name: 3}.items():
        search.fill(text)
        expect(jobs.locator(".jp-TaskAPI-Table-row")).to_have_count(count)
    expect(column(jobs, "optim.name")).to_have_count(1)
    jobs.get_by_role("button", name="Columns").click()
    popup = jobs.get_by_role("group", name="Columns")
    popup.get_by_label("optim.name").uncheck()
    popup.get_by_label("CPU time").check()
    page.keyboard.press("Escape")
    expect(popup).to_have_count(0)
    expect(column(jobs, "optim.name")).to_have_count(0)

    # A job that is submitted meanwhile is there, and one row's details are a key away
    new = tasks.submit(name, {"lr": 0.3, "wait": str(lab.folder / "never")})
    expect(row(jobs, new.id)).to_contain_text("running")
    row(jobs, new.id).click()
    page.keyboard.press("Enter")
    sidebar.get_by_role("region", name=f"Job {new.id}").wait_for()
    row(jobs, new.id).click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Delete 3 jobs?")
    expect(dialog).to_contain_text("1 that is in progress stays")
    dialog.get_by_role("button", name="Delete").click()
    expect(jobs.locator(".jp-TaskAPI-Table-row")).to_have_count(1)
    jobs.get_by_role("button", name="Stop", exact=True).click()
    expect(row(jobs, new.id)).to_contain_text("stopped")
    jobs.get_by_role("button", name="Rerun", exact=True).click()
    expect(jobs.locator(".jp-TaskAPI-Table-row")).to_have_count(2)
    tasks.stop(tasks.jobs(name)[0])

    until(lambda: lab.kept(f'"search":"{name}"'), "the page to be kept")
    page.reload()
    drawn(page)
    expect(search).to_have_value(name)
    expect(jobs.locator(".jp-TaskAPI-Table-row")).to_have_count(2)
    expect(column(jobs, "CPU time")).to_have_count(1)
    expect(column(jobs, "optim.name")).to_have_count(0)


def test_ten_thousand_jobs(lab: Lab, page: Page, name: str) -> None:
    """The first rows are there before the last are read, and frames are hardly longer than those of an empty page."""
    count = 10_000
    with closing(Store(lab.home / "taskapi.db")) as store:
        first = many_ended(store, name, count)
    lab.open(page)
    page.evaluate(FRAMES)
    page.wait_for_timeout(500)
    floor = statistics.quantiles(page.evaluate("window.endFrames()"), n=20)[18]
    jobs = open_jobs(page)
    jobs.locator(".jp-TaskAPI-Table-row").first.wait_for()
    jobs.get_by_text(re.compile(r"^\d{5} jobs")).wait_for()
    grid = jobs.get_by_role("grid")
    assert int(grid.get_attribute("aria-rowcount") or 0) > count
    assert jobs.locator(".jp-TaskAPI-Table-row").count() < 100
    box = grid.bounding_box()
    assert box
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.evaluate(FRAMES)
    for turn in range(40):
        page.mouse.wheel(0, 900 if turn < 20 else -900)
        page.wait_for_timeout(16)
    frames = page.evaluate("window.endFrames()")
    assert statistics.median(frames) < max(4 * floor, 60), frames

    jobs.get_by_role("searchbox").fill(f"{name} lr=0.078")
    expect(jobs.locator(".jp-TaskAPI-Table-row")).to_have_count(1)
    jobs.get_by_role("searchbox").fill(name)
    column(jobs, "loss").get_by_role("button").click()
    expect(jobs.locator(".jp-TaskAPI-Table-row[aria-rowindex='2']")).to_have_attribute("data-job-id", f"{first:016x}")
    jobs.locator(".jp-TaskAPI-Table-row[aria-rowindex='2']").click()
    page.keyboard.press("Shift+End")
    expect(jobs.get_by_text(f"{count} chosen", exact=True)).to_be_visible()
    expect(jobs.locator(f".jp-TaskAPI-Table-row[aria-rowindex='{count + 1}']")).to_be_focused()
