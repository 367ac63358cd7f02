"""Real kernels, under a Jupyter server and without one, for what must be the same in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import clean, start_server
from jupyter_client.manager import start_new_kernel
from test_kernels import Kernel


class Notebook(Protocol):
    """What runs the cells of a notebook."""

    def run(self, code: str) -> str:
        """Execute code; return what it printed and showed, as text."""


class PlainKernel:
    """A kernel that no server started."""

    def __init__(self, folder: Path) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder))

    def run(self, code: str) -> str:
        """Execute code; return what it printed and showed, as text."""
        shown: list[str] = []

        def take(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.append(content["text"])
            elif kind in ("execute_result", "display_data", "update_display_data"):
                shown.append(content["data"].get("text/plain", ""))
            elif kind == "error":
                shown.extend(content["traceback"])

        self.client.execute_interactive(code, timeout=60, output_hook=take, allow_stdin=False)
        return "\n".join(shown)

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module", params=["plain", "served"])
def start(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Notebook]]:
    """Return what starts the kernel of a notebook of some name, all of them with one home."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
            patch.delenv(variable, raising=False)
        patch.setenv("TASKAPI_HOME", str(folder / "home"))
        (folder / "home").mkdir(mode=0o700)
        (folder / "home" / "config.yaml").write_text("stop_grace: 1\n")
        server = start_server(folder) if request.param == "served" else None
        kernels: list[Any] = []

        def start(name: str) -> Notebook:
            kernel = PlainKernel(folder) if server is None else Kernel(server, name)
            kernels.append(kernel)
            if server is None:  # a frontend says it otherwise, as VS Code does
                kernel.run(f"__vsc_ipynb_file__ = {str(folder / name)!r}")
            assert kernel.run("%load_ext taskapi_jupyter") == ""
            return kernel

        yield start
        for kernel in kernels:
            kernel.close()
        if server is not None:
            server.process.kill()
            server.process.wait()
        clean(folder / "home")


@pytest.fixture(scope="module")
def shared_notebook(start: Callable[[str], Notebook]) -> Notebook:
    """Return one kernel for the tests of a file."""
    return start("shared.ipynb")


@pytest.fixture
def notebook(shared_notebook: Notebook, tmp_path: Path) -> Notebook:
    """Return a notebook in a folder of its own, without the names of the tests before."""
    shared_notebook.run("%reset -f")
    shared_notebook.run(f"import os; os.makedirs({str(tmp_path / 'work')!r}); os.chdir({str(tmp_path / 'work')!r})")
    return shared_notebook
