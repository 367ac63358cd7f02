"""Whose home it is: what other users own, or may write to, is refused with what to do; links in it are not followed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support import until
from support.homes import processes
from support.namespaces import unshared
from support.users import NOBODY, OTHER, as_user, made, root
from taskapi_jupyter.client.environments_file import Entry, EnvironmentFile
from taskapi_jupyter.core import files, guard
from taskapi_jupyter.core.errors import Unavailable
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.service.supervisor.wake import command
from taskapi_jupyter.ui import doctor


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_all(home: Path) -> str | None:
    """Open a home in each way there is; return what all were refused with, None where none was."""
    told = set()
    for way in (
        lambda: Service(home).close(),
        lambda: Store(home / "taskapi.db").close(),
        lambda: EnvironmentFile(home).read(),
        lambda: EnvironmentFile(home).configure(Entry(name="a", provider="cortex", operator_endpoint="http://a")),
        lambda: guard.check(home),
    ):
        try:
            way()
            told.add(None)
        except Unavailable as error:
            told.add(str(error))
    assert len(told) == 1, told
    refusal = told.pop()
    wrong = doctor.problems(home)
    assert (refusal in wrong) if refusal else not wrong, wrong
    return refusal


# Homes


@root
def test_a_home_of_another_user(place: Path) -> None:
    made(place / "home", OTHER, 0o777)
    told = as_user(NOBODY, lambda: open_all(place / "home"))
    assert told == (
        f"{place / 'home'} belongs to user {OTHER}, and you are nobody, whose rights its jobs would have: "
        "set TASKAPI_HOME to a folder of your own"
    )
    assert mode_of(place / "home") == 0o777
    assert list((place / "home").iterdir()) == []


@root
def test_root_in_a_home_of_another_user(place: Path) -> None:
    made(place / "home", OTHER)
    told = open_all(place / "home") or ""
    assert "belongs to user 23456, and you are root" in told
    assert list((place / "home").iterdir()) == []


def test_a_home_that_every_user_may_write_to(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    told = open_all(tmp_path / "home") or ""
    assert f"every user may write to {tmp_path / 'home'} (its mode is 0777)" in told
    assert f"chmod 700 {tmp_path / 'home'}" in told
    assert "TASKAPI_HOME" in told
    assert mode_of(tmp_path / "home") == 0o777  # somebody may have put something into it: that is to be looked at


@pytest.mark.parametrize("mode", [0o770, 0o775, 0o2775])
def test_a_home_that_the_group_may_write_to_becomes_ours(tmp_path: Path, mode: int) -> None:
    home, above = tmp_path / "above" / "home", tmp_path / "above"
    home.mkdir(parents=True)
    for folder in (home, above):
        folder.chmod(mode)
    assert doctor.problems(home) == []
    assert mode_of(home) == mode  # doctor changes nothing
    assert open_all(home) is None
    assert mode_of(home) == 0o700
    assert mode_of(above) == mode


def test_a_home_whose_files_the_group_may_write_to_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "config.yaml").write_text("")
    (home / "config.yaml").chmod(0o644)
    assert open_all(home) is None
    assert mode_of(home) == 0o755
    (home / "config.yaml").chmod(0o664)
    home.chmod(0o751)  # looked at again
    assert open_all(home) is None
    assert mode_of(home) == 0o700


def test_a_file_that_every_user_may_write_to(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "config.yaml").touch()
    (home / "config.yaml").chmod(0o666)
    assert f"every user may write to {home / 'config.yaml'}" in (open_all(home) or "")
    home.chmod(0o700)  # nobody else gets there
    assert open_all(home) is None


def test_a_home_is_made_for_us_alone_below_folders_of_a_group(tmp_path: Path) -> None:
    above = tmp_path / "jovyan"
    above.mkdir()
    above.chmod(0o2775)
    before = os.umask(0o002)
    try:
        assert open_all(above / ".local" / "share" / "taskapi") is None
    finally:
        os.umask(before)
    assert mode_of(above / ".local" / "share" / "taskapi") == 0o700


# Folders above


@root
def test_a_folder_above_of_a_third_user(place: Path) -> None:
    above = made(place / "above", OTHER, 0o755)
    made(above / "home", NOBODY)
    told = as_user(NOBODY, lambda: open_all(above / "home")) or ""
    assert f"the folder {above} belongs to user {OTHER}" in told
    told = as_user(NOBODY, lambda: open_all(above / "home" / "inner")) or ""
    assert f"the folder {above} belongs to user {OTHER}" in told
    assert not (above / "home" / "inner").exists()  # nothing is made there


def test_a_folder_above_that_every_user_may_write_to(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    told = open_all(above / "deep" / "home") or ""
    assert f"every user may write to {above} (its mode is 0777)" in told
    assert not (above / "deep").exists()
    above.chmod(0o1777)
    assert open_all(above / "deep" / "home") is None
    assert mode_of(above) == 0o1777


@root
def test_a_link_above_of_a_third_user(place: Path) -> None:
    made(place / "home", NOBODY)
    made(place / "shared", 0, 0o1777)
    (place / "shared" / "link").symlink_to("../home")
    os.chown(place / "shared" / "link", OTHER, OTHER, follow_symlinks=False)
    told = as_user(NOBODY, lambda: open_all(place / "shared" / "link")) or ""
    assert f"the link {place / 'shared' / 'link'} belongs to user {OTHER}" in told
    os.chown(place / "shared" / "link", NOBODY, NOBODY, follow_symlinks=False)
    assert as_user(NOBODY, lambda: open_all(place / "shared" / "link")) is None


def test_the_way_is_followed_through_links(tmp_path: Path) -> None:
    above = tmp_path / "open"
    (above / "home").mkdir(parents=True)
    above.chmod(0o777)
    (tmp_path / "link").symlink_to("open/home/../home")
    assert f"every user may write to {above}" in (open_all(tmp_path / "link") or "")
    above.chmod(0o755)
    assert open_all(tmp_path / "link") is None


USER_NAMESPACE = """
import sys
from taskapi_jupyter.core import guard
from taskapi_jupyter.core.errors import Unavailable
guard.check(sys.argv[1])
try:
    guard.check(sys.argv[2])
