"""The two shapes of a task in an API configuration: ``definition`` (Cortex 0.28) and ``pod`` (0.42)."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from taskapi_jupyter.core import files
from taskapi_jupyter.core.contract import MAX_BODY, DeployRequest
from taskapi_jupyter.core.errors import BadRequest, size

from . import interpreter, parameters, pickled, task_source, variables, warm
from .sections import Compute, Definition, Pod, Warm, scalar_text, shorten, wrong

_PICKLED_TASK = "__taskapi_task__"
_LOADS_PICKLE = b"""# What a function took along of its notebook, for its task and the processes that the task starts.
from _taskapi_notebook import load as __taskapi_task__

__taskapi_task__ = __taskapi_task__(globals())
"""
_CONTAINER_JOB_FILE = "/cortex/spec/job.json"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", re.ASCII)

Content = bytes | Path  # of a file: in memory, or the path of a file that has it


@dataclass
class Draft:
    """What is known of an API while it is built."""

    name: str
    python: str  # runs the task
    deployer: str  # deploys it
    cwd: str
    env: dict[str, str]
    from_file: dict[str, str]  # the part of env that .env gave
    warnings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Content] = field(default_factory=dict)
    pickle: Content | None = None
    looks_up: bool = True  # whether the interpreter is on this machine and can be asked what it can import
    parameters: list[dict[str, Any]] | None = None  # of the task; None if it is called with config


def definition(given: Definition, request: DeployRequest, draft: Draft) -> dict[str, Any]:
    """Put ``definition`` into the draft and return how it is shown."""
    draft.config = given.config or {}
    own = variables.own_environ(given.env or {}, "definition.env")
    shown = {**msgspec.to_builtins(given), "config": draft.config, "env": own}
    shown.pop("parameters", None)
    if given.log_level is not None:
        draft.env["CORTEX_LOG_LEVEL"] = given.log_level
    if given.image is not None:
        draft.warnings.append("definition.image is ignored: jobs run on this machine, not in a container")
    draft.env.update(own)
    draft.launch["sys_path"] = _sys_path(given, draft.cwd, request.sys_path or [])
    path, function = given.path, given.function
    if path is None or path.endswith(".pickle"):
        if request.source is not None:
            raise BadRequest("source is the text of a Python file: give its name in definition.path")
        if function is not None:
            raise BadRequest("definition.function chooses from a Python file; a pickle holds one callable")
        if path is None:
            _cloudpickle(request, given.python_version, draft)
            _callable_parameters(given.parameters, draft)
        else:
            _dill(path, draft.pickle, draft)
    elif draft.pickle is not None:
        raise BadRequest(f"with a pickled callable, definition.path must end in .pickle, not be {shorten(path)}")
    else:
        _module(path, request.source, function, draft)
    if given.warm is not None:
        _warm(given.warm, draft)
    return shown


def pod(given: Pod, draft: Draft) -> tuple[dict[str, Any], Compute]:
    """Put ``pod`` into the draft; return how it is shown, and what its container asks for."""
    if not given.containers:
        raise wrong("pod.containers", "a list with one container", given.containers)
    if len(given.containers) > 1:
        raise BadRequest(f"pod.containers has {len(given.containers)} containers; a task here is one command: give one")
    container, at = given.containers[0], "pod.containers[0]"
    words = {"command": container.command, "args": container.args}
    texts = {key: [scalar_text(one) for one in value] for key, value in words.items() if value is not None}
    argv = texts.get("command", []) + texts.get("args", [])
    if not argv or not argv[0].strip():
        raise BadRequest(f"{at}.command is missing: without an image there is nothing else to run")
    if given.port is not None:
        draft.warnings.append("pod.port is ignored: a task is not sent requests")
    if container.image is not None:
        draft.warnings.append(f"{at}.image is ignored: jobs run on this machine, not in a container")
    if container.liveness_probe is not None:
        draft.warnings.append(f"{at}.liveness_probe is ignored: a job is watched by its process")
    env = variables.own_environ(container.env or {}, f"{at}.env")
    draft.env.update(env)
    draft.launch.update(kind="command", argv=[_expand(word, draft.env) for word in argv])
    _warn_of_command(draft)
    shown = {"name": draft.name, **msgspec.to_builtins(container), **texts, "env": env}
    return {**msgspec.to_builtins(given), "containers": [shown]}, container.compute or Compute()


def read_task(cwd: str | Path, path: str) -> bytes:
    """Read the file at ``definition.path``, or raise :class:`BadRequest` that names it."""
    file = Path(cwd, path)
    try:
        data = files.read(os.path.realpath(file), MAX_BODY + 1)  # a FIFO or a device would block
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadRequest(f"definition.path: {file} can't be read: {why}") from None
    if len(data) > MAX_BODY:
        raise BadRequest(f"definition.path: {file} is larger than {size(MAX_BODY)}")
    return data


def _sys_path(given: Definition, cwd: str, kernel: list[str]) -> list[str]:
    """Return the folders to import from: the project's as on Cortex, that of the task's file, the kernel's."""
    for one in kernel:
        if one and ("\0" in one or not os.path.isabs(one)):
            raise BadRequest(f"sys_path must hold absolute paths, not {shorten(one)}")
    kernel = [one for one in kernel if not one or os.path.isdir(one)]
    folders = [cwd]
    if given.python_path is not None:
        folder = os.path.normpath(os.path.join(cwd, given.python_path))
        if not os.path.isdir(folder):
            raise BadRequest(f"definition.python_path: {folder} is not a folder")
        folders.insert(0, folder)
    if given.path is not None:
        folders.append(os.path.normpath(os.path.join(cwd, os.path.dirname(given.path))))
    return [*dict.fromkeys(one for one in folders if one not in kernel), *kernel]


