"""API configurations, in Cortex's shapes of 0.28 (``definition``) and 0.42 (``pod``), made into what a job needs.

Beyond Cortex's keys there are, at the top, ``timeout`` (seconds, the default of every job) and ``python`` (an interpreter
other than the deploying kernel's), and in ``definition``, ``function`` (which of the file's callables is the task) and
``python_version`` (the minor version that pickled a callable). ``networking.endpoint`` is kept as it was written, by
default the name; ``compute`` is kept with Kubernetes' suffixes, and asks for one CPU where it says nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import interpreter, source, variables
from .contract import KIND, DeployRequest
from .errors import BadRequest
from .fields import Section, plain, shorten, wrong
from .quantities import format_bytes, format_cpu, parse_bytes, parse_cpu
from .variables import allowed_environ

__all__ = ["APISpec", "allowed_environ", "build", "check_name", "merge", "parse", "parse_bytes", "parse_cpu"]

DEFAULT_CPU = 1000  # millicores; Cortex's 200m would put five trainings on a core
MAX_YAML = 1 << 20  # bytes

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_ENDPOINT = re.compile(r"[A-Za-z0-9_./-]{1,1000}", re.ASCII)
_TOP = ("name", "kind", "definition", "pod", "networking", "compute", "node_groups", "timeout", "python")
_DEFINITION = ("path", "config", "python_path", "image", "env", "log_level", "function", "python_version")
_CONTAINER = ("name", "image", "command", "args", "env", "compute", "liveness_probe")
_COMPUTE = ("cpu", "gpu", "inf", "mem", "shm")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_CONTAINER_JOB_FILE = "/cortex/spec/job.json"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", re.ASCII)


@dataclass(frozen=True)
class APISpec:
    """A checked API: how it is shown, what it asks for, and all that starting it takes.

    ``spec`` is the wire form with ``id`` and ``spec_id`` in it; ``cpu`` is in millicores, ``mem`` in bytes, ``timeout`` in
    seconds; ``launch`` is plain JSON; ``files`` are to be written into the API's folder.
    """

    name: str
    spec: dict[str, Any]
    api_id: str
    spec_id: str
    config: dict[str, Any]
    timeout: int | None
    cpu: int
    mem: int | None
    gpu: int
    launch: dict[str, Any]
    files: dict[str, bytes]
    warnings: tuple[str, ...]


@dataclass
class _Draft:
    """What is known of an API while it is being read."""

    name: str
    python: str
    cwd: str
    env: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def build(request: DeployRequest, *, environ: Iterable[str] = ()) -> APISpec:
    """Check a request and return the API; ``environ`` names variables that a task gets beyond the documented list.

    Raises :class:`BadRequest` that says which API, which key and what is wrong with it.
    """
    raw = plain(request.spec)
    name = check_name(raw.get("name"))
    try:
        return _build(name, raw, request, environ)
    except BadRequest as error:
        raise BadRequest(f"{name}: {error.message}") from None


def parse(text_or_obj: Any) -> list[dict[str, Any]]:
    """Return the APIs of a configuration: YAML text or what it stands for, a list or a single mapping."""
    value = _load(text_or_obj) if isinstance(text_or_obj, str | bytes) else text_or_obj
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise wrong("the configuration", "a list of APIs, each with a name, or one of them", value or None)
    apis = []
    for index, api in enumerate(value):
        if not isinstance(api, Mapping):
            raise wrong(f"API number {index + 1}", "a mapping with a name", api)
        apis.append(plain(api))
    names = [check_name(api.get("name")) for api in apis]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"the configuration has {name} more than once")
    return apis


def merge(defaults: Mapping[str, Any], submitted: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge two configs, mapping by mapping; what was submitted wins. Neither is changed."""
    merged = dict(defaults)
    for key, value in (submitted or {}).items():
        mine = merged.get(key)
        both = isinstance(mine, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(mine, value) if both else value  # type: ignore[arg-type]
    return merged


def check_name(name: Any) -> str:
    """Return an API's name, or raise :class:`BadRequest` that shows it."""
    if name is None:
        raise BadRequest("the API has no name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"{shorten(name)} is no name for an API: a letter, then letters, digits, - and _ (no - at the end), at most "
            "63 in all"
        )
    return name


def read_task(cwd: str | Path, path: str) -> bytes:
    """Read the file at ``definition.path``, or raise :class:`BadRequest` that names it."""
    file = Path(cwd, path)
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadRequest(f"definition.path: {file} can't be read: {error.strerror or error}") from None
    except ValueError as error:
        raise BadRequest(f"definition.path: {shorten(path)}: {error}") from None


def _load(text: str | bytes) -> Any:
    if len(text) > MAX_YAML:
        raise BadRequest(f"the configuration is larger than {MAX_YAML} bytes (1 MiB)")
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (safe ones)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadRequest(f"the configuration is not valid YAML: {where}{problem or error}") from None
    except (RecursionError, ValueError) as error:  # a date such as 2020-13-40 is a ValueError
        raise BadRequest(f"the configuration can't be read as YAML: {error}") from None


def _build(name: str, raw: dict[str, Any], request: DeployRequest, extra: Iterable[str]) -> APISpec:
    top = Section(raw, "", _TOP)
    if (kind := top.text("kind") or KIND) != KIND:
        raise BadRequest(f"kind {shorten(kind)} can't be run here, only {KIND} can")
    draft = _start(name, top, request, extra)
    spec: dict[str, Any] = {"name": name, "kind": KIND}
    if top.given("pod"):
        if top.given("definition"):
            raise BadRequest("definition (Cortex 0.28) and pod (0.42) exclude each other")
        if top.given("compute"):
            raise BadRequest("compute belongs into pod.containers[0].compute where there is a pod")
        if request.source is not None or request.pickle is not None:
            raise BadRequest("a pod runs a command: it takes neither source nor a pickled callable")
        spec["pod"], compute = _pod(top.get("pod"), draft)
        asked = spec["pod"]["containers"][0]["compute"] = _compute(compute, draft)
    else:
        if not top.given("definition") and request.pickle is None:
            raise BadRequest(
                "there is nothing to run: give definition.path (Cortex 0.28) or pod.containers (0.42)"
            )
        spec["definition"] = _definition(top.get("definition"), request, draft)
        spec["compute"] = asked = _compute(Section(top.get("compute"), "compute", _COMPUTE), draft)
    spec["networking"] = {"endpoint": _endpoint(top, draft)}
    if top.given("node_groups"):
        spec["node_groups"] = top.texts("node_groups")
        draft.warnings.append("node_groups is ignored: jobs run on this machine")
    for key, value in (("timeout", top.whole("timeout", 1)), ("python", top.text("python"))):
        if value is not None:
            spec[key] = value
    return _finish(draft, spec, asked)


def _start(name: str, top: Section, request: DeployRequest, extra: Iterable[str]) -> _Draft:
    """Settle folder, interpreter and the variables that come from outside the specification."""
    cwd = os.path.expanduser(request.cwd or "~")
    if not os.path.isabs(cwd) or not os.path.isdir(cwd):
        raise BadRequest(f"the folder to run in, {shorten(cwd)}, is no absolute path of a folder that exists")
    env = allowed_environ(os.environ if request.environ is None else request.environ, extra)
    python = interpreter.resolve(top.text("python") or request.python, cwd, env.get("PATH"))
    env["PATH"] = variables.first_in_path(env, os.path.dirname(python))
    from_file, warnings = variables.dotenv(Path(cwd))
    return _Draft(name, python, os.path.normpath(cwd), {**env, **from_file}, warnings)


def _finish(draft: _Draft, spec: dict[str, Any], asked: dict[str, Any]) -> APISpec:
    launch = {"python": draft.python, "cwd": draft.cwd, "env": draft.env, "sys_path": [], **draft.launch}
    spec_id = _digest(spec)
    content = {key: value for key, value in launch.items() if key not in ("env", "argv", "cloudpickle")}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in draft.files.items()}
    from_file, _ = variables.dotenv(Path(draft.cwd))
    api_id = _digest([spec, content, files, from_file])
    return APISpec(
        name=draft.name,
        spec={**spec, "id": api_id, "spec_id": spec_id},
        api_id=api_id,
        spec_id=spec_id,
        config=draft.config,
        timeout=spec.get("timeout"),
        cpu=parse_cpu(asked["cpu"]),
        mem=parse_bytes(asked["mem"]) if "mem" in asked else None,
        gpu=asked["gpu"],
        launch=launch,
        files=draft.files,
        warnings=tuple(draft.warnings),
    )


