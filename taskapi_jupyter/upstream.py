"""A Cortex cluster's operator as an environment has it: where it is, and what is sent to be let in.

Used by the server's proxy and by a client that speaks to a cluster without one. What it hands out are secrets: they
are read when they are needed, kept in memory alone, and belong to the operator's endpoint and to no other address.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import requests

from . import sts
from .errors import Unavailable
from .transport import is_loopback

VERSION_HEADER = "CortexAPIVersion"
SIGNATURE_HEADER = "X-Cortex-Authorization"
#: Routes that want neither the cluster's version nor a signature (pkg/operator of Cortex 0.28 and 0.42).
OPEN = re.compile(r"/(?:tasks/|verifycortex(?:\?|$))")
SIGNED_SINCE = (0, 30)
VERSION_HOLDS = 300.0  # seconds that a version which was asked for is believed
FAILURE_HOLDS = 5.0  # seconds until a cluster that did not say its version is asked again

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Value = str | dict[str, str]  # text, in which ${NAME} is a variable; {"env": NAME}; {"file": path}


class Upstream:
    """One cluster. Methods block: on files, on AWS, on the cluster."""

    def __init__(
        self,
        name: str,
        endpoint: str,
        *,
        version: str | None = None,
        headers: Mapping[str, Value] | None = None,
        verify: bool | str = True,
        timeout: float = 30.0,
    ) -> None:
        self.name = name
        self.endpoint = endpoint.rstrip("/")
        self.version = version
        self.verify = verify
        self.timeout = timeout
        self._values = dict(headers or {})
        self._lock = Lock()
        self._found: tuple[float, str | None] = (float("-inf"), None)
        self._signature: tuple[float, str | None] = (float("-inf"), None)

    def __repr__(self) -> str:
        return f"<Upstream {self.name} at {self.endpoint}>"

    @property
    def origin(self) -> str:
        """Return scheme, host and port of the endpoint, as a browser's ``Origin`` has them."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc}"

    def headers(self, path: str) -> dict[str, str]:
        """Return what is sent with a request for a path of the operator, such as ``/get/hello``.

        Raises :class:`Unavailable` where a variable or a file that a header is read from is not there.
        """
        headers = self.configured()
        if OPEN.match(path):
            return headers
        headers |= self._signed(headers)
        given = {name.lower() for name in headers}
        if VERSION_HEADER.lower() not in given and (version := self.cluster_version()):
            headers[VERSION_HEADER] = version
        return headers

    def configured(self) -> dict[str, str]:
        """Return the headers that the environment configures, with their values as they are now."""
        return {name: self._read(name, value) for name, value in self._values.items()}

    def cluster_version(self) -> str | None:
        """Return the cluster's version: as configured, else as its ``/info`` says; None where that can't be had."""
        if self.version is not None:
            return self.version
        with self._lock:
            if not self._knows_version():
                self._found = (time.monotonic(), self._ask_version() or self._found[1])
            return self._found[1]

    def _knows_version(self) -> bool:
        asked, version = self._found
        return time.monotonic() - asked < (VERSION_HOLDS if version else FAILURE_HOLDS)

    def at_hand(self, path: str) -> bool:
        """Say whether :meth:`headers` has nothing to wait for."""
        if any("file" in value for value in self._values.values() if isinstance(value, dict)):
            return False
        if OPEN.match(path):
            return True
        knows_who = before(self.version, SIGNED_SINCE) or time.monotonic() - self._signature[0] < sts.HOLDS
        return knows_who and (self.version is not None or self._knows_version())

    def _ask_version(self) -> str | None:
        headers = self.configured()
        headers |= self._signed(headers)
        session = requests.Session()
        session.trust_env = False  # a netrc entry would replace what we send
        try:
            answer = session.get(
                f"{self.endpoint}/info",
                headers=headers,
                timeout=min(self.timeout, 10),
                verify=self.verify,
                allow_redirects=False,
                proxies={} if is_loopback(self.endpoint) else requests.utils.get_environ_proxies(self.endpoint),
            )
            version: Any = answer.json()["cluster_config"]["api_version"]
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return None
        finally:
            session.close()
        return version if isinstance(version, str) and re.fullmatch(r"[\w.+-]{1,40}", version) else None

    def _signed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return Cortex's STS header where this cluster takes one and there are AWS credentials to sign with."""
        if SIGNATURE_HEADER.lower() in {name.lower() for name in headers} or before(self.version, SIGNED_SINCE):
            return {}
        if not (self.endpoint.startswith("https:") or is_loopback(self.endpoint)):
            return {}  # whoever reads it on the way could be us for a quarter of an hour
        signed, signature = self._signature
        if time.monotonic() - signed >= sts.HOLDS:
            signature = sts.signature()
            self._signature = (time.monotonic(), signature)
        return {SIGNATURE_HEADER: signature} if signature else {}

    def _read(self, header: str, value: Value) -> str:
        """Return a header's value; no message shows it."""
        if isinstance(value, str):
            text = _VARIABLE.sub(lambda match: self._variable(header, match[1]), value)
        elif "env" in value:
            text = self._variable(header, value["env"])
        else:
            path = Path(value["file"]).expanduser()
            try:
                text = path.read_text("latin-1").strip()
            except OSError as error:
                raise self._missing(header, f"{path} can't be read: {error.strerror}") from None
        if not text.isprintable() or not _latin1(text):
            raise self._missing(header, "its value holds characters that no header can have")
        return text

    def _variable(self, header: str, name: str) -> str:
        try:
            return os.environ[name].strip()
        except KeyError:
            raise self._missing(header, f"the environment variable {name} is not set here") from None

    def _missing(self, header: str, why: str) -> Unavailable:
        return Unavailable(f"environment {self.name}: header {header}: {why}", kind="environment.credentials")


def before(version: str | None, bound: tuple[int, int]) -> bool:
    """Say whether a version is known to be older than a bound of two numbers."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < bound


def _latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
