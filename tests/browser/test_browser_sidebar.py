"""The sidebar in a real JupyterLab: what a person sees and does."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

import yaml
from playwright.sync_api import Page, expect

from support import ECHO, PATIENCE, TESTS, request_for, until
from support.lab import Lab, change_theme, drawn, row, show_sidebar
from support.servers import reserved_port
from taskapi_jupyter.ray.service import RayService

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

THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
AXE = TESTS.parent / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


def test_a_job_of_another_process_is_seen_live(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.open(page)
    sidebar = show_sidebar(page)
    lab.deploy(name, STEPS)
    expect(sidebar.get_by_role("button", name=name)).to_be_visible()
    job = lab.service.submit(name, {"folder": str(tmp_path)}, notebook="work/run.ipynb")
    line = row(page, job.id)
    expect(line).to_contain_text("running")
    (tmp_path / "1").touch()
    expect(line).to_contain_text("25 % · 1/4 · step 1")
    line.get_by_role("button", name=name).first.click()
    details = sidebar.get_by_role("region", name=f"Job {job.id}")
    expect(details.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    for step in (2, 3, 4):
        (tmp_path / str(step)).touch()
    expect(line).to_contain_text("succeeded")
    expect(details).to_contain_text('"steps": 4')
    expect(details).to_contain_text("work/run.ipynb")


def test_the_environment_that_is_the_default(lab: Lab, page: Page, name: str) -> None:
    """It is shown first; afterwards, what was chosen. A cluster that is away shows what is known of it."""
    address = f"http://127.0.0.1:{reserved_port()}"
    other = f"other-{token_hex(4)}"
    both = [{"name": one, "provider": "ray", "address": address} for one in ("gpus", other)]
    file = lab.home / "environments.yaml"
    file.write_text(yaml.safe_dump({"default_environment": "gpus", "environments": both}))
    try:
        service = RayService(lab.home / "ray" / "gpus", environment="gpus", address=address)
        service.deploy_request(request_for(name, ECHO))
        service.close()
        lab.open(page)
        sidebar = show_sidebar(page)
        chosen = sidebar.get_by_label("Environment")
        expect(chosen).to_have_value("gpus")
        sidebar.get_by_role("button", name=name).click()
        form = sidebar.get_by_role("form", name=f"Submit a job to {name}")
        form.get_by_role("button", name="Submit").click()
        expect(form).to_contain_text(f"the Ray cluster at {address} can't be reached (Connection refused)")
        chosen.select_option(other)
        until(lambda: lab.kept(f'"environment":"{other}"'), "the choice to be kept")
        page.reload()
        drawn(page)
        show_sidebar(page)
        expect(chosen).to_have_value(other)
    finally:
        file.unlink()


def test_submit_from_the_form(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO, definition={"path": "task.py", "config": {"lr": 0.1}})
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).click()
    form = sidebar.get_by_role("form", name=f"Submit a job to {name}")
    editor = form.get_by_role("textbox", name="Config of the job, as JSON")
    expect(editor).to_contain_text('"lr": 0.1')
    editor.fill('{"lr": 0.5,')
    expect(form).to_contain_text("Not valid JSON")
    expect(form.get_by_role("button", name="Submit")).to_be_disabled()
    editor.fill('{"lr": 0.5}')
    form.get_by_label("Timeout (s)").fill("0")
    expect(form).to_contain_text("a whole number of seconds")
    form.get_by_label("Timeout (s)").fill("60")
    form.get_by_role("button", name="Submit").click()
    expect(form).to_contain_text("Submitted")
    job = lab.service.jobs(name)[0]
    assert (job.config, job.record.timeout) == ({"lr": 0.5}, 60)
    expect(row(page, job.id)).to_contain_text("succeeded")
    expect(sidebar.get_by_role("region", name=f"Job {job.id}")).to_contain_text('"lr": 0.5')


PARAMETERS = '''
from typing import Literal

def train(data: str, lr: float = 0.1, kind: Literal["a", "b"] = "a", betas=(0.9, 0.99), **rest):
    """Train.

    Args:
        data: where to read <b>from</b>, a folder with one file a class
        lr: step size
    """
    return [data, lr, kind]
'''


def test_the_form_shows_parameters(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, PARAMETERS)
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).click()
    form = sidebar.get_by_role("form", name=f"Submit a job to {name}")
    editor = form.get_by_role("textbox", name="Config of the job, as JSON")
    expect(editor).to_contain_text('"lr": 0.1')
    expect(editor).to_contain_text('"kind": "a"')
    listed = form.get_by_label("Parameters")
    for text in ("data: str", "where to read <b>from</b>", "lr: float = 0.1", "step size", "betas = …", "**rest"):
        expect(listed).to_contain_text(text)
    expect(listed.get_by_text("required")).to_have_count(1)
    page.add_script_tag(path=AXE)
    for theme in THEMES:
        change_theme(page, theme)
        found = page.evaluate("axe.run('.jp-TaskAPI-Submit', {resultTypes: ['violations']})")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == [], theme
    form.get_by_role("button", name="Submit").click()
    expect(form).to_contain_text(f"{name}: data is missing: it takes data (required), lr, kind, betas, **rest")
    editor.fill('{"data": "here", "lr": 0.5}')
    form.get_by_role("button", name="Submit").click()
    expect(form).to_contain_text("Submitted")
    assert lab.service.jobs(name)[0].wait(PATIENCE).result() == ["here", 0.5, "a"]


def test_stop_rerun_and_delete(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, STEPS)
    job = lab.service.submit(name, {"folder": str(tmp_path)})
    lab.open(page)
    show_sidebar(page)
    line = row(page, job.id)
    expect(line).to_contain_text("running")
    line.hover()
    line.get_by_role("button", name=f"Stop {name}").click()
    expect(line).to_contain_text("stopped")
    assert lab.service.get(name, job.id).status == "stopped"
    line.get_by_role("button", name=f"Run {name}").click()
    expect(page.locator(f"[data-api='{name}'][data-job-id]")).to_have_count(2)
    again = next(one for one in lab.service.jobs(name) if one.id != job.id)
    expect(page.get_by_role("region", name=f"Job {again.id}")).to_be_visible()  # a rerun is shown
    assert again.config == job.config
    lab.service.stop(again)
    line.get_by_role("button", name=name).first.click()
    page.get_by_role("region", name=f"Job {job.id}").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    expect(line).to_have_count(0)
    assert [one.id for one in lab.service.jobs(name)] == [again.id]


def test_find_and_sort(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, ECHO)
    lab.deploy(f"{name}-other", ECHO)
    jobs = [lab.service.submit(name, {"colour": colour}).wait() for colour in ("red", "green", "blue")]
    other = lab.service.submit(f"{name}-other", {}).wait()
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_label("API", exact=True).select_option(name)
    rows = sidebar.locator(".jp-TaskAPI-Job")
    expect(rows).to_have_count(3)
    assert rows.first.get_attribute("data-job-id") == jobs[2].id
    sidebar.get_by_label("Order").select_option("oldest")
    expect(rows.first).to_have_attribute("data-job-id", jobs[0].id)
    sidebar.get_by_role("searchbox").fill("GREEN")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("data-job-id", jobs[1].id)
    sidebar.get_by_role("searchbox").fill("no such colour")
    expect(sidebar).to_contain_text("No job matches.")
    until(lambda: lab.kept("no such colour"), "the search to be kept")
    page.reload()
    drawn(page)
    sidebar = show_sidebar(page)
    expect(sidebar.get_by_role("searchbox")).to_have_value("no such colour")
    sidebar.get_by_role("button", name="Clear").click()
    expect(row(page, other.id)).to_be_visible()


def test_a_search_finds_jobs_that_were_not_loaded(lab: Lab, page: Page, name: str) -> None:
    """The server searches; a large config, which lists leave out, is loaded with the job's details."""
    lab.deploy(name, ECHO)
    large = lab.service.submit(name, {"text": "x" * 3000, "colour": f"mauve-{name}"}).wait()
    with lab.service.store.write() as transaction:
        newest = int(large.id, 16)
        transaction.executemany(
            "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, ended, boot, cpu, gpu) "
            "SELECT ?, api_name, api_id, spec_id, 'stopped', change, created, ended, boot, cpu, gpu FROM jobs "
            "WHERE id = ?",
            ((f"{newest - n:016x}", large.id) for n in range(1, 1001)),
        )
    lab.open(page)
    sidebar = show_sidebar(page)
    expect(sidebar.get_by_role("button", name="Show older jobs")).to_be_visible()
    expect(row(page, large.id)).to_have_count(0)
    sidebar.get_by_role("searchbox").fill(f"MAUVE-{name}")
    line = row(page, large.id)
    line.get_by_role("button", name=name).first.click()
    details = sidebar.get_by_role("region", name=f"Job {large.id}")
    expect(details).to_contain_text(f"mauve-{name}")
    sidebar.get_by_role("searchbox").fill("")
    sidebar.get_by_label("API", exact=True).select_option(name)
    expect(sidebar).to_contain_text("1001 of ")
    lab.service.purge(name)


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>&lt;b&gt;"

