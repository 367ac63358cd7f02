"""For a supervisor of 0.3.0 that is still alive: tidying, where it is now. Goes with the next release."""

from .service.retention import main  # noqa: F401
