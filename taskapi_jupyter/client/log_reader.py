"""Read a log by offset: all, its newest part, its last lines, or as it grows. Offsets count bytes as written.

A line ends at ``\\n``, ``\\r\\n`` or ``\\r``; what only a ``\\r`` ends are the states of one line that rewrites itself.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from taskapi_jupyter.core.errors import BadRequest, size
from taskapi_jupyter.display.screen import LONG_LINE, MOVES_UP, Screen, Thinned, rewritten, seen

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from taskapi_jupyter.core.contract import LogChunk

    Fetch = Callable[[int], LogChunk]  # from an offset on; a negative one counts from the end
    #: Sleeps until there may be more than an offset, or the job has ended; given that and the seconds without news.
    Pauses = AbstractContextManager[Callable[[int, float], None]]

FIRST_PAUSE = 0.005  # seconds
INTERVAL = 0.1  # seconds between two states of a bar at least
SHOWN = 1 << 20  # bytes of a log that are shown, the newest
REACH = 1 << 13  # bytes that are read first to find the last lines
MAX_REACH = 1 << 25  # bytes that are read at most for that: a log without line ends would be read whole
_ENOUGH = 1 << 20  # bytes without a line end that count as one long line
_END = re.compile(rb"\r*\n|\r+")
_HALF = re.compile(rb"[\x80-\xbf]{0,3}")  # the rest of a character that was cut
_DROPPED = re.compile(rb"\[\.\.\. \d+ bytes of output were dropped here \.\.\.\]\n")


def pause(waited: float, ceiling: float) -> float:
    """Return how long to sleep before looking again: a quarter of the time waited so far, within bounds."""
    return min(max(waited / 4, FIRST_PAUSE), ceiling)


def check(count: int | None) -> None:
    """Raise :class:`BadRequest` for a negative number of lines."""
    if count is not None and count < 0:
        raise BadRequest(f"tail must be a number of lines, 0 or more, not {count}")


def text(data: bytes) -> str:
    """Return a part of a log as it is shown: progress bars in their last state, invalid UTF-8 replaced."""
    return rewritten(data.decode("utf-8", "replace"))


def left_out(count: int) -> str:
    """Return the line that replaces so many bytes."""
    return f"[... {size(count)} of output are left out here; job.logs() returns all ...]\n"


def read(fetch: Fetch, offset: int = 0) -> tuple[bytes, int, int]:
    """Read from an offset to the present end; return the bytes, their offset, and the offset to go on from."""
    chunk = fetch(offset)
    start, end, parts = chunk.offset, chunk.size, [chunk.data]
    while chunk.next < end:
        before, chunk = chunk.next, fetch(chunk.next)
        if chunk.next <= before:
            break
        parts.append(chunk.data)
    return b"".join(parts), start, chunk.next


def newest(fetch: Fetch, most: int = SHOWN) -> tuple[bytes, int, int]:
    """Read the newest bytes, from a whole line on; return them, their offset, and the offset to go on from."""
    data, start, after = read(fetch, -most)
    if start > 0:
        whole = whole_lines(data)
        data, start = whole, start + len(data) - len(whole)
    return data, start, after


def tail(fetch: Fetch, count: int, most: int = MAX_REACH, first: int = REACH) -> tuple[bytes, int, int]:
    """Read the last lines; return them, how many bytes before them were not searched, and the offset to go on from.

    A progress bar is one line, whatever its length. ``first`` bytes are searched, then more: at most
    ``most``, and fewer if another MiB contains no line end; then there are fewer lines, and the second number is not 0.
    """
    check(count)
    reach, before = first, -1
    while True:
        data, start, after = read(fetch, -reach)
        ends = data.count(b"\n")
        last = _last(data, count) if ends >= count else None
        stuck = reach >= _ENOUGH and (ends == before or (last is None and ends >= count))
        if start <= 0 or last is not None or reach >= most or stuck:
            break
        reach, before = min(reach * 4, most), ends
    if last is None and start > 0:
        last = whole_lines(data)
        return last, start + len(data) - len(last), after
    return data if last is None else last, 0, after


def newest_text(written: str, most: int = SHOWN) -> str:
    """Return the end of a text, from a whole line on, after a line that says how much was left out."""
    data = written.encode("utf-8", "replace")
    if len(data) <= most:
        return written
    end = whole_lines(data[-most:])
    return left_out(len(data) - len(end)) + end.decode("utf-8", "replace")


def last_lines(written: str, count: int) -> str:
    """Return the last lines of a text; a progress bar is one line."""
    found = _last(written.encode("utf-8", "replace"), count)
    return written if found is None else found.decode("utf-8")


def follow(
    fetch: Fetch, has_ended: Callable[[], bool], offset: int, pauses: Pauses, most: int | None = None
) -> Iterator[LogChunk | None]:
    """Yield a log's parts as they are written, and None each time that nothing is new, until the log is complete.

    A reader that is more than ``most`` bytes behind skips to the last ``most``: the next part's offset shows that.
    """
    ended, heard = False, time.monotonic()
    with pauses as sleep:
        while True:
            chunk = fetch(offset)
            if most is not None and chunk.size - offset > most:
                chunk = fetch(-most)
            if chunk.next > offset:
                offset, heard = chunk.next, time.monotonic()
                yield chunk
                continue
            if ended:  # the job had ended before the log was read to its end
                return
            ended = has_ended()
            yield None
            if not ended:
                sleep(offset, time.monotonic() - heard)


def stream(
    fetch: Fetch,
    has_ended: Callable[[], bool],
    last: int | None,
    pauses: Pauses,
    *,
    most: int | None = None,
    skip: bool = False,
) -> Iterator[str]:
    """Yield the log, or its ``last`` lines and what follows, as it is written, until it is complete.

    It begins at most ``most`` bytes from the end; with ``skip``, a reader that falls behind by more skips, too. A line
    says how much was left out, except before the ``last`` lines.

    A piece never ends within a character, and is empty where nothing is new; invalid UTF-8 is replaced.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    data, offset = b"", 0
    if last is not None:
        data, _, offset = tail(fetch, last, MAX_REACH if most is None else most)
    elif most is not None:
        data, start, offset = newest(fetch, most)
        if start:
            yield left_out(start)
    piece = decoder.decode(data)
    yield piece
    ended = piece.endswith("\n") or not piece
    for chunk in follow(fetch, has_ended, offset, pauses, most if skip else None):
        if chunk is None:
            yield ""
            continue
        data = chunk.data
        if chunk.offset > offset:  # after dropped or skipped output, a new line begins
            piece = decoder.decode(b"", final=True) + ("" if ended else "\n")
            decoder.reset()
            if not _DROPPED.match(data):
                whole = whole_lines(data)
                piece += left_out(chunk.offset - offset + len(data) - len(whole))
                data = whole
            yield piece
        offset = chunk.next
        if piece := decoder.decode(data):
            yield piece
            ended = piece.endswith("\n")
    if piece := decoder.decode(b"", final=True):
        yield piece


