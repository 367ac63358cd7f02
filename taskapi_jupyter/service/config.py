"""``config.yaml`` of a home: the limits that the user sets. Read here, kept in the store for the supervisor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from taskapi_jupyter.core import files
from taskapi_jupyter.core.errors import BadRequest, Unavailable
from taskapi_jupyter.deploy.api_spec import sections
from taskapi_jupyter.deploy.api_spec.quantities import parse_bytes, parse_cpu
from taskapi_jupyter.deploy.api_spec.yaml import MAX_YAML, load

from .store.store import Store


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``config.yaml`` may say; None: this machine's own figure."""

    cpus: Any = None  # cores, or a quantity such as 1500m
    mem: Any = None  # bytes, or a quantity such as 8Gi
    gpus: int | None = None
    stop_grace: float = 10.0  # seconds between TERM and KILL
    log_max_bytes: Any = 64 << 20  # 0: no bound
    keep_jobs: int | None = None  # ended jobs, the newest; None: all
    keep_days: float | None = None  # days that ended jobs are kept; None: for ever
    environ: list[str] = []  # more variables that a task gets from the kernel that deploys

    def limits(self) -> dict[str, Any]:
        """Return the limits as the supervisor takes them: thousandths of cores, bytes, seconds."""
        return {
            "cpus": None if self.cpus is None else parse_cpu(self.cpus, "cpus"),
            "mem": None if self.mem is None else parse_bytes(self.mem, "mem"),
            "gpus": self.gpus,
            "stop_grace": self.stop_grace,
            "log_max_bytes": parse_bytes(self.log_max_bytes, "log_max_bytes") if self.log_max_bytes else 0,
            "keep_jobs": self.keep_jobs,
            "keep_days": self.keep_days,
        }


def read(path: Path) -> Config:
    """Read the file; an absent one says nothing. Raise :class:`BadRequest` with the file and what is wrong in it."""
    try:
        data = files.read_own(path, MAX_YAML)
        config: Config = sections.read(Config, load((data or b"").decode("utf-8"), "it") or {})
        for name in ("stop_grace", "gpus", "keep_jobs", "keep_days"):
            if not 0 <= (getattr(config, name) or 0) < math.inf:
                raise BadRequest(f"{name} must be a number that is not negative")
        config.limits()
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from None
    except (BadRequest, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: {error}") from None
    return config


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
            if self._store.settings() != limits:
                self._store.set_settings(limits)
            self._seen = seen
        return self._config
