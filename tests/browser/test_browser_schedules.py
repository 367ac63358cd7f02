"""Schedules in a real JupyterLab: the sidebar's section, the form with its next times, the tab of a notebook's dialog."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from playwright.sync_api import Locator, Page, expect

from support import ECHO, PATIENCE, TESTS, until
from support.lab import Lab, change_theme, row, show_sidebar
from support.notebooks import code, put
from taskapi_jupyter.core.contract import ScheduleRequest

expect.set_options(timeout=PATIENCE * 1000)

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = "<img src=x onerror=alert(1)>"

FAILS = """
def task(config):
    if config["fails"]:
        raise ValueError("no data for today")
"""


def schedule_row(page: Page, name: str) -> Locator:
    """Return a schedule's row in the sidebar."""
    return page.locator(f"#taskapi-sidebar .jp-TaskAPI-Schedule[data-schedule='{name}']")


def violations(page: Page, selector: str) -> list[Any]:
    """Return what axe finds wrong."""
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def stand_in(page: Page, zone: str) -> None:
    """Have the page be in a time zone."""
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": zone})


def test_make_run_pause_change_and_delete(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, FAILS, definition={"path": "task.py", "config": {"fails": False}})
    other = lab.service.submit(name)
    lab.open(page)
    stand_in(page, "America/New_York")
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).first.click()
    sidebar.get_by_role("button", name=f"Schedule {name}…").click()
    dialog = page.get_by_role("dialog")
    preview = dialog.locator(".jp-TaskAPI-Preview")

    # The next times are those of the server, in both zones; what is wrong is said at its field
    dialog.get_by_label("Cron expression").fill("61 6 * * *")
    expect(dialog).to_contain_text("bad minute '61'")
    expect(dialog.get_by_label("Cron expression")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Cron expression").fill("30 6 * * MON-FRI")
    dialog.get_by_label("Time zone").select_option("Asia/Tokyo")
    expect(preview).to_contain_text("At 06:30 on Monday through Friday (Asia/Tokyo)")
    expect(preview.locator("th")).to_have_text(["Next in Asia/Tokyo", "Here, in America/New_York"])
    shown = [one.get_attribute("datetime") for one in preview.locator("time").all()]
    expect(preview.locator("td").nth(0)).to_contain_text(", 06:30 +09:00")
    expect(preview.locator("td").nth(1)).to_contain_text(re.compile(r", 1[67]:30 -0[45]:00"))
    dialog.get_by_label("Name").fill("8")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog).to_contain_text("invalid name of a schedule '8'")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill(f"{name}-daily")
    dialog.get_by_label("If a run is on").select_option("queue")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    line = schedule_row(page, f"{name}-daily")
    expect(line).to_contain_text("At 06:30 on Monday through Friday (Asia/Tokyo)")
    expect(line).to_contain_text(re.compile(r"next in \d+ (min|h|d)"))
    expect(line).to_contain_text("No run yet")
    schedule = next(one for one in lab.service.schedules() if one.name == f"{name}-daily")
    assert shown == [one.isoformat() for one in schedule.next(5)]
    status = lab.service.schedule_status(f"{name}-daily")
    assert (status.api, status.overlap, status.config) == (name, "queue", {})

    # Run now, and its jobs alone
    line.get_by_role("button", name="Run", exact=False).first.click()
    expect(line).to_contain_text("succeeded")
    job = schedule.jobs()[0]
    expect(row(page, job.id)).to_be_visible()
    expect(row(page, other.id)).to_be_visible()
    line.get_by_role("button", name="Show jobs of").click()
    expect(row(page, other.id)).to_have_count(0)
    row(page, job.id).get_by_role("button").first.click()
    expect(sidebar.get_by_role("region", name=f"Job {job.id}")).to_contain_text(f"schedule{name}-daily")
    sidebar.get_by_role("button", name="Show the jobs of all schedules").click()
    expect(row(page, other.id)).to_be_visible()

    # Pause, change, delete
    switch = line.get_by_role("switch", name="Active")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(line).to_contain_text("paused")
    assert not lab.service.schedule_status(f"{name}-daily").active
    line.get_by_role("button", name="Edit").click()
    dialog.get_by_label("Every").check()
    dialog.get_by_label("How many").fill("2")
    dialog.get_by_label("Unit").select_option("h")
    expect(preview).to_contain_text("Every 2 hours")
    dialog.get_by_role("textbox", name="Config of its jobs, as JSON").fill('{"fails": true}')
    dialog.get_by_role("button", name="Save").click()
    expect(line).to_contain_text("Every 2 hours (Asia/Tokyo)")
    status = lab.service.schedule_status(f"{name}-daily")
    assert (status.schedule, status.overlap, status.config, status.active) == (
        "every 2h",
        "queue",
        {"fails": True},
        False,
    )
    line.get_by_role("button", name="Run", exact=False).first.click()  # a paused one, too
    toast = page.locator(".Toastify__toast", has_text="no data for today")
    expect(toast).to_be_visible()  # however soon it failed
    expect(line).to_contain_text("worker error")
    line.get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text(f"Delete schedule {name}-daily?")
    dialog.get_by_role("button", name="Delete").click()
    expect(line).to_have_count(0)
    assert f"{name}-daily" not in [one.name for one in lab.service.schedules()]
    assert len(lab.service.jobs(name)) == 3


