"""``python -m taskapi_jupyter.notifier [HOME]``: send all that waits, with the variables of who calls this."""

from __future__ import annotations

import sys

from taskapi_jupyter.service.home import default_home

from . import main

main(sys.argv[1] if len(sys.argv) > 1 else str(default_home()), everything=True)
