"""Goes with the next release."""

from _taskapi_moved import load

load(__name__)
