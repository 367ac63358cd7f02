"""``notify`` of ``config.yaml``: names, where what is sent under them goes, and of which jobs; checked here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from taskapi_jupyter.core.errors import BadRequest, Unavailable
from taskapi_jupyter.core.states import FAILURES, MOVES, JobCode, values
from taskapi_jupyter.deploy.api_spec import sections
from taskapi_jupyter.deploy.api_spec.quantities import parse_seconds
from taskapi_jupyter.deploy.values import shorten

BROWSER = "browser"  # notifies in the page; config.yaml does not name it
WEBHOOKS = ("http", "https")  # schemes; apprise sends to all others
MIN_SECRET = 24  # bytes

_DAY = 86_400
_RETRIES = [5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0]  # seconds from one attempt to the next
_MOST_NAMES, _MOST_RETRIES = 100, 20
_ENDED = values(MOVES[JobCode.RUNNING])
_WHEN = {
    "started": ["started"],
    "failed": values(FAILURES),
    "ended": _ENDED,
    **{status: [status] for status in _ENDED},
}
_OPTIONS = ("after", "give_up", "retries")  # of `notify`, beside the names
_RESERVED = (*_OPTIONS, BROWSER, "off", "test", "list", "deliveries", "job")  # names that mean something else
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_REFERENCE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?:env:([A-Za-z_][A-Za-z0-9_]*)|file:(?!//)(.+))")


class Destination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where what is sent under one name goes, and of which jobs."""

    url: str  # of a webhook, or as apprise has it; the whole, or what follows `://`, may be `env:NAME` or `file:PATH`
    on: list[str] = msgspec.field(default_factory=lambda: ["ended"])
    apis: list[str] | None = None  # names and patterns; None: all
    secret: str | None = None  # what a webhook is signed with, or `env:NAME`, or `file:PATH`
    include: list[Literal["config", "result", "log_tail"]] = []
    insecure: bool = False  # whether http:// may lead to another machine
    verify: bool | str = True  # certificates; text: a file with those of authorities

    @property
    def scheme(self) -> str | None:
        """Return the scheme of the URL; None where all of it comes from elsewhere."""
        found = _SCHEME.match(self.url)
        return found[1].lower() if found else None

    @property
    def shown(self) -> str:
        """Return the URL without what may be secret: of a webhook the host is shown, else the scheme alone."""
        if _REFERENCE.fullmatch(self.url):
            return self.url
        if self.scheme not in WEBHOOKS:
            return f"{self.scheme}://..."
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{self.scheme}://{host}{port}{'/...' if parts.path.strip('/') or parts.query else ''}"

    @property
    def events(self) -> list[str]:
        """Return `started` and the states of which something is sent."""
        return list(dict.fromkeys(event for word in self.on for event in _WHEN[word]))

    @property
    def mark(self) -> str:
        """Return what tells its URL, as it is written, from another."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def check(self, at: str) -> tuple[str, bytes | None]:
        """Return the URL and what is signed with, read now; raise with what is missing or wrong, without the value.

        That is :class:`Unavailable` or :class:`BadRequest`.
        """
        url = _value_of(f"{at}.url", self.url)
        _check_url(at, url, self.insecure, read=True)
        secret = None if self.secret is None else _value_of(f"{at}.secret", self.secret)
        return url, None if secret is None else _secret_bytes(f"{at}.secret", secret)

    def variables(self) -> Iterator[str]:
        """Yield the names of the environment variables that it is read from."""
        for text in (self.url, self.secret or ""):
            if (found := _REFERENCE.fullmatch(text)) and found[1]:
                yield found[1]


class Notify(msgspec.Struct, frozen=True):
    """What ``notify`` in ``config.yaml`` says; times in seconds."""

    names: dict[str, Destination]
    after: float = 0.0  # that a job must have run, unless it asks
    give_up: float = float(_DAY)
    retries: list[float] = msgspec.field(default_factory=lambda: _RETRIES)

    def settings(self) -> dict[str, Any]:
        """Return what the supervisor needs: neither a URL nor a secret."""
        return {
            "after": self.after,
            "names": {name: {"on": one.events, "apis": one.apis} for name, one in self.names.items()},
        }


def read(given: Mapping[str, Any]) -> Notify:
    """Check what stands below ``notify``; raise :class:`BadRequest` with the entry that is wrong."""
    for name in given:
        if name not in _OPTIONS and (not _NAME.fullmatch(name) or name in _RESERVED):
            raise BadRequest(
                f"notify.{shorten(name)}: a name has 1 to 32 letters, digits, - and _, begins with a letter, and "
                f"is not one of {', '.join(_RESERVED)}"
            )
    names = {name: _destination(name, value) for name, value in given.items() if name not in _OPTIONS}
    if len(names) > _MOST_NAMES:
        raise BadRequest(f"notify has {len(names)} names; at most {_MOST_NAMES} are possible")
    after, give_up = (
        float(parse_seconds(value, f"notify.{key}", least)) if (value := given.get(key)) is not None else default
        for key, default, least in (("after", 0.0, 0), ("give_up", float(_DAY), 1))
    )
    return Notify(names, after, give_up, _retries(given.get("retries")))


def _destination(name: str, value: Any) -> Destination:
    """Return the destination of a name; raise :class:`BadRequest` with what is wrong in it, and without its URL."""
    at = f"notify.{name}"
    if not isinstance(value, Mapping) or not isinstance(value.get("url"), str):
        raise BadRequest(f"{at} must be a mapping with a url, as in {at}: {{url: https://hooks.example/jobs}}")
    if not isinstance(value.get("secret") or "", str):
        raise BadRequest(f"{at}.secret must be text: put it in quotes")
    value = {"on" if key is True else key: one for key, one in value.items()}  # as YAML reads `on`
    if isinstance(value.get("on"), str):
        value["on"] = [value["on"]]
    found: Destination = sections.read(Destination, value, at)
    for word in found.on:
        if word not in _WHEN:
            raise BadRequest(f"{at}.on: {shorten(word)} is not one of {', '.join(_WHEN)}")
    _check_url(at, found.url, found.insecure)
    if found.secret is not None:
        if found.scheme is not None and found.scheme not in WEBHOOKS:
            raise BadRequest(f"{at}.secret is what a webhook is signed with, and {found.scheme}:// is none: remove it")
        if not _REFERENCE.fullmatch(found.secret):
            _secret_bytes(f"{at}.secret", found.secret)
    if isinstance(found.verify, str) and not Path(found.verify).expanduser().is_file():
        raise BadRequest(f"{at}.verify: there is no file {shorten(found.verify)} with certificates of authorities")
    return found


def _retries(value: Any) -> list[float]:
    if value is None:
        return _RETRIES
    wanted = f"a list of at most {_MOST_RETRIES} times such as 5, 300 or 30m, from one attempt to the next"
    if not isinstance(value, list) or len(value) > _MOST_RETRIES:
        raise sections.wrong("notify.retries", wanted, value)
    return [float(parse_seconds(one, "notify.retries", 0)) for one in value]


def _check_url(at: str, url: str, insecure: bool, *, read: bool = False) -> None:
    """Raise :class:`BadRequest`, which does not show the URL, unless something may be sent to it.

    ``read`` says that it is whole: what it refers to by ``env:`` or ``file:`` was put in.
    """
    if not url.isprintable() or not url.strip():
        raise BadRequest(f"{at}.url is empty, or has a newline or another control character")
    if not read and _REFERENCE.fullmatch(url):
        return
    if not (scheme := _SCHEME.match(url)):
        raise BadRequest(
            f"{at}.url has no scheme: it begins with https://, with another scheme that apprise knows, such as "
            "mailtos://, or is env:NAME or file:PATH"
        )
    if scheme[1].lower() not in WEBHOOKS:
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or " " in url:
        raise BadRequest(f"{at}.url is no URL of a web server")
    from taskapi_jupyter.client.http import is_loopback  # it takes time to import

    if parts.scheme == "http" and not insecure and not is_loopback(url):
        raise BadRequest(
            f"{at}.url is http:// to {shorten(host)}, where others may read what is sent: use https://, or set "
            "insecure: true"
        )


def _secret_bytes(at: str, text: str) -> bytes:
    """Return the key that a secret is: of base64 after ``whsec_``, else its characters."""
    key = text.encode()
    if text.startswith("whsec_"):
        try:
            key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest(f"{at} begins with whsec_, and what follows is not base64") from None
    if len(key) < MIN_SECRET:
        raise BadRequest(f"{at} has {len(key)} bytes; it must have {MIN_SECRET} or more")
    return key


def _value_of(at: str, text: str) -> str:
    """Return a URL or a secret with what it refers to, read now.

    Raises :class:`Unavailable`, without the value, where the variable is not set or the file can't be read.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return text
    if found[1]:
        value = os.environ.get(found[1], "").strip()
        if not value:
            raise Unavailable(f"{at}: the environment variable {found[1]} is not set where this is sent from")
    else:
        path = Path(found[2]).expanduser()
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"{at}: {path} can't be read: {getattr(error, 'strerror', 'not text')}") from None
    scheme = _SCHEME.match(text)
    return value if scheme is None or _SCHEME.match(value) else f"{scheme[0]}{value}"
