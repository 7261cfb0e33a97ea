"""Events of block devices, straight from the kernel: no udev daemon is needed.

Thin over pyudev. Every network namespace gets the events of the whole machine, and a loop
device that is bound or freed gives a `change` only: an event says that something may be
different, never what belongs to whom.

Source: pyudev.Monitor; lib/kobject_uevent.c; netlink(7).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

import pyudev

from vssemu.linux.blockdev import DeviceNumber

# A burst of many devices coming at once must not overrun the socket.
_RECEIVE_BUFFER: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockEvent:
    """action: "add", "remove", "change", ... name: as in /sys/class/block, such as "loop3"."""

    action: str
    name: str
    device: DeviceNumber
    sequence: int


class BlockMonitor:
    """An open socket on which the kernel announces changes of block devices.

    Closed by `close`, or at the end of a `with` block.
    """

    def __init__(self) -> None:
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        self._monitor.filter_by("block")
        self._monitor.set_receive_buffer_size(_RECEIVE_BUFFER)
        self._monitor.start()
        self._closed = False

    def __enter__(self) -> BlockMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable with an event; -1 once closed."""
        return -1 if self._closed else int(self._monitor.fileno())

    def receive_nowait(self) -> BlockEvent | None:
        """Return the next event that is waiting; None when there is none.

        Raises OSError: ENOBUFS when events were lost, after which everything must be
        looked at anew; EBADF when closed.
        """
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "block events")
        try:
            device = self._monitor.poll(timeout=0)
        except OSError as error:
            error.filename = "block events"
            raise
        if device is None:
            return None
        number = device.device_number
        return BlockEvent(
            action=device.action or "",
            name=device.sys_name,
            device=DeviceNumber(major=os.major(number), minor=os.minor(number)),
            sequence=device.sequence_number,
        )

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._closed = True
        # pyudev closes the descriptor when its last reference goes.
        self._monitor = None
