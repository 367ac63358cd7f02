"""The harness: what a task is given, what becomes of its result, and that any Python 3.8 or newer runs it."""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import PATIENCE, request_for, until
from support.homes import clean
from support.interpreters import OTHERS
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import ResultNotStored, TaskAPIError
from taskapi_jupyter.service.outputs import view_of
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.worker import harness


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one home for all of these tests, and so one supervisor."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("tasks")
        patch.setenv("TASKAPI_HOME", str(path))
        yield path
        clean(path)


@pytest.fixture
def run(service: Service, name: str) -> Callable[..., Job]:
    """Return what deploys a source, runs it to its end and returns the job."""

    def run(
        source: str,
        config: dict[str, Any] | None = None,
        python: str | None = None,
        cwd: str | None = None,
        **spec: Any,
    ) -> Job:
        request = request_for(name, source, **spec)
        request.python = python or request.python
        request.cwd = cwd or request.cwd
        service.deploy_request(request)
        return service.submit(name, config).wait(PATIENCE)

    return run


# Results


def stored(service: Service, job: Job, view: bool = False) -> tuple[str, bytes]:
    """Return the name of the file that holds a result, or what JSON has of it, and what it holds."""
    name, file = service.open_result(job, view)
    with file:
        return name, file.read()


@pytest.mark.parametrize(
    "text",
    [
        "None",
        "5",
        "'text'",
        "[1, 2.5, None, True, 'é', '\\ud800', '\\0']",
        "{'a': {'b': [{}]}, '': 0}",
        "2 ** 100",
        "1e308",
        "list(range(100_000))",
    ],
)
def test_results_that_json_gives_back(run: Any, service: Service, text: str) -> None:
    job = run(f"def task(config):\n    return {text}\n")
    assert (job.status, job.reason) == ("succeeded", None)
    name, data = stored(service, job)
    assert name == "result.json"
    assert job.result() == json.loads(data) == eval(text)


TYPES = """
import collections, enum
Split = collections.namedtuple("Split", "train test")
Level = enum.IntEnum("Level", "LOW HIGH")
class Kind(str, enum.Enum):
    A = "a"
class Text(str): ...
class Whole(int): ...
class Real(float): ...
class Items(list): ...
class Names(dict): ...
def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value
"""


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("(1, (2, 3))", [1, [2, 3]]),
        ("[{'a': (1,)}]", [{"a": [1]}]),
        ("collections.Counter('aab')", {"a": 2, "b": 1}),
        ("collections.OrderedDict(b=1, a=2)", {"b": 1, "a": 2}),
        ("collections.defaultdict(list, a=[1])", {"a": [1]}),
        ("Split(1, 2)", [1, 2]),
        ("Level.LOW", 1),
        ("{'k': Kind.A}", {"k": "a"}),
        ("{Kind.A: 1}", {"a": 1}),
        ("Text('t')", "t"),
        ("Whole(3)", 3),
        ("[Real(0.5)]", [0.5]),
        ("Items([1])", [1]),
        ("Names(a=1)", {"a": 1}),
    ],
)
def test_a_type_that_json_does_not_keep_is_pickled_beside_a_view(
    run: Any, service: Service, text: str, view: Any
) -> None:
    job = run(f"{TYPES}def task(config):\n    return {text}\n")
    assert (job.status, job.reason) == ("succeeded", None)
    assert stored(service, job)[0] == "result.pkl"
    name, data = stored(service, job, view=True)
    assert (name, json.loads(data)) == ("result.view.json", view)
    names: dict[str, Any] = {}
    exec(TYPES, names)
    result, wanted = job.result(), eval(text, names)
    assert (type(result).__name__, repr(result)) == (type(wanted).__name__, repr(wanted))
    assert isinstance(result, type(wanted).__mro__[1])


@pytest.mark.parametrize(("depth", "file"), [(64, "result.json"), (65, "result.pkl"), (200, "result.pkl")])
def test_a_result_that_nests_deeper_than_64_is_pickled(run: Any, service: Service, depth: int, file: str) -> None:
    job = run(f"{TYPES}def task(config):\n    return nested({depth})\n")
    assert stored(service, job)[0] == file
    assert stored(service, job, view=True)[0] == file
    assert repr(job.result()).count("[") == depth


