"""Where a sparse file has data (SEEK_DATA, SEEK_HOLE; lseek(2))."""

import errno
import os
from collections.abc import Iterator


def data_extents(fd: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of what is not known to be a hole, in order, below `end`.

    Each is looked for when it is asked for. Moves the position of the file. Raises OSError.
    """
    while offset < end:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        if start >= end:
            return
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        yield start, offset - start
