"""``python -m taskapi_jupyter.cli``."""

import sys

from . import main

sys.exit(main())
