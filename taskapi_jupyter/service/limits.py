"""What there is for jobs on this machine, what an API may ask of it, and what a pending job waits for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskapi_jupyter.core import host, room
from taskapi_jupyter.core.contract import DeployRequest, JobStatus, KernelEntry
from taskapi_jupyter.core.errors import BadRequest, size
from taskapi_jupyter.core.paths import IMPORTING, HomePaths, JobPaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.runner import capacity, gpus

from .records import status_of
from .store import readable
from .store.chains import Left, tail
from .store.connection import Row
from .store.store import IN_LINE, Store

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.api_spec.build import APISpec
    from taskapi_jupyter.deploy.packages.resolve import Resolver

_BEGINS = 1_000_000  # microseconds after which a running job should have a log


class ThisMachine:
    """The placement of a service whose jobs run on this machine; that of a cluster overrides these methods."""

    stop_margin = 5.0  # seconds that a stop may take beyond the grace period

    def __init__(self, home: Path, store: Store) -> None:
        self._home, self._jobs, self._store = str(home), HomePaths(home).jobs, store

    def build(self, request: DeployRequest, environ: Sequence[str], pickle: Path | None) -> APISpec:
        """Check a deploy request and return the version that it makes; ``environ`` names variables to take along."""
        from taskapi_jupyter.deploy.api_spec.build import build  # a deploy alone needs its imports

        return build(request, environ=environ, pickle=pickle, packages=self.packages())

    def packages(self) -> Resolver:
        """Return what finds the environments of packages that APIs ask for."""
        from taskapi_jupyter.deploy.packages.resolve import Resolver

        return Resolver(self._home, self._store.settings().get("packages") or {})

    def kernels(self) -> list[KernelEntry]:
        """Return the kernelspecs of this machine, each with what prevents a job from being started with it."""
        from taskapi_jupyter.deploy.packages.kernels import listed

        return listed(os.environ.get("PATH"))

    def check_fits(self, built: APISpec) -> list[str]:
        """Raise :class:`BadRequest` where a job could never start here; return warnings."""
        has, limits, told = capacity.here(), self._store.settings(), list[str]()
        count = limits.get("gpus")
        if built.gpu and count is None:
            there = gpus.learn(self._home)
            if there.devices is None:
                told = [
                    f"which GPUs this machine has is not known ({there.why}): jobs wait until it is, or until "
                    "config.yaml says how many (`gpus: N`)"
                ]
            else:
                count = gpus.count(there.devices)
        for what, asked, there_is in (
            ("cores", built.cpu / 1000, (limits.get("cpus") or has.cores) / 1000),
            ("of memory", built.mem or 0, limits.get("mem") or has.memory),
            ("GPUs", built.gpu, math.inf if count is None else count),
        ):
            if asked > there_is:
                a, b = (size(int(n)) if what == "of memory" else f"{n:.10g}" for n in (asked, there_is))
                raise BadRequest(
                    f"{built.name} asks for {a} {what}, and this machine has {b} for jobs: it could never start"
                )
        return told

    def visible(self, api: str, version: Row, given: str | None) -> str | None:
        """Return the list (CUDA_VISIBLE_DEVICES) from which a job gets GPUs; raise where it could never get enough."""
        if not version["gpu"]:
            return None
        given = os.environ.get(gpus.VARIABLE) if given is None else given
        names = gpus.most(given)
        if given is not None and names is not None:
            limit, there = self._store.settings().get("gpus"), gpus.known(self._home).devices
            choices = gpus.visible(given, there, limit)
            names = names if choices is None else len(choices)
            if version["gpu"] > names:
                raise BadRequest(
                    f"{api} asks for {version['gpu']} GPUs, and {gpus.VARIABLE}={given[:200]!r} of who submits names "
                    f"{names} that may be used: it could never start"
                )
        return given

    def check_reachable(self) -> None:
        """Raise where a job that is submitted now could not be started."""

    def statuses(self, rows: Sequence[Row]) -> list[JobStatus]:
        """Return jobs as readers see them, each that is pending with what it waits for as its reason."""
        self._tell_what_they_wait_for(rows)
        return [status_of(row, self._jobs) for row in rows]

    def deleted(self, job_id: str | None = None) -> None:
        """Clean up elsewhere after a job was deleted, or several (None); nothing of them is elsewhere here."""

    def _tell_what_they_wait_for(self, rows: Sequence[Row]) -> None:
        """Set each pending job's reason to what it waits for; the number of queries does not depend on how many."""
        rows = [row for row in rows if not readable.fault(row)]
        self._tell_withheld(rows)
        pending = [row for row in rows if row["status"] == JobCode.PENDING.value and row["seq"] >= 0]
        obstacle = room.obstacle(self._home) or room.obstacle(self._jobs)
        for row in rows:
            late = row["status"] == JobCode.RUNNING.value and host.now_us() - row["started"] > _BEGINS
            if late and not os.path.lexists(JobPaths(self._jobs / row["id"]).log):
                why = obstacle.strerror if obstacle else f"see {HomePaths(self._home).log}"
                if os.path.lexists(os.path.join(HomePaths(self._home).version(row["api_id"]), IMPORTING)):
                    why = "what its task imports is imported ahead"
                row["reason"] = f"waits to begin: {why}"
        if not pending:
            return
        has = capacity.here()
        there = {"cpus": has.cores, "mem": has.memory, "gpus": None}
        limits = {**there, **{key: value for key, value in self._store.settings().items() if value is not None}}
        held, known = self._store.held(), gpus.known(self._home)
        places = {seq: index for index, seq in enumerate(self._store.line(), 1)}
        for row in pending:
            wanted = waits_for_gpus(row, limits.get("gpus"), known, held) if row["gpu"] else None
            row["reason"] = waits_for(row, places.get(row["seq"]), held, limits, wanted)
            if obstacle is not None:
                row["reason"] = ", ".join(filter(None, (f"waits for its disk: {obstacle.strerror}", row["reason"])))

    def _tell_withheld(self, rows: Sequence[Row]) -> None:
        """Set the reason of each job that is not in line yet to what it waits for."""
        rows = [row for row in rows if row["status"] == JobCode.PENDING.value and row["seq"] < 0]
        left = self._store.left([row["id"] for row in rows if row["after"] is not None])
        for row in rows:
            row["reason"] = self._withheld(row, left.get(row["id"]))

    def _withheld(self, row: Row, left: Left | None) -> str | None:
        """Return what a job waits for that is not in line yet; ``left`` are the jobs that it waits for."""
        if left is not None:
            return self._waits_for_jobs(json.loads(row["after"]), left)
        if row["due"] is not None:
            seconds = max(math.ceil(row["due"] - host.boottime()), 1)
            return f"attempt {row['attempt']} of {row['retries'] + 1} begins in {seconds} s"
        if row["after"] is not None and row["group_id"] is None:
            return None  # it is let into the line now
        return "waits for other jobs of its group: no more of them may run at once"

    def _waits_for_jobs(self, after: Row, left: Left) -> str:
        if left.number == 1:
            return f"waits for {tail(left.first)}"
        jobs = f"waits for {left.number:,} jobs"
        if len(after["ids"]) != 1 or after.get("results"):
            return jobs
        group = self._store.group(after["ids"][0])
        return f"{jobs} of group {(group and group['name']) or after['ids'][0]}"


