"""Where jobs of a cluster leave results and files: a shared folder, or a URL that fsspec knows.

The files are ``{storage}/{job}/result.json``, or ``result.pkl`` with ``result.view.json`` beside it (its JSON form, if
there is one) or ``result.preview.json`` (what it looks like), ``exception.pkl``, ``metrics.jsonl`` and ``usage.jsonl``
beside these, and ``{storage}/{job}/files/…``. Standard library only, except fsspec where the storage is no folder.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from taskapi_jupyter.core import folders
from taskapi_jupyter.core.errors import BadRequest, TaskAPIError, Unavailable

VIEW = "result.view.json"  # the JSON form of a pickled result
PREVIEW = "result.preview.json"  # what one without a JSON form looks like in a notebook
RESULTS = ("result.json", "result.pkl")
EXCEPTION = "exception.pkl"  # what the task raised
METRICS, USAGE = "metrics.jsonl", "usage.jsonl"
_LONGEST_PATH = 4000  # bytes; Linux takes 4096
_TRIES = 3  # to store what a job left, which may have taken days


def folder_of(url: str) -> str | None:
    """Return the folder of a storage, None for any other URL."""
    if url.startswith("file://"):
        return url.removeprefix("file://")
    return url if url.startswith("/") else None


def checked(url: str) -> str:
    """Return the storage; raise :class:`BadRequest` where it can't be used."""
    folder = folder_of(url)
    if folder is not None and os.path.isabs(folder):
        return url
    scheme, there, rest = url.partition("://")
    if not (there and rest and scheme.isascii() and scheme.replace("+", "").isalnum()):
        raise BadRequest(f"storage must be an absolute path or a URL such as s3://bucket/folder, not {url[:64]!r}")
    _filesystem(url)
    return url


def push(url: str, job_folder: str) -> str:
    """Store what a job left in its folder, results first; return what went wrong in a sentence, '' for nothing."""
    wrong = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(attempt)
        try:
            return _push(url, job_folder)
        except Exception as error:  # whatever a cloud's library raises
            wrong = f"{type(error).__name__}: {error}"[:1000]
    return f"its result and files could not be stored: {wrong}"


def _push(url: str, job_folder: str) -> str:
    """Store what a job left, or raise; return which files were left out in a sentence, '' for none."""
    kept = (*RESULTS, VIEW, PREVIEW, EXCEPTION, METRICS, USAGE)
    found = [(os.path.join(job_folder, name), name) for name in kept]
    files, cut = folders.files(os.path.join(job_folder, "files"))
    found += [(os.path.join(job_folder, "files", name), f"files/{name}") for name, _ in files]
    target = folder_of(url)
    fs, path = (None, target) if target is not None else _filesystem(url)
    if target is not None:
        os.makedirs(target, 0o700, exist_ok=True)
    for source, name in found:
        if not stat.S_ISREG(_mode(source)):
            continue  # a link may lead anywhere, a FIFO would block
        there = f"{path}/{name}"
        if max(len(os.fsencode(source)), len(os.fsencode(there))) > _LONGEST_PATH:
            cut = cut or f"a path is longer than {_LONGEST_PATH} bytes"
            continue
        if fs is None:
            os.makedirs(os.path.dirname(there), 0o700, exist_ok=True)
            shutil.copyfile(source, f"{there}.tmp", follow_symlinks=False)
            os.rename(f"{there}.tmp", there)
        else:
            fs.makedirs(os.path.dirname(there), exist_ok=True)
            fs.put_file(source, there)
    return f"not all of its files were stored: {cut}" if cut else ""


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


class Storage:
    """Access to what jobs left in a storage."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def of(self, job_id: str) -> str:
        """Return the URL of what one job leaves."""
        return f"{self.url}/{job_id}"

    def folder(self, job_id: str) -> Path | None:
        """Return it as a folder, None where the storage is not a folder."""
        folder = folder_of(self.of(job_id))
        return None if folder is None else Path(folder)

    def files(self, job_id: str) -> list[tuple[str, int, float]]:
        """List the files of a job: path, size in bytes, modification time (seconds since the epoch)."""
        fs, path = _filesystem(f"{self.of(job_id)}/files")
        try:
            found = fs.find(path, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._unavailable(error) from None
        return sorted(
            (name[len(path) :].lstrip("/"), int(about.get("size") or 0), _modified(about))
            for name, about in found.items()
        )

    def open(self, job_id: str, name: str) -> IO[bytes] | None:
        """Open a file below a job's URL, copied to a temporary file; None where there is none."""
        fs, path = _filesystem(self.of(job_id))
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with fs.open(f"{path}/{name}", "rb") as there:
                shutil.copyfileobj(there, file, 1 << 20)
            file.seek(0)
        except FileNotFoundError:
            file.close()
            return None
        except Exception as error:
            file.close()
            raise self._unavailable(error) from None
        return file

    def remove(self, job_id: str, left: bool = False, until: float = math.inf) -> folders.Removal:
        """Remove what a job left; ``left``: it did leave something; ``until`` is that of :func:`folders.remove`.

        Raises :class:`Unavailable` where the storage can't be reached.
        """
        folder = self.folder(job_id)
        if folder is not None:
            if left and not folder.parent.is_dir():  # not mounted, say
                raise Unavailable(f"what {job_id} left can't be removed: there is no {folder.parent}")
            return folders.remove(folder, until)
        try:
            fs, path = _filesystem(self.of(job_id))
            fs.rm(path, recursive=True)
        except FileNotFoundError:
            pass
        except TaskAPIError:
            raise
        except Exception as error:
            raise Unavailable(f"what {job_id} left in {self.url} can't be removed: {error}") from None
        return folders.Removal(True, [])

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self.url} can't be read: {error}")


def _modified(about: dict[str, Any]) -> float:
    when = about.get("mtime") or about.get("LastModified") or about.get("updated") or 0
    return float(when.timestamp() if hasattr(when, "timestamp") else when) if not isinstance(when, str) else 0.0


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system and the path of a URL; raise :class:`Unavailable` where a package is missing."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise Unavailable(f"{url} needs fsspec, which is not installed here: pip install fsspec") from None
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:  # s3fs, gcsfs, …
        raise Unavailable(f"{url} needs a package that is not installed here: {error}") from None
    except ValueError as error:
        raise BadRequest(f"storage {url[:64]!r} can't be used: {error}") from None
    except Exception as error:  # missing credentials, say
        raise Unavailable(f"{url} can't be used: {type(error).__name__}: {error}") from None
    return fs, path.rstrip("/")
