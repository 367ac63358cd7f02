"""Imports once what a task imports, and forks a watcher for each job, whose task then begins with it (Linux).

Runs in the task's interpreter, which has this package too, and imports nothing of it but the watcher and what wakes a
supervisor, whose names it is given. Those modules, and what they import, are out of ``sys.modules`` while anything of
the task's is imported or runs, so that it finds what a cold start finds.

The supervisor is the parent. It asks over a socket, ``control``: each message carries a descriptor, on which the new
watcher says its pid, is sent a job when there is one, and says at last its exit code, or that a file has changed.
Without a job, as where the supervisor is gone, the watcher leaves before it claims anything. The template ends with
``control``, and with the supervisor.
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

import harness  # type: ignore[import-not-found]  # by path, as this file: `sys.path[0]` is their folder

sys.modules.pop("harness")

#: Signals whose handling a watcher changes, and what starts it; a task gets back what its imports made of it.
_HANDLED = (1, 2, 3, 10, 13, 15, 17, 25)  # HUP INT QUIT USR1 PIPE TERM CHLD XFSZ
_MOST_OUTPUT = 1 << 20  # bytes of what imports print that are repeated in each job's log
_CLOCK = 20_000_000  # nanoseconds by which the clock of a file system may be behind


class Refused(Exception):
    """Why no job can begin with what was imported, as the end of a sentence."""


class Begins(BaseException):
    """Leads out of the watcher's code, in the process that is the task from now on."""


def main():  # type: ignore[no-untyped-def]
    """Be the template; return only in a task's process, what runs the task."""
    given = harness.decode(sys.argv.pop(2))
    environment, own = dict(os.environ), sys.path[1:]
    ours = Ours(given)
    # What is there now is left out of collections, which would copy its pages in each task: not what is imported ahead,
    # whose open files a task's end is to flush. Python clears `__main__` for the same reason if it is held until then.
    held = [sys.modules["__main__"]]
    held.append(held)  # type: ignore[arg-type]
    gc.collect()
    gc.freeze()
    control = ours.socket.socket(fileno=given["control"])
    control.set_inheritable(False)
    output = Output(ours.libc)
    try:
        harness.placed = harness.place(sys.argv[1:])
        harness.buffer_lines()
        began = ours.time.time_ns() - _CLOCK
        preload(given["preload"], given["auto"])
        output.end()
        files = Files([given["python"], *own], ours.modules.values())
        if changed := files.newer_than(began):
            control.send(b"changed " + os.fsencode(f"{changed} was changed while it was imported")[:1000])
            os._exit(0)
        kept = look(control.fileno())
        handlers = handlers_now()
        harness.fault_point("template.imported")
        control.send(b"ready %d" % resident())
    except Refused as error:
        control.send(b"refused " + str(error).encode("utf-8", "replace")[:1000])
        os._exit(0)
    except BrokenPipeError:  # the supervisor has become a newer one
        os._exit(0)
    collects = gc.isenabled()
    gc.collect()
    _signal.signal(17, _signal.SIG_IGN)  # CHLD: watchers that have ended are no zombies
    wanted = serve(control, files, ours, given)
    # From here on this process is a task's.
    ours.leave()
    for number, handler in handlers.items():
        if _signal.getsignal(number) is not handler:
            _signal.signal(number, handler)
    for fd in open_files():
        if fd > 2 and fd not in kept:
            os.close(fd)
    if collects:
        gc.enable()
    change_environment(environment, wanted, given["id"])
    with open("/proc/self/comm", "w") as file:
        file.write(ours.comm)
    refresh()
    output.repeat()
    return harness.main


