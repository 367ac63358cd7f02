"""Jobs as processes of this machine: forks watchers, adopts those of an earlier supervisor, sweeps after dead ones."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskapi_jupyter import machine
from taskapi_jupyter.faults import point
from taskapi_jupyter.watcher import read_outcome, vanished, watch

_TRIES = 3  # to fork a job whose watcher died before it claimed it


class _Watched:
    """A job that a watcher runs: our own child, or an adopted one known by its pidfd."""

    def __init__(self, job: Mapping[str, Any], pid: int, *, child: bool, pidfd: int | None = None) -> None:
        self.job = job
        self.pid = pid
        self.child = child
        self.pidfd = pidfd
        self.tries = 1


class LocalEngine:
    """Implements ``contract.Engine``. Single-threaded, as a process that forks should be."""

    def __init__(self, home: str, limits: Callable[[], Mapping[str, Any]], wake: Callable[[], None]) -> None:
        self.home = home
        self.limits = limits
        self.wake = wake
        self.watched: dict[str, _Watched] = {}
        self.over: list[tuple[str, Mapping[str, Any]]] = []

    # The protocol

    def adopt(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Take over what an earlier supervisor marked running: adopt, start, or read how it ended."""
        for job in jobs:
            if job["started_boot"] != machine.boot_id():
                outcome = read_outcome(self._folder(job["id"]))
                self.over.append((job["id"], outcome or vanished("the machine was restarted while it ran")))
            elif not os.path.exists(os.path.join(self._folder(job["id"]), "claim")):
                self.start(job)
            else:
                self._adopt(job)

    def start(self, job: Mapping[str, Any]) -> None:
        """Fork a watcher for a job."""
        self._fork(job, tries=1)

    def stop(self, job_id: str) -> None:
        """Send TERM to the job's watcher, which takes it as "stop"."""
        watched = self.watched.get(job_id)
        if watched is None:
            return
        point("engine.stopping")
        try:
            if watched.pidfd is not None and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(watched.pidfd, signal.SIGTERM)
            elif watched.child or not self._claim_is_free(job_id):
                os.kill(watched.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the jobs that ended since the last call, with their outcomes."""
        over, self.over = self.over, []
        over += self._reap_children()
        for job_id, watched in list(self.watched.items()):
            if not watched.child and self._claim_is_free(job_id):
                over.append((job_id, self._conclude(watched)))
        return over

    def filenos(self) -> list[int]:
        """Return the pidfds of adopted watchers; our own children are told of by SIGCHLD."""
        return [watched.pidfd for watched in self.watched.values() if watched.pidfd is not None]

    def interval(self) -> float | None:
        """Return how often to look at adopted watchers where the system has no pidfds."""
        blind = any(not one.child and one.pidfd is None for one in self.watched.values())
        return 0.0 if self.over else 0.25 if blind else None

    # How

    def _folder(self, job_id: str) -> str:
        return os.path.join(self.home, "jobs", job_id)

    def _fork(self, job: Mapping[str, Any], tries: int) -> None:
        limits = self.limits()
        point("engine.forking")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError as error:  # as many processes as there may be
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self.watched.pop(job["id"], None)
            self.over.append((job["id"], vanished(f"could not be started: {error.strerror}")))
            return
        if pid == 0:
            code = errno.EIO
            try:
                # The supervisor's lock, FIFO and database must not live on in a watcher.
                os.closerange(3, _most_descriptors())
                gc.disable()
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                    signal.signal(number, signal.SIG_IGN)
                code = watch(self.home, job, limits, self.wake)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        point("engine.forked")
        self.watched[job["id"]] = _Watched(job, pid, child=True)
        self.watched[job["id"]].tries = tries

    def _adopt(self, job: Mapping[str, Any]) -> None:
        """Follow the watcher that holds a job's claim, or conclude where it is dead."""
        point("engine.adopting")
        try:
            with open(os.path.join(self._folder(job["id"]), "claim"), "rb") as file:
                pid = int(json.loads(file.read())["pid"])
        except (OSError, ValueError, KeyError):
            pid = 0
        pidfd = None
        if pid and hasattr(os, "pidfd_open"):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                pidfd = None
        # Asked after pidfd_open: while the lock is held, the pid is the watcher's and so is the pidfd.
        watched = _Watched(job, pid, child=False, pidfd=pidfd)
        self.watched[job["id"]] = watched
        if self._claim_is_free(job["id"]):
            self.over.append((job["id"], self._conclude(watched)))

    def _claim_is_free(self, job_id: str) -> bool:
        """Say whether no living watcher holds a job's claim."""
        try:
            fd = os.open(os.path.join(self._folder(job_id), "claim"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:  # no descriptor to be had: not known is not free, or a living job would be swept away
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    def _reap_children(self) -> list[tuple[str, Mapping[str, Any]]]:
        over: list[tuple[str, Mapping[str, Any]]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return over
            if pid == 0:
                return over
            watched = next((one for one in self.watched.values() if one.child and one.pid == pid), None)
            if watched is None:
                continue
            job_id = watched.job["id"]
            if not os.path.exists(os.path.join(self._folder(job_id), "claim")):
                code = os.waitstatus_to_exitcode(status)
                if watched.tries < _TRIES:
                    self._fork(watched.job, watched.tries + 1)
                    continue
                why = os.strerror(code) if code > 0 else "its watcher was killed before it began"
                del self.watched[job_id]
                over.append((job_id, vanished(f"could not be started: {why}")))
            elif self._claim_is_free(job_id):
                over.append((job_id, self._conclude(watched)))
            else:
                del self.watched[job_id]
                self._adopt(watched.job)  # another watcher was first

    def _conclude(self, watched: _Watched) -> Mapping[str, Any]:
        """Read how a job ended whose watcher is gone; sweep what it left where it couldn't."""
        job_id = watched.job["id"]
        point("engine.concluding")
        del self.watched[job_id]
        if watched.pidfd is not None:
            os.close(watched.pidfd)
        outcome = read_outcome(self._folder(job_id))
        if outcome is None:
            point("engine.sweeping")
            self._sweep(job_id, watched.pid or None)
            point("engine.swept")
            outcome = vanished("its watcher was killed")
        return outcome

    def _sweep(self, job_id: str, session: int | None) -> None:
        """Kill what a dead watcher left, until nothing is left or, after a second, it can't be killed."""
        for _ in range(100):
            left = machine.of_job(job_id, session)
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            time.sleep(0.01)
        print(f"{job_id}: processes that can't be killed: {left}", file=sys.stderr, flush=True)  # noqa: T201


def _most_descriptors() -> int:
    """Return a number above every open descriptor: closing up to the limit takes long where that is a million."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return max(int(name) for name in os.listdir(folder)) + 1
        except OSError:
            continue
    return os.sysconf("SC_OPEN_MAX")
