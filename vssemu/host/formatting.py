"""New volumes: a partition of a LUN, or all of it, and the file system in it.

What is on a LUN already is never overwritten, and what was begun and failed is taken off it
again. Called under the agent's lock.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

import structlog
import trio

from vssemu.host.border import vss_error
from vssemu.host.inventory import GRANULE, HEAD, WHOLE, KnownLun, in_thread
from vssemu.linux import directio, filesystems, gpt
from vssemu.linux.gpt import BadTable, Gpt
from vssemu.rpc.errors import RpcError
from vssemu.vss.array import View
from vssemu.vss.errors import BadState, InvalidArgument, VssError
from vssemu.vss.fabric import BoundDevice, HostBusAdapter
from vssemu.vss.identity import LunId

FORMAT_LIMIT: Final = 300.0
"""Seconds that mkfs may take."""

_MIB: Final = 1 << 20
_MAKERS: Final = {"ext4": filesystems.make_ext4, "xfs": filesystems.make_xfs}
_LABEL_BYTES: Final = {"ext4": 16, "xfs": 12}
_LEAST: Final = {"ext4": _MIB, "xfs": filesystems.XFS_LEAST}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewVolume:
    """A volume that is asked for. size: bytes, None for the largest room; label: "" is none."""

    lun: LunId
    filesystem: str
    label: str
    size: int | None
    whole: bool

    def check(self) -> None:
        """Raise InvalidArgument for what no LUN could have."""
        if self.filesystem not in _MAKERS:
            hint = f"choose one of {', '.join(_MAKERS)}"
            raise self.refused(f"no file system {self.filesystem!r}", self.filesystem, hint)
        if len(self.label.encode()) > _LABEL_BYTES[self.filesystem]:
            raise self.refused(
                f"the label {self.label!r} is too long for {self.filesystem}", self.label
            )
        if self.whole and self.size is not None:
            raise self.refused("a volume on the whole LUN has the LUN's size", str(self.size))
        if self.size is not None and (self.size <= 0 or self.size % GRANULE):
            raise self.refused(f"{self.size} bytes are no multiple of 1 MiB", str(self.size))
        if self.size is not None:
            self.check_room(self.size)

    def check_room(self, length: int) -> None:
        """Raise InvalidArgument when the file system needs more bytes."""
        least = _LEAST[self.filesystem]
        if length < least:
            raise self.refused(
                f"{self.filesystem} needs {least // _MIB} MiB, there are {length // _MIB}",
                self.filesystem,
                "a partition table takes 2 MiB of its LUN",
            )

    def refused(self, fact: str, item: str, hint: str | None = None) -> InvalidArgument:
        """Return the refusal of an argument."""
        return InvalidArgument(f"CreateVolume({self.lun}): {fact}", hint=hint, item=item)


@asynccontextmanager
async def room_made(
    adapter: HostBusAdapter, known: KnownLun, wanted: NewVolume
) -> AsyncIterator[int]:
    """Make the room for a volume and give its number; when the block fails it is free again.

    Raises BadState, InvalidArgument, OSError, BadTable, and what the adapter raises.
    """
    make = _take_all if wanted.whole else _add_partition
    descriptor = await adapter.open(known.id, View.LUN, writable=True)
    number = await in_thread(descriptor, lambda fd: make(fd, known, wanted))
    try:
        yield number
    except BaseException:
        with trio.CancelScope(shield=True):
            await _undo(adapter, known, number)
        raise


def make_filesystem(device: BoundDevice, wanted: NewVolume) -> None:
    """Make the file system on the volume's device. Raises ProgramFailed, FileNotFoundError."""
    _MAKERS[wanted.filesystem](device.node, timeout=FORMAT_LIMIT, label=wanted.label)


async def _undo(adapter: HostBusAdapter, known: KnownLun, number: int) -> None:
    def undo(descriptor: int) -> None:
        if number == WHOLE:
            _wipe(descriptor, known)
        else:
            _remove_partition(descriptor, known, number)

    try:
        await in_thread(await adapter.open(known.id, View.LUN, writable=True), undo)
    except (OSError, RpcError, VssError, BadTable) as error:
        reason = str(vss_error(error, f"undo of a volume on {known.id}"))
        _log.error("volume half made", lun=known.id, number=number, reason=reason)


def _take_all(descriptor: int, known: KnownLun, wanted: NewVolume) -> int:
    """Return WHOLE: nothing marks a LUN that is to be formatted as a whole."""
    wanted.check_room(known.size)
    _check_empty(descriptor, known)
    return WHOLE


def _check_empty(descriptor: int, known: KnownLun) -> None:
    """Raise BadState for a LUN that is not empty."""
    last = known.size - gpt.BLOCK_SIZE
    ends = directio.pread(descriptor, HEAD, 0) + directio.pread(descriptor, gpt.BLOCK_SIZE, last)
    if any(ends):
        raise BadState(
            f"CreateVolume({known.id}): the LUN is not empty",
            hint="a LUN with a partition table or a file system is not overwritten",
            item=known.id,
        )


def _add_partition(descriptor: int, known: KnownLun, wanted: NewVolume) -> int:
    """Put a partition into the LUN's table, or a new one; return its number."""
    table = _table(descriptor, known)
    gaps = sorted(table.gaps(GRANULE), key=len, reverse=True)
    largest = len(gaps[0]) if gaps else 0
    size = largest if wanted.size is None else wanted.size
    fitting = [gap for gap in gaps if len(gap) >= max(size, GRANULE)]
    if not fitting:
        raise BadState(
            f"CreateVolume({known.id}): the LUN is not empty and has room for"
            f" {largest // _MIB} MiB"
            + ("" if wanted.size is None else f", {wanted.size // _MIB} are asked for"),
            hint="extend the LUN, or use another one",
            item=known.id,
        )
    wanted.check_room(size)
    # The first one that is large enough, so that the order of making is that on the LUN.
    start = min(gap.start for gap in fitting)
    taken = {each.number for each in table.partitions}
    number = next(n for n in range(1, table.entry_count + 1) if n not in taken)
    partition = gpt.Partition(
        number=number,
        type_guid=gpt.BASIC_DATA,
        unique_guid=uuid4(),
        first_lba=start // gpt.BLOCK_SIZE,
        last_lba=(start + size) // gpt.BLOCK_SIZE - 1,
        name=wanted.label[: gpt.NAME_LENGTH],
    )
    gpt.write_table(descriptor, table.with_partition(partition))
    return number


def _table(descriptor: int, known: KnownLun) -> Gpt:
    try:
        return gpt.read_table(descriptor)
    except BadTable:
        _check_empty(descriptor, known)
        return gpt.create_table(known.size, ())


def _remove_partition(descriptor: int, known: KnownLun, number: int) -> None:
    """Take a partition out of the table, and the table away if this program just made it."""
    table = gpt.read_table(descriptor)
    others = tuple(each for each in table.partitions if each.number != number)
    if known.disk_guid is None:
        gpt.erase_table(descriptor, table)
    else:
        gpt.write_table(descriptor, replace(table, partitions=others))


def _wipe(descriptor: int, known: KnownLun) -> None:
    directio.pwrite(descriptor, bytes(_MIB), 0)
    directio.pwrite(descriptor, bytes(_MIB), known.size - _MIB)