def test_a_result_that_contains_itself(run: Any) -> None:
    result = run("def task(config):\n    a = [1]\n    a.append(a)\n    return [a, a]\n").result()
    assert result[0] is result[1] is result[0][1]


@pytest.mark.parametrize(
    "text", ["{1: 'a', None: 'b', (1, 2): 'c'}", "[{'deep': [{2: 3}]}]", "{1, 2}", "b'bytes'", "1 + 2j", "float('inf')"]
)
def test_results_that_are_pickled(run: Any, service: Service, text: str) -> None:
    job = run(f"def task(config):\n    return {text}\n")
    assert (job.status, job.reason) == ("succeeded", None)
    assert stored(service, job)[0] == stored(service, job, view=True)[0] == "result.pkl"
    assert job.result() == eval(text)


def test_not_a_number_is_pickled(run: Any) -> None:
    result = run("def task(config):\n    return [float('nan')]\n").result()
    assert result[0] != result[0]


@pytest.fixture
def long_numbers() -> Iterator[None]:
    """Let this process write numbers of 6,000 digits as text, where Python has a limit."""
    if not hasattr(sys, "set_int_max_str_digits"):
        yield
        return
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(6000)
    yield
    sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("[i / 7 for i in range(200_000)]", "result.pkl"),
        ("{'c%d' % i: [i / 7] * 1000 for i in range(200)}", "result.pkl"),
        ("[(i, str(i)) for i in range(200_000)]", "result.pkl"),
        ("{i: {i} for i in range(200_000)}", "result.pkl"),
        ("'é' * 5_000_000", "result.pkl"),
        ("[float('inf')] * 200_000", "result.pkl"),
        ("[b'a', bytearray(b'b')] * 100_000", "result.pkl"),
        ("[True, 1, 1.0, None, '1'] * 50_000", "result.pkl"),
        ("['\\ud83d\\ude00', '\\U0001f600']", "result.pkl"),  # JSON makes one character of the first
        ("['\\ude00\\ud83d', r'\\ud83d', '\\U0001f600']", "result.json"),
        ("[0, -10 ** 4290]", "result.pkl"),  # as long as a number may be in text
        ("[-0.0, 1e-320, -2 ** 100, '\\0\\x7f\\u2028']", "result.json"),
        ("{'a': 1, 'A': True, '': 1.0}", "result.json"),
        ("{1: 'a', '1': 'b', True: 'c', 1.5: 'd'}", "result.pkl"),
    ],
)
def test_a_plain_value_comes_back_as_it_was(
    run: Any, service: Service, long_numbers: None, text: str, file: str
) -> None:
    job = run(f"def task(config):\n    return {text}\n")
    assert (job.status, job.reason, stored(service, job)[0]) == ("succeeded", None, file)
    assert repr(job.result()) == repr(eval(text))


def test_a_number_too_long_to_be_written_as_text(run: Any) -> None:
    assert run("def task(config):\n    return [10 ** 10_000]\n").result() == [10**10_000]


def test_what_is_twice_in_a_result_is_one_object(run: Any) -> None:
    one, other, again = run("def task(config):\n    a = [1]\n    return [a, {'a': a}, [1]]\n").result()
    assert other["a"] is one
    assert again is not one


@pytest.mark.parametrize("text", ["[Level.LOW] * 200_000", "[Real(0.5)] * 200_000", "Items(range(200_000))"])
def test_a_large_result_of_other_types(run: Any, text: str) -> None:
    result = run(f"{TYPES}def task(config):\n    return {text}\n").result()
    names: dict[str, Any] = {}
    exec(TYPES, names)
    wanted = eval(text, names)
    assert repr(result) == repr(wanted)
    assert [type(one).__name__ for one in (result, result[0])] == [type(one).__name__ for one in (wanted, wanted[0])]


