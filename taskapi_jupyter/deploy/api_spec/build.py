"""``build`` checks an API configuration and returns all that it takes to start its jobs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from taskapi_jupyter.core.contract import KIND, DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.deploy.packages import conda, interpreter, kernels
from taskapi_jupyter.deploy.values import shorten

from . import parameters, variables
from .environment import Packages
from .quantities import format_bytes, format_cpu, parse_bytes, parse_cpu, parse_memory
from .sections import API, Compute, Definition, plain, read, scalar_text, wrong
from .shapes import Content, Draft, definition, pod
from .yaml import load

DEFAULT_CPU = 1000  # millicores; with Cortex's 200m, five trainings would share a core

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
#: Keys that answers have and a deploy ignores, so that what was read can be deployed again
_ANSWERED = ("id", "spec_id", "initial_deployment_time", "last_updated")
#: Keys of a launch that are no part of what names a version: argv may have variables in it, and is in the spec
_NOT_NAMING = ("env", "argv", "cloudpickle", "python_version", "interpreter", "packages")


@dataclass(frozen=True)
class APISpec:
    """A checked API: how it is shown, what its jobs ask for, and all that starting them takes.

    ``spec`` is the wire form with ``id`` and ``spec_id`` in it; ``cpu`` is in millicores, ``mem`` in bytes,
    ``timeout`` and ``run_timeout`` in seconds; ``launch`` is plain JSON; ``files`` are to be written into the API's
    folder: bytes, or the path of a file that holds them.
    """

    name: str
    spec: dict[str, Any]
    api_id: str
    spec_id: str
    config: dict[str, Any]
    timeout: int | None
    run_timeout: int | None
    cpu: int
    mem: int | None
    gpu: int
    launch: dict[str, Any]
    files: dict[str, Content]
    warnings: tuple[str, ...]


def build(
    request: DeployRequest,
    *,
    environ: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
    pickle: Path | None = None,
    looks_up: bool = True,
    packages: Packages | None = None,
) -> APISpec:
    """Check a request; ``environ`` names variables that a task gets beyond the documented list.

    ``files`` are kept beside the task's own; ``pickle`` is a file that holds the request's; ``looks_up`` says whether
    the task's interpreter is on this machine, and is asked for the modules that a pickled callable refers to;
    ``packages`` finds the environment where the API has requirements.

    Raises :class:`BadRequest` that says which API, which key and what is wrong with it.
    """
    name = check_name(request.spec.get("name"))
    try:
        return _build(
            name, request, environ, files or {}, pickle=pickle or request.pickle, looks_up=looks_up, packages=packages
        )
    except BadRequest as error:
        raise BadRequest(f"{name}: {error.message}") from None


def parse(text_or_obj: Any) -> list[dict[str, Any]]:
    """Return the APIs of a configuration: YAML text or its value, a list or a single mapping."""
    value = load(text_or_obj) if isinstance(text_or_obj, str | bytes) else text_or_obj
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise wrong("the configuration", "a list of APIs, each with a name, or a single API", value or None)
    apis = []
    for index, api in enumerate(value):
        if not isinstance(api, Mapping):
            raise wrong(f"API number {index + 1}", "a mapping with a name", api)
        apis.append(plain({key: part for key, part in api.items() if key not in _ANSWERED}))
    names = [check_name(api.get("name")) for api in apis]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"the configuration has {name} more than once")
    return apis


def check_name(name: Any) -> str:
    """Return an API's name, or raise :class:`BadRequest` that shows it."""
    if name is None:
        raise BadRequest("the API has no name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"invalid API name {shorten(name)}: use a letter, then letters, digits, - and _, no - at the end, "
            "at most 63 characters"
        )
    return name


