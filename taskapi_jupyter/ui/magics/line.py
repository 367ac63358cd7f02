"""Parse a line of ``%taskapi``: words, options, KEY=VALUE and variables of the notebook. Nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from typing import Any
from unicodedata import normalize

from taskapi_jupyter.client.chains import apart
from taskapi_jupyter.client.job_lookup import Unclear, shorten
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.api_spec.quantities import parse_seconds
from taskapi_jupyter.deploy.literals import NotLiteral, literal, literal_end
from taskapi_jupyter.deploy.notebook import is_notebook
from taskapi_jupyter.deploy.values import plain
from taskapi_jupyter.ui.verbs import ALIASES, VERBS, Option, Verb

_NAME = r"[^\W\d]\w*"
_VARIABLE = re.compile(rf"\$({_NAME})|\$\{{({_NAME})\}}|\{{({_NAME})\}}")
#: A variable, or what is left of one that is doubled: ``$$name``, ``{{name}}``.
_REPLACED = re.compile(rf"\$(\$(?:{_NAME}|\{{{_NAME}\}}))|\{{(\{{{_NAME}\}})\}}|(?P<variable>{_VARIABLE.pattern})")
_EXPRESSION = re.compile(rf"(?<!\\)\{{({_NAME})[.\[(:!][^{{}}]*\}}")
_PREFIXES = "rRuUbBfF"


class LineError(Unclear):
    """A line that can't be understood, with the verb, if that much is clear, whose usage helps."""

    def __init__(self, message: str, verb: Verb | None = None) -> None:
        super().__init__(message)
        self.verb = verb


@dataclass(frozen=True)
class Token:
    """A word of the line.

    ``text`` is without quotes; ``marks`` has for each of its characters ``p`` (plain), ``q`` (quoted, or in a literal)
    or ``e`` (behind a backslash). ``raw`` is as written, ``behind`` the same of what follows the ``=`` at ``equals``,
    the first that is plain.
    """

    text: str
    marks: str
    raw: str
    equals: int = -1
    behind: str = ""

    @property
    def is_option(self) -> bool:
        """Whether it begins with a dash that was not quoted."""
        return len(self.text) > 1 and self.text[0] == "-" and self.marks[0] == "p"

    @property
    def variable(self) -> str | None:
        """The name, if the whole word is ``$name``, ``${name}`` or ``{name}``."""
        found = _VARIABLE.fullmatch(self.text) if self.marks and set(self.marks) == {"p"} else None
        return _name(found) if found else None

    def pair(self) -> tuple[str, Token] | None:
        """Split it at the first ``=`` that was not quoted."""
        if self.equals < 0:
            return None
        at = self.equals + 1
        return self.text[: self.equals], Token(self.text[at:], self.marks[at:], self.behind)

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield its longest parts of one mark, each with that mark."""
        for mark, characters in groupby(zip(self.marks, self.text, strict=True), key=lambda one: one[0]):
            yield mark, "".join(character for _, character in characters)


@dataclass
class Line:
    """A parsed line. ``words`` are text, or the values of variables; ``notes`` are hints for the user."""

    verb: Verb
    words: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split(text: str) -> list[Token]:
    """Split as a shell does, but not within literals; a word that begins with # begins a comment."""
    tokens: list[Token] = []
    at, end = 0, len(text)
    while True:
        while at < end and text[at].isspace():
            at += 1
        if at == end or text[at] == "#":
            return tokens
        token, at = _token(text, at)
        tokens.append(token)


def _token(text: str, at: int) -> tuple[Token, int]:
    """Read one token; return it and where it ends."""
    begin, equals, behind = at, -1, at
    characters: list[str] = []
    marks: list[str] = []
    quote, value_begins = "", True
    while at < len(text):
        character, follows = text[at], text[at + 1 : at + 2]
        if value_begins and (stop := _literal_end(text, at, equals >= 0)):
            content = _content(text[at:stop])
            characters += content
            marks += "q" * len(content)
            at = stop
            break
        value_begins = False
        if quote == character:
            quote = ""
        elif not quote and character.isspace():
            break
        elif not quote and character in "\"'":
            quote = character
        elif character == "\\" and follows and _escapes(follows, quote):
            characters.append(follows)
            marks.append("e")
            at += 1
        else:
            if character == "=" and not quote and equals < 0:
                equals, behind, value_begins = len(characters), at + 1, True
            characters.append(character)
            marks.append("q" if quote else "p")
        at += 1
    if quote:
        raise LineError(f"the quote {quote} is not closed")
    return Token("".join(characters), "".join(marks), text[begin:at], equals, text[behind:at]), at


