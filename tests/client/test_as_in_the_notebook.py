"""What a task runs is what the notebook says, and what comes back is what it returned; under a server and without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from support.kernels import Kernel

SUBMIT = "job = %taskapi submit {} --wait"


def lines(text: str) -> list[str]:
    """Return what was printed, without the bar of a job that was waited for."""
    return [line for line in text.strip().splitlines() if line and not line.startswith(("pending", "running", "succ"))]


def returned(notebook: Kernel, name: str, expression: str = "job.result()") -> str:
    """Run a task and return what an expression of its job is in the notebook."""
    return lines(notebook.run(f"{SUBMIT.format(name)}\nprint(repr({expression}))"))[-1]


def deploy(notebook: Kernel, function: str, code: str) -> str:
    """Run code in the notebook and deploy one of its functions."""
    shown = notebook.run(dedent(code))
    return shown + notebook.run(f"%taskapi deploy {function} --function {function}")


# Two notebooks


def test_a_cells_job_runs_that_cell(start: Callable[[str], Kernel], tmp_path: Path) -> None:
    code = """
    jobs = [get_ipython().run_cell_magic("taskapi", "submit racing", "def run(config): return %r\\n") for n in range(25)]
    for job in jobs: job.wait()
    print(sorted({job.result() for job in jobs}))
    """
    notebooks, printed = {name: start(f"{name}.ipynb") for name in "AB"}, {}

    def run(name: str) -> None:
        printed[name] = notebooks[name].run(dedent(code % name))

    threads = [threading.Thread(target=run, args=name) for name in notebooks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: lines(text)[-1] for name, text in printed.items()} == {"A": "['A']", "B": "['B']"}


def test_a_deploy_that_replaces_another_notebooks_says_so(start: Callable[[str], Kernel]) -> None:
    one, other = start("one.ipynb"), start("other.ipynb")
    cell = "%%taskapi deploy taken\ndef run(config): return {}\n"
    assert "replaced" not in one.run(cell.format(1))
    assert "replaced" not in one.run(cell.format(2))
    assert "taken was deployed from one.ipynb" in (shown := other.run(cell.format(3)))
    assert "ago; replaced" in shown
    assert "replaced" not in other.run(cell.format(3))
    assert "replaced" not in one.run(cell.format(3))  # the same: nothing is replaced
    assert "from one.ipynb" in other.run(cell.format(4).replace("deploy", "submit"))


def test_rerun_runs_what_is_deployed_or_the_same(notebook: Kernel) -> None:
    cell = "%%taskapi submit again\ndef run(config): return {}\n"
    notebook.run(cell.format(1))
    notebook.run("first = _")
    notebook.run(cell.format(2))
    assert lines(notebook.run("print(first.rerun().result(), first.rerun(same=True).result())"))[-1] == "2 1"


# Results


CLASSES = """
import collections, dataclasses, enum
@dataclasses.dataclass
class Fit:
    loss: float
    def better(self, other): return self.loss < other.loss
class Level(enum.Enum):
    LOW = 1
class Names(dict): ...
Split = collections.namedtuple("Split", "train test")
def run(config):
    return {"fit": Fit(0.5), "level": Level.LOW, "names": Names(a=(1, 2)), "split": Split([1], {2}), "tuple": (1, "a")}
