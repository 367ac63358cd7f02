"""What a deploy would do, for a dry run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from taskapi_jupyter.core.contract import DeployPlan, Interpreter

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.api_spec.build import APISpec


def plan(built: APISpec) -> DeployPlan:
    """Return the plan of a deploy: what runs the task, what travels, what it gets. Of variables it has the names."""
    launch = built.launch
    packages, is_notebook = launch.get("packages"), launch["kind"] == "notebook"
    kernel = launch["notebook"]["kernel"]["name"] if is_notebook else (built.spec.get("definition") or {}).get("kernel")
    return DeployPlan(
        python=Interpreter(**launch["interpreter"]) if "interpreter" in launch else UNSET,
        kernel=kernel or UNSET,
        requirements=packages["requirements"] if packages else [],
        packages=packages["packages"] if packages else UNSET,
        files={
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in sorted(built.files.items())
        },
        variables=sorted(launch["env"]),
        folder=launch["cwd"],
    )
