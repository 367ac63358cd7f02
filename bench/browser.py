"""Speed in the browser: frames at 1,000 and 10,000 jobs, a group of 10,000, a million lines of log; delays until drawn.

``python bench/browser.py`` needs Chromium and what ``make test`` installs. The floor is the same page, idle. Exits 1 if
a frame is over the limit.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Page, sync_playwright  # noqa: E402

from support.lab import FLAGS, FRAMES, Lab, chromium_path, row, show_sidebar  # noqa: E402
from support.records import many_ended  # noqa: E402
from taskapi_jupyter.service.store.store import Store  # noqa: E402

LIMIT = 100.0  # milliseconds that a frame may take
PAGE_LIMIT = 60.0  # the same on the page of jobs
JOBS, MANY, GROUP, LINES, ROUNDS = 1000, 10_000, 10_000, 1_000_000, 20

TASK = """
def task(config):
    for number in range(config.get("lines", 0)):
        print("line", number, "of a log that somebody may want to read")
"""


def frames(page: Page, what: str, act: object) -> float:
    """Print how long frames took during an action; return the longest in ms."""
    page.evaluate(FRAMES)
    act()  # type: ignore[operator]
    times = page.evaluate("window.endFrames()")
    p99 = statistics.quantiles(times, n=100)[98]
    print(f"{what:<52} {len(times):4} frames, p99 {p99:5.1f} ms, longest {max(times):5.1f} ms", flush=True)
    return max(times)


def scroll(page: Page, selector: str, by: int) -> None:
    """Turn the mouse wheel over an element, down and up."""
    box = page.locator(selector).first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for turn in range(60):
        page.mouse.wheel(0, by if turn < 30 else -by)
        page.wait_for_timeout(16)


def measure_group(page: Page, lab: Lab) -> float:
    """Look at a large group while its jobs run; return the longest frame in ms."""
    scroller, nested = ".jp-TaskAPI-Scroller", page.locator(".jp-TaskAPI-Job.jp-mod-nested")
    lab.deploy("swept", TASK, compute={"cpu": "10m"})
    configs = [{"number": number} for number in range(GROUP)]
    page.evaluate(FRAMES)
    began = time.perf_counter()
    group = lab.service.map("swept", configs, name="sweep", max_running=2)
    submitted = time.perf_counter()
    line = page.locator(f".jp-TaskAPI-Group[data-group-id='{group.id}']")
    line.wait_for()
    seen = time.perf_counter()
    print(f"{f'a group of {GROUP}: submitted, until its row is drawn':<52} {1000 * (seen - began):.0f} ms, "
          f"{1000 * (seen - submitted):.0f} ms of them after its submission")  # fmt: skip
    longest = [frames(page, "its row, while its jobs run", lambda: page.wait_for_timeout(3000))]

    def unfold() -> None:
        line.get_by_role("button").first.click()
        nested.first.wait_for()
        page.wait_for_timeout(3000)

    longest.append(frames(page, "opened, while its jobs run", unfold))

    def further() -> None:
        for _ in range(GROUP // 250 + 10):
            page.locator(scroller).first.evaluate("(node) => { node.scrollTop = node.scrollHeight; }")
            page.wait_for_timeout(100)

    longest.append(frames(page, "going to its end, a page after the other", further))
    longest.append(frames(page, "scrolling there", lambda: scroll(page, scroller, -700)))

    def stop() -> None:
        group.stop()
        page.wait_for_timeout(2000)

    longest.append(frames(page, "stopped while it is open", stop))
    line.get_by_role("button").first.click() if line.is_visible() else None
    group.forget()
    return max(longest)


def measure(page: Page, lab: Lab) -> float:
    """Take all measurements; return the longest frame in ms, the idle page aside."""
    service = lab.service
    lab.deploy("bench", TASK)
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name="bench").wait_for()
    frames(page, "an idle page (the floor)", lambda: page.wait_for_timeout(1500))

    def flood() -> None:
        for number in range(JOBS):
            service.submit("bench", {"number": number})
        service.delete("bench")
        page.locator(".jp-TaskAPI-Job-word").get_by_text("stopped").first.wait_for()
        page.wait_for_timeout(2000)

    longest = [frames(page, f"{JOBS} jobs submitted, run or stopped", flood)]
    lab.deploy("bench", TASK)
    while sidebar.get_by_role("button", name="Show older jobs").is_visible():
        sidebar.get_by_role("button", name="Show older jobs").click()
        page.wait_for_timeout(300)
    longest.append(frames(page, f"scrolling {JOBS} jobs", lambda: scroll(page, ".jp-TaskAPI-Scroller", 700)))

    def search() -> None:
        for letters in ("b", "be", "ben", "bench", "bench 77", ""):
            sidebar.get_by_role("searchbox").fill(letters)
            page.wait_for_timeout(100)

    longest.append(frames(page, f"searching {JOBS} jobs, a letter at a time", search))

    seen = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        job = service.submit("bench")
        row(page, job.id).wait_for()
        seen.append(time.perf_counter() - began)
        job.wait()
    print(f"{'a submit in another process until its row is drawn':<52} median {1000 * statistics.median(seen):.0f} ms")

    longest.append(measure_group(page, lab))
    job = service.submit("bench", {"lines": LINES}).wait()
    row(page, job.id).wait_for()
    row(page, job.id).hover()
    began = time.perf_counter()
    row(page, job.id).get_by_role("button", name="Show the log").click()
    page.locator(".jp-TaskAPI-log").get_by_text(f"line {LINES - 1} ").wait_for()
    print(f"{f'a log of {LINES} lines, to its last line':<52} {time.perf_counter() - began:.2f} s")
    page.wait_for_timeout(3000)  # the rest of the log loads in the background
    longest.append(frames(page, f"scrolling {LINES} lines", lambda: scroll(page, ".jp-TaskAPI-log [role=log]", -3000)))
    return max(longest)


def measure_page(page: Page, lab: Lab) -> float:
    """Measure the page of jobs at many jobs; return the longest frame in ms."""
    with closing(Store(lab.home / "taskapi.db")) as store:
        many_ended(store, "many", MANY)
    lab.open(page)
    jobs, began = page.locator(".jp-TaskAPI-Page"), time.perf_counter()
    page.evaluate("() => { window.jupyterapp.commands.execute('taskapi:open-jobs'); }")
    jobs.locator(".jp-TaskAPI-Table-row").first.wait_for()
    print(f"{f'the page of {MANY} jobs, to its first rows':<52} {time.perf_counter() - began:.2f} s")
    jobs.get_by_text(re.compile(r"^\d{5} jobs")).wait_for()
    print(f"{'to its last':<52} {time.perf_counter() - began:.2f} s")
    longest = [frames(page, f"scrolling the page of {MANY} jobs", lambda: scroll(page, ".jp-TaskAPI-Table", 700))]

    def search() -> None:
        for letters in ("m", "many", "many lr=0.07", "many lr=0.078", ""):
            jobs.get_by_role("searchbox").fill(letters)
            page.wait_for_timeout(150)

    longest.append(frames(page, f"searching {MANY} jobs on it", search))

    def sort() -> None:
        for name in ("loss", "Duration", "lr"):
            jobs.get_by_role("columnheader", name=name, exact=True).get_by_role("button").click()
            page.wait_for_timeout(200)

    longest.append(frames(page, f"sorting {MANY} jobs on it", sort))
    return max(longest)


def main() -> None:
    """Measure, and fail if a frame took too long."""
    path = chromium_path()
    if path is None:
        raise SystemExit("no Chromium: sudo apt-get install chromium, or name one: CHROMIUM=/path")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        lab = Lab(Path(folder), settings={"taskapi-jupyter/plugin": {"notifications": False}})
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(60_000)
            longest = measure(page, lab)
            on_page = measure_page(page, lab)
        finally:
            lab.close()
        browser.close()
    if on_page > PAGE_LIMIT:
        raise SystemExit(f"a frame of the page of jobs took {on_page:.0f} ms, more than {PAGE_LIMIT:.0f}")
    if longest > LIMIT:
        raise SystemExit(f"a frame took {longest:.0f} ms, more than {LIMIT:.0f}")


if __name__ == "__main__":
    main()
