"""A project folder that came as a zip: unpacked under the home, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from taskapi_jupyter.core import files, folders, room
from taskapi_jupyter.core.errors import BadRequest, TooLarge, Unavailable, size
from taskapi_jupyter.core.paths import HomePaths

MAX_PROJECT = 32 << 20  # bytes of the zip
MAX_UNPACKED = 256 << 20  # bytes of all its files
MAX_FILES = 10_000


_one_at_a_time = threading.Lock()  # else one that fails could remove what another just unpacked


@contextmanager
def unpacked(project: bytes, home: Path, *, keep: bool = True) -> Iterator[Path]:
    """Unpack a zip and yield the folder; remove it again if the block fails, or unless it is to be kept.

    The folder is named by its content: the same project is the same API again.
    """
    if len(project) > MAX_PROJECT:
        raise TooLarge(f"the part 'project.zip' is larger than {size(MAX_PROJECT)}")
    folder = HomePaths(home).projects / hashlib.sha256(project).hexdigest()[:16]
    with _one_at_a_time:
        remove = not folder.exists()
        try:
            _unpack(project, folder)
            yield folder
            remove = remove and not keep
        finally:
            if remove:
                folders.remove(folder)


def _unpack(project: bytes, folder: Path) -> None:
    try:
        with ZipFile(BytesIO(project)) as archive:
            entries = [(entry, _checked(entry)) for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise TooLarge(f"project.zip holds more than {MAX_FILES} files")
            files.create_folder(folder)
            left = MAX_UNPACKED
            for entry, path in entries:
                left -= _write(archive, entry, folder / path, left)
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise BadRequest(f"project.zip can't be read: {error}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadRequest(f"project.zip holds a file and a folder of one name: {error.filename}") from None
    except OSError as error:
        if error.errno in files.PASSING:
            raise room.cannot_write(str(folder), error) from None
        raise Unavailable(f"project.zip can't be unpacked into {folder}: {error.strerror}") from None


def _checked(entry: ZipInfo) -> PurePosixPath:
    """Return where in its folder an entry goes; refuse what could end up elsewhere."""
    path = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts:
        raise BadRequest(f"project.zip holds a path that leads out of it: {entry.filename[:256]!r}")
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise BadRequest("project.zip is compressed in a way that isn't read here: use the usual one, deflate")
    if kind not in (0, stat.S_IFREG):
        raise BadRequest(f"project.zip holds an entry that is neither file nor folder: {entry.filename[:256]!r}")
    return path


def _write(archive: ZipFile, entry: ZipInfo, target: Path, left: int) -> int:
    """Write one file whole or not at all, since a running job may be reading it; return its size."""
    files.create_folder(target.parent)
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    size = 0
    try:
        with archive.open(entry) as source, open(files.create(part, os.O_WRONLY | os.O_EXCL), "wb") as file:
            while block := source.read(1 << 16):
                size += len(block)
                if size > left:
                    raise TooLarge(f"project.zip holds more than {MAX_UNPACKED >> 20} MiB")
                file.write(block)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return size
