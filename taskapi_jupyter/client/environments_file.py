"""``environments.yaml``: the environments of a home; read again when the file changes, replaced atomically."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import decoding, files, guard
from taskapi_jupyter.core.contract import FEATURES, Environment, EnvironmentsResponse
from taskapi_jupyter.core.errors import BadRequest, NotFound, Unavailable
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.deploy.api_spec.yaml import MAX_YAML, dump, load
from taskapi_jupyter.node import storage

from . import http
from .headers import Value

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RESERVED = ("environments", "openapi.json")  # routes beside those of the environments
LOCAL = "local"
#: Of each provider of clusters: the field with the cluster's URL, what that is, and the provider's other fields.
CLUSTERS = {
    "cortex": ("operator_endpoint", "the URL of the cluster's operator", ("api_endpoint", "version")),
    "ray": ("address", "the URL of the cluster's dashboard, such as http://127.0.0.1:8265", ("storage",)),
}
PROVIDERS = (LOCAL, *CLUSTERS)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Headers that belong to a connection or are set with each request.
_NOT_TO_SET = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One environment as in the file; ``local`` has only a name."""

    name: str
    provider: Literal["local", "cortex", "ray"]
    address: str | None = None  # of a Ray cluster's dashboard
    storage: str | None = None  # where jobs of a Ray cluster leave results and files
    operator_endpoint: str | None = None
    api_endpoint: str | None = None  # of the load balancer, which clients of an API use
    version: str | None = None
    headers: dict[str, Value] = {}
    verify: bool | str = True
    timeout: Annotated[float, Meta(gt=0, le=86_400)] = 30.0

    def check(self) -> None:
        """Raise :class:`BadRequest` for an invalid entry, with the field and its value."""
        try:
            self._check()
        except BadRequest as error:
            raise BadRequest(f"environment {self.name[:64]!r}: {error}") from None

    def _check(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise BadRequest(
                "its name must be letters, digits, '.', '_' and '-', up to 63, beginning with a letter or digit, and "
                f"none of {', '.join(RESERVED)}"
            )
        if self.provider == "local":
            return
        if self.name == LOCAL:
            raise BadRequest(f"{LOCAL!r} is this machine: give the cluster another name")
        self._check_access()
        for provider, (url, what, others) in CLUSTERS.items():
            if provider == self.provider and getattr(self, url) is None:
                raise BadRequest(f"{url} is missing: {what}")
            for field in (url, *others):
                if provider != self.provider and getattr(self, field) is not None:
                    raise BadRequest(f"{field} is for provider {provider}")
        for field in ("address", "operator_endpoint", "api_endpoint"):
            if (given := getattr(self, field)) is not None:
                try:
                    http.checked(given)
                except BadRequest as error:
                    raise BadRequest(f"{field}: {error}") from None
        if self.storage is not None:
            storage.checked(self.storage)
        if self.version is not None and not re.fullmatch(r"\d+\.\d+[\w.+-]{0,40}", self.version):
            raise BadRequest(f"version must be one of Cortex's, such as 0.42.1, not {self.version[:40]!r}")

    def _check_access(self) -> None:
        if isinstance(self.verify, str) and not Path(self.verify).expanduser().is_file():
            raise BadRequest(f"verify: there is no file {self.verify!r} with certificates of authorities")
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or name.lower() in _NOT_TO_SET:
                raise BadRequest(f"headers: {name[:64]!r} is not a header that can be set")
            if isinstance(value, dict) and list(value) not in (["env"], ["file"]):
                raise BadRequest(f"headers: {name}: must be text, {{env: VARIABLE}} or {{file: PATH}}")

    def public(self) -> Environment:
        """Return what every authenticated user may see: no headers, nor where their values come from."""
        return Environment(
            name=self.name,
            provider=self.provider,
            operator_endpoint=self.operator_endpoint or UNSET,
            api_endpoint=self.api_endpoint or UNSET,
            version=self.version or UNSET,
            timeout=self.timeout if self.provider == "cortex" else UNSET,
            address=self.address or UNSET,
            storage=self.storage or UNSET,
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    default_environment: str | None = None
    environments: list[dict[str, Any]] | None = None


class Environments:
    """All environments of a home, by name; ``local`` is always among them."""

    def __init__(self, entries: list[Entry], default: str) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.default = default

    def find(self, name: str | None) -> Entry:
        """Return one by name, the default one for None; raise :class:`NotFound` naming those there are."""
        name = name or self.default
        if name not in self.entries:
            raise NotFound(f"there is no environment {name[:64]!r}; there are: {', '.join(self.entries)}")
        return self.entries[name]

    def response(self) -> EnvironmentsResponse:
        """Return them as the wire has them."""
        entries = [entry.public() for entry in self.entries.values()]
        return EnvironmentsResponse(self.default, entries, __version__, list(FEATURES))


class EnvironmentFile:
    """The file of one home."""

    def __init__(self, home: Path) -> None:
        self.path = HomePaths(home).environments
        self._seen: tuple[int, ...] | None = None
        self._read: Environments | None = None

    def stamp(self) -> tuple[int, ...]:
        """Return a value that changes when the file does."""
        try:
            stat = self.path.lstat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Unavailable(f"{self.path} can't be read: {error.strerror}") from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def read(self) -> Environments:
        """Return the environments; raise :class:`BadRequest` with what is wrong in the file, and where."""
        seen = self.stamp()
        if self._read is None or seen != self._seen:
            guard.check(self.path.parent)
            self._read, self._seen = self.parse(), seen
        return self._read

    def configure(self, entry: Entry) -> bool:
        """Add an environment, or replace the one of its name; return whether it is new."""
        entry.check()

        def change(file: dict[str, Any]) -> bool:
            there: list[Any] = file["environments"]
            kept = [one for one in there if one.get("name") != entry.name]
            position = next((n for n, one in enumerate(there) if one.get("name") == entry.name), len(kept))
            kept.insert(position, msgspec.to_builtins(entry))
            file["environments"] = kept
            return len(kept) > len(there)

        return bool(self._change(change))

    def delete(self, name: str) -> None:
        """Delete an environment; if it was the default one, ``local`` becomes that."""
        if name == LOCAL:
            raise BadRequest(f"{LOCAL!r} is this machine and can't be deleted")

        def change(file: dict[str, Any]) -> None:
            Environments([Entry(**one) for one in file["environments"]], "").find(name)
            file["environments"] = [one for one in file["environments"] if one.get("name") != name]
            if file["default_environment"] == name:
                file["default_environment"] = LOCAL

        self._change(change)

    def set_default(self, name: str) -> None:
        """Make an environment the default one."""

        def change(file: dict[str, Any]) -> None:
            Environments([Entry(**one) for one in file["environments"]], "").find(name)
            file["default_environment"] = name

        self._change(change)

    def parse(self) -> Environments:
        """Read the file now; see :meth:`read`."""
        try:
            text = (files.read_own(self.path, MAX_YAML) or b"").decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"{self.path} is no UTF-8 text") from None
        except OSError as error:
            raise Unavailable(f"{self.path} can't be read: {error.strerror}") from None
        try:
            file = decoding.convert(load(text, "it") or {}, _File)
            entries = [self._entry(one) for one in file.environments or []]
        except msgspec.ValidationError as error:
            raise BadRequest(f"{self.path}: {error}") from None
        except BadRequest as error:
            raise BadRequest(f"{self.path}: {error}") from None
        names = [entry.name for entry in entries]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise BadRequest(f"{self.path}: there are two environments {twice!r}")
        if LOCAL not in names:
            entries.insert(0, Entry(name=LOCAL, provider="local"))
        default = file.default_environment or LOCAL
        environments = Environments(entries, default)
        try:
            environments.find(default)
        except NotFound as error:
            raise BadRequest(f"{self.path}: default_environment: {error}") from None
        return environments

    def _entry(self, raw: dict[str, Any]) -> Entry:
        provider = raw.get("provider")
        if isinstance(provider, str) and provider not in PROVIDERS:
            raise BadRequest(
                f"environment {str(raw.get('name'))[:64]!r} has provider {provider[:64]!r}; this version knows "
                f"{', '.join(PROVIDERS)}"
            )
        entry = decoding.convert(raw, Entry)
        entry.check()
        return entry

    def _change(self, change: Callable[[dict[str, Any]], Any]) -> Any:
        """Read the file, change and write it, under a lock; it must be valid before."""
        with self._locked():
            now = self.parse()
            file = {
                "default_environment": now.default,
                "environments": [msgspec.to_builtins(entry) for entry in now.entries.values()],
            }
            answer = change(file)
            self._write(dump(file))
            return answer

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as held:
            guard.enter(self.path.parent)
            try:
                held.enter_context(files.locked_folder(self.path.parent))
            except OSError as error:
                raise Unavailable(f"{self.path} can't be written: {error.strerror}") from None
            yield

    def _write(self, text: str) -> None:
        try:
            files.write_atomic(self.path, text.encode(), sync=True)
        except OSError as error:
            raise Unavailable(f"{self.path} can't be written: {error.strerror}") from None
