"""What the extension adds around its sidebar: messages, status bar, Running panel, commands; and all of it in Notebook 7."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ECHO, PATIENCE, WAITING, until
from lab import Lab, drawn, row, show_sidebar
from playwright.sync_api import Browser, BrowserContext, Page, expect

from taskapi_jupyter.service import Service

expect.set_options(timeout=PATIENCE * 1000)

FAILS = """
def task(config):
    raise ValueError("**bold** <img src=x onerror=alert(1)>")
"""


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    """Return the Service of Lab's home, in this process."""
    service = Service(lab.home)
    yield service
    service.close()


def waiting(lab: Lab, service: Service, name: str, go: Path) -> str:
    """Start a job that runs until a file is there; return its id."""
    lab.deploy(name, WAITING)
    return service.submit(name, {"path": str(go)}).id


def test_a_message_when_a_job_ends(lab: Lab, context: BrowserContext, page: Page, service: Service, name: str) -> None:
    lab.deploy(name, ECHO)
    lab.deploy(f"{name}-fails", FAILS)
    before = service.submit(name).wait()
    second = context.new_page()
    for one in (page, second):
        lab.open(one)
        show_sidebar(one)
        expect(row(one, before.id)).to_contain_text("succeeded")
    toasts = [one.locator(".Toastify__toast").filter(has_text=name) for one in (page, second)]
    assert [toast.count() for toast in toasts] == [0, 0]  # it had ended before this browser came

    failed = service.submit(f"{name}-fails").wait()
    expect(row(page, failed.id)).to_contain_text("worker error")
    expect(row(second, failed.id)).to_contain_text("worker error")
    until(lambda: sum(toast.count() for toast in toasts), "a message in one of the tabs")
    shown = next(toast for toast in toasts if toast.count())
    expect(shown).to_contain_text("**bold** <img src=x onerror=alert(1)>")
    assert sum(toast.count() for toast in toasts) == 1  # in one of the tabs

    shown.get_by_role("button", name="Show Log").click()
    log = shown.page.locator(".jp-TaskAPI-log")
    expect(log).to_contain_text("ValueError")
    page.reload()
    drawn(page)
    show_sidebar(page)
    expect(row(page, failed.id)).to_contain_text("worker error")
    expect(toasts[0]).to_have_count(0)


def test_messages_can_be_turned_off(lab: Lab, page: Page, service: Service, name: str) -> None:
    lab.write_settings("taskapi-jupyter/plugin", {"notifications": False})
    lab.deploy(name, ECHO)
    try:
        lab.open(page)
        show_sidebar(page)
        job = service.submit(name).wait()
        expect(row(page, job.id)).to_contain_text("succeeded")
        lab.deploy(f"{name}-later", ECHO)  # by when this is seen, a message would have come
        expect(page.get_by_role("button", name=f"{name}-later")).to_be_visible()
        expect(page.locator(".Toastify__toast").filter(has_text=name)).to_have_count(0)
    finally:
        lab.write_settings("taskapi-jupyter/plugin", {})


def test_status_bar_and_running_panel(lab: Lab, page: Page, service: Service, name: str, tmp_path: Path) -> None:
    lab.open(page)
    job = waiting(lab, service, name, tmp_path / "never")
    status = page.get_by_role("button", name="Jobs on this machine: 1 running")
    expect(status).to_contain_text("1 running")
    status.click()
    expect(row(page, job)).to_contain_text("running")
    page.get_by_role("tab", name="Running Terminals and Kernels").click()
    item = page.locator(".jp-RunningSessions-item").filter(has_text=name)
    expect(item).to_contain_text("running")
    item.hover()
    item.locator(".jp-RunningSessions-itemShutdown").click()
    expect(item).to_have_count(0)
    assert service.get(name, job).status == "stopped"
    expect(status).to_have_count(0)


def test_commands_and_context_menu(lab: Lab, page: Page, service: Service, name: str, tmp_path: Path) -> None:
    job = waiting(lab, service, name, tmp_path / "never")
    lab.open(page)
    page.keyboard.press("Control+Shift+Y")
    line = row(page, job)
    expect(line).to_contain_text("running")
    line.click(button="right")
    menu = page.get_by_role("menu")
    expect(menu.get_by_role("menuitem", name="Show Log")).to_be_visible()
    expect(menu.get_by_role("menuitem", name="Delete Job")).to_have_count(0)
    menu.get_by_role("menuitem", name="Stop Job").click()
    expect(line).to_contain_text("stopped")
    line.get_by_role("button").first.click()
    page.keyboard.press("Control+Shift+C")
    palette = page.locator("#command-palette, .jp-ModalCommandPalette").first
    palette.get_by_role("textbox").or_(palette.locator("input")).first.fill("delete job")
    page.locator(".lm-CommandPalette-item").filter(has_text="Delete Job").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(line).to_have_count(0)


@pytest.fixture(scope="module")
def notebook7(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a Notebook 7 with the extension."""
    running = Lab(tmp_path_factory.mktemp("notebook"), module="notebook")
    yield running
    running.close()


def test_notebook_7(notebook7: Lab, page: Page, name: str, tmp_path: Path) -> None:
    service = Service(notebook7.home)
    job = waiting(notebook7, service, name, tmp_path / "go")
    notebook7.open(page, "tree")
    page.locator(".jp-FileBrowser").wait_for()
    page.keyboard.press("Control+Shift+Y")
    expect(row(page, job)).to_contain_text("running")
    row(page, job).get_by_role("button").first.click()
    page.get_by_role("region", name=f"Job {job}").get_by_role("button", name="Log").click()
    expect(page.locator(".jp-TaskAPI-log")).to_contain_text("waiting")
    (tmp_path / "go").touch()
    expect(row(page, job)).to_contain_text("succeeded")
    service.close()