@pytest.mark.parametrize("pickled", [b"cos\nsystem\n(S'touch MARK'\ntR", b"cbuiltins\nlist\n"])
def test_what_claims_to_be_values_finds_no_class(run: Any, service: Service, tmp_path: Path, pickled: bytes) -> None:
    job = run("def task(config):\n    return 1\n")
    folder = service.home / "jobs" / job.id
    (folder / "result.json").unlink()
    end = b".#taskapi-values=unviewed#taskapi-loader=pickle#taskapi-python=3.11"
    (folder / "result.pkl").write_bytes(pickled.replace(b"MARK", bytes(tmp_path / "mark")) + end)
    with pytest.raises(TaskAPIError, match="among values that take no class"):
        job.result()
    with (folder / "result.pkl").open("rb") as file:
        assert view_of(file) is None
    assert not (tmp_path / "mark").exists()


def test_an_object_of_the_cells_own_class(run: Any) -> None:
    source = (
        "class Model:\n    def __init__(self):\n        self.weights = [1]\n\ndef task(config):\n    return Model()\n"
    )
    job = run(source)
    first, again, other = job.result(), job.result(), job.rerun(same=True).wait(PATIENCE).result()
    assert first.weights == [1]
    assert type(first) is type(again) is type(other)
    assert (type(first).__module__, type(first).__qualname__) == ("__main__", "Model")


