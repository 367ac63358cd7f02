"""The notebook that a job runs, over HTTP: as it stands, what has changed of it, in other formats."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbformat import v4

from support import PATIENCE
from support.homes import processes
from support.routes import ABSENT, deploy, ended, is_error, status, submit, waiting
from support.servers import Answer

Call = Callable[..., Awaitable[Answer]]

WAITS = """import pathlib, time
while not pathlib.Path({!r}).exists():
    time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def kernelspec(jp_data_dir: Path, jp_environ: None) -> None:
    """Install Python's kernelspec where a server of pytest-jupyter finds it."""
    write_kernel_spec(jp_data_dir / "kernels" / "python3")


def text_of(*cells: Any) -> str:
    """Return a notebook's text."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return str(nbformat.writes(v4.new_notebook(cells=list(cells), metadata=metadata)))


async def started(call: Call, *sources: str, **spec: Any) -> str:
    """Deploy a notebook of some code cells and submit it; return the job's id."""
    spec = {"name": "report", "kind": "TaskAPI", "definition": {"path": "report.ipynb"}, **spec}
    source = text_of(*map(v4.new_code_cell, sources))
    answer = await call("POST", "local/deploy", {"spec": spec, "source": source})
    assert answer.status == 200, answer.body
    return await submit(call, name="report")


async def done(call: Call) -> str:
    """Return a notebook's job that has ended."""
    job_id = await started(call, "a = 20", "print(a + 22)", "a")
    job = await ended(call, job_id)
    assert job["status"] == "succeeded", job["reason"]
    return job_id


def saved(home: Path, job_id: str) -> Path:
    """Return where a job's notebook is."""
    return home / "jobs" / job_id / "files" / "report.ipynb"


def save(path: Path, text: str | bytes) -> None:
    """Save a notebook as the runner does."""
    other = path.with_suffix(".tmp")
    other.write_bytes(text.encode() if isinstance(text, str) else text)
    other.rename(path)


async def test_the_notebook_as_it_stands(call: Call, home: Path) -> None:
    job_id = await done(call)
    answer = await call("GET", f"local/jobs/{job_id}/notebook")
    assert (answer.status, answer.body) == (200, saved(home, job_id).read_bytes())
    assert answer.headers["Content-Type"] == "application/x-ipynb+json"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    notebook = nbformat.reads(answer.body.decode(), 4)
    nbformat.validate(notebook)
    assert [cell.outputs[0].get("text") for cell in notebook.cells[1:2]] == ["42\n"]


async def test_a_notebook_that_a_client_has_is_not_sent_again(call: Call, home: Path) -> None:
    job_id = await done(call)
    path = f"local/jobs/{job_id}/notebook"
    tag = (await call("GET", path)).headers["ETag"]
    same = await call("GET", path, headers={"If-None-Match": tag})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    save(saved(home, job_id), text_of(v4.new_code_cell("other")))
    other = await call("GET", path, headers={"If-None-Match": tag})
    assert (other.status, "other" in other.body.decode()) == (200, True)
    assert other.headers["ETag"] != tag


