"""A multipart body, written to files part by part as it arrives."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from taskapi_jupyter.core import files, folders, room
from taskapi_jupyter.core.errors import BadRequest, TooLarge, size
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.service import retention

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartParser


class Form:
    """Takes a body piece by piece, from one thread at a time; its files are removed with it.

    ``limits`` says which parts are kept, and how many bytes each may have. Of a part that is sent again, the first
    stays. The folder is one that retention removes where the server is killed.
    """

    def __init__(self, content_type: str, home: Path, limits: Mapping[str, int]) -> None:
        self.names: list[str] = []  # of all parts, in their order
        self.files: dict[str, Path] = {}
        self._content_type = content_type
        self._parent = HomePaths(home).apis
        self._limits = limits
        self._lock = threading.Lock()  # a lost connection removes the files while a thread may write
        self._removed = False
        self._whole = False
        self._folder: Path | None = None
        self._header = (b"", b"")
        self._headers: dict[str, bytes] = {}
        self._name: str | None = None  # of the part that is being kept
        self._size = 0
        self._file: IO[bytes] | None = None
        self._parser = self._new_parser()

    def _new_parser(self) -> MultipartParser:
        from python_multipart.multipart import MultipartParser, parse_options_header  # only for who uploads

        self._options = parse_options_header
        boundary = parse_options_header(self._content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise BadRequest("malformed form: its Content-Type names no boundary")
        try:
            parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._open,
                    "on_part_data": self._data,
                    "on_part_end": self._close,
                    "on_end": self._end,
                },
            )
        except ValueError as error:
            raise BadRequest(f"malformed form: {error}") from None
        parser.logger.setLevel(logging.ERROR)  # the client gets the error
        return parser

    def write(self, piece: bytes) -> None:
        """Take a piece of the body; raise if it is malformed, a part is too large, or the disk is full."""
        with self._lock:
            if self._removed:
                return
            try:
                self._parser.write(piece)
            except ValueError as error:
                raise BadRequest(f"malformed form: {error}") from None
            except OSError as error:
                raise room.cannot_write(str(self._folder or self._parent), error) from None

    def finish(self) -> None:
        """Raise :class:`BadRequest` unless the form was whole."""
        if not self._whole:
            raise BadRequest("malformed form: it has no end")

    def read(self, name: str) -> bytes | None:
        """Return what a part holds; None where there is no such part."""
        file = self.files.get(name)
        return None if file is None else file.read_bytes()

    def text(self, name: str) -> str | None:
        """Return the text of a part; None where there is no such part."""
        data = self.read(name)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            raise BadRequest(f"the part '{name}' is not UTF-8 text") from None

    def remove(self) -> None:
        """Remove what was written, and take no more."""
        with self._lock:
            self._removed = True
            if self._file is not None:
                with suppress(OSError):  # what it holds back may have no room
                    self._file.close()
                self._file = None
            if self._folder is not None:
                folders.remove(self._folder)
                self._folder = None

    # What the parser calls

    def _begin(self) -> None:
        self._headers.clear()
        self._header = (b"", b"")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = value
        self._header = (b"", b"")

    def _open(self) -> None:
        options = self._options(self._headers.get("content-disposition", b""))[1]
        if b"name" not in options:
            raise BadRequest("malformed form: a part has no name")
        name = options[b"name"].decode("utf-8", "replace")
        if len(self.names) < 100:
            self.names.append(name)
        if name not in self._limits or name in self.files:
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(dir=self._parent, prefix=retention.NEW))
            self._folder.chmod(0o700)
        self.files[name] = self._folder / name
        self._name, self._size = name, 0
        self._file = os.fdopen(files.create(self.files[name], os.O_WRONLY | os.O_EXCL), "wb", buffering=0)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None or self._name is None:
            return
        self._size += end - start
        if self._size > self._limits[self._name]:
            raise part_too_large(self._name, self._limits[self._name])
        left = memoryview(data)[start:end]
        while left:  # a disk that is nearly full takes a part of it
            left = left[self._file.write(left) :]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end(self) -> None:
        self._whole = True


def part_too_large(name: str, limit: int) -> TooLarge:
    """Return the error for a part over its limit."""
    why = ", the server's TaskAPIApp.max_upload" if name == "pickle" else ""
    return TooLarge(f"the part '{name}' is larger than {size(limit)}{why}")
