"""``environments.yaml``: what it may say, that it changes whole or not at all, and that it keeps secrets to itself."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import msgspec
import pytest
import yaml

from taskapi_jupyter import environments
from taskapi_jupyter.client.environments_file import Entry, EnvironmentFile
from taskapi_jupyter.core.errors import BadRequest, NotFound, TaskAPIError, Unavailable
from taskapi_jupyter.cortex.operator import upstream_of

PROD = "- {name: prod, provider: cortex, operator_endpoint: 'https://operator.example', version: 0.42.1}"


def write(home: Path, *entries: str, default: str | None = None) -> EnvironmentFile:
    text = "environments:\n" + "\n".join(entries)
    (home / "environments.yaml").write_text(text + (f"\ndefault_environment: {default}\n" if default else "\n"))
    return EnvironmentFile(home)


def cluster(**fields: object) -> Entry:
    return msgspec.convert(
        {"name": "prod", "provider": "cortex", "operator_endpoint": "https://operator.example", **fields}, Entry
    )


def test_local_is_always_there(home: Path) -> None:
    there = write(home, PROD, default="prod").read()
    assert list(there.entries) == ["local", "prod"]
    assert (there.find(None).name, there.find("local").provider) == ("prod", "local")


def test_what_is_public_of_a_cluster(home: Path) -> None:
    entry = (
        "- {name: prod, provider: cortex, operator_endpoint: 'https://operator.example', api_endpoint: "
        "'https://api.example', timeout: 7, verify: false, headers: {X-Key: s3cret, X-File: {file: /etc/hosts}, "
        "X-Env: {env: PROD_KEY}}}"
    )
    answer = msgspec.to_builtins(write(home, entry).read().response())
    assert answer["environments"][1] == {
        "name": "prod",
        "provider": "cortex",
        "operator_endpoint": "https://operator.example",
        "api_endpoint": "https://api.example",
        "timeout": 7.0,
    }
    assert msgspec.to_builtins(environments.load(home)) == answer


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("- {name: prod, provider: cortex}", "operator_endpoint is missing"),
        ("- {name: prod, provider: cortex, operator_endpoint: operator.example}", "operator_endpoint.*no URL"),
        ("- {name: p, provider: cortex, operator_endpoint: 'ftp://x'}", "ftp://x"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://u:pw@x'}", "no password"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x?a=b'}", "must end with its path"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', api_endpoint: x}", "api_endpoint"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', version: newest}", "newest"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', timeout: 0}", "timeout"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', timeout: soon}", "timeout"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', verify: /no/such/file}", "/no/such/file"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', headers: {'a b': c}}", "a b"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', headers: {Host: c}}", "Host"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', headers: {a: {envv: c}}}", "env: VARIABLE"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', headers: {a: [c]}}", "headers"),
        ("- {name: p, provider: cortex, operator_endpoint: 'https://x', header: {}}", "header"),
        ("- {name: p, provider: slurm}", "'slurm'.*local, cortex, ray"),
        ("- {name: p, provider: ray}", "address is missing"),
        ("- {name: p, provider: ray, address: 'ray://head:10001'}", "address: 'ray://head:10001' is no URL"),
        ("- {name: p, provider: ray, address: 'http://u:pw@head'}", "no password"),
        ("- {name: p, provider: ray, address: 'http://head', storage: shared}", "storage.*'shared'"),
        ("- {name: p, provider: ray, address: 'http://head', operator_endpoint: 'http://x'}", "is for provider cortex"),
        ("- {name: p, provider: cortex, operator_endpoint: 'http://x', storage: /s}", "is for provider ray"),
        ("- {name: local, provider: ray, address: 'http://head'}", "is this machine"),
        ("- {name: environments, provider: local}", "environments"),
        ("- {name: openapi.json, provider: local}", "openapi.json"),
        ("- {name: ../up, provider: local}", "must be letters"),
        ("- {name: local, provider: cortex, operator_endpoint: 'https://x'}", "is this machine"),
        (PROD + "\n" + PROD, "two environments 'prod'"),
        ("- prod", "environments"),
    ],
)
def test_mistakes_are_named(home: Path, entry: str, named: str) -> None:
    with pytest.raises(BadRequest, match=named) as raised:
        write(home, entry).read()
    assert str(home / "environments.yaml") in str(raised.value)
    assert "pw" not in str(raised.value)


def test_read_again_when_it_changes(home: Path) -> None:
    file = write(home, PROD)
    first = file.read()
    assert file.read() is first
    assert upstream_of(first, first.find("prod")) is upstream_of(first, first.find("prod"))
    write(home)
    assert list(file.read().entries) == ["local"]
    (home / "environments.yaml").unlink()
    assert list(file.read().entries) == ["local"]


def test_configure_delete_default(home: Path) -> None:
    file = EnvironmentFile(home)
    assert file.configure(cluster(headers={"X-Key": {"env": "PROD_KEY"}}))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.set_default("prod")
    assert not file.configure(cluster(version="0.42.1", timeout=5))
    assert yaml.safe_load(file.path.read_text()) == {
        "default_environment": "prod",
        "environments": [
            {"name": "local", "provider": "local"},
            {
                "name": "prod",
                "provider": "cortex",
                "operator_endpoint": "https://operator.example",
                "version": "0.42.1",
                "timeout": 5.0,
            },
        ],
    }
    file.delete("prod")
    assert (file.read().default, list(file.read().entries)) == ("local", ["local"])
    assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []


def test_a_refusal_changes_nothing(home: Path) -> None:
    file = write(home, PROD)
    before = file.path.read_bytes()
    for refused in (
        lambda: file.configure(cluster(name="a/b")),
        lambda: file.configure(cluster(version="x")),
        lambda: file.delete("nowhere"),
        lambda: file.delete("local"),
        lambda: file.set_default("nowhere"),
    ):
        with pytest.raises((BadRequest, NotFound)):
            refused()
    assert file.path.read_bytes() == before


def test_a_malformed_file_is_never_overwritten(home: Path) -> None:
    file = write(home, "- {name: prod, provider: elsewhere}")
    before = file.path.read_bytes()
    with pytest.raises(BadRequest, match="elsewhere"):
        file.configure(cluster())
    assert file.path.read_bytes() == before


def test_many_at_once_lose_nothing(home: Path) -> None:
    def add(number: int) -> None:
        EnvironmentFile(home).configure(cluster(name=f"c{number}"))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(EnvironmentFile(home).read().entries) == sorted(["local", *(f"c{n}" for n in range(12))])


def test_a_home_that_cant_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="can't be"):
        EnvironmentFile(tmp_path / "file" / "home").configure(cluster())


def test_local_works_beside_any_file(home: Path) -> None:
    (home / "environments.yaml").write_bytes(os.urandom(64))
    with pytest.raises(TaskAPIError, match=r"environments\.yaml"):
        environments.load(home)
