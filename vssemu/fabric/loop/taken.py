"""Loop devices that an array has taken for its hosts, in the sight of all arrays there are.

From the choice of a free device to its binding, by another process, a device looks free to
everybody. So each array locks the byte of /dev/loop-control whose position is the device's
number: a name that all arrays of the machine share, that leaves no file behind, and that ends
with its holder whatever kills it. Whoever does not ask here, as losetup, can still be faster.
"""

import os

from vssemu.linux import locks, loop


class TakenDevices:
    """The devices that one array has taken; `close` gives all back."""

    def __init__(self) -> None:
        self._control: int | None = None

    def take(self, device: int) -> bool:
        """Take a device; return False when another array has it. Raises OSError."""
        if self._control is None:
            self._control = os.open(loop.CONTROL, os.O_RDWR | os.O_CLOEXEC)
        return locks.try_lock_byte(self._control, device)

    def give_back(self, device: int) -> None:
        """Let others have a device. Raises OSError."""
        if self._control is not None:
            locks.unlock_byte(self._control, device)

    def close(self) -> None:
        """Let others have all devices."""
        if self._control is not None:
            os.close(self._control)
            self._control = None
