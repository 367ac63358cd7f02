"""What wakes the schedules of a home after its machine was started: lines of a crontab, or a systemd user timer.

A supervisor that schedules keep alive ends with its machine. Both run ``jupyter taskapi schedule wake`` when the
machine starts and every 15 minutes, which starts one where an active schedule has none.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from taskapi_jupyter.core.errors import BadRequest, Unavailable

_TIMEOUT = 20.0  # seconds for a program of the system
_FRESH = 30.0  # seconds for which what a crontab has is not asked again
_BOOTED = "/run/systemd/system"  # there where systemd is what started this machine
_LINGER = "/var/lib/systemd/linger"  # has a file for each user whose units run while nobody is logged in

NOT_INSTALLED = (
    "not installed: after a reboot they wait until Jupyter or `jupyter taskapi` is next used "
    "(`jupyter taskapi schedule install`)"
)


class Plan(NamedTuple):
    """What ``install`` writes: lines for a crontab, or files."""

    kind: str  # `crontab` or `systemd`
    lines: list[str]
    files: dict[Path, str]
    notes: list[str]  # what else a person is to know or do


def plan(home: Path) -> Plan:
    """Return what has the schedules of a home woken here; raise :class:`BadRequest` for a path no line can have."""
    for text in (str(home), sys.executable):
        if not text.isprintable():
            raise BadRequest(f"a crontab can't have the path {text!r}: it has characters that are not printable")
    if runs_systemd():
        return Plan("systemd", [], _units(home), _linger_notes())
    notes = []
    if shutil.which("systemctl"):
        notes.append("systemctl is installed, but systemd does not run here: these are lines for your crontab")
    if shutil.which("crontab") is None:
        notes.append("there is no program crontab here: without a cron daemon, nothing reads such lines")
    return Plan("crontab", _lines(home), {}, notes)


def install(home: Path, wanted: Plan) -> None:
    """Write a plan; what an earlier one wrote for this home is replaced. Raises :class:`Unavailable`."""
    if wanted.kind == "crontab":
        kept = [line for line in _crontab() if not _is_ours(line, home)]
        _write_crontab([*kept, *wanted.lines])
        return
    for path, text in wanted.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", f"{_unit(home)}.timer")


def uninstall(home: Path) -> list[str]:
    """Remove what :func:`install` wrote for a home, and nothing else; return what was removed, in words."""
    removed = []
    if shutil.which("crontab"):
        before = _crontab()
        kept = [line for line in before if not _is_ours(line, home)]
        if len(kept) < len(before):
            _write_crontab(kept)
            removed.append("the lines of your crontab")
    files = [path for path in _units(home) if path.exists()]
    if files:
        name = f"{_unit(home)}.timer"
        if runs_systemd():
            _systemctl("disable", "--now", name)
        wanted = _folder() / "timers.target.wants" / name
        for path in [*files, *([wanted] if wanted.is_symlink() else [])]:
            path.unlink(missing_ok=True)
        if runs_systemd():
            _systemctl("daemon-reload")
        removed.append(f"the systemd timer {_unit(home)}")
    _known.clear()
    return removed


def hint(home: Path) -> str:
    """Return in a line whether the schedules of a home survive a reboot of this machine."""
    homes = (home, home.parent.parent)  # that of a Ray cluster's jobs is PROVIDER/NAME of the one that is woken
    timers = [one for one in homes if (_folder() / "timers.target.wants" / f"{_unit(one)}.timer").is_symlink()]
    if timers:
        said = "installed: after a reboot, a systemd timer wakes them"
        return said if _lingers() else f"{said} once you log in (`loginctl enable-linger`: at once)"
    if any(_is_ours(line, one) for one in homes for line in _recent_crontab()):
        return "installed: after a reboot, your crontab wakes them"
    return NOT_INSTALLED


def runs_systemd() -> bool:
    """Whether systemd runs this machine, and units for this user."""
    if not os.path.isdir(_BOOTED) or shutil.which("systemctl") is None:
        return False
    return _run(["systemctl", "--user", "show-environment"]).returncode == 0


# The crontab


def command(home: Path) -> str:
    """Return the command that wakes the schedules of a home, for a shell."""
    words = [f"TASKAPI_HOME={shlex.quote(str(home))}", shlex.quote(sys.executable), "-m", "taskapi_jupyter.ui.cli"]
    return " ".join([*words, "schedule", "wake", ">/dev/null"])


def _lines(home: Path) -> list[str]:
    # A percent sign ends a command, unless a backslash is before it.
    line = command(home).replace("%", r"\%")
    return [f"@reboot {line} {_mark(home)}", f"*/15 * * * * {line} {_mark(home)}"]


def _mark(home: Path) -> str:
    """Return the comment of the shell that a line of ours ends with."""
    return f"# taskapi_jupyter: schedules of {home}".replace("%", r"\%")


def _is_ours(line: str, home: Path) -> bool:
    return line.rstrip().endswith(f" {_mark(home)}") and not line.lstrip().startswith("#")


def _crontab() -> list[str]:
    """Return the lines of this user's crontab; none where there is no crontab."""
    done = _run(["crontab", "-l"])
    if done.returncode == 0:
        return done.stdout.splitlines()
    if "no crontab" in done.stderr.lower():
        return []
    raise Unavailable(f"`crontab -l` failed, so that nothing was changed: {_said(done)}")


