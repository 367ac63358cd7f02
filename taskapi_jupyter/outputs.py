"""What a job left: files in its output folder, a pickled result."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

from .contract import FileEntry
from .errors import NotFound
from .rows import rfc3339


def files_in(root: Path) -> list[FileEntry]:
    """List the regular files below a folder; links are left out."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                about = path.lstat()
            except FileNotFoundError:  # the task took it away just now
                continue
            if stat.S_ISREG(about.st_mode):
                found.append(
                    FileEntry(
                        path=path.relative_to(root).as_posix().encode("utf-8", "replace").decode(),
                        size=about.st_size,
                        modified=rfc3339(int(about.st_mtime * 1e6)),
                    )
                )
    return sorted(found, key=lambda entry: entry.path)


def path_within(root: Path, path: str) -> Path:
    """Return a file below a folder; raise :class:`NotFound` where dots or links lead outside."""
    root = root.resolve()
    missing = NotFound(f"the job has no file {path!r}")
    if not path or "\0" in path:
        raise missing
    try:
        found = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        raise missing from None
    if not found.is_relative_to(root) or not found.is_file():
        raise missing
    return found


def load_pickle(path: Path, modules: Path) -> Any:
    """Load a pickled result, with the classes of its cell's module; raises whatever a pickle may."""
    import cloudpickle

    sys.path.append(str(modules))
    try:
        return cloudpickle.loads(path.read_bytes())
    finally:
        sys.path.remove(str(modules))
