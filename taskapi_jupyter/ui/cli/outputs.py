"""``result`` and ``files``: what a job has left."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path, PurePosixPath
from pprint import pformat
from typing import Any

from taskapi_jupyter import environments
from taskapi_jupyter.client.job_lookup import Resolver, Unclear
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import BadRequest, Conflict, printable, size
from taskapi_jupyter.display import clean, files_text
from taskapi_jupyter.display.formats import terminal_width

from . import groups
from .output import show, show_json, tell


def result(options: Namespace) -> None:
    """Wait, then print what the task returned; of a group, a list."""
    api = environments.connect(options.env)
    found = groups.meant(api, options.jobs)
    value = found[0].results() if found else Resolver(api, {}, None).one(options.jobs).kept_result()
    if options.output == "json":
        show_json(_as_json(value))
    elif value is not None:
        text = value if isinstance(value, str) else pformat(value, width=terminal_width(), sort_dicts=False)
        print(printable(text, "\n\t") if sys.stdout.isatty() else text)


def _as_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        what = type(value).__name__
        raise BadRequest(
            f"the result ({what}) has no JSON form: without -o json it is printed as Python does"
        ) from None


def files(options: Namespace) -> None:
    """List what a job left in its output folder, print one of the files, or save them to a folder."""
    job = Resolver(environments.connect(options.env), {}, None).one([options.job])
    if options.dir is not None:
        _save(job, options.path, Path(options.dir))
    elif options.path is not None:
        if options.output == "json":
            raise Unclear("-o json lists files: to print one, leave it out")
        with job.api.open_file(job, options.path) as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    else:
        listed = job.api.files(job)
        show(options, lambda: (listed, lambda look: files_text(listed, look.width)))
        if listed.truncated:
            tell(listed.truncated)


def _save(job: Job, path: str | None, folder: Path) -> None:
    """Save one file of a job, or all; nothing that is there is overwritten."""
    listed = [path] if path is not None else [one.path for one in job.api.files(job)]
    for one in listed:
        if not one or PurePosixPath(one).is_absolute() or {"..", "", "\0"} & {*one.split("/"), *one}:
            raise BadRequest(f"the path {clean(one, 200)!r} leads out of the job's folder: it is not saved")
    if there := [one for one in listed if os.path.lexists(folder / one)]:
        raise Conflict(f"{clean(folder / there[0], 200)} is there already: choose another folder, or move it away")
    saved = 0
    for one in listed:
        target = folder / one
        target.parent.mkdir(parents=True, exist_ok=True)
        with job.api.open_file(job, one) as file, target.open("xb") as copy:
            shutil.copyfileobj(file, copy)
            saved += copy.tell()
        print(clean(target, 500))
    tell(f"{len(listed)} file{'' if len(listed) == 1 else 's'} saved, {size(saved)}")
