"""Completion in a shell, with argcomplete. It never raises, prints or takes long: slow answers are left out."""

from __future__ import annotations

import os
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from taskapi_jupyter import environments as environments_
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.display.packages import SHORT

from .output import show

SHELLS = ("bash", "zsh", "fish")
PATIENCE = 1.5  # seconds for all queries of one Tab
_PROGRAM = "jupyter-taskapi"


def script(options: Namespace) -> None:
    """Print the code that makes a shell ask this program for words, after ``jupyter taskapi``, too."""
    from argcomplete.shell_integration import shellcode

    # This program answers for jupyter as well, which would start the subcommand on the line.
    code = shellcode(["jupyter", _PROGRAM], shell=options.shell, argcomplete_script=_PROGRAM)
    show(options, lambda: ({"shell": options.shell, "script": code}, lambda look: code.rstrip("\n")))


def complete(parser: ArgumentParser) -> None:
    """Answer a shell by argcomplete's protocol, and exit."""
    import argcomplete
    from argcomplete.completers import SuppressCompleter

    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until this process ends
    words = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))].split(" ")
    words = [word for word in words[:-1] if word]
    if os.environ["_ARGCOMPLETE"] == "1" and words and Path(words[0]).name == "jupyter":
        if len(words) == 1:
            from jupyter_core.command import jupyter_parser

            parser = jupyter_parser()
        elif words[1] == "taskapi":
            os.environ["_ARGCOMPLETE"] = "2"
        else:  # another subcommand, which may take files
            parser = ArgumentParser("jupyter")
            vars(parser.add_argument("words", nargs="*"))["completer"] = files
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=SuppressCompleter())


# Completers, which argcomplete calls


def environments(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of environments."""
    return _asked(lambda: [one.name for one in environments_.environments().environments])


def apis(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of deployed APIs."""
    return _asked(lambda: [api.name for api in _connect(parsed_args).get()])


def jobs(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the newest jobs, of one API where it is given: their last digits and their ids."""

    def ask() -> Iterable[str]:
        of = getattr(parsed_args, "api", None)
        ids = [job.id for job in _connect(parsed_args).jobs(of, limit=20)]
        return [*(job_id[-6:] for job_id in ids), *ids, "last"]

    return _asked(ask)


def apis_and_jobs(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return APIs and jobs."""
    return [*apis(prefix, parsed_args), *jobs(prefix, parsed_args)]


def groups(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of the newest groups, and the ids of those that have none."""
    return _asked(lambda: [group.short for group in _connect(parsed_args).groups(20)])


def jobs_and_groups(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return APIs, jobs and groups."""
    return [*apis_and_jobs(prefix, parsed_args), *groups(prefix, parsed_args)]


def files_of_job(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the files of the job on the line."""

    def ask() -> Iterable[str]:
        job = Resolver(_connect(parsed_args), {}, None).one([parsed_args.job])
        return [one.path for one in job.api.files(job)]

    return _asked(ask)


def files(prefix: str, **_: object) -> list[str]:
    """Return files."""
    return _files(prefix, ())


def deployable_files(prefix: str, **_: object) -> list[str]:
    """Return files that can be deployed."""
    return _files(prefix, ("yaml", "yml", "ipynb"))


def apis_and_notebooks(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of deployed APIs, and notebooks."""
    return [*apis(prefix, parsed_args), *_files(prefix, ("ipynb",))]


def requirements(prefix: str, **_: object) -> list[str]:
    """Return the files that may say which packages jobs need, and the words that stand for them."""
    return [*files(prefix), *(word for word in ("auto", "none") if word.startswith(prefix))]


def packages(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the keys of environments of packages, by their first digits."""
    return _asked(lambda: [one.key[:SHORT] for one in _connect(parsed_args).packages()])


def schedules(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of schedules."""
    return _asked(lambda: [one.name for one in _connect(parsed_args).schedules_response().schedules])


def notifications(prefix: str, parsed_args: Namespace, **_: object) -> list[str]:
    """Return the names of notifications."""
    return _asked(lambda: [one.name for one in _connect(parsed_args).notifications(limit=1).names])


def kernels(prefix: str, **_: object) -> list[str]:
    """Return the names of kernelspecs."""
    from taskapi_jupyter.deploy.packages.kernels import folders

    return _asked(lambda: sorted(folders()))


def _files(prefix: str, endings: tuple[str, ...]) -> list[str]:
    from argcomplete.completers import FilesCompleter

    return list(FilesCompleter(endings)(prefix))


def _connect(parsed_args: Namespace) -> Any:
    return environments_.connect(getattr(parsed_args, "env", None))


def _asked(ask: Callable[[], Iterable[str]]) -> list[str]:
    """Return the words that ``ask`` returns, none if it fails or takes long."""
    words: list[str] = []

    def run() -> None:
        try:
            words.extend(ask())
        except Exception:  # there is no place to report it
            pass

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return list(words)
