"""One process per home that admits, starts, observes and stops jobs, and alone records what happened to them.

Started by whoever first needs it, it leaves a few seconds after nothing is left to do. It lives as long as it holds
the lock on ``supervisor.lock``, and wakes when the FIFO ``wake`` is written to. It imports neither msgspec nor YAML,
so that forks stay cheap.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from taskapi_jupyter.core import files, guard, host
from taskapi_jupyter.core.errors import Damaged, TooNew, Unavailable
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.runner import reaping
from taskapi_jupyter.runner.outcome import columns, vanished
from taskapi_jupyter.runner.process_tree import collect_orphans
from taskapi_jupyter.service import engine_settings
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.store import Store

from . import conditions, engines, fifo, log, succession
from .admission import AT_ONCE, Admission, Move, ends_pending
from .helpers import Helpers
from .lock import acquire, inherit
from .wake import command, start, wake

IDLE = 3.0  # seconds without work after which it leaves
_LAST = 0.5  # seconds that the process that tidied gets to exit, too, when nothing is left to do
_RETRY = 0.5  # seconds until what could not be written is tried again
_ASK_AGAIN = 1.0  # seconds until an engine that could start nothing is asked again
_TIDY_EVERY = 3600.0  # seconds, while there is work
_RETENTION, _FIRING, _NOTIFIER = "service.retention", "service.writing.firing", "notifier"  # what helpers run
_INPUTS = "service.supervisor.inputs"
_NAMED = 100  # unreadable rows that supervisor.log names at most

#: Limits where config.yaml sets none: sizes in bytes, stop_grace in seconds.
DEFAULT_LIMITS: dict[str, Any] = {"gpus": None, "stop_grace": 10.0, "log_max_bytes": 64 << 20}

T = TypeVar("T")


class Supervisor:
    """The loop. It keeps no state of its own that matters: all of that is in the store or in a job's folder."""

    def __init__(self, home: str, handed: Mapping[str, Any]) -> None:
        self.home = home
        self.store = Store(HomePaths(home).database, follow=False)
        self.limits: dict[str, Any] = DEFAULT_LIMITS
        self.engine = engines.load(engine_settings.read(home)["provider"])(
            home, lambda: self.limits, lambda: wake(home)
        )
        if handed:
            self.engine.take_over(handed.get("unclaimed", {}))
        self.chosen: dict[str, Any] = {}  # the limits that config.yaml sets
        self.limits = self._read_limits()
        self.admission = Admission(home, self.store, elastic=self.engine.elastic, skip=self._name)
        self.using: dict[str, Row] = {}  # the running jobs, with the cores, memory and GPUs that they hold
        self.unrecorded: list[tuple[str, Mapping[str, Any]]] = []
        self.recorded: list[str] = []  # jobs whose end was recorded, and which the engine was not told about yet
        self.rebased = False  # whether the deadlines of earlier boots were converted to this boot's clock
        self.leaving = False
        self.behind = True  # whether jobs may be marked running that this supervisor doesn't know
        self.tell = log.Teller()
        self.named: set[str] = set()  # what supervisor.log says of unreadable rows
        self.tidied = time.monotonic()
        self.untidy = False  # whether jobs ended since then
        self.helpers = Helpers(home)
        self.dozes = False  # whether only helpers are to be started, at times to come

    def run(self, lock: int) -> None:
        """Serve until there is nothing left to do, or until TERM; then release the lock.

        Either way the FIFO is closed before the store is read for the last time: a request whose wakeup arrived is then
        seen by this supervisor, and one whose wakeup found no FIFO starts another. At TERM while jobs run, the process
        keeps the lock and becomes the newer supervisor, which reads the store again once its FIFO is open.
        """
        reader = self._open_fifo()
        wakeups = self._hear_signals()
        os.get_exec_path({})  # what it imports is then there before a fork
        gc.collect()
        gc.freeze()
        idle_since = time.monotonic()
        while not self.leaving:
            wait = self._try_step()
            if self.using or self.unrecorded or wait is not None:
                idle_since = time.monotonic()
            elif self.helpers.any_runs:
                wait = None
            elif time.monotonic() - idle_since >= IDLE:
                if self.untidy:
                    self._tidy()
                    continue
                self._close_fifo(reader)
                if not self._anything_to_do():  # a request from now on finds no FIFO and starts a supervisor
                    break
                reader = self._open_fifo()
                self.behind = True  # what is still in progress is not ours: nothing may stay so
                idle_since = time.monotonic()
                continue
            else:
                wait = idle_since + IDLE - time.monotonic()
            poll = select.poll()
            for fd in (reader, wakeups, *self.helpers.filenos(), *self.engine.filenos()):
                poll.register(fd, select.POLLIN)
            self.engine.keep_ahead(True)
            self._clear(poll)
            ready = self.helpers.wait(poll, 60 if wait is None else wait, self.dozes)
            fifo.drain(reader)
            fifo.drain(wakeups)
            if fifo.is_replaced(self.home, reader):
                os.close(reader)
                reader = self._open_fifo()
            self.helpers.ended([fd for fd, _ in ready])
        else:
            self.engine.keep_ahead(False)
            fifo.close_reader(reader)
            self._try_step()
            self._clear()
            if self.using or self.behind:
                self._become_newer(lock)
        self.store.close()
        fault_point("supervisor.leaving")
        reaping.reap_all(0.0 if self.leaving else _LAST)
        os.close(lock)

    def _become_newer(self, lock: int) -> None:
        """Become the newer supervisor, in this process; where that fails, start another one, which adopts the jobs."""
        handed = {"lock": lock, "unclaimed": self.engine.hand_over()}
        self.store.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        succession.become(self.home, command("service.supervisor.supervisor", self.home), handed)
        log.say("no newer supervisor can be executed in place of this one, which leaves")
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

    def _anything_to_do(self) -> bool:
        try:
            return self.store.anything_to_do()
        except Damaged:
            raise
        except Unavailable:  # not known is not nothing
            return True

    def _adopt(self) -> None:
        """Have the engine take over the jobs that are marked running and that this supervisor doesn't know."""
        self.store.catch_up()
        unknown = [row["id"] for row in self.store.running() if row["id"] not in self.using]
        self.engine.adopt([job for job in map(self._take, unknown) if job is not None])
        for row in self.store.odd(_NAMED):
            self._name(row["id"], readable.fault(row) or "")

    def _name(self, job_id: object, wrong: str) -> None:
        """Write once into supervisor.log that a row can't be read."""
        text = f"the row of job {readable.shown(job_id)} can't be read: {wrong}"
        if text not in self.named and len(self.named) < _NAMED:
            self.named.add(text)
            log.say(f"{text}; it is skipped")

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
        reader = fifo.open_reader(self.home, self._say_once)
        collect_orphans()  # what a killed watcher leaves becomes our child, whatever it has shed
        return reader

    def _close_fifo(self, reader: int) -> None:
        self.engine.keep_ahead(False)
        collect_orphans(False)  # first: a watcher that finds no FIFO starts a supervisor, and leaves it behind
        fifo.close_reader(reader)

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
        self.tell.forget()
        if self.untidy and not self.helpers.runs(_RETENTION) and time.monotonic() - self.tidied >= _TIDY_EVERY:
            self._tidy()
        return wait

    def _say_once(self, text: str) -> None:
        self.tell(f"{text}; trying again")

    def _tidy(self) -> None:
        """Start a process that deletes what config.yaml says, and what earlier deletions left."""
        self.tidied, self.untidy = time.monotonic(), False
        log.bound(self.home)
        self.helpers.start(_RETENTION)

    def _read_limits(self) -> dict[str, Any]:
        """Return the limits in force: those that config.yaml sets, else what there is."""
        self.chosen = {name: value for name, value in self.store.settings().items() if value is not None}
        return {**DEFAULT_LIMITS, **self.engine.capacity(), **self.chosen}

    def _step(self) -> float | None:
        """Record what happened and admit what fits, in one transaction; then start and stop."""
        self.dozes = False
        if not self.rebased:
            self.store.rebase_deadlines(host.boot_id(), host.boottime(), time.time())
            self.rebased = True
        self.unrecorded += self.engine.ended()
        templates = self.engine.templates
        if templates is not None and (known := templates.versions()):
            templates.end(known - set(self.store.deployed_of(known)))
        self.limits = self._read_limits()
        moves: list[Move] = [
            (job_id, JobCode.RUNNING, JobCode(outcome["status"]), columns(outcome))
            for job_id, outcome in self.unrecorded
        ]
        gone = {job_id for job_id, _ in self.unrecorded}
        to_stop = []
        for row in self.store.to_stop():
            if row["status"] == JobCode.PENDING.value:
                moves.append(ends_pending(row["id"], JobCode.STOPPED, None))
            elif row["id"] not in gone:
                to_stop.append(row)
        overdue, next_due = self.admission.overdue()
        moves += overdue
        next_release = self.admission.release()
        filling = self.helpers.keep(_INPUTS, 0 if self.admission.settle() else None)
        if self.engine.accepts_jobs():
            max_gpus = self.limits["gpus"] if self.engine.elastic else self.chosen.get("gpus")
            leaving = {move[0] for move in moves}
            moves += self.admission.admit(self.using.values(), leaving, self.limits, max_gpus, templates)
        more = self._carry_out(moves) if moves else False
        for row in to_stop:
            self.engine.stop(row["id"], bool(row["hurry"]))
        self.admission.ask_for_gpus()
        if len(moves) >= AT_ONCE or self.unrecorded or more:
            return 0.0  # admission stopped at its bound, not at a job that doesn't fit; or there is more to do
        firing = self.helpers.keep(_FIRING, self.store.next_firing())
        sending = self.helpers.keep(_NOTIFIER, self.store.next_delivery())
        others = (next_due, next_release, filling, self.engine.interval(), self._until_ready())
        waits = [one for one in (*others, firing, sending) if one is not None]
        self.dozes = not self.using and all(one is None for one in others)
        if self.using or waits:
            return min(waits, default=60.0)
        return None

    def _carry_out(self, moves: list[Move]) -> bool:
        """Write the moves, those of jobs that ended among them; then start the jobs that begin.

        Return whether there are more jobs in line now.
        """
        done, more = self.store.record(moves)
        fault_point("supervisor.moved")
        self.untidy = self.untidy or bool(self.unrecorded)
        over = {job_id for job_id, _ in self.unrecorded}
        self.recorded += [move[0] for move, won in zip(moves, done, strict=True) if won and move[0] in over]
        for job_id in over:
            self.using.pop(job_id, None)
        self.unrecorded.clear()
        for (job_id, _, code, _), won in zip(moves, done, strict=True):
            job = self._take(job_id, starts=True) if won and code is JobCode.RUNNING else None
            if job is not None:
                self.engine.start(job)
                fault_point("supervisor.started")
        return more

    def _clear(self, poll: select.poll | None = None) -> None:
        """Tell the engine whose end was recorded, until something more urgent can be read: a disk may take its time."""
        while self.recorded and not (poll and poll.poll(0)):
            self.engine.recorded(self.recorded.pop())

    def _until_ready(self) -> float | None:
        """Return the seconds until it is checked again whether pending jobs can start; None where none waits."""
        if self.admission.waits_for_gpus or (not self.engine.accepts_jobs() and self._anything_to_do()):
            return _ASK_AGAIN
        return None


