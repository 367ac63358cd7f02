"""Runs a task in its own interpreter. Imports nothing of this package and, before the task, hardly anything else.

The watcher gives the interpreter a line that imports this file by path, so that its compiled form is cached.
Arguments: this file's folder, the API's folder, kind, file, module, attribute (behind ``*`` or ``?`` where :func:`call`
is to call it), the folder that holds cloudpickle, the path that a project's file has in the project, then what
:func:`search_path` takes. Kinds: ``main`` is a file that runs as ``__main__``, ``module`` one that is imported;
``pickle`` and ``dill`` hold a callable.

Must run on any Python 3.8 or newer, since a task's interpreter need not be the one that has this package.
"""

import os
import sys
from time import monotonic  # built in

if "TASKAPI_FAULTS" in os.environ:  # a test's; this file's own folder is first on sys.path only now
    sys.path[0] += "/../core"
    fault_point = __import__("fault_points").fault_point
    sys.path[0] = sys.path[0][: -len("/../core")]
    del sys.modules["fault_points"]
else:

    def fault_point(name: str) -> None:
        """Mark a moment at which dying must lose nothing."""


OURS = "<taskapi>"  # the file of code of ours that travels with a task: tracebacks begin behind it
MAX_EXCEPTION = 1 << 20  # bytes of a pickled exception that are kept
MAX_TRACEBACK = 1 << 16  # characters, from its end on
TERM = 15  # `signal` is not imported
TERMINATED = "terminated"  # what is reported of a task that left because of it


placed = None  # what `place` returned, where a template called it


def place(arguments: "list[str]") -> "tuple[str, str, str, str, str]":
    """Have the interpreter be as a task finds it: its arguments, where it imports from; return what is to be run.

    The first entry of ``sys.path`` is this file's folder.
    """
    here, folder, kind, file, module, attribute, cloudpickle, origin, *paths = arguments
    path = os.path.join(folder, file)
    sys.argv[:] = [path]
    sys.path[:] = ([] if kind == "main" else [folder]) + search_path(paths, sys.path[1:])
    sys.path.append(os.path.join(here, "path"))
    sys.meta_path.insert(0, Figures)
    sys._taskapi_cloudpickle = cloudpickle  # type: ignore[attr-defined]  # for its stand-in, where there is none
    return kind, path, module, attribute, origin


def main() -> None:
    """Run the task of the job that the environment names."""
    kind, path, module, attribute, origin = placed or place(sys.argv[1:])
    folder = os.path.dirname(path)
    how = attribute[: attribute[:1] in ("*", "?")]
    attribute = attribute[len(how) :]
    fault_point("task.executed")
    spec = os.environ["TASKAPI_JOB_SPEC"]
    with open(spec, encoding="utf-8") as job:
        config = decode(job.read())["config"]
    out = os.path.join(os.path.dirname(spec), "")
    pid = os.getpid()
    buffer_lines()
    hold_report(out)
    show_crashes()
    stopping = Stopping(out)
    began, modules = monotonic(), len(sys.modules)
    try:
        if kind == "main":
            task = getattr(run_as_main(path), attribute)
        elif kind == "module":
            task = getattr(load(module, path, origin) if origin else __import__(module), attribute)
        else:
            with open(path, "rb") as pickled:
                task = __import__("pickle" if kind == "pickle" else "dill").load(pickled)
        if not placed and monotonic() - began > 1 and len(sys.modules) - modules > 100:
            suggest_warm(folder, monotonic() - began, len(sys.modules) - modules)
        if isinstance(task, type):
            task = task()
        fault_point("task.loaded")
        result = call(task, config, how) if how else task(config)
        if type(result).__name__ == "coroutine":
            result = awaited(result)
        fault_point("task.returned")
        stopping.over = True
    except SystemExit as error:
        stopping.over = True
        if error.code not in (None, 0):
            if os.getpid() == pid:
                report(out, *stopping.told(error))
            raise
        result = None
    except BaseException as error:
        stopping.over = True
        defined_in = "__main__" if kind == "main" else module
        failed(out if os.getpid() == pid else None, error, path if kind == "main" else "", folder, defined_in)
    if os.getpid() == pid:  # not a child that the task forked and let return
        keep(out, result, os.path.basename(folder), "__main__" if kind == "main" else module)
        fault_point("task.kept")