def waits_for_gpus(row: Row, limit: int | None, known: gpus.Known, held: Row) -> str | None:
    """Return which GPUs a pending job waits for, None where they are free; ``limit`` is that of config.yaml."""
    asked = f"{row['gpu']} GPU{'' if row['gpu'] == 1 else 's'}"
    choices = gpus.visible(row["visible"], known.devices, limit)
    if choices is None:
        return f"{asked}: which there are is not known ({known.why or 'not those of its list'})"
    of = "that there are" if row["visible"] is None else f"of {gpus.VARIABLE}={row['visible'][:100]!r}"
    if gpus.pick(choices, (), row["gpu"]) is None:
        return f"{asked} of the {len(choices)} {of}"
    numbers = gpus.numbers(held["gpus"])
    count = len(choices) if limit is None else min(len(choices), limit)
    if gpus.pick(choices, numbers, row["gpu"]) is None or (limit is not None and len(numbers) + row["gpu"] > limit):
        return f"{row['gpu']} of {count} GPUs" if row["visible"] is None else f"{asked} of the {count} {of}"
    return None


def waits_for(row: Row, place: int | None, held: Row, limits: Row, wanted: str | None = None) -> str | None:
    """Return what a pending job waits for, None where it is about to start.

    ``place`` is its place in line from 1 on, None where it is not known; ``held`` is what running jobs use of the
    ``limits``; ``wanted`` says which GPUs it waits for.
    """
    has = {"cpu": limits.get("cpus"), "mem": limits["mem"]}
    short = [
        words.format(asked=row[key] / unit, has=has[key] / unit)
        for key, unit, words in (
            ("cpu", 1000, "{asked:.10g} of {has:.10g} cores"),
            ("mem", 1 << 30, "{asked:.3g} of {has:.3g} GiB of memory"),
        )
        if row[key] and held[key] + row[key] > has[key]
    ]
    if not held["jobs"]:  # a job that asks for more than there is runs alone
        short = []
    if wanted is not None:
        short.append(wanted)
    if place == 1 and not short:
        return None
    where = f"{_ordinal(place)} in line" if place else f"behind the first {IN_LINE:,} in line"
    return f"waits for {' and '.join(short)}, {where}" if short else where


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 // 10 != 1 else "th"
    return f"{number}{ending}"
