"""For which jobs a new one waits, and whose results it gets: as people say it, and as a submission has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from taskapi_jupyter.core.errors import BadRequest, GroupNotFound, JobNotFound

from .groups.group import Group
from .headers import notebook_here
from .job_lookup import Resolver, Unclear, shorten
from .taskapi import Job, TaskAPI

MOST = 1000  # jobs and groups that one job may wait for

_WHOLE = re.compile(r"g?[0-9a-f]{16}")

After = Job | Group | str | Sequence[Job | Group | str] | None


class Waits(NamedTuple):
    """For what a job waits; ``config`` is that of the submission, without the jobs that were values in it."""

    config: dict[str, Any] | None
    after: list[str] | None = None
    any: bool = False
    results: dict[str, str] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Return the keys of the submission beside its config, without those that say nothing."""
        return {
            name: value
            for name, value in (("after", self.after), ("after_any", self.any or None), ("results", self.results))
            if value is not None
        }


def waits(
    api: TaskAPI,
    config: Mapping[str, Any] | None,
    after: After = None,
    after_any: bool = False,
    *,
    results: Mapping[str, Any] | None = None,
    group: str | None = None,
) -> Waits:
    """Return for what a new job of an environment waits, with whole ids; short ones are looked up.

    Raises :class:`BadRequest` where that can't be, :class:`JobNotFound` or :class:`GroupNotFound` for what is not
    there.
    """
    plain, found = apart(config)
    if results is not None and not isinstance(results, Mapping):
        raise BadRequest(f"results must be an object of keys and jobs, not {shorten(results)}")
    if twice := next((key for key in results or () if key in (config or ())), None):
        raise BadRequest(f"{str(twice)[:100]} is in config and in results: leave one out")
    found |= results or {}
    listed = [after] if isinstance(after, Job | Group | str) else after or ()
    if not isinstance(listed, Iterable) or isinstance(listed, Mapping | bytes):
        raise BadRequest(f"after must be a job, a group, an id or a list of these, not {shorten(after)}")
    ids = [one for given in listed for one in _ids(api, given)]
    values = {key: _result(api, key, value) for key, value in found.items()}
    ids = list(dict.fromkeys(ids))
    if len(ids) + len(values) > MOST:
        raise BadRequest(f"a job may wait for at most {MOST:,} others, not {len(ids) + len(values):,}: use a group")
    if not ids and not values:
        if after_any:
            raise BadRequest("after_any says how the jobs in after may have ended: give after, too")
        return Waits(plain)
    if group is not None:
        raise BadRequest("a job of a group can't wait for others: submit it without a group, or wait before you submit")
    return Waits(plain, ids or None, bool(after_any), values or None)


def apart(config: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, dict[Any, Any]]:
    """Return a config without the values that are jobs, and these."""
    if not isinstance(config, Mapping):
        return config, {}
    jobs = {key: value for key, value in config.items() if isinstance(value, Job)}
    return {key: value for key, value in config.items() if key not in jobs} if jobs else config, jobs  # type: ignore[return-value]


def refuse(environment: str, config: Mapping[str, Any] | None, *given: Any) -> None:
    """Raise :class:`BadRequest` where a job is to wait for others on a cluster whose jobs can't."""
    if any(given) or apart(config)[1]:
        raise BadRequest(
            f"{environment} is a Cortex cluster, whose jobs can't wait for others: wait for those, then submit this one"
        )


def check_whole(ids: Iterable[str]) -> None:
    """Raise :class:`JobNotFound` or :class:`GroupNotFound` for what is not a whole id."""
    for one in ids:
        if not _WHOLE.fullmatch(one):
            raise GroupNotFound(one) if one.startswith("g") else JobNotFound(one)


def _ids(api: TaskAPI, given: Any) -> list[str]:
    """Return the ids that one of the things to wait for means."""
    if isinstance(given, Job | Group):
        _check_environment(api, given)
        return [given.id]
    if not isinstance(given, str):
        raise BadRequest(f"after must have jobs, groups or ids, not {shorten(given)}")
    if _WHOLE.fullmatch(given):
        return [given]
    resolver = Resolver(api, {}, notebook_here())
    try:
        found: Sequence[Job | Group] = resolver.groups([given]) or resolver.many([given])
    except Unclear as error:
        raise JobNotFound(given) if not given else BadRequest(str(error)) from None
    return [one.id for one in found]


def _result(api: TaskAPI, key: Any, value: Any) -> str:
    """Return the id of the job whose result a key of the config gets."""
    if not isinstance(key, str):
        raise BadRequest(f"the keys of results must be text, not {shorten(key)}")
    if isinstance(value, Group) or (isinstance(value, str) and value.startswith("g") and _WHOLE.fullmatch(value)):
        raise BadRequest(f"{key[:100]}: a group has no result of its own: give one of its jobs")
    found = _ids(api, value)
    if len(found) != 1 or found[0].startswith("g"):
        raise BadRequest(f"{key[:100]}: give one job, whose result it gets")
    return found[0]


def _check_environment(api: TaskAPI, one: Job | Group) -> None:
    theirs = one.environment if isinstance(one, Job) else one.api.environment
    if theirs != api.environment:
        raise BadRequest(
            f"{one.called} is of environment {theirs}, and a job in {api.environment} can wait only for jobs there"
        )
