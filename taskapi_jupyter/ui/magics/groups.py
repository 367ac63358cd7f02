"""What the verbs of ``%taskapi`` do with a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskapi_jupyter.client.groups.configs import swept
from taskapi_jupyter.client.groups.group import Group
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.errors import BadRequest, JobFailed
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.notebook import is_notebook
from taskapi_jupyter.display.groups import configs_html, configs_text
from taskapi_jupyter.ui.verbs import OF_ATTEMPTS, OF_CHAINS, OF_GROUPS, names_to_notify

from .line import Line, LineError
from .show import printer

_NAMED = 10  # jobs without success that a sentence names


class Planned:
    """The jobs that a line would submit, displayed as a table."""

    def __init__(self, configs: Sequence[Mapping[str, Any] | None]) -> None:
        self.configs = [
            config and {key: f"result of {one.id}" if isinstance(one, Job) else one for key, one in config.items()}
            for config in configs
        ]

    def __repr__(self) -> str:
        return f"{configs_text(self.configs)}\n{self._count}"

    def _repr_html_(self) -> str:
        return f"{configs_html(self.configs)}<div>{self._count}</div>"

    @property
    def _count(self) -> str:
        return f"{len(self.configs):,} job{'' if len(self.configs) == 1 else 's'}; nothing was submitted"


def attempts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that single jobs take, too."""
    found = {one.key: options[one.key] for one in OF_ATTEMPTS if one.key in options}
    return found | ({"notify": names_to_notify(options["notify"])} if "notify" in options else {})


def waits(read: Line, resolver: Resolver, is_group: bool) -> dict[str, Any]:
    """Return for which jobs the job of a line waits, and whose results it gets, as ``submit()`` takes them."""
    given = [one for one in OF_CHAINS if one.key in read.options]
    if given and is_group:
        raise LineError(f"{given[0].name} is for a single job: a group can't wait for others", read.verb)
    found: dict[str, Any] = {"after_any": True} if read.options.get("after_any") else {}
    if words := read.options.get("after"):
        found["after"] = [one for word in words for one in resolver.groups([word]) or resolver.many([word])]
    if pairs := read.options.get("result"):
        found["results"] = {key: resolver.one([word]) for key, word in pairs.items()}
    return found


def planned(read: Line, config: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """Return the configs of the group that a line submits; None where it submits a single job."""
    options = read.options
    if not options.keys() & {"sweep", "zip", "repeat"}:
        alone = {"dry_run", "name"} if _is_notebook(read) else {"dry_run"}
        for one in OF_GROUPS:
            if one.key in options and one.key not in alone:
                raise LineError(f"{one.name} is for a group: give --sweep, --zip or --repeat, too", read.verb)
        return None
    every, pairs = bool(options.get("sweep")), bool(options.get("zip"))
    try:
        return swept(config or {}, sweep=every, zip=pairs, repeat=options.get("repeat"))
    except BadRequest as error:
        raise LineError(str(error), read.verb) from None


def _is_notebook(read: Line) -> bool:
    """Whether a line is about a notebook's file, whose API ``--name`` then names."""
    return is_notebook(str(read.words[0]))


def submit(
    api: TaskAPI,
    name: str,
    configs: Sequence[dict[str, Any]],
    read: Line,
    *,
    notebook: str | None,
    api_id: str | None,
) -> Group:
    """Submit a group, and wait for it where the line says so."""
    options = read.options
    group = api.map(
        name,
        configs,
        timeout=options.get("timeout"),
        run_timeout=options.get("run_timeout"),
        name=None if _is_notebook(read) else options.get("name"),
        max_running=options.get("max_running"),
        notebook=notebook,
        api_id=api_id,
        **attempts(options),
    )
    return checked(group.wait()) if options.get("wait") else group


def checked(group: Group) -> Group:
    """Return a group that has ended; raise :class:`JobFailed` unless all of its jobs succeeded."""
    if set(group.counts) <= {JobCode.SUCCEEDED.value}:
        return group
    failed = [job for job in group if job.record.code is not JobCode.SUCCEEDED]
    lines = [f"[{job.record.index}] {job.id}: {job.record.code.label}" for job in failed[:_NAMED]]
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    message = f"{len(failed)} of {len(group)} jobs of {group.called} did not succeed: {', '.join(lines)}{more}"
    raise JobFailed(message, failed[0].id, failed[0].status)


def print_logs(group: Group, follow: bool, tail: int | None) -> None:
    """Print the logs of a group's jobs one after the other, each line with the job's index before it."""
    for line in group.log_lines(tail, follow):
        printer.write(f"{line}\n")
