"""What of a request's URL goes up to a cluster: the path and the query as they came, and nothing that lets in here."""

from __future__ import annotations

from urllib.parse import unquote, unquote_plus

from taskapi_jupyter.core.errors import BadRequest

JUPYTERS = ("token", "_xsrf")  # parameters of the query that let in here


def upstream_url(endpoint: str, path: str, query: str | None) -> str:
    """Return the URL below an operator's endpoint; ``query`` is None where the request has no ``?``."""
    url = endpoint + checked(path)
    if query is not None and ((kept := without_jupyters(query)) or not query):
        url += f"?{kept}"
    if not _plain(url):
        raise BadRequest("the query holds characters that a URL can't have")
    return url


def checked(path: str) -> str:
    """Return a path as it came, or refuse one that a server may take for another."""
    decoded = unquote(unquote(path))
    if not _plain(path) or "\\" in decoded:
        raise BadRequest("the path holds characters that a URL can't have")
    if {".", ".."} & set(decoded.split("/")):
        raise BadRequest("the path must not hold '.' or '..'")
    return path


def without_jupyters(query: str) -> str:
    """Return a query as it came, but for the parameters that let in here, however their names are written."""
    return "&".join(one for one in query.split("&") if unquote_plus(one.partition("=")[0]) not in JUPYTERS)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not {" ", "#"} & set(text)
