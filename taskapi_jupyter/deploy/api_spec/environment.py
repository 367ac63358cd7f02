"""The environment of packages that a task runs in, where it asks for one, as part of what starts its jobs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Protocol

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.packages import BLOCK, NONE, interpreter

from . import variables
from .sections import wrong

if TYPE_CHECKING:
    from taskapi_jupyter.core.contract import DeployRequest
    from taskapi_jupyter.deploy.notebook import Notebook
    from taskapi_jupyter.deploy.packages.requirements import Asked
    from taskapi_jupyter.deploy.packages.resolve import Environment, Wanted

    from .sections import Definition
    from .shapes import Draft


class Packages(Protocol):
    """What finds the environment that a task asks for."""

    def resolve(self, wanted: Wanted) -> Environment:
        """Return it, or raise :class:`BadRequest` that says why there can't be one."""


def of_text(given: Definition, request: DeployRequest, draft: Draft, text: str, shown: str) -> None:
    """Have the task of a text run in the environment that the API, or the text's block, asks for."""
    asked = None
    if given.script_metadata is not False and BLOCK in text:
        from taskapi_jupyter.deploy.packages import script

        asked = script.read(text, shown, draft.cwd, {**draft.env, **(request.build_environ or {})})
    find(given, request, draft, asked)


def of_notebook(given: Definition, request: DeployRequest, draft: Draft, found: Notebook, shown: str) -> Any:
    """Do the same for a notebook; return its kernel as a launch has it, None where a kernelspec says which."""
    asked = None
    cells = [one["source"] for one in found.cells if one["cell_type"] == "code"]
    is_python = (found.language or "python").lower() == "python"
    if given.script_metadata is not False and is_python and any(BLOCK in one for one in cells):
        from taskapi_jupyter.deploy.packages import script

        asked, told = script.of_notebook(cells, shown, draft.cwd, {**draft.env, **(request.build_environ or {})})
        draft.warnings += told
    if given.kernel is not None and asked is not None:
        draft.warnings.append(f"{shown}: its block {BLOCK} is ignored: definition.kernel says what runs it")
        asked = None
    if (given.kernel is not None or not is_python) and is_asked_for(given, None):
        why = (
            "definition.kernel has an interpreter of its own" if is_python else f"it is a notebook of {found.language}"
        )
        raise BadRequest(f"{shown} can't have requirements: {why}")
    environment = find(given, request, draft, asked, adds="ipykernel")
    if environment is None:
        return None
    argv = [environment.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"display_name": f"Python {environment.base.minor}", "language": "python"}
    return {"name": found.kernel or "python3", "folder": "", **about, "spec": {"argv": argv, **about}}


def is_asked_for(given: Definition, script: Asked | None, *, pickled: bool = False) -> bool:
    """Whether an environment is to be built. A callable's ``python_version`` is that by which it was pickled."""
    if given.requirements not in (None, NONE):
        return True
    return script is not None or (given.python_version is not None and not pickled)


def find(
    given: Definition,
    request: DeployRequest,
    draft: Draft,
    script: Asked | None = None,
    *,
    adds: str | None = None,
    pickled: bool = False,
) -> Environment | None:
    """Find the environment and put it into the draft; None where the task runs in an interpreter as it is.

    ``draft.python`` becomes the interpreter that it is made with, of which all can be asked but what it can import.
    """
    if not is_asked_for(given, script, pickled=pickled):
        return None
    asked, minor = given.requirements, given.python_version
    if not isinstance(asked, str | None) and not (isinstance(asked, list) and all(isinstance(o, str) for o in asked)):
        raise wrong("definition.requirements", "auto, none, the path of a file, or a list of requirements", asked)
    if minor is not None and not re.fullmatch(r"3\.\d{1,2}", minor):
        raise wrong("definition.python_version", "a version of Python such as 3.12", minor)
    if draft.packages is None:
        raise BadRequest("requirements can't be used here: no environments are built")
    if pickled:  # one that was named is checked with the pickle
        minor = None if draft.named else minor or interpreter.version(draft.deployer)
    from taskapi_jupyter.deploy.packages.resolve import LOCK, Wanted

    found = draft.packages.resolve(
        Wanted(
            requirements=NONE if asked is None else asked,
            script=script,
            folder=draft.cwd,
            python=draft.python,
            named=draft.named or given.kernel is not None,
            minor=minor,
            env=draft.env,
            build_env=variables.build_environ(request.build_environ or {}),
            upgrade=request.upgrade,
            adds=adds,
        )
    )
    draft.environment, draft.python = found, found.base.path
    draft.warnings += found.warnings
    draft.files[LOCK] = found.lock
    draft.launch["packages"] = found.launch
    if draft.looks_up:
        draft.launch["python"] = found.python
        draft.env["PATH"] = variables.first_in_path(draft.env, os.path.dirname(found.python))
        draft.env["VIRTUAL_ENV"] = found.folder
    return found