def _module(path: str, text: str | None, function: str | None, draft: Draft) -> None:
    if path.endswith(".ipynb"):
        raise BadRequest("definition.path must be a Python file; a notebook can't be a task")
    file = os.path.normpath(os.path.join(draft.cwd, path))
    is_cell = text is not None and not os.path.isfile(file)
    label = f"cell {draft.name}" if is_cell else path
    try:
        if text is None:
            data = read_task(draft.cwd, path)
            text = task_source.decode(data, label)
        else:
            data = task_source.encode(text, label)
        attr = _find_task(text, label, function, draft)
    except task_source.SourceError as error:
        raise BadRequest(str(error)) from None
    if is_cell:
        _run_as_main("cell", data, attr, draft)
        return
    module = _module_name(path, data, draft)
    draft.files[f"{module}.py"] = data
    draft.launch.update(kind="module", file=f"{module}.py", module=module, attr=attr)
    draft.launch.update(origin=file, cloudpickle=interpreter.package_folder("cloudpickle"))


def _warm(given: Warm, draft: Draft) -> None:
    """Have jobs start from a process that has imported what the task imports, where there can be one."""
    found: list[str] = []
    for name in ("task.pkl", "task.pickle"):
        if (content := draft.files.get(name)) is not None:
            found = sorted(pickled.modules(content))
    text = draft.files[draft.launch["file"]]
    if not found and isinstance(text, bytes) and draft.launch["kind"] in ("main", "module"):
        found = warm.imports(text)
    settings = warm.settings(given, found)
    why = warm.obstacle(draft.python) if draft.looks_up else "there is no warm start on a cluster"
    if why is None:
        draft.launch["warm"] = settings
    else:
        draft.warnings.append(f"definition.warm is ignored, and jobs start cold: {why}")


def _run_as_main(what: str, data: bytes, attr: str, draft: Draft) -> None:
    """Let a file run as ``__main__``, as the notebook's cells do; results of its classes need cloudpickle."""
    file = f"{what}_{draft.name}.py"
    draft.files[file] = data
    draft.launch.update(kind="main", file=file, attr=attr, cloudpickle=interpreter.package_folder("cloudpickle"))


