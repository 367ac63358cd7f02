"""Pickles of callables, by cloudpickle, with the notebook's functions and classes that their tasks need."""

from __future__ import annotations

import functools
import io
import linecache
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from taskapi_jupyter.core.errors import BadRequest

from . import arguments, callables
from .callables import CACHED, Decorated, cell_name, undecorated

MAX_UNASKED = 1 << 20  # bytes of a function or class that the task does not refer to, with what that refers to itself
MAX_NAMES = 1000  # functions and classes of that kind that are looked at


def pickle_alone(target: Any, importable_from: Iterable[str]) -> bytes:
    """Pickle a callable alone, for servers of 0.1.0."""
    with _modules_by_value(target, importable_from):
        data: bytes = cloudpickle.dumps(_task(target, undecorated(target)))
        return data


def pickle_with_notebook(target: Any, importable_from: Iterable[str], unused: bool = True) -> bytes:
    """Pickle a callable with the notebook's functions and classes, and their source, for the ``__main__`` of its task.

    With ``unused`` also those that it does not refer to. A module of the callable that a job could not import is
    pickled by value.
    """
    with _modules_by_value(target, importable_from):
        return _take(_task(target, target), unused)


def _task(target: Any, called: Any) -> Any:
    """Return what a job calls: of a decorated function, what decodes its arguments and calls ``called``."""
    return arguments.decoding(called, target.takes_config) if isinstance(target, Decorated) else target


def pickle_argument(value: Any, file: Any) -> None:
    """Pickle what a task is called with into a file; raises whatever pickling raises.

    Functions of the notebook share the task's ``__main__``, and its classes are those that the task has.
    """
    pickler = NotebookPickler(file)
    try:
        pickler.dump(value)
    finally:
        pickler.clear_memo()


@contextmanager
def _modules_by_value(target: Any, importable_from: Iterable[str]) -> Iterator[None]:
    """Have modules pickled by value that a job can't import; raise :class:`BadRequest` if pickling fails."""
    target = undecorated(target)
    by_value = cloudpickle.list_registry_pickle_by_value()  # what the user registered stays registered
    along = [one for one in callables.modules(target) if one.__name__ not in by_value]
    along = [one for one in along if not _importable(one, importable_from)]
    try:
        for module in along:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in along:
                cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:  # whatever a __reduce__ or a __getstate__ raises
        what = callables.name(target) or type(target).__name__
        raise BadRequest(
            f"{what} can't be pickled, it or something that it uses: {type(error).__name__}: {error}"
        ) from error


def _importable(module: ModuleType, folders: Iterable[str]) -> bool:
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or file is None:
        return True  # __main__ goes by value anyway; what has no file is built in
    root = os.path.dirname(os.path.realpath(file))
    for _ in range(module.__name__.count(".") + (os.path.basename(file).startswith("__init__."))):
        root = os.path.dirname(root)
    return root in {os.path.realpath(folder) for folder in folders}


def _take(target: Any, unused: bool) -> bytes:
    """Pickle ``(callable, {name: function or class}, {cell: text})``; raises whatever pickling raises.

    With ``unused``, small functions and classes that it does not refer to are included: a pickle that the task loads
    may name them.
    """
    file = io.BytesIO()
    pickler = NotebookPickler(file)
    names = pickler.names if unused else pickler.reached.copy
    try:
        pickler.dump((target, _Later(names), _Later(pickler.sources)))
    finally:
        pickler.clear_memo()  # which would keep the target alive, as it leads back to the pickler
    return file.getvalue()


class _Main(dict[str, Any]):
    """Stands for the namespace of ``__main__``: in the task, a function's globals are that namespace again."""


class _Later:
    """A dictionary that is made at the moment when it is pickled."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self.make = make


class NotebookPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, but the notebook's functions share the task's ``__main__``, and cached functions work."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.main = vars(sys.modules["__main__"])
        self.globals_ref[id(self.main)] = _Main()
        self.reached: dict[str, Any] = {}
        self.functions: list[FunctionType] = []

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what cloudpickle can't, or does differently; remember what the notebook defines."""
        if isinstance(obj, _Main):
            return getattr, (sys.modules["__main__"], "__dict__")
        if isinstance(obj, _Later):
            return dict, (obj.make(),)
        if isinstance(obj, Decorated):  # in a task, it is a plain function
            self._note(obj)
            return obj.__reduce__() if importable_by_name(obj) else plain(obj.__wrapped__)
        if isinstance(obj, CodeType):  # cloudpickle (3.1) forgets where code comes from
            make, arguments = self.dispatch_table[CodeType](obj)
            name = cell_name(obj.co_filename) or obj.co_filename
            return make, tuple(name if one in ("<dynamic-code>", obj.co_filename) else one for one in arguments)
        if isinstance(obj, CACHED):
            self._note(obj)
            if obj.__module__ == "__main__" or not _by_name(obj):
                limits = obj.cache_parameters()
                arguments = (obj.__wrapped__, limits["maxsize"], limits["typed"], functools._CacheInfo)
                return CACHED, arguments, {**vars(obj)}
        elif isinstance(obj, type | FunctionType):
            self._note(obj)
        return super().reducer_override(obj)

    def _note(self, obj: Any) -> None:
        if isinstance(obj, FunctionType) and obj.__globals__ is self.main:
            self.functions.append(obj)
            if undecorated(named := self.main.get(obj.__name__)) is obj:
                obj = named
        if _is_of(self.main, obj.__name__, obj):
            self.reached[obj.__name__] = obj

    def names(self) -> dict[str, Any]:
        """Return the notebook's functions and classes to be included."""
        names = dict(self.reached)
        others = [(name, one) for name, one in list(self.main.items()) if name not in names]
        for name, one in [(name, one) for name, one in others if _is_of(self.main, name, one)][:MAX_NAMES]:
            with suppress(Exception):  # it is large, or can't be pickled: the task does not refer to it
                NotebookPickler(_Bounded()).dump(one)
                names[name] = one
        return names

    def sources(self) -> dict[str, str]:
        """Return the text of the cells that functions come from, by the cells' names in the notebook."""
        cells = {file: cell_name(file) for file in sorted({one.__code__.co_filename for one in self.functions})}
        return {cell: "".join(linecache.getlines(file)) for file, cell in cells.items() if cell}


class _Bounded:
    """A file that accepts a bounded number of bytes."""

    left = MAX_UNASKED

    def write(self, data: Any) -> int:
        size = len(memoryview(data).cast("B"))
        self.left -= size
        if self.left < 0:
            raise ValueError("too large")
        return size


def _is_of(main: dict[str, Any], name: str, one: Any) -> bool:
    """Whether this is a function or class that the notebook defines under this name."""
    return (
        isinstance(one, type | FunctionType | CACHED | Decorated)
        and getattr(one, "__module__", None) == "__main__"
        and main.get(name) is one
        and getattr(one, "__qualname__", None) == name
    )


def _by_name(one: Any) -> bool:
    """Whether a task can find this by its module and name."""
    return getattr(sys.modules.get(str(one.__module__)), one.__name__, None) is one


def importable_by_name(one: Any) -> bool:
    """Whether another process finds this by its module and name, and that module is not to be pickled by value."""
    parts = str(one.__module__).split(".")
    by_value = cloudpickle.list_registry_pickle_by_value()
    packages = {".".join(parts[: count + 1]) for count in range(len(parts))}
    return one.__module__ != "__main__" and _by_name(one) and not packages & set(by_value)


def plain(function: Any) -> tuple[Any, ...]:
    """Return how to reduce something so that another process finds this function in its place."""
    return operator.getitem, ((function,), 0)
