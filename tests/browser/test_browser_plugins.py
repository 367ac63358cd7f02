"""What stands around the sidebar in a real JupyterLab: messages, the status bar, the list of what runs, menus, keys."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from support import ECHO, PATIENCE, WAITING, until
from support.lab import Lab, row, show_sidebar
from taskapi_jupyter.client.taskapi import Job

expect.set_options(timeout=PATIENCE * 1000)

HOSTILE = "**bold** <img src=x onerror=alert(1)>"  # Lab's messages read Markdown, unless they are told not to

RAISES = f"""
def task(config):
    raise ValueError({HOSTILE!r})
"""


@pytest.fixture(autouse=True)
def at_once(lab: Lab) -> None:
    """Have messages of jobs however short they are."""
    lab.write_settings("taskapi-jupyter/plugin", {"notify_after": 0})


def message(page: Page, job: Job) -> Locator:
    """Return the message that tells of a job."""
    return page.locator(".Toastify__toast", has_text=f"{job.api_name} · {job.id[-4:]}")


def status(page: Page) -> Locator:
    """Return our item in the status bar."""
    return page.get_by_role("button", name="Jobs on this machine")


def press(line: Locator, key: str, opens: Locator) -> None:
    """Press a key on a row, and again where a menu or dialog that closes gave the focus back to another meanwhile."""

    def opened() -> bool:
        if not opens.count():
            line.get_by_role("button").first.press(key)
        with suppress(AssertionError):
            expect(opens).to_be_visible(timeout=2_000)
            return True
        return False

    until(opened, f"{key} to be heard")


def test_a_job_that_ends_is_told_of_once(
    lab: Lab, context: BrowserContext, page: Page, name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING)
    before = lab.service.submit(name, {"path": str(tmp_path)}).wait()
    job = lab.service.submit(name, {"path": str(tmp_path / "go")})
    tabs = [page, context.new_page()]
    for tab in tabs:
        lab.open(tab)
        expect(status(tab)).to_contain_text("1 running")
    (tmp_path / "go").touch()
    for tab in tabs:
        expect(status(tab)).to_have_count(0)
    page.wait_for_timeout(3_000)  # longer than a tab leaves it to others
    told = [tab for tab in tabs if message(tab, job).count()]
    assert len(told) == 1
    expect(message(told[0], job)).to_contain_text("succeeded after")
    message(told[0], job).get_by_role("button", name="Show Log").click()
    expect(told[0].get_by_role("tab", name=f"{name} {job.id[-4:]}")).to_be_visible()
    lab.open(page)
    show_sidebar(page)
    expect(row(page, job.id)).to_contain_text("succeeded")
    page.wait_for_timeout(1_000)
    assert not message(page, job).count()
    assert not message(page, before).count()


def test_a_job_that_ends_while_no_page_is_open_is_told_of_later(lab: Lab, page: Page, name: str) -> None:
    lab.open(page)
    show_sidebar(page)
    lab.deploy(name, RAISES)
    expect(page.get_by_role("button", name=name)).to_be_visible()
    page.goto("about:blank")
    job = lab.service.submit(name, {}).wait()
    lab.open(page)
    expect(message(page, job)).to_contain_text(
        re.compile(rf"worker error after [\d.]+ s: ValueError: {re.escape(HOSTILE)}")
    )
    message(page, job).get_by_role("button", name="Show Job").click()
    expect(page.get_by_role("region", name=f"Job {job.id}")).to_be_visible()
    page.get_by_role("region", name=f"Job {job.id}").get_by_role("button", name="Log").click()
    expect(page.get_by_role("log")).to_contain_text("ValueError")


def test_many_are_told_of_together(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING, compute={"cpu": "10m"})
    lab.open(page)
    for _ in range(8):
        lab.service.submit(name, {"path": str(tmp_path / "go")})
    expect(status(page)).to_contain_text("8 running")
    (tmp_path / "go").touch()
    messages = page.locator(".Toastify__toast")
    expect(messages.filter(has_text="8 jobs succeeded")).to_be_visible()
    expect(messages).to_have_count(1)


def test_messages_can_be_turned_off(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO)
    lab.write_settings("taskapi-jupyter/plugin", {"notifications": False})
    lab.open(page)
    show_sidebar(page)
    job = lab.service.submit(name, {}).wait()
    expect(row(page, job.id)).to_contain_text("succeeded")
    lab.deploy(f"{name}-later", ECHO)
    expect(page.get_by_role("button", name=f"{name}-later")).to_be_visible()
    page.wait_for_timeout(1_000)
    assert not page.locator(".Toastify__toast").count()


def test_the_list_of_what_runs_stops_jobs(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING, compute={"cpu": "100m"})
    jobs = [lab.service.submit(name, {"path": str(tmp_path / "never")}) for _ in range(3)]
    lab.open(page)
    expect(status(page)).to_contain_text("3 running")
    status(page).click()
    expect(row(page, jobs[0].id)).to_contain_text("running")
    page.get_by_role("tab", name="Running").click()
    items = page.locator(".jp-RunningSessions-item", has_text=name)
    expect(items).to_have_count(3)
    item = items.filter(has_text=jobs[0].id[-4:])
    expect(item).to_contain_text("running")
    item.hover()
    item.get_by_title("Stop").click()
    expect(items).to_have_count(2)
    assert lab.service.get(name, jobs[0].id).status == "stopped"
    page.get_by_role("button", name="Stop All").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop All").click()
    expect(items).to_have_count(0)
    assert {job.status for job in lab.service.jobs(name)} == {"stopped"}
    expect(status(page)).to_have_count(0)
    assert not page.locator(".Toastify__toast").count()  # whoever stopped them knows


def test_menus_and_keys_act_on_their_row(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING)
    (tmp_path / "go").touch()
    ended = lab.service.submit(name, {"path": str(tmp_path / "go")}).wait()
    job = lab.service.submit(name, {"path": str(tmp_path / "never")})
    lab.open(page)
    page.keyboard.press("ControlOrMeta+Shift+Y")
    expect(page.locator("#taskapi-sidebar")).to_be_visible()
    row(page, ended.id).get_by_role("button", name=name).first.click()  # the other one is selected
    row(page, job.id).click(button="right")
    menu = page.get_by_role("menu").last
    expect(menu.get_by_role("menuitem", name="Stop Job")).to_contain_text("I, I")  # its key
    expect(menu.get_by_role("menuitem", name="Delete Job")).to_have_count(0)
    menu.get_by_role("menuitem", name="Stop Job").click()
    expect(row(page, job.id)).to_contain_text("stopped")
    expect(row(page, ended.id)).to_contain_text("succeeded")
    row(page, job.id).click(button="right")
    expect(menu.get_by_role("menuitem", name="Rerun Job")).to_be_visible()
    expect(menu.get_by_role("menuitem", name="Stop Job")).to_have_count(0)
    # Not by Escape: the item under the mouse may be drawn anew, and then the menu hears no key.
    page.locator("#taskapi-sidebar").get_by_role("searchbox").click()
    expect(page.get_by_role("menuitem", name="Rerun Job")).to_have_count(0)

    dialog = page.get_by_role("dialog")
    press(row(page, job.id), "Delete", dialog)
    expect(dialog).to_contain_text(f"Delete job {name} · {job.id[-4:]}?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    press(row(page, ended.id), "l", page.get_by_role("tab", name=f"{name} {ended.id[-4:]}"))
    row(page, ended.id).click(button="right")
    page.get_by_role("menuitem", name="Rerun Job").click()
    expect(page.locator(f"[data-api='{name}'][data-job-id]")).to_have_count(3)
    again = lab.service.jobs(name)[0]
    expect(page.get_by_role("region", name=f"Job {again.id}")).to_be_visible()
    page.locator("#taskapi-sidebar").get_by_role("searchbox").press_sequentially("rrl")
    page.keyboard.press("Delete")  # keys for rows are none where one writes
    assert not page.get_by_role("dialog").count()
    assert len(lab.service.jobs(name)) == 3


def test_the_palette_acts_on_the_job_that_is_selected(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO)
    job = lab.service.submit(name, {}).wait()
    lab.open(page)
    sidebar = show_sidebar(page)
    row(page, job.id).get_by_role("button").first.click()
    expect(sidebar.get_by_role("region", name=f"Job {job.id}")).to_be_visible()
    page.keyboard.press("ControlOrMeta+Shift+C")
    field = page.locator("#command-palette input, .jp-ModalCommandPalette input").first
    expect(field).to_be_focused()  # before that, what is typed goes elsewhere, and the palette closes again
    field.fill("delete job")
    active = page.locator(".lm-CommandPalette-item.lm-mod-active")
    expect(active).to_contain_text("Delete Job")
    expect(active).not_to_have_class(re.compile("lm-mod-disabled"))
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row(page, job.id)).to_have_count(0)
    assert lab.service.jobs(name) == []
