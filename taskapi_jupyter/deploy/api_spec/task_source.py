"""Find the task in the text of a module by its syntax tree; nothing of the module is executed.

This file also runs as a script under the interpreter of a task (3.8 or newer), whose grammar decides. So it uses the
standard library alone, and nothing of this package.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
import warnings
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union  # noqa: UP035  (3.8 is meant)

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda]  # noqa: UP007
Found = Dict[str, Any]  # noqa: UP006

MAX_PARAMETERS = 100
MAX_DEFAULT = 4000  # bytes of a default as JSON; a longer one is not shown
MAX_DOC = 20_000  # characters of documentation that are looked through

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


def find_task(
    text: str,
    filename: str,
    function: Optional[str] = None,  # noqa: UP045
    api: Optional[str] = None,  # noqa: UP045
) -> Found:
    """Find the task: ``function``, else the class or function ``Task``, else the choice of :func:`_chosen`.

    ``api`` is the name of the API that the task is for. Returned are ``attr``, the task's name; ``call``, how it is
    called: "" with the config, "*" with what the config holds for its ``parameters``, "?" as it turns out when it runs;
    ``async``, whether it is to be awaited; and ``doc``, its documentation.
    """
    tree = _parse(text, filename)
    bound = _bindings(tree.body)
    if function is not None:
        if function not in bound:
            raise SourceError(f"{filename}: there is no {function} at its top level")
        name = function
    elif "Task" in bound:
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        lines = [str(node.lineno) for node in classes if node.name == "Task"]
        if len(lines) > 1:
            raise SourceError(f"{filename}: class Task is defined more than once (lines {', '.join(lines)})")
        name = "Task"
    else:
        name = _chosen({one: node for one, node in bound.items() if isinstance(node, _FUNCTIONS)}, filename, api)
    return {"attr": name, **_describe(name, bound[name], filename, text.encode("utf-8", "replace").splitlines())}


def _chosen(functions: Dict[str, Function], filename: str, api: Optional[str]) -> str:  # noqa: UP006, UP045
    """Return the only function of config, else the one named as the API, else the only public one."""
    public = [name for name in functions if not name.startswith("_")]
    of_config = [name for name, node in functions.items() if _takes_config(node)]
    found = [name for name in of_config if name in public]
    if len(found) != 1:
        found = [name for name in functions if name == str(api).replace("-", "_")] or found or of_config
    if len(found) != 1 and len(public) == 1:
        found = public
    if len(found) == 1:
        return found[0]
    if not functions:
        raise SourceError(f"{filename}: no class named Task and no function at its top level")
    there = ", ".join(f"{name}({_shown(node)}) in line {node.lineno}" for name, node in functions.items())
    raise SourceError(
        f"{filename}: it is not clear which function is the task: {there[:300]}; give it the API's name, call it "
        "Task, or name it with --function (definition.function)"
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
    """Return the names that a module binds at its top level, each with its last value."""
    bound: Dict[str, ast.AST] = {}  # noqa: UP006
    for node in statements(body):
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


def statements(body: List[ast.stmt]) -> Iterator[ast.stmt]:  # noqa: UP006
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, field, []))
            for inner in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from statements(inner.body)


def _describe(name: str, node: ast.AST, filename: str, lines: List[bytes]) -> Found:  # noqa: UP006
    if isinstance(node, ast.ClassDef):
        methods = _bindings(node.body)
        start, call = methods.get("__init__"), methods.get("__call__")
        if isinstance(start, _FUNCTIONS) and not _starts(start) and not _decorated(start):
            where = f"{filename}, line {start.lineno}: {name}.__init__"
            raise SourceError(f"{where} must take self alone, not ({_shown(start)})")
        if call is None and not node.bases and not node.keywords and not node.decorator_list:
            raise SourceError(f"{filename}, line {node.lineno}: {name} has no method __call__(self, config)")
        if isinstance(call, _FUNCTIONS):
            found = _describe_function(call, f"{name}.__call__", filename, lines, method=not _is_static(call))
            return {**found, "doc": found["doc"] or _doc(node)}
    elif isinstance(node, _FUNCTIONS):
        return _describe_function(node, name, filename, lines)
    # What is imported, inherited or computed shows its signature only when it runs.
    return {"call": "?", "parameters": None, "async": False, "doc": ""}


def _describe_function(
    node: Function,
    name: str,
    filename: str,
    lines: List[bytes],  # noqa: UP006
    method: bool = False,
) -> Found:
    where = f"{filename}, line {node.lineno}: {name}"
    positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args)][method:]
    if method and not _names(node) and not _decorated(node):
        raise SourceError(f"{where} must take self, and then config or parameters")
    if _yields(node) and not _decorated(node):
        raise SourceError(f"{where} has a yield, so that a call would not run it; a task must be a plain function")
    parameters = [_parameter(one, default, lines) for one, default in _defaults(node)]
    if method and (node.args.posonlyargs or node.args.args):
        del parameters[0]
    if node.args.kwarg:
        parameters.append({"name": f"**{node.args.kwarg.arg}", "required": False})
    elif _decorated(node):
        parameters.append({"name": "**", "required": False})  # who knows what its decorator takes, or gives it
    try:
        call = how_called(parameters, positional[:1] == ["config"], _decorated(node))
    except SourceError as error:
        raise SourceError(f"{where} {error}") from None
    named = call == "*" and not any(one["name"] == "config" for one in parameters)
    doc = "" if isinstance(node, ast.Lambda) else _doc(node)
    awaited = isinstance(node, ast.AsyncFunctionDef)
    return {"call": call, "parameters": parameters if named else None, "async": awaited, "doc": doc}


def how_called(parameters: List[Found], first: bool, unsure: bool = False) -> str:  # noqa: UP006
    """Return "" for a task that is called with the config, "*" for one with what the config holds for its parameters.

    A parameter ``config`` gets all of the config, and the others of that function keep their defaults. ``first`` is
    whether it is the first that takes a position, ``unsure`` whether a decorator may give others. Raises
    :class:`SourceError`, to be put after the task's name.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise SourceError(f"has {len(parameters)} parameters, more than {MAX_PARAMETERS}: take **parameters, or config")
    names = [one["name"] for one in parameters]
    if "config" not in names:
        return "*"
    others = [one["name"] for one in parameters if one["required"] and one["name"] != "config"]
    if others and not unsure:
        raise SourceError(
            f"takes config, which receives the whole config, so that nothing is left for {', '.join(others)[:200]}: "
            "give them defaults, or remove config, so that the config fills them by name"
        )
    return "" if first else "*"


