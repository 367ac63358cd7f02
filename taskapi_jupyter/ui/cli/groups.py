"""The verbs of the program that are about groups, and the groups that other verbs are given."""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskapi_jupyter import environments
from taskapi_jupyter.client.groups.configs import swept
from taskapi_jupyter.client.groups.group import Group
from taskapi_jupyter.client.job_lookup import Resolver, Unclear
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.errors import BadRequest, Conflict, GroupNotFound
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.notebook import is_notebook
from taskapi_jupyter.display import clean
from taskapi_jupyter.display.facts import why
from taskapi_jupyter.display.groups import configs_text, group_text, groups_text
from taskapi_jupyter.ui.verbs import OF_ATTEMPTS, OF_GROUPS, names_to_notify

from .output import Answer, done, show, tell

_MAX_FILE = 64 << 20  # bytes of a file of configs


def attempts(options: Namespace) -> dict[str, Any]:
    """Return the options that single jobs take, too."""
    given: dict[str, Any] = {one.key: getattr(options, one.key) for one in OF_ATTEMPTS}
    given["notify"] = None if options.notify is None else names_to_notify(options.notify)
    return {key: value for key, value in given.items() if value is not None}


def configs(options: Namespace, config: dict[str, Any], read: Any) -> list[dict[str, Any]] | None:
    """Return the configs of the group that a line submits; None where it submits a single job.

    ``read`` makes a value of a text of a CSV file.
    """
    if options.configs is not None and (options.sweep or options.zip):
        raise Unclear("--configs is a list of configs, --sweep and --zip make one: give one of them")
    if options.configs is None and not (options.sweep or options.zip or options.repeat):
        alone = {"dry_run", "name"} if is_notebook(options.api) else {"dry_run"}
        for one in OF_GROUPS:
            if getattr(options, one.key) and one.key not in alone:
                raise Unclear(f"{one.name} is for a group: give --sweep, --zip, --repeat or --configs, too")
        return None
    try:
        if options.configs is None:
            return swept(config, sweep=options.sweep, zip=options.zip, repeat=options.repeat)
        found = [{**config, **one} for one in _in_file(options.configs, read)]
        if options.repeat:
            return [one for each in found for one in swept(each, sweep=False, zip=False, repeat=options.repeat)]
        return found
    except BadRequest as error:
        raise Unclear(str(error)) from None


