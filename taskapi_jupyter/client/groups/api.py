"""What a ``TaskAPI`` does with groups: the verbs that people call, over a few that its environments answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from taskapi_jupyter.client.headers import notebook_here
from taskapi_jupyter.core.contract import GroupRequest, GroupResponse, GroupsPage, GroupStatus, GroupSubmitted
from taskapi_jupyter.core.errors import NotKept

from . import configs as making
from .group import Group, GroupList

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import TaskAPI


class GroupAPI:
    """The part of :class:`TaskAPI` that is about groups: jobs that are submitted together."""

    def map(
        self,
        api: str,
        configs: Iterable[Mapping[str, Any] | None],
        *,
        timeout: int | None = None,
        run_timeout: int | None = None,
        name: str | None = None,
        max_running: int | None = None,
        retries: int | None = None,
        retry_on: Sequence[str] | str | None = None,
        retry_delay: float | None = None,
        priority: int | None = None,
        repeat: int | None = None,
        api_id: str | None = None,
        notebook: str | None = None,
        cuda_visible_devices: str | None = None,
        notify: Sequence[str] | None = None,
    ) -> Group:
        """Submit one job for each config, all or none; they are on disk when this returns.

        Jobs of a group wait behind single jobs, in the order of the configs.

        Parameters
        ----------
        api
            The name of a deployed API.
        configs
            At most 100,000 configs, of 10 MiB together as JSON; a generator is read once, before anything is written.
        timeout, run_timeout
            Seconds of each attempt of each job, from its submission and from its start: see :meth:`submit`.
        name
            A name for the group, which no group that has not ended has: a letter, then at most 62 letters, digits,
            ``-``, ``_`` or ``.``.
        max_running
            How many of its jobs may run at the same time, 1 or more; None (default): as many as fit.
        retries, retry_on, retry_delay, priority
            Further attempts of each job, and its place in line: see :meth:`submit`. The default priority is -1.
        repeat
            Run each config this many times, with the number of the run, from 0 on, as ``repeat`` in the config.
        api_id
            The version to run; None (default): the one that is deployed.
        notebook, cuda_visible_devices
            Of the submitting process: see :meth:`submit`.
        notify
            Names of notifications that are sent when a job of it ends: see :meth:`submit`.

        Returns
        -------
        Group
            The group, all of its jobs ``pending``.

        Raises
        ------
        APINotDeployed
            There is no API of that name.
        BadRequest
            A config can't be used, which the message names by its number, or an option is out of bounds.
        Conflict
            A group of that name has not ended.

        Examples
        --------
        >>> api.map("train", [{"lr": 0.1}, {"lr": 0.01}], max_running=1).wait()
        """
        request = GroupRequest(
            api=api,
            configs=cast("list[Any]", making.plain_configs(configs)),
            timeout=timeout,
            run_timeout=run_timeout,
            name=name,
            max_running=max_running,
            repeat=repeat,
            api_id=api_id,
            notebook=notebook or notebook_here(),
            cuda_visible_devices=cuda_visible_devices,
            notify=None if notify is None else list(notify),
            **making.check_attempts(retries, retry_on, retry_delay, priority),
        )
        making.check_max_running(max_running)
        making.check_name(name)
        return Group(cast("TaskAPI", self), self.create_group(request).group)

    def sweep(
        self,
        api: str,
        lists: Mapping[str, Iterable[Any]],
        *,
        fixed: Mapping[str, Any] | None = None,
        zip: bool = False,  # noqa: A002 - the word that people know
        repeat: int | None = None,
        **options: Any,
    ) -> Group:
        """Submit a job for each combination of the values of some lists; the last list varies fastest.

        Parameters
        ----------
        api
            The name of a deployed API.
        lists
            The values of each key of the config.
        fixed
            What all configs have beside them.
        zip
            True: pair the first values of lists of one length, then the second ones, and so on.
        repeat
            Run each combination this many times, with the number of the run as ``repeat`` in the config.
        **options
            Those of :meth:`map`.

        Examples
        --------
        >>> api.sweep("train", {"lr": [0.1, 0.01]}, fixed={"epochs": 3}, name="rates")
        """
        return self.map(api, making.expand(lists, fixed, zip=zip, repeat=repeat), **options)

    def group(self, group: str) -> Group:
        """Return a group by its name (the newest one that has it), its id, or ``g`` and the last digits of its id.

        Raises ``GroupNotFound``.
        """
        return Group(cast("TaskAPI", self), self.group_status(group))

    def groups(self, limit: int = 20, cursor: str | None = None) -> GroupList:
        """Return groups, newest first, at most ``limit`` (1 to 1000).

        ``cursor`` is ``next_cursor`` of the list before.
        """
        page = self.groups_page(limit, cursor)
        return GroupList([Group(cast("TaskAPI", self), one) for one in page.groups], page.next_cursor)

    # What an environment answers; one that keeps no groups says so

    def create_group(self, request: GroupRequest) -> GroupSubmitted:
        """Submit a group as the wire has it."""
        raise no_groups(self)

    def group_status(self, group: str) -> GroupStatus:
        """Return a group as the wire has it, by its id, its name or the end of its id."""
        raise no_groups(self)

    def held_group(self, group: str, since: str | None, seconds: float) -> tuple[GroupStatus, str | None]:
        """Return a group, and its version; with a version ``since``, once it has another: see ``held_response``."""
        return self.group_status(group), None

    def group_page(
        self,
        group: str,
        limit: int = 50,
        cursor: str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        search: str | None = None,
    ) -> GroupResponse:
        """Return a group with a page of its jobs, in the order of their index; ``cursor`` is the index before them.

        ``status`` and ``search`` are as in :meth:`jobs`; of each job, the last attempt is listed.
        """
        raise no_groups(self)

    def groups_page(self, limit: int = 20, cursor: str | None = None) -> GroupsPage:
        """Return a page of groups, newest first."""
        raise no_groups(self)

    def group_rows(self, group: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a group's table: see :meth:`Group.rows`."""
        raise no_groups(self)

    def stop_group(self, group: str) -> str:
        """Stop all jobs of a group; return the message once nothing of any is left."""
        raise no_groups(self)

    def forget_group(self, group: str) -> str:
        """Delete a group that has ended, with its jobs; return the message."""
        raise no_groups(self)

    def rerun_group(self, group: str, failed: bool = True) -> GroupSubmitted:
        """Submit the configs of a group again: those that failed, or all that have ended."""
        raise no_groups(self)


def no_groups(api: GroupAPI | str) -> NotKept:
    """Return the error of an environment that keeps no groups, by its name or its TaskAPI."""
    environment = api if isinstance(api, str) else cast("TaskAPI", api).environment
    return NotKept(
        f"environment {environment} keeps no groups: a Cortex cluster knows single jobs. map() and sweep() submit them "
        "one after the other there, and only the Python process that did so knows the group"
    )