def _write_crontab(lines: list[str]) -> None:
    _known.clear()
    done = _run(["crontab", "-"], "".join(f"{line}\n" for line in lines))
    if done.returncode != 0:
        raise Unavailable(f"`crontab -` failed: {_said(done)}")


_known: dict[str, tuple[float, list[str]]] = {}
_one_at_a_time = threading.Lock()


def _recent_crontab() -> list[str]:
    """Return the lines of the crontab as they were a moment ago, none where they can't be read."""
    if shutil.which("crontab") is None:
        return []
    with _one_at_a_time:
        at, lines = _known.get("", (float("-inf"), []))
        if time.monotonic() - at > _FRESH:
            try:
                lines = _crontab()
            except Unavailable:
                lines = []
            _known[""] = (time.monotonic(), lines)
        return lines


# systemd


def _folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "systemd" / "user"


def _unit(home: Path) -> str:
    """Return the name of a home's units."""
    return f"taskapi-schedules-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"


def _units(home: Path) -> dict[Path, str]:
    # KillMode: the supervisor that the command starts is to go on when the command has ended.
    service = (
        f"[Unit]\nDescription=Wake the schedules of taskapi_jupyter in {_specified(str(home))}\n\n"
        f"[Service]\nType=oneshot\nKillMode=process\n"
        f"Environment={_quoted(f'TASKAPI_HOME={home}')}\n"
        f"ExecStart={_quoted(sys.executable, command=True)} -m taskapi_jupyter.ui.cli schedule wake\n"
    )
    timer = (
        "[Unit]\nDescription=Wake the schedules of taskapi_jupyter at the start and every 15 minutes\n\n"
        "[Timer]\nOnStartupSec=10s\nOnCalendar=*:0/15\n\n[Install]\nWantedBy=timers.target\n"
    )
    name = _unit(home)
    return {_folder() / f"{name}.service": service, _folder() / f"{name}.timer": timer}


def _specified(text: str) -> str:
    """Return a text in which a percent sign is one, and no specifier."""
    return text.replace("%", "%%")


def _quoted(text: str, *, command: bool = False) -> str:
    """Return a text as one word of a unit's file."""
    safe = _specified(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{safe.replace("$", "$$") if command else safe}"'


def _lingers() -> bool:
    try:
        return os.path.exists(os.path.join(_LINGER, getpass.getuser()))
    except (OSError, KeyError):  # a user without a name, as in some containers
        return False


def _linger_notes() -> list[str]:
    if _lingers():
        return []
    return ["it runs while you are logged in; `loginctl enable-linger` has it run from the start of the machine on"]


def _systemctl(*words: str) -> None:
    done = _run(["systemctl", "--user", *words])
    if done.returncode != 0:
        raise Unavailable(f"`systemctl --user {' '.join(words)}` failed: {_said(done)}")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).split())[:300] or f"exit code {done.returncode}"


def _run(command: list[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the system to its end; one that can't be run has failed."""
    environ = {**os.environ, "LC_ALL": "C"}  # messages are looked at
    try:
        return subprocess.run(
            command,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=environ,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer for {_TIMEOUT:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{error.strerror}")
