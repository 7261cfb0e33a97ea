"""The FUSE requests of devicefs and their answers.

Owns names, attributes, time-outs, access, and when a look-up waits. Refuses to mount
anything: it asks, through `Surfacer`, and the service mounts.

Access: the root directory is 0550 root:operators, so everybody else gets EACCES there from
the kernel (default_permissions); below it nothing distinguishes one reader from another.

Look-ups of `Device/<name>`, and why they are as they are:

1.  A walker that asks for a name the kernel has no dentry of (a *fresh* look-up) holds the
    view's lock and a place that every other walker of that name queues behind, the service
    too. If it waited for the tree, the service could not get there to mount it.
2.  A look-up of a name whose dentry the kernel has is a *re-validation*: it holds no lock,
    and keeps the dentry. This one may wait. The kernel then crosses into the mount that
    appeared meanwhile.
3.  A request does not tell which of the two it is. So a look-up waits only when it cannot be
    fresh: while the service has the directory open (it says so by fstat on its descriptor),
    or when this very thread was in the bare directory a moment ago. Any other is answered at
    once, with the bare directory and no time-out.
4.  Whoever walked on into the bare directory gets ESTALE from everything there. For ESTALE
    the kernel walks the path once more, forcing re-validation: that walk waits, by rule 3.
5.  An error in answer to a re-validation makes the kernel drop the dentry, and with it
    whatever is mounted on it or pinned. So a look-up of a name that exists never fails: when
    the tree could not be mounted the use of the bare directory gives EIO.
6.  The service's own threads are never kept waiting and never get ESTALE.
7.  Once the tree is mounted its name is good for an hour: a walk needs devicefs no more, and
    outlives it. All other names are looked up each time, so they are gone at once. The
    attributes of the bare directory are never cached; a mounted tree hides them.
8.  Listing gives the kernel dentries without time-out, and asks nobody for a tree.

Nothing tells the kernel to forget a *name* (FUSE_NOTIFY_INVAL_ENTRY): it takes the view's
lock, in a thread of devicefs. A devicefs killed just then can neither answer the walker who
holds the lock nor die, and nor can the walker; only umount -f ends that. It happened.

Source: Linux 6.18, fs/fuse/dir.c (fuse_dentry_revalidate, fuse_lookup,
fuse_reverse_inval_entry), fs/namei.c (lookup_fast, __lookup_slow, filename_lookup),
fs/dcache.c (d_invalidate, d_alloc_parallel).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ReaddirToken,
    RequestContext,
    StatvfsData,
    XAttrNameT,
)

from vssemu_fuse.devicefs import names
from vssemu_fuse.devicefs.border import answered
from vssemu_fuse.devicefs.catalog import Catalog, Copy, Surface
from vssemu_fuse.devicefs.handles import Handles
from vssemu_fuse.devicefs.image import RawImage
from vssemu_fuse.devicefs.names import CopyName, View, ViewDirectory
from vssemu_fuse.devicefs.refusals import ReadOnlyOperations
from vssemu_fuse.devicefs.surfacing import Surfacer

LONG: Final = 3600.0
"""Seconds that a name or an attribute which does not change is good for."""

_DIRECTORY: Final = stat.S_IFDIR | 0o555
_MODES: Final = {
    View.DEVICE: _DIRECTORY,
    View.RAW_DEVICE: stat.S_IFBLK | 0o440,
    View.IMAGE: stat.S_IFREG | 0o440,
    View.PROPERTIES: stat.S_IFREG | 0o444,
}


class DeviceOperations(ReadOnlyOperations):
    """Answers the kernel from a catalog.

    operators_gid: the group that may use the names. born_ns: when the mount was made. remember:
    called when something has changed that a successor must know.
    """

    supports_dot_lookup = False

    def __init__(
        self,
        catalog: Catalog,
        surfacer: Surfacer,
        handles: Handles,
        *,
        operators_gid: int,
        born_ns: int,
        remember: Callable[[], None],
    ) -> None:
        super().__init__()
        self._catalog = catalog
        self._surfacer = surfacer
        self._gid = operators_gid
        self._born_ns = born_ns
        self._handles = handles
        self._remember = remember

    @answered
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Return the entry of a name, waiting for a tree by the rules above."""
        if parent_inode == names.ROOT:
            view = names.parse_view_name(name)
            if view is None:
                raise FUSEError(errno.ENOENT)
            return self._view_attributes(view)
        parent = names.node_of(parent_inode)
        if isinstance(parent, CopyName):
            self._refuse_bare_use(parent, ctx)
            raise FUSEError(errno.ENOENT)
        copy = self._copy_called(name)
        if copy is None or parent is None:
            raise FUSEError(errno.ENOENT)
        if parent.view is View.DEVICE and not self._is_server(ctx):
            await self._wait_for_tree(copy, ctx.pid)
        return self._attributes(copy, parent.view)

    async def _wait_for_tree(self, copy: Copy, thread: int) -> None:
        if copy.surface is Surface.MOUNTED:
            return
        if not copy.may_wait(thread, time.monotonic()):
            copy.answered_bare(thread, time.monotonic())
            return
        copy.waiting.add(thread)
        try:
            await self._surfacer.wait_surfaced(copy)
        finally:
            copy.waiting.discard(thread)
        if self._catalog.numbered(copy.facts.number) is not copy:
            raise FUSEError(errno.ENOENT)

    @answered
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        if inode == names.ROOT:
            return self._directory(names.ROOT, stat.S_IFDIR | 0o550)
        node = names.node_of(inode)
        if isinstance(node, ViewDirectory):
            return self._view_attributes(node.view)
        copy = self._living(node)
        assert isinstance(node, CopyName)
        if node.view is View.DEVICE:
            self._refuse_bare_use(node, ctx)
            if not copy.is_pinned:
                copy.is_pinned = True
                self._remember()
        return self._attributes(copy, node.view)

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return the figures of a file system without room."""
        figures = StatvfsData()
        figures.f_bsize = figures.f_frsize = 4096
        figures.f_namemax = 255
        return figures

    @answered
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Return the inode as handle; a bare Device directory opens for the server alone."""
        node = names.node_of(inode)
        if isinstance(node, CopyName):
            self._refuse_bare_use(node, ctx)
        return inode

    @answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List a directory without surfacing anything; positions are copy numbers."""
        if fh == names.ROOT:
            for position, view in enumerate(list(View)[start_id:], start_id + 1):
                attributes = self._view_attributes(view)
                pyfuse3.readdir_reply(token, view.value.encode(), attributes, position)
            return
        node = names.node_of(fh)
        if not isinstance(node, ViewDirectory):
            self._living(node)
            return
        for copy in self._catalog.after(start_id):
            number = copy.facts.number
            name = names.copy_name(number).encode()
            attributes = self._attributes(copy, node.view)
            if not pyfuse3.readdir_reply(token, name, attributes, number):
                return

    @answered
    async def releasedir(self, fh: FileHandleT) -> None:
        """Forget an open directory."""

    @answered
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file of the Image or the Properties view for reading."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise FUSEError(errno.EROFS)
        node = names.node_of(inode)
        copy = self._living(node)
        assert isinstance(node, CopyName)
        if node.view is View.PROPERTIES:
            # The text may change under the same inode: nothing of it is cached.
            return FileInfo(fh=self._handles.open_document(copy), direct_io=True)
        assert node.view is View.IMAGE
        return FileInfo(fh=self._handles.open_image(copy), keep_cache=True)

    @answered
    async def read(  # type: ignore[override]  # pyfuse3 takes any buffer
        self, fh: FileHandleT, off: int, size: int
    ) -> bytes | memoryview:
        """Return bytes of an open file."""
        opened = self._handles.get(fh)
        if isinstance(opened, RawImage):
            return await opened.read(off, size)
        return opened[off : off + size]

    @answered
    async def release(self, fh: FileHandleT) -> None:
        """Close an open file."""
        self._handles.release(fh)

    @answered
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """Return one member of the properties."""
        try:
            return self._xattrs(inode, ctx)[name]
        except KeyError:
            raise FUSEError(pyfuse3.ENOATTR) from None

    @answered
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """Return the names of the properties' members."""
        return list(self._xattrs(inode, ctx))

    def _xattrs(self, inode: InodeT, ctx: RequestContext) -> dict[bytes, bytes]:
        node = names.node_of(inode)
        if not isinstance(node, CopyName):
            return {}
        if node.view is View.DEVICE:
            self._refuse_bare_use(node, ctx)
        return self._living(node).xattrs

    def _copy_called(self, name: bytes) -> Copy | None:
        number = names.parse_copy_name(name)
        return None if number is None else self._catalog.numbered(number)

    def _living(self, node: CopyName | ViewDirectory | None) -> Copy:
        copy = self._catalog.named(node) if isinstance(node, CopyName) else None
        if copy is None:
            raise FUSEError(errno.ESTALE)
        return copy

    def _refuse_bare_use(self, name: CopyName, ctx: RequestContext) -> None:
        """Let only the server use the directory that a tree ought to cover."""
        copy = self._living(name)
        if self._is_server(ctx):
            return
        if copy.surface is Surface.FAILED:
            raise FUSEError(errno.EIO)
        copy.used_bare(ctx.pid, time.monotonic())
        if not copy.is_pinned:
            # Its second walk must wait, for whichever devicefs gets it.
            self._remember()
        raise FUSEError(errno.ESTALE)

    def _is_server(self, ctx: RequestContext) -> bool:
        # A request carries the number of a thread, not of its process.
        server = self._catalog.server_pid
        return server > 0 and ctx.uid == 0 and Path(f"/proc/{server}/task/{ctx.pid}").exists()

    def _view_attributes(self, view: View) -> EntryAttributes:
        return self._directory(names.inode_of(ViewDirectory(view)), _DIRECTORY)

    def _directory(self, inode: int, mode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = InodeT(inode)
        entry.st_mode = mode
        entry.st_nlink = 2
        entry.st_gid = self._gid
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._born_ns
        entry.entry_timeout = entry.attr_timeout = LONG
        return entry

    def _attributes(self, copy: Copy, view: View) -> EntryAttributes:
        entry = self._directory(copy.inode(view), _MODES[view])
        entry.generation = copy.generation_in(view)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = copy.born_ns
        if view is View.DEVICE:
            entry.attr_timeout = 0
            entry.entry_timeout = LONG if copy.surface is Surface.MOUNTED else 0
            return entry
        entry.entry_timeout = 0
        entry.st_nlink = 1
        if view is View.RAW_DEVICE:
            entry.st_rdev = os.makedev(copy.facts.raw_major, copy.facts.raw_minor)
        elif view is View.IMAGE:
            entry.st_size = copy.facts.size
            entry.st_blocks = -(-copy.facts.size // 512)
            entry.st_blksize = 1 << 20
        else:
            entry.st_size = len(copy.document)
        return entry
