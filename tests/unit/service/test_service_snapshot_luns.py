"""Which LUNs a shadow copy lies on, asked of the service."""

from uuid import uuid4

import pytest

from tests.unit.service.conftest import Node, Requester
from vssemu.api import requester as table
from vssemu.vss.errors import ObjectNotFound
from vssemu.vss.identity import SnapshotId


async def test_the_luns_of_a_copy_are_the_arrays_copies_in_the_order_of_the_volumes(
    one: Node, requester: Requester
) -> None:
    ids = await requester.created("F:\\", "G:\\", context=0)
    found = [await requester.call(table.get_snapshot_luns, copy) for copy in ids]
    names = [[lun.naa.removeprefix("naa.") for lun in luns] for luns in found]
    sources = [one.array.copies[name].source for (name,) in names]
    assert sources == [f"6{ord(letter):031x}" for letter in "FG"]


async def test_a_copy_that_is_not_here_has_no_luns(requester: Requester) -> None:
    await requester.call(table.initialize_for_backup)
    with pytest.raises(ObjectNotFound, match="GetSnapshotLuns"):
        await requester.call(table.get_snapshot_luns, SnapshotId(uuid4()))
