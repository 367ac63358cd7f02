"""The jobs that are run, and how each ends where nobody does anything to it."""

from __future__ import annotations

#: Kinds of jobs: the API that they are of, and how they end if nobody does anything to them.
KINDS = {
    "returns": ("work", "succeeded"),
    "talks": ("work", "succeeded"),
    "daemon": ("work", "succeeded"),
    "deep": ("work", "succeeded"),
    "raises": ("work", "worker_error"),
    "late": ("work", "timed_out"),
    "asleep": ("work", "stopped"),
    "hungry": ("small", "worker_oom"),
    "command": ("shell", "worker_error"),
}

TASK = """
import os, subprocess, time

def mark(word, path, pid=None):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word} {os.environ['TASKAPI_JOB_ID']} {pid or os.getpid()}\\n".encode())
    os.close(fd)

def task(config):
    mark("begun", config["evidence"])
    mark("session", config["evidence"], os.getsid(0))
    kind = config["kind"]
    if kind == "talks":
        from taskapi_jupyter.job import progress
        for done in range(2000):
            print("line", done)
            progress(done, 2000)
    if kind == "deep":
        os.chdir(os.environ["TASKAPI_OUTPUT_DIR"])
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
    if kind in ("daemon", "asleep", "late"):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        bare = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
        mark("bare", config["evidence"], bare.pid)
    if kind == "hungry":
        hoard = b"x" * (400 << 20)
    if kind in ("late", "asleep", "hungry"):
        time.sleep(600)
    time.sleep(config["seconds"])
    if kind == "raises":
        raise ValueError("told")
    mark("ended", config["evidence"])
    return {"n": config["n"]}
"""
