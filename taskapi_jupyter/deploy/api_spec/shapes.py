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
from typing import TYPE_CHECKING, Any

import msgspec

from taskapi_jupyter.core import files
from taskapi_jupyter.core.contract import MAX_BODY, DeployRequest
from taskapi_jupyter.core.errors import BadRequest, printable, size
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.deploy.packages import conda, interpreter, kernels
from taskapi_jupyter.deploy.values import shorten

from . import cells, environment, parameters, pickled, task_source, variables, warm
from .quantities import parse_seconds
from .sections import Compute, Definition, Pod, Warm, scalar_text, wrong

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.packages.resolve import Environment

_PICKLED_TASK = "__taskapi_task__"
_LOADS_PICKLE = b"""# What a function took along of its notebook, for its task and the processes that the task starts.
from _taskapi_notebook import load as __taskapi_task__

__taskapi_task__ = __taskapi_task__(globals())
"""
#: Keys that only a notebook has a use for
OF_NOTEBOOKS = ("cell_timeout", "startup_timeout", "keep_kernel", "outputs", "allow_unknown")
#: Keys that a notebook has no use for, each with what to do instead
_NOT_OF_NOTEBOOKS = {
    "function": "its cells run in their order",
    "python_path": "set PYTHONPATH in definition.env",
    "warm": "its kernel starts cold",
}
_CONTAINER_JOB_FILE = "/cortex/spec/job.json"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", re.ASCII)

Content = bytes | Path  # of a file: in memory, or the path of a file that has it


@dataclass
class Draft:
    """What is known of an API while it is built."""

    name: str
    python: str  # runs the task; empty for a notebook whose kernel is no Python, or is started by a script
    deployer: str  # deploys it
    cwd: str
    env: dict[str, str]
    from_file: dict[str, str]  # the part of env that .env gave
    warnings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Content] = field(default_factory=dict)
    pickle: Content | None = None
    packages: environment.Packages | None = None  # finds the environment that it asks for
    environment: Environment | None = None  # that one
    named: bool = False  # whether the API says which interpreter
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
    is_notebook = notebook.is_notebook(path)
    _check_keys(given, is_notebook)
    if path is None or path.endswith(".pickle"):
        if request.source is not None:
            raise BadRequest("source is the text of a Python file: give its name in definition.path")
        if function is not None:
            raise BadRequest("definition.function chooses from a Python file; a pickle holds one callable")
        environment.find(given, request, draft, pickled=True)
        if path is None:
            _cloudpickle(request, given.python_version, draft)
            _callable_parameters(given.parameters, draft)
        else:
            _dill(path, draft.pickle, draft)
    elif draft.pickle is not None:
        raise BadRequest(f"with a pickled callable, definition.path must end in .pickle, not be {shorten(path)}")
    elif is_notebook:
        _notebook(path, request, given, draft)
    else:
        _module(path, request, given, draft)
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
    most = notebook.MAX_FILE if notebook.is_notebook(path) else MAX_BODY
    try:
        if os.stat(file).st_size > most:  # before so much is read
            raise BadRequest(f"definition.path: {file} is larger than {size(most)}")
        data = files.read(os.path.realpath(file), most + 1)  # a FIFO or a device would block
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadRequest(f"definition.path: {file} can't be read: {why}") from None
    if len(data) > most:
        raise BadRequest(f"definition.path: {file} is larger than {size(most)}")
    return data


def _check_keys(given: Definition, is_notebook: bool) -> None:
    """Raise :class:`BadRequest` for a key that has no meaning for a notebook, or none but for a notebook."""
    for key in _NOT_OF_NOTEBOOKS if is_notebook else OF_NOTEBOOKS:
        if getattr(given, key) is not None and is_notebook:
            raise BadRequest(f"a notebook takes no definition.{key}: {_NOT_OF_NOTEBOOKS[key]}")
        if getattr(given, key) is not None:
            where = f"is {shorten(given.path)}" if given.path else "is missing"
            raise BadRequest(f"definition.{key} is for notebooks alone (.ipynb), and definition.path {where}")


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