RAISES = f"""
def task(config):
    print({HOSTILE!r}, flush=True)
    raise ValueError({HOSTILE!r})
"""


def test_hostile_text_stays_text(lab: Lab, page: Page, name: str) -> None:
    lab.deploy(name, RAISES, definition={"path": "task.py", "config": {HOSTILE: HOSTILE}})
    lab.deploy(f"{name}-echo", ECHO)
    failed = lab.service.submit(name, {HOSTILE: HOSTILE}, notebook=f"{HOSTILE}.ipynb").wait()
    echoed = lab.service.submit(f"{name}-echo", {HOSTILE: [HOSTILE]}).wait()
    lab.open(page)
    sidebar = show_sidebar(page)
    expect(row(page, failed.id)).to_contain_text(HOSTILE)  # the reason
    row(page, failed.id).get_by_role("button", name=name).first.click()
    details = sidebar.get_by_role("region", name=f"Job {failed.id}")
    expect(details).to_contain_text(f"{HOSTILE}.ipynb")
    sidebar.get_by_role("button", name=name, exact=True).click()
    expect(sidebar.get_by_role("textbox", name="Config of the job, as JSON")).to_contain_text(HOSTILE)
    row(page, echoed.id).get_by_role("button", name=f"{name}-echo").first.click()
    expect(sidebar.get_by_label("Result", exact=True)).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_accessible(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, STEPS, definition={"path": "task.py", "config": {"folder": ""}})
    lab.deploy(f"{name}-echo", ECHO)
    ended = lab.service.submit(f"{name}-echo", {"a": 1}).wait()
    running = lab.service.submit(name, {"folder": str(tmp_path)})
    (tmp_path / "1").touch()
    lab.open(page)
    sidebar = show_sidebar(page)
    page.add_script_tag(path=AXE)
    expect(row(page, running.id)).to_contain_text("1/4")
    sidebar.get_by_role("button", name=f"{name}-echo", exact=True).click()
    for job in (ended, running):
        row(page, job.id).get_by_role("button", name=job.api_name).first.click()
        expect(sidebar.get_by_role("region", name=f"Job {job.id}")).to_be_visible()
        for theme in THEMES:
            change_theme(page, theme)
            found = page.evaluate("axe.run('#taskapi-sidebar', {resultTypes: ['violations']})")
            assert "color-contrast" in [one["id"] for one in found["passes"]]  # it did look
            problems = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
            assert problems == [], (theme, problems)
    lab.service.stop(running)


