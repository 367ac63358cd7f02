"""What the deploying side does: make requests of files, specifications, cells and callables."""

from __future__ import annotations

import copy
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.contract import KIND, DeployRequest, DeployResult
from taskapi_jupyter.core.errors import BadRequest, printable

from . import advice, api_spec, callables, reading, requirements
from .api_spec import task_source
from .api_spec.sections import plain, wrong
from .search import search_path

__all__ = [
    "Source",
    "add_warnings",
    "free_names",
    "kernel_environ",
    "prepare",
    "requirement_warnings",
    "unmet_requirements",
]

MAX_WARNINGS = 20  # about the text of one API

unmet_requirements = requirements.unmet
requirement_warnings = requirements.warnings


@dataclass(frozen=True)
class Source:
    """The text of a notebook's cell that is to be a task."""

    text: str


def prepare(
    target: Any,
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    cpu: str | float | None = None,
    mem: str | int | None = None,
    gpu: int | None = None,
    timeout: int | None = None,
    run_timeout: int | None = None,
    env: Mapping[str, Any] | None = None,
    function: str | None = None,
    python: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    environ_extra: Iterable[str] = (),
    notebook: str | None = None,
    main: bool = True,
) -> list[DeployRequest]:
    """Return the requests, one an API, that deploy a target.

    ``target`` is the path of a configuration file (or a folder with a ``cortex.yaml``, or a Python file), a
    specification or a list of them as in such a file, a class like ``Task``, a function of ``config`` or of parameters
    that the config fills by their names, or a :class:`Source`. The options override what a single API says: ``cpu`` in
    CPUs or as ``200m``, ``mem`` in bytes or as ``1Gi``; ``timeout`` and ``run_timeout`` are the most seconds that a job
    may take, from its submission and from its start; ``config`` and ``env`` are merged into its own; ``function``
    chooses from a Python file or a cell. ``python``, ``cwd`` and ``environ`` are those of this process by default; a
    file's folder is its ``cwd``; ``environ_extra`` names variables to take along beyond the documented list.
    ``notebook`` is the path of the notebook that deploys; a file deploys by its own. Without ``main`` a callable is
    pickled alone, as 0.1.0 takes it. Raises :class:`BadRequest`.
    """
    folder = os.path.abspath(os.path.expanduser(cwd or os.getcwd()))
    pickled: bytes | None = None
    is_file = isinstance(target, str | os.PathLike)
    if isinstance(target, str | os.PathLike):
        notebook = os.path.abspath(os.path.join(folder, os.path.expanduser(target)))
        apis, folder = _read_file(notebook, name)
    elif isinstance(target, Source):
        if name is None:
            raise BadRequest("a cell needs a name to be deployed under")
        apis = [_api(name, path=_cell_path(api_spec.check_name(name), folder))]
    elif isinstance(target, Mapping | list | tuple):
        apis = api_spec.parse(_named(target, name))
    elif callable(target):
        taken = callables.check(target)
        name = api_spec.check_name(name or callables.name(target))
        apis = [_api(name, python_version="{}.{}".format(*sys.version_info))]
        if taken is not None:
            apis[0]["definition"]["parameters"] = taken
        importable = _importable_from(folder)
        pickled = callables.take_along(target, importable) if main else callables.pickle(target, importable)
    else:
        raise wrong("what is deployed", "a file, a specification, a class Task or a function of config", target)

    options = {
        "name": name,
        "config": config,
        "cpu": cpu,
        "mem": mem,
        "gpu": gpu,
        "timeout": timeout,
        "run_timeout": run_timeout,
        "env": env,
        "function": function,
    }
    given = {key: value for key, value in options.items() if value is not None}
    if given and len(apis) > 1:
        raise BadRequest(f"{', '.join(given)} can be given for one API, and the configuration has {len(apis)}")
    variables = kernel_environ(environ, environ_extra)
    requests = []
    for api in apis:
        changed = _override(api, given)
        if python is not None:
            changed.pop("python", None)
        text = target.text if isinstance(target, Source) else _task_text(changed, folder)
        requests.append(
            DeployRequest(
                spec=changed,
                source=text,
                pickle=pickled,
                python=os.fspath(python) if python is not None else sys.executable,
                cwd=folder,
                environ=variables,
                notebook=notebook,
                sys_path=None if is_file else search_path(folder),
                main=main and pickled is not None,
            )
        )
    return requests


