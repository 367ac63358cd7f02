"""Callables of a notebook: checked by their signature, pickled by cloudpickle."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from taskapi_jupyter.core.errors import BadRequest

from .api_spec import parameters, task_source


def check(target: Callable[..., Any]) -> list[dict[str, Any]] | None:
    """Return the parameters of a task, ``config`` alone where it can't be called by it plainly, None where it can.

    Raises :class:`BadRequest` where it can be no task.
    """
    what = name(target) or type(target).__name__
    if inspect.isclass(target):
        start = vars_of(target, "__init__")
        if start is not None and [one for one in _signature(start, what)[0] if _is_needed(one)][1:]:
            raise BadRequest(f"{what}.__init__ must take self alone, not {_shown(start)}")
        called = vars_of(target, "__call__")
        if called is None:
            raise BadRequest(f"the class {what} has no method __call__(self, config)")
        what = f"{what}.__call__"
        taken, unsure = _signature(called, what)
        if not isinstance(inspect.getattr_static(target, "__call__"), staticmethod | classmethod):
            taken = taken[taken[:1] != [] and taken[0].kind is not inspect.Parameter.VAR_POSITIONAL :]
    else:
        called = target if inspect.isroutine(target) else vars_of(type(target), "__call__")
        taken, unsure = _signature(target, what)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise BadRequest(f"{what} has a yield, so that calling it would run nothing of it")
    found = [_described(one) for one in taken if one.kind is not one.VAR_POSITIONAL]
    if unsure and not any(one.kind is one.VAR_KEYWORD for one in taken):
        found.append({"name": "**", "required": False})
    first = bool(taken) and taken[0].name == "config" and taken[0].kind is not inspect.Parameter.KEYWORD_ONLY
    try:
        call = task_source.how_called(found, first)
    except task_source.SourceError as error:
        raise BadRequest(f"{what} {error}") from None
    if any(one["name"] == "config" for one in found):
        awaited = any(inspect.iscoroutinefunction(inspect.unwrap(one)) for one in (called, target) if one is not None)
        return [{"name": "config", "required": True}] if call or awaited else None
    doc = inspect.getdoc(getattr(target, "func", called)) or inspect.getdoc(target)
    return parameters.documented(found, doc or "")


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


def take_along(target: Any, importable_from: Iterable[str]) -> bytes:
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
    along = [one for one in modules(target) if one.__name__ not in by_value]
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


def modules(target: Any) -> list[ModuleType]:
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


def _signature(target: Callable[..., Any], what: str) -> tuple[list[inspect.Parameter], bool]:
    """Return the parameters, and whether they are those of what is wrapped, which a wrapper may change."""
    try:
        whole = [*inspect.signature(target).parameters.values()]
    except (TypeError, ValueError):
        raise BadRequest(f"{what} does not tell its parameters; wrap it in a function of config") from None
    try:
        own = [*inspect.signature(target, follow_wrapped=False).parameters.values()]
    except (TypeError, ValueError):
        return whole, False  # of C, such as lru_cache's
    passes_on = {one.kind for one in own} >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return (whole, own != whole) if passes_on else (own, False)


def _described(one: inspect.Parameter) -> dict[str, Any]:
    if one.kind is one.VAR_KEYWORD:
        return {"name": f"**{one.name}", "required": False}
    found: dict[str, Any] = {"name": one.name, "required": one.default is one.empty}
    if not found["required"] and task_source.is_json(one.default):
        found["default"] = one.default
    if one.annotation is not one.empty:
        try:
            found["type"] = (
                one.annotation if isinstance(one.annotation, str) else inspect.formatannotation(one.annotation)
            )
        except Exception:  # what an annotation's own __repr__ raises
            pass
    return found


def _is_needed(one: inspect.Parameter) -> bool:
    """Return whether a parameter takes a position, or is by keyword alone and has no default."""
    return one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) or (
        one.kind is one.KEYWORD_ONLY and one.default is one.empty
    )


def _shown(target: Callable[..., Any]) -> str:
    return str(inspect.signature(target))[:100]
