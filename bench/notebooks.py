"""A notebook's job beside a bare kernel, nbclient and papermill, in turn: ``python bench/notebooks.py``.

Without a server; medians. papermill is that of ``.venv-peers`` where there is one (``make bench`` makes it). Exits 1
where the first line of the first cell takes more than 1.15 times a bare kernel's start, or a large notebook more than
1.1 times plain nbclient.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
LARGE_ROUNDS = int(os.environ.get("BENCH_LARGE_ROUNDS", "3"))
LINE = "import time\nprint(time.monotonic_ns())"
PEERS = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"

NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, shutdown_kernel="immediate").execute()
nbformat.write(notebook, sys.argv[2])
"""
PAPERMILL = "import sys, papermill; papermill.execute_notebook(*sys.argv[1:3], progress_bar=False)"


def notebook(path: Path, *sources: str) -> Path:
    import nbformat

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


def bare() -> float:
    """Return the time until a bare kernel has executed the line, with jupyter_client imported already."""
    from jupyter_client.manager import start_new_kernel

    begin, said = time.monotonic_ns(), []
    manager, client = start_new_kernel(kernel_name="python3")
    client.execute_interactive(LINE, output_hook=said.append)
    manager.shutdown_kernel(now=True)
    client.stop_channels()
    text = next(one["content"]["text"] for one in said if one["msg_type"] == "stream")
    return (int(text) - begin) / 1e6


def first_line(service, api: str) -> float:
    """Return the time from a submission until the first cell prints."""
    begin = time.monotonic_ns()
    job = service.submit(api)
    time.sleep(0.3)  # a look at the job would take a core from it
    job.wait(120)
    return (next(int(line) for line in job.logs().splitlines() if line.isdigit()) - begin) / 1e6


def job(service, api: str) -> float:
    """Return the time from a submission until the job has ended."""
    begin = time.monotonic_ns()
    service.submit(api).wait(300)
    return (time.monotonic_ns() - begin) / 1e6


def process(python: str | Path, code: str, *words: Path) -> float:
    """Return the time that a process takes."""
    begin = time.monotonic_ns()
    subprocess.run([python, "-c", code, *words], check=True, stderr=subprocess.DEVNULL)
    return (time.monotonic_ns() - begin) / 1e6


def compare(what: str, ways: dict, rounds: int) -> dict[str, float]:
    """Print the median of each way, measured in turn; the first one is the floor."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    medians = {way: statistics.median(some) for way, some in found.items()}
    floor = next(iter(medians.values()))
    for way, median in medians.items():
        print(f"{what}, {way:<28} {median:8.0f} ms  {median / floor:.2f} x floor", flush=True)
    return medians


def main() -> int:
    from taskapi_jupyter.service.service import Service

    with tempfile.TemporaryDirectory() as name:
        home, work = Path(name, "home"), Path(name)
        home.mkdir(mode=0o700)
        os.environ["TASKAPI_HOME"] = str(home)
        service = Service(home)
        small = notebook(work / "small.ipynb", LINE)
        large = notebook(
            work / "large.ipynb", *["print('x' * 99 + '\\n', end='')\n" * 2 + "print('y' * 100_000)"] * 200
        )
        try:
            for path in (small, large):
                service.deploy(str(path), name=path.stem)
            job(service, "small")  # the supervisor is there, and what is imported is in memory
            first = compare(
                "first line", {"a bare kernel": bare, "a job": lambda: first_line(service, "small")}, ROUNDS
            )
            ways = {
                "nbclient": lambda: process(sys.executable, NBCLIENT, large, work / "nbclient.ipynb"),
                "a job": lambda: job(service, "large"),
            }
            if PEERS.exists():
                ways["papermill"] = lambda: process(PEERS, PAPERMILL, large, work / "papermill.ipynb")
            whole = compare("200 cells of 100 kB", ways, LARGE_ROUNDS)
        finally:
            service.close()
    return int(first["a job"] > 1.15 * first["a bare kernel"] or whole["a job"] > 1.1 * whole["nbclient"])


if __name__ == "__main__":
    sys.exit(main())
