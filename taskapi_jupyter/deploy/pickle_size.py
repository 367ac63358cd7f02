"""Which variables make a pickled function large."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cloudpickle

from taskapi_jupyter.core.errors import size

from . import callables
from .callables import CACHED, globals_of

SHOWN = 3  # variables that a refusal names
_WORTH = 1 << 20  # bytes, from which on one is named beside a larger one
_WRAPPERS: tuple[Any, ...] = (functools.partial, types.MethodType, staticmethod, classmethod, property, CACHED)
_AT_MOST = 1000  # functions, classes and objects that are looked into


def too_large(message: str, target: Any) -> str:
    """Return a refusal that also names the largest variables that the target of a deploy refers to."""
    found: list[tuple[str, int]] = []
    if callable(target):
        with suppress(Exception):  # whatever the objects that are looked into raise: the refusal stands without
            found = largest(target)
    if not found:
        return message
    named = [f"{name} ({size(count)})" for name, count in found]
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    what = "it to a file and load it" if len(named) == 1 else "them to a file and load it"
    return f"{message}; {callables.name(target) or type(target).__name__} refers to {listed}: save {what} in the task"


def largest(target: Any) -> list[tuple[str, int]]:
    """Return the largest variables that a callable refers to, with the bytes that each has when pickled.

    Functions and classes of the notebook are looked into, as what they refer to travels along.
    """
    found: dict[int, tuple[str, int]] = {}
    for name, value in _variables(target):
        if id(value) not in found:
            found[id(value)] = name, pickled_size(value)
    ordered = sorted(found.values(), key=lambda one: -one[1])[:SHOWN]
    return [one for index, one in enumerate(ordered) if one[1] >= _WORTH or (index == 0 and one[1])]


def _variables(target: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a callable refers to: globals, closure, defaults, attributes and bound arguments."""
    own = {"__main__", *(module.__name__ for module in callables.modules(target))}
    todo, seen = [callables.undecorated(target)], list[Any]()
    while todo and len(seen) < _AT_MOST:
        one = todo.pop()
        if any(one is other for other in seen):
            continue
        seen.append(one)
        for name, value in _parts(one):
            if isinstance(value, types.FunctionType | type | types.ModuleType):
                if getattr(value, "__module__", None) in own:  # all others go along by their names alone
                    todo.append(value)
            elif isinstance(value, _WRAPPERS):
                todo.append(value)
            else:
                yield name, value


def _parts(one: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a function, class or object, each with a name that its author knows."""
    if isinstance(one, types.FunctionType):
        code = one.__code__
        names = dict.fromkeys(globals_of(code))
        yield from ((name, one.__globals__[name]) for name in names if name in one.__globals__)
        for name, cell in zip(code.co_freevars, one.__closure__ or (), strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        positional = code.co_varnames[: code.co_argcount]
        defaults = one.__defaults__ or ()
        yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
        yield from (one.__kwdefaults__ or {}).items()
        yield from vars(one).items()
    elif isinstance(one, functools.partial):
        yield "the function", one.func
        yield from ((f"argument {index + 1}", value) for index, value in enumerate(one.args))
        yield from one.keywords.items()
    elif isinstance(one, types.MethodType):
        yield "the function", one.__func__
        yield from vars(one.__self__).items() if hasattr(one.__self__, "__dict__") else ()
    elif isinstance(one, property):
        yield from (("property", part) for part in (one.fget, one.fset, one.fdel) if part is not None)
    elif isinstance(one, staticmethod | classmethod):
        yield "the function", one.__func__
    elif isinstance(one, type):
        for name, value in list(vars(one).items()):
            if not name.startswith("__") or callable(value):
                yield f"{one.__name__}.{name}", value
        yield from (("base", base) for base in one.__bases__)
    else:
        yield "class", type(one)
        yield from (getattr(one, "__dict__", None) or {}).items()


def pickled_size(value: Any) -> int:
    """Return how many bytes a value has when pickled, without storing them; 0 if it can't be pickled."""
    counter = _Counter()
    try:
        cloudpickle.Pickler(counter).dump(value)
    except Exception:  # whatever a __reduce__ or a __getstate__ raises
        return 0
    return counter.count


class _Counter:
    """A file that counts what is written to it."""

    count = 0

    def write(self, data: Any) -> int:
        size_ = memoryview(data).nbytes
        self.count += size_
        return size_
