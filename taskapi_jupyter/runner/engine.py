"""Jobs on this machine: forks watchers, adopts those of an earlier supervisor, kills what dead ones left."""

from __future__ import annotations

import _socket
import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from taskapi_jupyter.core import files, host, nesting, process, room
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths, JobPaths
from taskapi_jupyter.core.states import JobCode

from . import capacity, claim, gpus, process_tree, warm
from .outcome import outcome, read_outcome, too_late, vanished
from .watcher import prepare, serve, watch

_TRIES = 3  # to fork a job whose watcher died before it claimed it
_STOPS = 20  # that a watcher is told to go on after, each within a minute of the last
_PATIENCE = 2.0  # seconds to kill what a dead watcher left
_AGAIN = 1.0  # seconds until a job that could not begin is tried again
_CHANNEL = 3  # the descriptor by which a watcher gets jobs
_POLL = 1.0  # seconds between checks whether a watcher that is not our child was stopped by a signal


class _Watched:
    """A job that a watcher runs: our own child, or one that is known by its pidfd, or by its channel."""

    def __init__(
        self,
        job: Mapping[str, Any],
        pid: int,
        start_time: str | None,
        *,
        child: bool,
        pidfd: int | None = None,
        here: bool = True,
        channel: int | None = None,
        template: int = 0,
    ) -> None:
        self.job = job
        self.pid = pid
        self.start_time = start_time
        self.child = child
        self.pidfd = pidfd
        self.channel = channel  # of a watcher that may get other jobs: ends when it does
        self.template = template  # the pid of the template that forked it, if one did
        self.told = False  # whether it was told to stop
        self.code = errno.EIO  # what a watcher with a channel said of its end
        self.changed = ""  # a file that has changed since the template imported it: that watcher did not begin
        self.here = here  # False: its claim is of another boot or container, its numbers mean others here
        self.tries = 1
        self.stops = 0
        self.stopped_at = 0.0
        self.why = "its watcher was killed"
        self.unread = False  # whether its claim could not be read for want of a descriptor
        self.unclaimed = False  # whether it had not claimed its job yet when an older supervisor handed it over


class _Idle(NamedTuple):
    """A watcher without a job: forked ahead, or done with one."""

    pid: int
    channel: int  # a descriptor: the watcher leaves when this ends


