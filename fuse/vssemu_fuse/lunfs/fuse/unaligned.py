"""Reads and writes that are not of whole blocks, for views that know whole blocks alone.

Direct I/O from memory that lies across pages is cut by the kernel at any 512 bytes, and who
reads a LUN's file without a loop device may ask for any byte. All of it goes through one room,
one at a time: two halves of a write that was cut share a block, and none may be lost.
"""

from __future__ import annotations

from typing import Final

from vssemu_fuse.lunfs.io.buffers import aligned
from vssemu_fuse.lunfs.io.view import BLOCK, View
from vssemu_fuse.lunfs.io.work import Gate, Operation

_ROOM: Final = 1 << 18


class Unaligned:
    """The room, and whose turn it is."""

    def __init__(self) -> None:
        self._room = aligned(_ROOM)
        self._is_taken = False
        self._left = Gate()

    def read(self, view: View, room: memoryview, offset: int) -> Operation[int]:
        """Fill the room from any offset on, inside the size; give its length."""
        yield from self._enter()
        try:
            done = 0
            while done < len(room):
                skip = (offset + done) % BLOCK
                wanted = min(len(room) - done, _ROOM - skip)
                blocks = self._room[: -(-(skip + wanted) // BLOCK) * BLOCK]
                yield view.read(blocks, offset + done - skip)
                room[done : done + wanted] = blocks[skip : skip + wanted]
                done += wanted
        finally:
            self._leave()
        return done

    def write(self, view: View, data: memoryview, offset: int) -> Operation[int]:
        """Write from any offset on, inside the size; give the length."""
        yield from self._enter()
        try:
            done = 0
            while done < len(data):
                skip = (offset + done) % BLOCK
                wanted = min(len(data) - done, _ROOM - skip)
                blocks = self._room[: -(-(skip + wanted) // BLOCK) * BLOCK]
                if len(blocks) != wanted:
                    yield view.read(blocks, offset + done - skip)
                blocks[skip : skip + wanted] = data[done : done + wanted]
                yield view.write(blocks, offset + done - skip)
                done += wanted
        finally:
            self._leave()
        return done

    def _enter(self) -> Operation[None]:
        while self._is_taken:
            yield self._left
        self._is_taken = True

    def _leave(self) -> None:
        self._is_taken = False
        self._left.open()
