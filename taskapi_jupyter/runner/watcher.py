"""One running job, watched by a process of its own. Standard library only; knows no store.

A watcher is forked from the supervisor and outlives it. The first watcher to link its locked file to
``jobs/<id>/claim`` runs the job; others exit. When the task has ended and none of its processes is left, the watcher
writes to ``outcome.json`` how it ended.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, host, nesting, process
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import HomePaths, JobPaths
from taskapi_jupyter.core.states import JobCode

from . import claim, gpus, packages, process_tree, reaping
from .launch import Task, fork_task, job_file, pipe, task_command, task_environment
from .log_file import LogWriter
from .memory import MemoryLimit, Usage
from .oom_kills import OOMKills
from .outcome import (
    TERMINATED,
    judge,
    outcome,
    reported,
    text_of,
    too_late,
    vanished,
    write_outcome,
)
from .process_tree import collect_orphans

_MEMORY_CHECK = 0.1  # seconds between two measurements of a tree that has a limit
_LONGEST_WAIT = 5.0  # seconds; poll's clock stands still in suspend, the deadline's does not
_READ = 1 << 16
_REAP_AT_ONCE = 1000  # a tree that forks all the time must not keep us from ending it
_REPORT = 2048  # bytes
_GOES = 1.0  # seconds within which a supervisor that was killed is gone
_MOST_JOBS = 100  # of one watcher, one after the other: it collects no garbage

Begin = Callable[[Mapping[str, str]], None]


class Watcher:
    """Starts one claimed job's task, watches it, and writes how it ended."""

    def __init__(
        self,
        home: str,
        job: Mapping[str, Any],
        limits: Mapping[str, Any],
        task: Task | None = None,
        begin: Begin | None = None,
    ) -> None:
        self.job = job
        self.task = task
        self.begin = begin
        self.launch = nesting.loads(job["launch"])
        self.limits = limits
        self.home = home
        self.folder = HomePaths(home).job(job["id"]).folder
        self.command = self.launch["kind"] == "command"
        self.ending: tuple[JobCode, str] | None = None  # why we ended it, where we did
        self.stop_asked = False
        self.hurry = False  # whether somebody asked again: a grace period ends at once
        self.kill_at: float | None = None
        self.main = 0
        self.begun = False  # whether there is a process of the task's
        self.exit: int | None = None  # wait status of the task's main process
        self.lost = ""  # what is to be said of output that could not be kept
        self.memory = MemoryLimit(job["mem"]) if job["mem"] is not None else None
        self.check_at = 0.0  # when the tree's memory is to be measured next
        self.usage = Usage(self.folder, self.memory)
        self.oom = False  # whether the kernel killed the main process for lack of memory
        self.deadlines: list[tuple[float, str]] = []  # each with what is said of a job that is past it
        if job["deadline"] is not None:
            deadline = job["deadline"]
            if job["boot"] != host.boot_id():  # a supervisor of an older package let it begin
                deadline = host.boottime() + job["timeout"]
            self.deadlines.append((deadline, too_late(job)))

    def run(self) -> dict[str, Any]:
        """Run the task to its end and return the outcome."""
        files.create_folder(JobPaths(self.folder).files)
        fault_point("watcher.folder_made")
        files.write(JobPaths(self.folder).job, job_file(self.job))
        # Reserves room for the task's report of its end: a disk that is full then takes no new file.
        files.write(JobPaths(self.folder).report, b"\n" * _REPORT)
        fault_point("watcher.job_file_written")
        self.log = LogWriter(self.folder, self.limits["log_max_bytes"])
        if note := self.job.get("note"):  # of the engine's
            self.log.write(f"taskapi: {note}\n".encode("utf-8", "replace"))
        fault_point("watcher.log_made")
        collect_orphans()
        wake_read, wake_write = pipe()
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, self._on_hurry)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        command, environment = self._to_execute()
        if self.task is None or not self.task.waits():
            self.task = fork_task(self.begin)
        self.main, self.output, self.start_error, _ = self.task
        self.begun = True
        self.task.start(command, environment, self.launch["cwd"])
        longest = self.job.get("run_timeout")
        if longest is not None:
            self.deadlines.append((host.boottime() + longest, f"ran longer than its run_timeout of {longest} s"))
        self.oom_kills = OOMKills(self.main)
        fault_point("watcher.spawned")
        # Not earlier: a TERM must find the task, and one that reaches the task before its exec must end it.
        process.mask_signals(signal.SIG_SETMASK, ())
        self.poll = select.poll()
        self.poll.register(self.output, select.POLLIN)
        self.poll.register(wake_read, select.POLLIN)
        self.output_open = True
        while not self._all_gone():
            for ready, _ in self.poll.poll(self._wait_ms()):
                if ready == wake_read:
                    self._drain_wakeups(wake_read)
                else:
                    self._read_output()
            self._reap()  # what has ended by itself is not ended by us
            self._check_limits()
        while self.output_open and self._read_output():
            pass
        try:
            self.log.close()
        except OSError as error:
            self._lost_output(error)
        fault_point("watcher.ended")
        packages.clear(self.home, self.job, self.launch)
        if self.launch["kind"] == "notebook":
            claim.clear_kernel(self.folder)
        return self._outcome()

    def _to_execute(self) -> tuple[list[str], dict[str, str]]:
        """Return the task's command and variables, with what builds its environment of packages before it."""
        command = task_command(self.job, self.launch, HomePaths(self.home).apis, self.limits)
        environment = task_environment(self.job, self.launch, self.home, gpus.are_hidden(self.limits["gpus"]))
        packages.hold(self.home, self.launch)  # to the end of this process, or until `serve` takes the next job
        if self.begin is None and not packages.is_ready(self.home, self.launch):  # a template has it in use
            builder, variables = packages.build_first(self.home, self.job, self.launch, self.limits)
            command, environment = [*builder, *command], {**environment, **variables}
        return command, environment

    # What may happen meanwhile

    def _on_term(self, *_: object) -> None:
        self.stop_asked = True  # the loop sees to it: this may run in the middle of anything

    def _on_hurry(self, *_: object) -> None:
        self.hurry = True

    def _end(self, status: JobCode, reason: str) -> None:
        self.ending = (status, reason)
        if self.launch["kind"] == "notebook":  # its runner notes it at the cell
            with suppress(OSError):
                files.write(JobPaths(self.folder).ending, status.value.encode())
        self._terminate()

    def _terminate(self) -> None:
        """Ask the tree to leave, and see to it after the grace period that it did."""
        fault_point("watcher.terminating")
        for one in self._tree():
            process_tree.send(one, signal.SIGTERM)
            process_tree.send(one, signal.SIGCONT)  # one that was stopped gets to see it, too
        self.kill_at = time.monotonic() + self.limits["stop_grace"]
        fault_point("watcher.terminated")

    def _tree(self) -> list[process_tree.Process]:
        """Return all living processes of the job: what descends from us, and on macOS what carries our job's id."""
        found = process_tree.below(os.getpid())
        if not host.LINUX:
            known = {one.pid for one in found}
            marked = process.of_job(self.job["id"], None).items()
            found += [process_tree.Process(pid, 0, start, "") for pid, start in marked if pid not in known]
        return found

    def _kill(self) -> None:
        """Kill the tree as it is now."""
        fault_point("watcher.killing")
        if host.LINUX:
            process_tree.kill(os.getpid())
        else:
            for one in self._tree():
                process_tree.send(one, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill the tree until nothing of it is left."""
        while self._reap() or (not host.LINUX and self._tree()):
            self._kill()
            time.sleep(0.005)

    def _wait_ms(self) -> float:
        waits = [_LONGEST_WAIT]
        if self.ending is None and self.exit is None:
            waits += [deadline - host.boottime() for deadline, _ in self.deadlines]
        if self.kill_at is not None:
            # Past the grace period whatever is left is killed again and again, as it may be forking; ever more rarely,
            # as it may be what can't be killed.
            left = self.kill_at - time.monotonic()
            waits.append(left if left > 0 else min(max(-left / 50, 0.005), 0.5))
        if self.memory is not None and (self.kill_at is None or self.kill_at > time.monotonic()):
            waits.append(self.check_at - time.monotonic())
        if self.kill_at is None:
            waits.append(self.usage.at - time.monotonic())
        return max(min(waits), 0) * 1000 + 1

    def _check_limits(self) -> None:
        if self.exit is None and self.ending is None:
            if self.stop_asked:
                self._end(JobCode.STOPPED, "")
            elif self.deadlines and host.boottime() >= min(self.deadlines)[0]:
                self._end(JobCode.TIMED_OUT, min(self.deadlines)[1])
            self.oom_kills.poll()
        if self.hurry and self.kill_at is not None:
            self.kill_at = min(self.kill_at, time.monotonic())
        killing = self.kill_at is not None and time.monotonic() >= self.kill_at
        if not killing and self._measure():
            self.kill_at = time.monotonic()
            killing = True
        if killing:
            self._kill()

    def _measure(self) -> bool:
        """See what the tree uses, when it is time; return whether that is over its limit: it then stands still."""
        now = time.monotonic()
        checks = self.memory is not None and now >= self.check_at
        if not checks and now < self.usage.at:
            return False
        began = time.thread_time()
        found = process_tree.below(os.getpid())
        if self.memory is not None and checks:
            self.check_at = now + _MEMORY_CHECK
            used = self.memory.passed(os.getpid(), found)
            if used is not None:
                self.usage.peak = max(self.usage.peak, used)
                # It is killed at once, in a grace period too.
                if self.exit is None and self.ending is None:
                    why = f"out of memory: used {size(used)}, limit {size(self.memory.limit)}"
                    self.ending = (JobCode.WORKER_OOM, why)
                return True
            began = time.thread_time()  # the tree was read for the limit's sake
        if now >= self.usage.at:
            self.usage.add(found, began)
        return False

    def _reap(self) -> bool:
        """Take the exit statuses of children that ended; return whether any child is left."""
        if self.main and self.exit is None and host.LINUX:
            self._ask_who_killed()
        for _ in range(_REAP_AT_ONCE):
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.usage.ended(used)
            if pid == self.main:
                self.exit = status
        return True

    def _ask_who_killed(self) -> None:
        """See whether the main process was killed by the kernel, while its cgroup can still be asked for."""
        how = os.waitid(os.P_PID, self.main, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if how is not None and how.si_code == os.CLD_KILLED and how.si_status == signal.SIGKILL:
            self.oom = self.ending is None and self.oom_kills.one_was_ours()

    def _all_gone(self) -> bool:
        """Whether nothing of the job is left; when its main process has ended, all others are stopped."""
        left = self._reap()
        if self.exit is None:
            return False
        if not host.LINUX:
            left = bool(self._tree())
        if left and self.kill_at is None:
            self._terminate()
        return not left

    # Output

    def _read_output(self) -> int:
        """Move what the pipe holds into the log; return how much that was."""
        try:
            data = os.read(self.output, _READ)
        except BlockingIOError:
            return 0
        if not data:
            self.poll.unregister(self.output)
            self.output_open = False
            return 0
        before = self.log.offset
        try:
            self.log.write(data)
        except OSError as error:  # a full disk must not stop the task, nor the watching
            self._lost_output(error)
            self.log.skip(len(data) - (self.log.offset - before))
        return len(data)

    def _lost_output(self, error: OSError) -> None:
        self.lost = self.lost or f"output was lost: {os.strerror(error.errno or 0)}"

    @staticmethod
    def _drain_wakeups(fd: int) -> None:
        try:
            while os.read(fd, 512):
                pass
        except BlockingIOError:
            pass

    # How it ended

    def _outcome(self) -> dict[str, Any]:
        assert self.exit is not None
        code = os.waitstatus_to_exitcode(self.exit)
        said = reported(self.folder)
        if code >= 0 and said[0] == TERMINATED:  # by TERM, which it took as a reason to leave
            code = -signal.SIGTERM
        status, reason = (
            self._start_error() or self.ending or judge(self.folder, said, code, command=self.command, oom=self.oom)
        )
        reason = "; ".join(text for text in (reason, self.lost) if text)
        told = {name: text_of(self.folder, f"{name}.json") for name in ("progress", "metrics")}
        return outcome(status, reason[:2000] or None, code, **told, usage=self.usage.total())

    def _start_error(self) -> tuple[JobCode, str] | None:
        """Return why the task's process could not execute what it should; raise OSError where that may pass."""
        try:
            number, _, error = os.read(self.start_error, 4096).decode("utf-8", "replace").partition(" ")
        except BlockingIOError:
            return None
        if self.ending is None and number and int(number) in files.PASSING:
            self.begun = False  # nothing of the task's was executed
            raise OSError(int(number), error)
        return (JobCode.UNEXPECTED_ERROR, f"could not be started: {error}") if error else None


def prepare() -> None:
    """Do what a watcher begins with, whatever its job is, in a process just forked."""
    fault_point("watcher.forked")
    os.setsid()
    reaping.call_itself(reaping.WATCHER)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a template ignores it: a task that is killed would leave no status
    fault_point("watcher.session_made")


def serve(
    channel: int,
    home: str,
    wake: Callable[[], None],
    begin: Begin | None = None,
    changed: Callable[[], str | None] = lambda: None,
) -> int:
    """Be the watcher of one job after the other, each of which comes over a channel; return an exit code at its end.

    The exit code of each job goes back over it, after which nothing of the job is left here: its claim is free. Where
    the supervisor is gone by then, ``wake`` is called. ``changed`` returns a file because of which no job may begin.
    """
    kept, parent = process.open_files(), os.getppid()

    def left_alone() -> int:
        """Have another supervisor started, as ours was killed before it read that the last job has ended."""
        until = time.monotonic() + _GOES
        while os.getppid() == parent and time.monotonic() < until:  # who is killed closes files, then it is gone
            time.sleep(0.001)
        with suppress(OSError):  # no descriptor: the next process that reads the store starts a supervisor
            wake()
        return errno.EINTR

    for count in range(_MOST_JOBS):
        task = None
        with suppress(OSError):  # as many processes or descriptors as there may be
            task = fork_task(begin) if host.LINUX else None  # off Linux nothing tells whether it still waits
        try:
            given = receive(channel)
        except ConnectionResetError:  # what we wrote last was not read: our pid, or a job's exit code
            return left_alone() if count else errno.EINTR
        if given is None or signal.SIGTERM in signal.sigpending():  # which somebody sent to no job
            return errno.EINTR
        if path := changed():
            os.write(channel, b"changed " + os.fsencode(path))
            return 0
        fault_point("watcher.given")
        code = watch(home, given["job"], given["limits"], lambda: None, task=task, begin=begin)
        process.mask_signals(signal.SIG_BLOCK, process.valid_signals())
        signal.set_wakeup_fd(-1)
        for fd in process.open_files() - kept:
            with suppress(OSError):
                os.close(fd)
        try:
            os.write(channel, b"%d" % code)
        except OSError:
            return left_alone()
        if code:
            return code
    return 0


def receive(channel: int) -> Any:
    """Return what the supervisor sends, None where it does not: a length in a line, then JSON."""
    data = b""
    while True:
        piece = os.read(channel, 1 << 16)
        if not piece:
            return None
        data += piece
        length, line, rest = data.partition(b"\n")
        if line and len(rest) >= int(length):
            return nesting.loads(rest)


def watch(
    home: str,
    job: Mapping[str, Any],
    limits: Mapping[str, Any],
    wake: Callable[[], None],
    *,
    task: Task | None = None,
    begin: Begin | None = None,
) -> int:
    """Be a job's watcher, in a process that is prepared for it; return its exit code, an errno.

    ``wake`` is called once the outcome is written. ``task`` is the task's process where it was forked ahead; ``begin``
    is what :func:`launch.fork_task` calls in it instead of executing a command.
    """
    folder = HomePaths(home).job(job["id"]).folder
    try:
        files.create_folder(folder)
        lock = claim.take(folder)
        if lock is None:
            return 0
    except OSError as error:
        return error.errno or 1
    watcher = Watcher(home, job, limits, task, begin)
    try:
        how = watcher.run()
    except (OSError, MemoryError) as error:
        if not watcher.begun and isinstance(error, OSError) and error.errno in files.PASSING:
            while os.path.isdir(folder):
                with suppress(OSError):  # the disk is read-only: try again
                    claim.give_back(folder)
                    return error.errno
                time.sleep(1)
            return 0
        watcher.abandon()
        how = vanished(f"could not be watched: {error}")
    while True:
        try:
            write_outcome(folder, how)
            break
        except OSError:  # a full disk: the outcome is kept, and written when there is room
            if not os.path.isdir(folder):  # the home was removed
                return 0
            time.sleep(1)
    fault_point("watcher.outcome_written")
    with suppress(OSError):  # no descriptor: the next process that reads the store starts a supervisor
        wake()
    fault_point("watcher.woken")
    return 0
