"""Text and HTML views: what stands in them, that foreign text stays text, that tables line up."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from html import escape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.markup import HOSTILE, Elements
from taskapi_jupyter import display
from taskapi_jupyter.client.taskapi import API
from taskapi_jupyter.core.contract import (
    UNSET,
    Cell,
    DeployedAPI,
    DeployPlan,
    DeployResult,
    Environment,
    Interpreter,
    JobStatus,
    KeptKernel,
    Metadata,
    Progress,
)
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display.facts import note, python_words, seconds_left, took
from taskapi_jupyter.display.formats import clean, columns, cut, local, moment, short_ids, table, utc

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


def stamp(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def record(status: str = "running", **fields: Any) -> JobStatus:
    known: dict[str, Any] = {"job_id": "6714d9d4822479be", "api_name": "train", "created_time": stamp(-60)}
    return JobStatus(status=status, **{**known, **fields})


def views(foreign: str) -> list[tuple[str, str]]:
    """Return every view as HTML and text, with foreign text wherever any can come from."""
    job = record(
        "running",
        job_id=foreign,
        api_name=foreign,
        start_time=stamp(-50),
        config={foreign: [foreign, {foreign: foreign}]},
        reason=foreign,
        notebook=foreign,
        exit_code=1,
        progress=Progress(1, 3, foreign),
        python=Interpreter(path=foreign, version=foreign, key=foreign, built=foreign),
    )
    failed = record("status_worker_error", job_id=foreign, api_name=foreign, reason=foreign, end_time=foreign)
    spec = {
        "name": foreign,
        "id": foreign,
        "definition": {"path": foreign, "config": {foreign: foreign}},
        "compute": {foreign: foreign},
    }
    python = Interpreter(path=foreign, key=foreign)
    api = API(spec=spec, endpoint=foreign, task_job_statuses=[job, failed], python=python)
    lists = {"requirements": [foreign], "packages": [foreign], "variables": [foreign], "files": {foreign: 1}}
    plan = DeployPlan(python=python, kernel=foreign, folder=foreign, **lists)
    result = DeployResult(DeployedAPI(spec), foreign, "", [foreign], plan)
    refused = DeployResult(None, "", foreign)
    environment = Environment(foreign, foreign)
    return [
        (display.jobs_html([job, failed], True), display.jobs_text([job, failed], True)),
        (display.job_html(job, foreign), display.job_text(job, foreign)),
        (display.job_html(failed), display.job_text(failed)),
        (display.api_html(api), display.api_text(api)),
        (api._repr_html_(), repr(api)),
        (display.apis_html([api]), display.apis_text([api])),
        (display.overview_html([api], [job]), display.apis_text([api])),
        (
            display.deploy_html([result, refused], [foreign]),
            display.deploy_text([result, refused], [foreign]),
        ),
        (
            display.environments_html([environment], foreign),
            display.environments_text([environment], foreign),
        ),
        (display.progress_html(job), display.progress_text(job)),
        (display.group_html([job, failed]), display.group_text([job, failed])),
    ]


@pytest.mark.parametrize("foreign", HOSTILE, ids=range(len(HOSTILE)))
def test_foreign_text_stays_text(foreign: str) -> None:
    expected = [Elements(html) for html, _ in views("word")]
    for (html, text), plain in zip(views(foreign), expected, strict=True):
        found = Elements(html)
        assert found.tags == plain.tags
        assert {name for name, _ in found.attributes} - {"title"} == {n for n, _ in plain.attributes} - {"title"}
        for shown in (found.text, text.replace("\n", "")):
            assert "\x1b" not in shown
            assert all(character.isprintable() for character in shown)
        html.encode()
        text.encode()


@given(st.text())
def test_any_text_stays_text(foreign: str) -> None:
    assert "script" not in Elements(display.job_html(record(reason=foreign, api_name=foreign))).tags
    assert len(display.jobs_text([record(reason=foreign, api_name=foreign)]).splitlines()) == 2


@pytest.mark.parametrize("code", list(JobCode))
def test_a_status_is_a_word_beside_its_colour(code: JobCode) -> None:
    job = record(code.value, end_time=stamp(0))
    for html in (display.job_html(job), display.jobs_html([job]), display.progress_html(job)):
        assert code.label in Elements(html).words
    for text in (display.job_text(job), display.jobs_text([job]), display.progress_text(job)):
        assert code.label in text


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "3.11.7  /e/bin/python"),
        ({"key": "1a2b3c4d5e6f"}, "3.11.7  /e/bin/python, environment 1a2b3c4d, built when its next job starts"),
        (
            {"key": "1a2b3c4d5e6f", "built": stamp(-1.4), "seconds": 0.4},
            "3.11.7  /e/bin/python, environment 1a2b3c4d, built 1.4 s ago",
        ),
        ({"key": "1a2b3c4d5e6f", "built": stamp(-61)}, "3.11.7  /e/bin/python, environment 1a2b3c4d, from the cache"),
    ],
)
def test_which_python_and_when_its_environment_was_built(known: dict[str, str], words: str) -> None:
    python = Interpreter(path="/e/bin/python", version="3.11.7", **known)  # type: ignore[arg-type]
    assert python_words(python, NOW - timedelta(seconds=60), NOW) == words
    if "built" not in known:
        assert words in display.job_text(record(python=python))
        assert words in Elements(display.api_html(API(metadata=Metadata("a"), python=python))).text


def test_both_versions_of_a_status_look_the_same() -> None:
    ends = {"end_time": stamp(0), "start_time": stamp(-1)}
    assert display.job_html(record("status_worker_oom", **ends)) == display.job_html(record("worker_oom", **ends))


def test_no_script_no_outside_address_and_one_scoped_style() -> None:
    for html, _ in views("word"):
        found = Elements(html)
        assert found.tags.count("style") == 1
        assert "script" not in found.tags
        assert "http" not in html
        for rule in re.findall(r"([^{}]+)\{", html[html.index("<style>") + 7 : html.index("</style>")]):
            assert all(part.strip().startswith(".taskapi.taskapi") for part in rule.split(","))


def test_only_a_job_that_lab_accepts_is_linked() -> None:
    job_id = "6714d9d4822479be"
    linked = f'href="#taskapi-job/prod.eu-1/{job_id}"'
    assert linked in display.job_html(record(job_id=job_id), environment="prod.eu-1")
    assert "ta-open" not in display.job_html(record("succeeded", job_id=job_id), environment="local")
    for environment, other in ((None, job_id), ("..", job_id), ('x" onclick="y', job_id), ("local", f"{job_id}/..")):
        assert "ta-open" not in display.job_html(record(job_id=other), environment=environment)


def test_short_ids_tell_jobs_apart() -> None:
    assert short_ids(["6714d9d4822479be", "6714d9d4822479bf"]) == {
        "6714d9d4822479be": "2479be",
        "6714d9d4822479bf": "2479bf",
    }
    assert [*short_ids(["6714d9d4822479be", "6714d9d4922479be"]).values()] == ["822479be", "922479be"]
    assert short_ids(["67", "6714d9d4822479be"])["67"] == "67"


def test_a_jobs_table_lines_up() -> None:
    jobs = [
        record("pending"),
        record("running", api_name="日本語", start_time=stamp(-30), progress=Progress(3, 4, "epoch 3")),
        record("succeeded", start_time=stamp(-30), end_time=stamp(-29.5), config={"lr": 0.1}),
    ]
    head, *rows = display.jobs_text(jobs).splitlines()
    at = head.index("status")
    for row, label in zip(rows, ("pending", "running", "succeeded"), strict=True):
        before = row[: row.index(label)]
        assert columns(before) == at
    assert "75 % · 3/4 · epoch 3" in rows[1]
    assert rows[2].endswith('{"lr": 0.1}')


@pytest.mark.parametrize("width", [40, 80, 132])
def test_a_jobs_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    jobs = [record("worker_error", reason="reason " * 30, config={"key": "value " * 30}, api_name="a" * 60)]
    lines = display.jobs_text(jobs).splitlines()
    assert len(lines) == 2
    assert max(map(columns, lines)) <= width
    assert columns(display.progress_text(jobs[0])) < width


def test_empty_states() -> None:
    assert display.jobs_text([]) == "no jobs"
    assert display.apis_text([]) == "no task APIs are deployed"
    assert Elements(display.jobs_html([])).words == ["No jobs."]
    assert Elements(display.apis_html([])).words == ["No task APIs are deployed."]
    assert display.deploy_text([]) == ""


def test_long_lists_are_cut() -> None:
    html = display.jobs_html([record() for _ in range(250)])
    assert Elements(html).tags.count("tr") == 201
    assert "and 50 more" in html


def test_a_large_config_does_not_land_in_the_page() -> None:
    assert len(display.jobs_html([record(config={"data": "x" * 1_000_000})])) < 10_000
    assert len(display.job_html(record(config={"data": "x" * 1_000_000}))) < 10_000


def test_times_are_local_and_say_utc_when_pointed_at() -> None:
    job = record("succeeded", start_time=stamp(-3600), end_time=stamp(0))
    found = Elements(display.job_html(job))
    assert ("title", "2026-03-04 05:06:07 UTC") in found.attributes
    assert local(NOW) in found.words


def test_a_deploys_warnings_stand_apart_from_its_message() -> None:
    message = "created train (TaskAPI)\nwarning: image is ignored\nnode_groups is ignored"
    result = DeployResult(None, message, "", ["image is ignored", "node_groups is ignored"])
    assert display.deploy_text([result], ["x is not defined"]).splitlines() == [
        "created train (TaskAPI)",
        "  warning: image is ignored",
        "  warning: node_groups is ignored",
        "  warning: x is not defined",
    ]
    assert Elements(display.deploy_html([result])).words.count("Warning:") == 2
    assert display.deploy_text([DeployResult(None, "", "no such thing")]) == "error: no such thing"


def test_an_api_of_either_version_is_shown() -> None:
    new = API(metadata=Metadata("train", last_updated=1_700_000_000), task_job_statuses=[record()])
    old = API(spec={"name": "train", "id": "ab", "definition": {"path": "t.py"}}, endpoint="http://x/train")
    assert "1 running" in display.apis_text([new])
    assert repr(old).splitlines()[:2] == ["train", "  endpoint: http://x/train"]
    assert "t.py" in old._repr_html_()
    odd: Any = {"name": "odd", "definition": 3, "compute": [1], "timeout": "x"}
    assert "odd" in display.api_text(API(spec=odd))


def test_time_left_follows_from_progress() -> None:
    job = record("running", start_time=stamp(-30), progress=Progress(3, 4))
    assert took(job, NOW) == 30
    assert seconds_left(job, NOW) == 10
    assert "about 10 s left" in display.progress_text(job, NOW, 200)
    assert "about 10 s left" in display.progress_html(job, NOW)
    assert seconds_left(record("running", start_time=stamp(-30), progress=Progress(3)), NOW) is None
    assert seconds_left(record("running", start_time=stamp(-30), progress=UNSET), NOW) is None
    assert seconds_left(record("succeeded", start_time=stamp(-30), progress=Progress(3, 4)), NOW) is None


def test_jobs_that_are_waited_for_together() -> None:
    jobs = [
        record("running", job_id="1111111111aaaaaa", start_time=stamp(-30), progress=Progress(1, 4, "epoch 1")),
        record("running", job_id="1111111111bbbbbb", start_time=stamp(-30)),
        record("succeeded", job_id="1111111111cccccc", start_time=stamp(-30), end_time=stamp(-20)),
        record("worker_error", job_id="1111111111dddddd", reason="ValueError: x", end_time=stamp(-10)),
        record("pending", job_id="1111111111eeeeee", created_time=stamp(-90)),
    ]
    assert display.group_text(jobs, NOW, 200) == (
        "2 of 5 jobs ended  [#########           ]  1 pending, 2 running, 1 succeeded, 1 worker error  1 min 30 s  "
        "aaaaaa 25 % · 1/4 · epoch 1"
    )
    assert columns(display.group_text(jobs, NOW, 60)) < 60
    found = Elements(display.group_html(jobs, NOW))
    assert found.tags.count("progress") == 3  # of all, and of the two that run
    assert ("value", "0.4500") in found.attributes
    assert "2 of 5 jobs ended" in found.words
    assert "1 pending, 2 running, 1 succeeded, 1 worker error · 1 min 30 s" in found.words
    over = [job for job in jobs if job.end_time]
    assert "2 of 2 jobs ended" in display.group_text(over, NOW)
    assert "50 s" in display.group_text(over, NOW)  # from the first submission to the last end
    html = display.group_html([record("running", job_id=f"{n:016}") for n in range(100)], NOW)
    assert Elements(html).tags.count("progress") == 9
    assert "and 92 more that run" in html


@pytest.mark.parametrize(
    ("progress", "value"),
    [(Progress(1, 4), "0.2500"), (Progress(9, 4), "1.0000"), (Progress(-1, 4), "0.0000"), (Progress(1), None)],
)
def test_a_bar_shows_the_share_that_is_done(progress: Progress, value: str | None) -> None:
    found = Elements(display.progress_html(record("running", progress=progress), NOW))
    assert found.tags.count("progress") == 1
    assert dict(found.attributes).get("value") == value


@pytest.mark.parametrize("done", [float("nan"), float("inf"), 1e300, -1e300, 0.0])
@pytest.mark.parametrize("total", [None, 0.0, -1.0, 1e-300, float("nan"), float("inf")])
def test_odd_progress_is_shown_somehow(done: float, total: float | None) -> None:
    job = record("running", start_time=stamp(-1), progress=Progress(done, total, "m"))
    for shown in (display.job_html(job), display.progress_html(job), display.progress_text(job)):
        assert "m" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (float("inf"), ""),
        (-1, "0.00 s"),
        (0.416, "0.42 s"),
        (7.06, "7.1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (90000, "1 d 01 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert display.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "just now"), (1, "just now"), (42, "42 s ago"), (300, "5 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")],
)
def test_ages(seconds: float, words: str) -> None:
    assert display.age(NOW - timedelta(seconds=seconds), NOW) == words
    assert display.age(None) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-04T05:06:07Z", 0.0),
        ("2026-03-04T05:06:07.250000Z", 0.25),
        ("2026-03-04T05:06:07.123456789Z", 0.123456),
        ("2026-03-04T07:06:07+02:00", 0.0),
        ("2026-03-04T03:06:07-0200", 0.0),
        ("2026-03-04T05:06:07", 0.0),
    ],
)
def test_times_of_either_version_are_read(text: str, seconds: float) -> None:
    assert moment(text) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", [None, UNSET, "", "yesterday", "2026-13-04T05:06:07Z", 7])
def test_what_is_no_time_is_none(text: object) -> None:
    assert moment(text) is None


def test_utc_is_spelt_out() -> None:
    assert utc(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-03-04 05:06:07 UTC"


@pytest.mark.parametrize(
    ("count", "words"), [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1 GiB")]
)
def test_sizes(count: int | None, words: str) -> None:
    assert size(count) == words


@given(st.text(), st.integers(1, 40))
def test_cleaned_text_fits_and_obeys_nothing(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert columns(cleaned) <= limit
    assert all(character.isprintable() for character in cleaned)


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])), st.integers(0, 30))
def test_what_fits_is_not_cut(text: str, limit: int) -> None:
    assert columns(cut(text, limit)) <= limit
    assert cut(text, columns(text)) == text


def test_columns_that_nobody_filled_are_left_out() -> None:
    assert table(("a", "b", "c"), [("1", "", "3"), ("10", "", "")], 80) == "a   c\n1   3\n10"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_keeps_ids_whole_and_its_width(width: int) -> None:
    row = ("0123456789abcdef", "東京" * 20, "unexpected error", "e\u0301ก\u0e31\u1100\u1161" * 30, "x" * 300)
    for text in (
        table(("job", "api", "status", "note", "config"), [row], width, whole=("job",), least=2),
        table(("job", "api", "status", "note", "config"), [row], width, whole=("job", "status")),
    ):
        head, line = text.splitlines()
        assert max(columns(head), columns(line)) <= width
        assert line.startswith("0123456789abcdef  東")
        assert head.index("status") == columns(line[: line.index("unexpec")])


def test_characters_that_are_drawn_onto_others_take_no_column() -> None:
    assert columns("e\u0301") == columns("\u0e01\u0e31") == columns("❤\ufe0f") == 1
    assert columns("\u1112\u1161\u11ab") == columns("한") == 2


def test_colours_take_no_column() -> None:
    jobs = [record("succeeded"), record("worker_error", reason="why"), record("pending"), record("unknown")]
    for view in (display.jobs_text, lambda jobs, **how: display.job_text(jobs[1], **how)):
        plain, coloured = view(jobs), view(jobs, colour=True)
        assert "\x1b[31mworker error\x1b[0m" in coloured
        assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
        assert "\x1b" not in plain
    told = display.deploy_text([DeployResult(None, "", "no such thing")], ["careful"], colour=True)
    assert told.splitlines() == ["\x1b[31merror:\x1b[0m no such thing", "  \x1b[33mwarning:\x1b[0m careful"]
    api = API(metadata=Metadata("train"), task_job_statuses=[record("succeeded")])
    assert "\x1b[32msucceeded\x1b[0m " in display.apis_text([api], colour=True)


def test_only_the_standard_library_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); import taskapi_jupyter.display; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['taskapi_jupyter']"


def test_the_parameters_of_a_task() -> None:
    taken = [
        {"name": "data", "required": True, "type": "<b>"},
        {"name": "lr", "required": False, "default": 0.1},
        {"name": "kind", "required": False, "default": "a\n", "type": "str"},
        {"name": "betas", "required": False},
        {"name": "**rest", "required": False},
        {"name": 3},
        "odd",
    ]
    api = API(spec={"name": "train", "definition": {"parameters": taken}})
    text = "data: <b>, lr=0.1, kind: str = 'a\\n', betas=…, **rest"
    assert text in display.api_text(api)
    assert escape(text) in display.api_html(api)
    assert "parameters: none" in display.api_text(API(spec={"name": "a", "definition": {"parameters": []}}))
    for odd in ({}, {"parameters": None}, {"parameters": 3}, None):
        assert "parameters" not in display.api_text(API(spec={"name": "a", "definition": odd}))


def test_a_time_that_falls_twice_has_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(text: str, now: str) -> str:
        return local(datetime.fromisoformat(text), datetime.fromisoformat(now))

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        noon = "2025-10-26T11:00:00+00:00"
        assert at("2025-10-26T00:30:00+00:00", noon) == "02:30:00 +0200"
        assert at("2025-10-26T01:30:00+00:00", noon) == "02:30:00 +0100"
        assert at("2025-10-26T02:30:00+00:00", noon) == "03:30:00"
        assert at("2025-10-25T23:59:59+00:00", noon) == "01:59:59"
        assert at("2025-10-26T00:30:00+00:00", "2025-12-01T00:00:00+00:00") == "Oct 26, 02:30 +0200"
        assert at("2025-03-30T01:30:00+00:00", "2026-03-30T01:30:00+00:00") == "2025-03-30 03:30"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_notebook_says_at_which_cell_it_is() -> None:
    def words(cell: str, status: str = "running") -> str:
        return note(record(status, progress=Progress(3, 12, "Train"), cell=Cell(5, "abc", cell)))

    assert words("running") == "25 % · in cell 4 of 12 · Train"
    assert words("failed") == "25 % · 3/12 · Train"  # its message says more
    assert "in cell" not in words("running", "worker_oom")
    kernel = KeptKernel("/home/it's/kernel.json", stamp(0), hint="add:\nc.A = \x1b")
    text = display.kernel_text("1234", kernel)
    assert """with jupyter-console:\n    jupyter console --existing '/home/it'"'"'s/kernel.json'\n""" in text
    assert "\x1b" not in text
