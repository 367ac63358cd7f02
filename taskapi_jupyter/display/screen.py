"""What a terminal shows of text: lines that rewrite themselves, as progress bars do, and a cursor that moves up."""

from __future__ import annotations

import re
import sys

#: A control sequence: with ``m``, colours; or titles, links and the like, with their text.
SEQUENCE = re.compile(
    r"\x1b(?:\[([0-9;:<=>?]*)[ -/]*([@-~])"
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"
    r"|[ -/]*(?:[0-~]|$))"
)
LONG_LINE = 1 << 20  # characters; a longer line is broken where lines are returned one by one
_LONGEST = 32  # characters of an unfinished sequence that is held back
_DEEPEST = 100  # rows above the last that are kept for a cursor that moves up
_UP = r"\x1b\[[0-9]{0,4}[AF]"
_MOVE = re.compile(rf"(\r*\n|\r+|{_UP})")
MOVES_UP = re.compile(_UP)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:<=>?]*)?[ -/]*\Z")


def rewritten(text: str) -> str:
    """Return what a terminal would show at the end; a progress bar that was erased stays in its last state."""
    if not _rewrites(text):
        return text
    screen = Screen(whole=True)
    screen.feed(text)
    return "\n".join(screen.rows)


def seen(text: str) -> bool:
    """Whether a text has a visible character."""
    bare = SEQUENCE.sub("", text) if "\x1b" in text else text
    return bool(bare) and not bare.isspace()


class Screen:
    """Takes text piece by piece. Each row holds the last visible state of its line.

    :meth:`feed` returns the rows that are finished, and keeps only those that a cursor may move up to; with ``whole``
    it keeps all rows.
    """

    def __init__(self, whole: bool = False) -> None:
        self.rows = [""]
        self._told: list[str | None] = [None]  # what was returned as a state of each row
        self._at = 0
        self._version = ""  # what was written to the row since the last return
        self._shows = False  # whether that is what the row holds
        self._returned = False
        self._states: dict[int, str] = {}  # by row, the newest state that is whole
        self._held = ""
        self._above = sys.maxsize if whole else 0  # rows above the last that may be rewritten

    @property
    def below(self) -> int:
        """The number of rows below the cursor."""
        return len(self.rows) - 1 - self._at

    def feed(self, text: str) -> str:
        """Take text; return the rows that it finishes, each with a newline, except what was returned as a state."""
        text, self._held = _whole(self._held + text)
        if not self._above and not _rewrites(text):
            first, last = text.find("\n"), text.rfind("\n") + 1
            if not last:
                return self._write(text)
            return "".join([self._write(text[:first]), self._down(), text[first + 1 : last], self._write(text[last:])])
        parts = []
        for index, part in enumerate(_MOVE.split(text)):
            if index % 2 == 0:
                parts.append(self._write(part))
            elif part[-1] == "\n":
                parts.append(self._down())
            else:
                self._states[self._at] = self.rows[self._at]
                self._version, self._shows = "", False
                self._returned = True
                if part[-1] != "\r":
                    self._up(int(part[2:-1] or 1))
        return "".join(parts)

    def states(self, *, idle: bool = False) -> list[str]:
        """Return each bar's newest complete state that was not returned yet; when ``idle``, incomplete ones, too."""
        found = sorted(self._states.items())
        if idle:
            found = [(at, row) for at, row in enumerate(self.rows) if at != self._at or self._returned]
        self._states = {}
        states = [(at, row) for at, row in found if seen(row) and row != self._told[at]]
        for at, row in states:
            self._told[at] = row
        return [row for _, row in states]

    def close(self) -> str:
        """Return the rows that were not returned yet, the last one without a newline."""
        self._write(self._held)
        self._held = ""
        if self.rows[-1] in ("", self._told[-1]):
            del self.rows[-1], self._told[-1]
        rows = [row for row, told in zip(self.rows, self._told, strict=True) if row != told]
        self.rows, self._told, self._at, self._version, self._states = [""], [None], 0, "", {}
        self._shows = False
        return "\n".join(rows)

    def trim(self, rows: int, size: int) -> bool:
        """Keep at most ``rows`` of the newest rows and ``size`` characters; return whether anything was dropped."""
        keep, room = 0, size
        while keep < min(rows, len(self.rows)) and (room := room - len(self.rows[-1 - keep]) - 1) >= 0:
            keep += 1
        dropped = len(self.rows) - max(keep, 1)
        del self.rows[:dropped], self._told[:dropped]
        self._at = max(self._at - dropped, 0)
        self._states = {}
        cut = len(self.rows[0]) > size
        if cut:
            self.rows[0], self._version = self.rows[0][-size:], self._version[-size:]
        return cut or dropped > 0

    def _write(self, text: str) -> str:
        """Write at the cursor; return the line where it becomes too long."""
        if not text:
            return ""
        self._version += text
        if self._shows or not self.rows[self._at] or seen(self._version):
            self.rows[self._at], self._shows = self._version, True
        if self._above or len(self._version) <= LONG_LINE:
            return ""
        line, self._version = f"{self._version}\n", ""
        self.rows[self._at] = self._told[self._at] = ""  # all of it is returned
        return line

    def _down(self) -> str:
        """Move to the next row; return those that are finished."""
        self._at += 1
        self._version, self._shows = "", False
        self._returned = False
        if self._at < len(self.rows):
            return ""
        self.rows.append("")
        self._told.append(None)
        done = ""
        while len(self.rows) - 1 > self._above:
            row, told = self.rows.pop(0), self._told.pop(0)
            self._at -= 1
            self._states = {at - 1: state for at, state in self._states.items() if at}
            if row != told:
                done += f"{row}\n"
        return done

    def _up(self, by: int) -> None:
        self._at = max(self._at - by, 0)
        self._above = max(self._above, min(by, _DEEPEST))


