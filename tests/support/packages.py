"""A package index on 127.0.0.1 with wheels made for a test, and APIs whose jobs run in environments built from them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import sysconfig
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from support import PATIENCE, request_for
from taskapi_jupyter.service.service import Service

UV = shutil.which("uv", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))


def wheel(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    script: str | None = None,
    requires_python: str | None = None,
    code: str = "",
    size: int = 0,
) -> tuple[str, bytes, bytes]:
    """Return a wheel's file name, its content and its metadata.

    Its module has the package's name and ``version``; ``script`` names a console script that prints both, ``code`` is
    more of the module, and ``size`` bytes of it can't be compressed.
    """
    module = re.sub(r"[-.]+", "_", name).lower()
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    if requires_python:
        metadata += f"Requires-Python: {requires_python}\n"
    files = {
        f"{module}.py": f"version = {version!r}\n\n\ndef main():\n    print({name!r}, version)\n\n\n{code}".encode(),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {module}:main\n".encode()
    if size:
        files[f"{module}.bin"] = os.urandom(size)
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}\n")
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content)  # the same text, the same hash
    return f"{module}-{version}-py3-none-any.whl", data.getvalue(), metadata.encode()


class Index:
    """A simple index (PEP 503, with hashes, and PEP 658's metadata) of wheels that are added to it.

    ``url`` is what ``--index-url`` takes. ``downloads`` counts wheels by file name, ``seen`` are all requests: path and
    ``Authorization``. What may be set at any time: ``status``, with which all is answered instead; ``delay``, seconds
    before each answer; ``credentials``, a user and a password without which all is 401; ``hold``, an event for which
    downloads wait.
    """

    def __init__(self) -> None:
        self.wheels: dict[str, tuple[bytes, bytes, str | None]] = {}  # by file name
        self.downloads: Counter[str] = Counter()
        self.seen: list[tuple[str, str | None]] = []
        self.status: int | None = None
        self.delay = 0.0
        self.credentials: tuple[str, str] | None = None
        self.hold: threading.Event | None = None
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index._answer(self)

            def do_HEAD(self) -> None:
                index._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/simple/"

    def url_with(self, user: str, password: str) -> str:
        """Return the URL with credentials in it."""
        return f"http://{user}:{password}@{self.host}/simple/"

    def add(self, name: str, version: str, **how: Any) -> str:
        """Add a wheel, made as :func:`wheel` does; return its line of a lock file."""
        file, content, metadata = wheel(name, version, **how)
        self.wheels[file] = (content, metadata, how.get("requires_python"))
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}"

    def save(self, folder: Path) -> Path:
        """Write all wheels into a folder, for ``--find-links``."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, (content, _, _) in self.wheels.items():
            (folder / file).write_bytes(content)
        return folder

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, sent = request.path.partition("?")[0], request.headers.get("Authorization")
        self.seen.append((path, sent))
        if self.delay:
            time.sleep(self.delay)
        status, kind, body = self._found(path, sent)
        if path.startswith("/files/") and path.endswith(".whl") and status == 200 and request.command == "GET":
            if self.hold is not None:
                self.hold.wait(PATIENCE)
            self.downloads[path.rpartition("/")[2]] += 1
        try:
            request.send_response(status)
            if status == 401:
                request.send_header("WWW-Authenticate", 'Basic realm="index"')
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            if request.command == "GET":
                request.wfile.write(body)
        except OSError:  # a builder that was killed
            request.close_connection = True

    def _found(self, path: str, sent: str | None) -> tuple[int, str, bytes]:
        if self.status is not None:
            return self.status, "text/plain", b"as the test wants it\n"
        if self.credentials is not None:
            wanted = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
            if sent != wanted:
                return 401, "text/plain", b"who are you?\n"
        _, top, *rest = path.split("/")
        if top == "files" and len(rest) == 1:
            content, metadata, _ = self.wheels.get(rest[0].removesuffix(".metadata"), (None, None, None))
            if content is not None and metadata is not None:
                return 200, "application/octet-stream", metadata if rest[0].endswith(".metadata") else content
        elif top == "simple":
            name = rest[0] if rest else ""
            project = re.sub(r"[-_.]+", "_", name).lower()
            links = [
                _link(file, *about)
                for file, about in self.wheels.items()
                if file.partition("-")[0] == project or not name
            ]
            if links or not name:
                page = "<!DOCTYPE html><html><body>\n" + "\n".join(links) + "\n</body></html>\n"
                return 200, "text/html", page.encode()
        return 404, "text/plain", b"not here\n"


def _link(file: str, content: bytes, metadata: bytes, requires_python: str | None) -> str:
    needs = f' data-requires-python="{requires_python}"'.replace(">", "&gt;", 1) if requires_python else ""
    known = hashlib.sha256(metadata).hexdigest()
    return (
        f'<a href="/files/{file}#sha256={hashlib.sha256(content).hexdigest()}"{needs} '
        f'data-dist-info-metadata="sha256={known}" data-core-metadata="sha256={known}">{file}</a>'
    )


@contextmanager
def running_index() -> Iterator[Index]:
    """Return an index that answers meanwhile."""
    index = Index()
    thread = threading.Thread(target=index.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        if index.hold is not None:
            index.hold.set()
        index.server.shutdown()
        index.server.server_close()


# APIs whose environments are built: what a deploy writes into a version, here by hand


def packages(
    lock: Iterable[str], index_url: str | None = None, *, builder: str = "uv", base: str = sys.executable, **more: Any
) -> dict[str, Any]:
    """Return ``launch["packages"]`` of lock lines for an interpreter; ``more`` replaces any of its keys."""
    lines = list(lock)
    named = [one.partition(" ")[0] for one in lines]
    about = "\n".join([*lines, base, builder, sysconfig.get_config_var("SOABI") or ""])
    return {
        "key": hashlib.sha256(about.encode()).hexdigest()[:32],
        "base": base,
        "version": ".".join(map(str, sys.version_info[:3])),
        "builder": builder,
        "uv": UV if builder == "uv" else None,
        "pip": base if builder == "pip" else None,
        "lock": "requirements.lock",
        "unlocked": False,
        "requirements": [one.partition("==")[0] for one in named],
        "packages": named,
        "index": {"index_url": index_url, "extra_index_urls": [], "find_links": [], "no_index": False},
        "env": {},
        **more,
    }


def deploy_packaged(
    service: Service, name: str, source: str, lock: Iterable[str], about: dict[str, Any], **spec: Any
) -> dict[str, Any]:
    """Deploy a source as an API whose jobs run in an environment; return its version's ``launch``."""
    service.deploy_request(request_for(name, source, **spec))
    return pack(service, name, lock, about)


def pack(service: Service, name: str, lock: Iterable[str], about: dict[str, Any]) -> dict[str, Any]:
    """Have the jobs of a deployed API run in an environment, as a deploy with requirements does."""
    with closing(sqlite3.connect(service.home / "taskapi.db", timeout=PATIENCE)) as store, store:
        api_id, text = store.execute(
            "SELECT api_id, launch FROM apis JOIN versions USING (api_id) WHERE apis.name = ?", (name,)
        ).fetchone()
        launch: dict[str, Any] = json.loads(text)
        python = str(service.home / "packages" / about["key"] / "bin" / "python")
        launch["packages"] = about
        launch["interpreter"] = {"path": python, "version": about["version"], "key": about["key"]}
        if launch["kind"] == "notebook":
            kernel = launch["notebook"]["kernel"]
            kernel["spec"] = {
                **kernel.get("spec", {}),
                "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            }
        else:
            launch["python"] = python
        (service.home / "apis" / api_id / about["lock"]).write_text("".join(f"{one}\n" for one in lock))
        store.execute("UPDATE versions SET launch = ? WHERE api_id = ?", (json.dumps(launch), api_id))
    return launch


def is_unused(home: Path, key: str) -> bool:
    """Whether no process holds an environment, so that it may be removed."""
    with (home / "packages" / f"{key}.used").open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