def _escapes(character: str, quote: str) -> bool:
    """Whether a backslash escapes this character; elsewhere it is text (paths, patterns)."""
    return quote != "'" and (character in '"\\$' or (not quote and (character in "'{" or character.isspace())))


def _literal_end(text: str, at: int, in_pair: bool) -> int | None:
    """Return where a literal that begins here ends, if it does at a space or at the line's end.

    Only the value of a pair is quoted as in Python; words are quoted as in a shell.
    """
    if text[at] in "([{":
        if _VARIABLE.match(text, at):
            return None
    elif not in_pair or text[at] not in _PREFIXES + "\"'":
        return None
    stop = literal_end(text, at)
    if not stop or text[stop : stop + 1].strip():
        return None
    try:
        literal(text[at:stop], lambda name: "")
    except NotLiteral:
        return None
    except BadRequest:
        pass  # raised again when the value is read
    return stop


def _content(raw: str) -> str:
    """Return quoted text without its quotes, and a list or dict as it is."""
    text = raw.lstrip(_PREFIXES)
    if text[0] not in "\"'":
        return raw
    return re.sub(r'\\(["\\$])', r"\1", text[1:-1]) if text[0] == '"' else text[1:-1]


def parse(text: str, variables: Mapping[str, Any], *, cell: bool = False) -> Line:
    """Parse a line; ``variables`` are those of the notebook, ``cell`` says that a cell follows."""
    tokens = split(text)
    line = Line(_verb(tokens.pop(0) if tokens else None, cell))
    try:
        _Filler(line, variables, cell).fill(tokens)
        _check_notebook_options(line, cell)
    except (LineError, BadRequest) as error:
        raise LineError(str(error), line.verb) from None
    return line


def _check_notebook_options(line: Line, cell: bool) -> None:
    """Raise where a line has options of a notebook, and names no notebook's file."""
    given = () if cell else [one.name for one in line.verb.notebook_options if one.key in line.options]
    if given and not any(is_notebook(str(word)) for word in line.words[:1]):
        raise LineError(f"{given[0]} is for a notebook: give the path of a file that ends in .ipynb")


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


