"""Commands that are the way to one of the programs below: this process becomes it."""

import os
import sys
from typing import NoReturn


def run_instead(module: str, *arguments: str) -> NoReturn:
    """Become `python -m module arguments`; pid, descriptors and environment stay.

    A provider needs that: the socket it was started with is addressed to its pid.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
