"""``config.yaml`` of a home: the limits that the user sets. Read here, kept in the store for the supervisor."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from taskapi_jupyter.core import files
from taskapi_jupyter.core.errors import BadRequest, Unavailable
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.deploy.api_spec import sections
from taskapi_jupyter.deploy.api_spec.quantities import parse_bytes, parse_cpu
from taskapi_jupyter.deploy.api_spec.yaml import MAX_YAML, load
from taskapi_jupyter.deploy.values import masked, shorten

from . import destinations
from .packages import KEEP_DAYS, MAX_SIZE
from .store.store import Store

_SCHEMES = ("http", "https", "file")  # of an index of packages


class Packages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How environments are built from requirements, and how long they are kept."""

    builder: Literal["auto", "uv", "pip"] = "auto"  # auto: uv where it is found, else pip
    keep_days: float = KEEP_DAYS  # days after its last use that one is kept
    max_size: Any = MAX_SIZE  # bytes of all together; those used least recently go first
    index_url: str | None = None  # where packages come from; None: what the kernel's variables say, or PyPI
    offline: bool = False  # whether only what the builder has in its cache may be used
    python_downloads: bool = False  # whether uv may download an interpreter

    def limits(self) -> dict[str, Any]:
        """Return the settings in plain values; sizes in bytes."""
        return {**msgspec.structs.asdict(self), "max_size": parse_bytes(self.max_size, "packages.max_size")}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``config.yaml`` may say; None: this machine's own figure."""

    cpus: Any = None  # cores, or a quantity such as 1500m
    mem: Any = None  # bytes, or a quantity such as 8Gi
    gpus: int | None = None
    stop_grace: float = 10.0  # seconds between TERM and KILL
    log_max_bytes: Any = 64 << 20  # 0: no bound
    keep_kernels: int = 2  # kernels of failed notebooks that are kept at a time
    keep_jobs: int | None = None  # ended jobs, the newest; None: all
    keep_days: float | None = None  # days that ended jobs are kept; None: for ever
    packages: Packages = Packages()
    environ: list[str] = []  # more variables that a task gets from the kernel that deploys
    notify: dict[str, Any] | None = None  # names of notifications with their destinations, and options of all

    def notifications(self) -> destinations.Notify:
        """Return what it says of notifications; raise :class:`BadRequest` with the entry that is wrong."""
        return destinations.read(self.notify or {})

    def limits(self) -> dict[str, Any]:
        """Return the limits as the supervisor takes them: thousandths of cores, bytes, seconds."""
        return {
            "cpus": None if self.cpus is None else parse_cpu(self.cpus, "cpus"),
            "mem": None if self.mem is None else parse_bytes(self.mem, "mem"),
            "gpus": self.gpus,
            "stop_grace": self.stop_grace,
            "log_max_bytes": parse_bytes(self.log_max_bytes, "log_max_bytes") if self.log_max_bytes else 0,
            "keep_kernels": self.keep_kernels,
            "keep_jobs": self.keep_jobs,
            "keep_days": self.keep_days,
            "packages": self.packages.limits(),
            **({"notify": found.settings()} if (found := self.notifications()).names else {}),
        }


def read(path: Path) -> Config:
    """Read the file; an absent one says nothing. Raise :class:`BadRequest` with the file and what is wrong in it."""
    try:
        data = files.read_own(path, MAX_YAML)
        config: Config = sections.read(Config, load((data or b"").decode("utf-8"), "it") or {})
        for name in ("stop_grace", "gpus", "keep_kernels", "keep_jobs", "keep_days"):
            if not 0 <= (getattr(config, name) or 0) < math.inf:
                raise BadRequest(f"{name} must be a number that is not negative")
        if not 0 <= config.packages.keep_days < math.inf:
            raise BadRequest("packages.keep_days must be a number that is not negative")
        _check_index(config.packages.index_url)
        config.limits()
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from None
    except (BadRequest, UnicodeDecodeError) as error:
        raise BadRequest(masked(f"{path}: {error}")) from None  # of an index
    return config


def _check_index(url: str | None) -> None:
    """Raise :class:`BadRequest` unless this is the URL of an index of packages."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    there = parts.path.startswith("/") if parts.scheme == "file" else parts.hostname
    if parts.scheme not in _SCHEMES or not there or not url.isprintable() or " " in url:
        shown = masked(url) if "://" in url else url.rpartition("@")[2]
        raise BadRequest(
            "packages.index_url must be the URL of a package index that begins with http://, https:// or file:///, "
            f"not {shorten(shown, 100)}"
        )


class ConfigFile:
    """The file of one home, read again when it has changed."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path, self._store = path, store
        self._config = Config()
        self._seen: object = None

    def read(self) -> Config:
        """Return what the file says now; its limits are in the store when this returns. Raises as :func:`read`."""
        try:
            about = self._path.lstat()
            stamp: tuple[int, ...] | None = (about.st_mtime_ns, about.st_ino, about.st_mode)
        except OSError:
            stamp = None
        seen = (stamp, self._store.identity())  # another database has no limits yet
        if seen != self._seen:
            self._config = read(self._path)
            limits = self._config.limits()
            self._note_variables()
            if self._store.settings() != limits:
                self._store.set_settings(limits)
            self._seen = seen
        return self._config

    def _note_variables(self) -> None:
        """Write which variables notifications are read from, for whoever starts a supervisor: names, not values."""
        names = {one for each in self._config.notifications().names.values() for one in each.variables()}
        path = HomePaths(self._path.parent).variables
        with suppress(OSError):  # a full disk: they are missing then, and what is sent says so
            if names:
                files.write_atomic(path, "".join(f"{name}\n" for name in sorted(names)).encode(), sync=False)
            elif path.exists():
                path.unlink()