def test_a_class_that_a_project_has(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Fit:\n    loss = 1\n\ndef task(config):\n    return Fit()\n"
    (tmp_path / "fits_well.py").write_text(text)
    spec = {"definition": {"path": "fits_well.py"}}
    job = run(text, cwd=str(tmp_path), **spec)
    assert (job.result().loss, type(job.result()).__module__) == (1, "fits_well")
    assert "fits_well" not in sys.modules
    monkeypatch.syspath_prepend(str(tmp_path))
    fits_well = __import__("fits_well")
    assert isinstance(job.result(), fits_well.Fit)
    del sys.modules["fits_well"]


def test_loading_a_result_runs_nothing_of_its_cell(run: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    job = run(f"open({str(ran)!r}, 'a').write('x')\nclass Model: ...\ndef task(config):\n    return Model()\n")
    assert [type(job.result()).__name__, type(job.result()).__name__] == ["Model", "Model"]
    assert ran.read_text() == "x"


def test_a_result_of_0_1_0_is_loaded_with_its_cells_module(run: Any, service: Service) -> None:
    job = run("def task(config):\n    return 1\n")
    module = service.home / "apis" / job.record.api_id / "taskapi_old_1234abcd.py"
    module.write_text("class Model:\n    weights = [1]\n")
    folder = service.home / "jobs" / job.id
    (folder / "result.json").unlink()
    (folder / "result.pkl").write_bytes(b"ctaskapi_old_1234abcd\nModel\n)\x81.")
    assert job.result().weights == [1]
    assert str(module.parent) not in sys.path
    del sys.modules["taskapi_old_1234abcd"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(lambda: (yield))()", "its result (generator) could not be stored: cannot pickle"),
        ("__import__('_thread').allocate_lock()", "its result (lock) could not be stored: cannot pickle"),
        ("Odd()", "its result (Odd) could not be stored: not me"),
    ],
)
def test_a_result_that_can_not_be_pickled(run: Any, service: Service, text: str, reason: str) -> None:
    odd = "class Odd:\n    def __reduce__(self):\n        raise RuntimeError('not me')\n\n"
    job = run(f"{odd}def task(config):\n    return {text}\n")
    assert job.status == "succeeded"
    assert job.reason.startswith(reason)
    assert job.logs() == f"taskapi: {job.reason}\n"
    for look in (job.result, lambda: service.result(job), lambda: service.open_result(job)):
        with pytest.raises(ResultNotStored, match=re.escape(reason)):
            look()


@pytest.mark.parametrize("value", ["None", "5"])
def test_a_result_that_can_not_be_written(run: Any, value: str) -> None:
    blocks = """
import os

def task(config):
    folder = os.path.dirname(os.environ["TASKAPI_JOB_SPEC"])
    for name in ("result.json", "result.json.tmp"):
        os.mkdir(os.path.join(folder, name))
    return """
    job = run(f"{blocks}{value}\n")
    assert job.status == "succeeded"
    assert "could not be stored" in job.reason
    assert "Is a directory" in job.reason
    assert "harness" not in job.logs()


def test_a_result_too_deep_for_json_and_pickle(run: Any) -> None:
    deep = (
        "def task(config):\n    value = []\n    for _ in range(100_000):\n        value = [value]\n    return value\n"
    )
    job = run(deep)
    assert job.status == "succeeded"
    assert "could not be stored" in job.reason


# What a task is given


def test_a_config_comes_as_it_was_submitted(run: Any) -> None:
    config = {
        "ünï ✓ \U0001f600": "\u2028\x00\x1f\"'\\",
        "nested": [{"a": [[], {}, [None, True, False]]}] * 3,
        "numbers": [0, -1, 2**80, 1.5, 1e-320, -0.0, 1e16],
        "": {"": ""},
    }
    job = run("def task(config):\n    return config\n", config)
    assert job.result() == config
    assert repr(job.result()) == repr(config)


def test_a_config_of_five_megabytes(run: Any) -> None:
    config = {"text": "é" * 2_000_000, "list": list(range(200_000))}
    assert run("def task(config):\n    return [len(config['text']), sum(config['list'])]\n", config).result() == [
        2_000_000,
        sum(range(200_000)),
    ]


def test_defaults_are_merged_and_the_submitted_value_wins(run: Any) -> None:
    defaults = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    source = "def task(config):\n    return config\n"
    job = run(source, {"a": {"c": [3]}, "e": 5}, definition={"path": "task.py", "config": defaults})
    assert job.result() == {"a": {"b": 1, "c": [3]}, "d": 4, "e": 5}
    assert job.config == {"a": {"c": [3]}, "e": 5}
    assert run(source, None, definition={"path": "task.py", "config": defaults}).result() == defaults
    assert run(source).result() == {}


def test_a_class_is_made_once_and_called(run: Any) -> None:
    source = """
class Task:
    def __init__(self):
        print("made")

    def __call__(self, config):
        print("called")
        return config["x"]
"""
    job = run(source, {"x": 7})
    assert (job.result(), job.logs()) == (7, "made\ncalled\n")


def test_no_trace_of_the_harness(run: Any) -> None:
    source = """
import os, sys

def task(config):
    package = os.environ["PACKAGE"]
    return {
        "modules": sorted(name for name in sys.modules if "harness" in name or name == "json"),
        "path": [path for path in sys.path if os.path.realpath(path) == package],
        "first": sys.path[0] == os.getcwd(),
        "argv": sys.argv == [__file__],
        "names": sorted(set(globals()) - {"os", "sys", "task"}),
        "main": [__name__, sys.modules["__main__"].__file__ == __file__, os.path.basename(__file__)],
    }
"""
    package = os.path.dirname(os.path.realpath(harness.__file__))
    os.environ["OMP_PACKAGE"] = package  # one of the names that are passed on
    try:
        job = run(source.replace("PACKAGE", "OMP_PACKAGE"))
    finally:
        del os.environ["OMP_PACKAGE"]
    told = job.result()
    assert told["modules"] == []
    assert told["path"] == []
    assert told["first"]
    assert told["argv"]
    assert told["main"] == ["__main__", True, f"cell_{job.api_name}.py"]
    plain = [
        "__annotations__",
        "__builtins__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__spec__",
    ]
    assert told["names"] == plain


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_any_json_is_decoded_as_json_does(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        decoded = harness.decode(text)
        assert repr(decoded) == repr(value)
        assert pickle.dumps(decoded) is not None


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.tuples(inner)
            | st.dictionaries(st.text() | st.integers() | st.none() | st.booleans() | st.floats(), inner, max_size=4)
        ),
    )
)
def test_any_json_is_encoded_as_json_does(value: Any) -> None:
    try:
        expected = json.dumps(value, allow_nan=False)
    except ValueError:
        with pytest.raises(ValueError, match="JSON compliant"):
            harness.encode(value)
    else:
        assert harness.encode(value) == expected.encode()


def test_what_json_can_not_encode() -> None:
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(ValueError, match="Circular"):
        harness.encode(circular)
    for value in (object(), [{1}], {(1,): 2}):
        with pytest.raises(TypeError):
            harness.encode(value)


def test_storing_a_plain_result_imports_nothing(run: Any) -> None:
    source = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(sorted(set(sys.modules) - before)))
def task(config):
    return {"loss": [0.5, None, "é"]}
