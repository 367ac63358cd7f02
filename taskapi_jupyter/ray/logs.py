"""The logs of jobs on a Ray cluster: a thread for each follows it and writes it into the job's folder here."""

from __future__ import annotations

import fcntl
import http.client
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files
from taskapi_jupyter.core.errors import Unreachable
from taskapi_jupyter.core.paths import JobPaths
from taskapi_jupyter.node.frames import Reader
from taskapi_jupyter.runner.log_file import LogWriter

from .job import Phase, RayJob, valid
from .rest import RayCluster, Refused

_FOLLOWED = 64  # logs at once; Ray answers 100 such requests at most
_LAST_READS = 8  # of jobs that have ended, beside those
_BEGUN = 0.1  # seconds between two requests whether a job has begun, at first
_LISTED = 1.0  # seconds; where that would take longer, the list of all jobs says so
_WHOLES = 2  # logs that are read as a whole at once: each is in memory then
_WHOLE = 3.0  # seconds between two readings of a log as a whole at least
_SHARE = 5  # times as long as such a reading takes is waited for the next, up to
_LONGEST = 30.0  # seconds
_BACK_OFF = 5.0  # seconds between two readings of a log at most
_TRIES = 5  # of the last reading of a log, where Ray refuses it
_CUT = 30  # of those where it does not come to its end


class Logs:
    """Reads logs of ``cluster()``, keeps ``bound()`` bytes of each, and calls ``wake()`` when one was read."""

    last_read = 120.0  # seconds of waiting after which the log of a job that has ended is given up

    def __init__(self, cluster: Callable[[], RayCluster], bound: Callable[[], int], wake: Callable[[], None]) -> None:
        self._cluster = cluster
        self._bound = bound
        self._wake = wake
        self._followers = threading.Semaphore(_FOLLOWED)
        self._last_reads = threading.Semaphore(_LAST_READS)
        self._wholes = threading.Semaphore(_WHOLES)
        self._last_wholes = threading.Semaphore(_WHOLES)

    def follow(self, job: RayJob) -> None:
        """Start the thread that reads a job's log, until the job has ended or is no longer ours."""
        job.log.thread = threading.Thread(target=self._read, args=(job,), daemon=True)
        job.log.thread.start()

    def _read(self, job: RayJob) -> None:
        """Write a job's output into its log here as it arrives, and note what its frames say.

        When Ray reports its end, the log is read once more, to the end; logs of running jobs do not delay that.
        """
        failed, pause = 0, _BEGUN
        while not job.log.over and job.log.outcome is None:
            at_end = job.phase is Phase.ENDED
            slots = self._last_reads if at_end else self._followers
            if not slots.acquire(timeout=_BEGUN):
                continue  # it may have ended meanwhile
            done = False
            began = time.monotonic()
            try:
                if job.node is None and (at_end or pause < _LISTED):
                    job.node = self._cluster().node(job.submission_id)
                if job.node is not None:
                    job.log.outcome = self._listen(job, job.node, at_end)
                    took = time.monotonic() - began
                    pause = min(max(min(pause * 1.5, _WHOLE), _SHARE * took), _LONGEST) if job.log.whole else _BEGUN
                else:
                    pause = min(pause * 1.15, _LISTED)
                done = at_end
            except (Unreachable, OSError, http.client.HTTPException):  # away: again
                if at_end:  # its node may have gone in a way that keeps everybody waiting who asks for its log
                    job.log.failed += 1
                    job.log.waited += time.monotonic() - began
                    done = job.log.failed >= _CUT or job.log.waited > self.last_read
                pause = min(pause * 1.5, _BACK_OFF)
            except Exception as error:  # not begun yet, or its node is gone; or an answer that is none
                job.problem = str(error)[:500]
                failed += at_end
                done = failed >= _TRIES
                pause = min(pause * 1.5, _BACK_OFF)
            finally:
                slots.release()
            if done:
                break
            if job.log.outcome is None:
                (time.sleep if at_end else job.log.wake_event.wait)(pause)
        job.log.done = True
        self._wake()

    def _listen(self, job: RayJob, node: str, at_end: bool) -> dict[str, Any] | None:
        """Follow a log, or read one to its end; return the outcome where the job said it.

        Ray sends logs byte by byte to so many at a time only, and forgets that one has gone where nothing more comes.
        Its other way, to all, is a text as a whole, in which it has changed the ends of lines and broken characters.
        """
        try:
            stream, sock = self._cluster().log(job.submission_id, node, follow=not at_end)
        except Refused:
            job.log.whole = True
            with self._last_wholes if at_end else self._wholes:
                began = time.monotonic()
                text = self._cluster().text(job.submission_id)
                told = self._take(job, io.BytesIO(text.encode("utf-8", "surrogateescape")))
                job.log.read_at = began
                return told
        job.log.stream, job.log.whole = None if at_end else sock, False
        job.log.followed_at = None if at_end else time.monotonic()
        try:
            return self._take(job, stream)
        finally:
            job.log.stream = job.log.followed_at = None
            stream.close()
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()

    def _take(self, job: RayJob, stream: http.client.HTTPResponse | io.BytesIO) -> dict[str, Any] | None:
        """Write what arrives until the stream ends; return the outcome where a frame has it."""
        with _Held(job.folder):
            writer = LogWriter(job.folder, self._bound(), go_on=True)
            known = writer.offset  # of the output, what stands here already
            reader = Reader(job.marker)
            try:
                while not job.log.over:
                    data = stream.read1(1 << 16)
                    if not data:
                        return None
                    job.log.heard_at = time.monotonic()
                    for value in reader.feed(data):
                        size = len(value) if isinstance(value, bytes) else int(value.get("skip", 0))
                        if known >= size:
                            known -= size
                        elif isinstance(value, bytes):
                            _write(writer, value[known:])
                            known = 0
                        else:
                            writer.skip(size - known)
                            known = 0
                        if isinstance(value, dict) and (told := self._heard(job, value)):
                            return told
                return None
            finally:
                with suppress(OSError):
                    writer.close()

    @staticmethod
    def _heard(job: RayJob, value: Mapping[str, Any]) -> dict[str, Any] | None:
        """Note what a frame says; return the job's outcome, which is in the last one."""
        paths = JobPaths(job.folder)
        for name, path in (("progress", paths.progress), ("metrics", paths.metrics)):
            if isinstance(value.get(name), str):
                with suppress(OSError):
                    files.write_atomic(path, value[name].encode(), sync=False)
        job.log.storing = job.log.storing or "storing" in value
        return valid(value.get("outcome"))


def _write(writer: LogWriter, data: bytes) -> None:
    """Write output; what a full disk has no room for is counted as dropped."""
    before = writer.offset
    try:
        writer.write(data)
    except OSError:
        writer.skip(len(data) - (writer.offset - before))


class _Held:
    """Holds a job's log while it is written to: another supervisor's thread may still be at it."""

    def __init__(self, folder: str) -> None:
        self.fd = files.create(os.path.join(folder, "log.lock"), os.O_RDWR)

    def __enter__(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