class Thinned:
    """Drops states of lines that were overwritten before anybody could see them; the screen ends up the same."""

    def __init__(self) -> None:
        self._width = 0  # of what stands in the line, in characters
        self._returned = False  # a return is due, where something follows
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what to write to the screen."""
        text, rest = _whole(self._held + text)
        self._held = ""
        out = self._thinned(text)
        self._held += rest
        return out

    def close(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return held

    def _thinned(self, text: str) -> str:
        if "\r" not in text and not self._returned:
            rest = text.rpartition("\n")
            self._width = _width(rest[2]) + (0 if rest[1] else self._width)
            return text
        *lines, last = text.split("\n")
        return "".join([*(self._line(line) + self._end() for line in lines), self._line(last, last=True)])

    def _end(self) -> str:
        self._width, self._returned = 0, False
        return "\n"

    def _line(self, line: str, last: bool = False) -> str:
        """Return the last state of a line, with what replaces the one on the screen."""
        if MOVES_UP.search(line):
            begun = "\r" if self._returned else ""
            self._width, self._returned = 0, False
            return begun + line
        versions = line.split("\r")
        if last and versions[-1] and not seen(versions[-1]):  # half a sequence, or padding in front of a text
            held = versions.pop()
            self._held = ("\r" if versions or self._returned else "") + held
        at = next((at for at in reversed(range(len(versions))) if seen(versions[at])), None)
        if at is None:
            rest = versions[0] if len(versions) == 1 and not self._returned else ""
            self._width += _width(rest)
            self._returned = self._returned or len(versions) > 1
            return rest
        chosen, width = versions[at], _width(versions[at])
        if at or self._returned:
            wipe = f"{' ' * self._width}\r" if width < self._width else ""
            chosen, self._width = f"\r{wipe}{chosen}", width
        else:
            self._width += width
        self._returned = at < len(versions) - 1
        return chosen


def _whole(text: str) -> tuple[str, str]:
    """Return text with plain line ends, and the unfinished sequence at its end."""
    cut = _UNFINISHED.search(text, max(len(text) - _LONGEST, 0))
    text, rest = (text[: cut.start()], cut[0]) if cut else (text, "")
    return (text.replace("\r\n", "\n") if "\r" in text else text), rest  # checking for one character first is faster


def _rewrites(text: str) -> bool:
    return "\r" in text or ("\x1b" in text and MOVES_UP.search(text) is not None)


def _width(text: str) -> int:
    return len(SEQUENCE.sub("", text) if "\x1b" in text else text)
