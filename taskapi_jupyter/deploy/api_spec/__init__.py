"""API configurations in Cortex's shapes of 0.28 and 0.42, checked and made into what it takes to start a job.

Beyond Cortex's keys there are, at the top, ``timeout`` and ``run_timeout`` (seconds since a job's submission and since
its start, the defaults of every job) and ``python`` (an interpreter other than the deploying kernel's), and in
``definition``, ``function`` (which of the file's callables is the task), ``python_version`` (the minor version that
pickled a callable) and ``parameters``, which is shown, and ignored where it is given, but for a pickled callable.
``networking.endpoint`` is kept as it was written, by default the name. ``compute`` is shown with Kubernetes'
suffixes; where it says nothing, it is one CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.contract import KIND, DeployRequest
from taskapi_jupyter.core.errors import BadRequest

from . import interpreter, parameters, variables
from .quantities import format_bytes, format_cpu, parse_bytes, parse_cpu, parse_memory
from .sections import Section, plain, shorten, wrong
from .shapes import COMPUTE, Content, Draft, definition, pod, read_task
from .variables import allowed_environ, hidden
from .yaml import load

__all__ = [
    "APISpec",
    "allowed_environ",
    "build",
    "check_name",
    "hidden",
    "load",
    "merge",
    "parameters",
    "parse",
    "parse_bytes",
    "parse_cpu",
    "read_task",
]

DEFAULT_CPU = 1000  # millicores; Cortex's 200m would put five trainings on a core

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_ENDPOINT = re.compile(r"[A-Za-z0-9_./-]{1,1000}", re.ASCII)
_TOP = ("name", "kind", "definition", "pod", "networking", "compute", "node_groups", "timeout", "run_timeout", "python")
#: Keys of an answer that a deploy ignores: what was read can be deployed again.
_ANSWERED = ("id", "spec_id", "initial_deployment_time", "last_updated")


@dataclass(frozen=True)
class APISpec:
    """A checked API: how it is shown, what it asks for, and all that starting it takes.

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
) -> APISpec:
    """Check a request; ``environ`` names variables that a task gets beyond the documented list.

    ``files`` are kept beside the task's own; ``pickle`` is a file that holds the request's; ``looks_up`` says whether
    the task's interpreter is on this machine, and is asked for the modules that a pickled callable refers to.

    Raises :class:`BadRequest` that says which API, which key and what is wrong with it.
    """
    name = check_name(request.spec.get("name"))
    try:
        pickled = pickle or request.pickle
        return _build(name, plain(request.spec), request, environ, files or {}, pickle=pickled, looks_up=looks_up)
    except BadRequest as error:
        raise BadRequest(f"{name}: {error.message}") from None


def parse(text_or_obj: Any) -> list[dict[str, Any]]:
    """Return the APIs of a configuration: YAML text or what it stands for, a list or a single mapping."""
    value = load(text_or_obj) if isinstance(text_or_obj, str | bytes) else text_or_obj
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise wrong("the configuration", "a list of APIs, each with a name, or one of them", value or None)
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
            f"{shorten(name)} is no name for an API: a letter, then letters, digits, - and _, "
            "no - at the end, at most 63 in all"
        )
    return name


def _build(
    name: str,
    raw: dict[str, Any],
    request: DeployRequest,
    extra: Iterable[str],
    files: Mapping[str, bytes],
    *,
    looks_up: bool,
    pickle: Content | None,
) -> APISpec:
    top = Section({key: value for key, value in raw.items() if key not in _ANSWERED}, "", _TOP)
    if (kind := top.text("kind") or KIND) != KIND:
        raise BadRequest(f"kind {shorten(kind)} can't be run here, only {KIND} can")
    draft = _start(name, top, request, extra)
    draft.files.update(files)
    draft.looks_up = looks_up
    draft.pickle = pickle
    spec: dict[str, Any] = {"name": name, "kind": KIND}
    if top.given("pod"):
        if top.given("definition"):
            raise BadRequest("definition (Cortex 0.28) and pod (0.42) exclude each other")
        if top.given("compute"):
            raise BadRequest("compute belongs into pod.containers[0].compute where there is a pod")
        if request.source is not None or pickle is not None:
            raise BadRequest("a pod runs a command: it takes neither source nor a pickled callable")
        spec["pod"], section = pod(top.get("pod"), draft)
        compute = spec["pod"]["containers"][0]["compute"] = _compute(section, draft)
    else:
        if not top.given("definition") and pickle is None:
            raise BadRequest("there is nothing to run: give definition.path (Cortex 0.28) or a pod (0.42)")
        spec["definition"] = definition(top.get("definition"), request, draft)
        spec["compute"] = compute = _compute(Section(top.get("compute"), "compute", COMPUTE), draft)
    spec["networking"] = {"endpoint": _endpoint(top, draft)}
    if top.given("node_groups"):
        spec["node_groups"] = top.texts("node_groups")
        draft.warnings.append("node_groups is ignored: jobs run on this machine")
    given = {key: top.whole(key, 1) for key in ("timeout", "run_timeout")}
    spec.update({key: value for key, value in {**given, "python": top.text("python")}.items() if value is not None})
    return _finish(draft, spec, compute)


