"""Templates: processes that have imported what a version's tasks import, and fork the watchers of its jobs (Linux).

``worker/template`` is what runs in one. The supervisor starts it when the version's first job begins, which waits for
it. It sends a descriptor for each watcher that is to be forked, one ahead, reads from it the watcher's pid, and only
then sends a job: no watcher that it does not know may claim one. Standard library only.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from taskapi_jupyter.core import files, host, nesting, process
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import IMPORTING, PACKAGE, WORKER, HomePaths

from . import gpus, packages, reaping
from .launch import INHERITED, task_command, task_environment

if TYPE_CHECKING:
    import socket

#: Imports the template by path, as the harness is.
_START = "import sys;sys.path[0]=sys.argv[1];from template import main;sys.modules.pop('template');main=main();main();"

_OURS = (  # what a template needs of this package
    "taskapi_jupyter.runner.watcher:prepare",
    "taskapi_jupyter.runner.watcher:serve",
    "taskapi_jupyter.service.supervisor.wake:wake",
    "taskapi_jupyter.runner.reaping:call_itself",
    "taskapi_jupyter.runner.process_tree:bind_to_parent",
    "taskapi_jupyter.runner.process_tree:ctypes",
)

_ANSWER = 2.0  # seconds that a template has to fork a watcher
_IMPORTS = 60.0  # seconds that jobs wait for a template's imports; they start cold after that
_LONGEST_IMPORTS = 600.0  # seconds after which a template that still imports is ended
MOST_IDLE = 2  # watchers without a job that are kept, of each template and without one

_TRIES = 3  # templates of a version that may end unasked before no other is started


class Begun(NamedTuple):
    """A watcher that was given its job."""

    pid: int
    start_time: str | None
    channel: int  # a descriptor: it ends when the watcher does, which may say its exit code before, or `changed PATH`
    template: int  # the pid of its template


class Cold(NamedTuple):
    """A job is to start cold; ``note`` says why in its log, once."""

    note: str | None = None


class Waits(NamedTuple):
    """A job is to wait until its template has imported what it is to."""


class _Template:
    """A version's template: its process, or the reason why there can be none."""

    def __init__(self, launch: str, folder: str) -> None:
        self.launch = launch  # of the version, as text: its variables may change, and its id does not
        self.importing = os.path.join(folder, IMPORTING)
        self.pid = 0
        self.start_time: str | None = None
        self.control: socket.socket | None = None  # None: there is no process
        self.packages: int | None = None  # a descriptor: it holds its environment of packages, where it has one
        self.spare: socket.socket | None = None  # the channel of a watcher that was forked ahead, and says its pid
        self.done: list[tuple[int, socket.socket]] = []  # watchers that are done with a job, each with its channel
        self.ready = False  # whether it has imported everything
        self.began = self.used = self.idle = 0.0
        self.resident = 0  # bytes of memory
        self.tries = 0  # processes in a row that ended unasked
        self.why = ""  # why there can be none
        self.said = False

    def until(self) -> float:
        """Return the moment at which its process is to be ended."""
        return self.used + self.idle if self.ready else self.began + _LONGEST_IMPORTS

    def release(self) -> None:
        """Have its environment of packages be held no longer."""
        if self.packages is not None:
            os.close(self.packages)
            self.packages = None


