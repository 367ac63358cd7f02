"""Load a pickled result or exception. Nothing of the cell is imported or run for it.

Classes of a cell or a notebook are pickled by value. Where this process has the same class, the result gets that one:
cloudpickle recognizes classes that it pickled before, classes of imported modules are found by name, and classes of
this notebook by name if their definition is the same.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import IO, Any

from taskapi_jupyter.core.errors import ResultNotStored, TaskAPIError

#: After the pickle's end, which loaders ignore. Where it names no loader, an older version of this package wrote it.
#: ``values`` is there where it holds values of built-in types alone, which takes no class and no certain Python.
_WRITTEN = re.compile(
    rb"(?:#taskapi-values=(?P<values>\w+))?(?:#taskapi-loader=(?P<loader>\w+))?#taskapi-python=(?P<python>\d+\.\d+)$"
)
_TRACEBACK = re.compile(rb"#taskapi-traceback=(\d{1,9})#taskapi-loader")  # behind an exception, and the text's length
_TAIL = 120  # bytes at the end that contain it
_CLOUDPICKLE = ("cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast")
_MAKERS = ("_make_skeleton_class", "_make_skeleton_enum")
#: Attributes that may differ between two classes of the same definition.
_INCIDENTAL = {
    "__dict__",
    "__weakref__",
    "__dataclass_fields__",
    "__firstlineno__",
    "__static_attributes__",  # in no fixed order
    "__annotate_func__",
    "__slotnames__",
    "_abc_impl",
}
_OF_CODE = ("co_code", "co_names", "co_varnames", "co_freevars", "co_argcount", "co_kwonlyargcount", "co_flags")


class JobTraceback(Exception):
    """The traceback of a job as text: the cause of the exception that the job raised."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""' if self.args else ""


def load_exception(data: bytes) -> BaseException | None:
    """Load what a job raised, which runs code, with its traceback as the cause; None where it can't be loaded here."""
    written, told = _WRITTEN.search(data[-_TAIL:]), _TRACEBACK.search(data[-_TAIL:])
    if written is None or (told is None) or written["python"].decode() != "{}.{}".format(*sys.version_info):
        return None
    end = len(data) - (len(data[-_TAIL:]) - told.start())
    try:
        error = _load(data)
        if isinstance(error, BaseException):
            error.__cause__ = JobTraceback(data[max(end - int(told[1]), 0) : end].decode("utf-8", "replace"))
            return error
    except Exception:  # whatever the pickled objects' own code raises
        pass
    return None


def load(data: bytes, job_id: str, modules: Path | None = None) -> Any:
    """Load a pickled result, which runs code: for jobs of your own only.

    ``modules`` is the folder of the API's files, where results of 0.1.0 find the classes of their cell. Raises
    :class:`ResultNotStored` where another minor version of Python pickled it, :class:`TaskAPIError` where it can't be
    loaded for another reason.
    """
    written, here = _WRITTEN.search(data[-_TAIL:]), "{}.{}".format(*sys.version_info)
    values = written is not None and written["values"] is not None
    if written and not values and written["python"].decode() != here:
        raise ResultNotStored(
            f"the result of job {job_id} was pickled by Python {written['python'].decode()}, and this is Python "
            f"{here}, which can't load it: let the task return JSON values, or write a file"
        )
    path = [] if modules is None or written else [str(modules)]
    sys.path += path
    try:
        if values:
            return _Values(io.BytesIO(data)).load()
        return _load(data)
    except Exception as error:  # whatever the pickled objects' own code raises
        raise TaskAPIError(
            f"the result of job {job_id} can't be loaded here: {type(error).__name__}: {error}"
            + (f" (a pickle for {words(*loader)})" if (loader := loader_in(data)) else "")
        ) from None
    finally:
        for one in path:
            sys.path.remove(one)


def _load(data: bytes) -> Any:
    unpickler = _Unpickler(data, {})
    value = unpickler.load()
    same = {number: ours for number, (cls, ours) in unpickler.ours.items() if _is_same(cls, ours, set())}
    return _Unpickler(data, same).load() if same else value


def notebook_node(text: bytes, job_id: str) -> Any:
    """Return a notebook as a node of nbformat; raise :class:`TaskAPIError` where it can't be read."""
    nbformat = _nbformat()
    try:
        return nbformat.reads(text.decode("utf-8-sig"), nbformat.current_nbformat)
    except Exception as error:  # whatever nbformat raises for what is no notebook
        raise TaskAPIError(f"the notebook of job {job_id} can't be read: {type(error).__name__}: {error}") from None


