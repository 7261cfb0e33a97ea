"""Disks that lose what was not flushed when their power goes: the image and stores of a chain.

Every write goes through to the file at once, so the death of lunfs loses nothing; what blocks
contained before is remembered until a flush of their disk covers it. A power loss puts a
random part of that back. It costs one more read a write, so it is switched on by need.

A discard of much is a write of much, and would have to be read: beyond LARGEST_DISCARD bytes
of data it counts as durable at once.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vssemu.linux import directio
from vssemu.linux.aio import Rooms
from vssemu_fuse.lunfs.faults.history import BLOCK, History, Restored
from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.disk import Disk, FileDisk
from vssemu_fuse.lunfs.io.work import Gate, Operation, Tally, Work

LARGEST_DISCARD: Final = 16 << 20
_ROOM: Final = 1 << 20
_STRIDE: Final = 0xD1B54A32D192ED03


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """What a power loss did. blocks: how many could have been lost. lost: how many were."""

    blocks: int
    lost: int


class Power:
    """The supply that the disks of one chain share. is_off: all they are asked for fails."""

    def __init__(self) -> None:
        self.is_off = False
        self.disks: dict[str, VolatileDisk] = {}
        self.under_way = Tally()
        self._rooms: list[memoryview] = []

    @property
    def pending(self) -> int:
        """How many bytes a loss could take back now."""
        return sum(disk.history.pending for disk in self.disks.values())

    def lose(self, seed: int, disks: Sequence[Disk]) -> Operation[Lost]:
        """Go off, wait for what the files are being asked, and take a part of it back.

        disks: in an order that means the same each time; others of the supply follow.
        Raises OSError, with an unknown part taken back, which is a power loss as well.
        """
        self.is_off = True
        while self.under_way.count:
            yield self.under_way.none
        ordered = [disk for disk in disks if isinstance(disk, VolatileDisk)]
        ordered += [disk for _, disk in sorted(self.disks.items()) if disk not in ordered]
        blocks = lost = 0
        for number, disk in enumerate(ordered):
            blocks += disk.history.pending // BLOCK
            # Blocks of the same number have different fates on different disks.
            restored = disk.history.lose(seed + number * _STRIDE)
            lost += len(restored)
            yield disk.restore(restored)
        return Lost(blocks=blocks, lost=lost)

    def take_room(self, size: int) -> memoryview:
        """Borrow page-aligned memory of at least so many bytes, until `give_room`."""
        if size <= _ROOM and self._rooms:
            return self._rooms.pop()
        return aligned(max(size, _ROOM))

    def give_room(self, room: memoryview) -> None:
        """Give memory back."""
        if len(room) == _ROOM:
            self._rooms.append(room)


class VolatileDisk:
    """A file with O_DIRECT at a power supply. A `Disk`. name: the same one after a restart."""

    def __init__(self, file: FileDisk, name: str, power: Power) -> None:
        self.file = file
        self._name = name
        self._power = power
        self._writing: dict[object, tuple[int, int]] = {}
        self._written = Gate()
        self.history = History()
        power.disks[name] = self

    @property
    def size(self) -> int:
        """Bytes."""
        return self.file.size

    @size.setter
    def size(self, size: int) -> None:
        self.file.size = size

    def read(self, rooms: Rooms, offset: int) -> Operation[int]:
        """As `Disk.read`; EIO without power."""
        return self._doing(self.file.read(rooms, offset))

    def write(self, rooms: Rooms, offset: int) -> Operation[int]:
        """As `Disk.write`; EIO without power, and when it goes meanwhile."""
        length = len(rooms) if isinstance(rooms, memoryview) else sum(map(len, rooms))
        return self._write(rooms, offset, length)

    def _write(self, rooms: Rooms, offset: int, length: int) -> Operation[int]:
        # Two writes to one block under way would leave it to chance which content came first.
        while any(offset < end and start < offset + length for start, end in self._spans()):
            yield self._written
        key = object()
        self._writing[key] = offset, offset + length
        try:
            before = self._power.take_room(length)
            yield self._doing(self.file.read(before[:length], offset))
            change = self.history.begin(offset // BLOCK, before[:length], length // BLOCK)
            self._power.give_room(before)
            try:
                done: int = yield self._doing(self.file.write(rooms, offset))
            finally:
                # One that failed has left anything, and that is what a flush makes durable.
                self.history.done(change)
            return done
        finally:
            del self._writing[key]
            self._written.open()

    def _spans(self) -> list[tuple[int, int]]:
        return list(self._writing.values())

    def flush(self) -> Operation[object]:
        """As `Disk.flush`: of this disk alone. EIO without power."""
        covered = self.history.now
        yield self._doing(self.file.flush())
        self.history.flushed(covered)
        return None

    def zero(self, offset: int, length: int) -> None:
        """As `Disk.zero`; raises OSError, EIO without power."""
        self._refuse_if_off()
        extents = list(self.file.data_extents(offset, length))
        if sum(size for _, size in extents) > LARGEST_DISCARD:
            self.file.zero(offset, length)
            self.history.forget(offset // BLOCK, length // BLOCK)
            return
        changes = []
        for start, size in extents:
            before = directio.pread(self.file.fileno(), size, start)
            changes.append(self.history.begin(start // BLOCK, before, size // BLOCK))
        self.file.zero(offset, length)
        for change in changes:
            self.history.done(change)

    def data_extents(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """As `Disk.data_extents`; raises OSError, EIO without power."""
        self._refuse_if_off()
        return self.file.data_extents(offset, length)

    def refresh(self) -> None:
        """As `Disk.refresh`."""
        self.file.refresh()

    def unplug(self) -> None:
        """Leave the power supply: what was written is not lost any more."""
        if self._power.disks.get(self._name) is self:
            del self._power.disks[self._name]

    def close(self) -> None:
        """As `Disk.close`."""
        self.unplug()
        self.file.close()

    def restore(self, blocks: list[Restored]) -> Operation[None]:
        """Put contents of blocks back, whatever the power. Raises OSError."""
        for run in _runs(blocks):
            offset, length = run[0].block * BLOCK, len(run) * BLOCK
            if run[0].content is None:
                self.file.zero(offset, length)
                continue
            room = self._power.take_room(length)
            room[:length] = b"".join(one.content or b"" for one in run)
            yield self.file.write(room[:length], offset)
            self._power.give_room(room)

    def _doing(self, work: Work[int]) -> Operation[int]:
        self._refuse_if_off()
        tally = self._power.under_way
        tally.count += 1
        try:
            done: int = yield work
        finally:
            tally.left()
        # Done or not: nobody is told any more.
        self._refuse_if_off()
        return done

    def _refuse_if_off(self) -> None:
        if self._power.is_off:
            raise OSError(errno.EIO, "the power is off", self._name)


def _runs(blocks: list[Restored]) -> Iterator[list[Restored]]:
    """Yield neighbours that can be put back at once, 1 MiB at most."""
    run: list[Restored] = []
    for one in blocks:
        fits = (
            run
            and one.block == run[-1].block + 1
            and (one.content is None) == (run[-1].content is None)
            and len(run) < _ROOM // BLOCK
        )
        if run and not fits:
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _is_disk(disk: VolatileDisk) -> Disk:
    return disk