def kernel_environ(environ: Mapping[str, str] | None = None, extra: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of an environment (default: this process's) that a task gets: ``variables.PASSED``."""
    return api_spec.allowed_environ(os.environ if environ is None else environ, extra)


def free_names(text: str) -> list[str]:
    """Return the names that a source uses and neither defines nor imports, in order of their first use."""
    tree = reading.parse(text)
    return [] if tree is None else list(reading.free_names(tree))


def add_warnings(
    results: list[DeployResult],
    target: Any,
    request: DeployRequest,
    *,
    provider: str = "local",
    environ: Mapping[str, str] | None = None,
) -> None:
    """Add to the answer to a request what is to be warned of in the text that it deploys.

    ``target`` is what :func:`prepare` was given; ``provider`` that of the environment; ``environ`` has the variables of
    whoever deploys, this process's by default.
    """
    here = os.environ if environ is None else environ
    absent = advice.absent_variables(request, here, provider)
    warnings = [one for text in _texts(target, request) for one in advice.text_warnings(text, absent, provider)]
    advice.add(results, warnings[:MAX_WARNINGS])


def _texts(target: Any, request: DeployRequest) -> list[advice.Text]:
    """Return the texts that a request deploys; a command has none."""
    if isinstance(target, Source):
        return [advice.Text(target.text, f"cell {request.spec.get('name')}", "cell")]
    if request.source is not None:
        return [advice.Text(request.source, printable(request.spec["definition"]["path"][-60:]), "file")]
    return advice.function_texts(target) if callable(target) else []


def _read_file(target: str, name: str | None) -> tuple[list[dict[str, Any]], str]:
    path = Path(target, "cortex.yaml") if os.path.isdir(target) else Path(target)
    folder = os.path.dirname(os.path.abspath(path))
    if path.suffix == ".py":
        return [_api(api_spec.check_name(name or path.stem), path=path.name)], folder
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror or error}") from None
    try:
        return api_spec.parse(text), folder
    except BadRequest as error:
        raise BadRequest(f"{path}: {error.message}") from None


def _api(name: str, **definition: Any) -> dict[str, Any]:
    return {"name": name, "kind": KIND, "definition": definition}


def _named(target: Any, name: str | None) -> Any:
    return {"name": name, **target} if name is not None and isinstance(target, Mapping) else target


def _cell_path(name: str, folder: str) -> str:
    """Return a path for a cell's text that is no file of the project: the cell may import one of its name."""
    path, number = f"{name}.py", 1
    while os.path.lexists(os.path.join(folder, path)):
        path, number = f"{name}-cell{number}.py", number + 1
    return path


def _task_text(api: Mapping[str, Any], folder: str) -> str | None:
    definition = api.get("definition")
    path = definition.get("path") if isinstance(definition, Mapping) else None
    if not isinstance(path, str) or not path.endswith(".py") or "\0" in path:
        return None  # a pickle is read where it is deployed; what is wrong is said there
    try:
        return task_source.decode(api_spec.read_task(folder, path), path)
    except (task_source.SourceError, BadRequest) as error:
        raise BadRequest(f"{api['name']}: {error}") from None


def _override(api: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an API with the options put in; a section that is malformed is left for the check to come."""
    changed = copy.deepcopy(api)
    for key in ("name", "timeout", "run_timeout"):
        if key in given:
            changed[key] = given[key]
    part = changed
    if changed.get("pod") is not None:
        containers = changed["pod"].get("containers") if isinstance(changed["pod"], dict) else None
        if not given or not isinstance(containers, list) or not containers or not isinstance(containers[0], dict):
            return changed
        part = home = containers[0]
        if "config" in given or "function" in given:
            what = "config: give it to the job" if "config" in given else "function"
            raise BadRequest(f"{changed['name']}: a pod's command has no {what}")
    else:
        home = changed["definition"] = changed.get("definition") or {}
    if isinstance(home, dict):
        for key in ("config", "env"):
            if key in given:
                own = home.get(key) or {}
                home[key] = api_spec.merge(own, _mapping(key, given[key])) if isinstance(own, dict) else own
        if "function" in given:
            home["function"] = given["function"]
    compute = {key: given[key] for key in ("cpu", "mem", "gpu") if key in given}
    if compute and isinstance(part.get("compute") or {}, dict):
        part["compute"] = {**(part.get("compute") or {}), **plain(compute)}
    return changed


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong(key, "a mapping", value)
    result: dict[str, Any] = plain(value, key)
    return result


def _importable_from(folder: str) -> list[str]:
    """Return the folders that a task imports from as well: its own, the kernel's, those of installed packages."""
    installed = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return [folder, *installed, *python_path, *filter(None, search_path(folder))]
