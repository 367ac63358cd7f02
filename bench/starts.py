"""What a person waits for at a start, as multiples of ``python -c "import requests"`` in the same run: ``make bench``.

``jupyter taskapi get``, ``connect()`` in a plain interpreter, ``%load_ext taskapi_jupyter`` and what the extension
adds to the start of a Jupyter server, until it answers. Exits 1 where a limit is passed.
"""

import compileall
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "11"))
PYTHON = sys.executable
ROOT = Path(__file__).resolve().parent.parent

LOAD_EXT = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begin = time.monotonic()
shell.run_line_magic("load_ext", "taskapi_jupyter")
print((time.monotonic() - begin) * 1e3)
"""
#: Each with its limit in milliseconds on a machine where importing requests takes 110.
COMMANDS = {
    'python -c "import requests"': ([PYTHON, "-c", "import requests"], None),
    "jupyter taskapi get": ([str(Path(PYTHON).parent / "jupyter"), "taskapi", "get"], 250),
    "connect() in a plain interpreter": ([PYTHON, "-c", "import taskapi_jupyter; taskapi_jupyter.connect()"], 200),
    "%load_ext taskapi_jupyter": ([PYTHON, "-c", LOAD_EXT], 120),
}
SHARE = 100  # the extension's, of the server's start
REQUESTS = 110


def took(command: list[str], environ: dict[str, str]) -> float:
    """Return the milliseconds that a command takes, or what it prints if that is a number of them."""
    begin = time.monotonic()
    told = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    whole = (time.monotonic() - begin) * 1e3
    return float(told) if re.fullmatch(r"[0-9.]+", told) else whole


def server(folder: Path, environ: dict[str, str], *, with_ours: bool) -> float:
    """Return the milliseconds until a Jupyter server answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    extensions = {"taskapi_jupyter": True} if with_ours else {}
    command = [PYTHON, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [
        f"--ServerApp.jpserver_extensions={extensions}",
        "--log-level=CRITICAL",
        f"--ServerApp.root_dir={folder}",
    ]
    begin = time.monotonic()
    process = subprocess.Popen(command, env={**environ, "JUPYTER_NO_CONFIG": "1"}, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as connection:
                    connection.sendall(b"GET /api HTTP/1.0\r\n\r\n")
                    assert connection.recv(100).startswith(b"HTTP/1.1 200")
                return (time.monotonic() - begin) * 1e3
            except ConnectionRefusedError:
                time.sleep(0.005)
        raise SystemExit("the server did not start")
    finally:
        process.kill()
        process.wait()


def main() -> int:
    compileall.compile_dir(ROOT / "taskapi_jupyter", quiet=1)  # as pip does
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    servers: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKAPI_", "JPY_", "JUPYTER"))}
        environ |= {"TASKAPI_HOME": f"{folder}/home", "JUPYTER_RUNTIME_DIR": name, "IPYTHONDIR": name}
        environ |= {"PYTHONPATH": str(ROOT)}
        for number in range(ROUNDS + 1):
            for what, (command, _) in COMMANDS.items():
                figure = took(command, environ)
                times[what] += [figure] if number else []  # the first round fills the caches of the disk
            for with_ours in (False, True):
                figure = server(folder, environ, with_ours=with_ours)
                servers[with_ours] += [figure] if number else []
    floor = median(next(iter(times.values())))
    share = median(b - a for a, b in zip(servers[False], servers[True], strict=True))
    rows = [(what, median(times[what]), limit) for what, (_, limit) in COMMANDS.items()]
    rows += [("a Jupyter server without the extension, until it answers", median(servers[False]), None)]
    rows += [("the extension's share of that start", share, SHARE)]
    good = True
    for what, figure, limit in rows:
        most = limit and limit / REQUESTS * floor
        good = good and (most is None or figure <= most)
        verdict = (
            "" if most is None else f"  (at most {limit / REQUESTS:.2f} x)" + ("" if figure <= most else "  TOO MUCH")
        )
        print(f"{what:<58} {figure:7.0f} ms  {figure / floor:5.2f} x{verdict}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
