"""``notify``: who is told of jobs, what was sent, and tests."""

from __future__ import annotations

from argparse import Namespace

from taskapi_jupyter import environments
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.display import clean
from taskapi_jupyter.display.notifications import deliveries_text, names_text
from taskapi_jupyter.ui.verbs import names_to_notify

from .output import done, show


def listed(options: Namespace) -> None:
    """List the names of config.yaml."""
    names = environments.connect(options.env).notifications(limit=1).names
    show(options, lambda: (names, lambda look: names_text(names, look.width)))


def deliveries(options: Namespace) -> None:
    """List what was sent and what waits."""
    found = environments.connect(options.env).notifications(options.name, options.limit or 50).deliveries
    show(options, lambda: (found, lambda look: deliveries_text(found, look.width)))


def test(options: Namespace) -> int:
    """Send one test, and print what came back."""
    sent = environments.connect(options.env).test_notification(options.name)
    words = f"{clean(sent.name)}: {sent.state}: {clean(sent.answer or '')}"
    show(options, lambda: (sent, lambda look: words))
    return 0 if sent.state == "sent" else 1


def job(options: Namespace) -> None:
    """Set whom a job in progress tells."""
    api = environments.connect(options.env)
    found = Resolver(api, {}, None).one([options.job])
    message = api.notify(found, names_to_notify(options.names or True))
    show(options, lambda: done(message))