"""


def test_a_cells_result_is_what_it_returned(notebook: Kernel) -> None:
    notebook.run("%%taskapi deploy typed\n" + CLASSES)
    wanted = "{'fit': Fit(loss=0.5), 'level': <Level.LOW: 1>, 'names': {'a': (1, 2)}, "
    wanted += "'split': Split(train=[1], test={2}), 'tuple': (1, 'a')}"
    assert returned(notebook, "typed") == wanted
    notebook.run("first = job.result()")
    assert returned(notebook, "typed", "first['fit'].better(job.result()['fit'])") == "False"
    same = "[type(one) is type(job.result()[key]) for key, one in first.items()]"
    assert returned(notebook, "typed", same) == "[True, True, True, True, True]"
    assert lines(notebook.run("'Fit' in globals(), 'run' in globals()")) == ["(False, False)"]


def test_a_result_of_a_class_of_the_notebook(notebook: Kernel) -> None:
    deploy(notebook, "run", CLASSES)
    assert returned(notebook, "run", "isinstance(job.result()['fit'], Fit)") == "True"
    assert returned(notebook, "run", "job.result()['level'] is Level.LOW") == "True"
    assert returned(notebook, "run", "[type(one) is type(run({})[key]) for key, one in job.result().items()]") == str(
        [True] * 5
    )
    # The notebook's own class stays as it is, whatever comes back.
    assert returned(notebook, "run", "job.result() and Fit.better.__globals__ is globals()") == "True"


def test_a_result_that_can_not_be_stored(notebook: Kernel) -> None:
    notebook.run("%%taskapi deploy opened\ndef run(config): return (i for i in [1])")
    shown = notebook.run(SUBMIT.format("opened") + "\n" + "%taskapi result job")
    assert "ResultNotStored" in shown
    assert "its result (generator) could not be stored: cannot pickle 'generator' object" in shown
    assert lines(notebook.run("print([job.refresh().status])")) == ["['succeeded']"]


def test_what_a_task_pickles_is_loaded_in_the_notebook_and_by_the_next_version(notebook: Kernel) -> None:
    cell = """\
    %%taskapi deploy saves
    import pickle
    class Net: w = 3  # {}
    def run(config):
        if config["do"] == "save": pickle.dump(Net(), open("net.pkl", "wb"))
        else: return pickle.load(open("net.pkl", "rb")).w
    """
    notebook.run(dedent(cell.format("v1")))
    assert returned(notebook, "saves do=save") == "None"
    assert lines(notebook.run("class Net: w = 4\nimport pickle\nprint(pickle.load(open('net.pkl', 'rb')).w)")) == ["4"]
    notebook.run(dedent(cell.format("v2")))
    assert returned(notebook, "saves do=load") == "3"


# A function works as in the notebook

PARALLEL = """
import multiprocessing, pickle
from concurrent.futures import ProcessPoolExecutor
class Point:
    def __init__(self, x): self.x = x
    def __repr__(self): return f"Point({self.x})"
def square(point): return Point(point.x ** 2)
def run(config):
    points = [Point(x) for x in range(4)]
    context = multiprocessing.get_context(config["how"]) if "how" in config else None
    with multiprocessing.get_context(config["how"]).Pool(2) as pool:
        squares = pool.map(square, points)
    with ProcessPoolExecutor(2, multiprocessing.get_context(config["how"])) as pool:
        assert [one.x for one in pool.map(square, points)] == [one.x for one in squares]
    return squares
