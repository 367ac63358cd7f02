"""A job's log over a cluster's websocket: text frames, closed with 1000 at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, overload

from taskapi_jupyter.client.log_reader import SHOWN, check, last_lines, lines, newest_text
from taskapi_jupyter.client.rest import api_segment
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.contract import LogChunk
from taskapi_jupyter.core.errors import NotKept, TaskAPIError
from taskapi_jupyter.display.screen import rewritten

from .cluster import Cluster
from .operator import before

if TYPE_CHECKING:
    from websocket import WebSocket

PODS_SINCE = (0, 36)  # tasks are containers, and their logs at /streamlogs
TICK = 0.25  # seconds without a line until an empty one is yielded
TRY_AGAIN = 1.0  # seconds between two tries to open a log that isn't there yet
QUIET = 1.5  # seconds without a line after which what came of a log counts as all there is now
SILENCE = 15.0  # seconds without a line after which the job's status is read


class Log:
    """A websocket of a log, and how it was closed."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.code: int | None = None

    @property
    def connected(self) -> bool:
        """True if more may come."""
        return bool(self.socket.connected)


def frames(log: Log, silence: float, enough: Callable[[], bool], *, keep: bool = False) -> Iterator[str]:
    """Yield text until the other side closes, or until ``enough()`` after a silence; ``keep`` leaves the socket open.

    Yields an empty text each time that nothing came.
    """
    import websocket

    socket, heard = log.socket, time.monotonic()
    try:
        socket.settimeout(min(silence, TICK))
        while True:
            try:
                kind, data = socket.recv_data()
                heard = time.monotonic()
            except websocket.WebSocketTimeoutException:
                yield ""
                if time.monotonic() - heard < silence:
                    continue
                heard = time.monotonic()
                if enough():
                    log.code = log.code or (None if keep else 1000)
                    return
                socket.ping()
                continue
            except (OSError, websocket.WebSocketException):
                log.code = 1006
                keep = False
                return
            if kind == websocket.ABNF.OPCODE_CLOSE:
                log.code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
                keep = False
                return
            yield data.decode("utf-8", "replace")
    finally:
        if not keep:
            socket.close(timeout=1)
            # close() leaves the connection where the other side closed first.
            socket.shutdown()  # type: ignore[no-untyped-call]


def first(pieces: Iterator[str], longest: float) -> Iterator[str]:
    """Yield what comes without a pause, for ``longest`` seconds at most."""
    began, come = time.monotonic(), False
    for piece in pieces:
        yield piece
        if (come and not piece) or time.monotonic() - began > longest:
            return
        come = come or bool(piece)


class Logs(Cluster):
    """Reads the logs of a cluster's jobs."""

    @overload
    def logs(self, job: Job | str, tail: int | None = None) -> str: ...
    @overload
    def logs(self, job: Job | str, tail: int | None = None, *, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, job: Job | str, tail: int | None = None, follow: bool = False) -> str | Iterator[str]:
        """Return what a job's pod has logged; once it is gone, raise :class:`NotKept`, which says where to look."""
        check(tail)
        if follow:
            return lines(self.stream(job, tail, SHOWN))
        job_id, name = self.job_id(job), self._name(job)
        try:
            socket = self._open_log(job_id, name)
        except TaskAPIError as refusal:
            self._explain(job_id, name, refusal)
            return ""  # its pod has not started
        text = "".join(frames(socket, QUIET, lambda: True))
        return text if tail is None else rewritten(last_lines(text, tail))

    def log_chunks(self, job: Job | str, tail: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        """Yield what the cluster sends; it replaces what is not UTF-8."""
        offset = 0
        for piece in self.stream(job, tail) if follow else [self.logs(job, tail)]:
            if data := piece.encode("utf-8", "replace"):
                offset += len(data)
                yield LogChunk(data, offset - len(data), offset, offset)

    def stream(
        self, job: Job | str, tail: int | None = None, most: int | None = None, skip: bool = False
    ) -> Iterator[str]:
        """Yield the log as it is written until the job has ended; nothing is skipped."""
        job_id, name = self.job_id(job), self._name(job)
        while True:
            try:
                socket = self._open_log(job_id, name)
                break
            except TaskAPIError as refusal:
                self._explain(job_id, name, refusal)
            time.sleep(TRY_AGAIN)

        def has_ended() -> bool:
            return Job(self, self.job_response(job_id, name).job_status).ended

        # A cluster sends the log from its beginning: what arrives without a pause is what was there already.
        if tail is not None:
            yield last_lines("".join(frames(socket, QUIET, lambda: True, keep=True)), tail)
        elif most is not None:
            yield newest_text("".join(first(frames(socket, QUIET, lambda: True, keep=True), QUIET)), most)
        if socket.connected:
            yield from frames(socket, SILENCE, has_ended)
        if socket.code != 1000 and not has_ended():
            raise NotKept(
                f"{self.environment} ended the log of job {job_id}, which runs on (a very long line causes this)"
            )

    def _open_log(self, job_id: str, api: str) -> Log:
        old = before(self.version(), PODS_SINCE)
        for path in ("logs",) if old else ("streamlogs", "logs"):
            try:
                return Log(self._http.websocket(f"{path}/{api_segment(api)}", {"jobID": job_id}))
            except TaskAPIError as error:
                refusal = error
                if getattr(error, "kind", "") != "error":
                    raise  # the route exists, and refused
        raise refusal

    def _explain(self, job_id: str, api: str, refusal: TaskAPIError | None) -> None:
        """Return if the job's log may still come; else raise :class:`NotKept` with where it may be found."""
        if not Job(self, self.job_response(job_id, api).job_status).ended:
            return
        try:
            answer = self._http.send("GET", f"logs/{api_segment(api)}", {"jobID": job_id})
            url = self._json(answer, dict).get("log_url")
        except TaskAPIError:
            url = None
        where = f"; it has them at {url}" if isinstance(url, str) and url else ""
        raise NotKept(
            f"{self.environment} is a Cortex cluster, which shows the log of a job while it runs, and job {job_id} has "
            f"ended{where}"
        ) from refusal
