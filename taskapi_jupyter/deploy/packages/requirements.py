"""What a task asks for of packages: a requirements file, a lock file, or a list of such lines."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from taskapi_jupyter.core import files
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import HIDDEN, masked, shorten

from . import AUTO, NONE, toml

_LARGEST = 1 << 20  # bytes of a file
_MOST = 1000  # lines with requirements, and files that include one another
_COMMENT = re.compile(r"(^|\s)#.*")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")  # as pip has them
_OPTION = re.compile(r"(-[a-zA-Z]|--[a-z-]+(?=[\s=]))[\s=]*(.*)")
_HASHES = re.compile(r"\s+--hash[=\s]\s*(\w+:[0-9a-fA-F]+)")
_LOCAL = re.compile(r"file:|[./~\\]|.*\.(whl|zip|tar\.gz)$", re.IGNORECASE)
_FROM_VCS = re.compile(r"(git|hg|svn|bzr)\+", re.IGNORECASE)
_OF_INDEX = {
    "-i": "index_url",
    "--index-url": "index_url",
    "--extra-index-url": "extra_index_urls",
    "-f": "find_links",
    "--find-links": "find_links",
}
_INCLUDES = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}  # whether it only constrains


@dataclass
class Index:
    """Where packages come from; what is not said is left to the builder."""

    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool = False

    def add(self, key: str, value: str) -> None:
        """Add a URL or a folder as its option says it."""
        if key == "index_url":
            self.index_url = value
        elif value not in (there := getattr(self, key)):
            there.append(value)

    def join(self, other: Index) -> None:
        """Add another's; its index takes the place of this one's."""
        self.index_url = other.index_url or self.index_url
        self.no_index = self.no_index or other.no_index
        for key in ("extra_index_urls", "find_links"):
            for one in getattr(other, key):
                self.add(key, one)


@dataclass
class Asked:
    """What was asked for, each requirement as a line of a requirements file has it."""

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)  # those that were given, by the name of the package
    index: Index = field(default_factory=Index)
    python: list[str] = field(default_factory=list)  # versions of Python that it is for, such as ">=3.11"
    exclude_newer: str | None = None  # a date: nothing that was published later
    warnings: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """The names of the packages that are asked for."""
        return {canonicalize_name(Requirement(line).name) for line in self.requirements}

    def require(self, text: str, where: str) -> None:
        """Add a requirement; ``where`` begins the error's sentence."""
        text, found = _HASHES.sub("", text), _HASHES.findall(text)
        one = checked(text, where)
        if found:
            self.hashes.setdefault(canonicalize_name(one.name), []).extend(found)
        self.requirements.append(text)
        if len(self.requirements) > _MOST:
            raise BadRequest(f"{where}: there are more than {_MOST} requirements")

    def join(self, other: Asked) -> None:
        """Add what another asks for."""
        for key in ("requirements", "constraints", "python", "warnings"):
            getattr(self, key).extend(getattr(other, key))
        for name, hashes in other.hashes.items():
            self.hashes.setdefault(name, []).extend(hashes)
        self.index.join(other.index)
        self.exclude_newer = other.exclude_newer or self.exclude_newer


def checked(text: str, where: str) -> Requirement:
    """Return a requirement, or raise :class:`BadRequest` that says what is wrong with it."""
    shown = shorten(masked(text), 100)
    if _FROM_VCS.match(text.partition(" @ ")[2].strip() or text):
        raise BadRequest(f"{where}: {shown} comes from version control, which has no hash to check: {_INSTEAD}")
    if _LOCAL.match(text) and "://" not in text.partition("file:")[0]:
        raise BadRequest(f"{where}: {shown} is a local project or file, which a job would not have: {_INSTEAD}")
    try:
        one = Requirement(text)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        if "://" in text.split(maxsplit=1)[0]:
            why = "write it as NAME @ URL"
        raise BadRequest(f"{where}: {shown} is no requirement: {masked(why)}") from None
    if one.url is not None:
        check_url(one.url, where)
        if _FROM_VCS.match(one.url) or one.url.lower().startswith("file:") or "://" not in one.url:
            raise BadRequest(f"{where}: {shown} is a local project or file, which a job would not have: {_INSTEAD}")
    return one


_INSTEAD = "give a package of an index, or the https URL of a wheel"


