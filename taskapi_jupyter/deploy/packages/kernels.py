"""Kernelspecs: which there are on this machine, the one that runs a notebook, and the Python that one starts."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from string import Template
from typing import Any

from taskapi_jupyter.core.contract import Interpreter, KernelEntry
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import shorten

from . import interpreter

_OWN_PYTHON = {"python", "python3", "python{}.{}".format(*sys.version_info)}  # the interpreter that starts the kernel
_PYTHON = re.compile(r"python[\d.]*")  # names of programs that are one
_LOCAL = "local-provisioner"
_SHOWN = 10  # names in a sentence
THREADS = 8  # in which interpreters are asked for their version
SECONDS = 5.0  # for all of them
_LEAST = 0.1  # seconds for one, where those before it did not answer


@dataclass(frozen=True)
class Kernel:
    """A kernelspec that can be started: its program was found.

    ``program`` is the absolute path of that; ``without_file`` the whole of one that Jupyter has without a file, the
    interpreter's own.
    """

    name: str
    folder: str
    language: str
    display_name: str
    argv: list[str]
    env: Mapping[str, str]
    program: str
    without_file: dict[str, Any] = field(default_factory=dict)

    @property
    def launch(self) -> dict[str, Any]:
        """What the runner of a notebook is told of it."""
        return {
            **({"spec": self.without_file} if self.without_file else {}),
            "name": self.name,
            "folder": self.folder,
            "language": self.language,
            "display_name": self.display_name,
        }

    @property
    def file(self) -> str:
        """The path of its ``kernel.json``."""
        return os.path.join(self.folder, "kernel.json")

    @property
    def python(self) -> str | None:
        """The Python interpreter that it starts; None where its program is another: a script, ``env``, ``conda run``.

        A script that hands its arguments on to a Python counts as one: it is started as ``script -m ipykernel...``.
        """
        if self.language.lower() != "python":
            return None
        options = self.argv[1 : self.argv.index("-m")] if "-m" in self.argv else ["?"]
        is_one = _PYTHON.fullmatch(os.path.basename(self.program)) or all(one.startswith("-") for one in options)
        return self.program if is_one else None

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of its ``env``; ``${NAME}`` is that of ``environ``, and stays where there is none."""
        return {name: Template(value).safe_substitute(environ) for name, value in self.env.items()}


def folders() -> dict[str, str]:
    """Return the names of the kernelspecs that this process finds, each with its folder."""
    return _found(_manager())


def find(name: str, search: str | None) -> Kernel:
    """Return the kernelspec of a name; ``search`` is the ``PATH`` of its jobs.

    Raises :class:`BadRequest` where there is none of that name, which lists those there are, where its program is
    missing, or where jobs can't start it.
    """
    manager = _manager()
    there = _found(manager)
    folder = there.get(name.lower())
    if folder is None:
        raise BadRequest(f"there is no kernel {shorten(name)}; {_listed(there, name)}")
    try:
        return _read(manager, name, folder, search)
    except _Wrong as error:
        raise BadRequest(str(error)) from None


def unnamed(path: str) -> BadRequest:
    """Return the error of a notebook that names no kernel."""
    return BadRequest(f"{path} names no kernel: choose one with --kernel (definition.kernel); {_listed(folders())}")


def of_task(name: str, what: str, search: str | None) -> Kernel:
    """Return the kernelspec whose Python runs ``what``, such as ``a cell task``; raise as :func:`find` does.

    That is refused of another language, and where the kernel's program is no Python interpreter.
    """
    found = find(name, search)
    if found.language.lower() != "python":
        raise BadRequest(f"kernel {shorten(name)} runs {found.language}; {what} is Python")
    if found.python is None:
        raise BadRequest(
            f"kernel {shorten(name)} starts {found.program}, which is no Python interpreter (argv in {found.file}), "
            f"and {what} runs in one without a kernel: give its path as python instead (sys.executable in a notebook "
            "with this kernel)"
        )
    return found


