"""``prepare`` makes the requests that deploy a file, a specification, a cell or a callable."""

from __future__ import annotations

import copy
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.contract import KIND, DeployRequest, DeployResult
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.nesting import merge

from . import callables, notebook
from .api_spec import task_source
from .api_spec.build import check_name, parse
from .api_spec.sections import plain, wrong
from .api_spec.shapes import OF_NOTEBOOKS, read_task
from .api_spec.variables import allowed_environ, build_environ
from .packages import AUTO, BLOCK, NONE
from .sys_path import kernel_sys_path

_OF_PACKAGES = ("requirements", "python_version", "script_metadata")
_OF_DEFINITION = ("config", "function", "kernel", "warm", *OF_NOTEBOOKS, *_OF_PACKAGES)
_OVERRIDES = ("name", "cpu", "mem", "gpu", "timeout", "run_timeout", "env", *_OF_DEFINITION)


@dataclass(frozen=True)
class Source:
    """The text of a notebook's cell, to be deployed as a task."""

    text: str


@dataclass(frozen=True)
class DeployOptions:
    """The options of :meth:`TaskAPI.deploy`; those down to ``warm`` override what a single API says."""

    name: str | None = None  # of the API; default: that of the callable or of the Python file
    config: Mapping[str, Any] | None = None  # merged into the API's own
    cpu: str | float | None = None  # CPUs, as a number or as "200m"
    mem: str | int | None = None  # bytes, as a number or as "1Gi"
    gpu: int | None = None
    timeout: int | None = None  # seconds from a job's submission
    run_timeout: int | None = None  # seconds from a job's start
    env: Mapping[str, Any] | None = None  # merged into the API's own
    function: str | None = None  # which one of a Python file or a cell is the task
    kernel: str | None = None  # the name of a kernelspec: its Python runs the task, or it runs the notebook
    cell_timeout: int | None = None  # this one, to `allow_unknown`, are of a notebook: seconds that a cell may take
    startup_timeout: int | None = None  # seconds within which its kernel must be ready
    keep_kernel: int | str | None = None  # for how long its kernel is kept where a cell fails: seconds, or "30m"
    outputs: list[str] | None = None  # further forms to save the notebook in: ["html"]
    allow_unknown: bool | None = None  # whether a job may have parameters that it does not assign
    warm: bool | str | list[str] | Mapping[str, Any] | None = None  # `definition.warm`, or modules; True: auto
    requirements: str | Sequence[str] | None = None  # a file, "auto", "none", or requirements: of an environment
    python_version: str | None = None  # of that environment, such as "3.12"
    script_metadata: bool | None = None  # False: a PEP 723 block in the task's text is ignored
    upgrade: bool = False  # resolves the requirements anew
    python: str | None = None  # the task's interpreter; default: this process's
    cwd: str | os.PathLike[str] | None = None  # default: this process's; a file's folder is its own
    environ: Mapping[str, str] | None = None  # to choose the task's variables from; default: this process's
    environ_extra: Iterable[str] = ()  # names or patterns (MY_*) of variables beyond the documented list
    notebook: str | None = None  # path of the notebook that deploys; a file deploys by its own
    transient: bool = False  # whether the API is deleted with its last job
    dry_run: bool = False  # whether only to say what a deploy would do
    main: bool = True  # whether a callable takes along the notebook's functions; servers of 0.1.0 take it alone
    unused: bool = True  # those, too, that it does not refer to


@dataclass
class _Found:
    """The APIs of a target, with what their tasks need."""

    apis: list[dict[str, Any]]
    folder: str
    notebook: str | None = None
    pickle: bytes | None = None
    sys_path: list[str] | None = None


