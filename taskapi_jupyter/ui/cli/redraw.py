"""Text that changes: drawn again in its place on a terminal, on a screen of its own."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_LOOK = 0.1  # seconds between two looks at the size of the terminal

# What terminals have obeyed since the VT100, and xterm's second screen.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the second screen; no cursor; long lines are cut
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


@contextmanager
def screen() -> Iterator[Callable[[str], None]]:
    """Give what draws a text over the one before. The last one stays behind on the terminal's own screen."""
    last = ""

    def draw(text: str) -> None:
        nonlocal last
        last = text
        lines, room = text.splitlines(), shutil.get_terminal_size().lines
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines"]
        sys.stdout.write(_HOME + "\n".join(f"{line}{_REST_OF_LINE}" for line in lines) + _REST)
        sys.stdout.flush()

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)  # which would leave the terminal as it is
    sys.stdout.write(_ENTER)
    try:
        yield draw
    finally:
        sys.stdout.write(_LEAVE + (f"{last}\n" if last else ""))
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)


def pause(seconds: float) -> None:
    """Sleep, but no longer than until the terminal has another size."""
    size, until = shutil.get_terminal_size(), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and shutil.get_terminal_size() == size:
        time.sleep(min(_LOOK, left))
