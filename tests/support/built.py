"""Environments of packages made by hand, as a build leaves them, and what uses one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uv

from support import request_for
from taskapi_jupyter.service.service import Service

KEYS = tuple(digit * 32 for digit in "abcdef")
#: Holds a lock on a file as long as its input is open, and says so.
HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, {"shared": fcntl.LOCK_SH, "alone": fcntl.LOCK_EX}[sys.argv[2]])
print("held", flush=True)
sys.stdin.read()
"""


def make(home: Path, key: str, *, days: float = 0, facts: Any = None, **changed: Any) -> Path:
    """Make an environment that was last used so many days ago; ``facts`` are what its file holds, if not the usual."""
    packages = home / "packages"
    packages.mkdir(mode=0o700, exist_ok=True)
    folder = packages / key
    command = [uv.find_uv_bin(), "venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)]
    subprocess.run(command, check=True, timeout=60)
    used = time.time() - days * 86_400
    usual = {
        "key": key,
        "python": sys.executable,
        "version": "3.11.7",
        "builder": "uv",
        "built": used - 60,
        "seconds": 1.5,
        "size": 5 << 20,
        "records": 0,
        "requirements": ["six"],
        "packages": ["six==1.17.0"],
        "layout": 1,
    }
    (folder / "taskapi.json").write_text(json.dumps({**usual, **changed}) if facts is None else facts)
    for name in (f"{key}.used", f"{key}.lock"):
        (packages / name).touch(mode=0o600)
        os.utime(packages / name, (used, used))
    return folder


def deploy_in(service: Service, name: str, source: str, key: str) -> None:
    """Deploy an API whose version runs in an environment."""
    (result,) = service.deploy_request(request_for(name, source))
    assert result.api is not None
    row = service.store.version(result.api.spec["id"])
    assert row is not None
    launch = {**json.loads(row["launch"]), "packages": packages_of(service.home, key)}
    with service.store.write() as transaction:
        transaction.execute("UPDATE versions SET launch = ? WHERE api_id = ?", (json.dumps(launch), row["api_id"]))


def packages_of(home: Path, key: str) -> dict[str, Any]:
    """Return what a version is started with where it runs in an environment."""
    index = {"index_url": None, "extra_index_urls": [], "find_links": [], "no_index": False}
    return {
        "key": key,
        "base": sys.executable,
        "version": "3.11.7",
        "builder": "uv",
        "uv": uv.find_uv_bin(),
        "pip": None,
        "lock": "requirements.lock",
        "unlocked": False,
        "requirements": ["six"],
        "packages": ["six==1.17.0"],
        "index": index,
        "env": {},
    }


@contextmanager
def held(path: Path, how: str = "shared") -> Iterator[None]:
    """Have another process hold a lock on a file: ``shared``, as a job does, or ``alone``, as a build does."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def there(home: Path) -> set[str]:
    """Return the names of what is in the folder of packages, locks aside."""
    return {one.name for one in (home / "packages").iterdir() if one.suffix not in (".lock", ".used")}