def _start(name: str, top: Section, request: DeployRequest, extra: Iterable[str]) -> Draft:
    """Settle folder, interpreter and the variables that come from outside the specification."""
    cwd = os.path.expanduser(request.cwd or "~")
    if "\0" in cwd or not os.path.isabs(cwd) or not os.path.isdir(cwd):
        raise BadRequest(f"the folder to run in, {shorten(cwd)}, is no absolute path of a folder that exists")
    cwd = os.path.normpath(cwd)
    env = allowed_environ(os.environ if request.environ is None else request.environ, extra)
    search = env.get("PATH")
    python = interpreter.resolve(top.text("python") or request.python, cwd, search)
    deployer = python if not request.python else interpreter.resolve(request.python, cwd, search)
    env["PATH"] = variables.first_in_path(env, os.path.dirname(python))
    from_file, warnings = variables.dotenv(Path(cwd))
    return Draft(name, python, deployer, cwd, {**env, **from_file}, from_file, warnings)


def _finish(draft: Draft, spec: dict[str, Any], compute: dict[str, Any]) -> APISpec:
    launch = {"python": draft.python, "cwd": draft.cwd, "env": draft.env, "sys_path": [], **draft.launch}
    spec_id = _digest(spec)
    # argv may have variables in it; the spec has it as it was written
    content = {
        key: value for key, value in launch.items() if key not in ("env", "argv", "cloudpickle", "python_version")
    }
    files = {name: _sha256(content) for name, content in draft.files.items()}
    api_id = _digest([spec, content, files, draft.from_file])
    if draft.parameters is not None:
        if complaint := parameters.complaint(draft.parameters, draft.config, whole=False):
            raise BadRequest(f"definition.config: {complaint}")
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


def _compute(section: Section, draft: Draft) -> dict[str, Any]:
    cpu = parse_cpu(section.get("cpu"), section.at("cpu")) if section.given("cpu") else DEFAULT_CPU
    if section.given("cpu"):
        for count in variables.COUNTS:
            draft.env.setdefault(count, str(-(-cpu // 1000)))
    shown: dict[str, Any] = {"cpu": format_cpu(cpu), "gpu": section.whole("gpu", 0) or 0}
    if section.given("mem"):
        shown["mem"] = format_bytes(parse_memory(section.get("mem"), section.at("mem")))
    if section.whole("inf", 0):
        raise BadRequest(f"{section.at('inf')}: AWS Inferentia chips are not to be had here; leave it out")
    if section.given("shm"):
        shown["shm"] = format_bytes(parse_bytes(section.get("shm"), section.at("shm")))
        draft.warnings.append(f"{section.at('shm')} is ignored: a job uses the machine's own shared memory")
    return shown


def _endpoint(top: Section, draft: Draft) -> str:
    endpoint = Section(top.get("networking"), "networking", ("endpoint",)).text("endpoint") or draft.name
    if not _ENDPOINT.fullmatch(endpoint):
        raise BadRequest("networking.endpoint may have letters, digits and - _ . / in it, at most 1000 in all")
    if endpoint.strip("/") != draft.name:
        draft.warnings.append(f"networking.endpoint is ignored: jobs are submitted to the name, {draft.name}")
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
