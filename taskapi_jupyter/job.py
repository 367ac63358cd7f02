"""Inside a task: ``from taskapi_jupyter.job import metric, progress``, in a notebook ``glue`` too.

Standard library only, for Python 3.8 too.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import math
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

_EVERY = 0.1  # seconds between two writes of progress, at least
_METRICS_EVERY = 0.25  # the same of metrics
_LONGEST = 64  # characters of a metric's name
_LAST = 20  # names whose last values a job shows
_MOST = 10_000_000  # bytes of metrics.jsonl
_FEW = 1000  # a name with so many points, or fewer, keeps them while others have more
_HEAD = 1 << 16  # bytes of the first line of a file that was thinned, at most
_WAITING = 50_000  # values that wait to be written, at most
_PATIENCE = 1.0  # seconds for which a process waits while another one writes
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Report how far the task is, for the progress bars of everyone who watches the job.

    Cheap enough for an inner loop: it writes at most ten times a second, and always the last value. Outside a job it
    checks its arguments and does nothing else. A disk without room is no error.

    Parameters
    ----------
    done
        How much is done, in any unit: a finite number.
    total
        How much there is to do, in the same unit: a finite number. None (default): unknown; then there is no
        percentage.
    message
        What the task is doing, shown beside the bar: its first 500 characters. None (default): nothing.

    Raises
    ------
    TypeError
        ``done`` or ``total`` is not a number, or ``message`` is not text.
    ValueError
        ``done`` or ``total`` is infinite or NaN.

    Examples
    --------
    >>> from taskapi_jupyter.job import progress
    >>> for epoch in range(50):
    ...     progress(epoch, 50, f"epoch {epoch}")
    """
    if message is not None and not isinstance(message, str):
        raise TypeError(f"message must be text, not {type(message).__name__}")
    value = {
        "done": _number("done", done),
        "total": None if total is None else _number("total", total),
        "message": None if message is None else message[:500].encode("utf-8", "replace").decode("utf-8"),
    }
    if in_notebook := os.environ.get("TASKAPI_PROGRESS"):  # what runs its cells adds it to what it says itself
        _progress.put(value, in_notebook)
    elif job_spec := os.environ.get("TASKAPI_JOB_SPEC"):
        _progress.put(value, os.path.join(os.path.dirname(job_spec), "progress.json"))


def metric(*, step: float | None = None, **values: float) -> None:
    """Record numbers that change while the task runs, such as a loss: a point of each, for charts and comparisons.

    Cheap enough for an inner loop: points are written a few times a second, and always at the end. Several threads and
    processes of a job may record. Outside a job it checks its arguments and does nothing else. A disk without room is
    no error. Of more than 10 MB of points, every second one of each name is kept, then every fourth, and so on; the log
    says so.

    Parameters
    ----------
    step
        The place on the horizontal axis, such as the number of an epoch: a finite number. None (default): how many
        times this process has called ``metric``, with this call.
    **values
        Finite numbers by their names, at least one; those of NumPy and PyTorch are numbers, too. A name has 1 to 64
        printable characters, as in ``metric(**{"val/loss": 0.3})``. A job shows the last values of its first 20 names.

    Raises
    ------
    TypeError
        A value or ``step`` is not a number, or there is no value.
    ValueError
        A value or ``step`` is infinite or NaN, or a name is too long or can't be printed.

    Examples
    --------
    >>> from taskapi_jupyter.job import metric
    >>> for epoch in range(50):
    ...     metric(loss=0.3, accuracy=0.9, step=epoch)
    """
    if not values:
        raise TypeError("metric() needs at least one value by its name, as in metric(loss=0.3)")
    if step is not None and not (type(step) is int and 0 <= step < 1 << 53):
        number = _number("step", step)
        step = number if abs(number) < 1 << 53 else float(number)
    checked = []
    for name, value in values.items():
        if name not in _names:
            _names[name] = _checked_name(name)
        # Most values are floats, and a finite one less itself is 0: only others need a closer look.
        checked.append((name, value if type(value) is float and value - value == 0 else float(_number(name, value))))
    if job_spec := os.environ.get("TASKAPI_JOB_SPEC"):
        _metrics.put(step, checked, os.path.dirname(job_spec))


