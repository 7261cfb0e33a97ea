"""Telling the starter of this process that it serves, over a pipe that the starter passed."""

import contextlib
import os


def tell_ready(descriptor: int | None) -> None:
    """Write READY and close the descriptor; None: nobody asked.

    A starter that has given up, and closed its end, is no error. Raises OSError otherwise.
    """
    if descriptor is None:
        return
    try:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, b"READY\n")
    finally:
        os.close(descriptor)
