"""Values of configurations: Python's made plain, so that JSON can carry them; and read as people write them."""

from __future__ import annotations

import ast
import datetime
import json
import math
import numbers
import re
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from taskapi_jupyter.core.contract import MAX_BITS, MAX_BODY
from taskapi_jupyter.core.errors import BadRequest, TooLarge, short, size
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
    """A text that is no literal."""


def plain(value: Any, where: str = "", *, nodes: int = MAX_BODY, text: int = MAX_BODY) -> Any:
    """Copy a value into what JSON has, exactly; raise :class:`BadRequest` that says where there is something else.

    Scalars of NumPy and the like become numbers, subclasses (enumerations too) what they are made of, tuples lists;
    dates become ISO 8601 text and paths text. ``nodes`` and ``text`` are how many values and characters it may have.
    """
    return _Plain(where or "the configuration", nodes, text).of(value, where, 0)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a submission's config as JSON can carry it; errors name the key, as ``config.lr``."""
    if not isinstance(config, Mapping):
        raise BadRequest(f"config must be a mapping of names to values, not a {type(config).__name__}")
    result: dict[str, Any] = _Plain("config", MAX_BODY, MAX_BODY).of(config, "config", -1)
    return result


class _Plain:
    """One value being made plain."""

    def __init__(self, what: str, nodes: int, text: int) -> None:
        self.what, self.most_nodes, self.most_text = what, nodes, text
        self.nodes = self.text = 0

    def of(self, value: Any, where: str, depth: int) -> Any:
        if hasattr(value, "dtype") and getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
            value = _scalar(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise BadRequest(f"{where or self.what} is a number of more than 4000 digits")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise BadRequest(f"{where or self.what} is {float(value)}, which JSON can't carry")
            return float(value)
        if isinstance(value, Mapping | list | tuple):
            return self._container(value, where, depth + 1)
        if isinstance(value, datetime.date) and str(value) != "NaT":  # of pandas, which is a date, too
            return value.isoformat()
        if isinstance(value, PurePath):
            return self._text(str(value), where)
        raise BadRequest(f"{where or self.what} is {_shown(value)}, which JSON can't carry{_hint(value)}")

    def _container(self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], where: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise BadRequest(
                f"{short(where or self.what)} is nested deeper than {MAX_DEPTH} levels, or contains itself"
            )
        self.nodes += 1 + len(value)
        if self.nodes > self.most_nodes:
            raise TooLarge(f"{self.what} is too large: it has more than {self.most_nodes} values")
        if not isinstance(value, Mapping):
            return [
                one if _is_simple(one) else self.of(one, f"{where}[{index}]", depth) for index, one in enumerate(value)
            ]
        result = {}
        for key, one in value.items():
            if not isinstance(key, str):
                raise BadRequest(f"the key {_shown(key)} in {where or self.what} is no text; put it in quotes")
            name = self._text(key, where)
            result[name] = self.of(one, f"{where}.{name[:60]}" if where else name[:60], depth)
        return result

    def _text(self, text: str, where: str) -> str:
        self.text += len(text)
        if self.text > self.most_text:
            raise TooLarge(f"{self.what} is larger than {size(self.most_text)}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"{where or self.what} is not valid Unicode text") from None
        return str.__str__(text)  # of a subclass, an enumeration say, the text itself


def _is_simple(value: Any) -> bool:
    """Return whether this is a number that is plain as it is: long lists have them."""
    kind = type(value)
    return (kind is int and -(2**63) <= value < 2**63) or (kind is float and math.isfinite(value))


def _scalar(value: Any) -> Any:
    """Return a scalar of NumPy, PyTorch and the like as Python has it."""
    if getattr(value.dtype, "kind", "") == "M":  # item() of one with nanoseconds is a number
        return value if str(value) == "NaT" else str(value)
    found = value.item()
    return float(found) if isinstance(found, numbers.Real) and not isinstance(found, int | float) else found


def _shown(value: Any) -> str:
    if isinstance(value, int | float | tuple) or value is None:
        try:
            return repr(value)[:60]
        except ValueError:  # a number that is too long to be written
            pass
    return f"a {type(value).__name__}"


def _hint(value: Any) -> str:
    if isinstance(value, Enum):
        return "; its .value may do"
    if isinstance(value, set | frozenset):
        return "; write a list"
    return "; .tolist() makes it a list" if hasattr(value, "tolist") else ""


# Reading


def literal_end(text: str, at: int = 0, most: int = 1000) -> int | None:
    """Return where a quotation or a pair of brackets that begins at ``at`` ends, as Python has it; else None.

    More than ``most`` levels of brackets are none.
    """
    end, depth = _span(text, at, most)
    return end if depth <= most else None


def _span(text: str, at: int, most: float) -> tuple[int | None, int]:
    """Return where a literal ends, and how deep its brackets go."""
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
    back may be more than JSON can carry: :func:`plain` refuses that.
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
    raise BadRequest("f'...' takes names alone: {name}, without a format or an expression")
