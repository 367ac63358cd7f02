"""What a function takes along of its notebook: what it refers to, and what a pickle may name, with their source."""

from __future__ import annotations

import functools
import io
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, MethodType
from typing import Any

import cloudpickle

MAX_UNASKED = 1 << 20  # bytes of a function or class that the task does not refer to, with what that refers to itself
MAX_READ = 100  # functions whose source is read for warnings
MAX_NAMES = 1000  # functions and classes of that kind that are looked at
_CACHED = type(functools.lru_cache(maxsize=1)(lambda: None))


def take(target: Any) -> bytes:
    """Pickle ``(callable, {name: function or class}, {cell: text})``; raises whatever pickling raises.

    Functions and classes that it does not refer to go along too where they are small: a pickle that the task loads may
    name them.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump((target, _Later(pickler.names), _Later(pickler.sources)))
    return file.getvalue()


class _Main(dict[str, Any]):
    """Stands for the names of ``__main__``, which a function has as its globals in the task again."""


class _Later:
    """A dictionary that is made when its turn to be pickled has come."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self.make = make


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, but that the notebook's functions share the task's ``__main__``, and cached ones are taken."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.main = vars(sys.modules["__main__"])
        self.globals_ref[id(self.main)] = _Main()
        self.reached: dict[str, Any] = {}
        self.functions: list[FunctionType] = []

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what cloudpickle would not, or not so; note what is of the notebook."""
        if isinstance(obj, _Main):
            return getattr, (sys.modules["__main__"], "__dict__")
        if isinstance(obj, _Later):
            return dict, (obj.make(),)
        if isinstance(obj, CodeType):  # cloudpickle (3.1) forgets where code comes from
            make, arguments = self.dispatch_table[CodeType](obj)
            name = cell_name(obj.co_filename) or obj.co_filename
            return make, tuple(name if one in ("<dynamic-code>", obj.co_filename) else one for one in arguments)
        if isinstance(obj, _CACHED):
            self._note(obj)
            if obj.__module__ == "__main__" or not _by_name(obj):
                limits = obj.cache_parameters()
                arguments = (obj.__wrapped__, limits["maxsize"], limits["typed"], functools._CacheInfo)
                return _CACHED, arguments, {**vars(obj)}
        elif isinstance(obj, type | FunctionType):
            self._note(obj)
        return super().reducer_override(obj)

    def _note(self, obj: Any) -> None:
        if isinstance(obj, FunctionType) and obj.__globals__ is self.main:
            self.functions.append(obj)
        if _is_of(self.main, obj.__name__, obj):
            self.reached[obj.__name__] = obj

    def names(self) -> dict[str, Any]:
        """Return the notebook's functions and classes that go along."""
        names = dict(self.reached)
        others = [(name, one) for name, one in list(self.main.items()) if name not in names]
        for name, one in [(name, one) for name, one in others if _is_of(self.main, name, one)][:MAX_NAMES]:
            with suppress(Exception):  # it is large, or can't be pickled: the task does not refer to it
                _Pickler(_Bounded()).dump(one)
                names[name] = one
        return names

    def sources(self) -> dict[str, str]:
        """Return the text of the cells that functions come from, by what the notebook calls them."""
        cells = {file: cell_name(file) for file in sorted({one.__code__.co_filename for one in self.functions})}
        return {cell: "".join(linecache.getlines(file)) for file, cell in cells.items() if cell}


class _Bounded:
    """Takes a pickle of a bounded size."""

    left = MAX_UNASKED

    def write(self, data: Any) -> int:
        size = len(memoryview(data).cast("B"))
        self.left -= size
        if self.left < 0:
            raise ValueError("too large")
        return size


def _is_of(main: dict[str, Any], name: str, one: Any) -> bool:
    """Whether this is a function or class that the notebook defines under its own name."""
    return (
        isinstance(one, type | FunctionType | _CACHED)
        and getattr(one, "__module__", None) == "__main__"
        and main.get(name) is one
        and getattr(one, "__qualname__", None) == name
    )


def _by_name(one: Any) -> bool:
    """Whether a task can find this by its module and name."""
    return getattr(sys.modules.get(str(one.__module__)), one.__name__, None) is one


def cell_name(file: str) -> str | None:
    """Return what IPython calls the cell of a code's file name, such as ``Cell In[7]``; None where it is no cell's."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    named = shell.compile.format_code_name(file) if shell is not None else None
    return " ".join(named) if named else None


def functions_of(target: Any) -> list[FunctionType]:
    """Return the functions that a callable is made of: its own, those of its class, those of the notebook they use."""
    waiting, found, seen = [target, type(target)], [], set()  # type: list[Any], list[FunctionType], set[int]
    modules = ("__main__", getattr(target, "__module__", None))
    while waiting and len(found) < MAX_READ:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, staticmethod | classmethod | MethodType):
            waiting.append(one.__func__)
        elif isinstance(one, property):
            waiting.append(one.fget)
        elif isinstance(one, functools.partial):
            waiting.append(one.func)
        elif isinstance(one, type) and one.__module__ in modules:
            waiting += [*vars(one).values(), *one.__bases__]
        elif isinstance(one, FunctionType | _CACHED) and one.__module__ in modules:
            waiting.append(vars(one).get("__wrapped__"))
            if isinstance(one, FunctionType):
                found.append(one)
                names = one.__globals__
                waiting += [names[name] for name in globals_of(one.__code__) if name in names]
    return found


def globals_of(code: CodeType) -> Iterator[str]:
    """Yield the global names that code loads, and the code within it."""
    import dis

    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)