def is_json(value: object) -> bool:
    """Whether a value survives JSON unchanged and is short enough to be shown as a default."""
    left, count = [value], 0
    while left:
        one, count = left.pop(), count + 1
        if count > 1000:
            return False
        if isinstance(one, dict) and type(one) is dict and all(type(key) is str for key in one):
            left.extend([*one.values()][:1000])
        elif isinstance(one, list) and type(one) is list:
            left.extend(one[:1000])
        elif one is not None and type(one) not in (bool, int, float, str):
            return False
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        return len(text.encode("utf-8")) <= MAX_DEFAULT
    except (ValueError, RecursionError):  # no finite number, no valid text, too long a number, too deep
        return False


def _parameter(one: ast.arg, default: Optional[ast.expr], lines: List[bytes]) -> Found:  # noqa: UP006, UP045
    found: Found = {"name": one.arg}
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            pass  # computed when it runs
        else:
            if is_json(value):
                found["default"] = value
    found["required"] = default is None
    annotation = one.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        found["type"] = annotation.value
    elif annotation is not None:
        found["type"] = _segment(annotation, lines)
    return found


def _segment(node: ast.expr, lines: List[bytes]) -> str:  # noqa: UP006
    """Return the text of an expression (``ast.unparse`` came with 3.9); columns are in bytes."""
    first, last, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1, node.end_col_offset or 0
    if first == last:
        text = lines[first][node.col_offset : end]
    else:
        text = b" ".join([lines[first][node.col_offset :], *lines[first + 1 : last], lines[last][:end]])
    return text.decode("utf-8", "replace")


def _doc(node: ast.AST) -> str:
    return (ast.get_docstring(node) or "")[:MAX_DOC]  # type: ignore[arg-type]


def _defaults(node: Function) -> List[Tuple[ast.arg, Optional[ast.expr]]]:  # noqa: UP006, UP045
    """Return the parameters that can be filled, each with its default or None."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    given: List[Optional[ast.expr]] = [None] * (len(positional) - len(args.defaults))  # noqa: UP006, UP045
    return [*zip(positional, [*given, *args.defaults]), *zip(args.kwonlyargs, args.kw_defaults)]  # noqa: B905


def _names(node: Function) -> List[str]:  # noqa: UP006
    every = [*node.args.posonlyargs, *node.args.args, *filter(None, [node.args.vararg])]
    return [one.arg for one in every]


def _starts(node: Function) -> bool:
    """Whether an ``__init__`` needs nothing but ``self``."""
    return len(node.args.posonlyargs) + len(node.args.args) == 1 and None not in node.args.kw_defaults


def _takes_config(node: Function) -> bool:
    """Whether a function takes the whole config: it has a parameter of that name, and requires no other."""
    there = _defaults(node)
    needed = [one.arg for one, default in there if default is None]
    return "config" in [one.arg for one, _ in there] and needed in ([], ["config"])


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


def _is_static(node: Function) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in getattr(node, "decorator_list", ()))


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
        answer = find_task(**json.load(sys.stdin))
    except SourceError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
