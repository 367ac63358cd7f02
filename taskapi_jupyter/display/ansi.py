"""Text that was meant for a terminal, as HTML: its colours, its rewritten lines, nothing else that it would obey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from .screen import SEQUENCE, rewritten

# Medium tones, the bright ones alike: each stands out from white and from a dark theme's near-black by about 4:1.
_COLOURS = ("#777777", "#d23c3c", "#218739", "#96700a", "#2f74d8", "#a94bc4", "#0f8080", "#777777")
_LEVELS = (0, 95, 135, 175, 215, 255)
_GOAL = 0.19  # luminance at which a colour can be read on white and on near-black

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)

RGB = tuple[int, int, int]


class _Style:
    """The colours and the weight that text has from here on."""

    def __init__(self) -> None:
        self.front: str | RGB | None = None
        self.back: str | RGB | None = None
        self.on: set[str] = set()

    def css(self) -> str:
        """Return it as declarations."""
        front, back = self.front, self.back
        if "inverse" in self.on:
            front, back = back or (255, 255, 255), front or (110, 110, 110)
        rules = []
        if back is not None:
            rules.append(f"background:{_hex(back)}")
            rules.append(f"color:{_hex(front) if front is not None else _contrast(back)}")
        elif front is not None:
            rules.append(f"color:{front if isinstance(front, str) else _readable(front)}")
        rules += [css for name, css in _WEIGHTS.items() if name in self.on]
        lines = [name for name in ("underline", "line-through") if name in self.on]
        if lines:
            rules.append(f"text-decoration:{' '.join(lines)}")
        return ";".join(rules)

    def obey(self, parameters: str) -> None:
        """Follow one sequence, such as ``1;31``; what is not known changes nothing."""
        codes = iter([int(code) if code.isdigit() else 0 for code in re.split("[;:]", parameters)[:32]])
        for code in codes:
            if code == 0:
                self.front, self.back, self.on = None, None, set()
            elif code in _ON:
                self.on.add(_ON[code])
            elif code in _OFF:
                self.on -= _OFF[code]
            elif code in (38, 48):
                self._take(code, _chosen(codes))
            elif code in (39, 49):
                self._take(code, None)
            elif code in (30, 37, 97):
                self.front = None  # black and white are the theme's to choose
            elif 30 <= code <= 37 or 90 <= code <= 97:
                self.front = _COLOURS[code % 10]
            elif 40 <= code <= 47 or 100 <= code <= 107:
                self.back = _COLOURS[code % 10]

    def _take(self, code: int, colour: str | RGB | None) -> None:
        if code in (38, 39):
            self.front = colour
        else:
            self.back = colour


_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "line-through"}
_OFF = {22: {"bold", "dim"}, 23: {"italic"}, 24: {"underline"}, 27: {"inverse"}, 29: {"line-through"}}
_WEIGHTS = {"bold": "font-weight:600", "dim": "opacity:.7", "italic": "font-style:italic"}


def ansi_html(text: str) -> str:
    """Return a log's text as escaped HTML, in spans where it is coloured."""
    parts, style = [], _Style()
    for line in rewritten(text).split("\n"):
        pieces = []
        for words, parameters in _pieces(line):
            if words:
                css, safe = style.css(), escape(_UNSEEN.sub(_spelt, words))
                pieces.append(f'<span style="{css}">{safe}</span>' if css else safe)
            if parameters is not None:
                style.obey(parameters)
        parts.append("".join(pieces))
    return "\n".join(parts)


def _pieces(line: str) -> Iterator[tuple[str, str | None]]:
    """Yield text, with the parameters of the colours that follow it."""
    at = 0
    for found in SEQUENCE.finditer(line):
        yield line[at : found.start()], (found[1] or "0") if found[2] == "m" else None
        at = found.end()
    yield line[at:], None


def _spelt(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _chosen(codes: Iterator[int]) -> str | RGB | None:
    """Read a colour of 256 or of all."""
    kind = next(codes, 0)
    if kind == 5:
        number = min(next(codes, 0), 255)
        if number < 16:
            return None if number in (0, 7, 15) else _COLOURS[number % 8]
        if number >= 232:
            return (8 + 10 * (number - 232),) * 3
        number -= 16
        return _LEVELS[number // 36], _LEVELS[number // 6 % 6], _LEVELS[number % 6]
    if kind == 2:
        red, green, blue = (min(next(codes, 0), 255) for _ in range(3))
        return red, green, blue
    return None


def _rgb(colour: str | RGB) -> RGB:
    if isinstance(colour, str):
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
    return colour


def _hex(colour: str | RGB) -> str:
    return colour if isinstance(colour, str) else "#{:02x}{:02x}{:02x}".format(*colour)


def luminance(colour: str | RGB) -> float:
    """Return how bright a colour is, from 0 to 1, as WCAG has it."""
    parts = [part / 255 for part in _rgb(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(back: str | RGB) -> str:
    return "#000000" if luminance(back) > _GOAL else "#ffffff"


def _readable(colour: RGB) -> str:
    """Mix a colour with black or white until it can be read in either theme."""
    bright = luminance(colour)
    if 0.16 <= bright <= 0.22:
        return _hex(colour)
    goal, low, high = (0 if bright > _GOAL else 255), 0.0, 1.0
    mixed = colour
    for _ in range(8):
        share = (low + high) / 2
        red, green, blue = (round(part + (goal - part) * share) for part in colour)
        mixed = (red, green, blue)
        if (luminance(mixed) > _GOAL) == (goal == 0):
            low = share
        else:
            high = share
    return _hex(mixed)
