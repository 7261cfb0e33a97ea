"""What the tests of full pools need: small disks, file systems on LUNs, fio, arrayd's log."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

from tests.rig.array.arrayrig import ArrayProcess, Site
from vssemu.api import array as api
from vssemu.linux import loop
from vssemu.vss.array import ArrayLun, LunKind
from vssemu.vss.identity import LunId, SnapshotSetId
from vssemu.vss.lun import LunInformation


def run(*words: str | Path) -> str:
    """Run a program; its failure is the test's."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.returncode, done.stdout[-800:], done.stderr[-800:])
    return done.stdout


async def in_thread(*words: str | Path) -> str:
    return await trio.to_thread.run_sync(lambda: run(*words))


@contextmanager
def disk(place: Path, size: int, *make: str) -> Iterator[Path]:
    """A small disk of a user's with a file system, mounted; make: mkfs and its options."""
    image = place.with_suffix(".disk")
    with image.open("wb") as file:
        file.truncate(size)
    run(*make, image)
    place.mkdir()
    run("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        run("umount", place)
        image.unlink()
        place.rmdir()


@contextmanager
def mounted(device: Path, place: Path, *options: str) -> Iterator[None]:
    """Mount a device for the block."""
    place.mkdir()
    run("mount", *options, device, place)
    try:
        yield
    finally:
        run("umount", place)
        place.rmdir()


@asynccontextmanager
async def file_system(site: Site, lun: ArrayLun, place: Path, *make: str) -> AsyncIterator[Path]:
    """Make a file system on a LUN, mount it for the block, check it afterwards."""
    async with site.one.bound(lun.id) as number:
        await in_thread(*make, loop.node(number))
        with mounted(loop.node(number), place):
            yield place
        check = ("e2fsck", "-fn") if make[0] == "mkfs.ext4" else ("xfs_repair", "-n")
        await in_thread(*check, loop.node(number))


async def write(place: Path, size: int, io_size: int | None = None) -> None:
    """Write a file at random with fio, syncing as it goes; no write may fail, all is read back.

    io_size: bytes to write, by default every block once.
    """
    words = ["fio", "--name=w", f"--filename={place}/file", "--bs=64k", "--direct=1"]
    words += ["--ioengine=libaio", "--iodepth=8", f"--size={size}", f"--io_size={io_size or size}"]
    words += ["--rw=randwrite", "--fsync=64", "--verify=crc32c", "--do_verify=1"]
    words += ["--verify_state_save=0"]  # else it leaves a file where it is run
    await in_thread(*words)


def events(process: ArrayProcess, name: str) -> list[dict[str, Any]]:
    """Return what arrayd logged under a name."""
    lines = (line for line in process.log().splitlines() if f'"{name}"' in line)
    return [found for line in lines if (found := json.loads(line))["event"] == name]


async def take(
    site: Site, *luns: LunId, auto_release: bool = False
) -> tuple[SnapshotSetId, list[LunInformation]]:
    """Make a snapshot set, all the way."""
    set_id = SnapshotSetId(uuid4())
    await site.one.call(api.prepare, set_id, list(luns), LunKind.DIFFERENTIAL, auto_release)
    await site.one.call(api.finish_prepare, set_id)
    await site.one.call(api.commit, set_id)
    await site.one.call(api.settle, set_id)
    records = await site.one.call(api.copies_of, set_id, list(luns))
    return set_id, list(records)
