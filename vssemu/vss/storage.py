"""What the refusal of a file system is to an array and its users."""

import errno
from typing import Final

from vssemu.vss.errors import Fail, InsufficientStorage, InvalidArgument, VssError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_failure(what: str, item: str, error: OSError, *, log: str) -> VssError:
    """Return what an OSError of the pool means for `item`.

    what: the operation, for the message; log: where more is said. It is InsufficientStorage when
    there was no room, InvalidArgument for a size beyond the file system's, else Fail.
    """
    if error.errno in _NO_ROOM:
        return InsufficientStorage(
            f"{what} {item}: the pool has no room left",
            item=item,
            hint="delete LUNs or shadow copies, or give the pool more space",
        )
    if error.errno == errno.EFBIG:
        return InvalidArgument(f"{what} {item}: larger than a LUN of this pool can be", item=item)
    return Fail(f"{what} {item}: {error}", item=item, hint=f"see {log}")
