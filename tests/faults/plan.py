"""What is killed in which round, and what came of it."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

WRONGS = ("lost", "twice", "orphans", "wrong")  # of an outcome; must be zero

INODES = "inodes"  # a target: for a moment the home's disk has none left

PACKAGE = Path(__file__).resolve().parent.parent.parent / "taskapi_jupyter"


def points() -> list[str]:
    """Return the names of all points that the package's source marks, but for those of a damaged or a new database.

    A damaged database is set aside with its jobs, and space is given back where there is much of it (test_disk.py,
    test_retention.py). Those of Ray's engine take a Ray (test_ray.py), those of packages an index, and
    environments that were built (test_packages.py, test_packages_http.py), those of notebooks a kernel for each job
    (test_notebooks_faults.py).
    """
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found.update(re.findall(r'\bfault_point\(\s*"([^"]+)"', path.read_text()))
    return sorted(
        name
        for name in found
        if not name.startswith(("build.", "damage.", "notebook.", "packages.", "ray."))
        and name not in ("store.made", "store.vacuumed")
    )


@dataclass
class Round:
    """What is done and what is killed in it."""

    number: int
    seed: int
    through: str  # service, server or kernel: what people use
    row: str  # of the table
    point: str | None = None
    hold: bool = False  # at the point, while something else is killed
    thorough: bool = False  # all kinds of jobs, and kills that make others come by at the point
    targets: list[str] = field(default_factory=list)


@dataclass
class Facts:
    """What was done to whom, and what was promised to whom."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # kinds by job id
    stops: dict[str, bool] = field(default_factory=dict)  # whether the stop was acknowledged
    forgets: dict[str, bool] = field(default_factory=dict)
    quiet: dict[str, tuple[list[str], int]] = field(default_factory=dict)  # stopped groups: jobs, how many had begun
    chains: dict[str, tuple[list[str], bool]] = field(default_factory=dict)  # what jobs wait for; whatever their ends
    refused: list[str] = field(default_factory=list)
    killed_tasks: set[str] = field(default_factory=set)
    killed_watchers: set[str] = field(default_factory=set)
    killed_supervisor: bool = False
    no_inodes: bool = False
    killed_unknown: bool = False  # somebody at a point who had not said yet which job it is
    told: bool = False  # each end of a job is to arrive at a receiver
    injected: int = 0
    reached: bool = False


@dataclass
class Outcome:
    """What a round came to."""

    round: Round
    injected: int
    acknowledged: int
    reached: bool
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


ROWS = {
    "supervisor": ["supervisor"],
    "watcher": ["watcher"],
    "task": ["task"],
    "who submits": ["user"],
    "lock holder": ["lock holder"],
    "server": ["server"],
    "kernel": ["user"],
    "supervisor, watcher": ["supervisor", "watcher"],
    "all but tasks": ["supervisor", "watcher", "user", "lock holder"],
    "supervisor, task": ["supervisor", "task"],
    "template": ["template", "template"],
    "template, supervisor": ["template", "supervisor"],
    "template, watcher": ["template", "watcher"],
    "swapped supervisor": ["swap", "swap"],
    "swapped supervisor, watcher": ["swap", "watcher"],
    "swapped supervisor, task": ["swap", "task"],
    "no inode left": [INODES],
    "no inode left, supervisor": [INODES, "supervisor"],
    "no inode left, watcher": ["watcher", INODES],
}


def plan(count: int, seed: int, names: list[str]) -> list[Round]:
    """Return the rounds: each point with a kill and with a hold first, then any instant."""
    chance = random.Random(seed)
    at_points = [(name, hold) for hold in (False, True) for name in chance.sample(names, len(names))]
    at_points = at_points[: max(count * 2 // 3, 1)]
    rounds = []
    for number in range(count):
        through = chance.choices(["service", "server", "kernel"], [5, 3, 2])[0]
        round_ = Round(number, chance.randrange(1 << 32), through, "")
        if number < len(at_points):
            round_.point, round_.hold = at_points[number]
            round_.row = "held at a point" if round_.hold else "at a point"
            round_.targets = [
                chance.choice(["supervisor", "supervisor", "swap", "watcher", "task", "user", "template"])
            ]
        else:
            round_.row = list(ROWS)[(number - len(at_points)) % len(ROWS)]
            round_.targets = ROWS[round_.row]
            if round_.row in ("server", "kernel"):
                round_.through = round_.row
        rounds.append(round_)
    chance.shuffle(rounds)
    return rounds


def again(missed: list[Round], seed: int) -> list[Round]:
    """Return thorough rounds for points that nobody came by at."""
    through = ["service", "server", "kernel"]
    return [
        replace(one, number=one.number + 10_000, seed=one.seed + seed, thorough=True, through=through[index % 3])
        for index, one in enumerate(missed)
    ]
