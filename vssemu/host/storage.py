"""What a host asks of the array beside LUNs and their bytes."""

from collections.abc import Sequence
from typing import Protocol

from vssemu.api import array
from vssemu.fabric.arraylink import ArrayLink
from vssemu.vss.host import GptFlags
from vssemu.vss.identity import Initiator, LunId
from vssemu.vss.lun import LunInformation


class Storage(Protocol):
    """The array's initiator interface, as far as the host agent uses it."""

    async def flags(self, lun: LunId) -> GptFlags:
        """Return the attribute bits that the array keeps with a LUN."""
        ...

    async def set_flags(self, lun: LunId, flags: GptFlags) -> None:
        """Replace the attribute bits that the array keeps with a LUN, durably."""
        ...

    async def discard_scratch(self, lun: LunId) -> None:
        """Remove the scratch clone of a copy; idempotent."""
        ...

    async def retract(self, records: Sequence[LunInformation]) -> None:
        """Mask LUNs that are detached from this host."""
        ...

    async def share(self, record: LunInformation, initiator: Initiator) -> None:
        """Unmask a LUN whose record this host holds to a host."""
        ...

    async def reclaim(self, record: LunInformation) -> None:
        """Delete a copy for good; idempotent."""
        ...

    async def set_independent(self, records: Sequence[LunInformation]) -> None:
        """Note that a set was broken: its copies are plain LUNs from now on."""
        ...

    async def set_import_failed(self, records: Sequence[LunInformation]) -> None:
        """Note that copies of this host's failed import wait for their clean-up."""
        ...


class ArrayStorage:
    """`Storage` over the host's line to the array. Raises as `ArrayLink.call`."""

    def __init__(self, link: ArrayLink) -> None:
        self._link = link

    async def flags(self, lun: LunId) -> GptFlags:
        """Return the attribute bits that the array keeps with a LUN."""
        return GptFlags(await self._link.call(array.lun_flags, lun))

    async def set_flags(self, lun: LunId, flags: GptFlags) -> None:
        """Replace the attribute bits that the array keeps with a LUN, durably."""
        await self._link.call(array.set_lun_flags, lun, int(flags))

    async def discard_scratch(self, lun: LunId) -> None:
        """Remove the scratch clone of a copy; idempotent."""
        await self._link.call(array.discard_scratch, lun)

    async def retract(self, records: Sequence[LunInformation]) -> None:
        """Mask LUNs that are detached from this host."""
        await self._link.call(array.retract, list(records))

    async def share(self, record: LunInformation, initiator: Initiator) -> None:
        """Unmask a LUN whose record this host holds to a host."""
        await self._link.call(array.share, record, initiator)

    async def reclaim(self, record: LunInformation) -> None:
        """Delete a copy for good; idempotent."""
        await self._link.call(array.reclaim, record)

    async def set_independent(self, records: Sequence[LunInformation]) -> None:
        """Note that a set was broken: its copies are plain LUNs from now on."""
        await self._link.call(array.set_independent, list(records))

    async def set_import_failed(self, records: Sequence[LunInformation]) -> None:
        """Note that copies of this host's failed import wait for their clean-up."""
        await self._link.call(array.set_import_failed, list(records))
