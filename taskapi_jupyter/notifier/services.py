"""Mail, chat and all else that apprise sends to. It is imported in the notifier's process alone: that takes a while."""

from __future__ import annotations

import logging
import threading
from typing import Any

from taskapi_jupyter.core.errors import BadRequest, Unavailable

from .attempt import SECONDS, Outcome, Target, within

#: What is missing where apprise is not installed.
MISSING = "{at} needs apprise, which is not installed here: pip install 'taskapi-jupyter[notify]'"


class Service:
    """Sends by apprise to one URL. Raises :class:`Unavailable` without apprise, :class:`BadRequest` for its URL."""

    def __init__(self, target: Target) -> None:
        self._target = target
        try:
            import apprise
        except ImportError:
            raise Unavailable(MISSING.format(at=f"notify.{target.name}")) from None
        self._apprise: Any = apprise
        asset = apprise.AppriseAsset(async_mode=False, secure_logging=True, app_id="TaskAPI", app_desc="TaskAPI")
        self._service: Any = apprise.Apprise(asset=asset)
        with _Heard() as heard:
            added = self._service.add(target.url)
        if not added:
            scheme = target.url.partition("://")[0][:40]
            what = f"apprise knows no {scheme}://" if not _knows(scheme) else f"apprise can't read its {scheme}:// URL"
            raise BadRequest(target.masked(f"notify.{target.name}: {what}{heard.told if _knows(scheme) else ''}"))

    def send(self, title: str, text: str, good: bool | None) -> Outcome:
        """Send once; ``good`` says whether it is about a success, None: about neither that nor a failure."""
        kinds = self._apprise.NotifyType
        kind = kinds.INFO if good is None else kinds.SUCCESS if good else kinds.FAILURE

        def attempt() -> Outcome:
            with _Heard() as heard:
                try:
                    form = self._apprise.NotifyFormat.TEXT
                    sent = self._service.notify(body=text, title=title, notify_type=kind, body_format=form)
                except Exception as error:  # of one of a hundred services
                    return Outcome("again", self._target.masked(f"{type(error).__name__}: {error}"))
            if sent:
                return Outcome("sent", "accepted")
            return Outcome("again", self._target.masked(f"apprise could not send it{heard.told}"))

        return within(SECONDS, attempt, lambda: None)


def _knows(scheme: str) -> bool:
    try:
        from apprise.manager_plugins import NotificationManager

        known: Any = NotificationManager
        return scheme.lower() in known()
    except Exception:  # another version of apprise
        return True


class _Heard(logging.Handler):
    """What apprise logs in this thread: it raises nothing, and its answer is yes or no."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread, self._texts = threading.get_ident(), list[str]()

    @property
    def told(self) -> str:
        """Return the last of it, after a colon."""
        return f": {self._texts[-1]}" if self._texts else ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._texts.append(record.getMessage())

    def __enter__(self) -> _Heard:
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
