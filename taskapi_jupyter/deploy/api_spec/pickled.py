"""Which modules a pickle refers to, read from its opcodes without loading it, and whether an interpreter has them."""

from __future__ import annotations

import os
import pickletools
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.paths import WORKER
from taskapi_jupyter.deploy.packages import interpreter

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.packages.resolve import Environment

_OPCODES = {one.code: one for one in pickletools.opcodes}
_BYTES = {"BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}  # and how many bytes say their length
SECONDS = 10.0  # that the interpreter has to answer
_OURS = {"__main__", "builtins", "cloudpickle", "taskapi_jupyter", "cortex_internal"}
_IMPORTS = {("cloudpickle.cloudpickle", "subimport"), ("cloudpickle.cloudpickle", "dynamic_subimport")}
#: Only the top of a name is looked up: to find more, the packages would be imported.
_LOOK_UP = """
import json, sys
from importlib.util import find_spec
given = json.load(sys.stdin)
sys.path[0] = given["here"]
from harness import search_path
sys.path[:] = search_path(given["paths"], sys.path[1:])
def is_there(name):
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return name in sys.modules
print(json.dumps([name for name in given["names"] if not is_there(name)]))
"""
#: Which packages the modules of an interpreter belong to
_BELONG = """
import json, sys
from importlib.metadata import packages_distributions
names, found = json.load(sys.stdin), packages_distributions()
print(json.dumps({name: found[name] for name in names if name in found and name not in sys.stdlib_module_names}))
"""


def modules(content: bytes | Path) -> set[str]:
    """Return the top-level modules that a pickle names; a malformed pickle is not reported here."""
    found: set[str] = set()
    memo: dict[int, Any] = {}
    stack: list[Any] = []  # of what was pushed: texts, and pairs of module and name; None for all else
    file: IO[bytes] = content.open("rb") if isinstance(content, Path) else BytesIO(content)
    try:
        for opcode, value in _opcodes(file):
            if opcode in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(value) if value is not None else len(memo)] = stack[-1] if stack else None
                continue
            if opcode in ("GET", "BINGET", "LONG_BINGET"):
                pushed = memo.get(int(value or 0))
            elif opcode == "STACK_GLOBAL":
                pushed = tuple(stack[-2:])
            elif opcode in ("GLOBAL", "INST"):
                pushed = tuple(str(value).split(" ", 1))
            elif isinstance(value, str):
                pushed = value
            elif opcode in ("FRAME", "PROTO", "TUPLE1", "MARK"):
                continue
            else:
                pushed = None
            if isinstance(pushed, str) and stack and stack[-1] in _IMPORTS:
                found.add(pushed)
            if isinstance(pushed, tuple) and all(isinstance(one, str) for one in pushed):
                found.add(pushed[0])
            stack = [*stack[-1:], pushed]
    except Exception:  # whatever pickletools makes of bytes that are no pickle
        pass
    finally:
        file.close()
    return {name.partition(".")[0] for name in found if name} - _OURS


def _opcodes(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield a pickle's opcodes and their values; bytes, which may be large, are skipped, and their value is None."""
    while (code := file.read(1)) and code != b".":
        opcode = _OPCODES[code.decode("latin-1")]
        if opcode.name in _BYTES:
            file.seek(int.from_bytes(file.read(_BYTES[opcode.name]), "little"), os.SEEK_CUR)
            yield opcode.name, None
        else:
            yield opcode.name, opcode.arg.reader(file) if opcode.arg else None


def check_modules(content: bytes | Path, python: str, paths: list[str], env: Mapping[str, str], cwd: str) -> str | None:
    """Raise :class:`BadRequest` with the modules that ``python`` can't find; return a warning if it does not answer.

    ``paths`` are those of :func:`harness.search_path`.
    """
    given = {"names": sorted(modules(content)), "here": WORKER, "paths": paths}
    try:
        missing = interpreter.ask(python, "-c", _LOOK_UP, given=given, env=env, cwd=cwd, seconds=SECONDS)
    except BadRequest as error:
        return f"could not check whether the task's modules can be imported: {error.message}"
    if missing:
        what = "the module" if len(missing) == 1 else "the modules"
        raise BadRequest(
            f"the callable refers to {what} {', '.join(missing)}, which {python} can't import: install what is "
            "missing there, or put its folder on sys.path and deploy again"
        )
    return None


def lacking(content: bytes | Path, deployer: str, environment: Environment) -> list[str]:
    """Return a warning, or none, about modules whose packages, in the interpreter that deploys, were not asked for.

    Another package may bring a module of the same name, so that it is not refused.
    """
    names = sorted(modules(content))
    try:
        belong = interpreter.ask(deployer, "-c", _BELONG, given=names, seconds=SECONDS) if names else {}
    except BadRequest:
        return []
    missing = {
        name: packages for name, packages in belong.items() if all(environment.has(one) is False for one in packages)
    }
    if not missing:
        return []
    what = ", ".join(f"{name} ({packages[0]})" for name, packages in missing.items())
    return [
        f"the callable refers to {what}, which {'is' if len(missing) == 1 else 'are'} not among its packages: unless "
        "another one brings it, its jobs fail: add it to the requirements"
    ]
