"""What jobs left: the files in a job's output folder and its result. A task may have put anything there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from taskapi_jupyter.core import files, folders
from taskapi_jupyter.core.contract import (
    MAX_PREVIEW,
    PREVIEWS,
    FileEntry,
    FileList,
    MetricsResponse,
    Point,
    PreviewResponse,
    UsageResponse,
)
from taskapi_jupyter.core.errors import BadRequest, NotFound, NotKept
from taskapi_jupyter.core.paths import WORKER, JobPaths
from taskapi_jupyter.node.storage import Storage, folder_of

from .records import rfc3339

_MAKE_VIEW = "import sys; sys.path.insert(0, sys.argv[1]); from harness import view; view()"
_LONGEST_VIEW = 60.0  # seconds
_SERIES = 16 << 20  # bytes of a series that are read at once, more than our functions write
_POINTS = 50_000  # of metrics that one answer has, at most
_MAKING = threading.Semaphore(2)  # each takes a core, and memory


class Outputs:
    """What jobs left in folders: ``JOB/files/…`` and ``JOB/result.json`` below ``jobs``.

    ``storage`` is where jobs of a cluster leave it: whatever deletes a job removes it there, too.
    """

    def __init__(self, jobs: Path, storage: Storage | None = None) -> None:
        self._jobs, self.storage = jobs, storage

    def check_kept(self) -> None:
        """Raise :class:`BadRequest` where no job's result is kept."""

    def folder(self, job_id: str) -> Path:
        """Return the folder that holds a job's files; raise :class:`NotKept` where no folder does."""
        return JobPaths(self._jobs / job_id).files

    def files(self, job_id: str) -> FileList:
        """List the files that a job left, links aside."""
        return _files_in(self.folder(job_id))

    def open_file(self, job_id: str, path: str) -> IO[bytes]:
        """Open one of those files; raise :class:`NotFound` where there is none."""
        return _open_within(self.folder(job_id), path)

    def open_result(self, job_id: str, name: str) -> IO[bytes] | None:
        """Open the result of that name; None where there is none."""
        try:
            return os.fdopen(files.open_below(self._jobs, (job_id, name)), "rb")
        except OSError as error:
            _raise_unknown(error)
            return None


class RemoteOutputs(Outputs):
    """What jobs left at a URL that fsspec knows."""

    storage: Storage

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def folder(self, job_id: str) -> Path:
        """Raise :class:`NotKept`: no folder holds them."""
        raise NotKept(f"what {job_id} left is in {self.storage.of(job_id)}, not in a folder")

    def files(self, job_id: str) -> FileList:
        """List the files that a job left; they are there when it has ended."""
        found, most = self.storage.files(job_id), folders.MAX_ENTRIES
        return FileList(
            [FileEntry(path, size, rfc3339(int(when * 1e6))) for path, size, when in found[:most]],
            f"only {most:,} of {len(found):,} files are listed" if len(found) > most else None,
        )

    def open_file(self, job_id: str, path: str) -> IO[bytes]:
        """Open one of those files; raise :class:`NotFound` where there is none."""
        if any(name == path for name, _, _ in self.storage.files(job_id)):
            file = self.storage.open(job_id, f"files/{path}")
            if file is not None:
                return file
        raise NotFound(f"the job has no file {path!r}")

    def open_result(self, job_id: str, name: str) -> IO[bytes] | None:
        """Open the result of that name; None where there is none."""
        return self.storage.open(job_id, name)


class NoOutputs(Outputs):
    """Nothing: the environment has no storage. Each method raises :class:`NotKept`."""

    storage = None

    def __init__(self, environment: str) -> None:
        self._environment = environment

    def check_kept(self) -> None:
        """Raise :class:`BadRequest`."""
        try:
            self.folder("")
        except NotKept as error:
            raise BadRequest(str(error)) from None

    def folder(self, job_id: str) -> Path:
        """Raise :class:`NotKept`."""
        raise NotKept(
            f"environment {self._environment} has no storage, so results and files of its jobs are not kept: "
            "give it one in environments.yaml (storage: a shared folder, s3://…, gs://…)"
        )

    def open_result(self, job_id: str, name: str) -> IO[bytes] | None:
        """Raise :class:`NotKept`."""
        self.folder(job_id)
        return None