"""
    job = run(source)
    assert job.result() == {"loss": [0.5, None, "é"]}
    assert eval(job.logs()) in ([], ["_json"])


def test_output_is_written_in_lines(run: Any) -> None:
    source = """
import os, subprocess, sys
def task(config):
    print("one", 1, end=" ")
    print("two")
    os.write(1, b"three\\n")
    print("four", end="\\r")
    print("five", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import os; print('six', end=' '); os.write(1, b'seven\\\\n')"])
    print("eight", end="")
    sys.stderr.write("nine")
"""
    job = run(source)
    assert (job.result(), job.status) == (None, "succeeded")
    data = b"".join(chunk.data for chunk in job.api.log_chunks(job))
    assert data.startswith(b"one 1 two\nthree\nfour\rfive\nsix seven\n")
    assert sorted(data.splitlines()[-1].partition(b"nine")) in ([b"", b"eight", b"nine"],)


def test_output_that_the_interpreter_has_replaced_stays_so(run: Any, tmp_path: Path) -> None:
    own = "import sys\nclass Own:\n    write, flush = sys.stdout.write, sys.stdout.flush\nsys.stdout = Own()\n"
    (tmp_path / "sitecustomize.py").write_text(own)
    source = "import sys\ndef task(config):\n    print('said')\n    return type(sys.stdout).__name__\n"
    job = run(source, definition={"path": "task.py", "env": {"PYTHONPATH": str(tmp_path)}})
    assert (job.result(), job.logs()) == ("Own", "said\n")


# What a job does not have: a keyboard, a screen


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("input('name? ')", "EOFError: EOF when reading a line (a job has no keyboard: give the value in the config)"),
        ("import getpass; getpass.getpass()", "EOFError (a job has no keyboard: give the value in the config)"),
        ("breakpoint()", "bdb.BdbQuit (a job has no keyboard: breakpoint() and debuggers can't be used)"),
        ("raise EOFError('of a file')", "EOFError: of a file"),
        ("raise EOFError", "EOFError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_job_has_no_keyboard(run: Any, code: str, reason: str) -> None:
    job = run(f"def task(config):\n    {code}\n    return 1\n")
    assert (job.status, job.reason) == ("worker_error", reason)


FIGURES = """
import matplotlib
import os, sys

def task(config):
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    plt.figure()
    plt.plot([2, 1])
    plt.show()
    open(os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], "figure-3.png"), "w").close()
    fig, ax = plt.subplots()
    fig.show()
    plt.show()  # it is as it was
    ax.set_title("later")
    plt.show()  # and closed
    plt.plot([3])
    own = os.path.join(config["folder"], "own.png")
    plt.savefig(own)
    open_now = plt.get_fignums()
    plt.title("$\\\\bad{$")
    plt.show()
    return [matplotlib.get_backend(), open_now, os.path.exists(own), "MPLBACKEND" in os.environ, str(sys.meta_path)]
"""


def test_figures_that_are_shown_are_saved(run: Any, tmp_path: Path) -> None:
    job = run(FIGURES, {"folder": str(tmp_path)})
    assert job.status == "succeeded", job.logs()
    backend, open_now, here, variable, finders = job.result()
    assert (backend, open_now, here, variable) == ("module://_taskapi_figures", [1], True, False)
    assert "harness" not in finders
    *saved, failed = [line for line in job.logs().splitlines() if "its jobs begin with them imported" not in line]
    assert saved == ["saved figure-1.png", "saved figure-2.png", "saved figure-4.png"]
    assert failed.startswith("taskapi: a figure could not be saved: ValueError: ")
    files = {file.path: file.size for file in job.files()}
    assert sorted(files) == ["figure-1.png", "figure-2.png", "figure-3.png", "figure-4.png"]
    assert files["figure-3.png"] == 0
    assert job.read_file("figure-4.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("how", ["use", "environ", "matplotlibrc"])
def test_a_backend_that_was_chosen_stays(run: Any, tmp_path: Path, how: str) -> None:
    use = "import matplotlib\nmatplotlib.use('svg')\n" if how == "use" else ""
    source = f"""
{use}
def task(config):
    import matplotlib
    import matplotlib.pyplot as plt
    plt.plot([1, 2])
    plt.show()
    return matplotlib.get_backend().lower()
