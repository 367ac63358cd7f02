"""One running job, watched by a process of its own. Standard library only; knows no store.

A watcher is forked from the supervisor and outlives it. Whoever links its locked file to ``jobs/<id>/claim`` first
runs the job; everybody else leaves. When the task has ended and nothing of it is left, ``outcome.json`` says how.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from taskapi_jupyter.core import files, host, nesting, room
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.fault_points import point
from taskapi_jupyter.core.states import JobCode, may_move

from . import process_tree, reaping
from .launch import job_file, task_command, task_environment
from .log_file import LogWriter
from .oom_kills import OOMKills

SHARED = "/dev/shm"  # where Linux keeps shared memory; a container has 64 MiB of it unless it is given more

_MEMORY_CHECK = 0.1  # seconds from one look to the next at a tree that has a limit
_LONGEST_WAIT = 5.0  # seconds; poll's clock stands still in suspend, the deadline's does not
_READ = 1 << 16
_REAP_AT_ONCE = 1000  # a tree that forks all the time must not keep us from ending it
_REPORT = 2048  # bytes

#: Signals that are handled or ignored here, by Python or by whoever started the supervisor; a task takes them afresh.
_INHERITED = (
    *(signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1),
)

GIVEN_BACK = "claim.given-back"  # the name of a claim whose watcher could not begin, and left

TERMINATED = "terminated"  # what the harness reports of a task that left because of a TERM

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: prctl, bound before any fork, so that a child finds it without importing; None off Linux.
_prctl: Callable[..., int] | None = None
if host.LINUX:
    import ctypes

    _prctl = ctypes.CDLL(None).prctl


def collect_orphans(collects: bool = True) -> None:
    """Become the parent of whatever descends from this process and is left without one, or no more (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, int(collects), 0, 0, 0)


def bind_to_parent(number: int) -> None:
    """Have this process sent a signal when the thread that forked it ends (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def read_outcome(folder: str) -> dict[str, Any] | None:
    """Return what a watcher wrote last, None where it wrote nothing (or nothing whole)."""
    try:
        found = nesting.loads(files.read(os.path.join(folder, "outcome.json"), 1 << 20))
        legal = may_move(JobCode.RUNNING, JobCode(found["status"])) and isinstance(found["ended"], int)
        return dict(found) if legal else None
    except OSError as error:
        if error.errno in files.NO_DESCRIPTOR:  # whether it wrote something is not known
            raise
        return None
    except (ValueError, KeyError, TypeError):
        return None


def outcome(
    status: JobCode, reason: str | None = None, exit_code: int | None = None, progress: str | None = None
) -> dict[str, Any]:
    """Return how a job ended, just now."""
    return {
        "status": status.value,
        "reason": reason,
        "exit_code": exit_code,
        "ended": host.now_us(),
        "progress": progress,
    }


def vanished(reason: str) -> dict[str, Any]:
    """Return the outcome of a job that nobody saw end, or that could not be started."""
    return outcome(JobCode.UNEXPECTED_ERROR, reason)


def too_late(job: Mapping[str, Any]) -> str:
    """Return why a job is timed out whose ``timeout`` is over."""
    return f"not done {job['timeout']} s after its submission"


def write_atomically(path: str, data: bytes) -> None:
    """Write a file whole or not at all.

    Not synced: within a boot that changes nothing, and after a restart a job that the store has as running, and whose
    outcome was lost with the power, ends ``unexpected_error``, as any that ran then.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        write_whole(temporary, data)
        point("watcher.outcome_temporary")
        os.rename(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def write_whole(path: str, data: bytes) -> None:
    """Write a file; raise OSError where not all of it could be (a disk that fills up takes part of a write)."""
    fd = files.create(path, os.O_WRONLY | os.O_TRUNC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def give_back(folder: str) -> None:
    """Give a claim back, before the task's process was there: whoever reads this may have the job begin once more."""
    for name in ("job.json", "report", "log"):
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
    os.rename(os.path.join(folder, "claim"), os.path.join(folder, GIVEN_BACK))


def claim(folder: str) -> int | None:
    """Take the right to run a job; return the locked descriptor, None where another watcher has it.

    Not synced: a claim counts within one boot only, and the row that says ``running`` was synced before the fork.
    """
    path = os.path.join(folder, f"claim.{os.getpid()}")
    try:
        os.unlink(path)  # a dead watcher of this number may have left it, and it may be the claim itself
    except FileNotFoundError:
        pass
    fd = files.create(path, os.O_RDWR | os.O_EXCL)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        who = json.dumps(host.identity(os.getpid())).encode()
        if os.write(fd, who) != len(who):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        point("watcher.claiming")
        os.link(path, os.path.join(folder, "claim"))
        point("watcher.linked")
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, GIVEN_BACK))
    except FileExistsError:
        os.close(fd)
        return None
    finally:
        os.unlink(path)
    point("watcher.claimed")
    return fd