def check_url(url: str, where: str) -> None:
    """Raise :class:`BadRequest` for a URL whose credentials stand for others that are not shown."""
    if f"://{HIDDEN}@" in url or f"={HIDDEN}" in url:
        raise BadRequest(f"{where}: {HIDDEN} stands for credentials that are not shown: give them")


def read(
    given: str | list[str],
    folder: str,
    environ: Mapping[str, str],
    export: Callable[[str], str],
) -> Asked:
    """Return what ``definition.requirements`` asks for.

    ``folder`` is the API's; ``environ`` has the variables that a file may name (``${TOKEN}``); ``export`` returns the
    requirements of the ``uv.lock`` in a folder. Raises :class:`BadRequest` with file, line and what is wrong there.
    """
    reader = _Reader(folder, environ, export)
    if isinstance(given, list):
        files_of = [re.fullmatch(r"(?:-r|--requirement)[\s=]+(.+)", one.strip()) for one in given]
        for found in filter(None, files_of):
            reader.file(os.path.join(folder, found[1]), found[1], constrains=False, named=True)
        reader.lines(["" if found else one for one, found in zip(given, files_of, strict=True)], "requirement", folder)
    elif given.strip() == AUTO:
        reader.auto()
    elif given.strip() != NONE:
        reader.file(os.path.join(folder, os.path.expanduser(given)), given, constrains=False, named=True)
    return reader.asked


