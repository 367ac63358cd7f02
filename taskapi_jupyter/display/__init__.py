"""Jobs, APIs, deploys and environments as text and as HTML. Pure functions; only the standard library is imported."""

from __future__ import annotations

from .formats import age, clean, duration, moment
from .html import (
    api_html,
    apis_html,
    deploy_html,
    environments_html,
    group_html,
    job_html,
    jobs_html,
    overview_html,
    progress_html,
)
from .text import (
    api_text,
    apis_text,
    deploy_text,
    environments_text,
    files_text,
    group_text,
    job_text,
    jobs_text,
    kernel_text,
    progress_text,
)

__all__ = [
    "age",
    "api_html",
    "api_text",
    "apis_html",
    "apis_text",
    "clean",
    "deploy_html",
    "deploy_text",
    "duration",
    "environments_html",
    "environments_text",
    "files_text",
    "group_html",
    "group_text",
    "job_html",
    "job_text",
    "jobs_html",
    "jobs_text",
    "kernel_text",
    "moment",
    "overview_html",
    "progress_html",
    "progress_text",
]
