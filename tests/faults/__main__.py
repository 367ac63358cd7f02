"""Run the harness: ``make faults``, or ``python -m faults`` in ``tests/`` (``--help`` tells its options).

In a round somebody deploys, submits, stops and deletes, through this machine's service, a Jupyter server or a kernel's
magics, while processes are killed. When all has been left to recover, it asks of each job: is it there, in exactly one
terminal state, which is true; was it started at most once; is nothing of it left? Exits 0 where all is well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from support import like_a_terminal

from .plan import INODES, WRONGS, Outcome, Round, again, plan, points
from .users import act
from .world import run_world


def main() -> int:
    """Run the rounds and print the table."""
    like_a_terminal()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same plan; timing stays chance")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--points", nargs="*", default=None, help="these points alone")
    parser.add_argument("--only", type=int, default=None, help="this round of the plan alone")
    parser.add_argument("--tries", type=int, default=2, help="further rounds for a point that nobody came by at")
    parser.add_argument("-v", action="store_true", help="tell of each round")
    parser.add_argument("--act", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.act:
        act()
        return 0
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    names = points() if options.points is None else options.points
    rounds = plan(options.rounds, seed, names)
    if options.only is not None:
        rounds = [one for one in rounds if one.number == options.only]
    print(f"{len(rounds)} rounds, {len(names)} points, seed {seed}", flush=True)
    began = time.monotonic()
    outcomes = run(rounds, options.workers, options.v)
    for _ in range(options.tries):
        reached = {one.round.point for one in outcomes if one.reached}
        missed = {one.round.point: one.round for one in outcomes if one.round.point not in reached}
        outcomes += run(again(list(missed.values()), seed), options.workers, options.v)
    return show(outcomes, names, time.monotonic() - began)


def run(rounds: list[Round], workers: int, tell: bool) -> list[Outcome]:
    """Run rounds in several homes at once; tell of what went wrong."""
    outcomes: list[Outcome] = []
    size = max(min(25, -(-len(rounds) // workers)), 1)
    groups = [[one for one in rounds if (INODES in one.targets) is small] for small in (False, True)]
    chunks = [some[begin : begin + size] for some in groups for begin in range(0, len(some), size)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for some, folder in pool.map(run_world, chunks):
            outcomes += some
            for one in some:
                if tell:
                    print(one.round, "reached" if one.reached else "not reached", flush=True)
                for name in WRONGS:
                    for text in getattr(one, name):
                        print(f"{one.round}: {name}: {text}  [{folder}]", flush=True)
    return outcomes


def show(outcomes: list[Outcome], names: list[str], took: float) -> int:
    """Print the table; return the exit code."""
    heads = ["killed", "rounds", "faults injected", "jobs acknowledged", "lost", "run twice", "orphans", "wrong states"]
    rows = []
    for row in sorted({one.round.row for one in outcomes}):
        some = [one for one in outcomes if one.round.row == row]
        rows.append([row, len(some), *sums(some)])
    rows.append(["all", len(outcomes), *sums(outcomes)])
    widths = [max(len(str(row[column])) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    reached = {one.round.point for one in outcomes if one.round.point and one.reached}
    tried = {one.round.point for one in outcomes if one.round.point}
    print(f"points reached: {len(reached)} of {len(tried)} tried, of {len(names)}; {took:.0f} s")
    if tried - reached:
        print(f"not reached: {', '.join(sorted(tried - reached))}")
    return int(any(rows[-1][4:]))


def sums(outcomes: list[Outcome]) -> list[int]:
    """Return the figures of some rounds, as the table has them."""
    return [
        sum(one.injected for one in outcomes),
        sum(one.acknowledged for one in outcomes),
        *(sum(len(getattr(one, name)) for one in outcomes) for name in WRONGS),
    ]


if __name__ == "__main__":
    sys.exit(main())
