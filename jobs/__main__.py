"""`python -m jobs` is the console script `longtake`."""

import sys

from jobs.cli import main

sys.exit(main())
