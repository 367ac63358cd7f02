"""Read a log by offsets: all, its last lines, or as it grows. Offsets are bytes as they were written."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .contract import LogChunk

    Fetch = Callable[[int], LogChunk]  # from an offset on; a negative one counts from the end

FIRST_PAUSE = 0.005  # seconds
REACH = 1 << 13  # bytes that are read first when looking for the last lines
MAX_REACH = 1 << 25  # and at most: what holds no line ends would have to be read whole


def pause(waited: float, ceiling: float) -> float:
    """Return how long to sleep before looking again: a quarter of the time waited so far, within bounds."""
    return min(max(waited / 4, FIRST_PAUSE), ceiling)


def read(fetch: Fetch, offset: int = 0) -> tuple[bytes, int, int]:
    """Read from an offset to what is the end now; return it, where it begins and where to go on."""
    chunk = fetch(offset)
    start, size, parts = chunk.offset, chunk.size, [chunk.data]
    while chunk.next < size:
        before, chunk = chunk.next, fetch(chunk.next)
        if chunk.next <= before:
            break
        parts.append(chunk.data)
    return b"".join(parts), start, chunk.next


def tail(fetch: Fetch, count: int) -> tuple[bytes, int]:
    """Read the last lines, backwards from the end; return them and where to go on."""
    reach = REACH
    while True:
        data, start, after = read(fetch, -reach)
        lines = data.split(b"\n")  # not splitlines: a carriage return rewrites a line
        whole = len(lines) - (not lines[-1])
        if start <= 0 or whole > count or reach >= MAX_REACH:  # the first one of too many may be half a line
            skipped = sum(len(line) + 1 for line in lines[: max(whole - count, 0)])
            return data[skipped:], after
        reach *= 4


def stream(fetch: Fetch, has_ended: Callable[[], bool], last: int | None, ceiling: float) -> Iterator[str]:
    """Yield the log, or what follows its ``last`` lines, as it is written, until nothing can follow.

    A piece never ends within a character; what is no UTF-8 is replaced.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    data, offset = (b"", 0) if last is None else tail(fetch, last)
    ended, heard = False, time.monotonic()
    while True:
        if text := decoder.decode(data):
            yield text
        chunk = fetch(offset)
        if chunk.next > offset:
            data, offset, heard = chunk.data, chunk.next, time.monotonic()
            continue
        data = b""
        if ended:  # it had ended before the log was found to be read to its end
            break
        ended = has_ended()
        if not ended:
            time.sleep(pause(time.monotonic() - heard, ceiling))
    if text := decoder.decode(b"", final=True):
        yield text


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """Put pieces together to lines, without their ends; the last one may have had none."""
    rest: list[str] = []
    for piece in pieces:
        first, *more = piece.split("\n")
        rest.append(first)
        for line in more:
            yield "".join(rest)
            rest = [line]
    if final := "".join(rest):
        yield final
