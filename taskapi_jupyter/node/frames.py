"""Frames: what a job on a cluster's node reports of itself in the midst of its output. Standard library only.

The cluster carries one stream of text for a job, its log. A frame in it is a control character and a marker that only
this job and its engine know, then a JSON object, up to the end of the line; all else is the task's output, byte by
byte. A task that prints what looks like a frame does not know the marker.

Some of the cluster's APIs carry text only and change line ends: output that they would change goes in frames, too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from taskapi_jupyter.core import nesting

_BEGIN = b"\x1e"
_LONGEST = 1 << 16  # bytes of a frame
_PIECE = 24 << 10  # bytes of output in one
_FEW = 20  # bytes of other output, to each of those that need frames, for these to be framed one by one
_ODD = re.compile("([\r\udc80-\udcff]+)")


def frame(marker: str, value: dict[str, Any]) -> bytes:
    """Return a frame; ``value`` has one key: begin, output, skip, progress, metrics, alive, storing, outcome or end."""
    return _BEGIN + marker.encode() + json.dumps(value).encode() + b"\n"


def output(marker: str, data: bytes) -> bytes:
    """Return output as it goes into the stream: UTF-8 without carriage returns as it is, all else in frames."""
    text = data.decode("utf-8", "surrogateescape")
    odd = _ODD.findall(text)
    if sum(map(len, odd)) * _FEW > len(data):
        return b"".join(_framed(marker, data[at : at + _PIECE]) for at in range(0, len(data), _PIECE))
    if not odd:
        return data
    return b"".join(
        _framed(marker, piece) if _ODD.match(part) else piece
        for part in _ODD.split(text)
        if (piece := part.encode("utf-8", "surrogateescape"))
    )


def _framed(marker: str, data: bytes) -> bytes:
    return frame(marker, {"output": base64.b64encode(data).decode()})


class Reader:
    """Takes a stream apart. What comes before the frame ``begin`` is the cluster's own and is left out."""

    def __init__(self, marker: str) -> None:
        self._mark = _BEGIN + marker.encode()
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
                value = nesting.loads(text)
            except ValueError:
                continue
            if isinstance(value, dict) and isinstance(value.get("output"), str):
                yield from self._output(base64.b64decode(value["output"]))
            elif isinstance(value, dict):
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
