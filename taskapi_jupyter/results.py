"""Loading what a task returned, where it was pickled: nothing of the cell is imported or run for it.

Classes of a cell or a notebook come by value. One that this process has already is used as it is here: cloudpickle
knows those that it pickled before, and a module's that is imported are found by their name.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
from pathlib import Path
from typing import Any

from .errors import ResultNotStored, TaskAPIError

_WRITTEN = re.compile(rb"#taskapi-python=(\d+\.\d+)$")  # behind the pickle's end, where no loader looks
_CLOUDPICKLE = ("cloudpickle.cloudpickle", "cloudpickle.cloudpickle_fast")


def load(data: bytes, job_id: str, modules: Path | None = None) -> Any:
    """Load a pickled result, which runs code: for jobs of your own only.

    ``modules`` is the folder of the API's files, where results of 0.1.0 find the classes of their cell. Raises
    :class:`ResultNotStored` where another minor version of Python pickled it, :class:`TaskAPIError` where it can't be
    loaded for another reason.
    """
    written, here = _WRITTEN.search(data[-40:]), "{}.{}".format(*sys.version_info)
    if written and written[1].decode() != here:
        raise ResultNotStored(
            f"the result of job {job_id} was pickled by Python {written[1].decode()}, and this is Python {here}, which "
            "can't load it: have the task return JSON values, or write a file"
        )
    path = [] if modules is None or written else [str(modules)]
    sys.path += path
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # whatever the pickled objects' own code raises
        raise TaskAPIError(
            f"the result of job {job_id} can't be loaded here: {type(error).__name__}: {error}"
        ) from error
    finally:
        for one in path:
            sys.path.remove(one)


class _Unpickler(pickle.Unpickler):
    """Keeps the classes that this process has."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module in _CLOUDPICKLE:
            if name in ("_make_skeleton_class", "_make_skeleton_enum"):
                return lambda *arguments: _here(name, arguments) or found(*arguments)
            if name == "_class_setstate":
                return lambda cls, state: cls if _named(cls.__module__, cls.__qualname__) is cls else found(cls, state)
        return found


def _here(make: str, arguments: tuple[Any, ...]) -> type | None:
    """Return the class of an imported module that one by value stands for; ``__main__`` differs between processes."""
    is_enum = make == "_make_skeleton_enum"
    module = arguments[4] if is_enum else arguments[3].get("__module__")
    found = None if module == "__main__" else _named(module, arguments[1])
    return found if isinstance(found, type) else None


def _named(module: str | None, name: str) -> Any:
    """Return what a module that is imported has under a name; None where there is nothing."""
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
