"""Read a line of ``%taskapi``: words, options, KEY=VALUE, ``$variables``. No shell, no evaluation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from taskapi_jupyter.contract import MAX_BITS
from taskapi_jupyter.references import Unclear, shorten

from .verbs import ALIASES, VERBS, Option, Verb

_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>\w+)\})$")
_DECODER = json.JSONDecoder()
MAX_DEPTH = 100


class LineError(Unclear):
    """A line that can't be understood, with the verb (where it got that far) whose usage helps."""

    def __init__(self, message: str, verb: Verb | None = None) -> None:
        super().__init__(message)
        self.verb = verb


@dataclass(frozen=True)
class Token:
    """A word of the line without its quotes; ``plain`` says of each character that none protected it."""

    text: str
    plain: tuple[bool, ...]

    @property
    def is_option(self) -> bool:
        """Say whether it begins with a dash that was not quoted."""
        return len(self.text) > 1 and self.text[0] == "-" and self.plain[0]

    @property
    def variable(self) -> str | None:
        """Return the name where all of it is ``$name`` or ``${name}``."""
        found = _VARIABLE.match(self.text)
        name = (found["bare"] or found["braced"]) if found and self.plain[0] else None
        return name if name and name.isidentifier() else None

    def pair(self) -> tuple[str, Token] | None:
        """Part it at the first ``=`` that was not quoted."""
        for index, character in enumerate(self.text):
            if character == "=" and self.plain[index]:
                return self.text[:index], Token(self.text[index + 1 :], self.plain[index + 1 :])
        return None


@dataclass
class Line:
    """A line that was understood. ``words`` are text, or what a ``$variable`` holds."""

    verb: Verb
    words: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def split(text: str) -> list[Token]:
    """Split as a shell does at spaces and quotes; unquoted JSON lists and objects stay in one piece."""
    tokens: list[Token] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at].isspace():
            at += 1
        if at == end:
            return tokens
        token, at = _token(text, at)
        tokens.append(token)


def _token(text: str, at: int) -> tuple[Token, int]:
    """Read one token; return it and where it ends."""
    characters: list[str] = []
    plain: list[bool] = []
    quote, value_begins = "", True
    while at < len(text):
        character, follows = text[at], text[at + 1 : at + 2]
        if value_begins and character in "[{" and (stop := _json_end(text, at)):
            characters += text[at:stop]
            plain += [False] * (stop - at)
            at = stop
            continue
        value_begins = False
        if quote == character:
            quote = ""
        elif not quote and character.isspace():
            break
        elif not quote and character in "\"'":
            quote = character
        elif character == "\\" and follows and _escapes(follows, quote):
            characters.append(follows)
            plain.append(False)
            at += 1
        else:
            value_begins = not quote and character == "=" and "=" not in characters
            characters.append(character)
            plain.append(not quote)
        at += 1
    if quote:
        raise LineError(f"the quotation {quote} is not closed")
    return Token("".join(characters), tuple(plain)), at


def _escapes(character: str, quote: str) -> bool:
    """Say whether a backslash before this is no text; others stay (paths, patterns)."""
    return quote != "'" and (character in '"\\$' or (not quote and (character == "'" or character.isspace())))


def _json_end(text: str, at: int) -> int | None:
    """Return where the JSON that begins here ends, if it does at a space or at the line's end."""
    try:
        _, stop = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return stop if text[stop : stop + 1].strip() == "" else None


def parse(text: str, variables: Mapping[str, Any], *, cell: bool = False) -> Line:
    """Understand a line; ``variables`` are those of the notebook, ``cell`` says that a cell follows."""
    tokens = split(text)
    line = Line(_verb(tokens.pop(0) if tokens else None, cell))
    try:
        _fill(line, tokens, variables, cell)
    except LineError as error:
        error.verb = line.verb
        raise
    return line


