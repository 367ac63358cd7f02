"""The ways to run a job that ``bench/peers.py`` compares, each served by a process of its own.

``python ways.py NAME FOLDER`` answers each line of its input with a line of JSON: to ``once`` the four moments of one
job (nanoseconds of the monotonic clock: its submission, the task's first line, the task's return, the result in the
caller's hand), to a number the seconds for so many jobs, two at a time, from the first submission to the last result.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTHON = sys.executable
#: The task: a program that prints two moments, its first line and its last one; a function that returns them.
CODE = "import time; print(time.monotonic_ns(), flush=True); print(time.monotonic_ns())"
SOURCE = "import time\nFIRST = time.monotonic_ns()\ndef run(config):\n    return [FIRST, time.monotonic_ns()]\n"


def stamp():
    import time

    return [time.monotonic_ns(), time.monotonic_ns()]


class Way:
    """One way; ``run`` submits a job and returns the two moments of its task, when it has them."""

    def __init__(self, folder):
        self.folder = folder

    def once(self):
        begin = time.monotonic_ns()
        first, returned = self.run()
        return [begin, first, returned, time.monotonic_ns()]

    def many(self, count):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: self.run(), range(count)))

    def close(self):
        pass


class Popen(Way):
    """The floor: ``Popen([python, "-c", "print(1)"])`` to its first line; many of them by ``xargs -P 2``."""

    def once(self):
        begin = time.monotonic_ns()
        with subprocess.Popen([PYTHON, "-c", "print(1)"], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            first = time.monotonic_ns()
        return [begin, first, first, time.monotonic_ns()]

    def many(self, count):
        subprocess.run(f"seq {count} | xargs -P 2 -I X {PYTHON} -c pass", shell=True, check=True)


class Tsp(Way):
    """task-spooler: a queue in the memory of a small C program."""

    def __init__(self, folder):
        super().__init__(folder)
        os.environ.update(TS_SOCKET=f"{folder}/socket", TMPDIR=folder, TS_SLOTS="2")
        try:
            self.tsp()
        except FileNotFoundError:
            raise ImportError("not installed") from None

    def tsp(self, *args):
        return subprocess.check_output(["tsp", *args], text=True).strip()

    def run(self):
        job = self.tsp(PYTHON, "-c", CODE)
        self.tsp("-w", job)
        return map(int, Path(self.tsp("-o", job)).read_text().split())

    def many(self, count):
        jobs = [self.tsp(PYTHON, "-c", "pass") for _ in range(count)]
        for job in jobs[-2:]:
            self.tsp("-w", job)

    def close(self):
        self.tsp("-K")


class Here(Way):
    """This package without a server, as in a terminal."""

    options = {}

    def __init__(self, folder):
        super().__init__(folder)
        self.home = Path(folder, "taskapi")
        if not self.home.exists():
            self.home.mkdir(mode=0o700)
            (self.home / "config.yaml").write_text("cpus: 2\n")
        os.environ["TASKAPI_HOME"] = str(self.home)
        from taskapi_jupyter import connect

        self.api = connect()
        Path(folder, "stamp.py").write_text(SOURCE)
        spec = {"name": "stamp", "definition": {"path": "stamp.py"}}
        self.api.deploy(spec, cwd=folder, **self.options)

    def run(self):
        return self.api.submit("stamp").result()

    def many(self, count):
        from taskapi_jupyter.client.waiting.jobs import wait

        wait([self.api.submit("stamp") for _ in range(count)])


class There(Here):
    """This package through a Jupyter server, as in a kernel that the server started."""

    def __init__(self, folder):
        from latency import Server

        self.server = Server(Path(folder), more=())
        os.environ.update(JPY_PARENT_PID=str(self.server.process.pid), JUPYTER_RUNTIME_DIR=f"{folder}/runtime")
        super().__init__(folder)
        assert self.api.base_url is not None, "no server was found"

    def close(self):
        self.server.process.terminate()
        self.server.process.wait()


class Warm(Here):
    """This package with a process per API that has imported what the task imports."""

    options = {"warm": True}

    def __init__(self, folder):
        from taskapi_jupyter.deploy.prepare import DeployOptions

        if "warm" not in DeployOptions.__dataclass_fields__:
            raise ImportError("not in this version")
        super().__init__(folder)


class IPyParallel(Way):
    """Two engines that stay; a job runs in the process of one of them."""

    def __init__(self, folder):
        super().__init__(folder)
        os.environ["IPYTHONDIR"] = folder
        import ipyparallel

        self.cluster = ipyparallel.Cluster(n=2, log_level=40)
        self.view = self.cluster.start_and_connect_sync(activate=False).load_balanced_view()

    def run(self):
        return self.view.apply_async(stamp).get()

    def many(self, count):
        self.view.map_async(lambda _: None, range(count)).get()

    def close(self):
        self.cluster.stop_cluster_sync()


class Submitit(Way):
    """A process of its own for each job, by way of pickles in a folder."""

    def __init__(self, folder):
        super().__init__(folder)
        import submitit

        self.executor = submitit.LocalExecutor(folder=folder)
        self.executor.update_parameters(timeout_min=5)

    def run(self):
        return self.executor.submit(stamp).result()


def notebook(target):
    """Return a notebook with one cell, which leaves the two moments in a file."""
    import nbformat

    code = "import time\nmoments = f'{time.monotonic_ns()} {time.monotonic_ns()}'"
    code += f"\nopen({str(target)!r}, 'w').write(moments)"
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )


class Notebook(Way):
    def run(self):
        import nbformat

        name = uuid.uuid4().hex
        target, path = Path(self.folder, f"{name}.txt"), Path(self.folder, f"{name}.ipynb")
        nbformat.write(notebook(target), path)
        self.execute(path)
        return map(int, target.read_text().split())


class Papermill(Notebook):
    """A notebook, executed in the caller's own thread by a kernel of its own."""

    def __init__(self, folder):
        super().__init__(folder)
        import papermill

        self.papermill = papermill

    def execute(self, path):
        self.papermill.execute_notebook(str(path), str(path), progress_bar=False)


