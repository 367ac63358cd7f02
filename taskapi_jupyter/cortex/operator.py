"""A Cortex cluster's operator: its address and the credentials that an environment configures for it.

Used by the server's proxy and by a client that speaks to a cluster without one. What it hands out are secrets: they
are read when they are needed, kept in memory alone, and belong to the operator's endpoint and to no other address.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from taskapi_jupyter.client.environments_file import Entry, Environments
from taskapi_jupyter.client.headers import Value, read_value
from taskapi_jupyter.client.http import is_loopback
from taskapi_jupyter.core.errors import NotKept

from . import aws

VERSION_HEADER = "CortexAPIVersion"
SIGNATURE_HEADER = "X-Cortex-Authorization"
#: Routes that want neither the cluster's version nor a signature (pkg/operator of Cortex 0.28 and 0.42).
OPEN = re.compile(r"/(?:tasks/|verifycortex(?:\?|$))")
SIGNED_SINCE = (0, 30)
RACE = 8.0  # seconds after a submission in which a cluster may not know the job yet, or report a false failure
VERSION_HOLDS = 300.0  # seconds that a version which was asked for is believed
FAILURE_HOLDS = 5.0  # seconds until a cluster that did not say its version is asked again


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
        """Return the headers of a request for a path of the operator, such as ``/get/hello``.

        Raises :class:`Unavailable` if a variable or a file that a header is read from does not exist.
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
        return {name: read_value(self.name, name, value) for name, value in self._values.items()}

    def cluster_version(self) -> str | None:
        """Return the cluster's version: as configured, else from its ``/info``; None if it does not tell."""
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
        """Whether :meth:`headers` returns at once: without reading a file, asking AWS or the cluster."""
        if any("file" in value for value in self._values.values() if isinstance(value, dict)):
            return False
        if OPEN.match(path):
            return True
        is_signed = before(self.version, SIGNED_SINCE) or time.monotonic() - self._signature[0] < aws.HOLDS
        return is_signed and (self.version is not None or self._knows_version())

    def _ask_version(self) -> str | None:
        import requests

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
        """Return Cortex's STS header if this cluster accepts one and there are AWS credentials to sign with."""
        if SIGNATURE_HEADER.lower() in {name.lower() for name in headers} or before(self.version, SIGNED_SINCE):
            return {}
        if not (self.endpoint.startswith("https:") or is_loopback(self.endpoint)):
            return {}  # anybody who reads it on the way could use it for a quarter of an hour
        signed, signature = self._signature
        if time.monotonic() - signed >= aws.HOLDS:
            signature = aws.signature()
            self._signature = (time.monotonic(), signature)
        return {SIGNATURE_HEADER: signature} if signature else {}


def before(version: str | None, bound: tuple[int, int]) -> bool:
    """True if a version is known and older than a bound of two numbers."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < bound


_upstreams: WeakKeyDictionary[Environments, dict[str, Upstream]] = WeakKeyDictionary()


def upstream_of(environments: Environments, entry: Entry) -> Upstream:
    """Return the cluster of an entry; the same object as long as the environment file is the same."""
    known = _upstreams.setdefault(environments, {})
    if entry.name not in known:
        assert entry.operator_endpoint is not None
        verify = entry.verify
        known[entry.name] = Upstream(
            entry.name,
            entry.operator_endpoint,
            version=entry.version,
            headers=entry.headers,
            verify=str(Path(verify).expanduser()) if isinstance(verify, str) else verify,
            timeout=entry.timeout,
        )
    return known[entry.name]


def no_plan(environment: str) -> NotKept:
    """Return the error of a dry run: an operator knows none, and would deploy."""
    return NotKept(f"{environment} is a Cortex cluster, which can't tell what a deploy would do: leave out the dry run")