def _build(
    name: str,
    request: DeployRequest,
    extra: Iterable[str],
    files: Mapping[str, bytes],
    *,
    pickle: Content | None,
    looks_up: bool,
    packages: Packages | None,
) -> APISpec:
    raw = plain(request.spec)
    if isinstance(kind := raw.get("kind") or KIND, str) and kind != KIND:
        raise BadRequest(f"kind {shorten(kind)} can't be run here, only {KIND} can")
    api: API = read(API, {key: value for key, value in raw.items() if key not in _ANSWERED})
    draft = _start(api, request, extra, looks_up)
    draft.files.update(files)
    draft.pickle = pickle
    draft.packages, draft.named = packages, api.python is not None
    spec: dict[str, Any] = {"name": name, "kind": KIND}
    if api.pod is not None:
        if api.definition is not None and api.definition.requirements is not None:
            raise BadRequest("a pod runs a command as it is: it takes no requirements")
        if api.definition is not None:
            raise BadRequest("give either definition (Cortex 0.28) or pod (0.42), not both")
        if api.compute is not None:
            raise BadRequest("with a pod, give compute in pod.containers[0].compute")
        if request.source is not None or pickle is not None:
            raise BadRequest("a pod runs a command: it takes neither source nor a pickled callable")
        spec["pod"], asked = pod(api.pod, draft)
        compute = spec["pod"]["containers"][0]["compute"] = _compute(asked, "pod.containers[0].compute", draft)
    else:
        if api.definition is None and pickle is None:
            raise BadRequest("there is nothing to run: give definition.path (Cortex 0.28) or a pod (0.42)")
        spec["definition"] = definition(api.definition or Definition(), request, draft)
        if api.python is not None and draft.launch["kind"] == "notebook":
            raise BadRequest("a notebook takes no python: its kernel (definition.kernel) has its own interpreter")
        spec["compute"] = compute = _compute(api.compute or Compute(), "compute", draft)
    spec["networking"] = {"endpoint": _endpoint(api, draft)}
    if api.node_groups is not None:
        spec["node_groups"] = [scalar_text(one) for one in api.node_groups]
        draft.warnings.append("node_groups is ignored: jobs run on this machine")
    given = msgspec.to_builtins(api)
    spec.update({key: given[key] for key in ("timeout", "run_timeout", "python", "notify") if key in given})
    return _finish(draft, spec, compute)


def _start(api: API, request: DeployRequest, extra: Iterable[str], looks_up: bool) -> Draft:
    """Find the folder, the interpreter and the variables that come from outside the specification."""
    cwd = os.path.expanduser(request.cwd or "~")
    if "\0" in cwd or not os.path.isabs(cwd) or not os.path.isdir(cwd):
        raise BadRequest(f"the folder to run in must be the absolute path of a folder that exists, not {shorten(cwd)}")
    cwd = os.path.normpath(cwd)
    env = variables.allowed_environ(os.environ if request.environ is None else request.environ, extra)
    search = env.get("PATH")
    kernel = _kernel(api, request, cwd, search)
    python = (kernel and kernel.python) or interpreter.resolve(api.python or request.python, cwd, search)
    deployer = python if not (request.python or kernel) else interpreter.resolve(request.python, cwd, search)
    env["PATH"] = variables.first_in_path(env, os.path.dirname(python))
    from_file, warnings = variables.dotenv(Path(cwd))
    if looks_up and api.pod is None and not notebook.is_task(request.spec):
        activated, told = conda.activation(python, env)
        env |= activated
        # Of the deploying kernel's own, nothing is said: they were not run for that kernel either.
        warnings += [told] if told and (api.python or kernel) else []
    if kernel is not None:
        env |= _environ_of(kernel, env)
        _check_answers(kernel, env)
    return Draft(api.name, python, deployer, cwd, {**env, **from_file}, from_file, warnings, looks_up=looks_up)


def _kernel(api: API, request: DeployRequest, cwd: str, search: str | None) -> kernels.Kernel | None:
    """Return the kernelspec whose Python runs the task; None where another does. A notebook's is found with it."""
    given = api.definition or Definition()
    if given.kernel is None or notebook.is_notebook(given.path):
        return None
    if api.python is not None:
        raise BadRequest("python and definition.kernel both say which interpreter runs the task: give one of them")
    if given.path is None or given.path.endswith(".pickle"):
        what = "a callable"
    else:
        is_cell = request.source is not None and not os.path.isfile(os.path.join(cwd, given.path))
        what = "a cell task" if is_cell else "a task in a file"
    return kernels.of_task(given.kernel, what, search)


