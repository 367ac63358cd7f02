"""From what a task asks for to a lock with hashes, by uv or pip, and the environment that a job builds of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from taskapi_jupyter.core import files, room
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.deploy.values import masked
from taskapi_jupyter.worker.package_builder import LAYOUT

from . import requirements, search
from .builders import Builder, exported, find_pip, find_uv
from .requirements import Asked, Index

LOCK = "requirements.lock"  # among the files of a version
#: What a builder gets of the task's variables
_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_*", "TZ", "XDG_*", "LD_LIBRARY_PATH", "SSL_*"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Wanted:
    """What an environment is to be: ``requirements`` as the API has them, and what its block asks for.

    ``python`` is tried first, and alone if it was ``named``; ``minor`` is the version that it must have; ``env`` are
    the task's variables, ``build_env`` those of the build; ``adds`` is asked for where nothing else of that name is.
    """

    requirements: str | list[str]
    script: Asked | None
    folder: str
    python: str
    named: bool
    minor: str | None
    env: Mapping[str, str]
    build_env: Mapping[str, str]
    upgrade: bool = False
    adds: str | None = None


@dataclass(frozen=True)
class Environment:
    """What is to be built: the interpreter that it is made with, its own ``python``, and ``launch["packages"]``."""

    base: search.Python
    folder: str
    python: str
    lock: bytes
    launch: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool | None:
        """Whether a package is in the lock; None where that is not known."""
        if self.launch["unlocked"]:
            return None
        return canonicalize_name(name) in {re.split(r"==| @ ", one)[0] for one in self.launch["packages"]}


class Resolver:
    """Resolves for the environments of one home; ``settings`` are ``packages`` of its config.yaml."""

    def __init__(self, home: str | Path, settings: Mapping[str, Any]) -> None:
        self._paths, self._settings = HomePaths(os.fspath(home)), settings

    def resolve(self, wanted: Wanted) -> Environment:
        """Return the environment that is wanted; raise :class:`BadRequest` that says why there can't be one."""
        env = {name: value for name, value in {**os.environ, **wanted.env}.items() if _matches(name, _PASSED)}
        env |= wanted.build_env
        uv = self._uv(env, wanted.python)
        asked = requirements.read(
            wanted.requirements,
            wanted.folder,
            {**wanted.env, **wanted.build_env},
            lambda folder: exported(uv, folder, env),
        )
        if wanted.script is not None:
            asked.join(wanted.script)
        if wanted.adds and wanted.adds not in asked.names:
            asked.require(wanted.adds, wanted.adds)
        base = search.choose(
            wanted.python,
            named=wanted.named,
            versions=asked.python,
            minor=wanted.minor,
            uv=uv,
            env=env,
            downloads=bool(self._settings.get("python_downloads")),
        )
        offline = bool(self._settings.get("offline")) or env.get("UV_OFFLINE", "").lower() in ("1", "true")
        builder = Builder(uv, None if uv else find_pip(base), base, env, offline)
        index = self._index(asked, wanted.build_env, builder.name)
        lock = self._lock(asked, index, builder, wanted.upgrade)
        build_env = dict(wanted.build_env)
        if asked.exclude_newer:
            build_env["UV_EXCLUDE_NEWER"] = asked.exclude_newer
        entries = [] if lock is None else lock.splitlines()
        text = "".join(f"{line}\n" for line in (asked.requirements if lock is None else entries)).encode()
        key = _key(text, base, builder.name)
        there = self._paths.packages_of(key)
        launch = {
            "key": key,
            "base": base.base,
            "version": base.version,
            "builder": builder.name,
            "uv": uv,
            "pip": builder.pip,
            "lock": LOCK,
            "unlocked": lock is None,
            "requirements": [masked(one) for one in asked.requirements],
            "packages": [masked(re.sub(r"\s+--hash=\S+", "", one)) for one in entries],
            "index": asdict(index),
            "env": build_env,
        }
        warnings = list(asked.warnings)
        if lock is None:
            warnings.append(
                "its packages are not in the cache: packages.offline is set, and the first job looks for them"
            )
        return Environment(base, there.folder, there.python, text, launch, warnings)

    def _uv(self, env: Mapping[str, str], python: str) -> str | None:
        """Return the path of uv, None where pip builds."""
        chosen = self._settings.get("builder", "auto")
        found = None if chosen == "pip" else find_uv(env.get("PATH"), python)
        if found is None and chosen == "uv":
            raise BadRequest(
                "config.yaml has packages.builder: uv, and there is no uv: pip install 'taskapi-jupyter[uv]', or put "
                "uv on PATH"
            )
        return found

    def _index(self, asked: Asked, build_env: Mapping[str, str], builder: str) -> Index:
        """Return where packages come from: what config.yaml says, and more closely what was asked for.

        A builder reads its own variables; those of the other one count where nothing else is said.
        """
        index = Index(index_url=self._settings.get("index_url"))
        index.join(asked.index)
        uv, pip = ("UV_DEFAULT_INDEX", "UV_INDEX_URL"), ("PIP_INDEX_URL",)
        own, other = (uv, pip) if builder == "uv" else (pip, uv)
        if index.index_url is None and not index.no_index and not any(map(build_env.get, own)):
            index.index_url = next(filter(None, map(build_env.get, other)), None)
            more = ("PIP_EXTRA_INDEX_URL",) if builder == "uv" else ("UV_INDEX", "UV_EXTRA_INDEX_URL")
            for one in " ".join(build_env.get(name, "") for name in more).split():
                index.add("extra_index_urls", re.sub(r"^[\w-]+=", "", one))
        return index

    def _lock(self, asked: Asked, index: Index, builder: Builder, upgrade: bool) -> str | None:
        """Return the lock of what was asked for: the one that is kept, or a new one; None where none can be made."""
        if not asked.requirements:
            return ""
        same = [asdict(asked) | {"warnings": None, "python": None}, asdict(index), builder.name, builder.said]
        same += [builder.base.version, builder.base.abi, builder.base.platform]
        name = hashlib.sha256(masked(json.dumps(same, sort_keys=True)).encode()).hexdigest()[:32]
        path = os.path.join(self._paths.packages, "locks", f"{name}.txt")
        if not upgrade:
            with suppress(OSError, ValueError):
                kept = files.read(path, 16 << 20).decode()
                os.utime(path)  # retention removes those that nobody used for long
                return kept
        lock = builder.resolve(asked, index, upgrade)
        if lock is not None:
            try:
                files.create_folder(os.path.dirname(path))
                files.write_atomic(path, lock.encode(), sync=True)
            except OSError as error:
                raise room.cannot_write(path, error) from None
        return lock


def _key(lock: bytes, base: search.Python, builder: str) -> str:
    parts = [lock.decode(), base.base, base.version, base.abi, base.platform, str(LAYOUT), builder]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
