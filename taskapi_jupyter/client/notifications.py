"""What a ``TaskAPI`` does with notifications: webhooks, mail and chat that config.yaml names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskapi_jupyter.core.contract import Delivery, NotificationsResponse
from taskapi_jupyter.core.errors import NotKept

if TYPE_CHECKING:
    from .job import Job


class NotificationAPI:
    """The part of :class:`TaskAPI` that is about notifications."""

    environment: str

    # What environments answer; a Cortex cluster sends none.

    def notifications(self, name: str | None = None, limit: int = 50) -> NotificationsResponse:
        """Return the names that config.yaml has, and the newest deliveries, of one name or of all; 1 to 1000."""
        raise no_notifications(self.environment)

    def test_notification(self, name: str) -> Delivery:
        """Send one test under a name, wait for the answer, and return it."""
        raise no_notifications(self.environment)

    def notify(self, job: Job | str, names: Sequence[str]) -> str:
        """Have a job in progress notify these names, and no others, when it ends; none: nobody. Return a message."""
        raise no_notifications(self.environment)


def no_notifications(environment: str) -> NotKept:
    """Return the error of an environment that sends none."""
    return NotKept(
        f"environment {environment} is a Cortex cluster, whose jobs' ends are seen only while somebody looks: use "
        "job.on_done, or the browser's notifications"
    )
