"""Lists at 1,000,000 jobs of history beside the same at 10,000, in turn: ``python bench/lists.py``.

Medians. Exits 1 if a limit is exceeded. Part of ``make bench``.
"""

import json
import os
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from latency import timed

from taskapi_jupyter.core.contract import JobsPage, encode
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.schema import MIGRATIONS

FEW, MANY = 10_000, int(os.environ.get("BENCH_JOBS", "1000000"))
APIS = 20
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "60"))
LARGE = 6_900_000  # bytes
STATES = ["succeeded"] * 8 + ["worker_error", "stopped"]
BEFORE = 1003  # the schema of 0.3


def fill(home: Path, count: int) -> None:
    """Make a home of version 0.3 with jobs that have ended."""
    home.mkdir(mode=0o700)
    with closing(sqlite3.connect(home / "taskapi.db", isolation_level=None)) as connection:
        os.chmod(home / "taskapi.db", 0o600)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        for step in sorted(MIGRATIONS):
            if step <= BEFORE:
                connection.executescript(MIGRATIONS[step])
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu, notebook, "
            "config) VALUES (?, ?, 'v', 's', ?, ?, 1, 'b', 1000, 0, ?, ?)",
            (
                (
                    f"{(1 << 62) - n:016x}",
                    f"api-{n % APIS}",
                    STATES[n // APIS % len(STATES)],
                    n,
                    f"work/notebook-{n % 50}.ipynb",
                    f'{{"lr": 0.1, "epochs": {n}, "path": "/data/somewhere/file-{n}.csv"}}',
                )
                for n in range(count)
            ),
        )
        connection.executemany(
            "INSERT INTO versions (api_id, name, spec_id, updated, cpu, gpu, spec, config, launch) "
            "VALUES (?, ?, 's', 1, 1000, 0, '{}', '{}', '{}')",
            ((f"v{n}", f"api-{n}") for n in range(APIS)),
        )
        connection.executemany(
            "INSERT INTO apis (name, api_id, created, updated, change) VALUES (?, ?, 1, 1, 1)",
            ((f"api-{n}", f"v{n}") for n in range(APIS)),
        )
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA user_version = {BEFORE}")


def wire(jobs) -> bytes:
    return encode(JobsPage([job.record for job in jobs], jobs.next_cursor))


def main() -> int:
    met = []

    def row(what: str, small: float, large: float, ratio: float | None, most: float | None) -> None:
        good = (ratio is None or large <= ratio * small) and (most is None or large <= most)
        met.append(good)
        limits = [f"{ratio:g} x" if ratio else "", f"{most:g} ms" if most else ""]
        limit = ", ".join(filter(None, limits))
        verdict = f"  (at most {limit})" if limit else ""
        ratios = f"{large / small:6.2f} x" if small else ""
        print(f"{what:<44} {small:9.3f} ms {large:9.3f} ms {ratios}{verdict}{'' if good else '  TOO MUCH'}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        services, opened = [], []
        for count in (FEW, MANY):
            home = Path(folder) / str(count)
            fill(home, count)
            opened.append(timed(lambda: services.append(Service(home))))  # noqa: B023
        print(f"{'':<44} {FEW:9,} jobs {MANY:6,} jobs")
        row("the first open after an upgrade of 0.3", *opened, None, None)
        two = ["stopped", "succeeded"]
        questions = {
            "a page of 50": (lambda one: one.page(limit=50), 1.5, None),
            "a page of 250 of one API in two states": (lambda one: one.page("api-3", two, 250), 1.5, None),
            "all APIs, with their counts": (lambda one: one.get(), 1.5, None),
            "a count of all by status": (lambda one: one.counts(), 1.5, 20),
            "a count of one API in two states": (lambda one: one.counts("api-3", two), 1.5, 20),
            "a search that finds nothing": (lambda one: one.page(search="nowhere to be found"), 1.5, 100),
            "a search for a page of 50": (lambda one: one.page(search="file-9"), 1.5, 100),
            "a search in one API, for words of configs": (lambda one: one.page("api-3", search="epochs 0.1"), 1.5, 100),
        }  # fmt: skip
        for what, (ask, ratio, most) in questions.items():
            costs: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for service, cost in zip(services, costs, strict=True):
                    cost.append(timed(lambda: ask(service)))  # noqa: B023
            row(what, *map(statistics.median, costs), ratio, most)
        for service in services:
            found = service.page(search="nowhere to be found")
            print(f"  one search of {sum(service.counts().values()):,} looked at {found.searched:,}")
        large = services[1]
        config = json.dumps({"data": "x" * LARGE})
        with large.store.write() as transaction:
            transaction.executemany(
                "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu, config) "
                "VALUES (?, 'large', 'v', 's', 'succeeded', 1, 1, 'b', 1000, 0, ?)",
                ((f"{n:016x}", config) for n in range(20)),
            )
        cost = statistics.median(timed(lambda: wire(large.page("large"))) for _ in range(5))
        size = len(wire(large.page("large")))
        met.append(size <= 1 << 20)
        print(f"a page of 20 jobs with configs of {LARGE / 1e6:g} MB: {cost:.2f} ms, {size:,} bytes (at most 1 MiB)")
        cost = statistics.median(timed(lambda: large.page("large", search="nowhere")) for _ in range(5))
        row("a search among them", 0, cost, None, 100)
        for service in services:
            service.close()
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
