"""How a supervisor is woken, started and replaced: by the service, by a watcher that ends, by a newer package.

Whoever has written a wish first tries the FIFO ``wake``: a supervisor that has it open will look at the store. Where
nobody has, a new one is started, which waits for the lock of one that is leaving, or leaves to one that is not.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import sys
import time
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import files, guard, host, nesting, room
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.core.fault_points import point
from taskapi_jupyter.core.paths import PACKAGE
from taskapi_jupyter.runner import reaping
from taskapi_jupyter.service import engine_settings

from . import succession

if TYPE_CHECKING:
    import subprocess


_LONGEST_PAUSE = 0.1  # seconds between looks at a lock that another supervisor holds

#: What a supervisor keeps of the variables of whoever starts it.
_KEPT = ("PATH", "HOME", "TZ", "LANG", "TASKAPI_FAULTS")


def wake(home: str) -> None:
    """Tell the supervisor to look at the store, and start one where none lives."""
    if not poke(home):
        start(home)


def poke(home: str, data: bytes = b"w") -> bool:
    """Write to the FIFO; return whether a supervisor has it open. With no data, only ask."""
    path = os.path.join(home, "wake")
    try:
        about = os.lstat(path)
        if not stat.S_ISFIFO(about.st_mode):  # what a copy of a home may have there; a supervisor replaces it
            return False
        if about.st_mode & 0o600 != 0o600 and about.st_uid == os.geteuid():
            os.chmod(path, 0o600)
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return False  # nobody reads it, or it is gone
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
        os.write(fd, data)
    except BlockingIOError:
        pass  # it has wakeups enough to come
    except BrokenPipeError:
        return False  # it closed it just now: it is leaving
    finally:
        os.close(fd)
    return True


def command(module: str, home: str) -> list[str]:
    """Return the command that runs ``main(home)`` of one of our modules, with little imported."""
    code = f"import sys; sys.path.append(sys.argv[1]); from taskapi_jupyter.{module} import main; main(sys.argv[2])"
    flags = ["-I", "-S"] if host.LINUX else ["-I"]  # off Linux psutil is needed, which site makes importable
    return [sys.executable, *flags, "-c", code, os.path.dirname(PACKAGE), home]


def start(home: str) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own; it inherits no descriptor and no secret of this process."""
    import subprocess

    try:
        log = files.create(os.path.join(home, "supervisor.log"), os.O_WRONLY | os.O_APPEND)
    except OSError:  # a full disk: what it says is lost, what it does is not
        log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            command("service.supervisor.supervisor", home),
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def acquire(home: str) -> int | None:
    """Return the locked descriptor of ``supervisor.lock``, None where another supervisor takes care of the store.

    Raise :class:`Unavailable` where jobs of another host run in this home.
    """
    path = os.path.join(home, "supervisor.lock")
    try:
        fd = files.create(path, os.O_RDWR)
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}") from None
    pause = 0.005
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Either it has its FIFO open, and looks at the store again; or it is coming or leaving: wait for the lock.
            if poke(home):
                os.close(fd)
                return None
            try:
                refuse_others(home)
            except Unavailable:
                os.close(fd)
                raise
            if pause == _LONGEST_PAUSE:
                _nudge(_record(os.pread(fd, 4096, 0)))
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)
            continue
        before = _record(os.pread(fd, 4096, 0))
        if not host.is_here(before):
            try:
                _refuse_claims(home)
            except Unavailable:
                os.close(fd)
                raise
        point("waking.locked")
        _sign(fd)
        return fd


def _nudge(holder: Mapping[str, Any]) -> None:
    """Have the supervisor that wrote a record see whether ``wake`` is still its FIFO, as it does after any signal."""
    if host.is_there(holder):
        host.send(holder["pid"], holder["start_time"], signal.SIGCHLD)


def inherit(home: str, fd: object) -> int | None:
    """Return the locked descriptor that this process kept when it became this program; None where it is not one."""
    if not isinstance(fd, int):
        return None
    try:
        os.set_inheritable(fd, False)
        if not os.path.samestat(os.fstat(fd), os.stat(os.path.join(home, "supervisor.lock"))):
            return None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held already: this lets nobody else in between
    except OSError:
        return None
    _sign(fd)
    return fd


def _sign(fd: int) -> None:
    """Write into ``supervisor.lock`` who holds it."""
    me = {**host.identity(os.getpid()), "version": __version__}
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(me).encode(), 0)


# Homes that other hosts use, through a network file system or as a container's volume


def refuse_others(home: str) -> None:
    """Raise :class:`Unavailable` where a supervisor, or a job's watcher, of another host lives.

    What it left when it ended is taken over.
    """
    path = os.path.join(home, "supervisor.lock")
    try:
        with open(files.open_plain(path), "rb") as file:
            record = _record(file.read(4096))
            if host.is_here(record):
                return
            if _is_locked(file.fileno()):
                raise _in_use(home, record, "a supervisor")
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"can't read {path}: {error.strerror}") from None
    _refuse_claims(home)


