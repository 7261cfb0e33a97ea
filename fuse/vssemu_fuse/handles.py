"""Open files of the Image and the Properties view.

Owns the file handles. An open document keeps the text it was opened with, so a reader never
sees two texts mixed; an open image shares its copy's one descriptor.

That descriptor is open for as long as the copy has names. A loop device lives while somebody
has it open: so a service that is killed finds the device bound when it comes back, and a name
never stands for a device that was given to another copy meanwhile.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

from pyfuse3 import FileHandleT

from vssemu_fuse.catalog import Copy
from vssemu_fuse.copies import DeviceObject
from vssemu_fuse.image import RawImage


@dataclass(frozen=True, slots=True)
class OpenDocument:
    """The properties of a copy as they were at open."""

    copy: Copy
    document: bytes


class Handles:
    """The open files by handle. opener: opens a raw device by major and minor number."""

    def __init__(self, opener: Callable[[int, int], int]) -> None:
        self._opener = opener
        self._numbers = itertools.count(1)
        self._open: dict[int, OpenDocument | RawImage] = {}
        self._images: dict[Copy, RawImage] = {}
        self._kept: set[Copy] = set()

    def keep(self, copy: Copy) -> None:
        """Hold a copy's device open until `retire`; idempotent. Raises OSError."""
        if copy not in self._kept:
            self._image_of(copy).open()
            self._kept.add(copy)

    def add_document(self, copy: Copy) -> FileHandleT:
        """Return a new handle of the copy's properties."""
        return self._add(OpenDocument(copy, copy.document))

    def add_image(self, copy: Copy) -> FileHandleT:
        """Return a new handle of the copy's bytes. Raises OSError when the device is away."""
        image = self._image_of(copy)
        image.open()
        return self._add(image)

    def get(self, handle: FileHandleT) -> OpenDocument | RawImage:
        """Return what a handle stands for."""
        return self._open[handle]

    def remove(self, handle: FileHandleT) -> None:
        """Close a handle."""
        opened = self._open.pop(handle)
        if isinstance(opened, RawImage):
            opened.release()

    async def retire(self, copy: Copy) -> None:
        """Refuse reads of a removed copy's bytes; return when its device is closed."""
        self._kept.discard(copy)
        image = self._images.pop(copy, None)
        if image is not None:
            await image.retire()

    def _image_of(self, copy: Copy) -> RawImage:
        return self._images.setdefault(
            copy, RawImage(functools.partial(self._open_device, copy.facts))
        )

    def _open_device(self, facts: DeviceObject) -> int:
        """Open a copy's device. Raises OSError: ENODEV when it is free or another's by now."""
        fd = self._opener(facts.raw_major, facts.raw_minor)
        size = os.lseek(fd, 0, os.SEEK_END)
        if size != facts.size:
            os.close(fd)
            device = f"{facts.raw_major}:{facts.raw_minor}"
            raise OSError(errno.ENODEV, f"{size} bytes instead of {facts.size}", device)
        return fd

    def _add(self, opened: OpenDocument | RawImage) -> FileHandleT:
        handle = FileHandleT(next(self._numbers))
        self._open[handle] = opened
        return handle
