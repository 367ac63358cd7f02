"""The parameters of a notebook: what its cell tagged ``parameters`` assigns, and which values its language takes."""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import shorten

from .parameters import documented
from .task_source import MAX_PARAMETERS, is_json, statements

UNKNOWN = {"name": "**", "required": False}  # stands for parameters that are not known
_IPYTHON = re.compile(r"^([ \t]*)(?:[%!?].*|[\w.]+\?{1,2}[ \t]*)$|^([ \t]*[\w.,\[\] \t]+=)[ \t]*[!%].*$", re.MULTILINE)
_TYPE = re.compile(r"type:\s*(\S*)\s*(.*)", re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*")  # of languages other than Python; R has dots


def parameters(source: str | None, unchecked: bool) -> tuple[list[dict[str, Any]], str | None]:
    """Return the parameters that a cell of Python assigns, and a warning where they can't be read.

    ``source`` is the cell's text, None where there is no such cell; ``unchecked`` adds that a job may have others.
    """
    try:
        found = list(_assigned(source or ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        why = error.msg if isinstance(error, SyntaxError) else "nested too deeply"
        return [UNKNOWN], f"the cell tagged parameters can't be read{line}: {why}; parameters are not checked"
    unchecked = unchecked or len(found) > MAX_PARAMETERS
    return documented(found[:MAX_PARAMETERS], "") + ([UNKNOWN] if unchecked else []), None


def complaint(language: str, config: Mapping[str, Any]) -> str | None:
    """Return why a config can't be injected as parameters of a language, or None."""
    python = language.lower() == "python"
    for name, value in config.items():
        usable = name.isidentifier() and not keyword.iskeyword(name) if python else _NAME.fullmatch(name)
        if not usable:
            return f"{shorten(name)} can't be a parameter: it is no name of a variable in {_shown(language)}"
        if language.lower() in ("bash", "sh") and _has_mapping(value):
            return f"{name} can't be a parameter of {_shown(language)}, which has no mappings: give texts or numbers"
    if config and not python and not has_papermill():
        return needs_papermill(language)
    return None


def has_papermill() -> bool:
    """Whether the interpreter that runs notebooks can write parameters of other languages than Python."""
    return find_spec("papermill") is not None


def needs_papermill(language: str) -> str:
    """Return the sentence that says what parameters of a language need."""
    return f"parameters for {_shown(language)} need papermill: pip install 'taskapi-jupyter[notebook]'"


def as_python(source: str) -> str:
    """Return a cell's text with IPython's own lines (``%magic``, ``!command``) as ``pass``, on as many lines."""
    return _IPYTHON.sub(lambda match: f"{match[2]} None" if match[2] else f"{match[1]}pass", source)


def check_language(language: str, config: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` where ``definition.config`` can't be injected as parameters."""
    if told := complaint(language, config):
        raise BadRequest(f"definition.config: {told}")


def _shown(language: str) -> str:
    return language if language.isupper() else language.capitalize()


def _has_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_has_mapping, value)))


def _assigned(source: str) -> Iterator[dict[str, Any]]:
    """Yield what a text of Python assigns at its top level, each name once, as it is assigned last."""
    try:
        text, tree = source, _parsed(source)
    except SyntaxError:
        text = as_python(source)
        tree = _parsed(text)
    comments = dict(_comments(text))
    found: dict[str, dict[str, Any]] = {}
    for node in statements(tree.body):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        about = _described(node, comments.get(node.end_lineno or node.lineno) or comments.get(node.lineno) or "")
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    found[name.id] = {"name": name.id, "required": False, **(about if name is target else {})}
    yield from found.values()


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in texts
        return ast.parse(text)


def _described(node: ast.Assign | ast.AnnAssign, comment: str) -> dict[str, Any]:
    """Return a parameter's default, its type and its help, as papermill reads them."""
    about: dict[str, Any] = {}
    try:
        value = ast.literal_eval(node.value) if node.value is not None else ...
        if is_json(value):
            about["default"] = value
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass  # computed when it runs
    if typed := _TYPE.match(comment):
        about["type"], comment = typed[1], typed[2]
    if isinstance(node, ast.AnnAssign):
        said = node.annotation
        text = isinstance(said, ast.Constant) and isinstance(said.value, str)
        about["type"] = said.value if text else ast.unparse(said)  # type: ignore[attr-defined]
    about["help"] = comment
    return about


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield the comments of a text, each with its line."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):  # of what the parser lets pass
        return