class _Reader:
    """Reads files and those that they include; of the latter, none outside the project."""

    def __init__(self, folder: str, environ: Mapping[str, str], export: Callable[[str], str]) -> None:
        self.folder, self.environ, self.export = folder, environ, export
        self.asked = Asked()
        self.roots = [os.path.realpath(folder)]
        self.seen: set[tuple[str, bool]] = set()

    def auto(self) -> None:
        """Read the first of the files by which a project says what it needs."""
        for name in ("uv.lock", "pylock.toml", "requirements.txt"):
            path = os.path.join(self.folder, name)
            whole = name != "uv.lock" or os.path.isfile(os.path.join(self.folder, "pyproject.toml"))
            if os.path.isfile(path) and whole:
                self.file(path, name, constrains=False, named=True)
                return
        raise BadRequest(
            f"requirements: auto finds none of uv.lock (with pyproject.toml), pylock.toml and requirements.txt in "
            f"{self.folder}"
        )

    def file(self, path: str, shown: str, *, constrains: bool, named: bool = False) -> None:
        """Read a file; those that the API names may be elsewhere, and include those beside them."""
        real = os.path.realpath(path)
        if (real, constrains) in self.seen:
            return
        if named:
            self.roots.append(os.path.dirname(real))
        self.seen.add((real, constrains))
        if len(self.seen) > _MOST:
            raise BadRequest(f"{shown}: more than {_MOST} files include one another")
        name = os.path.basename(real)
        if name == "uv.lock":
            self.uv_lock(os.path.dirname(real), shown)
        elif re.fullmatch(r"pylock(\.[^.]+)?\.toml", name):
            self.pylock(read_text(path, shown), shown)
        elif name.endswith(".toml"):
            raise BadRequest(f"{shown} is no requirements file: give uv.lock, pylock.toml or a requirements.txt")
        else:
            lines = _joined(read_text(path, shown))
            self.lines(lines, f"{shown}, line", os.path.dirname(real), constrains=constrains)

    def lines(self, lines: Iterable[Any], where: str, folder: str, *, constrains: bool = False) -> None:
        """Read lines; of a file, ``lines`` are pairs of number and text."""
        for number, one in enumerate(lines, 1):
            at, text = one if isinstance(one, tuple) else (number, one)
            text = _VARIABLE.sub(lambda match: self.environ.get(match[1], match[0]), text.strip())
            place = f"{where} {at}"
            if text.startswith("-"):
                self.option(text, place, folder)
            elif text and constrains:
                text = _HASHES.sub("", text)
                checked(text, place)
                self.asked.constraints.append(text)
            elif text:
                self.asked.require(text, place)

    def option(self, text: str, where: str, folder: str) -> None:
        if text == "--no-index":
            self.asked.index.no_index = True
            return
        if text == "--require-hashes":  # every build does
            return
        found = _OPTION.fullmatch(text)
        name, value = (found[1], found[2].strip().strip("'\"")) if found else (text.split(maxsplit=1)[0], "")
        if name in ("-e", "--editable"):
            raise BadRequest(f"{where}: {shorten(text)} is a local project, which a job would not have: {_INSTEAD}")
        if name not in _OF_INDEX and name not in _INCLUDES:
            raise BadRequest(
                f"{where}: the option {shorten(name)} is not taken; those that are: -r, -c, --index-url, "
                "--extra-index-url, --find-links, --no-index"
            )
        if not value:
            raise BadRequest(f"{where}: {name} needs a value")
        if name in _OF_INDEX:
            self.asked.index.add(_OF_INDEX[name], self.place(value, _OF_INDEX[name], where, folder))
            return
        path = os.path.join(folder, value)
        if not any(os.path.realpath(path).startswith(root.rstrip("/") + "/") for root in self.roots):
            raise BadRequest(f"{where}: {shorten(value)} is outside the project, {self.folder}: copy it there")
        self.file(path, value, constrains=_INCLUDES[name])

    def place(self, value: str, key: str, where: str, folder: str) -> str:
        """Return a URL, or the absolute path of a folder with packages."""
        if "://" in value:
            check_url(value, where)
            return value
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(value)))
        if key == "find_links" and os.path.exists(path):
            # Builders take lists, which are split at spaces and commas.
            return path if not set(path) & {" ", ",", "'", '"', "\t", "\\"} else Path(path).as_uri()
        if key == "find_links":
            raise BadRequest(f"{where}: the folder {shorten(value)} does not exist")
        raise BadRequest(f"{where}: {shorten(value)} is no URL of an index")

    def uv_lock(self, folder: str, shown: str) -> None:
        """Read the lock of a project, which uv keeps; its pyproject.toml says where its packages come from."""
        table = toml.read(read_text(os.path.join(folder, "pyproject.toml"), "pyproject.toml"), "pyproject.toml")
        if (python := toml.get(table, "project", "requires-python")) is not None:
            self.asked.python.append(toml.python_versions(python, "pyproject.toml: requires-python"))
        of_uv = toml.get(table, "tool", "uv")
        toml.index(of_uv if isinstance(of_uv, dict) else {}, "pyproject.toml", self.asked.index, folder, self.environ)
        self.lines(_joined(self.export(folder)), f"{shown}, as exported, line", folder)

    def pylock(self, text: str, shown: str) -> None:
        """Read a lock file as PEP 751 has it."""
        table = toml.read(text, shown)
        if (python := table.get("requires-python")) is not None:
            self.asked.python.append(toml.python_versions(python, f"{shown}: requires-python"))
        packages = table.get("packages")
        if not isinstance(packages, list):
            raise BadRequest(f"{shown} has no packages: it is no lock file")
        for number, one in enumerate(packages, 1):
            where, one = f"{shown}, package {number}", one if isinstance(one, dict) else {}  # noqa: PLW2901
            name, version, archive = one.get("name"), one.get("version"), one.get("archive")
            marker = f" ; {one['marker']}" if one.get("marker") else ""
            if isinstance(archive, dict) and archive.get("url"):
                self.asked.require(f"{name} @ {archive['url']}{marker}", where)
            elif "vcs" in one or "directory" in one or archive or not version:
                raise BadRequest(f"{where}: {shorten(name)} has no version of an index: {_INSTEAD}")
            else:
                self.asked.require(f"{name}=={version}{marker}", where)
                found = [*one.get("wheels", ()), *filter(None, [one.get("sdist")])]
                hashes = [f"sha256:{each['hashes']['sha256']}" for each in found if "sha256" in each.get("hashes", {})]
                if hashes and len(hashes) == len(found):
                    self.asked.hashes.setdefault(canonicalize_name(str(name)), []).extend(hashes)


def read_text(path: str, shown: str) -> str:
    """Read a file, or raise :class:`BadRequest` that names it."""
    try:
        data = files.read(os.path.realpath(path), _LARGEST + 1)
    except (OSError, ValueError) as error:
        raise BadRequest(f"{shown} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _LARGEST:
        raise BadRequest(f"{shown} is larger than 1 MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{shown} is not UTF-8 text (byte {error.start})") from None


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield a file's lines without comments, those that a backslash continues as one, each with its first number."""
    first, held = 1, ""
    for number, line in enumerate(text.splitlines(), 1):
        whole = held + _COMMENT.sub("", line)
        if whole.endswith("\\") and not line.lstrip().startswith("#"):
            held = whole[:-1] + " "
            continue
        yield first, whole
        first, held = number + 1, ""
    if held:
        yield first, held
