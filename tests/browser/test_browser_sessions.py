"""The sidebar over time, in a real JupyterLab: other pages, a thousand jobs, sessions and servers that end."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from support import ECHO, PATIENCE, until
from support.homes import clean
from support.lab import ROW, Lab, drawn, row, show_sidebar
from support.servers import start_server

expect.set_options(timeout=PATIENCE * 1000)

STEPS = """
import pathlib, time
from taskapi_jupyter.job import progress

def task(config):
    folder, done = pathlib.Path(config["folder"]), 0
    while done < 4:
        if (folder / str(done + 1)).exists():
            done += 1
            print("step", done, flush=True)
            progress(done, 4, f"step {done}")
        time.sleep(0.01)
    return {"steps": done}
"""


def test_two_browsers_show_the_same(lab: Lab, context: BrowserContext, page: Page, name: str) -> None:
    lab.deploy(name, ECHO)
    second = context.new_page()
    for one in (page, second):
        lab.open(one)
        show_sidebar(one)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).click()
    sidebar.get_by_role("button", name="Submit", exact=True).click()
    expect(second.locator(f"[data-api='{name}'][data-job-id]")).to_contain_text("succeeded")
    job = lab.service.jobs(name)[0]
    lab.service.forget(job)
    for one in (page, second):
        expect(row(one, job.id)).to_have_count(0)


def test_a_thousand_jobs(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO, compute={"cpu": "1"})
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).wait_for()
    ids = [lab.service.submit(name, {"number": number}).id for number in range(1000)]
    lab.service.delete(name)  # stops what is left of them
    sidebar.get_by_label("Order").select_option("newest")  # rows stay where they are when their jobs are stopped
    sidebar.get_by_role("searchbox").fill(name)
    expect(sidebar).to_contain_text(re.compile(r"\d+ of \d+ jobs"))
    while sidebar.get_by_role("button", name="Search older jobs").is_visible():
        sidebar.get_by_role("button", name="Search older jobs").click()
    expect(sidebar).to_contain_text("1000 of ")
    row(page, ids[-1]).get_by_role("button", name=name).first.focus()
    page.keyboard.press("End")
    expect(row(page, ids[0])).to_be_visible()
    expect(row(page, ids[0]).get_by_role("button").first).to_be_focused()
    assert sidebar.locator(ROW).count() < 60  # what is not in view is not drawn
    page.keyboard.press("Home")
    expect(row(page, ids[-1]).get_by_role("button").first).to_be_focused()
    sidebar.get_by_role("button", name="Delete ended jobs").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(sidebar).to_contain_text("No jobs yet.")
    assert lab.service.jobs() == []


def test_a_session_that_ended(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    """It is said once, with a way to sign in, and little is asked until somebody did."""
    page.goto(f"{lab.server.url}login?next={quote(urlsplit(lab.server.url).path + 'lab')}")
    page.get_by_label("Password or token:", exact=True).fill(lab.server.token)
    page.get_by_role("button", name="Log in", exact=True).click()
    drawn(page)
    sidebar = show_sidebar(page)
    lab.deploy(name, STEPS)
    job = lab.service.submit(name, {"folder": str(tmp_path)})
    expect(row(page, job.id)).to_contain_text("running")
    cookies = page.context.cookies()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/taskapi/" in request.url else None)
    page.context.clear_cookies()
    lab.kill()
    lab.server = lab.start(urlsplit(lab.server.url).port)  # with another token: the page has one of its own
    banner = sidebar.get_by_role("status")
    expect(banner).to_contain_text("Your session has ended: sign in again.")
    link = banner.get_by_role("link", name="sign in again")
    base = urlsplit(lab.server.url).path
    expect(link).to_have_attribute("href", re.compile(re.escape(f"{base}login?next={quote(base, safe='')}lab")))
    expect(row(page, job.id)).to_contain_text("running")  # what was known stays
    page.wait_for_load_state("networkidle")
    asked.clear()
    (tmp_path / "1").touch()  # an event tells of none of it, and whoever asked would find out
    page.wait_for_timeout(3000)
    assert len(asked) <= 3, asked
    page.context.add_cookies(cookies)
    banner.get_by_role("button", name="Try again").dispatch_event("click")  # below a dialog of Lab's own
    expect(banner).to_be_empty()
    expect(row(page, job.id)).to_contain_text("1/4")
    job.stop()


def test_a_server_that_could_not_start_says_why(chromium: Browser, page: Page, tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("in the way")
    server = start_server(
        tmp_path,
        f"--TaskAPIApp.home={tmp_path / 'no-folder'}",
        "--LabApp.news_url=None",
        module="jupyterlab",
        status=503,
    )
    try:
        page.goto(f"{server.url}lab?token={server.token}")
        drawn(page)
        sidebar = show_sidebar(page)
        expect(sidebar.get_by_role("status")).to_contain_text("TaskAPI could not start")
        (tmp_path / "no-folder").unlink()
        until(lambda: server.fetch("GET", "verifycortex").ok, "the extension to start")
        with suppress(Error):  # it may have tried again by itself just now
            sidebar.get_by_role("button", name="Try again").click(timeout=5_000)
        expect(sidebar.get_by_role("status")).to_be_empty()
        expect(sidebar).to_contain_text("%pip install taskapi-jupyter")
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE)
        clean(tmp_path / "no-folder")
