"""``jupyter taskapi doctor``: what is wrong with a home, in sentences. It changes nothing.

Except that files which servers left behind are removed, as by everything that reads them.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from taskapi_jupyter import environments
from taskapi_jupyter._version import __version__
from taskapi_jupyter.client import environments_file
from taskapi_jupyter.core import guard, host, process, room
from taskapi_jupyter.core.errors import BadRequest, TaskAPIError, Unavailable, size
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.deploy.times import Times
from taskapi_jupyter.runner import capacity, gpus
from taskapi_jupyter.service import config, packages, records, servers
from taskapi_jupyter.service.home import default_home
from taskapi_jupyter.service.store import database, readable
from taskapi_jupyter.service.supervisor import conditions, lock
from taskapi_jupyter.service.writing import notifications

_NAMED = 20  # unreadable rows that are named one by one
_LONGEST = 10.0  # seconds that a program may take to say what it knows

Check = Callable[[Path], Iterable[str]]


def facts(home: Path) -> dict[str, str]:
    """Return the head of a report: which home, and the versions of what serves it."""
    has = capacity.here()
    return {
        "home": str(home),
        "version": __version__,
        "server": _server(home),
        "supervisor": _version_of_supervisor(home),
        "machine": f"{has.cores / 1000:g} cores, {size(has.memory)} of memory",
        "interpreters": _interpreters(),
        "packages": _packages_of(home),
    }


def answering() -> dict[str, str]:
    """Return the home, the server and the versions that the magics of this kernel use."""
    home, handed = default_home(), os.environ.get("TASKAPI_SERVER")
    server = environments.server_of(os.environ)
    if server is not None:
        about = environments.about(*server)
        told = f"{server[0]} (taskapi_jupyter {about.version if about else 'unknown'})"
        if about is None or not about.home or about.home != host.folder_id(home):
            return {"home": "that of the server", "server": told, "this kernel": f"taskapi_jupyter {__version__}"}
    elif own := environments.own_server() or handed:
        told = f"none: {own} refuses this kernel{', which uses its home directly' if handed else ''}"
    else:
        told = "none; this kernel uses the home directly"
    return {
        "home": str(home),
        "server": told,
        "supervisor": _version_of_supervisor(home),
        "this kernel": f"taskapi_jupyter {__version__}",
    }


def _server(home: Path) -> str:
    """Return the newest server that uses a home, and its version if it tells."""
    running = servers.running(home)
    if not running:
        return "none running"
    known = environments.server_of_process(running[0].pid)
    about = environments.about(*known) if known else None
    return f"{running[0].url} (taskapi_jupyter {about.version})" if about else running[0].url


def _version_of_supervisor(home: Path) -> str:
    record = _supervisor_record(home)
    return f"taskapi_jupyter {record.get('version')} (process {record['pid']})" if record else "none running"


def _supervisor_record(home: Path) -> dict[str, Any]:
    """Return the record of a home's living supervisor; {} where there is none, or it is another user's."""
    record = lock.holder(home)
    return record if process.is_there(record) else {}


def _uv() -> str | None:
    """Return where the uv is that would build environments, None where there is none."""
    from taskapi_jupyter.deploy.packages.builders import find_uv  # it takes time to import

    return find_uv(os.environ.get("PATH"), sys.executable)


def _pip() -> str | None:
    """Return the version of this interpreter's pip."""
    try:
        return metadata.version("pip")
    except metadata.PackageNotFoundError:
        return None


def _printed(*command: str) -> str:
    """Return what a program prints; nothing where it fails, or takes long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LONGEST).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def _interpreters() -> str:
    """Return this interpreter, and of other versions those that uv finds."""
    from taskapi_jupyter.deploy.packages.search import listed

    found = {platform.python_version(): sys.executable}
    if uv := _uv():
        for one in listed(uv, os.environ):
            found.setdefault(one.version, one.path)
    return ", ".join(f"{version} ({path})" for version, path in found.items())


def _packages_of(home: Path) -> str:
    """Return what builds environments of packages, and how many there are."""
    uv, pip = _uv(), _pip()
    by = [f"{' '.join(_printed(uv, '--version').split()[:2])} ({uv})"] if uv else []
    by += [f"pip {pip} ({sys.executable})"] if pip else []
    there = packages.listed(home)
    count = f"{len(there)} environment{'' if len(there) == 1 else 's'}, {size(sum(one.size for one in there))}"
    return f"{count}; built by {' or '.join(by) if by else 'nothing: neither uv nor pip is found here'}"


def problems(home: Path) -> list[str]:
    """Return what is wrong with a home, one sentence each; a check that fails is a problem, too."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found += check(home)
        except (TaskAPIError, OSError) as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _config(home: Path) -> list[str]:
    config.read(HomePaths(home).config)
    return []


def _builder(home: Path) -> list[str]:
    """Return that what config.yaml has environments of packages built by is missing."""
    builder = config.read(HomePaths(home).config).packages.builder
    if builder == "uv" and _uv() is None:
        return ["uv is missing, and packages.builder in config.yaml asks for it: pip install uv"]
    if builder == "pip" and _pip() is None:
        return [f"pip is missing in {sys.executable}, and packages.builder in config.yaml asks for it"]
    return []


