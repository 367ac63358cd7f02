"""Groups of an environment that keeps none: jobs that one process submitted one after the other, and remembers."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from msgspec import UNSET

from taskapi_jupyter.core.contract import GroupRequest, GroupResponse, GroupsPage, GroupStatus, GroupSubmitted
from taskapi_jupyter.core.errors import BadRequest, Conflict, GroupNotFound, TaskAPIError
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display.facts import fraction

from .api import GroupAPI, no_groups
from .configs import check_name, expand, plain_configs
from .rows import Flatten

if TYPE_CHECKING:
    from taskapi_jupyter.client.job import Job
    from taskapi_jupyter.client.taskapi import TaskAPI

_FRESH = 1.0  # seconds for which the state of a job is not asked for again


class _Known(NamedTuple):
    record: GroupStatus
    jobs: list[Job]
    seen: list[float]  # when all were read last


class UnkeptGroups(GroupAPI):
    """Groups for as long as this object lives."""

    _groups: dict[str, _Known] | None = None

    def create_group(self, request: GroupRequest) -> GroupSubmitted:
        """Submit the jobs one after the other; an error says how many were sent, and their ids."""
        self.refuse_unknown(
            max_running=request.max_running,
            retries=request.retries,
            retry_on=request.retry_on,
            retry_delay=request.retry_delay,
            priority=request.priority,
        )
        check_name(request.name)
        api, sent = cast("TaskAPI", self), list["Job"]()
        wanted = plain_configs(request.configs or ())
        if request.repeat is not None:
            numbers = expand({}, repeat=request.repeat)
            wanted = [{**(one or {}), **number} for one, number in itertools.product(wanted, numbers)]
        for config in wanted:
            try:
                sent.append(
                    api.submit(request.api, config, request.timeout, notebook=request.notebook, api_id=request.api_id)
                )
            except TaskAPIError as error:
                if sent:
                    ids = ", ".join(job.id for job in sent)
                    error.message += f"; {len(sent)} of {len(wanted)} jobs were submitted before: {ids}"
                    error.args = (error.message,)
                raise
        record = GroupStatus(
            id=f"g{sent[0].id}",
            api_name=request.api,
            created_time=datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
            size=len(sent),
            counts={},
            progress=0.0,
            name=request.name or UNSET,
            notebook=request.notebook or UNSET,
        )
        self._groups = {**(self._groups or {}), record.id: _Known(record, sent, [0.0])}
        return GroupSubmitted(self.group_status(record.id), [job.id for job in sent])

    def refuse_unknown(self, **options: object) -> None:
        """Raise :class:`BadRequest` for an option that has a value: a cluster knows none of these."""
        for name, value in options.items():
            if value:
                environment = cast("TaskAPI", self).environment
                raise BadRequest(f"{environment} is a Cortex cluster, which has no {name}: leave it out")

    def group_status(self, group: str) -> GroupStatus:
        """Return a group that this object has submitted."""
        known = self._refreshed(group)
        codes = [job.record.code for job in known.jobs]
        counts = Counter(code.value for code in codes)
        done = sum(1.0 if job.ended else fraction(job.record.progress or None) or 0.0 for job in known.jobs)
        known.record.counts = {code.value: counts[code.value] for code in JobCode if code.value in counts}
        known.record.progress = done / len(known.jobs)
        return known.record

    def group_page(
        self,
        group: str,
        limit: int = 50,
        cursor: str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        search: str | None = None,
    ) -> GroupResponse:
        """Return such a group with a page of its jobs, which can't be filtered."""
        if status or search:
            raise BadRequest("the jobs of a group on a Cortex cluster can't be filtered: filter them in Python")
        first = 0 if cursor is None else int(cursor) + 1
        record, jobs = self.group_status(group), self._known(group).jobs
        page = jobs[first : first + limit]
        records = [job.record for job in page]
        for index, one in enumerate(records, first):
            one.group, one.index = record.id, index
        end = first + len(page)
        return GroupResponse(record, records, str(end - 1) if end < len(jobs) else None)

    def group_rows(self, group: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of such a group's table, without results."""
        records = self.group_page(group, len(self._known(group).jobs)).jobs
        flatten = Flatten({key for record in records for key in record.config or {}})
        yield from (flatten.row(record, None) for record in records)

    def held_group(self, group: str, since: str | None, seconds: float) -> tuple[GroupStatus, str | None]:
        """Return such a group at once."""
        return self.group_status(group), None

    def groups_page(self, limit: int = 20, cursor: str | None = None) -> GroupsPage:
        """Raise :class:`NotKept`."""
        raise no_groups(self)

    def forget_group(self, group: str) -> str:
        """Raise :class:`NotKept`: a cluster keeps its records."""
        raise no_groups(self)

    def stop_group(self, group: str) -> str:
        """Stop the jobs of such a group, one after the other."""
        count = 0
        for job in self._refreshed(group).jobs:
            if not job.ended:
                job.stop()
                count += 1
        return f"stopped {count} job{'' if count == 1 else 's'} of group {group}"

    def rerun_group(self, group: str, failed: bool = True) -> GroupSubmitted:
        """Submit the configs of such a group again."""
        known = self._refreshed(group)
        again = [
            job.config for job in known.jobs if job.ended and not (failed and job.record.code is JobCode.SUCCEEDED)
        ]
        if not again:
            raise Conflict(f"group {group} has no {'failed' if failed else 'ended'} jobs to run again")
        return self.create_group(
            GroupRequest(api=known.record.api_name, configs=cast("list[Any]", again), name=known.record.name or None)
        )

    def _known(self, group: str) -> _Known:
        if not self._groups:
            raise no_groups(self)
        for known in reversed(self._groups.values()):
            if group in (known.record.id, known.record.name):
                return known
        raise GroupNotFound(group)

    def _refreshed(self, group: str) -> _Known:
        known = self._known(group)
        if time.monotonic() - known.seen[0] > _FRESH:
            for job in known.jobs:
                if not job.seen_ended:
                    job.refresh()
            known.seen[0] = time.monotonic()
        return known