def _begin(home: str, handed: Mapping[str, Any]) -> Supervisor | None:
    """Open the store, as soon as there is room on the disk; None where that can't be waited for."""
    tell = log.Teller()
    while os.path.isdir(home):
        try:
            return Supervisor(home, handed)
        except (Unavailable, OSError) as error:
            if isinstance(error, OSError) and error.errno not in files.PASSING:
                raise
            tell(str(error))
            if isinstance(error, Damaged):
                raise
            if isinstance(error, TooNew):
                break
        time.sleep(_RETRY)
    return None


def _patiently(home: str, call: Callable[[], T]) -> T:
    """Call, and again while there is no room, or no descriptor, for it."""
    tell = log.Teller()
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno not in files.PASSING or not os.path.isdir(home):
                raise Unavailable(f"can't look after {home}: {error}") from None
            tell(f"{error}; trying again")
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
        log.say(str(error))
        sys.exit(1)
    if lock is None:
        return
    log.bound(home)
    log.warn_of_network(home)
    try:
        supervisor = _begin(home, handed)
        if supervisor is not None:
            supervisor.run(lock)
        return
    except Damaged as error:
        log.say(str(error))
    except Unavailable as error:
        log.say(str(error))
        sys.exit(1)
    except Exception:
        sys.__excepthook__(*sys.exc_info())  # prints it; `traceback` would take each start 3 ms to import
        sys.exit(1)
    # Another one looks after the database that took the place of this one's.
    if os.path.isdir(HomePaths(home).jobs):
        time.sleep(_RETRY)
        os.close(lock)
        start(home)
    sys.exit(1)
