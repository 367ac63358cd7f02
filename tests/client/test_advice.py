"""What a deploy warns of: what a cell, a file or a function uses that a job does not have."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from support.cortex_double import Operator
from support.servers import LiveServer
from support.shells import Ran
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.contract import UNSET, DeployResult
from taskapi_jupyter.deploy import advice, source_analysis
from taskapi_jupyter.deploy.advice import Text, text_warnings
from taskapi_jupyter.deploy.prepare import Source
from taskapi_jupyter.environments import connect
from taskapi_jupyter.service.service import Service

Run = Callable[[str], Ran]

KEYBOARD = "as a job has no keyboard"


def warned(text: str, absent: set[str] | None = None, provider: str = "local", **about: Any) -> list[str]:
    about = {"where": "cell train", "kind": "cell", "first_line": 2, **about}
    return text_warnings(Text(dedent(text), **about), absent or set(), provider)


def warnings_of(results: list[DeployResult]) -> list[str]:
    (result,) = results
    found = list(result.warnings or ())
    assert [line.removeprefix("warning: ") for line in result.message.splitlines()[1:]] == found
    return found


# What is found in a text


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("x = input('name? ')", "input()"),
        ("import builtins\nbuiltins.input()", "builtins.input()"),
        ("from getpass import getpass\ngetpass()", "getpass()"),
        ("import getpass as g\ndef run(config):\n    return [g.getpass('key')]", "g.getpass()"),
        ("def run(config):\n    from getpass import getpass as ask\n    ask()", "ask()"),
        ("ask = input\nask()", "ask()"),
        ("import getpass\nask = getpass.getpass\nask()", "ask()"),
    ],
)
def test_asking(code: str, call: str) -> None:
    line = 1 + len(code.splitlines())
    assert warned(code) == [f"cell train, line {line}: {call} fails, {KEYBOARD}: give the value in the config"]


@pytest.mark.parametrize(
    "code",
    [
        "breakpoint()",
        "import pdb; pdb.set_trace()",
        "import pdb as debugger; debugger.post_mortem()",
        "from ipdb import set_trace; set_trace()",
        "import code; code.interact(local=locals())",
        "import IPython; IPython.embed()",
        "from IPython.core.debugger import set_trace as st; st()",
    ],
)
def test_debuggers(code: str) -> None:
    call = code.rpartition("; ")[2].partition("(")[0]
    assert warned(code) == [f"cell train, line 2: {call}() can't be used, {KEYBOARD}"]


@pytest.mark.parametrize(
    "code",
    [
        "def input(text):\n    return text\ninput('x')",
        "def run(config, breakpoint):\n    breakpoint()",
        "from helpers import input\ninput()",
        "from .code import interact\ninteract()",
        "import code.other\nother = code.other\nother.interact()",
        "import getpass\ngetpass.getuser()",
        "class Form:\n    def input(self):\n        return 1\nForm().input()",
        "print('input()')  # breakpoint()",
        "from tqdm.auto import tqdm\nfrom tqdm import trange",
        "from IPython.display import display, clear_output\ndisplay(1)",
        "def run(config):\n    if __name__ == 'train':\n        pass",
        "",
    ],
)
def test_what_is_fine(code: str) -> None:
    assert warned(code) == []


@pytest.mark.parametrize(
    "code",
    [
        "import tqdm.notebook",
        "import tqdm.notebook as tn",
        "from tqdm.notebook import tqdm, trange",
        "from tqdm import notebook",
        "from tqdm import tqdm_notebook as tqdm",
    ],
)
def test_bars_of_notebooks(code: str) -> None:
    (text,) = warned(code)
    assert text.startswith("cell train, line 2: tqdm.notebook ")
    assert "from tqdm.auto import tqdm" in text


def test_what_a_log_can_not_show() -> None:
    (text,) = warned("import os\nfrom IPython.display import display, HTML, Image as Picture\ndisplay(HTML(''))")
    assert text.startswith("cell train, line 3: a job can't show HTML, Image: ")
    assert "TASKAPI_OUTPUT_DIR" in text


def test_variables_that_a_job_will_not_have() -> None:
    code = """\
        import os, os as system
        from os import environ as e, getenv
        variables = os.environ

        def run(config):
            os.environ["A"], system.environ.get("B", "default"), e.pop("C"), getenv("D"), variables["E"]
            "F" in e, os.environ[config["x"]], os.environ.get(f"{1}")
            os.environ["SET"] = "1"
            os.environ.setdefault("SET_TOO", "1")
            return os.environ["SET"], e["SET_TOO"], e["THERE"], os.environ["ALSO_HERE"]
        """
    absent = {"A", "B", "C", "D", "E", "F", "SET", "SET_TOO", "ALSO_HERE", "NOT_READ"}
    (text,) = warned(code, absent)
    assert text.startswith("cell train, lines 7, 8, 11: A, B, C, D, E, F, ALSO_HERE are set here, ")
    assert "--env-var A=... --env-var B=..." in text
    assert text.endswith("or environ: [A, B, C, D, E, F, ALSO_HERE] in config.yaml")
    assert warned(code) == []

    (text,) = warned("import os\nos.getenv('A')", absent)
    assert text == (
        "cell train, line 3: A is set here, and a job will not have it: give --env-var A=..., "
        "or environ: [A] in config.yaml"
    )
    for provider in ("ray", "cortex"):
        assert warned("import os\nos.getenv('A')", absent, provider)[0].endswith("give --env-var A=...")
    (text,) = warned("import os\nos.getenv('A')", absent, kind="file", where="train.py", first_line=1)
    assert text.startswith("train.py, line 2: A is set here")
    assert "definition.env" in text


def test_what_runs_at_the_start_of_a_cell() -> None:
    code = "def run(config):\n    return 1\n\nif {}:\n    run({{}})"
    for test in ('__name__ == "__main__"', "'__main__' == __name__"):
        assert warned(code.format(test)) == [
            'cell train, line 5: if __name__ == "__main__": this block runs when the task starts'
        ]
        assert warned(code.format(test), kind="file") == []  # it is imported
        assert warned(code.format(test), provider="cortex") == []  # there it is a module, too


def test_names() -> None:
    code = "import math\ndef run(config):\n    display(df)\n    return df, math.pi, other"
    assert warned(code) == [
        "cell train, lines 4, 5: df, other are neither defined nor imported in this cell; a task runs in a process of "
        "its own, where the variables of the notebook don't exist",
        "cell train, line 4: display is available in notebooks only: a job that reaches this line fails; print() writes to its log",
    ]
    (text,) = warned("def run(config):\n    return df", kind="file", where="a.py", first_line=1)
    assert text == "a.py, line 2: df is neither defined nor imported; a job that reaches this line fails"
    assert warned("def run(config):\n    return df, display", kind="function", known={"df": "", "display": ""}) == []


def test_many_lines_and_names_are_cut() -> None:
    (text,) = warned("\n".join(["input()"] * 50))
    assert text.startswith("cell train, lines 2, 3, 4, 5, 6, ...: input() fails")
    (text,) = warned("\n".join(f"name{n}" for n in range(50)))
    assert ": name0, name1, " in text
    assert ", name9, ... are neither" in text


def test_odd_texts_are_no_error() -> None:
    for text in ("def broken(", "\0", "x = " + "(" * 5000, "-" * 100_000 + "1", "a" + ".b" * 100_000, "1;" * 600_000):
        assert isinstance(warned(text), list)
    deep = "x = " + "+".join(["y"] * 3000)
    assert isinstance(warned(deep), list)


PIECES = [
    "import os\n",
    "from os import environ as e\n",
    "os",
    "e",
    ".environ",
    "['A']",
    "[",
    "]",
    "(",
    ")",
    "=",
    "\n",
    "    ",
]
PIECES += [":", "if ", "input", ",", "getenv", "def ", "lambda ", "*", "f'{", "}'", " in ", "__name__", "==", "\0", "."]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_is_no_error(text: str) -> None:
    assert isinstance(warned(text, {"A"}), list)


def test_no_text_of_this_project_is_warned_of_without_reason() -> None:
    package = Path(advice.__file__).parents[1]
    for path in [*package.glob("client/**/*.py"), *package.glob("deploy/**/*.py")]:
        text = path.read_text("utf-8")
        assert text_warnings(Text(text, path.name, "file")) == [], path
        assert source_analysis.free_names(ast.parse(text)) == {}


# Each way to deploy


def test_a_cell_a_file_and_a_function_from_python(service: Service, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_SETTING", "s3cret-value")
    monkeypatch.setenv("MY_OTHER", "s3cret-value")
    reads = "import os\n\ndef run(config):\n    return input(os.environ['MY_SETTING']), os.getenv('MY_OTHER')\n"
    reads = "\n" + reads  # as the magic does, whose line is the first
    found = warnings_of(service.deploy(Source(reads), name="train", cwd=tmp_path))
    assert found == [
        f"cell train, line 5: input() fails, {KEYBOARD}: give the value in the config",
        "cell train, line 5: MY_SETTING, MY_OTHER are set here, and a job will not have them: "
        "give --env-var MY_SETTING=... --env-var MY_OTHER=..., or environ: [MY_SETTING, MY_OTHER] in config.yaml",
    ]
    assert "s3cret" not in str(found)
    # what gives a job the variable ends the warning
    (tmp_path / ".env").write_text("MY_OTHER=1\n")
    given_ = service.deploy(Source(reads), name="train", cwd=tmp_path, env={"MY_SETTING": "1"})
    assert len(warnings_of(given_)) == 1
    # again, with nothing changed: warned of again
    assert len(warnings_of(service.deploy(Source(reads), name="train", cwd=tmp_path, env={"MY_SETTING": "1"}))) == 1

    (tmp_path / "job.py").write_text(reads.strip().replace("'MY_OTHER'", "unknown"))
    (tmp_path / "cortex.yaml").write_text(
        "- name: a\n  definition: {path: job.py, env: {MY_SETTING: x}}\n- name: b\n  definition: {path: job.py}\n"
    )
    first, second = service.deploy(tmp_path)
    assert first.warnings == [
        "job.py, line 4: unknown is neither defined nor imported; a job that reaches this line fails",
        f"job.py, line 4: input() fails, {KEYBOARD}: give the value in the config",
    ]
    assert isinstance(second.warnings, list)
    assert len(second.warnings) == 3
    assert "MY_SETTING is set here" in second.warnings[2]
    assert "definition.env" in second.warnings[2]


def test_the_list_of_config_yaml_ends_the_warning(service: Service, home: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_SETTING", "1")
    cell = Source("import os\ndef run(config):\n    return os.environ['MY_SETTING']")
    assert len(warnings_of(service.deploy(cell, name="train"))) == 1
    (home / "config.yaml").write_text("environ: [MY_SETTING]\n")
    assert warnings_of(service.deploy(cell, name="train")) == []
    assert service.submit("train").result(30) == "1"


def test_a_command_is_not_read(service: Service) -> None:
    (result,) = service.deploy({"name": "cmd", "pod": {"containers": [{"command": ["true", "input()"]}]}})
    assert result.warnings is UNSET


def test_in_a_notebook(run: Run, monkeypatch: Any) -> None:
    cell = "%%taskapi {} asks\ndef task(config):\n    return input(), df"
    shown = repr(run(cell.format("deploy")).value())
    assert shown.count("cell asks, line 3: input() fails") == 1
    assert shown.count("neither defined") == 1
    assert run(cell.format("submit")).displayed.count("cell asks, line 3: input() fails") == 1
    run(
        "import getpass, functools\nfrom os import environ as e\nlabel = 'x'\n\ndef helper():\n    return input()\n\n"
        "@functools.lru_cache\ndef cached():\n    return breakpoint()\n\ndef not_used():\n    return input()\n\n"
        "class Net:\n    @staticmethod\n    def load():\n        return nowhere"
    )
    monkeypatch.setenv("MY_SETTING", "1")
    cell = "def asks(config):\n    display(label)\n    helper(), cached(), Net.load()\n    return getpass.getpass(), nothing, e['MY_SETTING']"
    run(cell)
    deployed = run("%taskapi deploy asks --function asks").value()
    found = [re.sub(r"^.*?(?=, line)", "", text) for text in deployed[0].warnings]
    assert found == [
        ", line 4: nothing is neither defined nor imported; a job that reaches this line fails",
        ", line 2: display is available in notebooks only: a job that reaches this line fails; print() writes to its log",
        f", line 4: getpass.getpass() fails, {KEYBOARD}: give the value in the config",
        ", line 4: MY_SETTING is set here, and a job will not have it: give --env-var MY_SETTING=..., "
        "or environ: [MY_SETTING] in config.yaml",
        f", line 6: input() fails, {KEYBOARD}: give the value in the config",
        f", line 10: breakpoint() can't be used, {KEYBOARD}",
        ", line 18: nowhere is neither defined nor imported; a job that reaches this line fails",
    ]
    assert "ell" in deployed[0].warnings[0].partition(",")[0]  # what IPython calls it


def test_under_a_server(live_server: LiveServer, name: str, monkeypatch: Any) -> None:
    def deploy() -> list[str]:
        client = Client(live_server.taskapi, live_server.token)  # another one asks for the list anew
        try:
            return warnings_of(client.deploy(cell, name=name))
        finally:
            client.close()

    client = Client(live_server.taskapi, live_server.token)
    cell = Source("import os\ndef run(config):\n    return os.environ['MY_SETTING']")
    config = live_server.home / "config.yaml"
    before = config.read_text()
    monkeypatch.setenv("MY_SETTING", "from the kernel")
    try:
        (text,) = deploy()
        assert text.startswith(f"cell {name}, line 3: MY_SETTING is set here")
        config.write_text(before + "environ: [MY_SETTING]\n")  # what the warning says helps
        assert deploy() == []
        assert client.submit(name).result(30) == "from the kernel"
        config.write_text("environ: 5\n")  # which a deploy says
        assert client.environments().environ == []
    finally:
        config.write_text(before)
        client.close()


def test_a_form_that_is_posted(live_server: LiveServer, name: str) -> None:
    spec = f"- name: {name}\n  definition: {{path: t.py}}\n"
    folder = live_server.home.parent
    (folder / "t.py").write_text("import os\ndef run(config):\n    return input(), os.environ['PYTEST_VERSION']\n")
    answer = live_server.fetch("POST", "deploy", files={"config": ("cortex.yaml", spec)})
    assert answer.json()[0]["warnings"] == [f"t.py, line 3: input() fails, {KEYBOARD}: give the value in the config"]


def test_from_a_terminal(home: Path, tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text("import os\ndef run(config):\n    return input(), os.environ['MY_SETTING']\n")
    (tmp_path / "cortex.yaml").write_text("- name: t\n  definition: {path: t.py}\n")
    command = [sys.executable, "-m", "taskapi_jupyter.ui.cli", "deploy", str(tmp_path / "cortex.yaml")]
    environ = {**os.environ, "MY_SETTING": "s3cret-value"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("t.py, line 3: input() fails") == 1
    assert done.stdout.count("t.py, line 3: MY_SETTING is set here") == 1
    assert "s3cret" not in done.stdout
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, timeout=60, env=environ)
    assert len(json.loads(done.stdout)[0]["warnings"]) == 2


@pytest.mark.parametrize("version", ["0.28.0", "0.42.1"])
def test_a_cortex_cluster(home: Path, version: str, monkeypatch: Any) -> None:
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MY_SETTING", "1")
    cell = "import os\ndef task(config):\n    print(os.environ['MY_SETTING'], input())\nif __name__ == '__main__':\n    task({})"
    with Operator(version) as operator:
        prod = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, "version": version}
        (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [prod]}))
        client: Any = connect("prod")
        found = [text for text in warnings_of(client.deploy(Source(cell), name="train")) if "cell train" in text]
        client.close()
    assert found == [
        f"cell train, line 3: input() fails, {KEYBOARD}: give the value in the config",
        "cell train, line 3: MY_SETTING is set here, and a job will not have it: give --env-var MY_SETTING=...",
    ]