class _Filler:
    """Puts the words of a line into it."""

    def __init__(self, line: Line, variables: Mapping[str, Any], cell: bool) -> None:
        self.line, self.variables = line, variables
        self.options = {name: each for each in line.verb.taken(cell) for name in (each.name, each.short) if name}

    def fill(self, tokens: list[Token]) -> None:
        rest = list(tokens)
        while rest:
            token = rest.pop(0)
            if token.text == "--" and token.is_option:
                self.line.words += [self.word(word) for word in rest]
                break
            if token.is_option:
                option, value = self.option(token)
                if value is None and rest and option.kind != "flag":
                    follows = not rest[0].is_option and rest[0].pair() is None
                    if option.kind != "maybe" or (self.line.words and follows):  # the first word is a name
                        value = rest.pop(0)
                self.set(option, value)
            elif self.line.verb.pairs and (pair := token.pair()):
                self.pair(*pair)
            else:
                self.line.words.append(self.word(token))

    def option(self, token: Token) -> tuple[Option, Token | None]:
        """Return the option that a token names, and the value where that is written in one with it."""
        name, given = token.pair() or (token.text, None)
        if name in self.options:
            return self.options[name], given
        short, digits = self.options.get(token.text[:2]), token.text[2:]
        if short is not None and short.kind == "int" and digits.isdigit():
            return short, Token(digits, token.marks[2:], digits)  # -n5
        near = [one for one in self.options if sorted(one) == sorted(name)] or get_close_matches(name, self.options, 1)
        raise LineError(f"there is no option {shorten(name)}" + (f"; did you mean {near[0]}?" if near else ""))

    def pair(self, key: str, value: Token) -> None:
        if not key:
            raise LineError(f"{shorten('=' + value.text)} has no name; write key=value without spaces")
        if key in self.line.config:
            raise LineError(f"{key} is given twice")
        self.line.config[key] = self.value(value, key)

    def set(self, option: Option, value: Token | None) -> None:
        """Read an option's value and put it into the line."""
        options = self.line.options
        if option.kind == "flag":
            if value is not None:
                raise LineError(f"{option.name} takes no value")
            options[option.key] = True
        elif value is None and option.kind == "maybe":
            options[option.key] = True
        elif value is None:
            raise LineError(f"{option.name} needs a value: {option.name} {option.metavar}")
        elif option.kind in ("pair", "texts", "jobs", "input"):
            self.add(option, value)
        elif option.kind == "name":
            options[option.key] = value.variable or value.text
        elif option.kind == "json":
            options[option.key] = self.object(option, value)
        elif option.kind == "time":
            least = 0 if self.line.verb.name == "wait" else 1
            options[option.key] = parse_seconds(_written(self.word(value)), option.name, least)
        else:
            word = self.word(value)
            options[option.key] = _whole(option, word) if option.kind in ("int", "number") else _written(word)

    def add(self, option: Option, value: Token) -> None:
        """Read the value of an option that may be given again, and add it to the others."""
        options = self.line.options
        if option.kind == "texts":
            options.setdefault(option.key, []).append(_written(self.word(value)))
        elif option.kind == "jobs":
            word = self.word(value)
            words = [one.strip() for one in word.split(",") if one.strip()] if isinstance(word, str) else [word]
            options.setdefault(option.key, []).extend(words)
        else:
            pair = value.pair()
            if pair is None or not pair[0]:
                raise LineError(f"write {option.name} {option.metavar}, not {shorten(value.text)}")
            found = _written(self.quoted(pair[1])) if option.kind == "pair" else self.word(pair[1])
            options.setdefault(option.key, {})[pair[0]] = found

    def object(self, option: Option, token: Token) -> dict[str, Any]:
        value = self.value(token, option.name)
        if isinstance(value, dict):
            return value
        raise LineError(f"{option.name} must be a JSON object or a dict, not {shorten(value)}")

    def value(self, token: Token, where: str) -> Any:
        """Return a value: a variable's, that of a literal of Python or of JSON, else text."""
        if token.variable is not None:
            return _plain(self.variable(token.variable), f"{where} (${token.variable})")
        if token.raw[:1] in ("'", '"') and token.text.strip()[:1] in ("[", "{", '"', "'"):
            try:  # as in a shell, whose quotes are not the value's
                if not isinstance(found := literal(token.text.strip()), set):
                    return plain(found, where)
            except NotLiteral:
                pass
        try:
            found = literal(token.raw, self.variable)
        except NotLiteral:
            found = self.text(token)
        else:
            if token.raw[:1] in ("'", '"'):
                self.note(token)
        return plain(found, where)

    def word(self, token: Token) -> Any:
        """Return a word: text, or a variable's value where all of it names one."""
        return self.text(token) if token.variable is None else self.variable(token.variable)

    def quoted(self, token: Token) -> Any:
        """Return a word which may be quoted as in Python."""
        if token.raw.lstrip(_PREFIXES)[:1] in ("'", '"'):
            try:
                return literal(token.raw, self.variable)
            except NotLiteral:
                pass
        return self.word(token)

    def text(self, token: Token) -> str:
        """Return a word with the values of variables in it."""
        self.note(token)
        return "".join(_REPLACED.sub(self.replaced, part) if mark == "p" else part for mark, part in token.parts())

    def replaced(self, match: re.Match[str]) -> str:
        if variable := match["variable"]:
            return _written(self.variable(str(variable).strip("${}")))
        return str(match[1] or match[2])

    def note(self, token: Token) -> None:
        """Add a note where something looks like a variable of the notebook but is left as it is."""
        quoted = [match for mark, part in token.parts() if mark == "q" for match in _VARIABLE.finditer(part)]
        others = [] if token.raw[:1] in ("'", '"') else _EXPRESSION.finditer(token.raw)
        for why, matches in (
            ("quoted text is taken as it is (f'...' is not)", quoted),
            ("only {name} is replaced", others),
        ):
            for match in matches:
                if _name(match) in self.variables:
                    self.line.notes.append(f"{match[0]} stays as written: {why}")

    def variable(self, name: str) -> Any:
        name = normalize("NFKC", name)  # as Python does
        if name not in self.variables:
            near = get_close_matches(name, [one for one in self.variables if not one.startswith("_")], 1)
            raise LineError(f"there is no variable {name}" + (f"; did you mean {near[0]}?" if near else ""))
        return self.variables[name]


def _plain(value: Any, where: str) -> Any:
    """Return a variable's value in JSON's types, but for jobs, which mean their results."""
    if isinstance(value, Job):
        return value
    rest, jobs = apart(value) if isinstance(value, Mapping) else (value, {})
    return {**plain(rest, where), **jobs} if jobs else plain(rest, where)


def _name(match: re.Match[str]) -> str:
    """Return the name in a match of a variable."""
    return str(next(filter(None, match.groups())))


def _written(word: Any) -> str:
    try:
        return str(word)
    except Exception:  # raised by the class of a variable's value
        raise LineError(f"{shorten(word)} can't be written as text") from None


def _whole(option: Option, word: Any) -> int:
    try:
        number = int(_written(word))
    except ValueError:
        raise LineError(f"{option.name} must be a whole number, not {shorten(word)}") from None
    if number < 0 and option.kind == "int":
        raise LineError(f"{option.name} can't be negative")
    return number
