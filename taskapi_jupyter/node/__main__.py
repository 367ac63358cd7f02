"""The entry point of a job on a cluster's node, which runs and watches it as on one machine. Standard library only.

A Ray job runs ``python -m taskapi_jupyter.node`` in a folder that holds these files of ours, those of the API in
``api``, those of its project in ``project``, and ``job.json``. A watcher runs the task. Another process, the guard,
passes its output on, reports its progress and its end (:mod:`taskapi_jupyter.node.frames`), stores its result and
files, and kills what is left where the watcher was killed.

The guard is detached from the entry point, which only waits for it: Ray signals all descendants of an entry point, and
only the watcher may signal the task, once. Where the entry point dies, the guard stops the job.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, folders, host, nesting
from taskapi_jupyter.core.paths import HomePaths, JobPaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.node.storage import push
from taskapi_jupyter.runner import launch, log_file
from taskapi_jupyter.runner.engine import LocalEngine
from taskapi_jupyter.runner.outcome import json_object, vanished
from taskapi_jupyter.runner.process_tree import bind_to_parent, collect_orphans

from .frames import frame, output

_EVERY = 0.05  # seconds between two readings of the output, while there is some
_SELDOM = 0.2  # seconds, where there was none
_PROGRESS = 0.5  # seconds between two reports of progress
_ALIVE = 20.0  # seconds of silence after which a frame says that the stream is open still
_READ = 1 << 18
_TOLD_BOUND = 12 << 10  # bytes; what progress() and metric() write is shorter
_LINGERS, _LINGER = 2, 0.15  # times, seconds
_SAY_AGAIN = 600  # times, once a second, that an end is said again where this node's disk is full


class _Engine(LocalEngine):
    """Starts a watcher that gets TERM when this process dies, as nobody would read its job's output any more."""

    guard = 0  # our process id

    def forked(self) -> None:
        bind_to_parent(signal.SIGTERM)
        if host.LINUX and os.getppid() != self.guard:
            os._exit(1)