def lines(pieces: Iterable[str], *, states: bool = True) -> Iterator[str]:
    """Yield the lines of a text that comes in pieces, without their ends.

    With ``states``, the states of a progress bar are lines, at most ten a second and always the last one; without, only
    the last one is. A line of more than 1 MiB is broken.
    """
    screen, heard, due = Screen(), time.monotonic(), 0.0
    for piece in pieces:
        yield from screen.feed(piece).split("\n")[:-1]
        now = time.monotonic()
        heard = now if piece else heard
        if states and now >= due and (found := screen.states(idle=now - heard >= INTERVAL)):
            due = now + INTERVAL
            yield from found
    if rest := screen.close():
        yield from rest.split("\n")


def live(pieces: Iterable[str]) -> Iterator[str]:
    """Yield text for a terminal ten times a second, without states of lines that nobody could have seen."""
    screen, due, waiting, length = Thinned(), 0.0, [], 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length and (length > LONG_LINE or time.monotonic() >= due):
            yield screen.feed("".join(waiting))
            waiting, length, due = [], 0, time.monotonic() + INTERVAL
    yield screen.feed("".join(waiting)) + screen.close()


def whole_lines(data: bytes) -> bytes:
    """Return a part of a log without the incomplete line that it begins with, unless there is no other."""
    if _DROPPED.match(data):
        return data
    end = _END.search(data)
    rest = data[end.end() :] if end else b""
    return rest if rest.strip() else _HALF.sub(b"", data, count=1)


def _last(data: bytes, count: int) -> bytes | None:
    """Return the last lines; None where there are no more than ``count``, of which the first may be incomplete."""
    if b"\x1b[" in data and MOVES_UP.search(written := data.decode("utf-8", "replace")):
        return _last_rows(written, count)
    unfinished = seen(data.rpartition(b"\n")[2].decode("utf-8", "replace"))
    ends = count if unfinished else count + 1
    parts = data.rsplit(b"\n", ends)
    return data[len(parts[0]) + 1 :] if len(parts) > ends else None


def _last_rows(written: str, count: int) -> bytes | None:
    """Do so where the cursor moves up: return the last rows, then move the cursor where it was."""
    screen = Screen(whole=True)
    screen.feed(written)
    rows = count if seen(screen.rows[-1]) else count + 1
    if len(screen.rows) <= rows:
        return None
    up = f"\x1b[{screen.below}A\r" if screen.below else ""
    return ("\n".join(screen.rows[len(screen.rows) - rows :]) + up).encode("utf-8", "replace")
