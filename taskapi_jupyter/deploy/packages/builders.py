"""The programs that resolve requirements: uv, or pip where there is no uv; and what they say where they can't."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from taskapi_jupyter.core import files, nesting
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import masked

from . import search
from .requirements import Asked, Index, read_text

Found = dict[str, tuple[str, list[str]]]  # by a package's name: its requirement and its hashes

_SECONDS = 80.0  # that resolving may take; a client waits 90
_WANTED, _LIMITS = "requirements.in", "constraints.in"
_MARKS = re.compile(r"^[\s\u00d7╰├─▶│]*(?:cause:|Caused by:|error:|ERROR:)?\s*")
_ERROR = re.compile(r"\s*(error:|ERROR:|cause:|Caused by:|[\u00d7╰├])")  # a cross, or a branch of a tree
_FETCHED = re.compile(r"Failed to (?:fetch|download)[^:]*: `?(\w+://[^\s`]+)`?")
_NOT_FETCHED = re.compile(
    r"Could not fetch URL (\S+): (?:[^\n]*'too many (\d+)[^']*'|((?!404)\d+ [^\n]*?)(?: for url|\n))"
)
_REFUSED = re.compile(r"HTTP status \w+ error \((\d+ [^)]*)\)")
_URL = "https://pypi.org/simple"


def find_uv(path: str | None, python: str) -> str | None:
    """Return the path of a uv that can be started: this process's package, on ``PATH``, or beside an interpreter."""
    places = [shutil.which("uv", path=path), os.path.join(os.path.dirname(python), "uv")]
    try:
        places.insert(0, import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError):
        pass
    for one in places:
        if one is not None and os.access(one, os.X_OK):
            try:  # a shim of pyenv or asdf may find none
                if subprocess.run([one, "--version"], capture_output=True, timeout=30, check=False).returncode == 0:
                    return os.path.abspath(one)
            except (OSError, subprocess.SubprocessError):
                continue
    return None


def find_pip(base: search.Python) -> str:
    """Return an interpreter that has pip: that of the environment, else the one that was asked, or this process's."""
    for path in dict.fromkeys((base.base, base.path, sys.executable)):
        if pip_version(path) >= 23:  # has --python and --report
            return path
    raise BadRequest(
        "neither uv nor pip 23 or newer is there to build an environment: pip install 'taskapi-jupyter[uv]', or "
        f"{base.base} -m ensurepip --upgrade"
    )


