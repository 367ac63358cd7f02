"""The files of a deployed version: ``apis/API_ID``, which holds what its tasks are started with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from taskapi_jupyter.core import files, folders, room
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.service.retention import NEW

if TYPE_CHECKING:
    from taskapi_jupyter.deploy.api_spec.build import APISpec


def write(apis: Path, built: APISpec) -> None:
    """Write a version's files into the folder of versions, all or none; nothing where they are there already."""
    folder = apis / built.api_id
    if folder.exists():
        return
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=apis, prefix=NEW))
        temporary.chmod(0o700)
        for name, content in built.files.items():
            if isinstance(content, Path):
                files.link_synced(content, temporary / name)
            else:
                files.write(temporary / name, content, sync=True)
        fault_point("deploy.temporary")
        temporary.rename(folder)
    except OSError as error:
        if temporary is not None:
            folders.remove(temporary)
        if not folder.exists():  # else another process wrote the same
            raise room.cannot_write(str(folder), error) from None
