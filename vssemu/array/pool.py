"""The pool: the directory whose files are the LUNs.

    DIR/owner            identity of the array that owns the pool, and its engine; it is locked
                         while in use
    DIR/pool.img         sparse image with an XFS; only where DIR itself cannot clone files
    DIR/root/            the file system of pool.img, mounted in arrayd's own mount
                         namespace alone; a plain directory where there is no image
    DIR/root/luns/naa.…/ one directory a LUN, which spreads LUNs over allocation groups;
                         what is in it belongs to the engine
    DIR/root/lunfs.lock  which shards of the cow engine serve the pool
    DIR/root/ballast     space that is given up when there is little left; see `space`
    DIR/root/cap         what of the image the disk below could not back; see `cap`
    DIR/ballast          the same on the file system below the image

The image is bound to an autoclear loop device. LUN descriptors that hosts hold keep its file
system alive after arrayd was killed; the next arrayd finds that device by the image's device
and inode numbers, and mounts it again. It never binds a second one, and never passes
`nouuid`: both would put two live file systems on one image.

Refuses a pool of another array: what the journal does not know is removed at start.
"""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from vssemu.array.cap import Cap
from vssemu.fabric.loop.lunfiles import lun_of, opened_path
from vssemu.linux import filesystems, fsxattr, locks, loop, mount, reflink
from vssemu.vss.errors import BadState, Fail

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

IMAGE_SIZE: Final = 64 << 30
"""Default size in bytes of a pool image, sparse; more where the directory's disk is larger."""

SMALLEST_IMAGE: Final = 512 << 20
ALLOCATION_GROUPS: Final = 32
"""As many LUNs can be scanned without waiting for each other; fewer in a small pool."""

_SMALLEST_GROUP: Final = 128 << 20  # the log, 64 MiB at least, must fit into one
SECTOR: Final = 4096
_MKFS_SECONDS: Final = 120.0
_BIND_SECONDS: Final = 10.0
_LOCK_SECONDS: Final = 10.0
_PAUSE: Final = 0.02
_FIRST_ENGINE: Final = "reflink"
"""Whose pools are that do not name an engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What a pool can hold and what of that is left, in bytes. is_misfit: see `cap`."""

    size: int
    free: int
    is_misfit: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """An open pool. root: where its files are, in this mount namespace."""

    directory: Path
    root: Path
    image: Path | None
    filesystem: str

    @property
    def luns(self) -> Path:
        """The directory of the LUNs' directories."""
        return self.root / "luns"

    @property
    def cap(self) -> Cap | None:
        """The cap of the image, if the pool has one."""
        return None if self.image is None else Cap(path=self.root / "cap", image=self.image)

    def room(self) -> Room:
        """Return what is left; costs microseconds. Raises OSError."""
        facts = os.statvfs(self.luns)
        size, free = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
        if (cap := self.cap) is None:
            return Room(size=size, free=free)
        found = cap.measure()
        return Room(
            size=max(size - found.held - found.missing, 0),
            free=max(free - found.missing, 0),
            is_misfit=found.is_misfit,
        )


@asynccontextmanager
async def open_pool(
    directory: Path, identity: str, *, engine: str = "reflink", image_size: int | None = None
) -> AsyncIterator[Pool]:
    """Open the pool in a directory during the block, made when there is none.

    identity: of the array. engine: whose files it holds. image_size: bytes of the image, when
    one has to be made.
    Wants a mount namespace of its own, whose mounts are private.
    Raises BadState for a pool in use, of another array or of another engine; Fail, OSError.
    """
    with ExitStack() as stack:
        await trio.to_thread.run_sync(_own, stack, directory / "owner", identity, engine)
        pool = await trio.to_thread.run_sync(_laid_out, directory, image_size)
        if pool.image is not None:
            await _mount_image(pool.image, pool.root)
            # Descriptors that hosts hold keep it busy; it ends with the last of them.
            stack.callback(mount.unmount, pool.root, mount.UnmountFlag.DETACH)
        await trio.to_thread.run_sync(_make_ready, pool)
        yield pool


def _laid_out(directory: Path, image_size: int | None) -> Pool:
    """Make what the pool lacks: its mount point, and the image if it takes one."""
    image = directory / "pool.img"
    root = directory / "root"
    root.mkdir(exist_ok=True)
    if not image.exists() and reflink.can_clone(directory):
        return Pool(directory=directory, root=root, image=None, filesystem=_type(root))
    if not image.exists():
        _make_image(image, image_size or _default_size(directory))
    return Pool(directory=directory, root=root, image=image, filesystem="xfs")


