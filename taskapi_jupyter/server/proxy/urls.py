"""The URL that a request is passed on to: path and query as they came, without credentials of this server."""

from __future__ import annotations

from urllib.parse import unquote, unquote_plus

from taskapi_jupyter.core.errors import BadRequest

JUPYTERS = ("token", "_xsrf")  # parameters of the query that are credentials of this server


def upstream_url(endpoint: str, path: str, query: str | None) -> str:
    """Return the URL below an operator's endpoint; ``query`` is None where the request has no ``?``."""
    url = endpoint + checked(path)
    if query is not None and ((kept := without_jupyters(query)) or not query):
        url += f"?{kept}"
    if not _plain(url):
        raise BadRequest("the query holds characters that a URL can't have")
    return url


def checked(path: str) -> str:
    """Return a path as it came; raise for one that a server may normalize to another."""
    decoded = unquote(unquote(path))
    if not _plain(path) or "\\" in decoded:
        raise BadRequest("the path holds characters that a URL can't have")
    if {".", ".."} & set(decoded.split("/")):
        raise BadRequest("the path must not hold '.' or '..'")
    return path


def without_jupyters(query: str) -> str:
    """Return a query as it came, without this server's credentials, however their names are encoded."""
    return "&".join(one for one in query.split("&") if unquote_plus(one.partition("=")[0]) not in JUPYTERS)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not {" ", "#"} & set(text)
