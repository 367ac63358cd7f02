"""One process per home that admits, starts, observes and stops jobs, and alone records what happened to them.

Started by whoever first needs it, gone a few seconds after nothing is left to do. Its life is the lock on
``supervisor.lock``; it is woken through the FIFO ``wake``. It imports neither msgspec nor YAML, to fork cheaply.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from taskapi_jupyter.core import files, guard, host, nesting
from taskapi_jupyter.core.errors import Damaged, TooNew, Unavailable
from taskapi_jupyter.core.fault_points import point
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.runner import gpus, reaping
from taskapi_jupyter.runner.watcher import collect_orphans, too_late, vanished
from taskapi_jupyter.service import engine_settings
from taskapi_jupyter.service.store import database, readable
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.store import Store

from . import conditions, engines, succession
from .wake import acquire, command, inherit, start, wake

IDLE = 3.0  # seconds without work after which it leaves
_LAST = 0.5  # seconds for the process that tidied to be gone, too, when nothing is left to do
_RETRY = 0.5  # seconds until what could not be written is tried again
_ADMIT_AT_ONCE = 64
_PASSED = 1000  # jobs that others may pass, at one time
_ASK_GPUS = 10.0  # seconds from one process that asks for GPUs to the next
_LOOK_AGAIN = 1.0  # seconds until an engine that could start nothing is asked again
_LONGEST_WAIT = 5.0  # seconds; poll's clock stands still in suspend, a deadline's does not
_TIDY_EVERY = 3600.0  # seconds, while there is work
_NAMED = 100  # rows that can't be read of which that is said
_LOG_BOUND = 1 << 20  # bytes of supervisor.log, and as many of the one before

#: What stands for a limit that nobody set; cpus in thousandths, sizes in bytes, stop_grace in seconds.
DEFAULT_LIMITS: dict[str, Any] = {"gpus": None, "stop_grace": 10.0, "log_max_bytes": 64 << 20}

T = TypeVar("T")
Move = tuple[str, JobCode, JobCode, Mapping[str, Any]]


class Supervisor:
    """The loop; everything it knows that matters is in the store or in a job's folder."""

    def __init__(self, home: str, handed: Mapping[str, Any]) -> None:
        self.home = home
        self.store = Store(os.path.join(home, "taskapi.db"), follow=False)
        self.limits: dict[str, Any] = DEFAULT_LIMITS
        self.engine = engines.load(engine_settings.read(home)["provider"])(
            home, lambda: self.limits, lambda: wake(home)
        )
        if handed:
            self.engine.take_over(handed.get("unclaimed", {}))
        self.chosen: dict[str, Any] = {}  # of them, those that config.yaml sets
        self.limits = self._read_limits()
        self.using: dict[str, Row] = {}  # what the running jobs hold of the machine
        self.unrecorded: list[tuple[str, Mapping[str, Any]]] = []
        self.rebased = False  # whether the deadlines of earlier boots were
        self.leaving = False
        self.behind = True  # whether jobs may be marked running that this supervisor doesn't know
        self.said = ""
        self.named: set[str] = set()  # rows that can't be read, of which that was said
        self.tidied = time.monotonic()
        self.untidy = False  # whether jobs ended since
        self.wanting = False  # whether a job waits until it is known which GPUs there are
        self.asked_gpus = -_ASK_GPUS
        self.tidying: int | None = None  # ends when the process that tidies does

    def run(self, lock: int) -> None:
        """Serve until there is nothing left to do, or until told to leave; then let go of the lock.

        Either way the FIFO is closed before the store is looked into for the last time: a wish that came with a wakeup
        is then seen by this supervisor, and one that came without starts another. Told to leave while jobs run, the
        process keeps the lock and becomes the newer supervisor, which looks again as soon as it has its FIFO open.
        """
        fifo = self._open_fifo()
        wakeups = self._hear_signals()
        os.get_exec_path({})  # what it imports is then there before a fork
        gc.collect()
        gc.freeze()
        idle_since = time.monotonic()
        while not self.leaving:
            wait = self._try_step()
            if self.using or self.unrecorded or wait is not None:
                idle_since = time.monotonic()
            elif self.tidying is not None:
                wait = None
            elif time.monotonic() - idle_since >= IDLE:
                if self.untidy:
                    self._tidy()
                    continue
                collect_orphans(False)  # first: a watcher that finds no FIFO starts a supervisor, and leaves it behind
                self._close_fifo(fifo)
                if not self._any_in_progress():  # whoever comes now finds no FIFO and starts another
                    break
                fifo = self._open_fifo()
                self.behind = True  # what is still in progress is not ours: nothing may stay so
                idle_since = time.monotonic()
                continue
            else:
                wait = idle_since + IDLE - time.monotonic()
            poll = select.poll()
            tidying = [] if self.tidying is None else [self.tidying]
            for fd in (fifo, wakeups, *tidying, *self.engine.filenos()):
                poll.register(fd, select.POLLIN)
            ready = poll.poll(max(0, (60 if wait is None else wait) * 1000) + 1)
            _drain(fifo)
            _drain(wakeups)
            if self._is_replaced(fifo):
                os.close(fifo)
                fifo = self._open_fifo()
            if self.tidying in [fd for fd, _ in ready]:
                os.close(tidying[0])
                self.tidying = None
        else:
            self._close_fifo(fifo)
            self._try_step()
            if self.using or self.behind:
                self._become_newer(lock)
        self.store.close()
        point("supervisor.leaving")
        reaping.reap_all(0.0 if self.leaving else _LAST)
        os.close(lock)

    def _become_newer(self, lock: int) -> None:
        """Go on as the newer supervisor, in this process; where that can't be, start one to leave the jobs to."""
        handed = {"lock": lock, "unclaimed": self.engine.hand_over()}
        self.store.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        succession.become(self.home, command("service.supervisor.supervisor", self.home), handed)
        _say("no newer supervisor can be executed in place of this one, which leaves")
        with suppress(OSError):
            start(self.home)

    def _hear_signals(self) -> int:
        """Handle signals; return the descriptor that each makes readable."""
        wakeups, told = _patiently(self.home, os.pipe)
        os.set_blocking(wakeups, False)
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # What came in the midst of an exec is handled now; and what started this process may have blocked any signal.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return wakeups

    def _any_in_progress(self) -> bool:
        try:
            return self.store.any_in_progress()
        except Damaged:
            raise
        except Unavailable:  # not known is not nothing
            return True

    def _adopt(self) -> None:
        """Have the engine take over the jobs that are marked running and that this supervisor doesn't know."""
        unknown = [row["id"] for row in self.store.running() if row["id"] not in self.using]
        self.engine.adopt([job for job in map(self._take, unknown) if job is not None])
        for row in self.store.odd(_NAMED):
            self._name(row["id"], readable.fault(row) or "")

    def _name(self, job_id: object, wrong: str) -> None:
        """Say once of a row that it can't be read."""
        text = f"the row of job {readable.shown(job_id)} can't be read: {wrong}"
        if text not in self.named and len(self.named) < _NAMED:
            self.named.add(text)
            _say(f"{text}; it is skipped")

    def _take(self, job_id: str, starts: bool = False) -> Row | None:
        """Count a job that is marked running as ours; return its row, None where it can't be started.

        One whose row can't be read and that ran before us may run: it is followed to its end all the same.
        """
        job = self.store.whole_job(job_id)
        if job is None:
            self.unrecorded.append((job_id, vanished("what starts it is gone from the store")))
            return None
        if wrong := readable.fault_of_job(job):
            self._name(job_id, wrong)
            if starts:
                self.unrecorded.append((job_id, vanished(f"its row can't be read: {wrong}")))
                return None
            job = readable.mended(job)
        self.using[job_id] = job
        return job

    def _on_term(self, *_: object) -> None:
        self.leaving = True

    def _open_fifo(self) -> int:
        path = os.path.join(self.home, "wake")
        while True:
            try:
                if os.path.lexists(path) and not stat.S_ISFIFO(mode := os.lstat(path).st_mode):
                    (os.rmdir if stat.S_ISDIR(mode) else os.unlink)(path)
                if not os.path.lexists(path):
                    os.mkfifo(path, 0o600)
                    os.chmod(path, 0o600)  # whatever the umask is
                # Opened for writing too, so that it does not end when a writer leaves.
                fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                break
            except OSError as error:
                if not os.path.isdir(self.home):
                    raise Damaged(f"{self.home} is gone") from None
                self._say_once(f"can't make {path}: {error.strerror}")
                time.sleep(_RETRY)
        collect_orphans()  # what a killed watcher leaves becomes our child, whatever it has shed
        return fifo

    def _is_replaced(self, fifo: int) -> bool:
        """Whether somebody removed the FIFO that we have open, or put something else in its place."""
        try:
            return not os.path.samestat(os.fstat(fifo), os.lstat(os.path.join(self.home, "wake")))
        except FileNotFoundError:
            return os.path.isdir(self.home)
        except OSError:
            return False

    @staticmethod
    def _close_fifo(fifo: int) -> None:
        os.close(fifo)
        point("supervisor.closed")

    # One step

    def _try_step(self) -> float | None:
        """Take a step; return how long to wait for the next at most, None where nothing is due."""
        try:
            if self.behind:
                self._adopt()
                self.behind = False
            wait = self._step()
        except Damaged:
            raise
        except (Unavailable, OSError) as error:  # no disk space or descriptor, or a database locked beyond patience
            if isinstance(error, OSError) and error.errno not in files.PASSING:
                raise
            self.behind = True
            self._say_once(str(error))
            return _RETRY
        self.said = ""
        if self.untidy and self.tidying is None and time.monotonic() - self.tidied >= _TIDY_EVERY:
            self._tidy()
        return wait

    def _say_once(self, text: str) -> None:
        if self.said != text:
            self.said = text
            _say(f"{text}; trying again")

    def _tidy(self) -> None:
        """Have a process of its own delete what config.yaml says, and what was left; it may take long.

        Not a fork: SQLite's locks are not to be carried into one.
        """
        self.tidied, self.untidy = time.monotonic(), False
        _bound_log(self.home)
        try:
            self.tidying, theirs = os.pipe()
        except OSError:  # as many descriptors as there may be: next time
            return
        os.set_inheritable(theirs, True)
        try:
            os.posix_spawn(sys.executable, command("service.retention", self.home), dict(os.environ))
        except OSError:  # as many processes as there may be: next time
            pass
        finally:
            os.close(theirs)

    def _read_limits(self) -> dict[str, Any]:
        """Return the limits in force: those that config.yaml sets, else what there is."""
        self.chosen = {name: value for name, value in self.store.settings().items() if value is not None}
        return {**DEFAULT_LIMITS, **self.engine.capacity(), **self.chosen}

    def _step(self) -> float | None:
        """Record what happened and admit what fits, in one transaction; then start and stop."""
        if not self.rebased:
            self.store.rebase_deadlines(host.boot_id(), host.boottime(), time.time())
            self.rebased = True
        self.unrecorded += self.engine.ended()
        self.limits = self._read_limits()
        moves: list[Move] = [
            (job_id, JobCode.RUNNING, JobCode(outcome["status"]), _columns(outcome))
            for job_id, outcome in self.unrecorded
        ]
        gone = {job_id for job_id, _ in self.unrecorded}
        to_stop = []
        for row in self.store.to_stop():
            if row["status"] == JobCode.PENDING.value:
                moves.append(_ends_pending(row["id"], JobCode.STOPPED, None))
            elif row["id"] not in gone:
                to_stop.append(row)
        due, next_due = self._due()
        moves += due
        admitted = self._admit({move[0] for move in moves}) if self.engine.ready() else []
        moves += admitted
        if moves:
            done = self.store.move(moves)
            point("supervisor.moved")
            self.untidy = self.untidy or bool(gone)
            self.unrecorded.clear()
            for job_id in gone:
                self.using.pop(job_id, None)
            for (job_id, _, code, _), won in zip(moves, done, strict=True):
                if code is not JobCode.RUNNING:
                    continue
                job = self._take(job_id, starts=True) if won else None
                if job is not None:
                    self.engine.start(job)
                    point("supervisor.started")
        for row in to_stop:
            self.engine.stop(row["id"], bool(row["hurry"]))
        self._ask_for_gpus()
        if len(moves) >= _ADMIT_AT_ONCE or self.unrecorded:
            return 0.0  # admission stopped at its bound, not at a job that doesn't fit; or there is more to record
        waits = [one for one in (next_due, self.engine.interval(), self._until_ready()) if one is not None]
        if self.using or waits:
            return min(waits, default=60.0)
        return None

    def _ask_for_gpus(self) -> None:
        """Have a process of its own ask which GPUs there are, where a job waits for that: it may take seconds."""
        if self.wanting and gpus.known(self.home).is_due and time.monotonic() - self.asked_gpus >= _ASK_GPUS:
            self.asked_gpus = time.monotonic()
            with suppress(OSError):
                os.posix_spawn(sys.executable, command("runner.gpus", self.home), dict(os.environ))

    def _until_ready(self) -> float | None:
        """Return when to look again whether jobs can be started that wait for that."""
        if self.wanting:
            return _LOOK_AGAIN
        return _LOOK_AGAIN if not self.engine.ready() and self._any_in_progress() else None

    def _due(self) -> tuple[list[Move], float | None]:
        """Return the moves of pending jobs that have waited too long, and when the next will have."""
        moves = []
        waits: list[float] = []
        for row in self.store.pending_deadlines(host.boot_id()):
            left = row["deadline"] - host.boottime()
            if left <= 0:
                moves.append(_ends_pending(row["id"], JobCode.TIMED_OUT, too_late(row)))
            else:
                waits.append(min(left, _LONGEST_WAIT))
        return moves, min(waits, default=None)

    def _admit(self, leaving: set[str]) -> list[Move]:
        """Return the moves of the jobs that start now: those first in line, up to the first that does not fit.

        ``leaving`` are jobs that this step moves already. A job that asks for more than the machine has had taken away
        since its deploy runs alone; GPUs that are not there can't be made up for. Where it is not known which there
        are, or not so many are there now, the job waits and lets others pass.
        """
        self.wanting = False
        there: gpus.Known | None = None  # read where a job asks for GPUs
        limit = self.limits["gpus"] if self.engine.grows else self.chosen.get("gpus")
        busy = [job for job in self.using.values() if job["id"] not in leaving]
        moves: list[Move] = []
        seq = 0
        passed = 0
        while len(moves) < _ADMIT_AT_ONCE and passed < _PASSED:
            head = self.store.next_pending(seq)
            if head is None:
                break
            seq = head["seq"]
            if head["id"] in leaving:
                continue
            if wrong := readable.fault(head):
                self._name(head["id"], wrong)
                moves.append(_ends_pending(head["id"], JobCode.UNEXPECTED_ERROR, f"its row can't be read: {wrong}"))
                continue
            if limit is not None and head["gpu"] > limit and not self.engine.grows:
                reason = f"asks for {head['gpu']} GPUs, this machine has {limit}"
                moves.append(_ends_pending(head["id"], JobCode.UNEXPECTED_ERROR, reason))
                continue
            if head["gpu"] and not self.engine.grows:
                there = there or gpus.known(self.home)
            choices = gpus.visible(head["visible"], there and there.devices, limit) if head["gpu"] else []
            if not self.engine.grows and (choices is None or gpus.pick(choices, (), head["gpu"]) is None):
                self.wanting = True
                passed += 1
                continue
            choices = choices or []
            held = [number for job in busy for number in gpus.numbers(job["gpus"])]
            picked = gpus.pick(choices, held, head["gpu"])
            if limit is not None and len(held) + head["gpu"] > limit and not self.engine.grows:
                picked = None
            fits = (
                sum(job["cpu"] for job in busy) + head["cpu"] <= self.limits["cpus"]
                and sum(job["mem"] or 0 for job in busy) + (head["mem"] or 0) <= self.limits["mem"]
                and picked is not None
            )
            if busy and not fits:
                break
            picked = choices[: head["gpu"]] if picked is None else picked  # of a cluster, which says itself which
            head["gpus"] = ",".join(str(number) for number, _ in picked) or None
            busy.append(head)
            columns = {
                "started": host.now_us(),
                "started_boot": host.boot_id(),
                "gpus": head["gpus"],
                "devices": ",".join(text for _, text in picked) or None,
            }
            moves.append((head["id"], JobCode.PENDING, JobCode.RUNNING, columns))
        return moves


