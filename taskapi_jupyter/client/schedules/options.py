"""The options of a schedule as people write them, and as the wire has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.api_spec.quantities import parse_seconds
from taskapi_jupyter.deploy.values import plain_config

#: What an option may be.
CHOICES = {"overlap": ("skip", "queue", "stop", "allow"), "catch_up": ("last", "none")}


def plain_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a schedule as the wire has them; raise :class:`BadRequest` for one that can't be written."""
    options = dict(given)
    if options.get("config") is not None:
        options["config"] = plain_config(options["config"])
    late = options.get("max_late")
    if isinstance(late, timedelta):
        options["max_late"] = late.total_seconds()
    elif isinstance(late, str):
        options["max_late"] = parse_seconds(late, "max_late")
    until = options.get("until")
    if isinstance(until, datetime):
        options["until"] = until.replace(microsecond=0).isoformat()
    elif isinstance(until, date):
        options["until"] = until.isoformat()
    for key in ("notify", "retry_on"):
        if isinstance(options.get(key), str):
            options[key] = [one.strip() for one in options[key].split(",") if one.strip()]
        elif options.get(key) is not None:
            options[key] = list(options[key])
    for key, known in CHOICES.items():
        if options.get(key) is not None and options[key] not in known:
            raise BadRequest(f"{key} must be one of {', '.join(known)}, not {str(options[key])[:60]!r}")
    return options
