"""``python -m probflow`` is the command ``probflow``."""

from __future__ import annotations

import sys

from probflow.cli import main

sys.exit(main())
