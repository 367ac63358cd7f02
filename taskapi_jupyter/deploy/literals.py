"""Literals of Python and JSON as people write them, in magics and on the command line."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.nesting import MAX_DEPTH

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_NON_FINITE = ("NaN", "nan", "Infinity", "infinity", "Inf", "inf")
_CONSTANTS: dict[str, Any] = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_CONSTANTS |= {sign + name: float(sign + name) for sign in ("", "+", "-") for name in _NON_FINITE}
_INTEGER = re.compile(r"[+-]?(?:0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[1-9][\d_]*|0)", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?=.*[.eE])(?!0\d)[\d_]*\.?[\d_]*(?:[eE][+-]?[\d_]+)?", re.ASCII)
_STRING = re.compile(
    r"""(?:[rRuUbBfF]|[bBfF][rR]|[rR][bBfF])?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""", re.ASCII | re.DOTALL
)
_DOLLAR = re.compile(
    rf"(?P<string>{_STRING.pattern})|\$(?:(?P<bare>[^\W\d]\w*)|\{{(?P<braced>[^\W\d]\w*)\}})", re.DOTALL
)

_TOO_DEEP = json.loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))  # stands for what nests deeper

Lookup = Callable[[str], Any]


class NotLiteral(Exception):
    """Raised for text that is not a literal."""


def literal_end(text: str, at: int = 0, most: int = 1000) -> int | None:
    """Return where the string or the pair of brackets that begins at ``at`` ends; None if it does not.

    None as well for more than ``most`` levels of brackets.
    """
    end, depth = _span(text, at, most)
    return end if depth <= most else None


def _span(text: str, at: int, most: float) -> tuple[int | None, int]:
    """Return where a literal ends, and how deep its brackets are nested."""
    if quotation := _STRING.match(text, at):
        return quotation.end(), 0
    open_: list[str] = []
    deepest = 0
    while at < len(text) and deepest <= most:
        if text[at] in _CLOSING:
            open_.append(_CLOSING[text[at]])
            deepest = max(deepest, len(open_))
        elif not open_:
            break
        elif text[at] == open_[-1]:
            open_.pop()
        elif quotation := _STRING.match(text, at):
            at = quotation.end()
            continue
        elif text[at] in ")]}'\"":
            break
        at += 1
        if not open_:
            return at, deepest
    return None, deepest


def literal(text: str, lookup: Lookup | None = None) -> Any:
    """Return what a text means as a literal of Python or as JSON; raise :class:`NotLiteral` where it is neither.

    ``lookup`` returns the value of a variable: ``$name`` and ``{name}`` in a list, a dict or an f-string. What comes
    back may be more than JSON can carry: :func:`values.plain` refuses that.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError:
        raise NotLiteral(text) from None
    end, depth = _span(text, 0, math.inf)
    if end != len(text):
        raise NotLiteral(text)
    if depth > MAX_DEPTH:
        return _TOO_DEEP
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in strings
            tree = ast.parse(text if lookup is None else _DOLLAR.sub(_in_braces, text), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotLiteral(text) from None
    return _evaluate(tree.body, lookup)


def _in_braces(match: re.Match[str]) -> str:
    return match["string"] or f"{{{match['bare'] or match['braced']}}}"


def _evaluate(node: ast.expr, lookup: Lookup | None) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() | bytes() as value):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=ast.Constant() | ast.Name() as operand):
            number = _evaluate(operand, None)
            if type(number) in (int, float):
                return -number if isinstance(sign, ast.USub) else number
        case ast.Set(elts=[ast.Name(id=name)]) if lookup is not None:
            return lookup(name)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_evaluate(one, lookup) for one in elements]
        case ast.Dict(keys=keys, values=values):
            return _dict(
                [(_key(key, lookup), _evaluate(value, lookup)) for key, value in zip(keys, values, strict=True)]
            )
        case ast.Set(elts=elements) if not any(isinstance(one, ast.Set) for one in elements):
            return set(_dict([(_evaluate(one, lookup), None) for one in elements]))
        case ast.JoinedStr(values=parts) if lookup is not None:
            return "".join(_part(one, lookup) for one in parts)
    raise NotLiteral(ast.dump(node))


def _key(node: ast.expr | None, lookup: Lookup | None) -> Any:
    if node is None:  # ** of another dict
        raise NotLiteral
    return _evaluate(node, lookup)


def _dict(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(items)
    except TypeError:  # a list as a key
        raise NotLiteral from None


def _part(node: ast.expr, lookup: Lookup) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.FormattedValue(value=ast.Name(id=name), conversion=-1, format_spec=None):
            return str(lookup(name))
    raise BadRequest("f'...' accepts names only, as {name}, without format or expression")