except Unavailable as error:
    assert "belongs to" in str(error), error
else:
    raise AssertionError("a home of a user that this namespace does not know")
"""


@root
def test_folders_above_in_a_user_namespace_that_does_not_know_their_owner(place: Path) -> None:
    command = [*unshared("--user", "--map-root-user"), sys.executable, "-c", USER_NAMESPACE]
    above = made(place / "above", OTHER, 0o755)
    made(above / "home", 0)
    made(above / "other", OTHER)
    subprocess.run([*command, str(above / "home"), str(above / "other")], check=True, timeout=60)
    with pytest.raises(Unavailable, match=f"the folder {above} belongs to"):
        guard.check(above / "home")


# Files in it


@root
@pytest.mark.parametrize(
    "name", ["taskapi.db", "taskapi.db-wal", "config.yaml", "environments.yaml", "supervisor.lock", "wake", "jobs"]
)
def test_a_file_of_another_user(place: Path, name: str) -> None:
    home = made(place / "home", NOBODY)
    (home / name).mkdir() if name == "jobs" else os.mkfifo(home / name) if name == "wake" else (home / name).touch()
    told = as_user(NOBODY, lambda: open_all(home)) or ""
    assert f"{home / name} belongs to root: give it to you (`sudo chown -R nobody {home / name}`), delete it" in told
    assert "TASKAPI_HOME" in told
    assert [path.name for path in home.iterdir()] == [name]


@root
def test_what_a_file_system_keeps_is_nobody_elses(place: Path) -> None:
    home = made(place / "home", NOBODY)
    made(home / "lost+found", 0)
    made(home / ".snapshot", 0)
    assert as_user(NOBODY, lambda: open_all(home)) is None


@root
def test_the_supervisor_and_retention_look_too(place: Path) -> None:
    home = made(place / "home", OTHER)
    done = subprocess.run(command("supervisor", str(home)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{home} belongs to user {OTHER}, and you are root" in done.stderr
    subprocess.run(command("retention", str(home)), capture_output=True, text=True, timeout=60)
    assert list(home.iterdir()) == []


@root
def test_a_hard_link_to_another_users_file(place: Path) -> None:
    theirs = place / "theirs"
    theirs.write_text("theirs")
    theirs.chmod(0o666)
    os.chown(theirs, OTHER, OTHER)
    home = made(place / "home", 0)
    os.link(theirs, home / "file")

    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(PermissionError, match=f"it belongs to user {OTHER}"):
            files.create(home / "file", flags)
    assert theirs.read_text() == "theirs"
    assert mode_of(theirs) == 0o666
    with pytest.raises(PermissionError, match=f"it belongs to user {OTHER}"):
        files.read_own(home / "file", 99)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("there")
    (tmp_path / "there").chmod(0o644)
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("new")
    os.mkfifo(tmp_path / "fifo")
    for name, what in (("link", "a link"), ("dangling", "a link"), ("fifo", "a FIFO")):
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            with pytest.raises(OSError, match=f"it is {what}, not a file"):
                files.create(tmp_path / name, flags)
        with pytest.raises(OSError, match=f"it is {what}, not a file"):
            files.read_own(tmp_path / name, 99)
    assert (tmp_path / "there").read_text() == "there"
    assert mode_of(tmp_path / "there") == 0o644
    assert not (tmp_path / "new").exists()


# Paths


def test_a_path_too_long_for_sqlite(tmp_path: Path) -> None:
    home = tmp_path
    while (left := 481 - len(str(home)) - 1) > 0:
        home /= "d" * (left if left <= 200 else 100)
    assert len(str(home)) == 481
    service = Service(home)
    assert service.get() == []
    service.close()
    told = open_all(home.with_name(home.name + "f")) or ""
    assert "it has 482 bytes, and SQLite can use up to 481; set TASKAPI_HOME to a shorter one" in told
    assert len(told) < 300
    (tmp_path / "short").symlink_to(home.parent)
    told = open_all(tmp_path / "short" / (home.name + "f")) or ""
    assert "it has 482 bytes" in told  # SQLite follows links first
    until(lambda: not processes(home), "no process to be left")


def test_a_home_is_looked_at_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Service(home).close()
    home.chmod(0o777)
    with pytest.raises(Unavailable, match="every user"):
        guard.check(home)
    home.rename(tmp_path / "old")
    home.mkdir()
    (home / "jobs").symlink_to(tmp_path)
    with pytest.raises(Unavailable, match=r"jobs is a link: put the folder itself there"):
        guard.check(home)  # another folder is there now
