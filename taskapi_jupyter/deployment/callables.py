"""Callables of a notebook: checked by their signature, pickled by cloudpickle."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.errors import BadRequest

if TYPE_CHECKING:
    from .notebook import Taken


def check(target: Callable[..., Any]) -> None:
    """Raise :class:`BadRequest` unless this is a class like ``Task`` or takes ``config`` alone."""
    what = name(target) or type(target).__name__
    if inspect.isclass(target):
        start = vars_of(target, "__init__")
        if start is not None and _parameters(start, what)[1:]:
            raise BadRequest(f"{what}.__init__ must take self alone, not {_shown(start)}")
        called = vars_of(target, "__call__")
        if called is None:
            raise BadRequest(f"the class {what} has no method __call__(self, config)")
        if _parameters(called, what) != ["self", "config"]:
            raise BadRequest(f"{what}.__call__ must take (self, config), not {_shown(called)}")
    else:
        called = target if inspect.isroutine(target) else vars_of(type(target), "__call__")
        if _parameters(target, what) != ["config"]:
            raise BadRequest(f"{what} must take config alone, not {_shown(target)}")
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(target):
        raise BadRequest(f"{what} is async, and a task is called, not awaited; use asyncio.run() in it")
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise BadRequest(f"{what} has a yield, so that calling it would run nothing of it")


def name(target: Any) -> str | None:
    """Return a name that an API could have from its callable."""
    found = getattr(target, "__name__", None)
    return found if isinstance(found, str) and found != "<lambda>" else None


def vars_of(target: type, method: str) -> Callable[..., Any] | None:
    """Return a method that a class or one of its bases defines, but for those of ``object`` and ``type``."""
    for base in target.__mro__:
        if base is not object and method in vars(base):
            found: Callable[..., Any] = getattr(target, method)
            return found
    return None


def pickle(target: Any, importable_from: Iterable[str]) -> bytes:
    """Pickle a callable alone, as servers of 0.1.0 take it."""
    import cloudpickle

    with _modules_by_value(target, importable_from):
        data: bytes = cloudpickle.dumps(target)
        return data


def take_along(target: Any, importable_from: Iterable[str]) -> Taken:
    """Pickle a callable with what its task finds in ``__main__``: the notebook's functions and classes, their source.

    Its own module goes along by value where a job could not import it.
    """
    from .notebook import take

    with _modules_by_value(target, importable_from):
        return take(target)


@contextmanager
def _modules_by_value(target: Any, importable_from: Iterable[str]) -> Iterator[None]:
    """Pickle modules of a callable that a job can't import by value; raise :class:`BadRequest` where that fails."""
    import cloudpickle

    by_value = cloudpickle.list_registry_pickle_by_value()  # what the user registered stays registered
    along = [one for one in _modules(target) if one.__name__ not in by_value]
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
        what = name(target) or type(target).__name__
        raise BadRequest(
            f"{what} can't be pickled, it or something that it uses: {type(error).__name__}: {error}"
        ) from error


def _modules(target: Any) -> list[ModuleType]:
    """Return the modules that a callable is from: its own, its class's, those of what it wraps."""
    found: dict[str, ModuleType] = {}
    for _ in range(100):  # a chain of wrappers may lead back to itself
        for part in (target, type(target), getattr(target, "__self__", None)):
            module = sys.modules.get(str(getattr(part, "__module__", None)))
            if module is not None:
                found[module.__name__] = module
        target = getattr(target, "func", None) or getattr(target, "__wrapped__", None)
        if target is None:
            break
    return list(found.values())


def _importable(module: ModuleType, folders: Iterable[str]) -> bool:
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or file is None:
        return True  # __main__ goes by value anyway; what has no file is built in
    root = os.path.dirname(os.path.realpath(file))
    for _ in range(module.__name__.count(".") + (os.path.basename(file).startswith("__init__."))):
        root = os.path.dirname(root)
    return root in {os.path.realpath(folder) for folder in folders}


def _parameters(target: Callable[..., Any], what: str) -> list[str]:
    """Return the parameters that take a position, and those by keyword alone that have no default."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        raise BadRequest(f"{what} does not tell its parameters; wrap it in a function of config") from None
    return [
        one.name
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        or (one.kind is one.KEYWORD_ONLY and one.default is one.empty)
    ]


def _shown(target: Callable[..., Any]) -> str:
    return str(inspect.signature(target))[:100]
