"""``make demo`` runs the quickstart and a notebook's job through a real Jupyter server and shows what their jobs did.

``make lab`` opens JupyterLab.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nbformat
import requests
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
HOME = ROOT / ".demo" / "taskapi"  # kept, so that `make lab` shows the demo's jobs


def environment(**more: str) -> dict[str, str]:
    """Return this shell's variables without those that point to another server or home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JUPYTER", "JPY_"))}
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "TASKAPI_HOME": str(HOME), **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Jupyter server with the extension on a free loopback port, with a token."""

    def __init__(self, folder: str) -> None:
        self.token = secrets.token_hex(24)
        self.url = f"http://127.0.0.1:{free_port()}/"
        self.log = Path(folder, "server.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jupyter_server",
                    "--no-browser",
                    "--allow-root",
                    "--ServerApp.ip=127.0.0.1",
                    f"--ServerApp.port={self.url.rsplit(':', 1)[1].rstrip('/')}",
                    "--ServerApp.port_retries=0",
                    f"--ServerApp.root_dir={NOTEBOOKS}",
                ],
                env=environment(
                    JUPYTER_TOKEN=self.token,  # not on the command line, where others could read it
                    JUPYTER_CONFIG_DIR=f"{folder}/config",
                    JUPYTER_RUNTIME_DIR=f"{folder}/runtime",
                ),
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **query: str) -> requests.Response:
        headers = {"Authorization": f"token {self.token}"}
        return requests.get(f"{self.url}taskapi/{path}", params=query, headers=headers, timeout=30)

    def wait(self) -> None:
        """Wait until the extension answers."""
        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            try:
                if self.get("environments").ok:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.1)
        sys.exit(f"the Jupyter server did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def run_quickstart(server: Server) -> None:
    """Execute the quickstart in a kernel that reaches TaskAPI through the server only."""
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    os.environ.clear()  # for the kernel, which inherits these variables
    os.environ.update(START, TASKAPI_URL=server.url, TASKAPI_TOKEN=server.token)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": NOTEBOOKS}},
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        server.stop()
        sys.exit(f"quickstart.ipynb failed:\n{error}")


def submit_report(server: Server) -> None:
    """Run a whole notebook as a job and wait for it."""
    program = [str(Path(sys.executable).with_name("jupyter-taskapi")), "submit", "report.ipynb", "lr=0.1", "--wait"]
    variables = environment(TASKAPI_URL=server.url, TASKAPI_TOKEN=server.token)
    done = subprocess.run(program, env=variables, cwd=NOTEBOOKS, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        server.stop()
        sys.exit(f"report.ipynb failed:\n{done.stdout}{done.stderr}")


def seconds(job: dict[str, str]) -> float:
    start, end = (datetime.fromisoformat(job[key].replace("Z", "+00:00")) for key in ("start_time", "end_time"))
    return (end - start).total_seconds()


def demo() -> int:
    """Run the demo and return the exit code."""
    print(f"starting a Jupyter server with the extension; jobs are kept in {HOME.relative_to(ROOT)}")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            server.wait()
            print(f"executing notebooks/quickstart.ipynb through {server.url}")
            begin = datetime.now().astimezone()
            run_quickstart(server)
            print("submitting notebooks/report.ipynb, a whole notebook, from a terminal\n")
            submit_report(server)
            listed = server.get("local/jobs", limit="100").json()["jobs"]
            jobs = [
                job for job in listed if datetime.fromisoformat(job["created_time"].replace("Z", "+00:00")) >= begin
            ]
            for job in reversed(jobs):
                where = f"local/jobs/{job['job_id']}"
                tail = server.get(f"{where}/log", offset="-4096").text.rstrip().splitlines()[-2:]
                result = server.get(f"{where}/result")
                took = f"{seconds(job):.2f} s" if "start_time" in job and "end_time" in job else "-"
                print(f"{job['job_id']}  {job['api_name']}  {job['status']}  {took}  config {job['config']}")
                print("".join(f"    log     {line}\n" for line in tail), end="")
                print(f"    result  {result.text if result.ok else '-'}")
        finally:
            server.stop()
    good = sum(job["status"] == "succeeded" for job in jobs)
    print("\nopen the same in JupyterLab: make lab")
    print(f"demo: {good} of {len(jobs)} jobs succeeded")
    return 0 if jobs and good == len(jobs) else 1


def lab() -> int:
    """Open JupyterLab on the notebooks, with the demo's jobs."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={NOTEBOOKS}", "quickstart.ipynb"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    try:
        return subprocess.call(command, env=environment(), cwd=NOTEBOOKS)
    except KeyboardInterrupt:
        return 0


START = environment()

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab", action="store_true", help="open JupyterLab instead")
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    sys.exit(lab() if parser.parse_args().lab else demo())
