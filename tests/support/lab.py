"""JupyterLab and Notebook as people see them: a real server, in Debian's Chromium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from support import PATIENCE, request_for
from support.homes import clean
from support.servers import LiveServer, start_server
from taskapi_jupyter.service.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Error, Locator, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Each page that opens would have Lab ask Node whether it is to be built, half a second of a CPU.
NO_BUILD = {"page_config_data": {"buildAvailable": False, "buildCheck": False}}

ROW = ".jp-TaskAPI-Job"

#: Begins to measure frames; `window.endFrames()` returns how long each took, in ms.
FRAMES = """() => {
  const frames = []; let last = performance.now(); let on = true;
  const tick = now => { frames.push(now - last); last = now; on && requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  window.endFrames = () => { on = false; return frames.slice(2); };
}"""


def chromium_path() -> str | None:
    """Return where Chromium is, if it is anywhere."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    return found or (mac if Path(mac).exists() else None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Return a browser; it lives as long as a file's tests, as others want an event loop of their own."""
    path = chromium_path()
    if path is None:
        sentence = "no Chromium, so nothing was looked at: sudo apt-get install chromium, or name one: CHROMIUM=/path"
        if os.environ.get("TASKAPI_REQUIRE_BROWSER"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Lab:
    """A JupyterLab (or Notebook) that can be killed and started again where it was."""

    folder: Path
    module: str = "jupyterlab"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    server: LiveServer = field(init=False)
    service: Service = field(init=False)  # of its home, in this process: what another program does

    def __post_init__(self) -> None:
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        self.write_settings("@jupyterlab/apputils-extension/notification", quiet)
        for name, values in self.settings.items():
            self.write_settings(name, values)
        self.notebooks.mkdir(exist_ok=True)
        self.server = self.start()
        self.service = Service(self.home)

    @property
    def notebooks(self) -> Path:
        """Return the folder that is shown."""
        return self.folder / "notebooks"

    @property
    def home(self) -> Path:
        """Return TASKAPI_HOME."""
        return self.server.home

    def write_settings(self, name: str, values: dict[str, Any]) -> None:
        """Set what a person sets in the settings editor."""
        path = self.folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def start(self, port: int | None = None, token: str | None = None) -> LiveServer:
        """Start the server."""
        return start_server(
            self.folder,
            "--LabApp.news_url=None",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
            f"--ServerApp.tornado_settings={NO_BUILD}",
            module=self.module,
            port=port,
            token=token,
            root=self.notebooks,
            environ={
                "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
                "IPYTHONDIR": str(self.folder / "ipython"),
            },
        )

    def kill(self) -> None:
        """Kill the server, its kernels too, as a machine that runs out of memory would."""
        self.server.process.kill()
        self.server.process.wait()

    def restart(self) -> None:
        """Start it again, at the same address."""
        self.server = self.start(urlsplit(self.server.url).port, self.server.token)

    def close(self) -> None:
        """End it, its jobs too."""
        self.service.close()
        self.server.process.terminate()
        self.server.process.wait(PATIENCE)
        clean(self.home)

    def kept(self, text: str) -> bool:
        """Say whether the layout that a reload restores has a text in it."""
        return any(text in one.read_text() for one in (self.folder / "workspaces").glob("*"))

    def deploy(self, name: str, source: str, **spec: Any) -> None:
        """Deploy an API from this process, which is none of the server's."""
        self.service.deploy_request(request_for(name, source, **spec))

    def open(self, page: Page, path: str = "") -> None:
        """Open a page of it; Lab in a workspace of its own, so that nothing is where another page left it.

        Not by ``?reset``: where a page is loaded again before Lab took that from its address, all is reset once more.
        """
        if self.module == "jupyterlab":
            path = f"lab/workspaces/{token_hex(4)}/{path}"
        page.goto(f"{self.server.url}{path}?token={self.server.token}")
        if self.module == "jupyterlab":
            drawn(page)


@pytest.fixture(scope="module")
def lab(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a JupyterLab with the extension; it asks for the browser first, so that no server starts without."""
    running = Lab(tmp_path_factory.mktemp("lab"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def cached(chromium: Browser) -> Iterator[BrowserContext]:
    """Return a browser that loads JupyterLab's own scripts once for a file's tests."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def context(cached: BrowserContext) -> Iterator[BrowserContext]:
    """Return a browser without a past: no page, no cookie, nothing that was stored."""
    yield cached
    pages, cached_session = cached.pages, None
    for origin in {page.evaluate("location.origin") for page in pages} - {"null"}:
        cached_session = cached_session or cached.new_cdp_session(pages[0])
        kinds = "cookies,local_storage,indexeddb,service_workers,websql"
        cached_session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": kinds})
    for page in pages:
        page.close()
    cached.clear_cookies()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Return a page; a script of it that throws, or a dialog that a hostile text opens, fails the test."""
    page = context.new_page()
    wrong: list[str] = []

    def thrown(error: Error) -> None:
        if "taskapi" in (error.stack or ""):  # Lab has errors of its own, as when its server is away
            wrong.append(f"{error.message}\n{error.stack}")

    page.on("pageerror", thrown)

    def answer(dialog: Dialog) -> None:
        if dialog.type != "beforeunload":  # which asks who leaves a notebook that was not saved
            wrong.append(f"dialog: {dialog.message}")
        dialog.accept()

    page.on("dialog", answer)
    yield page
    assert not wrong, wrong


def drawn(page: Page) -> None:
    """Wait until JupyterLab has drawn itself and put everything where it was."""
    page.wait_for_selector("#jp-main-dock-panel", timeout=60_000)
    page.wait_for_function("!document.querySelector('#jupyterlab-splash')", timeout=60_000)


def change_theme(page: Page, theme: str) -> None:
    """Change the theme as the settings' menu does."""
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)


def show_sidebar(page: Page) -> Locator:
    """Show the sidebar and return it."""
    sidebar = page.locator("#taskapi-sidebar")
    tab = page.get_by_role("tab", name="Task API jobs")
    if tab.get_attribute("aria-selected") != "true":
        tab.click()
    sidebar.wait_for()
    return sidebar


def row(page: Page, job_id: str) -> Locator:
    """Return a job's row in the sidebar."""
    return page.locator(f"#taskapi-sidebar {ROW}[data-job-id='{job_id}']")
