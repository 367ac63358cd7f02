"""Runs a task in its own interpreter; found by path, imports nothing of ours and, before the task, next to nothing.

Imported by a line that its watcher gives the interpreter, so that its compiled form is cached. Arguments: this file's
folder, the API's folder, kind, file, module, attribute, the folder that holds cloudpickle, the path that a project's
file has in the project, then the folders for ``sys.path``.
Must run on any Python 3.8 or newer, since a task's interpreter need not be the one that has this package.
"""

import os
import sys

if "TASKAPI_FAULTS" in os.environ:  # a test's; this file's own folder is first on sys.path only now
    point = __import__("faults").point
    del sys.modules["faults"]
else:

    def point(name: str) -> None:
        """Mark a moment at which dying must lose nothing."""


def main() -> None:
    here, folder, kind, file, module, attribute, cloudpickle, origin, *paths = sys.argv[1:]
    point("task.executed")
    spec = os.environ["TASKAPI_JOB_SPEC"]
    sys.argv[:] = [os.path.join(folder, file)]
    sys.path[0:1] = [folder] + paths
    sys.path.append(os.path.join(here, "task_path"))
    with open(spec, encoding="utf-8") as job:
        config = decode(job.read())["config"]
    out = os.path.join(os.path.dirname(spec), "")
    pid = os.getpid()
    try:
        if kind == "module":
            task = getattr(
                load(module, os.path.join(folder, file), origin) if origin else __import__(module), attribute
            )
        else:
            if kind == "pickle":
                lend(cloudpickle)
            loader = __import__("pickle" if kind == "pickle" else "dill")
            with open(os.path.join(folder, file), "rb") as pickled:
                task = loader.load(pickled)
        if isinstance(task, type):
            task = task()
        point("task.loaded")
        result = task(config)
        point("task.returned")
    except SystemExit as error:
        if error.code not in (None, 0):
            if os.getpid() == pid:
                report(out, "raised", "SystemExit: %s" % (error.code,))
            raise
        result = None
    except BaseException as error:
        failed(out if os.getpid() == pid else None, error)
    if os.getpid() == pid:  # not a child that the task forked and let return
        keep(out, result)
        point("task.kept")


def load(name: str, path: str, origin: str) -> object:
    """Import a project's file from the copy that was deployed, with ``__file__`` where the project has it."""
    from _frozen_importlib_external import SourceFileLoader  # importlib.util would import half the library

    loader = SourceFileLoader(name, path)
    module = sys.modules[name] = type(sys)(name)
    module.__file__ = origin
    module.__loader__ = loader
    exec(loader.get_code(name), module.__dict__)  # type: ignore[arg-type]
    return module


def lend(folder: str) -> None:
    """Make the deploying side's cloudpickle importable where there is none, without the packages beside it."""
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        from importlib.util import module_from_spec, spec_from_file_location

        package = os.path.join(folder, "cloudpickle")
        spec = spec_from_file_location("cloudpickle", os.path.join(package, "__init__.py"))
        module = sys.modules["cloudpickle"] = module_from_spec(spec)  # type: ignore[arg-type]
        module.__path__ = [package]
        spec.loader.exec_module(module)  # type: ignore[union-attr]


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


def report(out: str, word: str, text: str = "") -> None:
    """Tell the watcher how it went, where a result file or the exit code can't."""
    try:
        # Over what its watcher put there, which takes no room on a full disk.
        with open(private(out + "report", 0), "w") as file:
            point("task.reporting")
            file.write(word + "\n" + text.encode("utf-8", "replace").decode("utf-8"))
    except OSError:
        pass
    point("task.reported")


def failed(out: "str | None", error: BaseException) -> None:
    """Print the traceback without our own frames and leave; its last line is the reason, told where ``out`` is."""
    import traceback

    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    try:
        name = type(error).__name__
        told = traceback.format_exception_only(type(error), error)  # a SyntaxError's has more entries, notes too
        reason = " ".join([one for one in told if name in one.partition(":")[0]][-1].split())
    except Exception:  # an exception whose own __str__ raises
        reason = type(error).__name__
    if out is not None:
        report(out, "memory" if isinstance(error, MemoryError) else "raised", reason[:2000])
    try:
        sys.stdout.flush()
        traceback.print_exception(type(error), error, tb)
        sys.stderr.flush()
    except Exception:  # the task may have closed its own streams
        pass
    sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def keep(out: str, result: object) -> None:
    """Store what the task returned: as JSON where that gives the same back, else pickled."""
    try:
        if result is None:
            return write(out + "result.json", b"null", sync=False)
        import json

        try:
            if not plain_keys(result):
                raise TypeError("keys that are not text")
            return write(out + "result.json", json.dumps(result, allow_nan=False).encode("utf-8"))
        except (TypeError, ValueError, RecursionError):
            pass
        try:
            import cloudpickle as pickler
        except ImportError:
            import pickle as pickler
        return write(out + "result.pkl", pickler.dumps(result))
    except Exception as error:  # no disk space, or what a __reduce__ raises: the task is done, its result is lost
        text = "its result (%s) could not be stored: %s" % (type(result).__name__, error)
        report(out, "returned", text[:2000])
        try:
            sys.stderr.write("taskapi: " + text + "\n")
        except Exception:
            pass
    return None


def plain_keys(value: object) -> bool:
    """Say whether all keys in a value are text: JSON would turn others into text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain_keys(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(plain_keys, value))
    return True


def private(path: str, how: int = os.O_TRUNC) -> int:
    """Open a file for writing that its owner alone may read, whatever umask the task set."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def write(path: str, data: bytes, sync: bool = True) -> None:
    """Write a file whole or not at all."""
    with open(private(path + ".tmp"), "wb", 0) as file:
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            os.unlink(path + ".tmp")
            raise
    point("task.result_temporary")
    os.rename(path + ".tmp", path)
    point("task.result_renamed")
