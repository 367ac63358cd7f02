"""config.yaml: what it may say, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.service import config
from taskapi_jupyter.service.config import Config
from taskapi_jupyter.service.service import Service


def read(folder: Path, text: str) -> Config:
    (folder / "config.yaml").write_text(text, "utf-8")
    return config.read(folder / "config.yaml")


PACKAGES = {
    "builder": "auto",
    "keep_days": 30.0,
    "max_size": 20 << 30,
    "index_url": None,
    "offline": False,
    "python_downloads": False,
}


def test_what_stands_where_nothing_is_said(tmp_path: Path) -> None:
    nothing = {"cpus": None, "mem": None, "gpus": None, "stop_grace": 10.0, "log_max_bytes": 64 << 20}
    nothing |= {"keep_kernels": 2, "keep_jobs": None, "keep_days": None, "packages": PACKAGES}
    assert config.read(tmp_path / "config.yaml").limits() == nothing
    for text in ("", "# nothing yet\n", "{}\n", "cpus:\nmem: null\n"):
        assert read(tmp_path, text).limits() == nothing


def test_all_that_may_be_said(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "cpus: 1500m\nmem: 8Gi\ngpus: 2\nstop_grace: 0.5\nlog_max_bytes: 1M\nkeep_jobs: 100\nkeep_days: 2.5\n"
        "environ: [WANDB_API_KEY, MY_*]\n"
        "packages: {builder: pip, keep_days: 0.5, max_size: 1Gi, index_url: 'https://me:hush@index.example/simple', "
        "offline: true, python_downloads: true}\n",
    )
    assert found.limits() == {
        "cpus": 1500,
        "mem": 8 << 30,
        "gpus": 2,
        "stop_grace": 0.5,
        "log_max_bytes": 10**6,
        "keep_kernels": 2,
        "keep_jobs": 100,
        "keep_days": 2.5,
        "packages": {
            "builder": "pip",
            "keep_days": 0.5,
            "max_size": 1 << 30,
            "index_url": "https://me:hush@index.example/simple",
            "offline": True,
            "python_downloads": True,
        },
    }
    assert (found.keep_jobs, found.keep_days, found.environ) == (100, 2.5, ["WANDB_API_KEY", "MY_*"])


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("cpus: 2\n", "cpus", 2000),
        ("cpus: 0.5\n", "cpus", 500),
        ("cpus: '3'\n", "cpus", 3000),
        ("mem: 1000\n", "mem", 1000),
        ("log_max_bytes: 0\n", "log_max_bytes", 0),
        ("log_max_bytes: 64Ki\n", "log_max_bytes", 65536),
        ("stop_grace: 0\n", "stop_grace", 0),
        ("gpus: 0\n", "gpus", 0),
    ],
)
def test_values(tmp_path: Path, text: str, name: str, value: object) -> None:
    assert read(tmp_path, text).limits()[name] == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cpu: 2\n", "cpu"),
        ("cpus: many\n", "many"),
        ("cpus: 0\n", "0"),
        ("cpus: -1\n", "-1"),
        ("mem: 8 Gigabytes\n", "8 Gigabytes"),
        ("mem: []\n", "mem"),
        ("gpus: -1\n", "gpus must be a number that is not negative"),
        ("gpus: 1.5\n", "gpus"),
        ("stop_grace: -1\n", "stop_grace must be a number that is not negative"),
        ("stop_grace: soon\n", "stop_grace"),
        ("stop_grace: .nan\n", "stop_grace"),
        ("stop_grace: .inf\n", "stop_grace"),
        ("keep_jobs: -5\n", "keep_jobs must be a number that is not negative"),
        ("keep_days: -5\n", "keep_days must be a number that is not negative"),
        ("environ: X\n", "environ"),
        ("environ: [1]\n", "environ"),
        ("package: {}\n", "did you mean packages?"),
        ("packages: uv\n", "packages must be a mapping, not 'uv'"),
        ("packages: {bilder: uv}\n", "unknown key 'bilder' in packages; did you mean builder?"),
        ("packages: {builder: conda}\n", "packages.builder must be one of auto, uv, pip, not 'conda'"),
        ("packages: {keep_days: -1}\n", "packages.keep_days must be a number that is not negative"),
        ("packages: {keep_days: .inf}\n", "packages.keep_days must be a number that is not negative"),
        ("packages: {keep_days: soon}\n", "packages.keep_days must be a number, not 'soon'"),
        ("packages: {max_size: lots}\n", "packages.max_size must be bytes"),
        ("packages: {max_size: 0}\n", "more than 0, not 0"),
        ("packages: {offline: perhaps}\n", "packages.offline must be true or false, not 'perhaps'"),
        ("packages: {python_downloads: 1}\n", "packages.python_downloads must be true or false, not 1"),
        ("packages: {index_url: 5}\n", "packages.index_url must be text, not 5"),
        ("packages: {index_url: pypi.org}\n", "http://, https:// or file:///, not 'pypi.org'"),
        ("packages: {index_url: 'https://'}\n", "not 'https://'"),
        ("packages: {index_url: 'file://host'}\n", "not 'file://host'"),
        ("packages: {index_url: 'http://[::1'}\n", "not 'http://[::1'"),
        ("packages: {index_url: 'https://index.example/a b'}\n", "not 'https://index.example/a b'"),
        ("log_max_bytes: lots\n", "lots"),
        ("log_max_bytes: -1\n", "-1"),
        ("- cpus: 2\n", "config.yaml"),
        ("just words\n", "config.yaml"),
        ("cpus: [\n", "line"),
        ("cpus: !!python/object/apply:os.getcwd []\n", "config.yaml"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(tmp_path, text)
    assert named in str(caught.value)
    assert str(tmp_path / "config.yaml") in str(caught.value)


@pytest.mark.parametrize("url", ["https://index.example/simple", "http://127.0.0.1:8080", "file:///srv/wheels"])
def test_an_index_of_packages(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, f"packages: {{index_url: '{url}'}}\n").packages.index_url == url


@pytest.mark.parametrize(
    "text",
    [
        "packages: {index_url: 'ftp://me:hush@index.example/simple'}",
        "packages: {index_url: 'me:hush@index.example'}",
        "packages: {index_url: 'https://me:hush@[x/'}",
        "packages: {index_url: 'https://index.example/ simple?token=hush'}",
        "packages: {index_url: ['https://me:hush@index.example/simple']}",
        f"packages: {{index_url: ['https://me:{20 * 'hush'}@index.example/simple']}}",
        "packages: {builder: 'https://me:hush@index.example/simple'}",
        "packages: 'https://me:hush@index.example/simple'",
        "package: {index_url: 'https://me:hush@index.example/simple'}",
        "packages: {index_url: 'https://me:hush@index.example/simple' x}",
    ],
)
def test_credentials_are_not_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(tmp_path, f"{text}\n")
    assert "hush" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"cpus: \xff\xfe\n")
    with pytest.raises(BadRequest, match=r"config\.yaml"):
        config.read(tmp_path / "config.yaml")


def test_a_home_whose_config_is_wrong_says_so_until_it_is_mended(home: Path) -> None:
    (home / "config.yaml").write_text("cpu: 2\n")
    service = Service(home)
    for _ in range(2):
        with pytest.raises(BadRequest, match=r"config\.yaml.*cpu"):
            service.deploy({"name": "a", "pod": {"containers": [{"command": ["true"]}]}})
    assert service.jobs() == []  # reading goes on
    (home / "config.yaml").write_text("cpus: 2\n")
    service.deploy({"name": "a", "pod": {"containers": [{"command": ["true"]}]}})
    assert service.store.settings()["cpus"] == 2000
    service.close()


def test_how_long_a_stop_is_waited_for_follows_the_grace_period(home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 20\n")
    service = Service(home)
    service.deploy({"name": "a", "pod": {"containers": [{"command": ["true"]}]}})
    other = Service(home)  # a process that has not read config.yaml, and only stops a job
    assert service._patience() == other._patience() == 25
    service.close()
    other.close()
