"""The project that goes with a deploy to another machine: its files, as a zip, and its ``requirements.txt``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_PROJECT = 32 << 20  # bytes of the zip; Cortex's limit
#: Left out of a project: Cortex's own list, and what is of use on this machine alone
IGNORED = ("__pycache__/", "*.pyc", ".*", "!.env", "!.cortexignore", "*.ipynb", "cortex.yaml")


def project_of(request: DeployRequest) -> dict[str, bytes]:
    """Return ``project.zip`` and ``requirements.txt`` of a request's folder, where there are such.

    A folder is a project if the task is a file in it, or if it has a ``cortex.yaml``; the folder of a notebook is not.
    """
    folder = Path(request.cwd or ".")
    definition = request.spec.get("definition")
    path = definition.get("path") if isinstance(definition, dict) else None
    files: dict[str, bytes] = {}
    if (isinstance(path, str) and (folder / path).is_file()) or (folder / "cortex.yaml").is_file():
        files["project.zip"] = zipped({name: read_file(folder / name) for name in project_files(folder)})
    if (folder / "requirements.txt").is_file():
        files["requirements.txt"] = read_file(folder / "requirements.txt")
    return files


def project_files(folder: Path) -> list[str]:
    """Return the paths of a project's files, with forward slashes, without what ``.cortexignore`` or IGNORED names."""
    lines = list(IGNORED)
    from pathspec import GitIgnoreSpec

    ignore = folder / ".cortexignore"
    if ignore.is_file():
        lines += read_file(ignore).decode("utf-8", "replace").splitlines()
    rules = GitIgnoreSpec.from_lines(lines)
    found = sorted(_walk(folder, rules))
    size = sum((folder / name).stat().st_size for name in found)
    if size > 8 * MAX_PROJECT:
        raise TooLarge(f"{folder} holds {size >> 20} MiB: list in .cortexignore what is not part of the project")
    return found


def _walk(folder: Path, rules: GitIgnoreSpec) -> Iterator[str]:
    todo = [""]  # os.walk recurses before Python 3.12
    while todo:
        base = todo.pop()
        try:
            entries = list(os.scandir(folder / base))
        except OSError:  # no permission, or too long a path
            continue
        for entry in entries:
            name = base + entry.name
            if entry.is_dir(follow_symlinks=False):
                todo += [] if rules.match_file(f"{name}/") else [f"{name}/"]
            elif not rules.match_file(name) and os.path.isfile(folder / name):
                yield name


def zipped(files: dict[str, bytes]) -> bytes:
    target = BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(ZipInfo(name), data, ZIP_DEFLATED)  # no times: the same project is the same API
    data = target.getvalue()
    if len(data) > MAX_PROJECT:
        raise TooLarge(
            f"the project is {len(data) >> 20} MiB as a zip, more than {MAX_PROJECT >> 20} MiB: list in .cortexignore "
            "what is not part of it"
        )
    return data


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror}") from None
