"""``schedule``: what submits jobs again and again, and what wakes it after this machine was started."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET

from taskapi_jupyter import environments
from taskapi_jupyter.client.job_lookup import Unclear
from taskapi_jupyter.client.schedules.schedule import Schedule
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.errors import BadRequest, NotKept, TaskAPIError, Unavailable
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.display import clean
from taskapi_jupyter.display.schedules import schedule_text, schedules_text, times_text
from taskapi_jupyter.service import reboot
from taskapi_jupyter.service.home import default_home
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.service.supervisor.wake import Waker, wake
from taskapi_jupyter.ui.verbs import OF_ATTEMPTS, OF_SCHEDULES, VERBS

from . import verbs
from .output import done, show, tell

_PAIR = re.compile(r"[^\W\d]\w*=")
_NEXT = 5  # times that are shown where no number is given


def listed(options: Namespace) -> None:
    """List schedules, and say whether they survive a reboot."""
    api = _connect(options)

    def read() -> Any:
        found = api.schedules_response()
        hint = None if found.hint is UNSET else found.hint
        return found, lambda look: schedules_text(found.schedules, hint, look.short, look.width)

    show(options, read)


def add(options: Namespace) -> None:
    """Make a schedule; a notebook is deployed first."""
    when, pairs = _when_and_pairs(options.words)
    config = verbs.config_of(options.config, pairs)
    if not when:
        raise Unclear('when? Quote it after the API: "0 6 * * MON-FRI", "every 15m", @daily or "at 2026-12-24T18:00"')
    if not notebook.is_notebook(options.api) and (
        given := [one.name for one in VERBS["schedule"].notebook_options if getattr(options, one.key, None)]
    ):
        raise Unclear(f"{given[0]} is for a notebook: give the path of a file that ends in .ipynb")
    api, name = _connect(options), options.api
    made = (*OF_ATTEMPTS, *OF_SCHEDULES)
    more = {one.key: value for one in made if (value := getattr(options, one.key)) not in (None, False)}
    if notebook.is_notebook(name):
        of_file = Namespace(**{**vars(options), "name": None})  # which is the schedule's
        name, _ = verbs.notebook_of(api, of_file, config)
    times = {"timeout": options.timeout, "run_timeout": options.run_timeout}
    try:
        schedule = api.schedule(name, when, config=config or None, **times, **more)
    except NotKept as error:  # where nothing was made, that is a failure
        raise BadRequest(str(error)) from None
    _shown(options, schedule)


def _when_and_pairs(words: Sequence[str]) -> tuple[str, list[str]]:
    """Separate when a schedule fires, in one word or several, from the configuration."""
    pairs = [word for word in words if _PAIR.match(word)]
    return " ".join(word for word in words if word not in pairs), pairs


def shown(options: Namespace) -> None:
    """Show one schedule."""
    _shown(options, _schedule(options))


def pause(options: Namespace) -> None:
    """Have a schedule fire no more."""
    _shown(options, _schedule(options).pause())


def resume(options: Namespace) -> None:
    """Have a schedule fire again."""
    _shown(options, _schedule(options).resume())


def run(options: Namespace) -> int:
    """Submit a job of a schedule now, and wait for it with ``--wait``."""
    job = _schedule(options).run()
    if options.wait:
        return verbs.ended(options, [job], None)
    verbs.submitted(options, job)
    return 0


def delete(options: Namespace) -> None:
    """Delete a schedule; its jobs stay."""
    message = _schedule(options).delete()
    show(options, lambda: done(message))


def following(options: Namespace) -> None:
    """Show the next times of a schedule, or of one that is not made."""
    text, count = " ".join(options.words), options.count or _NEXT
    if len(options.words) > 1 or " " in text or text.startswith("@"):
        found = _connect(options).preview_schedule(text, options.tz, count)
    elif options.tz is not None:
        raise Unclear("--tz goes with when a schedule would fire; one that there is has its own time zone")
    else:
        found = _named(_connect(options), text).preview(count)
    show(options, lambda: (found, lambda look: times_text(found)))


def _connect(options: Namespace) -> TaskAPI:
    return environments.connect(options.env)


def _schedule(options: Namespace) -> Schedule:
    return _named(_connect(options), options.name)


def _named(api: TaskAPI, name: str) -> Schedule:
    return Schedule(api, api.schedule_status(name))


def _shown(options: Namespace, schedule: Schedule) -> None:
    show(options, lambda: (schedule.record, lambda look: schedule_text(schedule.record)))


# What survives a reboot, of this machine alone


def install(options: Namespace) -> int:
    """Print what has schedules woken after a reboot, and with ``--write`` install it."""
    home = default_home()
    plan = reboot.plan(home)
    for note in plan.notes:
        tell(note)
    files = {str(path): text for path, text in plan.files.items()}
    value = {"kind": plan.kind, "lines": plan.lines, "files": files, "notes": plan.notes, "written": options.write}
    if options.write:
        reboot.install(home, plan)
        where = "your crontab" if plan.kind == "crontab" else ", ".join(files)
        show(options, lambda: (value, lambda look: clean(f"written to {where}: {reboot.hint(home)}")))
        return 0
    tell("nothing is written: --write does that")
    text = "\n".join([*plan.lines, *(f"# {path}\n{text}" for path, text in files.items())])
    show(options, lambda: (value, lambda look: text))
    return 0


def uninstall(options: Namespace) -> None:
    """Remove what ``install --write`` wrote for this home, and nothing else."""
    removed = reboot.uninstall(default_home())
    message = f"removed {' and '.join(removed)}" if removed else "nothing was installed for this home"
    show(options, lambda: done(message))


def awake(options: Namespace) -> None:
    """Start a supervisor where an active schedule has none."""
    woken, failed = 0, []
    for home in _homes(default_home()):
        try:
            woken += _wake(home)
        except TaskAPIError as error:  # the other homes are woken all the same
            failed.append(str(error))
    if failed:
        raise Unavailable("; ".join(failed))
    message = "schedules were woken" if woken else "nothing to do"
    show(options, lambda: done(message))


def _homes(home: Path) -> Iterator[Path]:
    """Yield a home, and those below it of environments that have their own."""
    entries = environments.load(home).environments
    yield from dict.fromkeys([home, *(environments.jobs_home(home, entry) for entry in entries)])


def _wake(home: Path) -> bool:
    """Start a supervisor of a home that has an active schedule, unless one runs; return whether one was started."""
    database = HomePaths(home).database
    if not database.is_file():
        return False
    store = Store(database)
    try:
        if store.next_firing() is None:
            return False
    finally:
        store.close()
    waker = Waker(str(home))
    if waker.alive():
        return False
    waker.check_place()
    wake(str(home))
    return True