def _columns(outcome: Mapping[str, Any]) -> dict[str, Any]:
    progress = outcome.get("progress")
    return {
        "ended": outcome["ended"],
        "reason": outcome.get("reason"),
        "exit_code": outcome.get("exit_code"),
        "progress": progress if _is_json(progress) else None,
    }


def _is_json(text: str | None) -> bool:
    try:
        return isinstance(nesting.loads(text or ""), dict)
    except ValueError:  # the task may have written anything
        return False


def _ends_pending(job_id: str, status: JobCode, reason: str | None) -> Move:
    return job_id, JobCode.PENDING, status, {"ended": host.now_us(), "reason": reason}


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def _say(text: str) -> None:
    """Write a line into supervisor.log."""
    print(f"taskapi supervisor: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _bound_log(home: str) -> None:
    """Begin a new supervisor.log where it has grown long; the one before is kept."""
    path = os.path.join(home, "supervisor.log")
    try:
        if os.lstat(path).st_size <= _LOG_BOUND:
            return
        os.rename(path, f"{path}.1")
        log = files.create(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 2)
        os.close(log)
    except OSError:
        pass


def _tell_of_network(home: str) -> None:
    """Say once, in supervisor.log, what a network file system means."""
    text = database.of_network(home)
    if text is None:
        return
    try:
        if text.encode("utf-8", "replace") in files.read(os.path.join(home, "supervisor.log"), 2 * _LOG_BOUND):
            return
    except OSError:
        pass
    _say(text)


def _begin(home: str, handed: Mapping[str, Any]) -> Supervisor | None:
    """Open the store, as soon as there is room on the disk; None where that can't be waited for."""
    said = ""
    while os.path.isdir(home):
        try:
            return Supervisor(home, handed)
        except (Unavailable, OSError) as error:
            if isinstance(error, OSError) and error.errno not in files.PASSING:
                raise
            if said != str(error):
                said = str(error)
                _say(said)
            if isinstance(error, Damaged):
                raise
            if isinstance(error, TooNew):
                break
        time.sleep(_RETRY)
    return None


def _patiently(home: str, call: Callable[[], T]) -> T:
    """Call, and again while there is no room, or no descriptor, for it."""
    said = False
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno not in files.PASSING or not os.path.isdir(home):
                raise Unavailable(f"can't look after {home}: {error}") from None
            if not said:
                _say(f"{error}; trying again")
            said = True
        time.sleep(_RETRY)


def main(home: str) -> None:
    """Be the supervisor of a home, unless there is one."""
    handed = succession.handed()
    reaping.call_itself(reaping.SUPERVISOR)
    conditions.settle()
    try:
        lock = inherit(home, handed.get("lock"))
        if lock is None:
            guard.check(home)
            handed, lock = {}, _patiently(home, lambda: acquire(home))
    except Unavailable as error:
        _say(str(error))
        sys.exit(1)
    if lock is None:
        return
    _bound_log(home)
    _tell_of_network(home)
    try:
        supervisor = _begin(home, handed)
        if supervisor is not None:
            supervisor.run(lock)
        return
    except Damaged as error:
        _say(str(error))
    except Unavailable as error:
        _say(str(error))
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    # Another one looks after the database that took the place of this one's.
    if os.path.isdir(os.path.join(home, "jobs")):
        time.sleep(_RETRY)
        os.close(lock)
        start(home)
    sys.exit(1)
