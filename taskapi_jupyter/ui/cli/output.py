"""The program's output: one JSON document, or text, coloured on a terminal; notes and errors on standard error."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from taskapi_jupyter.display import clean

Answer = tuple[Any, Callable[[bool], str]]  # what `-o json` prints, and what makes the text, coloured or not

#: ``pretty`` and ``mixed`` are Cortex's: text, and (0.28) text with JSON between two marks.
FORMS = ("table", "json", "pretty", "mixed")
_MARK = "~~cortex~~"
_WATCH = 2.0  # seconds between two refreshes, as in Cortex


def show(options: argparse.Namespace, read: Callable[[], Answer]) -> None:
    """Print an answer; with ``--watch``, read and print it again until interrupted."""
    watched = getattr(options, "watch", False)
    while True:
        value, text = read()
        if options.output == "json":
            show_json(value)
        else:
            words = text(coloured(sys.stdout))
            if watched and _obeys(sys.stdout):
                words = f"\x1b[H\x1b[2J{words}"
            print(_with_json(words, value) if options.output == "mixed" else words)
        if not watched:
            return
        sys.stdout.flush()
        time.sleep(_WATCH)


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