def _definition(value: Any, request: DeployRequest, draft: _Draft) -> dict[str, Any]:
    section = Section(value, "definition", _DEFINITION)
    draft.config = section.mapping("config")
    shown: dict[str, Any] = {"config": draft.config}
    for key in ("path", "python_path", "image", "log_level", "function", "python_version"):
        if (text := section.text(key)) is not None:
            shown[key] = text
    if "log_level" in shown:
        if shown["log_level"] not in _LOG_LEVELS:
            raise BadRequest(f"definition.log_level must be one of {', '.join(_LOG_LEVELS)}")
        draft.env["CORTEX_LOG_LEVEL"] = shown["log_level"]
    if section.given("image"):
        draft.warnings.append(
            "definition.image is ignored: jobs run in this machine's own Python, not in a container"
        )
    shown["env"] = variables.own_environ(section.mapping("env"), "definition.env")
    draft.env.update(shown["env"])
    draft.launch["sys_path"] = _sys_path(shown, draft.cwd)
    path, function = shown.get("path"), shown.get("function")
    if path is None or path.endswith(".pickle"):
        if request.source is not None:
            raise BadRequest("source is the text of a Python file: give its name in definition.path")
        if function is not None:
            raise BadRequest("definition.function chooses from a Python file; a pickle holds one callable")
        if path is None:
            _cloudpickle(request, shown.get("python_version"), draft)
        else:
            _dill(path, request.pickle, draft)
    elif request.pickle is not None:
        raise BadRequest(
            f"a pickled callable needs a definition.path that ends in .pickle, or none, not {shorten(path)}"
        )
    else:
        _module(path, request.source, function, draft)
    return shown


