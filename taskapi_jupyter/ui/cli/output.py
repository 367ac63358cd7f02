"""The program's output: one JSON document, or text, drawn for a terminal; notes and errors on standard error."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import msgspec

from taskapi_jupyter.display import clean

from . import redraw


class Look(NamedTuple):
    """How text is printed."""

    colour: bool
    short: bool  # ids by their last digits
    width: int | None  # of tables; None: the terminal's


Answer = tuple[Any, Callable[[Look], str]]  # what `-o json` prints, and what makes the text

#: ``wide`` cuts nothing; ``pretty`` and ``mixed`` are Cortex's: text, and (0.28) text with JSON between two marks.
FORMS = ("table", "wide", "json", "pretty", "mixed")
_MARK = "~~cortex~~"
_WATCH = 2.0  # seconds between two refreshes, as in Cortex


def show(options: argparse.Namespace, read: Callable[[], Answer]) -> None:
    """Print an answer; with ``--watch``, read it again and again until interrupted.

    It is drawn in its place on a terminal, and printed whenever it has changed elsewhere.
    """
    if not getattr(options, "watch", False):
        _print(options, *read())
        return
    if options.output in ("table", "wide", "pretty") and _obeys(sys.stdout):
        with redraw.screen() as draw:
            while True:
                draw(read()[1](_look(options)))
                redraw.pause(_WATCH)
    before = None
    while True:
        value, text = read()
        if (now := _state(msgspec.to_builtins(value))) != before:
            _print(options, value, text)
            sys.stdout.flush()
        before = now
        time.sleep(_WATCH)


def _print(options: argparse.Namespace, value: Any, text: Callable[[Look], str]) -> None:
    if options.output == "json":
        show_json(value)
        return
    words = text(_look(options))
    print(_with_json(words, value) if options.output == "mixed" else words)


def _look(options: argparse.Namespace) -> Look:
    wide = options.output == "wide"
    return Look(coloured(sys.stdout), not wide and _obeys(sys.stdout), 1 << 16 if wide else None)


def _state(value: Any) -> Any:
    """Return what counts as a change: all but what grows while a job runs."""
    if isinstance(value, dict):
        return {key: _state(one) for key, one in value.items() if key != "usage"}
    return [_state(one) for one in value] if isinstance(value, list) else value


def done(message: str, what: str = "") -> Answer:
    """Return how the message of an action is printed: ``stopped job 1a2b`` as ``job 1a2b stopped``.

    ``what`` is the word for what it speaks of, where it has none.
    """
    turned = [re.sub(r"^(stopped|deleted) ([^;]+)", rf"{what}\2 \1", clean(line)) for line in message.splitlines()]
    return {"message": message}, lambda look: "\n".join(turned)


def show_json(value: Any) -> None:
    """Print a value as one JSON document on one line."""
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=not readable))


def tell(message: str) -> None:
    """Print a message on standard error, on one line."""
    print("jupyter taskapi: " + " ".join(clean(line) for line in message.splitlines()), file=sys.stderr)


def coloured(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not turned colours off (no-color.org)."""
    return _obeys(stream) and not os.environ.get("NO_COLOR")


def _obeys(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _with_json(words: str, value: Any) -> str:
    """Return text with JSON after it, as the client of Cortex 0.28 expects it, to which ``~`` begins a mark."""
    lines = [f" {line}" if line.startswith("~") else line for line in words.splitlines()]
    encoded = base64.b64encode(msgspec.json.encode(value)).decode()
    return "\n".join([*lines, f"{_MARK}{encoded}{_MARK}"])