class Ours:
    """The modules of this package that a watcher needs, with all that they import; kept out of ``sys.modules``."""

    def __init__(self, given: dict) -> None:  # type: ignore[type-arg]
        theirs, path = set(sys.modules), sys.path[:]
        library = os.path.dirname(os.__file__)
        first = [one for one in path if one.endswith((".zip", "lib-dynload")) or one == library]
        sys.path[:] = [*first, given["package"], *path[1:]]  # no module of a project hides one of the library
        import socket
        import time
        import traceback

        self.socket, self.time, self.traceback = socket, time, traceback
        self.prepare, self.serve, self.wake, self.name_itself, bind, ctypes = (
            getattr(__import__(module, fromlist=[name]), name)
            for module, name in (one.split(":") for one in given["ours"])
        )
        self.libc = ctypes.CDLL(None)
        with open("/proc/self/comm") as file:
            self.comm = file.read().rstrip("\n")
        self.name_itself(given["name"])
        bind(9)  # KILL
        if os.getppid() != given["supervisor"]:
            os._exit(0)
        self.modules = {name: module for name, module in sys.modules.items() if name not in theirs}
        self.path = sys.path[:]
        for name in self.modules:
            del sys.modules[name]
        sys.path[:] = path

    def enter(self) -> None:
        """Have what is imported from now on be ours: this process is a watcher.

        Touches no module that it need not: each is on pages that this process shares with the template until then.
        """
        self.count, self.their_path = len(sys.modules), sys.path[:]
        self.theirs = {name: sys.modules[name] for name in self.modules if name in sys.modules}
        sys.modules.update(self.modules)
        sys.path[:] = self.path

    def leave(self) -> None:
        """Have what is imported from now on be the task's."""
        while len(sys.modules) > self.count:
            sys.modules.popitem()  # what came last, which is ours
        sys.modules.update(self.theirs)
        sys.path[:] = self.their_path


