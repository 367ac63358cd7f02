"""Callables of a notebook: checks of their signatures, and the functions and modules that they consist of."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from taskapi_jupyter.core.errors import BadRequest

from .api_spec import parameters, task_source

MAX_READ = 100  # functions whose source is read for warnings
CACHED = type(functools.lru_cache(maxsize=1)(len))  # what functools.cache makes of a function


class Decorated:
    """A function that runs here when it is called, as ``@task`` makes one; as a task, it is the function."""

    __wrapped__: Callable[..., Any]
    name: str | None  # of its API
    options: dict[str, Any]  # of a deploy, where that has no others
    taken: list[dict[str, Any]] | None  # what :func:`check` says of the function

    @property
    def takes_config(self) -> bool:
        """Whether it gets the whole config of a job as one argument."""
        return self.taken is None or [one["name"] for one in self.taken] == ["config"]


def undecorated(target: Any) -> Any:
    """Return the function that ``@task`` has decorated, and anything else as it is."""
    return target.__wrapped__ if isinstance(target, Decorated) else target


def check(target: Callable[..., Any]) -> list[dict[str, Any]] | None:
    """Return the parameters of a task; None for a task that is simply called with ``config``.

    ``config`` alone stands for a task that takes it by keyword or that is async. Raises :class:`BadRequest` for what
    can't be a task.
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
        raise BadRequest(f"{what} has a yield, so that a call would not run it; a task must be a plain function")
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
    """Return the name of a callable, from which an API may take its own; None for a lambda."""
    found = getattr(target, "__name__", None)
    return found if isinstance(found, str) and found != "<lambda>" else None


def vars_of(target: type, method: str) -> Callable[..., Any] | None:
    """Return a method that a class or one of its bases defines, except ``object``."""
    for base in target.__mro__:
        if base is not object and method in vars(base):
            found: Callable[..., Any] = getattr(target, method)
            return found
    return None


def modules(target: Any) -> list[ModuleType]:
    """Return the modules that a callable comes from: its own, its class's, and those of what it wraps."""
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


def functions_of(target: Any) -> list[FunctionType]:
    """Return the functions of a callable: its own, its class's, and those of the notebook that they use."""
    target = undecorated(target)
    waiting, found, seen = [target, type(target)], [], set()  # type: list[Any], list[FunctionType], set[int]
    modules = ("__main__", getattr(target, "__module__", None))
    while waiting and len(found) < MAX_READ:
        one = undecorated(waiting.pop(0))
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
        elif isinstance(one, FunctionType | CACHED) and one.__module__ in modules:
            waiting.append(vars(one).get("__wrapped__"))
            if isinstance(one, FunctionType):
                found.append(one)
                names = one.__globals__
                waiting += [names[name] for name in globals_of(one.__code__) if name in names]
    return found


def globals_of(code: CodeType) -> Iterator[str]:
    """Yield the global names that code and the code nested in it load."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)


def cell_name(file: str) -> str | None:
    """Return IPython's name for the cell of a code's file, such as ``Cell In[7]``; None if the file is not a cell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    named = shell.compile.format_code_name(file) if shell is not None else None
    return " ".join(named) if named else None


def _signature(target: Callable[..., Any], what: str) -> tuple[list[inspect.Parameter], bool]:
    """Return the parameters, and whether they are those of a wrapped function, which its wrapper may change."""
    try:
        whole = [*inspect.signature(target).parameters.values()]
    except (TypeError, ValueError):
        raise BadRequest(f"{what} has no signature to read; wrap it in a function of config") from None
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
    """Whether a parameter is positional, or keyword-only without a default."""
    return one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) or (
        one.kind is one.KEYWORD_ONLY and one.default is one.empty
    )


def _shown(target: Callable[..., Any]) -> str:
    return str(inspect.signature(target))[:100]