def _sys_path(shown: dict[str, Any], cwd: str) -> list[str]:
    """Return the project's folders that modules are imported from: as Cortex has them, then beside the task's file."""
    folders = [cwd]
    if "python_path" in shown:
        folder = os.path.normpath(os.path.join(cwd, shown["python_path"]))
        if not os.path.isdir(folder):
            raise BadRequest(f"definition.python_path: {folder} is no folder")
        folders.insert(0, folder)
    if "path" in shown:
        folders.append(os.path.normpath(os.path.join(cwd, os.path.dirname(shown["path"]))))
    return list(dict.fromkeys(folders))


def _module(path: str, text: str | None, function: str | None, draft: _Draft) -> None:
    if path.endswith(".ipynb"):
        raise BadRequest("definition.path must be a Python file; a notebook can't be a task")
    try:
        if text is None:
            data = read_task(draft.cwd, path)
            text = source.decode(data, path)
        else:
            data = source.encode(text, path)
        attr = _find_task(text, path, function, draft)
    except source.SourceError as error:
        raise BadRequest(str(error)) from None
    module = _module_name(path, data, draft)
    draft.files[f"{module}.py"] = data
    draft.launch.update(kind="module", file=f"{module}.py", module=module, attr=attr)
    if os.path.isfile(file := os.path.normpath(os.path.join(draft.cwd, path))):
        draft.launch["origin"] = file


def _module_name(path: str, data: bytes, draft: _Draft) -> str:
    """Return a name to import by: a project file's own, for those who import it; a cell's must not hide a package."""
    stem = os.path.splitext(os.path.basename(path))[0]
    taken = {*sys.stdlib_module_names, "taskapi_jupyter", "cortex_internal", "cloudpickle", "dill"}
    if os.path.isfile(os.path.join(draft.cwd, path)) and re.fullmatch(r"[\w-]+", stem) and stem not in taken:
        return stem
    return "taskapi_{}_{}".format(draft.name.replace("-", "_"), hashlib.sha256(data).hexdigest()[:8])


def _find_task(text: str, path: str, function: str | None, draft: _Draft) -> str:
    """Find the task by the grammar of the interpreter that will run it."""
    if interpreter.is_own(draft.python):
        return source.find_task(text, path, function)
    asked = {"text": text, "filename": path, "function": function}
    answer = interpreter.ask(draft.python, "-I", "-S", str(source.__file__), given=asked)
    if "error" in answer:
        raise source.SourceError(answer["error"])
    return str(answer["attr"])


def _dill(path: str, data: bytes | None, draft: _Draft) -> None:
    draft.files["task.pickle"] = read_task(draft.cwd, path) if data is None else data
    search = {"PYTHONPATH": os.pathsep.join([*draft.launch["sys_path"], draft.env.get("PYTHONPATH", "")])}
    if not interpreter.has_module(draft.python, "dill", {**draft.env, **search}, draft.cwd):
        raise BadRequest(
            f"{path} is loaded with dill, which {draft.python} does not have; install dill there"
        )
    draft.launch.update(kind="dill", file="task.pickle")


