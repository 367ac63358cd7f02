"""Links to a job's files: a route of the page's own server, or a link that holds the file; else its path as text."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from taskapi_jupyter import environments
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.contract import FileEntry

from .html import files

EMBEDDED = 1 << 20  # bytes that the links of a job may hold together
LISTED = 100  # files


def files_html(api: TaskAPI, job: Job) -> str:
    """List a job's files, each with a link or with the place where it is."""
    entries = api.files(job)
    listed = entries[:LISTED]
    route = _route(api)
    if route is not None:
        shown = [(one, f"{route}/jobs/{quote(job.id)}/files/{quote(one.path)}", "") for one in listed]
    else:
        shown = _held(api, job, listed)
    return files(shown, len(entries) - len(listed), entries.truncated)


def _route(api: TaskAPI) -> str | None:
    """Return the path of an environment on the server whose pages show this kernel; None where another one has it.

    A browser has a session there: the link needs no token, and holds none.
    """
    url, server = api.base_url, environments.own_server()
    return urlsplit(url).path if url and server and url.startswith(server) else None


def _held(api: TaskAPI, job: Job, entries: Sequence[FileEntry]) -> list[tuple[FileEntry, str, str]]:
    """Put small files into their links; name the place of the others."""
    room, found = EMBEDDED, []
    folder = api.output_dir(job) if entries else None
    for entry in entries:
        link = ""
        if entry.size <= room:
            data = api.read_file(job, entry.path)
            if len(data) <= room:
                kind = mimetypes.guess_type(entry.path)[0] or "application/octet-stream"
                link = f"data:{kind};base64,{base64.b64encode(data).decode()}"
                room -= len(data)
        where = f"in {folder}" if folder else "job.read_file(path) returns it"
        found.append((entry, link, "" if link else where))
    return found
