"""Groups over HTTP: the part of the client of a Jupyter server that is about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import structs

from taskapi_jupyter.client.fallback import changes, reads
from taskapi_jupyter.client.headers import VERSION_HEADER, of_wait
from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.contract import (
    GroupRequest,
    GroupRerun,
    GroupResponse,
    GroupsPage,
    GroupStatus,
    GroupSubmitted,
    Message,
    encode,
)
from taskapi_jupyter.core.errors import GroupNotFound

from .api import GroupAPI

if TYPE_CHECKING:
    from taskapi_jupyter.client.http import Transport

ROWS = "application/jsonl"


class RestGroups(GroupAPI):
    """What :class:`Client` asks its server about groups."""

    if TYPE_CHECKING:
        _http: Transport
        _needs: Callable[[str, object], None]
        _hold: Callable[[str | None, float], dict[str, Any]]
        from_kernel: Callable[[], Mapping[str, str]]
        visible_devices: Callable[[], str | None]

    @changes
    def create_group(self, request: GroupRequest) -> GroupSubmitted:
        """Submit a group; its jobs are on the server's disk when this returns."""
        self._needs("groups", True)
        self._needs("notifications", request.notify)
        if request.cuda_visible_devices is None:
            request = structs.replace(request, cuda_visible_devices=self.visible_devices())
        given = {name: value for name, value in structs.asdict(request).items() if value is not None}
        answer = self._http.send("POST", "groups", body=encode(given), headers=self.from_kernel(), patient=True)
        return self._http.read(answer, GroupSubmitted)

    @changes
    def rerun_group(self, group: str, failed: bool = True) -> GroupSubmitted:
        """Submit the configs of a group again."""
        self._needs("groups", True)
        body = encode(GroupRerun(failed))
        answer = self._http.send("POST", f"{_path(group)}/rerun", body=body, headers=self.from_kernel(), patient=True)
        return self._http.read(answer, GroupSubmitted)

    @reads
    def group_status(self, group: str) -> GroupStatus:
        """Return a group as the wire has it."""
        return self.group_page(group, 1).group

    @reads
    def held_group(self, group: str, since: str | None, seconds: float) -> tuple[GroupStatus, str | None]:
        """Return a group, and its version, once it has another than ``since``: see :class:`TaskAPI`."""
        self._needs("groups", True)
        query = {"limit": 1, **self._hold(since, seconds)}
        answer = self._http.send("GET", _path(group), query, headers=of_wait())
        return self._http.read(answer, GroupResponse).group, answer.headers.get(VERSION_HEADER)

    @reads
    def group_page(
        self,
        group: str,
        limit: int = 50,
        cursor: str | None = None,
        *,
        status: str | Sequence[str] | None = None,
        search: str | None = None,
    ) -> GroupResponse:
        """Return a group with a page of its jobs."""
        self._needs("groups", True)
        search = search if search and search.strip() else None
        statuses = [status] if isinstance(status, str) else list(status or ())
        query = {"limit": limit, "cursor": cursor, "status": statuses, "search": search}
        return self._http.read(self._http.send("GET", _path(group), query), GroupResponse)

    @reads
    def groups_page(self, limit: int = 20, cursor: str | None = None) -> GroupsPage:
        """Return a page of groups, newest first."""
        self._needs("groups", True)
        return self._http.read(self._http.send("GET", "groups", {"limit": limit, "cursor": cursor}), GroupsPage)

    @reads
    def group_rows(self, group: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a group's table."""
        self._needs("groups", True)
        answer = self._http.send("GET", f"{_path(group)}/rows", accept=ROWS)
        try:
            return iter([decoding.decode(line, dict[str, Any]) for line in answer.content.splitlines() if line])
        except ValueError:
            raise self._http.foreign(answer) from None

    @changes
    def stop_group(self, group: str) -> str:
        """Stop all jobs of a group; return when nothing of any is left."""
        self._needs("groups", True)
        return self._http.read(self._http.send("DELETE", _path(group), patient=True), Message).message

    @changes
    def forget_group(self, group: str) -> str:
        """Delete a group that has ended, with its jobs."""
        self._needs("groups", True)
        answer = self._http.send("DELETE", _path(group), {"forget": "true"}, patient=True)
        return self._http.read(answer, Message).message


def _path(group: str) -> str:
    if group in ("", ".", ".."):  # which would lead to another path
        raise GroupNotFound(repr(group))
    return f"groups/{quote(group, safe='')}"
