"""The place where an OSError of the machine becomes an error of the array."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from vssemu.vss.storage import storage_failure

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@contextmanager
def storage(what: str, item: str) -> Iterator[None]:
    """Turn an OSError inside the block into a VssError about `item`, and log it.

    what: the operation, for the message. Raises InsufficientStorage when there was no room,
    InvalidArgument for a size beyond the file system's, else Fail.
    """
    try:
        yield
    except OSError as error:
        logger.error("storage_failed", what=what, item=item, exc_info=error)
        raise storage_failure(what, item, error, log="the array's log") from error
