"""The configs of a group: all combinations of lists, or lists of one length side by side."""

from __future__ import annotations

import math
import re
from builtins import zip as paired  # `expand` has a parameter of this name
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import (
    FAILURES,
    MAX_GROUP,
    MAX_PRIORITY,
    MAX_RETRIES,
    MAX_RETRY_DELAY,
    values,
)
from taskapi_jupyter.deploy.values import plain_config

Config = dict[str, Any]

NOTHING = "nothing to sweep: give at least one list, as in lr=[0.1,0.2]"


def grid(**lists: Iterable[Any]) -> list[Config]:
    """Return the configs of all combinations of some lists; the last list varies fastest.

    Parameters
    ----------
    **lists
        The values of each key: a list, a tuple, a range or any other iterable but text.

    Returns
    -------
    list of dict
        At most 100,000 configs, to be changed or filtered before :meth:`TaskAPI.map` submits them.

    Raises
    ------
    BadRequest
        There is no list, one is empty, or there are too many combinations.

    Examples
    --------
    >>> taskapi_jupyter.grid(lr=[0.1, 0.01], seed=range(2))
    [{'lr': 0.1, 'seed': 0}, {'lr': 0.1, 'seed': 1}, {'lr': 0.01, 'seed': 0}, {'lr': 0.01, 'seed': 1}]
    """
    return expand(lists)


def expand(
    lists: Mapping[str, Iterable[Any]],
    fixed: Mapping[str, Any] | None = None,
    *,
    zip: bool = False,  # noqa: A002 - the word that people know
    repeat: int | None = None,
) -> list[Config]:
    """Return the configs of a sweep; ``zip`` pairs lists of one length, ``repeat`` numbers further runs of each."""
    given = {key: _listed(key, some) for key, some in lists.items()}
    if not given and repeat is None:
        raise BadRequest(NOTHING)
    lengths = {key: len(some) for key, some in given.items()}
    if zip and len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        raise BadRequest(f"with zip, the lists must have one length: {said}")
    if repeat is not None and not (isinstance(repeat, int) and not isinstance(repeat, bool) and repeat >= 1):
        raise BadRequest(f"repeat must be a whole number from 1 on, not {repeat!r}")
    count = (next(iter(lengths.values()), 1) if zip else math.prod(lengths.values())) * (repeat or 1)
    _check_count(count, " x ".join(map(str, [*([] if zip else lengths.values()), *([repeat] if repeat else [])])))
    combinations: Iterable[Sequence[Any]]
    if not given:
        combinations = [()]
    elif zip:
        combinations = paired(*given.values(), strict=True)
    else:
        combinations = product(*given.values())
    found = [{**(fixed or {}), **dict(paired(given, one, strict=True))} for one in combinations]
    if repeat is None:
        return found
    return [{**config, "repeat": number} for config in found for number in range(repeat)]


def swept(config: Mapping[str, Any], *, sweep: bool, zip: bool, repeat: int | None) -> list[Config]:  # noqa: A002
    """Return the configs of a line: with ``sweep`` or ``zip``, the lists in ``config`` are swept, all else is fixed."""
    lists = {key: value for key, value in config.items() if isinstance(value, list)} if sweep or zip else {}
    if (sweep or zip) and not lists:
        raise BadRequest(NOTHING)
    return expand(lists, {key: value for key, value in config.items() if key not in lists}, zip=zip, repeat=repeat)


def _listed(key: str, some: Any) -> list[Any]:
    if isinstance(some, str | bytes | Mapping) or not isinstance(some, Iterable):
        raise BadRequest(f"{key} is {_shown(some)}, not a list of values to sweep: write [{_shown(some)}], or fix it")
    found: list[Any] = []
    for one in some:
        found.append(one)
        if len(found) > MAX_GROUP:
            _check_count(len(found), "")
    if not found:
        raise BadRequest(f"the list of {key} is empty: give it at least one value")
    return found


def _check_count(count: int, product_: str) -> None:
    if count > MAX_GROUP:
        said = f" ({product_})" if " x " in product_ else ""
        raise BadRequest(f"{count:,} jobs{said} are more than the {MAX_GROUP:,} that a group may have")


def plain_configs(configs: Iterable[Mapping[str, Any] | None]) -> list[Config | None]:
    """Return configs in JSON's types, read once; errors say which one is wrong, from 0 on."""
    found: list[Config | None] = []
    if isinstance(configs, Mapping | str | bytes) or not isinstance(configs, Iterable):
        raise BadRequest(f"configs must be a list of configs, one for each job, not {_shown(configs)}")
    for index, one in enumerate(configs):
        if index == MAX_GROUP:
            raise BadRequest(f"more than {MAX_GROUP:,} configs: a group may have no more jobs")
        if one is not None and not isinstance(one, Mapping):
            raise BadRequest(f"config {index} is {_shown(one)}, not an object of names and values")
        try:
            found.append(None if one is None else plain_config(one))
        except BadRequest as error:
            raise type(error)(f"config {index}: {error}") from None
    if not found:
        raise BadRequest("no configs: a group has at least one job")
    return found


def check_attempts(
    retries: int | None, retry_on: Sequence[str] | str | None, retry_delay: float | None, priority: int | None
) -> dict[str, Any]:
    """Return these options as they are sent, without those that are None; raise :class:`BadRequest` for a bad one."""
    _whole("retries", retries, 0, MAX_RETRIES)
    _whole("priority", priority, -MAX_PRIORITY, MAX_PRIORITY)
    if isinstance(retry_on, str):
        retry_on = [one.strip() for one in retry_on.split(",")]
    known = values(FAILURES)
    for one in retry_on or ():
        if one not in known:
            raise BadRequest(f"unknown status {str(one)[:64]!r} in retry_on: use {', '.join(known)}")
    if retry_delay is not None and not (
        isinstance(retry_delay, int | float)
        and not isinstance(retry_delay, bool)
        and 0 <= retry_delay <= MAX_RETRY_DELAY
    ):
        raise BadRequest(f"retry_delay must be from 0 to {MAX_RETRY_DELAY:g} seconds, not {retry_delay!r}")
    given = {
        "retries": retries,
        "retry_on": list(retry_on) if retry_on else None,
        "retry_delay": retry_delay,
        "priority": priority,
    }
    return {name: value for name, value in given.items() if value is not None}


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_ID = re.compile(r"g?[0-9a-f]{4,16}|last")


def check_name(name: str | None, what: str = "group") -> None:
    """Raise :class:`BadRequest` for a name that no group, or schedule, can have: it could be taken for an id."""
    if name is None:
        return
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest(
            f"invalid name of a {what} {str(name)[:80]!r}: a letter, then at most 62 letters, digits, '-', '_' or '.'"
        )
    if _ID.fullmatch(name):
        raise BadRequest(f"invalid name of a {what} {name!r}: it could be taken for an id; choose another one")


def check_max_running(max_running: int | None) -> None:
    """Raise :class:`BadRequest` unless so many jobs may run at the same time."""
    _whole("max_running", max_running, 1, MAX_GROUP)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
        return
    raise BadRequest(f"{name} must be a whole number from {least} to {most}, not {value!r}")


def _shown(value: Any) -> str:
    return repr(value)[:60]
