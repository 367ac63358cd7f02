"""The words that the notebook and the browser share: examples that the front end's `format.spec.ts` reads as well."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from support import TESTS
from taskapi_jupyter.core import errors
from taskapi_jupyter.core.contract import Interpreter, JobStatus
from taskapi_jupyter.display import facts, formats

EXAMPLES: dict[str, Any] = json.loads(
    (TESTS.parent / "labextension" / "tests" / "format.json").read_text(encoding="utf-8")
)
NOW = formats.moment(EXAMPLES["now"])
assert NOW is not None


@pytest.mark.parametrize("name", ["duration", "size", "number", "clean"])
def test_values_are_put_into_the_same_words(name: str) -> None:
    for value, expected in EXAMPLES[name]:
        assert getattr(errors if name == "size" else formats, name)(value) == expected, value


def test_times_are_read_and_told_the_same() -> None:
    for seconds, expected in EXAMPLES["age"]:
        assert formats.age(NOW - timedelta(seconds=seconds), NOW) == expected, seconds
    for seconds, expected in EXAMPLES["ahead"]:
        assert formats.ahead(NOW + timedelta(seconds=seconds), NOW) == expected, seconds
    for text, seconds in EXAMPLES["moment"]:
        assert formats.moment(text) == (None if seconds is None else NOW + timedelta(seconds=seconds)), text


@pytest.mark.parametrize(("python", "packages", "words"), EXAMPLES["environments"])
def test_environments_are_told_the_same(python: dict[str, str], packages: int | None, words: str) -> None:
    since = formats.moment("2026-03-04T05:05:00Z")
    absent = "built when its next job starts"
    assert facts.environment_words(msgspec.convert(python, Interpreter), packages, since, absent, NOW) == words


@pytest.mark.parametrize("example", EXAMPLES["jobs"], ids=lambda example: example["job"]["status"])
def test_jobs_are_told_the_same(example: dict[str, Any]) -> None:
    job = msgspec.convert({"job_id": "6714d9d4822479be", "api_name": "train", **example["job"]}, JobStatus)
    seen = {
        "created": facts.created(job),
        "took": facts.took(job, NOW),
        "fraction": facts.fraction(job.progress or None),
        "left": facts.seconds_left(job, NOW),
        "note": facts.note(job),
    }
    expected = {name: example[name] for name in seen if name in example}
    if expected.get("created"):
        expected["created"] = formats.moment(expected["created"])
    assert {name: seen[name] for name in expected} == expected
