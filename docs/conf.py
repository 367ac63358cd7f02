"""Sphinx settings."""

from taskapi_jupyter._version import __version__

project = "taskapi_jupyter"
release = version = __version__
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
