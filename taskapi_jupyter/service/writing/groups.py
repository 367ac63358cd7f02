"""Groups: many jobs of one API are checked first, then written in one transaction."""

from __future__ import annotations

from typing import Any

from taskapi_jupyter.client.groups import configs
from taskapi_jupyter.core.contract import (
    MAX_BODY,
    GroupRequest,
    GroupSubmitted,
    Submission,
    convert,
)
from taskapi_jupyter.core.errors import BadRequest, Conflict, TooLarge, size
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.states import GROUP_PRIORITY, TERMINAL, JobCode, values
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.connection import Row

from .submissions import Configs, Submissions


class Groups(Submissions):
    """A ``TaskAPI`` over a home that reads, and submits jobs singly or many at once."""

    def create_group(self, request: GroupRequest) -> GroupSubmitted:
        """Write a group of pending jobs, all or none, and wake the supervisor; they are on disk when this returns."""
        return self._create(request, requested(request))

    def _create(
        self, request: GroupRequest, wanted: list[dict[str, Any] | None], same: Row | None = None
    ) -> GroupSubmitted:
        attempts = configs.check_attempts(request.retries, request.retry_on, request.retry_delay, request.priority)
        given = {"timeout": request.timeout, "run_timeout": request.run_timeout, "notebook": request.notebook}
        convert(given, Submission)
        configs.check_max_running(request.max_running)
        configs.check_name(request.name)
        version = self._version(request.api, request.api_id)
        texts = _texts(Configs(request.api, version), wanted)
        given = {**given, "priority": GROUP_PRIORITY, **attempts}
        common, _ = self._columns(request.api, version, given, request.cuda_visible_devices)
        common |= self.notifying(request.notify)
        group = {"name": request.name, "max_running": request.max_running, "notebook": common["notebook"]}
        group_id, ids = self.store.add_group(group, common, texts)
        fault_point("group.written")
        self.waker.replace_older()  # which would not let jobs into the line that had to wait
        answer = GroupSubmitted(self.group_status(group_id), ids)
        self.waker.wake()
        return answer

    def rerun_group(self, group: str, failed: bool = True) -> GroupSubmitted:
        """Submit the configs of a group again, as a new group: those that failed, or all that have ended."""
        found = self._group_row(group)
        wanted = TERMINAL - {JobCode.SUCCEEDED} if failed else TERMINAL
        rows = self.store.group_configs(found["id"], values(wanted))
        if not rows:
            raise Conflict(f"group {found['id']} has no {'failed' if failed else 'ended'} jobs to run again")
        if len({row["api_name"] for row in rows}) > 1:
            raise Conflict(f"group {found['id']} has jobs of several APIs: run them again one by one")
        given = []
        for row in rows:
            try:
                given.append(readable.config(row["config"]))
            except ValueError as error:
                raise Conflict(f"the config of job {readable.text(row['id'])} {error}: submit anew") from None
        first = self.store.whole_job(rows[0]["id"]) or rows[0]
        if wrong := readable.fault(first):
            raise Conflict(f"job {readable.text(first['id'])} can't be read from the database ({wrong}): submit anew")
        request = GroupRequest(
            api=first["api_name"],
            timeout=first["timeout"],
            run_timeout=first["run_timeout"],
            name=found["name"],
            max_running=found["max_running"],
            notebook=found["notebook"],
            priority=first["priority"],
            **self._as_before(first),
        )
        return self._create(request, given)


def requested(request: GroupRequest) -> list[dict[str, Any] | None]:
    """Return the configs that a request asks for."""
    if (request.configs is None) == (request.sweep is None):
        raise BadRequest("give configs, a list of configs, or sweep, lists of which all combinations are run")
    if request.sweep is not None:
        swept = configs.expand(request.sweep, request.fixed, zip=request.zip, repeat=request.repeat)
        return configs.plain_configs(swept)
    if request.zip:
        raise BadRequest("zip pairs the lists of a sweep: leave it out with configs")
    found: list[dict[str, Any] | None] = configs.plain_configs(request.configs or ())
    fixed = request.fixed or {}
    if request.repeat is not None:
        numbers = configs.expand({}, repeat=request.repeat)
        found = [{**fixed, **(one or {}), **number} for one in found for number in numbers]
        return configs.plain_configs(found)  # again: there may be too many now
    return [{**fixed, **(one or {})} for one in found] if fixed else found


def _texts(check: Configs, wanted: list[dict[str, Any] | None]) -> list[tuple[str | None, str | None]]:
    found, total = [], 0
    for index, config in enumerate(wanted):
        try:
            found.append(check.texts(config))
        except BadRequest as error:
            raise type(error)(f"config {index}: {error}") from None
        total += len(found[-1][0] or "")
        if total > MAX_BODY:
            raise TooLarge(f"the configs of the group are larger than {size(MAX_BODY)} as JSON")
    return found
