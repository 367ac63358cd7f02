"""What stands around the sidebar in a real JupyterLab: messages, the status bar, the list of what runs, menus, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ECHO, PATIENCE, WAITING
from lab import Lab, row, show_sidebar
from playwright.sync_api import BrowserContext, Locator, Page, expect

from taskapi_jupyter.jobs import Job
from taskapi_jupyter.service import Service

expect.set_options(timeout=PATIENCE * 1000)

HOSTILE = "<img src=x onerror=alert(1)>"

RAISES = f"""
def task(config):
    raise ValueError({HOSTILE!r})
"""


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    """Return the Service of Lab's home, in this process: what another program does."""
    service = Service(lab.home)
    yield service
    service.close()


def message(page: Page, job: Job) -> Locator:
    """Return the message that tells of a job."""
    return page.locator(".Toastify__toast", has_text=f"{job.api_name} · {job.id[-4:]}")


def status(page: Page) -> Locator:
    """Return our item in the status bar."""
    return page.get_by_role("button", name="Jobs on this machine")


def focus(line: Locator) -> None:
    """Give a row the focus, and again where a menu or dialog that closes gives it back to another."""
    button = line.get_by_role("button").first
    while True:
        button.focus()
        line.page.wait_for_timeout(100)
        if button.evaluate("button => button === document.activeElement"):
            return


def test_a_job_that_ends_is_told_of_once(
    lab: Lab, context: BrowserContext, page: Page, service: Service, name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING)
    before = service.submit(name, {"path": str(tmp_path)}).wait()
    job = service.submit(name, {"path": str(tmp_path / "go")})
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


def test_a_job_that_ends_while_no_page_is_open_is_told_of_later(
    lab: Lab, page: Page, service: Service, name: str
) -> None:
    lab.open(page)
    show_sidebar(page)
    lab.deploy(name, RAISES)
    expect(page.get_by_role("button", name=name)).to_be_visible()
    page.goto("about:blank")
    job = service.submit(name, {}).wait()
    lab.open(page)
    expect(message(page, job)).to_contain_text(
        re.compile(rf"worker error after [\d.]+ s: ValueError: {re.escape(HOSTILE)}")
    )
    message(page, job).get_by_role("button", name="Show Job").click()
    expect(page.get_by_role("region", name=f"Job {job.id}")).to_be_visible()


def test_many_are_told_of_together(lab: Lab, page: Page, service: Service, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING, compute={"cpu": "10m"})
    lab.open(page)
    for _ in range(8):
        service.submit(name, {"path": str(tmp_path / "go")})
    expect(status(page)).to_contain_text("8 running")
    (tmp_path / "go").touch()
    messages = page.locator(".Toastify__toast")
    expect(messages.filter(has_text="8 jobs succeeded")).to_be_visible()
    expect(messages).to_have_count(1)


def test_messages_can_be_turned_off(lab: Lab, page: Page, service: Service, name: str) -> None:
    lab.deploy(name, ECHO)
    lab.write_settings("taskapi-jupyter/plugin", {"notifications": False})
    try:
        lab.open(page)
        show_sidebar(page)
        job = service.submit(name, {}).wait()
        expect(row(page, job.id)).to_contain_text("succeeded")
        page.wait_for_timeout(1_000)
        assert not page.locator(".Toastify__toast").count()
    finally:
        lab.write_settings("taskapi-jupyter/plugin", {})


def test_the_list_of_what_runs_stops_jobs(lab: Lab, page: Page, service: Service, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING, compute={"cpu": "100m"})
    jobs = [service.submit(name, {"path": str(tmp_path / "never")}) for _ in range(3)]
    lab.open(page)
    expect(status(page)).to_contain_text("3 running")
    page.get_by_role("tab", name="Running").click()
    items = page.locator(".jp-RunningSessions-item", has_text=name)
    expect(items).to_have_count(3)
    item = items.filter(has_text=jobs[0].id[-4:])
    expect(item).to_contain_text("running")
    item.hover()
    item.get_by_title("Stop").click()
    expect(items).to_have_count(2)
    assert service.get(name, jobs[0].id).status == "stopped"
    page.get_by_role("button", name="Stop All").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop All").click()
    expect(items).to_have_count(0)
    assert {job.status for job in service.jobs(name)} == {"stopped"}
    assert not page.locator(".Toastify__toast").count()  # whoever stopped them knows


def test_menus_and_keys_act_on_their_row(lab: Lab, page: Page, service: Service, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WAITING)
    (tmp_path / "go").touch()
    ended = service.submit(name, {"path": str(tmp_path / "go")}).wait()
    job = service.submit(name, {"path": str(tmp_path / "never")})
    lab.open(page)
    page.keyboard.press("ControlOrMeta+Shift+Y")
    expect(page.locator("#taskapi-sidebar")).to_be_visible()
    row(page, ended.id).get_by_role("button", name=name).first.click()  # the other one is selected
    row(page, job.id).click(button="right")
    menu = page.get_by_role("menu").last
    expect(menu.get_by_role("menuitem", name="Stop Job")).to_be_visible()
    expect(menu.get_by_role("menuitem", name="Delete Job")).to_have_count(0)
    menu.get_by_role("menuitem", name="Stop Job").click()
    expect(row(page, job.id)).to_contain_text("stopped")
    expect(row(page, ended.id)).to_contain_text("succeeded")
    row(page, job.id).click(button="right")
    expect(menu.get_by_role("menuitem", name="Rerun Job")).to_be_visible()
    expect(menu.get_by_role("menuitem", name="Stop Job")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("menuitem", name="Rerun Job")).to_have_count(0)

    focus(row(page, job.id))
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Delete job {name} · {job.id[-4:]}?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    focus(row(page, ended.id))
    page.keyboard.press("l")
    expect(page.get_by_role("tab", name=f"{name} {ended.id[-4:]}")).to_be_visible()
    row(page, ended.id).click(button="right")
    page.get_by_role("menuitem", name="Rerun Job").click()
    expect(page.locator(f"[data-api='{name}'][data-job-id]")).to_have_count(3)
    again = service.jobs(name)[0]
    expect(page.get_by_role("region", name=f"Job {again.id}")).to_be_visible()
    page.locator("#taskapi-sidebar").get_by_role("searchbox").press_sequentially("rrl")
    page.keyboard.press("Delete")  # keys for rows are none where one writes
    assert not page.get_by_role("dialog").count()
    assert len(service.jobs(name)) == 3
