"""Conda environments: what activating one sets, for a task that runs in it without having been started from a shell."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

_UNSET = "***unset***"  # conda's mark for a variable that activation removes
_SHOWN = 5  # scripts in a warning


def activation(python: str, environ: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """Return the variables that activating an interpreter's conda environment sets, and a warning about its scripts.

    None where ``conda-meta`` does not lie beside the interpreter, or where ``environ`` is that of the activated
    environment. The variables are those that ``conda activate`` sets by itself, and those that the environment or its
    packages declare; what scripts in ``etc/conda/activate.d`` would set is unknown, so the warning names them.
    """
    folder = os.path.dirname(python)
    prefix = os.path.dirname(folder)
    active = os.path.realpath(environ.get("CONDA_PREFIX") or "/") == os.path.realpath(prefix)
    if active or not os.path.isdir(os.path.join(prefix, "conda-meta")):
        return {}, None
    paths = [one for one in environ.get("PATH", os.defpath).split(os.pathsep) if one != folder]
    if os.path.basename(os.path.dirname(prefix)) == "envs":
        name = os.path.basename(prefix)
    else:
        name = "base" if os.path.isdir(os.path.join(prefix, "condabin")) else prefix
    found = dict(_declared(prefix))
    found |= {"PATH": os.pathsep.join([folder, *paths]), "CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": name}
    scripts = sorted(map(os.path.basename, glob.glob(os.path.join(glob.escape(prefix), "etc/conda/activate.d/*.sh"))))
    if not scripts:
        return found, None
    shown = ", ".join([*scripts[:_SHOWN], *(["..."] if len(scripts) > _SHOWN else ())])
    return found, (
        f"scripts that activate the conda environment {prefix} are not run ({shown} in etc/conda/activate.d): give the "
        "variables that they set in definition.env"
    )


def _declared(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that packages declare, then those of ``conda env config vars set``."""
    for file in (*sorted(glob.glob(os.path.join(glob.escape(prefix), "etc/conda/env_vars.d/*"))), ""):
        with suppress(OSError, ValueError, TypeError, AttributeError):  # conda's own files; malformed ones set nothing
            with open(file or os.path.join(prefix, "conda-meta", "state"), encoding="utf-8") as opened:
                read = json.load(opened)
            for key, value in (read if file else read.get("env_vars", {})).items():
                if isinstance(value, str) and value != _UNSET:
                    yield key, value