def glue(name: str, value: Any) -> None:
    """Store a value in the notebook that is executed, as a part of its job's result.

    The result of a notebook's job is a dictionary of all that its cells glued, ``{}`` where nothing was. The value is
    stored as an output of the cell in scrapbook's format, so ``scrapbook.read_notebook(...).scraps`` finds it as well.
    Outside a job, in a notebook that somebody works in, it does the same and nothing else.

    Parameters
    ----------
    name
        The value's name in the result: text that is not empty. Of two values of one name the later one counts.
    value
        None, a bool, int, float or str, or a list, tuple or dict of these with text as keys, as JSON has them: a tuple
        comes back as a list. Of an array, give ``array.tolist()``; larger data belongs in a file of the job's.

    Raises
    ------
    TypeError
        ``name`` is not text, or ``value`` holds something of another type; the message says where.
    ValueError
        ``name`` is empty, or ``value`` holds a float that is infinite or NaN.
    RuntimeError
        This is no notebook's cell. A task that is a function returns its result instead.

    Examples
    --------
    >>> from taskapi_jupyter.job import glue
    >>> glue("accuracy", 0.93)  # doctest: +SKIP
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {type(name).__name__}")
    if not name:
        raise ValueError("name must not be empty")
    data = _plain(value, f"the value of {name!r}")
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        raise RuntimeError("glue() works in a notebook's cell; a task that is a function returns its result")
    from IPython.display import display

    scrap = {"name": name, "data": data, "encoder": "json", "version": 1}
    about = {"scrapbook": {"name": name, "data": True, "display": False}}
    display({"application/scrapbook.scrap.json+json": scrap}, metadata=about, raw=True)


def _plain(value: Any, where: str) -> Any:
    """Return a value as JSON gives it back; ``where`` says in messages which it is."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} must be finite, not {value}")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{where}[{at}]") for at, one in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has a key that is no text: {key!r}")
        return {key: _plain(one, f"{where}[{key!r}]") for key, one in value.items()}
    kind = f"{type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    raise TypeError(f"{where} must be None, bool, int, float, str, list or dict, not {kind}")


