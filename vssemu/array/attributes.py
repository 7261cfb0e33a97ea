"""The attribute bits of LUNs: read-only, shadow copy, hidden, no drive letter.

A partition has them in its table. A file system on a whole LUN has no table, so they are kept
here, and go with the LUN wherever it is unmasked to; a copy gets those of its origin's instant.
Refuses to act on them: hosts do.
"""

from typing import Final

import structlog

from vssemu.array.core import Core, visible
from vssemu.array.tables import Tables
from vssemu.vss.errors import InvalidArgument
from vssemu.vss.host import SHADOW_FLAGS
from vssemu.vss.identity import Initiator, LunId

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SHIFT: Final = 60
"""Bit 63 fits into no signed word, so the journal has the four bits alone."""


class Attributes:
    """What initiators note of the LUNs that they see."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, initiator: Initiator, lun: LunId) -> int:
        """Return a LUN's bits, a mask of GptFlags. Raises ObjectNotFound."""

        def read(tables: Tables) -> int:
            return tables.lun_flags(visible(tables, lun, initiator).id) << _SHIFT

        return await self._core.journal.read(read)

    async def replace(self, initiator: Initiator, lun: LunId, flags: int) -> None:
        """Replace a LUN's bits, durably. Raises ObjectNotFound, InvalidArgument."""
        if flags & ~int(SHADOW_FLAGS):
            raise InvalidArgument(
                f"LUN {lun}: 0x{flags:x} has other bits than 60 to 63", item=f"0x{flags:x}"
            )

        def write(tables: Tables) -> None:
            tables.set_lun_flags(visible(tables, lun, initiator).id, flags >> _SHIFT)

        await self._core.journal.change(write)
        logger.info("lun_flags", lun=lun, flags=f"0x{flags:x}", initiator=initiator)
