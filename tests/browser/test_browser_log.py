"""The log of a job in a tab: live, coloured, searched, and quick at a million lines."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from support import PATIENCE, until
from support.lab import Lab, drawn, row, show_sidebar

expect.set_options(timeout=PATIENCE * 1000)

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>&lt;b&gt;"

WRITES = f"""
import pathlib, time

def task(config):
    print("\\x1b[31mred\\x1b[0m and plain", flush=True)
    print({HOSTILE!r}, flush=True)
    print("\\x1b]0;title\\x07\\x1b[2Jno control\\rover", flush=True)
    for number in range(config["lines"]):
        print("line", number)
    print("waiting", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    print("the end")
"""


def open_log(page: Page, job: str) -> Locator:
    """Open a job's log from the sidebar; return it."""
    show_sidebar(page)
    row(page, job).hover()
    row(page, job).get_by_role("button", name="Show the log").click()
    view = page.locator(".jp-TaskAPI-log")
    view.wait_for()
    return view


def test_live_coloured_and_only_text(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, WRITES)
    job = lab.service.submit(name, {"lines": 200, "path": str(tmp_path / "go")})
    lab.open(page)
    view = open_log(page, job.id)
    log = view.get_by_role("log")
    expect(log).to_contain_text("waiting")  # follows
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    log.focus()
    page.keyboard.press("Home")
    expect(log).to_contain_text(HOSTILE)
    expect(log).to_contain_text("red and plain")
    assert log.get_by_text("red", exact=True).evaluate("one => getComputedStyle(one).color") != log.get_by_text(
        "and plain"
    ).evaluate("one => getComputedStyle(one).color")
    expect(log).not_to_contain_text("\x1b")
    assert page.title() != "title"
    expect(follow).to_have_attribute("aria-pressed", "false")
    (tmp_path / "go").touch()
    expect(view).to_contain_text("succeeded")
    expect(log).not_to_contain_text("the end")  # it stays where the reader is
    follow.click()
    expect(log).to_contain_text("the end")
    until(lambda: lab.kept("taskapi-log:"), "the tab to be kept")
    page.reload()
    drawn(page)
    expect(page.get_by_role("log")).to_contain_text("the end")


def test_a_million_lines(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    lab.deploy(name, WRITES)
    job = lab.service.submit(name, {"lines": 1_000_000, "path": str(tmp_path / "go")})
    lab.open(page)
    view = open_log(page, job.id)
    log = view.get_by_role("log")
    expect(row(page, job.id)).to_contain_text("succeeded", timeout=60_000)
    expect(log).to_contain_text("the end", timeout=60_000)
    expect(view).to_contain_text(re.compile(r"1,?000,?0\d\d lines"))
    assert log.locator("*").count() < 1_000  # what is not in view is not drawn
    log.focus()
    page.keyboard.press("Home")
    expect(log).to_contain_text("red and plain")
    search = view.get_by_role("search").locator("input")
    search.fill("LINE 77777")
    expect(view.get_by_role("search")).to_contain_text(re.compile(r"\b11\b"))  # 77777, and 777770 to 777779
    search.press("Enter")
    expect(log).to_contain_text("line 777770")
    search.press("Shift+Enter")
    expect(log).to_contain_text("line 77778")
    search.fill("nothing like it")
    expect(view.get_by_role("search")).to_contain_text(re.compile("no|0", re.IGNORECASE))
