"""The other versions of Python on this machine."""

from __future__ import annotations

import glob
import os
import subprocess
import sys


def other_interpreters() -> list[str]:
    """Return one interpreter for each other minor version of Python from 3.8 on that is to be found here."""
    patterns = ["~/.pyenv/versions/*/bin/python", "~/.local/share/uv/python/*/bin/python3"]
    patterns += [os.path.join(folder, "python3.[0-9]*") for folder in os.get_exec_path()]
    found: dict[tuple[int, ...], str] = {}
    for path in (path for pattern in patterns for path in sorted(glob.glob(os.path.expanduser(pattern)))):
        minor = os.path.basename(path).removeprefix("python3.")
        if minor.startswith(tuple("0123456789")) and (
            not minor.isdigit() or int(minor) < 8 or (3, int(minor)) in {*found, sys.version_info[:2]}
        ):
            continue  # python3.11-config and the like; and to ask what pyenv puts on PATH is slow, a shell script each
        code = "import sys; print(*sys.version_info[:2])"
        try:
            told = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=20, check=True).stdout
            version = tuple(map(int, told.split()))
        except (OSError, ValueError, subprocess.SubprocessError):
            continue  # what is not chosen in pyenv
        if version >= (3, 8) and version != sys.version_info[:2]:
            found.setdefault(version, path)
    return [found[version] for version in sorted(found)]


OTHERS = other_interpreters()
