"""Find the task in the text of a module, by its syntax tree: nothing of it is executed.

This file also runs as a script under the interpreter of a task (3.8 or newer), so that its grammar decides
and not ours: it uses the standard library alone, and nothing of this package.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
import warnings
from typing import Dict, Iterator, List, Optional, Union  # noqa: UP035  (3.8 is meant)

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda]  # noqa: UP007

_IPYTHON = re.compile(r"^\s*(?:%{1,2}\s*\w|!|\?)|^\s*[\w.,\s\[\]]+=\s*[!%]\s*[\w.~/]|\?\s*$")


class SourceError(ValueError):
    """What is wrong with a task's source, as a sentence."""


def decode(data: bytes, filename: str) -> str:
    """Decode a Python file as Python does: by its byte order mark or its coding line."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise SourceError(f"{filename} is not text that Python can read: {error}") from None


def encode(text: str, filename: str) -> bytes:
    """Encode text so that Python reads it back the same, coding line included."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(text.encode("utf-8")).readline)
        return text.encode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise SourceError(f"{filename} can't be written as a Python file: {error}") from None


def find_task(text: str, filename: str, function: Optional[str] = None) -> str:  # noqa: UP045
    """Return the task's name: ``function``, else ``Task``, else the only function of ``config`` alone."""
    tree = _parse(text, filename)
    bound = _bindings(tree.body)
    if function is not None:
        if function not in bound:
            raise SourceError(f"{filename}: there is no {function} at its top level")
        _check(function, bound, filename)
        return function
    if "Task" in bound:
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        lines = [str(node.lineno) for node in classes if node.name == "Task"]
        if len(lines) > 1:
            raise SourceError(f"{filename}: class Task is defined more than once (lines {', '.join(lines)})")
        _check("Task", bound, filename)
        return "Task"
    functions = {name: node for name, node in bound.items() if isinstance(node, _FUNCTIONS)}
    names = [name for name, node in functions.items() if _takes(node, ["config"])]
    names = [name for name in names if not name.startswith("_")] or names
    if len(names) == 1:
        _check(names[0], bound, filename)
        return names[0]
    if names:
        found = ", ".join(f"{name} (line {functions[name].lineno})" for name in names)
        raise SourceError(
            f"{filename}: several functions take config alone: {found}; call the one that is the task Task, "
            "or name it in definition.function"
        )
    there = ", ".join(f"{name}({_shown(node)}) in line {node.lineno}" for name, node in functions.items())
    raise SourceError(
        f"{filename}: no class named Task and no function whose only parameter is config"
        + (f"; there is {there[:300]}" if there else "")
    )


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _parse(text: str, filename: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, filename)
            compile(tree, filename, "exec", dont_inherit=True)  # finds more: a return outside a function
    except SyntaxError as error:
        raise SourceError(_sentence(error, text, filename)) from None
    except ValueError as error:
        raise SourceError(f"{filename}: {error}") from None
    except (RecursionError, MemoryError):
        raise SourceError(f"{filename} is nested too deeply") from None
    return tree


def _sentence(error: SyntaxError, text: str, filename: str) -> str:
    lines = text.splitlines()
    number = error.lineno or 0
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    if _IPYTHON.search(line):
        return f"{filename}, line {number}: IPython syntax can't be used in a task: {line[:120]}"
    return f"{filename}, line {number}: {error.msg}" + (f": {line[:120]}" if line else "")


def _bindings(body: List[ast.stmt]) -> Dict[str, ast.AST]:  # noqa: UP006
    """Return the names that a module binds at its top level, each with what it is bound to last."""
    bound: Dict[str, ast.AST] = {}  # noqa: UP006
    for node in _statements(body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                bound[alias.asname or alias.name.split(".")[0]] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    same = bound.get(node.value.id) if isinstance(node.value, ast.Name) else None
                    bound[target.id] = same or node.value
    return bound


def _statements(body: List[ast.stmt]) -> Iterator[ast.stmt]:  # noqa: UP006
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, []))
            for inner in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from _statements(inner.body)


def _check(name: str, bound: Dict[str, ast.AST], filename: str) -> None:  # noqa: UP006
    node = bound[name]
    if isinstance(node, ast.ClassDef):
        _check_class(node, filename)
    elif isinstance(node, _FUNCTIONS):
        _check_function(node, name, ["config"], filename)
    # What is imported or computed shows its signature only when it runs.


def _check_class(node: ast.ClassDef, filename: str) -> None:
    methods = _bindings(node.body)
    start = methods.get("__init__")
    if isinstance(start, _FUNCTIONS) and not _takes(start, ["self"]) and not _decorated(start):
        where = f"{filename}, line {start.lineno}: {node.name}.__init__"
        raise SourceError(f"{where} must take self alone, not ({_shown(start)})")
    call = methods.get("__call__")
    if call is None and not node.bases and not node.keywords and not node.decorator_list:
        raise SourceError(f"{filename}, line {node.lineno}: {node.name} has no method __call__(self, config)")
    if isinstance(call, _FUNCTIONS):
        _check_function(call, f"{node.name}.__call__", ["self", "config"], filename)


def _check_function(node: Function, name: str, wanted: List[str], filename: str) -> None:  # noqa: UP006
    where = f"{filename}, line {node.lineno}: {name}"
    if not _takes(node, wanted) and not _decorated(node):
        raise SourceError(f"{where} must take ({', '.join(wanted)}), not ({_shown(node)})")
    if isinstance(node, ast.AsyncFunctionDef) and not _decorated(node):
        raise SourceError(f"{where} is async, and a task is called, not awaited; use asyncio.run() in it")
    if _yields(node) and not _decorated(node):
        raise SourceError(
            f"{where} has a yield, so that calling it runs nothing of it; a task must be a plain function"
        )


def _takes(node: Function, wanted: List[str]) -> bool:  # noqa: UP006
    positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    return positional == wanted and None not in node.args.kw_defaults  # None: a keyword that has no default


def _shown(node: Function) -> str:
    parts = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    if node.args.vararg or node.args.kwonlyargs:
        parts.append("*" + (node.args.vararg.arg if node.args.vararg else ""))
    parts += [one.arg for one in node.args.kwonlyargs]
    if node.args.kwarg:
        parts.append("**" + node.args.kwarg.arg)
    return ", ".join(parts)


def _decorated(node: Function) -> bool:
    return bool(getattr(node, "decorator_list", ()))


def _yields(node: ast.AST) -> bool:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(child, (*_FUNCTIONS, ast.ClassDef)) and _yields(child):
            return True
    return False


def main() -> None:
    """Answer one question of :func:`find_task`, JSON in and JSON out."""
    try:
        answer = {"attr": find_task(**json.load(sys.stdin))}
    except SourceError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