def _verb(token: Token | None, cell: bool) -> Verb:
    name = token.text if token else "help"
    verb = VERBS.get(ALIASES.get(name, name))
    if verb is None:
        near = get_close_matches(name, [*VERBS, *ALIASES], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise LineError(f"there is no verb {shorten(name)}{hint} (%taskapi help lists them)")
    if cell and not verb.cell:
        raise LineError(f"{name} takes no cell: write %taskapi {name}, with one %", verb)
    return verb


def _fill(line: Line, tokens: list[Token], variables: Mapping[str, Any], cell: bool) -> None:
    taken = line.verb.taken(cell)
    options = {name: option for option in taken for name in (option.name, option.short) if name}
    rest = iter(tokens)
    for token in rest:
        if token.text == "--" and token.is_option:
            line.words += [_word(word, variables) for word in rest]
        elif token.is_option:
            option, value = _option(token, options)
            if value is None and option.kind != "flag":
                value = next(rest, None)
            _set(line, option, value, variables)
        elif line.verb.pairs and (pair := token.pair()):
            _pair(line, *pair, variables)
        else:
            line.words.append(_word(token, variables))


def _option(token: Token, options: Mapping[str, Option]) -> tuple[Option, Token | None]:
    """Return the option that a token names, and the value where that is written in one with it."""
    name, equals, given = token.text.partition("=")
    if name in options:
        return options[name], Token(given, token.plain[len(name) + 1 :]) if equals else None
    short, digits = options.get(token.text[:2]), token.text[2:]
    if short is not None and short.kind == "int" and digits.isdigit():
        return short, Token(digits, token.plain[2:])  # -n5
    near = get_close_matches(name, options, 1)
    raise LineError(f"there is no option {shorten(name)}" + (f"; did you mean {near[0]}?" if near else ""))


def _pair(line: Line, key: str, value: Token, variables: Mapping[str, Any]) -> None:
    if not key:
        raise LineError(f"{shorten('=' + value.text)} has no name; write key=value without spaces")
    if key in line.config:
        raise LineError(f"{key} is given twice")
    line.config[key] = read_value(value, variables, key)


def _set(line: Line, option: Option, value: Token | None, variables: Mapping[str, Any]) -> None:
    """Read an option's value and put it into the line."""
    if option.kind == "flag":
        if value is not None:
            raise LineError(f"{option.name} takes no value")
        line.options[option.key] = True
    elif value is None:
        raise LineError(f"{option.name} needs a value: {option.name} {option.metavar}")
    elif option.kind == "pair":
        pair = value.pair()
        if pair is None or not pair[0]:
            raise LineError(f"{option.name} is written {option.name} {option.metavar}, not {shorten(value.text)}")
        line.options.setdefault(option.key, {})[pair[0]] = _written(_word(pair[1], variables))
    elif option.kind == "name":
        line.options[option.key] = value.variable or value.text
    elif option.kind == "json":
        line.options[option.key] = _object(option, value, variables)
    else:
        word = _word(value, variables)
        line.options[option.key] = _whole(option, word) if option.kind == "int" else _written(word)


def _written(word: Any) -> str:
    try:
        return str(word)
    except Exception:  # of a variable, whose class is somebody else's
        raise LineError(f"{shorten(word)} can't be written as text") from None


def _whole(option: Option, word: Any) -> int:
    try:
        number = int(_written(word))
    except ValueError:
        raise LineError(f"{option.name} is a whole number, not {shorten(word)}") from None
    if number < 0:
        raise LineError(f"{option.name} can't be negative")
    return number


def _object(option: Option, token: Token, variables: Mapping[str, Any]) -> dict[str, Any]:
    value = read_value(token, variables, option.name)
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and token.variable is None:
        raise LineError(f"{option.name} is not valid JSON: {shorten(value)}")
    raise LineError(f"{option.name} is a JSON object or a dict, not {shorten(value)}")


def _word(token: Token, variables: Mapping[str, Any]) -> Any:
    return token.text if token.variable is None else _variable(token.variable, variables)


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise LineError(f"there is no variable {name}")
    return variables[name]


def read_value(token: Token, variables: Mapping[str, Any], where: str) -> Any:
    """Return a value: a variable's, JSON where it parses, text where not."""
    if token.variable is not None:
        return plain_value(_variable(token.variable, variables), f"{where} (${token.variable})")
    try:
        value = json.loads(token.text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return plain_value(token.text, where)
    return plain_value(value, where)


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and infinities are no JSON


def plain_value(value: Any, where: str, depth: int = 0) -> Any:
    """Return a Python value as JSON can carry it; scalars of NumPy and the like become plain ones."""
    if depth > MAX_DEPTH:
        raise LineError(f"{where} is nested too deeply")
    if hasattr(value, "dtype") and getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise LineError(f"{where} is a number of more than 4000 digits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise LineError(f"{where} is {value}, which JSON can't carry")
        return float(value)
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, list | tuple):
        return [plain_value(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, where): plain_value(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    hint = "; .tolist() makes it a list" if hasattr(value, "tolist") else ""
    raise LineError(f"{where} holds a {type(value).__name__}, which JSON can't carry{hint}")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise LineError(f"{where} has the key {shorten(key)}; the keys of configuration are text")
    return _text(key, where)


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LineError(f"{where} is not valid Unicode text") from None
    return str.__str__(text)  # of a subclass, an enumeration say, the text itself
