"""Read a log by offsets: all, its newest part, its last lines, or as it grows. Offsets are bytes as they were written.

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
    from taskapi_jupyter.core.contract import LogChunk

    Fetch = Callable[[int], LogChunk]  # from an offset on; a negative one counts from the end

FIRST_PAUSE = 0.005  # seconds
INTERVAL = 0.1  # seconds between two states of a bar at least
SHOWN = 1 << 20  # bytes of a log that are shown, the newest
REACH = 1 << 13  # bytes that are read first when looking for the last lines
MAX_REACH = 1 << 25  # and at most: what holds no line ends would have to be read whole
_ENOUGH = 1 << 20  # bytes after which a part without a line's end is taken for one long line
_END = re.compile(rb"\r*\n|\r+")
_HALF = re.compile(rb"[\x80-\xbf]{0,3}")  # what is left of a character that was cut
_DROPPED = re.compile(rb"\[\.\.\. \d+ bytes of output were dropped here \.\.\.\]\n")


def pause(waited: float, ceiling: float) -> float:
    """Return how long to sleep before looking again: a quarter of the time waited so far, within bounds."""
    return min(max(waited / 4, FIRST_PAUSE), ceiling)


def check(count: int | None) -> None:
    """Raise :class:`BadRequest` for what is no number of lines."""
    if count is not None and count < 0:
        raise BadRequest(f"tail is a number of lines, not {count}")


def text(data: bytes) -> str:
    """Return a part of a log as it is shown: each bar in its last state; what is no UTF-8 is replaced."""
    return rewritten(data.decode("utf-8", "replace"))


def left_out(count: int) -> str:
    """Return the line that stands for so many bytes."""
    return f"[... {size(count)} of output are left out here; job.logs() returns all ...]\n"


def read(fetch: Fetch, offset: int = 0) -> tuple[bytes, int, int]:
    """Read from an offset to what is the end now; return it, where it begins and where to go on."""
    chunk = fetch(offset)
    start, end, parts = chunk.offset, chunk.size, [chunk.data]
    while chunk.next < end:
        before, chunk = chunk.next, fetch(chunk.next)
        if chunk.next <= before:
            break
        parts.append(chunk.data)
    return b"".join(parts), start, chunk.next


def newest(fetch: Fetch, most: int = SHOWN) -> tuple[bytes, int, int]:
    """Read the newest bytes, from the first whole line on; return them, where they begin and where to go on."""
    data, start, after = read(fetch, -most)
    if start > 0:
        whole = whole_lines(data)
        data, start = whole, start + len(data) - len(whole)
    return data, start, after


def tail(fetch: Fetch, count: int, most: int = MAX_REACH) -> tuple[bytes, int, int]:
    """Read the last lines, backwards from the end; return them, how many bytes before them no line was found in, and
    where to go on.

    A bar is one line, whatever its length. No more than ``most`` bytes are read at a time, and less where a MiB more
    brought no line: then there are fewer lines, and the second number is not 0.
    """
    check(count)
    reach, before = REACH, -1
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
    """Return the end of a text, from a whole line on, with a line before it that says how much is left out."""
    data = written.encode("utf-8", "replace")
    if len(data) <= most:
        return written
    end = whole_lines(data[-most:])
    return left_out(len(data) - len(end)) + end.decode("utf-8", "replace")


def last_lines(written: str, count: int) -> str:
    """Return the last lines of a text, of which a bar is one."""
    found = _last(written.encode("utf-8", "replace"), count)
    return written if found is None else found.decode("utf-8")


def follow(
    fetch: Fetch, has_ended: Callable[[], bool], offset: int, ceiling: float, most: int | None = None
) -> Iterator[LogChunk | None]:
    """Yield a log's parts as they are written, and None each time that nothing new was, until nothing can follow.

    Who is more than ``most`` bytes behind goes on with so many from the end: the next part's offset tells.
    """
    ended, heard = False, time.monotonic()
    while True:
        chunk = fetch(offset)
        if most is not None and chunk.size - offset > most:
            chunk = fetch(-most)
        if chunk.next > offset:
            offset, heard = chunk.next, time.monotonic()
            yield chunk
            continue
        if ended:  # it had ended before the log was found to be read to its end
            return
        ended = has_ended()
        yield None
        if not ended:
            time.sleep(pause(time.monotonic() - heard, ceiling))


def stream(
    fetch: Fetch,
    has_ended: Callable[[], bool],
    last: int | None,
    ceiling: float,
    *,
    most: int | None = None,
    skip: bool = False,
) -> Iterator[str]:
    """Yield the log, or what follows its ``last`` lines, as it is written, until nothing can follow.

    It begins ``most`` bytes from the end at most; with ``skip``, who falls behind by more goes on there, too. A line
    says how much was left out, but where ``last`` lines are asked for.

    A piece never ends within a character, and is empty where nothing new was written; what is no UTF-8 is replaced.
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
    for chunk in follow(fetch, has_ended, offset, ceiling, most if skip else None):
        if chunk is None:
            yield ""
            continue
        data = chunk.data
        if chunk.offset > offset:  # what was dropped, or skipped, begins a line
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
    """Put pieces together to lines, without their ends; the last one may have had none.

    With ``states`` those of a bar come as they are written, ten a second at most, the last one always; without, that
    one alone. A line of more than a MiB is broken.
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
    """Yield text for a screen that obeys returns, ten times a second, without states that nobody would have seen."""
    screen, due, waiting, length = Thinned(), 0.0, [], 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if length and (length > LONG_LINE or time.monotonic() >= due):
            yield screen.feed("".join(waiting))
            waiting, length, due = [], 0, time.monotonic() + INTERVAL
    yield screen.feed("".join(waiting)) + screen.close()


def whole_lines(data: bytes) -> bytes:
    """Return a part of a log without the line that it begins within, unless nothing else is in it."""
    if _DROPPED.match(data):
        return data
    end = _END.search(data)
    rest = data[end.end() :] if end else b""
    return rest if rest.strip() else _HALF.sub(b"", data, count=1)


def _last(data: bytes, count: int) -> bytes | None:
    """Return the last lines; None where it has no more than so many, of which the first may be half a line."""
    if b"\x1b[" in data and MOVES_UP.search(written := data.decode("utf-8", "replace")):
        return _last_rows(written, count)
    unfinished = seen(data.rpartition(b"\n")[2].decode("utf-8", "replace"))
    ends = count if unfinished else count + 1
    parts = data.rsplit(b"\n", ends)
    return data[len(parts[0]) + 1 :] if len(parts) > ends else None


def _last_rows(written: str, count: int) -> bytes | None:
    """Do so where the cursor moves up: return the last rows, and put the cursor where it was."""
    screen = Screen(whole=True)
    screen.feed(written)
    rows = count if seen(screen.rows[-1]) else count + 1
    if len(screen.rows) <= rows:
        return None
    up = f"\x1b[{screen.below}A\r" if screen.below else ""
    return ("\n".join(screen.rows[len(screen.rows) - rows :]) + up).encode("utf-8", "replace")