def pip_version(path: str) -> int:
    """Return the major version of an interpreter's pip, 0 where it has none."""
    try:
        command = [path, "-I", "-c", "import pip; print(pip.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return int(done.stdout.split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def exported(uv: str | None, folder: str, env: Mapping[str, str]) -> str:
    if uv is None:
        raise BadRequest("uv.lock is read by uv, which is not there: pip install 'taskapi-jupyter[uv]'")
    command = [uv, "export", "--frozen", "--offline", "--no-default-groups", "--no-emit-project", "--no-annotate"]
    command += ["--no-header", "--format", "requirements-txt", "--color", "never", "--no-progress", "--quiet"]
    code, output, told = _run([*command, "--project", folder], {**env, "UV_PYTHON_DOWNLOADS": "never"}, folder)
    if code:
        raise BadRequest(f"uv.lock can't be read: {_last(told)}")
    return output


@dataclass
class Builder:
    """uv, or pip of an interpreter."""

    uv: str | None
    pip: str | None
    base: search.Python
    env: Mapping[str, str]
    offline: bool

    @property
    def name(self) -> str:
        return "uv" if self.uv else "pip"

    @property
    def said(self) -> dict[str, str]:
        """What variables say that changes what is found."""
        ends = (
            *("INDEX", "INDEX_URL", "FIND_LINKS", "NO_INDEX", "EXCLUDE_NEWER", "PRE", "PRERELEASE", "RESOLUTION"),
            *("CONSTRAINT", "OVERRIDE", "NO_BINARY", "ONLY_BINARY"),
        )
        begin = f"{self.name.upper()}_"
        return {key: value for key, value in self.env.items() if key.startswith(begin) and key.endswith(ends)}

    def resolve(self, asked: Asked, index: Index, upgrade: bool) -> str | None:
        """Return a lock, a line for each package with its hashes; None where nothing is cached, and it is offline."""
        if self.offline and not self.uv:
            return None
        with tempfile.TemporaryDirectory(prefix="taskapi-resolve-") as folder:  # 0700: URLs may hold credentials
            for name, lines in ((_WANTED, [*self._options(index), *asked.requirements]), (_LIMITS, asked.constraints)):
                files.write(os.path.join(folder, name), "\n".join([*lines, ""]).encode())
            found = self._by_uv(folder, asked, index, upgrade) if self.uv else self._by_pip(folder, asked, index)
        if found is None:
            return None
        for name, hashes in asked.hashes.items():
            if name in found:
                whole, there = found[name]
                if there and not set(hashes) & set(there):
                    raise BadRequest(f"the hashes given for {masked(whole)} are not those of the index")
                found[name] = whole, hashes
        if bare := [masked(whole) for whole, hashes in found.values() if not hashes]:
            raise BadRequest(f"the index has no hashes for {', '.join(bare[:5])}, by which a build checks them")
        return "".join(
            " ".join([whole, *(f"--hash={one}" for one in hashes)]) + "\n"
            for _, (whole, hashes) in sorted(found.items())
        )

    def _options(self, index: Index) -> list[str]:
        found = [f"--find-links {one}" for one in index.find_links]
        found += ["--no-index"] if index.no_index else []
        if self.uv:
            return found
        found += [f"--extra-index-url {one}" for one in index.extra_index_urls]
        return found + ([f"--index-url {index.index_url}"] if index.index_url else [])

    def _by_uv(self, folder: str, asked: Asked, index: Index, upgrade: bool) -> Found | None:
        env = {**self.env, "UV_PYTHON_DOWNLOADS": "never"}
        env.setdefault("UV_HTTP_TIMEOUT", "10")  # twice, that is less than half a minute
        env.setdefault("UV_HTTP_RETRIES", "1")
        if index.index_url:
            env = {**env, "UV_DEFAULT_INDEX": index.index_url}
            env.pop("UV_INDEX_URL", None)
        if index.extra_index_urls:
            there = [env.pop(name, "") for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL")]
            env["UV_INDEX"] = " ".join(filter(None, [*index.extra_index_urls, *there]))
        if asked.exclude_newer:
            env["UV_EXCLUDE_NEWER"] = asked.exclude_newer
        command = [str(self.uv), "pip", "compile", _WANTED, "--constraint", _LIMITS, "--python", self.base.base]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--strip-extras", "--color", "never"]
        command += ["--no-progress", *(["--offline"] if self.offline else ["--refresh"] if upgrade else [])]
        code, output, told = _run(command, env, folder)
        if code == 0:
            return _locked(output)
        if self.offline and ("cache" in told or "network" in told):
            return None
        raise _refusal(told, index.index_url or env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or _URL)

    def _by_pip(self, folder: str, asked: Asked, index: Index) -> Found:
        if asked.exclude_newer:
            raise BadRequest("exclude-newer needs uv: pip install 'taskapi-jupyter[uv]'")
        report = os.path.join(folder, "report.json")
        command = [str(self.pip), "-I", "-m", "pip"]
        command += [] if self.pip == self.base.base else ["--python", self.base.base]
        command += ["install", "--dry-run", "--ignore-installed", "--report", report, "--no-input", "--timeout", "8"]
        log = os.path.join(folder, "pip.log")  # which alone says why a page could not be had
        command += [
            "--log",
            log,
            "--retries",
            "1",
            "--disable-pip-version-check",
            "--no-color",
            "--progress-bar",
            "off",
        ]
        code, printed, told = _run([*command, "-r", _WANTED, "-c", _LIMITS], self.env, folder)
        if code:
            if conflict := re.search(r"The conflict is caused by:\n(.*?)\n\s*\n", printed, re.DOTALL):
                lines = [line.strip() for line in conflict[1].splitlines()]
                raise BadRequest(masked(f"the requirements can't be met: {'; '.join(lines)}"[:2000]))
            if "connection broken by" not in told and (refused := _NOT_FETCHED.search(read_text(log, "its log"))):
                raise BadRequest(f"{masked(refused[1])} refuses: {masked(refused[2] or refused[3])}")
            raise _refusal(told, index.index_url or self.env.get("PIP_INDEX_URL") or _URL)
        found: Found = {}
        for one in nesting.loads(Path(report).read_bytes())["install"]:
            name, version = one["metadata"]["name"], one["metadata"]["version"]
            about = one["download_info"]
            archive = about.get("archive_info") or {}
            hashes = archive.get("hashes") or {}
            if not hashes and about["url"].startswith("file://"):  # pip before 23.1 has none of a local wheel
                wheel = Path(unquote(urlsplit(about["url"]).path)).read_bytes()
                hashes = {"sha256": hashlib.sha256(wheel).hexdigest()}
            whole = f"{name} @ {about['url']}" if one.get("is_direct") else f"{name}=={version}"
            found[str(canonicalize_name(name))] = whole, [f"{kind}:{value}" for kind, value in hashes.items()]
        return found


def _locked(text: str) -> Found:
    """Return what uv has resolved: by each package's name, its requirement and its hashes."""
    found: Found = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        whole, *hashes = re.split(r"\s+--hash=", line.strip())
        if whole and not whole.startswith(("#", "-")):
            name = re.split(r"==| @ ", whole)[0]
            found[canonicalize_name(name)] = whole, [one.strip() for one in hashes]
    return found


def _run(command: Sequence[str], env: Mapping[str, str], folder: str) -> tuple[int, str, str]:
    """Run a builder in a session of its own; return its exit code, what it printed, and what it said."""
    try:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BadRequest(f"{command[0]} can't be started: {error.strerror or error}") from None
    try:
        output, told = process.communicate(timeout=_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)  # with what it builds packages with
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BadRequest(f"the requirements could not be resolved within {_SECONDS:g} s") from None
        raise
    return process.returncode, output, told


def _refusal(told: str, url: str) -> BadRequest:
    """Return the error for what a builder says, without marks, colours and credentials."""
    lines = [_MARKS.sub("", line).strip() for line in told.splitlines()]
    broken = [line for line in lines if "connection broken by" in line]
    if fetched := next(filter(None, map(_FETCHED.search, lines)), None):
        if refused := next(filter(None, map(_REFUSED.search, lines)), None):
            return BadRequest(f"{masked(fetched[1])} refuses: {refused[1]}")
        why = next((line for line in reversed(lines) if line and not line.startswith("hint:")), "")
        return _unreachable(fetched[1], why)
    if broken:
        found = re.search(r"broken by '\w+\((?:.*>[:,])?(.*?)\)'", broken[-1])
        return _unreachable(url, found[1].strip(" '\"") if found else broken[-1])
    begin = next((at for at, line in enumerate(lines) if line.startswith("Because ")), None)
    if begin is not None:
        rest = lines[begin:]
        end = next((at for at, line in enumerate(rest) if not line), len(rest))
        hints = [line for line in rest[end:] if line.startswith("hint:")]
        return BadRequest(masked(f"the requirements can't be met: {' '.join([*rest[:end], *hints])[:2000]}"))
    cause = _last(told)
    unmet = "No matching distribution" in cause or "conflicting dependencies" in cause
    return BadRequest(f"the requirements can't be {'met' if unmet else 'resolved'}: {cause}")


def _unreachable(url: str, why: str) -> BadRequest:
    return BadRequest(
        f"can't reach {masked(url)}: {masked(why)[:300]}; config.yaml may have packages.index_url for another index, "
        "or packages.offline: true for what is cached"
    )


def _last(told: str) -> str:
    """Return what a builder said of a failure: its errors and their causes."""
    lines = [line for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    words = [_MARKS.sub("", line).strip() for line in (errors or lines[-3:])]
    return masked(": ".join(dict.fromkeys(words)))[:1000] or "it said nothing"