def _environ_of(kernel: kernels.Kernel, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a kernelspec sets; ``${NAME}`` in them is what Jupyter would put in."""
    found = kernel.environ({**os.environ, **env})
    ours = [name for name in found if name.startswith(variables.RESERVED)]  # which other kernels may have a use for
    return variables.own_environ({name: found[name] for name in found if name not in ours}, f"env in {kernel.file}")


def _check_answers(kernel: kernels.Kernel, env: Mapping[str, str]) -> None:
    """Raise :class:`BadRequest` where a kernel's Python does not run, or is too old for tasks."""
    assert kernel.python is not None
    try:
        interpreter.check_version(kernel.python, interpreter.full_version(kernel.python, env))
    except BadRequest as error:
        raise BadRequest(f"kernel {shorten(kernel.name)}: {error.message}") from None


def _finish(draft: Draft, spec: dict[str, Any], compute: dict[str, Any]) -> APISpec:
    launch = {"python": draft.python, "cwd": draft.cwd, "env": draft.env, "sys_path": [], **draft.launch}
    if (runs := _interpreter(launch, draft)) is not None:
        launch["interpreter"] = runs
    spec_id = _digest(spec)
    content = {key: value for key, value in launch.items() if key not in _NOT_NAMING}
    files = {name: _sha256(content) for name, content in draft.files.items()}
    api_id = _digest([spec, content, files, draft.from_file])
    if draft.parameters is not None:
        if complaint := parameters.complaint(draft.parameters, draft.config, whole=False):
            raise BadRequest(f"definition.config: {complaint}{parameters.hint(spec)}")
        # They follow from the content, and are no part of what names it.
        spec = {**spec, "definition": {**spec["definition"], "parameters": draft.parameters}}
    return APISpec(
        name=draft.name,
        spec={**spec, "id": api_id, "spec_id": spec_id},
        api_id=api_id,
        spec_id=spec_id,
        config=draft.config,
        timeout=spec.get("timeout"),
        run_timeout=spec.get("run_timeout"),
        cpu=parse_cpu(compute["cpu"]),
        mem=parse_bytes(compute["mem"]) if "mem" in compute else None,
        gpu=compute["gpu"],
        launch=launch,
        files=draft.files,
        warnings=tuple(draft.warnings),
    )


def _interpreter(launch: Mapping[str, Any], draft: Draft) -> dict[str, str] | None:
    """Return which Python runs the task, for people; None of a command, of another language and of a cluster's node."""
    if packages := launch.get("packages"):
        is_notebook = launch["kind"] == "notebook"
        path = launch["notebook"]["kernel"]["spec"]["argv"][0] if is_notebook else launch["python"]
        return {"path": path, "version": packages["version"], "key": packages["key"]}
    if launch["kind"] == "command" or not draft.python or not draft.looks_up:
        return None
    return {"path": draft.python, "version": interpreter.full_version(draft.python, draft.env)}


def _compute(asked: Compute, at: str, draft: Draft) -> dict[str, Any]:
    cpu = DEFAULT_CPU
    if asked.cpu is not None:
        cpu = parse_cpu(asked.cpu, f"{at}.cpu")
        for count in variables.COUNTS:
            draft.env.setdefault(count, str(-(-cpu // 1000)))
    shown: dict[str, Any] = {"cpu": format_cpu(cpu), "gpu": asked.gpu or 0}
    if asked.mem is not None:
        shown["mem"] = format_bytes(parse_memory(asked.mem, f"{at}.mem"))
    if asked.inf:
        raise BadRequest(f"{at}.inf: there are no AWS Inferentia chips here; leave it out")
    if asked.shm is not None:
        shown["shm"] = format_bytes(parse_bytes(asked.shm, f"{at}.shm"))
        draft.warnings.append(f"{at}.shm is ignored: a job uses the machine's own shared memory")
    return shown


def _endpoint(api: API, draft: Draft) -> str:
    endpoint = (api.networking and api.networking.endpoint) or api.name
    if endpoint.strip("/") != api.name:
        draft.warnings.append(f"networking.endpoint is ignored: jobs are submitted to the name, {api.name}")
    return endpoint


def _sha256(content: Content) -> str:
    found = hashlib.sha256()
    if isinstance(content, Path):
        with content.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    else:
        found.update(content)
    return found.hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