async def test_only_cells_that_have_changed_are_sent(call: Call, home: Path) -> None:
    async def since(version: str) -> tuple[str, int, dict[int, str]]:
        answer = await call("GET", f"local/jobs/{job_id}/notebook?since={version}")
        assert answer.status == 200, answer.body
        found = answer.json
        assert answer.headers["ETag"] == f'"{found["version"]}"'
        return found["version"], found["total"], {index: "".join(cell["source"]) for index, cell in found["cells"]}

    job_id = await done(call)
    first = (await call("GET", f"local/jobs/{job_id}/notebook")).headers["ETag"].strip('"')
    assert await since("unknown") == (first, 3, {0: "a = 20", 1: "print(a + 22)", 2: "a"})
    assert await since(first) == (first, 3, {})
    cells = nbformat.read(saved(home, job_id), 4).cells
    save(saved(home, job_id), text_of(*cells))  # in the form that nbformat writes
    first = (await since(first))[0]
    cells[1].source = "changed"
    save(saved(home, job_id), text_of(*cells))
    second, *rest = await since(first)
    assert rest == [3, {1: "changed"}]
    assert await since(second) == (second, 3, {})
    cells[2].source = "changed, too"
    save(saved(home, job_id), text_of(*cells[1:], v4.new_markdown_cell("new")))
    third, *rest = await since(second)
    assert rest == [3, {0: "changed", 1: "changed, too", 2: "new"}]
    save(saved(home, job_id), text_of(cells[1]))
    fourth, *rest = await since(third)
    assert rest == [1, {}]  # what is left is as it was
    assert (await since(first))[1:] == (1, {0: "changed"})
    assert (await since(fourth))[1:] == (1, {})
    assert (await since("0" * 16))[1:] == (1, {0: "changed"})


async def test_other_jobs_run_no_notebook(call: Call, tmp_path: Path, home: Path) -> None:
    other = await waiting(call, tmp_path)
    answer = await call("GET", f"local/jobs/{other}/notebook")
    is_error(answer, "job.no_notebook", f"job {other} (waiting api) runs no notebook", 404)
    is_error(await call("GET", f"local/jobs/{ABSENT}/notebook"), "job.not_found", status=404)
    (tmp_path / "go").touch()


async def test_a_notebook_that_is_not_saved_yet_can_be_waited_for(call: Call, tmp_path: Path) -> None:
    ahead = await waiting(call, tmp_path)
    job_id = await started(call, "print('text')", compute={"cpu": os.cpu_count()})  # waits for the other
    path = f"local/jobs/{job_id}/notebook"
    message = f"job {job_id} (report api) has not saved its notebook yet"
    is_error(await call("GET", path), "job.no_notebook_yet", message, 404)
    is_error(await call("GET", f"{path}?since=1&wait=0.1"), "job.no_notebook_yet", message, 404)
    answer = asyncio.ensure_future(call("GET", f"{path}?wait=60"))
    (tmp_path / "go").touch()
    await ended(call, ahead)
    assert json.loads((await answer).body)["cells"]
    await ended(call, job_id)


async def test_what_is_no_notebook_is_said(call: Call, home: Path) -> None:
    job_id = await done(call)
    deep = b'{"cells":[' + b"[" * 100_000
    for left in (b"", b"text", b"[]", b"{}", b'{"cells": 1}', b'{"cells": [1]}', b'{"cells": [{]}', deep):
        save(saved(home, job_id), left)
        answer = await call("GET", f"local/jobs/{job_id}/notebook?since=1")
        is_error(answer, "job.no_notebook", status=404)
        assert answer.json["message"].startswith("what the job left in place of its notebook is none: ")
        assert (await call("GET", f"local/jobs/{job_id}/notebook")).body == left


async def test_a_link_in_place_of_the_notebook_is_not_followed(call: Call, home: Path) -> None:
    job_id = await done(call)
    secret = home / "secret"
    secret.write_text(text_of())
    for make in (os.symlink, lambda _, path: os.mkfifo(path)):
        other = saved(home, job_id).with_name("other")
        make(secret, other)
        other.replace(saved(home, job_id))  # the folder is never empty: one that is goes with the job's end
        for query in ("", "?since=1", "?wait=1"):
            answer = await call("GET", f"local/jobs/{job_id}/notebook{query}")
            is_error(answer, "job.no_notebook", f"job {job_id} (report api) ended before it saved its notebook", 404)


#: Writes what a notebook's runner may say of its progress, and waits: each of these a text of the config.
SAYS = """
import os, pathlib, time

def task(config):
    folder = pathlib.Path(os.environ["TASKAPI_OUTPUT_DIR"]).parent
    for number, text in enumerate(config["texts"]):
        (folder / "said").write_text(text)
        (folder / "said").rename(folder / "progress.json")
        while not pathlib.Path(config["path"], str(number)).exists():
            time.sleep(0.01)
    raise RuntimeError("boom")
"""


