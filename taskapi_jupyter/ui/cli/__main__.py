"""``python -m taskapi_jupyter.ui.cli``."""

import sys

from . import main

sys.exit(main())
