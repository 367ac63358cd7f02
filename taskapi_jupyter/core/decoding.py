"""msgspec's ``decode`` and ``convert`` for any number of threads.

msgspec (seen in 0.22.0) inspects a Struct when it is first used, and shares what it has found so far with other
threads: two threads that use a Struct for the first time at once can crash the interpreter.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

from . import nesting

T = TypeVar("T")


class TooDeep(msgspec.DecodeError):
    """JSON that is nested too deeply."""


_ready: dict[Any, msgspec.json.Decoder[Any]] = {}
_one_at_a_time = threading.Lock()


def reader(type_: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type; while one thread makes it, all others wait.

    Whoever uses it itself, for what is too large to be looked through for its depth, expects RecursionError, too.
    """
    found = _ready.get(type_)
    if found is None:
        with _one_at_a_time:
            found = _ready[type_] = msgspec.json.Decoder(type_)
    return found


def decode(data: bytes | str, type_: type[T]) -> T:
    """Decode JSON; raise ``msgspec.DecodeError``, its ``ValidationError`` or ``UnicodeDecodeError``."""
    try:
        nesting.check(data, nesting.MAX_DEPTH + nesting.ENVELOPE)
    except nesting.TooDeep as error:
        raise TooDeep(str(error)) from None
    return reader(type_).decode(data)


def convert(value: Any, type_: type[T]) -> T:
    """Convert plain values to a type; raise ``msgspec.ValidationError``."""
    reader(type_)
    return msgspec.convert(value, type_)