"""


@pytest.mark.parametrize(
    ("kind", "how"), [("function", "fork"), ("function", "spawn"), ("function", "forkserver"), ("cell", "spawn")]
)
def test_processes_that_a_task_starts_find_what_is_defined(notebook: Kernel, how: str, kind: str) -> None:
    if kind == "cell":
        notebook.run("%%taskapi deploy run\n" + PARALLEL)
    else:
        deploy(notebook, "run", PARALLEL)
    assert returned(notebook, f"run how={how}") == "[Point(0), Point(1), Point(4), Point(9)]"


@pytest.mark.parametrize("kind", ["function", "cell"])
def test_joblib(notebook: Kernel, kind: str) -> None:
    code = """
    import joblib
    class Point:
        def __init__(self, x): self.x = x
    def square(point): return Point(point.x ** 2)
    def run(config):
        joblib.dump(Point(5), "point.joblib")
        found = joblib.Parallel(2)(joblib.delayed(square)(Point(x)) for x in range(3))
        return [type(one) is Point for one in found], joblib.load("point.joblib").x
    """
    if kind == "cell":
        notebook.run("%%taskapi deploy run\n" + dedent(code))
    else:
        deploy(notebook, "run", code)
    assert returned(notebook, "run") == "([True, True, True], 5)"


def test_a_pickle_of_the_notebook_is_loaded_by_a_function_that_does_not_name_its_class(notebook: Kernel) -> None:
    deploy(
        notebook,
        "run",
        """
        import pickle
        SCALE = 3
        class Model:
            def predict(self, x): return scaled(x)
        def scaled(x): return x * SCALE
        def run(config): return [one(2) for one in pickle.load(open("all.pkl", "rb"))]
        pickle.dump([Model().predict, scaled], open("all.pkl", "wb"))
        """,
    )
    assert returned(notebook, "run") == "[6, 6]"


def test_what_is_large_and_not_asked_for_stays_in_the_notebook(notebook: Kernel) -> None:
    deploy(
        notebook,
        "run",
        """
        table = bytes(3_000_000)
        lock = __import__("threading").Lock()
        def uses_table(): return table
        def uses_lock(): return lock
        def small(): return 1
        def run(config): return [name in globals() for name in ("uses_table", "table", "uses_lock", "small", "run")]
        """,
    )
    assert returned(notebook, "run") == "[False, False, False, True, True]"


def test_a_cached_function(notebook: Kernel) -> None:
    deploy(
        notebook,
        "run",
        """
        import functools
        @functools.lru_cache(maxsize=7)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        @functools.cache
        def once(): return []
        def run(config):
            return fib(80), fib.cache_info().maxsize, fib.cache_info().currsize, once() is once(), fib.__name__
        """,
    )
    assert returned(notebook, "run") == "(23416728348467685, 7, 7, True, 'fib')"


def test_a_functions_globals_are_those_of_main(notebook: Kernel) -> None:
    deploy(
        notebook,
        "run",
        """
        count = 0
        def step():
            global count
            count += 1
        def run(config):
            import __main__
            step(); step()
            return count, __main__.count, __main__.step is step, __name__
        """,
    )
    assert returned(notebook, "run") == "(2, 2, True, '__main__')"
    assert lines(notebook.run("print(count)")) == ["0"]


def test_the_folders_of_the_notebooks_sys_path(notebook: Kernel, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my_library.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "src" / "decimal.py").write_text("raise ImportError('this hides the standard one')\n")
    (tmp_path / "work" / "colorsys.py").write_text("raise ImportError('the notebook does not import this')\n")
    code = "import colorsys, decimal, my_library\ndef run(config): return my_library.f(1)"
    notebook.run("import sys; sys.path.append('../src')")
    notebook.run("%%taskapi deploy cell\n" + code)
    assert returned(notebook, "cell") == "2"
    deploy(notebook, "run", code)
    assert returned(notebook, "run") == "2"
    notebook.run("sys.path.remove('../src'); del sys.modules['my_library']")


def test_a_module_that_a_task_could_not_import_is_refused(notebook: Kernel, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "gone_library.py").write_text("def f(x):\n    return x + 1\n")
    shown = deploy(
        notebook,
        "run",
        """
        import os, sys
        sys.path.append(os.path.abspath("../src"))
        import gone_library
        del sys.path[-1]
        def run(config): return gone_library.f(1)
        """,
    )
    assert "BadRequest: run: the callable refers to the module gone_library, which" in shown
    assert "put its folder on sys.path and deploy again" in shown


# Sources and lines


def test_a_traceback_shows_the_lines_of_the_notebook(notebook: Kernel) -> None:
    deploy(
        notebook,
        "run",
        """\
        import inspect
        def ratio(x):
            return 1 / x
        def run(config):
            return inspect.getsource(ratio) if config.get("source") else ratio(0)
        """,
    )
    assert returned(notebook, "run source=true") == repr("def ratio(x):\n    return 1 / x\n")
    notebook.run("job = %taskapi submit run\njob.wait()")
    log = notebook.run("print(job.logs())")
    assert "Cell In[" in log
    assert ", line 3, in ratio\n    return 1 / x\n" in log
    assert "harness" not in log


def test_lines_of_a_cell_count_as_the_notebook_shows_them(notebook: Kernel) -> None:
    assert "cell train, line 3: " in notebook.run("%%taskapi deploy train\n\ndef run(config)\n    pass")
    notebook.run("%%taskapi deploy train\n\ndef run(config):\n    return {}['x']")
    notebook.run("job = %taskapi submit train\njob.wait()")
    log = notebook.run("print(job.logs())")
    assert log.startswith("Traceback (most recent call last):\n  cell train, line 4, in run\n    return {}['x']\n")
    assert lines(log)[-1] == "KeyError: 'x'"


def test_a_result_gets_the_notebooks_class_where_its_definition_is_the_same(notebook: Kernel) -> None:
    notebook.run("%%taskapi deploy typed\n" + CLASSES)
    notebook.run(CLASSES)
    kinds = "[type(job.result()[key]) is kind for key, kind in (('fit', Fit), ('names', Names), ('split', Split))]"
    assert returned(notebook, "typed", kinds) == "[True, True, True]"
    assert returned(notebook, "typed", "job.result()['level'] is Level.LOW") == "True"
    notebook.run(CLASSES.replace("self.loss < other.loss", "self.loss > other.loss").replace("LOW = 1", "LOW = 2"))
    assert returned(notebook, "typed", kinds) == "[False, True, True]"
    assert returned(notebook, "typed", "job.result()['level'].value") == "1"
    better = "[job.result()['fit'].better(other) for other in (Fit(0.1), Fit(0.9))]"
    assert returned(notebook, "typed", better) == "[False, True]"
