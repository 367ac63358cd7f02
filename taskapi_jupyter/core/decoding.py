"""Values made of JSON or YAML by their types, in any thread: msgspec's ``decode`` and ``convert``, and their errors.

msgspec (seen in 0.22.0) works out what a Struct looks like when it is read for the first time, and keeps what it has
so far where another thread finds it: two first readers at once end the interpreter.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

from . import nesting

T = TypeVar("T")


class TooDeep(msgspec.DecodeError):
    """JSON of more levels than may be."""


_ready: dict[Any, msgspec.json.Decoder[Any]] = {}
_one_at_a_time = threading.Lock()


def _reader(type_: type[T]) -> msgspec.json.Decoder[T]:
    """Return the reader of a type that nobody reads before it is whole, with all the types in it."""
    reader = _ready.get(type_)
    if reader is None:
        with _one_at_a_time:
            reader = _ready[type_] = msgspec.json.Decoder(type_)
    return reader


def decode(data: bytes | str, type_: type[T]) -> T:
    """Read JSON; raise ``msgspec.DecodeError``, its ``ValidationError`` or ``UnicodeDecodeError``."""
    try:
        nesting.check(data, nesting.MAX_DEPTH + nesting.ENVELOPE)
    except nesting.TooDeep as error:
        raise TooDeep(str(error)) from None
    return _reader(type_).decode(data)


def convert(value: Any, type_: type[T]) -> T:
    """Make a value of plain ones; raise ``msgspec.ValidationError``."""
    _reader(type_)
    return msgspec.convert(value, type_)