def _environments(home: Path) -> list[str]:
    environments_file.EnvironmentFile(home).parse()
    return []


def _supervisor(home: Path) -> list[str]:
    """Compare the limits of the living supervisor with this process's: jobs inherit the supervisor's."""
    record = _supervisor_record(home)
    if not host.LINUX or not record:
        return []
    try:
        found = list(conditions.worse(record["pid"]))
    except (OSError, ValueError):  # it has left, or is another user's
        return []
    why = f"inherited from the supervisor (process {record['pid']})"
    return [f"jobs have {one}: {why}; it exits 3 s after the last job, and the next submission starts a new one"
            for one in found]  # fmt: skip


def _notifications(home: Path) -> Iterator[str]:
    """Name what config.yaml notifies and can't be sent to: of this process's variables, and of what a receiver said."""
    names = config.read(HomePaths(home).config).notifications().names
    for name, one in names.items():
        if why := notifications.problem(name, one):
            yield f"{why}: what is to be sent under this name waits, or fails"
    states = [_mapping(row["value"]) for row in _read(home, "SELECT value FROM settings WHERE name = 'notifier'")]
    for name, why in notifications.switched_off(names, states[0] if states else {}).items():
        yield f"notify.{name} is switched off: {why}; a `jupyter taskapi notify test {name}` that arrives ends that"


def _unremoved(home: Path) -> list[str]:
    """Return folders of deleted jobs and versions that could not be removed and still exist."""
    return [
        f"{path} can't be removed: {why}; remove it by hand"
        for one in _homes(home)
        for value in _read(one, "SELECT value FROM settings WHERE name = 'unremoved'")
        for path, why in _mapping(value["value"]).items()
        if "…" in path or os.path.lexists(path)  # else it has been removed since
    ]


def _rows(home: Path) -> Iterator[str]:
    """Name the rows that can't be read, at most ``_NAMED`` of them."""
    named = 0
    for one in _homes(home):
        for what, sql, fault in (
            ("job", "SELECT * FROM jobs", readable.fault_of_job),
            ("API", "SELECT * FROM versions", records.fault_of_api),
        ):
            for row in _read(one, sql):
                wrong = fault(row)
                if wrong and named == _NAMED:
                    yield f"more rows of {one / 'taskapi.db'} can't be read"
                    return
                if wrong:
                    named += 1
                    name = readable.shown(row["id" if what == "job" else "name"])
                    yield f"the row of {what} {name} in {one / 'taskapi.db'} can't be read: {wrong}; delete the {what}"


def _schedules(home: Path) -> Iterator[str]:
    """Name the active schedules that can't fire."""
    for one in _homes(home):
        if not list(_read(one, "SELECT 1 FROM sqlite_master WHERE name = 'schedules'")):  # of an older version
            continue
        sql = (
            "SELECT name, api_name, schedule, timezone, EXISTS (SELECT 1 FROM apis a WHERE a.name = api_name) AS there "
            "FROM schedules WHERE active = 1 ORDER BY name"
        )
        for row in _read(one, sql):
            name = readable.shown(row["name"])
            if not row["there"]:
                yield f"schedule {name} can't fire: {readable.text(row['api_name'])} is not deployed; deploy it"
                continue
            try:
                Times(row["schedule"], row["timezone"])
            except (BadRequest, TypeError) as error:
                yield f"schedule {name} can't fire: {error}"


def _mapping(text: Any) -> dict[str, Any]:
    try:
        return readable.mapping(text)
    except ValueError:
        return {}


def _homes(home: Path) -> list[Path]:
    """Return the home and those of Ray environments below it."""
    return [home, *sorted(home.glob("ray/*/"))]


def _read(home: Path, sql: str) -> Iterator[dict[str, Any]]:
    """Read from the database without changing it; raise :class:`Unavailable` where that fails."""
    path = HomePaths(home).database
    if database.look(str(path)) is None:
        return
    database.check_files(str(path))
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            for row in connection.execute(sql):
                yield dict(row)
    except sqlite3.Error as error:
        raise Unavailable(f"{path} can't be read: {error}") from None


def _gpus(home: Path) -> list[str]:
    """Return why nvidia-smi's last answer can't be used, if an API has asked for a GPU."""
    there = gpus.known(str(home)) if HomePaths(home).gpus.exists() else None
    if there is None or not there.why:
        return []
    known = "" if there.devices is None else "; its previous answer is used"
    return [f"the number of GPUs is unknown: {there.why}{known}; set it with `gpus: N` in config.yaml"]


def _room(home: Path) -> list[str]:
    for folder in filter(Path.exists, (home, HomePaths(home).jobs)):
        room.check_room(str(folder))
    return []


CHECKS: tuple[Check, ...] = (
    guard.problems,
    _config,
    _builder,
    _environments,
    _room,
    _gpus,
    _supervisor,
    _notifications,
    _unremoved,
    _rows,
    _schedules,
)
