"""The parameters of a task: their documentation, and the comparison of a config with them.

Each is a mapping of ``name`` and ``required``, and, where there is one, ``default`` (as JSON), ``type`` (the annotation
as text) and ``help``. ``**name`` stands for any others that a function takes, ``**`` for what is not known: a decorator
may take other parameters than the function, or fill some itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any

from msgspec import Meta

from taskapi_jupyter.deploy.values import shorten

from .sections import Parameter, read
from .task_source import MAX_DOC, MAX_PARAMETERS, is_json

MAX_TEXT = 200  # characters of a type or a help
_KEYS = ("name", "required", "default", "type", "help")
_Parameters = Annotated[
    list[Parameter], Meta(max_length=MAX_PARAMETERS + 1, description=f"a list of at most {MAX_PARAMETERS} parameters")
]
_SECTION = re.compile(r"\s*(?:args|arguments|(?:other |keyword )?parameters|keyword arg(?:ument)?s)\s*:?\s*$", re.I)
_FIELD = re.compile(r"\s*:(?:param|parameter|arg|argument|key|keyword)\s+([^:]{1,200}):(.*)")
_ITEM = re.compile(r"\s*(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+){0,20})\s*(?:\(.{0,200}?\))?\s*(?::(.*))?$")


def documented(parameters: Iterable[Mapping[str, Any]], doc: str) -> list[dict[str, Any]]:
    """Return parameters with their help from a docstring (numpy's style, Google's or reST), texts cut to a length."""
    helps = _helps(doc[:MAX_DOC])
    found = []
    for one in parameters:
        texts = {"type": one.get("type"), "help": one.get("help") or helps.get(one["name"].lstrip("*"))}
        known = {key: one[key] for key in _KEYS if key in one and key not in texts}
        found.append({**known, **{key: _cut(text) for key, text in texts.items() if text}})
    return found


def of_callable(value: Any) -> list[dict[str, Any]]:
    """Check and return ``definition.parameters``, in which a kernel describes a pickled callable."""
    found = []
    for one in read(_Parameters, value, "definition.parameters"):
        texts = {key: _cut(text) for key in ("type", "help") if (text := getattr(one, key))}
        kept = {"default": one.default} if is_json(one.default) else {}
        found.append({"name": one.name, **kept, "required": one.required is True, **texts})
    return found


def of(spec: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the parameters in a checked specification; None if its task takes ``config`` or they are unknown."""
    found: list[dict[str, Any]] | None = (spec.get("definition") or {}).get("parameters")
    return found


def hint(spec: Mapping[str, Any]) -> str:
    """Return the end of a complaint about a notebook's parameters: what makes something one."""
    path = str((spec.get("definition") or {}).get("path"))
    return "; those of a notebook are assigned in its cell tagged parameters" if path.endswith(".ipynb") else ""


def complaint(parameters: Sequence[Mapping[str, Any]], given: Iterable[str], whole: bool = True) -> str | None:
    """Return what is wrong with the keys of a config, or None.

    ``whole``: the config is all that a job gets, so that no required parameter may be missing.
    """
    named = {one["name"]: bool(one["required"]) for one in parameters if not one["name"].startswith("*")}
    beyond = {one["name"] for one in parameters} - named.keys()
    if "**" in beyond:
        return None
    given = list(given)
    unknown = [] if beyond else [key for key in given if key not in named]
    missing = [name for name, required in named.items() if whole and required and name not in given]
    if not unknown and not missing:
        return None
    sentences = []
    if unknown:
        many = "s" if len(unknown) > 1 else ""
        sentences.append(f"there is no parameter{many} {_listed(map(shorten, unknown))}")
    if missing:
        sentences.append(f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    order = [*named] if not unknown else difflib.get_close_matches(unknown[0][:100], named, len(named) or 1, 0)
    takes = _listed([name + " (required)" * named[name] for name in order] + sorted(beyond), 20)
    alone = missing and len(named) == 1
    hint = "; a task that takes the whole config calls its parameter config" if alone else ""
    return f"{' and '.join(sentences)}: it takes {takes or 'none'}{hint}"


def _listed(words: Iterable[str], limit: int = 5) -> str:
    words = [*words]
    more = [f"and {len(words) - limit} more"] if len(words) > limit else []
    return ", ".join(words[:limit] + more)


def _cut(text: str) -> str:
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1].rstrip() + "…"


def _helps(doc: str) -> dict[str, str]:
    """Return what a docstring says of each parameter: the first paragraph below its name."""
    found: dict[str, str] = {}
    lines = doc.expandtabs().splitlines()
    heading, items, numpy = -1, -1, False  # indentations: of the section's heading, of what it lists; -1: in none
    for index, line in enumerate(lines):
        indent = _indent(line)
        ruled = index + 1 < len(lines) and set(lines[index + 1].strip()) in ({"-"}, {"="})
        if field := _FIELD.match(line):
            _put(found, field[1].split()[-1:], field[2], lines[index:])
        elif _SECTION.match(line) and (ruled or line.rstrip().endswith(":")):
            heading, items, numpy = indent, indent if ruled else -1, ruled
        elif ruled or (not numpy and line.strip() and indent <= heading):
            heading = -1  # another heading, or what follows the section
        elif heading >= 0 and (item := _ITEM.match(line)) and indent == (indent if items < 0 else items):
            items = indent
            if numpy or item[2]:
                _put(found, item[1].split(","), "" if numpy else item[2], lines[index:])
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _put(found: dict[str, str], names: Iterable[str], text: str, lines: list[str]) -> None:
    """Put in a text for names of the first line, continued by the lines below that are indented more."""
    below = takewhile(lambda line: line.strip() and _indent(line) > _indent(lines[0]), lines[1:50])
    whole = " ".join([text, *below])
    for name in names:
        found.setdefault(name.strip().lstrip("*"), whole)
