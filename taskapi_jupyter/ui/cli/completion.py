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

from .output import show

SHELLS = ("bash", "zsh", "fish")
PATIENCE = 1.5  # seconds for all queries of one Tab
_PROGRAM = "jupyter-taskapi"


def script(options: Namespace) -> None:
    """Print the code that makes a shell ask this program for words, after ``jupyter taskapi``, too."""
    from argcomplete.shell_integration import shellcode

    # This program answers for jupyter as well, which would start the subcommand on the line.
    code = shellcode(["jupyter", _PROGRAM], shell=options.shell, argcomplete_script=_PROGRAM)
    show(options, lambda: ({"shell": options.shell, "script": code}, lambda colour: code.rstrip("\n")))


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


def files(prefix: str, **_: object) -> list[str]:
    """Return files."""
    return _files(prefix, ())


def yaml_files(prefix: str, **_: object) -> list[str]:
    """Return files that can be deployed."""
    return _files(prefix, ("yaml", "yml"))


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