class Templates:
    """All templates of a home, by ``api_id``."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._known: dict[str, _Template] = {}
        self._unready: set[int] = set()  # templates that were ended, or are gone, before their imports were looked at

    def begin(self, job: Mapping[str, Any], limits: Mapping[str, Any]) -> Begun | Cold | Waits:
        """Have a job's watcher forked by its version's template, which is started where there is none."""
        launch = nesting.loads(job["launch"]) if '"warm"' in job["launch"] else {}
        if not launch.get("warm") or not host.LINUX:
            return Cold()
        known = self._known.get(job["api_id"])
        if known is None or known.launch != job["launch"]:
            self.end([job["api_id"]])
            known = self._known[job["api_id"]] = _Template(job["launch"], HomePaths(self._home).version(job["api_id"]))
        if known.control is not None:
            self._hear(known)
        if known.why:
            return Cold(self._once(known))
        if known.control is None:
            if not (os.access(launch["python"], os.X_OK) and os.path.isdir(launch["cwd"])):  # the cold start says so
                return Cold()
            if not packages.is_ready(self._home, launch):  # the cold start builds them
                return Cold()
            if not self._make_room(int(launch["warm"]["max"])):
                return Cold()
            try:
                known.packages = packages.hold(self._home, launch, wait=False)
                self._start(known, job, launch, limits)
            except OSError:  # as many processes or descriptors as there may be, or its packages are being removed
                known.release()
                return Cold()
        if not known.ready:
            return Waits() if time.monotonic() - known.began < _IMPORTS else Cold()
        return self._ask(known, job, limits)

    def end(self, api_ids: Iterable[str]) -> None:
        """End the templates of some versions; their jobs run on."""
        for api_id in list(api_ids):
            known = self._known.pop(api_id, None)
            if known is not None:
                self._kill(known)

    def end_idle(self) -> None:
        """Read what templates say; end those that no job began with for too long, or whose imports never end."""
        for api_id, known in list(self._known.items()):
            if known.control is not None:
                self._hear(known)
            if known.control is not None and time.monotonic() >= known.until():
                self.end([api_id])

    def versions(self) -> set[str]:
        """Return the versions that have a template, or are known to be unable to have one."""
        return set(self._known)

    def pids(self) -> set[int]:
        """Return the processes that are templates."""
        return {known.pid for known in self._known.values() if known.control is not None}

    def resident(self) -> int:
        """Return the bytes of memory that templates hold."""
        return sum(known.resident for known in self._known.values() if known.control is not None)

    def filenos(self) -> list[int]:
        """Return descriptors that turn readable when a template has imported everything, or ended."""
        return [known.control.fileno() for known in self._known.values() if known.control is not None]

    def interval(self) -> float | None:
        """Return after how many seconds a template is to be ended; None where there is none."""
        now = time.monotonic()
        waits = [max(known.until() - now, 0.0) for known in self._known.values() if known.control is not None]
        return min(waits, default=None)

    def ended(self, pid: int) -> bool:
        """Note that a child of this process has ended; return whether it was a template that may have left processes.

        One that is ready has none but watchers.
        """
        for known in self._known.values():
            if known.control is not None and known.pid == pid:
                self._hear(known)
                if known.control is not None:
                    self._lost(known, "its template ended unasked")
        unready, self._unready = pid in self._unready, self._unready - {pid}
        return unready

    def _once(self, known: _Template) -> str | None:
        """Return why jobs of a version start cold, the first time."""
        said, known.said = known.said, True
        return None if said else f"started cold, not warm: {known.why}"

    def _start(
        self, known: _Template, job: Mapping[str, Any], launch: Mapping[str, Any], limits: Mapping[str, Any]
    ) -> None:
        """Start a template's process, as a task's is started."""
        import socket  # only here: it would make each fork of the supervisor slower

        wanted = launch["warm"]
        no_id = next(one for one in map("{:016x}".format, itertools.count()) if one not in job["launch"] + self._home)
        nobody = {**job, "id": no_id, "gpus": None, "devices": None}
        given = {
            "id": nobody["id"],
            "home": self._home,
            "package": os.path.dirname(PACKAGE),
            "ours": _OURS,
            "name": reaping.TEMPLATE,
            "supervisor": os.getpid(),
            "python": launch["python"],
            "preload": wanted["preload"],
            "auto": wanted["auto"],
        }
        environment = task_environment(nobody, launch, self._home, not job["gpu"] and gpus.are_hidden(limits["gpus"]))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given["control"] = theirs.fileno()
        command = task_command(nobody, launch, HomePaths(self._home).apis)
        command[2:4] = [_START, WORKER, json.dumps(given)]
        fault_point("warm.starting")
        before = process.mask_signals(signal.SIG_BLOCK, process.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    os.setsid()
                    signal.set_wakeup_fd(-1)
                    for number in INHERITED:
                        signal.signal(number, signal.SIG_DFL)
                    process.mask_signals(signal.SIG_SETMASK, ())
                    null = os.open(os.devnull, os.O_RDWR)
                    for fd in (0, 1):
                        os.dup2(null, fd)
                    os.set_inheritable(theirs.fileno(), True)
                    os.chdir(launch["cwd"])
                    os.execve(command[0], command, environment)  # noqa: S606
                finally:
                    os._exit(127)
        except OSError:
            ours.close()
            raise
        finally:
            process.mask_signals(signal.SIG_SETMASK, before)
            theirs.close()
        ours.setblocking(False)
        known.pid, known.start_time, known.control, known.ready = pid, process.start_time(pid), ours, False
        known.idle, known.resident = float(wanted["idle"]), 0
        known.began = known.used = time.monotonic()
        for path in (known.importing, os.path.join(os.path.dirname(known.importing), "warm")):  # nor is it suggested
            with suppress(OSError):
                os.close(files.create(path, os.O_WRONLY))
        fault_point("warm.started")

    def _make_room(self, most: int) -> bool:
        """End templates that no job began with for longest, until there are fewer than ``most``."""
        while len(self.pids()) >= most:
            ready = {
                api_id: known for api_id, known in self._known.items() if known.control is not None and known.ready
            }
            if not ready:
                return False
            self.end([min(ready, key=lambda one: ready[one].used)])
        return True

    def _hear(self, known: _Template) -> None:
        """Read what a template says of its imports."""
        assert known.control is not None
        try:
            word, _, rest = known.control.recv(4096).partition(b" ")
        except BlockingIOError:
            return
        except OSError:
            word = b""
        with suppress(OSError):
            os.unlink(known.importing)
        if word == b"ready":
            known.ready, known.resident, known.used = True, int(rest), time.monotonic()
        elif word == b"refused":
            known.why = rest.decode("utf-8", "replace")
            self._kill(known)
        else:
            self._lost(known, rest.decode("utf-8", "replace") or "its template ended unasked")

    def _lost(self, known: _Template, why: str) -> None:
        """Note that a template is gone without having been told to end."""
        self._kill(known)
        known.tries += 1
        if known.tries >= _TRIES:
            known.why = why

    def _kill(self, known: _Template) -> None:
        """End a template's process, which is a child of this one and is reaped as such."""
        if known.control is not None:
            self._unready |= set() if known.ready else {known.pid}
            process.send(known.pid, known.start_time, signal.SIGKILL)
            with suppress(OSError):
                os.unlink(known.importing)
            known.control.close()
            for channel in (known.spare, *(one for _, one in known.done)):
                if channel is not None:
                    channel.close()
            known.control, known.spare, known.done, known.ready = None, None, [], False
            known.release()

    def _ask(self, known: _Template, job: Mapping[str, Any], limits: Mapping[str, Any]) -> Begun | Cold:
        """Give a job to a watcher that a ready template has forked ahead, and have it fork the next one."""
        known.used = time.monotonic()
        data = message(job, limits)
        while known.done:
            pid, channel = known.done.pop()
            with suppress(OSError):  # it was killed
                return self._given(known, pid, channel, data)
            channel.close()
        spare, known.spare = known.spare, None
        try:
            spare = spare or self._fork(known)
            fault_point("warm.asked")
            spare.settimeout(_ANSWER)
            pid = int(spare.recv(64))
            fault_point("warm.answered")
            begun = self._given(known, pid, spare, data)
        except (OSError, ValueError):  # it is gone or does not answer: no watcher of it has, or will get, the job
            if spare is not None:
                spare.close()
            self._lost(known, "its template does not answer")
            return Cold()
        known.tries = 0
        with suppress(OSError):  # where it is gone, the next job sees to it
            known.spare = self._fork(known)
        return begun

    @staticmethod
    def _given(known: _Template, pid: int, channel: socket.socket, data: bytes) -> Begun:
        channel.settimeout(_ANSWER)
        channel.sendall(data)
        fault_point("warm.given")
        channel.setblocking(False)
        return Begun(pid, process.start_time(pid), channel.detach(), known.pid)

    def keep(self, api_id: str, template: int, pid: int, channel: int) -> None:
        """Keep a watcher that is done with its job for another one, unless its template is gone or has enough."""
        import socket

        known = self._known.get(api_id)
        if known is None or known.control is None or known.pid != template or len(known.done) >= MOST_IDLE:
            os.close(channel)
        else:
            known.done.append((pid, socket.socket(fileno=channel)))

    @staticmethod
    def _fork(known: _Template) -> socket.socket:
        """Have a template fork a watcher; return the channel to it, on which it says its pid."""
        import socket

        assert known.control is not None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(known.control, [b"fork"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours


def message(job: Mapping[str, Any], limits: Mapping[str, Any]) -> bytes:
    """Return what gives a watcher its job: a length in a line, then JSON."""
    data = json.dumps({"job": dict(job), "limits": dict(limits)}).encode()
    return b"%d\n%s" % (len(data), data)