def _refuse_claims(home: str) -> None:
    """Look at all jobs' claims: where a watcher of another host holds one, its job runs."""
    jobs = os.path.join(home, "jobs")
    try:
        names = os.listdir(jobs)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"can't read {jobs}: {error.strerror}") from None
    for name in names:
        if os.path.exists(os.path.join(jobs, name, "outcome.json")):
            continue
        try:
            with open(files.open_plain(os.path.join(jobs, name, "claim")), "rb") as file:
                record = _record(file.read(4096))
                if not host.is_here(record) and _is_locked(file.fileno()):
                    raise _in_use(home, record, f"job {name}")
        except OSError:
            continue


def holder(home: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the supervisor that had a home's lock last wrote down, {} where that can't be read."""
    try:
        return _record(files.read(os.path.join(home, "supervisor.lock"), 4096))
    except OSError:
        return {}


def _record(data: bytes) -> dict[str, Any]:
    try:
        return dict(nesting.loads(data))
    except (ValueError, TypeError):  # being written, or by a version that wrote none
        return {}


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _in_use(home: str, record: Mapping[str, Any], what: str) -> Unavailable:
    name = str(record.get("host", "another host"))[:100]
    where = f"the host {name}" if name != os.uname().nodename else f"another container or an earlier boot of {name}"
    return Unavailable(
        f"{home} is in use by {where}, where {what} runs: one host at a time may run jobs in a folder; "
        "use the other host, wait until its jobs have ended, or set TASKAPI_HOME to a folder of this host's own"
    )


class Waker:
    """Wakes the supervisor of a home, from any thread; leaves no zombie of one that it started."""

    def __init__(self, home: str) -> None:
        self.home = home
        self._lock = allocate_lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._seeing = False
        self._seen: tuple[int, int] | None = None  # the record that was found to be this host's
        reaping.begin()

    def check(self) -> None:
        """Raise :class:`Unavailable` where another host or user uses this home; costs a look or two, as a rule."""
        guard.check(self.home)
        try:
            found = os.lstat(os.path.join(self.home, "supervisor.lock"))
            seen = (found.st_ino, found.st_mtime_ns)
        except OSError:
            seen = None
        if seen is None or seen != self._seen:
            try:
                refuse_others(self.home)
            except OSError as error:
                raise room.cannot_write(self.home, error) from None
            self._seen = seen

    def check_place(self) -> None:
        """Raise :class:`Unavailable` also where a supervisor could not work: before something is left for it to do."""
        guard.check_place(self.home)
        engine_settings.read(self.home)
        if not self.alive():
            guard.check(self.home, again=True)  # as the one that is to be started will
        self.check()

    def alive(self) -> bool:
        """Say whether a supervisor has its FIFO open; whether one has is not known without a descriptor."""
        try:
            return poke(self.home, b"")
        except OSError as error:
            if error.errno in files.NO_DESCRIPTOR:
                return True
            raise

    def wake(self) -> None:
        """Have the store looked at: by the supervisor that lives, or by one that is started.

        One that this process started before, and that has no FIFO yet, looks at the store after it got the lock, or
        leaves to one that does; whether that was before what is to be seen was written, a thread makes sure of.
        """
        with suppress(OSError):  # without a descriptor it is not known
            if poke(self.home):
                return
        with self._lock:
            if self._seeing:
                return
            try:
                if self._start_one():
                    return
            except OSError:  # as many processes as there may be: what is to be seen is on disk, and will be
                pass
            self._seeing = True
        _thread_of(self._see)

    def _start_one(self) -> bool:
        """Start a supervisor unless one that this process started lives; say whether nothing more is to be done."""
        if os.environ.get("TASKAPI_JOB_SPEC", "").startswith(os.path.join(self.home, "jobs", "")):
            return True  # in a task: one started here would be stopped with it; its watcher starts one
        if self._started is not None and self._started.poll() is None:
            _nudge(holder(self.home))
            return False
        self._started = start(self.home)
        _thread_of(self._started.wait)  # leaves no zombie
        return True

    def _see(self) -> None:
        """Wait until the one that was started has its FIFO open, or start another where it is gone."""
        pause = 0.01
        while True:
            with self._lock:
                try:
                    if poke(self.home) or self._start_one():
                        self._seeing = False
                        return
                except OSError:
                    pause = 1.0
            time.sleep(pause)

    def replace_older(self) -> None:
        """Have a supervisor of an older package leave, or become one of this package where its jobs run.

        One that is older than 0.3.0 leaves in either case; its jobs run on, and the next one adopts them.
        """
        try:
            older = self._older()
            if older is None or not self.alive() or not host.is_there(older):
                return
            succession.propose(self.home, older, command("service.supervisor.supervisor", self.home))
            host.send(older["pid"], older["start_time"], signal.SIGTERM)
            for _ in range(1000):  # while it has its FIFO, a wakeup would go to it
                if not self.alive():
                    self.wake()
                    break
                if self._older() is None:
                    break
                time.sleep(0.005)
        except (OSError, ValueError, KeyError, TypeError):
            return  # nobody there, or somebody who is just coming

    def _older(self) -> dict[str, Any] | None:
        """Return the record of the supervisor where an older package wrote it."""
        record = holder(self.home)
        if record["version"] == __version__:
            return None
        from packaging.version import InvalidVersion, Version

        try:
            return record if Version(record["version"]) < Version(__version__) else None
        except InvalidVersion:
            return None


def _thread_of(function: Callable[[], object]) -> None:
    import threading  # not above: it would make each fork of the supervisor twice as slow

    threading.Thread(target=function, daemon=True).start()