def listed(search: str | None = None) -> list[KernelEntry]:
    """Return all kernelspecs that this process finds, each with what prevents a job from being started with it.

    Interpreters that are not known yet are asked for their version, which takes ``SECONDS`` at most.
    """
    manager, until = _manager(), time.monotonic() + SECONDS

    def entry(item: tuple[str, str]) -> KernelEntry:
        return _entry(manager, *item, search, until)

    with ThreadPoolExecutor(THREADS, "taskapi-kernels") as pool:
        return list(pool.map(entry, sorted(_found(manager).items())))


def _entry(manager: Any, name: str, folder: str, search: str | None, until: float) -> KernelEntry:
    try:
        found = _read(manager, name, folder, search)
    except _Wrong as error:
        return KernelEntry(name=name, display_name=error.display_name, language=error.language, problem=str(error))
    entry = KernelEntry(name=name, display_name=found.display_name, language=found.language)
    if found.python is not None:
        entry.python = Interpreter(path=found.python)
        try:
            left = max(until - time.monotonic(), _LEAST)
            entry.python.version = interpreter.full_version(found.python, seconds=left)
            interpreter.check_version(found.python, entry.python.version)
        except BadRequest as error:
            entry.problem = error.message
    return entry


class _Wrong(ValueError):
    """Why a kernelspec can't be used, and what was read of it."""

    def __init__(self, text: str, display_name: str, language: str = "") -> None:
        super().__init__(text)
        self.display_name, self.language = display_name, language


def _read(manager: Any, name: str, folder: str, search: str | None) -> Kernel:
    """Return the kernelspec in a folder; raise :class:`_Wrong` where it can't be used."""
    folder = os.path.abspath(folder)
    file, called = os.path.join(folder, "kernel.json"), shorten(name)
    try:
        # Not by its name: for one whose provisioner is missing, Jupyter says that there is no such kernel.
        spec = manager.kernel_spec_class.from_resource_dir(folder) if os.path.exists(file) else None
        spec = spec or manager.get_kernel_spec(name.lower())
        argv, env = [str(word) for word in spec.argv], {str(key): str(value) for key, value in spec.env.items()}
        provisioner = ((spec.metadata or {}).get("kernel_provisioner") or {}).get("provisioner_name", _LOCAL)
    except Exception as error:  # whatever a kernelspec's file raises
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise _Wrong(f"the kernelspec {called} in {folder} can't be used: {why}", name) from None
    display_name, language = spec.display_name or name, spec.language or "python"
    if provisioner != _LOCAL:
        told = f"the kernel {called} is started by {shorten(provisioner)}; a job starts kernels of this machine only"
        raise _Wrong(told, display_name, language)
    given = argv[0] if argv else ""
    for key, value in (("resource_dir", folder), ("prefix", sys.prefix)):
        given = given.replace(f"{{{key}}}", value)
    program = sys.executable if given in _OWN_PYTHON else shutil.which(os.path.expanduser(given), path=search)
    if not program:
        told = (
            f"the kernel {called} can't be started: its program {shorten(given)} does not exist or is not "
            f"executable (argv in {file}): install it there, or choose another kernel"
        )
        raise _Wrong(told, display_name, language)
    return Kernel(
        name=name.lower(),
        folder=folder,
        language=language,
        display_name=display_name,
        argv=argv,
        env=env,
        program=os.path.abspath(program),
        without_file={} if os.path.exists(file) else spec.to_dict(),
    )


def _manager() -> Any:
    from jupyter_client.kernelspec import KernelSpecManager  # takes time to import, and few deploys need it

    return KernelSpecManager()


def _found(manager: Any) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of folders whose names are no names of kernelspecs
        return dict(manager.find_kernel_specs())


def _listed(there: Mapping[str, str], name: str = "python3") -> str:
    """Return a sentence with the names there are, the closest first."""
    near = difflib.get_close_matches(name.lower()[:100], sorted(there), len(there) or 1, 0)
    names = [*near[:_SHOWN], *(["..."] if len(near) > _SHOWN else ())]
    return f"there are: {', '.join(names)}" if names else "there is none here: pip install ipykernel installs one"
