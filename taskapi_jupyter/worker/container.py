"""Runs a cell's task in a container of a Cortex cluster (0.36 and later), which has nothing of ours.

Its text travels in the container's arguments, as ``python -c``; standard library only, for Python 3.6 too. The one
argument is JSON, deflated, in base64: ``source``, ``name`` of its file, ``attr``, the API's ``config``, and ``job``,
the text of ``taskapi_jupyter.job``.
"""

import base64
import json
import os
import sys
import tempfile
import types
import zlib

JOB_FILE = "/cortex/spec/job.json"


def main(argument: str) -> None:
    given = json.loads(zlib.decompress(base64.b64decode(argument)).decode())
    with open(os.environ.get("CORTEX_JOB_SPEC", JOB_FILE)) as file:
        submitted = json.load(file).get("config") or {}
    folder = tempfile.mkdtemp(prefix="taskapi-")
    path = os.path.join(folder, given["name"])
    with open(path, "w", encoding="utf-8") as text:
        text.write(given["source"])
    sys.path.insert(0, folder)
    lend(given["job"])
    module = types.ModuleType("task")
    module.__file__ = path
    sys.modules["task"] = module
    exec(compile(given["source"], path, "exec"), module.__dict__)
    task = getattr(module, given["attr"])
    if isinstance(task, type):
        task = task()
    task(merge(given["config"], submitted))


def lend(text: str) -> None:
    """Make ``taskapi_jupyter.job`` importable where the image does not have it."""
    try:
        import taskapi_jupyter.job  # noqa: F401
    except ImportError:
        package = sys.modules.setdefault("taskapi_jupyter", types.ModuleType("taskapi_jupyter"))
        package.job = sys.modules["taskapi_jupyter.job"] = types.ModuleType("taskapi_jupyter.job")  # type: ignore[attr-defined]
        exec(text, sys.modules["taskapi_jupyter.job"].__dict__)


def merge(low: dict, high: dict) -> dict:  # type: ignore[type-arg]
    """Merge deeply; the submitted value wins."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


if __name__ == "__main__":
    main(sys.argv[1])