def test_what_is_typed_stays_in_its_field(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, FAILS)
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).first.click()
    # A busy browser: what Lab does once it is idle comes late
    page.evaluate("() => { window.late = []; window.requestIdleCallback = call => late.push(call); }")
    sidebar.get_by_role("button", name=f"Schedule {name}…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_be_focused()
    cron = dialog.get_by_label("Cron expression")
    cron.select_text()
    page.evaluate("async () => { late.forEach(call => call()); await new Promise(done => setTimeout(done)); }")
    page.keyboard.type("5 4 * * *")
    expect(cron).to_have_value("5 4 * * *")
    expect(dialog.get_by_label("Name")).to_have_value("")


def test_what_went_wrong_is_said_as_text_and_a_firing_is_seen(lab: Lab, page: Page, name: str) -> None:
    often = f"{name}-often"
    for api in (name, often):
        lab.deploy(api, ECHO)
    lab.service.create_schedule(ScheduleRequest(api=often, schedule="every 10s"))
    lab.service.create_schedule(ScheduleRequest(api=name, schedule="0 6 * * *", timezone="Europe/Berlin"))
    with sqlite3.connect(lab.home / "taskapi.db") as database:
        database.execute(
            "UPDATE schedules SET misfires = 2, misfire = ?, misfired = 1, active = 0, paused = ? WHERE name = ?",
            (f"the disk {HOSTILE}", f"its API {HOSTILE}", name),
        )
    database.close()
    lab.open(page)
    show_sidebar(page)
    line = schedule_row(page, name)
    expect(line).to_contain_text(f"its API {HOSTILE}")
    expect(line).to_contain_text(f"2 firings without a job; last: the disk {HOSTILE}")
    expect(page.locator("#taskapi-sidebar img[src=x]")).to_have_count(0)
    page.add_script_tag(path=AXE)
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, ".jp-TaskAPI-Schedules") == [], theme
    line.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".jp-TaskAPI-Preview")).to_contain_text("At 06:00 every day (Europe/Berlin)")
    for theme in THEMES:
        change_theme(page, theme)
        assert violations(page, ".jp-TaskAPI-Run") == [], theme
    dialog.get_by_role("button", name="Cancel").click()
    line.get_by_role("switch").click()  # its API is there
    expect(line.get_by_role("switch")).to_have_attribute("aria-checked", "true")
    expect(line).not_to_contain_text("its API")

    # The other one has fired meanwhile, which gives no message
    line = schedule_row(page, often)
    expect(line).to_contain_text("succeeded")
    lab.service.update_schedule(often, {"active": False})
    expect(line).to_contain_text("paused")  # whoever changes it
    job = lab.service.jobs(often)[-1]
    row(page, job.id).get_by_role("button").first.click()
    details = page.get_by_role("region", name=f"Job {job.id}")
    expect(details.locator("dt", has_text="scheduled for")).to_be_visible()
    expect(page.locator(".Toastify__toast")).to_have_count(0)
    details.get_by_role("button", name=often, exact=True).click()  # leads back to the schedule
    expect(line).to_be_in_viewport()


def test_a_notebook_is_scheduled_from_its_dialog(lab: Lab, page: Page, name: str) -> None:
    put(lab.notebooks / f"{name}.ipynb", code("lr = 0.1  # step size", "parameters"), code("print(lr)"))
    lab.open(page)
    page.locator(".jp-DirListing-item", has_text=name).click(button="right")
    page.get_by_role("menuitem", name="Run as Job…").click()
    dialog = page.get_by_role("dialog")
    tab = dialog.get_by_role("tab", name="Schedule")
    expect(dialog.get_by_label("Name", exact=True)).to_be_focused()  # as soon as the dialog is there
    dialog.get_by_role("tab", name="Run now").press("ArrowRight")
    expect(tab).to_be_focused()
    expect(tab).to_have_attribute("aria-selected", "true")
    dialog.get_by_label("Cron expression").fill("@weekly")
    dialog.get_by_label("lr").fill("fast")
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    expect(dialog).to_contain_text("lr must be a number.")
    dialog.get_by_label("lr").fill("0.5")
    dialog.get_by_label("Timeout (s)").fill("120")
    page.add_script_tag(path=AXE)
    assert violations(page, ".jp-TaskAPI-Run") == []
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    expect(schedule_row(page, name)).to_contain_text("At 00:00 on Sunday")
    (status,) = until(lambda: [one for one in lab.service.schedules_response().schedules if one.name == name], "it")
    assert (status.api, status.config, status.timeout) == (name, {"lr": 0.5}, 120)
    assert status.notebook == str(lab.notebooks / f"{name}.ipynb")
    assert lab.service.jobs(name) == []
