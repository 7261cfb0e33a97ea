"""Exports and imports of snapshots as an administrator's program makes them."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig.array.arrayrig import MIB, ONE, Site
from vssemu.api import array as api
from vssemu.stores.reading import Store, read_store
from vssemu.stores.viewing import view_digest
from vssemu.vss.array import Exported, Imported, OpenFile
from vssemu.vss.identity import LunId

SIZE = 16 * MIB
"""Of the LUN of a family."""


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[OpenFile]:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        yield OpenFile(descriptor=descriptor, name=str(path))
    finally:
        os.close(descriptor)


async def brought_in(site: Site, origin: Path, store: Path) -> Imported:
    with opened(origin) as image_file, opened(store) as store_file:
        elements = site.admin.stream(api.import_cow, image_file, store_file)
        async with elements as stream:
            found = [element async for element in stream]
    assert [element.origin for element in found[:-1]] == [None] * (len(found) - 1)
    return found[-1]


async def written_out(
    site: Site, snapshot: LunId, store: Path, origin: Path | None = None
) -> Exported:
    with opened(store, os.O_RDWR) as store_file:
        if origin is None:
            elements = site.admin.stream(api.export_cow, snapshot, store_file)
            async with elements as stream:
                return [element async for element in stream][-1]
        with opened(origin, os.O_RDWR) as image_file:
            elements = site.admin.stream(api.export_cow, snapshot, store_file, image_file)
            async with elements as stream:
                return [element async for element in stream][-1]


def seen_through(origin: Path, store: Path) -> tuple[str, Store]:
    """Return the digest of the view that two files give, and the store."""
    size = origin.stat().st_size
    with origin.open("rb") as image_file, store.open("rb") as file:
        found = read_store(file.fileno(), str(store), origin_size=size)
        assert found.valid
        return view_digest(image_file.fileno(), size, file.fileno(), found), found


async def digest_of(site: Site, lun: LunId, size: int = SIZE) -> str:
    """Return the digest of a LUN that systemTwo sees."""
    return hashlib.sha256(await site.two.read(lun, size)).hexdigest()


async def family(site: Site) -> tuple[LunId, list[LunId]]:
    """Make a LUN with three snapshots, eldest first, and writes before, between and after."""
    dice = random.Random(1)
    lun = (await site.lun(ONE, size=SIZE)).id
    copies: list[LunId] = []
    for round_ in range(4):
        for _ in range(30):
            data = dice.randbytes(4096 * dice.choice([1, 1, 3, 40]))
            await site.one.write(lun, data, dice.randrange((SIZE - len(data)) // 4096) * 4096)
        if round_ < 3:
            _, (record,) = await site.one.copy(lun)
            assert record.naa is not None
            copies.append(record.naa)
            await site.two.call(api.surface, [record])
    return lun, copies
