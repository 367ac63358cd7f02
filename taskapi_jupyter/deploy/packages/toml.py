"""TOML, and what its tables say of where packages come from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import shorten

if TYPE_CHECKING:
    from .requirements import Index

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore

_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


def read(text: str, shown: str, first: int = 1) -> dict[str, Any]:
    """Return a TOML text as a mapping; ``first`` is the number of its first line in ``shown``."""
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = str(error)
        at = _LINE.search(why)
        line = int(at[1]) if at else text.count("\n") + 1
        raise BadRequest(f"{shown}, line {line + first - 1}: {_LINE.sub('', why)}") from None
    return found


def get(table: Any, *keys: str) -> Any:
    """Return what is below some keys; None where one is missing."""
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def texts(value: Any, what: str) -> list[str]:
    """Return a list of texts, or raise :class:`BadRequest`; None is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{what} must be a list of texts, not {shorten(value)}")
    return value


def index(table: dict[str, Any], shown: str, found: Index, folder: str, environ: Mapping[str, str]) -> None:
    """Add what ``[tool.uv]`` says of indexes to ``found``; those that only ``sources`` would use are left out.

    ``environ`` may have the credentials of an index with a name (``UV_INDEX_NAME_USERNAME`` and ``_PASSWORD``).
    """
    given = table.get("index")
    if given is not None and not isinstance(given, list):
        raise BadRequest(f"{shown}: tool.uv.index must be a list of tables ([[tool.uv.index]])")
    for one in given or ():
        url = one.get("url") if isinstance(one, dict) else None
        if not isinstance(url, str):
            raise BadRequest(f"{shown}: each of tool.uv.index needs a url")
        if not one.get("explicit"):
            _add(found, "index_url" if one.get("default") else "extra_index_urls", _signed(url, one, environ), folder)
    if (url := table.get("index-url")) is not None:
        _add(found, "index_url", texts([url], f"{shown}: tool.uv.index-url")[0], folder)
    for key in ("extra-index-url", "find-links"):
        for each in texts(table.get(key), f"{shown}: tool.uv.{key}"):
            _add(found, "find_links" if key == "find-links" else "extra_index_urls", each, folder)
    found.no_index = found.no_index or table.get("no-index") is True


def _add(found: Index, key: str, value: str, folder: str) -> None:
    found.add(key, value if "://" in value else os.path.normpath(os.path.join(folder, value)))


def _signed(url: str, table: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the URL of an index with the credentials that the environment has for its name."""
    name = re.sub(r"[^A-Z0-9]", "_", str(table.get("name") or "").upper())
    user, password = (environ.get(f"UV_INDEX_{name}_{what}") for what in ("USERNAME", "PASSWORD"))
    if not name or (user is None and password is None) or "@" in urlsplit(url).netloc:
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user or '', safe='')}:{quote(password or '', safe='')}@{rest}"


def python_versions(value: object, what: str) -> str:
    """Return ``requires-python``, or raise :class:`BadRequest`."""
    try:
        if isinstance(value, str):
            return str(SpecifierSet(value))
    except InvalidSpecifier:
        pass
    raise BadRequest(f"{what} must be versions of Python, such as '>=3.11', not {shorten(value)}")
