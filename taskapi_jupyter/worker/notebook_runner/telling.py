"""What a notebook's job says while it runs: its log, its progress. Standard library only."""

from __future__ import annotations

import json
import os
import re
from typing import Any

SOURCE_LINES = 40  # of a failing cell that the log shows
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def plain(text: str, longest: int = 200) -> str:
    """Return a text as a part of one line: without escape sequences, its white space collapsed."""
    text = " ".join(_ANSI.sub("", text).split())
    return "".join(one for one in text if one.isprintable())[:longest]


class Log:
    """The job's log, which is our standard output."""

    def __init__(self) -> None:
        self.at_start = True  # of a line

    def write(self, text: str) -> None:
        """Write a text as it is."""
        if text:
            self.at_start = text.endswith("\n")
            data = memoryview(text.encode("utf-8", "replace"))
            while data:
                data = data[os.write(1, data) :]

    def line(self, text: str) -> None:
        """Write a line of its own."""
        self.write(("" if self.at_start else "\n") + text + "\n")

    def source(self, source: str) -> None:
        """Write the lines of a cell that fails."""
        lines = source.splitlines()
        shown = [f"{number:4d} {text}" for number, text in enumerate(lines[:SOURCE_LINES], 1)]
        if len(lines) > SOURCE_LINES:
            shown.append(f"     ... {len(lines) - SOURCE_LINES} lines more")
        self.line("\n".join(shown))


class Progress:
    """``progress.json`` of the job: the cell that runs, and what its task says of its own progress at ``inner``."""

    def __init__(self, path: str, inner: str, temporary: str) -> None:
        self.path, self.inner, self.temporary = path, inner, temporary
        self.said: dict[str, Any] = {"done": 0, "total": None, "message": None}
        self.seen: object = None  # of the inner file

    def forget(self) -> None:
        """Forget what the last cell said of itself, before the next one can say anything."""
        self.seen = None
        try:
            os.unlink(self.inner)
        except OSError:
            pass

    def put(self, done: int, total: int, message: str | None, cell: dict[str, Any] | None) -> None:
        """Say how far the notebook is."""
        self.said = {"done": done, "total": total, "message": message, **({"cell": cell} if cell else {})}
        self._write(message)

    def look(self) -> None:
        """Add to the message what the cell that runs has said of itself since."""
        try:
            fd = os.open(self.inner, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                about = os.fstat(fd)
                if (about.st_ino, about.st_mtime_ns) == self.seen:
                    return
                self.seen = (about.st_ino, about.st_mtime_ns)
                inner = json.loads(file.read(1 << 16))
            done, total, message = inner["done"], inner.get("total"), inner.get("message")
            numbers = f"{done:.10g}" if total is None else f"{done:.10g}/{total:.10g}"
            text = " ".join(part for part in (numbers, plain(str(message or ""), 500)) if part)
        except (OSError, ValueError, TypeError, LookupError):
            return
        self._write(": ".join(part for part in (self.said["message"], text) if part))

    def _write(self, message: str | None) -> None:
        try:
            write(self.path, json.dumps({**self.said, "message": message}).encode(), self.temporary)
        except OSError:
            pass  # a full disk must not end the job because of a progress bar


def write(path: str, data: bytes, temporary: str) -> None:
    """Write a file that its owner alone may read, whole or not at all; ``temporary`` is a folder on the same disk."""
    part = os.path.join(temporary, os.path.basename(path) + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)
    os.rename(part, path)
