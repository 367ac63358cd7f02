"""A call as a job: the function as a task, its arguments as a config, and errors that name what can't go along."""

from __future__ import annotations

import base64
import functools
import hashlib
import inspect
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core.contract import DeployResult, encode
from taskapi_jupyter.core.errors import BadRequest, TooLarge, size
from taskapi_jupyter.deploy import pickling
from taskapi_jupyter.deploy.pickle_size import pickled_size, too_large
from taskapi_jupyter.deploy.prepare import DeployOptions, prepare
from taskapi_jupyter.worker.harness import OURS, json_keeps

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import TaskAPI

MAX_CALL = 1 << 20  # bytes of the arguments of one call, as JSON or pickled
LONGEST_NAME = 63  # characters of an API's name


class Call:
    """A function that was pickled, to be called by jobs with different arguments.

    ``request`` deploys it, and ``key`` tells its content from others'.
    """

    def __init__(self, function: Callable[..., Any], executor: str, options: Mapping[str, Any]) -> None:
        if not callable(function):
            raise TypeError(f"an executor calls functions, and {function!r:.80} is none")
        label = name_of(function)
        self._named, self._function = label, function
        api = f"{executor}-{re.sub(r'[^A-Za-z0-9_]', '', label) or 'task'}"[:LONGEST_NAME]
        task = _as_task(function, label)
        (self.request,) = prepare(task, DeployOptions(name=api, transient=True, **options))
        self.key = hashlib.sha256(encode(self.request)).digest()
        self.api = api

    def deploy(self, tasks: TaskAPI) -> list[DeployResult]:
        """Deploy it."""
        try:
            return tasks.deploy_request(self.request)
        except TooLarge as error:
            raise TooLarge(too_large(error.message, self._function)) from None

    def config(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the config of a job that calls it; raise :class:`BadRequest` for arguments that can't go along."""
        given = [list(args), kwargs]
        if json_keeps(given):
            try:
                length = len(json.dumps(given, allow_nan=False, ensure_ascii=False).encode())
            except ValueError:  # NaN, an infinity, half of a surrogate pair
                pass
            else:
                if length > MAX_CALL:
                    raise self._too_large(args, kwargs)
                return {"args": given[0], "kwargs": kwargs}
        file = _Bounded()
        try:
            pickling.pickle_argument((args, kwargs), file)
        except _TooLarge:
            raise self._too_large(args, kwargs) from None
        except Exception as error:  # whatever a __reduce__ or a __getstate__ raises
            raise self._not_pickled(args, kwargs, error) from error
        return {"call": base64.b64encode(file.getvalue()).decode()}

    def _not_pickled(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> BadRequest:
        which = "the arguments"
        for name, value in self._arguments(args, kwargs):
            try:
                pickling.pickle_argument(value, _Bounded())
            except _TooLarge:
                continue
            except Exception as its:
                which, error = f"argument {name}", its
                break
        return BadRequest(f"{which} of {self._named} can't be pickled: {type(error).__name__}: {error}")

    def _too_large(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TooLarge:
        count, name = max((pickled_size(value), name) for name, value in self._arguments(args, kwargs))
        what = f"argument {name} of {self._named} has {size(count)} when pickled"
        if count <= MAX_CALL:
            what = (
                f"the arguments of {self._named} have more than {size(MAX_CALL)} together, most of it argument {name}"
            )
        return TooLarge(
            f"{what}; those of one call have at most {size(MAX_CALL)}: save it to a file and pass the file's path"
        )

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the arguments with the names that they have in the function; the others are counted from 1."""
        try:
            kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            named = [one.name for one in inspect.signature(self._function).parameters.values() if one.kind in kinds]
        except (TypeError, ValueError):  # of C, which tells nothing
            named = []
        for number, value in enumerate(args):
            yield named[number] if number < len(named) else str(number + 1), value
        yield from kwargs.items()


def chunked(function: Callable[..., Any]) -> Any:
    """Return what calls a function with each of some lists of arguments, and returns all results."""

    def call(calls: list[list[Any]]) -> list[Any]:
        return [function(*args) for args in calls]

    return _ours(call, function, name_of(function))


def name_of(function: Any) -> str:
    """Return what a function is called in sentences and, as far as possible, in the name of its API."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _as_task(function: Callable[..., Any], name: str) -> Any:
    """Return the task that calls a function with what a config holds. It imports nothing of this package."""

    def call(config: dict[str, Any]) -> Any:
        if "call" in config:
            from base64 import b64decode
            from pickle import loads

            args, kwargs = loads(b64decode(config["call"]))  # noqa: S301 - in the job
        else:
            args, kwargs = config["args"], config["kwargs"]
        return function(*args, **kwargs)

    return _ours(call, function, name)


def _ours(call: Any, function: Any, name: str) -> Any:
    """Have a call go along by value, and without a line in tracebacks; ``func`` is where its modules are looked for."""
    call.__code__ = call.__code__.replace(co_filename=OURS)
    call.__name__, call.func = name, function
    return call


class _TooLarge(Exception):
    pass


class _Bounded(io.BytesIO):
    """A file that takes as many bytes as a call may have."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        if self.tell() > MAX_CALL:
            raise _TooLarge
        return written
