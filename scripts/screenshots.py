"""Pictures of the real thing for README and docs: JupyterLab in Chromium, light and dark, wide and narrow.

``python scripts/screenshots.py [FOLDER]`` (default ``docs/images``); needs Debian's chromium and PyPI's playwright.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
from playwright.sync_api import Error, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURES = [
    ("quickstart", "Light", 1280, 1180),
    ("quickstart-dark", "Dark", 1280, 1180),
    ("narrow", "Light", 700, 1000),
]


def lab(folder: Path, theme: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a JupyterLab of its own on a copy of the quickstart; return it with its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": f"JupyterLab {theme}"}))
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    shutil.copy(ROOT / "notebooks" / "iris.csv", notebooks)
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("%taskapi status iris"))  # differs each time: not for nbval
    nbformat.write(notebook, notebooks / "quickstart.ipynb")
    tracker = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "notebook-extension"
    tracker.mkdir(parents=True)
    (tracker / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JUPYTER", "JPY_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
         f"--ServerApp.port={port}", f"--ServerApp.root_dir={notebooks}", "--LabApp.news_url=None",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"],
        env={**kept, "JUPYTER_TOKEN": "pictures", "TASKAPI_HOME": str(folder / "taskapi"),
             "JUPYTERLAB_SETTINGS_DIR": str(folder / "config" / "lab" / "user-settings"),
             "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_DATA_DIR": str(folder / "data"),
             "JUPYTER_RUNTIME_DIR": str(folder / "runtime")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/api?token=pictures", timeout=2)
            return process, url
        except OSError:
            time.sleep(0.1)
    raise SystemExit("JupyterLab did not come up")


def run_all(page: Page, url: str) -> None:
    """Open the notebook, run it, and wait until its last cell has run."""
    page.goto(f"{url}/lab/tree/quickstart.ipynb?token=pictures")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached", timeout=60_000)
    page.wait_for_function("document.querySelector('#jupyterlab-splash') === null", timeout=60_000)
    page.keyboard.press("Control+B")  # the file browser leaves room for the notebook
    page.locator(".jp-Notebook .jp-Cell").first.click()
    for _ in range(5):  # a kernel that is still connecting lets a run go by
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        try:
            page.get_by_text("created iris (TaskAPI)").first.wait_for(timeout=6_000)
            break
        except Error:
            continue
    page.locator(".jp-Cell").last.locator(".taskapi table").first.wait_for(timeout=30_000)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "images")
    target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, theme, width, height in PICTURES:
            with tempfile.TemporaryDirectory() as folder:
                process, url = lab(Path(folder), theme)
                try:
                    page = browser.new_page(viewport={"width": width, "height": height})
                    run_all(page, url)
                    page.locator(".jp-Cell").last.scroll_into_view_if_needed()
                    page.wait_for_timeout(1000)  # fonts and the toolbar settle
                    page.screenshot(path=target / f"{name}.png")
                    print(target / f"{name}.png", flush=True)
                    page.close()
                finally:
                    process.terminate()
                    process.wait()
        browser.close()


if __name__ == "__main__":
    main()