def search_path(paths: "list[str]", own: "list[str]") -> "list[str]":
    """Return the folders to import from, in the order that the kernel has them.

    An empty one among ``paths`` stands for the interpreter's own folders; of two, the first for its standard library,
    the second for its packages. Without any, they come last.
    """
    cut = next((at for at, one in enumerate(own) if one.endswith("-packages")), len(own))
    parts = [own[:cut], own[cut:]] if paths.count("") > 1 else [own]
    found = []  # type: list[str]
    for one in paths:
        found += [one] if one else parts.pop(0) if parts else []
    return found + [one for part in parts for one in part]


def run_as_main(path: str):  # type: ignore[no-untyped-def]
    """Run a file as ``python FILE`` does, so that pickles and processes find what it defines; return ``__main__``."""
    from _frozen_importlib_external import SourceFileLoader  # importlib.util would import half the library

    module = sys.modules["__main__"]
    for name in ("sys", "main"):  # what started us
        module.__dict__.pop(name, None)
    module.__loader__ = loader = SourceFileLoader("__main__", path)
    module.__file__ = path
    exec(loader.get_code("__main__"), module.__dict__)  # type: ignore[arg-type]
    return module


def buffer_lines() -> None:
    """Have each line of output written at once, in one piece; without buffers, text and line end are two writes."""
    os.environ["PYTHONUNBUFFERED"] = "1"  # for programs in Python that the task starts
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        except AttributeError:  # the interpreter's own sitecustomize has put something else there
            pass


class Figures:
    """Watches for the import of pyplot, and has what it shows saved as files where no backend was chosen."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> None:
        """Find nothing: finders after this one do."""
        if name == "matplotlib.pyplot":
            if cls in sys.meta_path:
                sys.meta_path.remove(cls)
            try:
                from matplotlib import rcParams, rcsetup

                if dict.__getitem__(rcParams, "backend") is rcsetup._auto_backend_sentinel:
                    import _taskapi_figures  # type: ignore[import-not-found]  # noqa: F401

                    rcParams["backend"] = "module://_taskapi_figures"
            except Exception:  # a matplotlib of another make keeps its own backend
                pass


def show_crashes() -> None:
    """Have a signal that a fault raises (SIGSEGV, SIGABRT, ...) leave its traceback in the log."""
    import faulthandler

    try:
        faulthandler.enable(os.dup(2))  # of its own: the task may close stderr, and open a file that gets its number
    except OSError:
        pass


def suggest_warm(folder: str, seconds: float, modules: int) -> None:
    """Say once for a version that its jobs need not import all this, where that is so; ``folder`` is the version's."""
    if not sys.platform.startswith("linux") or sys.version_info < (3, 10):
        return
    if not os.path.exists(os.path.join(folder, "../../supervisor.lock")):  # on a node of a cluster
        return
    try:
        os.close(os.open(os.path.join(folder, "warm"), os.O_CREAT | os.O_EXCL, 0o600))
        sys.stderr.write(
            "taskapi: it took %.1f s to load this task and %d modules; "
            "deployed with --warm, its jobs begin with them imported\n" % (seconds, modules)
        )
    except Exception:  # it was said before, or the task's streams are closed
        pass


