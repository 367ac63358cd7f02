"""One notebook, three environments: this machine and a cluster of either version, without and through a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from support.cortex_double import Operator
from support.servers import LiveServer
from support.shells import Ran

Run = Callable[[str], Ran]

NOTEBOOK = [
    '%%taskapi deploy greet --config \'{"greeting": "hello"}\'\ndef task(config):\n    print(config)\n    return config',
    "job = %taskapi submit greet name=<b>you</b> --timeout 60",
    "%taskapi status",
    "%taskapi status greet",
    "%taskapi wait job",
    "%taskapi status job",
    "%taskapi logs job",
    "%taskapi logs job -n 1 -f",
    "%taskapi result job",
    "job.result(), job.logs(), job.files()",
    "again = %taskapi rerun job --wait",
    "other = %taskapi submit greet",
    "%taskapi wait greet other",
    "%taskapi status --limit 5",
    "%taskapi delete greet",
    "%taskapi status",
]


@pytest.fixture(params=["0.28.0", "0.42.1"])
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    with Operator(request.param) as operator:
        yield operator


def environment(operator: Operator) -> str:
    prod = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, "version": operator.version}
    return yaml.safe_dump({"environments": [prod]})


def check(run: Run, name: str) -> dict[str, str]:
    """Run the notebook in an environment; none of its cells may fail. Return what each printed."""
    run(f"%taskapi env {name}").value()
    said = {}
    for cell in NOTEBOOK:
        ran = run(cell)
        ran.value()
        said[cell] = ran.out + ran.err
        assert "Traceback" not in said[cell]
    assert run("job.status, again.status, other.status").value() == ("succeeded",) * 3
    assert run("job.config").value() == {"name": "<b>you</b>"}
    assert run("again.config == job.config and again != job").value()
    return said


def test_on_this_machine(run: Run) -> None:
    check(run, "local")
    assert run("%taskapi result job").value() == {"greeting": "hello", "name": "<b>you</b>"}


def test_on_a_cluster(run: Run, home: Path, operator: Operator) -> None:
    (home / "environments.yaml").write_text(environment(operator))
    said = check(run, "prod")
    assert "prod is a Cortex cluster, which keeps no result" in said["%taskapi result job"]
    assert "while it runs" in said["%taskapi logs job"]


def test_on_a_cluster_through_the_server(
    run: Run, operator: Operator, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPI_URL", live_server.url)
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)
    file = live_server.home / "environments.yaml"
    file.write_text(environment(operator))
    try:
        table = run("%taskapi env")
        assert operator.url in repr(table.value())
        check(run, "prod")
        assert run("job.api.base_url").value().endswith("/taskapi/prod")
    finally:
        file.unlink()
    assert not [one for one in operator.requests if one.header("Authorization")]


def test_a_cluster_that_is_away(run: Run, home: Path, operator: Operator) -> None:
    (home / "environments.yaml").write_text(environment(operator))
    run("%taskapi env prod").value()
    operator.quirk("reset")
    ran = run("%taskapi status")
    assert "environment prod" in str(ran.error)
    operator.quirks.clear()
    assert "no task APIs" in repr(run("%taskapi status").value())
    (home / "environments.yaml").write_text(environment(operator).replace(operator.url, "http://127.0.0.1:9"))
    assert "127.0.0.1:9" in str(run("%taskapi status").error)  # the file is read again
    assert run("%taskapi env local").value()
    ran = run("%taskapi env nowhere")
    assert "prod" in str(ran.error)
