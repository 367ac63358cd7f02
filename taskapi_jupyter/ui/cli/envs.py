"""``env``: list the environments, and edit the file in this machine's home that defines them."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from taskapi_jupyter import environments
from taskapi_jupyter.client.environments_file import LOCAL, Entry, EnvironmentFile
from taskapi_jupyter.client.headers import Value
from taskapi_jupyter.client.job_lookup import Unclear
from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.errors import Conflict
from taskapi_jupyter.display import environments_text

from .output import show, tell

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def listed(options: Namespace) -> None:
    """Show the environments; the client of Cortex 0.28 reads another form, and sets a variable to ask for it."""
    there = environments.environments()
    value: Any = {"default_environment": there.default_environment, "environments": there.environments}  # as Cortex's
    if os.environ.get("TASKAPI_CORTEX_CLI", "").startswith("0.28"):
        value = [
            {"name": one.name, "provider": one.provider, "operator_endpoint": one.operator_endpoint or ""}
            for one in there.environments
        ]
    show(options, lambda: (value, lambda look: environments_text(there.environments, there.default_environment)))


def configure(options: Namespace) -> None:
    """Add an environment, or change the settings given; an empty value removes a setting."""
    if options.name == LOCAL:
        raise Unclear(f"{LOCAL!r} is this machine and can't be configured: give the cluster another name")
    file = _file()
    known = file.read().entries.get(options.name)
    values: dict[str, Any] = msgspec.to_builtins(known) if known else {"name": options.name, "provider": "cortex"}
    readers: dict[str, Callable[[Any], Any]] = {
        "provider": str,
        "address": _url,
        "storage": str,
        "operator_endpoint": _url,
        "api_endpoint": _url,
        "version": str,
        "verify": _verify,
        "timeout": float,
    }
    for field, read in readers.items():
        given = getattr(options, field)
        if given == "":
            values.pop(field, None)
        elif given is not None:
            values[field] = read(given)
    if options.operator_endpoint:
        values["provider"] = "cortex"
    elif options.address:
        values["provider"] = "ray"
    elif known is None:
        raise Unclear(
            f"a new environment needs --operator-endpoint, the URL of {options.name}'s operator, or --address, that of "
            "a Ray cluster's dashboard"
        )
    headers: dict[str, Value] = dict(values.get("headers", {}))
    clear = [name for text in options.header if (name := _set_header(headers, text))]
    values["headers"] = headers
    try:
        entry = decoding.convert(values, Entry)
    except msgspec.ValidationError as error:
        raise Unclear(str(error)) from None
    is_new = file.configure(entry)
    message = f"{'added' if is_new else 'changed'} environment {entry.name}"
    where = entry.operator_endpoint or entry.address
    message += f": {where}" if where else ""
    show(options, lambda: ({"message": message}, lambda look: message))
    for name in clear:
        tell(
            f"warning: {file.path} now holds the value of header {name} in plain text; "
            f"'{name}=env:VARIABLE' and '{name}=file:PATH' keep it out of the file"
        )


def delete(options: Namespace) -> None:
    """Remove an environment."""
    from taskapi_jupyter.ray.service import forget_headers  # its imports take time that other commands need not spend

    file = _file()
    default = file.read().default
    file.delete(options.name)
    forget_headers(file.path.parent, options.name)
    message = f"deleted environment {options.name}"
    if default == options.name:
        message += f"; the default environment is now {file.read().default}"
    show(options, lambda: ({"message": message}, lambda look: message))


def default(options: Namespace) -> None:
    """Print the default environment, or choose it."""
    if options.name is None:
        name = environments.environments().default_environment
        message = name
    else:
        name = options.name
        _file().set_default(name)
        message = f"the default environment is now {name}"
    show(options, lambda: ({"default_environment": name}, lambda look: message))


def _file() -> EnvironmentFile:
    """Return the file to change; raise :class:`Conflict` where a server's file applies instead."""
    if os.environ.get("TASKAPI_URL"):
        raise Conflict(
            "TASKAPI_URL is set, so the environments are those of that server: change them on its machine, or unset it"
        )
    return environments.file()


def _url(text: str) -> str:
    return text if "://" in text else f"https://{text}"


def _verify(text: str) -> bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _path(text)


def _path(text: str) -> str:
    """Return a path that a server, which runs in another folder, understands in the same way."""
    return text if text.startswith("~") else str(Path(text).absolute())


def _set_header(headers: dict[str, Value], text: str) -> str | None:
    """Put ``Name=value`` into headers; return the name if the file will hold its value in plain text."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not name or not equals:
        # Without the text itself: it may be a secret whose name was forgotten.
        raise Unclear("--header is written 'Name=value', 'Name=env:VARIABLE' or 'Name=file:PATH'")
    for other in [other for other in headers if other.lower() == name.lower()]:
        del headers[other]
    kind, _, rest = value.partition(":")
    if not value:
        return None
    if kind == "env":
        if not _VARIABLE.fullmatch(rest):
            raise Unclear(f"--header {name}: env: must be followed by the name of an environment variable")
        headers[name] = {"env": rest}
    elif kind == "file":
        if not rest:
            raise Unclear(f"--header {name}: file: must be followed by a path")
        headers[name] = {"file": _path(rest)}
    else:
        headers[name] = value
        return None if _REFERENCE.search(value) else name
    return None
