"""Submissions: a job is checked, written into the store as pending, and the supervisor is woken."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from taskapi_jupyter.client import chains
from taskapi_jupyter.client.groups.configs import check_attempts
from taskapi_jupyter.client.groups.group import Group
from taskapi_jupyter.client.headers import notebook_here
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host, room
from taskapi_jupyter.core.contract import MAX_BODY, Submission, convert
from taskapi_jupyter.core.errors import APIIDNotFound, BadRequest, Conflict, TooLarge, Unavailable, size
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.nesting import merge
from taskapi_jupyter.core.states import GROUP_PRIORITY
from taskapi_jupyter.deploy.values import plain_config
from taskapi_jupyter.runner import gpus
from taskapi_jupyter.service.destinations import BROWSER
from taskapi_jupyter.service.records import fault_of_api, status_of
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row

from .notifications import Notifications

#: What the row of a new job has where nothing else is said.
_PENDING = {
    "status": "pending",
    **dict.fromkeys(("started", "ended", "reason", "exit_code", "progress", "metrics", "usage")),
    **dict.fromkeys(("group_id", "group_index", "retry_of", "retried_by", "after", "schedule", "scheduled", "notify")),
    "attempt": 1,
    "retries": 0,
}


class Submissions(Notifications):
    """A ``TaskAPI`` over a home that reads, and submits single jobs."""

    def submit(
        self,
        api: str,
        config: Mapping[str, Any] | None = None,
        timeout: int | None = None,
        *,
        notebook: str | None = None,
        api_id: str | None = None,
        run_timeout: int | None = None,
        cuda_visible_devices: str | None = None,
        retries: int | None = None,
        retry_on: Sequence[str] | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        group: str | None = None,
        after: Job | Group | str | Sequence[Job | Group | str] | None = None,
        after_any: bool = False,
        results: Mapping[str, Job | str] | None = None,
        notify: Sequence[str] | None = None,
    ) -> Job:
        """Write a pending job and wake the supervisor; the job is on disk when this returns."""
        waiting = chains.waits(self, config, after, after_any, results=results, group=group)
        if waiting.results:
            self._outputs.check_kept()
        config = None if waiting.config is None else plain_config(waiting.config)
        notebook = notebook or notebook_here()
        convert({"config": config, "timeout": timeout, "notebook": notebook, "run_timeout": run_timeout}, Submission)
        attempts = check_attempts(retries, retry_on, retry_delay, priority)
        version = self._version(api, api_id)
        check = Configs(api, version)
        submitted, merged = check.texts(config, waiting.results or ())
        given = {"timeout": timeout, "run_timeout": run_timeout, "notebook": notebook, **attempts}
        row, now_ns = self._columns(api, version, given, cuda_visible_devices)
        row |= self.notifying(notify)
        if group is not None:
            row = {"priority": GROUP_PRIORITY, **row, "group_id": group}
        if waiting.fields:
            said = {"ids": waiting.after or [], "any": waiting.any, "results": waiting.results}
            row["after"] = json.dumps({name: one for name, one in said.items() if one or name == "ids"})
        job_id = self.store.add_job({**row, "config": submitted, "merged": merged}, (1 << 63) - 1 - now_ns)
        fault_point("submit.written")
        written = {**_PENDING, **row, "id": job_id, "config": submitted}
        if group is not None:
            written = self.store.job(job_id) or written  # with its place in the group
        job = self._job(status_of(written, self.paths.jobs))
        if attempts or waiting.fields:
            self.waker.replace_older()  # which would write no further attempt, and leave the job where it waits
        self.waker.wake()  # last: from here on the job competes for the processor
        return job

    def _version(self, api: str, api_id: str | None = None) -> Row:
        """Return the version that a new job of an API runs; raise where none can be accepted now."""
        self.waker.check_place()
        self._check_room()
        version = self.store.api(api)
        if version is None:
            raise self._not_deployed(api)
        if api_id is not None:
            version = self.store.version(api_id)
            if version is None or version["name"] != api:
                raise APIIDNotFound(api, api_id)
        if wrong := fault_of_api(version):
            raise Unavailable(f"{api} can't be read from the database ({wrong}): deploy it again")
        self._placement.check_reachable()
        self._config.read()
        return version

    def _columns(
        self, api: str, version: Row, given: Mapping[str, Any], cuda_visible_devices: str | None
    ) -> tuple[Row, int]:
        """Return the columns of a new job but for its config, and the time of its submission in nanoseconds."""
        timeout, run_timeout = given["timeout"], given["run_timeout"]
        if timeout is None:
            timeout = version["timeout"]
        if run_timeout is None:
            run_timeout = version["run_timeout"]
        launch = _notebook_launch(version)
        now_ns = time.time_ns()
        row: Row = {
            "api_name": api,
            "api_id": version["api_id"],
            "spec_id": version["spec_id"],
            "created": now_ns // 1000,
            "timeout": timeout,
            "run_timeout": run_timeout,
            "boot": host.boot_id(),
            "deadline": None if timeout is None else host.boottime() + timeout,
            "notebook": given["notebook"] or (launch["origin"][:4096] if launch else None),
            "cpu": version["cpu"],
            "mem": version["mem"],
            "gpu": version["gpu"],
            "visible": self._placement.visible(api, version, cuda_visible_devices),
        }
        for name in ("retries", "retry_delay", "priority"):
            if given.get(name) is not None:
                row[name] = given[name]
        if given.get("retry_on"):
            row["retry_on"] = ",".join(given["retry_on"])
        return row, now_ns

    def _check_room(self) -> None:
        """Raise :class:`Unavailable` where the disk is known to have no room for a job or a version."""
        for folder in (self.home, self.paths.jobs):
            room.check_room(str(folder))

    def rerun(self, job: Job | str, same: bool = False, api: str | None = None) -> Job:
        """Submit a job again: to the API as it is now, or (``same``) to the job's own version.

        With its config, timeouts and retries; it notifies whom that one notified, as far as config.yaml still has them.
        """
        row = self._row(job)
        if wrong := readable.fault(row):
            raise Conflict(f"job {readable.text(row['id'])} can't be read from the database ({wrong}): submit anew")
        try:
            submitted = readable.config(row["config"])
        except ValueError as error:
            raise Conflict(f"the config of job {row['id']} {error}: submit anew") from None
        api_id = row["api_id"] if same else None
        results = (json.loads(row["after"]) if row["after"] else {}).get("results")
        for key, other in (results or {}).items():
            if self.store.job(other) is None:
                raise Conflict(
                    f"job {row['id']} got the result of job {other} as {key}, and that was deleted: submit anew"
                )
        return self.submit(
            row["api_name"],
            submitted,
            row["timeout"],
            notebook=row["notebook"],
            api_id=api_id,
            run_timeout=row["run_timeout"],
            results=results,
            **self._as_before(row),
        )

    def _as_before(self, row: Row) -> dict[str, Any]:
        """Return what a job that is submitted again is given beside its API, config and timeouts."""
        there = {*self._config.read().notifications().names, BROWSER}
        return {
            "cuda_visible_devices": os.environ.get(gpus.VARIABLE, row["visible"]),
            "retries": row["retries"] or None,
            "retry_on": row["retry_on"].split(",") if row["retry_on"] else None,
            "retry_delay": row["retry_delay"],
            "notify": [one for one in json.loads(row["notify"]) if one in there] if row["notify"] else None,
        }


class Configs:
    """Checks configs for one version, and makes of each the texts that its job's row has."""

    def __init__(self, api: str, version: Row) -> None:
        self.api = api
        self.defaults = json.loads(version["config"])
        self._spec = json.loads(version["spec"]) if '"parameters"' in version["spec"] else None
        self._launch = _notebook_launch(version)

    def texts(self, config: dict[str, Any] | None, results: Collection[str] = ()) -> tuple[str | None, str | None]:
        """Return a config as it was submitted, and merged over that of the API; None where there is nothing to say.

        ``results`` are the keys that get the results of jobs once these have ended.
        """
        submitted = None if config is None else as_json(config)
        if submitted and len(submitted.encode()) > MAX_BODY:
            raise TooLarge(f"config is larger than {size(MAX_BODY)} as JSON")
        if self._spec is not None:
            _check_parameters(self.api, self._spec, {**self.defaults, **(config or {}), **dict.fromkeys(results)})
        if self._launch is not None:
            _check_injectable(self.api, self._launch, config or {})
        return submitted, as_json(merge(self.defaults, config)) if self.defaults else None


def _check_parameters(api: str, of: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` where a config lacks a parameter of the task or has an unknown key."""
    from taskapi_jupyter.deploy.api_spec import parameters

    known = parameters.of(of)
    if known is not None and (complaint := parameters.complaint(known, config)):
        raise BadRequest(f"{api}: {complaint}{parameters.hint(of)}")


def _notebook_launch(version: Row) -> dict[str, Any] | None:
    """Return how a version that is a notebook is started; None for another version."""
    launch = json.loads(version["launch"]) if '"kind": "notebook"' in version["launch"] else {}
    return launch if launch.get("kind") == "notebook" else None


def _check_injectable(api: str, launch: Row, config: Mapping[str, Any]) -> None:
    """Raise :class:`BadRequest` where a config can't be injected into a notebook as parameters of its language."""
    from taskapi_jupyter.deploy.api_spec import cells

    if complaint := cells.complaint(launch["notebook"]["language"], config):
        raise BadRequest(f"{api}: {complaint}")


def as_json(value: Any) -> str:
    """Return a plain config as JSON text."""
    return json.dumps(value, ensure_ascii=False)
