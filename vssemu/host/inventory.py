"""What lies on a LUN: its partition table, and the file systems in its partitions.

Everything is read and written through the LUN's own descriptor, past every cache: a device
over the whole LUN and one over a partition do not see each other's. Refuses to bind or mount.
"""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import trio

from vssemu.linux import directio, filesystems, gpt
from vssemu.linux.gpt import BadTable, Gpt, GptAttribute
from vssemu.vss.array import View
from vssemu.vss.errors import BadState
from vssemu.vss.fabric import Arrived, HostBusAdapter
from vssemu.vss.host import SHADOW_FLAGS, GptFlags
from vssemu.vss.identity import LunId
from vssemu.vss.lun import Extent, Lun, LunInformation

T = TypeVar("T")

MIB: Final = 1 << 20
_HEAD: Final = 68 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionFacts:
    """One partition. number: as in the table. filesystem: such as `ext4`, None if unknown."""

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


async def read_lun(adapter: HostBusAdapter, arrived: Arrived) -> KnownLun:
    """Return what a LUN holds; one without a whole partition table has no partitions.

    Raises OSError, and what `HostBusAdapter.open` raises.
    """
    descriptor = await adapter.open(arrived.lun, View.LUN, writable=False)
    table, partitions = await _in_thread(descriptor, _read)
    return KnownLun(
        id=arrived.lun,
        information=arrived.information,
        size=arrived.size,
        disk_guid=None if table is None else table.disk_guid,
        partitions=partitions,
    )


async def change_flags(
    adapter: HostBusAdapter, lun: LunId, number: int, flags: GptFlags
) -> GptFlags:
    """Replace the attribute bits 60 to 63 of a partition, durably; return those of before.

    Raises OSError, BadTable, KeyError without such a partition.
    """

    def change(descriptor: int) -> GptFlags:
        old = gpt.read_table(descriptor).partition(number).attributes
        new = old & ~GptAttribute(SHADOW_FLAGS) | GptAttribute(flags)
        if new != old:
            gpt.change_partition(descriptor, number, attributes=new)
        return GptFlags(old & GptAttribute(SHADOW_FLAGS))

    return await _in_thread(await adapter.open(lun, View.LUN, writable=True), change)


async def change_identity(adapter: HostBusAdapter, lun: LunId) -> None:
    """Give the disk and every partition of a LUN new GUIDs. Raises OSError, BadTable."""

    def change(descriptor: int) -> None:
        old = gpt.read_table(descriptor)
        partitions = tuple(replace(each, unique_guid=uuid.uuid4()) for each in old.partitions)
        gpt.write_table(descriptor, replace(old, disk_guid=uuid.uuid4(), partitions=partitions))

    await _in_thread(await adapter.open(lun, View.LUN, writable=True), change)


async def make_partition(adapter: HostBusAdapter, lun: LunId, size: int, name: str) -> None:
    """Write a table with one partition, as large as fits in whole MiB, to an empty LUN.

    Raises BadState when the LUN is not empty; OSError, BadTable.
    """

    def make(descriptor: int) -> None:
        ends = directio.pread(descriptor, _HEAD, 0) + directio.pread(
            descriptor, gpt.BLOCK_SIZE, size - gpt.BLOCK_SIZE
        )
        if any(ends):
            raise BadState(
                f"CreateVolume({lun}): the LUN is not empty",
                hint="a LUN with a partition table or a file system is not overwritten",
                item=lun,
            )
        usable_end = gpt.create_table(size, ()).last_usable * gpt.BLOCK_SIZE // MIB * MIB
        partition = gpt.Partition(
            number=1,
            type_guid=gpt.BASIC_DATA,
            unique_guid=uuid.uuid4(),
            first_lba=MIB // gpt.BLOCK_SIZE,
            last_lba=usable_end // gpt.BLOCK_SIZE - 1,
            name=name[: gpt.NAME_LENGTH],
        )
        gpt.write_table(descriptor, gpt.create_table(size, (partition,)))

    await _in_thread(await adapter.open(lun, View.LUN, writable=True), make)


async def _in_thread(descriptor: int, function: Callable[[int], T]) -> T:
    """Run a function on a descriptor in a thread, and close the descriptor in any case."""
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


def _read(descriptor: int) -> tuple[Gpt | None, tuple[PartitionFacts, ...]]:
    try:
        table = gpt.read_table(descriptor)
    except BadTable:
        return None, ()
    return table, tuple(_facts(descriptor, table, each) for each in table.partitions)


def _facts(descriptor: int, table: Gpt, partition: gpt.Partition) -> PartitionFacts:
    offset, length = table.byte_range(partition.number)
    found = filesystems.identify(directio.pread(descriptor, min(_HEAD, length), offset))
    return PartitionFacts(
        number=partition.number,
        guid=partition.unique_guid,
        extent=Extent(offset=offset, length=length),
        flags=GptFlags(partition.attributes & GptAttribute(SHADOW_FLAGS)),
        filesystem=None if found is None else found.kind.value,
        label=None if found is None else found.label or None,
    )
