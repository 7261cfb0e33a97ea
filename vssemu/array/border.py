"""The place where an OSError of the machine becomes an error of the array."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from vssemu.vss.errors import Fail, InsufficientStorage, InvalidArgument

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


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
        if error.errno in _NO_ROOM:
            raise InsufficientStorage(
                f"{what} {item}: the pool has no room left",
                item=item,
                hint="delete LUNs or shadow copies, or give the pool more space",
            ) from error
        if error.errno == errno.EFBIG:
            raise InvalidArgument(
                f"{what} {item}: larger than a LUN of this pool can be", item=item
            ) from error
        raise Fail(f"{what} {item}: {error}", item=item, hint="see the array's log") from error
