"""The arguments of a decorated function: as values of a job's config, and back in its task."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

from taskapi_jupyter.core.errors import BadRequest, TooLarge, size

from .values import plain

PICKLED = "taskapi.pickle"  # the key of a value that stands for another one
MAX_PICKLED = 1 << 20  # bytes of the pickles of one call
_SHOWN = 60  # characters of a value that are shown in place of its pickle


def encoded(given: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Return arguments as a job's config: what JSON keeps as it is, and pickles of all else.

    Scalars of NumPy become numbers. Raises :class:`BadRequest` that names an argument which can't be pickled, and
    :class:`TooLarge` with the largest where the pickles have more than 1 MiB.
    """
    found, sizes = dict[str, Any](), dict[str, int]()
    for name, value in given.items():
        if _is_number(value) or _is_kept(value):
            found[name] = plain(value, name)
            continue
        data = _pickled(name, value, called)
        sizes[name] = len(data)
        found[name] = {"value": _words(value), PICKLED: base64.b64encode(data).decode()}
    if (total := sum(sizes.values())) > MAX_PICKLED:
        largest = max(sizes, key=sizes.__getitem__)
        raise TooLarge(
            f"{called}: the arguments that JSON has no form for are {size(total)} as pickles, most of it {largest}, "
            f"and a job may have {size(MAX_PICKLED)} of them: save {largest} to a file, and load it in the task"
        )
    return found


def _is_number(value: Any) -> bool:
    """Whether this is a number of NumPy or the like."""
    if not hasattr(value, "dtype") or getattr(value, "shape", None) != ():
        return False
    if getattr(value.dtype, "kind", "") not in ("b", "i", "u", "f"):
        return False
    return bool(math.isfinite(value))


def _is_kept(value: Any) -> bool:
    """Whether JSON gives a value back as it is, types included, and a config takes it."""
    from taskapi_jupyter.worker.harness import json_keeps

    if not json_keeps(value) or (type(value) is dict and PICKLED in value):
        return False
    try:
        plain(value)
    except BadRequest:  # NaN, text that is no Unicode, too deep
        return False
    return True


def _pickled(name: str, value: Any, called: str) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:  # whatever a __reduce__ raises
        raise BadRequest(
            f"{called}: the argument {name}, {_kind(value)}, can't be pickled: {type(error).__name__}: {error}"
        ) from None
    return data


def _words(value: Any) -> str:
    try:
        words = " ".join(repr(value).split()).encode(errors="replace").decode()
    except Exception:  # somebody's own __repr__
        words = _kind(value)
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def decoding(target: Callable[..., Any], takes_config: bool) -> Callable[..., Any]:
    """Return the task of a decorated function, which gets its arguments as :func:`encoded` has made them.

    It is pickled by value, so that a task's interpreter need not have this package; hence its own imports.
    """
    taken = signature(target).parameters
    ahead = [one.name for one in taken.values() if one.kind is Parameter.POSITIONAL_ONLY]
    by_name = takes_config and taken["config"].kind is not Parameter.POSITIONAL_ONLY
    key = PICKLED

    def call(*whole: Any, **given: Any) -> Any:
        given = dict(*whole, **given)
        for name, value in given.items():
            if isinstance(value, dict) and key in value:
                from base64 import b64decode
                from pickle import loads

                given[name] = loads(b64decode(value[key]))  # noqa: S301 - the submitting notebook's own
        if takes_config:
            return target(config=given) if by_name else target(given)
        return target(*[given.pop(name) for name in ahead if name in given], **given)

    return call


def listed(configs: Any) -> Iterator[Any]:
    """Yield configs; raise :class:`BadRequest` where they are no list of any kind."""
    if isinstance(configs, Mapping | str | bytes) or not isinstance(configs, Iterable):
        raise BadRequest(f"configs must be a list of mappings, one for each job, not {_kind(configs)}")
    return iter(configs)


def swept(value: Any) -> list[Any] | None:
    """Return the values to sweep over; None for one that is the same for all jobs."""
    if len(getattr(value, "shape", ())) == 1 and type(value).__name__ == "ndarray":
        found: list[Any] = value.tolist()
        return found
    return list(value) if isinstance(value, list | tuple | range | Iterator) else None
