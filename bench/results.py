"""How long a large plain result takes from the task's return until the caller has it: ``python bench/results.py``.

The floor is what plain Python takes in the same run: ``pickle.dumps``, write, read, ``pickle.loads``. Medians of five.
Exits 1 if a limit is exceeded. Part of ``make bench``.
"""

import os
import pickle
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from latency import Server

from taskapi_jupyter import connect
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.service.service import Service

ROUNDS = 5
HERE, THERE = 2.0, 3.0  # times the floor: without a server, through it
VALUES = {
    "5 M floats": "[random.random() for _ in range(5_000_000)]",
    "2 M ints": "list(range(2_000_000))",
    "1,000 lists of 1,000 floats": "{f'c{n}': [random.random() for _ in range(1000)] for n in range(1000)}",
    "1 M strings": "[f'name {n}' for n in range(1_000_000)]",
    "50 M characters": "'abc é' * 10_000_000",
    "200,000 rows": "[{'a': n, 'b': str(n), 'c': [n, 1.5]} for n in range(200_000)]",
}
TASK = """
import random, time

def run(config):
    random.seed(1)
    value = {}
    with open(config["at"], "w") as file:
        file.write(str(time.monotonic()))
    return value
"""


def main() -> int:
    over = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        os.environ.update(TASKAPI_URL=f"http://127.0.0.1:{server.port}", TASKAPI_TOKEN=server.token)
        service, client = Service(server.home), connect()
        try:
            for what, text in VALUES.items():
                random.seed(1)
                value = eval(text)
                spec = {"name": "large", "kind": "TaskAPI", "definition": {"path": "large.py"}}
                source = TASK.format(text)
                service.deploy_request(DeployRequest(spec=spec, source=source, python=sys.executable, cwd="/"))
                took: dict[str, list[float]] = {"floor": [], "here": [], "there": []}
                for _ in range(ROUNDS):
                    took["floor"].append(plain(value, folder / "pickle"))
                    for way, api in (("here", service), ("there", client)):
                        result = api.submit("large", {"at": str(folder / "at")}).result()
                        took[way].append(time.monotonic() - float((folder / "at").read_text()))
                        assert result == value
                        del result
                floor, here, there = (statistics.median(took[way]) for way in ("floor", "here", "there"))
                over |= here > HERE * floor or there > THERE * floor
                print(
                    f"{what:<28} floor {floor * 1000:6.0f} ms, without a server {here / floor:5.2f} x (at most "
                    f"{HERE:g}), through it {there / floor:5.2f} x (at most {THERE:g})",
                    flush=True,
                )
        finally:
            service.close()
            server.process.terminate()
            server.process.wait()
    return over


def plain(value: object, path: Path) -> float:
    begin = time.monotonic()
    path.write_bytes(pickle.dumps(value))
    assert type(pickle.loads(path.read_bytes())) is type(value)
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main())
