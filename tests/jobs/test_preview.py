"""What a pickled result looks like: its own interpreter says so, and neither a server nor a client unpickles it."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for
from taskapi_jupyter.core.contract import MAX_PREVIEW
from taskapi_jupyter.service.outputs import preview_of
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.worker import harness

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>é\u2028"

CLASSES = f"""
import os, sys
os.umask(0)

class Table:
    def __repr__(self):
        return "a table"
    def _repr_html_(self):
        return {HOSTILE!r}

class Picture:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {{"image/png": b"\\x89PNG", "text/javascript": "alert(1)", "text/plain": 5}}, {{}}

class Large(Table):
    def _repr_html_(self):
        return "é" * 50_000

class Raises:
    def _repr_html_(self):
        raise ValueError("no table")
    def _repr_png_(self):
        sys.exit(3)
    def __repr__(self):
        raise KeyboardInterrupt

class Hangs(Table):
    def _repr_html_(self):
        import _taskapi_preview, threading
        threading.Event().wait(60)

class Long:
    def __init__(self):
        self.values = None
    def __repr__(self):
        return "x" * 500_000

def drawn():
    import matplotlib.pyplot as plt
    plt.plot([1, 3, 2])
    return plt.gcf()

def task(config):
    if config["of"] == "Hangs()":
        import _taskapi_preview
        _taskapi_preview.PATIENCE = 0.2
    return eval(config["of"])
"""


def preview(service: Service, of: str) -> dict[str, str]:
    """Run a job whose result is what a text evaluates to; return what the result looks like."""
    job = service.submit("previews", {"of": of}).wait(PATIENCE)
    assert (job.status, job.reason) == ("succeeded", None), (of, job.logs())
    found = service.preview(job).data
    file = Path(service.home, "jobs", job.id, "result.preview.json")
    assert file.exists() == bool(found)
    if found:
        about = file.stat()
        assert (stat.S_IMODE(about.st_mode), about.st_size <= MAX_PREVIEW) == (0o600, True)
    return found


def test_what_results_look_like(service: Service) -> None:
    service.deploy_request(request_for("previews", CLASSES))
    assert preview(service, "Table()") == {"text/html": HOSTILE, "text/plain": "a table"}
    assert preview(service, "Picture()").keys() == {"image/png", "text/plain"}
    assert preview(service, "Large()") == {"text/plain": "a table"}
    assert preview(service, "Raises()") == {}
    assert preview(service, "Hangs()") == {}
    assert len(preview(service, "Long()")["text/plain"]) < 100_000
    assert preview(service, "{'a': Table()}") == {"text/plain": "{'a': a table}"}
    assert len(preview(service, "set(range(1_000_000))")["text/plain"]) < 1_000
    for of in ("{'a': 1}", "(1, 2)", "None"):  # those have a JSON form
        assert preview(service, of) == {}


def test_a_figure_is_a_picture(service: Service) -> None:
    pytest.importorskip("matplotlib")
    service.deploy_request(request_for("previews", CLASSES))
    for of in ("drawn()", "drawn().axes[0]"):
        assert base64.b64decode(preview(service, of)["image/png"]).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'{"text/html": "<b>", "text/javascript": "alert(1)"}', {"text/html": "<b>"}),
        (b'{"text/html": 5}', {}),
        (b"[]", {}),
        (b"\xff", {}),
        (json.dumps({"text/html": "x" * MAX_PREVIEW}).encode(), {}),
    ],
)
def test_a_task_may_have_written_anything(tmp_path: Path, written: bytes, read: Any) -> None:
    file = tmp_path / "result.preview.json"
    file.write_bytes(written)
    with file.open("rb") as opened:
        assert preview_of(opened).data == read
    assert preview_of(None).data == {}


def test_nothing_is_lost_where_there_is_no_room(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    harness.preview(f"{folder}/", object())
