"""What a job left: files in its output folder, its result. A task may have put anything there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from taskapi_jupyter.core import files, folders
from taskapi_jupyter.core.contract import FileEntry, FileList
from taskapi_jupyter.core.errors import NotFound

from .records import rfc3339


def files_in(root: Path) -> FileList:
    """List the regular files below a folder; links are left out, and a link in the place of the folder is empty."""
    if root.parent.is_symlink():
        return FileList()
    found, cut = folders.files(root)
    return FileList(
        sorted(
            (
                FileEntry(
                    path=path.encode("utf-8", "replace").decode(),
                    size=about.st_size,
                    modified=rfc3339(int(about.st_mtime * 1e6)),
                )
                for path, about in found
            ),
            key=lambda entry: entry.path,
        ),
        cut and cut.encode("utf-8", "replace").decode(),
    )


def open_within(root: Path, path: str) -> IO[bytes]:
    """Open a file below a folder; raise :class:`NotFound` where dots or links lead outside, or it is no plain file.

    What was found is what is opened: a link or a FIFO that takes its place meanwhile is not followed. ``root`` is a
    folder in a job's folder, either of which the task may have replaced.
    """
    missing = NotFound(f"the job has no file {path!r}")
    if not path or "\0" in path:
        raise missing
    jobs = root.parent.parent.resolve()
    own = jobs / root.parent.name / root.name
    try:
        found = (own / path).resolve(strict=True)
        if not found.is_relative_to(own):
            raise missing
        return os.fdopen(files.open_below(jobs, found.relative_to(jobs).parts), "rb")
    except (OSError, RuntimeError, UnicodeError) as error:
        _raise_unknown(error)
        raise missing from None


def open_left(jobs: Path, job_id: str, name: str) -> IO[bytes] | None:
    """Open a plain file in a job's folder; None where there is none."""
    try:
        return os.fdopen(files.open_below(jobs, (job_id, name)), "rb")
    except OSError as error:
        _raise_unknown(error)
        return None


def _raise_unknown(error: Exception) -> None:
    """Raise the error of a process that may open nothing more: whether the file is there is not known."""
    if isinstance(error, OSError) and error.errno in files.NO_DESCRIPTOR:
        raise error