def _cloudpickle(request: DeployRequest, pickled_by: str | None, draft: _Draft) -> None:
    if request.pickle is None:
        raise BadRequest("definition.path is missing: the file that holds the task")
    if pickled_by is None:  # then it comes from the interpreter that deploys
        pickled_by = interpreter.version(
            interpreter.resolve(request.python, draft.cwd, draft.env.get("PATH"))
        )
    if (runs_by := interpreter.version(draft.python)) != pickled_by:
        raise BadRequest(
            f"the callable was pickled by Python {pickled_by} and can't be loaded by {draft.python}, which is {runs_by}"
        )
    draft.files["task.pkl"] = request.pickle
    draft.launch.update(kind="pickle", file="task.pkl", cloudpickle=interpreter.package_folder("cloudpickle"))


def _pod(value: Any, draft: _Draft) -> tuple[dict[str, Any], Section]:
    pod = Section(value, "pod", ("containers", "port"))
    containers = pod.get("containers")
    if not isinstance(containers, list) or not containers:
        raise wrong("pod.containers", "a list with one container", containers or None)
    if len(containers) > 1:
        raise BadRequest(
            f"pod.containers has {len(containers)} containers; here a task is one command, so give one"
        )
    one = Section(containers[0], "pod.containers[0]", _CONTAINER)
    argv = one.texts("command") + one.texts("args")
    if not argv or not argv[0].strip():
        raise BadRequest(
            f"{one.at('command')} is missing: without a container's image there is nothing else to run"
        )
    if pod.given("port"):
        draft.warnings.append("pod.port is ignored: a task is not sent requests")
    if one.given("image"):
        draft.warnings.append(
            f"{one.at('image')} is ignored: the command runs on this machine, not in a container"
        )
    if one.given("liveness_probe"):
        draft.warnings.append(f"{one.at('liveness_probe')} is ignored: a job is watched by its process")
    env = variables.own_environ(one.mapping("env"), one.at("env"))
    draft.env.update(env)
    draft.launch.update(kind="command", argv=[_expand(word, draft.env) for word in argv])
    _warn_of_command(draft)
    shown = {**one.values, "name": one.text("name") or draft.name, "command": argv, "env": env}
    shown.pop("args", None)
    if given := one.texts("args"):
        shown.update(command=one.texts("command"), args=given)
    compute = Section(one.get("compute"), one.at("compute"), _COMPUTE)
    return {**pod.values, "containers": [shown]}, compute


def _expand(word: str, env: Mapping[str, str]) -> str:
    """Put variables in as Kubernetes does: ``$(NAME)``, left as it is where unknown; ``$$`` is a dollar sign."""
    return _REFERENCE.sub(lambda match: "$" if match[1] is None else env.get(match[1], match[0]), word)


def _warn_of_command(draft: _Draft) -> None:
    import shutil

    argv = draft.launch["argv"]
    program = os.path.join(draft.cwd, argv[0]) if os.sep in argv[0] else argv[0]
    if shutil.which(program, path=draft.env["PATH"]) is None:
        draft.warnings.append(f"the program {shorten(argv[0])} is not found at present")
    for word in argv:
        file = Path(draft.cwd, word)
        try:
            reads = word.endswith(".py") and _CONTAINER_JOB_FILE in file.read_text("utf-8", "ignore")
        except (OSError, ValueError):
            continue
        if reads:
            draft.warnings.append(
                f"{word} mentions {_CONTAINER_JOB_FILE}, which is in containers alone; here the job's file is the one "
                "that the variable TASKAPI_JOB_SPEC names"
            )


def _compute(section: Section, draft: _Draft) -> dict[str, Any]:
    cpu = parse_cpu(section.get("cpu"), section.at("cpu")) if section.given("cpu") else DEFAULT_CPU
    shown: dict[str, Any] = {"cpu": format_cpu(cpu), "gpu": section.whole("gpu", 0) or 0}
    if section.given("mem"):
        shown["mem"] = format_bytes(parse_bytes(section.get("mem"), section.at("mem")))
    if section.whole("inf", 0):
        raise BadRequest(f"{section.at('inf')}: AWS Inferentia chips are not to be had here; leave it out")
    if section.given("shm"):
        shown["shm"] = format_bytes(parse_bytes(section.get("shm"), section.at("shm")))
        draft.warnings.append(f"{section.at('shm')} is ignored: a job uses the machine's own shared memory")
    return shown


def _endpoint(top: Section, draft: _Draft) -> str:
    endpoint = Section(top.get("networking"), "networking", ("endpoint",)).text("endpoint") or draft.name
    if not _ENDPOINT.fullmatch(endpoint):
        raise BadRequest(
            "networking.endpoint may have letters, digits and the characters - _ . / in it, at most 1000"
        )
    if endpoint.strip("/") != draft.name:
        draft.warnings.append(
            f"networking.endpoint has no effect here: jobs are submitted under the name {draft.name}"
        )
    return endpoint


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