def outputs_of(environment: str, url: str | None) -> Outputs:
    """Return where jobs of a cluster leave results and files: in a folder, at a URL that fsspec knows, or nowhere."""
    if url is None:
        return NoOutputs(environment)
    storage, folder = Storage(url), folder_of(url)
    return RemoteOutputs(storage) if folder is None else Outputs(Path(folder), storage)


class _Head(msgspec.Struct):
    """The first line of a file of metrics that was thinned: see ``job._Metrics``."""

    written: int = 0
    kept: int = 0


_head, _point = msgspec.json.Decoder(_Head), msgspec.json.Decoder(list[str | int | float])
_forms = msgspec.json.Decoder(dict[str, str])
_usage = msgspec.json.Decoder(tuple[float, float, int, int])


def points_of(file: IO[bytes] | None, since: int, names: Iterable[str]) -> MetricsResponse:
    """Return the points of a job's metrics from an offset on: ``next`` of an earlier answer, or 0.

    Those of some names alone, where there are any. One answer has 50,000 points at most.
    """
    found, wanted = dict[str, list[Point]](), frozenset(names)
    if file is None:
        return MetricsResponse({}, since)
    head, first = _Head(), file.readline(1 << 16)
    at = len(first) if first.startswith(b"{") else 0
    try:
        head = _head.decode(first) if at else head
    except (msgspec.DecodeError, UnicodeDecodeError):  # a task may have written anything
        pass
    appended = at + head.kept
    shift = head.written - appended  # from the place of a line that was not thinned to its offset
    at = at if since < head.written else max(since - shift, 0)
    after, count = since, 0
    file.seek(at)
    data = file.read(_SERIES)
    for line in data[: data.rfind(b"\n") + 1].splitlines(True):
        if count == _POINTS:
            return MetricsResponse(found, after)
        begin, at = at, at + len(line)
        try:
            name, step, when, value, *offset = _point.decode(line)
        except (ValueError, msgspec.DecodeError):
            continue
        if begin < appended:
            if not offset or not isinstance(offset[0], int) or offset[0] < since:
                continue
            after = offset[0] + 1
        else:
            after = at + shift
        count += 1
        point = [one for one in (step, when, value) if not isinstance(one, str)]
        if isinstance(name, str) and len(point) == 3 and (not wanted or name in wanted):
            found.setdefault(name, []).append(point)
    return MetricsResponse(found, max(at + shift, since))


def usage_of(file: IO[bytes] | None) -> UsageResponse:
    """Return the points of what a job used."""
    points = []
    for line in file.read(_SERIES).splitlines() if file is not None else ():
        try:
            points.append([*_usage.decode(line)[:3]])
        except (ValueError, msgspec.DecodeError):  # a task may have written anything
            continue
    return UsageResponse(points)


def preview_of(file: IO[bytes] | None) -> PreviewResponse:
    """Return what a result looks like; nothing where its task has written anything else there."""
    data = b"" if file is None else file.read(MAX_PREVIEW + 1)
    try:
        forms = _forms.decode(data) if len(data) <= MAX_PREVIEW else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        forms = {}
    return PreviewResponse({media: forms[media] for media in PREVIEWS if media in forms})


def view_of(pickle: IO[bytes]) -> IO[bytes] | None:
    """Return the JSON form of pickled plain values, None where they have none; takes a second for a million.

    A process of its own makes it, in which no class can be found: a task may have written any pickle.
    """
    found = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    try:
        os.lseek(pickle.fileno(), 0, os.SEEK_SET)
        with _MAKING:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _MAKE_VIEW, WORKER],
                stdin=pickle,
                stdout=found,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                timeout=_LONGEST_VIEW,
                check=False,
            )
        if done.returncode == 0:
            return found
    except (OSError, subprocess.TimeoutExpired):  # as many processes as there may be
        pass
    found.close()
    return None


def _files_in(root: Path) -> FileList:
    """List the regular files below a folder, links left out; nothing where the folder itself is a link."""
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


def _open_within(root: Path, path: str) -> IO[bytes]:
    """Open a file below a folder; raise :class:`NotFound` where dots or links lead outside, or it is no regular file.

    A link or a FIFO that takes its place meanwhile is not followed. ``root`` is a folder in a job's folder; the task
    may have replaced either.
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


def _raise_unknown(error: Exception) -> None:
    """Raise the error of a process without free descriptors: it does not know whether the file exists."""
    if isinstance(error, OSError) and error.errno in files.NO_DESCRIPTOR:
        raise error
