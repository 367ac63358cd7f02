"""Jobs on a Ray cluster beside Ray's own client: ``make bench-ray``, which starts a cluster of two CPUs.

Compared is the time from submission to the first line: ``JobSubmissionClient.submit_job`` (in Ray's own interpreter,
its log followed over the same route) and a job of this package. Then 300 jobs run on the two CPUs while the Jupyter
server is killed three times: each job must run and end once. Exits 1 if a limit is exceeded.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import requests
import yaml

from support.homes import clean
from support.ray_head import Head, program
from support.servers import start_server, stop_server
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.ray.service import RayService

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
JOBS = int(os.environ.get("BENCH_JOBS", "300"))
RATIO = 1.3  # times the figure of Ray's own client

#: Submits a job as in Ray's documentation and prints how long its first line took; one client, many rounds.
RAYS_OWN = """
import json, sys, time, urllib.request
from ray.job_submission import JobSubmissionClient
address = sys.argv[1]
client = JobSubmissionClient(address)
for _ in sys.stdin:
    begin = time.monotonic()
    job = client.submit_job(entrypoint="python -c 'print(\\"hello\\", flush=True)'", entrypoint_num_cpus=1)
    node = None
    while not node:
        node = json.load(urllib.request.urlopen(f"{address}/api/jobs/{job}"))["driver_node_id"]
        time.sleep(0 if node else 0.1)
    url = f"{address}/api/v0/logs/stream?node_id={node}&submission_id={job}&lines=-1&interval=0.1"
    with urllib.request.urlopen(url) as log:
        for line in log:
            if line == b"hello\\n":
                break
    print(time.monotonic() - begin, flush=True)
    while client.get_job_status(job) != "SUCCEEDED":
        time.sleep(0.05)
"""


def spec(name, source):
    definition = {"path": "task.py"}
    return DeployRequest(
        spec={"name": name, "kind": "TaskAPI", "definition": definition}, source=source, python=sys.executable
    )


def first_lines(head, home):
    """Return the medians of Ray's own client and of this package, measured in turn."""
    python = Path(program()).parent / "python"
    own = subprocess.Popen(
        [str(python), "-c", RAYS_OWN, head.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )
    service = RayService(home, environment="ray", address=head.address)
    service.deploy_request(spec("hello", "def task(config):\n    print('hello', flush=True)\n"))
    theirs, ours = [], []
    for _ in range(ROUNDS):
        own.stdin.write("\n")
        own.stdin.flush()
        theirs.append(float(own.stdout.readline()))
        begin = time.monotonic()
        job = service.submit("hello")
        next(job.logs(follow=True))
        ours.append(time.monotonic() - begin)
        job.wait()
    own.stdin.close()
    own.wait()
    service.close()
    return statistics.median(theirs), statistics.median(ours)


def many(head, folder):
    """Submit through a server that is killed three times; return states, jobs that ran, runs and seconds."""
    folder.mkdir()
    marks = folder / "marks"
    marks.mkdir()
    server = start_server(folder)
    cluster = {"name": "cluster", "provider": "ray", "address": head.address}
    (server.home / "environments.yaml").write_text(yaml.safe_dump({"environments": [cluster]}))

    def post(path, body):
        url = f"{server.url}taskapi/cluster/{path}"
        return requests.post(url, json=body, headers=server.auth, timeout=60)

    source = f"import os\ndef task(config):\n    open('{marks}/%d.%d' % (config['n'], os.getpid()), 'x')\n"
    body = {"spec": spec("mark", source).spec, "source": source, "python": sys.executable}
    assert post("deploy", body).ok
    begin = time.monotonic()
    ids = []
    for number in range(JOBS):
        if number in (JOBS // 4, JOBS // 2, JOBS * 3 // 4):
            server.process.kill()
            server.process.wait()
            server = start_server(folder, port=int(server.url.split(":")[2].split("/")[0]), token=server.token)
        answer = post("tasks/mark", {"config": {"n": number}})
        assert answer.ok, answer.text
        ids.append(answer.json()["job_id"])
    home = server.home / "ray" / "cluster"
    service = RayService(home, environment="cluster", address=head.address)
    while left := len(service.jobs(status=["pending", "running"], limit=1000)):
        print(f"{left} left", file=sys.stderr)
        time.sleep(5)
    took = time.monotonic() - begin
    states = {}
    for job in ids:
        found = service.get("mark", job)
        status = found.status if found.reason is None else f"{found.status}: {found.reason}"
        states[status] = states.get(status, 0) + 1
    runs = [int(path.name.split(".")[0]) for path in marks.iterdir()]
    service.close()
    stop_server(server)
    return states, len(set(runs)), len(runs), took


def main():
    assert program(), "there is no Ray here: make bench-ray"
    head = Head()
    head.start()
    failed = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder, "home")
            theirs, ours = first_lines(head, home)
            clean(home)
            failed = ours > RATIO * theirs
            print(f"submit_job to its first line      {theirs:.2f} s")
            print(f"ours                              {ours:.2f} s   {ours / theirs:.2f} x  (at most {RATIO})")
            states, once, runs, took = many(head, Path(folder, "server"))
            wrong = states != {"succeeded": JOBS} or (once, runs) != (JOBS, JOBS)
            print(f"{JOBS} jobs, server killed 3 times  {json.dumps(states)}, begun {once}, runs {runs}; {took:.0f} s")
            failed = failed or wrong
    finally:
        head.remove()
    sys.exit(failed)


if __name__ == "__main__":
    main()