async def test_a_job_says_at_which_cell_it_is(call: Call, tmp_path: Path) -> None:
    cell = {"index": 3, "id": "abc", "status": "running"}
    wrong: list[Any] = [1, None, [], {}, {**cell, "index": -1}, {**cell, "index": "3"}, {**cell, "index": 1e300}]
    wrong += [{**cell, "id": 5}, {**cell, "id": "x" * 65}, {**cell, "status": "other"}, {**cell, "status": None}]
    said = [*wrong, cell, {**cell, "status": "failed", "more": 1}]
    texts = [json.dumps({"done": number, "cell": one}) for number, one in enumerate(said)]
    await deploy(call, "says", SAYS)
    job_id = await submit(call, {"config": {"path": str(tmp_path), "texts": texts}}, "says")
    for number in range(len(said)):
        job = await status(call, job_id, lambda job: job.get("progress", {}).get("done") == number)  # noqa: B023
        seen = [None] * len(wrong) + [cell, {**cell, "status": "failed"}]
        assert job.get("cell") == seen[number]
        (listed,) = (await call("GET", "local/jobs")).json["jobs"]
        assert listed.get("cell") == job.get("cell")
        (tmp_path / str(number)).touch()
    job = await ended(call, job_id)
    assert (job["status"], job["cell"]) == ("worker_error", {**cell, "status": "failed"})


async def test_output_is_seen_while_its_cell_runs(call: Call, tmp_path: Path) -> None:
    steps = "".join(WAITS.format(str(tmp_path / str(n))) + f"print('step {n}', flush=True)\n" for n in range(3))
    job_id = await started(call, "print('begun')", steps)
    version, text = "none", ""
    for step in range(1, 4):
        (tmp_path / str(step - 1)).touch()
        sent: set[int] = set()
        while text != "".join(f"step {n}\n" for n in range(step)):
            answer = (await call("GET", f"local/jobs/{job_id}/notebook?since={version}&wait=30")).json
            assert answer["version"] != version
            version, cells = answer["version"], dict(answer["cells"])
            sent.update(cells)
            if 1 in cells:
                text = "".join(part for output in cells[1]["outputs"] for part in output["text"])
        assert sent == {1} or step == 1  # what does not change any more is sent once
    job = await ended(call, job_id)
    assert job["status"] == "succeeded", job["reason"]


# A kernel that is kept


async def kept(call: Call, go: Path, seconds: float = 600) -> str:
    """Return a notebook's job that keeps its kernel until a cell that wants a file finds it, once it does."""
    definition = {"path": "report.ipynb", "keep_kernel": seconds}
    wants = f"import pathlib\nassert pathlib.Path({str(go)!r}).exists()"
    job_id = await started(call, "secret = 41", wants, definition=definition)
    await status(call, job_id, lambda job: job.get("cell", {}).get("status") == "failed")
    return job_id


async def running(call: Call, go: Path) -> str:
    """Return a notebook's job whose cell waits for a file, once it runs."""
    job_id = await started(call, WAITS.format(str(go)), "print(1)")
    await status(call, job_id, lambda job: job["status"] == "running")
    return job_id