"""
    if how == "matplotlibrc":
        (tmp_path / "matplotlibrc").write_text("backend: svg\n")
    env = {"environ": {"MPLBACKEND": "svg"}, "matplotlibrc": {"MATPLOTLIBRC": str(tmp_path)}}.get(how, {})
    job = run(source, definition={"path": "task.py", "env": env})
    assert job.result() == "svg"
    assert job.files() == []


def test_processes_of_a_task_save_figures_beside_each_other(run: Any) -> None:
    source = """
import os

def task(config):
    import matplotlib.pyplot as plt
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            plt.plot([n])
            plt.show()
            os._exit(0)
        children.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in children]
"""
    job = run(source)
    assert job.result() == [0, 0, 0]
    names = [f"figure-{n}.png" for n in (1, 2, 3)]
    assert sorted(file.path for file in job.files()) == names
    assert sorted(job.logs().splitlines()) == [f"saved {name}" for name in names]


# Other interpreters


@pytest.mark.skipif(not OTHERS, reason="no other Python 3.8 or newer is to be found here")
@pytest.mark.parametrize("python", OTHERS or [""], ids=[".".join(Path(one).parts[-3:-2]) for one in OTHERS] or ["none"])
def test_plain_values_of_another_python(run: Any, python: str) -> None:
    text = "[(1, {2: b'3'}), bytearray(b'4'), {5}, float('inf'), list(range(200_000))]"
    job = run(f"def task(config):\n    return {text}\n", python=python)
    assert repr(job.result()) == repr(eval(text))


@pytest.mark.skipif(not OTHERS, reason="no other Python 3.8 or newer is to be found here")
@pytest.mark.parametrize("python", OTHERS or [""], ids=[".".join(Path(one).parts[-3:-2]) for one in OTHERS] or ["none"])
def test_another_interpreter(run: Any, python: str) -> None:
    source = """
import os, sys
from cortex_internal.lib.log import logger
from taskapi_jupyter.job import progress

def task(config):
    progress(1, 2, "half")
    logger.info("hello", extra={"n": 1})
    if config["fail"]:
        {}[config["text"]]
    if config["pickled"]:
        return Model()
    return [list(sys.version_info[:2]), config["text"]]

class Model: ...
"""
    job = run(source, {"text": "é", "fail": False, "pickled": False}, python)
    assert (job.status, job.reason) == ("succeeded", None), job.logs()
    version, text = job.result()
    assert tuple(version) != sys.version_info[:2]
    assert text == "é"
    assert (job.progress.done, job.progress.total, job.progress.message) == (1, 2, "half")
    assert json.loads(job.logs())["message"] == "hello"
    pickled = run(source, {"text": "é", "fail": False, "pickled": True}, python)
    assert (pickled.status, pickled.reason) == ("succeeded", None), pickled.logs()
    here, there = "{}.{}".format(*sys.version_info), "{}.{}".format(*version)
    with pytest.raises(ResultNotStored, match=f"pickled by Python {there}, and this is Python {here}"):
        pickled.result()
    job = run(source, {"text": "é", "fail": True}, python)
    assert (job.status, job.reason) == ("worker_error", "KeyError: 'é'")
    assert "harness" not in job.logs()
    assert "importlib" not in job.logs()


@pytest.mark.skipif(not OTHERS, reason="no other Python 3.8 or newer is to be found here")
def test_another_interpreter_that_has_nothing_at_all(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    subprocess.run([OTHERS[-1], "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    python = str(folder / "bin" / "python")
    job = run("def task(config):\n    return config\n", {"a": 1}, python)
    assert job.result() == {"a": 1}
    lent = run("import cloudpickle\ndef task(config):\n    return cloudpickle.__file__\n", None, python)
    assert lent.result() == cloudpickle.__file__
    pickled = run("class Model: ...\ndef task(config):\n    return Model()\n", None, python)
    assert (pickled.status, pickled.reason) == ("succeeded", None), pickled.logs()
    shutil.rmtree(folder)


# APIs that 0.1.0 deployed


def test_a_cell_that_0_1_0_deployed(run: Any, service: Service, name: str) -> None:
    job = run("class Model:\n    w = 3\n\ndef task(config):\n    return [__name__, Model()]\n")
    launch = json.loads(service.store.launches()[-1])
    module = f"taskapi_{name}_12345678"
    folder = service.home / "apis" / job.record.api_id
    (folder / launch["file"]).rename(folder / f"{module}.py")
    launch.update(kind="module", file=f"{module}.py", module=module)
    del launch["cloudpickle"]
    with service.store.write() as transaction:
        change = (json.dumps(launch), job.record.api_id)
        transaction.execute("UPDATE versions SET launch = ? WHERE api_id = ?", change)
    imported, model = job.rerun().wait(PATIENCE).result()
    assert (imported, model.w) == (module, 3)


def test_a_callable_that_a_kernel_with_0_1_0_deploys(service: Service, name: str) -> None:
    spec = {"name": name, "kind": "TaskAPI", "definition": {"python_version": "{}.{}".format(*sys.version_info)}}
    pickled = cloudpickle.dumps(lambda config: config["x"] + 1)
    service.deploy_request(DeployRequest(spec=spec, pickle=pickled, python=sys.executable))
    assert service.submit(name, {"x": 1}).wait(PATIENCE).result() == 2


# How a task is called

CALLED = """
import functools

