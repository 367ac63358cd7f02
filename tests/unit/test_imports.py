"""What a start imports: nothing that the start does not use, as people wait for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from taskapi_jupyter.core import host
from taskapi_jupyter.core.paths import PACKAGE

#: For deploys, clusters and servers, or for pages and widgets.
NEVER = {
    *("requests", "urllib3", "http.client", "websocket", "email", "ssl", "yaml", "dotenv", "packaging", "pathspec"),
    *("cloudpickle", "pyflakes", "psutil", "asyncio", "concurrent.futures", "zipfile", "jupyter_server", "tornado"),
    *("nbformat", "ipywidgets", "taskapi_jupyter.cortex.client", "taskapi_jupyter.ray", "taskapi_jupyter.server"),
    *("taskapi_jupyter.ui.panel", "taskapi_jupyter.ui.doctor", "taskapi_jupyter.client.rest"),
    *("taskapi_jupyter.deploy.prepare", "taskapi_jupyter.deploy.advice", "taskapi_jupyter.deploy.api_spec.build"),
}
WITHOUT_IPYTHON = NEVER | {"IPython", "traitlets", "jupyter_client", "prompt_toolkit"}

LOAD_EXT = """
from IPython.core.interactiveshell import InteractiveShell
before = set(sys.modules)  # IPython's own
InteractiveShell.instance().run_line_magic("load_ext", "taskapi_jupyter")
"""
SERVER = """
import jupyter_server.serverapp, jupyter_server.extension.application
before = set(sys.modules)
import taskapi_jupyter
taskapi_jupyter._jupyter_server_extension_points()
"""


def imported(code: str, *flags: str) -> set[str]:
    """Run code in an interpreter of its own; return what it has imported then, beyond ``before``."""
    code = f"import sys; before = set(); sys.path.append(sys.argv[1])\n{code}\nprint(*(set(sys.modules) - before))"
    command = [sys.executable, *flags, "-c", code, str(Path(PACKAGE).parent)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    return set(told.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import taskapi_jupyter.ui.cli as cli; cli.main(['get'])", WITHOUT_IPYTHON),
        ("import taskapi_jupyter; taskapi_jupyter.connect().jobs()", WITHOUT_IPYTHON),
        (LOAD_EXT, NEVER),
        (SERVER, NEVER - {"taskapi_jupyter.server"}),
    ],
    ids=["get", "connect", "load_ext", "server"],
)
def test_a_start_imports_only_what_it_uses(home: Path, code: str, heavy: set[str]) -> None:
    assert imported(code) & heavy == set()


def test_what_the_supervisor_imports_is_small() -> None:
    code = "import taskapi_jupyter.service.supervisor.supervisor as s; s.engines.load('local')"
    there = imported(code, *(["-I", "-S"] if host.LINUX else ["-I"]))
    heavy = {*NEVER, "msgspec", "subprocess", "typing_extensions", "traceback", "inspect", "dataclasses", "threading"}
    assert there & heavy == set()
