"""`python -m spatialme` is `spatialme`."""

import sys

from spatialme.cli import main

sys.exit(main())