def _passing(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def _opaque(function):
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def _adapting(function):
    @functools.wraps(function)
    def inner(config):
        return function(**config)
    return inner

"""


@pytest.mark.parametrize(
    ("source", "config", "result"),
    [
        ("def task(config): return config", {"a": 1}, {"a": 1}),
        ("def task(config, lr=0.1, *, n=3): return [config, lr, n]", {"lr": 1}, [{"lr": 1}, 0.1, 3]),
        ("def task(lr=0.1, config=None): return [config, lr]", {"lr": 1}, [{"lr": 1}, 0.1]),
        ("def task(lr=0.1, config=None, /): return [config, lr]", {"lr": 1}, [{"lr": 1}, 0.1]),
        ("def task(*, config): return config", {"lr": 1}, {"lr": 1}),
        ("def task(): return 7", None, 7),
        ("def task(lr, epochs=3): return [lr, epochs]", {"lr": "0.5"}, ["0.5", 3]),
        ("def task(a, b=2, /, c=3, *more, d, e=5, **rest): return [a, b, c, more, d, e, rest]",
         {"d": 4, "a": 1, "x": 0, "c": None}, [1, 2, None, (), 4, 5, {"x": 0}]),
        ("def task(a=1, b=2, /): return [a, b]", {"b": 3}, [1, 3]),
        ("def task(*args, **rest): return [args, rest]", {"args": 1, "rest": 2, "a b": 3},
         [(), {"args": 1, "rest": 2, "a b": 3}]),
        ("task = lambda lr: lr", {"lr": 1}, 1),
        ("class Task:\n def __call__(self, lr, **params): return [lr, params]", {"lr": 1, "x": 2}, [1, {"x": 2}]),
        ("class Task:\n def __call__(self, lr, /, n=1): return [lr, n]", {"lr": 1}, [1, 1]),
        ("class Task:\n @staticmethod\n def __call__(config): return config", {"lr": 1}, {"lr": 1}),
        ("class Task:\n @classmethod\n def __call__(cls, lr): return lr", {"lr": 1}, 1),
        ("@functools.lru_cache\ndef task(lr, n=2): return [lr, n]", {"lr": 1}, [1, 2]),
        ("@_passing\ndef task(lr, /, n=2): return [lr, n]", {"lr": 1}, [1, 2]),
        ("@_passing\ndef task(config): return config", {"lr": 1}, {"lr": 1}),
        ("@_opaque\ndef task(config): return config", {"lr": 1}, {"lr": 1}),
        ("@_opaque\ndef task(lr, n=2): return [lr, n]", {"lr": 1}, [1, 2]),
        ("@_adapting\ndef task(lr, n=2): return [lr, n]", {"lr": 1}, [1, 2]),
        ("def task(lr, n=2): return [lr, n]\nTask = functools.partial(task, n=5)", {"lr": 1}, [1, 5]),
        ("class Base:\n def __call__(self, cfg): return cfg\nTask = type('Task', (Base,), {})", {"a": 1}, {"a": 1}),
        ("class Base:\n def __call__(self, config): return config\nclass Task(Base): pass", {"a": 1}, {"a": 1}),
        ("class Base:\n def __call__(self, lr, n=2): return [lr, n]\nclass Task(Base): pass", {"lr": 1}, [1, 2]),
        ("async def task(config): return config", {"a": 1}, {"a": 1}),
        ("async def task(lr, n=2): return [lr, n]", {"lr": 1}, [1, 2]),
        ("class Task:\n async def __call__(self, config): return config", {"a": 1}, {"a": 1}),
        ("@_passing\nasync def task(config): return config", {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_how_a_task_is_called(run: Any, source: str, config: Any, result: Any) -> None:
    job = run(CALLED + source, config)
    assert (job.status, job.reason) == ("succeeded", None), job.logs()
    assert job.result() == result


def test_the_defaults_of_the_signature_the_api_and_the_submission(run: Any) -> None:
    source = "def task(a=1, b=1, c=1, d={'x': 1, 'y': 1}): return [a, b, c, d]\n"
    definition = {"path": "task.py", "config": {"b": 2, "c": 2, "d": {"x": 2}}}
    assert run(source, {"c": 3, "d": {"z": 3}}, definition=definition).result() == [1, 2, 3, {"x": 2, "z": 3}]


def test_a_parameter_that_only_the_run_finds_wrong(run: Any) -> None:
    job = run(CALLED + "@_passing\ndef task(lr): return lr\n", {"lrr": 1})
    assert job.status == "worker_error"
    # Python 3.13 goes on with "Did you mean 'lr'?".
    assert job.reason.startswith("TypeError: task() got an unexpected keyword argument 'lrr'")


def test_an_async_task_fails_with_its_own_lines(run: Any) -> None:
    job = run("import asyncio\nasync def task(lr):\n    await asyncio.sleep(0)\n    raise ValueError(lr)\n", {"lr": 5})
    assert (job.status, job.reason) == ("worker_error", "ValueError: 5")
    log = job.logs()
    assert log.startswith("Traceback")
    assert "raise ValueError(lr)" in log
    assert "asyncio" not in log.replace("await asyncio.sleep(0)", "")
    assert "harness" not in log


def test_an_async_task_that_is_told_to_stop_cleans_up(service: Service, name: str, tmp_path: Path) -> None:
    source = (
        "import asyncio, signal, sys\n"
        "from pathlib import Path\n"
        "async def task(folder):\n"
        "    signal.signal(signal.SIGTERM, lambda *about: sys.exit(3))\n"
        "    Path(folder, 'begun').touch()\n"
        "    try:\n"
        "        await asyncio.sleep(1000)\n"
        "    finally:\n"
        "        await asyncio.sleep(0)\n"
        "        Path(folder, 'cleaned').touch()\n"
    )
    service.deploy_request(request_for(name, source))
    job = service.submit(name, {"folder": str(tmp_path)})
    until((tmp_path / "begun").exists, "the task to begin")
    job.stop()
    assert (tmp_path / "cleaned").exists()
    assert job.refresh().status == "stopped"


def test_functions_of_parameters(service: Service, name: str) -> None:
    class Trainer:
        def fit(self, lr, /, n=3, **rest):  # type: ignore[no-untyped-def]
            return [lr, n, rest]

    async def later(config):  # type: ignore[no-untyped-def]
        return config

    def simple(lr, n=3):  # type: ignore[no-untyped-def]
        return [lr, n]

    for target, config, result in (
        (simple, {"lr": 1}, [1, 3]),
        (functools.partial(simple, n=5), {"lr": 1}, [1, 5]),
        (Trainer().fit, {"lr": 1, "x": 2}, [1, 3, {"x": 2}]),
        (functools.lru_cache(lambda lr: lr), {"lr": 1}, 1),
        (lambda cfg: cfg, {"cfg": {"a": 1}}, {"a": 1}),
        (lambda n=1, *, config: [n, config], {"n": 2}, [1, {"n": 2}]),
        (later, {"a": 1}, {"a": 1}),
    ):
        service.deploy(target, name=name)
        job = service.submit(name, config).wait(PATIENCE)
        assert job.result() == result