class Stopping:
    """Stops the task kindly: the first TERM raises SystemExit in the main thread, the next one ends the process.

    In this process only, and unless the task handles, ignores or resets TERM itself: a forked child has the system's
    default, as has a process that another program takes over. ``out`` is where the watcher finds the report.
    """

    def __init__(self, out: str) -> None:
        import _signal  # type: ignore[import-not-found]  # `signal`, which makes enums of all that is in it, takes 0.4 ms

        self.signal = _signal
        self.out = out
        self.pid = os.getpid()
        self.over = False  # the task has returned or raised: its result is being stored, its threads are waited for
        self.taken: "SystemExit | None" = None
        if _signal.getsignal(TERM) == _signal.SIG_DFL:
            _signal.signal(TERM, self)
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Have TERM end the process at once, whatever it is doing."""
        if self.signal.getsignal(TERM) is self:
            self.signal.signal(TERM, self.signal.SIG_DFL)

    def told(self, error: SystemExit) -> "tuple[str, str]":
        """Return what is reported of a task that one of these ended: ours, or its own."""
        if error is self.taken:
            return TERMINATED, ""
        return "raised", "SystemExit: %s%s" % (error.code, no_keyboard(error))

    def __call__(self, number: int, frame: object) -> None:
        self.reset()
        if os.getpid() != self.pid:  # a child that something else than Python forked
            os.kill(os.getpid(), TERM)
            return
        error = self.taken = SystemExit(128 + TERM)
        if self.over:
            report(self.out, TERMINATED)
            hook = sys.unraisablehook  # where threads or functions of atexit are waited for, nobody catches it
            sys.unraisablehook = lambda told: None if told.exc_value is error else hook(told)
        raise error


def load(name: str, path: str, origin: str) -> object:
    """Import a project's file from the copy that was deployed, with ``__file__`` where the project has it."""
    from _frozen_importlib_external import SourceFileLoader  # importlib.util would import half the library

    loader = SourceFileLoader(name, path)
    module = sys.modules[name] = type(sys)(name)
    module.__file__ = origin
    module.__loader__ = loader
    exec(loader.get_code(name), module.__dict__)  # type: ignore[arg-type]
    return module


