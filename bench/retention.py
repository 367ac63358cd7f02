"""How long a submission is held up while retention deletes half of 100,000 jobs: ``python bench/retention.py``.

The floor is the same submission, one synced commit, where nothing is deleted. Exits 1 if a limit is exceeded. Part of
``make bench``.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from latency import ms

from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor import wake

JOBS = int(os.environ.get("BENCH_JOBS", "100000"))
HELD_UP = 20.0  # ms; p95


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "home")
        (service.home / "config.yaml").write_text(f"keep_jobs: {JOBS // 2}\n")
        store = service.store
        store.set_settings({"keep_jobs": JOBS // 2})
        version = {"api_id": "v", "name": "api", "spec_id": "s", "timeout": None, "cpu": 1000, "mem": None, "gpu": 0}
        store.put_api({**version, "updated": 1, "spec": "{}", "config": "{}", "launch": "{}"}, 1)
        job = {"api_name": "api", "api_id": "v", "spec_id": "s", "created": 1, "timeout": None, "boot": "b"}
        job |= {"deadline": None, "cpu": 1000, "mem": None, "gpu": 0}
        with store.write() as transaction:
            transaction.executemany(
                "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu) "
                "VALUES (?, 'api', 'v', 's', 'succeeded', 1, 0, 'x', 1000, 0)",
                ((f"{(1 << 62) - n:016x}",) for n in range(JOBS)),
            )

        def submission() -> float:
            begin = time.monotonic_ns()
            store.add_job(job, 1 << 62)
            return ms(time.monotonic_ns() - begin)

        floor = sorted(submission() for _ in range(200))
        begin, held_up = time.monotonic(), []
        retention = subprocess.Popen(wake.command("service.retention", str(service.home)))
        while retention.poll() is None:
            held_up.append(submission())
            time.sleep(0.005)
        took = time.monotonic() - begin
        held_up.sort()
        floor_95, p95 = floor[len(floor) * 95 // 100], held_up[len(held_up) * 95 // 100]
        left = len(store.jobs("api", ["succeeded"], JOBS))
        service.close()
    print(f"{'a submission, nothing deleted (the floor)':<50} {floor_95:8.1f} ms (p95)")
    print(
        f"{f'while {JOBS - left} of {JOBS} jobs are deleted':<50} {p95:8.1f} ms (p95, at most {HELD_UP:.0f}), the "
        f"longest of {len(held_up)} {held_up[-1]:.1f} ms; the deletion took {took:.1f} s"
    )
    raise SystemExit(p95 > HELD_UP or left > JOBS // 2)


if __name__ == "__main__":
    main()
