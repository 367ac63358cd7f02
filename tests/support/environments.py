"""Python environments that tests choose by a kernelspec: with packages of a version of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

#: What a task or a person can ask an interpreter: its path, and the version that it finds of a package.
TELL = "import importlib.metadata, sys; print([sys.executable, importlib.metadata.version('shade')])"


def environment(folder: Path, version: str, python: str = sys.executable, *, kernel: bool = False) -> Path:
    """Make an environment that has the package ``shade`` in a version; return its interpreter.

    With ``kernel`` it also finds this interpreter's packages, behind its own, so that ipykernel is among them.
    """
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    about = packages / f"shade-{version}.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text(f"Metadata-Version: 2.1\nName: shade\nVersion: {version}\n")
    if kernel:
        (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def kernelspec(path: Path, name: str, argv: list[str], **more: Any) -> Path:
    """Add a kernelspec to a folder of ``JUPYTER_PATH``; return its file."""
    file = path / "kernels" / name / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"argv": argv, "display_name": f"The {name}", "language": "python", **more}))
    return file


def of_ipykernel(python: Path | str) -> list[str]:
    """Return the ``argv`` with which ipykernel installs an interpreter as a kernel."""
    return [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def told_by(python: Path) -> str:
    """Return what an interpreter says when it is started by its path."""
    return subprocess.run([str(python), "-c", TELL], capture_output=True, text=True, check=True).stdout.strip()
