"""``python -m tests.faults``: the long campaign."""

import sys

from tests.faults.campaign import main

sys.exit(main())
