"""Open files of the Image and the Properties view.

Owns the file handles. They are computed, never handed out, so that a file that was opened
before devicefs was killed can be read afterwards. The handle of an image is its inode number.
That of a document is a digest of its text: an open document keeps the text it was opened
with, so a reader never sees two texts mixed; one that changed while devicefs was away is stale.

The descriptor of an image is open for as long as the copy has names. A loop device lives while
somebody has it open: so a service that is killed finds the device bound when it comes back, and
a name never stands for a device that was given to another copy meanwhile.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from dataclasses import dataclass
from typing import Final

from pyfuse3 import FileHandleT

from vssemu_fuse.devicefs import names
from vssemu_fuse.devicefs.catalog import Catalog, Copy
from vssemu_fuse.devicefs.copies import DeviceObject
from vssemu_fuse.devicefs.devices import Devices
from vssemu_fuse.devicefs.image import RawImage
from vssemu_fuse.devicefs.names import CopyName, View

_DOCUMENT: Final = 1 << 63
"""The bit that no inode number has."""


@dataclass(slots=True)
class OpenDocument:
    """The properties of a copy as they were at open. opened: how often it is open so."""

    copy: Copy
    document: bytes
    opened: int = 0


class Handles:
    """The open files by handle. devices: where raw devices come from."""

    def __init__(self, catalog: Catalog, devices: Devices) -> None:
        self._catalog = catalog
        self._devices = devices
        self._documents: dict[int, OpenDocument] = {}
        self._images: dict[Copy, RawImage] = {}

    def keep(self, copy: Copy) -> None:
        """Hold a copy's device open until `retire`; idempotent. Raises OSError."""
        self._image_of(copy).open()

    def open_document(self, copy: Copy) -> FileHandleT:
        """Return the handle of the copy's properties as they are."""
        handle = _document_handle(copy)
        self._documents.setdefault(handle, OpenDocument(copy, copy.document)).opened += 1
        return FileHandleT(handle)

    def open_image(self, copy: Copy) -> FileHandleT:
        """Return the handle of the copy's bytes. Raises OSError when the device is away."""
        self.keep(copy)
        return FileHandleT(copy.inode(View.IMAGE))

    def get(self, handle: FileHandleT) -> bytes | RawImage:
        """Return what a handle stands for: a text or an image.

        Raises OSError: ESTALE when the copy is gone, or the text with a former devicefs.
        """
        if not handle & _DOCUMENT:
            name = names.node_of(handle)
            copy = self._catalog.named(name) if isinstance(name, CopyName) else None
            if copy is not None:
                return self._image_of(copy)
        elif handle in self._documents:
            opened = self._documents[handle]
            if self._catalog.numbered(opened.copy.facts.number) is opened.copy:
                return opened.document
        else:
            for copy in self._catalog.after(0):
                if _document_handle(copy) == handle:
                    return copy.document
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def release(self, handle: FileHandleT) -> None:
        """Close a handle; one that a former devicefs opened is closed already."""
        opened = self._documents.get(handle)
        if opened is not None:
            opened.opened -= 1
            if not opened.opened:
                del self._documents[handle]

    async def retire(self, copy: Copy) -> None:
        """Refuse reads of a removed copy's bytes; return when its device is closed."""
        image = self._images.pop(copy, None)
        if image is not None:
            await image.retire()
            self._devices.closed(copy.facts.raw_major, copy.facts.raw_minor)

    def _image_of(self, copy: Copy) -> RawImage:
        return self._images.setdefault(
            copy, RawImage(functools.partial(self._open_device, copy.facts))
        )

    def _open_device(self, facts: DeviceObject) -> int:
        """Open a copy's device. Raises OSError: ENODEV when it is free or another's by now."""
        fd = self._devices.open(facts.raw_major, facts.raw_minor)
        size = os.lseek(fd, 0, os.SEEK_END)
        if size != facts.size:
            os.close(fd)
            self._devices.closed(facts.raw_major, facts.raw_minor)
            device = f"{facts.raw_major}:{facts.raw_minor}"
            raise OSError(errno.ENODEV, f"{size} bytes instead of {facts.size}", device)
        return fd


def _document_handle(copy: Copy) -> int:
    inode = copy.inode(View.PROPERTIES).to_bytes(8, "big")
    digest = hashlib.blake2b(copy.document, digest_size=8, salt=inode).digest()
    return _DOCUMENT | int.from_bytes(digest, "big")
