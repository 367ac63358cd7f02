"""A group of 10,000 jobs: how long its submission takes, and reading it, beside single submissions.

``python bench/groups.py`` prints the figures. Nothing runs meanwhile: a job that never fits is first in line.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.service.service import Service

JOBS = 10_000
SINGLES = 200


def timed(call: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Return the median of the seconds that a call takes, and what it returns."""
    took, value = [], None
    for _ in range(times):
        began = time.perf_counter()
        value = call()
        took.append(time.perf_counter() - began)
    return statistics.median(took), value


def main() -> int:
    home = Path(tempfile.mkdtemp(prefix="groups-"))
    (home / "config.yaml").write_text("stop_grace: 0.5\ncpus: 0.5\n")
    os.environ["TASKAPI_HOME"] = str(home)
    source = "import time\ndef task(config):\n    time.sleep(600)\n"
    spec = {"name": "a", "kind": "TaskAPI", "definition": {"path": "task.py"}, "compute": {"cpu": "500m"}}
    good = True
    with closing(Service(home)) as service:
        service.deploy_request(DeployRequest(spec=spec, source=source, python=sys.executable))
        first = service.submit("a", {})
        took, _ = timed(lambda: [service.submit("a", {"lr": 0.1}) for _ in range(SINGLES)])
        print(f"single submissions: {took / SINGLES * 1e3:.2f} ms each")
        for most in (None, 4):
            took, group = timed(lambda: service.map("a", ({"lr": 0.1, "n": n} for n in range(JOBS)), max_running=most))  # noqa: B023
            good = good and took < 1
            print(f"group of {JOBS:,}, max_running {most}: {took:.2f} s, {took / JOBS * 1e6:.0f} us each (at most 1 s)")
            read, _ = timed(lambda: service.group_page(group.id), 20)  # noqa: B023
            good = good and read < 0.02
            print(f"  read with 50 jobs: {read * 1e3:.1f} ms (at most 20 ms)")
            read, _ = timed(lambda: service.group_status(group.id), 20)  # noqa: B023
            print(f"  its counts alone: {read * 1e3:.1f} ms")
            read, _ = timed(lambda: service.jobs(limit=50), 20)
            print(f"  list of the newest 50 jobs: {read * 1e3:.1f} ms")
            read, rows = timed(group.rows)
            print(f"  its {len(rows):,} rows: {read * 1e3:.0f} ms")
            read, _ = timed(group.stop)
            print(f"  its stop: {read * 1e3:.0f} ms")
        first.stop()
        for job in service.jobs(status=["pending", "running"], limit=1000):
            job.stop()
    shutil.rmtree(home)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