def prepare(target: Any, options: DeployOptions = DeployOptions()) -> list[DeployRequest]:
    """Return the requests, one for each API, that deploy a target.

    ``target`` is the path of a configuration file, of a folder with a ``cortex.yaml`` or of a Python file; a
    specification, or a list of them, as such a file has it; a class like ``Task``; a function of ``config``, or of
    parameters that the config fills by name; or a :class:`Source`. Raises :class:`BadRequest`.
    """
    if isinstance(target, callables.Decorated):
        own = {"name": target.name, **target.options}
        options = replace(options, **{key: one for key, one in own.items() if getattr(options, key) is None})
    found = _find(target, options)
    given = {key: value for key in _OVERRIDES if (value := getattr(options, key)) is not None}
    if given and len(found.apis) > 1:
        raise BadRequest(
            f"{', '.join(given)} can be given for a single API, and the configuration has {len(found.apis)}"
        )
    environ = os.environ if options.environ is None else options.environ
    variables = allowed_environ(environ, options.environ_extra)
    requests = []
    for api in found.apis:
        changed = _override(api, given)
        if isinstance(definition := changed.get("definition"), dict) and "requirements" in given:
            here = os.path.abspath(os.path.expanduser(options.cwd or os.getcwd()))
            definition["requirements"] = _requirements(given["requirements"], here, found.folder)
        _check_pickled(found.pickle, options.python_version)
        text = target.text if isinstance(target, Source) else _task_text(changed, found.folder)
        if options.python is not None:
            changed["python"] = os.fspath(options.python)
        requests.append(
            DeployRequest(
                spec=changed,
                source=text,
                pickle=found.pickle,
                python=os.fspath(options.python or sys.executable),
                cwd=found.folder,
                environ=variables,
                build_environ=build_environ(environ) if asks_for_packages(changed, text) else None,
                upgrade=options.upgrade,
                notebook=found.notebook,
                sys_path=found.sys_path,
                main=options.main and found.pickle is not None,
                transient=options.transient,
                dry_run=options.dry_run,
                name_from_file=options.name is None
                and found.notebook is not None
                and notebook.is_notebook(found.notebook),
            )
        )
    return requests


def asks_for_packages(api: Mapping[str, Any], text: str | None = None) -> bool:
    """Whether a task is to run in an environment of its own; ``text`` may have a block that says so.

    The ``python_version`` of a callable, which has no path, is the one that pickled it.
    """
    definition = api.get("definition")
    given = definition if isinstance(definition, Mapping) else {}
    is_text = str(given.get("path") or "").endswith((".py", notebook.ENDING))
    if given.get("requirements") not in (None, NONE) or (given.get("python_version") is not None and is_text):
        return True
    return text is not None and BLOCK in text and given.get("script_metadata") is not False


def of_files(request: DeployRequest) -> str:
    """Return what the files ask for by which a request's requirements are given: other text once they change."""
    definition = request.spec.get("definition") or {}
    given, found = definition.get("requirements"), list[str]()
    if given in (None, NONE):
        return ""
    from .packages import requirements

    def export(folder: str) -> str:
        found.append(requirements.read_text(os.path.join(folder, "uv.lock"), "uv.lock"))
        return ""

    try:
        return f"{requirements.read(given, request.cwd or '.', os.environ, export)} {found}"
    except BadRequest as error:  # which the deploy raises
        return error.message


def unmet(
    results: Iterable[DeployResult], folder: Path, text: str | None = None, kernel: str | None = None
) -> list[str]:
    """Return a warning where the interpreter of tasks lacks what the folder's ``requirements.txt`` has.

    That is this process's, or the one of a kernelspec. ``text`` is that of a cell; those of files are read.
    """
    from .packages.met import requirement_warnings  # `packaging` takes time to import

    if any(result.plan and result.plan.packages for result in results):  # of a dry run
        return []
    specs = [result.api.spec for result in results if result.api is not None]
    try:
        if specs and all(asks_for_packages(spec, text or _task_text(spec, str(folder))) for spec in specs):
            return []
    except BadRequest:
        pass
    return requirement_warnings(folder, kernel)


def _requirements(given: Any, here: str, folder: str) -> Any:
    """Return requirements whose files count from the API's folder; those given as an option may from this process's."""

    def path(file: str) -> str:
        full = os.path.join(here, os.path.expanduser(file))
        return os.path.relpath(full, folder) if os.path.isfile(full) else file

    if isinstance(given, str):
        return given if given in (AUTO, NONE) else path(given)
    lines = [str(one).strip() for one in given] if isinstance(given, Iterable) else [str(given)]
    return [f"-r {path(line[3:].strip())}" if line.startswith("-r ") else line for line in lines]


def _check_pickled(pickle: bytes | None, version: str | None) -> None:
    """Raise :class:`BadRequest` where a callable is to run in another version of Python than this one."""
    own = "{}.{}".format(*sys.version_info)
    if pickle is not None and version not in (None, own):
        raise BadRequest(
            f"the callable is pickled by Python {own}, and Python {version} can't load it: deploy the cell that "
            "defines it, or leave out python_version"
        )


