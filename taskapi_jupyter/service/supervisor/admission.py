"""Which pending jobs begin now: those first in line, as long as they fit. Standard library only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import host
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.runner import gpus
from taskapi_jupyter.runner.outcome import too_late
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.chains import Given
from taskapi_jupyter.service.store.connection import Row
from taskapi_jupyter.service.store.store import Store

from .wake import command

if TYPE_CHECKING:
    from taskapi_jupyter.runner.warm import Templates

AT_ONCE = 64  # jobs that are admitted in one step, at most

_PASSED = 1000  # jobs that others may pass, at one time
_ASK_GPUS = 10.0  # seconds from one process that asks for GPUs to the next
_LONGEST_WAIT = 5.0  # seconds; poll's clock stands still in suspend, a deadline's does not

Move = tuple[str, JobCode, JobCode, Mapping[str, Any]]


class Admission:
    """The line of pending jobs.

    ``elastic``: the engine's cluster may get what it has not now, and says itself which GPUs a job has. ``skip`` is
    called with the id of a job whose row can't be read, and with what is wrong with it.
    """

    def __init__(self, home: str, store: Store, *, elastic: bool, skip: Callable[[str, str], None]) -> None:
        self.waits_for_gpus = False  # whether a job waits until it is known which GPUs there are
        self._home = home
        self._store = store
        self._elastic = elastic
        self._skip = skip
        self._asked_gpus = -_ASK_GPUS

    def overdue(self) -> tuple[list[Move], float | None]:
        """Return the moves of jobs that waited past their deadlines, and after how many seconds the next will have."""
        moves = []
        waits: list[float] = []
        for row in self._store.pending_deadlines(host.boot_id()):
            left = row["deadline"] - host.boottime()
            if left <= 0:
                moves.append(ends_pending(row["id"], JobCode.TIMED_OUT, too_late(row)))
            else:
                waits.append(min(left, _LONGEST_WAIT))
        return moves, min(waits, default=None)

    def release(self) -> float | None:
        """Let jobs into the line whose time has come; return after how many seconds that of the next one will have."""
        due = self._store.next_due(host.boot_id())
        if due is not None and due <= host.boottime():
            self._store.release()
            due = self._store.next_due(host.boot_id())
        return None if due is None else max(min(due - host.boottime(), _LONGEST_WAIT), 0.05)

    def settle(self) -> bool:
        """Let jobs into the line that have nothing left to wait for, and end those whose predecessors failed them.

        True where a process of its own is to do so, because results are to be read that are large or in a storage.
        """
        found = self._store.unsettled()
        to_fill = [row["id"] for row in found if row["fill"]]
        filled: dict[str, Given] = {}
        if to_fill:
            from . import inputs  # few supervisors need what it imports

            filled = inputs.small(self._home, self._store, to_fill)
        left = [job_id for job_id in to_fill if job_id not in filled]
        if len(found) > len(left):
            self._store.settle(filled)
        return bool(left)

    def admit(
        self,
        running: Collection[Row],
        leaving: Collection[str],
        limits: Mapping[str, Any],
        max_gpus: int | None,
        templates: Templates | None = None,
    ) -> list[Move]:
        """Return the moves of the jobs that start now: those first in line, up to the first that does not fit.

        ``leaving`` are jobs that this step moves already; ``max_gpus`` is what the engine or config.yaml limits GPUs
        to; ``templates`` are ended where a job needs their memory. A job that asks for more cores or memory than the
        machine still has runs alone; GPUs that are not there
        can't be made up for. Where it is not known which there are, or too few are there now, the job waits and lets
        others pass.
        """
        self.waits_for_gpus = False
        busy = [job for job in running if job["id"] not in leaving]
        known: gpus.Known | None = None  # read where a job asks for GPUs
        moves: list[Move] = []
        passed = 0
        for head in self._line(leaving):
            if wrong := self._unfit(head, max_gpus):
                moves.append(ends_pending(head["id"], JobCode.UNEXPECTED_ERROR, wrong))
            else:
                if head["gpu"] and not self._elastic:
                    known = known or gpus.known(self._home)
                choices = gpus.visible(head["visible"], known and known.devices, max_gpus) if head["gpu"] else []
                if not self._elastic and (choices is None or gpus.pick(choices, (), head["gpu"]) is None):
                    self.waits_for_gpus = True
                    passed += 1
                else:
                    picked = self._pick(head, busy, choices or [], max_gpus)
                    if busy and not (picked is not None and _fits(head, busy, limits)):
                        break
                    if templates is not None and not _fits(head, busy, limits, templates.resident()):
                        templates.end(templates.versions())
                    moves.append(_begins(head, (choices or [])[: head["gpu"]] if picked is None else picked))
                    busy.append(head)
            if len(moves) == AT_ONCE or passed == _PASSED:
                break
        return moves

    def _line(self, leaving: Collection[str]) -> Iterator[Row]:
        passed, limit = 0, 4  # as a rule, the first one does not fit
        while heads := self._store.in_line(limit, passed):
            yield from (head for head in heads if head["id"] not in leaving)
            passed += len(heads)
            limit = AT_ONCE + _PASSED

    def _unfit(self, head: Row, max_gpus: int | None) -> str | None:
        """Return why a job can never begin, None where it can."""
        if wrong := readable.fault(head):
            self._skip(head["id"], wrong)
            return f"its row can't be read: {wrong}"
        if max_gpus is not None and head["gpu"] > max_gpus and not self._elastic:
            return f"asks for {head['gpu']} GPUs, this machine has {max_gpus}"
        return None

    def _pick(
        self, head: Row, busy: Collection[Row], choices: list[gpus.Choice], max_gpus: int | None
    ) -> list[gpus.Choice] | None:
        """Return the GPUs that a job gets, None where others hold too many."""
        held = [number for job in busy for number in gpus.numbers(job["gpus"])]
        if max_gpus is not None and len(held) + head["gpu"] > max_gpus and not self._elastic:
            return None
        return gpus.pick(choices, held, head["gpu"])

    def ask_for_gpus(self) -> None:
        """Have a process of its own ask which GPUs there are, where a job waits for that: it may take seconds."""
        if not self.waits_for_gpus or time.monotonic() - self._asked_gpus < _ASK_GPUS:
            return
        if gpus.known(self._home).is_due:
            self._asked_gpus = time.monotonic()
            with suppress(OSError):
                os.posix_spawn(sys.executable, command("runner.gpus", self._home), dict(os.environ))


def _fits(head: Row, busy: Collection[Row], limits: Mapping[str, Any], held: int = 0) -> bool:
    return bool(
        sum(job["cpu"] for job in busy) + head["cpu"] <= limits["cpus"]
        and sum(job["mem"] or 0 for job in busy) + (head["mem"] or 0) + held <= limits["mem"]
    )


def _begins(head: Row, picked: Collection[gpus.Choice]) -> Move:
    """Return the move of a job that begins with some GPUs, whose numbers its row gets."""
    head["gpus"] = ",".join(str(number) for number, _ in picked) or None
    columns = {
        "started": host.now_us(),
        "started_boot": host.boot_id(),
        "gpus": head["gpus"],
        "devices": ",".join(text for _, text in picked) or None,
    }
    return head["id"], JobCode.PENDING, JobCode.RUNNING, columns


def ends_pending(job_id: str, status: JobCode, reason: str | None) -> Move:
    """Return the move of a job that ends before it began."""
    return job_id, JobCode.PENDING, status, {"ended": host.now_us(), "reason": reason}
