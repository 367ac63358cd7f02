"""A Ray cluster's REST API, as much of it as the engine needs: jobs, packages, logs. Standard library only.

Facts of it are Ray 2.60's (``dashboard/modules/job/job_head.py``, ``state_head.py``): the jobs API is its documented
one, and needs no client of Ray's, which would have to be of the cluster's own version.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.errors import Unreachable

_SILENCE = 60.0  # seconds in which a log that is followed brings something: a job says that it is alive; or a package
_LARGEST = 512 << 20  # bytes of an answer


class Refused(Exception):
    """The cluster answered with an error, or with what is no answer of Ray's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class RayCluster:
    """A client of the API; methods raise :class:`Unreachable` without an answer, :class:`Refused` at an error."""

    patience = 10.0  # seconds, for a connection, for each block of what is sent and for each of an answer

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.address = str(settings["address"]).rstrip("/")
        self._headers = dict(settings.get("headers") or {})
        self._verify = settings.get("verify", True)
        parts = urlsplit(self.address)
        self._path = parts.path
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = parts.scheme == "https"

    # What is asked

    def session(self) -> str:
        """Return the name of the session; it changes when the head is restarted and forgets its jobs."""
        name = self._object("GET", "/api/version").get("session_name")
        if not isinstance(name, str) or not name:
            raise Refused(200, "/api/version names no session")
        return name

    def resources(self) -> dict[str, float]:
        """Return what the cluster has now: CPU, GPU, memory (bytes)."""
        answer = self._object("GET", "/api/cluster_status")
        try:
            report = answer["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
            found = {name: float(report[name][1]) for name in ("CPU", "GPU", "memory") if name in report}
            if not all(map(math.isfinite, found.values())):
                raise ValueError
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            raise Refused(200, "/api/cluster_status does not say what there is") from None
        return found

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return all jobs that were submitted, by their submission id."""
        answer = self._json("GET", "/api/jobs/")
        if not isinstance(answer, list):
            raise Refused(200, "the list of jobs is none")
        known = [one for one in answer if isinstance(one, dict) and isinstance(one.get("submission_id"), str)]
        return {one["submission_id"]: one for one in known}

    def node(self, submission_id: str) -> str | None:
        """Return the node that a job runs on, or ran; None while it has none."""
        node = self._object("GET", f"/api/jobs/{quote(submission_id)}").get("driver_node_id")
        return node if isinstance(node, str) else None

    def upload(self, name: str, package: bytes) -> str:
        """Put a package into the cluster's own store, and return its URI."""
        # From a file: what is sent at a time is a block then, for which the time allowed is.
        self._ask("PUT", f"/api/packages/gcs/{name}", io.BytesIO(package), "application/octet-stream", len(package))
        return f"gcs://{name}"

    def submit(self, request: Mapping[str, Any]) -> None:
        """Submit a job."""
        data = self._ask("POST", "/api/jobs/", json.dumps(request).encode())
        if request["submission_id"].encode() not in data:
            raise Refused(500, "the answer to a submission does not name it")

    def stop(self, submission_id: str) -> None:
        """Ask for a job to be stopped; it is not gone yet when this returns."""
        self._ask("POST", f"/api/jobs/{quote(submission_id)}/stop")

    def delete(self, submission_id: str) -> None:
        """Delete a job that has ended from the cluster's list."""
        self._ask("DELETE", f"/api/jobs/{quote(submission_id)}")

    def log(self, submission_id: str, node: str, follow: bool) -> tuple[http.client.HTTPResponse, socket.socket]:
        """Open a job's log from its beginning; one that is followed goes on until its socket is shut."""
        kind = "stream" if follow else "file"
        path = f"/api/v0/logs/{kind}?node_id={quote(node)}&submission_id={quote(submission_id)}&lines=-1"
        connection = None
        try:
            connection = self._connect(self.patience)
            connection.connect()
            sock = connection.sock
            connection.request("GET", self._path + path + ("&interval=0.1" if follow else ""), headers=self._headers)
            answer = connection.getresponse()
            if follow:
                sock.settimeout(_SILENCE)
            if answer.status != 200:
                raise Refused(answer.status, answer.read(1 << 16).decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last of a host's name
            if connection is not None:
                connection.close()
            raise self._unreachable(error) from None
        except Refused:
            if connection is not None:
                connection.close()
            raise
        return answer, sock

    def text(self, submission_id: str) -> str:
        """Return a job's log as text; Ray has changed its line ends."""
        text = self._object("GET", f"/api/jobs/{quote(submission_id)}/logs").get("logs")
        if not isinstance(text, str):
            raise Refused(200, "the log is no text")
        return text

    # How

    def _object(self, method: str, path: str) -> dict[str, Any]:
        answer = self._json(method, path)
        if not isinstance(answer, dict):
            raise Refused(200, f"{path} answered no object")
        return answer

    def _json(self, method: str, path: str) -> Any:
        data = self._ask(method, path)
        try:
            return nesting.loads(data)
        except ValueError:
            raise Unreachable(
                f"{self.address} did not answer as a Ray cluster: see whether it is its dashboard's URL"
            ) from None

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | io.BytesIO | None = None,
        kind: str = "application/json",
        size: int | None = None,
    ) -> bytes:
        headers = {**self._headers, **({"Content-Type": kind} if body is not None else {})}
        if size is not None:
            headers["Content-Length"] = str(size)
        try:
            connection = self._connect(self.patience)
            try:
                connection.request(method, self._path + path, body, headers)
                if size is not None:
                    connection.sock.settimeout(_SILENCE)  # much of it may be on its way still
                answer = connection.getresponse()
                data: bytes = answer.read(_LARGEST)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last of a host's name
            raise self._unreachable(error) from None
        if answer.status in (502, 503, 504):
            raise Unreachable(f"{self.address} answers HTTP {answer.status}: its head may be starting")
        if answer.status != 200:
            raise Refused(answer.status, data[: 1 << 16].decode("utf-8", "replace"))
        return data

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._verify if isinstance(self._verify, str) else None)
        if self._verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)

    def _unreachable(self, error: Exception) -> Unreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"the Ray cluster at {self.address} can't be reached ({why}): see whether its head is up and address right",
            kind="environment.unreachable",
        )


def last_line(text: str) -> str:
    """Return the last line of a message or traceback of Ray's, which says what went wrong."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no reason was given"
