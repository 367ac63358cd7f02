"""A job's log on disk: written by its watcher, read by anyone. Standard library only.

``log`` holds the head, ``log.<offset>`` each newer part; the oldest parts after the head are deleted when the log
passes its bound. A part's name says at which offset of the output it begins, so no record of what was dropped is
needed, and a crash can't make one wrong. Offsets count what the task wrote, not what was kept.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

from taskapi_jupyter.core import files

T = TypeVar("T")


class LogWriter:
    """Appends output to a job's log and keeps it within ``bound`` bytes (0: no bound).

    ``go_on``: append to the log that is there.
    """

    def __init__(self, folder: str, bound: int, *, go_on: bool = False) -> None:
        self.folder = folder
        self.bound = bound
        self.part_size = max(bound // 8, 1)
        self.head_size = max(bound // 4, 1)
        self.offset = 0
        self.parts: list[str] = []
        self.room = self.head_size
        self.gap = False  # whether output was skipped since the last part began
        there = _parts(folder) if go_on else []
        if there:
            begin, self.offset, path = there[-1]
            self.parts = [os.path.basename(one) for _, _, one in there[1:]]
            self.room = (self.part_size if self.parts else self.head_size) - (self.offset - begin)
            self.file = files.create(path, os.O_WRONLY | os.O_APPEND)
        else:
            self.file = self._open("log")

    def _open(self, name: str) -> int:
        return files.create(os.path.join(self.folder, name), os.O_WRONLY | os.O_TRUNC)

    def write(self, data: bytes) -> None:
        """Append; raise OSError where the disk has no room, having kept what fitted."""
        view = memoryview(data)
        while view:
            if self.gap or (self.bound and self.room <= 0):
                self._next_part()
            piece = view[: self.room] if self.bound else view
            written = os.write(self.file, piece)
            self.offset += written
            self.room -= written
            view = view[written:]

    def skip(self, size: int) -> None:
        """Count output that could not be written: the next part begins after it."""
        self.offset += size
        self.gap = True

    def _next_part(self) -> None:
        name = f"log.{self.offset:020d}"
        if self.parts and self.room == self.part_size:  # still empty, as the disk is full: it begins later
            os.rename(os.path.join(self.folder, self.parts[-1]), os.path.join(self.folder, name))
            self.parts[-1] = name
            self.gap = False
            return
        file = self._open(name)
        os.close(self.file)
        self.file = file
        self.parts.append(name)
        self.room = self.part_size
        self.gap = False
        while self.bound and len(self.parts) > max((self.bound - self.head_size) // self.part_size, 1):
            try:
                os.unlink(os.path.join(self.folder, self.parts.pop(0)))
            except FileNotFoundError:
                pass

    def close(self) -> None:
        """Close the log; raise OSError where the disk has no room to say what was skipped last."""
        try:
            if self.gap:
                self._next_part()
        finally:
            os.close(self.file)


def _parts(folder: str) -> list[tuple[int, int, str]]:
    """Return ``(begin, end, path)`` of what is kept, in order."""
    parts = []
    for name in os.listdir(folder):
        if name == "log":
            begin = 0
        elif name.startswith("log.") and name.isascii() and name[4:].isdigit():
            begin = int(name[4:])
        else:
            continue
        path = os.path.join(folder, name)
        about = os.lstat(path)
        if stat.S_ISREG(about.st_mode):  # a task may have put a link here, or a FIFO, which would hold its reader
            parts.append((begin, begin + about.st_size, path))
    return sorted(parts)


def size(folder: str) -> int:
    """Return how many bytes were written in all; 0 where there is no log yet."""
    return _retry(folder, lambda parts: parts[-1][1] if parts else 0)


def read(folder: str, offset: int = 0, limit: int = 1 << 20) -> tuple[bytes, int, int, int]:
    """Return ``(data, offset, next, size)`` of a part of the log; a negative offset counts from the end.

    Where the offset lies in what was dropped, ``data`` begins with a line that says so, which counts for nothing, and
    goes on with the first byte that was kept after it.
    """

    def one(parts: list[tuple[int, int, str]]) -> tuple[bytes, int, int, int]:
        total = parts[-1][1] if parts else 0
        begin = max(total + offset, 0) if offset < 0 else min(offset, total)
        marker = b""
        data = b""
        for index, (first, end, path) in enumerate(parts):
            if end <= begin + len(data):
                continue
            if first > begin + len(data):
                if data or marker:
                    break  # the gap is told about when a reader comes to it
                dropped_from = parts[index - 1][1] if index else 0
                marker = f"[... {first - dropped_from} bytes of output were dropped here ...]\n".encode()
                begin = first
            with open(files.open_plain(path), "rb") as file:
                file.seek(begin + len(data) - first)
                data += file.read(limit - len(data))
            if len(data) >= limit:
                break
        return marker + data, begin, begin + len(data), max(total, begin + len(data))

    return _retry(folder, one)


def _retry(folder: str, use: Callable[[list[tuple[int, int, str]]], T]) -> T:
    """Call ``use`` with the parts, again when the writer dropped one in between."""
    for _ in range(20):
        try:
            return use(_parts(folder))
        except FileNotFoundError:
            if not os.path.isdir(folder):
                break
    return use([])
