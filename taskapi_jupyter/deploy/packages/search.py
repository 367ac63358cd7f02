"""Which interpreter an environment is made with: the one that was named, the kernel's, or another one found here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape, glob

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from taskapi_jupyter.core.errors import BadRequest

from . import interpreter

_OLDEST = Version(".".join(map(str, interpreter.OLDEST)))
_SHOWN = 12  # interpreters in a sentence
_SECONDS = 60.0
_NAME = re.compile(r"python3(\.\d+)?")
# Of a virtual environment, the interpreter that it was made with: it may be removed, and its packages are not used.
_LOOK = """
import json, os, platform, sys, sysconfig
base = getattr(sys, "_base_executable", None) or sys.executable
print(json.dumps([
    os.path.realpath(base), platform.python_version(), sys.implementation.name,
    "%s %s" % (sys.implementation.cache_tag, sysconfig.get_config_var("SOABI")), sysconfig.get_platform(),
]))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter: its ``path``, the ``base`` that it is or was made with, and what tells its packages apart."""

    path: str
    base: str
    version: str
    implementation: str
    abi: str
    platform: str

    @property
    def minor(self) -> str:
        """Its version, such as ``3.11``."""
        return ".".join(self.version.split(".")[:2])


def look(path: str) -> Python:
    """Ask an interpreter; raise :class:`BadRequest` where it can't be used."""
    return Python(path, *map(str, interpreter.ask(path, "-I", "-S", "-c", _LOOK)))


def choose(
    path: str,
    *,
    named: bool,
    versions: Iterable[str],
    minor: str | None,
    uv: str | None,
    env: Mapping[str, str],
    downloads: bool,
) -> Python:
    """Return an interpreter of a wanted version.

    ``path`` is tried first, and alone where it was ``named``; ``versions`` are those of ``requires-python``, ``minor``
    that of ``python_version``. Others are those that ``uv`` finds, without it those on the ``PATH`` of ``env``; with
    ``downloads`` uv may install one. Raises :class:`BadRequest` that lists those found where none fits.
    """
    own = look(path)
    wanted = SpecifierSet(",".join(versions))
    if _fits(own, wanted, minor):
        return own
    said = " and ".join(filter(None, [f"requires-python {wanted}" if str(wanted) else "", minor and f"Python {minor}"]))
    if named:
        raise BadRequest(f"{path} is Python {own.version}, and {said} is asked for")
    there = _installed(uv, env)
    if not any(_fits(one, wanted, minor) for one in there) and uv is not None and downloads:
        _download(uv, f"=={minor}.*" if minor else str(wanted), env)
        there = _installed(uv, env)
    for one in sorted(there, key=lambda one: _version(one.version), reverse=True):
        if _fits(one, wanted, minor):
            try:
                return look(one.path)
            except BadRequest:
                continue
    found = {one.version: one.path for one in [*reversed(there), own]}  # of each version, the first that is found
    listed = [f"{version} ({found[version]})" for version in sorted(found, key=_version)]
    more = ", ..." if len(listed) > _SHOWN else ""
    raise BadRequest(
        f"no Python here meets {said}; there are: {', '.join(listed[:_SHOWN])}{more}. Install one, or set "
        "packages.python_downloads: true in config.yaml, by which uv downloads it"
    )


def _version(text: str) -> Version:
    try:
        return Version(text.rstrip("+"))  # of a build between two releases
    except InvalidVersion:
        return Version("0")


def _fits(python: Python, wanted: SpecifierSet, minor: str | None) -> bool:
    version = _version(python.version)
    return (
        version >= _OLDEST
        and wanted.contains(version, prereleases=True)
        and (minor is None or f"{version.major}.{version.minor}" == minor)
    )


def _installed(uv: str | None, env: Mapping[str, str]) -> list[Python]:
    """Return the interpreters that are found here, each once; those that can't be started are left out."""
    found: dict[str, Python] = {}
    for one in listed(uv, env) if uv else _on_path(env):
        if one.implementation == "cpython":
            found.setdefault(one.base, one)
    return list(found.values())


def listed(uv: str, env: Mapping[str, str]) -> Iterator[Python]:
    """Yield the interpreters that uv knows, as far as it says: it has asked them."""
    command = [uv, "python", "list", "--only-installed", "--output-format", "json", "--offline", "--color", "never"]
    try:
        env = {**env, "PATH": os.pathsep.join(_folders(env))}
        done = subprocess.run(command, env=env, capture_output=True, timeout=_SECONDS, check=False)
        for one in json.loads(done.stdout):
            path = str(one["path"])
            yield Python(path, os.path.realpath(path), str(one["version"]), str(one["implementation"]), "", "")
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        yield from _on_path(env)


def _on_path(env: Mapping[str, str]) -> Iterator[Python]:
    for folder in _folders(env):
        try:
            names = sorted(name for name in os.listdir(folder or ".") if _NAME.fullmatch(name))
        except OSError:
            continue
        for name in names:
            with suppress(BadRequest):  # a shim of another version
                yield look(os.path.abspath(os.path.join(folder, name)))


def _folders(env: Mapping[str, str]) -> list[str]:
    """Return where interpreters are looked for: on the ``PATH``, and in pyenv's versions rather than its shims.

    A shim takes a shell script for each question, and finds the version alone that is chosen.
    """
    folders = []
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        root, name = os.path.split(folder)
        versions = glob(os.path.join(escape(root), "versions", "*", "bin")) if name == "shims" else []
        folders += sorted(versions) or [folder]
    return folders


def _download(uv: str, wanted: str, env: Mapping[str, str]) -> None:
    command = [uv, "python", "install", wanted, "--no-progress", "--color", "never"]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadRequest(f"uv can't download Python {wanted}: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BadRequest(f"uv can't download Python {wanted}: {last.strip()[:300]}")