def call(task, config: dict, how: str) -> object:  # type: ignore[no-untyped-def,type-arg]
    """Call a task with what the config holds for its parameters, by their names; the others keep their defaults.

    A parameter ``config`` of a task that needs no other gets all of the config. ``how`` is ``*``, or ``?`` for a task
    whose parameters could not be read when it was deployed: it gets the config if that is all that it can take.
    """
    plain = task if hasattr(task, "__code__") else type(task).__call__
    code = getattr(plain, "__code__", None)  # inspect takes longer to import than all that comes before the task
    if code is not None and not code.co_posonlyargcount and not hasattr(task, "__wrapped__"):
        bound = plain is not task or hasattr(task, "__self__")
        names = code.co_varnames[bound : code.co_argcount + code.co_kwonlyargcount]
        if how == "?" and names[:1] == ("config",) and code.co_argcount > bound:
            return task(config)
        if how == "*" and "config" not in names:
            return task(**config)
    from inspect import signature

    try:
        taken = [*signature(task, follow_wrapped=False).parameters.values()]
        if {one.VAR_POSITIONAL for one in taken} <= {one.kind for one in taken}:
            taken = [*signature(task).parameters.values()]  # a wrapper that takes anything, as functools.wraps says
    except (TypeError, ValueError):  # of C, which tells nothing
        return task(config) if how == "?" else task(**config)
    taken = [one for one in taken if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    names = [one.name for one in taken]
    needed = [one.name for one in taken if one.default is one.empty]
    if "config" in names and needed in ([], ["config"]):
        config = {"config": config}
    elif how == "?" and len(names) == 1 and needed == names and names[0] not in config:
        return task(config)
    before, rest = [], dict(config)
    for one in taken:
        if one.kind is not one.POSITIONAL_ONLY or (one.name in needed and one.name not in rest):
            break
        before.append(rest.pop(one.name, one.default))
    return task(*before, **rest)


def awaited(coroutine) -> object:  # type: ignore[no-untyped-def]
    """Run an async task to its end; its traceback begins where the task's own code does."""
    import asyncio

    try:
        return asyncio.run(coroutine)
    except BaseException as error:
        ours, tb = os.path.join(os.path.dirname(asyncio.__file__), ""), error.__traceback__
        while tb is not None and (tb.tb_frame.f_code.co_filename + os.sep).startswith((__file__, ours)):
            tb = tb.tb_next
        raise error.with_traceback(tb or error.__traceback__)  # noqa: B904  (its own cause stays)


def decode(text: str):  # type: ignore[no-untyped-def]
    """Decode JSON with the scanner that ``json`` is built on: importing ``json`` takes longer than all the rest."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)

    class Context:
        strict = True
        object_hook = object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = None
        memo: dict = {}  # type: ignore[type-arg]

    return make_scanner(Context)(text, 0)[0]  # type: ignore[arg-type]


def encode(value: object) -> bytes:
    """Encode JSON, as ``json.dumps(value, allow_nan=False)`` does, with the encoder that ``json`` is built on."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value, allow_nan=False).encode("utf-8")

    def default(other: object) -> None:
        raise TypeError("%s is none of JSON's types" % type(other).__name__)

    encoder = make_encoder({}, default, encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(encoder(value, 0)).encode("utf-8")


held = (-1, -1, -1)  # the report's descriptor, device and inode


def hold_report(out: str) -> None:
    """Open the report: a task may use up its descriptors, and its disk may be read-only by its end."""
    global held  # noqa: PLW0603
    try:
        fd = private(out + "report", 0)
        held = (fd, os.fstat(fd).st_dev, os.fstat(fd).st_ino)
    except OSError:
        pass


def report_file(out: str) -> int:
    """Return a descriptor of the report; the task may have closed the one that was held, and have used its number."""
    try:
        about = os.fstat(held[0])
        if held[1:] == (about.st_dev, about.st_ino):
            return held[0]
    except (OSError, OverflowError):
        pass
    return private(out + "report", 0)


def report(out: str, word: str, text: str = "") -> None:
    """Tell the watcher how it went, where a result file or the exit code can't."""
    try:
        # Over what its watcher put there, which takes no room on a full disk.
        fd = report_file(out)
        fault_point("task.reporting")
        os.pwrite(fd, (word + "\n" + text).encode("utf-8", "replace"), 0)
    except OSError:
        pass
    fault_point("task.reported")


def failed(out: "str | None", error: BaseException, path: str = "", folder: str = "", module: str = "") -> None:
    """Print the traceback without our own frames and leave; its last line is the reason, told where ``out`` is.

    Where it speaks of the file of a cell, at ``path``, it says which cell that is. The exception is kept beside it, for
    whoever waits for the result; ``folder`` and ``module`` are the task's, as :func:`keep` takes them.
    """
    import traceback

    tb = error.__traceback__
    while tb is not None and (
        tb.tb_frame.f_code.co_filename in (__file__, OURS)
        or str(tb.tb_frame.f_globals.get("__name__")).startswith("taskapi_jupyter.")  # what calls a decorated function
    ):
        tb = tb.tb_next
    try:
        name = type(error).__name__
        told = traceback.format_exception_only(type(error), error)  # a SyntaxError's has more entries, notes too
        reason = " ".join([one for one in told if name in one.partition(":")[0]][-1].split())
    except Exception:  # an exception whose own __str__ raises
        reason = type(error).__name__
    if out is not None:
        report(out, "memory" if isinstance(error, MemoryError) else "raised", reason[:2000] + no_keyboard(error))
    text = ""
    try:
        sys.stdout.flush()
        notebook = sys.modules.get("_taskapi_notebook")
        labels = {path: "cell " + os.environ["TASKAPI_API_NAME"]}
        labels.update((cell, cell) for cell in (notebook.cells if notebook else ()))
        text = "".join(traceback.format_exception(type(error), error, tb))
        for file, label in labels.items():
            text = text.replace('File "%s", line' % file, label + ", line")
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:  # the task may have closed its own streams
        pass
    if out is not None:
        keep_exception(out, error, text, os.path.basename(folder), module)
    sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def no_keyboard(error: BaseException) -> str:
    """Return what a reason says of an error that comes of a job's having no keyboard, else nothing."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    raised_in = "" if tb is None else tb.tb_frame.f_globals.get("__name__")
    if isinstance(error, EOFError) and (error.args == ("EOF when reading a line",) or raised_in == "getpass"):
        return " (a job has no keyboard: give the value in the config)"
    if type(error).__name__ == "BdbQuit" or (isinstance(error, SystemExit) and raised_in in ("bdb", "pdb")):
        return " (a job has no keyboard: breakpoint() and debuggers can't be used)"
    return ""


def keep(out: str, result: object, api_id: str, module: str) -> None:
    """Store what the task returned: as JSON where that gives the same back, else pickled.

    JSON takes ten times as long as a pickle, so plain values beyond :data:`LARGE` are pickled, too. Behind its end a
    pickle says which Python wrote it, whether loading it takes cloudpickle, and whether it holds plain values alone,
    which any Python loads. It has a JSON view beside it where there is one; that of a large one is made when it is
    asked for (:func:`view`). What has neither has a preview. Classes of the task's ``module`` go by value: whoever
    loads the result has no such module.
    """
    try:
        if result is None:
            return write(out + "result.json", b"null", sync=False)
        keeps = json_keeps(result)
        if keeps:
            try:
                data = encode(result)
                if b"\\ud" not in data or decode(data.decode("ascii")) == result:  # two surrogates come back as one
                    return write(out + "result.json", data)
            except ValueError:  # NaN, an infinity, a number too long to be written
                pass
        large = keeps is None or fits_json(result, LARGE) is None
        python = b"#taskapi-python=%d.%d" % sys.version_info[:2]
        try:
            end = b"#taskapi-values=%s#taskapi-loader=pickle" % (b"unviewed" if large else b"viewed") + python
            write(out + "result.pkl", lambda file: pickle_values(result, file), end)
        except OSError:
            raise
        except Exception:  # it has other types, or nests too deeply
            data = pickler(api_id, module).dumps(result)
            loader = b"cloudpickle" if b"cloudpickle" in data else b"pickle"  # which takes what only a pickle needs too
            write(out + "result.pkl", data, b"#taskapi-loader=" + loader + python)
            large = False
        try:
            if not large and fits_json(result):
                return write(out + "result.view.json", encode(result))
        except Exception:  # it has none
            pass
        if not large:
            preview(out, result)
    except Exception as error:  # no disk space, or what a __reduce__ raises: the task is done, its result is lost
        text = "its result (%s) could not be stored: %s" % (type(result).__name__, error)
        report(out, "returned", text[:2000])
        try:
            sys.stderr.write("taskapi: " + text + "\n")
        except Exception:
            pass
    return None


def keep_exception(out: str, error: BaseException, text: str, api_id: str, module: str) -> None:
    """Store what the task raised, with its traceback behind the pickle's end; nothing where that can't be done.

    How the job ended was reported before: nothing that a class of the task does here can change that.
    """
    try:
        plain = type(error).__module__ == "builtins" and not vars(error) and json_keeps(list(error.args))
        file = Bounded()
        (__import__("_pickle") if plain else pickler(api_id, module)).dump(error, file)
        data = b"".join(file.pieces)
        told = text[-MAX_TRACEBACK:].encode("utf-8", "replace")
        loader = b"cloudpickle" if b"cloudpickle" in data else b"pickle"
        end = b"#taskapi-traceback=%d#taskapi-loader=%s" % (len(told), loader)
        write(out + "exception.pkl", data, told + end + b"#taskapi-python=%d.%d" % sys.version_info[:2], sync=False)
    except Exception:  # it can't be pickled, or there is no room: its traceback is in the log
        pass


def preview(out: str, result: object) -> None:
    """Store what a pickled result looks like, so that nobody has to load it to see that; a failure loses only this."""
    try:
        import _taskapi_preview  # type: ignore[import-not-found]

        found = _taskapi_preview.of(result, encode)
        if found:
            write(out + "result.preview.json", encode(found), sync=False)
    except Exception:  # the task has another sys.path, or there is no room
        pass


def pickle_values(result: object, file: "Sink") -> None:
    """Pickle values of the built-in types that no class is needed for; raise TypeError where there are others."""
    from _pickle import Pickler

    class Values(Pickler):  # type: ignore[misc, unused-ignore]
        def reducer_override(self, value):  # type: ignore[no-untyped-def]  # not called for those types: all is in C
            raise TypeError("%s is no plain type" % type(value).__name__)

    Values(file, 5).dump(result)


def view() -> None:
    """Write the JSON form of plain values to standard output, of which standard input is the pickle; for a server."""
    import resource
    from _pickle import Unpickler

    class Values(Unpickler):  # type: ignore[misc, unused-ignore]
        def find_class(self, module: str, name: str) -> None:  # type: ignore[override, unused-ignore]
            raise TypeError("a class")

    most = (2 << 30) + 8 * os.fstat(0).st_size  # what a task wrote may ask for any amount
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    value = Values(sys.stdin.buffer).load()
    if not fits_json(value):
        sys.exit(1)
    sys.stdout.buffer.write(encode(value))


def pickler(api_id: str, module: str):  # type: ignore[no-untyped-def]
    """Return what pickles; a class that the task's module defines is the same class in all results of the version."""
    try:
        import cloudpickle
    except ImportError:  # older packages lent none to cells
        import pickle

        return pickle
    names = sys.modules.get(module)
    if names is not None and module != "__main__" and hasattr(cloudpickle, "register_pickle_by_value"):
        cloudpickle.register_pickle_by_value(names)
    known = getattr(sys.modules.get("cloudpickle.cloudpickle"), "_DYNAMIC_CLASS_TRACKER_BY_CLASS", None)
    if known is not None and names is not None:
        defined = [one for one in vars(names).values() if isinstance(one, type)]
        while defined:
            one = defined.pop()
            if one.__module__ == module and one not in known:
                known[one] = "%s.%s" % (api_id, one.__qualname__)
                defined += [inner for inner in vars(one).values() if isinstance(inner, type)]
    return cloudpickle


LARGE = 1 << 17  # elements beyond which plain values are pickled
LONG = 1 << 22  # characters of text beyond which they are
LONG_NUMBER = 14_000  # bits; Python reads 4,300 digits at most


def json_keeps(value: object) -> "bool | None":
    """Whether JSON gives a value back as it is, types included, 64 levels deep at most; None where it is large.

    Looks at a whole level at once, in C.
    """
    level, room, text = [value], LARGE, LONG
    seen = set()  # type: set[int]
    for _ in range(65):
        types = set(map(type, level))
        if not types <= {type(None), bool, int, float, str, list, dict}:
            return False
        numbers = [one for one in level if type(one) is int]
        if numbers and max(max(numbers), -min(numbers)).bit_length() > LONG_NUMBER:  # noqa: PLW3301
            return False
        inner = []  # type: list[object]
        for one in level if types & {list, dict} else ():
            if type(one) is dict:
                if not set(map(type, one)) <= {str}:
                    return False
                text -= sum(map(len, one))
                inner.extend(one.values())
            elif type(one) is list:
                inner.extend(one)
            else:
                continue
            if id(one) in seen:  # there twice: JSON would make two of it
                return False
            seen.add(id(one))
            if len(inner) > room:
                return None
        text -= sum(len(one) for one in level if type(one) is str)
        if text < 0:
            return None
        if not types & {list, dict}:
            return True
        room -= len(inner)
        level = inner
    return False


def fits_json(value: object, room: int = 1 << 24) -> "bool | None":
    """Whether JSON can carry a value, 64 levels deep at most; None where it has more elements than ``room``.

    Looks at a whole level at once, in C: lists may have millions of elements.
    """
    level = [value]
    for _ in range(65):
        types = set(map(type, level))
        dicts = {one for one in types if issubclass(one, dict)}
        lists = {one for one in types if issubclass(one, (list, tuple))}
        if not dicts and not lists:
            return True
        inner = []  # type: list[object]
        for one in level:
            if type(one) in dicts:
                if not all(issubclass(key, str) for key in set(map(type, one))):  # type: ignore[call-overload]
                    return False
                inner.extend(one.values())  # type: ignore[attr-defined]
            elif type(one) in lists:
                inner.extend(one)  # type: ignore[arg-type]
            if len(inner) > room:  # it may contain itself
                return None
        room -= len(inner)
        level = inner
    return False


def private(path: str, how: int = os.O_TRUNC) -> int:
    """Open a file for writing that its owner alone may read, whatever umask the task set."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    os.fchmod(fd, 0o600)
    return fd


class Bounded:
    """A file that holds what is written to it, up to :data:`MAX_EXCEPTION`."""

    def __init__(self) -> None:
        self.pieces = []  # type: list[bytes]
        self.left = MAX_EXCEPTION

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("too large")
        self.pieces.append(bytes(data))
        return len(data)


class Sink:
    """Writes all of what it is given to a file without a buffer, which may take a part at a time."""

    def __init__(self, file) -> None:  # type: ignore[no-untyped-def]
        self.file = file

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.file.write(view) :]


def write(path: str, data, end: bytes = b"", sync: bool = True) -> None:  # type: ignore[no-untyped-def]
    """Write a file whole or not at all: bytes, or what a function writes to the :class:`Sink` that it is given."""
    with open(private(path + ".tmp"), "wb", 0) as file:
        sink = Sink(file)
        try:
            if callable(data):
                data(sink)
            else:
                sink.write(data)
            sink.write(end)
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(path + ".tmp")
            raise
    fault_point("task.result_temporary")
    os.rename(path + ".tmp", path)
    fault_point("task.result_renamed")