class _Writer:
    """Writes what waits: not more often than each ``every`` seconds, and always what came last."""

    every = _EVERY

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler that interrupts progress() may call it
        self.last = -math.inf  # when it last wrote
        self.timer: threading.Timer | None = None
        self.registered = False

    def soon(self, at_once: bool) -> None:
        """Write, with the lock held: at once, or else ``every`` seconds after the last time."""
        if not self.registered:
            self.registered = True
            atexit.register(self.flush)
            ipython = sys.modules.get("IPython")
            if shell := ipython and ipython.get_ipython():  # a notebook's cell that fails has its kernel killed
                shell.events.register("post_execute", self.flush)
            if "multiprocessing.util" in sys.modules:  # its forked children exit without atexit's functions
                sys.modules["multiprocessing.util"].Finalize(None, self.flush, exitpriority=0)
        wait = self.last + self.every - time.monotonic()
        if at_once or wait <= 0:
            self.flush()
        elif self.timer is None:
            self._later(wait)

    def flush(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = None
            self.write()

    def write(self) -> None:
        raise NotImplementedError

    def _tick(self) -> None:
        with self.lock:
            if threading.current_thread() is self.timer:  # else it was cancelled too late
                self.flush()

    def _later(self, seconds: float) -> None:
        self.timer = threading.Timer(seconds, self._tick)
        self.timer.daemon = True
        try:
            self.timer.start()
        except RuntimeError:  # no more threads, or the interpreter is exiting
            self.flush()


class _Progress(_Writer):
    """Keeps the last value in ``progress.json``."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: tuple[dict[str, Any], str] | None = None

    def put(self, value: dict[str, Any], path: str) -> None:
        with self.lock:
            self.waiting = (value, path)
            self.soon(value["done"] == value["total"])

    def write(self) -> None:
        if self.waiting is not None:
            (value, path), self.waiting = self.waiting, None
            self.last = time.monotonic()
            _write(path, json.dumps(value))


class _Metrics(_Writer):
    """Appends points to ``metrics.jsonl``, and keeps the last values in ``metrics.json``.

    A line is a point: name, step, seconds since the epoch, value. Who writes holds a lock on the file. Readers go on by
    an offset into all that was ever appended, which thinning must not change. So a file that was thinned begins with a
    line that says how much had been appended (``written``), how many bytes are left of that (``kept``), and which point
    of which name is kept from then on (``every``); each line that is left ends with its old offset.
    """

    every = _METRICS_EVERY

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.folder = ""
        self.waiting: list[tuple[str, float, float, float]] = []
        self.writing = False
        self.seen: Counter[str] = Counter()  # how many points each name has had

    def put(self, step: float | None, values: list[tuple[str, float]], folder: str) -> None:
        with self.lock:
            self.calls += 1
            self.folder = folder
            now = time.time()
            for name, value in values:
                self.waiting.append((name, self.calls if step is None else step, now, value))
            if self.timer is None or len(self.waiting) >= _WAITING:
                self.soon(len(self.waiting) >= _WAITING)

    def write(self) -> None:
        if self.writing or not self.waiting:  # a signal handler may have interrupted this very method
            return
        self.writing = True
        points, self.waiting = self.waiting, []
        try:
            self._append(points)
        except BlockingIOError:  # another process is slow: they are written the next time
            self.waiting = [*points, *self.waiting][-_WAITING:]
        except OSError:
            pass  # a full disk must not end the task because of a chart
        finally:
            self.last = time.monotonic()
            self.writing = False

    def _append(self, points: list[tuple[str, float, float, float]]) -> None:
        path = os.path.join(self.folder, "metrics.jsonl")
        fd = _lock(path)
        try:
            data = self._lines(points, _head(os.pread(fd, _HEAD, 0)).get("every", {}))
            if os.fstat(fd).st_size + len(data) > _MOST:
                old, fd = fd, _thin(path)
                _unlock(old)
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, data[: data.rfind(b"\n", 0, max(_MOST - size, 0)) + 1])
            except OSError:
                os.ftruncate(fd, size)  # no half a line, which the next one would continue
                raise
            self._keep_last(points)
        finally:
            _unlock(fd)

    def _lines(self, points: list[tuple[str, float, float, float]], every: dict[str, int]) -> bytes:
        lines = []
        for name, step, when, value in points:
            if name not in every or self.seen[name] % every[name] == 0:
                lines.append(f"[{_names[name]}, {step!r}, {when:.3f}, {value!r}]\n")
            self.seen[name] += 1
        return "".join(lines).encode()

    def _keep_last(self, points: list[tuple[str, float, float, float]]) -> None:
        path = os.path.join(self.folder, "metrics.json")
        last: dict[str, float] = {}
        try:
            with open(path, encoding="utf-8") as file:
                last.update(json.load(file))
        except (OSError, ValueError, TypeError):
            pass
        for name, _, _, value in points:
            if name in last or len(last) < _LAST:
                last[name] = value
        _write(path, json.dumps(last))


def _lock(path: str) -> int:
    """Open a file to append to it, and lock it; raise BlockingIOError where another process holds it for too long."""
    until = time.monotonic() + _PATIENCE
    while True:
        fd = os.open(path, _APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(fd)):  # else another process has just replaced it
                os.fchmod(fd, 0o600)  # whatever umask the task set
                return fd
            os.close(fd)
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() > until:
                raise
            time.sleep(0.001)
        except BaseException:
            os.close(fd)
            raise


def _unlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)  # a process that was forked meanwhile may have it open, too
    os.close(fd)


def _head(data: bytes) -> dict[str, Any]:
    """Return the first line of a file that was thinned, {} of any other."""
    try:
        return dict(json.loads(data.partition(b"\n")[0])) if data.startswith(b"{") else {}
    except (ValueError, TypeError):  # the task wrote there itself
        return {}


def _thin(path: str) -> int:
    """Leave out every second point of each name that has many; return the new file, locked as the old one is."""
    with open(path, "rb") as file:
        data = file.read(2 * _MOST)
    head = _head(data)
    begin = data.find(b"\n") + 1 if head else 0
    kept, every, written = head.get("kept", 0), head.get("every", {}), head.get("written", 0)
    points, at = [], -kept  # at: from where the appended part begins
    for line in data[begin:].splitlines(True):
        try:
            points.append((json.loads(line)[0], line if at < 0 else line[:-2] + b", %d]\n" % (written + at)))
        except (ValueError, TypeError, LookupError):  # not ours
            pass
        at += len(line)
    counts = Counter(name for name, _ in points)
    left: list[bytes] = []
    for few in (_FEW, 1):
        seen: Counter[str] = Counter()
        left = []
        for name, line in points:
            if counts[name] <= few or seen[name] % 2 == 0:
                left.append(line)
            seen[name] += 1
        if sum(map(len, left)) < _MOST * 3 // 4:
            break
    else:  # more names than points of each
        left = left[len(left) // 2 :]
    every = {**every, **{name: 2 * every.get(name, 1) for name in counts if counts[name] > few}}
    if len(json.dumps(every)) > _HEAD // 2:
        every = {}
    body = b"".join(left)
    first = json.dumps({"written": written + max(at, 0), "kept": len(body), "every": every})
    fd = os.open(f"{path}.{os.getpid()}", _APPEND | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _write_all(fd, f"{first}\n".encode() + body)
        os.replace(f"{path}.{os.getpid()}", path)
    except BaseException:
        os.close(fd)
        os.unlink(f"{path}.{os.getpid()}")
        raise
    try:
        most = max(every.values(), default=2)
        print(f"taskapi: metrics fill 10 MB: one point in {most} is kept from now on", file=sys.stderr, flush=True)  # noqa: T201
    except (OSError, ValueError):  # closed
        pass
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}.{id(text)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever umask the task set
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        pass  # a full disk must not end the task because of a progress bar


def _number(name: str, value: Any) -> float:
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    number = math.inf if isinstance(value, int) and abs(value) > 1e300 else float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {number}")
    return int(number) if number.is_integer() else number


def _checked_name(name: str) -> str:
    """Return a metric's name as JSON."""
    if not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise ValueError(f"a metric's name must have 1 to {_LONGEST} printable characters: {name[:80]!a}")
    return json.dumps(name)


_names: dict[str, str] = {}  # as JSON
_progress, _metrics = _Progress(), _Metrics()
# A forked child may inherit a locked lock, and has no thread of the timer.
os.register_at_fork(after_in_child=_progress.__init__)  # type: ignore[misc]
os.register_at_fork(after_in_child=_metrics.__init__)  # type: ignore[misc]
