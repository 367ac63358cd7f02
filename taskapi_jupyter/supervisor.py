"""For clients of 0.3.0 that are still alive: the supervisor, where it is now. Goes with the next release."""

from .service.supervisor.supervisor import main  # noqa: F401