def _own(stack: ExitStack, mark: Path, identity: str, engine: str) -> None:
    """Lock the pool for as long as the stack lasts, and see whose it is."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        fd = stack.enter_context(locks.locked(mark, seconds=_LOCK_SECONDS, flags=flags))
    except TimeoutError as error:
        raise BadState(
            f"the pool {mark.parent} is in use by another arrayd",
            item=str(mark.parent),
            hint="stop the other one first",
        ) from error
    owner, _, rest = os.pread(fd, 4096, 0).decode("ascii", "replace").partition("\n")
    if owner and owner != identity:
        raise BadState(
            f"the pool {mark.parent} belongs to the array {owner}, not to {identity}",
            item=str(mark.parent),
            hint="give each array a pool of its own, or the state it was made with",
        )
    made_by = rest.strip() or _FIRST_ENGINE
    if owner and engine != made_by:
        raise BadState(
            f"the LUNs of the pool {mark.parent} are of the engine {made_by}, not {engine}",
            item=str(mark.parent),
            hint=f"start the array with --engine {made_by}, or give it a pool and state anew",
        )
    if not owner:
        os.pwrite(fd, f"{identity}\n{engine}\n".encode("ascii"), 0)
        os.fsync(fd)


def _make_ready(pool: Pool) -> None:
    if not reflink.can_clone(pool.root):
        raise Fail(
            f"the pool {pool.directory} cannot clone files",
            item=str(pool.directory),
            hint="remove it and let a new one be made",
        )
    if pool.cap is not None:
        # Before anybody writes: nothing is given out that the disk below could not hold.
        pool.cap.fit()
    pool.luns.mkdir(exist_ok=True)
    if pool.filesystem == "xfs":
        one_block = os.statvfs(pool.luns).f_bsize
        directory = os.open(pool.luns, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fsxattr.set_cow_extent_size(directory, one_block)
        finally:
            os.close(directory)


def _type(directory: Path) -> str:
    device = directory.stat().st_dev
    for facts in mount.mounts():
        if (facts.device.major, facts.device.minor) == (os.major(device), os.minor(device)):
            return facts.fstype
    # btrfs gives every subvolume a device number that no mount has.
    return "btrfs"


def _default_size(directory: Path) -> int:
    facts = os.statvfs(directory)
    return max(IMAGE_SIZE, facts.f_blocks * facts.f_frsize // (1 << 30) * (1 << 30))


def _make_image(image: Path, size: int) -> None:
    """Make the image under another name first, so that a half made one is never used."""
    size = max(size, SMALLEST_IMAGE) // (1 << 20) * (1 << 20)
    unfinished = image.with_name("pool.img.new")
    logger.info("making_pool", image=str(image), size=size)
    with unfinished.open("wb") as file:
        os.ftruncate(file.fileno(), size)
    unfinished.chmod(0o600)
    filesystems.make_xfs(
        unfinished,
        timeout=_MKFS_SECONDS,
        label="vssemu-pool",
        allocation_groups=min(ALLOCATION_GROUPS, size // _SMALLEST_GROUP),
    )
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(image)


async def _mount_image(image: Path, root: Path) -> None:
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        with trio.fail_after(_BIND_SECONDS):
            bound = await trio.to_thread.run_sync(_bind, backing)
            while bound is None:
                # A device that is just being let go, or that somebody else took first, is out
                # of the way in a moment.
                await trio.sleep(_PAUSE)
                bound = await trio.to_thread.run_sync(_bind, backing)
    finally:
        os.close(backing)
    fd, number = bound
    try:
        device = loop.node(number)
        await trio.to_thread.run_sync(mount.mount, device, root, "xfs", mount.MountFlag.NOATIME)
    finally:
        # Autoclear: the mount alone keeps the device from here on.
        os.close(fd)
    logger.info("pool_mounted", image=str(image), device=str(device))


def _bind(backing: int) -> tuple[int, int] | None:
    """Return a descriptor and the number of the one loop device over the image."""
    status = os.fstat(backing)
    name = Path(opened_path(backing)).name
    found = loop.bindings_of(
        {(status.st_dev, status.st_ino)},
        may_be=lambda path: lun_of(path) is None or path.endswith(f"/{name}"),
    )
    for binding in found:
        fd = _opened_if_still(binding)
        if fd is not None:
            logger.info("pool_device_found", device=str(loop.node(binding.number)))
            return fd, binding.number
    if found:
        return None
    flags = loop.LoopFlag.AUTOCLEAR | loop.LoopFlag.DIRECT_IO
    new = loop.try_bind(backing, block_size=SECTOR, flags=flags)
    return None if new is None else (new[1], new[0])


def _opened_if_still(binding: loop.LoopStatus) -> int | None:
    """Open a device, which keeps it from being let go, if it still has that file."""
    fd = loop.open_device(binding.number, os.O_RDWR)
    try:
        now = loop.status(fd)
    except OSError:
        os.close(fd)
        return None
    if (now.device, now.inode, now.offset) == (binding.device, binding.inode, 0):
        return fd
    os.close(fd)
    return None
