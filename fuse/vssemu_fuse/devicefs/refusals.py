"""Every way to change something through FUSE, refused with EROFS, for root too.

The mount is read-only, so the kernel refuses most of this before it asks; these answers
hold when root remounts it read-write.
"""

from __future__ import annotations

import errno
from typing import Never

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    RequestContext,
    SetattrFields,
    XAttrNameT,
)


def _refuse() -> Never:
    raise FUSEError(errno.EROFS)


class ReadOnlyOperations(pyfuse3.Operations):
    """The handlers of a file system in which nothing can be changed."""

    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Refuse chmod, chown, truncate and utimes."""
        _refuse()

    async def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Refuse a new node."""
        _refuse()

    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse a new directory."""
        _refuse()

    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """Refuse a new file."""
        _refuse()

    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse a new symbolic link."""
        _refuse()

    async def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Refuse a new name."""
        _refuse()

    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Refuse to remove a name."""
        _refuse()

    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Refuse to remove a directory."""
        _refuse()

    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """Refuse to rename."""
        _refuse()

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Refuse to write."""
        _refuse()

    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        """Refuse to set an extended attribute."""
        _refuse()

    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """Refuse to remove an extended attribute."""
        _refuse()
