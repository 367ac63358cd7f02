"""The sections of an API configuration as msgspec Structs, and :func:`read`, which names what is wrong in one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta

from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import values
from taskapi_jupyter.deploy.values import shorten

MAX_NODES = 100_000  # YAML aliases can make a small file large
MAX_TEXT = 10 << 20  # characters of all texts

Text = Annotated[str, Meta(pattern=r"(?s)\A(?!.*\0)\s*\S", description="text, neither empty nor with a NUL character")]
Word = Annotated[str, Meta(pattern=r"\A[^\0]*\Z", description="text without a NUL character")] | int | float | bool
Names = Annotated[list[Word], Meta(description="a list of names")]
Words = Annotated[list[Word], Meta(description="a list of texts, one for each word")]
Count = Annotated[int, Meta(ge=0, le=10**9, description="a whole number from 0 to 1000000000")]
Seconds = Annotated[int, Meta(ge=1, le=10**9, description="a whole number of seconds from 1 to 1000000000")]
Endpoint = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9_./-]{1,1000}\Z", description="1 to 1000 letters, digits and - _ . /")
]
ParameterName = Annotated[
    str, Meta(pattern=r"\A(\*\*|(\*\*)?[^\W\d]\w{0,199})\Z", description="the name of a parameter")
]
#: For types without a description.
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


class Section(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A mapping with known keys; null means absent."""


class Compute(Section):
    """What a job asks for."""

    cpu: Any = None
    gpu: Count | None = None
    inf: Count | None = None
    mem: Any = None
    shm: Any = None


class Warm(Section):
    """How jobs start from a process that has imported what the task imports."""

    preload: Any = "auto"
    idle: Any = "10m"
    max: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")] = 2


class Definition(Section):
    """A task in a Python file or a pickle, as in Cortex 0.28."""

    path: Text | None = None
    config: dict[str, Any] | None = None
    python_path: Text | None = None
    image: Text | None = None
    env: dict[str, Any] | None = None
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    function: Text | None = None
    python_version: Text | None = None
    requirements: Any = None
    script_metadata: bool | None = None
    parameters: Any = None
    warm: Warm | None = None
    kernel: Text | None = None
    cell_timeout: Seconds | None = None  # these, to `allow_unknown`, are of a notebook
    startup_timeout: Seconds | None = None
    keep_kernel: Any = None
    outputs: Annotated[list[Literal["html"]], Meta(description="a list of: html")] | None = None
    allow_unknown: bool | None = None


class Container(Section):
    """The one container of a pod."""

    name: Text | None = None
    image: Any = None
    command: Words | None = None
    args: Words | None = None
    env: dict[str, Any] | None = None
    compute: Compute | None = None
    liveness_probe: Any = None


class Pod(Section):
    """A task that is a command, as in Cortex 0.42."""

    containers: Annotated[list[Container], Meta(description="a list with one container")] | None = None
    port: Any = None


class Networking(Section):
    """How an API is reached in Cortex."""

    endpoint: Endpoint | None = None


class API(Section):
    """One API of a configuration."""

    name: str
    kind: Text | None = None
    definition: Definition | None = None
    pod: Pod | None = None
    networking: Networking | None = None
    compute: Compute | None = None
    node_groups: Names | None = None
    timeout: Seconds | None = None
    run_timeout: Seconds | None = None
    python: Text | None = None
    notify: Annotated[list[Text], Meta(description="a list of names of notifications")] | None = None


class Parameter(Section):
    """One parameter of a task, in ``definition.parameters``."""

    name: ParameterName
    required: Any = None
    default: Any = UNSET
    type: Text | None = None
    help: Text | None = None


def read(type_: Any, value: Any, where: str = "") -> Any:
    """Return a part of a configuration as a Struct or a list of them; ``where`` is the part's key.

    Raises :class:`BadRequest` that names the key, its value and what belongs there.
    """
    try:
        return decoding.convert(value, type_)
    except msgspec.ValidationError as error:
        at = re.search(r" - at `\$([\w.\[\]]*)`\Z", str(error))
        missing = re.match(r"Object missing required field `(\w+)`", str(error))
        path = (at[1] if at else "") + (f".{missing[1]}" if missing else "")
        raise _refusal(type_, value, where, path) from None


def _refusal(hint: Any, value: Any, where: str, path: str) -> BadRequest:
    """Follow msgspec's path (``.pod.containers[0].name``) to the wrong value; an unknown key on the way comes first."""
    for key, index in [*re.findall(r"\.(\w+)|\[(\d+)\]", path), ("", "")]:
        type_, wanted = _inner(hint)
        known = getattr(type_, "__struct_fields__", ())
        for name in value if known and isinstance(value, Mapping) else ():
            if name not in known:
                return _unknown(name, where, known)
        if key:
            hint, value = get_type_hints(type_, include_extras=True)[key], value.get(key)
            where = f"{where}.{key}" if where else key
        elif index:
            hint, value, where = get_args(type_)[0], value[int(index)], f"{where}[{index}]"
    return wrong(where or "it", wanted, value)


def _inner(hint: Any) -> tuple[Any, str]:
    """Return the type within ``Annotated[type, Meta] | None``, and a description of its values."""
    wanted = ""
    while get_origin(hint) in (Annotated, Union, UnionType):
        wanted = wanted or getattr(hint, "__metadata__", [Meta()])[0].description or ""
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        wanted = f"one of {', '.join(get_args(hint))}"
    return hint, wanted or _WORDS.get(get_origin(hint) or hint, "a mapping")


def _unknown(key: Any, where: str, known: tuple[str, ...]) -> BadRequest:
    near = difflib.get_close_matches(str(key)[:100], known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known)}"
    return BadRequest(f"unknown key {shorten(key)}{f' in {where}' if where else ''}; {hint}")


def wrong(path: str, wanted: str, value: Any) -> BadRequest:
    """Return the error that says what is expected at ``path``, and what is there."""
    if value is None:
        return BadRequest(f"{path} must be {wanted}, and is empty")
    return BadRequest(f"{path} must be {wanted}, not {shorten(value)}")


def plain(value: Any, path: str = "") -> Any:
    """Copy a part of a configuration into JSON's types, within bounds."""
    return values.plain(value, path, nodes=MAX_NODES, text=MAX_TEXT)


def scalar_text(value: str | float) -> str:
    """Return a scalar as text, the way YAML would have written it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
