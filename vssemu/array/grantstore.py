"""The fabric's table of loop devices, kept in the journal."""

from collections.abc import Mapping

from vssemu.array.journal import Journal
from vssemu.array.tables import Tables
from vssemu.vss.identity import Initiator


class JournalGrants:
    """Implements `vssemu.fabric.loop.grants.GrantStore`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def load(self) -> Mapping[int, Initiator]:
        """Return the devices that were given, and to whom."""
        return await self._journal.read(Tables.grants)

    async def add(self, device: int, initiator: Initiator) -> None:
        """Keep that a device was given."""
        await self._journal.change(Tables.add_grant, device, initiator)

    async def remove(self, device: int) -> None:
        """Keep that a device is nobody's."""
        await self._journal.change(Tables.remove_grant, device)
