"""What a job aboard a cluster's node says of itself, in the midst of its output. Standard library only.

The cluster carries one stream of text for a job, its log. A frame in it is a control character and a word that only
this job and its engine know, then a JSON object, and ends with its line; all else is the task's output, byte by byte.
A task that prints what looks like a frame does not know the word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_BEGIN = b"\x1e"
_LONGEST = 1 << 16  # bytes of a frame


def frame(word: str, value: dict[str, Any]) -> bytes:
    """Return a frame; ``value`` has one key, which says what it is: begin, skip, progress or outcome."""
    return _BEGIN + word.encode() + json.dumps(value).encode() + b"\n"


class Reader:
    """Takes a stream apart. What comes before the frame ``begin`` is the cluster's own and is left out."""

    def __init__(self, word: str) -> None:
        self._mark = _BEGIN + word.encode()
        self._held = b""
        self._begun = False
        self._skipping = False  # to the end of a frame that is too long to be one

    def feed(self, data: bytes) -> Iterator[bytes | dict[str, Any]]:
        """Yield the output and the frames that are whole by now, in order."""
        self._held += data
        while True:
            if self._skipping:
                end = self._held.find(b"\n")
                self._held = self._held[end + 1 :] if end >= 0 else b""
                if end < 0:
                    return
                self._skipping = False
            at = self._held.find(self._mark)
            if at < 0:
                sure = len(self._held) - self._overlap()
                yield from self._output(self._held[:sure])
                self._held = self._held[sure:]
                return
            yield from self._output(self._held[:at])
            self._held = self._held[at:]
            end = self._held.find(b"\n")
            if end < 0 and len(self._held) < _LONGEST:
                return
            if end < 0 or end > _LONGEST:
                self._skipping = True
                continue
            text, self._held = self._held[len(self._mark) : end], self._held[end + 1 :]
            try:
                value = json.loads(text)
            except ValueError:
                continue
            if isinstance(value, dict):
                self._begun = self._begun or "begin" in value
                yield value

    def _output(self, data: bytes) -> Iterator[bytes]:
        if data and self._begun:
            yield data

    def _overlap(self) -> int:
        """Return how many bytes at the end may be the beginning of a frame."""
        for size in range(min(len(self._mark) - 1, len(self._held)), 0, -1):
            if self._mark.startswith(self._held[-size:]):
                return size
        return 0