class Guard:
    """Runs the one job that ``given``, the content of ``job.json``, describes.

    ``control`` is a descriptor that has something to read, or has ended, when the job is to be stopped.
    """

    def __init__(self, folder: str, given: Mapping[str, Any], control: int) -> None:
        self.control = control
        self.given = given
        self.marker = given["word"]
        self.job: dict[str, Any] = given["job"]
        self.limits = given["limits"]
        self.home = os.path.join(folder, "home")
        self.folder = HomePaths(self.home).job(self.job["id"]).folder
        self.at = 0  # of the output, how much was passed on
        self.told = dict[str, str]()  # what was said last of its progress and its metrics
        self.told_at = 0.0
        self.said_at = 0.0
        self.abandoned = False  # whether the entry point has died
        self.behind = False  # whether output came faster than it could be passed on

    def prepare(self, folder: str) -> None:
        """Lay out a home for one job; its variables are this node's and its API's."""
        for one in ("jobs", "apis"):
            files.create_folder(os.path.join(self.home, one))
        os.symlink(os.path.join(folder, "api"), HomePaths(self.home).version(self.job["api_id"]))
        start = nesting.loads(self.job["launch"])
        project = os.path.join(folder, "project")
        left = os.environ.pop(launch.SECONDS_LEFT, None)
        start["env"] = {**os.environ, **start["env"]}
        start["python"] = sys.executable
        if not os.path.isdir(start["cwd"]):  # one machine, or a file system that all share, has the folder itself
            start["cwd"] = project
            start["origin"] = None
        if start.get("cloudpickle"):
            start["cloudpickle"] = folder
        start["sys_path"] = [
            start["cwd"],
            project,
            *(one for one in start.get("sys_path", ()) if not one or os.path.isdir(one)),
        ]
        self.job["launch"] = json.dumps(start)
        if left is not None:
            # From here on, whatever this node's clock says; the engine counts too, since the submission.
            self.job["boot"], self.job["deadline"] = host.boot_id(), host.boottime() + float(left)

    def run(self) -> dict[str, Any]:
        """Run the job to its end, and return the outcome."""
        wakeups, told = os.pipe()
        for fd in (wakeups, told):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        collect_orphans()
        self.say({"begin": self.job["id"]})
        engine = _Engine(self.home, lambda: self.limits, lambda: None)
        engine.guard = os.getpid()
        engine.start(self.job)
        poll = select.poll()
        poll.register(wakeups, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        pauses = host.backoff(_EVERY, _SELDOM)
        while not (over := engine.ended()):
            if self.pass_on():
                pauses = host.backoff(_EVERY, _SELDOM)
            self.tell()
            if time.monotonic() - self.said_at > _ALIVE:
                self.say({"alive": True})
            if self.control in [fd for fd, _ in poll.poll(next(pauses) * 1000)]:
                self.abandoned = not os.read(self.control, 1)
                engine.stop(self.job["id"])
                poll.unregister(self.control)
            try:
                os.read(wakeups, 4096)
            except BlockingIOError:
                pass
        self.pass_on(last=True)
        outcome = dict(over[0][1])
        outcome.update((name, _told(outcome[name])) for name in ("progress", "metrics"))
        if self.abandoned and outcome["status"] == JobCode.STOPPED.value:
            outcome.update(status=JobCode.UNEXPECTED_ERROR.value, reason="Ray's own process for it was killed")
        return outcome

    def store(self) -> str:
        """Store the result and files in a child, which a stop kills where it hangs; return what went wrong."""
        if self.given["storage"] is None:
            return ""
        self.say({"storing": True})  # its time is over, this is not
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setsid()
                bind_to_parent(signal.SIGKILL)
                os.write(told, push(self.given["storage"], self.folder).encode("utf-8", "replace")[:2000])
                code = 0
            finally:
                os._exit(code)
        os.close(told)
        poll = select.poll()
        poll.register(heard, select.POLLIN)
        if not self.abandoned:
            poll.register(self.control, select.POLLIN)
        lost = b""
        while True:
            ready = [fd for fd, _ in poll.poll(_ALIVE * 1000)]
            if self.control in ready:
                os.kill(child, signal.SIGKILL)
                lost = b"its result and files were not stored: it was stopped meanwhile"
                break
            if heard in ready:
                lost = os.read(heard, 4096)
                break
            self.say({"alive": True})
        status = os.waitpid(child, 0)[1]
        os.close(heard)
        if status and not lost:
            lost = b"its result and files were not stored: what stores them was killed"
        return lost.decode("utf-8", "replace")

    # What is said

    def say(self, value: dict[str, Any], tries: int = 1) -> None:
        """Write a frame; where this node's disk is full, try ``tries`` times, once a second."""
        data = frame(self.marker, value)
        for attempt in range(tries):
            left = self._write(data)
            if not left:
                return
            if len(left) < len(data):
                data = b"\n" + frame(self.marker, value)  # the torn one ends here
            if attempt + 1 < tries:
                time.sleep(1)

    def _write(self, data: bytes) -> bytes:
        """Write; return what could not be."""
        self.said_at = time.monotonic()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(1, view) :]
            except OSError:  # the node's disk is full: the job goes on
                break
        return bytes(view)

    def pass_on(self, last: bool = False) -> bool:
        """Pass output on, up to the log's bound; at the end (``last``) the newest part of the rest."""
        bound = self.limits["log_max_bytes"]
        some = False
        if last and bound and (self.behind or self.at >= bound):
            self._skip_to(max(log_file.size(self.folder) - bound * 3 // 4, self.at))
            bound = 0
        while True:
            limit = min(_READ, bound - self.at) if bound else _READ
            if limit <= 0 or (self.behind and not last):
                return some
            data, offset, after, _ = log_file.read(self.folder, self.at, limit)
            if offset > self.at and not last:
                self.behind = True
                return some
            self._skip_to(offset)
            if after == offset:
                return some
            data = data[len(data) - (after - offset) :]  # without the line that says what was dropped
            whole = len(data) - (0 if last else _begun_character(data))
            if not whole:
                return some
            self._write(output(self.marker, data[:whole]))
            self.at = offset + whole
            some = True

    def _skip_to(self, offset: int) -> None:
        if offset > self.at:
            self.say({"skip": offset - self.at})
            self.at = offset

    def tell(self) -> None:
        """Report the task's progress and its metrics, where they have changed."""
        now = time.monotonic()
        if now - self.told_at < _PROGRESS:
            return
        self.told_at = now
        paths = JobPaths(self.folder)
        for name, path in (("progress", paths.progress), ("metrics", paths.metrics)):
            try:
                text = _told(files.read(path, 1 << 14).decode("utf-8", "replace"))
            except OSError:
                continue
            if text is not None and text != self.told.get(name):
                self.told[name] = text
                self.say({name: text})


def main() -> None:
    """Be the entry point: have a process that Ray does not know run the job, and exit with its exit code."""
    path = os.path.join(os.getcwd(), "job.json")
    with open(path, encoding="utf-8") as file:
        given = json.load(file)
    os.unlink(path)  # its marker, its variables and its config are nobody else's
    control, stop = os.pipe()
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        os.close(stop)
        os.close(ended)
        code = 1
        try:
            code = run(os.getcwd(), given, control)
        finally:
            os.write(end, bytes([code]))
            os._exit(code)
    os.close(control)
    os.close(end)

    def pass_on(*_: object) -> None:
        with suppress(OSError):  # it has just ended
            os.write(stop, b"s")

    signal.signal(signal.SIGTERM, pass_on)
    os.waitpid(child, 0)
    code = (os.read(ended, 1) or b"\1")[0]
    # Ray notices that who followed a log has gone when it has something to send, and serves so many at a time.
    for _ in range(_LINGERS):
        time.sleep(_LINGER)
        with suppress(OSError):
            os.write(1, frame(given["word"], {"end": code}))
    os._exit(code)


def run(folder: str, given: Mapping[str, Any], control: int) -> int:
    """Run the job, say how it ended, and return an exit code."""
    guard = Guard(folder, given, control)
    lost = ""
    try:
        wrong = _other_python(given)
        if wrong:
            guard.say({"begin": guard.job["id"]})
            outcome = vanished(f"could not be started: {wrong}")
        else:
            guard.prepare(folder)
            outcome = guard.run()
            lost = guard.store()
            outcome["reason"] = "; ".join(filter(None, (outcome["reason"], lost)))[:2000] or None
    except Exception as error:  # whatever a node lacks: it is said, and not left to be guessed from a traceback
        guard.say({"begin": guard.job["id"]})
        outcome = vanished(f"could not be watched: {type(error).__name__}: {error}")
    guard.say({"outcome": outcome}, tries=_SAY_AGAIN)
    if not lost:
        folders.remove(guard.home)
    code = outcome["exit_code"]
    if outcome["status"] == JobCode.SUCCEEDED.value:
        return 0
    return int(code if code is not None and 0 < code < 256 else 128 - code if code is not None and code < 0 else 1)


def _begun_character(data: bytes) -> int:
    """Return how many bytes at the end are the beginning of a character."""
    for size in range(1, min(3, len(data)) + 1):
        byte = data[-size]
        if byte >= 0xC0:
            return size if size < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _told(text: str | None) -> str | None:
    """Return what a task said of itself where it is of a form and a length to be passed on."""
    return json_object(text) if text and len(text) <= _TOLD_BOUND else None


def _other_python(given: Mapping[str, Any]) -> str | None:
    """Return what is wrong with this interpreter for a callable that another pickled."""
    wanted, here = given["python"], "{}.{}".format(*sys.version_info)
    if wanted and wanted != here:
        return f"its callable was pickled by Python {wanted}, and this cluster has {here}"
    return None


if __name__ == "__main__":
    main()
