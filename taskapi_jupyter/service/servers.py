"""``servers/PID.json``: which Jupyter servers use a home, for processes that read the home without a server.

A server writes ``{"url", "pid", "start_time"}`` when it starts and removes it when it ends. The next reader removes the
file of a killed server. It holds no credentials.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from taskapi_jupyter.core import files, host, nesting, process
from taskapi_jupyter.core.paths import HomePaths

MAX_FILES = 1000  # that are read
MAX_BYTES = 4096
MAX_URL = 2000  # characters
HOLDS = 0.2  # seconds for which an answer is reused

_NAME = re.compile(r"\.?([1-9][0-9]{0,9})\.json((\.[0-9]+-[0-9]+)?\.tmp)?")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Running(NamedTuple):
    """A server that runs."""

    url: str  # with its base URL and a slash at the end
    pid: int


def write(home: str | os.PathLike[str], url: str) -> None:
    """Write this process's file, unless it is up to date; raise OSError where it can't be written."""
    pid = os.getpid()
    record = {"url": url, "pid": pid, "start_time": process.start_time(pid)}
    folder = HomePaths(os.fspath(home)).servers
    path = os.path.join(folder, f"{pid}.json")
    if _read(path) == record:
        return
    files.create_folder(folder)
    files.write_atomic(path, json.dumps(record).encode(), sync=False)


def remove(home: str | os.PathLike[str]) -> None:
    """Remove this process's file."""
    with suppress(OSError):
        os.unlink(os.path.join(HomePaths(os.fspath(home)).servers, f"{os.getpid()}.json"))


def running(home: str | os.PathLike[str]) -> list[Running]:
    """Return the servers that use a home, the newest first; remove the files of those that have ended."""
    found: list[tuple[float, Running]] = []
    try:
        folder = os.open(HomePaths(os.fspath(home)).servers, _FOLDER_FLAGS)
    except OSError:
        return []
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            return []
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_FILES)]
        for match in filter(None, map(_NAME.fullmatch, names)):
            pid = int(match[1])
            record = _read(match[0], folder)
            started = _started(pid)
            if started is None or (record.get("pid") == pid and _other(record.get("start_time"), started)):
                with suppress(OSError):  # a folder of that name stays, as whatever else is no file of a server
                    os.unlink(match[0], dir_fd=folder)
            elif record.get("pid") == pid and record.get("start_time") == started and (url := _usable(record)):
                found.append((float(started), Running(url, pid)))
    except OSError:
        pass
    finally:
        os.close(folder)
    return [server for _, server in sorted(found, reverse=True)]


class Endpoints:
    """The URLs of an environment's APIs at the newest server of a home; None where no server runs."""

    def __init__(self, home: str | os.PathLike[str], environment: str) -> None:
        self._home = home
        self._environment = environment
        self._seen: tuple[float, str | None] = (float("-inf"), None)

    def __call__(self, api: str) -> str | None:
        """Return the URL that an API's jobs are submitted to."""
        looked, url = self._seen
        if time.monotonic() - looked > HOLDS:
            servers = running(self._home)
            url = servers[0].url if servers else None
            self._seen = (time.monotonic(), url)
        return f"{url}taskapi/{quote(self._environment)}/tasks/{quote(api)}" if url else None


def _read(path: str, folder: int | None = None) -> dict[str, Any]:
    """Return what a file holds, {} for what can't be read."""
    try:
        with open(files.open_plain(path, folder), "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return {}
            record = nesting.loads(file.read(MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _started(pid: int) -> str | None:
    """Return when a process started; None for one that has ended, a zombie included."""
    if host.LINUX:
        try:
            fields = process.stat(pid)
            return None if fields[0] in "ZX" else fields[19]
        except (OSError, IndexError):
            return None
    return process.start_time(pid)


def _other(recorded: object, started: str) -> bool:
    """Whether a process is not the recorded one. A server writes text; a file with anything else is not a server's."""
    return isinstance(recorded, str) and recorded != started


def _usable(record: dict[str, Any]) -> str | None:
    """Return the URL of a record; None where it is not a plain HTTP URL."""
    url = record.get("url")
    if not isinstance(url, str) or len(url) > MAX_URL or not re.fullmatch(r"[!-~]+", url) or set("<>\"'\\") & set(url):
        return None
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    if not fits or parts.username is not None or parts.query or parts.fragment:
        return None
    return url.rstrip("/") + "/"
