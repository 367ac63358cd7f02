"""Desktop notifications of a real Chromium, and what is told of what ended while no page was open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support import ECHO, PATIENCE, TESTS, WAITING, until
from support.lab import Lab, row, show_sidebar

expect.set_options(timeout=PATIENCE * 1000)

AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"

HOSTILE = "**bold** <img src=x onerror=alert(1)>"

#: Keeps what a page shows on the desktop, and how often it asked for permission; a context may have it twice.
OBSERVED = """
if (!window.shown) {
  window.shown = []; window.asked = 0;
  const Real = window.Notification;
  window.Notification = class extends Real {
    constructor(title, options) { super(title, options); window.shown.push({title, body: options.body, it: this}); }
    static requestPermission() { window.asked += 1; return Real.requestPermission(); }
  };
}
"""


@pytest.fixture(autouse=True)
def settings(lab: Lab, context: BrowserContext) -> None:
    """Turn desktop notifications on, of jobs however short they are."""
    lab.write_settings("taskapi-jupyter/plugin", {"notify_after": 0, "desktop": True})
    context.add_init_script(OBSERVED)


@pytest.fixture
def granted(lab: Lab, context: BrowserContext) -> Iterator[None]:
    """Have the browser allow them."""
    context.grant_permissions(["notifications"], origin=lab.server.url.rstrip("/"))
    yield
    context.clear_permissions()


def shown(*pages: Page) -> list[dict[str, Any]]:
    """Return what pages have shown on the desktop."""
    return [one for page in pages for one in page.evaluate("window.shown.map(({title, body}) => ({title, body}))")]


def run(page: Page, command: str) -> None:
    """Run a command as the palette does."""
    page.evaluate("command => window.jupyterapp.commands.execute(command)", command)


@pytest.mark.usefixtures("granted")
def test_one_for_a_job_in_two_tabs_and_a_click_shows_it(
    lab: Lab, context: BrowserContext, page: Page, name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING + f"    raise ValueError({HOSTILE!r})\n")
    job = lab.service.submit(name, {"path": str(tmp_path / "go")})
    tabs = [page, context.new_page()]
    for tab in tabs:
        lab.open(tab)
        expect(tab.get_by_role("button", name="Jobs on this machine")).to_contain_text("1 running")
    (tmp_path / "go").touch()
    until(lambda: shown(*tabs), "a notification")
    page.wait_for_timeout(3_000)  # longer than a tab leaves it to others
    (one,) = shown(*tabs)
    assert one["title"].startswith(f"{name} · {job.id[-4:]}: worker error after ")
    assert one["body"] == f"ValueError: {HOSTILE}"
    (tab,) = [tab for tab in tabs if shown(tab)]
    tab.evaluate("window.shown[0].it.onclick()")
    expect(tab.get_by_role("region", name=f"Job {job.id}")).to_contain_text("worker error")


@pytest.mark.usefixtures("granted")
def test_one_for_a_group_and_one_for_a_short_job_that_asked(lab: Lab, page: Page, name: str) -> None:
    lab.write_settings("taskapi-jupyter/plugin", {"notify_after": 3600, "desktop": True})
    pod = {"containers": [{"command": ["true"], "compute": {"cpu": "10m"}}]}
    lab.service.deploy({"name": f"{name}-true", "kind": "TaskAPI", "pod": pod})
    lab.deploy(name, ECHO)
    lab.open(page)
    show_sidebar(page)
    group = lab.service.map(f"{name}-true", [{}] * 100, name=f"group-{name}", notify=["browser"]).wait()
    until(lambda: shown(page), "a notification of the group")
    assert shown(page)[0]["title"].startswith(f"{group.name}: 100 jobs succeeded after ")
    quiet = lab.service.submit(name, {}).wait()
    asked = lab.service.submit(name, {}, notify=["browser"]).wait()
    until(lambda: len(shown(page)) > 1, "a notification of the job that asked")
    assert [one["title"].split(" after ")[0] for one in shown(page)[1:]] == [f"{name} · {asked.id[-4:]} succeeded"]
    expect(page.locator(".Toastify__toast", has_text=quiet.id[-4:])).to_have_count(0)


def test_what_ended_while_no_page_was_open_is_told_of_once_and_a_new_profile_of_nothing(
    lab: Lab, chromium: Browser, page: Page, name: str, tmp_path: Path
) -> None:
    lab.deploy(name, WAITING, compute={"cpu": "10m"})
    jobs = [lab.service.submit(name, {"path": str(tmp_path / "go")}) for _ in range(2)]
    lab.open(page)
    expect(page.get_by_role("button", name="Jobs on this machine")).to_contain_text("2 running")
    page.goto("about:blank")
    (tmp_path / "go").touch()
    for job in jobs:
        job.wait()
    lab.open(page)
    toasts = page.locator(".Toastify__toast")
    expect(toasts).to_contain_text("While this page was closed, 2 jobs succeeded")
    expect(toasts).to_have_count(1)
    assert shown(page) == []
    new = chromium.new_context().new_page()
    lab.open(new)
    show_sidebar(new)
    expect(row(new, jobs[0].id)).to_contain_text("succeeded")
    new.wait_for_timeout(1_000)
    expect(new.locator(".Toastify__toast")).to_have_count(0)
    new.context.close()


def test_permission_is_asked_for_by_a_click_in_the_settings_or_a_command(
    lab: Lab, context: BrowserContext, page: Page, name: str
) -> None:
    lab.write_settings("taskapi-jupyter/plugin", {"notify_after": 0})
    lab.deploy(name, ECHO)
    lab.open(page)
    show_sidebar(page)
    job = lab.service.submit(name, {}).wait()
    toasts = page.locator(".Toastify__toast")
    expect(toasts.filter(has_text=job.id[-4:])).to_be_visible()
    assert page.evaluate("[window.asked, window.shown.length]") == [0, 0]
    # Chromium denies without a window to ask in.
    run(page, "taskapi:desktop-notifications")
    expect(toasts.filter(has_text="This browser denies notifications. Set them to “Allow” in its")).to_be_visible()
    context.grant_permissions(["notifications"], origin=lab.server.url.rstrip("/"))
    page.evaluate("window.jupyterapp.commands.execute('settingeditor:open', {query: 'Task API'})")
    box = page.get_by_role("checkbox", name="Desktop notifications")
    expect(box).not_to_be_checked()
    box.check()
    expect(toasts.filter(has_text="This browser shows desktop notifications when jobs end.")).to_be_visible()
    page.add_script_tag(path=AXE)
    (field,) = (
        page.locator(".jp-FormGroup-content").filter(has=box, has_not=page.locator(".jp-FormGroup-content")).all()
    )
    found = page.evaluate(
        "field => axe.run(field, {resultTypes: ['violations']}).then(({violations, passes}) => [violations, passes.length])",
        field.element_handle(),
    )
    assert found[0] == []
    assert found[1]
    another = lab.service.submit(name, {}).wait()
    until(lambda: shown(page), "a notification")
    assert another.id[-4:] in shown(page)[0]["title"]
    run(page, "taskapi:desktop-notifications")
    expect(box).not_to_be_checked()
    context.clear_permissions()