SWEPT = f"""
import pathlib, time

def task(config):
    if config["n"] < 3:
        raise ValueError({HOSTILE!r})
    while config["n"] > 5 and not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""


def test_a_group_is_one_row_that_opens_to_its_jobs(lab: Lab, page: Page, name: str, tmp_path: Path) -> None:
    lab.deploy(name, SWEPT, compute={"cpu": "10m"})
    lab.open(page)
    sidebar = show_sidebar(page)
    sidebar.get_by_role("button", name=name).wait_for()
    first = lab.service.submit(name, {"n": 3})
    configs = [{"n": n, "word": f"needle{n}-", "path": str(tmp_path / "go"), HOSTILE: HOSTILE} for n in range(1000)]
    group = lab.service.map(name, configs, name=f"{name}-sweep", max_running=2, notebook=f"{HOSTILE}.ipynb")
    last = lab.service.submit(name, {"n": 3})
    line = sidebar.locator(f"[data-group-id='{group.id}']")
    expect(line).to_contain_text("6/1000 · 2 running · 3 failed")
    expect(line.get_by_role("img")).to_have_accessible_name("3 succeeded, 3 failed, 2 running, 992 pending")
    expect(page.locator(".jp-TaskAPI-Status")).to_have_text("1 group (0 %)")
    sidebar.get_by_label("API", exact=True).select_option(name)
    entries = sidebar.locator(".jp-TaskAPI-JobRows > li")
    expect(entries).to_have_count(3)
    expect(line).to_have_attribute("aria-posinset", "1")  # what is in progress comes first
    sidebar.get_by_label("Order").select_option("newest")
    expect(row(page, last.id)).to_have_attribute("aria-posinset", "1")
    expect(line).to_have_attribute("aria-posinset", "2")
    expect(row(page, first.id)).to_have_attribute("aria-posinset", "3")

    head = line.locator("[aria-expanded]")
    head.focus()
    nested = sidebar.locator(".jp-TaskAPI-Job.jp-mod-nested")
    page.keyboard.press("ArrowRight")
    expect(head).to_have_attribute("aria-expanded", "true")
    expect(nested.first).to_contain_text(HOSTILE)
    page.keyboard.press("ArrowRight")
    expect(nested.first.get_by_role("button").first).to_be_focused()
    page.keyboard.press("End")
    expect(sidebar.locator("[aria-setsize='504']")).not_to_have_count(0)  # two pages, and that there are more
    expect(row(page, first.id).get_by_role("button").first).to_be_focused()  # wherever it is now
    for key, focused in (
        ("Home", row(page, last.id).get_by_role("button").first),
        ("ArrowDown", head),
        ("ArrowRight", nested.first.get_by_role("button").first),
        ("ArrowLeft", head),
    ):
        page.keyboard.press(key)
        expect(focused).to_be_focused()
    sidebar.get_by_label("Status", exact=True).select_option("running")
    expect(nested).to_have_count(2)
    sidebar.get_by_label("Status", exact=True).select_option("")
    sidebar.get_by_role("searchbox").fill("needle777-")
    expect(nested).to_have_count(1)
    expect(entries).to_have_count(2)
    sidebar.get_by_role("button", name="Clear").click()
    page.add_script_tag(path=AXE)
    for theme in THEMES:
        change_theme(page, theme)
        line.hover()
        found = page.evaluate("axe.run('#taskapi-sidebar', {resultTypes: ['violations']})")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == [], theme
    expect(line.get_by_role("button", name="Open the table of")).to_be_visible()

    line.get_by_role("button", name=f"Stop {name}-sweep").click()
    expect(line).to_contain_text("1000/1000 · 3 failed · 994 stopped")
    expect(nested.nth(7)).to_contain_text("stopped")
    (tmp_path / "go").touch()
    line.hover()
    line.get_by_role("button", name=f"Rerun failed jobs of {name}-sweep").click()
    expect(page.get_by_text("Submitted 997 jobs again")).to_be_visible()
    again = lab.service.groups()[0]
    assert (again.name, len(again)) == (group.name, 997)
    again.stop()
    head.focus()
    page.keyboard.press("ArrowLeft")
    expect(nested).to_have_count(0)
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Its 1000 jobs are deleted")
    dialog.get_by_role("button", name="Delete").click()
    expect(line).to_have_count(0)
    again.forget()  # by another program: an event of a job tells of it
    expect(sidebar.locator(f"[data-group-id='{again.id}']")).to_have_count(0)
    expect(row(page, first.id)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