def _module_name(path: str, data: bytes, draft: Draft) -> str:
    """Return the module name of a project's file: its own, by which others import it, unless that hides a package."""
    stem = os.path.splitext(os.path.basename(path))[0]
    taken = {*sys.stdlib_module_names, "taskapi_jupyter", "cortex_internal", "cloudpickle", "dill"}
    if re.fullmatch(r"[\w-]+", stem) and stem not in taken:
        return stem
    return "taskapi_{}_{}".format(draft.name.replace("-", "_"), hashlib.sha256(data).hexdigest()[:8])


def _find_task(text: str, path: str, function: str | None, draft: Draft) -> str:
    """Find the task by the grammar of the interpreter that will run it; return its name after a mark how to call it."""
    if interpreter.is_own(draft.python):
        found = task_source.find_task(text, path, function, draft.name)
    else:
        asked = {"text": text, "filename": path, "function": function, "api": draft.name}
        found = interpreter.ask(draft.python, "-I", "-S", str(task_source.__file__), given=asked)
        if "error" in found:
            raise task_source.SourceError(found["error"])
    if found["parameters"] is not None:
        draft.parameters = parameters.documented(found["parameters"], found["doc"])
    return f"{found['call']}{found['attr']}"


def _callable_parameters(value: Any, draft: Draft) -> None:
    """Use the kernel's description of a callable; for ``config`` alone, the harness decides how to call it."""
    if value is not None:
        draft.launch["attr"] = "*" + draft.launch.get("attr", "")
        found = parameters.of_callable(value)
        draft.parameters = None if [one["name"] for one in found] == ["config"] else found


def _dill(path: str, data: Content | None, draft: Draft) -> None:
    draft.files["task.pickle"] = read_task(draft.cwd, path) if data is None else data
    search = [*draft.launch["sys_path"], *filter(None, [draft.env.get("PYTHONPATH")])]
    env = {**draft.env, "PYTHONPATH": os.pathsep.join(search)}
    if not interpreter.has_module(draft.python, "dill", env, draft.cwd):
        raise BadRequest(f"{path} is loaded with dill, which {draft.python} does not have: install dill there")
    draft.launch.update(kind="dill", file="task.pickle")


def _cloudpickle(request: DeployRequest, pickled_by: str | None, draft: Draft) -> None:
    data = draft.pickle
    if data is None:
        raise BadRequest("definition.path is missing: the file that holds the task")
    pickled_by = pickled_by or interpreter.version(draft.deployer)
    if (runs := interpreter.version(draft.python)) != pickled_by:
        raise BadRequest(f"the callable was pickled by Python {pickled_by}; {draft.python} is {runs} and can't load it")
    draft.files["task.pkl"] = data
    draft.launch["python_version"] = pickled_by
    if request.main:
        _run_as_main("notebook", _LOADS_PICKLE, _PICKLED_TASK, draft)
    else:  # from a kernel with 0.1.0
        draft.launch.update(kind="pickle", file="task.pkl", cloudpickle=interpreter.package_folder("cloudpickle"))
    if draft.looks_up:
        paths = draft.launch["sys_path"]
        warning = pickled.check_modules(data, draft.python, paths, draft.env, draft.cwd)
        draft.warnings += [warning] if warning else []


def _expand(word: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: an unknown variable stays as written; ``$$`` is one dollar sign."""
    return _REFERENCE.sub(lambda match: "$" if match[1] is None else env.get(match[1], match[0]), word)


def _warn_of_command(draft: Draft) -> None:
    argv = draft.launch["argv"]
    program = os.path.join(draft.cwd, argv[0]) if os.sep in argv[0] else argv[0]
    if shutil.which(program, path=draft.env["PATH"]) is None:
        draft.warnings.append(f"the program {shorten(argv[0])} is not found")
    for word in argv:
        try:
            script = os.path.realpath(os.path.join(draft.cwd, word))
            reads = word.endswith(".py") and _CONTAINER_JOB_FILE.encode() in files.read(script, 1 << 20)
        except (OSError, ValueError):
            continue
        if reads:
            draft.warnings.append(
                f"{word} mentions {_CONTAINER_JOB_FILE}, which exists in containers only: here the "
                "variable TASKAPI_JOB_SPEC has the path of the job's file"
            )
