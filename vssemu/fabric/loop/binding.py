"""Binding a part of an image to a loop device, and never the same part twice.

An image is known by device and inode of its descriptor. A device of this host that is bound to
the same part in the same way is adopted: a predecessor left it, with a file system on it. One
that is bound to overlapping bytes otherwise would be a second, blind view of them: refused,
after a short wait for one that is just going.

Direct I/O that is asked and not given is switched off without an error, so what came of a
binding is read from /sys and compared.

Source: drivers/block/loop.c; loop(4).
"""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from vssemu.fabric.loop.lunfiles import is_same_lun, opened_path
from vssemu.fabric.loop.nodes import Nodes
from vssemu.linux import loop, statx
from vssemu.linux.loop import LoopFlag, LoopStatus
from vssemu.vss.fabric import BoundDevice

BLOCK_SIZE: Final = 4096
BINDING_LIMIT: Final = 10.0
"""Seconds; a binding that others do not dispute takes milliseconds."""
RETRY_SECONDS: Final = 0.02

Reserve = Callable[[], Awaitable[int]]


async def bind(
    backing: int, offset: int, length: int, *, writable: bool, nodes: Nodes, reserve: Reserve
) -> tuple[BoundDevice, int]:
    """Return a device over a part of an open image, and the descriptor that keeps it bound.

    backing: opened read-only for a read-only device. offset, length: bytes, multiples of 4096.
    Raises OSError: EBUSY when the bytes are bound otherwise or no device is to be had, EINVAL
    when the kernel does not give direct I/O, the size or the block size.
    """
    file = statx.identity(backing)
    may_be = is_same_lun(opened_path(backing))
    deadline = trio.current_time() + BINDING_LIMIT
    while True:
        ours = await trio.to_thread.run_sync(_bindings_here, file, may_be)
        overlapping = [each for each in ours if _overlaps(each, offset, length)]
        if not overlapping:
            number = await reserve()
            await nodes.make(number)
            bound = await trio.to_thread.run_sync(
                _configure, number, backing, offset, length, writable
            )
            if bound is not None:
                return _describe(number, offset, length, writable=writable), bound
        elif _is_alike(overlapping[0], offset, length, writable=writable):
            number = overlapping[0].number
            adopted = await trio.to_thread.run_sync(_adopt, number, file, writable)
            if adopted is not None:
                return _describe(number, offset, length, writable=writable), adopted
        if trio.current_time() >= deadline:
            found = ", ".join(f"loop{each.number}" for each in overlapping) or "every device"
            raise OSError(errno.EBUSY, f"{found} is in the way", f"image inode {file[1]}")
        await trio.sleep(RETRY_SECONDS)


def _describe(number: int, offset: int, length: int, *, writable: bool) -> BoundDevice:
    return BoundDevice(
        node=str(loop.node(number)),
        number=number,
        major=loop.MAJOR,
        minor=number,
        offset=offset,
        length=length,
        read_only=not writable,
    )


def _bindings_here(file: tuple[int, int], may_be: Callable[[str], bool]) -> list[LoopStatus]:
    """Return this host's bindings of an image: the devices that it has nodes of.

    Other hosts' bindings are the array's to refuse; here they cannot even be opened.
    may_be: tells of a file's name whether it may be the image's.
    """
    found = []
    for number in loop.bound_numbers():
        name = loop.backing_file(number)
        if name is None or not may_be(name):
            continue
        try:
            fd = loop.open_device(number)
        except OSError:
            continue
        try:
            status = loop.status(fd)
        except OSError:
            continue
        finally:
            os.close(fd)
        if (status.device, status.inode) == file:
            found.append(status)
    return found


def _overlaps(found: LoopStatus, offset: int, length: int) -> bool:
    end = found.offset + found.size_limit if found.size_limit else None
    return found.offset < offset + length and (end is None or offset < end)


def _is_alike(found: LoopStatus, offset: int, length: int, *, writable: bool) -> bool:
    same = (found.offset, found.size_limit) == (offset, length)
    return same and (LoopFlag.READ_ONLY in found.flags) == (not writable)


def _adopt(number: int, file: tuple[int, int], writable: bool) -> int | None:
    """Open a bound device, and look again whether it still is bound to the image."""
    try:
        fd = loop.open_device(number, os.O_RDWR if writable else os.O_RDONLY)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    try:
        status = loop.status(fd)
        if (status.device, status.inode) == file:
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _configure(number: int, backing: int, offset: int, length: int, writable: bool) -> int | None:
    """Bind a free device; None when somebody else was faster."""
    flags = LoopFlag.AUTOCLEAR | LoopFlag.DIRECT_IO
    flags |= LoopFlag(0) if writable else LoopFlag.READ_ONLY
    fd = loop.open_device(number, os.O_RDWR if writable else os.O_RDONLY)
    try:
        loop.configure(
            fd, backing, block_size=BLOCK_SIZE, flags=flags, offset=offset, size_limit=length
        )
        _verify(number, length, writable=writable)
    except OSError as error:
        # Closing the only descriptor frees an autoclear device.
        os.close(fd)
        if error.errno == errno.EBUSY:
            return None
        raise
    return fd


def _verify(number: int, length: int, *, writable: bool) -> None:
    facts = loop.sysfs_facts(number)
    wanted = {
        "direct I/O": (True, facts is not None and facts.direct_io),
        "block size": (BLOCK_SIZE, None if facts is None else facts.logical_block_size),
        "size": (length, None if facts is None else facts.size),
        "read-only": (not writable, None if facts is None else facts.read_only),
    }
    for what, (asked, found) in wanted.items():
        if asked != found:
            text = f"{what}: asked for {asked}, the kernel gave {found}"
            raise OSError(errno.EINVAL, text, str(loop.node(number)))