class LocalEngine:
    """Implements ``contract.Engine``. Single-threaded, as a process that forks should be."""

    elastic = False

    def __init__(self, home: str, limits: Callable[[], Mapping[str, Any]], wake: Callable[[], None]) -> None:
        self.home = home
        self.limits = limits
        self.wake = wake
        self.watched: dict[str, _Watched] = {}
        self.over: list[tuple[str, Mapping[str, Any]]] = []
        self.inherited: set[str] = set()  # running jobs that another process may have forked a watcher for
        self.unrecorded: dict[str, bool] = {}  # jobs that ended, and whether their watchers saw that
        self.unclaimed: Mapping[str, Any] = {}  # watchers that this process forked when it was an older supervisor
        self.waiting: dict[str, Mapping[str, Any]] = {}  # jobs that nobody has claimed, for want of something
        self.templates = warm.Templates(home)
        self.warming: dict[str, Mapping[str, Any]] = {}  # jobs that wait for a template's imports
        self.try_at = 0.0
        self.said = ""
        self.idle: list[_Idle] = []
        self.started = False  # whether a job was started since a watcher was last forked ahead

    # The protocol

    def adopt(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Take over what an earlier supervisor marked running: adopt, start, or read how it ended."""
        for job in jobs:
            self.inherited.add(job["id"])
            if job["started_boot"] != host.boot_id():
                self.watched[job["id"]] = watched = _Watched(job, 0, None, child=False, here=False)
                watched.why = "the machine was restarted while it ran"
            elif os.path.exists(JobPaths(self._folder(job["id"])).claim):
                self._adopt(job)  # concluded in `ended`, if it is over: a sweep must know all watchers that live
            else:
                pid, start_time, tries = self.unclaimed.get(job["id"], (0, None, 0))
                if pid and process.start_time(pid) == start_time:
                    child = _is_child(pid, start_time)  # else a template's, which has ended or does so now
                    self.watched[job["id"]] = watched = _Watched(job, pid, start_time, child=child)
                    watched.tries, watched.unclaimed = tries, True
                else:
                    self.start(job)

    def hand_over(self) -> dict[str, Any]:
        """Return what the supervisor that this process becomes can't read: watchers that have no claim yet."""
        return {
            job_id: (watched.pid, watched.start_time, watched.tries)
            for job_id, watched in self.watched.items()
            if (watched.child or watched.channel) and not os.path.exists(JobPaths(self._folder(job_id)).claim)
        }

    def take_over(self, unclaimed: Mapping[str, Any]) -> None:
        """Know the watchers that have no claim yet, before jobs are adopted."""
        self.unclaimed = unclaimed

    def start(self, job: Mapping[str, Any]) -> None:
        """Have a watcher forked for a job, by its template where it is to start warm."""
        how = self.templates.begin(job, self.limits())
        if isinstance(how, warm.Waits):
            self.warming[job["id"]] = job
        elif isinstance(how, warm.Begun):
            self.watched[job["id"]] = _Watched(
                job, how.pid, how.start_time, child=False, channel=how.channel, template=how.template
            )
        else:
            self._fork(job if how.note is None else {**job, "note": how.note}, tries=1)

    def stop(self, job_id: str, hurry: bool = False) -> None:
        """Send TERM to the job's watcher, which takes it as "stop", and USR1 where its grace period is to end now."""
        if (self.waiting.pop(job_id, None) or self.warming.pop(job_id, None)) is not None:
            self.over.append((job_id, outcome(JobCode.STOPPED)))
        watched = self.watched.get(job_id)
        if watched is None:
            return
        fault_point("engine.stopping")
        watched.told = True
        process.send(watched.pid, watched.start_time, signal.SIGTERM)
        if hurry:  # a watcher of an older package ignores it
            process.send(watched.pid, watched.start_time, signal.SIGUSR1)
        process.send(watched.pid, watched.start_time, signal.SIGCONT)  # its task may have stopped it

    def ended(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the jobs that ended since the last call, with their outcomes."""
        self._reap_children()
        for job_id, watched in list(self.watched.items()):
            if watched.channel is not None and self._is_done(watched):
                self._gone(watched, watched.code)
            elif watched.child:
                continue
            elif watched.channel is not None:
                if process.is_stopped(watched.pid, watched.start_time):
                    self._go_on(watched)
            elif watched.unclaimed and process.start_time(watched.pid) == watched.start_time:
                if os.path.exists(JobPaths(self._folder(job_id)).claim):
                    self._adopt(watched.job)
            elif watched.unclaimed:
                self._gone(watched, errno.EIO)
            elif claim.is_free(self._folder(job_id)):
                self._conclude(watched)
            elif watched.unread:
                self._adopt(watched.job)
            elif process.is_stopped(watched.pid, watched.start_time):
                self._go_on(watched)
        self._start_waiting()
        self._start_warming()
        over, self.over = self.over, []
        self.unrecorded.update((job_id, how["status"] != JobCode.UNEXPECTED_ERROR.value) for job_id, how in over)
        return over

    def recorded(self, job_id: str) -> None:
        """Remove what nobody reads any more of a job that `ended` returned: of 28 KiB on disk, 12 stay."""
        if job_id in self.unrecorded:
            seen = self.unrecorded.pop(job_id)
            claim.clear(self._folder(job_id), seen=seen, alone=job_id not in self.inherited)
            self.inherited.discard(job_id)

    def filenos(self) -> list[int]:
        """Return what reports the end of watchers that are no children of ours; of children, SIGCHLD does."""
        ends = [fd for one in self.watched.values() for fd in (one.pidfd, one.channel) if fd is not None]
        return ends + self.templates.filenos()

    def interval(self) -> float | None:
        """Return the seconds between checks of adopted watchers (few where the system has no pidfds), or templates."""
        if self.over:
            return 0.0
        adopted = [one for one in self.watched.values() if not one.child]
        if not all(one.pidfd is not None or one.channel is not None for one in adopted):
            return 0.25
        waits = [_POLL] if adopted or self.waiting or self.warming else []
        return min((one for one in (*waits, self.templates.interval()) if one is not None), default=None)

    def capacity(self) -> dict[str, Any]:
        """Return what jobs may use of this machine: thousandths of cores, bytes of memory."""
        has = capacity.here()
        there = gpus.known(self.home).devices
        return {"cpus": has.cores, "mem": has.memory, "gpus": None if there is None else gpus.count(there)}

    def accepts_jobs(self) -> bool:
        """Whether jobs can be started: not while the disk has no room for one."""
        return room.obstacle(self.home) is None and room.obstacle(self._folder("")) is None

    # How

    def forked(self) -> None:
        """Do what a watcher begins with."""

    def _folder(self, job_id: str) -> str:
        return HomePaths(self.home).job(job_id).folder

    def _fork(self, job: Mapping[str, Any], tries: int) -> None:
        """Have a watcher begin with a job: the one that was forked ahead, else one that is forked now."""
        limits = self.limits()
        fault_point("engine.forking")
        try:
            pid, channel = (self._give(job, limits) if tries == 1 else None) or (
                self._watcher(lambda wake: watch(self.home, job, limits, wake)),
                None,
            )
        except OSError as error:  # as many processes as there may be
            self.watched.pop(job["id"], None)
            self._put_off(job, error.errno or errno.EAGAIN)
            return
        fault_point("engine.forked")
        self.started = True
        self.watched[job["id"]] = _Watched(job, pid, process.start_time(pid), child=True, channel=channel)
        self.watched[job["id"]].tries = tries

    def _watcher(self, run: Callable[[Callable[[], None]], int], channel: int | None = None) -> int:
        """Fork a watcher, return its pid; it calls ``run`` with what wakes a supervisor where this one is gone."""
        me = os.getpid()

        def wake() -> None:
            if os.getppid() != me:  # else this supervisor sees it leave
                self.wake()

        before = process.mask_signals(signal.SIG_BLOCK, process.valid_signals())
        try:
            pid = os.fork()
        except OSError:
            process.mask_signals(signal.SIG_SETMASK, before)
            raise
        if pid == 0:
            code = errno.EIO
            try:
                if channel is not None:
                    os.dup2(channel, _CHANNEL, inheritable=False)
                # The supervisor's lock, FIFO and database must not live on in a watcher.
                os.closerange(_CHANNEL + (channel is not None), _most_descriptors())
                gc.disable()
                for number in (signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                self.forked()
                prepare()
                code = run(wake)
            except OSError as error:
                code = error.errno or errno.EIO
            except BaseException:
                sys.__excepthook__(*sys.exc_info())  # prints it; `traceback` would take each supervisor 3 ms to import
            finally:
                os._exit(code)
        process.mask_signals(signal.SIG_SETMASK, before)
        return pid

    def keep_ahead(self, wanted: bool) -> None:
        """Fork a watcher ahead of the next job, where one was started since and none is idle; or end those that are."""
        if not wanted:
            while self.idle:
                self._end_idle(self.idle[0])
        elif self.started and not self.idle:
            self.started = False
            with suppress(OSError):  # as many processes or descriptors as there may be
                ours, theirs = _socket.socketpair()
                pid = self._watcher(lambda wake: serve(_CHANNEL, self.home, wake), theirs.fileno())
                theirs.close()
                ours.setblocking(False)
                self.idle.append(_Idle(pid, ours.detach()))

    def _end_idle(self, one: _Idle) -> None:
        """Do without a watcher that has no job, is not reaped, and may be stopped by a signal."""
        self.idle.remove(one)
        os.close(one.channel)
        os.kill(one.pid, signal.SIGKILL)

    def _give(self, job: Mapping[str, Any], limits: Mapping[str, Any]) -> tuple[int, int] | None:
        """Give a job to an idle watcher; return its pid and its channel, None where there is none that takes it."""
        try:
            data = warm.message(job, limits) if self.idle else b""
        except (TypeError, ValueError):  # a row with bytes in it
            return None
        while self.idle:
            one = self.idle[-1]
            try:
                if os.write(one.channel, data) == len(data):
                    self.idle.pop()
                    return one
            except OSError:  # it is gone
                pass
            self._end_idle(one)  # a part of a job, which is a large one, is none
        return None

    def _put_off(self, job: Mapping[str, Any], why: int) -> None:
        """Have a job that could not begin, and that nobody has claimed, begin later."""
        self.waiting[job["id"]] = job
        self.try_at = time.monotonic() + _AGAIN
        if self.said != (said := f"jobs can't begin yet: {os.strerror(why)}; trying again"):
            self.said = said
            print(f"taskapi supervisor: {said}", file=sys.stderr, flush=True)  # noqa: T201

    def _end_overdue(self, waiting: dict[str, Mapping[str, Any]]) -> None:
        """End the jobs among those that wait to begin whose time is over."""
        for job_id, job in list(waiting.items()):
            deadline = job.get("deadline") if job.get("boot") == host.boot_id() else None
            if deadline is not None and host.boottime() >= deadline:
                del waiting[job_id]
                self.over.append((job_id, outcome(JobCode.TIMED_OUT, too_late(job))))

    def _start_warming(self) -> None:
        """Start jobs whose template has imported everything, or can't."""
        self.templates.end_idle()
        self._end_overdue(self.warming)
        warming, self.warming = self.warming, {}
        for job in warming.values():
            self.start(job)

    def _start_waiting(self) -> None:
        """Start jobs that could not begin, when there is room; end those whose time is over."""
        self._end_overdue(self.waiting)
        if not self.waiting:
            self.said = ""
        if self.waiting and time.monotonic() >= self.try_at:
            self.try_at = time.monotonic() + _AGAIN
            if self.accepts_jobs():
                waiting, self.waiting = self.waiting, {}
                for job in waiting.values():
                    self.start(job)

    def _adopt(self, job: Mapping[str, Any]) -> None:
        """Follow the watcher that holds a job's claim, or held it: our own child, or one known by its pidfd."""
        fault_point("engine.adopting")
        here, unread = True, False
        try:
            who = nesting.loads(files.read(JobPaths(self._folder(job["id"])).claim, 4096))
            here = host.is_here(who)
            pid, start_time = (int(who["pid"]), str(who["start_time"])) if here else (0, "")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            who, pid, start_time = {}, 0, ""
            unread = isinstance(error, OSError) and error.errno in files.NO_DESCRIPTOR
        child = here and _is_child(pid, start_time)
        pidfd = None
        if not child and process.is_there(who) and hasattr(os, "pidfd_open"):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                pidfd = None
            if pidfd is not None and not process.is_there(who):  # its number may be another's just now
                os.close(pidfd)
                pidfd = None
        self.watched[job["id"]] = watched = _Watched(job, pid, start_time, child=child, pidfd=pidfd, here=here)
        watched.unread = unread
        if not here:
            watched.why = "its container ended while it ran"

    def _reap_children(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            watched = next((one for one in self.watched.values() if one.child and one.pid == pid), None)
            idle = next((one for one in self.idle if one.pid == pid), None)
            if idle is not None and os.WIFSTOPPED(status):
                self._end_idle(idle)
            elif idle is not None:
                self.idle.remove(idle)
                os.close(idle.channel)
            elif watched is None:
                if not os.WIFSTOPPED(status) and self.templates.ended(pid):
                    for one in self._orphans():
                        process_tree.send(one, signal.SIGKILL)
            elif os.WIFSTOPPED(status):
                self._go_on(watched)
            else:
                self._gone(watched, os.waitstatus_to_exitcode(status))

    def _gone(self, watched: _Watched, code: int) -> None:
        """See what is to be done where a watcher has left: it may not have begun its job. ``code`` is its exit code."""
        job_id = watched.job["id"]
        if not os.path.exists(JobPaths(self._folder(job_id)).claim):
            if watched.changed:
                note = f"started cold, not warm: {watched.changed} has changed since it was imported"
                self._forget(watched)
                self.templates.end([watched.job["api_id"]])
                self._fork({**watched.job, "note": note}, tries=1)
            elif code in files.PASSING:
                self._forget(watched)
                self._put_off(watched.job, code)
            elif watched.tries < _TRIES:
                self._forget(watched)
                self._fork(watched.job, watched.tries + 1)
            else:
                why = os.strerror(code) if code > 0 else "its watcher was killed before it began"
                self._forget(watched)
                self.over.append((job_id, vanished(f"could not be started: {why}")))
        elif claim.is_free(self._folder(job_id)):
            self._conclude(watched)
        else:
            self._forget(watched)
            self.inherited.add(job_id)
            self._adopt(watched.job)  # another watcher was first

    def _forget(self, watched: _Watched) -> None:
        """Stop following a watcher."""
        self.watched.pop(watched.job["id"], None)
        for fd in (watched.pidfd, watched.channel):
            if fd is not None:
                os.close(fd)

    def _is_done(self, watched: _Watched) -> bool:
        """Whether a watcher says on its channel that it is done, or, one that is no child, has ended.

        It gets another job if its template lives, unless a stop that was meant for this job may still reach it.
        """
        assert watched.channel is not None
        try:
            while said := os.read(watched.channel, 8192):
                if said.startswith(b"changed "):
                    watched.changed = os.fsdecode(said[8:])
                elif (code := int(said)) != 0:
                    watched.code = code
                else:
                    watched.code = 0
                    self._keep(watched)
                    return True
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            pass
        if watched.child:  # it is reaped, which tells its exit code
            os.close(watched.channel)
            watched.channel = None
        return not watched.child

    def _keep(self, watched: _Watched) -> None:
        """Keep a watcher that is done with its job for another one, if that is wanted."""
        channel, watched.channel = watched.channel, None
        assert channel is not None
        if watched.told:
            os.close(channel)
        elif watched.template:
            self.templates.keep(watched.job["api_id"], watched.template, watched.pid, channel)
        elif len(self.idle) < warm.MOST_IDLE:
            self.idle.append(_Idle(watched.pid, channel))
        else:
            os.close(channel)

    def _conclude(self, watched: _Watched) -> None:
        """Read how a job ended whose watcher is gone; sweep what it left where it couldn't.

        Where it ran in another container or boot, the numbers it knew mean other processes here. A job whose watcher
        gave its claim back begins once more.
        """
        job_id = watched.job["id"]
        fault_point("engine.concluding")
        try:
            ended = read_outcome(self._folder(job_id))
        except OSError:  # no descriptor to be had: it is read later
            watched.child = False
            return
        self._forget(watched)
        names = [os.path.join(self._folder(job_id), name) for name in ("claim", claim.GIVEN_BACK)]
        if ended is None and watched.here and [os.path.exists(name) for name in names] == [False, True]:
            self.start(watched.job)
            return
        if ended is None and watched.here:
            fault_point("engine.sweeping")
            self._sweep(watched)
            fault_point("engine.swept")
        self.over.append((job_id, ended or vanished(watched.why)))

    def _go_on(self, watched: _Watched) -> None:
        """Continue a watcher that was stopped by a signal: its job may have a deadline, or be stopped.

        One that is stopped again and again is ended, and its job with it.
        """
        now = time.monotonic()
        watched.stops = watched.stops + 1 if now - watched.stopped_at < 60 else 1
        watched.stopped_at = now
        if watched.stops <= _STOPS:
            process.send(watched.pid, watched.start_time, signal.SIGCONT)
        else:
            watched.why = "its watcher was stopped by signals again and again"
            process.send(watched.pid, watched.start_time, signal.SIGKILL)

    def _sweep(self, watched: _Watched) -> None:
        """Kill what a dead watcher left, until nothing is left or, after two seconds, it can't be killed."""
        job_id = watched.job["id"]
        until = time.monotonic() + _PATIENCE
        for pause in host.backoff(0.001, 0.01):
            orphans = self._orphans()
            left = {one.pid: one.start_time for one in orphans}
            if not orphans:  # these are found at once; the rest takes a list of all processes
                left = process.of_job(job_id, watched.pid or None, watched.start_time)
            if not left:
                return
            if time.monotonic() >= until:
                break
            for pid, start_time in left.items():
                process.send(pid, start_time, signal.SIGKILL)
            time.sleep(pause)
        print(f"{job_id}: processes that can't be killed: {sorted(left)}", file=sys.stderr, flush=True)  # noqa: T201

    def _orphans(self) -> list[process_tree.Process]:
        """Return our descendants that no living watcher has below it: their watchers are dead."""
        if not host.LINUX:
            return []
        # A watcher that a template forked is a child of ours once the template has ended.
        watchers = {one.pid for one in self.watched.values() if one.here}
        watchers |= {one.pid for one in self.idle}
        return process_tree.below(os.getpid(), but=watchers | self.templates.pids())


def _is_child(pid: int, start_time: str | None) -> bool:
    """Whether a process is a child of this one, living or to be reaped, and its number is not another's (Linux)."""
    try:
        fields = process.stat(pid) if host.LINUX and pid > 1 else []
        return bool(fields) and (fields[1], fields[19]) == (str(os.getpid()), start_time)
    except (OSError, IndexError):
        return False


def _most_descriptors() -> int:
    """Return a number above every open descriptor: closing up to the limit takes long where that is a million."""
    try:
        return max(process.open_files()) + 1
    except OSError:
        return os.sysconf("SC_OPEN_MAX")
