"""The wire model by itself: what fits, what is refused and with which words, what is kept."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapi_jupyter.core.contract import (
    MAX_BODY,
    JobResponse,
    JobStatus,
    Submission,
    convert,
    decode,
    encode,
    submit_answer,
)
from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.core.states import JobCode


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b'{"timeout": 0}', "$.timeout"),
        (b'{"timeout": 1.5}', "$.timeout"),
        (b'{"timeout": true}', "$.timeout"),
        (b'{"timeout": "1"}', "$.timeout"),
        (b'{"workers": 2}', "$.workers"),
        (b'{"config": [1]}', "$.config"),
        (b'{"config": {"a": NaN}}', "not valid JSON"),
        (b'{"config": {"a": Infinity}}', "not valid JSON"),
        (b'{"config": {"a": 1e999}}', "$.config"),
        (b'{"notebook": 1}', "$.notebook"),
        (b'{"config": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5001, "too deeply"),
    ],
)
def test_a_submission_that_does_not_fit(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(body, Submission)
    assert words in caught.value.message


@pytest.mark.parametrize("body", [b"{}", b'{"config": null, "timeout": null, "workers": null}', b'{"other": 1}'])
def test_every_key_of_a_submission_is_optional(body: bytes) -> None:
    submission = decode(body, Submission)
    assert (submission.config, submission.timeout, submission.workers or 1) == (None, None, 1)


def test_a_body_of_exactly_ten_mebibytes_passes() -> None:
    frame = len(b'{"config":{"a":""}}')
    whole = b'{"config":{"a":"' + b"x" * (MAX_BODY - frame) + b'"}}'
    assert len(whole) == MAX_BODY
    assert decode(whole, Submission).config is not None
    with pytest.raises(TooLarge, match="10 MiB"):
        decode(whole + b" ", Submission)


def test_what_has_not_happened_is_left_out() -> None:
    status = JobStatus(job_id="0" * 16, api_name="a", status="pending")
    assert json.loads(encode(status)) == {
        "job_id": "0" * 16,
        "api_name": "a",
        "kind": "TaskAPI",
        "workers": 1,
        "config": None,
        "api_id": "",
        "timeout": None,
        "status": "pending",
    }
    assert "status" not in json.loads(encode(submit_answer(status)))


CLUSTER = {
    "job_status": {
        "job_id": "6a1b5e8d3c2f4a10",
        "api_name": "trainer",
        "kind": "TaskAPI",
        "workers": 1,
        "config": {"lr": 0.1},
        "timeout": None,
        "api_id": "x",
        "spec_id": "y",
        "pod_id": "z",
        "start_time": "2022-01-01T00:00:00Z",
        "end_time": None,
        "status": "status_worker_oom",
        "worker_counts": None,
    },
    "endpoint": "https://example/trainer?jobID=6a1b5e8d3c2f4a10",
    "api_spec": {"name": "trainer", "predictor_id": "p"},
    "metrics": None,
}


def test_what_a_cluster_says_beyond_the_contract_is_ignored() -> None:
    assert convert(CLUSTER, JobResponse).job_status.code is JobCode.WORKER_OOM


@given(st.sampled_from(list(JobCode)))
def test_a_status_is_read_as_either_version_writes_it(code: JobCode) -> None:
    assert JobCode.read(code.value) is JobCode.read(f"status_{code.value}") is code
    assert JobCode.read(f"{code.value}x") is JobCode.UNKNOWN


# Each round has types that nobody has read; the threads take turns as often as they can.
FIRST_READERS = """
import importlib, json, sys, threading
from taskapi_jupyter.core import contract
sys.setswitchinterval(1e-6)
job = {"job_id": "0" * 16, "api_name": "hello", "status": "running", "config": {"a": 1}, "progress": {"done": 1}}
bodies = {"JobResponse": {"job_status": job}, "JobsPage": {"jobs": [job]}, "JobStatus": job}
def read(name, gate):
    gate.wait()
    contract.decode(json.dumps(bodies[name]), getattr(contract, name))
    contract.convert(bodies[name], getattr(contract, name))
for _ in range(100):
    importlib.reload(contract)
    gate = threading.Barrier(6)
    threads = [threading.Thread(target=read, args=(name, gate)) for name in bodies for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_the_first_readers_may_be_many() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_READERS], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
