"""What lies on a LUN: a partition table with file systems, or one file system on all of it.

Everything is read and written through the LUN's own descriptor, past every cache: a device
over the whole LUN and one over a partition do not see each other's. The attribute bits of a
file system on a whole LUN are kept by the array. Refuses to bind or mount.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID, uuid4, uuid5

import trio

from vssemu.host.storage import Storage
from vssemu.linux import directio, filesystems, gpt
from vssemu.linux.filesystems import FilesystemFacts
from vssemu.linux.gpt import BadTable, Gpt, GptAttribute
from vssemu.vss.array import View
from vssemu.vss.fabric import Arrived, HostBusAdapter
from vssemu.vss.host import SHADOW_FLAGS, GptFlags
from vssemu.vss.identity import LunId
from vssemu.vss.lun import Extent, Lun, LunInformation

T = TypeVar("T")

HEAD: Final = 68 << 10
"""Bytes at the beginning of a file system that tell which one it is."""

GRANULE: Final = 1 << 20
"""Sizes of LUNs, and places and sizes of partitions, are multiples of this many bytes."""

WHOLE: Final = 0
"""The number of what lies on a whole LUN; those of partitions begin with 1."""

_VOLUMES: Final = UUID("5f0c3d52-93a4-4c0e-8c3c-7d1be4a4f3d1")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionFacts:
    """One partition, or the file system on a whole LUN.

    number: as in the table, or WHOLE. filesystem: such as `ext4`, None if unknown.
    """

    number: int
    guid: UUID
    extent: Extent
    flags: GptFlags
    filesystem: str | None
    label: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLun:
    """A LUN of this host. disk_guid: None without a partition table. size: bytes."""

    id: LunId
    information: LunInformation
    size: int
    disk_guid: UUID | None
    partitions: tuple[PartitionFacts, ...]

    def as_lun(self, by_id: Path) -> Lun:
        """Return the LUN as providers are handed it."""
        return Lun(device_name=str(by_id / self.id), information=self.information)


async def read_lun(adapter: HostBusAdapter, storage: Storage, arrived: Arrived) -> KnownLun:
    """Return what a LUN holds; nothing that is known here gives no partitions.

    Raises OSError, and what `HostBusAdapter.open` and `Storage.flags` raise.
    """
    descriptor = await adapter.open(arrived.lun, View.LUN, writable=False)
    table, partitions, whole = await in_thread(descriptor, _read)
    if whole is not None:
        # Asked of the array only then: the bits of partitions are on the LUN.
        flags = await storage.flags(arrived.lun)
        partitions = (whole_facts(arrived.lun, arrived.size, whole, flags),)
    return KnownLun(
        id=arrived.lun,
        information=arrived.information,
        size=arrived.size,
        disk_guid=None if table is None else table.disk_guid,
        partitions=partitions,
    )


async def change_flags(
    adapter: HostBusAdapter, storage: Storage, lun: LunId, number: int, flags: GptFlags
) -> None:
    """Replace the attribute bits 60 to 63 of a partition, or of a whole LUN, durably.

    Raises OSError, BadTable, KeyError without such a partition, and what adapter and storage
    raise.
    """
    if number == WHOLE:
        await storage.set_flags(lun, flags)
        return

    def change(descriptor: int) -> None:
        old = gpt.read_table(descriptor).partition(number).attributes
        new = old & ~GptAttribute(SHADOW_FLAGS) | GptAttribute(flags)
        if new != old:
            gpt.change_partition(descriptor, number, attributes=new)

    await in_thread(await adapter.open(lun, View.LUN, writable=True), change)


async def change_identity(adapter: HostBusAdapter, known: KnownLun) -> None:
    """Give the disk and every partition of a LUN new GUIDs. Raises OSError, BadTable.

    A LUN without a table has none: what is on all of it has the LUN's own.
    """
    if known.disk_guid is None:
        return

    def change(descriptor: int) -> None:
        old = gpt.read_table(descriptor)
        partitions = tuple(replace(each, unique_guid=uuid4()) for each in old.partitions)
        gpt.write_table(descriptor, replace(old, disk_guid=uuid4(), partitions=partitions))

    await in_thread(await adapter.open(known.id, View.LUN, writable=True), change)


def guid_of_whole(lun: LunId) -> UUID:
    """Return the volume GUID of a file system on a whole LUN, the same on every host.

    No id of a LUN is given twice, so neither is a GUID; a copy has another one at once.
    """
    return uuid5(_VOLUMES, lun)


async def in_thread(descriptor: int, function: Callable[[int], T]) -> T:
    """Run a function on a LUN's descriptor in a thread, and close it in any case."""
    owned = [descriptor]

    def run() -> T:
        mine = owned.pop()
        try:
            return function(mine)
        finally:
            os.close(mine)

    try:
        return await trio.to_thread.run_sync(run)
    finally:
        # A cancelled task never starts the thread.
        for left in owned:
            os.close(left)


def _read(
    descriptor: int,
) -> tuple[Gpt | None, tuple[PartitionFacts, ...], FilesystemFacts | None]:
    try:
        table = gpt.read_table(descriptor)
    except BadTable:
        return None, (), filesystems.identify(directio.pread(descriptor, HEAD, 0))
    return table, tuple(_facts(descriptor, table, each) for each in table.partitions), None


def _facts(descriptor: int, table: Gpt, partition: gpt.Partition) -> PartitionFacts:
    offset, length = table.byte_range(partition.number)
    found = filesystems.identify(directio.pread(descriptor, min(HEAD, length), offset))
    return PartitionFacts(
        number=partition.number,
        guid=partition.unique_guid,
        extent=Extent(offset=offset, length=length),
        flags=GptFlags(partition.attributes & GptAttribute(SHADOW_FLAGS)),
        filesystem=None if found is None else found.kind.value,
        label=None if found is None else found.label or None,
    )


def whole_facts(
    lun: LunId, size: int, found: FilesystemFacts | None, flags: GptFlags
) -> PartitionFacts:
    """Return the facts of what lies on a whole LUN. size: of the LUN, bytes."""
    return PartitionFacts(
        number=WHOLE,
        guid=guid_of_whole(lun),
        extent=Extent(offset=0, length=size),
        flags=flags,
        filesystem=None if found is None else found.kind.value,
        label=None if found is None else found.label or None,
    )
