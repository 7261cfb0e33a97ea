"""What the catalog keeps of a copy that cannot be surfaced."""

import errno
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from vssemu.host.catalog import Catalog, ObjectRow
from vssemu.host.copies import Copies
from vssemu.host.paths import HostPaths
from vssemu.host.publication import Publication
from vssemu.vss.fabric import BoundDevice
from vssemu.vss.identity import LunId, SnapshotId
from vssemu.vss.lun import Extent

LUN = LunId("naa.6" + 31 * "0")
EXTENT = Extent(offset=1 << 20, length=1 << 24)


class DeadAdapter:
    """An adapter whose array is away."""

    def bound(self, *_: object, **__: object) -> AbstractAsyncContextManager[BoundDevice]:
        raise OSError(errno.ECONNREFUSED, "nobody listens")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "host.db") as catalog:
        yield catalog


@pytest.fixture
def copies(catalog: Catalog, tmp_path: Path) -> Copies:
    paths = HostPaths(run=tmp_path)
    return Copies(cast("Any", DeadAdapter()), cast("Any", None), catalog, Publication(), paths)


async def test_a_new_copy_that_cannot_be_surfaced_leaves_no_row(
    catalog: Catalog, copies: Copies
) -> None:
    with pytest.raises(OSError, match="nobody listens"):
        await copies.surface(SnapshotId(uuid4()), LUN, EXTENT, "{}")
    assert catalog.objects() == []


async def test_a_known_copy_that_cannot_be_surfaced_now_keeps_its_number(
    catalog: Catalog, copies: Copies
) -> None:
    known = ObjectRow(
        snapshot_id=SnapshotId(uuid4()),
        number=catalog.next_number(),
        lun=LUN,
        extent=EXTENT,
        properties_json='{"old": 1}',
        released=False,
    )
    catalog.put_object(known)
    with pytest.raises(OSError, match="nobody listens"):
        await copies.surface(known.snapshot_id, LUN, EXTENT, '{"new": 1}')
    assert catalog.objects() == [known]
