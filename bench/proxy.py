"""The cost of the proxy: requests to a cluster through the server and directly: ``python bench/proxy.py``.

The upstream is the tests' double of a Cortex operator, in another process; both ways open a connection for each
request. Exits 1 if a figure exceeds what the project promises.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from latency import Server
from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import websocket_connect

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "300"))
AT_ONCE = 200
LIMIT = 2.5  # ms
FLOOD = 1 << 30  # bytes
TESTS = Path(__file__).parent.parent / "tests"


DOUBLE = """
import sys, time
from support.cortex_double import Operator
with Operator("0.28.0", manual=True, flood=int(sys.argv[1])) as operator:
    operator.deploy("hello")
    print(operator.url, flush=True)
    while True:  # a submitted job runs until the end
        for job in list(operator.jobs.values()):
            if "pending" in job.status:
                operator.start(job.id)
        time.sleep(0.05)
"""


def say(what: str, text: str, holds: bool) -> int:
    print(f"{what:<12} {text}{'' if holds else '   OVER'}", flush=True)
    return not holds


async def one(client: SimpleAsyncHTTPClient, url: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    answer = await client.fetch(url, headers=headers, request_timeout=60)
    assert answer.code == 200
    return (time.perf_counter() - began) * 1000


async def latency(client: SimpleAsyncHTTPClient, direct: str, through: str, token: dict[str, str]) -> int:
    version = {"CortexAPIVersion": "0.28.0"}
    for _ in range(20):
        await one(client, f"{through}/get", token)
    both = []
    for _ in range(ROUNDS):
        both.append((await one(client, f"{direct}/get", version), await one(client, f"{through}/get", token)))
    floor, ours = (statistics.median(column) for column in zip(*both, strict=True))
    text = f"p50 {ours:.2f} ms, {ours - floor:.2f} ms more than directly ({floor:.2f} ms), at most {LIMIT} ms more"
    return say("GET", text, ours - floor <= LIMIT)


async def crowd(client: SimpleAsyncHTTPClient, through: str, token: dict[str, str]) -> int:
    began = time.perf_counter()
    asking = (one(client, f"{through}/get", token) for _ in range(AT_ONCE))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    return say(f"{AT_ONCE} at once", f"{len(errors)} errors, {time.perf_counter() - began:.2f} s", not errors)


class Growth:
    """Counts the bytes of a stream, and the growth of the server's memory meanwhile."""

    def __init__(self, pid: int) -> None:
        self.server = psutil.Process(pid)
        self.before = self.peak = self.server.memory_info().rss
        self.received, self.looked, self.began = 0, 0, time.perf_counter()

    def took(self, size: int) -> None:
        self.received += size
        if self.received - self.looked > 8 << 20:
            self.looked, self.peak = self.received, max(self.peak, self.server.memory_info().rss)

    def say(self, what: str) -> int:
        speed = self.received / (1 << 20) / (time.perf_counter() - self.began)
        grown = (self.peak - self.before) / (1 << 20)
        text = f"{self.received / (1 << 30):.2f} GiB at {speed:.0f} MiB/s, the server grows by {grown:.1f} MiB"
        return say(what, text, self.received >= FLOOD and grown < 32)


async def body(client: SimpleAsyncHTTPClient, through: str, token: dict[str, str], pid: int) -> int:
    growth = Growth(pid)
    url = f"{through}/stream?bytes={FLOOD}"
    await client.fetch(
        HTTPRequest(url, headers=token, streaming_callback=lambda piece: growth.took(len(piece)), request_timeout=300)
    )
    return growth.say("a body")


async def log(client: SimpleAsyncHTTPClient, through: str, token: dict[str, str], pid: int) -> int:
    submitted = await client.fetch(f"{through}/tasks/hello", method="POST", body="{}", headers=token)
    job = json.loads(submitted.body)["job_id"]
    while b"running" not in (await client.fetch(f"{through}/tasks/hello?jobID={job}", headers=token)).body:
        await asyncio.sleep(0.05)
    growth = Growth(pid)
    url = f"ws{through.removeprefix('http')}/logs/hello?jobID={job}"
    socket = await websocket_connect(HTTPRequest(url, headers=token), max_message_size=1 << 24)
    while growth.received < FLOOD and (message := await socket.read_message()) is not None:
        growth.took(len(message))
    socket.close()
    return growth.say("a log")


async def measure(direct: str, server: Server) -> int:
    through, token = f"http://127.0.0.1:{server.port}/taskapi/prod", {"Authorization": f"token {server.token}"}
    client = SimpleAsyncHTTPClient(force_instance=True, max_clients=AT_ONCE, max_body_size=FLOOD * 2)
    failed = await latency(client, direct, through, token)
    failed += await crowd(client, through, token)
    failed += await body(client, through, token, server.process.pid)
    return failed + await log(client, through, token, server.process.pid)


def main() -> int:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    double = subprocess.Popen(
        [sys.executable, "-c", DOUBLE, str(FLOOD)], env=environment, stdout=subprocess.PIPE, text=True
    )
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            assert double.stdout is not None
            url = double.stdout.readline().strip()
            prod = {"name": "prod", "provider": "cortex", "operator_endpoint": url, "version": "0.28.0", "timeout": 300}
            (server.home / "environments.yaml").write_text(json.dumps({"environments": [prod]}))
            return asyncio.run(measure(url, server))
        finally:
            server.process.terminate()
            double.kill()
            server.process.wait()


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