async def test_a_kernel_that_is_kept_is_listed_and_executes(
    call: Call, home: Path, tmp_path: Path, jp_fetch: Any, jp_ws_fetch: Any
) -> None:
    job_id = await kept(call, tmp_path / "go")
    answer = await call("GET", f"local/jobs/{job_id}/kernel")
    assert answer.json.keys() == {"connection_file", "kernel_id", "until"}
    assert answer.json["connection_file"] == str(home / "kernels" / f"kernel-{job_id}.json")
    kernel_id = answer.json["kernel_id"]
    listed = json.loads((await jp_fetch("api", "kernels")).body)
    assert [(one["id"], one["name"]) for one in listed] == [(kernel_id, "python3")]
    socket = await jp_ws_fetch("api", "kernels", kernel_id, "channels")
    content = {"code": "secret + 1", "silent": False, "store_history": True}
    header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "", "version": "5.3"}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await socket.write_message(json.dumps(request))
    while True:
        message = json.loads(await asyncio.wait_for(socket.read_message(), PATIENCE))
        if message["msg_type"] == "execute_result":
            break
    assert message["content"]["data"]["text/plain"] == "42"
    socket.close()
    await jp_fetch("api", "kernels", kernel_id, method="DELETE")  # nobody but its job ends it
    again = (await call("GET", f"local/jobs/{job_id}/kernel")).json["kernel_id"]
    assert [one["id"] for one in json.loads((await jp_fetch("api", "kernels")).body)] == [again] != [kernel_id]
    (tmp_path / "go").touch()
    assert (await call("POST", f"local/jobs/{job_id}/resume")).status == 200
    assert (await ended(call, job_id))["reason"] == "resumed at cell 2"
    assert json.loads((await jp_fetch("api", "kernels")).body) == []


async def test_a_kernel_that_is_kept_is_ended(call: Call, home: Path, tmp_path: Path) -> None:
    job_id = await kept(call, tmp_path / "go")
    answer = await call("POST", f"local/jobs/{job_id}/end-kernel")
    assert (answer.status, answer.json) == (200, {"message": f"job {job_id} ends its kernel"})
    job = await ended(call, job_id)
    assert (job["status"], job["cell"]["status"]) == ("worker_error", "failed")
    assert list((home / "kernels").iterdir()) == []
    for path in ("resume", "end-kernel"):
        answer = await call("POST", f"local/jobs/{job_id}/{path}")
        is_error(answer, "job.no_kernel", f"job {job_id} (report api) keeps no kernel: it has ended", 409)


async def test_one_request_at_a_time(call: Call, home: Path, tmp_path: Path) -> None:
    """A runner that hangs finds one request, and the first."""
    job_id = await kept(call, tmp_path / "go")
    runner = next(one for one in processes(home) if "notebook_runner" in " ".join(one.cmdline()))
    runner.suspend()
    request = home / "jobs" / job_id / "kernel-request"
    assert (await call("POST", f"local/jobs/{job_id}/end-kernel")).status == 200
    assert (request.read_text(), request.stat().st_mode & 0o777) == ("end", 0o600)
    again = await call("POST", f"local/jobs/{job_id}/resume")
    is_error(again, "job.no_kernel", f"job {job_id} has been asked already to go on, or to end its kernel", 409)
    assert [path.name for path in request.parent.iterdir() if ".tmp" in path.name] == []
    runner.resume()
    assert (await ended(call, job_id))["status"] == "worker_error"


async def test_where_no_kernel_is_kept(call: Call, home: Path, tmp_path: Path) -> None:
    job_id, other = await running(call, tmp_path / "go"), await waiting(call, tmp_path)
    said = {
        job_id: f"job {job_id} (report api) keeps no kernel: none of its cells has failed",
        other: f"job {other} (waiting api) runs no notebook, so it keeps no kernel",
    }
    for one, message in said.items():
        for method, path in (("GET", "kernel"), ("POST", "resume"), ("POST", "end-kernel")):
            is_error(await call(method, f"local/jobs/{one}/{path}"), "job.no_kernel", message, 409)
            assert (await call(method, f"local/jobs/{one}/{path}", auth=False)).status == 403
        assert not (home / "jobs" / one / "kernel-request").exists()
    is_error(await call("POST", f"local/jobs/{ABSENT}/resume"), "job.not_found", status=404)
    (tmp_path / "go").touch()