def _find(target: Any, options: DeployOptions) -> _Found:
    folder, name = os.path.abspath(os.path.expanduser(options.cwd or os.getcwd())), options.name
    if isinstance(target, str | os.PathLike):
        path = os.path.abspath(os.path.join(folder, os.path.expanduser(target)))
        return _Found(*_read_file(path, name), path)
    found = _Found([], folder, options.notebook, sys_path=kernel_sys_path(folder))
    if isinstance(target, Source):
        if name is None:
            raise BadRequest("a cell needs a name for its API")
        found.apis = [_api(name, path=_cell_path(check_name(name), folder))]
    elif isinstance(target, Mapping | list | tuple):
        named = {"name": name, **target} if name is not None and isinstance(target, Mapping) else target
        found.apis = parse(named)
    elif callable(target):
        from . import pickling

        taken = callables.check(callables.undecorated(target))
        definition = {"python_version": "{}.{}".format(*sys.version_info)}
        described = definition if taken is None else {**definition, "parameters": taken}
        found.apis = [_api(check_name(name or callables.name(target)), **described)]
        folders = _importable_from(folder)
        if options.main:
            found.pickle = pickling.pickle_with_notebook(target, folders, options.unused)
        else:
            found.pickle = pickling.pickle_alone(target, folders)
    else:
        raise wrong("the target of a deploy", "a file, a specification, a class Task or a function of config", target)
    return found


def _read_file(target: str, name: str | None) -> tuple[list[dict[str, Any]], str]:
    path = Path(target, "cortex.yaml") if os.path.isdir(target) else Path(target)
    folder = os.path.dirname(os.path.abspath(path))
    if path.suffix in (".py", notebook.ENDING):
        stem = path.stem if path.suffix == ".py" else notebook.api_name(path.stem)
        return [_api(check_name(name or stem), path=path.name)], folder
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} can't be read: {error.strerror or error}") from None
    try:
        return parse(text), folder
    except BadRequest as error:
        raise BadRequest(f"{path}: {error.message}") from None


def _api(name: str, **definition: Any) -> dict[str, Any]:
    return {"name": name, "kind": KIND, "definition": definition}


def _cell_path(name: str, folder: str) -> str:
    """Return a path for a cell's text at which there is no file: the cell may import a module of its own name."""
    path, number = f"{name}.py", 1
    while os.path.lexists(os.path.join(folder, path)):
        path, number = f"{name}-cell{number}.py", number + 1
    return path


def _task_text(api: Mapping[str, Any], folder: str) -> str | None:
    definition = api.get("definition")
    path = definition.get("path") if isinstance(definition, Mapping) else None
    if not isinstance(path, str) or not path.endswith((".py", notebook.ENDING)) or "\0" in path:
        return None  # a pickle is read where it is deployed; what is wrong is said there
    try:
        if notebook.is_notebook(path):
            return notebook.stripped(read_task(folder, path), path)
        return task_source.decode(read_task(folder, path), path)
    except (task_source.SourceError, BadRequest) as error:
        raise BadRequest(f"{api['name']}: {error}") from None


def _override(api: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an API with the options put in; malformed sections stay, to be refused by ``api_spec.build``."""
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
        if found := [key for key in _OF_DEFINITION if given.get(key)]:
            what = "config: give it to the job" if "config" in found else found[0]
            raise BadRequest(f"{changed['name']}: a pod takes no {what}")
    else:
        home = changed["definition"] = changed.get("definition") or {}
    if isinstance(home, dict):
        for key in ("config", "env"):
            if key in given:
                own = home.get(key) or {}
                home[key] = merge(own, _mapping(key, given[key])) if isinstance(own, dict) else own
        ours = ("function", "kernel", *OF_NOTEBOOKS, *_OF_PACKAGES)
        home |= {key: plain(given[key], key) for key in ours if key in given}
        if "warm" in given:
            home["warm"] = _warm(given["warm"])
    compute = {key: given[key] for key in ("cpu", "mem", "gpu") if key in given}
    if compute and isinstance(part.get("compute") or {}, dict):
        part["compute"] = {**(part.get("compute") or {}), **plain(compute)}
    return changed


def _warm(value: Any) -> Any:
    """Return ``definition.warm`` as an option has it: True, False, modules, or all of it."""
    if isinstance(value, bool):
        return {} if value else None
    return plain(value if isinstance(value, Mapping) else {"preload": value}, "warm")


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong(key, "a mapping", value)
    result: dict[str, Any] = plain(value, key)
    return result


def _importable_from(folder: str) -> list[str]:
    """Return the folders that a task imports from: its own, the kernel's, and those of installed packages."""
    installed = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return [folder, *installed, *python_path, *filter(None, kernel_sys_path(folder))]
