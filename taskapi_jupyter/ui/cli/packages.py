"""``packages``: the environments that were built from requirements."""

from __future__ import annotations

from argparse import Namespace

from taskapi_jupyter import environments
from taskapi_jupyter.client.job_lookup import Unclear
from taskapi_jupyter.display.packages import environment_text, packages_text

from .output import done, show


def listed(options: Namespace) -> None:
    """List them, those used last first."""
    found = environments.connect(options.env).packages()
    show(options, lambda: (list(found), lambda look: packages_text(found, look.width)))


def shown(options: Namespace) -> None:
    """Show one."""
    found = environments.connect(options.env).packages().find(options.key)
    show(options, lambda: (found, lambda look: environment_text(found)))


def purge(options: Namespace) -> None:
    """Delete these, or all that no job in progress needs."""
    if options.keys and options.older_than is not None:
        raise Unclear("--older-than chooses among all environments: leave it out, or the keys")
    api = environments.connect(options.env)
    said = [api.delete_packages(key) for key in options.keys] or [api.purge_packages(options.older_than)]
    show(options, lambda: done("\n".join(said)))