class Scheduler(Notebook):
    """A notebook as a job of Jupyter's scheduler, by its HTTP routes."""

    def __init__(self, folder):
        super().__init__(folder)
        import jupyter_scheduler  # noqa: F401
        import requests

        for one in ("CONFIG", "DATA", "RUNTIME"):
            os.environ[f"JUPYTER_{one}_DIR"] = f"{folder}/{one}"
            Path(folder, one).mkdir(exist_ok=True)
        command = [PYTHON, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
        command += ["--ServerApp.jpserver_extensions={'jupyter_scheduler': True}", f"--ServerApp.root_dir={folder}"]
        self.server = subprocess.Popen([*command, "--IdentityProvider.token=peers"])
        self.http = requests.Session()
        self.http.headers["Authorization"] = "token peers"
        about = Path(folder, "RUNTIME", f"jpserver-{self.server.pid}.json")
        while self.server.poll() is None:
            try:
                self.url = json.loads(about.read_text())["url"] + "scheduler/"
                self.environment = self.http.get(f"{self.url}runtime_environments").json()[0]["name"]
                return
            except (OSError, ValueError):  # it writes the file before it listens
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def execute(self, path):
        body = {"name": "stamp", "input_uri": path.name, "output_formats": ["ipynb"]}
        answer = self.http.post(f"{self.url}jobs", json={**body, "runtime_environment_name": self.environment})
        answer.raise_for_status()
        while (job := self.http.get(f"{self.url}jobs/{answer.json()['job_id']}").json())["status"] != "COMPLETED":
            assert job["status"] != "FAILED", job  # it is STOPPED until it runs
            time.sleep(0.02)

    def close(self):
        self.server.terminate()
        self.server.wait()


WAYS = {
    "popen": Popen,
    "tsp": Tsp,
    "here": Here,
    "there": There,
    "warm": Warm,
    "ipyparallel": IPyParallel,
    "submitit": Submitit,
    "papermill": Papermill,
    "scheduler": Scheduler,
}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and engines are ended then, too
    try:
        way = WAYS[sys.argv[1]](sys.argv[2])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers)
        return
    try:
        way.once()
        print(json.dumps({}), file=answers)
        for line in sys.stdin:
            begin = time.monotonic()
            if line.strip() == "once":
                print(json.dumps(way.once()), file=answers)
            else:
                way.many(int(line))
                print(json.dumps(time.monotonic() - begin), file=answers)
    finally:
        way.close()


if __name__ == "__main__":
    main()