def _module(path: str, request: DeployRequest, given: Definition, draft: Draft) -> None:
    text = request.source
    file = os.path.normpath(os.path.join(draft.cwd, path))
    is_cell = text is not None and not os.path.isfile(file)
    label = f"cell {draft.name}" if is_cell else path
    try:
        if text is None:
            data = read_task(draft.cwd, path)
            text = task_source.decode(data, label)
        else:
            data = task_source.encode(text, label)
        environment.of_text(given, request, draft, text, label)
        attr = _find_task(text, label, given.function, draft)
    except task_source.SourceError as error:
        raise BadRequest(str(error)) from None
    if is_cell:
        _run_as_main("cell", data, attr, draft)
        return
    module = _module_name(path, data, draft)
    draft.files[f"{module}.py"] = data
    draft.launch.update(kind="module", file=f"{module}.py", module=module, attr=attr)
    draft.launch.update(origin=file, cloudpickle=interpreter.package_folder("cloudpickle"))


def _notebook(path: str, request: DeployRequest, given: Definition, draft: Draft) -> None:
    """Let jobs run a notebook's cells in a kernel of their own."""
    file, shown, text = os.path.basename(path), printable(path), request.source
    notebook.check_file_name(file)
    keep = None if given.keep_kernel is None else parse_seconds(given.keep_kernel, "definition.keep_kernel")
    found = notebook.check(read_task(draft.cwd, path) if text is None else text.encode("utf-8", "replace"), shown)
    about = environment.of_notebook(given, request, draft, found, shown)
    language = "python"
    if about is None:
        if (name := given.kernel or found.kernel) is None:
            raise kernels.unnamed(shown)
        kernel = kernels.find(name, draft.env.get("PATH"))
        about, language = kernel.launch, kernel.language
        _runs_in(kernel, given, draft)
    draft.warnings += found.warnings
    tagged = found.parameter_cells
    if len(tagged) > 1:
        draft.warnings.append(f"{shown} has {len(tagged)} cells tagged parameters: the first one counts")
    if language.lower() == "python":
        draft.parameters, told = cells.parameters(next(iter(tagged), None), bool(given.allow_unknown))
        draft.warnings += [told] if told else []
    elif tagged and not cells.has_papermill():
        draft.warnings.append(cells.needs_papermill(language))
    cells.check_language(language, draft.config)
    draft.files[file] = found.text
    draft.launch.update(
        kind="notebook",
        python=sys.executable,  # runs the cells' runner, and has nbclient; the kernel is what its kernelspec says
        file=file,
        origin=os.path.normpath(os.path.join(draft.cwd, path)),
        notebook={
            "kernel": about,
            "language": language,
            "cell_timeout": given.cell_timeout,
            "startup_timeout": given.startup_timeout,
            "keep_kernel": keep,
            "outputs": list(dict.fromkeys(given.outputs or [])),
        },
    )


def _runs_in(kernel: kernels.Kernel, given: Definition, draft: Draft) -> None:
    """Note the Python of a notebook's kernel; what its conda environment sets, unless the API sets it, is added."""
    draft.python = kernel.python or ""
    if draft.python:
        version = interpreter.full_version(draft.python, {**draft.env, **kernel.environ(draft.env)})
        interpreter.check_version(draft.python, version)
        activated, told = conda.activation(draft.python, draft.env)
        own = {*draft.from_file, *(given.env or {})}
        draft.env.update((key, value) for key, value in activated.items() if key not in own)
        draft.warnings += [told] if told else []


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
    why = warm.obstacle(draft.python, draft.environment) if draft.looks_up else "there is no warm start on a cluster"
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
        found = interpreter.ask(draft.python, "-I", "-S", str(task_source.__file__), given=asked, env=draft.env)
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
    if draft.environment is not None:
        if draft.environment.has("dill") is False:
            raise BadRequest(f"{path} is loaded with dill, which is not among the requirements: add dill")
    elif not interpreter.has_module(draft.python, "dill", env, draft.cwd):
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
    if draft.environment is not None:
        draft.warnings += pickled.lacking(data, draft.deployer, draft.environment)
    elif draft.looks_up:
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
