"""``@taskapi_jupyter.task``: a function that runs here when it is called, and as a job when it is submitted."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import cloudpickle

from taskapi_jupyter.core.errors import APIIDNotFound, APINotDeployed, BadRequest
from taskapi_jupyter.deploy import arguments, callables, pickling
from taskapi_jupyter.deploy.api_spec import parameters

from .headers import notebook_here

if TYPE_CHECKING:
    from .groups.group import Group
    from .job import API, Job
    from .taskapi import TaskAPI

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


@overload
def task(function: Callable[P, R]) -> Task[P, R]: ...
@overload
def task(
    *,
    cpu: float | str | None = None,
    mem: int | str | None = None,
    gpu: int | None = None,
    timeout: int | None = None,
    name: str | None = None,
    env: Mapping[str, Any] | None = None,
    retries: int = 0,
    requirements: str | Sequence[str] | None = None,
    kernel: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[..., Any] | None = None,
    *,
    cpu: float | str | None = None,
    mem: int | str | None = None,
    gpu: int | None = None,
    timeout: int | None = None,
    name: str | None = None,
    env: Mapping[str, Any] | None = None,
    retries: int = 0,
    requirements: str | Sequence[str] | None = None,
    kernel: str | None = None,
) -> Any:
    """Decorate a function, of a notebook or of a module, so that it can be submitted as a job.

    Called, it runs here as ever. It is deployed when it is first used otherwise, and again when it, or what it refers
    to in the notebook, has changed; a job runs the version that was deployed for it. In a job, a decorated function is
    a plain one.

    Parameters
    ----------
    function
        The function; None where there are parentheses after ``task``.
    cpu
        Cores that each job needs, as a number or text such as ``"500m"``; None (default): 1.
    mem
        Memory that each job may use, in bytes or text such as ``"4Gi"``; None (default): no limit.
    gpu
        GPUs that each job needs; None (default) or 0: none.
    timeout
        The most seconds from a job's submission to its end: 1 to 10**9; None (default): no limit.
    name
        The name of the API; None (default): the function's.
    env
        Environment variables of its jobs; None (default): none beside those that all jobs have.
    retries
        How many further attempts there are at most where a job fails, 0 (default) to 100.
    requirements
        What its jobs run with, in an environment of their own: a list such as ``["numpy", "pandas<3"]``, the path of a
        requirements file, or ``"auto"`` for the project's; None (default): in this interpreter.
    kernel
        The name of a kernelspec whose Python runs its jobs, of the same minor version as this one; None
        (default): this interpreter.

    Returns
    -------
    taskapi_jupyter.client.decorator.Task
        The function with ``submit``, ``map``, ``sweep``, ``deploy`` and ``api``.

    Raises
    ------
    BadRequest
        This can't be a task, such as a generator.

    Examples
    --------
    >>> @taskapi_jupyter.task(cpu=2, mem="4Gi")
    ... def train(lr, epochs=3):
    ...     return {"loss": lr * epochs}
    >>> train(0.1)
    {'loss': 0.30000000000000004}
    >>> job = train.submit(lr=0.1)
    >>> job.result()
    {'loss': 0.30000000000000004}
    >>> train.sweep(lr=[0.1, 0.01], epochs=5).results()
    [{'loss': 0.5}, {'loss': 0.05}]
    """
    from .groups.configs import check_attempts

    check_attempts(retries, None, None, None)
    options = {
        "cpu": cpu,
        "mem": mem,
        "gpu": gpu,
        "timeout": timeout,
        "env": env,
        "requirements": requirements,
        "kernel": kernel,
    }
    given = {key: value for key, value in options.items() if value is not None}

    def decorate(one: Callable[..., Any]) -> Task[Any, Any]:
        return Task(one, name, given, retries)

    return decorate if function is None else decorate(function)


class Task(callables.Decorated, Generic[P, R]):
    """A function that :func:`task` has decorated: called, it runs here.

    Arguments of a job are values that JSON keeps as they are; NumPy's scalars become numbers of Python; all others
    are pickled, at most 1 MiB for a job.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], name: str | None, options: dict[str, Any], retries: int) -> None:
        if isinstance(function, Task) or inspect.isclass(function) or not callable(function):
            raise BadRequest(f"task is a decorator of functions, not of a {type(function).__name__}")
        self.taken = callables.check(function)  # before there is anything of it
        functools.update_wrapper(self, function)
        self.name = name or callables.name(function)
        self.options, self.retries = options, retries
        self._lock = threading.Lock()
        self._deployed: dict[TaskAPI, tuple[str, str | None]] = {}  # content and version, by connection

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Submit a job that calls the function with these arguments, and return it.

        A :class:`Job` as an argument means its result, which must be JSON: the new job waits until that one has
        succeeded. Raises :class:`BadRequest` for arguments that the function does not take, before anything is
        deployed.
        """
        from .chains import apart

        given, jobs = apart(self._bound(args, kwargs))
        config = {**self._config(given or {}), **jobs}
        return self._using(
            lambda api, name, version: api.submit(name, config, api_id=version, retries=self.retries or None)
        )

    def map(self, configs: Iterable[Mapping[str, Any]], **options: Any) -> Group:
        """Submit one job for each of several mappings of arguments, all or none, as a group.

        Parameters
        ----------
        configs
            The arguments of each job by their names: at most 100,000; a generator is read once.
        **options
            Those of :meth:`TaskAPI.map`, such as ``name`` and ``max_running``.
        """
        found = []
        for index, one in enumerate(arguments.listed(configs)):
            try:
                if not isinstance(one, Mapping):
                    raise BadRequest(f"{repr(one)[:60]} is not a mapping of arguments by their names")
                found.append(self._config(self._bound((), one)))
            except BadRequest as error:
                raise type(error)(f"config {index}: {error}") from None
        if not found:
            raise BadRequest("no configs: a group has at least one job")
        return self._group(found, options)

    def sweep(self, **values: Any) -> Group:
        """Submit a job for each combination of the values of some lists, as a group; the last list varies fastest.

        Lists, tuples, ranges, iterators and one-dimensional arrays are swept; all else is the same for all jobs. A list
        that is one value stands in a list: ``layers=[[64, 64]]``. For a name or a limit on what runs at the same time:
        ``train.map(taskapi_jupyter.grid(lr=[0.1, 0.01]), name="rates", max_running=2)``.

        Examples
        --------
        >>> train.sweep(lr=[0.1, 0.01], seed=1)
        """
        from .groups.configs import expand

        lists = {key: some for key, value in values.items() if (some := arguments.swept(value)) is not None}
        fixed = {key: value for key, value in values.items() if key not in lists}
        first = [*expand({key: some[:1] for key, some in lists.items()}, fixed)]
        self._bound((), first[0])  # all have these names
        encoded = {key: [*self._encoded(key, some)] for key, some in lists.items()}
        alone = {key: next(self._encoded(key, [value])) for key, value in fixed.items()}
        return self._group(expand(encoded, alone), {})

    def deploy(self) -> API:
        """Deploy the function as it is now, and return its API. Using it otherwise does so where it has changed."""
        self._deployed.clear()
        return self.api

    @property
    def api(self) -> API:
        """The API that it is deployed as: ``name``, ``endpoint``, its newest jobs."""
        return self._using(lambda api, name, version: api.get(name))

    def __repr__(self) -> str:
        return f"<task {self.__wrapped__.__qualname__}{inspect.signature(self.__wrapped__)}>"

    # Arguments

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments by their names; raise :class:`BadRequest` where the function does not take them."""
        if self.takes_config:  # which is all of what a job is given
            if not args and [*kwargs] == ["config"] and isinstance(kwargs["config"], Mapping):
                return dict(kwargs["config"])
            if len(args) > 1 or (args and (kwargs or not isinstance(args[0], Mapping))):
                raise BadRequest(f"{self._called} takes config, a mapping of names to values")
            return dict(args[0]) if args else dict(kwargs)
        signature = inspect.signature(self.__wrapped__)
        if not args and self.taken is not None and (wrong := parameters.complaint(self.taken, kwargs)):
            raise BadRequest(f"{self._called}: {wrong}")
        first = [one.name for one in signature.parameters.values() if one.kind is one.POSITIONAL_ONLY]
        try:
            ahead = () if args else tuple(kwargs[key] for key in first if key in kwargs)
            rest = kwargs if args else {key: value for key, value in kwargs.items() if key not in first}
            given = signature.bind(*args, *ahead, **rest).arguments
        except TypeError as error:
            raise BadRequest(f"{self._called}: {error}") from None
        found: dict[str, Any] = {}
        for key, value in given.items():
            kind = signature.parameters[key].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                raise BadRequest(f"{self._called} takes *{key}, which have no names in a job's config: take a list")
            found |= value if kind is inspect.Parameter.VAR_KEYWORD else {key: value}
        return found

    def _config(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as a job's config has them."""
        return arguments.encoded(given, self._called)

    def _encoded(self, key: str, some: Iterable[Any]) -> Iterator[Any]:
        return (arguments.encoded({key: one}, self._called)[key] for one in some)

    @property
    def _called(self) -> str:
        return callables.name(self.__wrapped__) or self.name or "the task"

    # Deploys

    def _connect(self) -> TaskAPI:
        # Imported by name: environments is a layer above.
        found: TaskAPI = import_module("taskapi_jupyter.environments").CONNECTIONS.get()
        return found

    def _group(self, configs: list[dict[str, Any]], options: dict[str, Any]) -> Group:
        options = {"retries": self.retries or None, **options}
        return self._using(lambda api, name, version: api.map(name, configs, **{"api_id": version, **options}))

    def _using(self, do: Callable[[TaskAPI, str, str | None], S]) -> S:
        """Do something with the deployed API; once more where somebody deletes it just then, or has done so."""
        api = self._connect()
        for again in (True, False):
            with self._lock:
                name, version = self._ready(api)
            try:
                return do(api, name, version)
            except (APINotDeployed, APIIDNotFound):
                self._deployed.pop(api, None)
                if not again:
                    raise
        raise AssertionError

    def _ready(self, api: TaskAPI) -> tuple[str, str | None]:
        """Return the name and the version that a job runs, once that is deployed."""
        known, content = self._deployed.get(api), self._content()
        if known is None or known[0] != content:
            (result,) = api.deploy(self, notebook=notebook_here())
            for warning in result.warnings or ():
                print(f"taskapi: warning: {warning}", file=sys.stderr)  # noqa: T201
            spec = result.api.spec if result.api else {}
            known = self._deployed[api] = content, None if api.lacks("api_id") else spec.get("id")
        assert self.name is not None  # without one, the deploy has raised
        return self.name, known[1]

    def _content(self) -> str:
        """Return what changes whenever the task, or what it needs, does."""
        import msgspec

        from taskapi_jupyter.deploy.prepare import DeployOptions, of_files, prepare

        (request,) = prepare(self, DeployOptions(unused=False))
        return hashlib.sha256(msgspec.msgpack.encode((request, of_files(request)))).hexdigest()

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__wrapped__.__qualname__  # of its module


def _by_value(one: Task[Any, Any]) -> str | tuple[Any, ...]:
    """Reduce a function of a notebook for other processes of cloudpickle's users, such as joblib's."""
    if pickling.importable_by_name(one):
        return one.__reduce__()
    return Task, (one.__wrapped__, one.name, one.options, one.retries)


cloudpickle.Pickler.dispatch_table[Task] = _by_value