def _nbformat() -> Any:
    """Import nbformat: in a third of a second instead of two where nothing has imported it yet.

    Most of the time goes into a check of URIs, which notebooks have none of. Whoever imports jsonschema later gets one
    that has it.
    """
    name, before = "rfc3987_syntax", set(sys.modules)
    if not {"jsonschema", name} & before:
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            import_module("nbformat")
        finally:
            for one in set(sys.modules) - before:
                if one == name or one.partition(".")[0] == "jsonschema":
                    del sys.modules[one]
    return import_module("nbformat")


def loader_in(data: bytes) -> tuple[str, str] | None:
    """Return the loader of a pickled result (pickle, cloudpickle) and the Python that wrote it, from its last bytes."""
    written = _WRITTEN.search(data[-_TAIL:])
    return None if written is None else ((written["loader"] or b"cloudpickle").decode(), written["python"].decode())


def end_of(file: IO[bytes]) -> bytes:
    """Return the last bytes of a pickled result, in which it says what it is."""
    file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
    return file.read()


def is_unviewed(end: bytes) -> bool:
    """Whether a pickled result holds plain values whose JSON form, if any, has not been made."""
    written = _WRITTEN.search(end)
    return written is not None and written["values"] == b"unviewed"


def words(loader: str, python: str) -> str:
    """Return a loader in words."""
    return f"Python {python}" + (f" with {loader}" if loader != "pickle" else "")


class _Values(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} among values that take no class")


class _Unpickler(pickle.Unpickler):
    """Uses the classes that this process has. ``known`` has those to use, by cloudpickle's number of a class.

    Afterwards ``ours`` has, by that number, the classes that came by value and this notebook's of the same name.
    """

    def __init__(self, data: bytes, known: Mapping[str, type]) -> None:
        super().__init__(io.BytesIO(data))
        self.known = known
        self.ours: dict[str, tuple[type, type]] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module in _CLOUDPICKLE and name in _MAKERS:
            return lambda *arguments: self._make(found, name == "_make_skeleton_enum", *arguments)
        if module in _CLOUDPICKLE and name == "_class_setstate":
            return lambda cls, state: cls if _named(cls.__module__, cls.__qualname__) is cls else found(cls, state)
        return found

    def _make(self, make: Callable[..., type], is_enum: bool, *arguments: Any) -> type:
        name, number = arguments[1], arguments[-2]
        if number in self.known:
            return self.known[number]
        module = arguments[4] if is_enum else arguments[3].get("__module__")
        here = _named(module, name)
        if module != "__main__" and isinstance(here, type):
            return here
        cls = make(*arguments)
        if isinstance(here, type) and here is not cls:
            self.ours[number] = cls, here
        return cls


def _named(module: str | None, name: str) -> Any:
    """Return what an imported module has under a name; None where it has nothing."""
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_same(one: Any, other: Any, seen: set[int]) -> bool:
    """Whether two classes, functions or values have the same definition."""
    if one is other or id(one) in seen:
        return True
    if type(one) is not type(other) and type(one).__qualname__ != type(other).__qualname__:
        return False
    seen.add(id(one))  # it may contain itself
    if isinstance(one, type):
        mine, its = (
            {name: part for name, part in vars(cls).items() if name not in _INCIDENTAL} for cls in (one, other)
        )
        bases = [[(base.__module__, base.__qualname__) for base in cls.__bases__] for cls in (one, other)]
        return (
            bases[0] == bases[1]
            and mine.keys() == its.keys()
            and all(_is_same(mine[key], its[key], seen) for key in mine)
        )
    if isinstance(one, FunctionType):
        parts = ("__code__", "__defaults__", "__kwdefaults__", "__closure__")
        return all(_is_same(getattr(one, part), getattr(other, part), seen) for part in parts)
    if isinstance(one, CodeType):
        same = all(getattr(one, part) == getattr(other, part) for part in _OF_CODE)
        return same and _is_same(one.co_consts, other.co_consts, seen)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(_is_same(a, b, seen) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(part, other[key], seen) for key, part in one.items())
    for part in ("__func__", "fget", "cell_contents", "__wrapped__", "func"):  # methods, properties, cells, wrappers
        if hasattr(one, part):
            return _is_same(getattr(one, part), getattr(other, part, None), seen)
    try:
        return bool(one == other) or repr(one) == repr(other)
    except Exception:  # whatever its own comparison raises
        return False
