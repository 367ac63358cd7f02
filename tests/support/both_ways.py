"""Real kernels, under a Jupyter server and without one, for what must be the same in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.homes import clean
from support.kernels import Kernel, Plain, Served
from support.servers import start_server


@pytest.fixture(scope="module", params=["plain", "served"])
def start(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Kernel]]:
    """Return what starts the kernel of a notebook of some name, all of them with one home."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
            patch.delenv(variable, raising=False)
        patch.setenv("TASKAPI_HOME", str(folder / "home"))
        (folder / "home").mkdir(mode=0o700)
        (folder / "home" / "config.yaml").write_text("stop_grace: 1\n")
        server = start_server(folder) if request.param == "served" else None
        kernels: list[Kernel] = []

        def start(name: str) -> Kernel:
            kernel: Kernel = Plain(folder) if server is None else Served(server, notebook=name)
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
def shared_notebook(start: Callable[[str], Kernel]) -> Kernel:
    """Return one kernel for the tests of a file."""
    return start("shared.ipynb")


@pytest.fixture
def notebook(shared_notebook: Kernel, tmp_path: Path) -> Kernel:
    """Return a notebook in a folder of its own, without the names of the tests before."""
    shared_notebook.run("%reset -f")
    shared_notebook.run(f"import os; os.makedirs({str(tmp_path / 'work')!r}); os.chdir({str(tmp_path / 'work')!r})")
    return shared_notebook