class Output:
    """What imports print: kept, and repeated in the log of each job, where a cold start would have put it."""

    def __init__(self, libc) -> None:  # type: ignore[no-untyped-def]
        self.libc = libc
        self.data = b""
        self.file = os.memfd_create("output")
        self.log = os.dup(2)
        for fd in (1, 2):
            os.dup2(self.file, fd)

    def end(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.libc.fflush(None)
        size = os.fstat(self.file).st_size
        self.data = os.pread(self.file, min(size, _MOST_OUTPUT), 0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(self.log, 2)
        for fd in (null, self.log, self.file):
            os.close(fd)

    def repeat(self) -> None:
        view = memoryview(self.data)
        while view:
            view = view[os.write(1, view) :]


def preload(names: "list[str]", installed: bool) -> None:
    """Import modules, each ``module`` or ``module:a,b`` for ``from module import a, b``.

    With ``installed``, only what is the interpreter's or an installed package's.
    """
    for name in names:
        module, _, some = name.partition(":")
        try:
            if not installed or is_installed(module.partition(".")[0]):
                __import__(module, fromlist=some.split(",") if some else [])
        except BaseException as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise Refused(f"{module} can't be imported ahead ({why[:300]})") from None


def is_installed(name: str) -> bool:
    """Whether a top-level module is one of the interpreter's or of an installed package, not the project's own."""
    if name in sys.builtin_module_names or name in sys.modules:
        return True
    from _frozen_importlib_external import PathFinder

    spec = PathFinder.find_spec(name)
    if spec is None:
        return False
    folders = [*(spec.submodule_search_locations or ())] or [os.path.dirname(spec.origin or "")]
    library = os.path.dirname(os.__file__)
    return all(f"{one}/".startswith(f"{library}/") or "-packages/" in f"{one}/" for one in folders)


class Files:
    """What was imported, as it is on disk: where any of it changes, a cold start would import something else."""

    def __init__(self, more: "list[str]", ours) -> None:  # type: ignore[no-untyped-def]
        # What is installed in a folder of packages may hide a module; other folders change while jobs run.
        paths = {more[0], sys.executable, *(one for one in more if one.endswith("-packages"))}
        for module in [*sys.modules.values(), *ours]:
            file = getattr(module, "__file__", None)
            if type(file) is str and os.path.isabs(file):
                paths.add(file)
        self.known = {}
        for path in paths:
            try:
                about = os.stat(path)
                self.known[path] = about.st_mtime_ns, about.st_size, about.st_ino
            except OSError:  # in a zip
                pass

    def newer_than(self, moment: int) -> "str | None":
        """Return a file that was written since a moment."""
        return next((path for path, state in self.known.items() if state[0] >= moment), None)

    def changed(self) -> "str | None":
        """Return a file that is not as it was."""
        for path, state in self.known.items():
            try:
                about = os.stat(path)
                if (about.st_mtime_ns, about.st_size, about.st_ino) == state:
                    continue
            except OSError:
                pass
            return path
        return None


def open_files() -> "list[int]":
    """Return the descriptors that are open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
            found.append(int(name))
        except OSError:  # that which read the folder
            pass
    return found


def look(control: int) -> "list[int]":
    """Raise where a fork is not safe, or two jobs would share what is open; return the descriptors that are kept."""
    kept = []
    torch = sys.modules.get("torch")
    if torch is not None and getattr(getattr(torch, "cuda", None), "is_initialized", bool)():
        raise Refused("its imports have initialised CUDA")
    for fd in open_files():
        if fd < 3 or fd == control:
            continue
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri")):
            raise Refused(f"its imports have initialised a GPU ({path})")
        if path not in ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero"):
            raise Refused(f"its imports have left {path[:300]} open")
        kept.append(fd)
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        if file.read().strip():
            raise Refused("its imports have started a process")
    # A library that knows of forks ends its threads before one and makes them anew when it needs them, as OpenBLAS.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise Refused(f"its imports have left {len(threads) - 1} thread{'s' * (len(threads) > 2)} running")
    return kept


def handlers_now() -> "dict[int, object]":
    """Return how signals are handled after the imports."""
    found = {number: _signal.getsignal(number) for number in _HANDLED}
    for number, handler in found.items():
        if handler is None:
            raise Refused(f"its imports handle signal {number} in a way that can't be given back")
    return found


def resident() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve(control, files: Files, ours: Ours, given: dict) -> "dict[str, str]":  # type: ignore[no-untyped-def,type-arg]
    """Fork a watcher each time that the supervisor asks; return in a task's process, with its environment."""
    everything = _signal.valid_signals()
    while True:
        message, fds, _, _ = ours.socket.recv_fds(control, 16, 1, ours.socket.MSG_CMSG_CLOEXEC)
        if not message:
            os._exit(0)
        harness.fault_point("template.asked")
        _signal.pthread_sigmask(_signal.SIG_BLOCK, everything)  # a watcher takes none before it is ready
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            gc.disable()
            control.close()
            return watch(fds[0], files, ours, given["home"], parent)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.close(fds[0])
        harness.fault_point("template.forked")


def watch(channel: int, files: Files, ours: Ours, home: str, parent: int) -> "dict[str, str]":
    """Be a watcher and never return; the task's process returns its environment."""

    def wake() -> None:
        if os.getppid() != parent:  # else the supervisor, which the template does not outlive, sees the channel's end
            ours.wake(home)

    code = 5  # EIO
    try:
        for number in (1, 2):  # HUP, INT
            _signal.signal(number, _signal.SIG_IGN)
        os.chdir("/")
        ours.enter()
        ours.prepare()
        os.write(channel, b"%d\n" % os.getpid())

        def begin(environment: "dict[str, str]") -> None:
            raise Begins(environment)

        harness.fault_point("template.watching")
        code = ours.serve(channel, home, wake, begin, files.changed)
    except Begins as begins:
        return begins.args[0]  # type: ignore[no-any-return]
    except BrokenPipeError:  # the supervisor is gone
        pass
    except BaseException:
        ours.traceback.print_exc()
    os._exit(code)


def refresh() -> None:
    """Have what a start draws at random be drawn anew, and what was not there be looked for again."""
    for path, finder in list(sys.path_importer_cache.items()):
        if finder is None:
            del sys.path_importer_cache[path]
    for module, renew in (  # the library's `random` does so itself
        ("numpy.random", lambda one: one.seed()),
        ("torch", lambda one: one.seed()),
        ("multiprocessing.process", lambda one: setattr(one.current_process(), "authkey", os.urandom(32))),
    ):
        try:
            if module in sys.modules:
                renew(sys.modules[module])
        except Exception:  # another module of that name
            pass


def change_environment(before: "dict[str, str]", after: "dict[str, str]", no_id: str) -> None:
    """Change what differs between two environments; what imports have set stays. ``no_id`` stands for a job's id."""
    for name in {*before, *after}:
        if name not in after:
            os.environ.pop(name, None)
        elif before.get(name) != after[name]:
            os.environ[name] = after[name]
    # What other processes see: a sweep finds by the job's id what a dead watcher left.
    show_environment(no_id.encode(), after["TASKAPI_JOB_ID"].encode())


def show_environment(before: bytes, after: bytes) -> None:
    """Replace a text by another of the same length in the environment that /proc shows of this process."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    begin, end = int(fields[47]), int(fields[48])
    fd = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(fd, os.pread(fd, end - begin, begin).replace(before, after), begin)
    finally:
        os.close(fd)