class Watcher:
    """Starts one claimed job's task, watches it, and writes how it ended."""

    def __init__(self, home: str, job: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
        self.job = job
        self.launch = nesting.loads(job["launch"])
        self.limits = limits
        self.home = home
        self.apis = os.path.join(home, "apis")
        self.folder = os.path.join(home, "jobs", job["id"])
        self.command = self.launch["kind"] == "command"
        self.ending: tuple[JobCode, str] | None = None  # why we ended it, where we did
        self.stop_asked = False
        self.hurry = False  # whether somebody asked again: a grace period ends at once
        self.kill_at: float | None = None
        self.main = 0
        self.begun = False  # whether there is a process of the task's
        self.exit: int | None = None  # wait status of the task's main process
        self.lost = ""  # what is to be said of output that could not be kept
        self.memory = process_tree.MemoryLimit(job["mem"]) if job["mem"] is not None else None
        self.look_at = 0.0  # when the tree's memory is to be looked at
        self.oom = False  # whether the kernel killed the main process for want of memory
        self.deadlines: list[tuple[float, str]] = []  # each with what is said of a job that is past it
        if job["deadline"] is not None:
            deadline = job["deadline"]
            if job["boot"] != host.boot_id():  # a supervisor of an older package let it begin
                deadline = host.boottime() + job["timeout"]
            self.deadlines.append((deadline, too_late(job)))

    def run(self) -> dict[str, Any]:
        """Run the task to its end and return the outcome."""
        files.create_folder(os.path.join(self.folder, "files"))
        point("watcher.folder_made")
        write_whole(os.path.join(self.folder, "job.json"), job_file(self.job))
        # Room for what the task's process has to say of its end: a disk that is full then takes no new file.
        write_whole(os.path.join(self.folder, "report"), b"\n" * _REPORT)
        point("watcher.job_file_written")
        self.log = LogWriter(self.folder, self.limits["log_max_bytes"])
        point("watcher.log_made")
        collect_orphans()
        wake_read, wake_write = _pipe()
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, self._on_hurry)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._spawn()
        longest = self.job.get("run_timeout")
        if longest is not None:
            self.deadlines.append((host.boottime() + longest, f"ran longer than its run_timeout of {longest} s"))
        self.oom_kills = OOMKills(self.main)
        point("watcher.spawned")
        # Not before: a TERM must find the task, and one that meets the task before its exec must end it.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
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
            self._look_at_limits()
        while self.output_open and self._read_output():
            pass
        try:
            self.log.close()
        except OSError as error:
            self._lost_output(error)
        point("watcher.ended")
        return self._outcome()

    def _spawn(self) -> None:
        """Start the task's main process, in a process group of its own, which dies when this watcher does."""
        command = task_command(self.job, self.launch, self.apis)
        environment = task_environment(self.job, self.launch, self.home, hides_gpus(self.limits["gpus"]))
        self.output, write_end = _pipe()
        self.start_error, error_end = _pipe()
        os.set_blocking(write_end, True)
        me = os.getpid()
        self.main = os.fork()
        self.begun = True
        if self.main == 0:
            what = "the task's process"
            try:
                point("task.forked")
                bind_to_parent(signal.SIGKILL)
                if os.getppid() != me and host.LINUX:
                    os._exit(1)
                os.setpgid(0, 0)
                signal.set_wakeup_fd(-1)
                for number in _INHERITED:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.dup2(write_end, 1)
                os.dup2(write_end, 2)
                what = self.launch["cwd"]
                try:
                    os.chdir(what)
                except (FileNotFoundError, NotADirectoryError):  # Cortex's client deploys from a folder of moments
                    output = environment["TASKAPI_OUTPUT_DIR"]
                    os.chdir(output)
                    note = f"taskapi: the folder {what} is gone; this task runs in {output}\n"
                    os.write(1, note.encode("utf-8", "surrogateescape"))
                what = command[0]
                point("task.executing")
                os.execvpe(what, command, environment)  # noqa: S606
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                cause = error.errno if isinstance(error, OSError) else 0
                os.write(error_end, f"{cause} {what}: {why}".encode("utf-8", "replace"))
            finally:
                os._exit(127)
        os.close(write_end)
        os.close(error_end)

    # What may happen meanwhile

    def _on_term(self, *_: object) -> None:
        self.stop_asked = True  # the loop sees to it: this may run in the middle of anything

    def _on_hurry(self, *_: object) -> None:
        self.hurry = True

    def _end(self, status: JobCode, reason: str) -> None:
        self.ending = (status, reason)
        self._terminate()

    def _terminate(self) -> None:
        """Ask the tree to leave, and see to it after the grace period that it did."""
        point("watcher.terminating")
        for process in self._tree():
            process_tree.send(process, signal.SIGTERM)
            process_tree.send(process, signal.SIGCONT)  # one that was stopped gets to see it, too
        self.kill_at = time.monotonic() + self.limits["stop_grace"]
        point("watcher.terminated")

    def _tree(self) -> list[process_tree.Process]:
        """Return all living processes of the job: what descends from us, and on macOS what carries our job's id."""
        found = process_tree.below(os.getpid())
        if not host.LINUX:
            known = {one.pid for one in found}
            marked = host.of_job(self.job["id"], None).items()
            found += [process_tree.Process(pid, 0, start, "") for pid, start in marked if pid not in known]
        return found

    def _kill(self) -> None:
        """Kill the tree as it is now."""
        point("watcher.killing")
        if host.LINUX:
            process_tree.kill(os.getpid())
        else:
            for process in self._tree():
                process_tree.send(process, signal.SIGKILL)

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
            waits.append(self.look_at - time.monotonic())
        return max(min(waits), 0) * 1000 + 1

    def _look_at_limits(self) -> None:
        if self.exit is None and self.ending is None:
            if self.stop_asked:
                self._end(JobCode.STOPPED, "")
            elif self.deadlines and host.boottime() >= min(self.deadlines)[0]:
                self._end(JobCode.TIMED_OUT, min(self.deadlines)[1])
            self.oom_kills.look()
        if self.hurry and self.kill_at is not None:
            self.kill_at = min(self.kill_at, time.monotonic())
        killing = self.kill_at is not None and time.monotonic() >= self.kill_at
        if self.memory is not None and not killing and time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + _MEMORY_CHECK
            used = self.memory.passed(os.getpid())
            if used is not None:  # the tree stands still, and is killed at once, in a grace period too
                if self.exit is None and self.ending is None:
                    why = f"out of memory: used {size(used)}, limit {size(self.memory.limit)}"
                    self.ending = (JobCode.WORKER_OOM, why)
                self.kill_at = time.monotonic()
                killing = True
        if killing:
            self._kill()

    def _reap(self) -> bool:
        """Take the exit statuses of children that ended; return whether any child is left."""
        if self.main and self.exit is None and host.LINUX:
            self._ask_who_killed()
        for _ in range(_REAP_AT_ONCE):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.exit = status
        return True

    def _ask_who_killed(self) -> None:
        """See whether the main process was killed by the kernel, while its cgroup can still be asked for."""
        how = os.waitid(os.P_PID, self.main, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if how is not None and how.si_code == os.CLD_KILLED and how.si_status == signal.SIGKILL:
            self.oom = self.ending is None and self.oom_kills.one_was_ours()

    def _all_gone(self) -> bool:
        """Say whether the job is over; a job ends with its main process, and survivors are stopped."""
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
        if code >= 0 and self._reported()[0] == TERMINATED:  # by TERM, which it took as a reason to leave
            code = -signal.SIGTERM
        status, reason, code = self._verdict(code)
        if not (self._read("report") or "").strip():
            with suppress(OSError):
                os.unlink(os.path.join(self.folder, "report"))
        reason = "; ".join(text for text in (reason, self.lost) if text)
        return outcome(status, reason[:2000] or None, code, self._read("progress.json"))

    def _verdict(self, code: int) -> tuple[JobCode, str, int]:
        try:
            start_error = os.read(self.start_error, 4096).decode("utf-8", "replace")
        except BlockingIOError:
            start_error = ""
        number, _, start_error = start_error.partition(" ")
        if self.ending is None and number and int(number) in files.PASSING:
            self.begun = False  # nothing of the task's was executed
            raise OSError(int(number), start_error)
        if start_error:
            return JobCode.UNEXPECTED_ERROR, f"could not be started: {start_error}", code
        if self.ending is not None:
            return (*self.ending, code)
        word, told = self._reported()
        if word == "memory":
            return JobCode.WORKER_OOM, told, code
        if code == 0:
            if self.command or word == "returned" or self._returned():
                return JobCode.SUCCEEDED, told, code
            found = room.obstacle(self.folder)
            if found is not None and found.errno == errno.EROFS:  # neither a result nor a report could be written
                return JobCode.WORKER_ERROR, f"its process left with exit code 0 and no result: {found.strerror}", code
            return JobCode.WORKER_ERROR, "its process left with exit code 0 before the task returned", code
        if code == -signal.SIGKILL and self.oom:
            return JobCode.WORKER_OOM, "killed by the kernel for want of memory", code
        if code < 0:
            return JobCode.WORKER_ERROR, f"killed by signal {-code} ({_signal_name(-code)}){_bus_hint(-code)}", code
        last = told or self._last_traceback_line()
        if self.command and last.partition(":")[0].endswith("MemoryError"):  # numpy has one of its own
            return JobCode.WORKER_OOM, last, code
        return (
            JobCode.WORKER_ERROR,
            last or f"exit code {code}{_bus_hint(code - 128)}",
            code,
        )  # 128 more is a shell's way

    def _reported(self) -> tuple[str, str]:
        """Return what the task's process said of its end: a word, and a text."""
        word, _, told = (self._read("report") or "").rstrip("\n").partition("\n")
        return word, told

    def _returned(self) -> bool:
        return any(os.path.exists(os.path.join(self.folder, f"result.{kind}")) for kind in ("json", "pkl"))

    def _last_traceback_line(self) -> str:
        """Return the line that a command's traceback ended with, where its output ends with one."""
        from .log_file import read

        lines = read(self.folder, -8192)[0].decode("utf-8", "replace").rstrip().splitlines()
        for line in reversed(lines):
            if line.startswith("Traceback (most recent call last)"):
                return lines[-1]
            if line == lines[-1] and line.startswith(" "):
                break
        return ""

    def _read(self, name: str) -> str | None:
        try:
            return files.read(os.path.join(self.folder, name), 1 << 16).decode("utf-8", "replace")
        except OSError:
            return None


def hides_gpus(count: int | None) -> bool:
    """Whether a task that asks for no GPU is to see none; where it is not known how many there are, by their driver."""
    return os.path.exists("/dev/nvidia0") if count is None else count > 0


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def _bus_hint(number: int) -> str:
    """Return what SIGBUS nearly always means: memory that is shared by files had no room; nothing for other signals."""
    if number != signal.SIGBUS:
        return ""
    try:
        there = os.statvfs(SHARED)
    except OSError:
        return ": a mapped file was cut short, or had no room"
    whole, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
    if free < whole // 20:
        return f": {SHARED}, where shared memory is, is full ({size(whole)}): remove what is left in it, or enlarge it"
    return f": shared memory found no room in {SHARED} ({size(whole)}), or a mapped file was cut short"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def watch(home: str, job: Mapping[str, Any], limits: Mapping[str, Any], wake: Callable[[], None]) -> int:
    """Be a job's watcher, in a process just forked for it; return the exit code to leave with (an errno)."""
    folder = os.path.join(home, "jobs", job["id"])
    try:
        point("watcher.forked")
        os.setsid()
        reaping.call_itself(reaping.WATCHER)
        point("watcher.session_made")
        files.create_folder(folder)
        lock = claim(folder)
        if lock is None:
            return 0
    except OSError as error:
        return error.errno or 1
    watcher = Watcher(home, job, limits)
    try:
        how = watcher.run()
    except (OSError, MemoryError) as error:
        if not watcher.begun and isinstance(error, OSError) and error.errno in files.PASSING:
            while os.path.isdir(folder):
                with suppress(OSError):  # the disk is read-only for a while
                    give_back(folder)
                    return error.errno
                time.sleep(1)
            return 0
        watcher.abandon()
        how = vanished(f"could not be watched: {error}")
    data = json.dumps(how).encode()
    while True:
        try:
            write_atomically(os.path.join(folder, "outcome.json"), data)
            break
        except OSError:  # a full disk: how it ended is not thrown away, it waits for room
            if not os.path.isdir(folder):  # the home was removed
                return 0
            time.sleep(1)
    point("watcher.outcome_written")
    with suppress(OSError):  # no descriptor: it is seen by whoever looks next
        wake()
    point("watcher.woken")
    return 0
