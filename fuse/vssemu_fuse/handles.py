"""Open files of the Image and the Properties view.

Owns the file handles. An open document keeps the text it was opened with, so a reader never
sees two texts mixed; an open image shares its copy's one descriptor.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from pyfuse3 import FileHandleT

from vssemu_fuse.catalog import Copy
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

    def add_document(self, copy: Copy) -> FileHandleT:
        """Return a new handle of the copy's properties."""
        return self._add(OpenDocument(copy, copy.document))

    def add_image(self, copy: Copy) -> FileHandleT:
        """Return a new handle of the copy's bytes. Raises OSError when the device is away."""
        facts = copy.facts
        image = self._images.setdefault(
            copy, RawImage(functools.partial(self._opener, facts.raw_major, facts.raw_minor))
        )
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
        image = self._images.pop(copy, None)
        if image is not None:
            await image.retire()

    def _add(self, opened: OpenDocument | RawImage) -> FileHandleT:
        handle = FileHandleT(next(self._numbers))
        self._open[handle] = opened
        return handle