def _in_file(name: str, read: Any) -> list[dict[str, Any]]:
    """Read configs: a JSON list, a JSON object a line, or CSV with a header."""
    text = _text_of(name)
    begin = text.lstrip()[:1]
    if not begin:
        raise Unclear(f"{_shown(name)} is empty: it needs at least one config")
    if begin not in "[{":
        return _in_csv(name, text, read)
    if begin == "[":
        found = _json(text, f"{_shown(name)}")
        if not isinstance(found, list):
            raise Unclear(f"{_shown(name)} is not a list of configs")
    else:
        found = [
            _json(line, f"line {number} of {_shown(name)}")
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    for index, one in enumerate(found):
        if not isinstance(one, dict):
            raise Unclear(f"config {index} of {_shown(name)} is {repr(one)[:60]}, not an object of names and values")
    return list(found)


def _in_csv(name: str, text: str, read: Any) -> list[dict[str, Any]]:
    try:
        header, *rows = [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise Unclear(f"{_shown(name)} is neither JSON nor CSV: {error}") from None
    keys = [key.strip() for key in header]
    if not all(keys) or len(set(keys)) < len(keys):
        raise Unclear(f"the first line of {_shown(name)} must name each column, each once: {', '.join(header)[:200]}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(keys):
            raise Unclear(f"row {number} of {_shown(name)} has {len(row)} values, and the header {len(keys)} names")
    return [{key: read(value, key) for key, value in zip(keys, row, strict=True)} for row in rows]


def _text_of(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read(_MAX_FILE)
        path = Path(name)
        if path.stat().st_size > _MAX_FILE:
            raise Unclear(f"{_shown(name)} has more than {_MAX_FILE >> 20} MiB")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise Unclear(f"{_shown(name)} is not UTF-8 text") from None
    except OSError as error:
        raise Unclear(f"can't read {_shown(name)}: {error.strerror}") from None


def _json(text: str, where: str) -> Any:
    try:
        return nesting.loads(text)
    except json.JSONDecodeError as error:
        raise Unclear(f"{where} is not valid JSON: {error}") from None
    except ValueError as error:
        raise Unclear(f"{where}: {error}") from None


def _shown(name: str) -> str:
    return "standard input" if name == "-" else clean(name, 200)


def submit(options: Namespace, api: TaskAPI, name: str, api_id: str | None, wanted: Sequence[dict[str, Any]]) -> int:
    """Submit a group of jobs of an API, and wait for it with ``--wait``; ``--name`` names a notebook's API instead."""
    group = api.map(
        name,
        wanted,
        timeout=options.timeout,
        run_timeout=options.run_timeout,
        name=None if is_notebook(options.api) else options.name,
        max_running=options.max_running,
        api_id=api_id,
        **attempts(options),
    )
    if options.wait:
        return ended(options, [group], None)
    submitted(options, group)
    return 0


def submitted(options: Namespace, group: Group) -> None:
    """Say that a group was submitted."""
    jobs = f"{len(group):,} job{'' if len(group) == 1 else 's'} of {clean(group.api_name)}"
    show(options, lambda: (group.record, lambda look: f"{clean(group.called)} submitted, {jobs}"))


def plan(options: Namespace, wanted: Sequence[Mapping[str, Any]]) -> int:
    """Show which jobs would be submitted."""
    count = f"{len(wanted):,} job{'' if len(wanted) == 1 else 's'}; nothing was submitted"
    show(options, lambda: (list(wanted), lambda look: f"{configs_text(wanted)}\n{count}"))
    return 0


def meant(api: TaskAPI, words: Iterable[str | None]) -> list[Group]:
    """Return the groups that words mean; nothing where they mean something else."""
    return Resolver(api, {}, None).groups([word for word in words if word is not None])


def answer(group: Group) -> Answer:
    """Return how a group is printed."""
    return group.record, lambda look: group_text(group.record)


def ended(options: Namespace, groups: Sequence[Group], timeout: float | None) -> int:
    """Wait for groups and show them, with a line for each job that did not succeed; return 0 if all did, else 1."""
    for group in groups:
        group.wait(timeout)
    if len(groups) == 1:
        show(options, lambda: answer(groups[0]))
    else:
        records = [group.record for group in groups]
        show(options, lambda: (records, lambda look: groups_text(records, False, look.short, look.width)))
    if all(set(group.counts) <= {JobCode.SUCCEEDED.value} for group in groups):
        return 0
    for group in groups:
        for job in group:
            if job.record.code is not JobCode.SUCCEEDED:
                reason = ", ".join(filter(None, (job.record.code.label, why(job.record, 200))))
                tell(f"[{job.record.index}] {job.id}: {reason}")
    return 1


def stop(options: Namespace, groups: Sequence[Group]) -> None:
    """Stop the jobs of groups."""
    message = "\n".join(group.stop() for group in groups)
    show(options, lambda: done(message))


def listed(options: Namespace) -> None:
    """List groups, newest first."""
    found = environments.connect(options.env).groups(options.limit or 50)
    records = [group.record for group in found]
    more = bool(found.next_cursor)
    show(options, lambda: (records, lambda look: groups_text(records, more, look.short, look.width)))


def purge(options: Namespace) -> None:
    """Delete groups that have ended, with their jobs."""
    api = environments.connect(options.env)
    if options.groups:
        found = [api.group(word) for word in options.groups]
    else:
        found, cursor = [], None
        while True:
            page = api.groups(1000, cursor)
            found += [group for group in page if group.ended]
            cursor = page.next_cursor
            if not cursor:
                break
    said = []
    for group in found:
        with suppress(*(() if options.groups else (GroupNotFound, Conflict))):  # somebody else deletes, or reruns it
            said.append(group.forget())
    message = "\n".join(said) or "no group has ended"
    show(options, lambda: done(message))