@pytest.mark.parametrize("jp_argv", [["--ServerApp.allow_external_kernels=False"]])
async def test_settings_of_the_user_stay(call: Call, home: Path, tmp_path: Path, jp_fetch: Any) -> None:
    job_id = await kept(call, tmp_path / "go")
    answer = await call("GET", f"local/jobs/{job_id}/kernel")
    assert "kernel_id" not in answer.json
    assert f"c.ServerApp.external_connection_dir = '{home / 'kernels'}'" in answer.json["hint"]
    assert json.loads((await jp_fetch("api", "kernels")).body) == []
    (tmp_path / "go").touch()


# Other formats

HOSTILE = "<script>alert('hostile')</script>"


async def test_other_formats(call: Call, home: Path) -> None:
    job_id = await done(call)
    image = v4.new_output("display_data", data={"image/png": "aGk="})
    page = v4.new_output("display_data", data={"text/html": HOSTILE})
    cells = [v4.new_markdown_cell(f"# {HOSTILE}"), v4.new_code_cell("a = 1", outputs=[image, page])]
    notebook = nbformat.reads(text_of(*cells), 4)
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py", "nbconvert_exporter": "os.system"}
    save(saved(home, job_id), nbformat.writes(notebook))
    looks = {"html": ("html", "text/html", "<h1"), "script": ("py", "text/plain", "# In[ ]:")}
    looks["markdown"] = ("md", "text/markdown", "![png](data:image/png;base64,aGk=)")
    for form, (end, media, text) in looks.items():
        answer = await call("GET", f"local/jobs/{job_id}/notebook?format={form}")
        assert (answer.status, text in answer.body.decode()) == (200, True), answer.body[:1000]
        assert answer.headers["Content-Type"] == f"{media}; charset=utf-8"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert f"report.{end}" in answer.headers["Content-Disposition"]
    made = home / "jobs" / job_id / "notebook.html"
    before = made.stat()
    assert before.st_mode & 0o777 == 0o600
    await call("GET", f"local/jobs/{job_id}/notebook?format=html")
    assert made.stat().st_ino == before.st_ino  # as it was made
    save(saved(home, job_id), text_of(v4.new_markdown_cell("# Other")))
    answer = await call("GET", f"local/jobs/{job_id}/notebook?format=html")
    assert "Other</h1>" in answer.body.decode() or "Other<a" in answer.body.decode()
    assert made.stat().st_ino != before.st_ino
    assert [path.name for path in made.parent.iterdir() if path.name.endswith(".tmp")] == []


async def test_what_can_t_be_made_into_another_format_is_said(call: Call, home: Path) -> None:
    job_id = await done(call)
    path = f"local/jobs/{job_id}/notebook"
    for query, message in (
        ("format=pdf", "format must be one of html, markdown, script, not 'pdf'"),
        ("format=html&since=1", "give either since or format"),
    ):
        is_error(await call("GET", f"{path}?{query}"), "error", message, 400)
    for left in (b"text", b'{"cells": [{}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'):
        save(saved(home, job_id), left)
        answer = await call("GET", f"{path}?format=html")
        is_error(answer, "error", status=406)
        assert answer.json["message"].startswith("the notebook can't be made into HTML: ")
        assert "\n" not in answer.json["message"]
    save(saved(home, job_id), json.dumps({"metadata": {"language_info": {"file_extension": "/../x"}}}).encode())
    is_error(await call("GET", f"{path}?format=script"), "error", status=406)
    secret = home / "secret"
    secret.write_text("secret")
    save(saved(home, job_id), text_of(v4.new_markdown_cell(f"![x]({secret})")))
    (home / "jobs" / job_id / "notebook.html").symlink_to(secret)
    answer = await call("GET", f"{path}?format=html")
    assert (answer.status, secret.read_text(), b"<img" in answer.body) == (200, "secret", True)
    assert sorted(one.name for one in (home / "jobs" / job_id).iterdir() if "notebook" in one.name) == ["notebook.html"]
